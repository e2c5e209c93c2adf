//! A gateway in this process, between a generator and a sink: the real tables, workers and offload thread, without
//! kernel, configuration and programs around them.
//!
//! One port is both source and sink (the driver `net_generator`); frames come untagged into the default VRF, or tagged
//! into one VPC whose packets are masqueraded and leave by the default VRF. The worker has the last core; everything
//! else runs on the first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use dataplane::{Config, Counters, Dataplane, Event, Memory, Opened, PollMode, PortSpec, Wiring};
use net::{
    AddressChange, IfIndex, InterfaceId, KernelEvent, Mac, NeighborChange, NeighborState, NextHop, Prefix, Revision,
    Route, RouteChange, Source, VlanId, VpcId, VrfId,
};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rib::{Attachment, Interface, Rib, RibConfig};
use softasic::generator;

use super::frames::Link;
use super::measure::{self, Measurement, Reading, ThreadTime};
use crate::within;

/// The port's device.
pub const DEVICE: &str = "net_generator0";
/// VLAN of the VPC.
pub const VLAN: u16 = 30;
/// Frames from the fabric.
pub const UNTAGGED: Link = Link {
    from: ROUTER_MAC,
    to: MAC,
    vlan: None,
};
/// Frames from the VPC.
pub const TAGGED: Link = Link {
    from: HOST_MAC,
    to: MAC,
    vlan: Some(VLAN),
};
/// Packet buffers, few enough to stay in the cache as those of a NIC's ring do.
pub const BUFFERS: u32 = 8191;

const MAC: [u8; 6] = [2, 0x74, 0x70, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0x74, 0x70, 0, 1, 1];
const HOST_MAC: [u8; 6] = [2, 0x74, 0x70, 0, 2, 1];
const VPC: u16 = 1;
/// Routers of the fabric, over which routes are spread.
const ROUTERS: u8 = 8;
/// Names of the tenant's router port and its host's address, in the kernel's numbering as the RIB sees it.
const FABRIC: IfIndex = IfIndex(2);
const TENANT: IfIndex = IfIndex(3);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 10);
/// Patience with what the worker has yet to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a scenario wants of its gateway.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Prefixes of the default VRF, spread over the fabric's routers.
    pub prefixes: Vec<Prefix>,
    /// Size of the connection table.
    pub connections: u32,
    /// Whether packets of the VPC are masqueraded.
    pub masquerade: bool,
    /// Whether connections are offloaded, through the emulated ASIC.
    pub offload: bool,
    /// Where packet buffers live.
    pub memory: Memory,
}

/// A running gateway.
pub struct Gateway {
    dataplane: Dataplane,
    worker: ThreadTime,
    failures: Mutex<mpsc::Receiver<String>>,
    /// Readers see tables only while it lives.
    _rib: Rib,
}

/// The core of the measured thread: the last one.
pub fn worker_core() -> u32 {
    available_parallelism().map_or(1, usize::from) as u32 - 1
}

/// Keeps this thread, and those that it starts, off the measured thread's core.
///
/// # Errors
/// If the kernel refuses.
pub fn leave_the_worker_core() -> Result<(), String> {
    let mut cores = CpuSet::new();
    let mut others = 0..worker_core().max(1) as usize;
    others
        .try_for_each(|core| cores.set(core))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores))
        .map_err(|error| format!("cannot choose a core: {error}"))
}

impl Gateway {
    /// Starts a gateway on `frames`, which come as soon as it runs.
    ///
    /// # Errors
    /// Whatever refuses, in its own words.
    pub fn start(plan: Plan, frames: &[Vec<u8>]) -> Result<Self, String> {
        leave_the_worker_core()?;
        softasic::register().map_err(text)?;
        softasic::register_generator().map_err(text)?;
        generator::load(DEVICE, frames);
        let mut devices = vec![DEVICE.to_owned()];
        if plan.offload {
            devices.push(format!(
                "{}0,wire={DEVICE},rules={}",
                softasic::DRIVER,
                plan.connections * 2 + 1024
            ));
        }
        let opened = Opened::new(Config {
            program: "bench".to_owned(),
            workers: vec![worker_core()],
            poll: PollMode::Busy,
            memory: plan.memory,
            log_level: dataplane::LogLevel::default(),
            buffers: BUFFERS,
            connections: plan.connections,
            seed: 1,
            pick_up: 0,
            standby: false,
            log_sessions: false,
            ports: vec![PortSpec {
                name: "wire".to_owned(),
                devices,
                mac: Some(Mac(MAC)),
                mtu: 1500,
                offload: plan.offload,
            }],
        })
        .map_err(text)?;
        let port = opened.ports().next().ok_or("no port was opened")?.id;

        let (mut rib, reader) = Rib::new(RibConfig::default());
        let vlan = Attachment::Vlan {
            port,
            id: VlanId::new(VLAN).map_err(text)?,
        };
        wire(&mut rib, Attachment::Port(port), vlan)?;
        if plan.masquerade {
            rib.set_policy(masquerade()?, Revision(1));
        }
        for (change, router) in plan.prefixes.iter().zip((0..ROUTERS).cycle()) {
            rib.route(route(*change, router));
        }
        // The second publish brings the other copy of the tables up to date.
        for _ in 0..2 {
            rib.publish().map_err(text)?;
        }

        let (failed, failures) = mpsc::channel();
        let dataplane = opened
            .start(Wiring {
                reader,
                host_interfaces: Vec::new(),
                restore: None,
                events: Arc::new(move |event| {
                    if let Event::Failed { thread, reason } = event {
                        // Nobody listens only when the measurement has ended.
                        let _ = failed.send(format!("thread {thread}: {reason}"));
                    }
                }),
            })
            .map_err(text)?;
        let worker = within(PATIENCE, || ThreadTime::find(std::process::id(), "tp-worker-0"))?.0;
        Ok(Self {
            dataplane,
            worker,
            failures: Mutex::new(failures),
            _rib: rib,
        })
    }

    /// The running data plane.
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// What the worker counts now.
    pub fn reading(&self) -> Reading {
        reading(&self.dataplane.counters()[0])
    }

    /// Stops the gateway; what the worker has counted to its end.
    pub fn finish(self) -> Reading {
        let counters = Arc::clone(&self.dataplane.counters()[0]);
        drop(self);
        reading(&counters)
    }

    /// Measures the worker for `window`.
    ///
    /// # Errors
    /// As [`measure::saturated`], with the reasons of the drops.
    pub fn measure(&self, window: Duration) -> Result<Measurement, String> {
        measure::saturated(&self.worker, window, || Ok(self.reading()))
            .map_err(|error| format!("{error}{}", self.drops()))
    }

    /// Waits until the worker has sent `packets` more than `since`.
    ///
    /// # Errors
    /// If it does not, or a thread of the gateway ended.
    pub fn await_sent(&self, since: &Reading, packets: u64) -> Result<(), String> {
        self.wait(|| {
            let sent = self.reading().sent - since.sent;
            (sent >= packets)
                .then_some(())
                .ok_or_else(|| format!("{sent} of {packets} packets were sent{}", self.drops()))
        })
    }

    /// Waits for what the gateway is about to do.
    ///
    /// # Errors
    /// What is missing, if it does not come, or why a thread of the gateway ended.
    pub fn wait<T>(&self, mut probe: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, _) = within(PATIENCE, || match failures.try_recv() {
            Ok(reason) => Ok(Err(reason)),
            Err(_) => probe().map(Ok),
        })?;
        outcome
    }

    /// What the worker's connection table says of itself.
    ///
    /// # Errors
    /// If the worker does not answer.
    pub fn connections(&self) -> Result<nat::Stats, String> {
        self.ask(nat::Engine::stats)
    }

    /// Asks the worker about its connections.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&nat::Engine) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (sender, answer) = mpsc::channel();
        let asked = self.dataplane.with_connections(0, move |engine| {
            // The receiver waits below.
            let _ = sender.send(question(engine));
        });
        if !asked {
            return Err("the worker takes no questions".to_owned());
        }
        answer
            .recv_timeout(PATIENCE)
            .map_err(|_| "the worker does not answer".to_owned())
    }

    fn drops(&self) -> String {
        let counters = &self.dataplane.counters()[0];
        let reasons = net::Drop::ALL.iter().filter(|reason| counters.dropped(**reason) > 0);
        reasons
            .map(|reason| format!("; dropped {}: {}", reason.name(), counters.dropped(*reason)))
            .collect()
    }
}

fn reading(counters: &Counters) -> Reading {
    Reading {
        received: counters.received.get(),
        sent: counters.transmitted.get(),
        lost: counters.dropped_total() + counters.punted.get() + counters.held.get(),
        busy: counters.busy_polls.get(),
        idle: counters.idle_polls.get(),
    }
}

/// Two interfaces on one port, resolved neighbours behind both, and the ways out of the VPC.
fn wire(rib: &mut Rib, untagged: Attachment, tagged: Attachment) -> Result<(), String> {
    let vpc = VpcId::new(VPC).map_err(text)?;
    for (id, name, host, vrf, attachment) in [
        (0, "fabric", FABRIC, VrfId::DEFAULT, untagged),
        (1, "tenant", TENANT, vpc.vrf(), tagged),
    ] {
        rib.set_interface(Interface {
            id: InterfaceId(id),
            name: name.to_owned(),
            host: Some(host),
            vrf,
            mac: Mac(MAC),
            mtu: 1500,
            attachment,
        });
    }
    for (interface, address) in [
        (FABRIC, "100.64.0.254/24"),
        (FABRIC, "fd00::fe/64"),
        (TENANT, "10.255.255.254/24"),
    ] {
        rib.kernel(KernelEvent::Address(AddressChange {
            interface,
            address: address.parse().map_err(text)?,
            present: true,
        }));
    }
    let routers = (0..ROUTERS).flat_map(|n| {
        let mut mac = ROUTER_MAC;
        mac[5] = n;
        [router_v4(n), router_v6(n)].map(|address| (FABRIC, address, mac))
    });
    for (interface, address, mac) in routers.chain([(TENANT, IpAddr::V4(HOST), HOST_MAC)]) {
        rib.kernel(KernelEvent::Neighbor(NeighborChange {
            interface,
            address,
            state: NeighborState::Reachable(Mac(mac)),
        }));
    }

    // Everything that the VPC does not have itself is looked up in the default VRF, and its hosts are behind one of them.
    let inside = Route::unicast(NextHop::via(IpAddr::V4(HOST)));
    let outside = Route::unicast(NextHop::in_vrf(VrfId::DEFAULT));
    for (prefix, route) in [("10.0.0.0/9", inside), ("0.0.0.0/0", outside)] {
        rib.route(RouteChange {
            vrf: vpc.vrf(),
            prefix: prefix.parse().map_err(text)?,
            source: Source::Static,
            route: Some(route),
        });
    }
    Ok(())
}

/// Every source of the VPC, under 256 public addresses.
fn masquerade() -> Result<Arc<nat::Policy>, String> {
    let policy = nat::Policy::compile(nat::PolicySpec {
        masquerade: vec![nat::Masquerade {
            vpc: VpcId::new(VPC).map_err(text)?,
            sources: Vec::new(),
            pool: (0..=255).map(|n| Ipv4Addr::new(198, 18, 0, n).into()).collect(),
            ports: (1024, 65535),
            options: nat::PoolOptions::default(),
        }],
        ..nat::PolicySpec::default()
    });
    policy.map(Arc::new).map_err(text)
}

fn route(prefix: Prefix, router: u8) -> RouteChange {
    let via = if prefix.is_v4() {
        router_v4(router)
    } else {
        router_v6(router)
    };
    RouteChange {
        vrf: VrfId::DEFAULT,
        prefix,
        source: Source::Ebgp,
        route: Some(Route::unicast(NextHop::via(via))),
    }
}

fn router_v4(n: u8) -> IpAddr {
    Ipv4Addr::new(100, 64, 0, n + 1).into()
}

fn router_v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n) + 1).into()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
