//! Offload: connections as `rte_flow` rules in the NIC.
//!
//! One thread owns the flow queues. Workers ask through rings and never wait; the thread answers through rings. A rule
//! matches what software would look up and does what software would do, byte for byte, so that it does not matter to a
//! packet in flight who forwards it. TCP segments with SYN, FIN or RST, IP options, fragments and packets whose TTL
//! ends here match no rule and reach software.
//!
//! A connection is two rules, one for each direction, and counts as live when both are. It is removed before it is
//! installed anew: DPDK 22.11 cannot change a rule of a queue in place, and while there is none software forwards.

mod counters;
mod installer;
mod record;
mod rules;
mod thread;

pub use counters::{NotOffloaded, OffloadCounters, OffloadCountersView, OffloadedRule, RuleState};
pub(crate) use rules::ConnectionOffload;
pub use rules::next_hop_offload;
pub(crate) use thread::OffloadThread;

use nat::ConnectionId;

/// What a worker asks for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "travels by value through a preallocated ring")]
pub(crate) enum OffloadRequest {
    /// Install a connection.
    Install(ConnectionOffload),
    /// Take it out and install it with other next hops.
    Replace(ConnectionOffload),
    /// Take it out.
    Remove(ConnectionId),
}

/// What the offload thread answers.
#[derive(Debug)]
pub(crate) enum OffloadReply {
    /// Both rules are in the NIC.
    Live(ConnectionId),
    /// The NIC did not take it; nothing of it is left there.
    Refused(ConnectionId, NotOffloaded),
    /// Nothing of it is left in the NIC, and the NIC said so.
    Removed(ConnectionId),
    /// The NIC forwarded packets of it since the last time; original direction first.
    Seen {
        id: ConnectionId,
        packets: [u64; 2],
        bytes: [u64; 2],
    },
}
