//! Route and policy changes under connections: kept, moved, unrouted, ended; and the offload's part in it.

mod support;

use nat::{ConnectionId, Delta, EndReason, Engine, Millis, OffloadState, Outcome, RevalidationSummary};
use net::{Drop, Generation, NextHopId, Prefix, VrfId};
use support::*;

const NOW: Millis = Millis(1000);

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn routed(vrf: u16, text: &str) -> Delta {
    Delta {
        prefixes: vec![(VrfId(vrf), prefix(text))],
        ..Delta::default()
    }
}

/// Runs a pass to its end in small steps.
fn pass(engine: &mut Engine, routes: &Routes, delta: &Delta) -> (RevalidationSummary, Vec<(ConnectionId, Outcome)>) {
    engine.on_generation(Generation(routes.generation), delta);
    let mut changes = vec![];
    for _ in 0..10_000 {
        if let Some(summary) = engine.revalidate(3, routes, &mut |id, outcome| changes.push((id, outcome))) {
            assert!(!engine.is_revalidating());
            return (summary, changes);
        }
    }
    panic!("the pass does not end");
}

fn id(engine: &Engine, h: &Headers) -> ConnectionId {
    let key = nat::FlowKey::v4(
        VrfId(1),
        h.protocol,
        h.source,
        h.destination,
        h.source_port,
        h.destination_port,
    );
    engine.id_of(engine.lookup(&key).expect("a connection"))
}

/// An engine with UDP connections to eight remote networks.
fn eight() -> (Engine, Routes, Vec<Headers>) {
    let rules = vec![masquerade(1, &["192.0.2.1"], (1024, 65535))];
    let (mut engine, routes) = (engine(100, policy(rules, vec![])), routes());
    let requests: Vec<_> = (0..8)
        .map(|n| udp(("10.0.0.5", 2000 + n), (&format!("198.51.{n}.9"), 53)))
        .collect();
    for request in &requests {
        let out = send(&mut engine, &routes, 1, &build(request, b""), NOW).headers();
        send(&mut engine, &routes, 0, &build(&answer(&out, 0), b""), NOW);
    }
    (engine, routes, requests)
}

#[test]
fn a_pass_resolves_what_the_delta_touches_and_stamps_the_rest() {
    let (mut engine, mut routes, requests) = eight();
    routes.generation = 2;
    routes.add(0, "198.51.3.0/24", To::Hop(200));
    let (summary, changes) = pass(&mut engine, &routes, &routed(0, "198.51.3.0/24"));
    assert_eq!(
        (summary.kept, summary.moved, summary.unrouted, summary.ended),
        (7, 1, 0, 0)
    );
    assert_eq!((summary.generation, summary.examined), (Generation(2), 1));
    assert_eq!(changes, [(id(&engine, &requests[3]), Outcome::Moved)]);
    for (n, request) in requests.iter().enumerate() {
        let key = nat::FlowKey::v4(
            VrfId(1),
            UDP,
            request.source,
            request.destination,
            request.source_port,
            53,
        );
        let at = engine.lookup(&key).expect("kept");
        let entry = engine.entry(at);
        assert!(engine.is_current(at, Generation(2)));
        assert_eq!(entry.next_hop(), NextHopId(if n == 3 { 200 } else { 100 }));
    }
    routes.generation = 3;
    let (summary, _) = pass(&mut engine, &routes, &routed(0, "203.0.113.0/24"));
    assert_eq!(
        (summary.kept, summary.examined),
        (8, 0),
        "the delta of a finished pass is forgotten"
    );
}

#[test]
fn a_packet_revalidates_its_connection_before_the_pass_gets_there() {
    let (mut engine, mut routes, requests) = eight();
    routes.generation = 2;
    routes.add(0, "198.51.7.0/24", To::Hop(200));
    engine.on_generation(Generation(2), &routed(0, "198.51.7.0/24"));
    let fate = send(&mut engine, &routes, 1, &build(&requests[7], b""), NOW);
    assert!(matches!(fate, Fate::Sent(_, 200, _)), "{fate:?}");
    let mut summary = None;
    while summary.is_none() {
        summary = engine.revalidate(1, &routes, &mut |_, _| panic!("the packet has seen to it"));
    }
    assert_eq!(summary.map(|s| (s.kept, s.moved, s.examined)), Some((7, 1, 1)));
}

#[test]
fn a_leak_through_a_third_vrf_is_followed() {
    let (mut engine, mut routes, _) = eight();
    routes.generation = 2;
    routes.add(1, "0.0.0.0/0", To::Vrf(9));
    routes.add(9, "0.0.0.0/0", To::Vrf(0));
    assert_eq!(pass(&mut engine, &routes, &routed(1, "0.0.0.0/0")).0.kept, 8);
    routes.generation = 3;
    routes.add(9, "198.51.2.0/24", To::Fail(Drop::Blackhole));
    assert_eq!(pass(&mut engine, &routes, &routed(9, "198.51.2.0/24")).0.unrouted, 1);
}

#[test]
fn generations_that_come_during_a_pass_are_merged() {
    let (mut engine, mut routes, _) = eight();
    for generation in 2..6 {
        routes.generation = generation;
        let network = format!("198.51.{generation}.0/24");
        routes.add(0, &network, To::Hop(200));
        engine.on_generation(Generation(generation), &routed(0, &network));
        assert_eq!(engine.revalidate(3, &routes, &mut |_, _| {}), None);
    }
    let mut summary = None;
    while summary.is_none() {
        summary = engine.revalidate(3, &routes, &mut |_, _| {});
    }
    let mut views = vec![];
    engine.snapshot(0, 10, &mut views);
    for view in views {
        let third = (bits(view.original.destination) >> 8) as u8;
        assert_eq!(
            view.next_hops[0],
            NextHopId(if (2..6).contains(&third) { 200 } else { 100 })
        );
        assert_eq!(view.generation, 5);
    }
}

#[test]
fn a_withdrawn_route_keeps_the_connection_and_its_port_until_one_comes_back() {
    let (mut engine, mut routes, requests) = eight();
    let port = send(&mut engine, &routes, 1, &build(&requests[0], b""), NOW)
        .headers()
        .source_port;
    routes.generation = 2;
    routes.remove(0, "0.0.0.0/0");
    let (summary, changes) = pass(&mut engine, &routes, &routed(0, "0.0.0.0/0"));
    assert_eq!((summary.unrouted, changes.len()), (8, 8));
    assert_eq!(
        send(&mut engine, &routes, 1, &build(&requests[0], b""), NOW),
        Fate::Dropped(Drop::NoRoute)
    );
    let later = Millis(NOW.0 + 20_000);
    engine.expire(later, usize::MAX, &mut |_, _| panic!("within the grace"));
    routes.generation = 3;
    routes.add(0, "0.0.0.0/0", To::Hop(101));
    assert_eq!(pass(&mut engine, &routes, &routed(0, "0.0.0.0/0")).0.moved, 8);
    let fate = send(&mut engine, &routes, 1, &build(&requests[0], b""), later);
    assert_eq!(fate.headers().source_port, port);
    assert!(matches!(fate, Fate::Sent(_, 101, _)));
    assert_eq!(engine.stats().unrouted, 0);
}

#[test]
fn a_connection_without_a_route_ends_after_the_grace() {
    let (mut engine, mut routes, requests) = eight();
    routes.generation = 2;
    routes.add(0, "198.51.4.0/24", To::Fail(Drop::Unreachable));
    pass(&mut engine, &routes, &routed(0, "198.51.4.0/24"));
    let mut ends = vec![];
    for second in 2..40 {
        let now = Millis(1 + second * 1000);
        let fate = send(&mut engine, &routes, 1, &build(&requests[4], b""), now);
        assert_eq!(fate, Fate::Dropped(Drop::Unreachable), "its packets do not keep it");
        engine.expire(now, usize::MAX, &mut |_, reason| ends.push((second, reason)));
    }
    assert_eq!(ends, [(31, EndReason::Unrouted)]);
    assert_eq!((engine.stats().ended.unrouted, engine.stats().ports[0].udp), (1, 7));
}

#[test]
fn a_return_route_into_the_fabric_is_no_return_route() {
    let (mut engine, mut routes, requests) = eight();
    routes.generation = 2;
    routes.remove(1, "10.0.0.0/24");
    assert_eq!(pass(&mut engine, &routes, &routed(1, "10.0.0.0/24")).0.unrouted, 8);
    assert_eq!(
        send(&mut engine, &routes, 1, &build(&requests[0], b""), NOW),
        Fate::Dropped(Drop::NoRoute)
    );
    let fresh = udp(("10.0.0.6", 1), ("198.51.100.9", 53));
    assert_eq!(
        send(&mut engine, &routes, 1, &build(&fresh, b""), NOW),
        Fate::Dropped(Drop::NoRoute)
    );
}

#[test]
fn a_next_hop_whose_contents_changed_moves_offloaded_connections_only() {
    let (mut engine, mut routes, requests) = eight();
    let offloaded = id(&engine, &requests[5]);
    assert!(engine.set_offload(offloaded, OffloadState::Live));
    routes.generation = 2;
    let delta = Delta {
        next_hops: vec![NextHopId(100)],
        ..Delta::default()
    };
    let (summary, changes) = pass(&mut engine, &routes, &delta);
    assert_eq!((summary.kept, changes), (7, vec![(offloaded, Outcome::Moved)]));
}

#[test]
fn a_policy_edit_keeps_what_it_still_allows_with_its_port() {
    let (mut engine, mut routes, requests) = eight();
    routes.generation = 2;
    let rules = vec![masquerade(1, &["192.0.2.9", "192.0.2.1"], (2003, 65535))];
    engine.set_policy(policy(rules, vec![forward(2, UDP, "192.0.2.1", 2006, "10.0.0.9", 53)]));
    let delta = Delta {
        policy: true,
        ..Delta::default()
    };
    let (summary, _) = pass(&mut engine, &routes, &delta);
    assert_eq!(
        (summary.kept, summary.ended),
        (4, 4),
        "ports 2000 to 2002 and the forwarded 2006 are gone"
    );
    let out = send(&mut engine, &routes, 1, &build(&requests[3], b""), NOW).headers();
    assert_eq!((out.source, out.source_port), (ip("192.0.2.1"), 2003));
    assert_eq!(engine.stats().ended.policy, 4);
    engine.set_policy(policy(vec![], vec![]));
    routes.generation = 3;
    assert_eq!(pass(&mut engine, &routes, &delta).0.ended, 4);
    engine.set_policy(policy(vec![], vec![]));
    assert_eq!(engine.stats().ports, []);
}

#[test]
fn an_offloaded_connection_keeps_its_port_after_its_end_until_released() {
    let rules = vec![masquerade(1, &["192.0.2.1"], (5000, 5000))];
    let (mut engine, routes) = (engine(100, policy(rules, vec![])), routes());
    let request = udp(("10.0.0.5", 1), ("198.51.100.9", 53));
    send(&mut engine, &routes, 1, &build(&request, b""), NOW);
    let id = id(&engine, &request);
    assert!(engine.set_offload(id, OffloadState::Live));
    engine.touch(id, [3, 0], [300, 0], Millis(200_000));
    engine.expire(Millis(400_000), usize::MAX, &mut |_, _| {
        panic!("the NIC carried packets")
    });
    let mut ends = vec![];
    engine.expire(Millis(501_000), usize::MAX, &mut |id, reason| ends.push((id, reason)));
    assert_eq!(ends, [(id, EndReason::Idle)]);
    let now = Millis(501_000);
    let another = udp(("10.0.0.6", 1), ("198.51.100.9", 53));
    assert_eq!(
        send(&mut engine, &routes, 1, &build(&another, b""), now),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    assert_eq!(
        send(&mut engine, &routes, 1, &build(&request, b""), now),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    assert!(!engine.set_offload(id, OffloadState::Live), "ended meanwhile");
    assert_eq!(engine.offload_state(id), Some(OffloadState::Live));
    assert_eq!(
        engine
            .directions(id)
            .map(|[original, _]| original.rewrite.source_port()),
        Some(5000)
    );
    assert_eq!((engine.stats().zombies, engine.stats().connections), (1, 0));
    engine.release(id);
    assert_eq!(
        (engine.stats().zombies, engine.offload_state(id), engine.connection(id)),
        (0, None, None)
    );
    assert!(matches!(
        send(&mut engine, &routes, 1, &build(&another, b""), now),
        Fate::Sent(..)
    ));
    engine.release(id);
    assert_eq!(engine.stats().connections, 1, "an id of the past releases nothing");
}
