//! One frame as a worker sees it: parsed to the innermost header, rewritten, answered. Nothing may panic, offsets stay
//! within the frame, and what had right checksums before a rewrite has them after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net::arp::Arp;
use net::checksum::{Delta, Sum};
use net::eth::ether_type;
use net::icmp::{self, Icmp};
use net::icmpv6::{self, Icmpv6};
use net::ipv4::Ipv4;
use net::ipv6::Ipv6;
use net::tcp::Tcp;
use net::udp::Udp;
use net::vxlan::{self, Vxlan};
use net::{FragmentPart, V4, V6, VlanId, parse_link, parse_v4, parse_v6, protocol, vlan};

fuzz_target!(|bytes: &[u8]| frame(bytes));

fn frame(bytes: &[u8]) {
    let Ok(link) = parse_link(bytes) else { return };
    retag(bytes);
    let l3 = &bytes[usize::from(link.l3)..];
    match link.ether_type {
        ether_type::IPV4 => {
            v4(l3);
            // Few mutations keep the header checksum, so every frame gets a second chance.
            let mut mended = l3.to_vec();
            if let Ok(mut ip) = Ipv4::head(mended.as_mut_slice()) {
                ip.fill_checksum();
                v4(&mended);
            }
        }
        ether_type::IPV6 => v6(l3),
        ether_type::ARP => {
            let mut copy = l3.to_vec();
            if let Ok(mut arp) = Arp::new(copy.as_mut_slice()) {
                let asked = arp.target();
                arp.reply_in_place(link.destination);
                assert_eq!(arp.sender(), asked);
            }
        }
        _ => {}
    }
}

fn retag(bytes: &[u8]) {
    let mut tagged = vec![0; vlan::LENGTH];
    tagged.extend_from_slice(bytes);
    let id = VlanId::new(7).expect("in range");
    vlan::push(&mut tagged, id).expect("there is an Ethernet header");
    if let Ok(link) = parse_link(&tagged) {
        assert_eq!(link.vlan, Some(id));
    }
    vlan::pop(&mut tagged).expect("just tagged");
    assert_eq!(&tagged[vlan::LENGTH..], bytes);
}

fn v4(bytes: &[u8]) {
    let Ok(parsed) = parse_v4(bytes) else { return };
    let total = usize::from(parsed.total_length);
    assert!(usize::from(parsed.l4) <= total && total <= bytes.len());
    let _ = (parsed.is_martian(), parsed.is_multicast());
    let ip = Ipv4::new(bytes).expect("parsed");
    assert!(ip.checksum_is_valid());

    let mut out = [0; icmp::MAX_ERROR];
    let length = icmp::build_error(&mut out, 1, bytes, icmp::Error::HostUnreachable).expect("room for any");
    let error = parse_v4(&out[..length]).expect("a valid packet");
    assert_eq!(error.destination, parsed.source);
    assert!(Icmp::new(&out[20..length]).expect("whole").checksum_is_valid());
    assert!(!icmp::may_answer(&out[..length]));
    let _ = icmp::may_answer(bytes);

    translate(bytes, &parsed);
    let mut copy = bytes.to_vec();
    if icmp::echo_reply_in_place(&mut copy).expect("parsed") {
        assert_eq!(parse_v4(&copy).expect("still valid").destination, parsed.source);
    }
    if parsed.fragment == FragmentPart::Whole {
        match parsed.protocol {
            protocol::UDP => tunnel(Udp::new(ip.payload()).expect("parsed")),
            protocol::ICMP => {
                let _ = Icmp::new(ip.payload()).expect("parsed").quoted();
            }
            _ => {}
        }
    }
}

fn tunnel(udp: Udp<&[u8]>) {
    if udp.destination_port() == vxlan::PORT
        && let Ok(vxlan) = Vxlan::new(udp.payload())
    {
        let _ = vxlan.vni();
        frame(vxlan.payload());
    }
}

/// Addresses, ports and TTL change; checksums that were right stay right.
fn translate(bytes: &[u8], parsed: &V4) {
    let (source, destination, ports) = (!parsed.source, parsed.destination.rotate_left(9), [0xfffe, 1]);
    let mut copy = bytes.to_vec();
    let mut ip = Ipv4::new(copy.as_mut_slice()).expect("parsed");
    let l3 = Delta::NONE
        .word32(parsed.source, source)
        .word32(parsed.destination, destination);
    let l4 = l3
        .word(parsed.source_port, ports[0])
        .word(parsed.destination_port, ports[1]);
    let length = parsed.total_length - parsed.l4;
    let pseudo = |source, destination, length| Sum::pseudo_v4(source, destination, parsed.protocol, length);
    if parsed.fragment == FragmentPart::Whole {
        let payload = ip.payload_mut();
        match parsed.protocol {
            protocol::TCP => {
                let mut tcp = Tcp::new(payload).expect("parsed");
                tcp.fill_checksum(pseudo(parsed.source, parsed.destination, length));
                tcp.rewrite(ports[0], ports[1], l4);
                assert!(tcp.checksum_is_valid(pseudo(source, destination, length)));
            }
            protocol::UDP => {
                let mut udp = Udp::new(payload).expect("parsed");
                let length = udp.length();
                let without = udp.checksum() == 0;
                udp.rewrite(parsed.source_port, parsed.destination_port, Delta::NONE);
                assert_eq!(udp.checksum() == 0, without);
                udp.fill_checksum(pseudo(parsed.source, parsed.destination, length));
                assert_ne!(udp.checksum(), 0);
                udp.rewrite(ports[0], ports[1], l4);
                assert!(udp.checksum() != 0 && udp.checksum_is_valid(pseudo(source, destination, length)));
            }
            protocol::ICMP => {
                let mut message = Icmp::new(payload).expect("parsed");
                message.fill_checksum();
                message.set_identifier(ports[0]);
                assert!(message.checksum_is_valid());
                message.rewrite_quote(|quote| quote.reverse());
                assert!(message.checksum_is_valid());
            }
            _ => {}
        }
    }
    ip.rewrite(source, destination, l3);
    assert_eq!(ip.decrement_ttl().is_ok(), parsed.ttl > 1);
    assert!(ip.checksum_is_valid());
    let after = parse_v4(&copy).expect("still valid");
    assert_eq!(
        (after.source, after.destination, after.l4),
        (source, destination, parsed.l4)
    );
}

fn v6(bytes: &[u8]) {
    let Ok(parsed) = parse_v6(bytes) else { return };
    let end = 40 + usize::from(parsed.payload_length);
    assert!(usize::from(parsed.l4) <= end && end <= bytes.len());
    let _ = (parsed.is_martian(), parsed.is_multicast(), parsed.is_link_local());
    let ip = Ipv6::new(bytes).expect("parsed");
    let chain = ip.chain().expect("parsed");
    assert_eq!((chain.protocol, 40 + chain.length), (parsed.protocol, parsed.l4));

    let mut out = [0; icmpv6::MAX_ERROR];
    let error = icmpv6::Error::PacketTooBig { mtu: 1280 };
    let length = icmpv6::build_error(&mut out, 1, bytes, error).expect("room for any");
    let answer = parse_v6(&out[..length]).expect("a valid packet");
    assert_eq!(answer.destination, parsed.source);
    let pseudo = Sum::pseudo_v6(answer.source, answer.destination, protocol::ICMPV6, length as u32 - 40);
    assert!(Icmpv6::new(&out[40..length]).expect("whole").checksum_is_valid(pseudo));
    let _ = icmpv6::may_answer(bytes, error);

    translate_v6(bytes, &parsed);
    let mut copy = bytes.to_vec();
    if icmpv6::echo_reply_in_place(&mut copy).expect("parsed") {
        assert_eq!(parse_v6(&copy).expect("still valid").destination, parsed.source);
    }
    if parsed.fragment == FragmentPart::Whole {
        match parsed.protocol {
            protocol::UDP => tunnel(Udp::new(chain.payload).expect("parsed")),
            protocol::ICMPV6 => {
                let _ = Icmpv6::new(chain.payload).expect("parsed").quoted();
            }
            _ => {}
        }
    }
}

fn translate_v6(bytes: &[u8], parsed: &V6) {
    let (source, destination) = (!parsed.source, parsed.destination.rotate_left(9));
    let mut copy = bytes.to_vec();
    let mut ip = Ipv6::new(copy.as_mut_slice()).expect("parsed");
    let delta = ip.set_source(source).and(ip.set_destination(destination));
    assert_eq!(ip.decrement_hop_limit().is_ok(), parsed.hop_limit > 1);
    if parsed.fragment == FragmentPart::Whole && parsed.protocol == protocol::TCP {
        let length = u32::from(parsed.payload_length) + 40 - u32::from(parsed.l4);
        let mut tcp = Tcp::new(&mut ip.payload_mut()[usize::from(parsed.l4) - 40..]).expect("parsed");
        tcp.fill_checksum(Sum::pseudo_v6(parsed.source, parsed.destination, protocol::TCP, length));
        tcp.apply(delta);
        tcp.set_source_port(!parsed.source_port);
        assert!(tcp.checksum_is_valid(Sum::pseudo_v6(source, destination, protocol::TCP, length)));
    }
}
