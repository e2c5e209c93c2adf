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
// Called once a packet; through memory the result costs as much again as parsing.
#[inline(always)]
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
    /// True if source or destination may not be forwarded (RFC 4291, RFC 6890): unspecified, loopback or IPv4-mapped on
    /// either side, multicast as a source. Neighbour discovery sends from `::` to the host, so what is punted is decided before.
    #[inline]
    pub const fn is_martian(&self) -> bool {
        is_nobody(self.source) | is_nobody(self.destination) | (self.source >> 120 == 0xff)
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

/// True for `::`, `::1` and IPv4-mapped addresses.
#[inline(always)]
const fn is_nobody(address: u128) -> bool {
    address <= 1 || address >> 32 == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv6::{next_header, write_header};

    const HOST: u128 = 0x2001_0db8 << 96 | 1;

    fn packet(next_header: u8, payload: &[u8], addresses: [u128; 2]) -> Vec<u8> {
        let mut header = [0; 40];
        write_header(&mut header, 0, payload.len() as u16, next_header, 64, addresses);
        [header.as_slice(), payload].concat()
    }

    fn parse(next_header: u8, payload: &[u8]) -> Result<V6, Drop> {
        parse_v6(&packet(next_header, payload, [HOST, HOST + 1]))
    }

    const UDP: [u8; 10] = [0x0f, 0xa0, 0, 53, 0, 10, 0, 0, 1, 2];

    #[test]
    fn lengths_and_version_that_lie_are_refused() {
        let mut bytes = packet(protocol::UDP, &UDP, [HOST, HOST + 1]);
        bytes.extend_from_slice(&[0; 6]);
        assert_eq!(
            parse_v6(&bytes).map(|p| (p.payload_length, p.l4, p.source_port)),
            Ok((10, 40, 4000))
        );
        for (payload_length, drop) in [
            (17, Drop::Ipv6Malformed),
            (9, Drop::UdpMalformed),
            (0, Drop::UdpMalformed),
        ] {
            bytes[5] = payload_length;
            assert_eq!(parse_v6(&bytes), Err(drop), "payload length {payload_length}");
        }
        bytes[5] = 10;
        bytes[0] = 0x45;
        assert_eq!(parse_v6(&bytes), Err(Drop::Ipv6Malformed));
        for length in 0..40 {
            assert_eq!(
                parse_v6(&packet(59, &[], [1, 2])[..length]),
                Err(Drop::Ipv6Malformed),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn ports_are_found_behind_extension_headers() {
        let hop_by_hop = [next_header::DESTINATION, 0, 1, 4, 0, 0, 0, 0];
        let destination = [next_header::FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
        let fragment = [protocol::UDP, 0, 0, 1, 0, 0, 0, 7];
        let bytes = [hop_by_hop.as_slice(), &destination, &fragment, &UDP].concat();
        let parsed = parse(next_header::HOP_BY_HOP, &bytes).expect("in order");
        assert_eq!(
            (parsed.protocol, parsed.l4, parsed.destination_port),
            (protocol::UDP, 64, 53)
        );
        assert_eq!((parsed.extensions, parsed.hop_by_hop), (true, true));
        assert_eq!((parsed.fragment, parsed.identification), (FragmentPart::First, 7));
        assert_eq!(
            parse(next_header::DESTINATION, &bytes[8..16]),
            Err(Drop::Ipv6ExtensionChain)
        );
        let plain = parse(protocol::UDP, &UDP).expect("valid");
        assert_eq!((plain.extensions, plain.hop_by_hop), (false, false));
    }

    #[test]
    fn echo_identifier_is_both_ports_and_icmp_of_the_other_version_is_not_read() {
        let echo = [128, 0, 0, 0, 0x12, 0x34, 0, 1];
        let parsed = parse(protocol::ICMPV6, &echo).expect("valid");
        assert_eq!(
            (parsed.source_port, parsed.destination_port, parsed.icmp_type),
            (0x1234, 0x1234, 128)
        );
        assert_eq!(parse(protocol::ICMPV6, &echo[..7]), Err(Drop::IcmpMalformed));
        assert_eq!(
            parse(protocol::ICMP, &echo).map(|p| (p.source_port, p.icmp_type)),
            Ok((0, 0))
        );
    }

    #[test]
    fn martians_and_link_locals() {
        let verdict = |source, destination| {
            let parsed = parse_v6(&packet(protocol::UDP, &UDP, [source, destination])).expect("valid");
            (parsed.is_martian(), parsed.is_multicast(), parsed.is_link_local())
        };
        let (multicast, link_local) = (0xff02 << 112 | 1, 0xfe80 << 112 | 1);
        assert_eq!(verdict(HOST, HOST + 1), (false, false, false));
        assert_eq!(verdict(HOST, multicast), (false, true, false));
        assert_eq!(verdict(multicast, HOST), (true, false, false));
        for bad in [0, 1, 0xffff_0a00_0001] {
            assert_eq!(verdict(bad, HOST), (true, false, false));
            assert_eq!(verdict(HOST, bad), (true, false, false));
        }
        assert_eq!(verdict(link_local, HOST), (false, false, true));
        assert_eq!(verdict(HOST, link_local), (false, false, true));
    }
}
