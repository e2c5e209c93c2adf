//! IPv6 where NAT has a say, packet by packet: connection, policy, and on to the next hop. As `v4.rs` for IPv4.

use nat::{EntryRef, Flow, IcmpVerdict, NewPacket, Outcome, Resolution, Segment, Verdict};
use net::parse::{FragmentPart, V6, parse_v6, protocol};
use net::{Drop, NextHopId, RouteKind, VrfId, eth, icmpv6};
use rib::{AdjacencyKind, Lookup, Tables};

use super::gather::lacks_ports_v6;
use super::v4::{is_complete, leaves};
use super::v6::length_of;
use super::{HandedOver, Meta, Packet6, Pipeline};

impl Pipeline {
    /// Takes one IPv6 packet to its end.
    pub(super) fn route_v6(&mut self, tables: &Tables, packet: Packet6) {
        let (policy, meta) = (tables.nat(), &packet.meta);
        let route = tables.lookup_v6(meta.vrf, meta.ip.destination, meta.hash);
        let tenant = meta.vrf != VrfId::DEFAULT && policy.translates_v6(meta.vrf);
        match tenant || route.kind == RouteKind::Nat {
            true => self.translate_v6(tables, packet, route),
            false => self.send_on_v6(tables, packet, route),
        }
    }

    /// A packet that NAT may be about: its VRF has rules, or its route says so.
    pub(super) fn translate_v6(&mut self, tables: &Tables, packet: Packet6, route: Lookup) {
        let Some(packet) = self.exchange_prefix(tables, packet, route) else {
            return;
        };
        let meta = &packet.meta;
        if meta.ip.fragment != FragmentPart::Whole && tables.nat().gathers(meta.vrf, meta.ip.destination.into()) {
            return self.gather_v6(tables, packet);
        }
        self.walk_v6(tables, packet, route);
    }

    /// The same once its ports are known.
    pub(super) fn walk_v6(&mut self, tables: &Tables, packet: Packet6, route: Lookup) {
        let found = match lacks_ports_v6(&packet.meta.ip) {
            true => None,
            false => self.engine.find(&flow_of(&packet.meta)),
        };
        match found {
            Some(at) => self.connected_v6(tables, packet, at),
            None => self.unmatched_v6(tables, packet, route),
        }
    }

    /// A packet of a known connection.
    fn connected_v6(&mut self, tables: &Tables, packet: Packet6, at: EntryRef) {
        if !self.engine.is_current(at, tables.generation()) {
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
        let (next_hop, vrf) = (entry.next_hop(), entry.egress_vrf());
        let Some(mut packet) = self.admit_v6(tables, packet, next_hop) else {
            return;
        };
        let (l3, l4) = (usize::from(packet.meta.l3), usize::from(packet.meta.ip.l4));
        let length = length_of(&packet.meta.ip);
        let later = packet.meta.ip.fragment == FragmentPart::Later;
        let hit = match later {
            true => self.engine.hit_fragment(at, length, self.now),
            false => {
                let segment = Segment::of(&packet.mbuf.data()[l3..], l4, packet.meta.ip.tcp_flags);
                self.engine.hit(at, segment, length, self.now)
            }
        };
        if let Some(reason) = hit.refused {
            return self.deny_v6(tables, packet, reason);
        }
        let rewrite = self.engine.rewrite_v6(at);
        let bytes = &mut packet.mbuf.data_mut()[l3..];
        match later {
            true => rewrite.apply_to_fragment(bytes),
            false => rewrite.apply(bytes, l4, packet.meta.ip.protocol),
        }
        if tables.adjacency(next_hop).kind == AdjacencyKind::Nat {
            return self.turn_back_v6(tables, packet, rewrite.ports());
        }
        if hit.offload {
            self.request_offload(tables, self.engine.id_of(at));
        }
        packet.meta.ip.destination = rewrite.destination().to_bits();
        let way = Lookup {
            next_hop,
            vrf,
            kind: RouteKind::Unicast,
        };
        self.transmit_v6(tables, packet, way);
    }

    /// Hairpinning: see [`Pipeline::turn_back_v4`].
    #[cold]
    fn turn_back_v6(&mut self, tables: &Tables, mut packet: Packet6, ports: (u16, u16)) {
        if packet.meta.vrf == VrfId::DEFAULT {
            return self.discard(packet.mbuf, Drop::NatNoMapping);
        }
        let bytes = packet.mbuf.data().get(usize::from(packet.meta.l3)..);
        packet.meta.ip = match parse_v6(bytes.unwrap_or_default()) {
            Ok(ip) => ip,
            Err(reason) => return self.discard(packet.mbuf, reason),
        };
        packet.meta.vrf = VrfId::DEFAULT;
        self.counters.hairpinned.add(1);
        let ip = &mut packet.meta.ip;
        if ip.fragment == FragmentPart::Later {
            (ip.source_port, ip.destination_port) = ports;
        }
        let route = tables.lookup_v6(VrfId::DEFAULT, ip.destination, packet.meta.hash);
        self.walk_v6(tables, packet, route);
    }

    /// A packet without a connection where NAT has a say.
    fn unmatched_v6(&mut self, tables: &Tables, packet: Packet6, route: Lookup) {
        let (meta, ip) = (&packet.meta, &packet.meta.ip);
        if route.kind == RouteKind::Local && route.vrf == meta.vrf {
            return self.send_on_v6(tables, packet, route);
        }
        let whole_icmp = ip.protocol == protocol::ICMPV6 && ip.fragment == FragmentPart::Whole;
        if whole_icmp && icmpv6::is_error(ip.icmp_type) {
            return self.icmp_error_v6(tables, packet, route);
        }
        let Some(packet) = self.admit_v6(tables, packet, route.next_hop) else {
            return;
        };
        let ip = &packet.meta.ip;
        let new = NewPacket {
            vrf: packet.meta.vrf,
            protocol: ip.protocol,
            source: ip.source.into(),
            destination: ip.destination.into(),
            source_port: ip.source_port,
            destination_port: ip.destination_port,
            tcp_flags: ip.tcp_flags,
            icmp_type: ip.icmp_type,
            fragment_later: lacks_ports_v6(ip),
            length: length_of(ip),
            flow_hash: packet.meta.hash,
        };
        let resolution = Resolution {
            next_hop: route.next_hop,
            vrf: route.vrf,
            kind: route.kind,
        };
        match self.engine.miss(&new, resolution, tables, self.now) {
            Verdict::Connection(at) => self.connected_v6(tables, packet, at),
            Verdict::Forward => self.send_on_v6(tables, packet, route),
            Verdict::HandOver(worker) => self.hand_over(HandedOver::V6(packet), worker),
            Verdict::Drop(reason) => self.deny_v6(tables, packet, reason),
        }
    }

    /// Drops a packet that has no way, and tells its sender where a packet without NAT would have been told.
    #[cold]
    pub(super) fn deny_v6(&mut self, tables: &Tables, packet: Packet6, reason: Drop) {
        let error = match reason {
            Drop::NoRoute => Some(icmpv6::Error::NoRoute),
            Drop::Unreachable => Some(icmpv6::Error::AddressUnreachable),
            Drop::Prohibited => Some(icmpv6::Error::AdminProhibited),
            _ => None,
        };
        if let Some(error) = error {
            self.answer_v6(tables, &packet, error);
        }
        self.discard(packet.mbuf, reason);
    }

    /// An ICMPv6 error about a translated packet.
    fn icmp_error_v6(&mut self, tables: &Tables, mut packet: Packet6, route: Lookup) {
        if packet.meta.ip.hop_limit <= 1 {
            return self.discard(packet.mbuf, Drop::TtlExpired);
        }
        let l3 = usize::from(packet.meta.l3);
        let range = l3..l3 + usize::from(length_of(&packet.meta.ip));
        let Some(bytes) = packet.mbuf.data_mut().get_mut(range) else {
            return self.discard(packet.mbuf, Drop::Ipv6Malformed);
        };
        let (vrf, asked) = (packet.meta.vrf, packet.meta.asked);
        match self.engine.icmpv6_error(vrf, bytes, asked, tables, self.now) {
            IcmpVerdict::Translated(way) if tables.adjacency(way.next_hop).kind == AdjacencyKind::Nat => {
                self.turn_back_v6(tables, packet, (0, 0));
            }
            IcmpVerdict::Translated(way) => {
                let bytes = packet.mbuf.data().get(l3..).unwrap_or_default();
                match parse_v6(bytes) {
                    Ok(ip) => packet.meta.ip = ip,
                    Err(reason) => return self.discard(packet.mbuf, reason),
                }
                let way = Lookup {
                    next_hop: way.next_hop,
                    vrf: way.vrf,
                    kind: way.kind,
                };
                self.transmit_v6(tables, packet, way);
            }
            IcmpVerdict::NotOurs if route.kind == RouteKind::Nat => self.discard(packet.mbuf, Drop::NatNoMapping),
            IcmpVerdict::NotOurs => self.send_on_v6(tables, packet, route),
            IcmpVerdict::HandOver(worker) => self.hand_over(HandedOver::V6(packet), worker),
            IcmpVerdict::Drop(reason) => self.discard(packet.mbuf, reason),
        }
    }

    /// Checks what must hold before a packet is translated, so that an ICMPv6 error quotes it as its sender sent it: hop
    /// limit and size. `None` means that it was answered and dropped.
    pub(super) fn admit_v6(&mut self, tables: &Tables, packet: Packet6, next_hop: NextHopId) -> Option<Packet6> {
        let adjacency = tables.adjacency(next_hop);
        let ip = &packet.meta.ip;
        if (ip.hop_limit > 1 && length_of(ip) <= adjacency.mtu) || !leaves(adjacency.kind) {
            return Some(packet);
        }
        self.refuse_v6(tables, packet, adjacency);
        None
    }

    /// Sends a packet that [`Pipeline::admit_v6`] let pass to its next hop; its destination in `meta` is the one that it
    /// leaves with.
    pub(super) fn transmit_v6(&mut self, tables: &Tables, mut packet: Packet6, way: Lookup) {
        let adjacency = tables.adjacency(way.next_hop);
        if !is_complete(adjacency.kind) {
            return self.end_v6(tables, packet, way, adjacency);
        }
        let length = length_of(&packet.meta.ip);
        if length > adjacency.mtu {
            // An error of a router that quotes more than there is room for on the way back.
            return self.discard(packet.mbuf, Drop::PacketTooBig);
        }
        packet.mbuf.data_mut()[usize::from(packet.meta.l3) + 7] -= 1;
        let (l3, hash) = (packet.meta.l3, packet.meta.hash);
        self.encapsulate(packet.mbuf, l3, length, eth::ether_type::IPV6, hash, adjacency);
    }
}

/// What a packet's connection is found by.
pub(super) fn flow_of(meta: &Meta<V6>) -> Flow {
    let ip = &meta.ip;
    Flow {
        vrf: meta.vrf,
        protocol: ip.protocol,
        source: ip.source.into(),
        destination: ip.destination.into(),
        source_port: ip.source_port,
        destination_port: ip.destination_port,
    }
}
