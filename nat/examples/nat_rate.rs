//! Cost of the connection table, one core: hit path, new connections, revalidation.
//!
//! `cargo run --release -p nat --example nat_rate [CONNECTIONS [PACKETS]]`. Medians of five runs; see the README for what was measured where.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads a clock")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use nat::{
    Delta, Engine, EngineConfig, EntryRef, FlowKey, Masquerade, Millis, NewPacket, Policy, PolicySpec, Resolution,
    Resolver, Segment, Verdict,
};
use net::{Drop, Generation, NextHopId, Prefix, RouteKind, VpcId, VrfId, protocol};

const BURST: usize = 32;
const VPC: u16 = 7;
const INSIDE: u32 = 0x0a00_0000;

struct Routes(u64);

impl Resolver for Routes {
    fn generation(&self) -> Generation {
        Generation(self.0)
    }

    fn resolve_v6(&self, _: VrfId, _: u128, _: u32) -> Result<Resolution, Drop> {
        Err(Drop::NoRoute)
    }

    fn resolve(&self, _: VrfId, destination: u32, _: u32) -> Result<Resolution, Drop> {
        let inside = destination >> 24 == INSIDE >> 24;
        let vrf = if inside { VrfId(VPC) } else { VrfId::DEFAULT };
        Ok(Resolution {
            next_hop: NextHopId(u32::from(inside)),
            vrf,
            kind: RouteKind::Unicast,
        })
    }
}

fn engine(capacity: u32) -> Engine {
    let pool = (0..32u32).map(|i| Ipv4Addr::from(0xc633_6400 + i).into()).collect();
    let vpc = VpcId::new(VPC).expect("not zero");
    let masquerade = vec![Masquerade {
        vpc,
        sources: vec![],
        pool,
        ports: (1024, 65535),
        options: nat::PoolOptions::default(),
    }];
    let policy = Policy::compile(PolicySpec {
        masquerade,
        ..PolicySpec::default()
    })
    .expect("valid");
    Engine::new(
        EngineConfig {
            capacity,
            worker: 0,
            workers: 1,
            seed: 1,
        },
        Arc::new(policy),
    )
    .expect("valid")
}

fn packet(n: u32) -> NewPacket {
    // A bijection, so that tuples are distinct and in no order.
    let n = n.wrapping_mul(0x9e37_79b1);
    NewPacket {
        vrf: VrfId(VPC),
        protocol: protocol::UDP,
        source: nat::Address::v4(INSIDE + (n >> 16)),
        destination: nat::Address::v4(0x0808_0808),
        source_port: n as u16,
        destination_port: 53,
        tcp_flags: 0,
        length: 60,
        ..NewPacket::default()
    }
}

/// The median and the best of many short runs: what others do on the machine falls between them.
fn spread(mut runs: Vec<f64>) -> [f64; 2] {
    runs.sort_by(f64::total_cmp);
    [runs[runs.len() / 2], runs[runs.len() / 20]]
}

fn fill(engine: &mut Engine, connections: u32) -> [f64; 2] {
    let routes = Routes(1);
    let route = routes.resolve(VrfId(VPC), 0x0808_0808, 0).expect("routed");
    let mut runs = Vec::new();
    for first in (0..connections).step_by(1000) {
        let start = Instant::now();
        for n in first..first + 1000 {
            let verdict = engine.miss(&packet(n), route, &routes, Millis(1));
            assert!(matches!(verdict, Verdict::Connection(_)), "{verdict:?} at {n}");
        }
        runs.push(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    spread(runs)
}

/// Packets of both directions, so that every connection is established.
fn establish(engine: &mut Engine, connections: u32) {
    for n in 0..connections {
        let at = engine.lookup(&packet(n).key()).expect("made before");
        let reply = engine.lookup(&reply_key(engine, at)).expect("made with it");
        for at in [at, reply, at, reply] {
            engine.hit(at, Segment::default(), 46, Millis(1));
        }
    }
    assert_eq!(engine.stats().udp.established, u64::from(connections));
}

fn reply_key(engine: &Engine, at: EntryRef) -> FlowKey {
    let rewrite = engine.entry(at).rewrite();
    let (source, destination) = (rewrite.destination(), rewrite.source());
    let (source_port, destination_port) = (rewrite.destination_port(), rewrite.source_port());
    FlowKey::v4(
        VrfId::DEFAULT,
        protocol::UDP,
        source,
        destination,
        source_port,
        destination_port,
    )
}

/// Both directions of random connections, in bursts: look-up, state, rewrite of a 64-byte frame's IP packet.
fn hits(engine: &mut Engine, connections: u32, packets: u32) -> [f64; 2] {
    let mut random = 1u64;
    let mut keys = Vec::with_capacity(packets as usize);
    for _ in 0..packets {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let n = ((random >> 33) as u32) % connections;
        let original = packet(n).key();
        let at = engine.lookup(&original).expect("made before");
        let reply = reply_key(engine, at);
        keys.push(if random >> 63 == 0 { original } else { reply });
    }
    let mut runs = Vec::new();
    let mut frames = [[0u8; 46]; BURST];
    let mut next_hops = 0u32;
    for run in keys.chunks_exact(BURST * 256) {
        let start = Instant::now();
        for burst in run.chunks_exact(BURST) {
            let found = engine.lookup_burst(BURST, |i| burst[i]);
            for (at, frame) in found.iter().zip(&mut frames) {
                let at = at.expect("made before");
                let entry = engine.entry(at);
                assert!(engine.is_current(at, Generation(1)));
                entry.rewrite().apply(frame, 20, protocol::UDP);
                next_hops = next_hops.wrapping_add(entry.next_hop().0);
                black_box(engine.hit(at, Segment::default(), 46, Millis(2)));
            }
        }
        runs.push(start.elapsed().as_nanos() as f64 / run.len() as f64);
    }
    black_box((next_hops, &frames));
    spread(runs)
}

fn revalidation(engine: &mut Engine, generation: u64, delta: &Delta) -> f64 {
    engine.on_generation(Generation(generation), delta);
    let start = Instant::now();
    while engine.revalidate(4096, &Routes(generation), &mut |_, _| {}).is_none() {}
    start.elapsed().as_secs_f64() * 1000.0
}

fn main() {
    println!(
        "median/best   {:>15} {:>15} {:>22} {:>22}",
        "new ns", "hit ns", "revalidate one ms", "revalidate all ms"
    );
    let show = |[median, best]: [f64; 2]| format!("{median:.1}/{best:.1}");
    let mut arguments = std::env::args()
        .skip(1)
        .map(|word| word.parse::<u32>().expect("a number"));
    let sizes = arguments
        .next()
        .map_or(vec![1_000, 64_000, 1_000_000], |size| vec![size]);
    let packets = arguments.next().unwrap_or(1 << 22);
    for connections in sizes {
        let mut engine = engine(connections);
        let new = fill(&mut engine, connections);
        establish(&mut engine, connections);
        let hit = hits(&mut engine, connections, packets);
        let prefix = "192.0.2.0/24".parse::<Prefix>().expect("a prefix");
        let one = Delta {
            prefixes: vec![(VrfId::DEFAULT, prefix)],
            ..Delta::default()
        };
        let one = spread((2..9).map(|g| revalidation(&mut engine, g, &one)).collect());
        let all = spread(
            (9..16)
                .map(|g| revalidation(&mut engine, g, &Delta::everything()))
                .collect(),
        );
        println!(
            "{connections:>13} {:>15} {:>15} {:>22} {:>22}",
            show(new),
            show(hit),
            show(one),
            show(all)
        );
    }
}
