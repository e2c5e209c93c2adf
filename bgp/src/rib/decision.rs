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
    let mut left: Left = (0..paths.len()).filter(|i| paths[*i].is_eligible()).collect();
    if let [only] = left[..] {
        paths[only].standing = Standing::Best;
        return;
    }

    keep_least(paths, &mut left, Step::Originated, |path| {
        (
            path.peer.is_some(),
            path.peer.is_none() && path.source != RouteSource::Announced,
        )
    });
    keep_least(paths, &mut left, Step::LongLivedStale, |path| {
        path.attributes().has_community(Community::LLGR_STALE)
    });
    keep_least(paths, &mut left, Step::Weight, |path| Reverse(path.marks().weight));
    keep_least(paths, &mut left, Step::LocalPref, |path| {
        Reverse(path.attributes().local_pref.unwrap_or(DEFAULT_LOCAL_PREF))
    });
    keep_least(paths, &mut left, Step::AsPathLength, |path| {
        path.attributes().as_path.len()
    });
    keep_least(paths, &mut left, Step::Origin, |path| path.attributes().origin);
    if rules.always_compare_med {
        keep_least(paths, &mut left, Step::Med, med);
    } else {
        keep_least_med(paths, &mut left);
    }
    keep_least(paths, &mut left, Step::External, |path| !is_external(path));

    keep_least(paths, &mut left, Step::IgpCost, cost);

    let equal = left.clone();
    if rules.prefer_oldest
        && let Some(used) = left.iter().copied().find(|i| paths[*i].standing == Standing::Best)
        && is_external(&paths[used])
    {
        keep_least(paths, &mut left, Step::Oldest, |path| path.standing != Standing::Best);
    }
    keep_least(paths, &mut left, Step::RouterId, identifier);
    keep_least(paths, &mut left, Step::ClusterList, |path| {
        path.attributes().cluster_list.len()
    });
    keep_least(paths, &mut left, Step::PeerAddress, address);
    let Some(&best) = left.first() else { return };
    paths[best].standing = Standing::Best;

    let most = if is_external(&paths[best]) {
        rules.multipath
    } else {
        rules.multipath_internal
    };
    if most > 1 && paths[best].peer.is_some() {
        let mut others: Left = equal.into_iter().filter(|i| *i != best).collect();
        others.sort_by_key(|i| (identifier(&paths[*i]), address(&paths[*i])));
        for i in others.into_iter().take(usize::from(most) - 1) {
            paths[i].standing = Standing::Multipath;
        }
    }
}

/// Keeps the paths whose key is least.
fn keep_least<K: Ord>(paths: &mut [Path], left: &mut Left, step: Step, key: impl Fn(&Path) -> K) {
    let Some(least) = left.iter().map(|i| key(&paths[*i])).min() else {
        return;
    };
    left.retain(|i| {
        let keep = key(&paths[*i]) == least;
        if !keep {
            paths[*i].standing = Standing::Lost(step);
        }
        keep
    });
}

/// Keeps, of each neighbour AS, the paths with the least MED; none counts as 0.
fn keep_least_med(paths: &mut [Path], left: &mut Left) {
    let considered = left.clone();
    left.retain(|i| {
        let path = &paths[*i];
        let beaten = considered.iter().any(|other| {
            let other = &paths[*other];
            other.attributes().neighbor_as() == path.attributes().neighbor_as() && med(other) < med(path)
        });
        if beaten {
            paths[*i].standing = Standing::Lost(Step::Med);
        }
        !beaten
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
