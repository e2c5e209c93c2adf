//! What routers of the underlay say about the gateway's own VXLAN packets: that a path takes smaller ones only (RFC 1191).
//!
//! The tenant's packet that was inside is what is too big, less the headers around it; its sender is told as if a router of
//! the VPC had said so, and NAT translates that like any such message. A quote that ends before the tenant's packet tells
//! nothing: routers should quote 576 octets (RFC 1812 section 4.3.2.3), and some quote 28.

use net::parse::{FragmentPart, V4, parse_quoted_v4, parse_v4, protocol};
use net::vxlan::Vxlan;
use net::{InterfaceId, VrfId, checksum, eth, icmp, icmpv6, parse_v6};
use rib::Tables;

use super::classify::hash_v6;
use super::{ETHERNET, Meta, Packet, Packet4, Pipeline, flow_hash};

/// Octets of VXLAN over IPv4 around a tenant's IP packet: IPv4, UDP, VXLAN, Ethernet.
const AROUND: u16 = 20 + 8 + 8 + ETHERNET;
/// No path takes less: of IPv4 (RFC 791), and of IPv6 (RFC 8200 section 5).
const LEAST_MTU: u16 = 68;
const LEAST_MTU_V6: u16 = 1280;
/// Type and code of "fragmentation needed" (RFC 1191 section 4).
const TOO_BIG: (u8, u8) = (3, 4);

/// A message to a tenant's peer, and where it is to be sent from.
struct Relayed {
    ingress: InterfaceId,
    vrf: VrfId,
    packet: [u8; icmpv6::MAX_ERROR],
    length: usize,
    v4: bool,
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
        if !self.limiter.take(self.now.0) {
            return self.counters.icmp_limited.add(1);
        }
        let Some(mut mbuf) = self.pool.alloc() else { return };
        let Some(room) = mbuf.append(usize::from(ETHERNET) + bytes.len()) else {
            return;
        };
        room[usize::from(ETHERNET)..].copy_from_slice(bytes);
        self.counters.generated.add(1);
        if let Some(ip) = parse_v4(bytes).ok().filter(|_| relayed.v4) {
            let hash = flow_hash(ip.source, ip.destination, ip.protocol, 0, 0);
            let meta = relayed.meta(ip, hash);
            self.walk_v4(tables, Packet { mbuf, meta });
        } else if let Ok(ip) = parse_v6(bytes) {
            let meta = relayed.meta(ip, hash_v6(&ip));
            self.route_v6(tables, Packet { mbuf, meta });
        }
    }
}

impl Relayed {
    fn meta<Ip>(&self, ip: Ip, hash: u32) -> Meta<Ip> {
        Meta {
            ip,
            hash,
            l3: ETHERNET,
            vrf: self.vrf,
            ingress: self.ingress,
            vtep: None,
            asked: 0,
        }
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
    let mut relayed = Relayed {
        ingress,
        vrf: interface.vrf,
        packet: [0; icmpv6::MAX_ERROR],
        length: 0,
        v4: false,
    };
    let out = &mut relayed.packet;
    relayed.length = match u16::from_be_bytes([link[12], link[13]]) {
        eth::ether_type::IPV4 => {
            relayed.v4 = true;
            let error = icmp::Error::FragmentationNeeded { mtu };
            icmp::build_error_from_quote(out, interface.address_v4?.into(), inner, error).ok()?
        }
        eth::ether_type::IPV6 if mtu >= LEAST_MTU_V6 => {
            let error = icmpv6::Error::PacketTooBig { mtu: mtu.into() };
            icmpv6::build_error_from_quote(out, interface.address_v6?.into(), inner, error).ok()?
        }
        _ => return None,
    };
    Some(relayed)
}
