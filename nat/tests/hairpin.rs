//! Hairpinning: tenants that reach public ends of the gateway they are behind (RFC 4787 REQ-9, RFC 5382 REQ-8).

mod support;

use std::sync::Arc;

use nat::{Engine, Filtering, Mapping, Masquerade, Millis, OffloadState, Policy, PolicySpec, PoolOptions};
use net::Drop;
use support::*;

const NOW: Millis = Millis(1);

fn mapped(rule: Masquerade, filtering: Filtering) -> Masquerade {
    let options = PoolOptions {
        mapping: Mapping::EndpointIndependent,
        filtering,
        ..PoolOptions::default()
    };
    Masquerade { options, ..rule }
}

fn pools(filtering: Filtering) -> Arc<Policy> {
    let rule = |vpc, pool| mapped(masquerade(vpc, &[pool], (1024, 2047)), filtering);
    policy(vec![rule(1, "192.0.2.1"), rule(2, "192.0.2.2")], vec![])
}

/// Sends and gives the packet that the other side gets.
fn sent(engine: &mut Engine, vrf: u16, h: &Headers) -> Headers {
    deliver(engine, &routes(), vrf, &build(h, b"hello"), NOW).headers()
}

/// There and back: the answer comes from where the first packet was sent to.
fn talk(engine: &mut Engine, from: u16, to: u16, first: &Headers) -> Headers {
    let arrived = sent(engine, from, first);
    let back = sent(engine, to, &answer(&arrived, SYN | ACK));
    assert_eq!(
        back,
        answer(first, SYN | ACK),
        "the answer is not from the end that was sent to"
    );
    arrived
}

#[test]
fn a_tenant_reaches_the_port_forward_of_its_own_vpc_and_of_another() {
    let rules = vec![
        masquerade(1, &["192.0.2.1"], (1024, 2047)),
        masquerade(2, &["192.0.2.2"], (1024, 2047)),
    ];
    let forwards = vec![forward(1, TCP, "192.0.2.1", 80, "10.0.0.9", 8080)];
    let mut engine = engine(100, policy(rules, forwards));
    for (vpc, public) in [(1, "192.0.2.1"), (2, "192.0.2.2")] {
        let arrived = talk(&mut engine, vpc, 1, &tcp(("10.0.0.5", 4000), ("192.0.2.1", 80), SYN));
        assert_eq!(
            arrived.source,
            ip(public),
            "the source is translated too (RFC 4787 REQ-9a)"
        );
        assert_eq!((arrived.destination, arrived.destination_port), (ip("10.0.0.9"), 8080));
    }
    // Itself, even.
    let arrived = talk(&mut engine, 1, 1, &tcp(("10.0.0.9", 4000), ("192.0.2.1", 80), SYN));
    assert_eq!((arrived.source, arrived.destination), (ip("192.0.2.1"), ip("10.0.0.9")));
}

#[test]
fn subscribers_reach_each_other_by_their_mappings() {
    let mut engine = engine(100, pools(Filtering::EndpointIndependent));
    let server = ("198.51.100.9", 3478);
    for (other, at) in [(1, "10.0.0.7"), (2, "10.0.0.5")] {
        let shown = sent(&mut engine, other, &udp((at, 5000), server));
        let me = udp(("10.0.0.5", 4000), server);
        let shown_me = sent(&mut engine, 1, &me);
        let public = Headers {
            destination: shown.source,
            destination_port: shown.source_port,
            ..me
        };
        let arrived = sent(&mut engine, 1, &public);
        let (end, from) = (
            (arrived.destination, arrived.destination_port),
            (arrived.source, arrived.source_port),
        );
        assert_eq!(end, (ip(at), 5000));
        assert_eq!(
            from,
            (shown_me.source, shown_me.source_port),
            "one mapping for everybody (REQ-1)"
        );
        assert_eq!(sent(&mut engine, other, &answer(&arrived, 0)), answer(&public, 0));
    }
}

#[test]
fn with_closed_filtering_both_must_send_first() {
    let mut engine = engine(100, pools(Filtering::AddressAndPortDependent));
    let server = ("198.51.100.9", 3478);
    let routes = routes();
    let hosts = [(1, "10.0.0.5"), (2, "10.0.0.7")];
    let shown = hosts.map(|(vpc, at)| sent(&mut engine, vpc, &udp((at, 5000), server)));
    let to_other = |n: usize| Headers {
        destination: shown[1 - n].source,
        destination_port: shown[1 - n].source_port,
        ..udp((hosts[n].1, 5000), server)
    };
    let first = deliver(&mut engine, &routes, 1, &build(&to_other(0), b""), NOW);
    assert_eq!(
        first,
        Fate::Dropped(Drop::NatNoMapping),
        "nothing was sent the other way yet"
    );
    let second = sent(&mut engine, 2, &to_other(1));
    assert_eq!((second.destination, second.source), (ip("10.0.0.5"), shown[1].source));
    let third = sent(&mut engine, 1, &to_other(0));
    assert_eq!((third.destination, third.source), (ip("10.0.0.7"), shown[0].source));
}

#[test]
fn nobody_leases_a_port_to_ask_for_one_that_leads_nowhere() {
    let mut engine = engine(100, policy(vec![masquerade(1, &["192.0.2.1"], (1024, 2047))], vec![]));
    let packet = build(&udp(("10.0.0.5", 4000), ("192.0.2.1", 1500)), b"");
    let fate = deliver(&mut engine, &routes(), 1, &packet, NOW);
    assert_eq!(fate, Fate::Dropped(Drop::NatNoMapping));
    assert_eq!(engine.stats().created, 0);
}

#[test]
fn a_mapping_and_its_port_last_until_the_nic_has_forgotten_the_last_connection() {
    let mut engine = engine(100, pools(Filtering::AddressAndPortDependent));
    let routes = routes();
    let remotes = [("198.51.100.9", 53), ("198.51.100.10", 53)];
    let shown = remotes.map(|to| sent(&mut engine, 1, &udp(("10.0.0.5", 4000), to)));
    assert_eq!(shown[0].source_port, shown[1].source_port);
    assert_eq!((engine.stats().mappings, engine.stats().ports[0].udp), (1, 1));
    let key = |n: usize| {
        let h = udp(("10.0.0.5", 4000), remotes[n]);
        nat::FlowKey::v4(
            net::VrfId(1),
            UDP,
            h.source,
            h.destination,
            h.source_port,
            h.destination_port,
        )
    };
    let id = engine.id_of(engine.lookup(&key(0)).expect("made"));
    assert!(engine.set_offload(id, OffloadState::Live));
    engine.expire(Millis(10_000_000), 100, &mut |_, _| {});
    assert_eq!((engine.stats().connections, engine.stats().ports[0].udp), (0, 1));
    // Meanwhile its owner goes on with it.
    let again = deliver(
        &mut engine,
        &routes,
        1,
        &build(&udp(("10.0.0.5", 4000), remotes[1]), b""),
        Millis(10_000_000),
    );
    assert_eq!(again.headers().source_port, shown[0].source_port);
    engine.expire(Millis(20_000_000), 100, &mut |_, _| {});
    engine.release(id);
    assert_eq!((engine.stats().mappings, engine.stats().ports[0].udp), (0, 0));
}

#[test]
fn filtering_by_mapping_alone_needs_a_mapping() {
    let mut rule = masquerade(1, &["192.0.2.1"], (1024, 2047));
    rule.options.filtering = Filtering::EndpointIndependent;
    let spec = PolicySpec {
        masquerade: vec![rule],
        ..PolicySpec::default()
    };
    let error = Policy::compile(spec).expect_err("refused").to_string();
    assert!(error.contains("endpoint-independent"), "{error}");
}

/// An error from the far side of a hairpin reaches the sender and quotes what it sent (RFC 5508 REQ-7).
#[test]
fn icmp_errors_come_back_through_the_hairpin() {
    let rules = vec![masquerade(1, &["192.0.2.1"], (1024, 2047))];
    let forwards = vec![forward(1, UDP, "192.0.2.1", 53, "10.0.0.9", 5353)];
    let mut engine = engine(100, policy(rules, forwards));
    let routes = routes();
    let asked = build(&udp(("10.0.0.5", 4000), ("192.0.2.1", 53)), b"query");
    let Fate::Sent(arrived, ..) = deliver(&mut engine, &routes, 1, &asked, NOW) else {
        panic!("not delivered");
    };
    let mapped = Headers {
        flags: 0,
        ..Fate::Sent(arrived.clone(), 1, false).headers()
    };
    let mut error = icmp_error(ip("10.0.0.9"), mapped.source, 3, &arrived, arrived.len());
    for vrf in [1, 0] {
        let verdict = engine.icmp_error(net::VrfId(vrf), &mut error, &routes, NOW);
        assert!(
            matches!(verdict, nat::IcmpVerdict::Translated(_)),
            "{verdict:?} in {vrf}"
        );
    }
    let expected = icmp_error(ip("192.0.2.1"), ip("10.0.0.5"), 3, &asked, asked.len());
    assert_eq!(error, expected);
}
