//! A path to an EVPN route, and which of several is best.

use std::cmp::Reverse;
use std::net::IpAddr;

use net::Prefix;

use crate::rib::{Path, Rules, Standing, Step, decide};
use crate::wire::{EvpnKey, EvpnMarks, EvpnRoute};

/// A path, with what the NLRI and the communities of EVPN say.
#[derive(Debug, Clone)]
pub(super) struct EvpnPath {
    pub(super) path: Path,
    pub(super) route: EvpnRoute,
    pub(super) marks: EvpnMarks,
}

impl EvpnPath {
    /// Of a host that must not move, and how often it has moved.
    fn mobility(&self) -> (bool, u32) {
        self.marks.mobility.unwrap_or_default()
    }

    fn endpoint(&self) -> IpAddr {
        self.path.attributes().next_hop.address
    }
}

/// What policies see as the destination of a route: the prefix or host, or the router that speaks of itself. Nothing at all,
/// 0.0.0.0/0, for what is told of MAC addresses and Ethernet segments.
pub(super) fn policy_prefix(key: &EvpnKey) -> Prefix {
    match key {
        EvpnKey::Multicast { originator, .. } | EvpnKey::Segment { originator, .. } => Prefix::host(*originator),
        _ => key.destination().unwrap_or(Prefix::DEFAULT_V4),
    }
}

/// Sets the standing of every eligible path: where a host is, then the decision process of unicast (RFC 4271 section 9.1.2).
///
/// A host is where it must not move from, or where it has moved to last; of routers that know of equally many moves, and are
/// not on one Ethernet segment, at the lowest address (RFC 7432 section 15). `cost` is the metric of the route to a path's
/// endpoint.
pub(super) fn decide_evpn(paths: &mut [EvpnPath], rules: Rules, cost: impl Fn(&Path) -> u32) {
    let eligible = |path: &EvpnPath| path.path.is_eligible();
    let is_host = |path: &EvpnPath| matches!(path.route.key, EvpnKey::Host { .. });
    let hosts = |paths: &[EvpnPath]| -> Vec<usize> {
        let all = 0..paths.len();
        all.filter(|i| eligible(&paths[*i]) && is_host(&paths[*i])).collect()
    };
    let rank = |path: &EvpnPath| {
        let (sticky, sequence) = path.mobility();
        (!sticky, Reverse(sequence))
    };
    let mut moved_on = Vec::new();
    let mut here = hosts(paths);
    if let Some(best) = here.iter().map(|i| rank(&paths[*i])).min() {
        here.retain(|i| {
            let stays = rank(&paths[*i]) == best;
            if !stays {
                moved_on.push(*i);
            }
            stays
        });
        let segment = paths[here[0]].route.esi;
        let one_segment = !segment.is_zero() && here.iter().all(|i| paths[*i].route.esi == segment);
        let lowest = here.iter().map(|i| paths[*i].endpoint()).min();
        if !one_segment {
            moved_on.extend(here.into_iter().filter(|i| Some(paths[*i].endpoint()) != lowest));
        }
    }
    let mut left: Vec<usize> = (0..paths.len()).filter(|i| !moved_on.contains(i)).collect();
    for i in moved_on {
        paths[i].path.standing = Standing::Lost(Step::MacMobility);
    }
    left.retain(|i| eligible(&paths[*i]));
    let mut contenders: Vec<Path> = left.iter().map(|i| paths[*i].path.clone()).collect();
    decide(&mut contenders, rules, cost);
    for (i, path) in left.into_iter().zip(contenders) {
        paths[i].path.standing = path.standing;
    }
}
