//! IPv6: route, and on to the next hop. Routers do not fragment (RFC 8200 section 5).

use std::net::{IpAddr, Ipv6Addr};

use arrayvec::ArrayVec;
use net::parse::{FragmentPart, protocol};
use net::{Drop, VrfId, eth, icmpv6};
use rib::{Adjacency, AdjacencyKind, Lookup, Tables};

use super::v4::leaves;
use super::{BURST, Packet6, Packets, Pipeline};
use crate::hold::Held;

impl Pipeline {
    /// Takes the IPv6 packets of a burst to their ends.
    pub(super) fn forward_v6(&mut self, tables: &Tables, packets: &mut Packets<Packet6>) {
        let mut queries: ArrayVec<(VrfId, u128, u32), BURST> = ArrayVec::new();
        queries.extend(packets.iter().map(|p| (p.vrf, p.ip.destination, p.hash)));
        let mut ways = [Lookup::default(); BURST];
        tables.resolve_v6_burst(&queries, &mut ways[..queries.len()]);
        for (packet, way) in packets.drain(..).zip(ways) {
            self.send_on_v6(tables, packet, way);
        }
    }

    #[inline(always)]
    fn send_on_v6(&mut self, tables: &Tables, mut packet: Packet6, way: Lookup) {
        let adjacency = tables.adjacency(way.next_hop);
        let length = packet.ip.payload_length.saturating_add(HEADER);
        if (packet.ip.hop_limit <= 1 || length > adjacency.mtu) && leaves(adjacency.kind) {
            return self.refuse_v6(tables, packet, adjacency);
        }
        if !matches!(adjacency.kind, AdjacencyKind::Forward | AdjacencyKind::Vxlan) {
            return self.end_v6(tables, packet, way, adjacency);
        }
        packet.mbuf.data_mut()[usize::from(packet.l3) + 7] -= 1;
        self.encapsulate(
            packet.mbuf,
            packet.l3,
            length,
            eth::ether_type::IPV6,
            packet.hash,
            adjacency,
        );
    }

    #[cold]
    fn refuse_v6(&mut self, tables: &Tables, packet: Packet6, adjacency: &Adjacency) {
        let (error, reason) = if packet.ip.hop_limit <= 1 {
            (icmpv6::Error::TimeExceeded, Drop::TtlExpired)
        } else {
            (
                icmpv6::Error::PacketTooBig {
                    mtu: u32::from(adjacency.mtu),
                },
                Drop::PacketTooBig,
            )
        };
        self.answer_v6(tables, &packet, error);
        self.discard(packet.mbuf, reason);
    }

    /// Ends the walk of a packet whose next hop is not (yet) a way out.
    #[cold]
    fn end_v6(&mut self, tables: &Tables, packet: Packet6, way: Lookup, adjacency: &Adjacency) {
        let destination = IpAddr::V6(Ipv6Addr::from(packet.ip.destination));
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
            AdjacencyKind::Local if way.vrf == packet.vrf => return self.deliver_v6(tables, packet),
            AdjacencyKind::Local | AdjacencyKind::Prohibit => (Some(icmpv6::Error::AdminProhibited), Drop::Prohibited),
            AdjacencyKind::VrfLoop => (None, Drop::VrfLoop),
            AdjacencyKind::NoRoute => (Some(icmpv6::Error::NoRoute), Drop::NoRoute),
            AdjacencyKind::Unreachable => (Some(icmpv6::Error::AddressUnreachable), Drop::Unreachable),
            AdjacencyKind::Nat => (None, Drop::NatNoMapping),
            AdjacencyKind::Blackhole | AdjacencyKind::Forward | AdjacencyKind::Vxlan => (None, Drop::Blackhole),
        };
        if let Some(error) = answer {
            self.answer_v6(tables, &packet, error);
        }
        self.discard(packet.mbuf, reason);
    }

    /// A packet to an address of the gateway: see [`Pipeline::deliver_v4`].
    fn deliver_v6(&mut self, tables: &Tables, mut packet: Packet6) {
        let echo = packet.ip.protocol == protocol::ICMPV6
            && packet.ip.icmp_type == icmpv6::kind::ECHO_REQUEST
            && packet.ip.fragment == FragmentPart::Whole;
        if packet.vrf == VrfId::DEFAULT || !echo {
            return self.punt(packet.mbuf, packet.ingress, packet.l3, packet.vtep);
        }
        let end = usize::from(packet.l3) + usize::from(HEADER) + usize::from(packet.ip.payload_length);
        let Some(bytes) = packet.mbuf.data_mut().get_mut(usize::from(packet.l3)..end) else {
            return self.discard(packet.mbuf, Drop::Ipv6Malformed);
        };
        match icmpv6::echo_reply_in_place(bytes) {
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
                destination: IpAddr::V6(Ipv6Addr::from(packet.ip.source)),
                hash: packet.hash,
            },
        );
    }
}

/// Length of the fixed IPv6 header.
const HEADER: u16 = 40;
