//! Rewrites keep checksums: after each, the incremental checksum is the one that etherparse computes from nothing.

mod common;

use common::{Kind, Plan, plan};
use etherparse::{Ipv4Header, NetSlice, SlicedPacket, TransportSlice};
use net::checksum::{Delta, Sum};
use net::icmp::{self, Icmp};
use net::icmpv6::{self, Icmpv6};
use net::ipv4::Ipv4;
use net::ipv6::Ipv6;
use net::tcp::Tcp;
use net::udp::Udp;
use net::{parse_v4, parse_v6, protocol};
use proptest::prelude::*;

/// Every checksum of a packet, computed anew by etherparse, is the one in it.
fn checksums_are_right(packet: &[u8]) -> Result<(), TestCaseError> {
    let sliced = SlicedPacket::from_ip(packet).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let transport = sliced.transport;
    match sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header: Ipv4Header = ip.header().to_header();
            prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
            match transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    let right = tcp
                        .calc_checksum_ipv4(header.source, header.destination)
                        .expect("short");
                    prop_assert_eq!(tcp.checksum(), right);
                }
                Some(TransportSlice::Udp(udp)) => {
                    let right = udp
                        .to_header()
                        .calc_checksum_ipv4(&header, udp.payload())
                        .expect("short");
                    prop_assert_eq!(udp.checksum(), right);
                }
                Some(TransportSlice::Icmpv4(message)) => {
                    prop_assert_eq!(message.checksum(), message.icmp_type().calc_checksum(message.payload()));
                }
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
        Some(NetSlice::Ipv6(ip)) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            match transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    prop_assert_eq!(
                        tcp.checksum(),
                        tcp.calc_checksum_ipv6(source, destination).expect("short")
                    );
                }
                Some(TransportSlice::Udp(udp)) => {
                    let right = udp
                        .to_header()
                        .calc_checksum_ipv6(&ip.header().to_header(), udp.payload());
                    prop_assert_eq!(udp.checksum(), right.expect("short"));
                }
                Some(TransportSlice::Icmpv6(message)) => {
                    prop_assert!(message.is_checksum_valid(source, destination));
                }
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
        other => return Err(TestCaseError::fail(format!("{other:?}"))),
    }
    Ok(())
}

/// What NAT does to a packet: addresses and ports at once, by differences computed before.
fn translate_v4(packet: &mut [u8], addresses: [u32; 2], ports: [u16; 2]) {
    let parsed = parse_v4(packet).expect("valid");
    let l3 = Delta::NONE
        .word32(parsed.source, addresses[0])
        .word32(parsed.destination, addresses[1]);
    let l4 = l3
        .word(parsed.source_port, ports[0])
        .word(parsed.destination_port, ports[1]);
    let mut ip = Ipv4::new(packet).expect("valid");
    ip.rewrite(addresses[0], addresses[1], l3);
    match parsed.protocol {
        protocol::TCP => Tcp::new(ip.payload_mut())
            .expect("valid")
            .rewrite(ports[0], ports[1], l4),
        protocol::UDP => Udp::new(ip.payload_mut())
            .expect("valid")
            .rewrite(ports[0], ports[1], l4),
        _ => {
            let identifier = Delta::NONE.word(parsed.source_port, ports[0]);
            Icmp::new(ip.payload_mut())
                .expect("valid")
                .rewrite(ports[0], identifier);
        }
    }
}

fn v4() -> impl Strategy<Value = Plan> {
    plan().prop_map(|p| Plan { v6: false, ..p })
}

fn v6() -> impl Strategy<Value = Plan> {
    plan().prop_map(|p| Plan { v6: true, ..p })
}

proptest! {
    #[test]
    fn translation_and_back(plan in v4(), addresses: [u32; 2], ports: [u16; 2]) {
        let mut packet = plan.packet();
        checksums_are_right(&packet)?;
        let original = packet.clone();
        let parsed = parse_v4(&packet).expect("valid");
        translate_v4(&mut packet, addresses, ports);
        checksums_are_right(&packet)?;
        let after = parse_v4(&packet).expect("valid");
        prop_assert_eq!([after.source, after.destination], addresses);
        prop_assert_eq!(after.source_port, ports[0]);
        translate_v4(&mut packet, [parsed.source, parsed.destination], [parsed.source_port, parsed.destination_port]);
        prop_assert_eq!(packet, original);
    }

    #[test]
    fn setters_of_the_ipv4_header(plan in v4(), ttl: u8, tos: u8, identification: u16, offset: u16, more: bool, addresses: [u32; 2]) {
        let mut packet = plan.packet();
        let mut ip = Ipv4::new(packet.as_mut_slice()).expect("valid");
        ip.set_ttl(ttl);
        prop_assert!(ip.checksum_is_valid());
        let decremented = ip.decrement_ttl();
        prop_assert_eq!(decremented.is_ok(), ttl > 1);
        prop_assert_eq!(ip.ttl(), if ttl > 1 { ttl - 1 } else { ttl });
        ip.set_tos(tos);
        ip.set_identification(identification);
        ip.set_fragment(offset, more);
        let l4 = ip.set_source(addresses[0]).and(ip.set_destination(addresses[1]));
        prop_assert_eq!(l4.apply(0x1234), {
            let before = parse_v4(&plan.packet()).expect("valid");
            Delta::NONE.word32(before.source, addresses[0]).word32(before.destination, addresses[1]).apply(0x1234)
        });
        ip.set_total_length(ip.total_length());
        prop_assert_eq!((ip.tos(), ip.identification(), ip.fragment_offset(), ip.more_fragments()), (tos, identification, offset & 0x1fff, more));
        prop_assert_eq!(ip.dont_fragment(), plan.dont_fragment);
        let incremental = ip.checksum();
        ip.fill_checksum();
        prop_assert_eq!(incremental, ip.checksum());
    }

    #[test]
    fn ipv6_addresses_and_ports(plan in v6(), addresses: [u128; 2], ports: [u16; 2], hop_limit in 2_u8..) {
        let mut packet = plan.packet();
        let parsed = parse_v6(&packet).expect("valid");
        let skip = usize::from(parsed.l4) - 40;
        // A routing header leads the checksum of etherparse to the same destination only if nothing is left of it.
        let mut ip = Ipv6::new(packet.as_mut_slice()).expect("valid");
        ip.set_hop_limit(hop_limit);
        prop_assert_eq!(ip.decrement_hop_limit(), Ok(()));
        let delta = ip.set_source(addresses[0]).and(ip.set_destination(addresses[1]));
        let layer4 = &mut ip.payload_mut()[skip..];
        match plan.kind {
            Kind::Tcp => {
                let mut tcp = Tcp::new(layer4).expect("valid");
                tcp.apply(delta);
                tcp.set_source_port(ports[0]);
                tcp.set_destination_port(ports[1]);
            }
            Kind::Udp => {
                let mut udp = Udp::new(layer4).expect("valid");
                udp.apply(delta);
                udp.set_source_port(ports[0]);
                udp.set_destination_port(ports[1]);
            }
            _ => {
                let mut message = Icmpv6::new(layer4).expect("valid");
                message.apply(delta);
                message.set_identifier(ports[0]);
            }
        }
        checksums_are_right(&packet)?;
    }

    #[test]
    fn full_checksums(plan in plan()) {
        let mut packet = plan.packet();
        let right = packet.clone();
        if plan.v6 {
            let parsed = parse_v6(&packet).expect("valid");
            let length = u32::from(parsed.payload_length) + 40 - u32::from(parsed.l4);
            let pseudo = Sum::pseudo_v6(parsed.source, parsed.destination, parsed.protocol, length);
            let mut ip = Ipv6::new(packet.as_mut_slice()).expect("valid");
            let layer4 = &mut ip.payload_mut()[usize::from(parsed.l4) - 40..];
            match plan.kind {
                Kind::Tcp => Tcp::new(layer4).expect("valid").fill_checksum(pseudo),
                Kind::Udp => Udp::new(layer4).expect("valid").fill_checksum(pseudo),
                _ => Icmpv6::new(layer4).expect("valid").fill_checksum(pseudo),
            }
        } else {
            let parsed = parse_v4(&packet).expect("valid");
            let pseudo = Sum::pseudo_v4(parsed.source, parsed.destination, parsed.protocol, parsed.total_length - parsed.l4);
            let mut ip = Ipv4::new(packet.as_mut_slice()).expect("valid");
            ip.fill_checksum();
            match plan.kind {
                Kind::Tcp => Tcp::new(ip.payload_mut()).expect("valid").fill_checksum(pseudo),
                Kind::Udp => Udp::new(ip.payload_mut()).expect("valid").fill_checksum(pseudo),
                _ => Icmp::new(ip.payload_mut()).expect("valid").fill_checksum(),
            }
        }
        prop_assert_eq!(packet, right);
    }

    #[test]
    fn errors_quote_and_replies_answer(plan in v4(), source: u32, mtu: u16) {
        let mut packet = plan.packet();
        let mut out = [0; icmp::MAX_ERROR];
        let length = icmp::build_error(&mut out, source, &packet, icmp::Error::FragmentationNeeded { mtu }).expect("room");
        checksums_are_right(&out[..length])?;
        let error = parse_v4(&out[..length]).expect("valid");
        prop_assert_eq!((error.source, error.icmp_type, error.icmp_code), (source, 3, 4));
        let original = parse_v4(&packet).expect("valid");
        prop_assert_eq!(error.destination, original.source);
        // The quote is the original, and a translation of it keeps the checksum around it.
        let mut ip = Ipv4::new(&mut out[..length]).expect("valid");
        let mut message = Icmp::new(ip.payload_mut()).expect("valid");
        let quoted = message.quoted().expect("valid").expect("an error quotes");
        prop_assert_eq!((quoted.source, quoted.source_port, message.mtu()), (original.source, original.source_port, mtu));
        message.rewrite_quote(|quote| translate_v4(quote, [source, 7], [1, 2]));
        prop_assert!(message.checksum_is_valid());
        // Errors are not answered with errors.
        prop_assert!(!icmp::may_answer(&out[..length]));

        let before = packet.clone();
        if icmp::echo_reply_in_place(&mut packet).expect("valid") {
            let reply = parse_v4(&packet).expect("valid");
            prop_assert_eq!((reply.source, reply.destination, reply.icmp_type), (original.destination, original.source, 0));
            checksums_are_right(&packet)?;
        } else {
            prop_assert_eq!(before, packet);
            prop_assert!(plan.kind != Kind::EchoRequest || original.options || original.is_martian() || original.is_multicast());
        }
    }

    #[test]
    fn v6_errors_quote_and_replies_answer(plan in v6(), source: u128, mtu: u32) {
        let mut packet = plan.packet();
        let mut out = [0; icmpv6::MAX_ERROR];
        let length = icmpv6::build_error(&mut out, source, &packet, icmpv6::Error::PacketTooBig { mtu }).expect("room");
        checksums_are_right(&out[..length])?;
        let error = parse_v6(&out[..length]).expect("valid");
        prop_assert_eq!((error.source, error.icmp_type), (source, 2));
        let original = parse_v6(&packet).expect("valid");
        let message = Icmpv6::new(&out[40..length]).expect("valid");
        let quoted = message.quoted().expect("valid").expect("an error quotes");
        prop_assert_eq!((quoted.source, quoted.source_port, message.mtu()), (original.source, original.source_port, mtu));
        prop_assert!(!icmpv6::may_answer(&out[..length], icmpv6::Error::NoRoute));

        let before = packet.clone();
        if icmpv6::echo_reply_in_place(&mut packet).expect("valid") {
            let reply = parse_v6(&packet).expect("valid");
            prop_assert_eq!((reply.source, reply.destination, reply.icmp_type), (original.destination, original.source, 129));
            checksums_are_right(&packet)?;
        } else {
            prop_assert_eq!(before, packet);
        }
    }
}

#[test]
fn errors_are_cut_to_what_the_rfcs_allow_and_refuse_small_buffers() {
    let plan = Plan {
        v6: false,
        vlan: None,
        source: [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        destination: [10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        ttl: 1,
        identification: 0,
        dont_fragment: true,
        no_operations: 0,
        extensions: [false; 4],
        kind: Kind::Udp,
        ports: [1, 2],
        tcp_flags: 0,
        payload: vec![0; 1400],
        padding: 0,
    };
    let mut out = [0; 2000];
    let error = icmp::Error::TimeExceeded;
    assert_eq!(icmp::build_error(&mut out, 1, &plan.packet(), error), Ok(576));
    assert_eq!(
        icmp::build_error(&mut out[..575], 1, &plan.packet(), error),
        Err(icmp::BuildError::Buffer { needed: 576 })
    );
    assert_eq!(
        icmp::build_error(&mut out, 1, &[], error),
        Err(icmp::BuildError::Original(net::Drop::Ipv4Malformed))
    );
    let plan = Plan { v6: true, ..plan };
    let error = icmpv6::Error::TimeExceeded;
    assert_eq!(icmpv6::build_error(&mut out, 1, &plan.packet(), error), Ok(1280));
    assert_eq!(
        icmpv6::build_error(&mut out[..1279], 1, &plan.packet(), error),
        Err(icmp::BuildError::Buffer { needed: 1280 })
    );
    // Padding of a short frame is not quoted.
    let short = Plan {
        payload: vec![],
        padding: 18,
        v6: false,
        ..plan
    };
    assert_eq!(
        icmp::build_error(&mut out, 1, &short.packet(), icmp::Error::HostUnreachable),
        Ok(20 + 8 + 28)
    );
}
