//! Protocols without ports are masqueraded by addresses alone.

mod support;

use nat::{ConnectionView, Engine, Masquerade, Millis, Policy, PolicySpec, PoolOptions, PortBlocks, PortChoice};
use net::Drop;
use support::*;

const NOW: Millis = Millis(1000);
const GRE: u8 = 47;
const SERVER: &str = "198.51.100.9";

fn packet(source: &str, destination: &str) -> Vec<u8> {
    ip_packet(GRE, ip(source), ip(destination), b"\0\0\x08\0whatever it carries")
}

/// What of it is sent, wherever.
fn sent(fate: Fate) -> Vec<u8> {
    match fate {
        Fate::Sent(packet, ..) => packet,
        other => panic!("not sent: {other:?}"),
    }
}

fn natural(pool: &[&str], workers: u16) -> Vec<Engine> {
    let policy = policy(vec![masquerade(1, pool, (1024, 65535))], vec![]);
    (0..workers).map(|n| worker(100, n, workers, policy.clone())).collect()
}

#[test]
fn both_directions_are_translated_and_nothing_but_the_header_changes() {
    let (mut engine, routes) = (natural(&["192.0.2.1"], 1).remove(0), routes());
    let out = send(&mut engine, &routes, 1, &packet("10.0.0.5", SERVER), NOW);
    assert_eq!(sent(out), packet("192.0.2.1", SERVER));
    let back = send(&mut engine, &routes, 0, &packet(SERVER, "192.0.2.1"), NOW);
    assert_eq!(sent(back), packet(SERVER, "10.0.0.5"));
    let mut views: Vec<ConnectionView> = vec![];
    engine.snapshot(0, 9, &mut views);
    assert_eq!((views.len(), views[0].protocol), (1, "gre"));
}

/// A fragment has no ports, and here none are needed.
#[test]
fn later_fragments_are_translated_as_well() {
    let (mut engine, routes) = (natural(&["192.0.2.1"], 1).remove(0), routes());
    let mut fragment = packet("10.0.0.5", SERVER);
    fragment[7] = 40;
    fragment[10..12].fill(0);
    let sum = checksum(&[&fragment[..20]]);
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    let out = sent(send(&mut engine, &routes, 1, &fragment, NOW));
    assert_eq!(out[12..16], ip("192.0.2.1").to_be_bytes());
    assert_eq!(checksum(&[&out[..20]]), 0);
}

#[test]
fn a_second_host_gets_another_address_and_a_third_none() {
    let (mut engine, routes) = (natural(&["192.0.2.1", "192.0.2.2"], 1).remove(0), routes());
    let one = sent(send(&mut engine, &routes, 1, &packet("10.0.0.5", SERVER), NOW));
    let two = sent(send(&mut engine, &routes, 1, &packet("10.0.0.6", SERVER), NOW));
    assert_ne!(one[12..16], two[12..16]);
    let third = packet("10.0.0.7", SERVER);
    let fate = send(&mut engine, &routes, 1, &third, NOW);
    assert_eq!(fate, Fate::Dropped(Drop::NatPortsExhausted));
    let elsewhere = packet("10.0.0.7", "198.51.100.10");
    sent(send(&mut engine, &routes, 1, &elsewhere, NOW));
    // Ten minutes later the addresses are free again.
    engine.expire(Millis(602_000), usize::MAX, &mut |_, _| {});
    sent(send(&mut engine, &routes, 1, &third, Millis(602_000)));
}

#[test]
fn any_worker_knows_the_owner_from_both_directions() {
    let (mut workers, routes) = (natural(&["192.0.2.1"], 3), routes());
    let request = packet("10.0.0.5", SERVER);
    let owner = match send(&mut workers[0], &routes, 1, &request, NOW) {
        Fate::HandedOver(owner) => owner,
        Fate::Sent(..) => 0,
        other => panic!("{other:?}"),
    };
    sent(send(&mut workers[usize::from(owner)], &routes, 1, &request, NOW));
    for (n, worker) in workers.iter_mut().enumerate() {
        let fate = send(worker, &routes, 0, &packet(SERVER, "192.0.2.1"), NOW);
        match n == usize::from(owner) {
            true => drop(sent(fate)),
            false => assert_eq!(fate, Fate::HandedOver(owner)),
        }
    }
}

#[test]
fn nobody_else_gets_in() {
    let (mut engine, routes) = (natural(&["192.0.2.1"], 1).remove(0), routes());
    let fate = send(&mut engine, &routes, 0, &packet(SERVER, "192.0.2.1"), NOW);
    assert_eq!(fate, Fate::Dropped(Drop::NatNoMapping));
}

fn choosing(options: PoolOptions) -> Engine {
    let rule = Masquerade {
        sources: vec!["10.0.0.4/30".parse().expect("a prefix")],
        options,
        ..masquerade(1, &["192.0.2.1", "192.0.2.2"], (1024, 65535))
    };
    engine(100, policy(vec![rule], vec![]))
}

/// What a pool says of addresses holds for what has no ports.
#[test]
fn a_host_is_seen_as_the_address_that_its_pool_gives_it() {
    let routes = routes();
    let source = |packet: &[u8]| ip(&format!("{}.{}.{}.{}", packet[12], packet[13], packet[14], packet[15]));
    let hosts = ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"];
    let strict = PoolOptions {
        strict_pairing: true,
        ..PoolOptions::default()
    };
    let deterministic = PoolOptions {
        choice: PortChoice::Deterministic,
        ..PoolOptions::default()
    };
    let blocks = PoolOptions {
        choice: PortChoice::Blocks(PortBlocks {
            size: 64,
            count: 1,
            quarantine: 0,
        }),
        ..PoolOptions::default()
    };
    for options in [strict, deterministic, blocks] {
        let mut engine = choosing(options);
        for (n, host) in hosts.iter().enumerate() {
            let other = build(&udp((host, 4000), (SERVER, 53)), b"");
            let seen = source(&sent(send(&mut engine, &routes, 1, &other, NOW)));
            for far in ["198.51.100.10", "198.51.100.11"] {
                let far = format!("{}{n}", far);
                let out = sent(send(&mut engine, &routes, 1, &packet(host, &far), NOW));
                assert_eq!(source(&out), seen, "{host} with {options:?}");
            }
        }
        // Both addresses are taken towards one remote host before all hosts have one, and none is another's.
        let fates = hosts.map(|host| send(&mut engine, &routes, 1, &packet(host, SERVER), NOW));
        let exhausted = fates
            .iter()
            .filter(|fate| **fate == Fate::Dropped(Drop::NatPortsExhausted));
        assert!(exhausted.count() >= 2);
    }
}

/// From a masqueraded host to one with static NAT, both of this gateway, and back; whole and in fragments.
#[test]
fn they_turn_back_at_a_public_end() {
    let spec = PolicySpec {
        masquerade: vec![masquerade(1, &["192.0.2.1"], (1024, 65535))],
        statics: vec![fixed(2, "10.0.0.0/29", "192.0.2.8/29", None)],
        ..PolicySpec::default()
    };
    let mut engine = engine(100, std::sync::Arc::new(Policy::compile(spec).expect("valid")));
    let routes = routes();
    let fragment = |mut packet: Vec<u8>| {
        packet[7] = 40;
        packet[10..12].fill(0);
        let sum = checksum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let there = (packet("10.0.0.5", "192.0.2.10"), packet("192.0.2.1", "10.0.0.2"));
    let back = (packet("10.0.0.2", "192.0.2.1"), packet("192.0.2.10", "10.0.0.5"));
    for (vrf, (from, to)) in [(1, there), (2, back)] {
        let arrived = sent(deliver(&mut engine, &routes, vrf, &from, NOW));
        assert_eq!(arrived, to);
        let arrived = sent(deliver(&mut engine, &routes, vrf, &fragment(from), NOW));
        assert_eq!(arrived, fragment(to));
    }
    assert_eq!(engine.stats().other.total(), 2);
}
