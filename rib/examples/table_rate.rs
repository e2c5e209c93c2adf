//! What a large table costs: time to published, lookups a second, memory.
//!
//! `cargo run --release -p rib --example table_rate [IPv4 prefixes] [IPv6 prefixes]`. The prefixes are made from a fixed seed
//! with the mix of lengths of the Internet's tables; lookups go to random addresses within random prefixes (so that
//! each ends at a route) and to random addresses. Times are this thread's own, so that a busy machine disturbs them
//! less; rates are medians of seven rounds.
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use net::{
    AddressChange, IfIndex, InterfaceId, KernelEvent, Mac, NeighborChange, NeighborState, NextHop, PortId, Prefix,
    Route, RouteChange, Source, VrfId,
};
use rib::{Attachment, Interface, Lookup, Rib, RibConfig};

/// Peers that announce.
const PEERS: u8 = 8;
/// Lookups of a round.
const LOOKUPS: usize = 1 << 21;
/// Packets of a burst.
const BURST: usize = 32;
const ROUNDS: usize = 7;

/// Share of each length in a hundred, IPv4.
const MIX_V4: &[(u8, u64)] = &[
    (24, 60),
    (22, 11),
    (23, 10),
    (20, 5),
    (21, 5),
    (19, 3),
    (16, 2),
    (18, 2),
    (17, 1),
    (12, 1),
];
/// Share of each length in a hundred, IPv6.
const MIX_V6: &[(u8, u64)] = &[
    (48, 47),
    (32, 13),
    (44, 11),
    (40, 10),
    (36, 6),
    (29, 4),
    (46, 3),
    (47, 3),
    (33, 2),
    (56, 1),
];

/// xorshift64*: small, fast and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn length(&mut self, mix: &[(u8, u64)]) -> u8 {
        let mut at = self.next() % mix.iter().map(|(_, share)| share).sum::<u64>();
        for (length, share) in mix {
            if at < *share {
                return *length;
            }
            at -= share;
        }
        mix[0].0
    }

    /// IPv4 prefixes within 1.0.0.0 to 223.255.255.255.
    fn prefixes_v4(&mut self, count: usize) -> Vec<Prefix> {
        self.distinct(count, |r| {
            let address = Ipv4Addr::from(r.next() as u32);
            let unicast = (1..224).contains(&address.octets()[0]) && ![10, 127].contains(&address.octets()[0]);
            let length = r.length(MIX_V4);
            unicast.then(|| Prefix::containing(address.into(), length).expect("at most 32"))
        })
    }

    /// IPv6 prefixes within 4096 allocations of /29, as operators' blocks are.
    fn prefixes_v6(&mut self, count: usize) -> Vec<Prefix> {
        self.distinct(count, |r| {
            let block = 0x2400_0000 | (r.next() as u32 & 0xfff) << 3;
            let below = u128::from(r.next()) << 32 & !(0x1f << 91 << 5);
            let address = Ipv6Addr::from(u128::from(block) << 96 | below & (u128::MAX >> 29));
            let length = r.length(MIX_V6);
            Some(Prefix::containing(address.into(), length).expect("at most 128"))
        })
    }

    fn distinct(&mut self, count: usize, mut make: impl FnMut(&mut Self) -> Option<Prefix>) -> Vec<Prefix> {
        let mut seen = HashSet::new();
        let mut prefixes = Vec::new();
        while prefixes.len() < count {
            if let Some(prefix) = make(self).filter(|p| seen.insert(*p)) {
                prefixes.push(prefix);
            }
        }
        prefixes
    }
}

/// Processor time of this thread (the kernel's scheduler counts it in nanoseconds).
struct Clock(Duration);

impl Clock {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
        let nanoseconds = text
            .split(' ')
            .next()
            .and_then(|t| t.parse().ok())
            .expect("the first field is a time");
        Self(Duration::from_nanos(nanoseconds))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

fn main() {
    let mut sizes = std::env::args()
        .skip(1)
        .map(|a| a.parse().expect("a number of prefixes"));
    let (v4, v6) = (sizes.next().unwrap_or(1_000_000), sizes.next().unwrap_or(200_000));
    let mut random = Random(0x7075_726e_7069_6b65);
    let prefixes_v4 = random.prefixes_v4(v4);
    let prefixes_v6 = random.prefixes_v6(v6);
    let before = resident();

    let (mut rib, reader) = Rib::new(RibConfig::default());
    fabric(&mut rib);
    rib.publish().expect("no reader is inside");

    load(&mut rib, "IPv4", &prefixes_v4);
    load(&mut rib, "IPv6", &prefixes_v6);
    // The second copy catches up with the next publish.
    let start = Clock::now();
    rib.publish().expect("no reader is inside");
    println!(
        "catch-up of the other copy        {:>9.3} s",
        start.elapsed().as_secs_f64()
    );
    let stats = rib.stats();
    println!(
        "memory: RIB {} MiB, one copy of the tables {} MiB, resident {} MiB ({} B a route)",
        stats.rib_bytes >> 20,
        stats.table_bytes >> 20,
        (resident() - before) >> 20,
        (resident() - before) / (v4 + v6).max(1)
    );

    let tables = reader.enter().expect("published");
    let inside4: Vec<u32> = sample(&mut random, &prefixes_v4, |p, r| match p.address() {
        IpAddr::V4(a) => u32::from(a) | (r.next() as u32).checked_shr(p.len().into()).unwrap_or(0),
        IpAddr::V6(_) => 0,
    });
    let any4: Vec<u32> = (0..LOOKUPS).map(|_| random.next() as u32).collect();
    let inside6: Vec<u128> = sample(&mut random, &prefixes_v6, |p, r| match p.address() {
        IpAddr::V6(a) => u128::from(a) | (u128::from(r.next()) << 64 | u128::from(r.next())) >> p.len(),
        IpAddr::V4(_) => 0,
    });
    for (name, keys) in [("IPv4 in prefixes", &inside4), ("IPv4 random", &any4)] {
        rate(&format!("{name}, bursts of {BURST}"), keys, |queries, out| {
            let found = tables.resolve_v4_burst(queries.len(), |i| (queries[i].0, queries[i].1), |i| queries[i].2);
            out.copy_from_slice(&found[..queries.len()]);
        });
        rate(&format!("{name}, one by one"), keys, |queries, out| {
            for (query, out) in queries.iter().zip(out) {
                if let Ok(found) = tables.resolve_v4(query.0, query.1, query.2) {
                    out.next_hop = found.next_hop;
                }
            }
        });
    }
    rate(
        &format!("IPv6 in prefixes, bursts of {BURST}"),
        &inside6,
        |queries, out| {
            let found = tables.resolve_v6_burst(queries.len(), |i| (queries[i].0, queries[i].1), |i| queries[i].2);
            out.copy_from_slice(&found[..queries.len()]);
        },
    );
    drop(tables);
    single_changes(&mut rib, &prefixes_v4);
    small_vrfs(&mut rib, &mut random);
    println!(
        "all together resident: {} MiB of a host's {} MiB",
        (resident() - before) >> 20,
        HOST >> 20
    );
    assert!(resident() - before < HOST, "a large VRF and a thousand small ones fit");
}

/// Memory of the smallest host that all this must fit on, bytes.
const HOST: usize = 4 << 30;

/// A thousand VRFs of a hundred routes each, beside what there is.
fn small_vrfs(rib: &mut Rib, random: &mut Random) {
    let before = rib.stats();
    for vrf in (1..=1000).map(VrfId) {
        for prefix in random.prefixes_v4(100) {
            let next_hop = NextHop::via(gateway(1)).through(IfIndex(2));
            let route = Some(Route::unicast(next_hop));
            rib.route(RouteChange {
                vrf,
                prefix,
                source: Source::Static,
                route,
            });
        }
    }
    rib.publish().expect("no reader is inside");
    // The second copy catches up with the next publish.
    rib.publish().expect("no reader is inside");
    let stats = rib.stats();
    let (rib, tables) = (
        stats.rib_bytes - before.rib_bytes,
        stats.table_bytes - before.table_bytes,
    );
    println!(
        "1000 VRFs of 100 scattered routes: RIB {} MiB, one copy of the tables {} MiB, {} B a route with both copies",
        rib >> 20,
        tables >> 20,
        (rib + 2 * tables) / 100_000
    );
}

/// Eight routers on one port, resolved.
fn fabric(rib: &mut Rib) {
    rib.set_interface(Interface {
        id: InterfaceId(0),
        name: "fabric".into(),
        host: Some(IfIndex(2)),
        vrf: VrfId::DEFAULT,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        attachment: Attachment::Port(PortId(0)),
    });
    let address = "10.0.0.254/24".parse().expect("valid");
    rib.kernel(KernelEvent::Address(AddressChange {
        interface: IfIndex(2),
        address,
        present: true,
    }));
    for peer in 0..PEERS {
        let state = NeighborState::Reachable(Mac([2, 0, 0, 0, 1, peer]));
        rib.kernel(KernelEvent::Neighbor(NeighborChange {
            interface: IfIndex(2),
            address: gateway(peer),
            state,
        }));
    }
}

fn gateway(peer: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, peer).into()
}

fn change(prefix: Prefix, peer: u8) -> RouteChange {
    let route = Some(Route::unicast(NextHop::via(gateway(peer))));
    RouteChange {
        vrf: VrfId::DEFAULT,
        prefix,
        source: Source::Ebgp,
        route,
    }
}

fn load(rib: &mut Rib, family: &str, prefixes: &[Prefix]) {
    let changes: Vec<RouteChange> = prefixes
        .iter()
        .enumerate()
        .map(|(i, p)| change(*p, (i % usize::from(PEERS)) as u8))
        .collect();
    let start = Clock::now();
    for change in changes {
        rib.route(change);
    }
    let taken = start.elapsed();
    let published = rib.publish().expect("no reader is inside");
    let total = start.elapsed();
    println!(
        "{:>8} {family} routes to published {:>9.3} s (taken in {:.3} s, {} winners)",
        prefixes.len(),
        total.as_secs_f64(),
        taken.as_secs_f64(),
        published.winners.len()
    );
}

/// Steady state: one change, one generation. By the wall clock, since a thread's own time is counted in ticks.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn single_changes(rib: &mut Rib, prefixes: &[Prefix]) {
    let mut times: Vec<Duration> = Vec::new();
    for (i, prefix) in prefixes.iter().take(20_000).enumerate() {
        let start = std::time::Instant::now();
        rib.route(change(*prefix, (i % 7 + 1) as u8));
        rib.publish().expect("no reader is inside");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0;
    println!("one change to published: median {:.1} us, p99 {:.1} us", at(50), at(99));
}

fn sample<K>(random: &mut Random, prefixes: &[Prefix], key: impl Fn(&Prefix, &mut Random) -> K) -> Vec<K> {
    let count = if prefixes.is_empty() { 0 } else { LOOKUPS };
    (0..count)
        .map(|_| {
            let prefix = &prefixes[random.next() as usize % prefixes.len()];
            key(prefix, random)
        })
        .collect()
}

fn rate<K: Copy>(name: &str, keys: &[K], mut resolve: impl FnMut(&[(VrfId, K, u32)], &mut [Lookup])) {
    let queries: Vec<(VrfId, K, u32)> = keys.iter().map(|k| (VrfId::DEFAULT, *k, 7)).collect();
    let mut out = [Lookup::default(); BURST];
    let mut rates = Vec::new();
    let mut sum = 0u64;
    for _ in 0..ROUNDS {
        let start = Clock::now();
        for burst in queries.chunks(BURST) {
            resolve(burst, &mut out);
            sum = sum.wrapping_add(out.iter().map(|l| u64::from(l.next_hop.0)).sum());
        }
        rates.push(queries.len() as f64 / start.elapsed().as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{name:<36} {:>7.1} M/s ({:.1} to {:.1}; {})",
        rates[ROUNDS / 2],
        rates[0],
        rates[ROUNDS - 1],
        sum % 10
    );
}

/// Resident memory, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().split(' ').next()?.parse::<usize>().ok())
        .unwrap_or(0)
        << 10
}
