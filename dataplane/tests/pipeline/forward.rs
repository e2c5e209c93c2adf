//! Plain forwarding: every byte of what leaves.

use net::{Drop, RouteKind, VrfId};

use crate::frames::{Layer4, SYN, assert_frames, payload};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    FABRIC, FABRIC_MAC, HOST_MAC, MTU, PEER_MAC, UPLINK, UPLINK_MAC, from_host, from_host_v6, special,
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
