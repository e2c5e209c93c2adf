//! Connections outlive their process: saved, encoded, decoded, restored, they go on with the same ports.

mod support;

use std::sync::Arc;

use nat::snapshot::{SavedConnection, SnapshotError, decode, encode};
use nat::{Delta, Engine, Millis, NotRestored, Policy};
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
