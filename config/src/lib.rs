//! The configuration store: TOML in, checked, committed as numbered revisions in SQLite.
//!
//! Owns: the schema of the file ([`Config`]), its defaults, every check that needs nothing but the file, and the durable
//! history of what was committed ([`Store`]).
//!
//! Never does: apply a configuration, touch a device or an interface, or read a clock. It tells whether a configuration
//! makes sense in itself; whether this machine can run it, the subsystems say.
//!
//! Read first: `model.rs` for what can be configured, `candidate.rs` for the way from a file to a revision, then
//! `store.rs` for what a revision is.
//!
//! ```no_run
//! # fn main() -> Result<(), config::Error> {
//! use std::path::Path;
//! let checked = config::Candidate::read(Path::new("/etc/turnpike/turnpike.toml"))?.check()?;
//! let mut store = config::Store::open(Path::new("/var/lib/turnpike/config.db"))?;
//! let info = config::CommitInfo { actor: "turnpiked".into(), comment: "start".into(), time: 1_700_000_000_000 };
//! let committed = store.commit(checked, info)?;
//! println!("revision {}", committed.revision);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod candidate;
mod check;
mod defaults;
mod error;
mod fault;
#[cfg(test)]
mod generate;
mod model;
mod parse;
mod report;
mod store;
mod words;

pub use candidate::{Candidate, Checked, Committed};
pub use error::Error;
pub use fault::Fault;
pub use model::{
    Action, AddPath, Api, BatchBounds, Bfd, Bgp, Bmp, Config, DEFAULT_VRF, Dataplane, Distances, DynamicPeers, Family,
    Filter, Filtering, ForwardTarget, Fpm, Gateway, GracefulRestart, Kernel, Mapping, Masquerade, Memory, Nat,
    NatLimit, Npt, Pairing, Password, PasswordError, Peer, PeerAs, PeerPolicy, Poll, Port, PortBlocks, PortChoice,
    PortForward, PortRange, PrefixFilter, PrefixRule, Protocol, Rib, Role, RouteTarget, RpkiCache, Segment, SendPaths,
    SessionLog, Standby, StandbyListen, StaticNat, StaticRoute, Timers, UnnumberedPeer, Via, Vpc, VpcEvpn, VpcTimers,
    Vxlan,
};
pub use report::{Invalid, Place, Problem};
pub use store::{Applied, CommitInfo, LogEntry, Store};
