//! The usual IPv4 packet ([`net::parse::Plain`]), a burst at a time.
//!
//! Of such a packet a lookup needs 24 bytes, and nothing else is written down: all else is read where it is needed, from
//! the packet itself. A burst is taken through one stage after the other, so that the memory accesses of its packets
//! overlap. A packet that turns out not to be usual after all (no route, no neighbour, a connection to look at again)
//! goes on by the general steps of `v4.rs`.

use arrayvec::ArrayVec;
use dpdk_sys::Mbuf;
use nat::{EntryRef, FlowKey, NewPacket, Resolution, Segment, Verdict};
use net::parse::{PlainV4, parse_v4, protocol};
use net::{Drop, NextHopId, PortId, RouteKind, VrfId, eth};
use rib::{Adjacency, Lookup, Tables};

use super::classify::{Gate, Origin, hash_of};
use super::egress::{Run, decrement_ttl, readdress_run, readdress_v4};
use super::v4::is_complete;
use super::{BURST, HandedOver, Packet, Packet4, Packets, Pipeline};

/// Origins in one burst, at most: that of the port, and for each frame one by its tag and one by its tunnel.
const ORIGINS: usize = 2 * BURST + 1;

/// Where the packets of a burst came from.
pub(super) type Origins = ArrayVec<Origin, ORIGINS>;

/// What is known of a usual packet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usual {
    key: FlowKey,
    /// Of the IP packet.
    length: u16,
    tcp_flags: u8,
    /// Position among the burst's [`Origins`].
    origin: u8,
    /// Offset of the IP header.
    l3: u8,
}

impl Usual {
    /// A packet that came through `gate`.
    #[inline(always)]
    pub(super) fn of(ip: PlainV4, gate: &Gate) -> Self {
        Self {
            key: FlowKey::of_words(gate.vrf, ip.protocol, ip.addresses, ip.ports),
            length: ip.total_length,
            tcp_flags: ip.tcp_flags,
            origin: gate.origin,
            l3: gate.l3,
        }
    }

    #[inline(always)]
    fn origin<'a>(&self, origins: &'a [Origin]) -> &'a Origin {
        &origins[usize::from(self.origin)]
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        hash_of(&self.key)
    }
}

/// Usual packets of one burst: their buffers, and in the same order what is known of them.
#[derive(Debug)]
pub(super) struct UsualBurst {
    mbufs: Packets<Mbuf>,
    /// As many as there are buffers count.
    packets: [Usual; BURST],
}

impl UsualBurst {
    pub(super) fn new() -> Self {
        Self {
            mbufs: ArrayVec::new(),
            packets: [Usual::default(); BURST],
        }
    }

    /// Takes the usual packets that a received burst begins with: nearly always all of it, and then none is moved by itself.
    /// Nothing was added before.
    #[inline(always)]
    pub(super) fn take(&mut self, received: &mut Packets<Mbuf>, mut usual: impl FnMut(&Mbuf) -> Option<Usual>) {
        let mut count = 0;
        for mbuf in received.iter() {
            let Some(found) = usual(mbuf) else { break };
            self.packets[count % BURST] = found;
            count += 1;
        }
        if count == received.len() {
            std::mem::swap(&mut self.mbufs, received);
        } else {
            self.mbufs.extend(received.drain(..count));
        }
    }

    /// Adds a packet that came through `gate`.
    #[inline(always)]
    pub(super) fn push(&mut self, mbuf: Mbuf, ip: PlainV4, gate: &Gate) {
        self.add(mbuf, Usual::of(ip, gate));
    }

    #[inline(always)]
    fn add(&mut self, mbuf: Mbuf, usual: Usual) {
        let at = self.mbufs.len();
        self.mbufs.push(mbuf);
        self.packets[at] = usual;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mbufs.is_empty()
    }
}

impl Pipeline {
    /// Takes the usual packets of a burst to their ends; none are left.
    pub(super) fn forward_usual(&mut self, tables: &Tables, burst: &mut UsualBurst, origins: &[Origin]) {
        let mut run = Run::new();
        if tables.nat().is_empty() {
            self.route_usual(tables, burst, origins, &mut run);
        } else if origins.iter().any(|origin| is_tenant(tables, origin.vrf)) {
            self.connect_usual(tables, burst, origins, &mut run);
        } else {
            self.translate_usual(tables, burst, origins, &mut run);
        }
        self.queue_run(&mut run);
    }

    /// Sends packets on by their routes alone.
    fn route_usual(&mut self, tables: &Tables, burst: &mut UsualBurst, origins: &[Origin], run: &mut Run) {
        let UsualBurst { mbufs, packets } = burst;
        let next_hops = tables.next_hops_v4_burst(
            mbufs.len(),
            |i| (packets[i].key.vrf(), packets[i].key.destination()),
            |i| packets[i].hash(),
        );
        let (done, port) = readdress_run(
            tables,
            mbufs,
            |i| (next_hops[i % BURST], packets[i % BURST].length.into()),
            |i, mbuf, header| readdress_v4(mbuf, packets[i % BURST].l3.into(), header),
        );
        if done == mbufs.len() {
            return self.queue_all(port, mbufs);
        }
        run.port = port;
        run.packets.extend(mbufs.drain(..done));
        for (i, mbuf) in (done..).zip(mbufs.drain(..)) {
            self.send_on_usual(tables, mbuf, &packets[i % BURST], next_hops[i % BURST], origins, run);
        }
    }

    /// Sends packets on by their connections, and those without one by their routes.
    fn connect_usual(&mut self, tables: &Tables, burst: &mut UsualBurst, origins: &[Origin], run: &mut Run) {
        let found = self.connections_of(burst);
        let mut others = UsualBurst::new();
        let UsualBurst { mbufs, packets } = burst;
        for (i, mbuf) in mbufs.drain(..).enumerate() {
            let usual = &packets[i % BURST];
            match found[i % BURST] {
                // One of the default VRF is to a public address and would be looked up behind its route.
                Some(at) => self.connected_usual(tables, mbuf, usual, at, origins, run),
                None => others.add(mbuf, *usual),
            }
        }
        if !others.is_empty() {
            self.translate_usual(tables, &mut others, origins, run);
        }
    }

    /// Sends packets on by their routes, or, where these or their VRF say that NAT is concerned, by their connections.
    fn translate_usual(&mut self, tables: &Tables, burst: &mut UsualBurst, origins: &[Origin], run: &mut Run) {
        let packets = &burst.packets;
        let routes = tables.resolve_v4_burst(
            burst.mbufs.len(),
            |i| (packets[i].key.vrf(), packets[i].key.destination()),
            |i| packets[i].hash(),
        );
        let to_public = routes.iter().any(|route| route.kind == RouteKind::Nat);
        let found = if to_public {
            self.connections_of(burst)
        } else {
            [None; BURST]
        };
        let UsualBurst { mbufs, packets } = burst;
        if to_public {
            let new = packets.iter().zip(&routes).zip(&found).take(mbufs.len());
            new.filter(|((_, route), found)| route.kind == RouteKind::Nat && found.is_none())
                .for_each(|((usual, _), _)| self.engine.expect(&usual.key));
        }
        for (i, mbuf) in mbufs.drain(..).enumerate() {
            let (usual, route) = (&packets[i % BURST], routes[i % BURST]);
            match found[i % BURST] {
                Some(at) if route.kind == RouteKind::Nat => {
                    self.connected_usual(tables, mbuf, usual, at, origins, run);
                }
                _ if route.kind == RouteKind::Nat || is_tenant(tables, usual.key.vrf()) => {
                    self.unmatched_usual(tables, mbuf, usual, route, origins, run);
                }
                _ => self.send_on_usual(tables, mbuf, usual, route.next_hop, origins, run),
            }
        }
    }

    /// The connections of a burst's packets, in their order.
    #[inline(always)]
    fn connections_of(&self, burst: &UsualBurst) -> [Option<EntryRef>; BURST] {
        let packets = &burst.packets;
        self.engine.lookup_burst(burst.mbufs.len(), |i| packets[i].key)
    }

    /// A packet of a known connection.
    #[inline(always)]
    fn connected_usual(
        &mut self,
        tables: &Tables,
        mbuf: Mbuf,
        usual: &Usual,
        at: EntryRef,
        origins: &[Origin],
        run: &mut Run,
    ) {
        let entry = self.engine.entry(at);
        let adjacency = tables.adjacency(entry.next_hop());
        let fresh = self.engine.is_current(at, tables.generation());
        if !(fresh && usual.length <= adjacency.mtu) {
            return self.reconsider_usual(tables, mbuf, usual, at, origins);
        }
        match adjacency.ethernet() {
            Some(header) => {
                if let Some(mbuf) = self.translate(tables, mbuf, usual, at, origins) {
                    self.readdress_usual(mbuf, usual, adjacency.port, header, run);
                }
            }
            None => self.connected_aside(tables, mbuf, usual, at, adjacency, origins),
        }
    }

    /// The same where the next hop has a VLAN tag or a tunnel, or is no way out.
    #[inline(never)]
    fn connected_aside(
        &mut self,
        tables: &Tables,
        mbuf: Mbuf,
        usual: &Usual,
        at: EntryRef,
        adjacency: &Adjacency,
        origins: &[Origin],
    ) {
        if !is_complete(adjacency.kind) {
            return self.reconsider_usual(tables, mbuf, usual, at, origins);
        }
        if let Some(mbuf) = self.translate(tables, mbuf, usual, at, origins) {
            self.encapsulate_usual(mbuf, usual, adjacency);
        }
    }

    /// Counts and rewrites a packet of a connection; `None` if its walk ended.
    #[inline(always)]
    fn translate(
        &mut self,
        tables: &Tables,
        mut mbuf: Mbuf,
        usual: &Usual,
        at: EntryRef,
        origins: &[Origin],
    ) -> Option<Mbuf> {
        let l3 = usize::from(usual.l3);
        let packet = mbuf.data().get(l3..).unwrap_or_default();
        let segment = Segment::of(packet, PlainV4::LAYER_4, usual.tcp_flags);
        if !self.engine.hit_quietly(at, segment, usual.length, self.now) {
            let hit = self.engine.advance(at, segment);
            if let Some(reason) = hit.refused {
                self.refuse_usual(tables, mbuf, usual.origin(origins), reason);
                return None;
            }
            if hit.offload {
                self.request_offload(tables, self.engine.id_of(at));
            }
        }
        let packet = mbuf.data_mut().get_mut(l3..l3 + PlainV4::HEADERS);
        let Some(packet) = packet.and_then(<[u8]>::first_chunk_mut) else {
            // It had them when it was parsed.
            self.discard(mbuf, Drop::Ipv4Malformed);
            return None;
        };
        let tcp = usual.key.protocol() == protocol::TCP;
        self.engine.entry(at).rewrite().apply_plain(packet, tcp);
        Some(mbuf)
    }

    /// A packet without a connection where NAT has a say.
    fn unmatched_usual(
        &mut self,
        tables: &Tables,
        mbuf: Mbuf,
        usual: &Usual,
        route: Lookup,
        origins: &[Origin],
        run: &mut Run,
    ) {
        let origin = usual.origin(origins);
        if route.kind == RouteKind::Local || usual.length > tables.adjacency(route.next_hop).mtu {
            if let Some(packet) = self.general_v4(mbuf, origin) {
                self.unmatched_v4(tables, packet, route);
            }
            return;
        }
        let key = &usual.key;
        let new = NewPacket {
            vrf: key.vrf(),
            protocol: key.protocol(),
            source: key.source().into(),
            destination: key.destination().into(),
            source_port: key.source_port(),
            destination_port: key.destination_port(),
            tcp_flags: usual.tcp_flags,
            icmp_type: 0,
            fragment_later: false,
            length: usual.length,
            flow_hash: usual.hash(),
        };
        let resolution = Resolution {
            next_hop: route.next_hop,
            vrf: route.vrf,
            kind: route.kind,
        };
        match self.engine.miss(&new, resolution, tables, self.now) {
            Verdict::Connection(at) => self.connected_usual(tables, mbuf, usual, at, origins, run),
            Verdict::Forward => self.send_on_usual(tables, mbuf, usual, route.next_hop, origins, run),
            Verdict::HandOver(worker) => {
                if let Some(packet) = self.general_v4(mbuf, origin) {
                    self.hand_over(HandedOver::V4(packet), worker);
                }
            }
            Verdict::Drop(reason) => self.refuse_usual(tables, mbuf, origin, reason),
        }
    }

    /// Forwards by the route alone.
    #[inline(always)]
    fn send_on_usual(
        &mut self,
        tables: &Tables,
        mbuf: Mbuf,
        usual: &Usual,
        next_hop: NextHopId,
        origins: &[Origin],
        run: &mut Run,
    ) {
        let adjacency = tables.adjacency(next_hop);
        match adjacency.ethernet() {
            Some(header) if usual.length <= adjacency.mtu => {
                self.readdress_usual(mbuf, usual, adjacency.port, header, run);
            }
            None if usual.length <= adjacency.mtu && is_complete(adjacency.kind) => {
                self.encapsulate_usual(mbuf, usual, adjacency);
            }
            _ => self.divert_usual(tables, mbuf, usual, origins),
        }
    }

    /// Sends a packet that nothing but a TTL less and another Ethernet header stands between and its next hop.
    #[inline(always)]
    fn readdress_usual(
        &mut self,
        mut mbuf: Mbuf,
        usual: &Usual,
        port: PortId,
        header: &[u8; eth::LENGTH],
        run: &mut Run,
    ) {
        if readdress_v4(&mut mbuf, usual.l3.into(), header).is_none() {
            return self.discard(mbuf, Drop::HeadroomExhausted);
        }
        if run.port != port {
            self.queue_run(run);
            run.port = port;
        }
        run.packets.push(mbuf);
    }

    /// Sends a packet behind a VLAN tag or into a tunnel.
    #[inline(never)]
    fn encapsulate_usual(&mut self, mut mbuf: Mbuf, usual: &Usual, adjacency: &Adjacency) {
        let l3 = usual.l3.into();
        decrement_ttl(&mut mbuf, l3);
        let ether_type = eth::ether_type::IPV4;
        self.encapsulate(mbuf, l3, usual.length, ether_type, usual.hash(), adjacency);
    }

    /// The packet as the general steps take it, while nothing was done to it.
    #[cold]
    #[inline(never)]
    fn general_v4(&self, mbuf: Mbuf, origin: &Origin) -> Option<Packet4> {
        match parse_v4(mbuf.data().get(usize::from(origin.l3)..).unwrap_or_default()) {
            Ok(ip) => Some(Packet {
                meta: origin.meta_v4(ip),
                mbuf,
            }),
            Err(reason) => {
                self.discard(mbuf, reason);
                None
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn reconsider_usual(&mut self, tables: &Tables, mbuf: Mbuf, usual: &Usual, at: EntryRef, origins: &[Origin]) {
        if let Some(packet) = self.general_v4(mbuf, usual.origin(origins)) {
            self.connected_v4(tables, packet, at);
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse_usual(&mut self, tables: &Tables, mbuf: Mbuf, origin: &Origin, reason: Drop) {
        if let Some(packet) = self.general_v4(mbuf, origin) {
            self.refuse_v4(tables, packet, reason);
        }
    }

    /// A packet that does not simply go on by its route.
    #[cold]
    #[inline(never)]
    fn divert_usual(&mut self, tables: &Tables, mbuf: Mbuf, usual: &Usual, origins: &[Origin]) {
        let route = tables.lookup_v4(usual.key.vrf(), usual.key.destination(), usual.hash());
        if let Some(packet) = self.general_v4(mbuf, usual.origin(origins)) {
            self.send_on_v4(tables, packet, route);
        }
    }
}

/// True if the sources of a VRF are translated.
#[inline(always)]
fn is_tenant(tables: &Tables, vrf: VrfId) -> bool {
    vrf != VrfId::DEFAULT && tables.nat().translates(vrf)
}
