//! The decision process (RFC 4271 section 9.1.2.2).
//!
//! Each step removes paths from the set of those still considered, comparing them with the whole set and never two by
//! two, so the order of arrival does not matter: MED, which orders only paths of one neighbour AS, cannot form a cycle.
//! A removed path keeps the step. How far next hops are is asked of the owner (`next_hops.rs`). With
//! [`Rules::prefer_oldest`] alone does history matter.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use net::policy::{Community, RouteSource};
use smallvec::SmallVec;

use super::{Path, Standing, Step};

/// LOCAL_PREF of a path that came without.
pub(super) const DEFAULT_LOCAL_PREF: u32 = 100;

/// Positions of the paths still considered.
type Left = SmallVec<[usize; 8]>;

/// What an operator may choose of the decision process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Most external paths used side by side; 0 and 1 both mean one.
    pub multipath: u8,
    /// Most internal paths used side by side.
    pub multipath_internal: u8,
    /// MED is compared between paths of different neighbour ASes too.
    pub always_compare_med: bool,
    /// The external path in use stays where only the tie breaks speak for another (RFC 5004): fewer changes, and an
    /// outcome that depends on what came first.
    pub prefer_oldest: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            multipath: 1,
            multipath_internal: 1,
            always_compare_med: false,
            prefer_oldest: false,
        }
    }
}

/// Sets the standing of every eligible path; `cost` is the metric of the route to a path's next hop. Paths of one kind,
/// external or internal, are used side by side if they are equal up to and including [`Step::IgpCost`]; their AS paths are equally
/// long but need not be the same.
pub fn decide(paths: &mut [Path], rules: Rules, cost: impl Fn(&Path) -> u32) {
    let mut left = eligible(paths);
    if let [only] = left[..] {
        paths[only].standing = Standing::Best;
        return;
    }
    let mut lost: SmallVec<[(usize, Step); 8]> = SmallVec::new();
    let equal = select(paths, &mut left, rules, cost, |i, step| lost.push((i, step)));
    for (i, step) in lost {
        paths[i].standing = Standing::Lost(step);
    }
    let Some(&best) = left.first() else { return };
    paths[best].standing = Standing::Best;

    let most = if is_external(&paths[best]) {
        rules.multipath
    } else {
        rules.multipath_internal
    };
    if most > 1 && paths[best].peer.is_some() {
        let mut others: Left = equal.into_iter().filter(|i| *i != best).collect();
        others.sort_by_key(|i| (identifier(&paths[*i]), address(&paths[*i]), paths[*i].path_id()));
        for i in others.into_iter().take(usize::from(most) - 1) {
            paths[i].standing = Standing::Multipath;
        }
    }
}

/// The eligible paths, best first: the one that [`decide`] has found, then each time the one that would be the best without
/// those before it.
pub(super) fn ranked(paths: &[Path], rules: Rules, cost: impl Fn(&Path) -> u32) -> impl Iterator<Item = &Path> {
    let mut rest = eligible(paths);
    let mut best = rest.iter().copied().find(|i| paths[*i].standing == Standing::Best);
    let rules = Rules {
        prefer_oldest: false,
        ..rules
    };
    std::iter::from_fn(move || {
        let next = best.take().or_else(|| {
            let mut left = rest.clone();
            select(paths, &mut left, rules, &cost, |_, _| ());
            left.first().copied()
        })?;
        rest.retain(|i| *i != next);
        Some(&paths[next])
    })
}

fn eligible(paths: &[Path]) -> Left {
    (0..paths.len()).filter(|i| paths[*i].is_eligible()).collect()
}

/// Leaves the best path alone in `left`, and tells `lost` at which step each other one went. Returns those that were equal
/// before the tie breaks.
fn select(
    paths: &[Path],
    left: &mut Left,
    rules: Rules,
    cost: impl Fn(&Path) -> u32,
    mut lost: impl FnMut(usize, Step),
) -> Left {
    keep_least(paths, left, Step::Originated, &mut lost, |path| {
        (
            path.peer.is_some(),
            path.peer.is_none() && path.source != RouteSource::Announced,
        )
    });
    keep_least(paths, left, Step::LongLivedStale, &mut lost, |path| {
        path.attributes().has_community(Community::LLGR_STALE)
    });
    keep_least(paths, left, Step::Weight, &mut lost, |path| {
        Reverse(path.marks().weight)
    });
    keep_least(paths, left, Step::LocalPref, &mut lost, |path| {
        Reverse(path.attributes().local_pref.unwrap_or(DEFAULT_LOCAL_PREF))
    });
    keep_least(paths, left, Step::AsPathLength, &mut lost, |path| {
        path.attributes().as_path.len()
    });
    keep_least(paths, left, Step::Origin, &mut lost, |path| path.attributes().origin);
    if rules.always_compare_med {
        keep_least(paths, left, Step::Med, &mut lost, med);
    } else {
        keep_least_med(paths, left, &mut lost);
    }
    keep_least(paths, left, Step::External, &mut lost, |path| !is_external(path));

    keep_least(paths, left, Step::IgpCost, &mut lost, cost);

    let equal = left.clone();
    if rules.prefer_oldest
        && let Some(used) = left.iter().copied().find(|i| paths[*i].standing == Standing::Best)
        && is_external(&paths[used])
    {
        keep_least(paths, left, Step::Oldest, &mut lost, |path| {
            path.standing != Standing::Best
        });
    }
    keep_least(paths, left, Step::RouterId, &mut lost, identifier);
    keep_least(paths, left, Step::ClusterList, &mut lost, |path| {
        path.attributes().cluster_list.len()
    });
    keep_least(paths, left, Step::PeerAddress, &mut lost, address);
    keep_least(paths, left, Step::PathId, &mut lost, Path::path_id);
    equal
}

/// Keeps the paths whose key is least.
fn keep_least<K: Ord>(
    paths: &[Path],
    left: &mut Left,
    step: Step,
    lost: &mut impl FnMut(usize, Step),
    key: impl Fn(&Path) -> K,
) {
    if left.len() < 2 {
        return;
    }
    let Some(least) = left.iter().map(|i| key(&paths[*i])).min() else {
        return;
    };
    left.retain(|i| {
        let keep = key(&paths[*i]) == least;
        if !keep {
            lost(*i, step);
        }
        keep
    });
}

/// Keeps, of each neighbour AS, the paths with the least MED; none counts as 0.
fn keep_least_med(paths: &[Path], left: &mut Left, lost: &mut impl FnMut(usize, Step)) {
    if left.len() < 2 {
        return;
    }
    let mut least: SmallVec<[(Option<u32>, u32); 4]> = SmallVec::new();
    for path in left.iter().map(|i| &paths[*i]) {
        let (neighbor, med) = (path.attributes().neighbor_as(), med(path));
        match least.iter_mut().find(|(known, _)| *known == neighbor) {
            Some((_, least)) => *least = med.min(*least),
            None => least.push((neighbor, med)),
        }
    }
    left.retain(|i| {
        let keep = least.contains(&(paths[*i].attributes().neighbor_as(), med(&paths[*i])));
        if !keep {
            lost(*i, Step::Med);
        }
        keep
    });
}

pub(super) fn med(path: &Path) -> u32 {
    path.attributes().med.unwrap_or(0)
}

pub(super) fn is_external(path: &Path) -> bool {
    path.peer.as_ref().is_some_and(|peer| peer.ebgp)
}

pub(super) fn identifier(path: &Path) -> Option<Ipv4Addr> {
    path.attributes()
        .originator_id
        .or_else(|| path.peer.as_ref().map(|peer| peer.router_id))
}

pub(super) fn address(path: &Path) -> Option<IpAddr> {
    path.peer.as_ref().map(|peer| peer.address)
}

#[cfg(test)]
mod tests;
