//! Two connections racing for one tuple: whoever comes second gets the connection of the first, or none, and never is
//! there a second owner.

mod support;

use nat::{Engine, Mapping, Masquerade, Millis, NewPacket, PoolOptions, Resolver, Verdict};
use net::{Drop, VrfId};
use support::*;

const NOW: Millis = Millis(1000);
const SERVER: (&str, u16) = ("198.51.100.9", 80);

/// A packet whose lookup found nothing: a burst looks all of its packets up before it makes a connection for the first.
fn missed(engine: &mut Engine, vrf: u16, h: &Headers) -> Verdict {
    let routes = routes();
    let packet = NewPacket {
        vrf: VrfId(vrf),
        protocol: h.protocol,
        source: h.source.into(),
        destination: h.destination.into(),
        source_port: h.source_port,
        destination_port: h.destination_port,
        tcp_flags: h.flags,
        flow_hash: h.source ^ h.destination,
        ..NewPacket::default()
    };
    let way = routes.resolve(packet.vrf, h.destination, packet.flow_hash);
    engine.miss(&packet, way.expect("a route"), &routes, NOW)
}

#[test]
fn two_packets_of_one_flow_in_a_burst_make_one_connection() {
    let rules = policy(
        vec![masquerade(1, &["192.0.2.1"], (1024, 65535))],
        vec![forward(2, TCP, "192.0.2.7", 80, "10.0.0.9", 8080)],
    );
    let mut engine = engine(100, rules);
    let outward = tcp(("10.0.0.5", 3000), SERVER, SYN);
    let inward = tcp(("203.0.113.8", 4000), ("192.0.2.7", 80), SYN);
    for (vrf, h) in [(1, outward), (0, inward)] {
        let (first, second) = (missed(&mut engine, vrf, &h), missed(&mut engine, vrf, &h));
        assert!(matches!(first, Verdict::Connection(_)));
        assert_eq!(first, second);
    }
    let stats = engine.stats();
    assert_eq!((stats.connections, stats.created), (2, 2));
    assert_eq!(stats.ports.iter().map(|ports| ports.tcp).sum::<u32>(), 1);
}

#[test]
fn both_ends_open_at_once_and_share_one_connection() {
    let rule = Masquerade {
        options: PoolOptions {
            mapping: Mapping::EndpointIndependent,
            filtering: nat::Filtering::EndpointIndependent,
            ..PoolOptions::default()
        },
        ..masquerade(1, &["192.0.2.1"], (1024, 65535))
    };
    let mut engine = engine(100, policy(vec![rule], vec![]));
    // A mapping for the host's port, so that the server may open as well.
    let probe = tcp(("10.0.0.5", 3000), ("198.51.100.77", 80), SYN);
    let public = send(&mut engine, &routes(), 1, &build(&probe, b""), NOW).headers();
    let outward = tcp(("10.0.0.5", 3000), SERVER, SYN);
    let inward = tcp(SERVER, ("192.0.2.1", public.source_port), SYN);
    // Both missed; the server's comes first.
    let Verdict::Connection(first) = missed(&mut engine, 0, &inward) else {
        panic!("let in");
    };
    let Verdict::Connection(second) = missed(&mut engine, 1, &outward) else {
        panic!("let out");
    };
    assert_eq!(engine.id_of(first), engine.id_of(second), "its two directions");
    assert_eq!(engine.stats().connections, 2);
}

#[test]
fn two_hosts_that_want_the_last_port_to_one_server_do_not_share_it() {
    for mapping in [Mapping::PerConnection, Mapping::Overloading] {
        let rule = Masquerade {
            options: PoolOptions {
                mapping,
                ..PoolOptions::default()
            },
            ..masquerade(1, &["192.0.2.1"], (5000, 5000))
        };
        let mut engine = engine(100, policy(vec![rule], vec![]));
        let ask = |host, to| tcp((host, 5000), to, SYN);
        assert!(matches!(
            missed(&mut engine, 1, &ask("10.0.0.5", SERVER)),
            Verdict::Connection(_)
        ));
        let refused = Verdict::Drop(Drop::NatPortsExhausted);
        assert_eq!(missed(&mut engine, 1, &ask("10.0.0.6", SERVER)), refused);
        // To another server the reply's tuple is another one; whether the port may be shared is the pool's choice.
        let elsewhere = missed(&mut engine, 1, &ask("10.0.0.6", ("198.51.100.77", 80)));
        assert_eq!(elsewhere != refused, mapping == Mapping::Overloading);
    }
}

/// The port of a masquerade is made a port forward: its server's next SYN is not the forward's while the old connection
/// has the tuple.
#[test]
fn a_port_forward_waits_for_the_tuple_of_an_older_connection() {
    let rules = vec![masquerade(1, &["192.0.2.1"], (5000, 5001))];
    let mut engine = engine(100, policy(rules.clone(), vec![]));
    let h = tcp(("10.0.0.5", 5000), SERVER, SYN);
    let out = send(&mut engine, &routes(), 1, &build(&h, b""), NOW).headers();
    let web = forward(2, TCP, "192.0.2.1", out.source_port, "10.0.0.9", 80);
    engine.set_policy(policy(rules, vec![web]));
    let back = answer(&out, SYN);
    let inside = send(&mut engine, &routes(), 0, &build(&back, b""), NOW);
    assert_eq!(
        inside.headers().destination,
        ip("10.0.0.5"),
        "until the policy's generation comes"
    );
    let mut next = routes();
    next.generation += 1;
    let delta = nat::Delta {
        policy: true,
        ..nat::Delta::default()
    };
    engine.on_generation(net::Generation(next.generation), &delta);
    while engine.is_revalidating() {
        engine.revalidate(64, &next, &mut |_, _| {});
    }
    assert_eq!(engine.stats().ended.policy, 1);
    let inside = send(&mut engine, &next, 0, &build(&back, b""), NOW);
    assert_eq!(inside.headers().destination, ip("10.0.0.9"));
    assert_eq!(engine.stats().connections, 1);
}
