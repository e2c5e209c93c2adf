//! The loc-rib as people see it.

use std::net::IpAddr;

use net::Prefix;

use super::{Entry, Path, Rib, Standing};
use crate::wire::Origin;
use crate::{PathView, RouteView};

impl Rib {
    /// Every prefix, in order, with every path: the best first, then multipath members, then the others.
    pub fn view(&self) -> Vec<RouteView> {
        let mut routes: Vec<RouteView> = self.table.iter().map(|(prefix, entry)| route(*prefix, entry)).collect();
        routes.sort_by_key(|route| route.prefix);
        routes
    }

    /// The prefixes that hold `address`, longest first, with their paths in the same order.
    pub fn covering(&self, address: IpAddr) -> Vec<RouteView> {
        let lengths = (0..=Prefix::host(address).len()).rev();
        let prefixes = lengths.filter_map(|length| Prefix::containing(address, length).ok());
        prefixes
            .filter_map(|prefix| Some(route(prefix, self.table.get(&prefix)?)))
            .collect()
    }
}

fn route(prefix: Prefix, entry: &Entry) -> RouteView {
    let mut paths: Vec<&Path> = entry.paths.iter().collect();
    paths.sort_by_key(|path| (rank(path.standing), path.peer.as_ref().map(|peer| peer.address)));
    RouteView {
        prefix,
        paths: paths.into_iter().map(view).collect(),
    }
}

const fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Best => 0,
        Standing::Multipath => 1,
        Standing::Lost(_) => 2,
        Standing::Ineligible(_) => 3,
    }
}

fn view(path: &Path) -> PathView {
    let attributes = &path.attributes;
    PathView {
        peer: path.peer.as_ref().map(|peer| peer.address),
        best: path.standing == Standing::Best,
        multipath: path.standing == Standing::Multipath,
        stale: path.stale,
        reason: match path.standing {
            Standing::Best | Standing::Multipath => None,
            Standing::Lost(step) => Some(step.to_string()),
            Standing::Ineligible(reason) => Some(reason.to_string()),
        },
        next_hop: path.peer.as_ref().map(|_| attributes.next_hop.address),
        link_local_next_hop: attributes.next_hop.link_local.map(IpAddr::V6),
        as_path: attributes.as_path.to_aspath_string(),
        origin: match attributes.origin {
            Origin::Igp => "igp",
            Origin::Egp => "egp",
            Origin::Incomplete => "incomplete",
        }
        .to_owned(),
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: attributes
            .communities()
            .iter()
            .map(|value| format!("{}:{}", value >> 16, value & 0xffff))
            .collect(),
        large_communities: attributes.large_communities().iter().map(ToString::to_string).collect(),
    }
}
