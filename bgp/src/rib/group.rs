//! Update groups: peers that are told the same share one adj-rib-out, one computation of each change and one encoding.
//!
//! Two peers are in one group if nothing that decides about an announcement tells them apart: kind of session,
//! negotiated families and encodings, export policy, our addresses towards them. What is still different between them is
//! what a peer must not get back: routes that it told itself, and routes with its AS in the path (RFC 4271 section 9.1.3
//! allows to leave those out). Such routes are excluded for that peer; for a batch in which it has one, what it is told is composed
//! for it alone. Every peer is told in the same bytes as if it were alone in its group.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use net::Prefix;
use smallvec::SmallVec;

use super::intern::Interner;
use super::out_queue::{Batch, Delivery, OutQueue, Words};
use super::table::{Entry, Table};
use super::{PeerInfo, Standing, export};
use crate::policy::{Marks, Policy};
use crate::wire::{AsPathSegment, Attributes, Context};
use crate::{Family, Role};

/// What decides about announcements to a peer, but for exclusions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Audience {
    pub(crate) ebgp: bool,
    pub(crate) context: Context,
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
            context: info.context.clone(),
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
}

/// What is told of a prefix.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) attributes: Arc<Attributes>,
    /// Who told us; `None` for what the speaker originates.
    pub(super) from: Option<Arc<PeerInfo>>,
}

impl Told {
    fn origin(&self) -> Option<IpAddr> {
        self.from.as_ref().map(|peer| peer.address)
    }
}

impl PartialEq for Told {
    /// Attributes are interned: equal ones are at one address.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.attributes, &other.attributes) && self.origin() == other.origin()
    }
}

type Counts = [u32; Family::ALL.len()];

#[derive(Debug)]
struct Member {
    asn: u32,
    queue: Arc<OutQueue>,
    /// Prefixes that are told to the group and not to this peer.
    excluded: Counts,
}

#[derive(Debug)]
struct Change {
    prefix: Prefix,
    before: Option<Told>,
    after: Option<Told>,
}

/// How often work was done that members share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupWork {
    /// Times that an announcement was computed from a path: policy and changes of attributes.
    pub exports: u64,
    /// Batches of changes composed.
    pub batches: u64,
}

/// The last announcement computed: neighbouring prefixes often share their attributes.
#[derive(Debug)]
struct Memo {
    attributes: Arc<Attributes>,
    from: Option<Arc<PeerInfo>>,
    marks: Marks,
    v4: bool,
    result: Option<Told>,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) audience: Audience,
    members: BTreeMap<IpAddr, Member>,
    asns: HashMap<u32, SmallVec<[IpAddr; 1]>, RandomState>,
    /// By position in the table.
    told: Vec<Option<Told>>,
    counts: Counts,
    /// Prefixes that members are not told, summed over the members.
    exclusions: u32,
    changes: Vec<Change>,
    /// Members with an exclusion in the changes.
    irregular: BTreeSet<IpAddr>,
    memo: Option<Memo>,
    pub(super) work: GroupWork,
}

impl Group {
    /// A group without members, that knows what it would be told.
    pub(super) fn new(audience: Audience, table: &Table, interner: &mut Interner<Attributes>, local_as: u32) -> Self {
        let mut group = Self {
            audience,
            members: BTreeMap::new(),
            asns: HashMap::default(),
            told: Vec::new(),
            counts: Counts::default(),
            exclusions: 0,
            changes: Vec::new(),
            irregular: BTreeSet::new(),
            memo: None,
            work: GroupWork::default(),
        };
        for (at, entry) in table.iter() {
            group.advertise(at, entry, interner, local_as);
        }
        group.changes.clear();
        group.memo = None;
        group
    }

    /// Adds a peer with its queue, which is not touched.
    pub(super) fn join(&mut self, info: &PeerInfo, queue: Arc<OutQueue>, table: &Table) {
        let mut excluded = Counts::default();
        for (at, told) in (0..).zip(&self.told) {
            if told
                .as_ref()
                .is_some_and(|told| self.excludes(told, info.address, info.asn))
            {
                excluded[Family::of(&table.at(at).prefix).index()] += 1;
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

    /// What a peer with this address and AS is told of the prefix at a position, were it a member.
    pub(super) fn told(&self, at: u32, address: IpAddr, asn: u32) -> Option<&Arc<Attributes>> {
        let told = self.told.get(at as usize)?.as_ref()?;
        (!self.excludes(told, address, asn)).then_some(&told.attributes)
    }

    /// Positions that may have been told of.
    pub(super) fn positions(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.told.len()).unwrap_or(u32::MAX)
    }

    /// Prefixes of a family that a member has been told.
    pub(super) fn count(&self, address: IpAddr, family: Family) -> u32 {
        let excluded = self
            .members
            .get(&address)
            .map_or(0, |member| member.excluded[family.index()]);
        self.counts[family.index()] - excluded
    }

    /// Brings what the group was told of a prefix up to date. The members hear of it with [`Group::flush`].
    pub(super) fn advertise(&mut self, at: u32, entry: &Entry, interner: &mut Interner<Attributes>, local_as: u32) {
        let wanted = self.wanted(entry, interner, local_as);
        let position = at as usize;
        if self.told.len() <= position {
            if wanted.is_none() {
                return;
            }
            self.told.resize(position + 1, None);
        }
        if self.told[position] == wanted {
            return;
        }
        let before = std::mem::replace(&mut self.told[position], wanted.clone());
        let family = Family::of(&entry.prefix).index();
        self.counts[family] = self.counts[family] + u32::from(wanted.is_some()) - u32::from(before.is_some());
        // Most groups exclude nothing from anybody: then there is no need to look at paths that nobody thinks of any more.
        if let Some(told) = before.as_ref().filter(|_| self.exclusions > 0) {
            for address in self.excluded_members(told) {
                self.exclude(address, family, false);
            }
        }
        if let Some(told) = &wanted {
            for address in self.excluded_members(told) {
                self.exclude(address, family, true);
            }
        }
        self.changes.push(Change {
            prefix: entry.prefix,
            before,
            after: wanted,
        });
    }

    /// Counts one prefix more, or less, that a member is not told.
    fn exclude(&mut self, address: IpAddr, family: usize, more: bool) {
        if let Some(member) = self.members.get_mut(&address) {
            let counts = [&mut member.excluded[family], &mut self.exclusions];
            counts
                .into_iter()
                .for_each(|count| *count = if more { *count + 1 } else { *count - 1 });
        }
        self.irregular.insert(address);
    }

    /// Changes that the members have not heard of.
    pub(super) fn unheard(&self) -> usize {
        self.changes.len()
    }

    /// What the members have to be told of the changes, each in its queue.
    pub(super) fn flush(&mut self, deliveries: &mut Vec<Delivery>) {
        self.memo = None;
        if self.changes.is_empty() {
            return;
        }
        let shared = Arc::new(self.compose(None));
        self.work.batches += 1;
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
        let visible = |told: &Option<Told>| {
            let told = told.as_ref()?;
            let hidden = reader.is_some_and(|(address, asn)| self.excludes(told, address, asn));
            (!hidden).then(|| Arc::clone(&told.attributes))
        };
        let mut words = Words::default();
        let mut prefixes = 0;
        for change in &self.changes {
            let (before, after) = (visible(&change.before), visible(&change.after));
            if before.as_ref().map(Arc::as_ptr) != after.as_ref().map(Arc::as_ptr) {
                words.add(change.prefix, after);
                prefixes += 1;
            }
        }
        Batch::new(words.into_updates(), prefixes, self.audience.context.clone())
    }

    /// What the group is to be told of a prefix.
    fn wanted(&mut self, entry: &Entry, interner: &mut Interner<Attributes>, local_as: u32) -> Option<Told> {
        let best = entry.paths.iter().find(|path| path.standing == Standing::Best)?;
        let audience = &self.audience;
        if !audience.context.families.contains(&Family::of(&entry.prefix)) {
            return None;
        }
        if best
            .peer
            .as_ref()
            .is_some_and(|from| !audience.advertise_learned || !from.ebgp)
        {
            return None;
        }
        let (v4, marks) = (entry.prefix.is_v4(), best.marks());
        let uniform = audience.export.of(&entry.prefix).is_uniform();
        if uniform
            && let Some(memo) = &self.memo
            && Arc::ptr_eq(&memo.attributes, best.attributes())
            && memo.from.as_ref().map(Arc::as_ptr) == best.peer.as_ref().map(Arc::as_ptr)
            && (memo.v4, memo.marks) == (v4, marks)
        {
            return memo.result.clone();
        }
        self.work.exports += 1;
        let attributes = export::export(audience, local_as, &entry.prefix, best).ok();
        let result = attributes.map(|attributes| Told {
            attributes: interner.intern(attributes),
            from: best.peer.clone(),
        });
        self.memo = uniform.then(|| Memo {
            attributes: Arc::clone(best.attributes()),
            from: best.peer.clone(),
            marks,
            v4,
            result: result.clone(),
        });
        result
    }

    /// True for what a peer must not get back.
    fn excludes(&self, told: &Told, address: IpAddr, asn: u32) -> bool {
        told.origin() == Some(address) || (self.audience.ebgp && told.attributes.as_path.contains_asn(asn))
    }

    /// The members for whom [`Group::excludes`] holds.
    fn excluded_members(&self, told: &Told) -> SmallVec<[IpAddr; 2]> {
        let mut found = SmallVec::new();
        let mut add = |address: IpAddr| {
            if !found.contains(&address) {
                found.push(address);
            }
        };
        told.origin()
            .filter(|origin| self.members.contains_key(origin))
            .into_iter()
            .for_each(&mut add);
        if self.audience.ebgp {
            let ases = told
                .attributes
                .as_path
                .segments
                .iter()
                .flat_map(|segment| match segment {
                    AsPathSegment::AsSequence(ases) | AsPathSegment::AsSet(ases) => ases,
                });
            for asn in ases {
                self.asns.get(asn).into_iter().flatten().copied().for_each(&mut add);
            }
        }
        found
    }
}
