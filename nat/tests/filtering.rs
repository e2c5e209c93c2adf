//! Filtering by address: a mapped port is open to the hosts that it has connections with, and to nobody else.

mod support;

use std::sync::Arc;

use nat::{Engine, Filtering, Mapping, Masquerade, Millis, OffloadState, Policy, PoolOptions};
use net::Drop;
use support::*;

const NOW: Millis = Millis(1000);
const SERVER: &str = "198.51.100.9";
const OTHER: &str = "198.51.100.77";

fn pool(filtering: Filtering) -> Arc<Policy> {
    let rule = Masquerade {
        options: PoolOptions {
            mapping: Mapping::EndpointIndependent,
            filtering,
            ..PoolOptions::default()
        },
        ..masquerade(1, &["192.0.2.1"], (1024, 65535))
    };
    policy(vec![rule], vec![])
}

fn open(engine: &mut Engine, to: &str) -> u16 {
    let request = udp(("10.0.0.5", 5000), (to, 53));
    send(engine, &routes(), 1, &build(&request, b""), NOW)
        .headers()
        .source_port
}

fn lets_in(engine: &mut Engine, from: (&str, u16), port: u16, now: Millis) -> bool {
    let packet = build(&udp(from, ("192.0.2.1", port)), b"");
    match send(engine, &routes(), 0, &packet, now) {
        Fate::Sent(..) => true,
        Fate::Dropped(Drop::NatNoMapping) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_was_sent_to_may_answer_from_any_port_until_the_last_connection_ends() {
    let mut engine = engine(100, pool(Filtering::AddressDependent));
    let port = open(&mut engine, SERVER);
    assert!(!lets_in(&mut engine, (OTHER, 53), port, NOW));
    assert!(lets_in(&mut engine, (SERVER, 99), port, NOW));
    // The port of another mapping is another matter.
    assert!(!lets_in(&mut engine, (SERVER, 99), port ^ 1, NOW));
    // Another connection keeps the mapping, but not the one with the server.
    let late = Millis(NOW.0 + 200_000);
    let request = udp(("10.0.0.5", 5000), (OTHER, 53));
    send(&mut engine, &routes(), 1, &build(&request, b""), late);
    let end = Millis(NOW.0 + 301_000);
    engine.expire(end, 100, &mut |_, _| {});
    assert_eq!(engine.stats().connections, 1);
    assert!(!lets_in(&mut engine, (SERVER, 99), port, end));
    assert!(lets_in(&mut engine, (OTHER, 99), port, end));
}

#[test]
fn an_edit_of_the_policy_knows_who_was_sent_to_before() {
    let mut engine = engine(100, pool(Filtering::AddressAndPortDependent));
    let port = open(&mut engine, SERVER);
    assert!(!lets_in(&mut engine, (SERVER, 99), port, NOW));
    engine.set_policy(pool(Filtering::AddressDependent));
    assert!(lets_in(&mut engine, (SERVER, 99), port, NOW));
    assert!(!lets_in(&mut engine, (OTHER, 99), port, NOW));
    engine.set_policy(pool(Filtering::AddressAndPortDependent));
    assert!(!lets_in(&mut engine, (SERVER, 98), port, NOW));
}

#[test]
fn a_connection_that_the_nic_may_still_hold_lets_nobody_in() {
    let mut engine = engine(100, pool(Filtering::AddressDependent));
    let port = open(&mut engine, SERVER);
    let key = nat::FlowKey::v4(net::VrfId(1), UDP, ip("10.0.0.5"), ip(SERVER), 5000, 53);
    let id = engine.id_of(engine.lookup(&key).expect("made"));
    engine.set_offload(id, OffloadState::Live);
    let end = Millis(NOW.0 + 301_000);
    engine.expire(end, 100, &mut |_, _| {});
    assert_eq!(engine.stats().zombies, 1);
    assert!(!lets_in(&mut engine, (SERVER, 99), port, end));
}
