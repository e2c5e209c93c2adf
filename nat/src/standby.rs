//! Connections streamed to a standby gateway, which takes them over when this one is gone: the protocol between the two,
//! without I/O and without a clock.
//!
//! What is streamed is state, not events. Each slot of each worker's connection table is a register ([`Place`]): a
//! change says what it holds, or that it holds nothing. So whatever happens to a slot while the standby is slow becomes
//! one change, an engine remembers one mark for each slot and no more (`journal.rs`), and no queue can overflow.
//!
//! ```text
//! worker ──Change──> bounded ring ──> Sender ══ bytes ══> Receiver ──> what a takeover restores
//!   ^                                   │  <══ acks ═══
//!   └── stream n begins: tell all ──────┘
//! ```
//! A connection of the transport carries one stream. It begins with everything that there is, told in slices between
//! which changes go on; the receiver keeps what it had of the stream before until the new one is whole. After a loss, an
//! error or a silence the next connection begins anew, with the next number: changes of an older stream are nowhere
//! mixed in. A sender takes no more changes than the receiver has room for ([`Sender::room`]).
//!
//! Connections that nobody has answered are not streamed: they are what a flood consists of, and their first packet,
//! sent again, makes them anew. Counts of packets, and the last sequence numbers of TCP, are those of the last change.
//!
//! Read first: `standby/wire.rs` for the messages, then `sender.rs` and `receiver.rs`.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;
mod wire;

pub use receiver::{Receiver, ReceiverState};
pub use sender::{Progress, Sender};

use crate::snapshot::SavedConnection;

/// A slot of a worker's connection table: what a standby knows a connection by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Worker that owns the connection.
    pub worker: u16,
    /// Slot of its table.
    pub slot: u32,
}

/// What a worker tells of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it lies in a ring of fixed size; a box would allocate for each change"
)]
pub enum News {
    /// The slot holds this connection.
    Is(Place, SavedConnection),
    /// The slot holds none that anybody has answered.
    Gone(Place),
    /// The worker of this number has told everything that it had when the stream began.
    AllTold(u16),
}

/// News for a certain stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Number of the stream, as [`crate::Engine::begin_stream`] was told.
    pub stream: u64,
    /// The news.
    pub news: News,
}

/// Why a connection between two gateways ends. The next one begins with everything again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StandbyError {
    /// Not this protocol.
    #[error("the peer does not speak the standby protocol: check the address and port")]
    Stranger,
    /// No common version.
    #[error("the peer speaks version {theirs} of the standby protocol, this gateway {ours}: upgrade the older one")]
    Version {
        /// Ours.
        ours: u16,
        /// The peer's.
        theirs: u16,
    },
    /// Connections are written differently.
    #[error("the peer writes connections in format {theirs}, this gateway in {ours}: upgrade the older one")]
    Records {
        /// Ours.
        ours: u16,
        /// The peer's.
        theirs: u16,
    },
    /// Both send, or both receive.
    #[error("the peer {0} as well: `standby.peer` of one gateway names what the other one listens on")]
    Role(&'static str),
    /// A message that is longer than any, or shorter.
    #[error("a message of {0} bytes, which none has")]
    Length(u32),
    /// Bytes have changed on the way.
    #[error("the checksum of a message does not match")]
    Checksum,
    /// A message that this version does not know.
    #[error("a message of unknown kind {0}")]
    Kind(u8),
    /// A message whose fields contradict each other.
    #[error("a malformed {0} message")]
    Malformed(&'static str),
    /// A message that has no place here.
    #[error("an unexpected {0} message")]
    Unexpected(&'static str),
    /// Changes are missing, or come twice.
    #[error("change {found} came where {expected} was due")]
    Sequence {
        /// Number of the next change.
        expected: u64,
        /// Number of the one that came.
        found: u64,
    },
    /// A message about another stream.
    #[error("a message about stream {found} in stream {expected}")]
    Stream {
        /// The stream of the connection.
        expected: u64,
        /// The one that it is about.
        found: u64,
    },
    /// The standby says that it has what was never sent.
    #[error("change {acknowledged} is acknowledged, but {sent} were sent")]
    Acknowledged {
        /// What it says.
        acknowledged: u64,
        /// Changes sent.
        sent: u64,
    },
    /// Nothing came for too long.
    #[error("silent for {0} seconds")]
    Silent(u64),
}

/// Milliseconds after which an end that has nothing to say says that.
const KEEP_ALIVE: u64 = 1_000;
/// Milliseconds of silence after which the other end is given up.
const HOLD: u64 = 10_000;
