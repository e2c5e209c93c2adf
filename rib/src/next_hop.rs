//! The next-hop table as its writer sees it: who each entry is, and when its number may be given out again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::{Generation, InterfaceId, Mac, NextHopId, RouteKind};

use crate::adjacency::{Adjacency, AdjacencyKind, special};
use crate::group::Target;

/// Publishes that a freed number waits, for workers to let go of it.
const QUARANTINE: u64 = 2;

/// Kinds of the entries with fixed numbers, by number.
const FIXED: [AdjacencyKind; 7] = [
    AdjacencyKind::NoRoute,
    AdjacencyKind::VrfLoop,
    special(RouteKind::Local),
    special(RouteKind::Nat),
    special(RouteKind::Blackhole),
    special(RouteKind::Unreachable),
    special(RouteKind::Prohibit),
];

/// The fixed entry of a route kind without next hops.
pub(crate) fn special_id(kind: RouteKind) -> NextHopId {
    let at = FIXED.iter().position(|k| *k == special(kind)).unwrap_or(0);
    NextHopId(at as u32)
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct NextHopEntry {
    /// Who it is; `None` for fixed and for free entries.
    pub(crate) target: Option<Target>,
    /// Groups that it is a member of.
    pub(crate) references: u32,
    pub(crate) adjacency: Adjacency,
    /// Group that resolves the VXLAN endpoint it is behind.
    pub(crate) underlay: Option<u32>,
    /// Its neighbour has been asked for.
    pub(crate) wanted: bool,
}

/// Every next hop, by number and by target.
pub(crate) struct NextHops {
    entries: Vec<NextHopEntry>,
    by_target: BTreeMap<Target, NextHopId>,
    /// Free numbers and the first generation that may use them, oldest first.
    free: std::collections::VecDeque<(Generation, NextHopId)>,
    /// Entries to build again.
    pub(crate) dirty: BTreeSet<NextHopId>,
}

impl NextHops {
    pub(crate) fn new() -> Self {
        let fixed = FIXED.map(|kind| NextHopEntry {
            references: 1,
            ..vacant(kind)
        });
        Self {
            entries: fixed.to_vec(),
            by_target: BTreeMap::new(),
            free: Default::default(),
            dirty: BTreeSet::new(),
        }
    }

    /// The entries with fixed numbers, for the first generation.
    pub(crate) fn fixed(&self) -> impl Iterator<Item = (NextHopId, &Adjacency)> {
        self.entries
            .iter()
            .take(FIXED.len())
            .enumerate()
            .map(|(i, e)| (NextHopId(i as u32), &e.adjacency))
    }

    pub(crate) fn get(&self, id: NextHopId) -> &NextHopEntry {
        &self.entries[id.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, id: NextHopId) -> &mut NextHopEntry {
        &mut self.entries[id.0 as usize]
    }

    pub(crate) fn find(&self, target: Target) -> Option<NextHopId> {
        self.by_target.get(&target).copied()
    }

    /// The entry of a target with one more reference; `building` is the generation in the making.
    pub(crate) fn retain(&mut self, target: Target, building: Generation) -> NextHopId {
        if let Some(id) = self.find(target) {
            self.get_mut(id).references += 1;
            return id;
        }
        let entry = NextHopEntry {
            target: Some(target),
            references: 1,
            ..vacant(AdjacencyKind::NoRoute)
        };
        let id = match self.free.front() {
            Some((ready, id)) if *ready <= building => {
                let id = *id;
                self.free.pop_front();
                self.entries[id.0 as usize] = entry;
                id
            }
            _ => {
                self.entries.push(entry);
                NextHopId((self.entries.len() - 1) as u32)
            }
        };
        self.by_target.insert(target, id);
        self.dirty.insert(id);
        id
    }

    /// One reference less; returns the entry if it was the last.
    pub(crate) fn release(&mut self, id: NextHopId, building: Generation) -> Option<NextHopEntry> {
        let entry = self.get_mut(id);
        entry.references -= 1;
        if entry.references > 0 {
            return None;
        }
        let gone = std::mem::replace(entry, vacant(AdjacencyKind::NoRoute));
        if let Some(target) = gone.target {
            self.by_target.remove(&target);
        }
        self.dirty.remove(&id);
        self.free.push_back((Generation(building.0 + QUARANTINE), id));
        Some(gone)
    }

    /// Has the entries on an interface built again.
    pub(crate) fn mark_on(&mut self, interface: InterfaceId) {
        let (low, high) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from(u128::MAX)));
        let ranges = [
            Target::Neighbor(interface, low)..=Target::Neighbor(interface, high),
            Target::Glean(interface)..=Target::Glean(interface),
            Target::Tunnel(interface, low, Mac([0; 6]))..=Target::Tunnel(interface, high, Mac([0xff; 6])),
        ];
        for range in ranges {
            self.dirty.extend(self.by_target.range(range).map(|(_, id)| *id));
        }
    }

    /// Entries in use that are not fixed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NextHopId, Target, &NextHopEntry)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(i, e)| e.target.map(|t| (NextHopId(i as u32), t, e)))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_target.len()
    }
}

fn vacant(kind: AdjacencyKind) -> NextHopEntry {
    NextHopEntry {
        target: None,
        references: 0,
        adjacency: Adjacency::plain(kind),
        underlay: None,
        wanted: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wait_two_generations() {
        let mut hops = NextHops::new();
        let glean = |n| Target::Glean(InterfaceId(n));
        let first = hops.retain(glean(1), Generation(1));
        assert!(hops.release(first, Generation(1)).is_some());
        assert_ne!(hops.retain(glean(2), Generation(2)), first);
        assert_eq!(hops.retain(glean(3), Generation(3)), first);
    }

    #[test]
    fn each_special_kind_has_its_own_entry() {
        let hops = NextHops::new();
        for kind in [
            RouteKind::Local,
            RouteKind::Nat,
            RouteKind::Blackhole,
            RouteKind::Unreachable,
            RouteKind::Prohibit,
        ] {
            assert_eq!(hops.get(special_id(kind)).adjacency.kind, special(kind));
        }
    }
}
