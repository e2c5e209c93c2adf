//! The kernel mirror of one network namespace, both ways, over netlink.
//!
//! Owns: what the kernel knows (links, addresses, neighbours, other daemons' routes), told as [`net::KernelEvent`]; and
//! what the gateway wants the kernel to know (its winning routes, written under its own `rtm_protocol`, and the
//! addresses and state of its host interfaces).
//!
//! Never does: choose between routes (that is the RIB's), touch a route of another protocol, or know of DPDK and BGP.
//!
//! # How it is built
//!
//! The state and every decision are sans-IO and take the time as an argument: `inbound.rs` turns messages and whole dumps
//! into differences, `outbound.rs` coalesces wanted routes and decides what is written next, `probe.rs` limits the rate
//! of neighbour requests. `frame.rs`, `heard.rs` and `message.rs` translate. The socket is at the edge (`socket.rs`), and
//! the tasks between the two are `listen.rs` and `write.rs`.
//!
//! FRR may push its routes instead: `fpm.rs` is the server of its Forwarding Plane Manager interface, beside the mirror and
//! of the same build: a sans-IO table, and a socket around it.
//!
//! Read first: `mirror.rs` for the handle, then `inbound.rs` and `outbound.rs` for what they decide.
#![forbid(unsafe_code)]

mod digest;
mod error;
mod fdb;
mod fpm;
mod mirror;
mod object;
mod objects;
mod outlets;
mod route;
mod rule;
mod socket;
mod status;
mod sysctl;
mod write;

pub use digest::Digest;
pub use error::Error;
pub use fpm::{FpmConfig, FpmEvent, FpmServer, FpmStatus, StreamError};
pub use mirror::{Mirror, MirrorConfig, Tuning};
pub use route::{KernelNextHop, KernelRoute, Obstacle};
pub use rule::{KernelRule, RuleFamily, RuleTarget};
pub use status::{Held, KernelTable, Refusal, RouteState, Status};
pub use sysctl::prepare_host_interface;
mod contention;
mod frame;
mod heard;
mod inbound;
mod lanes;
mod listen;
mod message;
mod outbound;
mod probe;
