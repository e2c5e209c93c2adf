//! Deciding: which candidate of each prefix wins, and what that changes for others, until nothing changes any more.
//!
//! A prefix whose winner changes may change how gateways within it resolve, and which neighbours within it are host
//! routes; a group that resolves otherwise may make routes usable or not. Work goes round through three queues
//! (prefixes, groups, next hops), and each only holds what a change really reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::{Generation, IpNet, NextHop, Prefix, RouteKind, VrfId};
use smallvec::smallvec;

use crate::group::{GroupKey, Groups};
use crate::rib::Rib;
use crate::routes::{Entry, VrfRoutes, Winning};
use crate::tables::{GroupUpdate, TableOp};
use crate::trie::Slot;
use crate::users::users_of;

/// Prefixes of one family from which on a VRF's root is 16 bits wide.
const WIDE: usize = 4096;

/// Prefixes from which on a batch is worth sorting.
const LARGE: usize = 1024;

impl Rib {
    /// The generation that the next publish makes.
    pub(crate) fn building(&self) -> Generation {
        self.generation.next()
    }

    /// Works until nothing is left to decide.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.work.addresses) {
            self.derive_routes();
        }
        if self.work.prefixes.len() > LARGE {
            // In address order, covering prefixes first, neighbouring entries and slots are still in the cache.
            self.work.prefixes.sort_unstable_by(|a, b| b.cmp(a));
        }
        loop {
            if let Some((vrf, prefix)) = self.work.prefixes.pop() {
                self.elect(vrf, prefix);
            } else if let Some(id) = self.work.groups.pop() {
                if self.groups.get(id).dirty {
                    self.resolve(id);
                }
            } else if !self.work.flipped.is_empty() {
                self.mark_users_of_flipped();
            } else if let Some(id) = self.next_hops.dirty.pop_first() {
                self.rebuild(id);
            } else {
                break;
            }
        }
        for id in self.work.visited.drain(..) {
            self.groups.get_mut(id).visits = 0;
        }
    }

    /// Chooses the winner of one prefix, and the leaf that the FIB gets.
    fn elect(&mut self, vrf: VrfId, prefix: Prefix) {
        let is_host = prefix.len() == max_length(prefix);
        let host = if is_host && !self.has_winner(vrf, prefix) {
            self.host_group(vrf, prefix)
        } else {
            None
        };
        let routes = self.vrfs.entry(vrf).or_insert_with(VrfRoutes::new);
        let entry = if host.is_some() {
            Some(routes.entry(prefix))
        } else {
            routes.get_mut(prefix)
        };
        let Some(entry) = entry else { return };
        self.outcome.effort.elections += 1;
        let winner = elected(entry, &self.groups, prefix);
        let leaf = winner.map(|w| w.group).or(host).unwrap_or(0);
        let old_leaf = std::mem::replace(&mut entry.leaf, leaf);
        let old_winner = std::mem::replace(&mut entry.winner, winner);
        entry.dirty = false;
        let listed = entry.told.any();
        let tell_prefix = old_leaf != leaf && !entry.told.prefix;
        entry.told.winner |= old_winner != winner;
        entry.told.prefix |= old_leaf != leaf;
        if !listed && entry.told.any() {
            self.outcome.told.push((vrf, prefix));
        }
        // What is still to be told stays until it is: a host route may yet come back to the entry.
        if entry.candidates.is_empty() && leaf == 0 && !entry.told.any() {
            routes.remove(prefix);
        }
        if tell_prefix {
            self.delta_prefix(vrf, prefix);
        }
        if old_leaf != leaf {
            self.set_leaf(vrf, prefix, old_leaf, leaf);
            if leaf != 0 {
                self.groups.get_mut(leaf).references += 1;
            }
            if old_leaf != 0 {
                self.release_group(old_leaf);
            }
        }
        if old_winner != winner {
            self.mark_within(vrf, prefix);
        }
    }

    fn has_winner(&self, vrf: VrfId, prefix: Prefix) -> bool {
        let entry = self.vrfs.get(&vrf).and_then(|routes| routes.get(prefix));
        entry.is_some_and(|entry| elected(entry, &self.groups, prefix).is_some())
    }

    /// The group of a host route to a reachable neighbour, if the best route to it is its connected subnet.
    fn host_group(&mut self, vrf: VrfId, prefix: Prefix) -> Option<u32> {
        let address = prefix.address();
        let hosts = self.neighbors_by_vrf.get(&(vrf, address))?;
        let (_, group) = self.best_cover_of(vrf, prefix, |p| p != prefix)?;
        let subnet = &self.groups.get(group).key;
        let on_link = subnet
            .next_hops
            .iter()
            .filter(|h| h.gateway.is_none() && h.vxlan.is_none());
        let interface = on_link.filter_map(|h| h.interface).find(|host| {
            let state = self.neighbors.get(&(*host, address));
            let reachable = state.is_some_and(|state| state.mac().is_some());
            reachable && hosts.contains(host) && self.usable(*host).is_ok()
        })?;
        let next_hops = smallvec![NextHop::via(address).through(interface)];
        self.intern(GroupKey {
            vrf,
            kind: RouteKind::Unicast,
            next_hops,
            lineage: 0,
        })
    }

    /// Length and group of the best route to an address.
    pub(crate) fn best_cover(&self, vrf: VrfId, address: IpAddr) -> Option<(u8, u32)> {
        self.best_cover_of(vrf, Prefix::host(address), |_| true)
    }

    /// Length and group of the best route that covers a prefix, among those that `pick` takes.
    fn best_cover_of(&self, vrf: VrfId, prefix: Prefix, pick: impl Fn(Prefix) -> bool) -> Option<(u8, u32)> {
        let mut best = None;
        self.vrfs.get(&vrf)?.covers(prefix, |prefix, entry| {
            if let Some(winner) = entry.winner.filter(|_| pick(prefix)) {
                best = Some((prefix.len(), winner.group));
            }
        });
        best
    }

    /// Tells the FIB of a prefix.
    fn set_leaf(&mut self, vrf: VrfId, prefix: Prefix, old: u32, group: u32) {
        let v4 = prefix.is_v4();
        let default = self.default_leaf(vrf, v4);
        if prefix.len() == 0 && default != 0 {
            return self.follow(default, old, group);
        }
        self.outcome.effort.leaves += 1;
        let routes = self.vrfs.entry(vrf).or_insert_with(VrfRoutes::new);
        let many = routes.len(v4) >= WIDE;
        let wide = if v4 { &mut routes.wide.0 } else { &mut routes.wide.1 };
        if many && !std::mem::replace(wide, many) {
            self.write
                .append(if v4 { TableOp::Widen4(vrf) } else { TableOp::Widen6(vrf) });
        }
        let length = prefix.len();
        let cover = if group == 0 {
            cover(routes, prefix, default)
        } else {
            Slot::NONE
        };
        self.write.append(match (prefix.net(), group) {
            (IpNet::V4(net), 0) => TableOp::Clear4 {
                vrf,
                length,
                key: net.addr().into(),
                cover,
            },
            (IpNet::V4(net), group) => TableOp::Set4 {
                vrf,
                length,
                key: net.addr().into(),
                group,
            },
            (IpNet::V6(net), 0) => TableOp::Clear6 {
                vrf,
                length,
                key: Box::new(net.addr().into()),
                cover,
            },
            (IpNet::V6(net), group) => TableOp::Set6 {
                vrf,
                length,
                key: Box::new(net.addr().into()),
                group,
            },
        });
    }

    /// The group that stands for the default route of a VRF and family, put into its FIB before anything else: a default
    /// route that comes, changes or goes is then a change of that group, not of every slot that no prefix covers.
    /// 0 when every group id is in use.
    fn default_leaf(&mut self, vrf: VrfId, v4: bool) -> u32 {
        let routes = self.vrfs.entry(vrf).or_insert_with(VrfRoutes::new);
        let leaf = if v4 {
            &mut routes.defaults.0
        } else {
            &mut routes.defaults.1
        };
        if *leaf == 0
            && let Some(group) = self.groups.stand_in()
        {
            *leaf = group;
            self.write.append(TableOp::Group {
                id: group,
                update: Box::new(GroupUpdate::none()),
            });
            let length = 0;
            self.write.append(match v4 {
                true => TableOp::Set4 {
                    vrf,
                    length,
                    key: 0,
                    group,
                },
                false => TableOp::Set6 {
                    vrf,
                    length,
                    key: Box::default(),
                    group,
                },
            });
        }
        *leaf
    }

    /// Has a stand-in be what `group` is, from here on; 0 is no route.
    fn follow(&mut self, stand_in: u32, old: u32, group: u32) {
        if let Some(followers) = self.followers.get_mut(&old) {
            followers.retain(|id| *id != stand_in);
            if followers.is_empty() {
                self.followers.remove(&old);
            }
        }
        let mut update = Box::new(GroupUpdate::none());
        if group != 0 {
            *update = self.groups.get(group).update();
            self.followers.entry(group).or_default().push(stand_in);
        }
        self.write.append(TableOp::Group { id: stand_in, update });
    }

    /// A winner changed: gateways and neighbours within its prefix may go another way.
    fn mark_within(&mut self, vrf: VrfId, prefix: Prefix) {
        let (first, last) = bounds(prefix);
        let within = (vrf, first)..=(vrf, last);
        for (_, ids) in self.watches.range(within.clone()) {
            for id in ids {
                let group = self.groups.get_mut(*id);
                if !std::mem::replace(&mut group.dirty, true) {
                    self.work.groups.push(*id);
                }
            }
        }
        for ((_, address), _) in self.neighbors_by_vrf.range(within) {
            let host = Prefix::host(*address);
            if host != prefix {
                self.work.prefixes.push((vrf, host));
            }
        }
    }

    /// Elects again wherever a group that became usable or unusable is a candidate.
    fn mark_users_of_flipped(&mut self) {
        let flipped = std::mem::take(&mut self.work.flipped).into_iter().collect();
        let users = self.users_of(&flipped);
        self.outcome.effort.users += users.len();
        self.work.prefixes.extend(users);
    }

    /// The prefixes that have one of these groups among their candidates.
    pub(crate) fn users_of(&self, groups: &BTreeSet<u32>) -> Vec<(VrfId, Prefix)> {
        let mut by_vrf: BTreeMap<VrfId, Vec<u32>> = BTreeMap::new();
        for id in groups {
            by_vrf.entry(self.groups.get(*id).key.vrf).or_default().push(*id);
        }
        let of = |(vrf, ids): (VrfId, Vec<u32>)| {
            let users = users_of(ids.into_iter().map(|id| &self.groups.get(id).users));
            users.into_iter().map(move |prefix| (vrf, prefix))
        };
        by_vrf.into_iter().flat_map(of).collect()
    }

    /// Lists a changed prefix in the delta, until it is too much to list.
    fn delta_prefix(&mut self, vrf: VrfId, prefix: Prefix) {
        let delta = &mut self.outcome.delta;
        if delta.everything {
            return;
        }
        delta.prefixes.push((vrf, prefix));
        self.bound_delta();
    }

    /// Says "everything" in place of a list longer than configured.
    pub(crate) fn bound_delta(&mut self) {
        let delta = &mut self.outcome.delta;
        if delta.everything || delta.prefixes.len() + delta.next_hops.len() > self.config.max_delta {
            delta.everything = true;
            delta.prefixes.clear();
            delta.next_hops.clear();
        }
    }
}

/// The best usable candidate.
fn elected(entry: &Entry, groups: &Groups, prefix: Prefix) -> Option<Winning> {
    let usable = entry
        .candidates
        .iter()
        .find(|c| groups.get(c.group).usable_for(prefix).is_ok());
    usable.map(|c| Winning {
        owner: c.owner,
        group: c.group,
    })
}

/// The leaf of the longest other prefix in the FIB that covers `prefix`; of the default route, `default` if it is not 0.
fn cover(routes: &VrfRoutes, prefix: Prefix, default: u32) -> Slot {
    let mut cover = Slot::leaf(default, 0);
    routes.covers(prefix, |p, entry| {
        if entry.leaf != 0 && p != prefix && (p.len() > 0 || default == 0) {
            cover = Slot::leaf(entry.leaf, p.len());
        }
    });
    cover
}

fn max_length(prefix: Prefix) -> u8 {
    if prefix.is_v4() { 32 } else { 128 }
}

/// Lowest and highest address of a prefix.
fn bounds(prefix: Prefix) -> (IpAddr, IpAddr) {
    match prefix.net() {
        IpNet::V4(net) => (net.network().into(), net.broadcast().into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}
