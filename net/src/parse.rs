//! The parse step of the packet path: one pass over a packet, every length checked, what forwarding and NAT ask for
//! in one small value.
//!
//! The walk of a packet: [`parse_link`] on the frame, then [`parse_v4`] or [`parse_v6`] on what follows
//! [`Link::l3`]. The header views ([`crate::ipv4::Ipv4`] and its siblings) read and rewrite what was found here.

use crate::bytes::{be16, be32, be128, within};
use crate::eth::ether_type;
use crate::{Drop, Mac, VlanId, checksum, ipv4, ipv6};

/// Bits of the TCP flags byte (RFC 9293 section 3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number means something.
    pub const ACK: u8 = 0x10;
}

/// IP protocol numbers (IANA), the same for IPv4 and IPv6.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// What the Ethernet header and at most one VLAN tag say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Destination MAC.
    pub destination: Mac,
    /// Source MAC.
    pub source: Mac,
    /// EtherType of what follows [`Link::l3`]; below 0x600 it is an IEEE 802.3 length.
    pub ether_type: u16,
    /// VLAN; `None` for untagged and for priority-tagged (VLAN ID 0) frames.
    pub vlan: Option<VlanId>,
    /// Offset of layer 3 in the frame.
    pub l3: u16,
}

/// Reads the Ethernet header and an 802.1Q or 802.1ad tag.
///
/// # Errors
/// [`Drop::FrameTruncated`], [`Drop::VlanStack`] for a second tag, [`Drop::VlanUnknown`] for the reserved ID 4095.
#[inline]
pub fn parse_link(frame: &[u8]) -> Result<Link, Drop> {
    let Some(header) = frame.first_chunk::<14>() else {
        return Err(Drop::FrameTruncated);
    };
    let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, e0, e1] = header;
    let link = Link {
        destination: Mac([d0, d1, d2, d3, d4, d5]),
        source: Mac([s0, s1, s2, s3, s4, s5]),
        ether_type: u16::from_be_bytes([e0, e1]),
        vlan: None,
        l3: 14,
    };
    if ether_type::is_vlan(link.ether_type) {
        tagged(link, frame)
    } else {
        Ok(link)
    }
}

#[inline]
fn tagged(link: Link, frame: &[u8]) -> Result<Link, Drop> {
    let Some(header) = frame.first_chunk::<18>() else {
        return Err(Drop::FrameTruncated);
    };
    let ether_type = be16(header, 16);
    if ether_type::is_vlan(ether_type) {
        return Err(Drop::VlanStack);
    }
    let vlan = match be16(header, 14) & 0x0fff {
        0 => None,
        id => Some(VlanId::new(id).map_err(|_| Drop::VlanUnknown)?),
    };
    Ok(Link {
        ether_type,
        vlan,
        l3: 18,
        ..link
    })
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FragmentPart {
    /// All of it.
    Whole,
    /// Its beginning, with the layer 4 header.
    First,
    /// A part without layer 4 header.
    Later,
}

impl FragmentPart {
    /// From the offset (in any unit) and the more-fragments flag.
    #[inline]
    pub(crate) const fn of(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}

/// An IPv4 packet, every length checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V4 {
    /// Source address, host order.
    pub source: u32,
    /// Destination address, host order.
    pub destination: u32,
    /// Protocol of layer 4 ([`protocol`]).
    pub protocol: u8,
    /// Time to live as received; may be 0.
    pub ttl: u8,
    /// Length of header and payload, without the padding of the frame.
    pub total_length: u16,
    /// Offset of layer 4 from the start of the IP header.
    pub l4: u16,
    /// Which part of a datagram it is.
    pub fragment: FragmentPart,
    /// Identification, which joins the fragments of a datagram.
    pub identification: u16,
    /// The don't-fragment flag.
    pub dont_fragment: bool,
    /// There are options; they are well-formed and none of them routes.
    pub options: bool,
    /// TCP or UDP source port, or the identifier of an ICMP echo; 0 otherwise and on later fragments.
    pub source_port: u16,
    /// TCP or UDP destination port, or again the identifier of an ICMP echo; 0 otherwise and on later fragments.
    pub destination_port: u16,
    /// TCP flags ([`tcp_flag`]); 0 unless TCP.
    pub tcp_flags: u8,
    /// ICMP type; 0 unless ICMP.
    pub icmp_type: u8,
    /// ICMP code; 0 unless ICMP.
    pub icmp_code: u8,
}

/// Parses and checks an IPv4 packet that starts at its IP header and may have padding behind it.
///
/// The header checksum is verified, options are checked ([`ipv4::check_options`]), and layer 4 has its whole header
/// unless the packet is a later fragment. Layer 4 checksums are the end systems' to verify.
///
/// # Errors
/// [`Drop::Ipv4Malformed`], [`Drop::Ipv4Checksum`], [`Drop::Ipv4Options`], [`Drop::TcpMalformed`],
/// [`Drop::UdpMalformed`] or [`Drop::IcmpMalformed`].
#[inline]
pub fn parse_v4(packet: &[u8]) -> Result<V4, Drop> {
    let Some(header) = packet.first_chunk::<20>() else {
        return Err(Drop::Ipv4Malformed);
    };
    let total_length = be16(header, 2);
    let options = header[0] != 0x45;
    let l4 = if options {
        optioned_header_length(packet)?
    } else {
        if !checksum::is_valid_header(header) {
            return Err(Drop::Ipv4Checksum);
        }
        20
    };
    let Some(payload) = packet.get(l4..usize::from(total_length)) else {
        return Err(Drop::Ipv4Malformed);
    };
    let flags_offset = be16(header, 6);
    let fragment = fragment_v4(flags_offset, total_length)?;
    let protocol = header[9];
    let layer4 = layer4::<{ protocol::ICMP }>(protocol, payload, fragment)?;
    Ok(v4(header, l4 as u16, fragment, layer4))
}

/// Parses the packet quoted in an ICMP error: its IP header and as much behind it as the sender saw fit, 8 bytes or
/// more (RFC 792). Neither is its total length believed nor its checksum verified, since routers on the way may have
/// changed the header; `tcp_flags` is 0 where the quote ends before them.
///
/// # Errors
/// [`Drop::IcmpMalformed`]: the error cannot be related to anything.
#[inline]
pub fn parse_quoted_v4(quote: &[u8]) -> Result<V4, Drop> {
    let Some(header) = quote.first_chunk::<20>() else {
        return Err(Drop::IcmpMalformed);
    };
    let l4 = usize::from(header[0] & 0x0f) * 4;
    let Some(payload) = quote.get(l4..) else {
        return Err(Drop::IcmpMalformed);
    };
    if header[0] >> 4 != 4 || l4 < 20 {
        return Err(Drop::IcmpMalformed);
    }
    let flags_offset = be16(header, 6);
    let fragment = FragmentPart::of(flags_offset & 0x1fff, flags_offset & 0x2000 != 0);
    let layer4 = quoted_layer4::<{ protocol::ICMP }>(header[9], payload, fragment)?;
    Ok(v4(header, l4 as u16, fragment, layer4))
}

#[inline]
fn v4(header: &[u8; 20], l4: u16, fragment: FragmentPart, layer4: Layer4) -> V4 {
    V4 {
        source: be32(header, 12),
        destination: be32(header, 16),
        protocol: header[9],
        ttl: header[8],
        total_length: be16(header, 2),
        l4,
        fragment,
        identification: be16(header, 4),
        dont_fragment: header[6] & 0x40 != 0,
        options: l4 != 20,
        source_port: layer4.source_port,
        destination_port: layer4.destination_port,
        tcp_flags: layer4.tcp_flags,
        icmp_type: layer4.icmp_type,
        icmp_code: layer4.icmp_code,
    }
}

/// Header length of a packet whose first byte is not 0x45, everything about that header checked.
#[cold]
fn optioned_header_length(packet: &[u8]) -> Result<usize, Drop> {
    let first = packet.first().copied().unwrap_or_default();
    let length = usize::from(first & 0x0f) * 4;
    let header = within(packet, 0..length);
    if first >> 4 != 4 || header.len() <= 20 {
        return Err(Drop::Ipv4Malformed);
    }
    if !checksum::is_valid(header) {
        return Err(Drop::Ipv4Checksum);
    }
    ipv4::check_options(within(header, 20..length))?;
    Ok(length)
}

#[inline]
fn fragment_v4(flags_offset: u16, total_length: u16) -> Result<FragmentPart, Drop> {
    if flags_offset & 0x3fff == 0 {
        return Ok(FragmentPart::Whole);
    }
    let offset = flags_offset & 0x1fff;
    // A reassembled datagram longer than 65535 bytes cannot be ("ping of death").
    if u32::from(offset) * 8 + u32::from(total_length) > u32::from(u16::MAX) {
        return Err(Drop::Ipv4Malformed);
    }
    Ok(FragmentPart::of(offset, flags_offset & 0x2000 != 0))
}

impl V4 {
    /// True if source or destination may not be forwarded (RFC 1812 section 5.3.7): 0/8, loopback, 240/4 with the
    /// limited broadcast on either side, multicast as a source. A destination of 255.255.255.255 may still be for
    /// the host (DHCP), so what is punted is decided before.
    #[inline]
    pub const fn is_martian(&self) -> bool {
        let (source, destination) = (self.source >> 24, self.destination >> 24);
        (source == 0)
            | (source == 127)
            | (source >= 224)
            | (destination == 0)
            | (destination == 127)
            | (destination >= 240)
    }

    /// True if the destination is a multicast group (224/4).
    #[inline]
    pub const fn is_multicast(&self) -> bool {
        self.destination >> 28 == 0xe
    }
}

/// An IPv6 packet, every length checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V6 {
    /// Source address, host order.
    pub source: u128,
    /// Destination address, host order.
    pub destination: u128,
    /// What follows the extension headers. On a later fragment it is what the fragment header names, which may be an
    /// extension header that only the first fragment has.
    pub protocol: u8,
    /// Hop limit as received; may be 0.
    pub hop_limit: u8,
    /// Length of everything behind the 40-byte header, without the padding of the frame.
    pub payload_length: u16,
    /// Offset of layer 4 from the start of the IP header.
    pub l4: u16,
    /// Which part of a datagram it is.
    pub fragment: FragmentPart,
    /// Identification from the fragment header; 0 without one.
    pub identification: u32,
    /// There are extension headers.
    pub extensions: bool,
    /// There is a hop-by-hop options header.
    pub hop_by_hop: bool,
    /// TCP or UDP source port, or the identifier of an ICMPv6 echo; 0 otherwise and on later fragments.
    pub source_port: u16,
    /// TCP or UDP destination port, or again the identifier of an ICMPv6 echo; 0 otherwise and on later fragments.
    pub destination_port: u16,
    /// TCP flags ([`tcp_flag`]); 0 unless TCP.
    pub tcp_flags: u8,
    /// ICMPv6 type; 0 unless ICMPv6.
    pub icmp_type: u8,
    /// ICMPv6 code; 0 unless ICMPv6.
    pub icmp_code: u8,
}

/// Parses and checks an IPv6 packet that starts at its IP header and may have padding behind it.
///
/// # Errors
/// [`Drop::Ipv6Malformed`], [`Drop::Ipv6ExtensionChain`] (see [`ipv6::walk`]), [`Drop::TcpMalformed`],
/// [`Drop::UdpMalformed`] or [`Drop::IcmpMalformed`].
#[inline]
pub fn parse_v6(packet: &[u8]) -> Result<V6, Drop> {
    let Some(header) = packet.first_chunk::<40>() else {
        return Err(Drop::Ipv6Malformed);
    };
    let Some(payload) = packet.get(40..40 + usize::from(be16(header, 4))) else {
        return Err(Drop::Ipv6Malformed);
    };
    if header[0] >> 4 != 6 {
        return Err(Drop::Ipv6Malformed);
    }
    let chain = chain(header[6], payload)?;
    let layer4 = layer4::<{ protocol::ICMPV6 }>(chain.protocol, chain.payload, chain.fragment)?;
    Ok(v6(header, &chain, layer4))
}

/// The IPv6 counterpart of [`parse_quoted_v4`] (RFC 4443).
///
/// # Errors
/// [`Drop::IcmpMalformed`]: the error cannot be related to anything.
#[inline]
pub fn parse_quoted_v6(quote: &[u8]) -> Result<V6, Drop> {
    let Some((header, payload)) = quote.split_first_chunk::<40>() else {
        return Err(Drop::IcmpMalformed);
    };
    if header[0] >> 4 != 6 {
        return Err(Drop::IcmpMalformed);
    }
    let chain = chain(header[6], payload).map_err(|_| Drop::IcmpMalformed)?;
    let layer4 = quoted_layer4::<{ protocol::ICMPV6 }>(chain.protocol, chain.payload, chain.fragment)?;
    Ok(v6(header, &chain, layer4))
}

/// The chain of a packet; without extension headers no call is made.
#[inline]
fn chain(next_header: u8, payload: &[u8]) -> Result<ipv6::Chain<'_>, Drop> {
    match next_header {
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => Ok(ipv6::Chain::none(next_header, payload)),
        _ => ipv6::walk(next_header, payload),
    }
}

#[inline]
fn v6(header: &[u8; 40], chain: &ipv6::Chain<'_>, layer4: Layer4) -> V6 {
    V6 {
        source: be128(header, 8),
        destination: be128(header, 24),
        protocol: chain.protocol,
        hop_limit: header[7],
        payload_length: be16(header, 4),
        l4: 40 + chain.length,
        fragment: chain.fragment,
        identification: chain.identification,
        extensions: chain.length != 0,
        hop_by_hop: header[6] == ipv6::next_header::HOP_BY_HOP,
        source_port: layer4.source_port,
        destination_port: layer4.destination_port,
        tcp_flags: layer4.tcp_flags,
        icmp_type: layer4.icmp_type,
        icmp_code: layer4.icmp_code,
    }
}

impl V6 {
    /// True if source or destination may not be forwarded (RFC 4291): unspecified or loopback on either side,
    /// multicast as a source. Neighbour discovery sends from `::` to the host, so what is punted is decided before.
    #[inline]
    pub const fn is_martian(&self) -> bool {
        (self.source <= 1) | (self.destination <= 1) | (self.source >> 120 == 0xff)
    }

    /// True if the destination is a multicast group (ff00::/8).
    #[inline]
    pub const fn is_multicast(&self) -> bool {
        self.destination >> 120 == 0xff
    }

    /// True if source or destination is link-local (fe80::/10): never forwarded (RFC 4291 section 2.5.6), often to us.
    #[inline]
    pub const fn is_link_local(&self) -> bool {
        (self.source >> 118 == 0x3fa) | (self.destination >> 118 == 0x3fa)
    }
}

/// What forwarding and NAT want to know of layer 4.
#[derive(Clone, Copy, Default)]
struct Layer4 {
    source_port: u16,
    destination_port: u16,
    tcp_flags: u8,
    icmp_type: u8,
    icmp_code: u8,
}

impl Layer4 {
    #[inline]
    fn ports(header: &[u8; 8], tcp_flags: u8) -> Self {
        Self {
            source_port: be16(header, 0),
            destination_port: be16(header, 2),
            tcp_flags,
            ..Self::default()
        }
    }

    /// `ICMP` says whose type numbers these are.
    #[inline]
    fn icmp<const ICMP: u8>(header: &[u8; 8]) -> Self {
        let echo = if ICMP == protocol::ICMP {
            matches!(header[0], 0 | 8)
        } else {
            matches!(header[0], 128 | 129)
        };
        let identifier = if echo { be16(header, 4) } else { 0 };
        Self {
            source_port: identifier,
            destination_port: identifier,
            icmp_type: header[0],
            icmp_code: header[1],
            ..Self::default()
        }
    }
}

#[inline]
fn layer4<const ICMP: u8>(protocol: u8, payload: &[u8], fragment: FragmentPart) -> Result<Layer4, Drop> {
    if fragment == FragmentPart::Later {
        return Ok(Layer4::default());
    }
    match protocol {
        protocol::UDP => {
            let Some(header) = payload.first_chunk::<8>() else {
                return Err(Drop::UdpMalformed);
            };
            let length = usize::from(be16(header, 4));
            // The rest of a fragmented datagram is elsewhere.
            if length < 8 || (length > payload.len() && fragment == FragmentPart::Whole) {
                return Err(Drop::UdpMalformed);
            }
            Ok(Layer4::ports(header, 0))
        }
        protocol::TCP => {
            let (Some(header), Some(ports)) = (payload.first_chunk::<20>(), payload.first_chunk::<8>()) else {
                return Err(Drop::TcpMalformed);
            };
            let length = usize::from(header[12] >> 4) * 4;
            if length < 20 || length > payload.len() {
                return Err(Drop::TcpMalformed);
            }
            Ok(Layer4::ports(ports, header[13]))
        }
        _ if protocol == ICMP => payload
            .first_chunk::<8>()
            .map(Layer4::icmp::<ICMP>)
            .ok_or(Drop::IcmpMalformed),
        _ => Ok(Layer4::default()),
    }
}

#[inline]
fn quoted_layer4<const ICMP: u8>(protocol: u8, payload: &[u8], fragment: FragmentPart) -> Result<Layer4, Drop> {
    if fragment == FragmentPart::Later || !(matches!(protocol, protocol::TCP | protocol::UDP) || protocol == ICMP) {
        return Ok(Layer4::default());
    }
    let Some(header) = payload.first_chunk::<8>() else {
        return Err(Drop::IcmpMalformed);
    };
    Ok(match protocol {
        protocol::TCP => Layer4::ports(header, payload.get(13).copied().unwrap_or_default()),
        protocol::UDP => Layer4::ports(header, 0),
        _ => Layer4::icmp::<ICMP>(header),
    })
}
