//! Publishing: what was decided becomes one generation.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashSet;
use nat::Delta;
use net::{Generation, IfIndex, Prefix, RouteKind, Source, VrfId};
use serde::Serialize;

use crate::group::{Groups, ResolvedHop};
use crate::reader::Holder;
use crate::rib::Rib;
use crate::routes::Entry;
use crate::sync::Ordering;
use crate::tables::TableOp;

/// A generation that could not be published yet; everything stays pending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("generation {generation} waits for a worker that still holds an older one: publish again when it has left")]
pub struct Stalled {
    /// The generation that waits.
    pub generation: Generation,
    /// Whom it waits for; empty if they left, or were about to enter, at that moment.
    pub holders: Vec<Holder>,
}

/// The end of a generation as the tables are told it. One for all tries to publish it, and rewritten by each: what
/// comes while a reader stalls must not make the log of operations longer than the changes are.
pub(crate) type Seal = Arc<Mutex<(Generation, Arc<Delta>)>>;

/// One published generation.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its number.
    pub generation: Generation,
    /// Events that went into it.
    pub changes: usize,
    /// What it changed for connections.
    pub delta: Arc<Delta>,
    /// Prefixes whose best route, or whose best route's next hops, changed.
    pub winners: Vec<Winner>,
    /// Neighbours that routes need and the kernel has not resolved: ask it to.
    pub wanted: Vec<(IfIndex, IpAddr)>,
    /// Work that it took.
    pub effort: Effort,
}

/// The work behind a generation, in operations: what a change reaches, and not how large the tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effort {
    /// Prefixes whose best route was chosen.
    pub elections: usize,
    /// Sets of next hops that were resolved.
    pub resolutions: usize,
    /// Next hops whose bytes were built.
    pub rebuilds: usize,
    /// Prefixes found to use a set of next hops that changed.
    pub users: usize,
    /// Prefixes written to the FIB or taken out of it; default routes are never.
    pub leaves: usize,
}

/// The best route of a prefix, after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Winner {
    /// Its VRF.
    pub vrf: VrfId,
    /// Its prefix.
    pub prefix: Prefix,
    /// The route; `None` when no route is usable any more.
    pub route: Option<WinnerRoute>,
}

/// A best route as resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WinnerRoute {
    /// Who it is from. Addresses of NAT count as static, addresses of the gateway as connected.
    pub source: Source,
    /// What happens to packets.
    pub kind: RouteKind,
    /// Where they go; empty unless `kind` is unicast.
    #[serde(serialize_with = "as_slice")]
    pub next_hops: Arc<[ResolvedHop]>,
}

impl Rib {
    /// Decides what is pending and shows it to readers as one generation. Never waits.
    ///
    /// # Errors
    /// [`Stalled`] while a reader holds the generation before the current one; what is pending stays so.
    pub fn publish(&mut self) -> Result<Published, Stalled> {
        self.settle();
        let generation = self.building();
        let delta = self.seal(generation);
        if !self.write.try_publish() {
            let holders = self.seats.holders(self.generation);
            return Err(Stalled { generation, holders });
        }
        self.sealed = None;
        self.generation = generation;
        self.published.store(generation.0, Ordering::Release);
        let changes = std::mem::take(&mut self.work.pending);
        let outcome = std::mem::take(&mut self.outcome);
        let mut winners = Vec::with_capacity(outcome.told.len());
        for (vrf, prefix) in outcome.told {
            let Some(routes) = self.vrfs.get_mut(&vrf) else {
                continue;
            };
            let Some(entry) = routes.get_mut(prefix) else { continue };
            if std::mem::take(&mut entry.told).winner {
                winners.push(Winner {
                    vrf,
                    prefix,
                    route: winner_route(entry, &self.groups),
                });
            }
            if entry.candidates.is_empty() && entry.leaf == 0 {
                routes.remove(prefix);
            }
        }
        let mut effort = outcome.effort;
        effort.users += self.regrouped_winners(&outcome.regrouped, &mut winners);
        Ok(Published {
            generation,
            changes,
            delta,
            winners,
            wanted: outcome.wanted.into_iter().collect(),
            effort,
        })
    }

    /// Puts the end of the generation into the log, or corrects the one that is there since a publish was stalled.
    fn seal(&mut self, generation: Generation) -> Arc<Delta> {
        if let Some((seal, pending)) = &mut self.sealed {
            let mut end = seal.lock().unwrap_or_else(PoisonError::into_inner);
            if *pending != self.work.pending {
                *pending = self.work.pending;
                end.1 = Arc::new(self.outcome.delta.clone());
            }
            return Arc::clone(&end.1);
        }
        let delta = Arc::new(self.outcome.delta.clone());
        let seal = Arc::new(Mutex::new((generation, Arc::clone(&delta))));
        self.write.append(TableOp::Seal(Arc::clone(&seal)));
        self.sealed = Some((seal, self.work.pending));
        delta
    }

    /// Adds the winners that stay while their next hops changed. Returns how many prefixes were looked at.
    fn regrouped_winners(&self, regrouped: &BTreeSet<u32>, winners: &mut Vec<Winner>) -> usize {
        let users = self.users_of(regrouped);
        let count = users.len();
        if count == 0 {
            return 0;
        }
        let listed: HashSet<(VrfId, Prefix), foldhash::fast::RandomState> =
            winners.iter().map(|w| (w.vrf, w.prefix)).collect();
        for (vrf, prefix) in users {
            let entry = self.vrfs.get(&vrf).and_then(|routes| routes.get(prefix));
            let Some(entry) = entry.filter(|_| !listed.contains(&(vrf, prefix))) else {
                continue;
            };
            if entry.winner.is_some_and(|w| regrouped.contains(&w.group)) {
                winners.push(Winner {
                    vrf,
                    prefix,
                    route: winner_route(entry, &self.groups),
                });
            }
        }
        count
    }
}

/// The winner of an entry, as the kernel's mirror is told it.
fn winner_route(entry: &Entry, groups: &Groups) -> Option<WinnerRoute> {
    let winner = entry.winner?;
    let group = groups.get(winner.group);
    let next_hops = Arc::clone(&group.resolved);
    Some(WinnerRoute {
        source: winner.owner.source(),
        kind: group.key.kind,
        next_hops,
    })
}

fn as_slice<S: serde::Serializer>(hops: &Arc<[ResolvedHop]>, serializer: S) -> Result<S::Ok, S::Error> {
    hops[..].serialize(serializer)
}

#[cfg(test)]
mod tests {
    use net::{Route, RouteChange};

    use super::*;
    use crate::RibConfig;

    #[test]
    fn tries_to_publish_share_one_seal_and_name_whom_they_wait_for() {
        let (mut rib, reader) = Rib::new(RibConfig::default());
        let change = |rib: &mut Rib, net: u8| {
            rib.route(RouteChange {
                vrf: VrfId::DEFAULT,
                prefix: format!("20.{net}.0.0/16").parse().expect("a prefix"),
                source: Source::Static,
                route: Some(Route::special(RouteKind::Blackhole)),
            });
        };
        rib.publish().expect("nobody is inside");
        let worker = reader.named("worker 3");
        let guard = worker.enter().expect("there are tables");
        let inner = worker.enter().expect("a second time");
        change(&mut rib, 1);
        rib.publish().expect("the other copy is free");
        let mut seals = Vec::new();
        for net in 2..6 {
            change(&mut rib, net);
            let stalled = rib.publish().expect_err("the worker is inside");
            let holder = Holder {
                reader: "worker 3".to_owned(),
                generation: Generation(1),
            };
            assert_eq!((stalled.generation, stalled.holders), (Generation(3), vec![holder]));
            seals.push(Arc::clone(&rib.sealed.as_ref().expect("it waits").0));
        }
        assert!(seals.iter().all(|seal| Arc::ptr_eq(seal, &seals[0])));
        drop(inner);
        assert_eq!(rib.publish().expect_err("still inside").holders.len(), 1);
        drop(guard);
        let published = rib.publish().expect("it left");
        assert_eq!(published.delta.prefixes.len(), 4, "all of the tries");
        assert!(rib.sealed.is_none());
        drop(worker);
        assert_eq!(rib.seats.holders(Generation(u64::MAX)), []);
    }
}
