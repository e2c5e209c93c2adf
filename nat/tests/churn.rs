//! Connections come and go in great numbers while clocks jump, routes change and policies are edited; then all time passes,
//! and nothing may be left: no connection, no port, no slot. Ten million with optimisation, a hundredth of that without.

mod support;

use nat::{Delta, Engine, Millis, PolicySpec};
use net::Generation;
use support::*;

const CAPACITY: u32 = 4096;

/// Deterministic choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(n)) >> 32) as u32
    }
}

fn edited(n: u32) -> std::sync::Arc<nat::Policy> {
    let last = 20_000 + n as u16 * 1000;
    let masquerades = vec![
        masquerade(1, &["192.0.2.1", "192.0.2.2"], (1024, last)),
        masquerade(2, &["192.0.2.1"], (1024, last)),
    ];
    let spec = PolicySpec {
        masquerade: masquerades,
        port_forwards: vec![forward(1, TCP, "192.0.2.7", 80, "10.0.0.9", 8080)],
        ..PolicySpec::default()
    };
    std::sync::Arc::new(nat::Policy::compile(spec).expect("valid"))
}

/// One packet of somebody new, and perhaps what follows it. The headers are all that the engine reads of it.
fn visit(engine: &mut Engine, routes: &Routes, dice: &mut Dice, now: Millis) {
    let inside = ("10.0.0.5", dice.below(60_000) as u16);
    let outside = ("198.51.100.1", 1 + dice.below(500) as u16);
    let vrf = 1 + dice.below(2) as u16;
    let (vrf, request) = match dice.below(8) {
        0 => (0, tcp(("203.0.113.8", inside.1), ("192.0.2.7", 80), SYN)),
        1 => (vrf, echo(inside.0, outside.0, inside.1, 8)),
        2..5 => (vrf, udp(inside, outside)),
        _ => (vrf, tcp(inside, outside, SYN)),
    };
    let Fate::Sent(packet, ..) = send(engine, routes, vrf, &build(&request, b""), now) else {
        return;
    };
    let left = Fate::Sent(packet, 0, false).headers();
    let back_vrf = if vrf == 0 { 1 } else { 0 };
    let replies: &[u8] = match (request.protocol, dice.below(4)) {
        (TCP, 0) => &[SYN | ACK, FIN | ACK],
        (TCP, 1) => &[RST],
        (TCP, _) => &[SYN | ACK],
        (UDP, 0 | 1) => &[0],
        _ => &[],
    };
    for flags in replies {
        send(engine, routes, back_vrf, &build(&answer(&left, *flags), b""), now);
        if request.protocol == TCP && dice.below(2) == 0 {
            let next = Headers { flags: ACK, ..request };
            send(engine, routes, vrf, &build(&next, b""), now);
        }
    }
}

#[test]
fn nothing_is_left_of_churn_over_jumping_clocks() {
    let wanted = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 };
    let (mut engine, mut routes, mut dice) = (engine(CAPACITY, edited(0)), routes(), Dice(3));
    let mut now = Millis(1);
    let mut step = 0_u32;
    while engine.stats().created < wanted {
        for _ in 0..512 {
            visit(&mut engine, &routes, &mut dice, now);
            step = step.wrapping_add(1);
            now.0 += u64::from(dice.below(20));
            if step.is_multiple_of(64) {
                engine.expire(now, 256, &mut |_, _| {});
                engine.revalidate(256, &routes, &mut |_, _| {});
            }
        }
        match dice.below(6) {
            // The clock is set back: no time passes until it is where it was.
            0 => {
                let back = Millis(now.0.saturating_sub(u64::from(dice.below(1_000_000))));
                for _ in 0..50 {
                    visit(&mut engine, &routes, &mut dice, back);
                }
                engine.expire(back, 100, &mut |_, _| {});
            }
            // It jumps ahead, sometimes by more than the timer wheel holds.
            1 => now.0 += u64::from(dice.below(40_000_000)),
            2 => {
                engine.set_policy(edited(dice.below(4)));
                routes.generation += 1;
                let delta = Delta {
                    policy: true,
                    ..Delta::default()
                };
                engine.on_generation(Generation(routes.generation), &delta);
            }
            3 => {
                routes.generation += 1;
                match dice.below(2) {
                    0 => routes.remove(0, "0.0.0.0/0"),
                    _ => routes.add(0, "0.0.0.0/0", To::Hop(100 + dice.below(3))),
                }
                engine.on_generation(Generation(routes.generation), &Delta::everything());
            }
            _ => {}
        }
        // However things go, there is a way again before long.
        if dice.below(3) == 0 {
            routes.generation += 1;
            routes.add(0, "0.0.0.0/0", To::Hop(100));
            engine.on_generation(Generation(routes.generation), &Delta::everything());
        }
    }
    now.0 += 1_000_000_000;
    engine.expire(now, usize::MAX, &mut |_, _| {});
    let stats = engine.stats();
    assert_eq!((stats.connections, stats.zombies, stats.unrouted), (0, 0, 0));
    assert_eq!(stats.created, stats.ended.total());
    assert!(stats.ports.iter().all(|p| p.tcp + p.udp + p.icmp == 0), "{stats:?}");
    let states = [stats.tcp, stats.udp, stats.icmp, stats.other];
    assert!(states.iter().all(|counts| counts.total() == 0), "{stats:?}");
    let ended = stats.ended;
    assert!(ended.idle > 0 && ended.closed > 0 && ended.policy > 0 && ended.unrouted > 0 && ended.evicted > 0);

    // Every slot is there to be used again.
    routes.generation += 1;
    routes.add(0, "0.0.0.0/0", To::Hop(100));
    engine.on_generation(Generation(routes.generation), &Delta::everything());
    let before = engine.stats().ended.total();
    for port in 0..CAPACITY as u16 {
        let request = udp(("10.0.0.5", 1024 + port), ("198.51.100.9", 53));
        let fate = send(&mut engine, &routes, 1, &build(&request, b""), now);
        assert!(matches!(fate, Fate::Sent(..)), "{port}: {fate:?}");
    }
    assert_eq!(
        (engine.stats().connections, engine.stats().ended.total()),
        (CAPACITY, before)
    );
}
