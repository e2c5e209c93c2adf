//! What goes into the engine and what comes out: packets, verdicts, outcomes.

use net::{Drop, Generation, VrfId};
use serde::Serialize;

use crate::{Address, EntryRef, Flow, FlowKey, Resolution};

/// A packet that no connection was found for: its parsed headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewPacket {
    /// VRF that it is looked up in.
    pub vrf: VrfId,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: Address,
    /// Destination address, of the same family.
    pub destination: Address,
    /// Source port, or echo identifier.
    pub source_port: u16,
    /// Destination port, or echo identifier.
    pub destination_port: u16,
    /// Flags byte of TCP.
    pub tcp_flags: u8,
    /// Type of ICMP.
    pub icmp_type: u8,
    /// A fragment other than the first: it has no ports.
    pub fragment_later: bool,
    /// Length of the IP packet, bytes.
    pub length: u16,
    /// Hash that decides between equal next hops.
    pub flow_hash: u32,
}

impl NewPacket {
    /// What its connection is found by.
    pub const fn flow(&self) -> Flow {
        Flow {
            vrf: self.vrf,
            protocol: self.protocol,
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
        }
    }

    /// The key of an IPv4 packet. One of IPv6 has none of its own: ask [`crate::Engine::find`].
    pub fn key(&self) -> FlowKey {
        self.flow().key_v4().unwrap_or_default()
    }
}

/// What to do with a packet that no connection was found for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No NAT applies: use the resolution.
    Forward,
    /// Its connection, created or found after all. Call [`crate::Engine::hit`] as for any other packet.
    Connection(EntryRef),
    /// The worker of this number owns its connection.
    HandOver(u16),
    /// Drop it.
    Drop(Drop),
}

/// What became of an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpVerdict {
    /// Translated in place; goes where the connection's packets of that direction go.
    Translated(Resolution),
    /// About no connection, and to no address of NAT: treat it as any packet.
    NotOurs,
    /// The worker of this number owns the connection that it is about.
    HandOver(u16),
    /// Drop it.
    Drop(Drop),
}

/// What a packet of a connection found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hit {
    /// The connection became worth offloading with this packet. Said once.
    pub offload: bool,
    /// The packet may not pass: the connection has no route, or has ended.
    pub refused: Option<Drop>,
}

/// What revalidation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Goes the way it went.
    Kept,
    /// Goes another way, or its next hop changed under an offload.
    Moved,
    /// Has no route; waits for one with its port kept.
    Unrouted,
    /// The policy does not allow it any more.
    Ended(Drop),
}

/// A revalidation pass over every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RevalidationSummary {
    /// Generation that every connection is of.
    pub generation: Generation,
    /// Connections that go the way they went.
    pub kept: u64,
    /// Connections that go another way.
    pub moved: u64,
    /// Connections that lost their route.
    pub unrouted: u64,
    /// Connections that the policy ended.
    pub ended: u64,
    /// Connections that were looked up again; the others were only stamped.
    pub examined: u64,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// No packet for too long.
    Idle,
    /// TCP that had closed.
    Closed,
    /// No route for too long.
    Unrouted,
    /// The NAT policy does not allow it any more.
    Policy,
    /// Made room for another one.
    Evicted,
}

/// How far the offload of a connection has come, as its owner keeps it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum OffloadState {
    /// In software alone.
    #[default]
    None,
    /// On its way into the NIC.
    Queued,
    /// The NIC carries it.
    Live,
    /// Destroyed in the NIC.
    Dead,
    /// The NIC refused it.
    Refused,
}

impl OffloadState {
    /// True if the NIC may hold rules of the connection.
    pub(crate) const fn holds_rules(self) -> bool {
        matches!(self, Self::Queued | Self::Live)
    }
}
