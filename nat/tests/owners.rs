//! The classic fault of a NAT: one public tuple with two owners. A million allocations, by every way of choosing ports,
//! with policies swapped in between, offloads that outlive their connections, and ports that come back.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use nat::{
    ConnectionId, Delta, Engine, Filtering, Mapping, Masquerade, Millis, NewPacket, OffloadState, Policy, PoolOptions,
    PortBlocks, PortChoice, Resolver, Verdict,
};
use net::{Generation, VrfId};
use support::*;

/// Inside: VPC, address, port. Outside: protocol, remote, public address and port.
type Inside = (u16, u32, u16);
type Outside = (u8, u32, u32, u16);

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn policies() -> Vec<Arc<Policy>> {
    let pools: [&[&str]; 3] = [&["192.0.2.1"], &["192.0.2.1", "192.0.2.2"], &["192.0.2.2", "192.0.2.3"]];
    let rules = |n: usize, options: PoolOptions| -> Vec<Masquerade> {
        [1, 2]
            .map(|vpc| {
                // VPCs with blocks need ports of their own.
                let ports = if vpc == 1 { (1024, 2047) } else { (2048, 3071) };
                let sources = vec!["10.0.0.0/28".parse().expect("a prefix")];
                // Only one rule may have blocks on an address.
                let options = match options.choice {
                    PortChoice::Blocks(_) if vpc == 2 => PoolOptions::default(),
                    _ => options,
                };
                Masquerade {
                    options,
                    sources,
                    ..masquerade(vpc, pools[n], ports)
                }
            })
            .into()
    };
    let plain = PoolOptions::default();
    let blocks = |size, count| PoolOptions {
        choice: PortChoice::Blocks(PortBlocks {
            size,
            count,
            quarantine: 1,
        }),
        ..plain
    };
    let with = |mapping, filtering| PoolOptions {
        mapping,
        filtering,
        ..plain
    };
    let shared = with(Mapping::EndpointIndependent, Filtering::EndpointIndependent);
    let all = [
        plain,
        blocks(32, 4),
        shared,
        with(Mapping::Overloading, Filtering::AddressAndPortDependent),
        PoolOptions {
            choice: PortChoice::Deterministic,
            ..plain
        },
        PoolOptions {
            strict_pairing: true,
            parity: true,
            ..plain
        },
        PoolOptions {
            mapping: Mapping::EndpointIndependent,
            ..blocks(64, 8)
        },
    ];
    let forward = |n: usize| vec![forward(1, UDP, "192.0.2.1", 1024 + n as u16, "10.0.0.9", 53)];
    (0..21).map(|n| policy(rules(n % 3, all[n % 7]), forward(n))).collect()
}

#[derive(Default)]
struct Book {
    held: HashMap<ConnectionId, (Inside, Outside, bool)>,
    /// Who has a public address and port of a protocol, how many times, and whether it is overloaded.
    ports: HashMap<(u8, u32, u16), (Inside, u32, bool)>,
    tuples: HashMap<Outside, Inside>,
}

impl Book {
    fn enter(&mut self, id: ConnectionId, inside: Inside, outside: Outside, overloading: bool) {
        let (protocol, _, address, port) = outside;
        let owner = self
            .ports
            .entry((protocol, address, port))
            .or_insert((inside, 0, overloading));
        assert!(
            owner.0 == inside || (owner.2 && overloading),
            "{outside:x?} is {:x?}'s and {inside:x?}'s",
            owner.0
        );
        owner.1 += 1;
        let before = self.tuples.insert(outside, inside);
        assert!(
            before.is_none_or(|before| before == inside),
            "{outside:x?} is {before:x?}'s and {inside:x?}'s"
        );
        let twice = self.held.insert(id, (inside, outside, overloading));
        assert_eq!(twice, None);
    }

    fn leave(&mut self, id: ConnectionId) {
        let Some((_, outside, _)) = self.held.remove(&id) else {
            return;
        };
        let (protocol, _, address, port) = outside;
        let owner = self.ports.get_mut(&(protocol, address, port)).expect("entered");
        owner.1 -= 1;
        if owner.1 == 0 {
            self.ports.remove(&(protocol, address, port));
        }
        self.tuples.remove(&outside);
    }
}

/// A connection ended: its port is another's to have, unless the NIC may know it.
fn ended(engine: &Engine, book: &mut Book, zombies: &mut Vec<ConnectionId>, id: ConnectionId) {
    match engine.offload_state(id) {
        Some(_) => zombies.push(id),
        None => book.leave(id),
    }
}

#[test]
fn a_tuple_never_has_two_owners() {
    const ALLOCATIONS: u32 = 1_000_000;
    let policies = policies();
    let mut engine = worker(20_000, 1, 2, Arc::clone(&policies[0]));
    let mut routes = routes();
    let mut dice = Dice(2026);
    let (mut book, mut zombies) = (Book::default(), Vec::new());
    let (mut now, mut made, mut step) = (Millis(1), 0u32, 0u64);
    let mut overloading = false;
    while made < ALLOCATIONS {
        step += 1;
        assert!(step < 40_000_000, "{made} allocations: {:?}", engine.stats());
        let vrf = 1 + dice.below(2) as u16;
        let protocol = if dice.below(2) == 0 { TCP } else { UDP };
        let source = ip("10.0.0.0") + dice.below(16) as u32;
        let destination = ip("198.51.100.0") + dice.below(64) as u32;
        let packet = NewPacket {
            vrf: VrfId(vrf),
            protocol,
            source: source.into(),
            destination: destination.into(),
            source_port: 1024 + dice.below(256) as u16,
            destination_port: 53,
            tcp_flags: SYN,
            length: 40,
            ..NewPacket::default()
        };
        let key = packet.key();
        if engine.lookup(&key).is_none() {
            let route = routes.resolve(packet.vrf, destination, 0).expect("routed");
            // Another worker's subscribers are made here all the same: ports are this worker's by their number.
            if let Verdict::Connection(at) = engine.miss(&packet, route, &routes, now) {
                let entry = engine.entry(at);
                let shown = entry.rewrite();
                let outside = (packet.protocol, destination, shown.source(), shown.source_port());
                let inside = (vrf, source, packet.source_port);
                let id = engine.id_of(at);
                book.enter(id, inside, outside, overloading);
                made += 1;
                if dice.below(10) == 0 {
                    engine.set_offload(id, OffloadState::Live);
                }
            }
        }
        if step.is_multiple_of(64) {
            now.0 += 500 + dice.below(8_000);
            let mut gone = Vec::new();
            engine.expire(now, usize::MAX, &mut |id, _| gone.push(id));
            gone.into_iter()
                .for_each(|id| ended(&engine, &mut book, &mut zombies, id));
            if zombies.len() > 300 {
                for id in zombies.drain(..200) {
                    engine.release(id);
                    book.leave(id);
                }
            }
        }
        if step.is_multiple_of(5_000) {
            let next = dice.below(21) as usize;
            engine.set_policy(Arc::clone(&policies[next]));
            overloading = next % 7 == 3;
            routes.generation += 1;
            let delta = Delta {
                policy: true,
                ..Delta::default()
            };
            engine.on_generation(Generation(routes.generation), &delta);
        }
        // The pass is under way while packets come.
        if engine.is_revalidating() {
            let mut gone = Vec::new();
            engine.revalidate(16, &routes, &mut |id, outcome| {
                if matches!(outcome, nat::Outcome::Ended(_)) {
                    gone.push(id);
                }
            });
            gone.into_iter()
                .for_each(|id| ended(&engine, &mut book, &mut zombies, id));
        }
    }
    let stats = engine.stats();
    assert_eq!(stats.created, u64::from(made));
    assert_eq!(stats.ended.evicted, 0, "the book would not know");
    assert!(stats.ended.policy > 1000 && stats.ports_exhausted > 1000, "{stats:?}");
    let leases = |stats: &nat::Stats| stats.ports.iter().map(|p| p.tcp + p.udp + p.icmp).sum::<u32>() as usize;
    assert_eq!(leases(&stats), book.ports.len());
    let mut gone = Vec::new();
    engine.expire(Millis(now.0 + 100_000_000), usize::MAX, &mut |id, _| gone.push(id));
    for id in gone.into_iter().chain(zombies) {
        engine.release(id);
        book.leave(id);
    }
    let stats = engine.stats();
    assert_eq!(
        (leases(&stats), stats.mappings, stats.blocks, book.held.len()),
        (0, 0, 0, 0)
    );
}
