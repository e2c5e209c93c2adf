//! `make bench-peers`: the gateway as it is shipped, and OVS-DPDK, each in the same wiring.
//!
//! DPDK's pcap driver replays a file of frames from memory for ever, its null driver swallows what is sent: any DPDK
//! program can be put between the two. One forwarding thread has the last core. Both programs do the same to a frame:
//! route it (TTL, both MACs), or take off its VLAN tag, translate source address and port by connection, and route it.
//! The figure is that of [`measure::saturated`](super::measure::saturated), for both.

mod ours;
mod ovs;
mod pcap;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::frames::{self, Link};
use super::measure::Measurement;
use super::random::Random;
use crate::Scratch;

pub use ovs::version as ovs_version;

/// MiB of hugepages that the hungrier of the programs takes.
pub const MEMORY_MB: u64 = 1536;

/// MAC of the first port that replays a file; the driver chooses it.
const MAC: &str = "02:70:63:61:70:00";
const LINK: Link = Link {
    from: [2, 0, 0, 0, 0, 9],
    to: [0x02, 0x70, 0x63, 0x61, 0x70, 0x00],
    vlan: None,
};
const VLAN: u16 = 30;
/// Where frames go to, and the router there.
const DESTINATIONS: &str = "48.0.0.0/8";
const ROUTER: &str = "172.31.1.2";
const ROUTER_MAC: &str = "02:00:00:00:00:0a";
/// Public addresses of the VPC: eight.
const POOL: &str = "198.18.0.0/29";
/// The same as a range.
const POOL_RANGE: &str = "198.18.0.0-198.18.0.7";
/// From the start of a program until it is measured: tables are filled, caches warm.
const WARM_UP: Duration = Duration::from_millis(1500);

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// Different flows.
    pub flows: u32,
    /// Whether they are translated.
    pub nat: bool,
    /// What the gateway should cost at most.
    pub goal: Option<f64>,
}

/// Every row.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "peer-forward-1k",
        flows: 1_000,
        nat: false,
        goal: Some(55.0),
    },
    Workload {
        name: "peer-forward-64k",
        flows: 64_000,
        nat: false,
        goal: None,
    },
    Workload {
        name: "peer-nat-1k",
        flows: 1_000,
        nat: true,
        goal: Some(85.0),
    },
    Workload {
        name: "peer-nat-64k",
        flows: 64_000,
        nat: true,
        goal: Some(120.0),
    },
];

/// A program under comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The gateway.
    Turnpike,
    /// Debian's Open vSwitch with DPDK.
    Ovs,
}

/// Runs a program on a workload and measures its forwarding thread.
///
/// # Errors
/// If packets were lost or the thread was not saturated.
///
/// # Panics
/// If the program cannot be set up.
pub fn run(program: Program, workload: &Workload, window: Duration) -> Result<Measurement, String> {
    let scratch = Scratch::new();
    let file = replay(workload, &scratch);
    match program {
        Program::Turnpike => ours::run(workload, &file, &scratch, window),
        Program::Ovs => ovs::run(workload, &file, &scratch, window),
    }
}

/// The device that replays `file`.
fn source(file: &Path) -> String {
    format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display())
}

/// The device that swallows.
const SINK: &str = "net_null0,no-rx=1";

/// Writes the frames of a workload, one a flow, in random order.
fn replay(workload: &Workload, scratch: &Scratch) -> PathBuf {
    let link = Link {
        vlan: workload.nat.then_some(VLAN),
        ..LINK
    };
    let frame = |n: u32| {
        let from = if workload.nat {
            Ipv4Addr::from(0x0a00_0100 + n / 32)
        } else {
            Ipv4Addr::new(172, 31, 0, 2)
        };
        let port = 20_000 + (n % 32) as u16 * 1009;
        let to = Ipv4Addr::from(0x3000_0000 | Random::new(u64::from(n)).bits() as u32 & 0x00ff_ffff);
        frames::udp(&link, (IpAddr::V4(from), port), (IpAddr::V4(to), 443))
    };
    let mut all: Vec<_> = (0..workload.flows).map(frame).collect();
    Random::new(3).shuffle(&mut all);
    let path = scratch.path().join("replay.pcap");
    pcap::write(&path, &all).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    path
}

/// The core of the measured thread as a bit mask, and those of everything else.
fn core_masks() -> (String, String) {
    let worker = super::gateway::worker_core();
    (
        format!("0x{:x}", 1_u64 << worker),
        format!("0x{:x}", (1_u64 << worker.max(1)) - 1),
    )
}
