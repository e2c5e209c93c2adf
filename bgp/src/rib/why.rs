//! Why a route is what it is: for each path the step that decided, with the values that it compared, what import policy
//! did, and the next hop; and for each peer whether it is told, and if not, what keeps the route from it.
//!
//! Nothing of this is kept: policy is asked again, on the route as it was received.

use std::net::IpAddr;

use net::Prefix;

use super::export::{Withheld, export};
use super::group::Audience;
use super::table::Entry;
use super::{Path, Peer, Rib, Standing, Step, decision, path, view};
use crate::Family;
use crate::policy::{Decision, RouteText};
use crate::view::{DecidedWhy, NextHopWhy, PathWhy, PolicyWhy, RouteWhy, ToldWhy};

impl Rib {
    /// Why the route to `prefix` is what it is; `None` if there is no path.
    pub fn why(&self, prefix: &Prefix) -> Option<RouteWhy> {
        let position = self.table.position(prefix)?;
        let entry = self.table.at(position);
        let shown = view::sorted(entry);
        Some(RouteWhy {
            prefix: *prefix,
            paths: shown.into_iter().map(|path| self.path_why(entry, path)).collect(),
            told: self
                .peers
                .iter()
                .filter_map(|(address, peer)| self.told_why(position, entry, *address, peer))
                .collect(),
        })
    }

    fn path_why(&self, entry: &Entry, path: &Path) -> PathWhy {
        PathWhy {
            path: view::view(&entry.prefix, path),
            decided: self.decided(entry, path),
            policy: self.policy_why(&entry.prefix, path),
            next_hop: path.peer.as_ref().map(|_| self.next_hop_why(path)),
        }
    }

    /// The step at which a path has lost, with its value and that of the path it lost to.
    fn decided(&self, entry: &Entry, path: &Path) -> Option<DecidedWhy> {
        let Standing::Lost(step) = path.standing else {
            return None;
        };
        // At its step the best path was as good as any that was left; MED alone orders the paths of one neighbour AS.
        let neighbor = path.attributes().neighbor_as();
        let rivals = entry.paths.iter().filter(|rival| rival.is_eligible());
        let rival = match step {
            Step::Med if !self.rules.always_compare_med => rivals
                .filter(|rival| rival.attributes().neighbor_as() == neighbor)
                .filter(|rival| !matches!(rival.standing, Standing::Lost(earlier) if earlier < Step::Med))
                .min_by_key(|rival| decision::med(rival)),
            _ => rivals.into_iter().find(|rival| rival.standing == Standing::Best),
        }?;
        Some(DecidedWhy {
            step: step.to_string(),
            value: self.value(path, step),
            winner: self.value(rival, step),
            winner_peer: rival.peer.as_ref().map(|peer| peer.address),
        })
    }

    /// What a step compares.
    fn value(&self, path: &Path, step: Step) -> String {
        let attributes = path.attributes();
        let word = |yes: bool, words: [&str; 2]| words[usize::from(!yes)].to_owned();
        match step {
            Step::Originated => match (&path.peer, path.source) {
                (Some(_), _) => "learned".to_owned(),
                (None, source) => source.to_string(),
            },
            Step::LongLivedStale => {
                let stale = attributes.has_community(net::policy::Community::LLGR_STALE);
                word(stale, ["long-lived stale", "not stale"])
            }
            // Of EVPN alone.
            Step::MacMobility => String::new(),
            Step::Weight => path.marks().weight.to_string(),
            Step::LocalPref => attributes
                .local_pref
                .unwrap_or(decision::DEFAULT_LOCAL_PREF)
                .to_string(),
            Step::AsPathLength => attributes.as_path.len().to_string(),
            Step::Origin => attributes.origin_word().to_string(),
            Step::Med => decision::med(path).to_string(),
            Step::External => word(decision::is_external(path), ["external", "internal"]),
            Step::IgpCost => self.next_hops.cost(attributes.next_hop).to_string(),
            Step::Oldest => word(path.standing == Standing::Best, ["in use", "newer"]),
            Step::RouterId => decision::identifier(path).map_or_else(String::new, |id| id.to_string()),
            Step::ClusterList => attributes.cluster_list.len().to_string(),
            Step::PeerAddress => decision::address(path).map_or_else(String::new, |peer| peer.to_string()),
        }
    }

    /// What import policy did; nothing if the path did not come as far as that.
    fn policy_why(&self, prefix: &Prefix, path: &Path) -> Option<PolicyWhy> {
        let info = path.peer.as_ref()?;
        if path::ineligible(info, self.asn, self.router_id, &path.received).is_some() {
            return None;
        }
        let mut route = self.policy_route(info, *prefix, &path.received);
        let before = RouteText::of(&route);
        let verdict = info.import.evaluate(info.ebgp, &mut route);
        crate::policy::honour_graceful_shutdown(info.ebgp, &mut route);
        let after = RouteText::of(&route);
        let decided_by = match verdict.decision {
            Decision::NoPolicy if verdict.accept => "no policy, on an internal session".to_owned(),
            decision => info.import.explain(prefix, decision),
        };
        let changes = if verdict.accept {
            before.differences(&after)
        } else {
            Vec::new()
        };
        Some(PolicyWhy {
            accepted: verdict.accept,
            decided_by,
            changes,
        })
    }

    fn next_hop_why(&self, path: &Path) -> NextHopWhy {
        let next_hop = path.attributes().next_hop;
        let (state, metric) = self.next_hops.state(next_hop);
        NextHopWhy {
            address: next_hop.address,
            state: state.to_owned(),
            metric,
        }
    }

    /// Whether a peer is told of the prefix; `None` while it has no session.
    fn told_why(&self, position: u32, entry: &Entry, address: IpAddr, peer: &Peer) -> Option<ToldWhy> {
        let out = peer.out.as_ref()?;
        let info = &peer.info;
        let audience = Audience::of(info);
        let told = self
            .groups
            .get(&out.group)
            .and_then(|group| group.told(position, address, info.asn));
        let reason = match told {
            Some(_) => None,
            None => Some(self.withheld(&audience, entry, address, info.asn)),
        };
        Some(ToldWhy {
            peer: address,
            told: told.is_some(),
            waits: told.is_some() && out.queue.holds(&entry.prefix),
            next_hop: told.map(|attributes| attributes.next_hop.address),
            as_path: told.map(|attributes| attributes.as_path.to_aspath_string()),
            reason,
        })
    }

    /// What keeps the route from a peer.
    fn withheld(&self, audience: &Audience, entry: &Entry, address: IpAddr, asn: u32) -> String {
        let best = entry.paths.iter().find(|path| path.standing == Standing::Best);
        let Some(best) = best else {
            return "no path is used".to_owned();
        };
        if !audience.context.families.contains(&Family::of(&entry.prefix)) {
            return "the session does not carry the family".to_owned();
        }
        match &best.peer {
            Some(from) if from.address == address => return "the best path came from it".to_owned(),
            Some(from) if !from.ebgp => return "the best path is internal, and nothing is reflected".to_owned(),
            Some(_) if !audience.advertise_learned => {
                return "routes of peers are not passed on to it (advertise-learned)".to_owned();
            }
            _ => {}
        }
        match export(audience, self.asn, &entry.prefix, best) {
            Err(Withheld::Policy(decision)) => {
                format!("export policy: {}", audience.export.explain(&entry.prefix, decision))
            }
            Err(reason) => reason.to_string(),
            Ok(attributes) if audience.ebgp && attributes.as_path.contains_asn(asn) => {
                "its AS is in the AS path".to_owned()
            }
            Ok(_) => "not yet".to_owned(),
        }
    }
}
