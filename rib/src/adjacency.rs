//! Adjacencies: what a worker needs to send a packet to a next hop, ready to be copied in front of it.

use std::net::{IpAddr, Ipv4Addr};

use net::{Drop, InterfaceId, Mac, PortId, RouteKind, VlanId, Vni};

/// Bytes that VXLAN puts between the outer Ethernet header and the inner IP packet: IPv4, UDP, VXLAN, inner Ethernet.
pub const VXLAN_OVERHEAD: usize = 20 + 8 + 8 + 14;
/// The longest rewrite: an outer Ethernet header with a VLAN tag, and [`VXLAN_OVERHEAD`].
const REWRITE: usize = 18 + VXLAN_OVERHEAD;
/// TTL of the outer IPv4 header.
const OUTER_TTL: u8 = 64;

/// What to do with a packet that goes to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum AdjacencyKind {
    /// No route: the entry of next hop 0.
    NoRoute = 0,
    /// Leaked routes lead from VRF to VRF without end.
    VrfLoop,
    /// Send; the rewrite is the whole Ethernet header.
    Forward,
    /// Send; the rewrite is the outer Ethernet, IPv4, UDP and VXLAN headers and the inner Ethernet header.
    Vxlan,
    /// A connected subnet: the neighbour to resolve is the packet's own destination.
    Glean,
    /// The neighbour (or the VXLAN endpoint) of the gateway is not known.
    Incomplete,
    /// An address of the gateway.
    Local,
    /// An address that NAT answers for.
    Nat,
    /// Drop silently.
    Blackhole,
    /// Drop with ICMP host unreachable.
    Unreachable,
    /// Drop with ICMP administratively prohibited.
    Prohibit,
}

impl AdjacencyKind {
    /// Why a packet to such a next hop is dropped; `None` for kinds that do not drop by themselves.
    pub const fn drop_reason(self) -> Option<Drop> {
        match self {
            Self::NoRoute => Some(Drop::NoRoute),
            Self::VrfLoop => Some(Drop::VrfLoop),
            Self::Blackhole => Some(Drop::Blackhole),
            Self::Unreachable => Some(Drop::Unreachable),
            Self::Prohibit => Some(Drop::Prohibited),
            Self::Forward | Self::Vxlan | Self::Glean | Self::Incomplete | Self::Local | Self::Nat => None,
        }
    }
}

/// One entry of the next-hop table. What a plain forward needs is in the first cache line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Adjacency {
    /// What to do.
    pub kind: AdjacencyKind,
    length: u8,
    /// Interface it leaves by: the VXLAN interface for an overlay next hop. Meaningless where nothing is sent.
    pub interface: InterfaceId,
    /// Port it leaves by: the underlay's for an overlay next hop.
    pub port: PortId,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    rewrite: [u8; REWRITE],
    /// Address of the neighbour; `None` for kinds without one.
    pub gateway: Option<IpAddr>,
}

const _: () = assert!(size_of::<Adjacency>() <= 128, "an adjacency is at most two cache lines");

/// The ends of a VXLAN tunnel and of the Ethernet segment within.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnel {
    pub(crate) interface: InterfaceId,
    pub(crate) vni: Vni,
    pub(crate) source: Ipv4Addr,
    pub(crate) vtep: Ipv4Addr,
    pub(crate) udp_port: u16,
    pub(crate) inner_source: Mac,
    pub(crate) inner_destination: Mac,
    pub(crate) mtu: u16,
}

impl Adjacency {
    /// An entry without a rewrite.
    pub(crate) const fn plain(kind: AdjacencyKind) -> Self {
        Self {
            kind,
            length: 0,
            interface: InterfaceId(0),
            port: PortId(0),
            mtu: 0,
            rewrite: [0; REWRITE],
            gateway: None,
        }
    }

    /// A neighbour on a port or a VLAN.
    pub(crate) fn forward(gateway: IpAddr, destination: Mac, source: Mac, vlan: Option<VlanId>) -> Self {
        let mut adjacency = Self {
            gateway: Some(gateway),
            ..Self::plain(AdjacencyKind::Forward)
        };
        adjacency.push(&destination.0);
        adjacency.push(&source.0);
        if let Some(vlan) = vlan {
            adjacency.push(&[0x81, 0x00]);
            adjacency.push(&vlan.value().to_be_bytes());
        }
        adjacency.push(&ethertype(gateway));
        adjacency
    }

    /// A neighbour behind a VXLAN endpoint, whose own neighbour is `underlay`.
    pub(crate) fn vxlan(gateway: Option<IpAddr>, tunnel: Tunnel, underlay: &Self) -> Self {
        let overhead = VXLAN_OVERHEAD as u16;
        let mut adjacency = Self {
            interface: tunnel.interface,
            port: underlay.port,
            mtu: tunnel.mtu.min(underlay.mtu.saturating_sub(overhead)),
            gateway,
            ..Self::plain(AdjacencyKind::Vxlan)
        };
        let ethernet = underlay.rewrite();
        adjacency.push(&ethernet[..ethernet.len().saturating_sub(2)]);
        adjacency.push(&[0x08, 0x00]);
        adjacency.push(&outer_ipv4(tunnel.source, tunnel.vtep));
        adjacency.push(&[0, 0]); // source port: flow entropy, per packet
        adjacency.push(&tunnel.udp_port.to_be_bytes());
        adjacency.push(&[0, 0, 0, 0]); // length per packet; checksum 0 (RFC 7348 section 5)
        adjacency.push(&[0x08, 0, 0, 0]); // I flag: the VNI is valid
        adjacency.push(&(tunnel.vni.value() << 8).to_be_bytes());
        adjacency.push(&tunnel.inner_destination.0);
        adjacency.push(&tunnel.inner_source.0);
        adjacency.push(&gateway.map_or([0x08, 0x00], ethertype));
        adjacency
    }

    /// Bytes to put in front of the IP packet; empty unless `kind` is Forward or Vxlan.
    #[inline]
    pub fn rewrite(&self) -> &[u8] {
        &self.rewrite[..usize::from(self.length).min(REWRITE)]
    }

    /// The rewrite, if it is an Ethernet header without a tag and nothing else.
    #[inline(always)]
    pub fn ethernet(&self) -> Option<&[u8; 14]> {
        // Two bytes side by side: one comparison.
        const ETHERNET: u16 = u16::from_ne_bytes([AdjacencyKind::Forward as u8, 14]);
        let header = self.rewrite.first_chunk()?;
        (u16::from_ne_bytes([self.kind as u8, self.length]) == ETHERNET).then_some(header)
    }

    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.length);
        self.rewrite[at..at + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

/// The entry of a route kind that has no next hops.
pub(crate) const fn special(kind: RouteKind) -> AdjacencyKind {
    match kind {
        RouteKind::Unicast => AdjacencyKind::NoRoute,
        RouteKind::Local => AdjacencyKind::Local,
        RouteKind::Nat => AdjacencyKind::Nat,
        RouteKind::Blackhole => AdjacencyKind::Blackhole,
        RouteKind::Unreachable => AdjacencyKind::Unreachable,
        RouteKind::Prohibit => AdjacencyKind::Prohibit,
    }
}

fn ethertype(gateway: IpAddr) -> [u8; 2] {
    if gateway.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] }
}

/// The outer header for total length 0: DF set and identification 0 (RFC 6864 section 4), so only the length and,
/// incrementally, the checksum are left to patch per packet.
fn outer_ipv4(source: Ipv4Addr, destination: Ipv4Addr) -> [u8; 20] {
    let mut header = [
        0x45, 0, 0, 0, 0, 0, 0x40, 0, OUTER_TTL, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum: u32 = header
        .chunks_exact(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn forward_is_the_ethernet_header_with_tag() {
        let vlan = VlanId::new(0x123).expect("valid");
        let adjacency = Adjacency::forward("10.0.0.1".parse().expect("valid"), mac(1), mac(2), Some(vlan));
        assert_eq!(
            adjacency.rewrite(),
            [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x01, 0x23, 0x08, 0x00]
        );
        let v6 = Adjacency::forward("fe80::1".parse().expect("valid"), mac(1), mac(2), None);
        assert_eq!(v6.rewrite()[12..], [0x86, 0xdd]);
        assert_eq!(v6.ethernet().map(<[u8; 14]>::as_slice), Some(v6.rewrite()));
        assert_eq!(adjacency.ethernet(), None);
    }

    #[test]
    fn vxlan_is_every_outer_header_with_a_valid_checksum() {
        let mut underlay = Adjacency::forward("2001:db8::1".parse().expect("valid"), mac(1), mac(2), None);
        underlay.port = PortId(3);
        underlay.mtu = 1500;
        let tunnel = Tunnel {
            interface: InterfaceId(7),
            vni: Vni::new(0x010203).expect("valid"),
            source: Ipv4Addr::new(192, 0, 2, 1),
            vtep: Ipv4Addr::new(192, 0, 2, 2),
            udp_port: 4789,
            inner_source: mac(4),
            inner_destination: mac(5),
            mtu: 1500,
        };
        let adjacency = Adjacency::vxlan(Some("10.0.0.9".parse().expect("valid")), tunnel, &underlay);
        let bytes = adjacency.rewrite();
        assert_eq!(
            (adjacency.port, adjacency.interface, adjacency.mtu),
            (PortId(3), InterfaceId(7), 1450)
        );
        assert_eq!(bytes.len(), 14 + VXLAN_OVERHEAD);
        assert_eq!(
            bytes[..14],
            [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00],
            "an IPv4 packet, by an IPv6 gateway"
        );
        let ip = &bytes[14..34];
        let sum: u32 = ip.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(ip[..10], [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(ip[12..], [192, 0, 2, 1, 192, 0, 2, 2]);
        assert_eq!(bytes[34..42], [0, 0, 0x12, 0xb5, 0, 0, 0, 0]);
        assert_eq!(bytes[42..50], [8, 0, 0, 0, 1, 2, 3, 0]);
        assert_eq!(bytes[50..], [2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 4, 0x08, 0x00]);
    }
}
