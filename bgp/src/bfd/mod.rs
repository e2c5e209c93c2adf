//! Bidirectional Forwarding Detection in software (RFC 5880), for one hop (RFC 5881): tells within a few packets that a
//! neighbour is not reached any more, where BGP alone would wait for its hold timer.
//!
//! Asynchronous mode in the active role. Demand mode is honoured and not asked for; echo and authentication are not
//! offered. [`packet`] is the wire format, [`session`] the state machine, [`engine`] all sessions of a speaker: none of
//! them has a socket or a clock. [`driver`](self) runs them on a thread of its own, so that a full table that keeps the
//! speaker busy does not cost a session.

mod driver;
pub mod engine;
pub mod packet;
pub mod session;
mod socket;
mod view;

pub(crate) use driver::{Bfd, Wanted};
pub use view::{BfdState, BfdView};

/// UDP port that control packets go to (RFC 5881 section 4).
pub const PORT: u16 = 3784;

#[cfg(test)]
mod tests;
