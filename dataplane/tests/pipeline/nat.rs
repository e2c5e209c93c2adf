//! Connections: what tenants and their peers see of the translation.

use net::{Drop, RouteKind, VrfId};

use crate::frames::{ACK, Frame, Layer4, SYN, icmp_error, payload, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    FABRIC, FABRIC_MAC, FORWARDED, HOST_MAC, PEER_MAC, POOL, RED, RED_MAC, SERVER, TENANT, TENANT_MAC, UPLINK,
    UPLINK_MAC, VLAN, address, from_blue, from_host, from_red, special, tunnel_in, tunnel_out, via,
};

/// Another router of the fabric.
const OTHER_ROUTER: &str = "192.0.2.3";

/// A tenant's packet as the fabric sees it, with `port` in place of its source port or identifier.
pub fn masqueraded(sent: &Frame, port: u16) -> Frame {
    sent.hop(FABRIC_MAC, PEER_MAC).with(|f| {
        f.vlan = None;
        f.source = address(POOL);
        f.layer4 = match f.layer4 {
            Layer4::Udp(_, to) => Layer4::Udp(port, to),
            Layer4::Tcp(_, to, flags) => Layer4::Tcp(port, to, flags),
            Layer4::EchoRequest(_) => Layer4::EchoRequest(port),
            ref other => panic!("{other:?} has no port"),
        };
    })
}

/// What the server answers, as it comes in on the fabric.
pub fn answered(outside: &Frame) -> Frame {
    outside
        .reply()
        .with(|f| (f.source_mac, f.destination_mac) = (PEER_MAC, FABRIC_MAC))
}

/// The answer as the tenant of VPC 1 gets it.
pub fn delivered(sent: &Frame) -> Frame {
    sent.reply().hop(RED_MAC, TENANT_MAC)
}

/// Sends one packet of the tenant and demands that it leaves translated; returns the public port.
pub fn translated(gateway: &Gateway, sent: &Frame) -> u16 {
    let outcome = gateway.exchange(UPLINK, [sent.bytes()]);
    let port = source_port(outcome.only(FABRIC));
    outcome.is_only(FABRIC, &masqueraded(sent, port).bytes(), "translated");
    port
}

isolated! {
    fn masquerade_there_and_back() {
        let gateway = Gateway::start();
        for kind in [Layer4::Udp(4000, 53), Layer4::Tcp(4000, 80, SYN), Layer4::EchoRequest(4000)] {
            let sent = from_red(kind);
            let what = format!("{:?}", sent.layer4);
            let port = translated(&gateway, &sent);
            assert!((20_000..=60_000).contains(&port), "{what}: port {port}");
            let answer = answered(&masqueraded(&sent, port));
            gateway.exchange(FABRIC, [answer.bytes()]).is_only(UPLINK, &delivered(&sent).bytes(), &what);
            // And on: the same port.
            let more = sent.with(|f| {
                f.payload = payload(100);
                f.identification = 77;
                if let Layer4::Tcp(_, _, flags) = &mut f.layer4 {
                    *flags = ACK;
                }
            });
            assert_eq!(translated(&gateway, &more), port, "{what}");
        }
        let connections = gateway.connections(0);
        assert_eq!(connections.len(), 3);
        for connection in connections {
            assert_eq!(connection.packets, [2, 1], "{connection:?}");
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn udp_without_checksum_stays_without() {
        let gateway = Gateway::start();
        let sent = from_red(Layer4::Udp(4000, 53));
        let mut bytes = sent.bytes();
        bytes[18 + 26..18 + 28].fill(0);
        let outcome = gateway.exchange(UPLINK, [bytes]);
        let mut expected = masqueraded(&sent, source_port(outcome.only(FABRIC))).bytes();
        expected[14 + 26..14 + 28].fill(0);
        outcome.is_only(FABRIC, &expected, "no checksum");
    }
}

isolated! {
    fn tenants_with_the_same_addresses_are_told_apart() {
        let gateway = Gateway::start();
        let (red, blue) = (from_red(Layer4::Udp(4000, 53)), from_blue(Layer4::Udp(4000, 53)));
        let red_port = translated(&gateway, &red);
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&blue.bytes())]);
        let blue_port = source_port(outcome.only(FABRIC));
        outcome.is_only(FABRIC, &masqueraded(&blue, blue_port).bytes(), "out of the tunnel");
        assert_ne!(red_port, blue_port);
        let answer = answered(&masqueraded(&red, red_port));
        gateway.exchange(FABRIC, [answer.bytes()]).is_only(UPLINK, &delivered(&red).bytes(), "red");
        let answer = answered(&masqueraded(&blue, blue_port));
        let outcome = gateway.exchange(FABRIC, [answer.bytes()]);
        let inner = blue.reply().hop(blue.destination_mac, blue.source_mac);
        let expected = tunnel_out(source_port(outcome.only(FABRIC))).around(&inner.bytes());
        outcome.is_only(FABRIC, &expected, "blue");
    }
}

isolated! {
    fn a_forwarded_port_leads_inside_and_back() {
        let gateway = Gateway::start();
        let client = |flags, port| {
            Frame::new((PEER_MAC, FABRIC_MAC), SERVER, FORWARDED, Layer4::Tcp(5555, port, flags))
        };
        let inside = |flags| {
            client(flags, 80).hop(RED_MAC, TENANT_MAC).with(|f| {
                f.vlan = Some(VLAN);
                f.destination = address(TENANT);
                f.layer4 = Layer4::Tcp(5555, 8080, flags);
            })
        };
        gateway.exchange(FABRIC, [client(SYN, 80).bytes()]).is_only(UPLINK, &inside(SYN).bytes(), "SYN");
        let answer = inside(SYN).reply();
        let expected = client(SYN, 80).reply().hop(FABRIC_MAC, PEER_MAC);
        gateway.exchange(UPLINK, [answer.bytes()]).is_only(FABRIC, &expected.bytes(), "SYN ACK");
        gateway.exchange(FABRIC, [client(ACK, 80).bytes()]).is_only(UPLINK, &inside(ACK).bytes(), "ACK");
        gateway
            .exchange(FABRIC, [client(SYN, 81).bytes()])
            .is_silent(&[(Drop::NatNoMapping, 1)], "a port that leads nowhere");
    }
}

isolated! {
    fn a_connection_keeps_its_port_when_its_route_moves_goes_and_comes_back() {
        let mut gateway = Gateway::start();
        let other_mac = net::Mac([2, 0, 0, 0, 2, 3]);
        gateway.neighbor(crate::network::FABRIC_IF, OTHER_ROUTER, Some(other_mac));
        gateway.publish();
        let frames = [Layer4::Udp(4000, 53), Layer4::Tcp(4000, 80, SYN), Layer4::EchoRequest(4000)].map(from_red);
        let ports = frames.each_ref().map(|sent| translated(&gateway, sent));
        let outside = |i: usize| masqueraded(&frames[i], ports[i]);
        let both_ways = |gateway: &Gateway, router| {
            for (i, sent) in frames.iter().enumerate() {
                let there = outside(i).with(|f| f.destination_mac = router);
                gateway.exchange(UPLINK, [sent.bytes()]).is_only(FABRIC, &there.bytes(), "there");
                let back = answered(&outside(i));
                gateway.exchange(FABRIC, [back.bytes()]).is_only(UPLINK, &delivered(sent).bytes(), "back");
            }
        };
        both_ways(&gateway, PEER_MAC);
        gateway.route(VrfId::DEFAULT, "198.18.0.0/24", Some(via(OTHER_ROUTER)));
        gateway.publish();
        both_ways(&gateway, other_mac);
        gateway.route(VrfId::DEFAULT, "198.18.0.0/24", None);
        gateway.route(VrfId::DEFAULT, "0.0.0.0/0", None);
        gateway.publish();
        for sent in &frames {
            let expected = icmp_error(sent, "10.0.0.1", 3, 0, [0; 4]).bytes();
            let drops = [(Drop::NoRoute, 1)];
            gateway.exchange(UPLINK, [sent.bytes()]).is_answered(UPLINK, &expected, &drops, "withdrawn");
        }
        gateway.route(VrfId::DEFAULT, "0.0.0.0/0", Some(via("192.0.2.2")));
        gateway.publish();
        both_ways(&gateway, PEER_MAC);
        gateway.event("a finished revalidation", |event| match event {
            dataplane::Event::Revalidated { summary, .. } => (summary.moved == 3).then_some(()),
            _ => None,
        });
        assert_eq!(gateway.connections(0).len(), 3);
    }
}

isolated! {
    fn a_route_inside_the_tenant_moves_replies_too() {
        let mut gateway = Gateway::start();
        let sent = from_red(Layer4::Udp(4000, 53)).with(|f| f.source = address("10.1.0.9"));
        gateway.route(RED, "10.1.0.0/24", Some(via(TENANT)));
        gateway.publish();
        let port = translated(&gateway, &sent);
        let back = answered(&masqueraded(&sent, port));
        gateway.exchange(FABRIC, [back.bytes()]).is_only(UPLINK, &delivered(&sent).bytes(), "by the first router");
        let other_mac = net::Mac([2, 0, 0, 0, 1, 6]);
        gateway.neighbor(crate::network::RED_IF, "10.0.0.6", Some(other_mac));
        gateway.route(RED, "10.1.0.0/24", Some(via("10.0.0.6")));
        gateway.publish();
        let expected = sent.reply().hop(RED_MAC, other_mac);
        gateway.exchange(FABRIC, [back.bytes()]).is_only(UPLINK, &expected.bytes(), "by the second router");
        assert_eq!(translated(&gateway, &sent), port);
    }
}

isolated! {
    fn a_generation_that_is_about_others_looks_at_no_connection() {
        let mut gateway = Gateway::start();
        for port in 4000..4010 {
            translated(&gateway, &from_red(Layer4::Udp(port, 53)));
        }
        gateway.route(RED, "10.77.0.0/24", Some(via(TENANT)));
        let generation = gateway.publish().generation;
        let examined = gateway.event("the end of revalidation", |event| match event {
            dataplane::Event::Revalidated { generation: of, summary, .. } if *of == generation => {
                Some((summary.kept, summary.examined))
            }
            _ => None,
        });
        assert_eq!(examined, (10, 0), "kept and looked up again");
    }
}

isolated! {
    fn a_policy_without_the_rule_ends_its_connections() {
        let mut gateway = Gateway::start();
        let red = from_red(Layer4::Udp(4000, 53));
        let blue = from_blue(Layer4::Udp(4001, 53));
        let red_port = translated(&gateway, &red);
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&blue.bytes())]);
        let blue_port = source_port(outcome.only(FABRIC));
        gateway.set_masquerade(&[2]);
        gateway.publish();
        let back = answered(&masqueraded(&red, red_port));
        gateway.exchange(FABRIC, [back.bytes()]).is_silent(&[(Drop::NatNoMapping, 1)], "ended");
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&blue.bytes())]);
        outcome.is_only(FABRIC, &masqueraded(&blue, blue_port).bytes(), "kept");
    }
}

isolated! {
    fn errors_about_translated_packets_are_translated() {
        let gateway = Gateway::start();
        for kind in [Layer4::Udp(4000, 33434), Layer4::Tcp(4000, 80, SYN), Layer4::EchoRequest(4000)] {
            let sent = from_red(kind);
            let what = format!("{:?}", sent.layer4);
            let port = translated(&gateway, &sent);
            // What a router two hops away quotes: the packet as it got it.
            let outside = masqueraded(&sent, port).with(|f| f.ttl = 1);
            let error = Frame::new((PEER_MAC, FABRIC_MAC), "198.18.5.5", POOL, Layer4::Icmp(11, 0, [0; 4]))
                .with(|f| f.payload = outside.packet());
            let expected = error.hop(RED_MAC, TENANT_MAC).with(|f| {
                f.vlan = Some(VLAN);
                f.destination = address(TENANT);
                f.payload = sent.clone().with(|f| f.ttl = 1).packet();
            });
            gateway.exchange(FABRIC, [error.bytes()]).is_only(UPLINK, &expected.bytes(), &what);
        }
        let stray = from_host(Layer4::Udp(1, 2)).with(|f| f.source = address(POOL));
        let error = Frame::new((PEER_MAC, FABRIC_MAC), "198.18.5.5", POOL, Layer4::Icmp(3, 1, [0; 4]))
            .with(|f| f.payload = stray.packet());
        gateway.exchange(FABRIC, [error.bytes()]).is_silent(&[(Drop::NatNoMapping, 1)], "about no connection");
    }
}

isolated! {
    fn an_error_about_a_tenants_packet_quotes_what_it_sent() {
        let mut gateway = Gateway::start();
        // Behind the uplink's smaller MTU; from the tunnel, so that the tenant's own MTU is no matter.
        gateway.route(VrfId::DEFAULT, "198.18.0.0/24", Some(via("198.51.100.2")));
        gateway.publish();
        let sent = from_blue(Layer4::Udp(4000, 53)).with(|f| {
            f.payload = payload(1401 - 28);
            f.dont_fragment = true;
        });
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&sent.bytes())]);
        let inner = icmp_error(&sent, "10.0.0.1", 3, 4, [0, 0, 0x05, 0x78]);
        let expected = tunnel_out(source_port(outcome.only(FABRIC))).around(&inner.bytes());
        outcome.is_answered(FABRIC, &expected, &[(Drop::PacketTooBig, 1)], "too big");
        assert_eq!(gateway.connections(0), [], "no connection for a packet that did not leave");
    }
}

isolated! {
    fn a_packet_too_big_is_translated_and_then_cut() {
        let mut gateway = Gateway::start();
        gateway.route(VrfId::DEFAULT, "198.18.0.0/24", Some(via("198.51.100.2")));
        gateway.publish();
        let sent = from_blue(Layer4::Udp(4000, 53)).with(|f| f.payload = payload(1430 - 28));
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&sent.bytes())]);
        assert_eq!((outcome.sent[UPLINK].len(), &outcome.drops), (2, &vec![]));
        let port = source_port(&outcome.sent[UPLINK][0]);
        let whole = masqueraded(&sent, port).with(|f| {
            (f.source_mac, f.destination_mac) = (UPLINK_MAC, HOST_MAC);
        });
        let segment = whole.packet()[20..].to_vec();
        let piece = |range: std::ops::Range<usize>, more| {
            whole.clone().with(|f| {
                f.layer4 = Layer4::Raw(17);
                f.fragment = ((range.start / 8) as u16, more);
                f.payload = segment[range].to_vec();
            })
        };
        let expected = [piece(0..1376, true).bytes(), piece(1376..segment.len(), false).bytes()];
        crate::frames::assert_frames(&outcome.sent[UPLINK], &expected, "two fragments");
    }
}

isolated! {
    fn what_cannot_be_translated_is_dropped_by_its_reason() {
        let mut gateway = Gateway::start();
        let cases = [
            (UPLINK, from_red(Layer4::Raw(33)), Drop::NatUnsupported),
            (UPLINK, from_red(Layer4::Icmp(13, 0, [0; 4])), Drop::NatUnsupported),
            (UPLINK, from_red(Layer4::Tcp(4000, 80, ACK)), Drop::NatStateInvalid),
        ];
        for (wire, frame, reason) in cases {
            let what = format!("{:?}", frame.layer4);
            gateway.exchange(wire, [frame.bytes()]).is_silent(&[(reason, 1)], &what);
        }
        for layer4 in [Layer4::Udp(53, 20_000), Layer4::Tcp(80, 20_000, SYN), Layer4::EchoReply(20_000)] {
            let stray = Frame::new((PEER_MAC, FABRIC_MAC), SERVER, POOL, layer4);
            let what = format!("{:?}", stray.layer4);
            gateway.exchange(FABRIC, [stray.bytes()]).is_silent(&[(Drop::NatNoMapping, 1)], &what);
        }
        gateway.route(VrfId::DEFAULT, "198.18.0.0/24", Some(special(RouteKind::Blackhole)));
        gateway.publish();
        let into_blackhole = from_red(Layer4::Udp(4000, 53));
        gateway.exchange(UPLINK, [into_blackhole.bytes()]).is_silent(&[(Drop::Blackhole, 1)], "blackhole");
        assert_eq!(gateway.connections(0), []);
    }
}

isolated! {
    fn a_full_table_refuses_new_connections_alone() {
        let gateway = Gateway::start();
        let first = from_red(Layer4::Udp(1, 53));
        let port = translated(&gateway, &first);
        let flood = |count: u16, from: u16| {
            let frames: Vec<_> = (0..count).map(|i| from_red(Layer4::Udp(from + i, 53)).bytes()).collect();
            gateway.exchange(UPLINK, frames)
        };
        // Each has four packets before the table is full and so is established: none may be evicted for another.
        for chunk in 0..9 {
            for _ in 0..2 {
                let outcome = flood(455, 2 + chunk * 455);
                let answers: Vec<_> = outcome.sent[FABRIC]
                    .iter()
                    .map(|out| answered(&masqueraded(&first, source_port(out))).bytes())
                    .collect();
                assert_eq!(answers.len(), 455);
                gateway.exchange(FABRIC, answers);
            }
        }
        for _ in 0..2 {
            gateway.exchange(FABRIC, [answered(&masqueraded(&first, port)).bytes()]);
            assert_eq!(translated(&gateway, &first), port);
        }
        assert_eq!(gateway.connections(0).len(), 4096);
        // RFC 5508 REQ-8: each sender is told.
        let outcome = flood(20, 10_000);
        let refused = (10_000..10_020).map(|port| {
            let about = from_red(Layer4::Udp(port, 53));
            icmp_error(&about, "10.0.0.1", 3, 13, [0; 4]).bytes()
        });
        assert_eq!(outcome.drops, [(Drop::NatTableFull, 20)]);
        crate::frames::assert_frames(&outcome.sent[UPLINK], &refused.collect::<Vec<_>>(), "no room");
        assert_eq!(translated(&gateway, &first), port, "known connections go on");
        gateway.assert_no_leak();
    }
}
