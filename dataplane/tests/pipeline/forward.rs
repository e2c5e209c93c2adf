//! Plain forwarding: every byte of what leaves.

use net::{Drop, RouteKind, VrfId};

use crate::frames::{Frame, Layer4, SYN, assert_frames, payload};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    FABRIC, FABRIC_MAC, HOST, HOST_MAC, MTU, PEER_MAC, UPLINK, UPLINK_MAC, address, from_host, from_host_v6, special,
};

/// Every layer 4 that a host sends.
fn kinds() -> [Layer4; 5] {
    [
        Layer4::Udp(4000, 53),
        Layer4::Tcp(4000, 80, SYN),
        Layer4::EchoRequest(7),
        Layer4::Icmp(13, 0, [0, 1, 0, 2]),
        Layer4::Raw(47),
    ]
}

isolated! {
    fn ipv4_leaves_with_one_hop_less_and_the_next_hops_macs() {
        let mut gateway = Gateway::start();
        // With NAT rules elsewhere, and without any: two ways through the pipeline.
        for nat in [true, false] {
            gateway.set_policy(nat);
            gateway.publish();
            for kind in kinds() {
                let sent = from_host(kind);
                let expected = sent.hop(FABRIC_MAC, PEER_MAC).bytes();
                let what = format!("{:?}, NAT {nat}", sent.layer4);
                gateway.exchange(UPLINK, [sent.bytes()]).is_only(FABRIC, &expected, &what);
                // And back, by a connected route.
                let back = sent.reply().with(|f| (f.source_mac, f.destination_mac) = (PEER_MAC, FABRIC_MAC));
                let expected = back.hop(UPLINK_MAC, HOST_MAC).bytes();
                gateway.exchange(FABRIC, [back.bytes()]).is_only(UPLINK, &expected, &what);
            }
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn ipv6_leaves_with_one_hop_less_and_the_next_hops_macs() {
        let gateway = Gateway::start();
        for kind in [Layer4::Udp(4000, 53), Layer4::Tcp(4000, 80, SYN), Layer4::EchoRequest(7), Layer4::Raw(47)] {
            let sent = from_host_v6(kind).with(|f| f.tos = 0x2e);
            let expected = sent.hop(FABRIC_MAC, PEER_MAC).bytes();
            gateway.exchange(UPLINK, [sent.bytes()]).is_only(FABRIC, &expected, &format!("{:?}", sent.layer4));
            let back = sent.reply().with(|f| (f.source_mac, f.destination_mac) = (PEER_MAC, FABRIC_MAC));
            let expected = back.hop(UPLINK_MAC, HOST_MAC).bytes();
            gateway.exchange(FABRIC, [back.bytes()]).is_only(UPLINK, &expected, &format!("{:?}", back.layer4));
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn the_header_checksum_is_right_for_every_ttl_and_identification() {
        let gateway = Gateway::start();
        // The sums cross every carry of the incremental update, those to 0x0000 and 0xffff among them.
        let frames = (0..20_000u32).map(|i| {
            from_host(Layer4::Udp(4000, 53)).with(|f| {
                f.ttl = 2 + (i % 254) as u8;
                f.identification = (i.wrapping_mul(40_503) >> 3) as u16;
                f.payload = payload(0);
            })
        });
        let sent: Vec<_> = frames.collect();
        let outcome = gateway.exchange(UPLINK, sent.iter().map(|f| f.bytes()));
        let expected: Vec<_> = sent.iter().map(|f| f.hop(FABRIC_MAC, PEER_MAC).bytes()).collect();
        assert_eq!(outcome.sent[FABRIC].len(), expected.len());
        for (got, expected) in outcome.sent[FABRIC].iter().zip(&expected) {
            if got != expected {
                // One's complement has two zeros: both verify, and a full computation gives the other one.
                assert_eq!((&got[24..26], &expected[24..26]), (&[0xff, 0xff][..], &[0, 0][..]));
            }
        }
    }
}

isolated! {
    fn a_full_size_packet_fits_and_padding_is_not_part_of_it() {
        let gateway = Gateway::start();
        let largest = from_host(Layer4::Udp(4000, 53)).with(|f| f.payload = payload(usize::from(MTU[FABRIC]) - 28));
        let expected = largest.hop(FABRIC_MAC, PEER_MAC).bytes();
        gateway.exchange(UPLINK, [largest.bytes()]).is_only(FABRIC, &expected, "a packet of the MTU");
        let short = from_host(Layer4::Udp(4000, 53)).with(|f| f.payload = payload(1));
        let mut padded = short.bytes();
        padded.resize(60, 0);
        let outcome = gateway.exchange(UPLINK, [padded]);
        let expected = short.hop(FABRIC_MAC, PEER_MAC).bytes();
        assert_frames(&[outcome.only(FABRIC)[..expected.len()].to_vec()], &[expected], "padded frame");
    }
}

isolated! {
    fn bursts_keep_their_order_and_are_split_by_port() {
        let gateway = Gateway::start();
        let there = |i: u16| from_host(Layer4::Udp(i, 53)).with(|f| f.identification = i);
        let back = |i: u16| there(i).reply().with(|f| (f.source_mac, f.destination_mac) = (PEER_MAC, FABRIC_MAC));
        let outcome = gateway.observe(|| {
            gateway.wires[UPLINK].send(0, (0..500).map(|i| there(i).bytes()));
            gateway.wires[FABRIC].send(0, (0..500).map(|i| back(i).bytes()));
        });
        let expected: Vec<_> = (0..500).map(|i| there(i).hop(FABRIC_MAC, PEER_MAC).bytes()).collect();
        assert_frames(&outcome.sent[FABRIC], &expected, "there");
        let expected: Vec<_> = (0..500).map(|i| back(i).hop(UPLINK_MAC, HOST_MAC).bytes()).collect();
        assert_frames(&outcome.sent[UPLINK], &expected, "back");
    }
}

isolated! {
    /// Wherever a burst stops being all alike, packets of a kind keep their order, and each goes where it belongs.
    fn mixed_bursts_keep_the_order_of_each_kind() {
        const FRAMES: u16 = 200;
        let mut gateway = Gateway::start();
        let numbered = |frame: Frame, i: u16| frame.with(|f| f.identification = i);
        let there = |i: u16| numbered(from_host(Layer4::Udp(i, 53)), i);
        let aside = |i: u16| numbered(from_host(Layer4::Udp(i, 53)), i).with(|f| {
            (f.source, f.destination) = (address("198.51.100.77"), address(HOST));
        });
        let echo = |i: u16| numbered(from_host(Layer4::EchoRequest(i)), i);
        let v6 = |i: u16| from_host_v6(Layer4::Udp(i, 53));
        let v6_aside = |i: u16| v6(i).with(|f| (f.source, f.destination) = (address("2001:db8:3::77"), address("2001:db8:3::2")));
        for (nat, alike) in [true, false].into_iter().flat_map(|nat| [0, 1, 20, 63, FRAMES].map(|alike| (nat, alike))) {
            gateway.set_policy(nat);
            gateway.publish();
            // The number of frames that begin like the first one, then all kinds in turn.
            let kind = |i: u16| if i < alike { 0 } else { i % 6 };
            let frame = |i: u16| match kind(i) {
                0 => there(i).bytes(),
                1 => aside(i).bytes(),
                2 => v6(i).bytes(),
                3 => echo(i).bytes(),
                4 => v6_aside(i).bytes(),
                _ => {
                    let mut broken = there(i).bytes();
                    broken[24] ^= 1;
                    broken
                }
            };
            let outcome = gateway.exchange(UPLINK, (0..FRAMES).map(frame));
            let of = |wire: usize, link: [u8; 2], at: usize, protocol: u8| -> Vec<Vec<u8>> {
                let sent = outcome.sent[wire].iter();
                sent.filter(|frame| frame[12..14] == link && frame[at] == protocol).cloned().collect()
            };
            let all = |wanted: u16| (0..FRAMES).filter(move |i| kind(*i) == wanted);
            let what = format!("{alike} alike, NAT {nat}");
            let out = |frame: Frame| frame.hop(FABRIC_MAC, PEER_MAC).bytes();
            let back = |frame: Frame| frame.hop(UPLINK_MAC, HOST_MAC).bytes();
            assert_frames(&of(FABRIC, [8, 0], 23, 17), &all(0).map(|i| out(there(i))).collect::<Vec<_>>(), &what);
            assert_frames(&of(UPLINK, [8, 0], 23, 17), &all(1).map(|i| back(aside(i))).collect::<Vec<_>>(), &what);
            assert_frames(&of(FABRIC, [0x86, 0xdd], 20, 17), &all(2).map(|i| out(v6(i))).collect::<Vec<_>>(), &what);
            assert_frames(&of(FABRIC, [8, 0], 23, 1), &all(3).map(|i| out(echo(i))).collect::<Vec<_>>(), &what);
            assert_frames(&of(UPLINK, [0x86, 0xdd], 20, 17), &all(4).map(|i| back(v6_aside(i))).collect::<Vec<_>>(), &what);
            assert_eq!(outcome.drops.iter().map(|(_, count)| count).sum::<u64>(), all(5).count() as u64, "{what}");
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_full_port_drops_the_rest_and_counts_it() {
        let gateway = Gateway::start();
        gateway.wires[FABRIC].set_room(10);
        let outcome = gateway.exchange(UPLINK, (0..25).map(|i| from_host(Layer4::Udp(i, 53)).bytes()));
        assert_eq!((outcome.sent[FABRIC].len(), outcome.drops), (10, vec![(Drop::TxQueueFull, 15)]));
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_blackhole_is_silent() {
        let mut gateway = Gateway::start();
        gateway.route(VrfId::DEFAULT, "198.18.0.0/24", Some(special(RouteKind::Blackhole)));
        gateway.route(VrfId::DEFAULT, "2001:db8:f::/48", Some(special(RouteKind::Blackhole)));
        gateway.publish();
        let drops = [(Drop::Blackhole, 2)];
        let frames = [from_host(Layer4::Udp(1, 2)).bytes(), from_host_v6(Layer4::Udp(1, 2)).bytes()];
        gateway.exchange(UPLINK, frames).is_silent(&drops, "blackhole");
    }
}
