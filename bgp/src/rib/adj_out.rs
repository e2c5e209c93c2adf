//! Adj-rib-out: what a peer was told, what it still has to be told, and how a route changes on the way out.
//!
//! The [`OutQueue`] lies between the RIB and the peer's task. It holds one entry a prefix, the newest, so a peer that
//! reads slowly gets the last state and the queue never outgrows the table.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net::Prefix;
use net::policy::{Community, NextHopChange};

use super::{Path, PeerInfo};
use crate::Family;
use crate::policy::PolicyRoute;
use crate::wire::{Attributes, NextHop, PathAttribute};

/// LOCAL_PREF told to internal peers when a route has none.
const LOCAL_PREF: u32 = 100;

/// Something to tell a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Prefixes of one family that share their attributes.
    Announce(Arc<Attributes>, Vec<Prefix>),
    /// Prefixes of one family.
    Withdraw(Vec<Prefix>),
    /// The first full table of a family ends.
    EndOfRib(Family),
    /// A family is told anew from here… (RFC 7313)
    RefreshBegins(Family),
    /// …to here.
    RefreshEnds(Family),
}

/// What a peer still has to be told.
#[derive(Debug, Default)]
pub struct OutQueue(Mutex<Pending>);

type Announcement = (Arc<Attributes>, Vec<Prefix>);

#[derive(Debug, Default)]
struct Pending {
    routes: BTreeMap<Prefix, Option<Arc<Attributes>>>,
    end_of_rib: BTreeSet<Family>,
    refresh_begins: BTreeSet<Family>,
    refresh_ends: BTreeSet<Family>,
}

impl OutQueue {
    /// Takes up to `limit` prefixes, grouped so that each group makes one UPDATE or a few; empty if all is told.
    pub fn take(&self, limit: usize) -> Vec<Outgoing> {
        let mut pending = self.lock();
        let begun = std::mem::take(&mut pending.refresh_begins);
        pending.refresh_ends.extend(&begun);
        let mut outgoing: Vec<_> = begun.into_iter().map(Outgoing::RefreshBegins).collect();
        let mut withdrawn: BTreeMap<Family, Vec<Prefix>> = BTreeMap::new();
        // Attributes are interned, so those at one address are equal and equal ones are at one address.
        let mut announced: HashMap<(Family, *const Attributes), Announcement> = HashMap::new();
        for _ in 0..limit {
            let Some((prefix, attributes)) = pending.routes.pop_first() else {
                break;
            };
            let family = Family::of(&prefix);
            match attributes {
                None => withdrawn.entry(family).or_default().push(prefix),
                Some(attributes) => {
                    let key = (family, Arc::as_ptr(&attributes));
                    announced
                        .entry(key)
                        .or_insert_with(|| (attributes, Vec::new()))
                        .1
                        .push(prefix);
                }
            }
        }
        outgoing.extend(withdrawn.into_values().map(Outgoing::Withdraw));
        outgoing.extend(
            announced
                .into_values()
                .map(|(attributes, prefixes)| Outgoing::Announce(attributes, prefixes)),
        );
        if pending.routes.is_empty() {
            outgoing.extend(
                std::mem::take(&mut pending.end_of_rib)
                    .into_iter()
                    .map(Outgoing::EndOfRib),
            );
            let ended = std::mem::take(&mut pending.refresh_ends);
            outgoing.extend(ended.into_iter().map(Outgoing::RefreshEnds));
        }
        outgoing
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        let pending = self.lock();
        let markers = [&pending.end_of_rib, &pending.refresh_begins, &pending.refresh_ends];
        pending.routes.is_empty() && markers.into_iter().all(BTreeSet::is_empty)
    }

    fn put(&self, prefix: Prefix, attributes: Option<Arc<Attributes>>) {
        self.lock().routes.insert(prefix, attributes);
    }

    pub(super) fn put_end_of_rib(&self, family: Family) {
        self.lock().end_of_rib.insert(family);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Every change under the lock is one map operation, so a panic elsewhere leaves it consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a peer was told.
#[derive(Debug, Default)]
pub(super) struct AdjRibOut {
    advertised: HashMap<Prefix, Arc<Attributes>>,
    pub(super) queue: Arc<OutQueue>,
}

impl AdjRibOut {
    /// Makes the peer know `wanted` of `prefix`.
    pub(super) fn set(&mut self, prefix: Prefix, wanted: Option<Arc<Attributes>>) {
        match wanted {
            Some(attributes) => {
                let told = self.advertised.insert(prefix, Arc::clone(&attributes));
                if told.as_ref() != Some(&attributes) {
                    self.queue.put(prefix, Some(attributes));
                }
            }
            None => {
                if self.advertised.remove(&prefix).is_some() {
                    self.queue.put(prefix, None);
                }
            }
        }
    }

    /// Tells a whole family again (RFC 2918), with a beginning and an end if the peer wants to know them (RFC 7313). One
    /// that has not been told to its end yet has neither: its end-of-RIB marker must come first.
    pub(super) fn repeat(&self, family: Family, enhanced: bool) {
        let mut pending = self.queue.lock();
        if enhanced && !pending.end_of_rib.contains(&family) {
            pending.refresh_begins.insert(family);
        }
        let told = self.advertised.iter();
        let told = told.filter(|(prefix, _)| Family::of(prefix) == family);
        pending
            .routes
            .extend(told.map(|(prefix, attributes)| (*prefix, Some(Arc::clone(attributes)))));
    }

    pub(super) fn count(&self, family: Family) -> usize {
        self.advertised
            .keys()
            .filter(|prefix| Family::of(prefix) == family)
            .count()
    }
}

/// The next hop to announce for a prefix: ourselves. `None` if we have no address that the peer could use.
pub(super) fn next_hop_self(peer: &PeerInfo, prefix: &Prefix) -> Option<NextHop> {
    let link_local = peer.local.link_local;
    let v6 = match peer.local.v6 {
        Some(global) => Some(NextHop {
            address: IpAddr::V6(global),
            link_local,
        }),
        None => link_local.map(|alone| NextHop::from(IpAddr::V6(alone))),
    };
    if prefix.is_v4() {
        let v4 = peer.local.v4.map(|v4| NextHop::from(IpAddr::V4(v4)));
        v4.or_else(|| v6.filter(|_| peer.context.ipv6_next_hop_for_ipv4))
    } else {
        v6
    }
}

/// The attributes of an originated or learned route as `peer` is to see them; `None` if it must not see the route.
///
/// Export policy sees the route as the decision process does, without our AS, and with the MED only if that may leave;
/// what it sets is what the peer gets.
pub(super) fn export(peer: &PeerInfo, local_as: u32, prefix: &Prefix, path: &Path) -> Option<Attributes> {
    let attributes = &*path.attributes;
    if stays(attributes, peer.ebgp) || peer.role.is_some_and(|role| role.withholds(attributes)) {
        return None;
    }
    if !peer.long_lived && attributes.has_community(Community::LLGR_STALE) {
        return None;
    }
    // RFC 4271 section 9.1.3 allows to leave out what the peer would refuse as a loop.
    if attributes.as_path.contains_asn(peer.asn) && peer.ebgp {
        return None;
    }
    // MED does not cross two AS borders (RFC 4271 section 5.1.4).
    let learned_outside = !attributes.as_path.is_empty();
    let attributes = if attributes.med.is_some() && peer.ebgp && learned_outside {
        Cow::Owned(Attributes {
            med: None,
            ..attributes.clone()
        })
    } else {
        Cow::Borrowed(attributes)
    };
    let mut route = PolicyRoute {
        prefix: *prefix,
        attributes,
        marks: path.marks,
        neighbor: Some(peer.address),
        source: path.source,
        local_as,
        next_hop: None,
    };
    if !peer.export.evaluate(peer.ebgp, &mut route).accept {
        return None;
    }
    let next_hop = match route.next_hop {
        Some(NextHopChange::Address(_)) => route.attributes.next_hop,
        Some(NextHopChange::Unchanged) if path.peer.is_some() => route.attributes.next_hop,
        _ => next_hop_self(peer, prefix)?,
    };
    let attributes = route.attributes.into_owned();
    let as_path = if peer.ebgp {
        attributes.prepended(local_as)
    } else {
        attributes.as_path
    };
    let mut told = Attributes {
        origin: attributes.origin,
        as_path,
        next_hop,
        med: attributes.med,
        // LOCAL_PREF stays inside the AS.
        local_pref: (!peer.ebgp).then(|| attributes.local_pref.unwrap_or(LOCAL_PREF)),
        originator_id: None,
        cluster_list: Vec::new(),
        other: attributes.other.iter().map(with_partial).collect(),
    };
    if let Some(role) = peer.role {
        role.mark_sent(local_as, &mut told);
    }
    Some(told)
}

/// True if a well-known community keeps the route from the peer. Without a confederation, its border is the AS's.
fn stays(attributes: &Attributes, ebgp: bool) -> bool {
    let inside = [Community::NO_EXPORT, Community::NO_EXPORT_SUBCONFED];
    attributes.has_community(Community::NO_ADVERTISE)
        || (ebgp && inside.into_iter().any(|community| attributes.has_community(community)))
}

/// An attribute that we do not know and pass on is marked so (RFC 4271 section 5).
fn with_partial(attribute: &PathAttribute) -> PathAttribute {
    const PARTIAL: u8 = 0x20;
    match attribute {
        PathAttribute::Unknown(raw) => {
            let mut raw = raw.clone();
            raw.flags |= PARTIAL;
            PathAttribute::Unknown(raw)
        }
        known => known.clone(),
    }
}
