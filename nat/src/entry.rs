//! The hot part of the connection table: one cache line for each direction of a connection.

use net::{NextHopId, VrfId};
use serde::Serialize;

use crate::{FlowKey, Rewrite};

/// One direction of a connection. Even numbers are original directions, the odd one above is its reply.
///
/// Good until the end of the burst in which it was looked up: a slot that is freed is not used again before
/// [`EntryRef::QUARANTINE`] others were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryRef(pub(crate) u32);

impl EntryRef {
    /// Slots that are freed after a slot before that slot is used again.
    pub const QUARANTINE: u32 = 256;

    pub(crate) const fn original(connection: u32) -> Self {
        Self(connection << 1)
    }

    pub(crate) const fn reply(connection: u32) -> Self {
        Self(connection << 1 | 1)
    }

    /// Number of the connection.
    pub(crate) const fn connection(self) -> u32 {
        self.0 >> 1
    }

    /// The other direction of the same connection.
    pub(crate) const fn opposite(self) -> Self {
        Self(self.0 ^ 1)
    }

    /// True for the direction opposite to that of the first packet.
    pub const fn is_reply(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A connection, safe to keep and to send between threads: once the connection is gone it names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConnectionId {
    pub(crate) index: u32,
    pub(crate) epoch: u32,
}

impl ConnectionId {
    /// Slot of the connection, below the engine's capacity and some spare ones.
    pub const fn index(self) -> u32 {
        self.index
    }
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum ConnectionState {
    /// Packets of the original direction only.
    Unreplied,
    /// Packets of both directions.
    Replied,
    /// TCP: handshake done. UDP: replied, and 4 packets or more. Never for echo.
    Established,
    /// TCP: FINs of both directions were seen, or a RST and nothing after it.
    Closing,
    /// Ended, but its offload is not known to be destroyed: its port is still taken.
    Zombie,
}

impl ConnectionState {
    pub(crate) const COUNT: usize = 5;
}

/// The hot part of one direction: all that a packet needs, in one cache line.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Entry {
    pub(crate) key: FlowKey,
    pub(crate) rewrite: Rewrite,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) next_hop: NextHopId,
    /// Sequence number of the last TCP segment of this direction.
    pub(crate) sequence: u32,
    /// Tick of the last packet of this direction.
    pub(crate) last_seen: u32,
    pub(crate) egress_vrf: VrfId,
    pub(crate) state: ConnectionState,
    pub(crate) flags: u8,
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry is one cache line");
const _: () = assert!(
    size_of::<[Entry; 2]>() <= 128,
    "the hot part of a connection's two directions"
);

impl Entry {
    /// The connection has no route; [`crate::Engine::hit`] refuses its packets.
    pub(crate) const UNROUTED: u8 = 1;
    /// The slot holds no connection, or one that ended.
    pub(crate) const DEAD: u8 = 2;
    /// The connection was restored, and no packet of it has come since.
    pub(crate) const RESTORED: u8 = 4;

    /// Where packets of the direction go.
    #[inline]
    pub const fn next_hop(&self) -> NextHopId {
        self.next_hop
    }

    /// VRF in which their route lookup ended.
    #[inline]
    pub const fn egress_vrf(&self) -> VrfId {
        self.egress_vrf
    }

    /// What is done to them.
    #[inline]
    pub const fn rewrite(&self) -> &Rewrite {
        &self.rewrite
    }

    /// What they are found by.
    #[inline]
    pub const fn key(&self) -> &FlowKey {
        &self.key
    }

    pub(crate) const fn is_dead(&self) -> bool {
        self.flags & Self::DEAD != 0
    }
}

/// One direction of a connection, as the offload engine needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// VRF, protocol, addresses and ports that its packets arrive with.
    pub key: FlowKey,
    /// Addresses and ports that they leave with.
    pub rewrite: Rewrite,
    /// Where they go.
    pub next_hop: NextHopId,
    /// VRF in which their route lookup ended.
    pub egress_vrf: VrfId,
}
