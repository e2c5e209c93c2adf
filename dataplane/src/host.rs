//! Host interfaces: a tap for each logical interface, through which the kernel does ARP, ND, BGP's TCP and ping.
//!
//! One thread owns every tap. It writes what workers punt, hands what the kernel sends to worker 0, and learns from
//! punted frames behind which VXLAN endpoint a MAC lives: hosts ask for the gateway's MAC before they send, so learning
//! needs no look at forwarded packets (RFC 7348 section 4.1). Taps are not persistent: they vanish with the process,
//! however it ends.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys::{Mbuf, Mempool};
use net::{InterfaceId, Mac};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtrb::{Consumer, Producer};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::counters::Counter;
use crate::{Error, Event, EventSink};

/// A frame for the kernel.
#[derive(Debug)]
pub(crate) struct Punt {
    /// Starts at the Ethernet header that the kernel shall see.
    pub(crate) mbuf: Mbuf,
    pub(crate) interface: InterfaceId,
    /// Remote endpoint that sent it, for a VXLAN interface.
    pub(crate) vtep: Option<Ipv4Addr>,
}

/// A frame from the kernel.
#[derive(Debug)]
pub(crate) struct Inject {
    pub(crate) mbuf: Mbuf,
    pub(crate) interface: InterfaceId,
    /// Remote endpoint that shall get it, for a VXLAN interface.
    pub(crate) vtep: Option<Ipv4Addr>,
}

/// A tap to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInterface {
    /// Logical interface that it stands for.
    pub id: InterfaceId,
    /// Name in the kernel, at most 15 bytes.
    pub name: String,
    /// Same MAC as the logical interface.
    pub mac: Mac,
    /// Same MTU as the logical interface, bytes.
    pub mtu: u16,
    /// VXLAN only: remote endpoints that get broadcasts and frames to unknown MACs. Learning trusts only these.
    pub flood: Vec<Ipv4Addr>,
}

/// What the host interfaces' thread counts.
#[derive(Debug, Default)]
pub struct HostCounters {
    /// Frames the kernel took.
    pub delivered: Counter,
    /// Frames the kernel refused (tap queue full, tap down).
    pub refused: Counter,
    /// Frames read from the kernel and given to a worker.
    pub injected: Counter,
    /// Frames read from the kernel and lost: no buffer, or the worker's ring was full.
    pub lost: Counter,
}

struct Tap {
    spec: HostInterface,
    device: SyncDevice,
}

/// The thread's state.
pub(crate) struct Host {
    taps: Vec<Tap>,
    /// Index into `taps` by interface id.
    by_interface: HashMap<InterfaceId, usize>,
    fdb: HashMap<(InterfaceId, Mac), Ipv4Addr>,
    punts: Vec<Consumer<Punt>>,
    worker_events: Vec<Consumer<Event>>,
    inject: Producer<Inject>,
    pool: Mempool,
    events: EventSink,
    counters: Arc<HostCounters>,
}

/// Largest frame read from a tap: the largest MTU a port may have, its Ethernet header and a VLAN tag.
const LARGEST_FRAME: usize = 9_000 + 18;
/// Frames read from one tap before the others get their turn.
const TURN: usize = 64;

impl Host {
    /// Makes the taps; they are up when this returns.
    pub(crate) fn new(
        specs: &[HostInterface],
        punts: Vec<Consumer<Punt>>,
        worker_events: Vec<Consumer<Event>>,
        inject: Producer<Inject>,
        pool: Mempool,
        events: EventSink,
        counters: Arc<HostCounters>,
    ) -> Result<Self, Error> {
        let mut taps = Vec::with_capacity(specs.len());
        for spec in specs {
            let device = DeviceBuilder::new()
                .name(&spec.name)
                .layer(Layer::L2)
                .mac_addr(spec.mac.0)
                .mtu(spec.mtu)
                .tx_queue_len(1_000)
                .enable(true)
                .build_sync()
                .and_then(|device| device.set_nonblocking(true).map(|()| device))
                .map_err(|source| Error::HostInterface {
                    name: spec.name.clone(),
                    source,
                })?;
            taps.push(Tap {
                spec: spec.clone(),
                device,
            });
        }
        let by_interface = taps.iter().enumerate().map(|(i, t)| (t.spec.id, i)).collect();
        Ok(Self {
            taps,
            by_interface,
            fdb: HashMap::new(),
            punts,
            worker_events,
            inject,
            pool,
            events,
            counters,
        })
    }

    /// Kernel index of each tap.
    pub(crate) fn indices(&self) -> Result<Vec<(InterfaceId, net::IfIndex)>, Error> {
        self.taps
            .iter()
            .map(|t| {
                let index = t.device.if_index();
                index
                    .map(|i| (t.spec.id, net::IfIndex(i)))
                    .map_err(|source| Error::HostInterface {
                        name: t.spec.name.clone(),
                        source,
                    })
            })
            .collect()
    }

    /// Runs until `stop`.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; LARGEST_FRAME];
        while !stop.load(Ordering::Relaxed) {
            self.pump_events();
            // Both get their turn: a flood of punted frames must not silence the kernel.
            let delivered = self.deliver();
            let collected = self.collect(&mut buffer);
            if !delivered && !collected {
                self.wait();
            }
        }
        self.pump_events();
    }

    fn pump_events(&mut self) {
        for ring in &mut self.worker_events {
            while let Ok(event) = ring.pop() {
                (self.events)(event);
            }
        }
    }

    /// Writes punted frames; true if there were any.
    fn deliver(&mut self) -> bool {
        let mut any = false;
        for ring in 0..self.punts.len() {
            for _ in 0..TURN {
                let Ok(punt) = self.punts[ring].pop() else { break };
                any = true;
                self.learn(&punt);
                let sent = self
                    .by_interface
                    .get(&punt.interface)
                    .is_some_and(|&i| self.taps[i].device.send(punt.mbuf.data()).is_ok());
                if sent {
                    self.counters.delivered.add(1)
                } else {
                    self.counters.refused.add(1)
                }
            }
        }
        any
    }

    fn learn(&mut self, punt: &Punt) {
        let Some(vtep) = punt.vtep else { return };
        let Some(source) = punt
            .mbuf
            .data()
            .get(6..12)
            .and_then(|b| <[u8; 6]>::try_from(b).ok())
            .map(Mac)
        else {
            return;
        };
        let trusted = self
            .by_interface
            .get(&punt.interface)
            .is_some_and(|&i| self.taps[i].spec.flood.contains(&vtep));
        if source.is_multicast() || !trusted {
            return;
        }
        if self.fdb.insert((punt.interface, source), vtep) != Some(vtep) {
            (self.events)(Event::FdbLearned {
                interface: punt.interface,
                mac: source,
                vtep: IpAddr::V4(vtep),
            });
        }
    }

    /// Reads frames of the kernel; true if there were any.
    fn collect(&mut self, buffer: &mut [u8]) -> bool {
        let mut any = false;
        for i in 0..self.taps.len() {
            for _ in 0..TURN {
                let Ok(length) = self.taps[i].device.recv(buffer) else {
                    break;
                };
                any = true;
                let frame = &buffer[..length];
                let id = self.taps[i].spec.id;
                if self.taps[i].spec.flood.is_empty() {
                    self.inject(frame, id, None);
                    continue;
                }
                let destination = frame.first_chunk::<6>().map(|b| Mac(*b));
                match destination.and_then(|mac| self.fdb.get(&(id, mac)).copied()) {
                    Some(vtep) => self.inject(frame, id, Some(vtep)),
                    None => {
                        for to in 0..self.taps[i].spec.flood.len() {
                            let vtep = self.taps[i].spec.flood[to];
                            self.inject(frame, id, Some(vtep));
                        }
                    }
                }
            }
        }
        any
    }

    fn inject(&mut self, frame: &[u8], interface: InterfaceId, vtep: Option<Ipv4Addr>) {
        let sent = Mbuf::from_bytes(&self.pool, frame)
            .is_some_and(|mbuf| self.inject.push(Inject { mbuf, interface, vtep }).is_ok());
        if sent {
            self.counters.injected.add(1)
        } else {
            self.counters.lost.add(1)
        }
    }

    /// Sleeps until a tap has a frame, at most a millisecond: the workers' rings have no wake-up, so that a worker
    /// never makes a system call.
    fn wait(&self) {
        let mut fds: Vec<PollFd<'_>> = self
            .taps
            .iter()
            .map(|t| PollFd::new(t.device.as_fd(), PollFlags::POLLIN))
            .collect();
        // An interrupted or failed poll only means that the rings are looked at sooner.
        let _ = poll(&mut fds, PollTimeout::from(1_u8));
    }
}
