//! What a rule does: `rte_flow` actions as Rust values, the same for applications and for drivers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::port::PortId;

/// Actions that a rule has, at most.
pub const MAX_ACTIONS: usize = 24;

/// Headers as bytes, up to [`HeaderBytes::CAPACITY`] of them, in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeaderBytes {
    length: u8,
    bytes: [u8; Self::CAPACITY],
}

impl HeaderBytes {
    /// Ethernet, two tags, IPv6, UDP, VXLAN and an inner Ethernet header fit.
    pub const CAPACITY: usize = 103;

    /// A copy of `bytes`; `None` if they are too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut headers = Self {
            length: bytes.len().try_into().ok()?,
            bytes: [0; Self::CAPACITY],
        };
        headers.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(headers)
    }
}

impl std::ops::Deref for HeaderBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for HeaderBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Headers that VXLAN encapsulation puts in front of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VxlanTunnel {
    /// Outer destination MAC.
    pub dst_mac: [u8; 6],
    /// Outer source MAC.
    pub src_mac: [u8; 6],
    /// Outer VLAN ID.
    pub vlan: Option<u16>,
    /// Outer source address.
    pub src: IpAddr,
    /// Outer destination address, of the same family.
    pub dst: IpAddr,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// Outer type of service or traffic class.
    pub tos: u8,
    /// Outer UDP source port; 0 lets the device choose it by the inner flow.
    pub udp_src: u16,
    /// Outer UDP destination port.
    pub udp_dst: u16,
    /// VXLAN network identifier.
    pub vni: u32,
}

/// One thing that a rule does, in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Count packets and bytes: see `query_count`.
    Count,
    /// Report the rule as aged after so long without a packet.
    Age {
        /// How long, seconds (24 bits).
        seconds: u32,
        /// What to report; 0 in C would mean the rule's own handle, so use another number.
        context: u64,
    },
    /// Rewrite the IPv4 source.
    SetIpv4Src(Ipv4Addr),
    /// Rewrite the IPv4 destination.
    SetIpv4Dst(Ipv4Addr),
    /// Rewrite the IPv6 source.
    SetIpv6Src(Ipv6Addr),
    /// Rewrite the IPv6 destination.
    SetIpv6Dst(Ipv6Addr),
    /// Rewrite the TCP or UDP source port.
    SetTpSrc(u16),
    /// Rewrite the TCP or UDP destination port.
    SetTpDst(u16),
    /// Rewrite the Ethernet source.
    SetMacSrc([u8; 6]),
    /// Rewrite the Ethernet destination.
    SetMacDst([u8; 6]),
    /// Decrement TTL or hop limit.
    DecTtl,
    /// Set TTL or hop limit.
    SetTtl(u8),
    /// Remove the outer headers up to and including VXLAN.
    VxlanDecap,
    /// Put these headers in front.
    VxlanEncap(VxlanTunnel),
    /// Put these bytes in front.
    RawEncap(HeaderBytes),
    /// Remove headers like these from the front.
    RawDecap(HeaderBytes),
    /// Remove the outer VLAN tag.
    OfPopVlan,
    /// Add a VLAN tag with this TPID.
    OfPushVlan(u16),
    /// Set the VLAN ID of the outer tag.
    OfSetVlanVid(u16),
    /// Deliver to a port, by the older action.
    PortId(PortId),
    /// Deliver to the application, as received on this port.
    PortRepresentor(PortId),
    /// Send out of the wire behind this port.
    RepresentedPort(PortId),
    /// Deliver to a receive queue.
    Queue(u16),
    /// Mark the packet.
    Mark(u32),
    /// Set metadata for later rules.
    SetMeta {
        /// Value.
        data: u32,
        /// Bits to set.
        mask: u32,
    },
    /// Set a register for later rules.
    SetTag {
        /// Value.
        data: u32,
        /// Bits to set.
        mask: u32,
        /// Which register.
        index: u8,
    },
    /// Go on in another group.
    Jump(u32),
    /// Drop.
    Drop,
}

/// An action of a template: fixed for all its rules, or with a value that each rule brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TemplateAction {
    /// The action; its values count if it is fixed.
    pub action: Action,
    /// True if all rules have these values.
    pub fixed: bool,
}

impl TemplateAction {
    /// The same for all rules.
    pub const fn fixed(action: Action) -> Self {
        Self { action, fixed: true }
    }

    /// Each rule brings its values; those of `action` do not matter.
    pub const fn per_rule(action: Action) -> Self {
        Self { action, fixed: false }
    }
}
