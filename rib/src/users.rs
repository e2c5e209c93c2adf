//! Who has a group among its candidates: the prefixes to decide again, or to tell the kernel of, when the group changes.
//!
//! A group that few of its VRF's prefixes use lists them; of one that many use a scan of the VRF finds them as fast, and
//! a list would cost memory for every route. A list may hold prefixes that left the group: whoever reads it checks.

use net::{Prefix, VrfId};

use crate::routes::VrfRoutes;

/// A list that is longer than this, and than one in [`SHARE`] of the VRF's prefixes, gives way to scans.
const FEW: usize = 1024;
const SHARE: usize = 16;

/// The prefixes that have one group among their candidates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    /// A superset of them, unless there are `many`.
    listed: Vec<Prefix>,
    many: bool,
    /// Candidates of the group.
    count: usize,
}

impl Users {
    /// A candidate of `prefix` has the group.
    pub(crate) fn add(&mut self, group: u32, prefix: Prefix, routes: &VrfRoutes) {
        self.count += 1;
        if self.many {
            return;
        }
        self.listed.push(prefix);
        if self.listed.len() > FEW.max(2 * self.count) {
            self.compact(group, routes);
        }
        if self.listed.len() > FEW && self.listed.len() > routes.prefixes() / SHARE {
            self.many = true;
            self.listed = Vec::new();
        }
    }

    /// A candidate does not have the group any more.
    pub(crate) fn remove(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            *self = Self::default();
        }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.listed.capacity() * size_of::<Prefix>()
    }

    /// Takes those out that are not among them any more.
    fn compact(&mut self, group: u32, routes: &VrfRoutes) {
        self.listed.sort_unstable();
        self.listed.dedup();
        self.listed.retain(|prefix| uses(routes, *prefix, group));
    }
}

fn uses(routes: &VrfRoutes, prefix: Prefix, group: u32) -> bool {
    let entry = routes.get(prefix);
    entry.is_some_and(|entry| entry.candidates.iter().any(|c| c.group == group))
}

/// The prefixes of one VRF that have one of `groups` among their candidates, each once, and how many entries were
/// looked at to find them.
pub(crate) fn users_of<'u>(
    vrf: VrfId,
    routes: &VrfRoutes,
    groups: impl Iterator<Item = (u32, &'u mut Users)>,
) -> (Vec<(VrfId, Prefix)>, usize) {
    let (mut found, mut scanned) = (Vec::new(), 0);
    let mut many: Vec<(u32, &mut Users)> = Vec::new();
    for (group, users) in groups {
        if users.many {
            many.push((group, users));
            continue;
        }
        scanned += users.listed.len();
        users.compact(group, routes);
        found.extend(users.listed.iter().map(|prefix| (vrf, *prefix)));
    }
    if !many.is_empty() {
        scanned += routes.prefixes();
        many.sort_unstable_by_key(|(group, _)| *group);
        for (prefix, entry) in routes.iter() {
            let used = |c: &crate::routes::Candidate| many.binary_search_by_key(&c.group, |(group, _)| *group).is_ok();
            if entry.candidates.iter().any(used) {
                found.push((vrf, prefix));
            }
        }
        for (group, users) in many {
            // It has become one of few: from here on they are listed.
            if users.count <= FEW.max(routes.prefixes() / SHARE) / 2 {
                let used = found.iter().map(|(_, prefix)| *prefix);
                users.listed = used.filter(|prefix| uses(routes, *prefix, group)).collect();
                users.many = false;
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    (found, scanned)
}
