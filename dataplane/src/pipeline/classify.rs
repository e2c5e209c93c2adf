//! From a frame on a port to an IP packet in a VRF: VLAN or VXLAN says which logical interface it came in on, and what
//! is not to be forwarded goes to the kernel.

use std::net::Ipv4Addr;

use dpdk_sys::Mbuf;
use net::parse::{FragmentPart, Link, V4, V6, parse_link, parse_v4, parse_v6, protocol};
use net::udp::Udp;
use net::vxlan::Vxlan;
use net::{Drop, InterfaceId, PortId, VrfId, eth};
use rib::{TableInterface, Tables};

use super::{Burst, Meta, Pipeline};

/// UDP and VXLAN headers, bytes.
const UDP_AND_VXLAN: u16 = 8 + 8;

impl Pipeline {
    /// Sorts one received frame into the burst of its family, or ends its walk here.
    #[inline]
    pub(super) fn classify(
        &mut self,
        tables: &Tables,
        port: PortId,
        mbuf: Mbuf,
        v4: &mut Burst<V4>,
        v6: &mut Burst<V6>,
    ) {
        if !mbuf.is_contiguous() {
            return self.discard(mbuf, Drop::Scattered);
        }
        let link = match parse_link(mbuf.data()) {
            Ok(link) => link,
            Err(reason) => return self.discard(mbuf, reason),
        };
        let id = match link.vlan {
            None => tables.port_interface(port),
            Some(vlan) => tables.vlan_interface(port, vlan),
        };
        let Some((id, interface)) = id.and_then(|id| tables.interface(id).map(|i| (id, i))) else {
            return self.discard(
                mbuf,
                if link.vlan.is_some() {
                    Drop::VlanUnknown
                } else {
                    Drop::InterfaceDown
                },
            );
        };
        self.accept(tables, mbuf, &link, (id, interface), None, v4, v6);
    }

    /// A frame whose logical interface is known.
    #[inline]
    #[allow(
        clippy::too_many_arguments,
        reason = "one step of the walk, split off because VXLAN takes it twice"
    )]
    fn accept(
        &mut self,
        tables: &Tables,
        mbuf: Mbuf,
        link: &Link,
        (id, interface): (InterfaceId, &TableInterface),
        vtep: Option<Ipv4Addr>,
        v4: &mut Burst<V4>,
        v6: &mut Burst<V6>,
    ) {
        if !interface.up {
            return self.discard(mbuf, Drop::InterfaceDown);
        }
        if link.source.is_multicast() {
            return self.discard(mbuf, Drop::SourceMacInvalid);
        }
        if link.destination != interface.mac {
            return if link.destination.is_multicast() {
                self.punt(mbuf, id, link.l3, vtep)
            } else {
                self.discard(mbuf, Drop::NotForUs)
            };
        }
        let l3 = usize::from(link.l3);
        match link.ether_type {
            eth::ether_type::IPV4 => {
                let packet = &mbuf.data()[l3..];
                let ip = match parse_v4(packet) {
                    Ok(ip) => ip,
                    Err(reason) => return self.discard(mbuf, reason),
                };
                if ip.is_multicast() || ip.destination == u32::MAX {
                    return self.punt(mbuf, id, link.l3, vtep);
                }
                if ip.is_martian() {
                    return self.discard(mbuf, Drop::Martian);
                }
                if ip.protocol == protocol::UDP
                    && interface.vrf == VrfId::DEFAULT
                    && ip.fragment == FragmentPart::Whole
                    && tables.is_vtep(ip.destination, ip.destination_port)
                {
                    let inner = link.l3 + ip.l4 + UDP_AND_VXLAN;
                    return self.decapsulate(tables, mbuf, inner, ip.source, ip.destination, v4, v6);
                }
                let hash = flow_hash(
                    ip.source,
                    ip.destination,
                    ip.protocol,
                    ip.source_port,
                    ip.destination_port,
                );
                v4.push(
                    mbuf,
                    Meta {
                        ip,
                        hash,
                        l3: link.l3,
                        vrf: interface.vrf,
                        ingress: id,
                        vtep,
                        taken_over: false,
                    },
                );
            }
            eth::ether_type::IPV6 => {
                let ip = match parse_v6(&mbuf.data()[l3..]) {
                    Ok(ip) => ip,
                    Err(reason) => return self.discard(mbuf, reason),
                };
                if ip.is_multicast() || ip.is_link_local() {
                    return self.punt(mbuf, id, link.l3, vtep);
                }
                if ip.is_martian() {
                    return self.discard(mbuf, Drop::Martian);
                }
                let hash = flow_hash(
                    fold(ip.source),
                    fold(ip.destination),
                    ip.protocol,
                    ip.source_port,
                    ip.destination_port,
                );
                v6.push(
                    mbuf,
                    Meta {
                        ip,
                        hash,
                        l3: link.l3,
                        vrf: interface.vrf,
                        ingress: id,
                        vtep,
                        taken_over: false,
                    },
                );
            }
            eth::ether_type::ARP => self.punt(mbuf, id, link.l3, vtep),
            _ => self.discard(mbuf, Drop::EtherTypeUnknown),
        }
    }

    /// Takes off the outer headers; the inner frame starts at `inner` (RFC 7348 section 5).
    #[allow(clippy::too_many_arguments, reason = "what the outer headers said")]
    fn decapsulate(
        &mut self,
        tables: &Tables,
        mut mbuf: Mbuf,
        inner: u16,
        outer_source: u32,
        outer_destination: u32,
        v4: &mut Burst<V4>,
        v6: &mut Burst<V6>,
    ) {
        let udp = usize::from(inner - UDP_AND_VXLAN);
        let header = usize::from(inner) - 8;
        // The inner frame ends with its datagram, whatever the outer frame goes on with.
        match mbuf.data().get(udp..).map(Udp::new) {
            Some(Ok(datagram)) => {
                let end = udp + usize::from(datagram.length());
                mbuf.truncate(end);
            }
            Some(Err(reason)) => return self.discard(mbuf, reason),
            None => return self.discard(mbuf, Drop::UdpMalformed),
        }
        let vni = match Vxlan::new(mbuf.data().get(header..).unwrap_or_default()) {
            Ok(vxlan) => vxlan.vni(),
            Err(reason) => return self.discard(mbuf, reason),
        };
        let Some((id, interface)) = vni
            .and_then(|vni| tables.vni_interface(outer_destination, vni.value()))
            .and_then(|id| tables.interface(id).map(|i| (id, i)))
        else {
            return self.discard(mbuf, Drop::VniUnknown);
        };
        mbuf.trim_front(usize::from(inner));
        let link = match parse_link(mbuf.data()) {
            Ok(link) if link.vlan.is_none() => link,
            // RFC 7348 section 6.1: an inner frame carries no VLAN tag unless configured otherwise.
            Ok(_) => return self.discard(mbuf, Drop::VlanUnknown),
            Err(reason) => return self.discard(mbuf, reason),
        };
        self.accept(
            tables,
            mbuf,
            &link,
            (id, interface),
            Some(Ipv4Addr::from(outer_source)),
            v4,
            v6,
        );
    }
}

/// Mixes what identifies a flow; not symmetric, not secret, cheap.
#[inline]
pub(crate) fn flow_hash(source: u32, destination: u32, protocol: u8, source_port: u16, destination_port: u16) -> u32 {
    let addresses = u64::from(source) << 32 | u64::from(destination);
    let ports = u64::from(source_port) << 32 | u64::from(destination_port) << 8 | u64::from(protocol);
    let mixed = (addresses ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ ports;
    let product = u128::from(mixed) * 0xa076_1d64_78bd_642f_u128;
    ((product >> 64) as u64 ^ product as u64) as u32
}

#[inline]
fn fold(address: u128) -> u32 {
    let half = (address >> 64) as u64 ^ (address as u64).rotate_left(17);
    (half >> 32) as u32 ^ half as u32
}
