//! IPv6: route, and on to the next hop. Routers do not fragment (RFC 8200 section 5).

use std::net::{IpAddr, Ipv6Addr};

use dpdk_sys::Mbuf;
use net::parse::{FragmentPart, V6, protocol};
use net::{Drop, RouteKind, VrfId, eth, icmpv6};
use rib::{Adjacency, AdjacencyKind, Lookup, Tables};

use super::egress::{readdress_run, readdress_v6};
use super::v4::{is_complete, leaves};
use super::{BURST, Burst, Packet, Packet6, Packets, Pipeline};
use crate::hold::Held;

impl Pipeline {
    /// Takes the IPv6 packets of a burst to their ends.
    pub(super) fn forward_v6(&mut self, tables: &Tables, burst: &mut Burst<V6>) {
        let Burst { mbufs, metas } = burst;
        let ways = tables.resolve_v6_burst(
            metas.len(),
            |i| (metas[i].vrf, metas[i].ip.destination),
            |i| metas[i].hash,
        );

        let policy = tables.nat();
        let translates = !policy.is_empty_v6();
        let (done, port) = readdress_run(
            tables,
            mbufs,
            |i| {
                let ip = &metas[i].ip;
                // One that must not go on, or that NAT may have a say in, fits nowhere.
                let length = if ip.hop_limit > 1 && !translates {
                    u32::from(ip.payload_length) + u32::from(HEADER)
                } else {
                    u32::MAX
                };
                (ways[i % BURST].next_hop, length)
            },
            |i, mbuf, header| readdress_v6(mbuf, metas[i].l3.into(), header),
        );
        if done == mbufs.len() {
            metas.clear();
            return self.queue_all(port, mbufs);
        }
        let mut done_ones: Packets<Mbuf> = mbufs.drain(..done).collect();
        self.queue_all(port, &mut done_ones);
        for ((mut mbuf, meta), way) in mbufs.drain(..).zip(&metas[done..]).zip(&ways[done..]) {
            let tenant = translates && meta.vrf != VrfId::DEFAULT && policy.translates_v6(meta.vrf);
            if tenant || way.kind == RouteKind::Nat {
                self.translate_v6(tables, Packet { mbuf, meta: *meta }, *way);
                continue;
            }
            let adjacency = tables.adjacency(way.next_hop);
            let length = length_of(&meta.ip);
            if meta.ip.hop_limit > 1 && length <= adjacency.mtu && is_complete(adjacency.kind) {
                mbuf.data_mut()[usize::from(meta.l3) + 7] -= 1;
                self.encapsulate(mbuf, meta.l3, length, eth::ether_type::IPV6, meta.hash, adjacency);
            } else {
                self.divert_v6(tables, Packet { mbuf, meta: *meta }, *way, adjacency);
            }
        }
        burst.metas.clear();
    }

    /// Forwards by the route alone.
    pub(super) fn send_on_v6(&mut self, tables: &Tables, mut packet: Packet6, way: Lookup) {
        let adjacency = tables.adjacency(way.next_hop);
        let (l3, length) = (packet.meta.l3, length_of(&packet.meta.ip));
        if packet.meta.ip.hop_limit <= 1 || length > adjacency.mtu || !is_complete(adjacency.kind) {
            return self.divert_v6(tables, packet, way, adjacency);
        }
        packet.mbuf.data_mut()[usize::from(l3) + 7] -= 1;
        let hash = packet.meta.hash;
        self.encapsulate(packet.mbuf, l3, length, eth::ether_type::IPV6, hash, adjacency);
    }

    /// A packet that does not simply go on.
    #[cold]
    fn divert_v6(&mut self, tables: &Tables, packet: Packet6, way: Lookup, adjacency: &Adjacency) {
        let length = length_of(&packet.meta.ip);
        if (packet.meta.ip.hop_limit <= 1 || length > adjacency.mtu) && leaves(adjacency.kind) {
            self.refuse_v6(tables, packet, adjacency);
        } else {
            self.end_v6(tables, packet, way, adjacency);
        }
    }

    #[cold]
    pub(super) fn refuse_v6(&mut self, tables: &Tables, packet: Packet6, adjacency: &Adjacency) {
        let (error, reason) = if packet.meta.ip.hop_limit <= 1 {
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
    pub(super) fn end_v6(&mut self, tables: &Tables, packet: Packet6, way: Lookup, adjacency: &Adjacency) {
        let destination = IpAddr::V6(Ipv6Addr::from(packet.meta.ip.destination));
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
            AdjacencyKind::Local if way.vrf == packet.meta.vrf => return self.deliver_v6(tables, packet),
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
        let echo = packet.meta.ip.protocol == protocol::ICMPV6
            && packet.meta.ip.icmp_type == icmpv6::kind::ECHO_REQUEST
            && packet.meta.ip.fragment == FragmentPart::Whole;
        if packet.meta.vrf == VrfId::DEFAULT || !echo {
            return self.punt(packet.mbuf, packet.meta.ingress, packet.meta.l3, packet.meta.vtep);
        }
        let end = usize::from(packet.meta.l3) + usize::from(HEADER) + usize::from(packet.meta.ip.payload_length);
        let Some(bytes) = packet.mbuf.data_mut().get_mut(usize::from(packet.meta.l3)..end) else {
            return self.discard(packet.mbuf, Drop::Ipv6Malformed);
        };
        match icmpv6::echo_reply_in_place(bytes) {
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
                destination: IpAddr::V6(Ipv6Addr::from(packet.meta.ip.source)),
                hash: packet.meta.hash,
            },
        );
    }
}

/// Length of an IPv6 packet.
#[inline(always)]
pub(super) const fn length_of(ip: &V6) -> u16 {
    ip.payload_length.saturating_add(HEADER)
}

/// Length of the fixed IPv6 header.
const HEADER: u16 = 40;
