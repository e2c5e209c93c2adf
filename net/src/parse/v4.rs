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
// Called once a packet; through memory the result costs as much again as parsing.
#[inline(always)]
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

#[inline(always)]
fn v4(header: &[u8; 20], l4: u16, fragment: FragmentPart, layer4: Layer4) -> V4 {
    V4 {
        source: be32(header, 12),
        destination: be32(header, 16),
        protocol: header[9],
        ttl: header[8],
        total_length: be16(header, 2),
        l4,
        fragment,
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

#[inline(always)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv4::Ipv4;
    use crate::tcp_flag;

    /// A packet with `options`, whose header checksum is right whatever `change` did.
    fn packet(protocol: u8, options: &[u8], payload: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let length = 20 + options.len();
        let mut packet = vec![0; 20];
        packet[0] = 0x40 | (length / 4) as u8;
        packet[2..4].copy_from_slice(&((length + payload.len()) as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
        packet.extend_from_slice(options);
        packet.extend_from_slice(payload);
        change(&mut packet);
        if let Ok(mut ip) = Ipv4::head(packet.as_mut_slice()) {
            ip.fill_checksum();
        }
        packet
    }

    fn udp(length: u8) -> [u8; 12] {
        [0x0f, 0xa0, 0, 53, 0, length, 0, 0, 1, 2, 3, 4]
    }

    fn tcp(data_offset: u8) -> [u8; 20] {
        [
            0x0f,
            0xa0,
            0,
            80,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            2,
            data_offset << 4,
            tcp_flag::SYN,
            0,
            100,
            0,
            0,
            0,
            0,
        ]
    }

    #[test]
    fn padding_is_ignored_and_lengths_that_lie_are_refused() {
        let with_total = |total: u8| {
            let mut packet = packet(protocol::UDP, &[], &udp(12), |p| p[3] = total);
            packet.extend_from_slice(&[0; 14]);
            parse_v4(&packet).map(|p| p.total_length)
        };
        assert_eq!(with_total(32), Ok(32));
        assert_eq!(with_total(46), Ok(46)); // then the padding is payload
        assert_eq!(with_total(47), Err(Drop::Ipv4Malformed)); // beyond the frame
        assert_eq!(with_total(19), Err(Drop::Ipv4Malformed)); // shorter than its header
        assert_eq!(with_total(31), Err(Drop::UdpMalformed)); // cuts the datagram
        assert_eq!(with_total(27), Err(Drop::UdpMalformed)); // cuts the UDP header
    }

    #[test]
    fn header_length_and_version_that_lie_are_refused() {
        for first in [0x44, 0x40, 0x65, 0x55, 0x05] {
            let packet = packet(protocol::UDP, &[], &udp(12), |p| p[0] = first);
            assert_eq!(parse_v4(&packet), Err(Drop::Ipv4Malformed), "first byte {first:#x}");
        }
        let beyond_total = packet(protocol::UDP, &[1; 4], &udp(12), |p| p[3] = 20);
        assert_eq!(parse_v4(&beyond_total), Err(Drop::Ipv4Malformed));
        let beyond_frame = packet(protocol::UDP, &[], &[], |p| p[0] = 0x4f);
        assert_eq!(parse_v4(&beyond_frame), Err(Drop::Ipv4Malformed));
        for length in 0..20 {
            let short = packet(protocol::UDP, &[], &udp(12), |_| ());
            assert_eq!(parse_v4(&short[..length]), Err(Drop::Ipv4Malformed), "{length} bytes");
        }
    }

    #[test]
    fn checksum_is_verified_with_and_without_options() {
        for options in [&[][..], &[1; 4]] {
            let mut packet = packet(protocol::UDP, options, &udp(12), |_| ());
            assert!(parse_v4(&packet).is_ok());
            packet[8] -= 1;
            assert_eq!(parse_v4(&packet), Err(Drop::Ipv4Checksum));
        }
    }

    #[test]
    fn options_are_skipped_and_source_routes_refused() {
        let parsed = parse_v4(&packet(protocol::UDP, &[148, 4, 0, 0], &udp(12), |_| ())).expect("router alert");
        assert_eq!((parsed.options, parsed.l4, parsed.destination_port), (true, 24, 53));
        let routed = packet(protocol::UDP, &[131, 7, 4, 10, 0, 0, 1, 0], &udp(12), |_| ());
        assert_eq!(parse_v4(&routed), Err(Drop::Ipv4Options));
    }

    #[test]
    fn layer_4_lengths_that_lie_are_refused() {
        let udp_verdict = |length| parse_v4(&packet(protocol::UDP, &[], &udp(length), |_| ())).map(|p| p.source_port);
        assert_eq!((udp_verdict(8), udp_verdict(12)), (Ok(4000), Ok(4000)));
        for length in [0, 7, 13] {
            assert_eq!(udp_verdict(length), Err(Drop::UdpMalformed));
        }
        let tcp_verdict = |offset| parse_v4(&packet(protocol::TCP, &[], &tcp(offset), |_| ())).map(|p| p.tcp_flags);
        assert_eq!(tcp_verdict(5), Ok(tcp_flag::SYN));
        for offset in [0, 4, 6, 15] {
            assert_eq!(tcp_verdict(offset), Err(Drop::TcpMalformed));
        }
        assert_eq!(
            parse_v4(&packet(protocol::TCP, &[], &tcp(5)[..19], |_| ())),
            Err(Drop::TcpMalformed)
        );
        assert_eq!(
            parse_v4(&packet(protocol::ICMP, &[], &[8; 7], |_| ())),
            Err(Drop::IcmpMalformed)
        );
    }

    #[test]
    fn fragments_have_ports_only_at_the_beginning() {
        let part = |flags_offset: u16| {
            let packet = packet(protocol::UDP, &[], &udp(200), |p| {
                p[6..8].copy_from_slice(&flags_offset.to_be_bytes())
            });
            parse_v4(&packet).map(|p| (p.fragment, p.destination_port))
        };
        assert_eq!(part(0x0000), Err(Drop::UdpMalformed));
        assert_eq!(part(0x2000), Ok((FragmentPart::First, 53)));
        assert_eq!(part(0x2001), Ok((FragmentPart::Later, 0)));
        assert_eq!(part(0x0001), Ok((FragmentPart::Later, 0)));
        assert_eq!(part(0x1fff), Err(Drop::Ipv4Malformed)); // ends beyond 65535
        let tiny = packet(protocol::TCP, &[], &tcp(5)[..8], |p| p[6] = 0x20);
        assert_eq!(parse_v4(&tiny), Err(Drop::TcpMalformed)); // flags hidden in the second fragment (RFC 1858)
    }

    #[test]
    fn quotes_need_eight_bytes_and_believe_no_length() {
        let mut quote = packet(protocol::TCP, &[], &tcp(5)[..8], |p| p[2] = 5);
        quote[8] = 0; // and no checksum
        let parsed = parse_quoted_v4(&quote).expect("enough");
        assert_eq!(
            (parsed.source_port, parsed.destination_port, parsed.tcp_flags),
            (4000, 80, 0)
        );
        assert_eq!(parse_quoted_v4(&quote[..27]), Err(Drop::IcmpMalformed));
        quote[0] = 0x48;
        assert_eq!(parse_quoted_v4(&quote), Err(Drop::IcmpMalformed));
    }

    #[test]
    fn martians() {
        let verdict = |source: [u8; 4], destination: [u8; 4]| {
            let packet = packet(protocol::UDP, &[], &udp(12), |p| {
                p[12..16].copy_from_slice(&source);
                p[16..20].copy_from_slice(&destination);
            });
            parse_v4(&packet).map(|p| (p.is_martian(), p.is_multicast()))
        };
        let host = [10, 0, 0, 1];
        assert_eq!(verdict(host, [192, 0, 2, 1]), Ok((false, false)));
        assert_eq!(verdict(host, [239, 1, 2, 3]), Ok((false, true)));
        for bad in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
            assert_eq!(verdict(bad, host), Ok((true, false)), "from {bad:?}");
            assert_eq!(verdict(host, bad), Ok((true, false)), "to {bad:?}");
        }
        assert_eq!(verdict([224, 0, 0, 1], host), Ok((true, false)));
    }
}
