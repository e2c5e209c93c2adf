//! Port forwards: ranges, several targets with weights, source affinity.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nat::{Delta, Engine, ForwardTarget, Millis, Policy, PolicySpec, PortForward};
use net::{Drop, Generation};
use support::*;

const NOW: Millis = Millis(1);
const PUBLIC: &str = "192.0.2.1";

fn to(targets: &[(&str, u16, u16)], ports: (u16, u16), affinity: bool) -> PortForward {
    let target = |(address, port, weight): &(&str, u16, u16)| ForwardTarget {
        address: address.parse().expect("an address"),
        port: *port,
        weight: *weight,
    };
    PortForward {
        ports,
        targets: targets.iter().map(target).collect(),
        affinity,
        ..forward(1, TCP, PUBLIC, 80, "10.0.0.9", 80)
    }
}

fn refused(forwards: Vec<PortForward>) -> String {
    let spec = PolicySpec {
        port_forwards: forwards,
        ..PolicySpec::default()
    };
    Policy::compile(spec).expect_err("refused").to_string()
}

/// Target of a client's new connection.
fn opened(engine: &mut Engine, client: (&str, u16), port: u16) -> Result<(u32, u16), Drop> {
    let syn = tcp(client, (PUBLIC, port), SYN);
    match send(engine, &routes(), 0, &build(&syn, b""), NOW) {
        Fate::Dropped(reason) => Err(reason),
        fate => {
            let sent = fate.headers();
            let back = send(engine, &routes(), 1, &build(&answer(&sent, SYN | ACK), b""), NOW);
            assert_eq!(back.headers(), answer(&syn, SYN | ACK));
            Ok((sent.destination, sent.destination_port))
        }
    }
}

#[test]
fn each_port_of_a_range_leads_to_its_own_and_its_neighbours_nowhere() {
    let rule = to(&[("10.0.0.9", 2000, 1)], (8000, 8099), false);
    let mut engine = engine(1000, policy(vec![masquerade(1, &[PUBLIC], (1024, 65535))], vec![rule]));
    for port in 8000..8100 {
        let got = opened(&mut engine, ("198.51.100.1", port), port);
        assert_eq!(got, Ok((ip("10.0.0.9"), port - 6000)));
    }
    for port in [7999, 8100] {
        assert_eq!(opened(&mut engine, ("198.51.100.1", 1), port), Err(Drop::NatNoMapping));
    }
    // The pool on the same address gives out none of them.
    for port in 8000..8100 {
        let h = tcp(("10.0.0.5", port), ("198.51.100.9", 80), SYN);
        let shown = send(&mut engine, &routes(), 1, &build(&h, b""), NOW).headers();
        assert!(!(8000..8100).contains(&shown.source_port));
    }
}

#[test]
fn clients_are_shared_out_by_weight_and_keep_their_target() {
    let targets = [("10.0.0.1", 80, 3), ("10.0.0.2", 81, 1), ("10.0.0.3", 80, 0)];
    let policy = policy(vec![], vec![to(&targets, (80, 80), false)]);
    let mut counts = BTreeMap::new();
    let mut engines: Vec<_> = (0..2).map(|_| engine(10_000, Arc::clone(&policy))).collect();
    for n in 0..4000u16 {
        let client = (format!("198.51.100.{}", n % 50), 1024 + n);
        let both: BTreeSet<_> = engines
            .iter_mut()
            .map(|e| opened(e, (&client.0, client.1), 80))
            .collect();
        assert_eq!(both.len(), 1, "every gateway comes to the same target");
        *counts
            .entry(both.first().copied().expect("one").expect("open"))
            .or_insert(0) += 1;
    }
    let (one, two) = ((ip("10.0.0.1"), 80), (ip("10.0.0.2"), 81));
    assert_eq!(
        counts.keys().copied().collect::<Vec<_>>(),
        [one, two],
        "a weight of 0 takes nobody"
    );
    assert!((2800..3200).contains(&counts[&one]), "{counts:?}");
}

#[test]
fn with_affinity_a_client_has_one_target() {
    let targets = [("10.0.0.1", 80, 1), ("10.0.0.2", 80, 1), ("10.0.0.3", 80, 1)];
    for affinity in [true, false] {
        let mut engine = engine(10_000, policy(vec![], vec![to(&targets, (80, 82), affinity)]));
        let mut seen = BTreeSet::new();
        for client in 1..20 {
            let client = format!("198.51.100.{client}");
            let own: BTreeSet<_> = (0..30)
                .map(|n| opened(&mut engine, (&client, 1024 + n), 80 + n % 3).expect("open").0)
                .collect();
            assert_eq!(own.len() == 1, affinity, "{own:?}");
            seen.extend(own);
        }
        assert_eq!(seen.len(), 3);
    }
}

#[test]
fn connections_stay_with_their_target_while_it_is_one() {
    let all = [("10.0.0.1", 80, 1), ("10.0.0.2", 80, 1), ("10.0.0.3", 80, 1)];
    let mut engine = engine(10_000, policy(vec![], vec![to(&all, (80, 80), false)]));
    let mut count = BTreeMap::new();
    for n in 0..900u64 {
        *count
            .entry(
                opened(&mut engine, ("198.51.100.1", 1024 + n as u16), 80)
                    .expect("open")
                    .0,
            )
            .or_insert(0) += 1;
    }
    let mut routes = routes();
    let mut edit = |engine: &mut Engine, targets: &[(&str, u16, u16)]| {
        engine.set_policy(policy(vec![], vec![to(targets, (80, 80), false)]));
        routes.generation += 1;
        let delta = Delta {
            policy: true,
            ..Delta::default()
        };
        engine.on_generation(Generation(routes.generation), &delta);
        engine
            .revalidate(usize::MAX, &routes, &mut |_, _| {})
            .expect("one pass")
    };
    // One is drained: its connections go on.
    let summary = edit(
        &mut engine,
        &[("10.0.0.1", 80, 1), ("10.0.0.2", 80, 0), ("10.0.0.3", 80, 1)],
    );
    assert_eq!((summary.kept, summary.ended), (900, 0));
    // And taken away: they end, and no others.
    let summary = edit(&mut engine, &[("10.0.0.1", 80, 1), ("10.0.0.3", 80, 1)]);
    assert_eq!(
        (summary.kept, summary.ended),
        (900 - count[&ip("10.0.0.2")], count[&ip("10.0.0.2")])
    );
}

#[test]
fn forwards_that_cannot_be_are_refused() {
    let one = [("10.0.0.1", 80, 1)];
    assert!(refused(vec![to(&[], (80, 80), false)]).contains("0 targets"));
    assert!(refused(vec![to(&[("10.0.0.1", 80, 0)], (80, 80), false)]).contains("weight"));
    assert!(refused(vec![to(&one, (90, 80), false)]).contains("ends before"));
    assert!(refused(vec![to(&[("10.0.0.1", 65_530, 1)], (80, 90), false)]).contains("beyond 65535"));
    for (first, second) in [
        ((80, 90), (90, 99)),
        ((80, 90), (70, 80)),
        ((80, 90), (85, 86)),
        ((85, 86), (80, 90)),
    ] {
        let twice = vec![to(&one, first, false), to(&one, second, false)];
        assert!(refused(twice).contains("forwarded twice"), "{first:?} {second:?}");
    }
}
