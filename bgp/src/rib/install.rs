//! From the paths that are used to the route that the gateway is told.

use net::policy::Community;
use net::{NextHop, Route, RouteKind, Source};

use super::intern::Compact;
use super::{Path, Standing};

/// What the gateway has to know of a prefix: nothing if no path is used, or if the prefix is our own.
pub(super) fn installed(paths: &[Path]) -> Option<(Source, Route)> {
    let best = paths.iter().find(|path| path.standing == Standing::Best)?;
    let source = if best.peer.as_ref()?.ebgp {
        Source::Ebgp
    } else {
        Source::Ibgp
    };
    let metric = best.attributes().med.unwrap_or(0);
    if best.marks().blackhole {
        let mut route = Route::special(RouteKind::Blackhole);
        route.metric = metric;
        return Some((source, route));
    }
    let mut others = paths
        .iter()
        .filter(|path| path.standing == Standing::Multipath)
        .peekable();
    if others.peek().is_none() {
        let mut route = Route::unicast(next_hop(best));
        route.metric = metric;
        return Some((source, route));
    }
    let used: Vec<&Path> = std::iter::once(best).chain(others).collect();
    let weights = weights(&used);
    let mut next_hops: Vec<NextHop> = Vec::new();
    for (path, weight) in used.into_iter().zip(weights) {
        let next_hop = next_hop(path);
        if !next_hops
            .iter()
            .any(|known| known.gateway == next_hop.gateway && known.interface == next_hop.interface)
        {
            next_hops.push(NextHop { weight, ..next_hop });
        }
    }
    next_hops[1..].sort_unstable_by_key(|next_hop| (next_hop.gateway, next_hop.interface.map(|index| index.0)));
    let mut route = Route::multipath(next_hops);
    route.metric = metric;
    Some((source, route))
}

/// Share of each path that is used: by link bandwidth if every one of them tells its own, else the same for all.
fn weights(used: &[&Path]) -> Vec<u16> {
    /// Weight of the widest link.
    const WIDEST: f32 = 64.0;
    let bandwidth = |path: &&Path| {
        let communities = path.attributes().every_community();
        let told = communities.into_iter().find_map(Community::link_bandwidth);
        told.filter(|bandwidth| *bandwidth > 0.0)
    };
    let told: Option<Vec<f32>> = used.iter().map(bandwidth).collect();
    let Some(told) = told.filter(|told| told.windows(2).any(|pair| pair[0] != pair[1])) else {
        return vec![1; used.len()];
    };
    let widest = told.iter().copied().fold(0.0, f32::max);
    // Rounded to 1 to 64: what is cut off is less than the data plane's own steps.
    let share = |bandwidth: f32| (bandwidth / widest * WIDEST).round().clamp(1.0, WIDEST) as u16;
    told.into_iter().map(share).collect()
}

fn next_hop(path: &Path) -> NextHop {
    let via = NextHop::via(path.attributes().next_hop.address);
    let interface = path.peer.as_ref().and_then(|peer| peer.interface);
    match interface {
        Some(interface) if path.attributes().next_hop.is_link_local() => via.through(interface),
        _ => via,
    }
}

impl Compact for (Source, Route) {
    fn compact(&mut self) {
        self.1.next_hops.shrink_to_fit();
    }
}
