//! Next hops of paths, and what the owner of the speaker says of them (RFC 4271 section 9.1.2.1).
//!
//! The speaker does not resolve addresses. Each next hop that a path has is asked for once; the answer, and every later
//! one, says how far it is, or that it is not reachable. Until the first a path with it is not eligible. Link-local next hops
//! are on the link of their peer and not asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::{Ineligible, Path, Rib, Standing, Step, mark};
use crate::Family;
use crate::wire::NextHop;

/// What is known of a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Asked,
    Unreachable,
    /// With the metric of the route to it.
    Reachable(u32),
}

impl Reach {
    pub(crate) const fn problem(self) -> Option<Ineligible> {
        match self {
            Self::Asked => Some(Ineligible::NextHopAsked),
            Self::Unreachable => Some(Ineligible::NextHopUnreachable),
            Self::Reachable(_) => None,
        }
    }
}

/// Every next hop asked for. Without tracking all are reachable and equally far.
#[derive(Debug, Default)]
pub(crate) struct NextHops {
    tracking: bool,
    known: HashMap<IpAddr, Reach, RandomState>,
    /// The owner has not heard of all that are wanted, or still has some that are not.
    changed: bool,
}

impl NextHops {
    /// Whether any is asked for.
    pub(crate) fn track(&mut self, tracking: bool) {
        self.tracking = tracking;
    }

    /// Every next hop to say something of, if that is another set than the last time.
    pub(crate) fn wanted(&mut self) -> Option<BTreeSet<IpAddr>> {
        std::mem::take(&mut self.changed).then(|| self.known.keys().copied().collect())
    }

    /// True while the first answer on one is awaited.
    pub(crate) fn awaits(&self) -> bool {
        self.known.values().any(|reach| *reach == Reach::Asked)
    }

    /// Takes answers: the metric of the route to each, or `None` if there is none. Yields those that say something new; those
    /// that no path has any more are forgotten.
    pub(crate) fn answer(&mut self, answers: &[(IpAddr, Option<u32>)]) -> BTreeMap<IpAddr, Reach> {
        let mut changed: BTreeMap<IpAddr, Reach> = BTreeMap::new();
        for (address, metric) in answers {
            let reach = metric.map_or(Reach::Unreachable, Reach::Reachable);
            if let Some(known) = self.known.get_mut(address).filter(|known| **known != reach) {
                *known = reach;
                changed.insert(*address, reach);
            }
        }
        changed
    }

    /// Forgets all but those in use.
    pub(crate) fn prune(&mut self, used: impl FnOnce() -> BTreeSet<IpAddr>) {
        if self.known.is_empty() {
            return;
        }
        let used = used();
        let before = self.known.len();
        self.known.retain(|address, _| used.contains(address));
        self.changed |= self.known.len() != before;
    }

    /// What keeps a path with this next hop out of the decision process; asks for it.
    pub(crate) fn problem(&mut self, next_hop: NextHop) -> Option<Ineligible> {
        if !self.tracking || next_hop.is_link_local() {
            return None;
        }
        let known = self.known.entry(next_hop.address).or_insert_with(|| {
            self.changed = true;
            Reach::Asked
        });
        known.problem()
    }

    /// What is known of the next hop, in a word, and the metric of the route to it.
    pub(super) fn state(&self, next_hop: NextHop) -> (&'static str, Option<u32>) {
        if next_hop.is_link_local() {
            return ("link-local", None);
        }
        match self.known.get(&next_hop.address) {
            _ if !self.tracking => ("not-tracked", None),
            None => ("not-asked", None),
            Some(Reach::Asked) => ("asked", None),
            Some(Reach::Unreachable) => ("unreachable", None),
            Some(Reach::Reachable(metric)) => ("reachable", Some(*metric)),
        }
    }

    /// Metric of the route to the next hop.
    pub(crate) fn cost(&self, next_hop: NextHop) -> u32 {
        match self.known.get(&next_hop.address) {
            Some(Reach::Reachable(metric)) => *metric,
            _ => 0,
        }
    }
}

impl Rib {
    /// Whether next hops are asked for.
    pub fn track_next_hops(&mut self, tracking: bool) {
        self.next_hops.track(tracking);
    }

    /// Every next hop to say something of, if that is another set than the last time.
    pub fn wanted_next_hops(&mut self) -> Option<BTreeSet<IpAddr>> {
        self.next_hops.wanted()
    }

    /// True while the first answer on a next hop is awaited.
    pub fn awaits_next_hops(&self) -> bool {
        self.next_hops.awaits()
    }

    /// Takes answers: the metric of the route to each next hop, or `None` if there is none.
    pub fn next_hops_are(&mut self, answers: &[(IpAddr, Option<u32>)]) {
        let changed = self.next_hops.answer(answers);
        if changed.is_empty() {
            return;
        }
        let Self {
            table, dirty, peers, ..
        } = self;
        for (at, entry) in table.iter_mut() {
            let mut touched = false;
            for path in &mut entry.paths {
                let Some(reach) = changed
                    .get(&path.attributes().next_hop.address)
                    .filter(|_| path.peer.is_some())
                else {
                    continue;
                };
                touched = true;
                let before = path.is_eligible();
                match (path.standing, reach.problem()) {
                    (Standing::Ineligible(Ineligible::NextHopAsked | Ineligible::NextHopUnreachable), None) => {
                        path.standing = Standing::Lost(Step::PeerAddress);
                    }
                    (
                        Standing::Ineligible(Ineligible::NextHopAsked | Ineligible::NextHopUnreachable)
                        | Standing::Best
                        | Standing::Multipath
                        | Standing::Lost(_),
                        Some(problem),
                    ) => path.standing = Standing::Ineligible(problem),
                    _ => {}
                }
                let Some(peer) = path.peer.as_ref().and_then(|peer| peers.get_mut(&peer.address)) else {
                    continue;
                };
                let accepted = &mut peer.accepted[Family::of(&entry.prefix).index()];
                *accepted = *accepted + u32::from(path.is_eligible()) - u32::from(before);
            }
            if touched {
                mark(dirty, at, entry);
            }
        }
    }

    /// Forgets the next hops that no path has.
    pub(super) fn prune_next_hops(&mut self) {
        let Self { table, next_hops, .. } = self;
        let paths = table.iter().flat_map(|(_, entry)| &entry.paths);
        next_hops.prune(|| paths.map(|path: &Path| path.attributes().next_hop.address).collect());
    }
}
