//! Limits of tenants and subscribers: connections at once, and new ones a second.

mod support;

use std::sync::Arc;

use nat::{Engine, Limit, Limits, Millis, Policy, PolicySpec};
use net::Drop;
use support::*;

const SERVER: (&str, u16) = ("198.51.100.9", 53);

fn limited(tenant: Limit, subscriber: Limit) -> Arc<Policy> {
    let spec = PolicySpec {
        masquerade: vec![
            masquerade(1, &["192.0.2.1"], (1024, 65535)),
            masquerade(2, &["192.0.2.2"], (1024, 65535)),
        ],
        port_forwards: vec![forward(1, UDP, "192.0.2.1", 53, "10.0.0.9", 53)],
        limits: vec![Limits {
            vpc: vpc(1),
            tenant,
            subscriber,
        }],
        ..PolicySpec::default()
    };
    Arc::new(Policy::compile(spec).expect("valid"))
}

fn sessions(most: u32) -> Limit {
    Limit {
        sessions: Some(most),
        new_sessions: None,
    }
}

fn rate(most: u32) -> Limit {
    Limit {
        sessions: None,
        new_sessions: Some(most),
    }
}

/// How many of `count` new connections of a host were made.
fn made(engine: &mut Engine, vrf: u16, host: u8, first_port: u16, count: u16, now: Millis) -> (u16, Option<Drop>) {
    let (mut made, mut refused) = (0, None);
    for port in first_port..first_port + count {
        let h = udp((&format!("10.0.0.{host}"), port), SERVER);
        match send(engine, &routes(), vrf, &build(&h, b""), now) {
            Fate::Sent(..) => made += 1,
            Fate::Dropped(reason) => refused = Some(reason),
            other => panic!("{other:?}"),
        }
    }
    (made, refused)
}

#[test]
fn a_subscriber_has_so_many_connections_and_others_have_theirs() {
    let mut engine = engine(1000, limited(Limit::default(), sessions(10)));
    let now = Millis(1);
    assert_eq!(
        made(&mut engine, 1, 5, 1, 15, now),
        (10, Some(Drop::NatSubscriberLimit))
    );
    assert_eq!(made(&mut engine, 1, 6, 1, 10, now), (10, None));
    assert_eq!(made(&mut engine, 2, 5, 1, 15, now), (15, None), "another VPC");
    assert_eq!(engine.stats().subscriber_limited, 5);
    // What is known goes on, and what ends makes room.
    assert_eq!(made(&mut engine, 1, 5, 1, 10, now), (10, None));
    let later = Millis(301_000);
    engine.expire(later, 1000, &mut |_, _| {});
    assert_eq!(
        made(&mut engine, 1, 5, 101, 15, later),
        (10, Some(Drop::NatSubscriberLimit))
    );
}

#[test]
fn a_tenant_has_so_many_connections_from_inside_and_outside() {
    let mut engine = engine(1000, limited(sessions(20), sessions(15)));
    let now = Millis(1);
    assert_eq!(made(&mut engine, 1, 5, 1, 12, now), (12, None));
    for port in 1..=8 {
        let h = udp(("203.0.113.5", port), ("192.0.2.1", 53));
        assert!(matches!(
            send(&mut engine, &routes(), 0, &build(&h, b""), now),
            Fate::Sent(..)
        ));
    }
    assert_eq!(made(&mut engine, 1, 6, 1, 3, now), (0, Some(Drop::NatTenantLimit)));
    let h = udp(("203.0.113.5", 9), ("192.0.2.1", 53));
    let fate = send(&mut engine, &routes(), 0, &build(&h, b""), now);
    assert_eq!(fate, Fate::Dropped(Drop::NatTenantLimit));
    assert_eq!(engine.stats().tenant_limited, 4);
}

#[test]
fn new_connections_come_at_the_rate_that_is_allowed() {
    for subscriber in [true, false] {
        let (tenant, own, reason) = if subscriber {
            (Limit::default(), rate(10), Drop::NatSubscriberLimit)
        } else {
            (rate(10), Limit::default(), Drop::NatTenantLimit)
        };
        let mut engine = engine(10_000, limited(tenant, own));
        let at = |tenths: u64| Millis(1 + tenths * 100);
        assert_eq!(
            made(&mut engine, 1, 5, 1, 30, at(0)),
            (10, Some(reason)),
            "a second's worth at once"
        );
        assert_eq!(made(&mut engine, 1, 5, 101, 30, at(3)), (3, Some(reason)));
        assert_eq!(
            made(&mut engine, 1, 5, 201, 30, at(600)),
            (10, Some(reason)),
            "no more for having waited"
        );
    }
}

#[test]
fn workers_share_the_limit_of_a_tenant_and_one_has_a_subscriber() {
    let policy = limited(sessions(9), Limit::default());
    let mut engine = worker(1000, 1, 3, policy);
    assert_eq!(
        made(&mut engine, 1, 5, 1, 9, Millis(1)),
        (3, Some(Drop::NatTenantLimit))
    );

    let policy = limited(Limit::default(), sessions(9));
    let mut engines: Vec<_> = (0..3).map(|n| worker(1000, n, 3, Arc::clone(&policy))).collect();
    let mut owners = std::collections::BTreeSet::new();
    for port in 1..20 {
        let h = build(&udp(("10.0.0.5", port), SERVER), b"");
        if let Fate::HandedOver(owner) = send(&mut engines[usize::from(port) % 3], &routes(), 1, &h, Millis(1)) {
            owners.insert(owner);
        }
    }
    assert_eq!(owners.len(), 1);
}

#[test]
fn limits_of_nothing_are_refused() {
    let refuse = |limits: Vec<Limits>| {
        let spec = PolicySpec {
            limits,
            ..PolicySpec::default()
        };
        Policy::compile(spec).expect_err("refused").to_string()
    };
    let limits = |most| Limits {
        vpc: vpc(1),
        tenant: sessions(most),
        subscriber: Limit::default(),
    };
    assert!(refuse(vec![limits(0)]).contains("VPC 1"));
    assert!(refuse(vec![limits(5), limits(6)]).contains("twice"));
}

/// A full table gives up a connection at once. Whoever had it has not got a new second's worth by that.
#[test]
fn what_is_evicted_does_not_count_and_buys_no_new_connections() {
    let mut engine = engine(5, limited(Limit::default(), rate(10)));
    let now = Millis(1);
    assert_eq!(
        made(&mut engine, 1, 5, 1, 30, now),
        (10, Some(Drop::NatSubscriberLimit))
    );
    // A neighbour's take the places of all of them.
    assert_eq!(made(&mut engine, 1, 6, 1, 10, now), (10, None));
    assert_eq!(engine.stats().ended.evicted, 15);
    assert_eq!(
        made(&mut engine, 1, 5, 101, 5, now),
        (0, Some(Drop::NatSubscriberLimit))
    );
    assert_eq!(made(&mut engine, 1, 5, 201, 30, Millis(1_001)).0, 10);

    let mut engine = support::engine(5, limited(sessions(5), sessions(5)));
    assert_eq!(made(&mut engine, 1, 5, 1, 9, now), (5, Some(Drop::NatTenantLimit)));
    assert_eq!(made(&mut engine, 2, 5, 1, 5, now), (5, None), "in their places");
    assert_eq!(made(&mut engine, 1, 5, 101, 9, now), (5, Some(Drop::NatTenantLimit)));
}

/// Connections that outlived a restart count, and are no new ones.
#[test]
fn restored_connections_count_as_those_that_they_are() {
    let limits = || {
        limited(
            Limit {
                sessions: Some(12),
                new_sessions: Some(10),
            },
            Limit::default(),
        )
    };
    let now = Millis(1);
    let mut before = engine(100, limits());
    assert_eq!(made(&mut before, 1, 5, 1, 8, now), (8, None));
    let mut saved = vec![];
    assert_eq!(before.save(0, 100, &mut saved), None);
    let mut after = engine(100, limits());
    for connection in &saved {
        assert_eq!(after.restore(connection, 1), Ok(()));
    }
    assert_eq!(made(&mut after, 1, 5, 101, 9, now), (4, Some(Drop::NatTenantLimit)));
}
