//! Lookups in a full table, in bursts as a worker makes them, and one by one in a `prefix-trie` of the same prefixes.

use std::hint::black_box;
use std::net::IpAddr;

use net::{IpNet, Prefix, VrfId};
use prefix_trie::PrefixMap;
use rib::Tables;

use super::load::alone;
use super::world::{loaded, timed};
use super::{Figures, Sizes, figures};
use crate::bench::random::Random;

/// Different destinations.
const DESTINATIONS: usize = 1 << 20;
/// Flow hash of every lookup: the routes have one next hop.
const HASH: u32 = 7;

/// Every row of lookups but DPDK's.
///
/// # Errors
/// If a lookup misses a route that is there.
pub fn run(sizes: &Sizes) -> Result<Figures, String> {
    let mut random = Random::new(4);
    let prefixes = random.prefixes_v4(sizes.v4);
    let prefixes_v6 = random.prefixes_v6(sizes.v6);
    let inside = destinations(&mut random, &prefixes);
    let inside_v6 = destinations(&mut random, &prefixes_v6);
    let skewed = skewed(&mut random, &inside);
    let anywhere: Vec<u32> = (0..DESTINATIONS).map(|_| random.public_v4().into()).collect();
    let (inside, skewed) = (inside.into_iter().map(v4).collect::<Vec<_>>(), skewed);
    let inside_v6: Vec<u128> = inside_v6.into_iter().map(v6).collect();

    let all: Vec<Prefix> = prefixes.iter().chain(&prefixes_v6).copied().collect();
    let (rib, reader) = loaded(&all);
    let tables = reader.enter().ok_or("the tables are gone")?;
    let burst_v4 = |keys: &[u32]| {
        per_second(keys, |burst| {
            let found = tables.resolve_v4_burst(burst.len(), |i| (VrfId::DEFAULT, burst[i]), |_| HASH);
            found[..burst.len()].iter().filter(|l| l.next_hop.0 > 1).count()
        })
    };
    let (v4_inside, found) = burst_v4(&inside);
    complete(found, "IPv4")?;
    let (v4_skewed, found) = burst_v4(&skewed);
    complete(found, "IPv4")?;
    let (v4_anywhere, _) = burst_v4(&anywhere);
    let (v6_inside, found) = per_second(&inside_v6, |burst| {
        let found = tables.resolve_v6_burst(burst.len(), |i| (VrfId::DEFAULT, burst[i]), |_| HASH);
        found[..burst.len()].iter().filter(|l| l.next_hop.0 > 1).count()
    });
    complete(found, "IPv6")?;
    drop(tables);
    drop((rib, reader));

    let trie = alone(&prefixes);
    let in_trie = |keys: &[u32]| {
        per_second(keys, |burst| {
            let longest = |key: &u32| trie.get_lpm(&net::Ipv4Net::new_assert((*key).into(), 32));
            burst.iter().filter(|key| black_box(longest(key)).is_some()).count()
        })
        .0
    };
    let (trie_v4, trie_skewed) = (in_trie(&inside), in_trie(&skewed));
    let mut trie_6: PrefixMap<net::Ipv6Net, u32> = PrefixMap::new();
    for (prefix, value) in prefixes_v6.iter().zip(0..) {
        if let IpNet::V6(net) = prefix.net() {
            trie_6.insert(net, value);
        }
    }
    let (trie_v6, _) = per_second(&inside_v6, |burst| {
        let longest = |key: &u128| trie_6.get_lpm(&net::Ipv6Net::new_assert((*key).into(), 128));
        burst.iter().filter(|key| black_box(longest(key)).is_some()).count()
    });
    figures([
        ("routes-lookup-v4-1m", v4_inside),
        ("routes-lookup-v4-skewed", v4_skewed),
        ("routes-lookup-v4-anywhere", v4_anywhere),
        ("routes-lookup-v6-200k", v6_inside),
        ("peer-trie-v4-per-s", trie_v4),
        ("peer-trie-v4-skewed-per-s", trie_skewed),
        ("peer-trie-v6-per-s", trie_v6),
    ])
}

/// Random addresses in random prefixes: each ends at a route.
pub fn destinations(random: &mut Random, prefixes: &[Prefix]) -> Vec<IpAddr> {
    (0..DESTINATIONS).map(|_| random.address_in(prefixes)).collect()
}

/// As traffic is: few destinations get most packets. The one of rank `r` gets a share of about `1 / r`.
fn skewed(random: &mut Random, of: &[IpAddr]) -> Vec<u32> {
    let most = (of.len() as f64).ln();
    let pick = |random: &mut Random| {
        let uniform = random.below(1 << 24) as f64 / f64::from(1 << 24);
        of[((most * uniform).exp() as usize).min(of.len()) - 1]
    };
    (0..DESTINATIONS).map(|_| v4(pick(random))).collect()
}

/// Lookups a second of processor time, the first pass over the keys left out, and the keys that were found.
fn per_second<K>(keys: &[K], mut look: impl FnMut(&[K]) -> usize) -> (f64, usize) {
    let mut pass = || keys.chunks(Tables::BURST).map(&mut look).sum::<usize>();
    pass();
    let (found, seconds) = timed(&mut pass);
    (keys.len() as f64 / seconds, found)
}

fn complete(found: usize, family: &str) -> Result<(), String> {
    match DESTINATIONS - found {
        0 => Ok(()),
        missed => Err(format!(
            "{missed} {family} lookups did not find the route that is there"
        )),
    }
}

fn v4(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(_) => 0,
    }
}

fn v6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(address) => address.into(),
    }
}
