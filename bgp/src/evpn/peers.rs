//! Peers that speak EVPN: sessions that come and go, restarts (RFC 4724, 9494), refreshes (RFC 2918, 7313), policies.
//!
//! The rules are those of unicast (`rib/restart.rs`, `rib/refresh.rs`): paths are kept and marked stale while their peer is
//! away, replaced as it tells them again, and swept at the end of that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use net::policy::Community;

use super::group::Group;
use super::{Evpn, EvpnPath};
use crate::policy::Policy;
use crate::rib::{Audience, OutQueue, Path, PeerInfo, Standing};
use crate::wire::EvpnKey;
use crate::{Family, FamilyCounters};

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: Arc<PeerInfo>,
    /// The group that it is told things in; `None` while it restarts.
    group: Option<u32>,
    pub(super) received: u32,
    /// It tells everything anew: stale paths wait for the end of that, not for a restart.
    refreshing: bool,
}

impl Evpn {
    /// A session is established. Without EVPN on it nothing is known of the peer here.
    pub(crate) fn peer_up(&mut self, info: &Arc<PeerInfo>, queue: &Arc<OutQueue>) {
        let address = info.address;
        let speaks = info.context.families.contains(&Family::L2vpnEvpn);
        let restarts = self.peers.get(&address).is_some_and(|peer| peer.group.is_none());
        if !(speaks && restarts && info.preserved.contains(&Family::L2vpnEvpn)) {
            self.peer_down(address);
        }
        if !speaks {
            return;
        }
        let received = self.peers.remove(&address).map_or(0, |peer| peer.received);
        let group = self.join(info, queue);
        let peer = Peer {
            info: Arc::clone(info),
            group: Some(group),
            received,
            refreshing: false,
        };
        self.peers.insert(address, peer);
        if let Some(group) = self.groups.get(&group) {
            queue.put_evpn(group.all_told(address));
        }
    }

    /// A session ended: every path of the peer goes.
    pub(crate) fn peer_down(&mut self, address: IpAddr) {
        self.leave(address);
        if self.peers.contains_key(&address) {
            self.drop_paths(address, |_| true);
            self.peers.remove(&address);
            self.attributes.sweep();
            self.prune_next_hops();
        }
    }

    /// A session ended, and the peer restarts: its paths stay and count as stale, but for those that were stale before.
    pub(crate) fn peer_restarts(&mut self, address: IpAddr) {
        let refreshing = self
            .peers
            .get_mut(&address)
            .map(|peer| std::mem::take(&mut peer.refreshing));
        if refreshing == Some(false) {
            self.drop_paths(address, |path| path.stale);
        }
        self.mark_stale(address);
        self.leave(address);
    }

    /// The stale paths of a peer go; one that is away and has no others is forgotten.
    pub(crate) fn sweep(&mut self, address: IpAddr) {
        self.drop_paths(address, |path| path.stale);
        let gone = |peer: &Peer| peer.group.is_none() && peer.received == 0;
        if self.peers.get(&address).is_some_and(gone) {
            self.peer_down(address);
        }
    }

    /// Paths of a peer are kept, or it is up.
    pub(crate) fn is_known(&self, address: IpAddr) -> bool {
        self.peers.contains_key(&address)
    }

    /// A peer that restarts is away for long: its stale paths become a last resort, and say so, but for those that must not
    /// be kept so long (RFC 9494 section 4.2).
    pub(crate) fn long_lived(&mut self, address: IpAddr) {
        let Some(info) = self.peers.get(&address).map(|peer| Arc::clone(&peer.info)) else {
            return;
        };
        let forbidden = |path: &Path| path.stale && path.received.has_community(Community::NO_LLGR);
        self.drop_paths(address, forbidden);
        for EvpnPath { path, route, .. } in self.theirs(address) {
            if path.stale {
                let mut marked = (*path.received).clone();
                let communities = marked.every_community();
                marked.set_communities(communities.into_iter().chain([Community::LLGR_STALE]));
                let marked = self.attributes.intern(marked);
                let path = self.import(&info, &route.key, &marked);
                self.insert(address, route, Path { stale: true, ..path });
            }
        }
    }

    /// Tells the peer everything again.
    pub(crate) fn refresh(&self, address: IpAddr) {
        let Some(peer) = self.peers.get(&address) else { return };
        let group = peer.group.and_then(|group| self.groups.get(&group));
        if let Some((group, queue)) = group.and_then(|group| Some((group, group.queue(address)?))) {
            queue.put_evpn_again(peer.info.enhanced_refresh, group.all_told(address));
        }
    }

    /// The peer begins to tell everything anew.
    pub(crate) fn refresh_begins(&mut self, address: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&address).filter(|peer| peer.group.is_some()) {
            peer.refreshing = true;
            self.mark_stale(address);
        }
    }

    /// The peer has told everything to its end.
    pub(crate) fn refresh_ends(&mut self, address: IpAddr) {
        let peer = self.peers.get_mut(&address);
        if peer.is_some_and(|peer| std::mem::take(&mut peer.refreshing)) {
            self.sweep(address);
        }
    }

    /// Gives a peer other policies: its adj-rib-in is looked at again, and it is told what differs.
    pub(crate) fn set_policies(&mut self, address: IpAddr, import: &Policy, export: &Policy) {
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
        for EvpnPath { path, route, .. } in self.theirs(address) {
            let stale = path.stale;
            let path = self.import(&info, &route.key, &path.received);
            self.insert(address, route, Path { stale, ..path });
        }
        if old.export != *export {
            self.regroup(&info);
        }
        self.attributes.sweep();
    }

    /// Route counts of a peer.
    pub(crate) fn counters(&self, address: IpAddr) -> Option<FamilyCounters> {
        let peer = self.peers.get(&address)?;
        let theirs = self.table.values().flat_map(|entry| &entry.paths);
        let accepted = theirs.filter(|path| path.path.is_from(address) && path.path.is_eligible());
        let group = peer.group.and_then(|group| self.groups.get(&group));
        let advertised = group.map_or(0, |group| group.all_told(address).count());
        Some(FamilyCounters {
            family: Family::L2vpnEvpn,
            received: peer.received,
            accepted: u32::try_from(accepted.count()).unwrap_or(u32::MAX),
            advertised: u32::try_from(advertised).unwrap_or(u32::MAX),
        })
    }

    /// What is known of a peer with a session.
    pub(super) fn established(&self, address: IpAddr) -> Option<Arc<PeerInfo>> {
        let peer = self.peers.get(&address)?;
        peer.group.map(|_| Arc::clone(&peer.info))
    }

    /// Puts a peer into the group of those that are told the same; returns its number.
    fn join(&mut self, info: &PeerInfo, queue: &Arc<OutQueue>) -> u32 {
        let audience = Audience::of(info);
        let known = self.groups.iter().find(|(_, group)| group.audience == audience);
        let number = match known {
            Some((number, _)) => *number,
            None => {
                let mut group = Group::new(audience);
                for (key, entry) in &self.table {
                    let best = entry.paths.iter().find(|path| path.path.standing == Standing::Best);
                    group.advertise(*key, best, &mut self.attributes, self.asn);
                }
                let number = self.next_group;
                self.next_group += 1;
                self.groups.insert(number, group);
                number
            }
        };
        if let Some(group) = self.groups.get_mut(&number) {
            group.join(info, queue);
        }
        number
    }

    /// Takes a peer out of its group, which goes with its last one.
    fn leave(&mut self, address: IpAddr) {
        let Some(number) = self.peers.get_mut(&address).and_then(|peer| peer.group.take()) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&number) {
            group.leave(address);
            if group.is_empty() {
                self.groups.remove(&number);
            }
        }
    }

    /// Moves a peer to the group of its policy, and tells it what differs.
    fn regroup(&mut self, info: &Arc<PeerInfo>) {
        let address = info.address;
        let group = self.peers.get(&address).and_then(|peer| self.groups.get(&peer.group?));
        let Some((queue, before)) = group.and_then(|group| {
            let told: BTreeMap<_, _> = group.all_told(address).collect();
            Some((Arc::clone(group.queue(address)?), told))
        }) else {
            return;
        };
        self.leave(address);
        let number = self.join(info, &queue);
        if let Some(peer) = self.peers.get_mut(&address) {
            peer.group = Some(number);
        }
        if let Some(group) = self.groups.get(&number) {
            let after: BTreeMap<_, _> = group.all_told(address).collect();
            let gone = before
                .keys()
                .filter(|key| !after.contains_key(key))
                .map(|key| (*key, None));
            let gone: Vec<_> = gone.collect();
            let new = after.into_iter().filter(|(key, word)| before.get(key) != Some(word));
            queue.put_evpn(gone.into_iter().chain(new));
        }
    }

    fn theirs(&self, address: IpAddr) -> Vec<EvpnPath> {
        let paths = self.table.values().flat_map(|entry| &entry.paths);
        paths.filter(|path| path.path.is_from(address)).cloned().collect()
    }

    fn mark_stale(&mut self, address: IpAddr) {
        for path in self.table.values_mut().flat_map(|entry| &mut entry.paths) {
            path.path.stale |= path.path.is_from(address);
        }
    }

    /// Removes the paths of a peer that `which` picks.
    fn drop_paths(&mut self, address: IpAddr, which: impl Fn(&Path) -> bool) {
        let picked = |path: &EvpnPath| path.path.is_from(address) && which(&path.path);
        let entries = self.table.iter();
        let keys = entries.filter_map(|(key, entry)| entry.paths.iter().any(picked).then_some(*key));
        for key in keys.collect::<Vec<EvpnKey>>() {
            self.remove(&key, address);
        }
    }

    fn prune_next_hops(&mut self) {
        let Self { table, next_hops, .. } = self;
        let paths = table.values().flat_map(|entry| &entry.paths);
        let learned = paths.filter(|path| path.path.peer.is_some());
        next_hops.prune(|| learned.map(|path| path.path.attributes().next_hop.address).collect());
    }
}
