//! From a frame on a port to an IP packet in a VRF: VLAN or VXLAN says which logical interface it came in on, and what
//! is not to be forwarded goes to the kernel.

use std::net::Ipv4Addr;

use dpdk_sys::Mbuf;
use nat::FlowKey;
use net::parse::{FragmentPart, Link, Plain, PlainV4, V4, V6, parse_link, parse_v4, parse_v6, protocol};
use net::udp::Udp;
use net::vxlan::Vxlan;
use net::{Drop, InterfaceId, PortId, VlanId, VrfId, eth};
use rib::{TableInterface, Tables};

use super::usual::{Origins, Usual};
use super::{Burst, Meta, Packet, Pipeline, Sorted};

/// Bytes of an Ethernet header with one tag.
const TAGGED: usize = eth::LENGTH + 4;
/// Bytes of a UDP header.
const UDP: usize = 8;
/// Bytes of a VXLAN header.
const VXLAN: usize = 8;
/// What no tag says.
const NO_VLAN: u16 = u16::MAX;

/// What a port's frames are told by, and where those of the burst at hand came from.
pub(super) struct Ingress<'a> {
    port: PortId,
    /// The interface of untagged frames.
    native: Option<(InterfaceId, &'a TableInterface)>,
    /// If it is up, its usual frames.
    gate: Option<Gate>,
    /// The VLAN of the last tagged frame, and the usual frames of its interface.
    vlan: u16,
    tagged: Option<Gate>,
}

impl<'a> Ingress<'a> {
    pub(super) fn of(tables: &'a Tables, port: PortId, origins: &mut Origins) -> Self {
        let id = tables.port_interface(port);
        let native = id.and_then(|id| tables.interface(id).map(|i| (id, i)));
        Self {
            port,
            native,
            gate: native.and_then(|(id, i)| Gate::of(tables, i, Origin::on(id, i, eth::LENGTH), origins)),
            vlan: NO_VLAN,
            tagged: None,
        }
    }

    /// What is known of a frame that is a usual IPv4 packet.
    #[inline(always)]
    pub(super) fn usual(&mut self, tables: &Tables, mbuf: &Mbuf, origins: &mut Origins) -> Option<Usual> {
        if !mbuf.is_contiguous() {
            return None;
        }
        let frame = mbuf.data();
        if let Some([.., 0x81, 0x00, high, low]) = frame.first_chunk::<16>() {
            let gate = self.tagged(tables, vlan_of(*high, *low), origins)?;
            return Some(Usual::of(gate.parse_v4::<TAGGED>(tables, frame)?, gate));
        }
        let gate = self.gate.as_ref()?;
        Some(Usual::of(gate.parse_v4::<{ eth::LENGTH }>(tables, frame)?, gate))
    }

    /// The gate of a frame with this 802.1Q tag.
    #[inline(always)]
    fn tagged(&mut self, tables: &Tables, vlan: u16, origins: &mut Origins) -> Option<&Gate> {
        if vlan != self.vlan {
            self.vlan = vlan;
            self.tagged = self.gate_of(tables, vlan, origins);
        }
        self.tagged.as_ref()
    }

    #[inline(never)]
    fn gate_of(&self, tables: &Tables, vlan: u16, origins: &mut Origins) -> Option<Gate> {
        let id = tables.vlan_interface(self.port, VlanId::new(vlan).ok()?)?;
        let interface = tables.interface(id)?;
        Gate::of(tables, interface, Origin::on(id, interface, TAGGED), origins)
    }
}

/// How the usual frames of an interface are told, and what their packets have in common.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    plain: Plain,
    pub(super) vrf: VrfId,
    /// Position of their origin in the burst.
    pub(super) origin: u8,
    /// Offset of the IP header.
    pub(super) l3: u8,
    /// A tunnel may end in one of them.
    tunnels: bool,
}

impl Gate {
    /// Of an interface that is up.
    #[inline(always)]
    fn of(tables: &Tables, interface: &TableInterface, origin: Origin, origins: &mut Origins) -> Option<Self> {
        let at = origins.len() as u8;
        (interface.up && origins.try_push(origin).is_ok()).then(|| Self {
            plain: Plain::to(interface.mac),
            vrf: origin.vrf,
            origin: at,
            l3: origin.l3 as u8,
            tunnels: origin.vrf == VrfId::DEFAULT && tables.has_vteps(),
        })
    }

    /// A usual IPv4 packet that no tunnel ends in.
    #[inline(always)]
    fn parse_v4<const L3: usize>(&self, tables: &Tables, frame: &[u8]) -> Option<PlainV4> {
        let ip = self.plain.parse_v4::<L3>(frame)?;
        if self.tunnels && ends_tunnel(tables, &ip) {
            return None;
        }
        Some(ip)
    }
}

/// The VLAN that a tag's control information (IEEE 802.1Q section 9.6) names.
#[inline(always)]
fn vlan_of(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low]) & 0x0fff
}

/// True if a packet of the default VRF is for one of our own tunnel endpoints.
#[inline(never)]
fn ends_tunnel(tables: &Tables, ip: &PlainV4) -> bool {
    ip.protocol == protocol::UDP && tables.is_vtep(ip.destination(), ip.destination_port())
}

/// Where a frame came from, as far as its outer headers say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    ingress: InterfaceId,
    pub(super) vrf: VrfId,
    /// Offset of the network header.
    pub(super) l3: u16,
    /// Remote VXLAN endpoint.
    vtep: Option<Ipv4Addr>,
}

impl Origin {
    /// An interface, with the network header at `l3`.
    fn on(ingress: InterfaceId, interface: &TableInterface, l3: usize) -> Self {
        Self {
            ingress,
            vrf: interface.vrf,
            l3: l3 as u16,
            vtep: None,
        }
    }

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

    /// What is known of an IPv4 packet that came so.
    pub(super) fn meta_v4(&self, ip: V4) -> Meta<V4> {
        let hash = flow_hash(
            ip.source,
            ip.destination,
            ip.protocol,
            ip.source_port,
            ip.destination_port,
        );
        self.meta(ip, hash)
    }
}

impl Pipeline {
    /// Sorts one received frame into the burst of its kind, or takes it to its end.
    #[inline(always)]
    pub(super) fn classify(&mut self, tables: &Tables, ingress: &mut Ingress<'_>, mbuf: Mbuf, sorted: &mut Sorted) {
        let Sorted { usual, v6, origins } = sorted;
        let frame = mbuf.data();
        match frame.first_chunk::<16>() {
            _ if !mbuf.is_contiguous() => {}
            Some([.., 0x81, 0x00, high, low]) => {
                if let Some(gate) = ingress.tagged(tables, vlan_of(*high, *low), origins) {
                    if let Some(ip) = gate.parse_v4::<TAGGED>(tables, frame) {
                        return usual.push(mbuf, ip, gate);
                    }
                    if let Some(ip) = gate.plain.parse_v6::<TAGGED>(frame) {
                        return push_v6(v6, mbuf, ip, &origins[usize::from(gate.origin)]);
                    }
                }
            }
            _ => {
                if let Some(gate) = &ingress.gate {
                    if let Some(ip) = gate.parse_v4::<{ eth::LENGTH }>(tables, frame) {
                        return usual.push(mbuf, ip, gate);
                    }
                    if let Some(ip) = gate.plain.parse_v6::<{ eth::LENGTH }>(frame) {
                        return push_v6(v6, mbuf, ip, &origins[usize::from(gate.origin)]);
                    }
                }
            }
        }
        self.classify_any(tables, ingress, mbuf, sorted);
    }

    /// A frame that is not a usual one.
    #[inline(never)]
    fn classify_any(&mut self, tables: &Tables, ingress: &Ingress<'_>, mbuf: Mbuf, sorted: &mut Sorted) {
        if !mbuf.is_contiguous() {
            return self.discard(mbuf, Drop::Scattered);
        }
        let link = match parse_link(mbuf.data()) {
            Ok(link) => link,
            Err(reason) => return self.discard(mbuf, reason),
        };
        let (id, interface) = match link.vlan {
            None => match ingress.native {
                Some(found) => found,
                None => return self.discard(mbuf, Drop::InterfaceDown),
            },
            Some(vlan) => {
                let id = tables.vlan_interface(ingress.port, vlan);
                match id.and_then(|id| tables.interface(id).map(|i| (id, i))) {
                    Some(found) => found,
                    None => return self.discard(mbuf, Drop::VlanUnknown),
                }
            }
        };
        let origin = Origin::on(id, interface, link.l3.into());
        self.accept(tables, mbuf, &link, interface, &origin, sorted);
    }

    /// A frame whose logical interface is known.
    fn accept(
        &mut self,
        tables: &Tables,
        mbuf: Mbuf,
        link: &Link,
        interface: &TableInterface,
        origin: &Origin,
        sorted: &mut Sorted,
    ) {
        if !interface.up || link.source.is_multicast() || link.destination != interface.mac {
            return self.not_for_us(mbuf, link, interface, origin);
        }
        match link.ether_type {
            eth::ether_type::IPV4 => self.accept_v4(tables, mbuf, origin, sorted),
            eth::ether_type::IPV6 => self.accept_v6(mbuf, origin, &mut sorted.v6),
            eth::ether_type::ARP => self.punt(mbuf, origin.ingress, origin.l3, origin.vtep),
            _ => self.discard(mbuf, Drop::EtherTypeUnknown),
        }
    }

    fn accept_v4(&mut self, tables: &Tables, mbuf: Mbuf, origin: &Origin, sorted: &mut Sorted) {
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
            return self.decapsulate(tables, mbuf, origin.l3, &ip, sorted);
        }
        let meta = origin.meta_v4(ip);
        if ip.fragment != FragmentPart::Whole && tables.nat().gathers(origin.vrf, ip.destination.into()) {
            return self.gather_v4(tables, mbuf, meta);
        }
        self.walk_v4(tables, Packet { mbuf, meta });
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
    fn decapsulate(&mut self, tables: &Tables, mut mbuf: Mbuf, l3: u16, outer: &V4, sorted: &mut Sorted) {
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
        let origin = Origin {
            vtep: Some(Ipv4Addr::from(outer.source)),
            ..Origin::on(id, interface, eth::LENGTH)
        };
        if let Some(gate) = Gate::of(tables, interface, origin, &mut sorted.origins)
            && let Some(ip) = gate.parse_v4::<{ eth::LENGTH }>(tables, mbuf.data())
        {
            return sorted.usual.push(mbuf, ip, &gate);
        }
        let link = match parse_link(mbuf.data()) {
            Ok(link) if link.vlan.is_none() => link,
            // RFC 7348 section 6.1: an inner frame carries no VLAN tag unless configured otherwise.
            Ok(_) => return self.discard(mbuf, Drop::VlanUnknown),
            Err(reason) => return self.discard(mbuf, reason),
        };
        self.accept(tables, mbuf, &link, interface, &origin, sorted);
    }
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
fn push_v6(v6: &mut Burst<V6>, mbuf: Mbuf, ip: V6, origin: &Origin) {
    let hash = hash_v6(&ip);
    v6.push(mbuf, origin.meta(ip, hash));
}

/// [`flow_hash`] of an IPv6 packet.
#[inline(always)]
pub(super) fn hash_v6(ip: &V6) -> u32 {
    flow_hash(
        fold(ip.source),
        fold(ip.destination),
        ip.protocol,
        ip.source_port,
        ip.destination_port,
    )
}

/// [`flow_hash`] of what a connection is found by.
#[inline]
pub(super) fn hash_of(key: &FlowKey) -> u32 {
    flow_hash(
        key.source(),
        key.destination(),
        key.protocol(),
        key.source_port(),
        key.destination_port(),
    )
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
