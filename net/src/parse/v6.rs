//! IPv6 packets.

use super::layer4::{Layer4, layer4, quoted_layer4};
use super::{FragmentPart, protocol};
use crate::bytes::{be16, be128};
use crate::{Drop, ipv6};

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
    /// TCP flags ([`crate::tcp_flag`]); 0 unless TCP.
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

/// The IPv6 counterpart of [`crate::parse_quoted_v4`] (RFC 4443).
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
