//! IPv4 packets.

use super::layer4::{Layer4, layer4, quoted_layer4};
use super::{FragmentPart, protocol};
use crate::bytes::{be16, be32, within};
use crate::{Drop, checksum, ipv4};

/// An IPv4 packet, every length checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V4 {
    /// Source address, host order.
    pub source: u32,
    /// Destination address, host order.
    pub destination: u32,
    /// Protocol of layer 4 ([`crate::protocol`]).
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
    /// TCP flags ([`crate::tcp_flag`]); 0 unless TCP.
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
