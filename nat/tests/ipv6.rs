//! IPv6: the same as IPv4, rule for rule, and what is its own.

mod support;

use nat::{
    Delta, Filtering, IcmpVerdict, Mapping, Masquerade, Millis, OffloadState, Outcome, PolicySpec, PoolOptions,
    PortBlocks, PortChoice,
};
use net::{Drop, Generation, NextHopId, VrfId, parse_v6};
use proptest::prelude::*;
use support::v6::*;
use support::*;

const NOW: Millis = Millis(1_000);

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

fn spec(n: u64) -> PolicySpec {
    let options = PoolOptions::default();
    let choices = [
        options,
        PoolOptions {
            mapping: Mapping::EndpointIndependent,
            filtering: Filtering::EndpointIndependent,
            ..options
        },
        PoolOptions {
            mapping: Mapping::Overloading,
            ..options
        },
        PoolOptions {
            choice: PortChoice::Blocks(PortBlocks {
                size: 10,
                count: 2,
                quarantine: 30,
            }),
            ..options
        },
        PoolOptions {
            parity: true,
            ..options
        },
    ];
    let rule = |of, pool| Masquerade {
        options: choices[(n % 5) as usize],
        ..masquerade(of, &[pool], (3000, 3060))
    };
    let mut statics = vec![fixed(2, "10.0.0.64/30", "192.0.2.64/30", None)];
    if n.is_multiple_of(2) {
        statics.push(fixed(1, "10.0.0.0/26", "100.64.0.0/26", Some(2)));
        statics.push(fixed(2, "10.0.0.0/26", "100.64.0.0/26", Some(1)));
    }
    PolicySpec {
        masquerade: vec![rule(1, "192.0.2.1"), rule(2, "192.0.2.2")],
        port_forwards: vec![
            forward(1, UDP, "192.0.2.4", 53, "10.0.0.8", 53),
            forward(2, TCP, "192.0.2.2", 80, "10.0.0.9", 8080),
        ],
        statics,
        ..PolicySpec::default()
    }
}

/// What became of a packet, as far as the family does not matter.
fn plain(fate: &Fate) -> (Option<(Headers, u32, bool)>, Option<Drop>, bool) {
    match fate {
        Fate::Sent(packet, hop, offload) => {
            let headers = match packet[0] >> 4 {
                4 => fate.headers(),
                _ => headers_v6(packet),
            };
            (Some((headers, *hop, *offload)), None, false)
        }
        Fate::Forwarded => (None, None, true),
        Fate::HandedOver(_) => panic!("one worker"),
        Fate::Dropped(reason) => (None, Some(*reason), false),
    }
}

/// Random packets, time, policies, routes and offloads: an engine does to IPv6 what another one, which the differential
/// model is held against, does to IPv4; and each packet that it sends is one made from scratch.
#[test]
fn ipv6_fares_as_ipv4_does() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let (mut old, mut new) = (spec(seed), spec(seed + 1));
        let mut v4 = engine(
            120,
            std::sync::Arc::new(nat::Policy::compile(old.clone()).expect("valid")),
        );
        let mut v6 = engine(120, six_policy(old.clone()));
        let mut routes = with_six(routes());
        let mut now = NOW;
        let mut replies: Vec<(u16, Headers)> = Vec::new();
        let mut sent = 0;
        for step in 0..20_000_u32 {
            let hosts = ["10.0.0.5", "10.0.0.8", "10.0.0.9", "10.0.0.65"];
            let outside = [
                "198.51.100.1",
                "198.51.100.2",
                "192.0.2.1",
                "192.0.2.4",
                "192.0.2.65",
                "100.64.0.9",
            ];
            let public = ["192.0.2.1", "192.0.2.2", "192.0.2.4", "192.0.2.65", "192.0.2.9"];
            let port = 3000 + dice.below(70) as u16;
            let (vrf, headers) = match dice.below(4) {
                0 if !replies.is_empty() => replies.swap_remove(dice.below(replies.len() as u64) as usize),
                1 => {
                    let (from, to) = (dice.pick(&outside[..2]), dice.pick(&public));
                    let to_port = dice.pick(&[port, 53, 80]);
                    (
                        0,
                        dice.pick(&[udp((from, port), (to, to_port)), tcp((from, port), (to, to_port), SYN)]),
                    )
                }
                _ => {
                    let (from, to) = (dice.pick(&hosts), dice.pick(&outside));
                    let to_port = dice.pick(&[port, 53, 80]);
                    let flags = dice.pick(&[SYN, SYN, ACK, FIN | ACK, RST]);
                    let which = [
                        udp((from, port), (to, to_port)),
                        tcp((from, port), (to, to_port), flags),
                        echo(from, to, port, dice.pick(&[8, 0])),
                    ];
                    (1 + dice.below(2) as u16, dice.pick(&which))
                }
            };
            let payload = vec![7; dice.below(30) as usize];
            let one = send(&mut v4, &routes, vrf, &build(&headers, &payload), now);
            let other = send_v6(&mut v6, &routes, vrf, &build_v6(&headers, &payload), now);
            assert_eq!(
                plain(&one),
                plain(&other),
                "step {step} of {seed}: {headers:?} in {vrf}"
            );
            if let Fate::Sent(packet, ..) = &other {
                let headers = headers_v6(packet);
                assert_eq!(*packet, build_v6(&headers, &payload), "step {step}");
                sent += 1;
                let back = match headers.protocol {
                    ICMP => answer(&headers, 0),
                    _ => answer(&headers, dice.pick(&[SYN | ACK, ACK, FIN | ACK, RST])),
                };
                let to_vpc = headers.destination >> 24 == 10;
                if replies.len() < 200 && !to_vpc {
                    replies.push((0, back));
                } else if to_vpc && replies.len() < 200 {
                    replies.push((dice.pick(&[1, 2]), back));
                }
            }
            if step.is_multiple_of(7) {
                now.0 += dice.below(4_000);
                let mut ended = [vec![], vec![]];
                v4.expire(now, 50, &mut |id, reason| ended[0].push((id, reason)));
                let [first, second] = &mut ended;
                v6.expire(now, 50, &mut |id, reason| second.push((id, reason)));
                assert_eq!(first, second);
            }
            if step.is_multiple_of(11) {
                let mut views = vec![];
                v4.snapshot(dice.below(100) as u32, 1, &mut views);
                if let Some(view) = views.first() {
                    for engine in [&mut v4, &mut v6] {
                        engine.set_offload(view.id, OffloadState::Live);
                        engine.set_offload(view.id, OffloadState::None);
                    }
                }
            }
            if step.is_multiple_of(400) {
                (old, new) = (new, spec(dice.below(10)));
                v4.set_policy(std::sync::Arc::new(nat::Policy::compile(old.clone()).expect("valid")));
                v6.set_policy(six_policy(old.clone()));
                routes.generation += 1;
                let prefix = dice.pick(&["198.51.100.1/32", "10.0.0.8/32"]);
                let vrf = if prefix.starts_with("10") { 1 } else { 0 };
                routes.remove(vrf, prefix);
                match dice.below(3) {
                    0 => routes.add(vrf, prefix, To::Fail(Drop::Unreachable)),
                    1 => routes.add(vrf, prefix, To::Hop(77)),
                    _ => {}
                }
                routes = with_six(routes);
                for engine in [&mut v4, &mut v6] {
                    engine.on_generation(Generation(routes.generation), &Delta::everything());
                }
            }
            let mut changed = [vec![], vec![]];
            v4.revalidate(40, &routes, &mut |id, outcome| changed[0].push((id, outcome)));
            let [first, second] = &mut changed;
            v6.revalidate(40, &routes, &mut |id, outcome| second.push((id, outcome)));
            assert_eq!(first, second);
        }
        let (one, other) = (v4.stats(), v6.stats());
        assert_eq!(
            (one.ended, one.created, one.mappings),
            (other.ended, other.created, other.mappings)
        );
        assert!(
            sent > 4_000 && one.ended.policy > 0 && one.ended.evicted > 0,
            "{sent} {one:?}"
        );
    }
}

fn six_engine(spec: PolicySpec) -> nat::Engine {
    engine(100, six_policy(spec))
}

fn masqueraded() -> PolicySpec {
    PolicySpec {
        masquerade: vec![masquerade(1, &["192.0.2.1"], (5000, 5999))],
        ..PolicySpec::default()
    }
}

#[test]
fn a_connection_is_shown_with_its_addresses() {
    let (mut engine, routes) = (six_engine(masqueraded()), with_six(routes()));
    let out = build_v6(&udp(("10.0.0.5", 5001), ("198.51.100.9", 53)), b"");
    assert!(matches!(
        send_v6(&mut engine, &routes, 1, &out, NOW),
        Fate::Sent(_, 100, _)
    ));
    let mut views = vec![];
    engine.snapshot(0, 9, &mut views);
    let ip = |text: &str| six(ip(text));
    let shown = [views[0].original, views[0].translated].map(|t| [t.source, t.destination]);
    let as_ip = |bits: u128| std::net::IpAddr::V6(std::net::Ipv6Addr::from_bits(bits));
    let inside = as_ip(ip("10.0.0.5"));
    let (pool, server) = (as_ip(ip("192.0.2.1")), as_ip(ip("198.51.100.9")));
    assert_eq!(shown, [[inside, server], [pool, server]]);
    assert_eq!(engine.stats().ports[0].address, pool);
}

/// The columns that a pass reads have short numbers in place of addresses: what is touched must be found all the same,
/// and what is not touched must not be looked up again.
#[test]
fn a_generation_touches_the_connections_whose_prefixes_changed() {
    let (mut engine, mut routes) = (six_engine(masqueraded()), with_six(routes()));
    for host in 0..40_u16 {
        let to = format!("198.51.100.{}", host + 1);
        let out = build_v6(&udp(("10.0.0.5", 5000 + host), (&to, 53)), b"");
        assert!(matches!(send_v6(&mut engine, &routes, 1, &out, NOW), Fate::Sent(..)));
    }
    for few in [1, 20] {
        routes.generation += 1;
        let mut delta = Delta::default();
        for host in 0..few {
            let prefix = format!("2001:db8::c633:64{:02x}/128", host + 1);
            routes.add(0, &prefix, To::Hop(200 + few));
            delta.prefixes.push((VrfId(0), prefix.parse().expect("a prefix")));
        }
        delta
            .prefixes
            .push((VrfId(5), "2001:db8::c633:6400/120".parse().expect("a prefix")));
        engine.on_generation(Generation(routes.generation), &delta);
        let mut moved = 0;
        let summary = loop {
            let each = &mut |_, outcome| moved += u32::from(outcome == Outcome::Moved);
            if let Some(summary) = engine.revalidate(64, &routes, each) {
                break summary;
            }
        };
        assert_eq!(moved, few);
        // A leaked lookup may have passed through any VRF: the last prefix covers them all.
        assert_eq!(summary.examined, 40);
        let mut views = vec![];
        engine.snapshot(0, 99, &mut views);
        let there = views.iter().filter(|view| view.next_hops[0] == NextHopId(200 + few));
        assert_eq!(there.count(), few as usize);
    }
    routes.generation += 1;
    let elsewhere = ["2001:db8:1::/48", "2001:db8::a00:0/112", "10.0.0.0/8"];
    let delta = Delta {
        prefixes: elsewhere
            .iter()
            .map(|p| (VrfId(0), p.parse().expect("a prefix")))
            .collect(),
        ..Delta::default()
    };
    engine.on_generation(Generation(routes.generation), &delta);
    let summary = std::iter::from_fn(|| Some(engine.revalidate(64, &routes, &mut |_, _| {})))
        .flatten()
        .next();
    // The VPC's own route is in its own VRF, which the prefix of the default VRF does not speak of.
    assert_eq!(summary.map(|s| (s.kept, s.examined)), Some((40, 0)));
}

#[test]
fn protocols_and_types_that_are_not_translated_are_dropped() {
    let (mut engine, routes) = (six_engine(masqueraded()), with_six(routes()));
    let (host, server) = (six(ip("10.0.0.5")), six(ip("198.51.100.9")));
    for (next_header, payload) in [
        (1, vec![0; 8]),
        (ICMPV6, vec![135; 24]),
        (33, vec![0; 16]),
        (136, vec![0; 8]),
    ] {
        let packet = packet_v6(next_header, host, server, &payload);
        let fate = send_v6(&mut engine, &routes, 1, &packet, NOW);
        assert_eq!(fate, Fate::Dropped(Drop::NatUnsupported), "next header {next_header}");
    }
    let gre = packet_v6(47, host, server, &[0; 8]);
    assert!(
        matches!(send_v6(&mut engine, &routes, 1, &gre, NOW), Fate::Sent(..)),
        "by address alone"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Errors about packets of both directions come out as errors made from scratch.
    #[test]
    fn errors_are_translated(which in 0_usize..3, kind in 1_u8..5, quote in 48_usize..120, payload in proptest::collection::vec(any::<u8>(), 0..60), inward: bool) {
        // Half a TCP checksum cannot be updated.
        prop_assume!(quote != 57);
        let (mut engine, routes) = (six_engine(masqueraded()), with_six(routes()));
        let inside = match which {
            0 => tcp(("10.0.0.5", 5001), ("198.51.100.9", 80), SYN),
            1 => udp(("10.0.0.5", 5001), ("198.51.100.9", 53)),
            _ => echo("10.0.0.5", "198.51.100.9", 5001, 8),
        };
        let out = build_v6(&inside, &payload);
        let Fate::Sent(outside, ..) = send_v6(&mut engine, &routes, 1, &out, NOW) else { panic!("not sent") };
        let router = six(ip("203.0.113.1"));
        let host = six(ip("10.0.0.5"));
        let pool = six(ip("192.0.2.1"));
        if inward {
            let mut error = icmpv6_error(router, pool, kind, &outside, quote);
            let verdict = engine.icmpv6_error(VrfId(0), &mut error, 0, &routes, NOW);
            prop_assert!(matches!(verdict, IcmpVerdict::Translated(way) if way.vrf == VrfId(1)), "{:?}", verdict);
            prop_assert_eq!(error, icmpv6_error(router, host, kind, &out, quote));
        } else {
            let reply = match which {
                2 => answer(&headers_v6(&outside), 0),
                _ => answer(&headers_v6(&outside), SYN | ACK),
            };
            let Fate::Sent(back, ..) = send_v6(&mut engine, &routes, 0, &build_v6(&reply, &payload), NOW) else { panic!("not sent") };
            let mut error = icmpv6_error(host, six(ip("198.51.100.9")), kind, &back, quote);
            let verdict = engine.icmpv6_error(VrfId(1), &mut error, 0, &routes, NOW);
            prop_assert!(matches!(verdict, IcmpVerdict::Translated(way) if way.vrf == VrfId(0)), "{:?}", verdict);
            prop_assert_eq!(error, icmpv6_error(pool, six(ip("198.51.100.9")), kind, &build_v6(&reply, &payload), quote));
        }
    }

    /// Nothing that a sender can write makes the engine panic or touch what is not its own.
    #[test]
    fn garbage_is_never_translated(mut packet in proptest::collection::vec(any::<u8>(), 0..140), header: bool, damage: prop::sample::Index, byte: u8) {
        let (mut engine, routes) = (six_engine(masqueraded()), with_six(routes()));
        if header && packet.len() > 48 {
            let (length, host) = (packet.len() - 40, six(ip("10.0.0.5")));
            packet = packet_v6(ICMPV6, host, six(ip("198.51.100.9")), &packet[40..]);
            packet[40] = 1 + packet[40] % 4;
            prop_assert_eq!(packet.len(), length + 40);
        }
        if !packet.is_empty() {
            let at = damage.index(packet.len());
            packet[at] = byte;
        }
        let before = packet.clone();
        for vrf in [0, 1] {
            let verdict = engine.icmpv6_error(VrfId(vrf), &mut packet, 0, &routes, NOW);
            prop_assert!(!matches!(verdict, IcmpVerdict::Translated(_)));
            prop_assert_eq!(&packet, &before);
            if parse_v6(&packet).is_ok_and(|ip| !ip.is_martian()) {
                let _ = send_v6(&mut engine, &routes, vrf, &packet, NOW);
            }
        }
    }
}
