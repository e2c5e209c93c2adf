//! What a pool may be asked for: pairing, parity, port blocks, determined ports, overloading.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nat::{Engine, Mapping, Masquerade, Millis, OffloadState, Policy, PolicySpec, PoolOptions, PortBlocks, PortChoice};
use net::Drop;
use support::*;

const NOW: Millis = Millis(1);
const REMOTE: (&str, u16) = ("198.51.100.9", 53);

fn rule(pool: &[&str], ports: (u16, u16), options: PoolOptions) -> Masquerade {
    Masquerade {
        options,
        ..masquerade(1, pool, ports)
    }
}

fn blocks(size: u16, count: u16, quarantine: u32) -> PoolOptions {
    PoolOptions {
        choice: PortChoice::Blocks(PortBlocks {
            size,
            count,
            quarantine,
        }),
        ..PoolOptions::default()
    }
}

fn refused(rules: Vec<Masquerade>) -> String {
    let spec = PolicySpec {
        masquerade: rules,
        ..PolicySpec::default()
    };
    Policy::compile(spec).expect_err("refused").to_string()
}

fn from(host: u8, port: u16) -> Headers {
    udp((&format!("10.0.0.{host}"), port), REMOTE)
}

fn fate(engine: &mut Engine, h: &Headers, now: Millis) -> Fate {
    send(engine, &routes(), 1, &build(h, b""), now)
}

/// Public address and port of a new connection.
fn shown(engine: &mut Engine, h: &Headers) -> (u32, u16) {
    let sent = fate(engine, h, NOW).headers();
    (sent.source, sent.source_port)
}

#[test]
fn strict_pairing_gives_no_port_of_another_address() {
    let pool = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    for strict_pairing in [true, false] {
        let options = PoolOptions {
            strict_pairing,
            ..PoolOptions::default()
        };
        let mut engine = engine(100, policy(vec![rule(&pool, (1024, 1027), options)], vec![]));
        let mut addresses = BTreeSet::new();
        for port in 1..=4 {
            addresses.insert(shown(&mut engine, &from(5, port)).0);
        }
        assert_eq!(addresses.len(), 1, "one subscriber, one address while it has ports");
        match fate(&mut engine, &from(5, 9), NOW) {
            Fate::Dropped(reason) => assert!(strict_pairing && reason == Drop::NatPortsExhausted),
            other => assert!(!strict_pairing && !addresses.contains(&other.headers().source)),
        }
        assert_eq!(engine.stats().ports_exhausted, u64::from(strict_pairing));
    }
}

#[test]
fn parity_is_kept_whatever_the_number_of_workers() {
    let options = PoolOptions {
        parity: true,
        ..PoolOptions::default()
    };
    let policy = policy(vec![rule(&["192.0.2.1"], (2000, 2999), options)], vec![]);
    for workers in 1..=5 {
        let mut engines: Vec<_> = (0..workers)
            .map(|n| worker(2000, n, workers, Arc::clone(&policy)))
            .collect();
        for port in 5000..5200 {
            let h = from(5 + (port % 7) as u8, port);
            let sent = match fate(&mut engines[0], &h, NOW) {
                Fate::HandedOver(owner) => fate(&mut engines[usize::from(owner)], &h, NOW),
                other => other,
            };
            assert_eq!(sent.headers().source_port % 2, port % 2, "{workers} workers");
        }
    }
}

#[test]
fn parity_gives_way_when_there_is_none_left_of_it() {
    let options = PoolOptions {
        parity: true,
        ..PoolOptions::default()
    };
    let mut engine = engine(100, policy(vec![rule(&["192.0.2.1"], (2000, 2003), options)], vec![]));
    let ports: BTreeSet<u16> = [2, 4, 6].map(|port| shown(&mut engine, &from(5, port)).1).into();
    assert!(ports.is_superset(&[2000, 2002].into()) && ports.len() == 3);
    // What is not UDP has no parity to keep.
    for port in [2, 4, 6, 8] {
        let h = tcp(("10.0.0.5", port), REMOTE, SYN);
        assert!(matches!(fate(&mut engine, &h, NOW), Fate::Sent(..)));
    }
}

#[test]
fn determined_ports_follow_from_the_address_alone() {
    let options = PoolOptions {
        choice: PortChoice::Deterministic,
        ..PoolOptions::default()
    };
    let mut rule = rule(&["192.0.2.1", "192.0.2.2"], (1024, 65535), options);
    rule.sources = vec![
        "10.0.0.0/28".parse().expect("valid"),
        "10.0.0.32/28".parse().expect("valid"),
    ];
    let policy = policy(vec![rule.clone()], vec![]);
    for workers in [1, 3] {
        let mut engines: Vec<_> = (0..workers)
            .map(|n| worker(9000, n, workers, Arc::clone(&policy)))
            .collect();
        // 32 subscribers, 16 on each address, 64512 / 16 ports for each.
        for place in 0..32u32 {
            let host = if place < 16 { place } else { 32 + place - 16 } as u8;
            let first = 1024 + place % 16 * 4032;
            for n in 0..40 {
                let engine = &mut engines[usize::from(n % workers)];
                let (address, port) = shown(engine, &from(host, 30_000 + n));
                assert_eq!(address, ip("192.0.2.1") + place / 16);
                assert!((first..first + 4032).contains(&u32::from(port)), "{host} has {port}");
            }
        }
    }
    let wrong = |change: fn(&mut Masquerade)| {
        let mut rule = rule.clone();
        change(&mut rule);
        refused(vec![rule])
    };
    assert!(wrong(|rule| rule.sources.clear()).contains("0 addresses"));
    assert!(wrong(|rule| rule.ports = (1024, 1030)).contains("14 ports"));
}

#[test]
fn a_subscriber_has_its_blocks_to_itself() {
    let mut engine = engine(
        1000,
        policy(
            vec![rule(&["192.0.2.1", "192.0.2.2"], (1000, 1079), blocks(10, 2, 0))],
            vec![],
        ),
    );
    let mut owners: BTreeMap<(u32, u16), u8> = BTreeMap::new();
    for n in 0..20u16 {
        for host in [5, 6, 7, 8] {
            let (address, port) = shown(&mut engine, &from(host, 40_000 + n));
            let block = (address, (port - 1000) / 10);
            assert_eq!(*owners.entry(block).or_insert(host), host, "{block:?}");
        }
    }
    assert_eq!(owners.len(), 8, "two blocks each");
    assert_eq!(engine.stats().blocks, 8);
    for host in [5, 6, 7, 8] {
        let addresses: BTreeSet<_> = owners
            .iter()
            .filter(|(_, h)| **h == host)
            .map(|((a, _), _)| *a)
            .collect();
        assert_eq!(addresses.len(), 1, "one subscriber, one address");
        assert_eq!(
            fate(&mut engine, &from(host, 50_000), NOW),
            Fate::Dropped(Drop::NatPortsExhausted)
        );
    }
    // A block is for every protocol.
    let sent = fate(&mut engine, &tcp(("10.0.0.5", 1), REMOTE, SYN), NOW).headers();
    assert_eq!(owners[&(sent.source, (sent.source_port - 1000) / 10)], 5);
}

#[test]
fn blocks_are_logged_and_rest_before_another_owner_has_them() {
    let mut engine = engine(
        1000,
        policy(vec![rule(&["192.0.2.1"], (1000, 1009), blocks(10, 1, 60))], vec![]),
    );
    let routes = routes();
    shown(&mut engine, &from(5, 1));
    shown(&mut engine, &from(5, 2));
    assert_eq!(
        fate(&mut engine, &from(6, 1), NOW),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    let end = Millis(1_000 * 301);
    engine.expire(end, 100, &mut |_, _| {});
    assert_eq!((engine.stats().connections, engine.stats().blocks), (0, 0));
    let later = |seconds: u64| Millis(end.0 + seconds * 1000);
    let other = build(&from(6, 1), b"");
    assert_eq!(
        send(&mut engine, &routes, 1, &other, later(59)),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    assert!(matches!(
        send(&mut engine, &routes, 1, &other, later(61)),
        Fate::Sent(..)
    ));
    let events: Vec<_> = std::iter::from_fn(|| engine.next_block_event()).collect();
    let lost = engine.stats().block_events_lost;
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.assigned, bits(e.subscriber) as u8, e.ports, e.step))
        .collect();
    let ports = (1000, 1009);
    assert_eq!(told, [(true, 5, ports, 1), (false, 5, ports, 1), (true, 6, ports, 1)]);
    assert_eq!(
        (events[0].address.to_string(), events[0].vrf, lost),
        ("192.0.2.1".to_owned(), net::VrfId(1), 0)
    );
}

#[test]
fn blocks_of_several_workers_interleave_and_do_not_overlap() {
    let policy = policy(vec![rule(&["192.0.2.1"], (1000, 1239), blocks(10, 1, 0))], vec![]);
    let mut engines: Vec<_> = (0..3).map(|n| worker(1000, n, 3, Arc::clone(&policy))).collect();
    let mut used = BTreeMap::new();
    for host in 1..=9u8 {
        for n in 0..10 {
            let h = from(host, 40_000 + n);
            let mut sent = fate(&mut engines[0], &h, NOW);
            if let Fate::HandedOver(owner) = sent {
                sent = fate(&mut engines[usize::from(owner)], &h, NOW);
            }
            if sent == Fate::Dropped(Drop::NatPortsExhausted) {
                // More subscribers fell to this worker than it has blocks.
                continue;
            }
            assert_eq!(used.insert(sent.headers().source_port, host), None);
        }
    }
    for (worker, engine) in engines.iter_mut().enumerate() {
        while let Some(event) = engine.next_block_event() {
            let host = bits(event.subscriber) as u8;
            assert_eq!((event.step, usize::from(event.ports.0) % 3), (3, worker));
            for port in (event.ports.0..=event.ports.1).step_by(3) {
                assert!(used.get(&port).is_none_or(|owner| *owner == host));
            }
        }
    }
    assert!(used.len() >= 50, "{}", used.len());
}

#[test]
fn blocks_that_cannot_be_are_refused() {
    let pool = ["192.0.2.1"];
    assert!(refused(vec![rule(&pool, (1000, 1009), blocks(11, 1, 0))]).contains("11 ports"));
    assert!(refused(vec![rule(&pool, (1000, 1009), blocks(1, 0, 0))]).contains("0 blocks"));
    let other = rule(&pool, (1005, 1100), PoolOptions::default());
    assert!(refused(vec![rule(&pool, (1000, 1009), blocks(5, 1, 0)), other]).contains("other ports"));
    let parity = PoolOptions {
        parity: true,
        ..blocks(5, 1, 0)
    };
    assert!(refused(vec![rule(&pool, (1000, 1009), parity)]).contains("parity"));
}

fn overloading() -> PoolOptions {
    PoolOptions {
        mapping: Mapping::Overloading,
        ..PoolOptions::default()
    }
}

#[test]
fn an_overloaded_port_serves_one_connection_for_each_end_outside() {
    let mut engine = engine(
        1000,
        policy(vec![rule(&["192.0.2.1"], (1000, 1003), overloading())], vec![]),
    );
    let mut tuples = BTreeSet::new();
    for remote in 1..=50u8 {
        for port in 1..=4 {
            let to = format!("198.51.100.{remote}");
            let h = udp(("10.0.0.5", port), (&to, 53));
            if let Fate::Sent(packet, ..) = fate(&mut engine, &h, NOW) {
                let sent = Fate::Sent(packet, 0, false).headers();
                assert!(
                    tuples.insert((sent.source_port, sent.destination)),
                    "a tuple has one owner"
                );
                let back = send(&mut engine, &routes(), 0, &build(&answer(&sent, 0), b""), NOW).headers();
                assert_eq!((back.destination, back.destination_port), (ip("10.0.0.5"), port));
            }
        }
    }
    assert!(tuples.len() > 150, "four ports: {} connections", tuples.len());
    assert_eq!(engine.stats().ports[0].udp, 4);
    // A fifth connection to one end has no tuple.
    for port in 5..=8 {
        let h = udp(("10.0.0.6", port), ("198.51.100.1", 53));
        let to_first = tuples
            .iter()
            .filter(|(_, remote)| *remote == ip("198.51.100.1"))
            .count();
        if to_first == 4 {
            assert_eq!(fate(&mut engine, &h, NOW), Fate::Dropped(Drop::NatPortsExhausted));
        }
    }
    engine.expire(Millis(10_000_000), usize::MAX, &mut |_, _| {});
    let stats = engine.stats();
    assert_eq!((stats.connections, stats.mappings, stats.ports[0].udp), (0, 0, 0));
}

#[test]
fn a_port_that_the_nic_may_still_know_is_not_overloaded() {
    let mut engine = engine(
        1000,
        policy(vec![rule(&["192.0.2.1"], (1000, 1000), overloading())], vec![]),
    );
    let first = from(5, 1);
    shown(&mut engine, &first);
    let key = nat::FlowKey::v4(net::VrfId(1), UDP, first.source, first.destination, 1, 53);
    let id = engine.id_of(engine.lookup(&key).expect("made"));
    assert!(engine.set_offload(id, OffloadState::Live));
    let later = Millis(10_000_000);
    engine.expire(later, 10, &mut |_, _| {});
    // The same ends outside, another host: the NIC would send its replies to the first.
    assert_eq!(
        fate(&mut engine, &from(6, 1), later),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    engine.release(id);
    assert!(matches!(fate(&mut engine, &from(6, 1), later), Fate::Sent(..)));
}
