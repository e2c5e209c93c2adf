//! A full table: the time until it is published, the time to lose a router, and the memory that it takes.

use net::{NextHop, Prefix, Route, RouteChange, RouteKind, Source, VrfId};
use prefix_trie::PrefixMap;

use super::world::{HOST, PEERS, fabric, publish as published, resident, router, table, timed};
use super::{Figures, Sizes, figures};
use crate::bench::random::Random;

/// Routes of each small VRF.
const SMALL: usize = 100;
/// Memory of the smallest host that everything must fit on, bytes.
const SMALLEST_HOST: usize = 4 << 30;

/// The table from changes to published; then the routes of one router withdrawn.
///
/// # Errors
/// If a route is missing in what was published.
pub fn publish(sizes: &Sizes) -> Result<Figures, String> {
    let prefixes = Random::new(4).prefixes_v4(sizes.v4);
    let changes = table(&prefixes);
    let (mut rib, _reader) = fabric();
    let (generation, seconds) = timed(|| {
        changes.into_iter().for_each(|change| rib.route(change));
        published(&mut rib)
    });
    if generation.winners.len() != prefixes.len() {
        return Err(format!(
            "{} of {} routes were published",
            generation.winners.len(),
            prefixes.len()
        ));
    }
    drop(generation);
    let (_, other_copy) = timed(|| published(&mut rib));
    let peer_down = peer_down(&mut rib, prefixes.len())?;
    let (trie, insert) = timed(|| alone(&prefixes));
    drop(trie);
    figures([
        ("routes-1m-publish-s", seconds),
        ("routes-other-copy-s", other_copy),
        ("routes-peer-down-s", peer_down),
        ("peer-trie-insert-s", insert),
    ])
}

/// One of the routers becomes unreachable: the time until none of its routes, an eighth of all, is published any more.
fn peer_down(rib: &mut rib::Rib, routes: usize) -> Result<f64, String> {
    let unreachable = RouteChange {
        vrf: VrfId::DEFAULT,
        prefix: Prefix::host(router(1)),
        source: Source::Static,
        route: Some(Route::special(RouteKind::Unreachable)),
    };
    let (generation, seconds) = timed(|| {
        rib.route(unreachable);
        published(rib)
    });
    let lost = generation
        .winners
        .iter()
        .filter(|winner| winner.route.is_none())
        .count();
    if lost < routes / usize::from(PEERS) {
        return Err(format!(
            "{lost} routes of {routes} were lost with one of {PEERS} routers"
        ));
    }
    Ok(seconds)
}

/// The same prefixes in a `prefix-trie`, each with a number.
pub fn alone(prefixes: &[Prefix]) -> PrefixMap<net::Ipv4Net, u32> {
    let mut trie = PrefixMap::new();
    for (prefix, value) in prefixes.iter().zip(0..) {
        if let net::IpNet::V4(net) = prefix.net() {
            trie.insert(net, value);
        }
    }
    trie
}

/// One large VRF and many small ones in one process.
///
/// # Errors
/// If together they do not fit on a host of 4 GiB.
pub fn memory(sizes: &Sizes) -> Result<Figures, String> {
    let mut random = Random::new(4);
    let prefixes = random.prefixes_v4(sizes.v4);
    let before = resident()?;
    let (mut rib, _reader) = fabric();
    table(&prefixes).into_iter().for_each(|change| rib.route(change));
    drop(published(&mut rib));
    drop(published(&mut rib));
    let large = rib.stats();
    let large_bytes = large.rib_bytes + 2 * large.table_bytes;
    for vrf in (1..=sizes.vrfs).map(VrfId) {
        for prefix in random.prefixes_v4(SMALL) {
            let next_hop = NextHop::via(router(1)).through(HOST);
            rib.route(RouteChange {
                vrf,
                prefix,
                source: Source::Static,
                route: Some(Route::unicast(next_hop)),
            });
        }
    }
    drop(published(&mut rib));
    drop(published(&mut rib));
    let all = rib.stats();
    let small_bytes = all.rib_bytes + 2 * all.table_bytes - large_bytes;
    let resident = resident()?.saturating_sub(before);
    if resident > SMALLEST_HOST {
        return Err(format!(
            "{} MiB are resident, more than a host of 4 GiB has",
            resident >> 20
        ));
    }
    let small = SMALL * usize::from(sizes.vrfs);
    figures([
        ("routes-bytes-per-route", large_bytes as f64 / sizes.v4 as f64),
        ("routes-small-vrfs-bytes-per-route", small_bytes as f64 / small as f64),
        ("routes-4gib-host-mib", resident as f64 / f64::from(1 << 20)),
        (
            "peer-trie-bytes-per-route",
            alone(&prefixes).mem_size() as f64 / sizes.v4 as f64,
        ),
    ])
}
