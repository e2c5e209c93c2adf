//! The connection table and NAT alone, without packets' way to it: the rows of `make bench-nat`.
//!
//! One engine, driven as a worker drives it: keys of a burst of 32 are looked up together, each packet is counted,
//! rewritten and given its next hop. Time is the processor time of the measuring thread.

use std::fs;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use nat::{
    Address, Delta, Engine, EngineConfig, EntryRef, FlowKey, ForwardTarget, Masquerade, Millis, NewPacket, Policy,
    PolicySpec, PoolOptions, PortForward, Resolution, Resolver, Segment, Verdict,
};
use net::{Drop, Generation, NextHopId, Prefix, RouteKind, VpcId, VrfId, protocol};
use nix::time::{ClockId, clock_gettime};

use super::random::Random;

/// Packets looked up together.
const BURST: usize = 32;
/// Slots that a worker's background pass looks at after each burst; `dataplane`'s worker has the same.
const REVALIDATE: usize = 2048;
const VPC: u16 = 7;
const INSIDE: u32 = 0x0a00_0000;
const SERVER: u32 = 0x0808_0808;
/// Server and target port of every forward.
const FORWARD: (u32, u16) = (0xc633_63fe, 443);
const TARGET: (u32, u16) = (INSIDE + 0x00ff_fffe, 443);
/// Addresses of the pool: 64,512 ports each.
const POOL: u32 = 128;
const PORTS: (u16, u16) = (1024, 65_535);
const MILLION: u32 = 1_000_000;

/// One row.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, the same for ever.
    pub name: &'static str,
    /// Unit of its value.
    pub unit: &'static str,
    /// What the project wants it to be; a rate at least, anything else at most.
    pub goal: Option<f64>,
    /// Measures it once, in a process of its own, with the sizes divided by the argument.
    pub run: fn(u32) -> Result<f64, String>,
}

const NANOSECONDS: &str = "ns/packet";
/// Unit of rates; more is better.
pub const RATE: &str = "connections/s";
const TIMES: &str = "times 10 %";

/// Every row, in the order of the table.
pub const SCENARIOS: &[Scenario] = &[
    row("nat-hit-64k", NANOSECONDS, Some(60.0), |scale| hit((1 << 16) / scale)),
    row("nat-hit-1m", NANOSECONDS, None, |scale| hit(MILLION / scale)),
    row("nat-hit-4m", NANOSECONDS, Some(120.0), |scale| hit(4 * MILLION / scale)),
    row("nat-new", RATE, Some(500e3), |scale| new(MILLION / scale, masqueraded)),
    row("nat-table-new", RATE, Some(2e6), |scale| {
        new(MILLION / scale, forwarded)
    }),
    row("nat-teardown", RATE, None, |scale| teardown(MILLION / scale)),
    row("nat-mixed-90-10", NANOSECONDS, None, |scale| mixed(MILLION / scale)),
    row("nat-bytes-per-connection", "bytes", None, |scale| {
        bytes(MILLION / scale)
    }),
    row("nat-revalidate-1m-one-route-ms", "ms", Some(100.0), |scale| {
        revalidate(MILLION / scale, &routes_changed(1))
    }),
    row("nat-revalidate-1m-1k-routes-ms", "ms", Some(100.0), |scale| {
        revalidate(MILLION / scale, &routes_changed(1000))
    }),
    row("nat-revalidate-1m-all-ms", "ms", Some(100.0), |scale| {
        revalidate(MILLION / scale, &Delta::everything())
    }),
    row("nat-revalidate-loss-percent", "%", Some(5.0), |scale| {
        loss(MILLION / scale)
    }),
    row("nat-alloc-10pct", "ns/port", None, |_| allocation(10)),
    row("nat-alloc-99pct", "ns/port", None, |_| allocation(99)),
    row("nat-alloc-99pct-ratio", TIMES, Some(2.0), |_| {
        Ok(allocation(99)? / allocation(10)?)
    }),
];

const fn row(
    name: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    run: fn(u32) -> Result<f64, String>,
) -> Scenario {
    Scenario { name, unit, goal, run }
}

/// The row of this name.
///
/// # Errors
/// With every name there is.
pub fn find(name: &str) -> Result<&'static Scenario, String> {
    SCENARIOS.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
        format!("no row `{name}`: there are {}", names.join(", "))
    })
}

/// Hosts of the VPC are inside, everything else is the fabric's.
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
        Ok(Resolution {
            next_hop: NextHopId(u32::from(inside)),
            vrf: if inside { VrfId(VPC) } else { VrfId::DEFAULT },
            kind: RouteKind::Unicast,
        })
    }
}

/// Processor time of this thread, nanoseconds.
pub(super) fn time() -> Result<u64, String> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(|error| format!("no thread clock: {error}"))?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

fn policy(pool: u32, ports: (u16, u16)) -> Result<Arc<Policy>, String> {
    let vpc = VpcId::new(VPC).map_err(|error| error.to_string())?;
    let spec = PolicySpec {
        masquerade: vec![Masquerade {
            vpc,
            sources: vec![],
            pool: (0..pool).map(|i| Ipv4Addr::from(0xc633_6400 + i).into()).collect(),
            ports,
            options: PoolOptions::default(),
        }],
        port_forwards: vec![PortForward {
            vpc,
            address: Ipv4Addr::from(FORWARD.0).into(),
            protocol: protocol::UDP,
            ports: (FORWARD.1, FORWARD.1),
            targets: vec![ForwardTarget {
                address: Ipv4Addr::from(TARGET.0).into(),
                port: TARGET.1,
                weight: 1,
            }],
            affinity: false,
        }],
        ..PolicySpec::default()
    };
    Policy::compile(spec).map(Arc::new).map_err(|error| error.to_string())
}

fn engine(capacity: u32, policy: Arc<Policy>) -> Result<Engine, String> {
    let config = EngineConfig {
        capacity,
        worker: 0,
        workers: 1,
        seed: 1,
    };
    let mut engine = Engine::new(config, policy).map_err(|error| error.to_string())?;
    engine.on_generation(Generation(1), &Delta::everything());
    while engine.is_revalidating() {
        engine.revalidate(1024, &Routes(1), &mut |_, _| {});
    }
    Ok(engine)
}

/// First packet of connection `n` of a host: distinct tuples in no order (RFC 4814 asks for random ports).
fn masqueraded(n: u32) -> NewPacket {
    let n = n.wrapping_mul(0x9e37_79b1);
    NewPacket {
        vrf: VrfId(VPC),
        protocol: protocol::UDP,
        source: Address::v4(INSIDE + (n >> 16)),
        destination: Address::v4(SERVER),
        source_port: n as u16,
        destination_port: 53,
        length: 60,
        ..NewPacket::default()
    }
}

/// First packet of connection `n` of a client to the port forward: both directions, and no port to be found.
fn forwarded(n: u32) -> NewPacket {
    let n = n.wrapping_mul(0x9e37_79b1);
    NewPacket {
        vrf: VrfId::DEFAULT,
        protocol: protocol::UDP,
        source: Address::v4(0x5000_0000 + (n >> 16)),
        destination: Address::v4(FORWARD.0),
        source_port: n as u16,
        destination_port: FORWARD.1,
        length: 60,
        ..NewPacket::default()
    }
}

/// Opens the connections of packets `first..last`, in bursts, as a worker does it.
fn open(engine: &mut Engine, packet: fn(u32) -> NewPacket, first: u32, last: u32) -> Result<(), String> {
    let routes = Routes(1);
    let nat = Resolution {
        next_hop: NextHopId(0),
        vrf: VrfId::DEFAULT,
        kind: RouteKind::Nat,
    };
    let mut packets = [NewPacket::default(); BURST];
    for first in (first..last).step_by(BURST) {
        let count = BURST.min((last - first) as usize);
        for (n, to) in (first..last).zip(&mut packets) {
            *to = packet(n);
        }
        let found = engine.lookup_burst(count, |i| packets[i].key());
        for packet in &packets[..count] {
            engine.expect(&packet.key());
        }
        for (packet, found) in packets[..count].iter().zip(found) {
            let way = match packet.vrf {
                VrfId::DEFAULT => nat,
                vrf => routes.resolve(vrf, SERVER, 0).map_err(|reason| reason.to_string())?,
            };
            match (found, engine.miss(packet, way, &routes, Millis(1))) {
                (None, Verdict::Connection(at)) => {
                    engine.hit(at, Segment::default(), 46, Millis(1));
                }
                (_, verdict) => return Err(format!("{verdict:?} for {packet:?}")),
            }
        }
    }
    Ok(())
}

/// What the reply to a connection's packets is found by.
fn reply_key(engine: &Engine, at: EntryRef) -> FlowKey {
    let rewrite = engine.entry(at).rewrite();
    FlowKey::v4(
        VrfId::DEFAULT,
        protocol::UDP,
        rewrite.destination(),
        rewrite.source(),
        rewrite.destination_port(),
        rewrite.source_port(),
    )
}

/// Both keys of a connection.
fn keys(engine: &Engine, n: u32) -> Result<[FlowKey; 2], String> {
    let original = masqueraded(n).key();
    let at = engine.lookup(&original).ok_or("a connection is gone")?;
    Ok([original, reply_key(engine, at)])
}

/// An engine with so many established connections, and room for as many more.
fn established(connections: u32) -> Result<Engine, String> {
    let mut engine = engine(connections * 2, policy(POOL, PORTS)?)?;
    open(&mut engine, masqueraded, 0, connections)?;
    for n in 0..connections {
        for key in keys(&engine, n)?.iter().cycle().take(4) {
            let at = engine.lookup(key).ok_or("a connection is gone")?;
            engine.hit(at, Segment::default(), 46, Millis(1));
        }
    }
    match engine.stats().udp.established {
        all if all == u64::from(connections) => Ok(engine),
        some => Err(format!("{some} of {connections} connections are established")),
    }
}

/// Keys of packets in random order, in both directions.
fn traffic(engine: &Engine, connections: u32, packets: usize) -> Result<Vec<FlowKey>, String> {
    let mut random = Random::new(9);
    (0..packets)
        .map(|_| keys(engine, random.below(connections as usize) as u32).map(|both| both[random.below(2)]))
        .collect()
}

/// A burst of packets of known connections, as a worker takes it through.
fn burst(engine: &mut Engine, keys: &[FlowKey], routes: &Routes, frames: &mut [[u8; 46]; BURST]) -> Result<(), String> {
    let found = engine.lookup_burst(keys.len(), |i| keys[i]);
    for (at, frame) in found.iter().take(keys.len()).zip(frames) {
        let at = at.ok_or("a connection is gone")?;
        if !engine.is_current(at, routes.generation()) {
            black_box(engine.revalidate_one(at, routes));
        }
        let entry = engine.entry(at);
        entry.rewrite().apply(frame, 20, protocol::UDP);
        black_box(entry.next_hop());
        black_box(engine.hit(at, Segment::default(), 46, Millis(2)));
    }
    Ok(())
}

fn hit(connections: u32) -> Result<f64, String> {
    let mut engine = established(connections)?;
    let keys = traffic(&engine, connections, 1 << 21)?;
    let mut frames = [[0; 46]; BURST];
    let start = time()?;
    for keys in keys.chunks_exact(BURST) {
        burst(&mut engine, keys, &Routes(1), &mut frames)?;
    }
    black_box(&frames);
    Ok((time()? - start) as f64 / keys.len() as f64)
}

/// New connections a second in a table that holds as many already.
fn new(connections: u32, packet: fn(u32) -> NewPacket) -> Result<f64, String> {
    let mut engine = engine(connections * 2, policy(POOL, PORTS)?)?;
    open(&mut engine, packet, 0, connections)?;
    let start = time()?;
    open(&mut engine, packet, connections, connections * 2)?;
    Ok(f64::from(connections) * 1e9 / (time()? - start) as f64)
}

fn teardown(connections: u32) -> Result<f64, String> {
    let mut engine = established(connections)?;
    let start = time()?;
    let mut ended = 0_u32;
    while ended < connections {
        let before = ended;
        engine.expire(Millis(100_000_000), 512, &mut |_, _| ended += 1);
        if ended == before {
            return Err(format!("only {ended} of {connections} connections ended"));
        }
    }
    Ok(f64::from(connections) * 1e9 / (time()? - start) as f64)
}

/// Nine packets of known connections, then one that opens one.
fn mixed(connections: u32) -> Result<f64, String> {
    const ROUNDS: u32 = 4;
    let mut engine = established(connections)?;
    let new = connections / 2;
    let keys = traffic(&engine, connections, new as usize * 9)?;
    let mut frames = [[0; 46]; BURST];
    let start = time()?;
    for (round, keys) in keys.chunks_exact(9 * ROUNDS as usize).enumerate() {
        for keys in keys.chunks(BURST) {
            burst(&mut engine, keys, &Routes(1), &mut frames)?;
        }
        let first = connections + round as u32 * ROUNDS;
        open(&mut engine, masqueraded, first, first + ROUNDS)?;
    }
    black_box(&frames);
    let packets = keys.len() / (9 * ROUNDS as usize) * 10 * ROUNDS as usize;
    Ok((time()? - start) as f64 / packets as f64)
}

/// Memory of this process, bytes.
fn resident() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/self/statm").map_err(|error| error.to_string())?;
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.ok_or("no size in /proc/self/statm")? * 4096)
}

/// Everything that the process needs more with a full table than without the engine, pool included.
fn bytes(connections: u32) -> Result<f64, String> {
    let before = resident()?;
    let mut engine = engine(connections, policy(POOL, PORTS)?)?;
    open(&mut engine, masqueraded, 0, connections)?;
    let grown = resident()?.saturating_sub(before);
    black_box(&engine);
    Ok(grown as f64 / f64::from(connections))
}

/// Routes that no connection goes by, as a full table changes.
fn routes_changed(count: u32) -> Delta {
    let prefix = |n: u32| Prefix::containing((0x5000_0000_u32 + (n << 8)).to_be_bytes().into(), 24);
    Delta {
        prefixes: (0..count).flat_map(prefix).map(|p| (VrfId::DEFAULT, p)).collect(),
        ..Delta::default()
    }
}

/// Processor time of one pass over all connections, without traffic.
fn revalidate(connections: u32, delta: &Delta) -> Result<f64, String> {
    let mut engine = established(connections)?;
    let start = time()?;
    engine.on_generation(Generation(2), delta);
    while engine.is_revalidating() {
        engine.revalidate(REVALIDATE, &Routes(2), &mut |_, _| {});
    }
    Ok((time()? - start) as f64 / 1e6)
}

/// What the rate of packets of known connections loses in the 100 ms after a generation in which one route changed: time
/// enough for the pass.
fn loss(connections: u32) -> Result<f64, String> {
    const HORIZON: f64 = 100e6;
    let mut engine = established(connections)?;
    let keys = traffic(&engine, connections, 1 << 21)?;
    let mut frames = [[0; 46]; BURST];
    let mut run = |engine: &mut Engine, generation: u64, packets: usize| -> Result<f64, String> {
        let routes = Routes(generation);
        let start = time()?;
        for keys in keys.chunks_exact(BURST).cycle().take(packets / BURST) {
            burst(engine, keys, &routes, &mut frames)?;
            engine.revalidate(REVALIDATE, &routes, &mut |_, _| {});
        }
        Ok((time()? - start) as f64 / packets as f64)
    };
    run(&mut engine, 1, keys.len())?;
    let packets = (HORIZON / run(&mut engine, 1, keys.len())?) as usize;
    let undisturbed = run(&mut engine, 1, packets)?;
    engine.on_generation(Generation(2), &routes_changed(1));
    let disturbed = run(&mut engine, 2, packets)?;
    if engine.is_revalidating() {
        return Err("the pass took longer than 100 ms".to_owned());
    }
    Ok((1.0 - undisturbed / disturbed) * 100.0)
}

/// Nanoseconds to make a connection, port and all, while so many per cent of a pool's ports are taken. The table holds the
/// same number of connections at either filling, the others without ports of the pool: what differs is the pool.
fn allocation(percent: u32) -> Result<f64, String> {
    const ADDRESSES: u32 = 4;
    const TIMED: u32 = 256;
    let ports = u32::from(PORTS.1 - PORTS.0 + 1) * ADDRESSES;
    let taken = ports / 100 * percent;
    let mut engine = engine(ports, policy(ADDRESSES, PORTS)?)?;
    open(&mut engine, forwarded, 0, ports / 100 * 99 - taken)?;
    open(&mut engine, masqueraded, 0, taken)?;
    let start = time()?;
    open(&mut engine, masqueraded, taken, taken + TIMED)?;
    Ok((time()? - start) as f64 / f64::from(TIMED))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row at a size that says nothing of its value, so that `make bench-nat` is known to run.
    #[test]
    fn every_row_can_be_measured() {
        for row in SCENARIOS.iter().filter(|row| !row.name.starts_with("nat-alloc")) {
            let value = (row.run)(1000).unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert!(value.is_finite(), "{}", row.name);
        }
    }

    #[test]
    fn ports_are_allocated_at_both_fillings() {
        assert!(allocation(10).is_ok_and(|value| value > 0.0));
    }
}
