//! Fixtures for what crosses crates: network namespaces, real FRR, the two programs, and traffic between them.
//!
//! Owns: building a small network around a gateway under test, watching it from outside (never through the gateway's
//! own code), and taking it down again: every value here removes what it made when it is dropped, also while a
//! panic unwinds, and [`janitor`] removes what a killed run could not.
//!
//! Never does: link the gateway's crates into a scenario. The programs are started as an operator starts them and are
//! asked through `turnpike show --json`.
//!
//! A fixture that cannot be made panics with the command and its output: in a test nothing better can be done.
//!
//! Read first: `topology.rs` for the network, then any file of `tests/tests/`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "scenarios watch real programs in real time")]

pub mod bench;
pub mod cables;
pub mod config;
pub mod frame;
pub mod frr;
pub mod hugepages;
pub mod janitor;
pub mod namespace;
pub mod process;
pub mod scratch;
pub mod topology;
pub mod traffic;
pub mod turnpiked;
pub mod wait;
pub mod wire;

pub use cables::Cables;
pub use frr::Frr;
pub use namespace::Namespace;
pub use process::Process;
pub use scratch::Scratch;
pub use topology::Topology;
pub use turnpiked::Turnpiked;
pub use wait::{eventually, within};
pub use wire::Wire;
