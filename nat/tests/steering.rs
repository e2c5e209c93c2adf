//! Every reply to a masqueraded packet arrives at the worker that owns its connection, as the NIC would put it there.

mod support;

use nat::{Engine, Masquerade, Millis, PoolOptions, PortBlocks, PortChoice, Steering};
use net::Drop;
use support::*;

const NOW: Millis = Millis(1000);

fn steering(workers: u16) -> Steering {
    let key: Vec<u8> = (0..40_u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 17) as u8).collect();
    // 128 entries, not an even share for three workers, as NICs have it.
    Steering::new(&key, (0..128).map(|i| i % workers).collect()).expect("valid")
}

/// The queue that the NIC puts a packet into.
fn arrives(steering: &Steering, workers: u16, h: &Headers) -> u16 {
    let hash = steering.hash(h.source, h.destination, h.source_port, h.destination_port);
    (hash % 128) as u16 % workers
}

fn workers(count: u16, ports: (u16, u16)) -> Vec<Engine> {
    let policy = policy(vec![masquerade(1, &["192.0.2.1", "192.0.2.2"], ports)], vec![]);
    let engine = |n| {
        let mut engine = worker(20_000, n, count, policy.clone());
        engine.steer(Some(steering(count)));
        engine
    };
    (0..count).map(engine).collect()
}

#[test]
fn all_replies_arrive_at_their_owner() {
    let routes = routes();
    for count in [2, 3, 8] {
        let (steering, mut engines) = (steering(count), workers(count, (1024, 65535)));
        for n in 0..4000_u16 {
            let owner = n % count;
            let inside = (["10.0.0.5", "10.0.0.6"][usize::from(n / 7 % 2)], 20_000 + n);
            let remote = (["198.51.100.1", "203.0.113.9"][usize::from(n / 3 % 2)], 53 + n % 5);
            let request = match n % 2 {
                0 => udp(inside, remote),
                _ => tcp(inside, remote, SYN),
            };
            let engine = &mut engines[usize::from(owner)];
            let out = send(engine, &routes, 1, &build(&request, b""), NOW).headers();
            let reply = answer(&out, SYN | ACK);
            assert_eq!(arrives(&steering, count, &reply), owner, "{reply:?}");
            let back = send(engine, &routes, 0, &build(&reply, b""), NOW);
            assert!(matches!(back, Fate::Sent(..)), "{back:?}");
        }
        assert!(engines.iter().all(|engine| engine.stats().handed_over == 0));
    }
}

/// Where a pool has no such port left, a reply is handed over, and no port is lost by looking for one.
#[test]
fn the_last_ports_of_a_pool_are_given_out_whatever_their_replies() {
    let routes = routes();
    let mut engines = workers(2, (1000, 1099));
    for n in 0..100 {
        let request = udp(("10.0.0.5", 20_000 + n), ("198.51.100.1", 53));
        let fate = send(&mut engines[0], &routes, 1, &build(&request, b""), NOW);
        assert!(matches!(fate, Fate::Sent(..)), "{n}: {fate:?}");
    }
    let one_more = build(&udp(("10.0.0.5", 9), ("198.51.100.1", 53)), b"");
    let fate = send(&mut engines[0], &routes, 1, &one_more, NOW);
    assert_eq!(fate, Fate::Dropped(Drop::NatPortsExhausted));
    let used: u32 = engines[0].stats().ports.iter().map(|p| p.udp).sum();
    assert_eq!(used, 100, "half of each address's 100");
    engines[0].expire(Millis(1_000_000), usize::MAX, &mut |_, _| {});
    assert!(engines[0].stats().ports.iter().all(|p| p.udp == 0));
}

/// What looks for a fitting port gives up nothing else that the pool has chosen.
#[test]
fn blocks_parity_and_pairing_are_kept() {
    let routes = routes();
    let options = |options| Masquerade {
        options,
        ..masquerade(1, &["192.0.2.1", "192.0.2.2"], (1000, 1127))
    };
    let parity = options(PoolOptions {
        parity: true,
        ..PoolOptions::default()
    });
    let blocks = options(PoolOptions {
        choice: PortChoice::Blocks(PortBlocks {
            size: 16,
            count: 2,
            quarantine: 60,
        }),
        ..PoolOptions::default()
    });
    for (rule, ports) in [(options(PoolOptions::default()), 42), (parity, 21), (blocks, 16)] {
        let policy = policy(vec![rule.clone()], vec![]);
        let mut engines: Vec<_> = (0..3).map(|n| worker(1000, n, 3, policy.clone())).collect();
        engines.iter_mut().for_each(|engine| engine.steer(Some(steering(3))));
        let port = |n: u16| 20_000 + 2 * n;
        let mut packets = (0..ports).map(|n| build(&udp(("10.0.0.5", port(n)), ("198.51.100.1", 53)), b""));
        let first = packets.next().expect("at least one");
        let owner = match send(&mut engines[0], &routes, 1, &first, NOW) {
            Fate::HandedOver(owner) => usize::from(owner),
            _ => 0,
        };
        let engine = &mut engines[owner];
        let sent = std::iter::once(first)
            .chain(packets)
            .map(|packet| send(engine, &routes, 1, &packet, NOW).headers());
        let sent: Vec<_> = sent.collect();
        assert!(sent.iter().all(|h| h.source == sent[0].source), "one address: {rule:?}");
        let even = sent.iter().filter(|h| h.source_port % 2 == 0).count();
        assert!(!rule.options.parity || even == sent.len(), "{even} of {}", sent.len());
        let assigned = std::iter::from_fn(|| engine.next_block_event()).filter(|event| event.assigned);
        let expected = usize::from(matches!(rule.options.choice, PortChoice::Blocks(_)));
        assert_eq!((assigned.count(), engine.stats().blocks as usize), (expected, expected));
        engine.expire(Millis(1_000_000), usize::MAX, &mut |_, _| {});
        assert_eq!((engine.stats().blocks, engine.stats().connections), (0, 0));
        assert!(engine.stats().ports.iter().all(|p| p.udp == 0));
    }
}
