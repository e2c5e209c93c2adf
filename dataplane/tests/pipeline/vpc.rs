//! Tenants: in and out of VLANs and VXLAN tunnels.

use net::{Drop, Mac};

use crate::frames::{Frame, Layer4, SYN, payload, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    BLUE, BLUE_IF, BLUE_MAC, FABRIC, MTU, OTHER_VTEP, OUR_VTEP, RED, RED_MAC, TENANT_MAC, UPLINK, VLAN, from_blue,
    from_red, tunnel_in, tunnel_out, via,
};

/// A network behind the tenant, reached in its VPC alone.
const INSIDE: &str = "10.1.0.9";

/// A gateway whose tenants both route a network of their own.
fn with_networks_inside() -> Gateway {
    let mut gateway = Gateway::start();
    for vrf in [RED, BLUE] {
        gateway.route(vrf, "10.1.0.0/24", Some(via("10.0.0.5")));
        gateway.route(vrf, "fd01::/64", Some(via("fd00::5")));
    }
    gateway.publish();
    gateway
}

/// Every layer 4 in both families, from the tenant to the network behind it.
fn inside(macs: (Mac, Mac)) -> Vec<Frame> {
    let kinds = [
        Layer4::Udp(4000, 53),
        Layer4::Tcp(4000, 80, SYN),
        Layer4::EchoRequest(7),
        Layer4::Raw(47),
    ];
    let families = [("10.0.0.5", INSIDE), ("fd00::5", "fd01::9")];
    let pairs = kinds.iter().flat_map(|kind| families.map(|family| (kind, family)));
    pairs
        .map(|(kind, (from, to))| Frame::new(macs, from, to, kind.clone()))
        .collect()
}

/// The tunnel to the remote endpoint, with the UDP source port that the gateway chose.
fn tunneled(out: &[u8], inner: &Frame) -> Vec<u8> {
    tunnel_out(source_port(out)).around(&inner.bytes())
}

isolated! {
    fn a_vlan_is_left_and_entered_by_its_tag() {
        let gateway = with_networks_inside();
        for frame in inside((TENANT_MAC, RED_MAC)) {
            let sent = frame.with(|f| f.vlan = Some(VLAN));
            let expected = sent.hop(RED_MAC, TENANT_MAC).bytes();
            gateway.exchange(UPLINK, [sent.bytes()]).is_only(UPLINK, &expected, &format!("{:?}", sent.layer4));
        }
        // Priority bits of the tag are not part of its number, and are not kept; 802.1ad is a tag as well.
        let sent = inside((TENANT_MAC, RED_MAC)).remove(0).with(|f| f.vlan = Some(VLAN));
        let expected = sent.hop(RED_MAC, TENANT_MAC).bytes();
        let mut bytes = sent.bytes();
        (bytes[12], bytes[13]) = (0x88, 0xa8);
        bytes[14] |= 0xe0;
        gateway.exchange(UPLINK, [bytes]).is_only(UPLINK, &expected, "priority");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_tunnel_is_left_and_entered_by_its_vni() {
        let gateway = with_networks_inside();
        for sent in inside((TENANT_MAC, BLUE_MAC)) {
            let what = format!("{:?}", sent.layer4);
            let inner = sent.hop(BLUE_MAC, TENANT_MAC);
            for checksum in [false, true] {
                let mut tunnel = tunnel_in();
                tunnel.checksum = checksum;
                let outcome = gateway.exchange(FABRIC, [tunnel.around(&sent.bytes())]);
                outcome.is_only(FABRIC, &tunneled(outcome.only(FABRIC), &inner), &what);
            }
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn the_outer_source_port_is_one_for_a_flow_and_many_for_many() {
        let gateway = with_networks_inside();
        let frame = |port| Frame::new((TENANT_MAC, BLUE_MAC), "10.0.0.5", INSIDE, Layer4::Udp(port, 53));
        let ports = |frames: Vec<Frame>| -> Vec<u16> {
            let frames = frames.into_iter().map(|f| tunnel_in().around(&f.bytes()));
            gateway.exchange(FABRIC, frames).sent[FABRIC].iter().map(|out| source_port(out)).collect()
        };
        let one = ports((0..50).map(|i| frame(4000).with(|f| f.payload = payload(i))).collect());
        assert_eq!(one, [one[0]; 50]);
        let mut many = ports((0..1000).map(frame).collect());
        assert!(many.iter().all(|port| *port >= 0xc000), "ports of the dynamic range");
        many.sort_unstable();
        many.dedup();
        assert!(many.len() > 900, "{} ports for 1,000 flows", many.len());
    }
}

isolated! {
    fn padding_stays_out_of_the_tunnel() {
        let mut gateway = with_networks_inside();
        // From an untagged short frame, padded by its sender, into the tunnel.
        gateway.route(net::VrfId::DEFAULT, "10.1.0.0/24", Some(net::Route::unicast(net::NextHop::in_vrf(BLUE))));
        gateway.publish();
        let sent = crate::network::from_host(Layer4::Udp(1, 2)).with(|f| {
            f.destination = INSIDE.parse().expect("an address");
            f.payload = payload(1);
        });
        let mut bytes = sent.bytes();
        bytes.resize(60, 0);
        let outcome = gateway.exchange(UPLINK, [bytes]);
        let inner = sent.hop(BLUE_MAC, TENANT_MAC);
        outcome.is_only(FABRIC, &tunneled(outcome.only(FABRIC), &inner), "padded");
    }
}

isolated! {
    fn the_tunnels_mtu_is_that_of_the_inner_packet() {
        let gateway = with_networks_inside();
        let size = |size: usize| {
            from_blue(Layer4::Udp(1, 2)).with(|f| {
                f.destination = INSIDE.parse().expect("an address");
                f.payload = payload(size - 28);
            })
        };
        let fits = size(usize::from(MTU[3]));
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&fits.bytes())]);
        outcome.is_only(FABRIC, &tunneled(outcome.only(FABRIC), &fits.hop(BLUE_MAC, TENANT_MAC)), "fits");
        assert_eq!(outcome.only(FABRIC).len(), 14 + usize::from(MTU[FABRIC]));
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&size(usize::from(MTU[3]) + 1).bytes())]);
        assert_eq!((outcome.sent[FABRIC].len(), outcome.generated, outcome.drops), (2, 1, vec![]));
    }
}

isolated! {
    fn a_mac_that_moves_is_followed() {
        let mut gateway = with_networks_inside();
        let sent = from_blue(Layer4::Udp(1, 2)).with(|f| f.destination = INSIDE.parse().expect("an address"));
        gateway.rib.fdb(BLUE_IF, TENANT_MAC, Some(OTHER_VTEP.into()));
        gateway.publish();
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&sent.bytes())]);
        let mut tunnel = tunnel_out(source_port(outcome.only(FABRIC)));
        (tunnel.destination, tunnel.destination_mac) = (OTHER_VTEP, crate::network::OTHER_VTEP_MAC);
        let expected = tunnel.around(&sent.hop(BLUE_MAC, TENANT_MAC).bytes());
        outcome.is_only(FABRIC, &expected, "moved");
    }
}

isolated! {
    fn the_gateways_address_in_a_vpc_answers_echo() {
        let gateway = Gateway::start();
        for to in ["10.0.0.1", "fd00::1"] {
            let from = if to.contains(':') { "fd00::5" } else { "10.0.0.5" };
            for size in [0, 56, 1300] {
                let change = |f: &mut Frame| {
                    f.source = from.parse().expect("an address");
                    f.destination = to.parse().expect("an address");
                    f.payload = payload(size);
                    f.ttl = 1;
                };
                let what = format!("{to}, {size} bytes");
                let red = from_red(Layer4::EchoRequest(7)).with(change);
                let expected = red.reply();
                gateway.exchange(UPLINK, [red.bytes()]).is_only(UPLINK, &expected.bytes(), &what);
                let blue = from_blue(Layer4::EchoRequest(7)).with(change);
                let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&blue.bytes())]);
                let expected = blue.reply();
                outcome.is_only(FABRIC, &tunneled(outcome.only(FABRIC), &expected), &what);
            }
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_tenant_does_not_reach_addresses_of_the_gateway_elsewhere() {
        let gateway = Gateway::start();
        let sent = from_red(Layer4::Udp(4000, 179)).with(|f| f.destination = "192.0.2.1".parse().expect("an address"));
        let expected = crate::frames::icmp_error(&sent, "10.0.0.1", 3, 13, [0; 4]).bytes();
        let outcome = gateway.exchange(UPLINK, [sent.bytes()]);
        outcome.is_answered(UPLINK, &expected, &[(Drop::Prohibited, 1)], "the underlay's address");
        assert_eq!(outcome.punted, 0);
    }
}

isolated! {
    fn tunnels_that_are_not_ours_end() {
        let gateway = with_networks_inside();
        let inner = inside((TENANT_MAC, BLUE_MAC)).remove(0);
        let drop = |frame: Vec<u8>, reason, what: &str| {
            gateway.exchange(FABRIC, [frame]).is_silent(&[(reason, 1)], what);
        };
        for vni in [0, 1, 4999, 5001, 0xff_ffff] {
            let mut tunnel = tunnel_in();
            tunnel.vni = vni;
            drop(tunnel.around(&inner.bytes()), Drop::VniUnknown, "VNI");
        }
        let mut unflagged = tunnel_in().around(&inner.bytes());
        unflagged[42] = 0xf7;
        drop(unflagged, Drop::VxlanMalformed, "without the I flag");
        let tagged = inner.clone().with(|f| f.vlan = Some(VLAN));
        drop(tunnel_in().around(&tagged.bytes()), Drop::VlanUnknown, "a tag inside");
        let stranger = inner.clone().with(|f| f.destination_mac = RED_MAC);
        drop(tunnel_in().around(&stranger.bytes()), Drop::NotForUs, "a MAC inside");
        let group = inner.clone().with(|f| f.source_mac = Mac([3, 0, 0, 0, 0, 1]));
        drop(tunnel_in().around(&group.bytes()), Drop::SourceMacInvalid, "a group's MAC inside");
        // A tunnel to an address that is no endpoint of ours is the host's, or somebody else's.
        let mut elsewhere = tunnel_in();
        elsewhere.destination = "198.51.100.1".parse().expect("an address");
        assert_eq!(gateway.exchange(FABRIC, [elsewhere.around(&inner.bytes())]).punted, 1);
        // A tenant cannot enter another tenant's tunnel from inside its own.
        let mut nested = tunnel_in();
        (nested.source_mac, nested.destination_mac) = (TENANT_MAC, BLUE_MAC);
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&nested.around(&inner.bytes()))]);
        assert_eq!(outcome.drops, [(Drop::Prohibited, 1)], "a tunnel in the tunnel to {OUR_VTEP}");
    }
}

isolated! {
    fn what_lies_behind_the_outer_packet_is_not_part_of_the_inner_one() {
        let gateway = with_networks_inside();
        let inner = inside((TENANT_MAC, BLUE_MAC)).remove(0).bytes();
        // The outer packet ends before the inner one does; the frame goes on.
        for missing in 1..inner.len() {
            let mut frame = tunnel_in().around(&inner[..inner.len() - missing]);
            frame.extend(&inner[inner.len() - missing..]);
            let outcome = gateway.exchange(FABRIC, [frame]);
            let reason = if inner.len() - missing < 14 { Drop::FrameTruncated } else { Drop::Ipv4Malformed };
            outcome.is_silent(&[(reason, 1)], &format!("{missing} bytes behind the end"));
        }
    }
}
