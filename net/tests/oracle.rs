//! The parse step against etherparse: alike on valid packets, and different on others only for reasons named here.

mod common;

use common::{Kind, Plan, plan};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use net::{Drop, FragmentPart, V4, V6, parse_link, parse_quoted_v4, parse_quoted_v6, parse_v4, parse_v6};
use proptest::prelude::*;

/// Why etherparse may refuse what we accept: it reads on where we stop, because a gateway carries the rest unread.
fn may_accept_alone(protocol: u8, fragment: FragmentPart, icmp_type: u8) -> Option<&'static str> {
    match protocol {
        51 => Some("it walks an authentication header in IPv4"),
        2 => Some("it reads IGMP"),
        1 | 58 if matches!(icmp_type, 0 | 13 | 14) => {
            Some("it knows the length of an ICMP timestamp, and either ICMP in either IP")
        }
        _ if fragment == FragmentPart::Later => Some("it walks extension headers in the middle of a datagram"),
        _ => None,
    }
}

/// Why we may refuse what etherparse accepts.
fn may_refuse_alone(packet: &[u8], drop: Drop, theirs: &SlicedPacket<'_>) -> Option<&'static str> {
    let fragmented = match &theirs.net {
        Some(NetSlice::Ipv4(ip)) => ip.is_payload_fragmented(),
        Some(NetSlice::Ipv6(ip)) => ip.is_payload_fragmented(),
        _ => false,
    };
    let v6 = packet[0] >> 4 == 6;
    let udp_without_length = matches!(&theirs.transport, Some(TransportSlice::Udp(udp)) if udp.length() == 0);
    match drop {
        Drop::Ipv4Checksum if !header_checksum_is_right(packet) => Some("it does not verify the header checksum"),
        Drop::Ipv4Options if packet[0] & 0xf > 5 => Some("it does not read options"),
        Drop::Ipv4Malformed | Drop::Ipv6Malformed if fragmented => Some("it lets fragments end beyond any datagram"),
        Drop::Ipv6ExtensionChain => Some("it has no limit, accepts routing type 0 and does not know all headers"),
        Drop::UdpMalformed | Drop::TcpMalformed | Drop::IcmpMalformed if v6 && packet[4..6] == [0, 0] => {
            Some("it guesses the length of a jumbogram")
        }
        Drop::UdpMalformed if udp_without_length => Some("it takes a UDP length of 0 for the rest"),
        Drop::UdpMalformed | Drop::TcpMalformed | Drop::IcmpMalformed if theirs.transport.is_none() => {
            Some("it does not look into first fragments, nor behind headers that it does not know")
        }
        _ => None,
    }
}

fn header_checksum_is_right(packet: &[u8]) -> bool {
    let (header, _) = etherparse::Ipv4Header::from_slice(packet).expect("it was accepted");
    header.calc_header_checksum() == header.header_checksum
}

/// Compares both verdicts on an IP packet, and what was read if both accept.
fn compare(packet: &[u8]) -> Result<(), TestCaseError> {
    let theirs = SlicedPacket::from_ip(packet);
    if packet.first().is_some_and(|b| b >> 4 == 6) {
        match (parse_v6(packet), &theirs) {
            (Ok(ours), Ok(theirs)) => same_v6(packet, &ours, theirs),
            (Ok(ours), Err(error)) => {
                let reason = may_accept_alone(ours.protocol, ours.fragment, ours.icmp_type);
                prop_assert!(reason.is_some(), "{ours:?} but {error}");
                Ok(())
            }
            (Err(drop), Ok(theirs)) => {
                prop_assert!(
                    may_refuse_alone(packet, drop, theirs).is_some(),
                    "{drop} but accepted: {packet:02x?}"
                );
                Ok(())
            }
            (Err(_), Err(_)) => Ok(()),
        }
    } else {
        match (parse_v4(packet), &theirs) {
            (Ok(ours), Ok(theirs)) => same_v4(packet, &ours, theirs),
            (Ok(ours), Err(error)) => {
                let reason = may_accept_alone(ours.protocol, ours.fragment, ours.icmp_type);
                prop_assert!(reason.is_some(), "{ours:?} but {error}");
                Ok(())
            }
            (Err(drop), Ok(theirs)) => {
                prop_assert!(
                    may_refuse_alone(packet, drop, theirs).is_some(),
                    "{drop} but accepted: {packet:02x?}"
                );
                Ok(())
            }
            (Err(_), Err(_)) => Ok(()),
        }
    }
}

fn same_v4(packet: &[u8], ours: &V4, theirs: &SlicedPacket<'_>) -> Result<(), TestCaseError> {
    let Some(NetSlice::Ipv4(ip)) = &theirs.net else {
        return Err(TestCaseError::fail("not IPv4"));
    };
    let header = ip.header();
    prop_assert_eq!(ours.source, u32::from(header.source_addr()));
    prop_assert_eq!(ours.destination, u32::from(header.destination_addr()));
    prop_assert_eq!(
        (ours.ttl, ours.protocol, ours.total_length),
        (header.ttl(), header.protocol().0, header.total_len())
    );
    prop_assert_eq!(ours.dont_fragment, header.dont_fragment());
    prop_assert_eq!(
        (usize::from(ours.l4), ours.options),
        (header.slice().len(), header.ihl() > 5)
    );
    prop_assert_eq!(ours.fragment != FragmentPart::Whole, header.is_fragmenting_payload());
    prop_assert_eq!(
        ours.fragment == FragmentPart::Later,
        header.fragments_offset().value() != 0
    );
    if ours.protocol != 51 && ours.protocol != 58 {
        prop_assert_eq!(
            &packet[usize::from(ours.l4)..usize::from(ours.total_length)],
            ip.payload().payload
        );
        let read = [ours.source_port, ours.destination_port];
        same_layer4(read, ours.tcp_flags, [ours.icmp_type, ours.icmp_code], theirs)?;
    }
    Ok(())
}

fn same_v6(packet: &[u8], ours: &V6, theirs: &SlicedPacket<'_>) -> Result<(), TestCaseError> {
    let Some(NetSlice::Ipv6(ip)) = &theirs.net else {
        return Err(TestCaseError::fail("not IPv6"));
    };
    let header = ip.header();
    prop_assert_eq!(ours.source, u128::from(header.source_addr()));
    prop_assert_eq!(ours.destination, u128::from(header.destination_addr()));
    prop_assert_eq!(
        (ours.hop_limit, ours.payload_length),
        (header.hop_limit(), header.payload_length())
    );
    // Mobility, HIP and Shim6 are headers that it does not walk; later fragments it walks too far; a length of 0 it
    // takes for a jumbogram.
    let strangers = [135, 139, 140].contains(&ip.payload().ip_number.0);
    if !strangers && ours.fragment != FragmentPart::Later && ours.payload_length != 0 {
        prop_assert_eq!(ours.fragment != FragmentPart::Whole, ip.is_payload_fragmented());
        prop_assert_eq!(ours.protocol, ip.payload().ip_number.0);
        prop_assert_eq!(
            &packet[usize::from(ours.l4)..40 + usize::from(ours.payload_length)],
            ip.payload().payload
        );
        prop_assert_eq!(ours.extensions, !ip.extensions().slice().is_empty());
        if ours.protocol != 1 {
            let read = [ours.source_port, ours.destination_port];
            same_layer4(read, ours.tcp_flags, [ours.icmp_type, ours.icmp_code], theirs)?;
        }
    }
    Ok(())
}

fn same_layer4(ports: [u16; 2], flags: u8, icmp: [u8; 2], theirs: &SlicedPacket<'_>) -> Result<(), TestCaseError> {
    match &theirs.transport {
        Some(TransportSlice::Udp(udp)) => {
            prop_assert_eq!(
                (ports, flags, icmp),
                ([udp.source_port(), udp.destination_port()], 0, [0, 0])
            );
        }
        Some(TransportSlice::Tcp(tcp)) => {
            prop_assert_eq!((ports, icmp), ([tcp.source_port(), tcp.destination_port()], [0, 0]));
            prop_assert_eq!(flags, tcp.slice()[13]);
        }
        Some(TransportSlice::Icmpv4(message)) => {
            let echo = matches!(message.type_u8(), 0 | 8);
            let identifier = if echo {
                u16::from_be_bytes([message.bytes5to8()[0], message.bytes5to8()[1]])
            } else {
                0
            };
            prop_assert_eq!((ports, icmp), ([identifier; 2], [message.type_u8(), message.code_u8()]));
        }
        Some(TransportSlice::Icmpv6(message)) => {
            let echo = matches!(message.type_u8(), 128 | 129);
            let identifier = if echo {
                u16::from_be_bytes([message.bytes5to8()[0], message.bytes5to8()[1]])
            } else {
                0
            };
            prop_assert_eq!((ports, icmp), ([identifier; 2], [message.type_u8(), message.code_u8()]));
        }
        // Fragments, which it does not look into, and protocols that neither knows.
        _ => {}
    }
    Ok(())
}

/// Makes the header checksum of an IPv4 packet right again, if it can be.
fn mend_checksum(packet: &mut [u8]) {
    if packet.first().is_some_and(|b| b >> 4 == 4)
        && let Ok(mut ip) = net::ipv4::Ipv4::head(packet)
    {
        ip.fill_checksum();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn valid_packets_are_read_alike(plan in plan()) {
        let frame = plan.frame();
        let link = parse_link(&frame).expect("a valid link layer");
        prop_assert_eq!(link.vlan.map(net::VlanId::value), plan.vlan);
        prop_assert_eq!(link.ether_type, if plan.v6 { 0x86dd } else { 0x0800 });
        let packet = &frame[usize::from(link.l3)..];
        compare(packet)?;
        prop_assert!(SlicedPacket::from_ethernet(&frame).is_ok());
        prop_assert_eq!(accepted(packet), Ok(expected(&plan)));
    }

    #[test]
    fn mutated_packets_differ_only_for_named_reasons(
        plan in plan(),
        mutations in proptest::collection::vec((0_usize..80, any::<u8>()), 1..4),
        cut in proptest::option::of(0_usize..120),
        mend: bool,
    ) {
        let mut packet = plan.packet();
        for (at, value) in mutations {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(cut) = cut {
            packet.truncate(cut);
        }
        if mend {
            mend_checksum(&mut packet);
        }
        compare(&packet)?;
    }

    #[test]
    fn fragments_differ_only_for_named_reasons(plan in plan(), offset_more: u16, cut in 0_usize..60) {
        let mut packet = plan.packet();
        if plan.v6 {
            let chain = [plan.extensions[0], plan.extensions[1], plan.extensions[2]];
            prop_assume!(plan.extensions[3]);
            let at = 40 + chain.into_iter().zip([8, 16, 8]).map(|(there, length)| if there { length } else { 0 }).sum::<usize>();
            packet[at + 2..at + 4].copy_from_slice(&offset_more.to_be_bytes());
            let length = u16::from_be_bytes([packet[4], packet[5]]).saturating_sub(cut as u16);
            packet[4..6].copy_from_slice(&length.to_be_bytes());
        } else {
            packet[6..8].copy_from_slice(&(offset_more & 0x7fff).to_be_bytes());
            let length = u16::from_be_bytes([packet[2], packet[3]]).saturating_sub(cut as u16);
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            mend_checksum(&mut packet);
        }
        compare(&packet)?;
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), first in any::<u8>(), pick in 0_u8..4) {
        let _ = parse_link(&bytes);
        if let Some(byte) = bytes.first_mut() {
            *byte = match pick { 0 => 0x45, 1 => 0x40 | first & 0xf, 2 => 0x60, _ => first };
        }
        let _ = (parse_quoted_v4(&bytes), parse_quoted_v6(&bytes));
        compare(&bytes)?;
        mend_checksum(&mut bytes);
        compare(&bytes)?;
    }
}

type Read = (u8, [u16; 2], u8, u8);

/// Hop limit, ports, TCP flags and ICMP type as we read them.
fn accepted(packet: &[u8]) -> Result<Read, Drop> {
    if packet[0] >> 4 == 6 {
        parse_v6(packet).map(|p| {
            (
                p.hop_limit,
                [p.source_port, p.destination_port],
                p.tcp_flags,
                p.icmp_type,
            )
        })
    } else {
        parse_v4(packet).map(|p| (p.ttl, [p.source_port, p.destination_port], p.tcp_flags, p.icmp_type))
    }
}

/// The same as they were planned.
fn expected(plan: &Plan) -> Read {
    let echo = [plan.ports[0]; 2];
    match (plan.kind, plan.v6) {
        (Kind::Tcp, _) => (plan.ttl, plan.ports, plan.tcp_flags, 0),
        (Kind::Udp, _) => (plan.ttl, plan.ports, 0, 0),
        (Kind::EchoRequest, false) => (plan.ttl, echo, 0, 8),
        (Kind::EchoReply, false) => (plan.ttl, echo, 0, 0),
        (Kind::EchoRequest, true) => (plan.ttl, echo, 0, 128),
        (Kind::EchoReply, true) => (plan.ttl, echo, 0, 129),
    }
}
