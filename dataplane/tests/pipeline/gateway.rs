//! A started data plane between two wires, and what its control plane would have told it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataplane::{
    Config, Counters, Dataplane, Event, HostInterface, LogLevel, Memory, Opened, PollMode, PortSpec, Wiring,
};
use nat::{ConnectionView, Engine, Masquerade, Policy, PolicySpec, PortForward};
use net::{
    AddressChange, Drop, IfIndex, InterfaceId, KernelEvent, LinkChange, Mac, NeighborChange, NeighborState, NextHop,
    PortId, Prefix, Revision, Route, RouteChange, Source, VlanId, Vni, VpcId, VrfId,
};
use rib::{Attachment, Interface, Published, Rib, RibConfig};

use crate::network::{
    BLUE, BLUE_IF, BLUE_MAC, FABRIC_IF, FABRIC_MAC, FORWARDED, HOST, HOST_MAC, MTU, OTHER_VTEP, OTHER_VTEP_MAC,
    OUR_VTEP, PEER_MAC, POOL, RED, RED_IF, RED_MAC, TENANT, TENANT_MAC, UPLINK_IF, UPLINK_MAC, VLAN, VNI, VTEP,
    VTEP_MAC, address, via,
};
use crate::wire::Wire;

const NAMES: [&str; 4] = ["fabric", "uplink", "red", "blue"];
/// Longer than anything takes: a packet waits three seconds for its neighbour, and the error about it may wait as long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The gateway under test.
pub struct Gateway {
    pub rib: Rib,
    pub wires: [Wire; 2],
    pub dataplane: Dataplane,
    events: Arc<Mutex<Vec<Event>>>,
    hosts: BTreeMap<InterfaceId, IfIndex>,
    /// Packet buffers in use before the first packet.
    buffers: u32,
}

/// What became of some frames.
#[derive(Debug)]
pub struct Outcome {
    /// What each wire carried afterwards.
    pub sent: [Vec<Vec<u8>>; 2],
    /// Packets dropped, by reason.
    pub drops: Vec<(Drop, u64)>,
    pub punted: u64,
    pub generated: u64,
    pub held: u64,
}

impl Outcome {
    /// The only frame that went out anywhere, on this wire.
    pub fn only(&self, wire: usize) -> &[u8] {
        assert_eq!(
            (self.sent[wire].len(), self.sent[1 - wire].len()),
            (1, 0),
            "frames on the wires: {self:?}"
        );
        &self.sent[wire][0]
    }

    /// Demands that one frame went out, with these bytes, and nothing was dropped.
    pub fn is_only(&self, wire: usize, expected: &[u8], what: &str) {
        self.is_answered(wire, expected, &[], what);
    }

    /// Demands that one frame went out, with these bytes, and that so many were dropped.
    pub fn is_answered(&self, wire: usize, expected: &[u8], drops: &[(Drop, u64)], what: &str) {
        assert_eq!(self.drops, drops, "{what}");
        crate::frames::assert_frames(&[self.only(wire).to_vec()], &[expected.to_vec()], what);
    }

    /// Demands that nothing went out, and that so many were dropped.
    pub fn is_silent(&self, drops: &[(Drop, u64)], what: &str) {
        assert_eq!(self.drops, drops, "{what}");
        assert!(self.sent.iter().all(Vec::is_empty), "{what}: {self:?}");
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

impl Gateway {
    /// One worker, every neighbour known, NAT on.
    pub fn start() -> Self {
        Self::with_workers(1)
    }

    /// Starts with so many workers.
    pub fn with_workers(workers: u32) -> Self {
        Wire::register();
        let ((fabric, fabric_device), (uplink, uplink_device)) = (Wire::new(0), Wire::new(1));
        Self::between(workers, [fabric, uplink], [vec![fabric_device], vec![uplink_device]])
    }

    /// One worker, and an emulated ASIC that takes rules in front of both wires; `arguments` are its devices', with a
    /// comma in front.
    pub fn offloading(arguments: &str) -> Self {
        Wire::register();
        softasic::register().expect("registered");
        let (wires, devices): (Vec<_>, Vec<_>) = (0..2)
            .map(|number| {
                let (wire, device) = Wire::new(number);
                let asic = format!("{}{number},wire={device}{arguments}", softasic::DRIVER);
                (wire, vec![device, asic])
            })
            .unzip();
        let two = "there are two";
        Self::between(
            1,
            wires.try_into().map_err(|_| two).expect(two),
            devices.try_into().expect(two),
        )
    }

    /// Starts between devices other than the wires, whose ends stay loose.
    pub fn between_devices(workers: u32, devices: [String; 2]) -> Self {
        Self::between(
            workers,
            [Wire::new(0).0, Wire::new(1).0],
            devices.map(|device| vec![device]),
        )
    }

    /// The devices of a port that are more than one are a wire and the ASIC in front of it.
    fn between(workers: u32, wires: [Wire; 2], [fabric_devices, uplink_devices]: [Vec<String>; 2]) -> Self {
        let port = |name: &str, devices: Vec<String>, mac, mtu| PortSpec {
            name: name.to_owned(),
            offload: devices.len() > 1,
            devices,
            mac: Some(mac),
            mtu,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let config = Config {
            program: "dataplane-test".to_owned(),
            workers: (0..workers).map(|worker| worker % cores).collect(),
            poll: PollMode::Adaptive,
            memory: Memory::NoHuge { megabytes: 128 },
            log_level: LogLevel::Error,
            buffers: 4095,
            connections: 4096,
            seed: 7,
            pick_up: 0,
            standby: false,
            log_sessions: false,
            ports: vec![
                port("fabric", fabric_devices, FABRIC_MAC, MTU[0]),
                port("uplink", uplink_devices, UPLINK_MAC, MTU[1]),
            ],
        };
        let opened = Opened::new(config).expect("ports open");
        let infos: Vec<_> = opened.ports().cloned().collect();
        let macs: Vec<Mac> = infos.iter().map(|info| info.mac).collect();
        assert_eq!(
            macs,
            [FABRIC_MAC, UPLINK_MAC],
            "ports take the MACs of the configuration"
        );
        let (ports, macs) = ([infos[0].id, infos[1].id], [FABRIC_MAC, UPLINK_MAC, RED_MAC, BLUE_MAC]);
        let (rib, reader) = Rib::new(RibConfig::default());
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let sink = Arc::clone(&events);
        let taps = (0..4).map(|i| HostInterface {
            id: InterfaceId(i as u16),
            name: NAMES[i].to_owned(),
            mac: macs[i],
            mtu: MTU[i],
            flood: if i == 3 { vec![VTEP, OTHER_VTEP] } else { Vec::new() },
        });
        let dataplane = opened
            .start(Wiring {
                reader,
                host_interfaces: taps.collect(),
                events: Arc::new(move |event| sink.lock().expect("events").push(event)),
                restore: None,
            })
            .expect("started");
        let hosts = dataplane.host_indices().iter().copied().collect();
        let mut gateway = Self {
            rib,
            wires,
            dataplane,
            events,
            hosts,
            buffers: 0,
        };
        gateway.describe(ports, macs);
        gateway.publish();
        gateway.settle();
        gateway.buffers = gateway.dataplane.buffers().0;
        gateway
    }

    /// Tells the RIB of interfaces, addresses, neighbours, routes and NAT.
    fn describe(&mut self, ports: [PortId; 2], macs: [Mac; 4]) {
        let attachments = [
            (VrfId::DEFAULT, Attachment::Port(ports[0])),
            (VrfId::DEFAULT, Attachment::Port(ports[1])),
            (
                RED,
                Attachment::Vlan {
                    port: ports[1],
                    id: VlanId::new(VLAN).expect("valid"),
                },
            ),
            (
                BLUE,
                Attachment::Vxlan {
                    vni: Vni::new(VNI).expect("valid"),
                    source: OUR_VTEP,
                    udp_port: 4789,
                },
            ),
        ];
        for (i, (vrf, attachment)) in attachments.into_iter().enumerate() {
            let id = InterfaceId(i as u16);
            self.rib.set_interface(Interface {
                id,
                name: NAMES[i].to_owned(),
                host: Some(self.hosts[&id]),
                vrf,
                mac: macs[i],
                mtu: MTU[i],
                attachment,
            });
        }
        for (id, text) in [
            (FABRIC_IF, "192.0.2.1/24"),
            (FABRIC_IF, "2001:db8:2::1/64"),
            (UPLINK_IF, "198.51.100.1/24"),
            (UPLINK_IF, "2001:db8:3::1/64"),
            (RED_IF, "10.0.0.1/24"),
            (RED_IF, "fd00::1/64"),
            (BLUE_IF, "10.0.0.1/24"),
            (BLUE_IF, "fd00::1/64"),
        ] {
            self.rib.kernel(KernelEvent::Address(AddressChange {
                interface: self.hosts[&id],
                address: text.parse().expect("an address"),
                present: true,
            }));
        }
        for (id, text, mac) in [
            (FABRIC_IF, "192.0.2.2", PEER_MAC),
            (FABRIC_IF, "192.0.2.9", VTEP_MAC),
            (FABRIC_IF, "192.0.2.10", OTHER_VTEP_MAC),
            (FABRIC_IF, "2001:db8:2::2", PEER_MAC),
            (UPLINK_IF, HOST, HOST_MAC),
            (UPLINK_IF, "2001:db8:3::2", HOST_MAC),
            (RED_IF, TENANT, TENANT_MAC),
            (RED_IF, "fd00::5", TENANT_MAC),
            (BLUE_IF, TENANT, TENANT_MAC),
            (BLUE_IF, "fd00::5", TENANT_MAC),
        ] {
            self.neighbor(id, text, Some(mac));
        }
        self.rib.fdb(BLUE_IF, TENANT_MAC, Some(VTEP.into()));
        self.route(VrfId::DEFAULT, "0.0.0.0/0", Some(via("192.0.2.2")));
        self.route(VrfId::DEFAULT, "::/0", Some(via("2001:db8:2::2")));
        for vrf in [RED, BLUE] {
            self.route(vrf, "0.0.0.0/0", Some(Route::unicast(NextHop::in_vrf(VrfId::DEFAULT))));
        }
        self.set_policy(true);
    }

    /// Masquerade for both tenants and a port forward, or no NAT at all.
    pub fn set_policy(&mut self, on: bool) {
        if on {
            self.set_masquerade(&[1, 2]);
        } else {
            self.set_spec(PolicySpec::default());
        }
    }

    /// Masquerade for these VPCs, and the port forward.
    pub fn set_masquerade(&mut self, vpcs: &[u16]) {
        self.set_masquerade_ports(vpcs, (20_000, 60_000));
    }

    /// The same, with a pool of these ports.
    pub fn set_masquerade_ports(&mut self, vpcs: &[u16], ports: (u16, u16)) {
        let vpc = |n| VpcId::new(n).expect("valid");
        let v4 = |text: &str| -> Ipv4Addr { text.parse().expect("an address") };
        let masquerade = vpcs.iter().map(|n| Masquerade {
            vpc: vpc(*n),
            sources: Vec::new(),
            pool: vec![v4(POOL).into()],
            ports,
            options: nat::PoolOptions::default(),
        });
        self.set_spec(PolicySpec {
            masquerade: masquerade.collect(),
            port_forwards: vec![PortForward {
                vpc: vpc(1),
                address: v4(FORWARDED).into(),
                protocol: 6,
                ports: (80, 80),
                targets: vec![nat::ForwardTarget {
                    address: v4(TENANT).into(),
                    port: 8080,
                    weight: 1,
                }],
                affinity: false,
            }],
            ..PolicySpec::default()
        });
    }

    /// This NAT policy.
    pub fn set_spec(&mut self, spec: PolicySpec) {
        let policy = Policy::compile(spec).expect("a policy");
        self.rib.set_policy(Arc::new(policy), Revision(1));
    }

    /// A static route comes, changes or goes.
    pub fn route(&mut self, vrf: VrfId, to: &str, route: Option<Route>) {
        self.rib.route(RouteChange {
            vrf,
            prefix: prefix(to),
            source: Source::Static,
            route,
        });
    }

    /// A neighbour is resolved, or forgotten.
    pub fn neighbor(&mut self, interface: InterfaceId, of: &str, mac: Option<Mac>) {
        self.rib.kernel(KernelEvent::Neighbor(NeighborChange {
            interface: self.hosts[&interface],
            address: address(of),
            state: mac.map_or(NeighborState::Gone, NeighborState::Reachable),
        }));
    }

    /// Kernel index of a host interface.
    pub fn host(&self, interface: InterfaceId) -> IfIndex {
        self.hosts[&interface]
    }

    /// A host interface goes up or down.
    pub fn link(&mut self, interface: InterfaceId, up: bool) {
        self.rib.kernel(KernelEvent::Link(LinkChange {
            index: self.hosts[&interface],
            name: NAMES[usize::from(interface.0)].to_owned(),
            mac: None,
            mtu: 1500,
            up,
            vni: None,
            present: true,
        }));
    }

    /// Publishes a generation and waits until every worker has seen it.
    pub fn publish(&mut self) -> Published {
        let start = now();
        let published = loop {
            match self.rib.publish() {
                Ok(published) => break published,
                Err(stalled) => assert!(start.elapsed() < PATIENCE, "{stalled}"),
            }
            std::thread::yield_now();
        };
        self.wait("workers to see the generation", || {
            let mut counters = self.dataplane.counters().iter();
            counters.all(|counters| counters.generation.get() == published.generation.0)
        });
        published
    }

    /// Waits until `done`.
    pub fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = now();
        while !done() {
            self.assert_alive();
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn assert_alive(&self) {
        let events = self.events.lock().expect("events");
        if let Some(failed) = events.iter().find(|event| matches!(event, Event::Failed { .. })) {
            panic!("{failed:?}");
        }
    }

    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.dataplane.counters().iter().map(|counters| of(counters)).sum()
    }

    /// Waits until everything that was received, or handed over, or punted, has come to its end.
    pub fn settle(&self) {
        self.wait("the ports to take every frame", || {
            self.wires.iter().all(Wire::is_drained)
        });
        // A burst ends with the poll that received it. What that poll handed over ends with a later poll of the other
        // worker: the second round begins when the first one has ended everywhere.
        let polls = |counters: &Counters| counters.busy_polls.get() + counters.idle_polls.get();
        for _ in 0..2 {
            let before: Vec<u64> = self.dataplane.counters().iter().map(|c| polls(c)).collect();
            self.wait("workers to poll", || {
                let after = self.dataplane.counters().iter();
                after
                    .zip(&before)
                    .all(|(counters, before)| polls(counters) >= before + 2)
            });
        }
        self.wait("the host interfaces to take every frame", || {
            let host = self.dataplane.host_counters();
            host.delivered.get() + host.refused.get() == self.sum(|c| c.punted.get())
        });
    }

    /// Sends frames into a port, and tells what became of them.
    pub fn exchange(&self, wire: usize, frames: impl IntoIterator<Item = Vec<u8>>) -> Outcome {
        self.exchange_on(wire, 0, frames)
    }

    /// The same, received on this queue.
    pub fn exchange_on(&self, wire: usize, queue: usize, frames: impl IntoIterator<Item = Vec<u8>>) -> Outcome {
        self.observe(|| self.wires[wire].send(queue, frames))
    }

    /// Tells what came of an action; the counters' law holds afterwards.
    pub fn observe(&self, action: impl FnOnce()) -> Outcome {
        let drops = |reason: Drop| self.sum(|c| c.dropped(reason));
        let before: Vec<u64> = Drop::ALL.iter().map(|reason| drops(*reason)).collect();
        let (punted, generated) = (self.sum(|c| c.punted.get()), self.sum(|c| c.generated.get()));
        action();
        self.settle();
        self.assert_conservation();
        let changed = Drop::ALL
            .iter()
            .zip(before)
            .map(|(reason, before)| (*reason, drops(*reason) - before));
        Outcome {
            sent: self
                .wires
                .each_ref()
                .map(|wire| wire.take().into_iter().map(|(_, frame)| frame).collect()),
            drops: changed.filter(|(_, count)| *count > 0).collect(),
            punted: self.sum(|c| c.punted.get()) - punted,
            generated: self.sum(|c| c.generated.get()) - generated,
            held: self.sum(|c| c.held.get()),
        }
    }

    /// Every packet that came in is accounted for. Packets that give up waiting for a neighbour may do so while the
    /// counters are read, so that the law is asked for more than once; what is lost stays lost.
    pub fn assert_conservation(&self) {
        let balance = || {
            let came = self.sum(|c| c.received.get() + c.injected.get() + c.generated.get() + c.taken_over.get());
            let went = self
                .sum(|c| c.transmitted.get() + c.punted.get() + c.handed_over.get() + c.dropped_total() + c.held.get());
            (came, went)
        };
        for _ in 0..20 {
            let (came, went) = balance();
            if came == went {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let (came, went) = balance();
        let views: Vec<_> = self.dataplane.counters().iter().map(|c| c.view()).collect();
        assert_eq!(came, went, "packets that came and went: {views:?}");
    }

    /// No packet buffer was lost: as many are in use as before the first packet.
    pub fn assert_no_leak(&self) {
        self.wait("every packet buffer to return", || {
            self.dataplane.buffers().0 == self.buffers
        });
    }

    /// Waits for an event.
    pub fn event<T>(&self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let mut found = None;
        self.wait(what, || {
            found = self.events.lock().expect("events").iter().find_map(&wanted);
            found.is_some()
        });
        found.expect("found")
    }

    /// How many such events there were.
    pub fn count_events(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events
            .lock()
            .expect("events")
            .iter()
            .filter(|event| wanted(event))
            .count()
    }

    /// Every connection of a worker.
    pub fn connections(&self, worker: usize) -> Vec<ConnectionView> {
        self.ask(worker, |engine| {
            let mut views = Vec::new();
            engine.snapshot(0, usize::MAX, &mut views);
            views
        })
    }

    /// Has a worker answer a question about its connections.
    pub fn ask<T: Send + 'static>(&self, worker: usize, question: impl FnOnce(&Engine) -> T + Send + 'static) -> T {
        let (sender, receiver) = std::sync::mpsc::channel();
        let asked = self.dataplane.with_connections(worker, move |engine| {
            // The test may have failed and gone meanwhile.
            let _ = sender.send(question(engine));
        });
        assert!(asked, "worker {worker} takes a command");
        receiver.recv_timeout(PATIENCE).expect("an answer of the worker")
    }
}

/// A clock for time limits.
#[allow(clippy::disallowed_methods, reason = "time limits of tests are I/O edges")]
pub fn now() -> Instant {
    Instant::now()
}
