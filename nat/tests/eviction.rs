//! A full table: what it gives up, what it never does, and that a flood makes it neither larger nor deaf.

mod support;

use nat::{ConnectionState, ConnectionView, Engine, Millis};
use net::Drop;
use support::*;

/// A forward to a host: its connections need no public port, so that the table is the only bound.
fn server(capacity: u32) -> (Engine, Routes) {
    let forwards = vec![forward(1, TCP, "192.0.2.1", 80, "10.0.0.9", 8080)];
    (engine(capacity, policy(vec![], forwards)), routes())
}

fn request(client: u32, port: u16, flags: u8) -> Headers {
    Headers {
        source: client,
        ..tcp(("0.0.0.0", port), ("192.0.2.1", 80), flags)
    }
}

fn open(engine: &mut Engine, routes: &Routes, client: u32, now: Millis) -> Fate {
    send(engine, routes, 0, &build(&request(client, 1000, SYN), b""), now)
}

/// The server's answer to a client's packets, and with `established` what completes the handshake.
fn answer_to(engine: &mut Engine, routes: &Routes, client: u32, established: bool, now: Millis) {
    let inner = Headers {
        source: client,
        ..tcp(("0.0.0.0", 1000), ("10.0.0.9", 8080), SYN)
    };
    let reply = build(&answer(&inner, SYN | ACK), b"");
    assert!(matches!(send(engine, routes, 1, &reply, now), Fate::Sent(..)));
    if established {
        let last = build(&request(client, 1000, ACK), b"");
        assert!(matches!(send(engine, routes, 0, &last, now), Fate::Sent(..)));
    }
}

fn clients(engine: &Engine) -> Vec<(u32, ConnectionState)> {
    let mut views: Vec<ConnectionView> = vec![];
    assert_eq!(engine.snapshot(0, usize::MAX, &mut views), None);
    let mut all: Vec<_> = views.iter().map(|v| (bits(v.original.source), v.state)).collect();
    all.sort_unstable_by_key(|(client, _)| *client);
    all
}

#[test]
fn the_unanswered_go_first_then_the_transitory_the_oldest_of_each_and_the_established_never() {
    use ConnectionState::{Established, Replied, Unreplied};
    let (mut engine, routes) = server(6);
    for client in 1..=6 {
        let now = Millis(u64::from(client) * 1000);
        assert!(matches!(open(&mut engine, &routes, client, now), Fate::Sent(..)));
        match client {
            1 | 2 => answer_to(&mut engine, &routes, client, true, now),
            3 | 4 => answer_to(&mut engine, &routes, client, false, now),
            _ => {}
        }
    }
    let mut expect = |client: u32, left: &[(u32, ConnectionState)]| {
        let now = Millis(u64::from(client) * 1000);
        assert!(matches!(open(&mut engine, &routes, client, now), Fate::Sent(..)));
        answer_to(&mut engine, &routes, client, true, now);
        assert_eq!(clients(&engine), left);
        assert_eq!(engine.stats().connections, 6, "and not one more");
    };
    let (yes, half, no) = (Established, Replied, Unreplied);
    expect(7, &[(1, yes), (2, yes), (3, half), (4, half), (6, no), (7, yes)]);
    expect(8, &[(1, yes), (2, yes), (3, half), (4, half), (7, yes), (8, yes)]);
    expect(9, &[(1, yes), (2, yes), (4, half), (7, yes), (8, yes), (9, yes)]);
    expect(10, &[(1, yes), (2, yes), (7, yes), (8, yes), (9, yes), (10, yes)]);
    let fate = open(&mut engine, &routes, 11, Millis(11_000));
    assert_eq!(fate, Fate::Dropped(Drop::NatTableFull), "all are established");
    assert_eq!((engine.stats().ended.evicted, engine.stats().table_full), (4, 1));
}

/// A sender that nobody answers, but that goes on sending, outlives those that stopped.
#[test]
fn the_oldest_is_the_longest_silent_one() {
    let (mut engine, routes) = server(3);
    for client in 1..=3 {
        open(&mut engine, &routes, client, Millis(1000 * u64::from(client)));
    }
    open(&mut engine, &routes, 1, Millis(5000));
    open(&mut engine, &routes, 4, Millis(6000));
    let left: Vec<_> = clients(&engine).iter().map(|(client, _)| *client).collect();
    assert_eq!(left, [1, 3, 4]);
}

/// SYNs of a million random sources (a tenth of that without optimisation) through a table of 8,192.
#[test]
fn a_flood_of_syns_costs_bounded_memory_and_no_established_connection() {
    const CAPACITY: u32 = 8192;
    const ESTABLISHED: u32 = 2000;
    let flood = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let (mut engine, routes) = server(CAPACITY);
    let client = |n: u32| 0x5000_0000 + n;
    for n in 0..ESTABLISHED {
        open(&mut engine, &routes, client(n), Millis(1));
        answer_to(&mut engine, &routes, client(n), true, Millis(1));
    }
    let mut random = 7_u64;
    for n in 0..flood {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Addresses of 32 bits, ports of 16; never those of the clients above.
        let source = 0x6000_0000 | (random >> 33) as u32;
        let syn = request(source, (random >> 17) as u16, SYN);
        let now = Millis(1 + n / 1000);
        let fate = send(&mut engine, &routes, 0, &build(&syn, b""), now);
        assert!(matches!(fate, Fate::Sent(..)), "{fate:?}");
        // In the midst of it somebody who is answered gets through.
        if n % 10_000 == 0 {
            let honest = client(ESTABLISHED + (n / 10_000) as u32);
            open(&mut engine, &routes, honest, now);
            answer_to(&mut engine, &routes, honest, true, now);
        }
    }
    let stats = engine.stats();
    assert_eq!(stats.connections, CAPACITY);
    assert_eq!(stats.table_full, 0);
    let expected = ESTABLISHED + flood.div_ceil(10_000) as u32;
    assert_eq!(stats.tcp.established, u64::from(expected));
    for n in 0..expected {
        let data = build(&request(client(n), 1000, ACK), b"data");
        assert!(matches!(
            send(&mut engine, &routes, 0, &data, Millis(2000)),
            Fate::Sent(..)
        ));
    }
    assert_eq!(stats.ended.total(), stats.ended.evicted);
    assert_eq!(stats.created - stats.ended.evicted, u64::from(CAPACITY));
}
