//! The decision process (RFC 4271 section 9.1.2.2).
//!
//! Each step removes paths from the set of those still considered, comparing them with the whole set and never two by
//! two, so the order of arrival does not matter: MED, which orders only paths of one neighbour AS, cannot form a cycle.
//! A removed path keeps the step. The IGP cost step has no place here, since next hops are resolved by the RIB of the
//! gateway.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use net::policy::Community;
use smallvec::SmallVec;

use super::{Path, Standing, Step};

/// LOCAL_PREF of a path that came without.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Positions of the paths still considered.
type Left = SmallVec<[usize; 8]>;

/// Sets the standing of every eligible path. At most `multipath` external paths are used side by side if they are equal
/// up to and including [`Step::External`]; their AS paths are equally long but need not be the same.
pub fn decide(paths: &mut [Path], multipath: u8) {
    let mut left: Left = (0..paths.len()).filter(|i| paths[*i].is_eligible()).collect();
    if let [only] = left[..] {
        paths[only].standing = Standing::Best;
        return;
    }

    keep_least(paths, &mut left, Step::Originated, |path| path.peer.is_some());
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
    keep_least_med(paths, &mut left);
    keep_least(paths, &mut left, Step::External, |path| !is_external(path));

    let equal = left.clone();
    keep_least(paths, &mut left, Step::RouterId, identifier);
    keep_least(paths, &mut left, Step::ClusterList, |path| {
        path.attributes().cluster_list.len()
    });
    keep_least(paths, &mut left, Step::PeerAddress, address);
    let Some(&best) = left.first() else { return };
    paths[best].standing = Standing::Best;

    if multipath > 1 && is_external(&paths[best]) {
        let mut others: Left = equal.into_iter().filter(|i| *i != best).collect();
        others.sort_by_key(|i| (identifier(&paths[*i]), address(&paths[*i])));
        for i in others.into_iter().take(usize::from(multipath) - 1) {
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
    let med = |path: &Path| path.attributes().med.unwrap_or(0);
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

fn is_external(path: &Path) -> bool {
    path.peer.as_ref().is_some_and(|peer| peer.ebgp)
}

fn identifier(path: &Path) -> Option<Ipv4Addr> {
    path.attributes()
        .originator_id
        .or_else(|| path.peer.as_ref().map(|peer| peer.router_id))
}

fn address(path: &Path) -> Option<IpAddr> {
    path.peer.as_ref().map(|peer| peer.address)
}

#[cfg(test)]
mod tests;
