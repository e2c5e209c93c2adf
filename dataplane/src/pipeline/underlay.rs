//! What routers of the underlay say about the gateway's own VXLAN packets: that a path takes smaller ones only (RFC 1191).
//!
//! The tenant's packet that was inside is what is too big, less the headers around it; its sender is told as if a router of
//! the VPC had said so, and NAT translates that like any such message. A quote that ends before the tenant's packet tells
//! nothing: routers should quote 576 octets (RFC 1812 section 4.3.2.3), and some quote 28.

use net::parse::{FragmentPart, V4, parse_quoted_v4, parse_v4, protocol};
use net::vxlan::Vxlan;
use net::{InterfaceId, VrfId, checksum, eth, icmp};
use rib::Tables;

use super::{ETHERNET, Meta, Packet, Packet4, Pipeline, flow_hash};

/// Octets of VXLAN over IPv4 around a tenant's IP packet: IPv4, UDP, VXLAN, Ethernet.
const AROUND: u16 = 20 + 8 + 8 + ETHERNET;
/// No path takes less (RFC 791).
const LEAST_MTU: u16 = 68;
/// Type and code of "fragmentation needed" (RFC 1191 section 4).
const TOO_BIG: (u8, u8) = (3, 4);

/// A message to a tenant's peer, and where it is to be sent from.
struct Relayed {
    ingress: InterfaceId,
    vrf: VrfId,
    packet: [u8; icmp::MAX_ERROR],
    length: usize,
}

impl Pipeline {
    /// Relays what `packet`, an ICMP message to the gateway, says about a tenant's packet, if it does.
    #[cold]
    pub(super) fn relay_too_big(&mut self, tables: &Tables, packet: &Packet4) {
        if let Some(relayed) = relayed(tables, packet) {
            self.inject_into_vpc(tables, &relayed);
        }
    }

    fn inject_into_vpc(&mut self, tables: &Tables, relayed: &Relayed) {
        let bytes = &relayed.packet[..relayed.length];
        let Ok(ip) = parse_v4(bytes) else { return };
        if !self.limiter.take(self.now.0) {
            return self.counters.icmp_limited.add(1);
        }
        let Some(mut mbuf) = self.pool.alloc() else { return };
        let Some(room) = mbuf.append(usize::from(ETHERNET) + bytes.len()) else {
            return;
        };
        room[usize::from(ETHERNET)..].copy_from_slice(bytes);
        self.counters.generated.add(1);
        let meta = Meta {
            ip,
            hash: flow_hash(ip.source, ip.destination, ip.protocol, 0, 0),
            l3: ETHERNET,
            vrf: relayed.vrf,
            ingress: relayed.ingress,
            vtep: None,
            asked: 0,
        };
        self.walk_v4(tables, Packet { mbuf, meta });
    }
}

fn relayed(tables: &Tables, packet: &Packet4) -> Option<Relayed> {
    let ip: &V4 = &packet.meta.ip;
    let too_big = ip.protocol == protocol::ICMP && (ip.icmp_type, ip.icmp_code) == TOO_BIG;
    if packet.meta.vrf != VrfId::DEFAULT || !too_big || ip.fragment != FragmentPart::Whole {
        return None;
    }
    let l3 = usize::from(packet.meta.l3);
    let (from, to) = (l3 + usize::from(ip.l4), l3 + usize::from(ip.total_length));
    let message = packet.mbuf.data().get(from..to)?;
    if !checksum::is_valid(message) {
        return None;
    }
    let mtu = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]).checked_sub(AROUND)?;
    let quote = message.get(8..)?;
    let outer = parse_quoted_v4(quote).ok()?;
    let ours = outer.protocol == protocol::UDP
        && outer.fragment == FragmentPart::Whole
        && tables.is_vtep(outer.source, outer.destination_port);
    if !ours || mtu < LEAST_MTU {
        return None;
    }
    let vxlan = quote.get(usize::from(outer.l4) + 8..)?;
    let vni = Vxlan::new(vxlan).ok()?.vni()?;
    let ingress = tables.vni_interface(outer.source, vni.value())?;
    let interface = tables.interface(ingress)?;
    let frame = vxlan.get(8..)?;
    let (link, inner) = frame.split_at_checked(eth::LENGTH)?;
    if link[12..] != eth::ether_type::IPV4.to_be_bytes() {
        return None;
    }
    let mut relayed = Relayed {
        ingress,
        vrf: interface.vrf,
        packet: [0; icmp::MAX_ERROR],
        length: 0,
    };
    let source = interface.address_v4?;
    let error = icmp::Error::FragmentationNeeded { mtu };
    relayed.length = icmp::build_error_from_quote(&mut relayed.packet, source.into(), inner, error).ok()?;
    Some(relayed)
}
