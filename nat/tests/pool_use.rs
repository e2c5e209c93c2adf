//! How full pools are, and that a full one recovers with the first port that comes back.

mod support;

use nat::{Masquerade, Millis, PoolKind, PoolOptions, PortBlocks, PortChoice};
use net::{Drop, VrfId};
use support::*;

const NOW: Millis = Millis(1000);

#[test]
fn ports_in_use_and_all_that_there_are_of_each_rule_and_worker() {
    let routes = routes();
    let rules = policy(
        vec![
            masquerade(1, &["192.0.2.1", "192.0.2.2"], (2000, 2009)),
            masquerade(2, &["192.0.2.3"], (3000, 3000)),
        ],
        vec![],
    );
    let mut engine = worker(100, 0, 2, rules);
    for port in 0..3 {
        send(
            &mut engine,
            &routes,
            1,
            &build(&udp(("10.0.0.5", port), ("198.51.100.9", 53)), b""),
            NOW,
        );
    }
    send(
        &mut engine,
        &routes,
        1,
        &build(&echo("10.0.0.5", "198.51.100.9", 7, 8), b""),
        NOW,
    );
    let pools: Vec<_> = engine
        .pools()
        .into_iter()
        .map(|pool| (pool.vrf, pool.position, pool.kind, pool.used, pool.capacity))
        .collect();
    // Worker 0 has the even ports.
    let expected = [
        (VrfId(1), 0, PoolKind::Tcp, 0, 10),
        (VrfId(1), 0, PoolKind::Udp, 3, 10),
        (VrfId(1), 0, PoolKind::Icmp, 1, 10),
        (VrfId(2), 0, PoolKind::Tcp, 0, 1),
        (VrfId(2), 0, PoolKind::Udp, 0, 1),
        (VrfId(2), 0, PoolKind::Icmp, 0, 1),
    ];
    assert_eq!(pools, expected);
}

#[test]
fn blocks_are_in_use_until_their_quarantine_is_over() {
    let routes = routes();
    let choice = PortChoice::Blocks(PortBlocks {
        size: 10,
        count: 1,
        quarantine: 60,
    });
    let rule = Masquerade {
        options: PoolOptions {
            choice,
            ..PoolOptions::default()
        },
        ..masquerade(1, &["192.0.2.1"], (2000, 2099))
    };
    let mut engine = engine(100, policy(vec![rule], vec![]));
    let blocks = |engine: &nat::Engine| {
        let pools = engine.pools();
        let blocks = pools
            .iter()
            .find(|pool| pool.kind == PoolKind::Blocks)
            .expect("a pool of blocks");
        (blocks.used, blocks.capacity)
    };
    assert_eq!(blocks(&engine), (0, 10));
    for host in ["10.0.0.5", "10.0.0.6"] {
        send(
            &mut engine,
            &routes,
            1,
            &build(&udp((host, 1), ("198.51.100.9", 53)), b""),
            NOW,
        );
    }
    assert_eq!(blocks(&engine), (2, 10));
    engine.expire(Millis(NOW.0 + 310_000), 10, &mut |_, _| {});
    assert_eq!((engine.stats().connections, blocks(&engine)), (0, (2, 10)));
    engine.expire(Millis(NOW.0 + 400_000), 10, &mut |_, _| {});
    assert_eq!(blocks(&engine), (0, 10));
}

#[test]
fn a_full_pool_recovers_at_once_when_ports_come_back() {
    let routes = routes();
    let mut engine = engine(100, policy(vec![masquerade(1, &["192.0.2.1"], (2000, 2009))], vec![]));
    let open = |engine: &mut nat::Engine, port, now| {
        send(
            engine,
            &routes,
            1,
            &build(&udp(("10.0.0.5", port), ("198.51.100.9", 53)), b""),
            now,
        )
    };
    for port in 0..10 {
        assert!(matches!(open(&mut engine, port, NOW), Fate::Sent(..)));
    }
    let later = Millis(NOW.0 + 100_000);
    for port in 1..10 {
        open(&mut engine, port, later);
    }
    assert_eq!(open(&mut engine, 10, later), Fate::Dropped(Drop::NatPortsExhausted));
    assert_eq!(engine.stats().ports_exhausted, 1);
    // The first connection ends alone; the next packet has its port.
    let end = Millis(NOW.0 + 301_000);
    engine.expire(end, 10, &mut |_, _| {});
    assert_eq!(engine.stats().connections, 9);
    assert!(matches!(open(&mut engine, 11, end), Fate::Sent(..)));
    assert_eq!(open(&mut engine, 12, end), Fate::Dropped(Drop::NatPortsExhausted));
}
