//! Every reason for which a packet is dropped: one enum, and all that hangs on it.
//!
//! Counter index, name in `turnpike show drops`, metric label and documentation are derived from the table below, so
//! that a reason exists in exactly one place.

use std::fmt;

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $text:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Drop {
            $(#[doc = $text] $variant,)*
        }

        impl Drop {
            /// Every reason, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Number of reasons: the length of a counter array.
            pub const COUNT: usize = Self::ALL.len();

            /// Stable name, as shown by `turnpike show drops` and in metric labels.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, in one sentence.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    FrameTruncated "frame-truncated" "Frame shorter than its Ethernet and VLAN headers.",
    NotForUs "not-for-us" "Unicast destination MAC is not the receiving interface's.",
    SourceMacInvalid "source-mac-invalid" "Source MAC is a group address.",
    VlanUnknown "vlan-unknown" "VLAN tag that no interface of the port carries.",
    VlanStack "vlan-stack" "More than one VLAN tag.",
    VniUnknown "vni-unknown" "VXLAN packet to this endpoint with a VNI that no VPC has.",
    VxlanMalformed "vxlan-malformed" "VXLAN header truncated, or without the I flag (RFC 7348 section 5).",
    InterfaceDown "interface-down" "Interface is administratively down.",
    Ipv4Malformed "ipv4-malformed" "IPv4 header truncated, of another version, or of a length that is a lie.",
    Ipv4Checksum "ipv4-checksum" "IPv4 header checksum is wrong (RFC 1812 section 5.2.2).",
    Ipv4Options "ipv4-options" "IPv4 options malformed or of a kind that is not forwarded (RFC 7126).",
    Ipv6Malformed "ipv6-malformed" "IPv6 header truncated, of another version, or of a length that is a lie.",
    Ipv6ExtensionChain "ipv6-extension-chain" "IPv6 extension headers truncated, out of order or too many.",
    TcpMalformed "tcp-malformed" "TCP header truncated or data offset out of range.",
    UdpMalformed "udp-malformed" "UDP header truncated or length field is a lie.",
    IcmpMalformed "icmp-malformed" "ICMP or ICMPv6 header truncated.",
    EtherTypeUnknown "ethertype-unknown" "Neither IPv4, IPv6 nor ARP, and nothing on the host takes it.",
    Martian "martian" "Source or destination address may not be forwarded (RFC 1812 section 5.3.7, RFC 4291).",
    NoRoute "no-route" "No route to the destination.",
    Blackhole "blackhole" "Route says to drop silently.",
    Unreachable "unreachable" "Route says that the destination is unreachable.",
    Prohibited "prohibited" "Route says that the destination is administratively prohibited.",
    VrfLoop "vrf-loop" "Leaked routes lead back to a VRF that the lookup was in, or through more than four others.",
    TtlExpired "ttl-expired" "TTL or hop limit reached zero.",
    NeighborUnresolved "neighbor-unresolved" "Next hop did not answer ARP or ND in time.",
    NeighborQueueFull "neighbor-queue-full" "Too many packets wait for the same next hop.",
    PacketTooBig "packet-too-big" "Larger than the egress MTU and may not be fragmented.",
    FragmentFailed "fragment-failed" "To be fragmented, but it has IP options or there were no buffers for the pieces.",
    NatNoMapping "nat-no-mapping" "To a NAT address, and no connection, port forward, static NAT or open mapping matches.",
    NatPortsExhausted "nat-ports-exhausted" "Every port of the masquerade pool, or of what the subscriber may have of it, is in use.",
    NatTenantLimit "nat-tenant-limit" "The VPC has as many connections, or as many new ones a second, as it may have.",
    NatSubscriberLimit "nat-subscriber-limit" "The host has as many connections, or as many new ones a second, as it may have.",
    NatTableFull "nat-table-full" "Connection table is at its configured size, and all of it is established.",
    NatUnsupported "nat-unsupported" "Protocol or ICMP type that NAT does not translate.",
    NptUntranslatable "npt-untranslatable" "Address whose words are all ones where NPTv6 would have to change one (RFC 6296 section 3.4).",
    NatFragment "nat-fragment" "Fragment to be translated that overlaps another one, is a copy, or whose first one did not come in time.",
    NatStateInvalid "nat-state-invalid" "TCP segment that neither opens nor belongs to a connection.",
    NatPolicyDenied "nat-policy-denied" "Connection ended because no NAT rule or route allows it any more.",
    HandoverQueueFull "handover-queue-full" "Ring to the worker that owns the connection is full.",
    PuntQueueFull "punt-queue-full" "Ring or tap of the host interface is full.",
    TxQueueFull "tx-queue-full" "Port did not take the packet.",
    HeadroomExhausted "headroom-exhausted" "No room in front of the packet for the encapsulation.",
    Scattered "scattered" "Packet spans several buffers, larger than the pool's buffer size.",
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_indices_dense() {
        let mut names: Vec<_> = Drop::ALL.iter().map(|d| d.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Drop::COUNT);
        assert!(Drop::ALL.iter().enumerate().all(|(i, d)| *d as usize == i));
    }
}
