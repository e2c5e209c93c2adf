//! Static NAT: hosts with a public address of their own, and VPCs with the same addresses that talk to each other.

mod support;

use std::sync::Arc;

use nat::{Delta, Engine, Masquerade, Millis, Policy, PolicySpec, PortForward, StaticNat};
use net::{Drop, Generation};
use support::*;

const NOW: Millis = Millis(1);

fn with(statics: Vec<StaticNat>, masquerade: Vec<Masquerade>, port_forwards: Vec<PortForward>) -> Arc<Policy> {
    let spec = PolicySpec {
        masquerade,
        port_forwards,
        statics,
        ..PolicySpec::default()
    };
    Arc::new(Policy::compile(spec).expect("valid"))
}

fn twice() -> Arc<Policy> {
    let rules = vec![
        fixed(1, "10.0.0.0/24", "100.64.1.0/24", Some(2)),
        fixed(2, "10.0.0.0/24", "100.64.2.0/24", Some(1)),
    ];
    with(rules, vec![], vec![])
}

fn sent(engine: &mut Engine, vrf: u16, h: &Headers) -> Headers {
    let fate = deliver(engine, &routes(), vrf, &build(h, b"data"), NOW);
    if let Fate::Sent(packet, ..) = &fate {
        let parsed = fate.headers();
        assert_eq!(*packet, build(&parsed, b"data"), "checksums");
    }
    fate.headers()
}

#[test]
fn a_host_has_a_public_address_in_both_directions() {
    let rule = fixed(1, "10.0.0.8/30", "192.0.2.8/30", None);
    let mut engine = engine(
        100,
        with(vec![rule], vec![masquerade(1, &["192.0.2.1"], (1024, 2047))], vec![]),
    );
    for h in [
        tcp(("10.0.0.9", 4000), ("198.51.100.9", 80), SYN),
        udp(("10.0.0.9", 4000), ("198.51.100.9", 53)),
        echo("10.0.0.9", "198.51.100.9", 77, 8),
    ] {
        let out = sent(&mut engine, 1, &h);
        let expected = Headers {
            source: ip("192.0.2.9"),
            ..h
        };
        assert_eq!(out, expected, "ports stay");
        let reply = answer(&out, if h.protocol == ICMP { 0 } else { SYN | ACK });
        assert_eq!(sent(&mut engine, 0, &reply).destination, ip("10.0.0.9"));
    }
    for h in [
        tcp(("198.51.100.7", 4000), ("192.0.2.10", 22), SYN),
        echo("198.51.100.7", "192.0.2.10", 78, 8),
    ] {
        let inside = sent(&mut engine, 0, &h);
        let expected = Headers {
            destination: ip("10.0.0.10"),
            ..h
        };
        assert_eq!(inside, expected);
        let reply = answer(&inside, if h.protocol == ICMP { 0 } else { SYN | ACK });
        assert_eq!(sent(&mut engine, 1, &reply).source, ip("192.0.2.10"));
    }
    // Another host of the VPC shares the pool.
    assert_eq!(
        sent(&mut engine, 1, &udp(("10.0.0.5", 1), ("198.51.100.9", 53))).source,
        ip("192.0.2.1")
    );
}

#[test]
fn a_protocol_without_ports_goes_by_its_addresses() {
    const GRE: u8 = 47;
    let mut engine = engine(
        100,
        with(vec![fixed(1, "10.0.0.9/32", "192.0.2.9/32", None)], vec![], vec![]),
    );
    let packet = |source: &str, destination: &str| ip_packet(GRE, ip(source), ip(destination), &[7; 24]);
    let routes = routes();
    let out = deliver(&mut engine, &routes, 1, &packet("10.0.0.9", "198.51.100.9"), NOW);
    assert_eq!(out, Fate::Sent(packet("192.0.2.9", "198.51.100.9"), 100, false));
    let back = deliver(&mut engine, &routes, 0, &packet("198.51.100.9", "192.0.2.9"), NOW);
    assert_eq!(back, Fate::Sent(packet("198.51.100.9", "10.0.0.9"), 1, false));
    let lite = ip_packet(136, ip("10.0.0.9"), ip("198.51.100.9"), &[7; 24]);
    assert_eq!(
        deliver(&mut engine, &routes, 1, &lite, NOW),
        Fate::Dropped(Drop::NatUnsupported)
    );
}

#[test]
fn vpcs_with_the_same_addresses_talk() {
    let mut engine = engine(100, twice());
    for h in [
        tcp(("10.0.0.5", 4000), ("100.64.2.5", 80), SYN),
        udp(("10.0.0.5", 4000), ("100.64.2.6", 53)),
        echo("10.0.0.5", "100.64.2.7", 77, 8),
    ] {
        let there = sent(&mut engine, 1, &h);
        let host = h.destination & 0xff;
        let expected = Headers {
            source: ip("100.64.1.5"),
            destination: ip("10.0.0.0") | host,
            ..h
        };
        assert_eq!(there, expected, "source and destination at once");
        let flags = if h.protocol == TCP { SYN | ACK } else { 0 };
        assert_eq!(sent(&mut engine, 2, &answer(&there, flags)), answer(&h, flags));
    }
    // And the other way round, at the same time.
    let h = tcp(("10.0.0.5", 4000), ("100.64.1.5", 80), SYN);
    let there = sent(&mut engine, 2, &h);
    assert_eq!((there.source, there.destination), (ip("100.64.2.5"), ip("10.0.0.5")));
    let stats = engine.stats();
    assert_eq!((stats.created, stats.mappings), (4, 0));
}

#[test]
fn one_sided_translation_leaves_the_other_address_alone() {
    let rules = vec![fixed(2, "10.0.0.0/24", "100.64.2.0/24", Some(1))];
    let mut engine = engine(100, with(rules, vec![], vec![]));
    let h = udp(("10.0.0.5", 4000), ("100.64.2.6", 53));
    let there = sent(&mut engine, 1, &h);
    assert_eq!((there.source, there.destination), (ip("10.0.0.5"), ip("10.0.0.6")));
    assert_eq!(sent(&mut engine, 2, &answer(&there, 0)), answer(&h, 0));
}

#[test]
fn hosts_with_public_addresses_of_their_own_meet_in_the_middle() {
    let rules = vec![
        fixed(1, "10.0.0.0/28", "192.0.2.16/28", None),
        fixed(2, "10.0.0.0/28", "192.0.2.32/28", None),
    ];
    let mut engine = engine(100, with(rules, vec![], vec![]));
    let h = echo("10.0.0.5", "192.0.2.38", 9, 8);
    let there = sent(&mut engine, 1, &h);
    assert_eq!((there.source, there.destination), (ip("192.0.2.21"), ip("10.0.0.6")));
    assert_eq!(sent(&mut engine, 2, &answer(&there, 0)), answer(&h, 0));
}

#[test]
fn a_policy_edit_keeps_what_it_still_allows() {
    let mut engine = engine(100, twice());
    let mut routes = routes();
    let kept = udp(("10.0.0.5", 4000), ("100.64.2.6", 53));
    let ended = udp(("10.0.0.200", 4000), ("100.64.2.6", 53));
    for h in [&kept, &ended] {
        deliver(&mut engine, &routes, 1, &build(h, b""), NOW).headers();
    }
    let narrow = vec![
        fixed(1, "10.0.0.0/25", "100.64.1.0/25", Some(2)),
        fixed(2, "10.0.0.0/24", "100.64.2.0/24", Some(1)),
    ];
    engine.set_policy(with(narrow, vec![], vec![]));
    routes.generation += 1;
    let delta = Delta {
        policy: true,
        ..Delta::default()
    };
    engine.on_generation(Generation(routes.generation), &delta);
    let summary = engine
        .revalidate(usize::MAX, &routes, &mut |_, _| {})
        .expect("one pass");
    assert_eq!((summary.kept, summary.ended), (1, 1));
}

#[test]
fn a_peers_route_that_goes_and_comes_back_moves_the_connection() {
    let mut engine = engine(100, twice());
    let mut routes = routes();
    let h = build(&udp(("10.0.0.5", 4000), ("100.64.2.6", 53)), b"");
    assert!(matches!(send(&mut engine, &routes, 1, &h, NOW), Fate::Sent(_, 2, _)));
    let mut change = |engine: &mut Engine, to: Option<To>| {
        routes.set(2, ip("10.0.0.6"), 32, to);
        routes.generation += 1;
        let delta = Delta {
            prefixes: vec![(net::VrfId(2), "10.0.0.6/32".parse().expect("a prefix"))],
            ..Delta::default()
        };
        engine.on_generation(Generation(routes.generation), &delta);
        engine.revalidate(usize::MAX, &routes, &mut |_, _| {});
        send(engine, &routes, 1, &h, NOW)
    };
    assert_eq!(
        change(&mut engine, Some(To::Fail(Drop::Unreachable))),
        Fate::Dropped(Drop::Unreachable)
    );
    assert!(matches!(change(&mut engine, Some(To::Hop(77))), Fate::Sent(_, 77, _)));
    assert!(matches!(change(&mut engine, None), Fate::Sent(_, 2, _)));
}

#[test]
fn both_directions_have_the_same_owner() {
    let rules = vec![
        fixed(1, "10.0.0.0/24", "100.64.1.0/24", Some(2)),
        fixed(2, "10.0.0.0/24", "100.64.2.0/24", Some(1)),
        fixed(1, "10.0.0.0/28", "192.0.2.16/28", None),
    ];
    let policy = with(rules, vec![], vec![]);
    let routes = routes();
    let mut engines: Vec<_> = (0..4).map(|n| worker(1000, n, 4, Arc::clone(&policy))).collect();
    let mut used = [false; 4];
    let mut through = |vrf: u16, h: &Headers| {
        let packet = build(h, b"");
        let first = send(&mut engines[0], &routes, vrf, &packet, NOW);
        let (owner, fate) = match first {
            Fate::HandedOver(owner) => (
                owner,
                send(&mut engines[usize::from(owner)], &routes, vrf, &packet, NOW),
            ),
            fate => (0, fate),
        };
        used[usize::from(owner)] = true;
        (owner, fate.headers())
    };
    for port in 1..100 {
        let h = udp(("10.0.0.5", port), ("100.64.2.6", 53));
        let (owner, there) = through(1, &h);
        assert_eq!(through(2, &answer(&there, 0)), (owner, answer(&h, 0)));
        let h = udp(("10.0.0.5", port), ("198.51.100.9", 53));
        let (owner, there) = through(1, &h);
        assert_eq!(through(0, &answer(&there, 0)), (owner, answer(&h, 0)));
    }
    assert_eq!(used, [true; 4]);
}

#[test]
fn an_address_of_static_nat_has_no_other_use() {
    let refuse = |statics, masquerade, forwards| {
        let spec = PolicySpec {
            masquerade,
            port_forwards: forwards,
            statics,
            ..PolicySpec::default()
        };
        Policy::compile(spec).expect_err("refused").to_string()
    };
    let rule = || vec![fixed(1, "10.0.0.0/30", "192.0.2.0/30", None)];
    let error = refuse(rule(), vec![masquerade(1, &["192.0.2.3"], (1024, 2047))], vec![]);
    assert!(error.contains("a prefix of its own"), "{error}");
    let error = refuse(rule(), vec![], vec![forward(2, TCP, "192.0.2.2", 80, "10.0.0.9", 80)]);
    assert!(error.contains("a prefix of its own"), "{error}");
    let error = refuse(vec![fixed(1, "10.0.0.1/32", "224.0.0.1/32", None)], vec![], vec![]);
    assert!(error.contains("unicast"), "{error}");
}

/// Whatever comes first, a hand-over ends at the owner: it does not go round.
#[test]
fn the_owner_hands_nothing_on() {
    let mut pool = masquerade(2, &["192.0.2.2"], (1024, 2047));
    pool.options.mapping = nat::Mapping::EndpointIndependent;
    let policy = with(
        vec![fixed(1, "10.0.0.8/30", "192.0.2.8/30", None)],
        vec![pool],
        vec![forward(2, UDP, "192.0.2.2", 53, "10.0.0.5", 53)],
    );
    let routes = routes();
    let mut engines: Vec<_> = (0..5).map(|n| worker(1000, n, 5, Arc::clone(&policy))).collect();
    for port in 1..60 {
        for (vrf, h) in [
            (1, udp(("10.0.0.9", port), ("192.0.2.2", 53))),
            (2, udp(("10.0.0.5", 53), ("198.51.100.9", port))),
            (2, udp(("10.0.0.6", port), ("198.51.100.9", 53))),
            (0, udp(("198.51.100.9", port), ("192.0.2.9", 53))),
            (0, udp(("198.51.100.9", port), ("192.0.2.2", 53))),
            (0, udp(("198.51.100.9", port), ("192.0.2.2", 1024 + port))),
        ] {
            let packet = build(&h, b"");
            if let Fate::HandedOver(owner) = send(&mut engines[0], &routes, vrf, &packet, NOW) {
                let fate = send(&mut engines[usize::from(owner)], &routes, vrf, &packet, NOW);
                assert!(!matches!(fate, Fate::HandedOver(_)), "{h:?}: {fate:?}");
            }
        }
    }
}
