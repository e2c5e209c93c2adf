//! Connection table and NAT: a library without I/O and without a clock of its own.
//!
//! Owns: the connections of one worker ([`Engine`]), what is done to their packets ([`Rewrite`]), the NAT policy
//! ([`Policy`]) with its public ports, timers, and the revalidation of connections when a generation changes the way
//! that they go. Parsed headers, a time and a [`Resolver`] go in; a verdict, a rewrite and a hint to offload come out.
//!
//! Never does: I/O, locks, atomics, allocation for a packet, reading a clock, or sending anything.
//!
//! Read first: `engine.rs` for the life of a connection, `entry.rs` for its shape in memory.
//!
//! # The walk of a packet
//! ```text
//! lookup_burst ─┬─ hit ── stamp old? revalidate_one ── hit() ── rewrite().apply() ── next_hop()
//!               └─ miss ─ route lookup ── expect() ── miss() ─┬─ Connection ── as above
//!                                                             └─ Forward, HandOver, Drop
//! ```
#![forbid(unsafe_code)]

// The unit tests share the support of the integration tests, which knows the crate by its name.
#[cfg(test)]
extern crate self as nat;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

mod address;
mod book;
mod connections;
mod delta;
mod engine;
mod entry;
mod eviction;
mod flow;
mod fragments;
mod journal;
mod key;
mod limits;
mod mappings;
mod npt;
mod policy;
mod pools;
mod ports;
mod random;
mod resolve;
mod rewrite;
mod rewrite_v6;
pub mod snapshot;
pub mod standby;
mod steering;
mod table;
mod time;
mod verdict;
mod view;
mod ways;
mod wheel;

pub use address::Address;
pub use delta::Delta;
pub use engine::{Ended, Engine, EngineConfig, EngineError, NotRestored, Segment, SessionEvent};
pub use entry::{ConnectionId, ConnectionState, Direction, Entry, EntryRef};
pub use flow::Flow;
pub use fragments::{DatagramKey, Fragment, Fragments, Gathered};
pub use key::FlowKey;
pub use npt::{Npt, NptPacket};
pub use policy::{
    Filtering, ForwardTarget, Limit, Limits, Mapping, Masquerade, Policy, PolicyError, PolicySpec, PoolOptions,
    PortBlocks, PortChoice, PortForward, StaticNat, Timers,
};
pub use pools::{PoolKind, PoolUse, PoolView, PoolWatch};
pub use ports::BlockEvent;
pub use resolve::{Resolution, Resolver};
pub use rewrite::Rewrite;
pub use rewrite_v6::RewriteV6;
pub use steering::Steering;
pub use time::Millis;
pub use verdict::{EndReason, Hit, IcmpVerdict, NewPacket, OffloadState, Outcome, RevalidationSummary, Verdict};
pub use view::{ConnectionView, EndCounts, PortUse, StateCounts, Stats, Tuple};
