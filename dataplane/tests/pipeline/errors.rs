//! ICMP errors that the gateway sends: to whom, from where, about what.

use net::{Drop, RouteKind, VrfId};

use crate::frames::{Frame, Layer4, assert_frames, icmp_error, payload};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    FABRIC, FABRIC_MAC, HOST_MAC, MTU, PEER_MAC, RED, UPLINK, UPLINK_MAC, from_host, from_host_v6, from_red, special,
};

const UPLINK_ADDRESS: &str = "198.51.100.1";
const UPLINK_ADDRESS_V6: &str = "2001:db8:3::1";

/// From the peer to the host: towards the smaller MTU.
fn inward(size: usize, dont_fragment: bool) -> Frame {
    let layer4 = Layer4::Udp(53, 4000);
    Frame::new((PEER_MAC, FABRIC_MAC), "198.18.0.9", "198.51.100.2", layer4).with(|f| {
        f.payload = payload(size - 28);
        f.dont_fragment = dont_fragment;
    })
}

isolated! {
    fn ttl_1_is_answered_with_time_exceeded() {
        let gateway = Gateway::start();
        for ttl in [0, 1] {
            let sent = from_host(Layer4::Udp(4000, 33434)).with(|f| f.ttl = ttl);
            let expected = icmp_error(&sent, UPLINK_ADDRESS, 11, 0, [0; 4]).bytes();
            let drops = [(Drop::TtlExpired, 1)];
            gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &expected, &drops, "TTL");
            let sent = from_host_v6(Layer4::Udp(4000, 33434)).with(|f| f.ttl = ttl);
            let expected = icmp_error(&sent, UPLINK_ADDRESS_V6, 3, 0, [0; 4]).bytes();
            gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &expected, &drops, "hop limit");
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn ttl_1_expires_before_its_unknown_neighbor_is_looked_for() {
        let gateway = Gateway::start();
        for ttl in [0, 1] {
            let to = |f: &mut Frame, text: &str| {
                f.ttl = ttl;
                f.destination = text.parse().expect("an address");
            };
            let drops = [(Drop::TtlExpired, 1)];
            let sent = from_host(Layer4::Udp(4000, 33434)).with(|f| to(f, "192.0.2.77"));
            let expected = icmp_error(&sent, UPLINK_ADDRESS, 11, 0, [0; 4]).bytes();
            gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &expected, &drops, "TTL");
            let sent = from_host_v6(Layer4::Udp(4000, 33434)).with(|f| to(f, "2001:db8:2::77"));
            let expected = icmp_error(&sent, UPLINK_ADDRESS_V6, 3, 0, [0; 4]).bytes();
            gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &expected, &drops, "hop limit");
        }
    }
}

isolated! {
    fn quotes_are_cut_to_what_an_error_may_carry() {
        let gateway = Gateway::start();
        let sent = from_host(Layer4::Udp(4000, 33434)).with(|f| (f.ttl, f.payload) = (1, payload(1300)));
        let error = icmp_error(&sent, UPLINK_ADDRESS, 11, 0, [0; 4]);
        assert_eq!(error.packet().len(), 576);
        let drops = [(Drop::TtlExpired, 1)];
        gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &error.bytes(), &drops, "IPv4");
        let sent = from_host_v6(Layer4::Udp(4000, 33434)).with(|f| (f.ttl, f.payload) = (1, payload(1300)));
        let error = icmp_error(&sent, UPLINK_ADDRESS_V6, 3, 0, [0; 4]);
        assert_eq!(error.packet().len(), 1280);
        gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &error.bytes(), &drops, "IPv6");
    }
}

isolated! {
    fn a_withdrawn_route_is_answered_with_net_unreachable() {
        let mut gateway = Gateway::start();
        let (v4, v6) = (from_host(Layer4::Udp(4000, 53)), from_host_v6(Layer4::Udp(4000, 53)));
        gateway.exchange(UPLINK, [v4.bytes()]).is_only(FABRIC, &v4.hop(FABRIC_MAC, PEER_MAC).bytes(), "before");
        gateway.route(VrfId::DEFAULT, "0.0.0.0/0", None);
        gateway.route(VrfId::DEFAULT, "::/0", None);
        gateway.publish();
        let drops = [(Drop::NoRoute, 1)];
        let expected = icmp_error(&v4, UPLINK_ADDRESS, 3, 0, [0; 4]).bytes();
        gateway.exchange(UPLINK, [v4.bytes()]).is_answered(UPLINK, &expected, &drops, "IPv4");
        let expected = icmp_error(&v6, UPLINK_ADDRESS_V6, 1, 0, [0; 4]).bytes();
        gateway.exchange(UPLINK, [v6.bytes()]).is_answered(UPLINK, &expected, &drops, "IPv6");
    }
}

isolated! {
    fn unreachable_and_prohibit_routes_say_so() {
        let mut gateway = Gateway::start();
        let (v4, v6) = (from_host(Layer4::Udp(4000, 53)), from_host_v6(Layer4::Udp(4000, 53)));
        for (kind, reason, code, code_v6) in [
            (RouteKind::Unreachable, Drop::Unreachable, 1, 3),
            (RouteKind::Prohibit, Drop::Prohibited, 13, 1),
        ] {
            gateway.route(VrfId::DEFAULT, "198.18.0.0/24", Some(special(kind)));
            gateway.route(VrfId::DEFAULT, "2001:db8:f::/48", Some(special(kind)));
            gateway.publish();
            let drops = [(reason, 1)];
            let expected = icmp_error(&v4, UPLINK_ADDRESS, 3, code, [0; 4]).bytes();
            gateway.exchange(UPLINK, [v4.bytes()]).is_answered(UPLINK, &expected, &drops, "IPv4");
            let expected = icmp_error(&v6, UPLINK_ADDRESS_V6, 1, code_v6, [0; 4]).bytes();
            gateway.exchange(UPLINK, [v6.bytes()]).is_answered(UPLINK, &expected, &drops, "IPv6");
        }
    }
}

isolated! {
    fn too_big_with_df_is_answered_with_the_mtu() {
        let gateway = Gateway::start();
        let fits = inward(usize::from(MTU[UPLINK]), true);
        gateway.exchange(FABRIC, [fits.bytes()]).is_only(UPLINK, &fits.hop(UPLINK_MAC, HOST_MAC).bytes(), "fits");
        let sent = inward(usize::from(MTU[UPLINK]) + 1, true);
        let [high, low] = MTU[UPLINK].to_be_bytes();
        let expected = icmp_error(&sent, "192.0.2.1", 3, 4, [0, 0, high, low]).bytes();
        let drops = [(Drop::PacketTooBig, 1)];
        gateway.exchange(FABRIC, [sent.bytes()]).is_answered(FABRIC, &expected, &drops, "too big");
        let sent = Frame::new((PEER_MAC, FABRIC_MAC), "2001:db8:f::9", "2001:db8:3::2", Layer4::Udp(53, 4000))
            .with(|f| f.payload = payload(usize::from(MTU[UPLINK]) - 48));
        gateway.exchange(FABRIC, [sent.bytes()]).is_only(UPLINK, &sent.hop(UPLINK_MAC, HOST_MAC).bytes(), "fits");
        let sent = sent.with(|f| f.payload.push(1));
        let expected = icmp_error(&sent, "2001:db8:2::1", 2, 0, [0, 0, high, low]).bytes();
        gateway.exchange(FABRIC, [sent.bytes()]).is_answered(FABRIC, &expected, &drops, "IPv6");
    }
}

isolated! {
    fn too_big_without_df_is_cut_into_fragments_that_make_the_original() {
        let gateway = Gateway::start();
        for size in [1401, 1404, 1499, 1500, 2000] {
            let sent = inward(size, false);
            let outcome = gateway.exchange(FABRIC, [sent.bytes()]);
            assert_eq!((&outcome.drops, outcome.generated), (&vec![], 1), "{size} bytes");
            let whole = sent.packet();
            // 1376 is the largest multiple of 8 that fits an MTU of 1400 behind a header.
            let piece = |from: usize, to: usize, more| {
                sent.hop(UPLINK_MAC, HOST_MAC).with(|f| {
                    f.layer4 = Layer4::Raw(17);
                    f.fragment = ((from / 8) as u16, more);
                    f.payload = whole[20 + from..20 + to].to_vec();
                })
            };
            let expected = [piece(0, 1376, true).bytes(), piece(1376, size - 20, false).bytes()];
            assert_frames(&outcome.sent[UPLINK], &expected, &format!("{size} bytes"));
        }
        // A fragment of a datagram is cut again, and keeps its place.
        let sent = inward(1500, false).with(|f| {
            f.layer4 = Layer4::Raw(17);
            f.fragment = (185, true);
        });
        let outcome = gateway.exchange(FABRIC, [sent.bytes()]);
        let piece = |from: usize, to: usize| {
            sent.hop(UPLINK_MAC, HOST_MAC).with(|f| {
                f.fragment = (185 + (from / 8) as u16, true);
                f.payload = sent.payload[from..to].to_vec();
            })
        };
        let all = sent.payload.len();
        assert_frames(&outcome.sent[UPLINK], &[piece(0, 1376).bytes(), piece(1376, all).bytes()], "a fragment");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn nobody_is_told_of_errors_fragments_and_multicast() {
        let mut gateway = Gateway::start();
        gateway.route(VrfId::DEFAULT, "0.0.0.0/0", None);
        gateway.publish();
        let about_error = from_host(Layer4::Icmp(3, 1, [0; 4]))
            .with(|f| f.payload = from_host(Layer4::Udp(1, 2)).packet());
        let later = from_host(Layer4::Raw(17)).with(|f| f.fragment = (10, false));
        let drops = [(Drop::NoRoute, 2)];
        gateway.exchange(UPLINK, [about_error.bytes(), later.bytes()]).is_silent(&drops, "no answer");
    }
}

isolated! {
    fn errors_are_limited_in_rate() {
        let gateway = Gateway::start();
        let frames = (0..2_000).map(|i| from_host(Layer4::Udp(i, 33434)).with(|f| f.ttl = 1).bytes());
        let outcome = gateway.exchange(UPLINK, frames);
        assert_eq!(outcome.drops, [(Drop::TtlExpired, 2_000)]);
        let (sent, limited) = (outcome.generated, gateway.dataplane.counters()[0].icmp_limited.get());
        assert_eq!(sent + limited, 2_000);
        assert!((100..2_000).contains(&sent), "{sent} errors for 2,000 packets");
        assert_eq!(outcome.sent[UPLINK].len() as u64, sent);
    }
}

isolated! {
    fn a_tenant_is_told_in_its_own_vrf_about_what_it_sent() {
        let mut gateway = Gateway::start();
        let sent = from_red(Layer4::Udp(4000, 33434)).with(|f| f.ttl = 1);
        let expected = icmp_error(&sent, "10.0.0.1", 11, 0, [0; 4]).bytes();
        gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &expected, &[(Drop::TtlExpired, 1)], "TTL");
        // No connection yet, and one whose route goes: the same answers.
        let sent = from_red(Layer4::Udp(4000, 53));
        for known in [false, true] {
            for (route, reason, code) in [
                (None, Drop::NoRoute, 0),
                (Some(special(RouteKind::Unreachable)), Drop::Unreachable, 1),
                (Some(special(RouteKind::Prohibit)), Drop::Prohibited, 13),
            ] {
                if known {
                    assert_eq!(gateway.exchange(UPLINK, [sent.bytes()]).sent[FABRIC].len(), 1, "a connection");
                }
                gateway.route(RED, "0.0.0.0/0", route);
                gateway.publish();
                let expected = icmp_error(&sent, "10.0.0.1", 3, code, [0; 4]).bytes();
                let what = format!("{reason}, connection {known}");
                for _ in 0..2 {
                    gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &expected, &[(reason, 1)], &what);
                }
                let leak = net::Route::unicast(net::NextHop::in_vrf(VrfId::DEFAULT));
                gateway.route(RED, "0.0.0.0/0", Some(leak));
                gateway.publish();
            }
        }
    }
}
