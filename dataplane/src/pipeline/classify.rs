//! From a frame on a port to an IP packet in a VRF: VLAN or VXLAN says which logical interface it came in on, and what
//! is not to be forwarded goes to the kernel.

use std::net::Ipv4Addr;

use dpdk_sys::Mbuf;
use net::parse::{FragmentPart, Link, Plain, V4, V6, parse_link, parse_v4, parse_v6, protocol};
use net::udp::Udp;
use net::vxlan::Vxlan;
use net::{Drop, InterfaceId, PortId, VlanId, VrfId, eth};
use rib::{TableInterface, Tables};

use super::{Burst, Meta, Pipeline};

/// Bytes of an Ethernet header with one tag.
const TAGGED: usize = eth::LENGTH + 4;
/// Bytes of a UDP header.
const UDP: usize = 8;
/// Bytes of a VXLAN header.
const VXLAN: usize = 8;

/// The interface of a port's untagged frames: the same for a whole burst.
#[derive(Clone, Copy)]
pub(super) struct Native<'a> {
    port: PortId,
    interface: Option<(InterfaceId, &'a TableInterface)>,
    /// If it is up: how its usual frames are told, and where they come from.
    plain: Option<(Plain, Origin)>,
}

impl<'a> Native<'a> {
    pub(super) fn of(tables: &'a Tables, port: PortId) -> Self {
        let id = tables.port_interface(port);
        let interface = id.and_then(|id| tables.interface(id).map(|i| (id, i)));
        let plain = interface.and_then(|(id, i)| usual(id, i, eth::LENGTH));
        Self { port, interface, plain }
    }
}

/// Where a frame came from, as far as its outer headers say.
#[derive(Clone, Copy)]
struct Origin {
    ingress: InterfaceId,
    vrf: VrfId,
    /// Offset of the network header.
    l3: u16,
    /// Remote VXLAN endpoint.
    vtep: Option<Ipv4Addr>,
}

impl Origin {
    /// What is known of a packet that came so.
    #[inline(always)]
    fn meta<Ip>(&self, ip: Ip, hash: u32) -> Meta<Ip> {
        Meta {
            ip,
            hash,
            l3: self.l3,
            vrf: self.vrf,
            ingress: self.ingress,
            vtep: self.vtep,
            asked: 0,
        }
    }
}

impl Pipeline {
    /// Sorts one received frame into the burst of its family, or ends its walk here.
    #[inline(always)]
    pub(super) fn classify(
        &mut self,
        tables: &Tables,
        native: &Native<'_>,
        mbuf: Mbuf,
        v4: &mut Burst<V4>,
        v6: &mut Burst<V6>,
    ) {
        if mbuf.is_contiguous() {
            let frame = mbuf.data();
            if let Some((plain, origin)) = &native.plain {
                if let Some(ip) = plain.parse_v4::<{ eth::LENGTH }>(frame)
                    && !is_tunnel(tables, &ip, origin)
                {
                    return push_v4(v4, mbuf, ip, &Origin { vtep: None, ..*origin });
                }
                if let Some(ip) = plain.parse_v6::<{ eth::LENGTH }>(frame) {
                    return push_v6(v6, mbuf, ip, origin);
                }
            }
            if let Some((plain, origin)) = tagged(tables, native.port, frame) {
                if let Some(ip) = plain.parse_v4::<TAGGED>(frame)
                    && !is_tunnel(tables, &ip, &origin)
                {
                    return push_v4(v4, mbuf, ip, &origin);
                }
                if let Some(ip) = plain.parse_v6::<TAGGED>(frame) {
                    return push_v6(v6, mbuf, ip, &origin);
                }
            }
        }
        self.classify_any(tables, native, mbuf, v4, v6);
    }

    /// A frame that is not a usual one.
    #[inline(never)]
    fn classify_any(
        &mut self,
        tables: &Tables,
        native: &Native<'_>,
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
        let (id, interface) = match link.vlan {
            None => match native.interface {
                Some(found) => found,
                None => return self.discard(mbuf, Drop::InterfaceDown),
            },
            Some(vlan) => {
                let id = tables.vlan_interface(native.port, vlan);
                match id.and_then(|id| tables.interface(id).map(|i| (id, i))) {
                    Some(found) => found,
                    None => return self.discard(mbuf, Drop::VlanUnknown),
                }
            }
        };
        let origin = Origin {
            ingress: id,
            vrf: interface.vrf,
            l3: link.l3,
            vtep: None,
        };
        self.accept(tables, mbuf, &link, interface, &origin, v4, v6);
    }

    /// A frame whose logical interface is known.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step of the walk, split off because VXLAN takes it twice"
    )]
    fn accept(
        &mut self,
        tables: &Tables,
        mbuf: Mbuf,
        link: &Link,
        interface: &TableInterface,
        origin: &Origin,
        v4: &mut Burst<V4>,
        v6: &mut Burst<V6>,
    ) {
        if !interface.up || link.source.is_multicast() || link.destination != interface.mac {
            return self.not_for_us(mbuf, link, interface, origin);
        }
        match link.ether_type {
            eth::ether_type::IPV4 => self.accept_v4(tables, mbuf, origin, v4, v6),
            eth::ether_type::IPV6 => self.accept_v6(mbuf, origin, v6),
            eth::ether_type::ARP => self.punt(mbuf, origin.ingress, origin.l3, origin.vtep),
            _ => self.discard(mbuf, Drop::EtherTypeUnknown),
        }
    }

    fn accept_v4(&mut self, tables: &Tables, mbuf: Mbuf, origin: &Origin, v4: &mut Burst<V4>, v6: &mut Burst<V6>) {
        let ip = match parse_v4(&mbuf.data()[usize::from(origin.l3)..]) {
            Ok(ip) => ip,
            Err(reason) => return self.discard(mbuf, reason),
        };
        if ip.is_multicast() || ip.destination == u32::MAX {
            return self.punt(mbuf, origin.ingress, origin.l3, origin.vtep);
        }
        if ip.is_martian() {
            return self.discard(mbuf, Drop::Martian);
        }
        if is_tunnel(tables, &ip, origin) {
            return self.decapsulate(tables, mbuf, origin.l3, &ip, v4, v6);
        }
        if ip.fragment != FragmentPart::Whole && tables.nat().gathers(origin.vrf, ip.destination) {
            let hash = flow_hash(ip.source, ip.destination, ip.protocol, 0, 0);
            return self.gather_v4(tables, mbuf, origin.meta(ip, hash), v4);
        }
        push_v4(v4, mbuf, ip, origin);
    }

    fn accept_v6(&mut self, mbuf: Mbuf, origin: &Origin, v6: &mut Burst<V6>) {
        let ip = match parse_v6(&mbuf.data()[usize::from(origin.l3)..]) {
            Ok(ip) => ip,
            Err(reason) => return self.discard(mbuf, reason),
        };
        if ip.is_multicast() || ip.is_link_local() {
            return self.punt(mbuf, origin.ingress, origin.l3, origin.vtep);
        }
        if ip.is_martian() {
            return self.discard(mbuf, Drop::Martian);
        }
        push_v6(v6, mbuf, ip, origin);
    }

    /// A frame that is not simply for the interface it came in on.
    #[cold]
    fn not_for_us(&mut self, mbuf: Mbuf, link: &Link, interface: &TableInterface, origin: &Origin) {
        if !interface.up {
            self.discard(mbuf, Drop::InterfaceDown);
        } else if link.source.is_multicast() {
            self.discard(mbuf, Drop::SourceMacInvalid);
        } else if link.destination.is_multicast() {
            self.punt(mbuf, origin.ingress, origin.l3, origin.vtep);
        } else {
            self.discard(mbuf, Drop::NotForUs);
        }
    }

    /// Takes off the outer headers of a packet whose IP header is at `l3` (RFC 7348 section 5).
    fn decapsulate(
        &mut self,
        tables: &Tables,
        mut mbuf: Mbuf,
        l3: u16,
        outer: &V4,
        v4: &mut Burst<V4>,
        v6: &mut Burst<V6>,
    ) {
        let udp = usize::from(l3 + outer.l4);
        let header = udp + UDP;
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
            .and_then(|vni| tables.vni_interface(outer.destination, vni.value()))
            .and_then(|id| tables.interface(id).map(|i| (id, i)))
        else {
            return self.discard(mbuf, Drop::VniUnknown);
        };
        mbuf.trim_front(header + VXLAN);
        let vtep = Some(Ipv4Addr::from(outer.source));
        if let Some((plain, origin)) = usual(id, interface, eth::LENGTH)
            && let Some(ip) = plain.parse_v4::<{ eth::LENGTH }>(mbuf.data())
            && !is_tunnel(tables, &ip, &origin)
        {
            return push_v4(v4, mbuf, ip, &Origin { vtep, ..origin });
        }
        let link = match parse_link(mbuf.data()) {
            Ok(link) if link.vlan.is_none() => link,
            // RFC 7348 section 6.1: an inner frame carries no VLAN tag unless configured otherwise.
            Ok(_) => return self.discard(mbuf, Drop::VlanUnknown),
            Err(reason) => return self.discard(mbuf, reason),
        };
        let origin = Origin {
            ingress: id,
            vrf: interface.vrf,
            l3: link.l3,
            vtep,
        };
        self.accept(tables, mbuf, &link, interface, &origin, v4, v6);
    }
}

/// How the usual frames of an interface that is up are told, and where they come from.
#[inline(always)]
fn usual(id: InterfaceId, interface: &TableInterface, l3: usize) -> Option<(Plain, Origin)> {
    let origin = Origin {
        ingress: id,
        vrf: interface.vrf,
        l3: l3 as u16,
        vtep: None,
    };
    interface.up.then(|| (Plain::to(interface.mac), origin))
}

/// [`usual`] for the VLAN of a frame with an 802.1Q tag.
#[inline(always)]
fn tagged(tables: &Tables, port: PortId, frame: &[u8]) -> Option<(Plain, Origin)> {
    let [.., 0x81, 0x00, high, low] = frame.first_chunk::<16>()? else {
        return None;
    };
    let vlan = VlanId::new(u16::from_be_bytes([*high, *low]) & 0x0fff).ok()?;
    let id = tables.vlan_interface(port, vlan)?;
    usual(id, tables.interface(id)?, TAGGED)
}

/// True if a packet is for one of our own tunnel endpoints.
#[inline(always)]
fn is_tunnel(tables: &Tables, ip: &V4, origin: &Origin) -> bool {
    ip.protocol == protocol::UDP
        && origin.vrf == VrfId::DEFAULT
        && ip.fragment == FragmentPart::Whole
        && tables.is_vtep(ip.destination, ip.destination_port)
}

#[inline(always)]
fn push_v4(v4: &mut Burst<V4>, mbuf: Mbuf, ip: V4, origin: &Origin) {
    let hash = flow_hash(
        ip.source,
        ip.destination,
        ip.protocol,
        ip.source_port,
        ip.destination_port,
    );
    v4.push(mbuf, origin.meta(ip, hash));
}

#[inline(always)]
fn push_v6(v6: &mut Burst<V6>, mbuf: Mbuf, ip: V6, origin: &Origin) {
    let hash = flow_hash(
        fold(ip.source),
        fold(ip.destination),
        ip.protocol,
        ip.source_port,
        ip.destination_port,
    );
    v6.push(mbuf, origin.meta(ip, hash));
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
