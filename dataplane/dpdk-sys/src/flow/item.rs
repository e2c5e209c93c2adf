//! What a rule matches: `rte_flow` items as Rust values, the same for applications and for drivers.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::port::PortId;

/// A value to match and the bits of it that count (those set in `mask`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Match<T> {
    /// The value.
    pub spec: T,
    /// The bits that count, in the same shape.
    pub mask: T,
}

impl<T: Default> Match<T> {
    /// `spec`, of which `mask` counts.
    pub const fn new(spec: T, mask: T) -> Self {
        Self { spec, mask }
    }

    /// Any value: only the header's presence counts.
    pub fn any() -> Self {
        Self::default()
    }
}

/// Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Eth {
    /// Destination address.
    pub dst: [u8; 6],
    /// Source address.
    pub src: [u8; 6],
    /// EtherType, or TPID of a tag.
    pub ether_type: u16,
}

/// VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Vlan {
    /// Tag control information: priority, DEI and, in the low 12 bits, the VLAN ID.
    pub tci: u16,
    /// EtherType behind the tag.
    pub inner_type: u16,
}

/// IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4 {
    /// Version and header length: 0x45 without options.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Flags (the high 3 bits) and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Default for Ipv4 {
    /// All zero.
    fn default() -> Self {
        let (src, dst) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
        Self {
            version_ihl: 0,
            tos: 0,
            fragment: 0,
            ttl: 0,
            protocol: 0,
            src,
            dst,
        }
    }
}

/// IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv6 {
    /// Version, traffic class and flow label.
    pub version_class_flow: u32,
    /// Next header.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Default for Ipv6 {
    /// All zero.
    fn default() -> Self {
        let (src, dst) = (Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        Self {
            version_class_flow: 0,
            protocol: 0,
            hop_limit: 0,
            src,
            dst,
        }
    }
}

/// UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Udp {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
}

/// TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tcp {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Flags: FIN 0x01, SYN 0x02, RST 0x04, …
    pub flags: u8,
}

/// ICMP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Icmp {
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// Identifier of an echo.
    pub identifier: u16,
}

/// VXLAN header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Vxlan {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
}

/// A register that an earlier rule wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tag {
    /// Its value.
    pub data: u32,
    /// Which register.
    pub index: u8,
}

/// One layer of a pattern, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Item {
    /// Ethernet header.
    Eth(Match<Eth>),
    /// VLAN tag.
    Vlan(Match<Vlan>),
    /// IPv4 header.
    Ipv4(Match<Ipv4>),
    /// IPv6 header.
    Ipv6(Match<Ipv6>),
    /// UDP header.
    Udp(Match<Udp>),
    /// TCP header.
    Tcp(Match<Tcp>),
    /// ICMP header.
    Icmp(Match<Icmp>),
    /// VXLAN header.
    Vxlan(Match<Vxlan>),
    /// Metadata that an earlier rule set.
    Meta(Match<u32>),
    /// Register that an earlier rule set.
    Tag(Match<Tag>),
    /// Mark that an earlier rule set.
    Mark(Match<u32>),
    /// Came in through this port of the application (what it sent).
    PortRepresentor(PortId),
    /// Came in through the wire behind this port.
    RepresentedPort(PortId),
}

impl Item {
    /// Its name in messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Eth(_) => "ETH",
            Self::Vlan(_) => "VLAN",
            Self::Ipv4(_) => "IPV4",
            Self::Ipv6(_) => "IPV6",
            Self::Udp(_) => "UDP",
            Self::Tcp(_) => "TCP",
            Self::Icmp(_) => "ICMP",
            Self::Vxlan(_) => "VXLAN",
            Self::Meta(_) => "META",
            Self::Tag(_) => "TAG",
            Self::Mark(_) => "MARK",
            Self::PortRepresentor(_) => "PORT_REPRESENTOR",
            Self::RepresentedPort(_) => "REPRESENTED_PORT",
        }
    }
}

/// Layers that a pattern has, at most.
pub const MAX_ITEMS: usize = 16;
