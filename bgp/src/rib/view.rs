//! The loc-rib as people see it.

use std::net::IpAddr;
use std::sync::Arc;

use net::Prefix;
use net::policy::Community;

use super::table::Entry;
use super::{Ineligible, Path, Rib, Standing};
use crate::policy::Decision;
use crate::{PathView, RouteView};

impl Rib {
    /// Every prefix, or one, in order, with every path: the best first, then multipath members, then the others.
    pub fn view(&self, of: Option<&Prefix>) -> Vec<RouteView> {
        let mut routes: Vec<RouteView> = match of {
            None => self.table.iter().map(|(_, entry)| route(entry)).collect(),
            Some(prefix) => self.table.get(prefix).map(route).into_iter().collect(),
        };
        routes.sort_by_key(|route| route.prefix);
        routes
    }

    /// The prefixes that hold `address`, longest first, with their paths in the same order.
    pub fn covering(&self, address: IpAddr) -> Vec<RouteView> {
        let lengths = (0..=Prefix::host(address).len()).rev();
        let prefixes = lengths.filter_map(|length| Prefix::containing(address, length).ok());
        prefixes
            .filter_map(|prefix| self.table.get(&prefix).map(route))
            .collect()
    }
}

fn route(entry: &Entry) -> RouteView {
    let prefix = entry.prefix;
    RouteView {
        prefix,
        paths: sorted(entry).into_iter().map(|path| view(&prefix, path)).collect(),
    }
}

/// The paths: the best first, then multipath members, then the others.
pub(super) fn sorted(entry: &Entry) -> Vec<&Path> {
    let mut paths: Vec<&Path> = entry.paths.iter().collect();
    paths.sort_by_key(|path| (rank(path.standing), path.peer.as_ref().map(|peer| peer.address)));
    paths
}

const fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Best => 0,
        Standing::Multipath => 1,
        Standing::Lost(_) => 2,
        Standing::Ineligible(_) => 3,
    }
}

pub(super) fn view(prefix: &Prefix, path: &Path) -> PathView {
    let attributes = path.attributes();
    let kinds = attributes.every_community();
    PathView {
        peer: path.peer.as_ref().map(|peer| peer.address),
        best: path.standing == Standing::Best,
        multipath: path.standing == Standing::Multipath,
        stale: path.stale,
        reason: match path.standing {
            Standing::Best | Standing::Multipath => None,
            Standing::Lost(step) => Some(step.to_string()),
            Standing::Ineligible(reason) => Some(ineligible(prefix, path, reason)),
        },
        next_hop: path.peer.as_ref().map(|_| attributes.next_hop.address),
        link_local_next_hop: attributes.next_hop.link_local.map(IpAddr::V6),
        as_path: attributes.as_path.to_aspath_string(),
        origin: attributes.origin_word().to_string(),
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: texts(&kinds, |community| matches!(community, Community::Standard(_))),
        extended_communities: texts(&kinds, |community| matches!(community, Community::Extended(_))),
        large_communities: texts(&kinds, |community| matches!(community, Community::Large(..))),
        only_to_customer: attributes.only_to_customer(),
        source: path.source.to_string(),
        weight: path.marks().weight,
        tag: path.marks().tag,
        blackhole: path.marks().blackhole,
        changed_by_policy: !Arc::ptr_eq(&path.received, path.attributes()),
        rpki: path.marks().validity.to_string(),
    }
}

/// With the names of the configuration where policy decided.
fn ineligible(prefix: &Prefix, path: &Path, reason: Ineligible) -> String {
    match (reason, &path.peer) {
        (Ineligible::Policy(decision), Some(peer)) if decision != Decision::NoPolicy => {
            format!("{reason}: {}", peer.import.explain(prefix, decision))
        }
        _ => reason.to_string(),
    }
}

fn texts(communities: &[Community], kind: impl Fn(&Community) -> bool) -> Vec<String> {
    communities
        .iter()
        .filter(|community| kind(community))
        .map(ToString::to_string)
        .collect()
}
