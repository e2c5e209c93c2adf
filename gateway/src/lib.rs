//! The two programs: `turnpiked`, which wires every crate into a gateway, and `turnpike`, its client.
//!
//! Owns: the plan that makes of a configuration what each subsystem wants, the manager that turns routes and kernel
//! events into generations, the API on a Unix socket, and what `turnpike show` prints.
//!
//! Never does: anything on the path of a packet.
//!
//! Read first: `daemon.rs` for start and end, then `manager.rs` for everything between.
#![forbid(unsafe_code)]

pub mod api;
pub mod batch;
pub mod client;
pub mod daemon;
mod error;
pub mod explain;
mod manager;
mod next_hops;
mod plan;
mod pool_watch;
mod publisher;
mod redistribute;
pub mod render;
mod server;
mod session_log;
mod speaker;
mod standby;
mod survival;
pub mod watchdog;

pub use error::Error;
