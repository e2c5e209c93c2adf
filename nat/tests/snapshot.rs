//! Connections outlive their process: saved, encoded, decoded, restored, they go on with the same ports.

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use nat::snapshot::{SavedConnection, SnapshotError, decode, encode};
use nat::{
    Delta, Engine, Filtering, Mapping, Masquerade, Millis, NotRestored, Policy, PolicySpec, PoolOptions, PortBlocks,
    PortChoice,
};
use net::{Drop, Generation};
use proptest::prelude::*;
use support::*;

const NOW: Millis = Millis(1000);

fn rules() -> Arc<Policy> {
    policy(
        vec![
            masquerade(1, &["192.0.2.1", "192.0.2.2"], (1024, 65535)),
            masquerade(2, &["192.0.2.1"], (1024, 65535)),
        ],
        vec![forward(2, TCP, "192.0.2.7", 80, "10.0.0.9", 8080)],
    )
}

/// A packet that goes to whichever worker owns it.
fn to_owner(workers: &mut [Engine], routes: &Routes, vrf: u16, packet: &[u8], now: Millis) -> Fate {
    match send(&mut workers[0], routes, vrf, packet, now) {
        Fate::HandedOver(owner) => send(&mut workers[usize::from(owner)], routes, vrf, packet, now),
        fate => fate,
    }
}

fn workers(count: u16, policy: &Arc<Policy>) -> Vec<Engine> {
    (0..count).map(|n| worker(1000, n, count, policy.clone())).collect()
}

fn saved(engines: &[Engine]) -> Vec<SavedConnection> {
    let mut out = vec![];
    for engine in engines {
        let mut from = Some(0);
        while let Some(slot) = from {
            from = engine.save(slot, 7, &mut out);
        }
    }
    out
}

/// Starts the next process with what the last one saved, in bytes; gives how many connections are there again.
fn restarted(count: u16, policy: &Arc<Policy>, bytes: &[u8], routes: &Routes) -> (Vec<Engine>, usize) {
    let (connections, _) = decode(bytes, 100_000).expect("just encoded");
    let mut next = workers(count, policy);
    let mut restored = 0;
    for engine in &mut next {
        restored += connections.iter().filter(|c| engine.restore(c, 5).is_ok()).count();
        engine.on_generation(Generation(routes.generation), &Delta::everything());
        while engine.is_revalidating() {
            engine.revalidate(64, routes, &mut |_, _| {});
        }
    }
    (next, restored)
}

/// Handshakes from both VPCs and to the port forward; gives the last packet of each and where it left with what.
fn establish(engines: &mut [Engine], routes: &Routes) -> Vec<(u16, Headers, Headers)> {
    let mut all = vec![];
    for port in 3000..3050 {
        for vrf in [1, 2] {
            let ack = tcp(("10.0.0.5", port), ("198.51.100.9", 80), ACK);
            let syn = Headers { flags: SYN, ..ack };
            // The first packet of a masquerade may come in anywhere; its worker owns the connection.
            let owner = usize::from(port) % engines.len();
            let out = send(&mut engines[owner], routes, vrf, &build(&syn, b""), NOW).headers();
            to_owner(engines, routes, 0, &build(&answer(&out, SYN | ACK), b""), NOW);
            let out = send(&mut engines[owner], routes, vrf, &build(&ack, b""), NOW).headers();
            all.push((vrf, ack, out));
        }
        let ack = tcp(("203.0.113.8", port), ("192.0.2.7", 80), ACK);
        let syn = Headers { flags: SYN, ..ack };
        let inside = to_owner(engines, routes, 0, &build(&syn, b""), NOW).headers();
        to_owner(engines, routes, 2, &build(&answer(&inside, SYN | ACK), b""), NOW);
        let inside = to_owner(engines, routes, 0, &build(&ack, b""), NOW).headers();
        all.push((0, ack, inside));
    }
    all
}

#[test]
fn established_connections_go_on_after_a_restart_whatever_the_number_of_workers() {
    let (policy, routes) = (rules(), routes());
    for (before, after) in [(1, 1), (2, 2), (1, 3), (3, 2)] {
        let mut engines = workers(before, &policy);
        let connections = establish(&mut engines, &routes);
        let bytes = encode(&saved(&engines), 77);
        drop(engines);
        let (mut engines, restored) = restarted(after, &policy, &bytes, &routes);
        assert_eq!(restored, connections.len(), "{before} to {after} workers");
        for (vrf, sent, left) in connections {
            // From the side whose tuple names the owner; the other side works at that owner.
            let back = answer(&left, ACK);
            let back_vrf = if vrf == 0 { 2 } else { 0 };
            let fate = to_owner(&mut engines, &routes, back_vrf, &build(&back, b"x"), NOW);
            let headers = fate.headers();
            assert_eq!(headers, answer(&sent, ACK), "{before} to {after} workers");
            let there = engines
                .iter_mut()
                .map(|engine| send(engine, &routes, vrf, &build(&sent, b"y"), NOW))
                .any(|fate| matches!(fate, Fate::Sent(..)) && fate.headers() == left);
            assert!(there, "{sent:?} keeps {left:?}");
        }
    }
}

#[test]
fn what_cannot_be_as_it_was_is_refused_and_leaves_nothing() {
    let (policy, routes) = (rules(), routes());
    let mut engines = workers(1, &policy);
    establish(&mut engines, &routes);
    let connections = saved(&engines);
    let one = connections[0];
    let mut next = workers(1, &policy).remove(0);
    assert_eq!(next.restore(&one, 7440), Err(NotRestored::TooOld));
    assert_eq!(next.restore(&one, 7000), Ok(()));
    assert_eq!(next.restore(&one, 0), Err(NotRestored::Taken));
    let mut other = worker(1000, 0, 7, policy.clone());
    let foreign = connections
        .iter()
        .filter(|c| other.restore(c, 0) == Err(NotRestored::NotOurs));
    assert!(foreign.count() > 50);
    let nothing = support::policy(vec![masquerade(2, &["192.0.2.9"], (1024, 65535))], vec![]);
    let mut strict = workers(1, &nothing).remove(0);
    for connection in &connections {
        assert_eq!(strict.restore(connection, 0), Err(NotRestored::Policy));
    }
    let mut small = engine(3, policy);
    let restored = connections.iter().filter(|c| small.restore(c, 0).is_ok()).count();
    assert_eq!(
        (restored, small.restore(&connections[9], 0)),
        (3, Err(NotRestored::Full))
    );
    assert_eq!(strict.stats().connections, 0);
    assert!(strict.stats().ports.iter().all(|p| p.tcp + p.udp + p.icmp == 0));
}

/// Routes have to be learned after a start: a restored connection waits for them, and is not told apart then.
#[test]
fn a_restored_connection_waits_for_its_route() {
    let (policy, mut routes) = (rules(), routes());
    let mut engines = workers(1, &policy);
    let connections = establish(&mut engines, &routes);
    let bytes = encode(&saved(&engines), 77);
    routes.remove(0, "0.0.0.0/0");
    let (mut engines, _) = restarted(1, &policy, &bytes, &routes);
    let (vrf, sent, left) = connections[0];
    let fate = send(&mut engines[0], &routes, vrf, &build(&sent, b""), NOW);
    assert_eq!(fate, Fate::Dropped(Drop::NoRoute));
    let later = Millis(NOW.0 + 100_000);
    engines[0].expire(later, usize::MAX, &mut |_, _| {});
    assert_eq!(engines[0].stats().connections as usize, connections.len());
    routes.add(0, "0.0.0.0/0", To::Hop(100));
    routes.generation = 9;
    engines[0].on_generation(Generation(9), &Delta::everything());
    let fate = send(&mut engines[0], &routes, vrf, &build(&sent, b""), later);
    assert_eq!(fate.headers(), left);
}

/// Pools that share ports or hand out blocks, and static NAT both ways.
fn choices() -> Arc<Policy> {
    let rule = |vpc, address: &str, options| Masquerade {
        options,
        ..masquerade(vpc, &[address], (1024, 1151))
    };
    let mapped = PoolOptions {
        mapping: Mapping::EndpointIndependent,
        filtering: Filtering::EndpointIndependent,
        ..PoolOptions::default()
    };
    let blocks = PoolOptions {
        choice: PortChoice::Blocks(PortBlocks {
            size: 8,
            count: 4,
            quarantine: 60,
        }),
        ..PoolOptions::default()
    };
    let overloading = PoolOptions {
        mapping: Mapping::Overloading,
        ..PoolOptions::default()
    };
    let spec = PolicySpec {
        masquerade: vec![
            Masquerade {
                sources: vec!["10.0.0.0/28".parse().expect("a prefix")],
                ..rule(1, "192.0.2.1", mapped)
            },
            rule(1, "192.0.2.2", blocks),
            Masquerade {
                ports: (1024, 1027),
                ..rule(2, "192.0.2.3", overloading)
            },
        ],
        statics: vec![
            fixed(2, "10.0.0.128/28", "192.0.2.16/28", None),
            fixed(1, "10.0.0.0/28", "100.64.1.0/28", Some(2)),
            fixed(2, "10.0.0.0/28", "100.64.2.0/28", Some(1)),
        ],
        ..PolicySpec::default()
    };
    Arc::new(Policy::compile(spec).expect("valid"))
}

/// A packet of each kind of connection, and how it leaves.
fn open_each(engine: &mut Engine, routes: &Routes) -> Vec<(u16, Vec<u8>, Vec<u8>)> {
    let mut packets = vec![];
    for remote in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
        for port in 5000..5004 {
            // Mappings, blocks, ports that are overloaded.
            packets.push((1, build(&udp(("10.0.0.5", port), (remote, 53)), b"")));
            packets.push((1, build(&udp(("10.0.0.50", port), (remote, 53)), b"")));
            packets.push((1, build(&udp(("10.0.0.51", port), (remote, 53)), b"")));
            packets.push((2, build(&udp(("10.0.0.5", port), (remote, 53)), b"")));
        }
        // Static, from both sides, of protocols without ports as well; and those behind a masquerade.
        packets.push((2, build(&udp(("10.0.0.130", 7), (remote, 53)), b"")));
        packets.push((0, build(&udp((remote, 9), ("192.0.2.19", 53)), b"")));
        packets.push((2, ip_packet(47, ip("10.0.0.130"), ip(remote), b"12345678")));
        packets.push((1, ip_packet(47, ip("10.0.0.5"), ip(remote), b"12345678")));
    }
    packets.push((1, build(&udp(("10.0.0.5", 7), ("100.64.2.6", 53)), b"")));
    let mut opened: Vec<_> = packets
        .into_iter()
        .map(|(vrf, packet)| {
            let fate = send(engine, routes, vrf, &packet, NOW);
            let Fate::Sent(left, ..) = fate else {
                panic!("{vrf} {packet:?}: {fate:?}")
            };
            (vrf, packet, left)
        })
        .collect();
    // Somebody from outside, through a mapping.
    let mapped = Fate::Sent(opened[0].2.clone(), 0, false).headers();
    let packet = build(&udp(("203.0.113.77", 99), ("192.0.2.1", mapped.source_port)), b"");
    let fate = send(engine, routes, 0, &packet, NOW);
    let Fate::Sent(left, ..) = fate else { panic!("{fate:?}") };
    opened.push((0, packet, left));
    opened
}

#[test]
fn what_shares_ports_or_has_blocks_owns_them_again() {
    let (policy, routes) = (choices(), routes());
    let mut engines = workers(1, &policy);
    let opened = open_each(&mut engines[0], &routes);
    let before = engines[0].stats();
    assert!(before.mappings > 0 && before.blocks == 4, "{before:?}");
    let bytes = encode(&saved(&engines), 77);
    for reversed in [false, true] {
        let (mut connections, _) = decode(&bytes, 1000).expect("just encoded");
        if reversed {
            connections.reverse();
        }
        let mut next = workers(1, &policy).remove(0);
        for connection in &connections {
            assert_eq!(next.restore(connection, 5), Ok(()), "{connection:?}");
            assert_eq!(next.restore(connection, 5), Err(NotRestored::Taken));
        }
        next.on_generation(Generation(routes.generation), &Delta::everything());
        while next.is_revalidating() {
            next.revalidate(64, &routes, &mut |_, _| {});
        }
        let after = next.stats();
        assert_eq!(
            (after.connections, after.mappings, after.blocks, &after.ports),
            (before.connections, before.mappings, before.blocks, &before.ports)
        );
        let told = std::iter::from_fn(|| next.next_block_event()).filter(|event| event.assigned);
        assert_eq!(told.count(), 4, "whoever logs blocks knows their owners");
        for (vrf, packet, left) in &opened {
            let fate = send(&mut next, &routes, *vrf, packet, NOW);
            assert!(
                matches!(&fate, Fate::Sent(packet, ..) if packet == left),
                "{vrf} {packet:?}"
            );
        }
        assert_eq!(next.stats().created, after.created, "each was known");
        // A new connection of a mapping has its port, a host without a block gets none that somebody has.
        let (_, packet, left) = &opened[0];
        let mapped = Fate::Sent(left.clone(), 0, false).headers();
        let known = Headers {
            destination: ip("198.51.100.200"),
            ..Fate::Sent(packet.clone(), 0, false).headers()
        };
        let fate = send(&mut next, &routes, 1, &build(&known, b""), NOW);
        assert_eq!(fate.headers().source_port, mapped.source_port);
        let other = build(&udp(("10.0.0.52", 5000), ("198.51.100.1", 53)), b"");
        let port = send(&mut next, &routes, 1, &other, NOW).headers().source_port;
        for (_, _, left) in &opened {
            let theirs = Fate::Sent(left.clone(), 0, false).headers();
            let same = theirs.source == ip("192.0.2.2") && (theirs.source_port - 1024) / 8 == (port - 1024) / 8;
            assert!(!same, "{port} is in a block of {theirs:?}");
        }
        // And all of it is given back by the one way that there is.
        next.expire(Millis(100_000_000), usize::MAX, &mut |_, _| {});
        let stats = next.stats();
        assert_eq!((stats.connections, stats.mappings, stats.blocks), (0, 0, 0));
        assert!(stats.ports.iter().all(|p| p.tcp + p.udp + p.icmp == 0));
    }
}

/// A host has one worker where it has mappings or blocks: with other workers than before, its ports may be another's.
#[test]
fn what_is_parted_among_other_workers_is_refused_and_the_rest_goes_on() {
    let (policy, routes) = (choices(), routes());
    let mut engines = workers(1, &policy);
    open_each(&mut engines[0], &routes);
    let connections = saved(&engines);
    let mut next = workers(3, &policy);
    let mut restored = 0;
    for connection in &connections {
        let found: Vec<_> = next.iter_mut().map(|engine| engine.restore(connection, 0)).collect();
        let ours = found.iter().filter(|found| **found != Err(NotRestored::NotOurs));
        assert_eq!(ours.count(), 1, "one worker has a say: {connection:?}");
        restored += found.iter().filter(|found| found.is_ok()).count();
    }
    assert!(
        restored > connections.len() / 3 && restored < connections.len(),
        "{restored}"
    );
    // Who has a port has it at the worker that both directions are handed to.
    for engine in &mut next {
        engine.on_generation(Generation(routes.generation), &Delta::everything());
        while engine.is_revalidating() {
            engine.revalidate(64, &routes, &mut |_, _| {});
        }
    }
    let mut views = vec![];
    next.iter()
        .for_each(|engine| assert_eq!(engine.snapshot(0, 999, &mut views), None));
    for view in views
        .iter()
        .filter(|view| view.vpc == Some(vpc(1)) && view.protocol == "udp")
    {
        let (from, to) = (view.original, view.translated);
        let out = build(
            &headers_of(
                (from.source, from.source_port),
                (from.destination, from.destination_port),
            ),
            b"",
        );
        let back = build(
            &headers_of((to.destination, to.destination_port), (to.source, to.source_port)),
            b"",
        );
        let from_vpc = bits(from.source) >> 24 == 10;
        let (vrf, back_vrf) = match (from_vpc, bits(to.destination) >> 24) {
            (false, _) => (0, 1),
            (true, 10) => (1, 2),
            (true, _) => (1, 0),
        };
        for (vrf, packet) in [(vrf, out), (back_vrf, back)] {
            let fate = to_owner(&mut next, &routes, vrf, &packet, NOW);
            assert!(matches!(fate, Fate::Sent(..)), "{view:?}: {fate:?}");
        }
    }
    let created: u64 = next.iter().map(|engine| engine.stats().created).sum();
    assert_eq!(created as usize, restored, "each was known");
}

fn headers_of(from: (IpAddr, u16), to: (IpAddr, u16)) -> Headers {
    udp((&from.0.to_string(), from.1), (&to.0.to_string(), to.1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No damaged byte goes unnoticed, and none makes the reader panic.
    #[test]
    fn damage_is_noticed(at: prop::sample::Index, change in 1u8..=255, cut: prop::sample::Index) {
        let (policy, routes) = (rules(), routes());
        let mut engines = workers(1, &policy);
        establish(&mut engines, &routes);
        let whole = encode(&saved(&engines)[..20], 77);
        prop_assert_eq!(decode(&whole, 20).map(|(c, at)| (c.len(), at)), Ok((20, 77)));
        prop_assert_eq!(decode(&whole, 19), Err(SnapshotError::TooMany { records: 20, limit: 19 }));
        let mut damaged = whole.clone();
        let position = at.index(damaged.len());
        damaged[position] ^= change;
        prop_assert!(decode(&damaged, 20).is_err(), "byte {}", position);
        prop_assert!(decode(&whole[..cut.index(whole.len())], 20).is_err());
    }

    #[test]
    fn anything_else_is_no_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes, 1000).is_err());
    }
}

#[test]
fn a_snapshot_of_another_version_is_refused_by_its_number() {
    let mut bytes = encode(&[], 1);
    bytes[9] = 2;
    assert_eq!(decode(&bytes, 10), Err(SnapshotError::Version(2)));
}
