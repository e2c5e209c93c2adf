//! The tables: adj-rib-in, loc-rib and adj-rib-out (RFC 4271 section 9).
//!
//! One map from prefix to paths serves as adj-rib-in and loc-rib: a peer's adj-rib-in is its path of each prefix, and
//! the loc-rib is what the decision process marked. Ineligible and losing paths stay, each with its reason. Attributes
//! are interned. Nothing here waits or does I/O: updates mark prefixes dirty, [`Rib::take_changes`] decides each dirty
//! prefix once, however many updates touched it, and yields what the gateway has to know.

mod decision;
pub(crate) mod export;
mod group;
mod install;
pub(crate) mod intern;
mod monitor;
mod next_hops;
mod out_queue;
pub(crate) mod path;
mod redistribute;
mod refresh;
mod restart;
mod table;
mod validation;
mod view;
mod why;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub(crate) use group::Audience;
use group::Group;
use install::installed;
use intern::Interner;
use net::policy::RouteSource;
use net::{Prefix, Route, RouteChange, Source, VrfId};
pub(crate) use next_hops::NextHops;
use redistribute::Redistribution;
use table::{Entry, Table};

use crate::policy::{self, Marks, Policy, PolicyRoute};
use crate::rpki::VrpSet;
use crate::wire::{self, Attributes, Update};
use crate::{Family, FamilyCounters};

pub use decision::{Rules, decide};
pub use group::GroupWork;
pub use monitor::Learned;
pub use out_queue::{Batch, Delivery, OutQueue, Outgoing};
pub use path::{Changed, Ineligible, LocalAddresses, Path, PeerInfo, Standing, Step};

/// The peer announced more prefixes than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyPrefixes {
    /// Prefixes in its adj-rib-in.
    pub received: u32,
    /// What it may announce.
    pub limit: u32,
}

/// Changes of a group that are told together at most.
const BATCH: usize = 4096;

#[derive(Debug)]
struct Peer {
    info: Arc<PeerInfo>,
    /// `None` while the peer restarts: its paths are kept, and there is nobody to tell anything.
    out: Option<Out>,
    received: [u32; Family::ALL.len()],
    accepted: [u32; Family::ALL.len()],
    /// Families that it tells anew: its stale paths of these wait for the end of that, not for a restart.
    refreshing: BTreeSet<Family>,
}

/// How a peer is told things.
#[derive(Debug)]
struct Out {
    group: u32,
    queue: Arc<OutQueue>,
}

/// Every table of one speaker.
#[derive(Debug)]
pub struct Rib {
    asn: u32,
    router_id: Ipv4Addr,
    vrf: VrfId,
    rules: Rules,
    next_hops: NextHops,
    redistribution: Redistribution,
    table: Table,
    paths: usize,
    peers: BTreeMap<IpAddr, Peer>,
    groups: BTreeMap<u32, Group>,
    next_group: u32,
    attributes: Interner<Attributes>,
    routes: Interner<(Source, Route)>,
    /// Positions to decide, in order of arrival.
    dirty: Vec<u32>,
    /// What the RPKI says, while it says anything.
    vrps: Option<Arc<VrpSet>>,
    /// Changes of the adj-rib-ins, while somebody watches them.
    learned: Option<Vec<Learned>>,
    /// Announcements and withdrawals are handed out, to be delivered when the owner says so.
    hold: bool,
    held: Vec<Delivery>,
}

impl Rib {
    /// Empty tables of the speaker with this AS and identifier, whose routes belong to `vrf`.
    pub fn new(asn: u32, router_id: Ipv4Addr, vrf: VrfId) -> Self {
        Self {
            asn,
            router_id,
            vrf,
            rules: Rules::default(),
            next_hops: NextHops::default(),
            redistribution: Redistribution::default(),
            table: Table::default(),
            paths: 0,
            peers: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_group: 0,
            attributes: Interner::default(),
            routes: Interner::default(),
            dirty: Vec::new(),
            vrps: None,
            learned: None,
            hold: false,
            held: Vec::new(),
        }
    }

    /// Decides by other rules.
    pub fn set_rules(&mut self, rules: Rules) {
        if self.rules != rules {
            self.rules = rules;
            let Self { table, dirty, .. } = self;
            table.iter_mut().for_each(|(at, entry)| mark(dirty, at, entry));
        }
    }

    /// Originates exactly these prefixes.
    pub fn set_originated(&mut self, prefixes: &[Prefix]) {
        let wanted: BTreeSet<Prefix> = prefixes.iter().copied().collect();
        let outright = |path: &Path| path.peer.is_none() && path.source == RouteSource::Announced;
        let present: BTreeSet<Prefix> = self
            .table
            .iter()
            .filter(|(_, entry)| entry.paths.iter().any(outright))
            .map(|(_, entry)| entry.prefix)
            .collect();
        for prefix in present.difference(&wanted) {
            self.remove(prefix, outright);
        }
        for prefix in wanted.difference(&present) {
            let attributes = self
                .attributes
                .intern(Attributes::originated(wire::NextHop::from(IpAddr::V4(self.router_id))));
            let path = Path {
                peer: None,
                source: RouteSource::Announced,
                changed: self.own_marks(prefix, &attributes),
                received: attributes,
                standing: Standing::Lost(Step::Originated),
                stale: false,
            };
            let at = self.table.make(*prefix);
            let entry = self.table.at_mut(at);
            entry.paths.push(path);
            self.paths += 1;
            mark(&mut self.dirty, at, entry);
        }
    }

    /// A session is established: the peer is told what its group has been told, and the end of each family. Paths that were
    /// kept from before stay in the families that the peer preserved.
    pub fn peer_up(&mut self, info: PeerInfo) -> Arc<OutQueue> {
        let (received, accepted) = self.take_kept(&info);
        let info = Arc::new(info);
        let queue: Arc<OutQueue> = Arc::default();
        let number = self.join(&info, &queue);
        queue.put(self.all_told(number, &info).into_iter().flatten());
        for family in &info.context.families {
            queue.put_end_of_rib(*family);
        }
        let peer = Peer {
            info: Arc::clone(&info),
            out: Some(Out {
                group: number,
                queue: Arc::clone(&queue),
            }),
            received,
            accepted,
            refreshing: BTreeSet::new(),
        };
        self.peers.insert(info.address, peer);
        queue
    }

    /// A session ended: every path of the peer goes.
    pub fn peer_down(&mut self, address: IpAddr) {
        self.leave(address);
        if self.peers.remove(&address).is_none() {
            return;
        }
        let Self {
            table, dirty, paths, ..
        } = self;
        for (at, entry) in table.iter_mut() {
            let before = entry.paths.len();
            entry.paths.retain(|path| !path.is_from(address));
            if entry.paths.len() != before {
                *paths -= before - entry.paths.len();
                mark(dirty, at, entry);
            }
        }
        self.attributes.sweep();
        self.routes.sweep();
        self.prune_next_hops();
    }

    /// Takes an UPDATE of an established peer; one from any other is ignored.
    ///
    /// # Errors
    /// [`TooManyPrefixes`]; the update has been taken, the session has to end.
    pub fn update(&mut self, address: IpAddr, update: Update) -> Result<(), TooManyPrefixes> {
        let Some(info) = self
            .peers
            .get(&address)
            .filter(|peer| peer.out.is_some())
            .map(|peer| Arc::clone(&peer.info))
        else {
            return Ok(());
        };
        for prefix in &update.withdrawn {
            self.remove(prefix, |path| path.is_from(address));
        }
        for mut announcement in update.announced {
            if let Some(role) = info.role {
                role.mark_received(info.asn, &mut announcement.attributes);
            }
            let attributes = self.attributes.intern(announcement.attributes);
            let mut made: Option<Path> = None;
            for prefix in announcement.prefixes {
                let validity = self.validity(&prefix, &attributes);
                let path = match &made {
                    Some(path) if path.marks().validity == validity => path.clone(),
                    _ => {
                        let path = self.import(&info, prefix, &attributes);
                        // All of one family.
                        made = info.import.of(&prefix).is_uniform().then(|| path.clone());
                        path
                    }
                };
                self.insert(&info, prefix, path);
            }
        }
        if let Some(family) = update.end_of_rib {
            self.sweep(address, |prefix| Family::of(prefix) == family);
        }
        let received = self.received(address);
        match info.max_prefixes {
            Some(limit) if received > limit => Err(TooManyPrefixes { received, limit }),
            _ => Ok(()),
        }
    }

    /// Prefixes in the adj-rib-in of a peer.
    pub fn received(&self, address: IpAddr) -> u32 {
        self.peers.get(&address).map_or(0, |peer| peer.received.iter().sum())
    }

    /// Gives a peer other policies: its adj-rib-in is looked at again, and it is told what differs. The
    /// session goes on.
    pub fn set_policies(&mut self, address: IpAddr, import: &Policy, export: &Policy) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let old = Arc::clone(&peer.info);
        let info = Arc::new(PeerInfo {
            import: import.clone(),
            export: export.clone(),
            ..(*old).clone()
        });
        peer.info = Arc::clone(&info);
        if old.import != *import {
            let theirs = self.table.iter().filter_map(|(_, entry)| {
                let path = entry.paths.iter().find(|path| path.is_from(address))?;
                Some((entry.prefix, Arc::clone(&path.received), path.stale))
            });
            for (prefix, received, stale) in theirs.collect::<Vec<_>>() {
                let path = Path {
                    stale,
                    ..self.import(&info, prefix, &received)
                };
                self.insert(&info, prefix, path);
            }
        } else {
            for path in self.table.iter_mut().flat_map(|(_, entry)| &mut entry.paths) {
                if path.is_from(address) {
                    path.peer = Some(Arc::clone(&info));
                }
            }
        }
        if old.export != *export {
            self.regroup(&info);
        }
        self.attributes.sweep();
    }

    /// The route to `prefix` as a peer announced it, before policy.
    pub fn received_route(&self, address: IpAddr, prefix: &Prefix) -> Option<(&Attributes, RouteSource)> {
        let path = self
            .table
            .get(prefix)?
            .paths
            .iter()
            .find(|path| path.is_from(address))?;
        Some((&path.received, path.source))
    }

    /// Tells the peer a whole family again.
    pub fn refresh(&self, address: IpAddr, family: Family) {
        let Some(peer) = self.peers.get(&address) else { return };
        if let Some(Out { group, queue }) = &peer.out {
            let again = self.all_told(*group, &peer.info).into_iter().flatten();
            let again = again.filter(|(prefix, _)| Family::of(prefix) == family);
            queue.put_again(family, peer.info.enhanced_refresh, again);
        }
    }

    /// Decides every prefix that was touched, updates the adj-rib-outs, and yields the changes for the gateway, those of
    /// one prefix next to each other and withdrawals first.
    pub fn take_changes(&mut self) -> Vec<RouteChange> {
        let mut changes = Vec::new();
        // Neighbouring prefixes often go the same way.
        let mut recent: Option<Arc<(Source, Route)>> = None;
        for at in std::mem::take(&mut self.dirty) {
            let entry = self.table.at_mut(at);
            entry.dirty = false;
            let cost = |path: &Path| self.next_hops.cost(path.attributes().next_hop);
            decision::decide(&mut entry.paths, self.rules, cost);
            for group in self.groups.values_mut() {
                group.advertise(at, entry, &mut self.attributes, self.asn);
                if group.unheard() == BATCH {
                    group.flush(&mut self.held);
                }
            }
            let wanted = installed(&entry.paths).map(|route| match &recent {
                Some(recent) if **recent == route => Arc::clone(recent),
                _ => Arc::clone(recent.insert(self.routes.intern(route))),
            });
            if entry.announced.as_ref().map(Arc::as_ptr) != wanted.as_ref().map(Arc::as_ptr) {
                let change = |source, route| RouteChange {
                    vrf: self.vrf,
                    prefix: entry.prefix,
                    source,
                    route,
                };
                let source = wanted.as_deref().map(|(source, _)| *source);
                match entry.announced.as_deref() {
                    Some((old, _)) if Some(*old) != source => changes.push(change(*old, None)),
                    _ => {}
                }
                changes.extend(
                    wanted
                        .as_deref()
                        .map(|(source, route)| change(*source, Some(route.clone()))),
                );
                entry.announced = wanted;
            }
            if entry.paths.is_empty() {
                self.table.remove(at);
            }
        }
        self.groups.values_mut().for_each(|group| group.flush(&mut self.held));
        if !self.hold {
            self.held.drain(..).for_each(Delivery::deliver);
        }
        changes
    }

    /// Whether what peers are to be told of changes waits for [`Rib::take_held`].
    pub fn hold(&mut self, hold: bool) {
        self.hold = hold;
    }

    /// What peers are to be told of the changes taken.
    pub fn take_held(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.held)
    }

    /// Prefix counts of an established peer, one entry a negotiated family.
    pub fn counters(&self, address: IpAddr) -> Vec<FamilyCounters> {
        let Some(peer) = self.peers.get(&address) else {
            return Vec::new();
        };
        let counters = |family: &Family| FamilyCounters {
            family: *family,
            received: peer.received[family.index()],
            accepted: peer.accepted[family.index()],
            advertised: peer
                .out
                .as_ref()
                .and_then(|out| self.groups.get(&out.group))
                .map_or(0, |group| group.count(address, *family)),
        };
        peer.info.context.families.iter().map(counters).collect()
    }

    /// Prefixes, paths, and distinct attribute sets.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.table.len(), self.paths, self.attributes.len())
    }

    /// Peers of each update group, and the work that was done once for all of them.
    pub fn groups(&self) -> impl Iterator<Item = (usize, GroupWork)> {
        self.groups.values().map(|group| (group.len(), group.work))
    }

    /// Puts a peer into the group of those that are told the same; returns its number.
    fn join(&mut self, info: &PeerInfo, queue: &Arc<OutQueue>) -> u32 {
        let audience = Audience::of(info);
        let known = self.groups.iter().find(|(_, group)| group.audience == audience);
        let number = match known {
            Some((number, _)) => *number,
            None => {
                let group = Group::new(audience, &self.table, &mut self.attributes, self.asn);
                let number = self.next_group;
                self.next_group += 1;
                self.groups.insert(number, group);
                number
            }
        };
        if let Some(group) = self.groups.get_mut(&number) {
            group.join(info, Arc::clone(queue), &self.table);
        }
        number
    }

    /// Takes a peer out of its group, which goes with its last one.
    fn leave(&mut self, address: IpAddr) {
        let Some(out) = self.peers.get_mut(&address).and_then(|peer| peer.out.take()) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&out.group) {
            group.leave(address);
            if group.len() == 0 {
                self.groups.remove(&out.group);
            }
        }
    }

    /// Moves a peer to the group of its policy, and tells it what differs.
    fn regroup(&mut self, info: &PeerInfo) {
        let Some(Out { group: old, queue }) = self.peers.get_mut(&info.address).and_then(|peer| peer.out.take()) else {
            return;
        };
        let new = self.join(info, &queue);
        if let (Some(before), Some(after)) = (self.groups.get(&old), self.groups.get(&new)) {
            let positions = before.positions().start..before.positions().end.max(after.positions().end);
            queue.put(positions.filter_map(|at| {
                let [before, after] = [before, after].map(|group| group.told(at, info.address, info.asn));
                (before != after).then(|| (self.table.at(at).prefix, after.cloned()))
            }));
        }
        if let Some(peer) = self.peers.get_mut(&info.address) {
            peer.out = Some(Out {
                group: old,
                queue: Arc::clone(&queue),
            });
        }
        if old != new {
            self.leave(info.address);
        }
        if let Some(peer) = self.peers.get_mut(&info.address) {
            peer.out = Some(Out { group: new, queue });
        }
    }

    /// All that a peer in a group has been told.
    fn all_told<'a>(
        &'a self,
        group: u32,
        info: &'a PeerInfo,
    ) -> Option<impl Iterator<Item = (Prefix, Option<Arc<Attributes>>)> + 'a> {
        let group = self.groups.get(&group)?;
        Some(group.positions().filter_map(|at| {
            let attributes = group.told(at, info.address, info.asn)?;
            Some((self.table.at(at).prefix, Some(Arc::clone(attributes))))
        }))
    }

    fn insert(&mut self, info: &PeerInfo, prefix: Prefix, mut path: Path) {
        let eligible = path.is_eligible();
        let at = self.table.make(prefix);
        let entry = self.table.at_mut(at);
        if let Some(learned) = &mut self.learned {
            learned.push(Learned::new(info.address, prefix, &path));
        }
        let replaced = match entry.paths.iter_mut().find(|known| known.is_from(info.address)) {
            Some(known) => {
                if known.standing == Standing::Best && eligible {
                    path.standing = Standing::Best;
                }
                Some(std::mem::replace(known, path))
            }
            None => {
                // Most prefixes have as many paths as there are uplinks, for good.
                entry.paths.reserve_exact(1);
                entry.paths.push(path);
                self.paths += 1;
                None
            }
        };
        mark(&mut self.dirty, at, entry);
        if let Some(replaced) = replaced {
            self.uncount(&prefix, &replaced);
        }
        if let Some(peer) = self.peers.get_mut(&info.address) {
            let family = Family::of(&prefix).index();
            peer.received[family] += 1;
            peer.accepted[family] += u32::from(eligible);
        }
    }

    /// The path that a peer's announcement makes: checked, and changed by its import policy.
    fn import(&mut self, info: &Arc<PeerInfo>, prefix: Prefix, received: &Arc<Attributes>) -> Path {
        let mut route = self.policy_route(info, prefix, received);
        let source = route.source;
        let reason = path::ineligible(info, self.asn, self.router_id, received).or_else(|| {
            let verdict = info.import.evaluate(info.ebgp, &mut route);
            if !verdict.accept {
                return Some(Ineligible::Policy(verdict.decision));
            }
            policy::honour_graceful_shutdown(info.ebgp, &mut route);
            path::unusable_next_hop(info, self.router_id, &route.attributes)
                .or_else(|| self.next_hops.problem(route.attributes.next_hop))
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
            // Until the decision process has run.
            standing: reason.map_or(Standing::Lost(Step::PeerAddress), Standing::Ineligible),
            stale: false,
        }
    }

    /// A peer's announcement as its import policy sees it.
    fn policy_route<'a>(&self, info: &PeerInfo, prefix: Prefix, received: &'a Attributes) -> PolicyRoute<'a> {
        PolicyRoute {
            prefix,
            attributes: Cow::Borrowed(received),
            marks: Marks {
                validity: self.validity(&prefix, received),
                ..Marks::default()
            },
            neighbor: Some(info.address),
            source: if info.ebgp {
                RouteSource::Ebgp
            } else {
                RouteSource::Ibgp
            },
            local_as: self.asn,
            next_hop: None,
        }
    }

    fn remove(&mut self, prefix: &Prefix, which: impl Fn(&Path) -> bool) {
        let Some(position) = self.table.position(prefix) else {
            return;
        };
        let entry = self.table.at_mut(position);
        let Some(at) = entry.paths.iter().position(which) else {
            return;
        };
        let removed = entry.paths.remove(at);
        if let (Some(learned), Some(peer)) = (&mut self.learned, &removed.peer) {
            learned.push(Learned::gone(peer.address, *prefix));
        }
        self.paths -= 1;
        mark(&mut self.dirty, position, entry);
        self.uncount(prefix, &removed);
    }

    /// Takes a path that is gone, or replaced, out of its peer's counts.
    fn uncount(&mut self, prefix: &Prefix, path: &Path) {
        let address = path.peer.as_ref().map(|peer| peer.address);
        if let Some(peer) = address.and_then(|address| self.peers.get_mut(&address)) {
            let family = Family::of(prefix).index();
            peer.received[family] -= 1;
            peer.accepted[family] -= u32::from(path.is_eligible());
        }
    }
}

/// Has the prefix at a position decided.
fn mark(dirty: &mut Vec<u32>, at: u32, entry: &mut Entry) {
    if !std::mem::replace(&mut entry.dirty, true) {
        dirty.push(at);
    }
}

#[cfg(test)]
mod tests;
