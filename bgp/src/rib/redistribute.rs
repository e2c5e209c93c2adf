//! Routes of other sources that peers are told of: what the owner offers, as far as a policy for their source accepts it.
//!
//! An offered prefix is a path of ours, behind one that is announced outright and before everything that peers tell. The offer is
//! kept whether a policy takes it or not, so that another policy needs no new one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use net::Prefix;
use net::policy::{Origin, RouteSource};

use super::{Changed, Path, Rib, Standing, Step, mark};
use crate::policy::{Marks, Policy, PolicyRoute};
use crate::wire::{self, Attributes};

/// What the owner offers, and what is taken of it.
#[derive(Debug, Default)]
pub(super) struct Redistribution {
    policies: BTreeMap<RouteSource, Policy>,
    offered: BTreeMap<Prefix, RouteSource>,
}

impl Rib {
    /// Takes of the offers what these policies accept; nothing of a source without one.
    pub fn set_redistribution(&mut self, policies: &BTreeMap<RouteSource, Policy>) {
        if self.redistribution.policies != *policies {
            self.redistribution.policies.clone_from(policies);
            let offered: Vec<Prefix> = self.redistribution.offered.keys().copied().collect();
            offered.iter().for_each(|prefix| self.redistribute(prefix));
        }
    }

    /// The owner forwards to each prefix by a route of this source, or by none that could be offered.
    pub fn offer(&mut self, offers: impl IntoIterator<Item = (Prefix, Option<RouteSource>)>) {
        for (prefix, source) in offers {
            match source {
                Some(source) => self.redistribution.offered.insert(prefix, source),
                None => self.redistribution.offered.remove(&prefix),
            };
            self.redistribute(&prefix);
        }
    }

    /// Everything that the owner offers.
    pub fn offered(&self) -> Vec<(Prefix, Option<RouteSource>)> {
        let offered = self.redistribution.offered.iter();
        offered.map(|(prefix, source)| (*prefix, Some(*source))).collect()
    }

    /// Makes the path of an offer what it should be.
    fn redistribute(&mut self, prefix: &Prefix) {
        self.remove(prefix, |path| {
            path.peer.is_none() && path.source != RouteSource::Announced
        });
        let Some(source) = self.redistribution.offered.get(prefix).copied() else {
            return;
        };
        let mut received = Attributes::originated(wire::NextHop::from(IpAddr::V4(self.router_id)));
        received.origin = wire::origin(Origin::Incomplete);
        let received = self.attributes.intern(received);
        let mut route = PolicyRoute {
            prefix: *prefix,
            attributes: Cow::Borrowed(&received),
            marks: Marks::default(),
            neighbor: None,
            source,
            local_as: self.asn,
            next_hop: None,
        };
        let policy = self.redistribution.policies.get(&source);
        if !policy.is_some_and(|policy| policy.evaluate(true, &mut route).accept) {
            return;
        }
        let marks = route.marks;
        let attributes = match route.attributes {
            Cow::Owned(changed) => self.attributes.intern(changed),
            Cow::Borrowed(_) => Arc::clone(&received),
        };
        let changed = Changed::new(&received, attributes, marks, 0);
        let at = self.table.make(*prefix);
        let entry = self.table.at_mut(at);
        entry.paths.push(Path {
            peer: None,
            source,
            received,
            changed,
            standing: Standing::Lost(Step::Originated),
            stale: false,
        });
        self.paths += 1;
        mark(&mut self.dirty, at, entry);
    }
}
