//! Workers, packet pipeline, host interfaces and the offload engine.
//!
//! Owns: the DPDK ports, a thread for each worker core, the taps of the host interfaces with their thread, and the
//! thread that owns the NIC's flow queues.
//!
//! Never does: decide routes or NAT policy (it reads published [`rib::Tables`]), speak BGP or netlink, or wait for the
//! control plane.
//!
//! Read first: `pipeline/mod.rs` for the walk of a packet, then `worker.rs` for the loop around it.
#![forbid(unsafe_code)]

mod counters;
mod error;
mod hold;
mod host;
mod launch;
mod limiter;
mod offload;
mod pipeline;
mod steering;
mod worker;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{Generation, InterfaceId, Mac};

pub use counters::{Counter, Counters, CountersView};
pub use dpdk_sys::{LogLevel, Memory, PortStats};
pub use error::Error;
pub use host::{HostCounters, HostInterface};
pub use launch::{ChangeRing, Config, Dataplane, Opened, PortInfo, PortSpec, Restore, SessionRing, Wiring};
pub use offload::{NotOffloaded, OffloadCounters, OffloadCountersView, OffloadedRule, RuleState, next_hop_offload};
pub use worker::PollMode;

/// What the data plane tells the control plane.
#[derive(Debug)]
pub enum Event {
    /// A packet waits for this neighbour: have the kernel resolve it.
    NeighborWanted {
        /// Interface that it is on.
        interface: InterfaceId,
        /// Its address.
        address: IpAddr,
    },
    /// A MAC was seen behind a VXLAN endpoint.
    FdbLearned {
        /// VXLAN interface.
        interface: InterfaceId,
        /// Source MAC of the inner frame.
        mac: Mac,
        /// Outer source address.
        vtep: IpAddr,
    },
    /// A worker has revalidated its connections after a generation.
    Revalidated {
        /// Worker.
        worker: u16,
        /// Generation that it brought its connections to.
        generation: Generation,
        /// What became of them.
        summary: nat::RevalidationSummary,
        /// From the first burst that saw the generation to the last connection.
        duration: Duration,
    },
    /// A subscriber was given a port block, or it was taken back.
    PortBlock(nat::BlockEvent),
    /// A thread of the data plane ended by a broken invariant; the process cannot go on.
    Failed {
        /// Name of the thread.
        thread: String,
        /// Its last words.
        reason: String,
    },
}

/// Where events go; called from threads of the data plane, must not block.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;
