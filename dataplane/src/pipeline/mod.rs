//! The walk of a packet: classify, look up the connection or the route, translate, resolve, send.
//!
//! Where a packet's VRF has NAT rules, its connection is looked up before its route, since most packets there belong to
//! one; elsewhere the route says whether NAT is concerned at all, and plain forwarding never touches the connection table.
//!
//! Nearly all packets of a burst are usual ones: IPv4 that nothing is remarkable about (`usual.rs`), which are taken through
//! one stage after the other together, so that their memory accesses overlap, and IPv6 (`v6.rs`) likewise. Every other IPv4
//! packet is taken to its end as soon as it is recognised (`v4.rs`), so it may overtake usual ones of its burst; whole TCP
//! and UDP packets of a flow keep their order.
//!
//! Every packet that enters leaves in exactly one way: transmitted, punted, handed over, held, or dropped with a reason.

mod classify;
mod egress;
mod errors;
mod fragment;
mod gather;
mod nat_v6;
mod npt;
mod offload;
mod underlay;
mod usual;
mod v4;
mod v6;

use classify::Ingress;
pub(crate) use classify::flow_hash;
use egress::{remove_tag, waits_for_neighbor};
pub(crate) use offload::OffloadOutlet;
use usual::{Origins, UsualBurst};

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::{Mbuf, Mempool, TxQueue};
use nat::standby::Change;
use nat::{Engine, Fragments, Millis, SessionEvent};
use net::parse::{FragmentPart, V4, V6};
use net::{Drop, Generation, InterfaceId, PortId, VrfId};
use rib::Tables;
use rtrb::Producer;

use crate::Event;
use crate::counters::Counters;
use crate::hold::{Held, HoldQueue};
use crate::host::{Inject, Punt};
use crate::limiter::Limiter;

/// Most packets in one burst.
pub(crate) const BURST: usize = 64;

/// A burst of packets.
pub(crate) type Packets<T> = ArrayVec<T, BURST>;

/// What is known of an IP packet in the pipeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta<Ip> {
    pub(crate) ip: Ip,
    /// Chooses among next hops and gives entropy to encapsulation; equal for all packets of a flow.
    pub(crate) hash: u32,
    /// Offset of the IP header.
    pub(crate) l3: u16,
    pub(crate) vrf: VrfId,
    pub(crate) ingress: InterfaceId,
    /// Remote VXLAN endpoint that it came from.
    pub(crate) vtep: Option<Ipv4Addr>,
    /// Workers that had it before us: each gave it to another one as the owner of its connection.
    pub(crate) asked: u16,
}

/// IP packets of one burst: their buffers, and in the same order what is known of them. The second is large and stays where
/// it was written; the usual ways out only read it.
#[derive(Debug)]
pub(crate) struct Burst<Ip> {
    pub(crate) mbufs: Packets<Mbuf>,
    pub(crate) metas: Packets<Meta<Ip>>,
}

impl<Ip> Burst<Ip> {
    pub(crate) fn new() -> Self {
        Self {
            mbufs: ArrayVec::new(),
            metas: ArrayVec::new(),
        }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, mbuf: Mbuf, meta: Meta<Ip>) {
        self.mbufs.push(mbuf);
        self.metas.push(meta);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mbufs.is_empty()
    }
}

/// An IP packet on one of the less usual ways.
#[derive(Debug)]
pub(crate) struct Packet<Ip> {
    pub(crate) mbuf: Mbuf,
    pub(crate) meta: Meta<Ip>,
}

/// A received burst, sorted: packets that go through the pipeline together. Empty between bursts; a worker keeps it.
pub(crate) struct Sorted {
    usual: UsualBurst,
    v6: Burst<V6>,
    origins: Origins,
}

impl Sorted {
    pub(crate) fn new() -> Self {
        Self {
            usual: UsualBurst::new(),
            v6: Burst::new(),
            origins: Origins::new(),
        }
    }
}

pub(crate) type Packet4 = Packet<V4>;
pub(crate) type Packet6 = Packet<V6>;

/// A packet on its way to the worker that owns its connection.
#[derive(Debug)]
pub(crate) enum HandedOver {
    V4(Packet4),
    V6(Packet6),
}

impl HandedOver {
    pub(crate) fn into_mbuf(self) -> Mbuf {
        match self {
            Self::V4(packet) => packet.mbuf,
            Self::V6(packet) => packet.mbuf,
        }
    }
}

/// What a worker needs to forward packets. Belongs to one thread.
pub(crate) struct Pipeline {
    pub(crate) index: u16,
    pub(crate) engine: Engine,
    pub(crate) counters: Arc<Counters>,
    pub(crate) now: Millis,
    pool: Mempool,
    /// By port number.
    tx: Vec<Option<Egress>>,
    punts: Producer<Punt>,
    events: Producer<Event>,
    /// Rings to the other workers, by index; `None` at our own.
    handover: Vec<Option<Producer<HandedOver>>>,
    pub(crate) offloads: Option<OffloadOutlet>,
    changes: Option<Producer<Change>>,
    sessions: Option<Producer<SessionEvent>>,
    hold: HoldQueue,
    fragments: Fragments<Packet4>,
    fragments_v6: Fragments<Packet6>,
    /// Fragments that know their ports since the last burst.
    gathered: Vec<Packet4>,
    gathered_v6: Vec<Packet6>,
    limiter: Limiter,
    /// Scratch of `expire` and `revalidate`, kept so that they allocate once.
    ended: Vec<nat::ConnectionId>,
    changed: Vec<(nat::ConnectionId, nat::Outcome)>,
}

/// One port's transmit queue and what waits for it.
struct Egress {
    queue: TxQueue,
    packets: Packets<Mbuf>,
}

/// Ends of the rings that a pipeline writes to.
pub(crate) struct Outlets {
    pub(crate) punts: Producer<Punt>,
    pub(crate) events: Producer<Event>,
    pub(crate) handover: Vec<Option<Producer<HandedOver>>>,
    pub(crate) offloads: Option<OffloadOutlet>,
    pub(crate) changes: Option<Producer<Change>>,
    pub(crate) sessions: Option<Producer<SessionEvent>>,
}

impl Pipeline {
    pub(crate) fn new(
        index: u16,
        engine: Engine,
        counters: Arc<Counters>,
        pool: Mempool,
        queues: Vec<(PortId, TxQueue)>,
        outlets: Outlets,
    ) -> Self {
        let ports = queues
            .iter()
            .map(|(port, _)| usize::from(port.0) + 1)
            .max()
            .unwrap_or(0);
        let mut tx: Vec<Option<Egress>> = (0..ports).map(|_| None).collect();
        for (port, queue) in queues {
            tx[usize::from(port.0)] = Some(Egress {
                queue,
                packets: ArrayVec::new(),
            });
        }
        Self {
            index,
            engine,
            counters,
            now: Millis(0),
            pool,
            tx,
            punts: outlets.punts,
            events: outlets.events,
            handover: outlets.handover,
            offloads: outlets.offloads,
            changes: outlets.changes,
            sessions: outlets.sessions,
            hold: HoldQueue::default(),
            fragments: Fragments::default(),
            fragments_v6: Fragments::default(),
            gathered: Vec::new(),
            gathered_v6: Vec::new(),
            limiter: Limiter::new(),
            ended: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Takes one received burst through the pipeline. `received` is empty afterwards.
    pub(crate) fn receive(&mut self, tables: &Tables, port: PortId, received: &mut Packets<Mbuf>, sorted: &mut Sorted) {
        self.counters.received.add(received.len() as u64);
        for mbuf in received.iter() {
            mbuf.prefetch();
        }
        sorted.origins.clear();
        let mut ingress = Ingress::of(tables, port, &mut sorted.origins);
        let Sorted { usual, origins, .. } = &mut *sorted;
        usual.take(received, |mbuf| ingress.usual(tables, mbuf, origins));
        for mbuf in received.drain(..) {
            self.classify(tables, &mut ingress, mbuf, sorted);
        }
        if !sorted.usual.is_empty() {
            self.forward_usual(tables, &mut sorted.usual, &sorted.origins);
        }
        self.forward_gathered(tables);
        if !sorted.v6.is_empty() {
            self.forward_v6(tables, &mut sorted.v6);
            self.forward_gathered_v6(tables);
        }
    }

    /// Goes on with a packet whose connection is ours and that another worker received.
    pub(crate) fn take_over(&mut self, tables: &Tables, packet: HandedOver) {
        self.counters.taken_over.add(1);
        let mut packet = match packet {
            HandedOver::V4(packet) => packet,
            HandedOver::V6(packet) => return self.take_over_v6(tables, packet),
        };
        packet.meta.asked += 1;
        if packet.meta.ip.fragment == FragmentPart::Later {
            return self.forward_later_v4(tables, packet);
        }
        self.walk_v4(tables, packet);
    }

    fn take_over_v6(&mut self, tables: &Tables, mut packet: Packet6) {
        packet.meta.asked += 1;
        let route = tables.lookup_v6(packet.meta.vrf, packet.meta.ip.destination, packet.meta.hash);
        self.walk_v6(tables, packet, route);
    }

    /// Sends a frame that the kernel sent on a host interface.
    pub(crate) fn inject(&mut self, tables: &Tables, frame: Inject) {
        self.counters.injected.add(1);
        self.send_frame(tables, frame);
    }

    /// Sends what waited for neighbours that are resolved, and drops what waited too long. Called on a new generation
    /// and about once a millisecond.
    pub(crate) fn tend_held(&mut self, tables: &Tables) {
        if self.hold.is_empty() {
            return;
        }
        let ready = self.hold.take_ready(|held| !waits_for_neighbor(tables, held));
        for held in ready {
            self.resume(tables, held);
        }
        for held in self.hold.take_expired(self.now.0) {
            self.counters.count_drop(Drop::NeighborUnresolved);
            self.host_unreachable(tables, &held);
        }
        self.count_held();
    }

    /// A generation became visible: what depends on it is revalidated from now on.
    pub(crate) fn on_generation(&mut self, tables: &Tables, seen: Generation) {
        self.engine.set_policy(Arc::clone(tables.nat()));
        self.engine
            .on_generation(tables.generation(), &tables.delta_since(seen));
        self.counters.generation.set(tables.generation().0);
    }

    /// Tells of port blocks. What finds the ring full waits: it is told once, and who had a port is asked long after.
    pub(crate) fn report_blocks(&mut self) {
        while !self.events.is_full() {
            let Some(event) = self.engine.next_block_event() else {
                return;
            };
            self.report(Event::PortBlock(event));
        }
    }

    /// Tells of sessions. What finds the ring full waits in the engine, which counts what it has no room for.
    pub(crate) fn report_sessions(&mut self) {
        let Some(ring) = &mut self.sessions else { return };
        while !ring.is_full()
            && let Some(event) = self.engine.next_session_event()
        {
            // There is room.
            let _ = ring.push(event);
        }
    }

    /// Tells a standby what changed, `budget` slots of the connection table at most. What finds the ring full stays noted
    /// in the engine.
    pub(crate) fn report_changes(&mut self, budget: usize) {
        let Some(ring) = &mut self.changes else { return };
        let budget = budget.min(ring.slots());
        self.engine.next_changes(budget, &mut |change| {
            // There is room for as many as were asked for.
            let _ = ring.push(change);
        });
    }

    /// Hands an event to the control plane; lost, not waited for, if its ring is full.
    pub(crate) fn report(&mut self, event: Event) {
        // The ring holds more events than a control plane that is alive lets pile up, and each of them is told again:
        // neighbours are asked for again, counters are read again.
        let _ = self.events.push(event);
    }

    #[cold]
    #[inline(never)]
    fn discard(&self, mbuf: Mbuf, reason: Drop) {
        self.counters.count_drop(reason);
        drop(mbuf);
    }

    /// Gives a frame to the kernel, on the host interface of `interface`. `l3` is the offset of its network header.
    fn punt(&mut self, mut mbuf: Mbuf, interface: InterfaceId, l3: u16, vtep: Option<Ipv4Addr>) {
        if l3 > ETHERNET {
            remove_tag(&mut mbuf, l3);
        }
        match self.punts.push(Punt { mbuf, interface, vtep }) {
            Ok(()) => self.counters.punted.add(1),
            Err(rtrb::PushError::Full(punt)) => self.discard(punt.mbuf, Drop::PuntQueueFull),
        }
    }

    /// Keeps a packet until its neighbour is known, and has the kernel asked.
    fn wait_for_neighbor(&mut self, interface: InterfaceId, address: IpAddr, packet: Held) {
        match self.hold.offer(interface, address, packet, self.now.0) {
            crate::hold::Offer::Ask => self.report(Event::NeighborWanted { interface, address }),
            crate::hold::Offer::Kept => {}
            crate::hold::Offer::Full(held) => self.discard(held.mbuf, Drop::NeighborQueueFull),
        }
        self.count_held();
    }

    fn count_held(&self) {
        self.counters
            .held
            .set((self.hold.len() + self.fragments.held() + self.fragments_v6.held()) as u64);
    }
}

/// Length of an Ethernet header without tag.
const ETHERNET: u16 = 14;
