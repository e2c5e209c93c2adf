//! What the engine shows of itself: connections and statistics, ready to serialize.

use std::net::IpAddr;

use net::{NextHopId, VpcId};
use serde::Serialize;

use crate::{ConnectionId, ConnectionState, OffloadState};

/// Addresses and ports as they stand in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Source port, or echo identifier.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port, or echo identifier.
    pub destination_port: u16,
}

/// One connection as shown to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionView {
    /// Its id.
    pub id: ConnectionId,
    /// Worker that owns it.
    pub worker: u16,
    /// VPC of its inner end.
    pub vpc: Option<VpcId>,
    /// `tcp`, `udp`, `icmp`, the name of another one, or `other`.
    pub protocol: &'static str,
    /// How far it has come.
    pub state: ConnectionState,
    /// True if it has no route and waits for one.
    pub unrouted: bool,
    /// Packets of the original direction as they arrive.
    pub original: Tuple,
    /// The same packets as they leave.
    pub translated: Tuple,
    /// Low 32 bits of the generation that its routes are of.
    pub generation: u32,
    /// Next hops of the original and of the reply direction.
    pub next_hops: [NextHopId; 2],
    /// Packets of the original and of the reply direction.
    pub packets: [u64; 2],
    /// Bytes of the original and of the reply direction.
    pub bytes: [u64; 2],
    /// Milliseconds since its last packet, as of the last time the engine was told.
    pub idle_ms: u64,
    /// Whether the NIC carries it.
    pub offload: OffloadState,
}

/// Connections by how far they have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StateCounts {
    /// Packets of the original direction only.
    pub unreplied: u64,
    /// Packets of both directions.
    pub replied: u64,
    /// Established.
    pub established: u64,
    /// Closing (TCP only).
    pub closing: u64,
}

impl StateCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.unreplied + self.replied + self.established + self.closing
    }
}

/// Connections that ended, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct EndCounts {
    /// No packet for too long.
    pub idle: u64,
    /// TCP that had closed.
    pub closed: u64,
    /// No route for too long.
    pub unrouted: u64,
    /// The NAT policy does not allow it any more.
    pub policy: u64,
    /// Made room for another one.
    pub evicted: u64,
}

impl EndCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.idle + self.closed + self.unrouted + self.policy + self.evicted
    }
}

/// Ports in use of one public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PortUse {
    /// Public address.
    pub address: IpAddr,
    /// TCP ports.
    pub tcp: u32,
    /// UDP ports.
    pub udp: u32,
    /// ICMP echo identifiers.
    pub icmp: u32,
}

/// Counters of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Connections that may exist at once.
    pub capacity: u32,
    /// Connections that exist, zombies not counted.
    pub connections: u32,
    /// Ended connections whose offload is not known to be destroyed.
    pub zombies: u32,
    /// TCP connections by state.
    pub tcp: StateCounts,
    /// UDP connections by state.
    pub udp: StateCounts,
    /// ICMP echo connections by state.
    pub icmp: StateCounts,
    /// Connections of every other protocol by state.
    pub other: StateCounts,
    /// Connections without a route.
    pub unrouted: u32,
    /// Connections ever made.
    pub created: u64,
    /// Connections ever ended.
    pub ended: EndCounts,
    /// Ports that connections share.
    pub mappings: u32,
    /// Port blocks that subscribers have.
    pub blocks: u32,
    /// Assignments and releases of port blocks that nobody was told of.
    pub block_events_lost: u64,
    /// Beginnings and ends of sessions that nobody was told of.
    pub session_events_lost: u64,
    /// Ports in use of each pool address.
    pub ports: Vec<PortUse>,
    /// Packets refused because a pool had no port left.
    pub ports_exhausted: u64,
    /// Packets refused because their VPC had as many connections as it may have.
    pub tenant_limited: u64,
    /// Packets refused because their host had as many connections as it may have.
    pub subscriber_limited: u64,
    /// Packets refused because the table was full.
    pub table_full: u64,
    /// Packets handed over to the worker that owns their connection.
    pub handed_over: u64,
}
