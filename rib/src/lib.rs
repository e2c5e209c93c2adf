//! Routes of every source become best routes, resolved next hops and published generations.
//!
//! Owns: every candidate route of every VRF, and why each loser lost; recursive next-hop resolution, across VRFs for
//! leaked routes; connected and local routes; neighbours and VXLAN forwarding entries; and the one pair of published
//! [`Tables`] that workers read without locks.
//!
//! Never does: sockets, clocks, threads, waiting. It does not know who speaks BGP or netlink, nor who forwards.
//!
//! Read first: `rib.rs` for what is held and how events change it, then `settle.rs` (who wins), `resolve.rs` (over
//! which next hops), `rewrite.rs` (with which bytes) and `publish.rs`; `tables.rs` and `trie.rs` are the readers' side.
//!
//! # The walk of a route
//! ```text
//! route(), kernel(), fdb(), set_policy()     record, mark dirty
//! publish() ── settle: elect a prefix ─ resolve a group ─ build an adjacency ─ until nothing is dirty
//!           └─ operations, then a seal with the delta, on the left-right pair ─ try_publish
//! Reader::enter() ── Tables: FIB leaf -> group -> next-hop id -> Adjacency
//! ```
#![forbid(unsafe_code)]

mod adjacency;
mod buckets;
mod connected;
mod explain;
mod fdb;
mod group;
mod interface;
mod next_hop;
mod pace;
mod publish;
mod reach;
mod reader;
mod resolve;
mod rewrite;
mod rib;
mod routes;
mod settle;
mod sync;
mod tables;
mod trie;
mod users;
mod view;

pub use adjacency::{Adjacency, AdjacencyKind, VXLAN_OVERHEAD};
pub use explain::{Explanation, HopExplanation, HopProblem};
pub use group::{Reason, ResolvedHop};
pub use interface::{Attachment, Interface, TableInterface};
pub use pace::Pace;
pub use publish::{Effort, Published, Stalled, Winner, WinnerRoute};
pub use reader::{Guard, Holder, Reader};
pub use rib::{Rib, RibConfig};
pub use tables::{Lookup, Tables};
pub use view::{InterfaceView, NeighborView, NextHopView, RouteView, Stats};
