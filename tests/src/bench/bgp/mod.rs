//! `make bench-bgp`: full tables, latency, memory and fan-out of the speaker, FRR, BIRD and GoBGP, in one wiring.
//!
//! Two network namespaces and a cable: the program under test in the one, every peer of it in the other, in this process.
//! Peers [`FEEDS`] announce the same prefixes with other attributes; [`PROBE`] announces single ones; those from
//! [`RECEIVERS`] on are told what the program has chosen. For each prefix one feed has the better path, so a receiver
//! that was last told that one, of every prefix, sees a converged loc-rib. Feeds write bytes that were encoded before
//! the clock starts. No program writes to a kernel table.
//!
//! `table.rs` makes the routes, `codec.rs` and `session.rs` are the little BGP of a peer, `watch.rs` the receiver,
//! `programs.rs` starts who is measured, `run.rs` measures, `rows.rs` says what comes of it.

pub mod codec;
pub mod ours;
pub mod programs;
pub mod rows;
pub mod run;
pub mod session;
pub mod table;
pub mod watch;

use std::net::{Ipv4Addr, Ipv6Addr};

/// AS of the program under test.
pub const LOCAL_AS: u16 = 64600;
/// Its address.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Its IPv6 address.
pub const LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 1);
/// Hold time of every session, seconds: no run is as long, so the peers send no keepalives. Without any, GoBGP cannot send.
pub const HOLD_TIME: u16 = 3600;
/// Peers that announce a full table each.
pub const FEEDS: [u16; 2] = [0, 1];
/// The peer that announces single prefixes.
pub const PROBE: u16 = 2;
/// The first of those that are told everything.
pub const RECEIVERS: u16 = 3;

/// AS of a peer.
pub const fn asn(peer: u16) -> u16 {
    LOCAL_AS + 1 + peer
}

/// Address of a peer.
pub const fn address(peer: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 1, peer as u8 + 1)
}

/// IPv6 address of a peer, its next hop.
pub const fn address_v6(peer: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 1, peer + 1)
}
