//! IPv4, packet by packet, whatever it is: connection, route, NAT, and on to the next hop.

use std::net::{IpAddr, Ipv4Addr};

use dpdk_sys::Mbuf;
use nat::{EntryRef, FlowKey, IcmpVerdict, NewPacket, Outcome, Resolution, Segment, Verdict};
use net::parse::{FragmentPart, V4, protocol};
use net::{Drop, NextHopId, RouteKind, VrfId, eth, icmp, parse_v4};
use rib::{Adjacency, AdjacencyKind, Lookup, Tables};

use super::egress::decrement_ttl;
use super::gather::lacks_ports;
use super::{HandedOver, Meta, Packet4, Pipeline};
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
    /// Takes one IPv4 packet to its end.
    pub(super) fn walk_v4(&mut self, tables: &Tables, packet: Packet4) {
        let (policy, meta) = (tables.nat(), &packet.meta);
        let route = |meta: &Meta<V4>| tables.lookup_v4(meta.vrf, meta.ip.destination, meta.hash);
        if policy.is_empty() {
            let route = route(meta);
            return self.send_on_v4(tables, packet, route);
        }
        let tenant = meta.vrf != VrfId::DEFAULT && policy.translates(meta.vrf);
        let first = tenant || meta.asked > 0;
        if first && let Some(at) = self.engine.lookup(&key_of(meta)) {
            return self.connected_v4(tables, packet, at);
        }
        let route = route(meta);
        let public = route.kind == RouteKind::Nat;
        if public && let Some(at) = self.engine.lookup(&key_of(meta)) {
            return self.connected_v4(tables, packet, at);
        }
        if tenant || public {
            self.unmatched_v4(tables, packet, route);
        } else {
            self.send_on_v4(tables, packet, route);
        }
    }

    /// A packet of a known connection.
    pub(super) fn connected_v4(&mut self, tables: &Tables, packet: Packet4, at: EntryRef) {
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
        let (next_hop, vrf, rewrite) = (entry.next_hop(), entry.egress_vrf(), *entry.rewrite());
        let Some(mut packet) = self.admit_v4(tables, packet, next_hop) else {
            return;
        };
        let l4 = usize::from(packet.meta.ip.l4);
        let (l3, protocol) = (usize::from(packet.meta.l3), packet.meta.ip.protocol);
        let later = packet.meta.ip.fragment == FragmentPart::Later;
        let hit = if later {
            self.engine.hit_fragment(at, packet.meta.ip.total_length, self.now)
        } else {
            let segment = Segment::of(&packet.mbuf.data()[l3..], l4, packet.meta.ip.tcp_flags);
            self.engine.hit(at, segment, packet.meta.ip.total_length, self.now)
        };
        if let Some(reason) = hit.refused {
            return self.refuse_v4(tables, packet, reason);
        }
        let bytes = &mut packet.mbuf.data_mut()[l3..];
        if later {
            rewrite.apply_to_fragment(bytes, l4);
        } else {
            rewrite.apply(bytes, l4, protocol);
        }
        let destination = rewrite.destination();
        if tables.adjacency(next_hop).kind == AdjacencyKind::Nat {
            let ports = (rewrite.source_port(), rewrite.destination_port());
            return self.turn_back_v4(tables, packet, ports);
        }
        if hit.offload {
            self.request_offload(tables, self.engine.id_of(at));
        }
        let way = Way {
            next_hop,
            vrf,
            destination,
        };
        self.transmit_v4(tables, packet, way);
    }

    /// Hairpinning (RFC 4787 REQ-9): a packet of a VPC that was translated and goes to a public end of ours comes back as
    /// if from the fabric. Its way from there leads into a VPC, so that it turns once. A fragment that has no ports goes on
    /// with `ports`, those of its datagram as they were translated.
    #[cold]
    fn turn_back_v4(&mut self, tables: &Tables, mut packet: Packet4, ports: (u16, u16)) {
        if packet.meta.vrf == VrfId::DEFAULT {
            return self.discard(packet.mbuf, Drop::NatNoMapping);
        }
        let bytes = packet
            .mbuf
            .data()
            .get(usize::from(packet.meta.l3)..)
            .unwrap_or_default();
        packet.meta.ip = match parse_v4(bytes) {
            Ok(ip) => ip,
            Err(reason) => return self.discard(packet.mbuf, reason),
        };
        packet.meta.vrf = VrfId::DEFAULT;
        self.counters.hairpinned.add(1);
        if packet.meta.ip.fragment == FragmentPart::Later {
            (packet.meta.ip.source_port, packet.meta.ip.destination_port) = ports;
            return self.forward_later_v4(tables, packet);
        }
        if let Some(at) = self.engine.lookup(&key_of(&packet.meta)) {
            return self.connected_v4(tables, packet, at);
        }
        let route = tables.lookup_v4(VrfId::DEFAULT, packet.meta.ip.destination, packet.meta.hash);
        self.unmatched_v4(tables, packet, route);
    }

    /// A packet without a connection where NAT has a say.
    pub(super) fn unmatched_v4(&mut self, tables: &Tables, packet: Packet4, route: Lookup) {
        if route.kind == RouteKind::Local && route.vrf == packet.meta.vrf {
            return self.send_on_v4(tables, packet, route);
        }
        let whole_icmp = packet.meta.ip.protocol == protocol::ICMP && packet.meta.ip.fragment == FragmentPart::Whole;
        if whole_icmp && icmp::is_error(packet.meta.ip.icmp_type) {
            return self.icmp_error_v4(tables, packet, route);
        }
        let Some(packet) = self.admit_v4(tables, packet, route.next_hop) else {
            return;
        };
        let new = NewPacket {
            vrf: packet.meta.vrf,
            protocol: packet.meta.ip.protocol,
            source: packet.meta.ip.source.into(),
            destination: packet.meta.ip.destination.into(),
            source_port: packet.meta.ip.source_port,
            destination_port: packet.meta.ip.destination_port,
            tcp_flags: packet.meta.ip.tcp_flags,
            icmp_type: packet.meta.ip.icmp_type,
            fragment_later: lacks_ports(&packet.meta.ip),
            length: packet.meta.ip.total_length,
            flow_hash: packet.meta.hash,
        };
        let resolution = Resolution {
            next_hop: route.next_hop,
            vrf: route.vrf,
            kind: route.kind,
        };
        match self.engine.miss(&new, resolution, tables, self.now) {
            Verdict::Connection(at) => self.connected_v4(tables, packet, at),
            Verdict::Forward => self.send_on_v4(tables, packet, route),
            Verdict::HandOver(worker) => self.hand_over(HandedOver::V4(packet), worker),
            Verdict::Drop(reason) => self.refuse_v4(tables, packet, reason),
        }
    }

    /// Drops a packet that has no way, and tells its sender where a packet without NAT would have been told.
    #[cold]
    pub(super) fn refuse_v4(&mut self, tables: &Tables, packet: Packet4, reason: Drop) {
        let error = match reason {
            Drop::NoRoute => Some(icmp::Error::NetUnreachable),
            Drop::Unreachable => Some(icmp::Error::HostUnreachable),
            Drop::Prohibited => Some(icmp::Error::AdminProhibited),
            // RFC 5508 REQ-8; whoever is outside learns nothing of what there is inside.
            Drop::NatPortsExhausted | Drop::NatTenantLimit | Drop::NatSubscriberLimit | Drop::NatTableFull
                if packet.meta.vrf != VrfId::DEFAULT =>
            {
                Some(icmp::Error::AdminProhibited)
            }
            _ => None,
        };
        if let Some(error) = error {
            self.answer_v4(tables, &packet, error);
        }
        self.discard(packet.mbuf, reason);
    }

    /// An ICMP error about a translated packet (RFC 5508 section 4).
    fn icmp_error_v4(&mut self, tables: &Tables, mut packet: Packet4, route: Lookup) {
        if packet.meta.ip.ttl <= 1 {
            return self.discard(packet.mbuf, Drop::TtlExpired);
        }
        let range = usize::from(packet.meta.l3)..usize::from(packet.meta.l3) + usize::from(packet.meta.ip.total_length);
        let Some(bytes) = packet.mbuf.data_mut().get_mut(range) else {
            return self.discard(packet.mbuf, Drop::Ipv4Malformed);
        };
        match self
            .engine
            .icmp_error(packet.meta.vrf, bytes, packet.meta.asked, tables, self.now)
        {
            IcmpVerdict::Translated(way) if tables.adjacency(way.next_hop).kind == AdjacencyKind::Nat => {
                self.turn_back_v4(tables, packet, (0, 0));
            }
            IcmpVerdict::Translated(way) => {
                let destination = destination_of(&packet.mbuf, packet.meta.l3);
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
            IcmpVerdict::HandOver(worker) => self.hand_over(HandedOver::V4(packet), worker),
            IcmpVerdict::Drop(reason) => self.discard(packet.mbuf, reason),
        }
    }

    /// Forwards by the route alone.
    pub(super) fn send_on_v4(&mut self, tables: &Tables, packet: Packet4, route: Lookup) {
        let Some(packet) = self.admit_v4(tables, packet, route.next_hop) else {
            return;
        };
        let way = Way {
            next_hop: route.next_hop,
            vrf: route.vrf,
            destination: packet.meta.ip.destination,
        };
        self.transmit_v4(tables, packet, way);
    }

    /// Checks what must hold before a packet is translated, so that an ICMP error quotes it as its sender sent it: TTL
    /// and size. `None` means that it was answered and dropped.
    fn admit_v4(&mut self, tables: &Tables, packet: Packet4, next_hop: NextHopId) -> Option<Packet4> {
        let adjacency = tables.adjacency(next_hop);
        if packet.meta.ip.ttl > 1 && packet.meta.ip.total_length <= adjacency.mtu {
            return Some(packet);
        }
        self.examine_v4(tables, packet, adjacency)
    }

    #[cold]
    fn examine_v4(&mut self, tables: &Tables, packet: Packet4, adjacency: &Adjacency) -> Option<Packet4> {
        if !leaves(adjacency.kind) {
            return Some(packet);
        }
        if packet.meta.ip.ttl <= 1 {
            self.answer_v4(tables, &packet, icmp::Error::TimeExceeded);
            self.discard(packet.mbuf, Drop::TtlExpired);
            return None;
        }
        if packet.meta.ip.total_length > adjacency.mtu && packet.meta.ip.dont_fragment {
            self.answer_v4(tables, &packet, icmp::Error::FragmentationNeeded { mtu: adjacency.mtu });
            self.discard(packet.mbuf, Drop::PacketTooBig);
            return None;
        }
        Some(packet)
    }

    /// Sends a packet, translated if need be, to its next hop.
    fn transmit_v4(&mut self, tables: &Tables, mut packet: Packet4, way: Way) {
        let adjacency = tables.adjacency(way.next_hop);
        if !matches!(adjacency.kind, AdjacencyKind::Forward | AdjacencyKind::Vxlan) {
            return self.end_v4(tables, packet, way, adjacency);
        }
        decrement_ttl(&mut packet.mbuf, packet.meta.l3);
        if packet.meta.ip.total_length > adjacency.mtu {
            return self.fragment_v4(packet, adjacency);
        }
        self.encapsulate(
            packet.mbuf,
            packet.meta.l3,
            packet.meta.ip.total_length,
            eth::ether_type::IPV4,
            packet.meta.hash,
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
                    l3: packet.meta.l3,
                    ingress: packet.meta.ingress,
                    vrf: way.vrf,
                    destination,
                    hash: packet.meta.hash,
                };
                return self.wait_for_neighbor(adjacency.interface, address, held);
            }
            AdjacencyKind::Local if way.vrf == packet.meta.vrf => return self.deliver_v4(tables, packet),
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
        let echo = packet.meta.ip.protocol == protocol::ICMP
            && packet.meta.ip.icmp_type == icmp::kind::ECHO_REQUEST
            && packet.meta.ip.fragment == FragmentPart::Whole;
        self.relay_too_big(tables, &packet);
        if packet.meta.vrf == VrfId::DEFAULT || !echo {
            return self.punt(packet.mbuf, packet.meta.ingress, packet.meta.l3, packet.meta.vtep);
        }
        let range = usize::from(packet.meta.l3)..usize::from(packet.meta.l3) + usize::from(packet.meta.ip.total_length);
        let Some(bytes) = packet.mbuf.data_mut().get_mut(range) else {
            return self.discard(packet.mbuf, Drop::Ipv4Malformed);
        };
        match icmp::echo_reply_in_place(bytes) {
            Ok(true) => {}
            Ok(false) => return self.punt(packet.mbuf, packet.meta.ingress, packet.meta.l3, packet.meta.vtep),
            Err(reason) => return self.discard(packet.mbuf, reason),
        }
        self.resume(
            tables,
            Held {
                own: true,
                mbuf: packet.mbuf,
                l3: packet.meta.l3,
                ingress: packet.meta.ingress,
                vrf: packet.meta.vrf,
                destination: IpAddr::V4(Ipv4Addr::from(packet.meta.ip.source)),
                hash: packet.meta.hash,
            },
        );
    }

    /// Gives a packet to the worker that owns its connection.
    pub(super) fn hand_over(&mut self, packet: HandedOver, worker: u16) {
        let ring = self.handover.get_mut(usize::from(worker)).and_then(Option::as_mut);
        match ring.map(|ring| ring.push(packet)) {
            Some(Ok(())) => self.counters.handed_over.add(1),
            Some(Err(rtrb::PushError::Full(packet))) => self.discard(packet.into_mbuf(), Drop::HandoverQueueFull),
            None => self.counters.count_drop(Drop::HandoverQueueFull),
        }
    }
}

/// True if a packet can be sent to a next hop at once.
#[inline(always)]
pub(super) fn is_complete(kind: AdjacencyKind) -> bool {
    matches!(kind, AdjacencyKind::Forward | AdjacencyKind::Vxlan)
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
pub(super) fn key_of(meta: &Meta<V4>) -> FlowKey {
    let ip = &meta.ip;
    FlowKey::v4(
        meta.vrf,
        ip.protocol,
        ip.source,
        ip.destination,
        ip.source_port,
        ip.destination_port,
    )
}
