//! Masquerade, port forwards, workers, limits: what the engine does to single connections.

mod support;

use nat::{ConnectionState, Engine, Millis, NewPacket, Resolver, Rewrite, Verdict};
use net::{Drop, VrfId};
use proptest::prelude::*;
use support::*;

const NOW: Millis = Millis(1000);

fn masquerading(ports: (u16, u16)) -> Engine {
    engine(1000, policy(vec![masquerade(1, &["192.0.2.1"], ports)], vec![]))
}

#[test]
fn masquerade_translates_both_directions_and_keeps_the_port() {
    let (mut engine, routes) = (masquerading((1024, 65535)), routes());
    for (request, reply) in [
        (tcp(("10.0.0.5", 4000), ("198.51.100.9", 80), SYN), SYN | ACK),
        (udp(("10.0.0.5", 4000), ("198.51.100.9", 53)), 0),
        (echo("10.0.0.5", "198.51.100.9", 4000, 8), 0),
    ] {
        let fate = send(&mut engine, &routes, 1, &build(&request, b"payload"), NOW);
        let translated = Headers {
            source: ip("192.0.2.1"),
            ..request
        };
        assert_eq!(fate, Fate::Sent(build(&translated, b"payload"), 100, false));
        let fate = send(
            &mut engine,
            &routes,
            0,
            &build(&answer(&translated, reply), b"odd"),
            NOW,
        );
        assert_eq!(fate, Fate::Sent(build(&answer(&request, reply), b"odd"), 1, false));
    }
}

#[test]
fn tenants_with_the_same_addresses_get_different_ports() {
    let rules = vec![
        masquerade(1, &["192.0.2.1"], (1, 65535)),
        masquerade(2, &["192.0.2.1"], (1, 65535)),
    ];
    let (mut engine, routes) = (engine(10, policy(rules, vec![])), routes());
    let request = udp(("10.0.0.5", 4000), ("198.51.100.9", 53));
    let one = send(&mut engine, &routes, 1, &build(&request, b""), NOW).headers();
    let two = send(&mut engine, &routes, 2, &build(&request, b""), NOW).headers();
    assert_eq!((one.source, one.source_port), (two.source, 4000));
    assert_ne!(two.source_port, 4000);
    let fate = send(&mut engine, &routes, 0, &build(&answer(&two, 0), b""), NOW);
    assert_eq!(fate, Fate::Sent(build(&answer(&request, 0), b""), 2, false));
}

#[test]
fn port_forward_translates_both_directions() {
    let forwards = vec![forward(2, TCP, "192.0.2.7", 8080, "10.0.0.9", 80)];
    let (mut engine, routes) = (engine(10, policy(vec![], forwards)), routes());
    let request = tcp(("198.51.100.9", 5555), ("192.0.2.7", 8080), SYN);
    let inner = tcp(("198.51.100.9", 5555), ("10.0.0.9", 80), SYN);
    let fate = send(&mut engine, &routes, 0, &build(&request, b""), NOW);
    assert_eq!(fate, Fate::Sent(build(&inner, b""), 2, false));
    let fate = send(&mut engine, &routes, 2, &build(&answer(&inner, SYN | ACK), b""), NOW);
    assert_eq!(fate, Fate::Sent(build(&answer(&request, SYN | ACK), b""), 100, false));
    let other_port = tcp(("198.51.100.9", 5555), ("192.0.2.7", 8081), SYN);
    let fate = send(&mut engine, &routes, 0, &build(&other_port, b""), NOW);
    assert_eq!(fate, Fate::Dropped(Drop::NatNoMapping));
}

#[test]
fn what_nat_is_not_about_is_forwarded() {
    let (mut engine, routes) = (masquerading((1, 65535)), routes());
    let inside = udp(("10.0.0.5", 1), ("10.0.0.6", 2));
    assert_eq!(
        send(&mut engine, &routes, 1, &build(&inside, b""), NOW),
        Fate::Forwarded,
        "within the VPC"
    );
    let other = udp(("10.0.0.5", 1), ("198.51.100.9", 2));
    assert_eq!(
        send(&mut engine, &routes, 2, &build(&other, b""), NOW),
        Fate::Forwarded,
        "a VPC without a rule"
    );
    let transit = udp(("203.0.113.1", 1), ("198.51.100.9", 2));
    assert_eq!(
        send(&mut engine, &routes, 0, &build(&transit, b""), NOW),
        Fate::Forwarded,
        "transit"
    );
    assert_eq!(engine.stats().created, 0);
}

#[test]
fn unwanted_packets_are_dropped_by_name() {
    let (mut engine, routes) = (masquerading((1, 65535)), routes());
    let mut fate = |vrf, packet: &[u8]| send(&mut engine, &routes, vrf, packet, NOW);
    let stray = tcp(("10.0.0.5", 1), ("198.51.100.9", 80), ACK);
    assert_eq!(fate(1, &build(&stray, b"")), Fate::Dropped(Drop::NatStateInvalid));
    let unasked = udp(("198.51.100.9", 1), ("192.0.2.1", 2));
    assert_eq!(fate(0, &build(&unasked, b"")), Fate::Dropped(Drop::NatNoMapping));
    assert_eq!(
        fate(1, &build(&echo("10.0.0.5", "198.51.100.9", 1, 0), b"")),
        Fate::Dropped(Drop::NatNoMapping)
    );
    assert_eq!(
        fate(1, &build(&echo("10.0.0.5", "198.51.100.9", 1, 13), b"")),
        Fate::Dropped(Drop::NatUnsupported)
    );
    let dccp = ip_packet(33, ip("10.0.0.5"), ip("198.51.100.9"), &[0; 12]);
    assert_eq!(fate(1, &dccp), Fate::Dropped(Drop::NatUnsupported));
    let mut fragment = build(&udp(("10.0.0.5", 1), ("198.51.100.9", 2)), b"");
    fragment[7] = 1;
    fragment[10..12].fill(0);
    let sum = checksum(&[&fragment[..20]]);
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(fate(1, &fragment), Fate::Dropped(Drop::NatFragment));
    assert_eq!(engine.stats().created, 0);
}

#[test]
fn mid_stream_pick_up_is_a_choice() {
    let mut spec = nat::PolicySpec {
        masquerade: vec![masquerade(1, &["192.0.2.1"], (1, 65535))],
        ..Default::default()
    };
    spec.pick_up = true;
    let policy = std::sync::Arc::new(nat::Policy::compile(spec).expect("valid"));
    let (mut engine, routes) = (engine(10, policy), routes());
    let data = tcp(("10.0.0.5", 1), ("198.51.100.9", 80), ACK);
    let out = send(&mut engine, &routes, 1, &build(&data, b"x"), NOW).headers();
    send(&mut engine, &routes, 0, &build(&answer(&out, ACK), b"y"), NOW);
    let Fate::Sent(_, _, offload) = send(&mut engine, &routes, 1, &build(&data, b"x"), NOW) else {
        panic!("sent")
    };
    assert!(offload);
    assert_eq!(engine.stats().tcp.established, 1);
}

#[test]
fn offload_is_asked_for_once_when_a_connection_is_mature() {
    let (mut engine, routes) = (masquerading((1, 65535)), routes());
    let mut asks = |request: Headers, replies: &[(bool, u8)]| -> Vec<bool> {
        let first = send(&mut engine, &routes, 1, &build(&request, b""), NOW);
        let out = first.headers();
        let mut fates = vec![first];
        for (inside, flags) in replies {
            let (vrf, packet) = if *inside {
                (
                    1,
                    Headers {
                        flags: *flags,
                        ..request
                    },
                )
            } else {
                (0, answer(&out, *flags))
            };
            fates.push(send(&mut engine, &routes, vrf, &build(&packet, b""), NOW));
        }
        fates
            .into_iter()
            .map(|fate| matches!(fate, Fate::Sent(_, _, true)))
            .collect()
    };
    let request = tcp(("10.0.0.5", 1), ("198.51.100.9", 80), SYN);
    assert_eq!(
        asks(request, &[(false, SYN | ACK), (true, ACK), (true, ACK)]),
        [false, false, true, false]
    );
    let request = udp(("10.0.0.5", 1), ("198.51.100.9", 53));
    assert_eq!(
        asks(
            request,
            &[(true, 0), (true, 0), (true, 0), (false, 0), (false, 0), (true, 0)]
        ),
        [false, false, false, false, false, true, false]
    );
    let request = echo("10.0.0.5", "198.51.100.9", 1, 8);
    assert_eq!(
        asks(request, &[(false, 0), (true, 8), (false, 0), (true, 8), (false, 0)]),
        [false; 6]
    );
}

#[test]
fn exhausted_ports_are_a_typed_drop_and_recover_at_once() {
    let (mut engine, routes) = (masquerading((5000, 5009)), routes());
    let request = |port| build(&udp(("10.0.0.5", port), ("198.51.100.9", 53)), b"");
    let mut ports: Vec<u16> = (0..10)
        .map(|p| {
            send(&mut engine, &routes, 1, &request(100 + p), NOW)
                .headers()
                .source_port
        })
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (5000..5010).collect::<Vec<_>>());
    assert_eq!(
        send(&mut engine, &routes, 1, &request(200), NOW),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    assert_eq!(engine.stats().ports_exhausted, 1);
    let mut ended = 0;
    engine.expire(Millis(400_000), usize::MAX, &mut |_, _| ended += 1);
    assert_eq!(ended, 10);
    assert!(matches!(
        send(&mut engine, &routes, 1, &request(200), Millis(400_000)),
        Fate::Sent(..)
    ));
}

#[test]
fn a_full_table_gives_up_the_unanswered_and_never_the_established() {
    let (mut engine, routes) = (masquerading((1, 65535)), routes());
    let mut established = vec![];
    for port in 1..=100 {
        let request = tcp(("10.0.0.5", port), ("198.51.100.9", 80), SYN);
        let out = send(&mut engine, &routes, 1, &build(&request, b""), NOW).headers();
        send(&mut engine, &routes, 0, &build(&answer(&out, SYN | ACK), b""), NOW);
        send(
            &mut engine,
            &routes,
            1,
            &build(&Headers { flags: ACK, ..request }, b""),
            NOW,
        );
        established.push(request);
    }
    for port in 1..=20_000u16 {
        let flood = tcp(("10.0.0.77", port), ("198.51.100.9", 80), SYN);
        assert!(
            matches!(send(&mut engine, &routes, 1, &build(&flood, b""), NOW), Fate::Sent(..)),
            "port {port}"
        );
    }
    let stats = engine.stats();
    assert_eq!(
        (stats.connections, stats.tcp.established, stats.ended.evicted),
        (1000, 100, 19_100)
    );
    for request in established {
        let data = build(&Headers { flags: ACK, ..request }, b"");
        assert!(matches!(send(&mut engine, &routes, 1, &data, NOW), Fate::Sent(..)));
    }
}

/// Each reply may arrive at any worker; the one that it is handed to has the connection.
#[test]
fn replies_find_the_worker_that_owns_the_connection() {
    let policy = policy(
        vec![masquerade(1, &["192.0.2.1", "192.0.2.2"], (1024, 65535))],
        vec![forward(2, UDP, "192.0.2.7", 53, "10.0.0.9", 5353)],
    );
    let routes = routes();
    let mut workers: Vec<Engine> = (0..3).map(|w| worker(1000, w, 3, policy.clone())).collect();
    let mut handed_over = 0;
    for port in 1000..1100 {
        let request = udp(("10.0.0.5", port), ("198.51.100.9", 53));
        let owner = usize::from(port) % 2;
        let out = send(&mut workers[owner], &routes, 1, &build(&request, b""), NOW).headers();
        let client = udp(("198.51.100.9", port), ("192.0.2.7", 53));
        let mut forwarded_by = vec![];
        for (w, worker) in workers.iter_mut().enumerate() {
            let reply = build(&answer(&out, 0), b"");
            match send(worker, &routes, 0, &reply, NOW) {
                Fate::HandedOver(to) => {
                    handed_over += 1;
                    assert_eq!(usize::from(to), owner);
                }
                fate => assert_eq!((w, fate.headers()), (owner, answer(&request, 0))),
            }
            if let Fate::Sent(..) = send(worker, &routes, 0, &build(&client, b""), NOW) {
                forwarded_by.push(w);
            }
        }
        assert_eq!(forwarded_by.len(), 1);
        let reply = udp(("10.0.0.9", 5353), ("198.51.100.9", port));
        for (w, worker) in workers.iter_mut().enumerate() {
            let expected = forwarded_by[0];
            match send(worker, &routes, 2, &build(&reply, b""), NOW) {
                Fate::HandedOver(to) => assert_eq!(usize::from(to), expected),
                fate => assert_eq!((w, fate.headers()), (expected, answer(&client, 0))),
            }
        }
    }
    assert_eq!(handed_over, 200);
}

#[test]
fn a_closed_tcp_tuple_is_opened_again_by_its_client() {
    let (mut engine, routes) = (masquerading((1, 65535)), routes());
    let request = tcp(("10.0.0.5", 1), ("198.51.100.9", 80), SYN);
    let out = send(&mut engine, &routes, 1, &build(&request, b""), NOW).headers();
    send(&mut engine, &routes, 0, &build(&answer(&out, RST | ACK), b""), NOW);
    assert_eq!(engine.stats().tcp.closing, 1);
    let again = send(&mut engine, &routes, 1, &build(&request, b""), NOW).headers();
    assert_eq!(again, out);
    assert_eq!(
        (
            engine.stats().tcp.closing,
            engine.stats().tcp.unreplied,
            engine.stats().created
        ),
        (0, 1, 1)
    );
}

#[test]
fn a_packet_that_missed_twice_in_a_burst_makes_one_connection() {
    let (mut engine, routes) = (masquerading((1, 65535)), routes());
    let packet = NewPacket {
        vrf: VrfId(1),
        protocol: UDP,
        source: ip("10.0.0.5").into(),
        destination: ip("198.51.100.9").into(),
        source_port: 7,
        destination_port: 53,
        ..NewPacket::default()
    };
    let way = routes.resolve(packet.vrf, ip("198.51.100.9"), 0).expect("routed");
    let first = engine.miss(&packet, way, &routes, NOW);
    assert!(matches!(first, Verdict::Connection(_)));
    assert_eq!(engine.miss(&packet, way, &routes, NOW), first);
    let mut views = vec![];
    assert_eq!(engine.snapshot(0, 10, &mut views), None);
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].state, ConnectionState::Unreplied);
    let json = serde_json::to_value(&views[0]).expect("serializes");
    assert_eq!(
        (&json["protocol"], &json["translated"]["source"]),
        (&"udp".into(), &"192.0.2.1".into())
    );
}

#[test]
fn snapshots_page_through_all_connections() {
    let (mut engine, routes) = (masquerading((1, 65535)), routes());
    for port in 1..=25 {
        send(
            &mut engine,
            &routes,
            1,
            &build(&udp(("10.0.0.5", port), ("198.51.100.9", 53)), b""),
            NOW,
        );
    }
    let (mut views, mut from, mut pages) = (vec![], Some(0), 0);
    while let Some(at) = from {
        from = engine.snapshot(at, 10, &mut views);
        pages += 1;
    }
    let mut ports: Vec<_> = views.iter().map(|v| v.original.source_port).collect();
    ports.sort_unstable();
    assert_eq!((pages, ports), (3, (1..=25).collect::<Vec<_>>()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Rewritten bytes equal a packet built from scratch, with every checksum computed in full.
    #[test]
    fn a_rewrite_is_a_full_recompute(
        which in 0usize..3, from: (u32, u32, u16, u16), to: (u32, u32, u16, u16), flags: u8,
        payload in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let protocol = [TCP, UDP, ICMP][which];
        let headers = |(source, destination, source_port, destination_port)| {
            let destination_port = if protocol == ICMP { source_port } else { destination_port };
            let flags = if protocol == ICMP { 8 } else { flags };
            Headers { protocol, source, destination, source_port, destination_port, flags }
        };
        let key = |h: &Headers| {
            nat::FlowKey::v4(VrfId(1), protocol, h.source, h.destination, h.source_port, h.destination_port)
        };
        let (from, to) = (headers(from), headers(to));
        let mut packet = build(&from, &payload);
        let rewrite = Rewrite::new(&key(&from), &key(&to));
        rewrite.apply(&mut packet, 20, protocol);
        prop_assert_eq!(&packet, &build(&to, &payload));
        // The short way of TCP and UDP, which may find a frame's padding behind the packet.
        let mut frame = build(&from, &payload);
        frame.resize(frame.len().max(40), 0xee);
        if let (false, Some(plain)) = (protocol == ICMP, frame.first_chunk_mut()) {
            rewrite.apply_plain(plain, protocol == TCP);
            prop_assert_eq!(&frame[..packet.len()], &packet);
            prop_assert!(frame[packet.len()..].iter().all(|byte| *byte == 0xee));
        }
    }

    /// A packet shorter than its headers is left alone, and a UDP checksum of zero stays zero.
    #[test]
    fn a_rewrite_respects_short_packets_and_absent_checksums(cut in 0usize..48, which in 0usize..3) {
        let protocol = [TCP, UDP, ICMP][which];
        let from = Headers { protocol, source: 1, destination: 2, source_port: 3, destination_port: 3, flags: 8 };
        let key = nat::FlowKey::v4(VrfId(1), protocol, 1, 2, 3, 3);
        let rewrite = Rewrite::new(&key, &nat::FlowKey::v4(VrfId(1), protocol, 9, 2, 4, 4));
        let mut packet = build(&from, b"");
        packet.truncate(cut);
        let before = packet.clone();
        rewrite.apply(&mut packet, 20, protocol);
        let needed = if protocol == TCP { 38 } else { 28 };
        prop_assert_eq!(packet == before, cut.min(if protocol == TCP { 40 } else { 28 }) < needed);
        let mut packet = build(&Headers { protocol: UDP, ..from }, b"");
        packet[26..28].fill(0);
        rewrite.apply(&mut packet, 20, UDP);
        prop_assert_eq!(&packet[26..28], &[0, 0]);
        packet.resize(40, 0);
        if let Some(plain) = packet.first_chunk_mut() {
            rewrite.apply_plain(plain, false);
            prop_assert_eq!(&plain[26..28], &[0, 0]);
        }
    }
}
