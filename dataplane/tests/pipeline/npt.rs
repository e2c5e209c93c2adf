//! NPTv6 through the pipeline: both directions, errors with what they quote, and what has no address outside.

use nat::{Npt, PolicySpec};
use net::{Drop, NextHop, Route, VpcId, VrfId};

use crate::frames::{Frame, Layer4, SYN, icmp_error, payload};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{FABRIC, FABRIC_MAC, PEER_MAC, RED, RED_MAC, TENANT_MAC, UPLINK, VLAN, address};

const TENANT: &str = "fd00::5";
/// fd00:0:0 sums to fd00, 2001:db8:77 to 2e30: the fourth word becomes their difference, ced0.
const OUTSIDE: &str = "2001:db8:77:ced0::5";
const SERVER: &str = "2001:db8:f::9";

fn start() -> Gateway {
    let mut gateway = Gateway::start();
    gateway.set_spec(PolicySpec {
        npt: vec![Npt {
            vpc: VpcId::new(1).expect("not zero"),
            inside: "fd00::/48".parse().expect("a prefix"),
            outside: "2001:db8:77::/48".parse().expect("a prefix"),
        }],
        ..PolicySpec::default()
    });
    gateway.route(RED, "::/0", Some(Route::unicast(NextHop::in_vrf(VrfId::DEFAULT))));
    gateway.publish();
    gateway.settle();
    gateway
}

fn from_red(layer4: Layer4) -> Frame {
    Frame::new((TENANT_MAC, RED_MAC), TENANT, SERVER, layer4).with(|frame| frame.vlan = Some(VLAN))
}

/// As the peer gets it.
fn outside(sent: &Frame) -> Frame {
    sent.hop(FABRIC_MAC, PEER_MAC)
        .with(|f| (f.vlan, f.source) = (None, address(OUTSIDE)))
}

isolated! {
    fn prefixes_are_exchanged_in_both_directions_and_checksums_stay_right() {
        let gateway = start();
        for kind in [Layer4::Udp(4000, 53), Layer4::Tcp(4000, 80, SYN), Layer4::EchoRequest(7), Layer4::Raw(47)] {
            let sent = from_red(kind).with(|f| f.payload = payload(99));
            gateway.exchange(UPLINK, [sent.bytes()]).is_only(FABRIC, &outside(&sent).bytes(), "out");
            let answer = outside(&sent).reply();
            let back = sent.reply().hop(RED_MAC, TENANT_MAC);
            gateway.exchange(FABRIC, [answer.bytes()]).is_only(UPLINK, &back.bytes(), "back");
        }
        assert!(gateway.connections(0).is_empty());
        // Somebody of the VPC at an address of the VPC's own prefix outside.
        let sent = from_red(Layer4::Udp(1, 2)).with(|f| f.destination = address(OUTSIDE));
        let arrived = sent.hop(RED_MAC, TENANT_MAC).with(|f| (f.source, f.destination) = (address(OUTSIDE), address(TENANT)));
        gateway.exchange(UPLINK, [sent.bytes()]).is_only(UPLINK, &arrived.bytes(), "turned back");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn errors_quote_packets_as_their_senders_know_them() {
        let gateway = start();
        let sent = from_red(Layer4::Udp(4000, 53));
        let router = "2001:db8:9::1";
        let about = |quoted: &Frame, to: &str| {
            Frame::new((PEER_MAC, FABRIC_MAC), router, to, Layer4::Icmp(1, 4, [0; 4])).with(|f| f.payload = quoted.packet())
        };
        let quoted_inside = sent.clone().with(|f| f.ttl -= 1);
        let arrived = about(&quoted_inside, TENANT).hop(RED_MAC, TENANT_MAC).with(|f| f.vlan = Some(VLAN));
        gateway.exchange(FABRIC, [about(&outside(&sent), OUTSIDE).bytes()]).is_only(UPLINK, &arrived.bytes(), "in");

        // The tenant's own error about a packet that reached it.
        let reached = outside(&sent).reply();
        let inside = sent.reply().hop(RED_MAC, TENANT_MAC);
        let error = from_red(Layer4::Icmp(1, 4, [0; 4])).with(|f| f.payload = inside.packet());
        let expected = outside(&error).with(|f| {
            f.payload = reached.clone().with(|f| f.ttl -= 1).packet();
        });
        gateway.exchange(UPLINK, [error.bytes()]).is_only(FABRIC, &expected.bytes(), "out");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn what_has_no_address_on_the_other_side_is_refused() {
        let gateway = start();
        let sent = from_red(Layer4::Udp(4000, 53)).with(|f| f.source = address("fd00:0:0:ffff::5"));
        let drops = [(Drop::NptUntranslatable, 1)];
        let outcome = gateway.exchange(UPLINK, [sent.bytes()]);
        assert_eq!(outcome.drops, drops.to_vec());
        let to = Frame::new((PEER_MAC, FABRIC_MAC), SERVER, "2001:db8:77:ffff::5", Layer4::Udp(1, 2));
        let told = icmp_error(&to, "2001:db8:2::1", 1, 3, [0; 4]);
        gateway.exchange(FABRIC, [to.bytes()]).is_answered(FABRIC, &told.bytes(), &drops, "address unreachable");
    }
}
