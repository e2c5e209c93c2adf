//! What a peer still has to be told: the queue between the RIB and the peer's task.
//!
//! A peer that keeps up gets the [`Batch`]es of its group as they are made, each encoded once, by whoever sends it first.
//! For a peer that does not, further changes are kept as one entry a prefix, the newest, and are encoded for it alone
//! until it has caught up: so it gets the last state, the queue never outgrows the table, and nobody waits for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;
use net::Prefix;
use tracing::warn;

use crate::Family;
use crate::evpn::Pending as EvpnPending;
use crate::wire::{self, Attributes, Context, EvpnKey, EvpnRoute};

/// Batches, and prefixes in them, that wait for one peer; more are kept by prefix.
const WAITING: (usize, usize) = (256, 65_536);

/// Something to tell a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Prefixes of one family that share their attributes.
    Announce(Arc<Attributes>, Vec<Prefix>),
    /// Prefixes of one family.
    Withdraw(Vec<Prefix>),
    /// EVPN routes that share their attributes.
    AnnounceEvpn(Arc<Attributes>, Vec<EvpnRoute>),
    /// EVPN routes.
    WithdrawEvpn(Vec<EvpnKey>),
    /// The first full table of a family ends.
    EndOfRib(Family),
    /// A family is told anew from here… (RFC 7313)
    RefreshBegins(Family),
    /// …to here.
    RefreshEnds(Family),
    /// What a group of peers is told.
    Batch(Arc<Batch>),
}

/// Changes that several peers are told in the same words.
#[derive(Debug)]
pub struct Batch {
    updates: Vec<Outgoing>,
    prefixes: usize,
    context: Context,
    encoded: OnceLock<(Bytes, u64)>,
}

impl Batch {
    /// Of announcements and withdrawals of `prefixes` prefixes, for sessions of this kind.
    pub(super) const fn new(updates: Vec<Outgoing>, prefixes: usize, context: Context) -> Self {
        Self {
            updates,
            prefixes,
            context,
            encoded: OnceLock::new(),
        }
    }

    /// Announcements and withdrawals.
    pub fn updates(&self) -> &[Outgoing] {
        &self.updates
    }

    /// As UPDATE messages one after the other, and how many; encoded by the first who asks.
    pub fn encoded(&self) -> &(Bytes, u64) {
        self.encoded.get_or_init(|| self.encode())
    }

    fn encode(&self) -> (Bytes, u64) {
        let (mut bytes, mut count) = (BytesMut::new(), 0);
        for update in &self.updates {
            let messages = match update {
                Outgoing::Announce(attributes, prefixes) => {
                    // What cannot be written is withdrawn, so that the peers do not keep what they had before.
                    wire::encode_announcement(attributes, prefixes, &self.context).unwrap_or_else(|error| {
                        warn!(prefix = %prefixes[0], prefixes = prefixes.len(), %error, "routes cannot be announced");
                        wire::encode_withdrawal(prefixes, &self.context)
                    })
                }
                Outgoing::Withdraw(prefixes) => wire::encode_withdrawal(prefixes, &self.context),
                // For one peer alone.
                _ => continue,
            };
            for message in messages {
                bytes.extend_from_slice(&message);
                count += 1;
            }
        }
        (bytes.freeze(), count)
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.updates == other.updates && self.context == other.context
    }
}

impl Eq for Batch {}

/// A batch on its way into the queue of a peer.
#[derive(Debug)]
pub struct Delivery {
    queue: Arc<OutQueue>,
    batch: Arc<Batch>,
}

impl Delivery {
    pub(super) fn new(queue: &Arc<OutQueue>, batch: Arc<Batch>) -> Self {
        Self {
            queue: Arc::clone(queue),
            batch,
        }
    }

    /// Puts the batch into the queue.
    pub fn deliver(self) {
        self.queue.put_batch(&self.batch);
    }
}

/// What a peer still has to be told.
#[derive(Debug, Default)]
pub struct OutQueue(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    batches: VecDeque<Arc<Batch>>,
    /// Prefixes in the batches.
    waiting: usize,
    /// What follows the batches, for this peer alone.
    routes: BTreeMap<Prefix, Option<Arc<Attributes>>>,
    evpn: EvpnPending,
    end_of_rib: BTreeSet<Family>,
    refresh_begins: BTreeSet<Family>,
    refresh_ends: BTreeSet<Family>,
}

impl OutQueue {
    /// Takes up to `limit` prefixes, or one batch that has more, grouped so that each group makes one UPDATE or a few;
    /// empty if all is told.
    pub fn take(&self, limit: usize) -> Vec<Outgoing> {
        let mut pending = self.lock();
        let begun = std::mem::take(&mut pending.refresh_begins);
        pending.refresh_ends.extend(&begun);
        let mut outgoing: Vec<_> = begun.into_iter().map(Outgoing::RefreshBegins).collect();
        let mut taken = 0;
        while let Some(batch) = pending
            .batches
            .pop_front_if(|next| taken == 0 || taken + next.prefixes <= limit)
        {
            taken += batch.prefixes;
            pending.waiting -= batch.prefixes;
            outgoing.push(Outgoing::Batch(batch));
        }
        if pending.batches.is_empty() {
            own(&mut pending.routes, limit.saturating_sub(taken), &mut outgoing);
            if pending.routes.is_empty() {
                pending.evpn.take(limit.saturating_sub(taken), &mut outgoing);
            }
            if pending.routes.is_empty() && pending.evpn.is_empty() {
                let ended = std::mem::take(&mut pending.end_of_rib);
                outgoing.extend(ended.into_iter().map(Outgoing::EndOfRib));
                let ended = std::mem::take(&mut pending.refresh_ends);
                outgoing.extend(ended.into_iter().map(Outgoing::RefreshEnds));
            }
        }
        outgoing
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        let pending = self.lock();
        let markers = [&pending.end_of_rib, &pending.refresh_begins, &pending.refresh_ends];
        let routes = pending.routes.is_empty() && pending.evpn.is_empty();
        pending.batches.is_empty() && routes && markers.into_iter().all(BTreeSet::is_empty)
    }

    /// True if something about `prefix` waits.
    pub(super) fn holds(&self, prefix: &Prefix) -> bool {
        let pending = self.lock();
        let names = |update: &Outgoing| match update {
            Outgoing::Announce(_, prefixes) | Outgoing::Withdraw(prefixes) => prefixes.contains(prefix),
            _ => false,
        };
        let batches = &mut pending.batches.iter().flat_map(|batch| &batch.updates);
        pending.routes.contains_key(prefix) || batches.any(names)
    }

    /// Tells a peer what its group is told.
    pub(super) fn put_batch(&self, batch: &Arc<Batch>) {
        let mut pending = self.lock();
        let fits = pending.batches.len() < WAITING.0 && pending.waiting + batch.prefixes <= WAITING.1;
        if pending.routes.is_empty() && fits {
            pending.waiting += batch.prefixes;
            pending.batches.push_back(Arc::clone(batch));
            return;
        }
        for update in &batch.updates {
            match update {
                Outgoing::Announce(attributes, prefixes) => {
                    let told = prefixes.iter().map(|prefix| (*prefix, Some(Arc::clone(attributes))));
                    pending.routes.extend(told);
                }
                Outgoing::Withdraw(prefixes) => pending.routes.extend(prefixes.iter().map(|prefix| (*prefix, None))),
                // For one peer alone.
                _ => {}
            }
        }
    }

    /// Tells this peer alone.
    pub(super) fn put(&self, routes: impl Iterator<Item = (Prefix, Option<Arc<Attributes>>)>) {
        self.lock().routes.extend(routes);
    }

    /// Tells this peer alone a whole family again (RFC 2918), with a beginning and an end if it wants to know them (RFC 7313).
    /// One that has not been told to its end yet has neither: its end-of-RIB marker must come first.
    pub(super) fn put_again(
        &self,
        family: Family,
        enhanced: bool,
        routes: impl Iterator<Item = (Prefix, Option<Arc<Attributes>>)>,
    ) {
        let mut pending = self.lock();
        if enhanced && !pending.end_of_rib.contains(&family) {
            pending.refresh_begins.insert(family);
        }
        pending.routes.extend(routes);
    }

    /// Tells this peer EVPN routes.
    pub(crate) fn put_evpn(&self, routes: impl Iterator<Item = (EvpnKey, Option<(Arc<Attributes>, EvpnRoute)>)>) {
        self.lock().evpn.put(routes);
    }

    /// Tells this peer all of EVPN again, as [`OutQueue::put_again`] does with prefixes.
    pub(crate) fn put_evpn_again(
        &self,
        enhanced: bool,
        routes: impl Iterator<Item = (EvpnKey, Option<(Arc<Attributes>, EvpnRoute)>)>,
    ) {
        self.put_again(Family::L2vpnEvpn, enhanced, std::iter::empty());
        self.put_evpn(routes);
    }

    pub(super) fn put_end_of_rib(&self, family: Family) {
        self.lock().end_of_rib.insert(family);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Every change under the lock is one of its collections, so a panic elsewhere leaves it consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes up to `limit` prefixes of `routes`: withdrawals, then announcements in order of their first prefix.
fn own(routes: &mut BTreeMap<Prefix, Option<Arc<Attributes>>>, limit: usize, outgoing: &mut Vec<Outgoing>) {
    let mut words = Words::default();
    for _ in 0..limit {
        let Some((prefix, attributes)) = routes.pop_first() else {
            break;
        };
        words.add(prefix, attributes);
    }
    outgoing.extend(words.into_updates());
}

/// Changes on their way to become UPDATEs: withdrawals by family, announcements by attributes.
#[derive(Debug, Default)]
pub(super) struct Words {
    withdrawn: [Vec<Prefix>; Family::ALL.len()],
    announced: Vec<(Arc<Attributes>, Vec<Prefix>)>,
    /// Attributes are interned, so those at one address are equal and equal ones are at one address.
    places: HashMap<(usize, *const Attributes), usize, RandomState>,
}

impl Words {
    pub(super) fn add(&mut self, prefix: Prefix, attributes: Option<Arc<Attributes>>) {
        let family = Family::of(&prefix).index();
        let Some(attributes) = attributes else {
            self.withdrawn[family].push(prefix);
            return;
        };
        let announced = &mut self.announced;
        let place = *self
            .places
            .entry((family, Arc::as_ptr(&attributes)))
            .or_insert_with(|| {
                announced.push((attributes, Vec::new()));
                announced.len() - 1
            });
        announced[place].1.push(prefix);
    }

    pub(super) fn into_updates(self) -> Vec<Outgoing> {
        let withdrawn = self.withdrawn.into_iter().filter(|prefixes| !prefixes.is_empty());
        let announced = self.announced.into_iter();
        let announced = announced.map(|(attributes, prefixes)| Outgoing::Announce(attributes, prefixes));
        withdrawn.map(Outgoing::Withdraw).chain(announced).collect()
    }
}
