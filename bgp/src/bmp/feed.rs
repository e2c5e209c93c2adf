//! What one collector still has to be told, without a socket: bounded by the adj-rib-ins, since of each prefix of a peer only
//! the newest state waits (RFC 7854 section 5 allows that).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use net::Prefix;

use super::message::{self, Counts, Ended, Identity, Opened, Stage, Stamp};
use crate::Family;
use crate::rib::Learned;
use crate::wire::{self, Attributes, Context};

/// Messages about peers that may wait: as many come of peers that flap while nobody reads.
const NOTICES: usize = 65_536;

/// What a speaker tells its collectors.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A session is established.
    PeerUp(Arc<Watched>),
    /// It is not any more; its routes are void.
    PeerDown(IpAddr, Ended, Stamp),
    /// Routes of peers that are up.
    Routes(Arc<Vec<Learned>>, Stamp),
    /// A peer has told its whole table of a family.
    EndOfRib(IpAddr, Family),
    /// Everything has been said that there was when the collector came.
    Synchronized,
    /// Counts of peers that are up.
    Statistics(Vec<(IpAddr, Counts)>, Stamp),
}

/// A peer that is up.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) identity: Identity,
    pub(crate) opened: Opened,
    /// How its UPDATEs are written.
    pub(crate) context: Context,
    pub(crate) since: Stamp,
}

#[derive(Debug)]
struct Waiting {
    received: Option<Arc<Attributes>>,
    accepted: Option<Arc<Attributes>>,
    at: Stamp,
}

/// What waits for one collector.
#[derive(Debug)]
pub(crate) struct Feed {
    stages: Vec<Stage>,
    peers: HashMap<IpAddr, Arc<Watched>>,
    /// Written messages, sent before any route.
    notices: VecDeque<Bytes>,
    routes: BTreeMap<(IpAddr, Prefix), Waiting>,
    ends: BTreeSet<(IpAddr, Family)>,
    unencodable: u64,
}

/// More waits than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Feed {
    pub(crate) fn new(stages: &[Stage]) -> Self {
        Self {
            stages: stages.to_vec(),
            peers: HashMap::new(),
            notices: VecDeque::new(),
            routes: BTreeMap::new(),
            ends: BTreeSet::new(),
            unencodable: 0,
        }
    }

    /// Takes an item in.
    pub(crate) fn put(&mut self, item: Item) -> Result<(), Overflow> {
        match item {
            Item::PeerUp(watched) => {
                let address = watched.identity.address;
                self.forget(address);
                self.notices
                    .push_back(message::peer_up(watched.identity, &watched.opened, watched.since));
                self.peers.insert(address, watched);
            }
            Item::PeerDown(address, ended, at) => {
                self.forget(address);
                if let Some(watched) = self.peers.remove(&address) {
                    self.notices.push_back(message::peer_down(watched.identity, &ended, at));
                }
            }
            Item::Routes(routes, at) => {
                for learned in routes.iter().filter(|learned| self.peers.contains_key(&learned.peer)) {
                    let waiting = Waiting {
                        received: learned.received.clone(),
                        accepted: learned.accepted.clone(),
                        at,
                    };
                    self.routes.insert((learned.peer, learned.prefix), waiting);
                }
            }
            Item::EndOfRib(address, family) => {
                if self.peers.contains_key(&address) {
                    self.ends.insert((address, family));
                }
            }
            Item::Synchronized => {
                for (address, watched) in &self.peers {
                    // Of EVPN nothing is told, so it has no end either.
                    let told = |family: &&Family| **family != Family::L2vpnEvpn;
                    let families = watched.context.families.iter().filter(told);
                    self.ends.extend(families.map(|family| (*address, *family)));
                }
            }
            Item::Statistics(counts, at) => {
                for (address, counts) in counts {
                    if let Some(watched) = self.peers.get(&address) {
                        self.notices
                            .push_back(message::statistics(watched.identity, &counts, at));
                    }
                }
            }
        }
        if self.notices.len() > NOTICES {
            Err(Overflow)
        } else {
            Ok(())
        }
    }

    /// Writes what is to be said of up to `limit` prefixes; empty if all is said.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<Bytes> {
        let mut messages: Vec<Bytes> = self.notices.drain(..).collect();
        // Attributes are interned, so those at one address are equal and equal ones are at one address.
        type Key = (IpAddr, Stage, Stamp, Family, Option<*const Attributes>);
        let mut groups: HashMap<Key, (Option<Arc<Attributes>>, Vec<Prefix>)> = HashMap::new();
        for _ in 0..limit {
            let Some(((peer, prefix), waiting)) = self.routes.pop_first() else {
                break;
            };
            for stage in &self.stages {
                let attributes = match stage {
                    Stage::PrePolicy => &waiting.received,
                    Stage::PostPolicy => &waiting.accepted,
                };
                let key = (
                    peer,
                    *stage,
                    waiting.at,
                    Family::of(&prefix),
                    attributes.as_ref().map(Arc::as_ptr),
                );
                let group = groups.entry(key).or_insert_with(|| (attributes.clone(), Vec::new()));
                group.1.push(prefix);
            }
        }
        for ((peer, stage, at, _, _), (attributes, prefixes)) in groups {
            let Some(watched) = self.peers.get(&peer) else { continue };
            let updates = match attributes {
                None => wire::encode_withdrawal(&prefixes, &watched.context),
                Some(attributes) => {
                    wire::encode_announcement(&attributes, &prefixes, &watched.context).unwrap_or_else(|_| {
                        self.unencodable += prefixes.len() as u64;
                        wire::encode_withdrawal(&prefixes, &watched.context)
                    })
                }
            };
            let wrap = |update: Bytes| message::route_monitoring(watched.identity, stage, at, &update);
            messages.extend(updates.into_iter().map(wrap));
        }
        if self.routes.is_empty() {
            for (peer, family) in std::mem::take(&mut self.ends) {
                let Some(watched) = self.peers.get(&peer) else { continue };
                let end = wire::encode_end_of_rib(family, &watched.context);
                let wrap = |stage: &Stage| message::route_monitoring(watched.identity, *stage, Stamp::default(), &end);
                messages.extend(self.stages.iter().map(wrap));
            }
        }
        messages
    }

    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.routes.is_empty() && self.ends.is_empty()
    }

    /// Prefixes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.routes.len()
    }

    /// Prefixes whose attributes could not be written, and which the collector was told to be withdrawn.
    pub(crate) const fn unencodable(&self) -> u64 {
        self.unencodable
    }

    /// Nothing that waits about a peer is true any more.
    fn forget(&mut self, address: IpAddr) {
        self.routes.retain(|(peer, _), _| *peer != address);
        self.ends.retain(|(peer, _)| *peer != address);
    }
}
