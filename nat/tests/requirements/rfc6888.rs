//! RFC 6888: carrier-grade NAT.

use nat::{OffloadState, PoolOptions, PortBlocks, PortChoice};
use net::{Drop, VrfId};

use super::*;

fn blocks(size: u16, count: u16, quarantine: u32) -> PoolOptions {
    PoolOptions {
        strict_pairing: true,
        choice: PortChoice::Blocks(PortBlocks {
            size,
            count,
            quarantine,
        }),
        ..PoolOptions::default()
    }
}

#[test]
fn rfc6888_req_2_paired_pooling() {
    let mut engine = engine(1000, pool(&["192.0.2.1", "192.0.2.2"], (1024, 2047), blocks(16, 4, 0)));
    for host in ["10.0.0.5", "10.0.0.6", "10.0.0.7"] {
        let addresses: Vec<_> = (0..64)
            .map(|n| shown(&mut engine, &udp((host, 5000 + n), (SERVER, 53))).source)
            .collect();
        assert!(addresses.iter().all(|address| *address == addresses[0]));
    }
}

#[test]
fn rfc6888_req_3_pools_of_any_size_and_shape() {
    let addresses: Vec<String> = (0..200).map(|n| format!("192.0.2.{}", n + n / 7)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut engine = engine(1000, pool(&addresses, (1024, 65535), PoolOptions::default()));
    for host in 1..100 {
        let h = udp((&format!("10.0.0.{host}"), 5000), (SERVER, 53));
        assert!(
            addresses
                .iter()
                .any(|address| ip(address) == shown(&mut engine, &h).source)
        );
    }
}

#[test]
fn rfc6888_req_4_ports_of_a_subscriber_are_limited() {
    let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 2047), blocks(8, 2, 0)));
    for n in 0..16 {
        shown(&mut engine, &udp(("10.0.0.5", 5000 + n), (SERVER, 53)));
    }
    let more = out(&mut engine, &udp(("10.0.0.5", 1), (SERVER, 53)), NOW);
    assert_eq!(more, Fate::Dropped(Drop::NatPortsExhausted));
    shown(&mut engine, &udp(("10.0.0.6", 1), (SERVER, 53)));
}

#[test]
fn rfc6888_req_5_state_of_a_subscriber_is_limited() {
    let subscriber = nat::Limit {
        sessions: Some(10),
        new_sessions: Some(6),
    };
    let spec = nat::PolicySpec {
        masquerade: vec![masquerade(1, &["192.0.2.1"], (1024, 65535))],
        limits: vec![nat::Limits {
            vpc: vpc(1),
            tenant: nat::Limit::default(),
            subscriber,
        }],
        ..nat::PolicySpec::default()
    };
    let mut engine = engine(1000, Arc::new(Policy::compile(spec).expect("valid")));
    let mut made = |second: u64| {
        let flows = (0..8).map(|n| udp(("10.0.0.5", 5000 + second as u16 * 100 + n), (SERVER, 53)));
        flows
            .filter(|h| matches!(out(&mut engine, h, seconds(second)), Fate::Sent(..)))
            .count()
    };
    assert_eq!([made(0), made(1), made(2)], [6, 4, 0]);
    assert_eq!(engine.stats().subscriber_limited, 2 + 4 + 8);
}

#[test]
fn rfc6888_req_6_destinations_behind_other_routes_are_not_translated() {
    let mut engine = nat(PoolOptions::default());
    let mut routes = routes();
    routes.add(1, "198.51.100.9/32", To::Hop(7));
    let packet = build(&udp(("10.0.0.5", 5000), (SERVER, 53)), b"");
    assert_eq!(send(&mut engine, &routes, 1, &packet, NOW), Fate::Forwarded);
}

#[test]
fn rfc6888_req_7_endpoint_independent_filtering_can_be_had() {
    let mut engine = nat(open());
    let sent = shown(&mut engine, &udp(("10.0.0.5", 5000), (SERVER, 53)));
    let stranger = udp((OTHER, 99), ("192.0.2.1", sent.source_port));
    assert_eq!(back(&mut engine, &stranger, NOW).headers().destination, ip("10.0.0.5"));
}

#[test]
fn rfc6888_req_8_ports_rest_before_another_subscriber_has_them() {
    let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 1031), blocks(8, 1, 120)));
    let h = udp(("10.0.0.5", 5000), (SERVER, 53));
    shown(&mut engine, &h);
    engine.expire(seconds(302), 100, &mut |_, _| {});
    let other = udp(("10.0.0.6", 5000), (SERVER, 53));
    assert_eq!(
        out(&mut engine, &other, seconds(420)),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    assert!(matches!(out(&mut engine, &other, seconds(424)), Fate::Sent(..)));
}

#[test]
fn rfc6888_req_11_without_a_port_the_packet_goes_and_every_mapping_stays() {
    let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 1033), open()));
    let known: Vec<_> = (0..10).map(|n| udp(("10.0.0.5", 5000 + n), (SERVER, 53))).collect();
    let shown: Vec<_> = known.iter().map(|h| shown(&mut engine, h)).collect();
    for n in 0..100 {
        let more = out(&mut engine, &udp(("10.0.0.6", 5000 + n), (SERVER, 53)), NOW);
        assert_eq!(more, Fate::Dropped(Drop::NatPortsExhausted));
    }
    assert_eq!(engine.stats().ports_exhausted, 100);
    for (h, before) in known.iter().zip(shown) {
        assert_eq!(out(&mut engine, h, NOW).headers(), before);
    }
}

#[test]
fn rfc6888_req_12_and_14_a_line_a_block_without_destinations() {
    let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 2047), blocks(64, 4, 0)));
    for n in 0..64 {
        shown(
            &mut engine,
            &udp(("10.0.0.5", 5000 + n), ([SERVER, OTHER][n as usize % 2], 53)),
        );
    }
    let event = engine.next_block_event().expect("one");
    assert_eq!(
        (event.assigned, event.subscriber.to_string().as_str()),
        (true, "10.0.0.5")
    );
    assert_eq!((event.ports.1 - event.ports.0, event.step), (63, 1));
    assert_eq!(engine.next_block_event(), None);
}

#[test]
fn rfc6888_req_13_every_port_of_the_pool_can_be_used() {
    let mut engine = engine(5000, pool(&["192.0.2.1"], (1024, 4095), PoolOptions::default()));
    for n in 0..3072u16 {
        shown(&mut engine, &udp(("10.0.0.5", n), (SERVER, 53)));
    }
    assert_eq!(engine.stats().ports[0].udp, 3072);
}

#[test]
fn rfc6888_req_15_ports_do_not_follow_each_other() {
    let mut engine = engine(5000, pool(&["192.0.2.1"], (1024, 65535), PoolOptions::default()));
    // The own port of none of these is in the range.
    let ports: Vec<_> = (0..1000u16)
        .map(|n| shown(&mut engine, &udp(("10.0.0.5", n), (SERVER, 53))).source_port)
        .collect();
    let near = ports.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 64).count();
    assert!(near < 20, "{near} of 999 ports are near the one before");
}

#[test]
fn an_ended_connection_keeps_its_port_while_the_nic_may_know_it() {
    let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 1024), PoolOptions::default()));
    let h = udp(("10.0.0.5", 5000), (SERVER, 53));
    shown(&mut engine, &h);
    let key = nat::FlowKey::v4(VrfId(1), UDP, h.source, h.destination, 5000, 53);
    let id = engine.id_of(engine.lookup(&key).expect("made"));
    assert!(engine.set_offload(id, OffloadState::Live));
    engine.expire(seconds(400), 100, &mut |_, _| {});
    let other = udp(("10.0.0.6", 5000), (SERVER, 53));
    assert_eq!(
        out(&mut engine, &other, seconds(400)),
        Fate::Dropped(Drop::NatPortsExhausted)
    );
    engine.release(id);
    assert!(matches!(out(&mut engine, &other, seconds(400)), Fate::Sent(..)));
}
