//! IPv4: connection, route, NAT, and on to the next hop.

use std::net::{IpAddr, Ipv4Addr};

use arrayvec::ArrayVec;
use dpdk_sys::Mbuf;
use nat::{EntryRef, FlowKey, IcmpVerdict, NewPacket, Outcome, Resolution, Verdict};
use net::parse::{FragmentPart, protocol};
use net::{Drop, NextHopId, RouteKind, VrfId, eth, icmp};
use rib::{Adjacency, AdjacencyKind, Lookup, Tables};

use super::egress::decrement_ttl;
use super::{BURST, Packet4, Packets, Pipeline};
use crate::hold::Held;

/// The way of a packet to its next hop, decided.
#[derive(Debug, Clone, Copy)]
struct Way {
    next_hop: NextHopId,
    /// VRF that the next hop is in.
    vrf: VrfId,
    /// Destination after translation.
    destination: u32,
}

impl Pipeline {
    /// Takes the IPv4 packets of a burst to their ends; `packets` is empty afterwards. Packets are large to move: they
    /// stay where they are until their way is known.
    pub(super) fn forward_v4(&mut self, tables: &Tables, packets: &mut Packets<Packet4>) {
        let policy = tables.nat();
        if policy.is_empty() {
            return self.route_v4(tables, packets, false);
        }
        let tenant = |p: &Packet4| p.taken_over || p.vrf != VrfId::DEFAULT && policy.translates(p.vrf);
        if !packets.iter().any(tenant) {
            return self.route_v4(tables, packets, true);
        }
        let mut keys: ArrayVec<FlowKey, BURST> = ArrayVec::new();
        keys.extend(packets.iter().map(key_of));
        let mut found = [None; BURST];
        self.engine.lookup_burst(&keys, &mut found[..keys.len()]);
        let mut plain = Packets::new();
        for (packet, at) in packets.drain(..).zip(found) {
            match at {
                // One of the default VRF is to a public address and would be looked up behind its route.
                Some(at) => self.connected_v4(tables, packet, at),
                None => plain.push(packet),
            }
        }
        if !plain.is_empty() {
            self.route_v4(tables, &mut plain, true);
        }
    }

    /// Looks up routes for a burst and acts on them.
    fn route_v4(&mut self, tables: &Tables, packets: &mut Packets<Packet4>, nat: bool) {
        let mut queries: ArrayVec<(VrfId, u32, u32), BURST> = ArrayVec::new();
        queries.extend(packets.iter().map(|p| (p.vrf, p.ip.destination, p.hash)));
        let mut ways = [Lookup::default(); BURST];
        tables.resolve_v4_burst(&queries, &mut ways[..queries.len()]);
        let routes = &ways[..queries.len()];
        if !nat {
            for (packet, route) in packets.drain(..).zip(routes) {
                self.send_on_v4(tables, packet, *route);
            }
            return;
        }
        let mut found = [None; BURST];
        if routes.iter().any(|route| route.kind == RouteKind::Nat) {
            let mut keys: ArrayVec<FlowKey, BURST> = ArrayVec::new();
            keys.extend(packets.iter().map(key_of));
            self.engine.lookup_burst(&keys, &mut found[..keys.len()]);
        }
        for ((packet, route), at) in packets.drain(..).zip(routes).zip(found) {
            match at {
                Some(at) if route.kind == RouteKind::Nat => self.connected_v4(tables, packet, at),
                _ => self.routed_v4(tables, packet, *route),
            }
        }
    }

    /// A packet of a known connection.
    #[inline(always)]
    fn connected_v4(&mut self, tables: &Tables, packet: Packet4, at: EntryRef) {
        if self.engine.entry(at).stamp() != tables.generation().0 as u32 {
            let id = self.engine.id_of(at);
            match self.engine.revalidate_one(at, tables) {
                Outcome::Kept => {}
                // Without a route, `hit` refuses the packet below, as it does the ones after it.
                outcome @ (Outcome::Moved | Outcome::Unrouted) => self.reoffload(tables, id, outcome),
                outcome @ Outcome::Ended(reason) => {
                    self.reoffload(tables, id, outcome);
                    return self.discard(packet.mbuf, reason);
                }
            }
        }
        let entry = self.engine.entry(at);
        let (next_hop, vrf, rewrite) = (entry.next_hop(), entry.egress_vrf(), *entry.rewrite());
        let Some(mut packet) = self.admit_v4(tables, packet, next_hop) else {
            return;
        };
        let hit = self
            .engine
            .hit(at, packet.ip.tcp_flags, packet.ip.total_length, self.now);
        if let Some(reason) = hit.refused {
            return self.refuse_v4(tables, packet, reason);
        }
        let l3 = usize::from(packet.l3);
        let bytes = &mut packet.mbuf.data_mut()[l3..];
        rewrite.apply(bytes, usize::from(packet.ip.l4), packet.ip.protocol);
        let destination = rewrite.destination();
        if hit.offload {
            self.request_offload(tables, self.engine.id_of(at));
        }
        self.transmit_v4(
            tables,
            packet,
            Way {
                next_hop,
                vrf,
                destination,
            },
        );
    }

    /// A packet without a connection where NAT has a say.
    fn routed_v4(&mut self, tables: &Tables, packet: Packet4, route: Lookup) {
        let tenant = packet.vrf != VrfId::DEFAULT && tables.nat().translates(packet.vrf);
        let concerned = tenant || route.kind == RouteKind::Nat;
        if !concerned || (route.kind == RouteKind::Local && route.vrf == packet.vrf) {
            return self.send_on_v4(tables, packet, route);
        }
        let whole_icmp = packet.ip.protocol == protocol::ICMP && packet.ip.fragment == FragmentPart::Whole;
        if whole_icmp && icmp::is_error(packet.ip.icmp_type) {
            return self.icmp_error_v4(tables, packet, route);
        }
        let Some(packet) = self.admit_v4(tables, packet, route.next_hop) else {
            return;
        };
        let new = NewPacket {
            vrf: packet.vrf,
            protocol: packet.ip.protocol,
            source: packet.ip.source,
            destination: packet.ip.destination,
            source_port: packet.ip.source_port,
            destination_port: packet.ip.destination_port,
            tcp_flags: packet.ip.tcp_flags,
            icmp_type: packet.ip.icmp_type,
            fragment_later: packet.ip.fragment == FragmentPart::Later,
            length: packet.ip.total_length,
            flow_hash: packet.hash,
        };
        let resolution = Resolution {
            next_hop: route.next_hop,
            vrf: route.vrf,
            kind: route.kind,
        };
        match self.engine.miss(&new, resolution, tables, self.now) {
            Verdict::Connection(at) => self.connected_v4(tables, packet, at),
            Verdict::Forward => self.send_on_v4(tables, packet, route),
            Verdict::HandOver(worker) => self.hand_over(packet, worker),
            Verdict::Drop(reason) => self.refuse_v4(tables, packet, reason),
        }
    }

    /// Drops a packet that has no way, and tells its sender where a packet without NAT would have been told.
    #[cold]
    fn refuse_v4(&mut self, tables: &Tables, packet: Packet4, reason: Drop) {
        let error = match reason {
            Drop::NoRoute => Some(icmp::Error::NetUnreachable),
            Drop::Unreachable => Some(icmp::Error::HostUnreachable),
            Drop::Prohibited => Some(icmp::Error::AdminProhibited),
            _ => None,
        };
        if let Some(error) = error {
            self.answer_v4(tables, &packet, error);
        }
        self.discard(packet.mbuf, reason);
    }

    /// An ICMP error about a translated packet (RFC 5508 section 4).
    fn icmp_error_v4(&mut self, tables: &Tables, mut packet: Packet4, route: Lookup) {
        if packet.ip.ttl <= 1 {
            return self.discard(packet.mbuf, Drop::TtlExpired);
        }
        let range = usize::from(packet.l3)..usize::from(packet.l3) + usize::from(packet.ip.total_length);
        let Some(bytes) = packet.mbuf.data_mut().get_mut(range) else {
            return self.discard(packet.mbuf, Drop::Ipv4Malformed);
        };
        match self.engine.icmp_error(packet.vrf, bytes, tables, self.now) {
            IcmpVerdict::Translated(way) => {
                let destination = destination_of(&packet.mbuf, packet.l3);
                self.transmit_v4(
                    tables,
                    packet,
                    Way {
                        next_hop: way.next_hop,
                        vrf: way.vrf,
                        destination,
                    },
                );
            }
            IcmpVerdict::NotOurs if route.kind == RouteKind::Nat => self.discard(packet.mbuf, Drop::NatNoMapping),
            IcmpVerdict::NotOurs => self.send_on_v4(tables, packet, route),
            IcmpVerdict::HandOver(worker) => self.hand_over(packet, worker),
            IcmpVerdict::Drop(reason) => self.discard(packet.mbuf, reason),
        }
    }

    /// Forwards by the route alone.
    #[inline(always)]
    fn send_on_v4(&mut self, tables: &Tables, packet: Packet4, route: Lookup) {
        let Some(packet) = self.admit_v4(tables, packet, route.next_hop) else {
            return;
        };
        let way = Way {
            next_hop: route.next_hop,
            vrf: route.vrf,
            destination: packet.ip.destination,
        };
        self.transmit_v4(tables, packet, way);
    }

    /// Checks what must hold before a packet is translated, so that an ICMP error quotes it as its sender sent it: TTL
    /// and size. `None` means that it was answered and dropped.
    #[inline(always)]
    fn admit_v4(&mut self, tables: &Tables, packet: Packet4, next_hop: NextHopId) -> Option<Packet4> {
        let adjacency = tables.adjacency(next_hop);
        if packet.ip.ttl > 1 && packet.ip.total_length <= adjacency.mtu {
            return Some(packet);
        }
        self.examine_v4(tables, packet, adjacency)
    }

    #[cold]
    fn examine_v4(&mut self, tables: &Tables, packet: Packet4, adjacency: &Adjacency) -> Option<Packet4> {
        if !leaves(adjacency.kind) {
            return Some(packet);
        }
        if packet.ip.ttl <= 1 {
            self.answer_v4(tables, &packet, icmp::Error::TimeExceeded);
            self.discard(packet.mbuf, Drop::TtlExpired);
            return None;
        }
        if packet.ip.total_length > adjacency.mtu && packet.ip.dont_fragment {
            self.answer_v4(tables, &packet, icmp::Error::FragmentationNeeded { mtu: adjacency.mtu });
            self.discard(packet.mbuf, Drop::PacketTooBig);
            return None;
        }
        Some(packet)
    }

    /// Sends a packet, translated if need be, to its next hop.
    #[inline(always)]
    fn transmit_v4(&mut self, tables: &Tables, mut packet: Packet4, way: Way) {
        let adjacency = tables.adjacency(way.next_hop);
        if !matches!(adjacency.kind, AdjacencyKind::Forward | AdjacencyKind::Vxlan) {
            return self.end_v4(tables, packet, way, adjacency);
        }
        decrement_ttl(&mut packet.mbuf, packet.l3);
        if packet.ip.total_length > adjacency.mtu {
            return self.fragment_v4(packet, adjacency);
        }
        self.encapsulate(
            packet.mbuf,
            packet.l3,
            packet.ip.total_length,
            eth::ether_type::IPV4,
            packet.hash,
            adjacency,
        );
    }

    /// Ends the walk of a packet whose next hop is not (yet) a way out.
    #[cold]
    fn end_v4(&mut self, tables: &Tables, packet: Packet4, way: Way, adjacency: &Adjacency) {
        let destination = IpAddr::V4(Ipv4Addr::from(way.destination));
        let (answer, reason) = match adjacency.kind {
            AdjacencyKind::Glean | AdjacencyKind::Incomplete => {
                let address = adjacency.gateway.unwrap_or(destination);
                let held = Held {
                    own: false,
                    mbuf: packet.mbuf,
                    l3: packet.l3,
                    ingress: packet.ingress,
                    vrf: way.vrf,
                    destination,
                    hash: packet.hash,
                };
                return self.wait_for_neighbor(adjacency.interface, address, held);
            }
            AdjacencyKind::Local if way.vrf == packet.vrf => return self.deliver_v4(tables, packet),
            // A tenant's way to the gateway's own addresses in another VRF: the host could not answer it.
            AdjacencyKind::Local | AdjacencyKind::Prohibit => (Some(icmp::Error::AdminProhibited), Drop::Prohibited),
            AdjacencyKind::VrfLoop => (None, Drop::VrfLoop),
            AdjacencyKind::NoRoute => (Some(icmp::Error::NetUnreachable), Drop::NoRoute),
            AdjacencyKind::Unreachable => (Some(icmp::Error::HostUnreachable), Drop::Unreachable),
            AdjacencyKind::Nat => (None, Drop::NatNoMapping),
            AdjacencyKind::Blackhole | AdjacencyKind::Forward | AdjacencyKind::Vxlan => (None, Drop::Blackhole),
        };
        if let Some(error) = answer {
            self.answer_v4(tables, &packet, error);
        }
        self.discard(packet.mbuf, reason);
    }

    /// A packet to an address of the gateway. The kernel answers for the default VRF. VPCs may have equal addresses,
    /// which one kernel table could not tell apart, so that echo is answered here; ARP and the rest is the kernel's.
    fn deliver_v4(&mut self, tables: &Tables, mut packet: Packet4) {
        let echo = packet.ip.protocol == protocol::ICMP
            && packet.ip.icmp_type == icmp::kind::ECHO_REQUEST
            && packet.ip.fragment == FragmentPart::Whole;
        if packet.vrf == VrfId::DEFAULT || !echo {
            return self.punt(packet.mbuf, packet.ingress, packet.l3, packet.vtep);
        }
        let range = usize::from(packet.l3)..usize::from(packet.l3) + usize::from(packet.ip.total_length);
        let Some(bytes) = packet.mbuf.data_mut().get_mut(range) else {
            return self.discard(packet.mbuf, Drop::Ipv4Malformed);
        };
        match icmp::echo_reply_in_place(bytes) {
            Ok(true) => {}
            Ok(false) => return self.punt(packet.mbuf, packet.ingress, packet.l3, packet.vtep),
            Err(reason) => return self.discard(packet.mbuf, reason),
        }
        self.resume(
            tables,
            Held {
                own: true,
                mbuf: packet.mbuf,
                l3: packet.l3,
                ingress: packet.ingress,
                vrf: packet.vrf,
                destination: IpAddr::V4(Ipv4Addr::from(packet.ip.source)),
                hash: packet.hash,
            },
        );
    }

    /// Gives a packet to the worker that owns its connection.
    fn hand_over(&mut self, packet: Packet4, worker: u16) {
        let ring = self.handover.get_mut(usize::from(worker)).and_then(Option::as_mut);
        match ring.map(|ring| ring.push(packet)) {
            Some(Ok(())) => self.counters.handed_over.add(1),
            Some(Err(rtrb::PushError::Full(packet))) => self.discard(packet.mbuf, Drop::HandoverQueueFull),
            None => self.counters.count_drop(Drop::HandoverQueueFull),
        }
    }
}

/// True if a packet with this next hop leaves the gateway, at once or when the neighbour is known.
pub(super) fn leaves(kind: AdjacencyKind) -> bool {
    use AdjacencyKind::{Forward, Glean, Incomplete, Vxlan};
    matches!(kind, Forward | Vxlan | Glean | Incomplete)
}

/// Destination address of the IPv4 packet at `l3`, host order.
fn destination_of(mbuf: &Mbuf, l3: u16) -> u32 {
    let at = usize::from(l3) + 16;
    mbuf.data()
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

#[inline]
fn key_of(packet: &Packet4) -> FlowKey {
    let ip = &packet.ip;
    FlowKey::v4(
        packet.vrf,
        ip.protocol,
        ip.source,
        ip.destination,
        ip.source_port,
        ip.destination_port,
    )
}
