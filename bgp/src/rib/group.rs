//! Update groups: peers that are told the same share one adj-rib-out, one computation of each change and one encoding.
//!
//! Two peers are in one group if nothing that decides about an announcement tells them apart: kind of session,
//! negotiated families and encodings, how many paths of a prefix, export policy, our addresses towards them. What is still different between them is
//! what a peer must not get back: routes that it told itself, and routes with its AS in the path (RFC 4271 section 9.1.3
//! allows to leave those out). Such routes are excluded for that peer; for a batch in which it has one, what it is told is composed
//! for it alone. Every peer is told in the same bytes as if it were alone in its group.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use net::Prefix;
use smallvec::SmallVec;

use super::next_hops::NextHops;
use super::out_queue::{Batch, Delivery, OutQueue, Words};
use super::path_ids::PathIds;
use super::table::{Entry, Table};
use super::told::{Announcer, Told};
use super::{Path, PeerInfo, Rules, Standing, decision};
use crate::policy::Policy;
use crate::wire::{AsPath, AsPathSegment, Attributes, Context, Nlri};
use crate::{Family, Role, SendPaths};

/// What decides about announcements to a peer, but for exclusions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Audience {
    pub(crate) ebgp: bool,
    /// As far as what is sent is concerned.
    pub(crate) context: Context,
    pub(crate) send_paths: SendPaths,
    pub(crate) export: Policy,
    pub(crate) advertise_learned: bool,
    pub(crate) role: Option<Role>,
    /// They know what a long-lived stale path is (RFC 9494 section 4.3).
    pub(crate) long_lived: bool,
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
    pub(crate) link_local: Option<Ipv6Addr>,
    /// The peer, if the policy may ask who it is.
    pub(crate) neighbor: Option<IpAddr>,
}

impl Audience {
    pub(crate) fn of(info: &PeerInfo) -> Self {
        Self {
            ebgp: info.ebgp,
            context: info.context.as_sent(),
            send_paths: info.send_paths,
            export: info.export.clone(),
            advertise_learned: info.advertise_learned,
            role: info.role,
            long_lived: info.long_lived,
            v4: info.local.v4,
            v6: info.local.v6,
            link_local: info.local.link_local,
            neighbor: info.export.asks_for_neighbor().then_some(info.address),
        }
    }

    /// Of a prefix of the family it is told several paths, by their identifiers.
    fn sends_several(&self, family: Family) -> bool {
        self.send_paths != SendPaths::None && self.context.sends_path_ids(family)
    }

    /// The same of any family.
    pub(super) fn sends_any_several(&self) -> bool {
        Family::UNICAST.into_iter().any(|family| self.sends_several(family))
    }
}

/// What announcements are made with.
#[derive(Debug)]
pub(super) struct Exporting<'a> {
    pub(super) local_as: u32,
    pub(super) rules: Rules,
    pub(super) next_hops: &'a NextHops,
    pub(super) path_ids: &'a PathIds,
}

type Counts = [u32; Family::ALL.len()];

#[derive(Debug)]
struct Member {
    asn: u32,
    queue: Arc<OutQueue>,
    /// Paths that are told to the group and not to this peer.
    excluded: Counts,
}

/// What is told of a path has become something else.
#[derive(Debug)]
struct Change {
    nlri: Nlri,
    before: Option<Heard>,
    after: Option<Heard>,
}

/// A path as the group hears of it.
#[derive(Debug)]
struct Heard {
    told: Arc<Told>,
    /// `None` if it is certainly announced with another AS path than what takes its place, and this path as it came.
    announced: Option<Arc<Attributes>>,
}

impl Heard {
    fn as_path(&self) -> &AsPath {
        &self.announced.as_ref().unwrap_or(self.told.attributes()).as_path
    }
}

/// How often work was done that members share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupWork {
    /// Times that an announcement was computed from a path: policy and changes of attributes.
    pub exports: u64,
    /// Batches of changes composed.
    pub batches: u64,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) audience: Audience,
    /// Nothing is ever told.
    silent: bool,
    /// The AS path may be announced as another, but for ours.
    changes_as_path: bool,
    members: BTreeMap<IpAddr, Member>,
    asns: HashMap<u32, SmallVec<[IpAddr; 1]>, RandomState>,
    /// By position in the table.
    told: Vec<Option<Arc<Told>>>,
    /// The same where several paths are told, each with its identifier.
    several: Vec<Vec<(u32, Arc<Told>)>>,
    counts: Counts,
    /// Paths that members are not told, summed over the members.
    exclusions: u32,
    changes: Vec<Change>,
    /// Members with an exclusion in the changes.
    irregular: BTreeSet<IpAddr>,
    announcer: Announcer,
    /// Batches of changes composed.
    batches: u64,
}

impl Group {
    /// A group without members, that knows what it would be told.
    pub(super) fn new(audience: Audience, table: &Table, exporting: &Exporting<'_>) -> Self {
        let mut group = Self {
            silent: audience.export.is_silent(audience.ebgp),
            changes_as_path: audience.export.changes_as_path(),
            audience,
            members: BTreeMap::new(),
            asns: HashMap::default(),
            told: Vec::new(),
            several: Vec::new(),
            counts: Counts::default(),
            exclusions: 0,
            changes: Vec::new(),
            irregular: BTreeSet::new(),
            announcer: Announcer::default(),
            batches: 0,
        };
        for (at, entry) in table.iter() {
            group.advertise(at, entry, exporting);
        }
        group.changes.clear();
        group.announcer.clear();
        group
    }

    /// Adds a peer with its queue, which is not touched.
    pub(super) fn join(&mut self, info: &PeerInfo, queue: Arc<OutQueue>, table: &Table, local_as: u32) {
        let mut excluded = Counts::default();
        let mut announcer = Announcer::default();
        for at in self.positions() {
            let prefix = &table.at(at).prefix;
            for (_, told) in self.all_told(at) {
                let heard = self.heard(prefix, told, local_as, &mut announcer);
                if heard.is_some_and(|heard| self.excludes(&heard, info.address, info.asn)) {
                    excluded[Family::of(prefix).index()] += 1;
                }
            }
        }
        self.exclusions += excluded.iter().sum::<u32>();
        let member = Member {
            asn: info.asn,
            queue,
            excluded,
        };
        self.members.insert(info.address, member);
        self.asns.entry(info.asn).or_default().push(info.address);
    }

    /// Takes a peer out.
    pub(super) fn leave(&mut self, address: IpAddr) {
        let Some(member) = self.members.remove(&address) else {
            return;
        };
        self.exclusions -= member.excluded.iter().sum::<u32>();
        if let Some(addresses) = self.asns.get_mut(&member.asn) {
            addresses.retain(|known| *known != address);
            if addresses.is_empty() {
                self.asns.remove(&member.asn);
            }
        }
    }

    /// Peers in it.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// What a peer is told of the prefix at a position, were it a member: paths by identifier, or one under 0.
    pub(super) fn told(
        &self,
        at: u32,
        prefix: &Prefix,
        peer: &PeerInfo,
        local_as: u32,
        announcer: &mut Announcer,
    ) -> SmallVec<[(u32, Arc<Attributes>); 1]> {
        let told = self.all_told(at).filter_map(|(id, told)| {
            let announced = announcer.told(&self.audience, local_as, prefix, told)?;
            let heard = Heard {
                told: told.clone(),
                announced: Some(Arc::clone(&announced)),
            };
            (!self.excludes(&heard, peer.address, peer.asn)).then_some((id, announced))
        });
        told.collect()
    }

    /// What is told of the prefix at a position.
    fn all_told(&self, at: u32) -> impl Iterator<Item = (u32, &Arc<Told>)> {
        let one = self.told.get(at as usize).into_iter().flatten();
        let several = self.several.get(at as usize).into_iter().flatten();
        one.map(|told| (0, told)).chain(several.map(|(id, told)| (*id, told)))
    }

    /// Positions that may have been told of.
    pub(super) fn positions(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.told.len().max(self.several.len())).unwrap_or(u32::MAX)
    }

    /// Paths of a family that a member has been told.
    pub(super) fn count(&self, address: IpAddr, family: Family) -> u32 {
        let excluded = self
            .members
            .get(&address)
            .map_or(0, |member| member.excluded[family.index()]);
        self.counts[family.index()] - excluded
    }

    /// Brings what the group was told of a prefix up to date. The members hear of it with [`Group::flush`].
    pub(super) fn advertise(&mut self, at: u32, entry: &Entry, exporting: &Exporting<'_>) {
        if self.silent {
            return;
        }
        if self.audience.sends_several(Family::of(&entry.prefix)) {
            return self.advertise_several(at, entry, exporting);
        }
        let best = entry.paths.iter().find(|path| path.standing == Standing::Best);
        let position = at as usize;
        if let (Some(Some(told)), Some(best)) = (self.told.get(position), best)
            && told.is(best)
        {
            return;
        }
        let after = best.and_then(|best| self.announcement(&entry.prefix, best, exporting));
        if self.told.len() <= position {
            if after.is_none() {
                return;
            }
            self.told.resize(position + 1, None);
        }
        let wanted = after.as_ref().map(|heard| heard.told.clone());
        let before = std::mem::replace(&mut self.told[position], wanted);
        self.change(entry.prefix.into(), before, after, exporting);
    }

    /// The same for several paths: each is announced, replaced and withdrawn by its identifier.
    fn advertise_several(&mut self, at: u32, entry: &Entry, exporting: &Exporting<'_>) {
        let wanted = self.wanted(at, entry, exporting);
        let position = at as usize;
        if self.several.len() <= position {
            if wanted.is_empty() {
                return;
            }
            self.several.resize(position + 1, Vec::new());
        }
        let told = wanted.iter().map(|(id, heard)| (*id, heard.told.clone())).collect();
        let mut before = std::mem::replace(&mut self.several[position], told);
        let prefix = entry.prefix;
        let gone = |id: &u32| wanted.iter().all(|(known, _)| known != id);
        for (path_id, told) in before.extract_if(.., |(id, _)| gone(id)).collect::<Vec<_>>() {
            self.change(Nlri { prefix, path_id }, Some(told), None, exporting);
        }
        for (path_id, heard) in wanted {
            let at = before.iter().position(|(id, _)| *id == path_id);
            let before = at.map(|at| before.swap_remove(at).1);
            if !before
                .as_ref()
                .is_some_and(|before| before.is_announced_as(&heard.told))
            {
                self.change(Nlri { prefix, path_id }, before, Some(heard), exporting);
            }
        }
    }

    /// What is told of a path has changed.
    fn change(&mut self, nlri: Nlri, before: Option<Arc<Told>>, after: Option<Heard>, exporting: &Exporting<'_>) {
        if before.is_none() && after.is_none() {
            return;
        }
        let family = Family::of(&nlri.prefix).index();
        self.counts[family] = self.counts[family] + u32::from(after.is_some()) - u32::from(before.is_some());
        let before = before.and_then(|told| {
            // The usual case of a path that takes the place of another: no need to know how the other was announced.
            let differs = |after: &Heard| after.told.attributes().as_path != told.attributes().as_path;
            if !self.changes_as_path && after.as_ref().is_none_or(differs) {
                return Some(Heard { told, announced: None });
            }
            let announced = self
                .announcer
                .told(&self.audience, exporting.local_as, &nlri.prefix, &told)?;
            let announced = Some(announced);
            Some(Heard { told, announced })
        });
        // Most groups exclude nothing from anybody: then there is no need to look at paths that nobody thinks of any more.
        if let Some(heard) = before.as_ref().filter(|_| self.exclusions > 0) {
            for address in self.excluded_members(heard) {
                self.exclude(address, family, false);
            }
        }
        if let Some(heard) = &after {
            for address in self.excluded_members(heard) {
                self.exclude(address, family, true);
            }
        }
        self.changes.push(Change { nlri, before, after });
    }

    /// Counts one path more, or less, that a member is not told.
    fn exclude(&mut self, address: IpAddr, family: usize, more: bool) {
        if let Some(member) = self.members.get_mut(&address) {
            let counts = [&mut member.excluded[family], &mut self.exclusions];
            counts
                .into_iter()
                .for_each(|count| *count = if more { *count + 1 } else { *count - 1 });
        }
        self.irregular.insert(address);
    }

    /// Work done so far.
    pub(super) const fn work(&self) -> GroupWork {
        GroupWork {
            exports: self.announcer.computed,
            batches: self.batches,
        }
    }

    /// Changes that the members have not heard of.
    pub(super) fn unheard(&self) -> usize {
        self.changes.len()
    }

    /// What the members have to be told of the changes, each in its queue.
    pub(super) fn flush(&mut self, deliveries: &mut Vec<Delivery>) {
        self.announcer.clear();
        if self.changes.is_empty() {
            return;
        }
        let shared = Arc::new(self.compose(None));
        self.batches += 1;
        for (address, member) in &self.members {
            if self.irregular.contains(address) {
                let own = self.compose(Some((*address, member.asn)));
                if !own.updates().is_empty() {
                    deliveries.push(Delivery::new(&member.queue, Arc::new(own)));
                }
            } else if !shared.updates().is_empty() {
                deliveries.push(Delivery::new(&member.queue, Arc::clone(&shared)));
            }
        }
        self.changes.clear();
        self.irregular.clear();
    }

    /// The changes in words, for everybody or for a peer that must not be told some: withdrawals first, then announcements in
    /// order of their first prefix.
    fn compose(&self, reader: Option<(IpAddr, u32)>) -> Batch {
        let visible = |heard: &'_ Option<Heard>| -> Option<Option<Arc<Attributes>>> {
            let heard = heard.as_ref()?;
            let hidden = reader.is_some_and(|(address, asn)| self.excludes(heard, address, asn));
            (!hidden).then(|| heard.announced.clone())
        };
        let mut words = Words::default();
        let mut prefixes = 0;
        for change in &self.changes {
            let (before, after) = (visible(&change.before), visible(&change.after));
            // Where only the path has changed, and not what is said of it, there is nothing to say.
            if before != after {
                words.add(change.nlri, after.flatten());
                prefixes += 1;
            }
        }
        Batch::new(words.into_updates(), prefixes, self.audience.context.clone())
    }

    /// Which paths the group is to be told of a prefix, each with its identifier, and as what.
    fn wanted(&mut self, at: u32, entry: &Entry, exporting: &Exporting<'_>) -> Vec<(u32, Heard)> {
        let ids = exporting.path_ids;
        let mut wanted = Vec::new();
        let mut told = |group: &mut Self, path: &Path| {
            let told = group.announcement(&entry.prefix, path, exporting);
            wanted.extend(ids.of(at, path).zip(told));
            wanted.len()
        };
        match self.audience.send_paths {
            SendPaths::None => {}
            SendPaths::All => {
                for path in entry.paths.iter().filter(|path| path.is_eligible()) {
                    told(self, path);
                }
            }
            SendPaths::Best(most) => {
                let next_hops = exporting.next_hops;
                let cost = |path: &Path| next_hops.cost(path.attributes().next_hop);
                for path in decision::ranked(&entry.paths, exporting.rules, cost) {
                    if told(self, path) == usize::from(most.get()) {
                        break;
                    }
                }
            }
        }
        wanted
    }

    /// As what the group is to be told of a path, if at all.
    fn announcement(&mut self, prefix: &Prefix, path: &Path, exporting: &Exporting<'_>) -> Option<Heard> {
        let audience = &self.audience;
        if !audience.context.families.contains(&Family::of(prefix)) {
            return None;
        }
        if path
            .peer
            .as_ref()
            .is_some_and(|from| !audience.advertise_learned || !from.ebgp)
        {
            return None;
        }
        let (told, announced) = self.announcer.path(audience, exporting.local_as, prefix, path)?;
        let announced = Some(announced);
        Some(Heard { told, announced })
    }

    /// A path that is told, as far as [`Group::excludes`] has to know it.
    fn heard(&self, prefix: &Prefix, told: &Arc<Told>, local_as: u32, announcer: &mut Announcer) -> Option<Heard> {
        let announced = if self.changes_as_path {
            Some(announcer.told(&self.audience, local_as, prefix, told)?)
        } else {
            None
        };
        let told = told.clone();
        Some(Heard { told, announced })
    }

    /// True for what a peer must not get back. Whether its AS is in the path is the same before and after ours is added.
    fn excludes(&self, heard: &Heard, address: IpAddr, asn: u32) -> bool {
        heard.told.origin() == Some(address) || (self.audience.ebgp && heard.as_path().contains_asn(asn))
    }

    /// The members for whom [`Group::excludes`] holds.
    fn excluded_members(&self, heard: &Heard) -> SmallVec<[IpAddr; 2]> {
        let mut found = SmallVec::new();
        let mut add = |address: IpAddr| {
            if !found.contains(&address) {
                found.push(address);
            }
        };
        heard
            .told
            .origin()
            .filter(|origin| self.members.contains_key(origin))
            .into_iter()
            .for_each(&mut add);
        if self.audience.ebgp {
            let path = heard.as_path();
            if self.asns.len() == 1 {
                let theirs = self.asns.iter().filter(|(asn, _)| path.contains_asn(**asn));
                theirs.flat_map(|(_, addresses)| addresses).copied().for_each(add);
                return found;
            }
            let ases = path.segments.iter().flat_map(|segment| match segment {
                AsPathSegment::AsSequence(ases) | AsPathSegment::AsSet(ases) => ases,
            });
            for asn in ases {
                self.asns.get(asn).into_iter().flatten().copied().for_each(&mut add);
            }
        }
        found
    }
}
