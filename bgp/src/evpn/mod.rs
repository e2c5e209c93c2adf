//! EVPN (RFC 7432, 8365, 9135, 9136): the routes of AFI 25, SAFI 70, and the VRFs that take part.
//!
//! One map from route to paths is adj-rib-in and loc-rib, as with unicast (`rib/mod.rs`), whose paths, policies, next hop
//! tracking and decision process serve here too. What is best of a route goes two ways: to peers (`group.rs`), and into the VRFs
//! that import one of its route targets (`vrf.rs`), where the routes of all route distinguishers to one prefix compete
//! once more. Out of that come [`RouteChange`]s with VXLAN next hops. The other way, `originate.rs` makes type 5
//! routes of what the owner says that it forwards to in a VRF.
//!
//! Types 2 and 5 are imported; types 1, 3 and 4 are kept, shown and passed on. A path that is not used says why, and so does
//! one that is in no VRF (`view.rs`).

mod config;
mod group;
mod originate;
mod path;
mod peers;
mod pending;
mod view;
mod vrf;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use net::policy::RouteSource;
use net::{Prefix, RouteChange, RouteTarget, Source, VrfId};

use self::group::Group;
use self::path::{EvpnPath, decide_evpn, policy_prefix};
use self::peers::Peer;
use self::vrf::Vrf;
use crate::policy::{self, Marks, PolicyRoute};
use crate::rib::intern::Interner;
use crate::rib::path::{ineligible, unusable_next_hop};
use crate::rib::{Changed, Ineligible, NextHops, Path, PeerInfo, Rules, Standing, Step};
use crate::wire::{Attributes, EvpnKey, EvpnMarks, EvpnRoute, EvpnUpdate};

pub use self::config::EvpnVrf;
pub(crate) use self::pending::{Pending, announcement};
pub use self::view::{EvpnImportView, EvpnPathView, EvpnRouteView, EvpnState, EvpnVrfView};

/// A route with its paths.
#[derive(Debug, Default)]
struct Entry {
    paths: Vec<EvpnPath>,
    /// VRFs in which it is a candidate.
    vrfs: BTreeSet<VrfId>,
}

/// Every table of EVPN.
#[derive(Debug)]
pub(crate) struct Evpn {
    asn: u32,
    router_id: Ipv4Addr,
    rules: Rules,
    next_hops: NextHops,
    table: BTreeMap<EvpnKey, Entry>,
    peers: BTreeMap<IpAddr, Peer>,
    groups: BTreeMap<u32, Group>,
    next_group: u32,
    attributes: Interner<Attributes>,
    vrfs: BTreeMap<VrfId, Vrf>,
    by_target: HashMap<RouteTarget, Vec<VrfId>>,
    /// What the owner forwards to in VRFs.
    offered: BTreeMap<(VrfId, Prefix), RouteSource>,
    /// Routes to decide.
    dirty: BTreeSet<EvpnKey>,
    /// Prefixes of VRFs to decide.
    touched: BTreeSet<(VrfId, Prefix)>,
    /// Routes of VRFs that take no part any more.
    withdrawn: Vec<(VrfId, Prefix, Source)>,
}

impl Evpn {
    /// Empty tables of the speaker with this AS and identifier.
    pub(crate) fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            rules: Rules::default(),
            next_hops: NextHops::default(),
            table: BTreeMap::new(),
            peers: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_group: 0,
            attributes: Interner::default(),
            vrfs: BTreeMap::new(),
            by_target: HashMap::new(),
            offered: BTreeMap::new(),
            dirty: BTreeSet::new(),
            touched: BTreeSet::new(),
            withdrawn: Vec::new(),
        }
    }

    /// Decides by other rules.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        if self.rules != rules {
            self.rules = rules;
            self.dirty.extend(self.table.keys());
        }
    }

    /// Whether next hops are asked for.
    pub(crate) fn track_next_hops(&mut self, tracking: bool) {
        self.next_hops.track(tracking);
    }

    /// Every next hop to say something of, if that is another set than the last time.
    pub(crate) fn wanted_next_hops(&mut self) -> Option<BTreeSet<IpAddr>> {
        self.next_hops.wanted()
    }

    /// True while the first answer on a next hop is awaited.
    pub(crate) fn awaits_next_hops(&self) -> bool {
        self.next_hops.awaits()
    }

    /// Takes answers: the metric of the route to each next hop, or `None` if there is none.
    pub(crate) fn next_hops_are(&mut self, answers: &[(IpAddr, Option<u32>)]) {
        let changed = self.next_hops.answer(answers);
        if changed.is_empty() {
            return;
        }
        for (key, entry) in &mut self.table {
            for path in &mut entry.paths {
                let path = &mut path.path;
                let reach = changed.get(&path.attributes().next_hop.address);
                let Some(reach) = reach.filter(|_| path.peer.is_some()) else {
                    continue;
                };
                self.dirty.insert(*key);
                let open = matches!(
                    path.standing,
                    Standing::Ineligible(Ineligible::NextHopAsked | Ineligible::NextHopUnreachable)
                );
                match reach.problem() {
                    None if open => path.standing = Standing::Lost(Step::PeerAddress),
                    Some(problem) if open || path.is_eligible() => path.standing = Standing::Ineligible(problem),
                    _ => {}
                }
            }
        }
    }

    /// Decides everything that was touched, tells peers, and yields the changes of the VRFs, those of one prefix next to each
    /// other and withdrawals first.
    pub(crate) fn take_changes(&mut self) -> Vec<RouteChange> {
        let gone = std::mem::take(&mut self.withdrawn).into_iter();
        let mut changes: Vec<RouteChange> = gone
            .map(|(vrf, prefix, source)| RouteChange {
                vrf,
                prefix,
                source,
                route: None,
            })
            .collect();
        for key in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.table.get_mut(&key) else {
                continue;
            };
            let cost = |path: &Path| self.next_hops.cost(path.attributes().next_hop);
            decide_evpn(&mut entry.paths, self.rules, cost);
            let best = entry.paths.iter().find(|path| path.path.standing == Standing::Best);
            for group in self.groups.values_mut() {
                group.advertise(key, best, &mut self.attributes, self.asn);
            }
            self.place(key);
            if self.table.get(&key).is_some_and(|entry| entry.paths.is_empty()) {
                self.table.remove(&key);
            }
        }
        for (vrf, prefix) in std::mem::take(&mut self.touched) {
            self.settle(vrf, prefix, &mut changes);
        }
        changes
    }

    /// Takes what an established peer says; from any other it is ignored.
    pub(crate) fn update(&mut self, address: IpAddr, update: EvpnUpdate) {
        let Some(info) = self.established(address) else { return };
        for key in &update.withdrawn {
            self.remove(key, address);
        }
        for announcement in update.announced {
            let attributes = self.attributes.intern(announcement.attributes);
            for route in announcement.routes {
                let path = self.import(&info, &route.key, &attributes);
                self.insert(address, route, path);
            }
        }
    }

    /// Routes in the adj-rib-in of a peer.
    pub(crate) fn received(&self, address: IpAddr) -> u32 {
        self.peers.get(&address).map_or(0, |peer| peer.received)
    }

    /// The path that a peer's announcement makes: checked, and changed by its import policy.
    fn import(&mut self, info: &Arc<PeerInfo>, key: &EvpnKey, received: &Arc<Attributes>) -> Path {
        let source = if info.ebgp {
            RouteSource::Ebgp
        } else {
            RouteSource::Ibgp
        };
        let mut route = PolicyRoute {
            prefix: policy_prefix(key),
            attributes: Cow::Borrowed(received),
            marks: Marks::default(),
            neighbor: Some(info.address),
            source,
            local_as: self.asn,
            next_hop: None,
        };
        // Roles are a matter of unicast alone (RFC 9234 section 5).
        let reason = ineligible(info, self.asn, self.router_id, received)
            .filter(|reason| *reason != Ineligible::RouteLeak)
            .or_else(|| {
                let verdict = info.import.for_evpn().evaluate(info.ebgp, &mut route);
                if !verdict.accept {
                    return Some(Ineligible::Policy(verdict.decision));
                }
                policy::honour_graceful_shutdown(info.ebgp, &mut route);
                let next_hop = route.attributes.next_hop;
                let ours = self.vrfs.values().any(|vrf| vrf.config.vtep == next_hop.address);
                unusable_next_hop(info, self.router_id, &route.attributes)
                    .or(ours.then_some(Ineligible::NextHopSelf))
                    .or_else(|| self.next_hops.problem(next_hop))
            });
        let marks = route.marks;
        let attributes = match route.attributes {
            Cow::Owned(changed) => self.attributes.intern(changed),
            Cow::Borrowed(_) => Arc::clone(received),
        };
        let changed = (marks != Marks::default() || !Arc::ptr_eq(&attributes, received))
            .then(|| Arc::new(Changed { attributes, marks }));
        Path {
            peer: Some(Arc::clone(info)),
            source,
            received: Arc::clone(received),
            changed,
            standing: reason.map_or(Standing::Lost(Step::PeerAddress), Standing::Ineligible),
            stale: false,
        }
    }

    fn insert(&mut self, address: IpAddr, route: EvpnRoute, mut path: Path) {
        let entry = self.table.entry(route.key).or_default();
        let marks = EvpnMarks::of(path.attributes());
        self.dirty.insert(route.key);
        match entry.paths.iter_mut().find(|known| known.path.is_from(address)) {
            Some(known) => {
                if known.path.standing == Standing::Best && path.is_eligible() {
                    path.standing = Standing::Best;
                }
                *known = EvpnPath { path, route, marks };
            }
            None => {
                entry.paths.push(EvpnPath { path, route, marks });
                if let Some(peer) = self.peers.get_mut(&address) {
                    peer.received += 1;
                }
            }
        }
    }

    fn remove(&mut self, key: &EvpnKey, address: IpAddr) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let before = entry.paths.len();
        entry.paths.retain(|path| !path.path.is_from(address));
        if entry.paths.len() != before {
            self.dirty.insert(*key);
            if let Some(peer) = self.peers.get_mut(&address) {
                peer.received -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
