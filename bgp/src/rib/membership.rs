//! Which update group each peer is in (`group.rs`), and what a peer is told beside what its group is told: everything when its
//! session comes up or it asks, and what differs when it moves to another group.

use std::net::IpAddr;
use std::sync::Arc;

use super::group::{Audience, Exporting, Group};
use super::told::Announcer;
use super::{GroupWork, Out, OutQueue, PeerInfo, Rib};
use crate::Family;
use crate::wire::{Attributes, Nlri};

impl Rib {
    /// Tells the peer a whole family again.
    pub fn refresh(&self, address: IpAddr, family: Family) {
        let Some(peer) = self.peers.get(&address) else { return };
        if let Some(Out { group, queue }) = &peer.out {
            let again = self.all_told(*group, &peer.info).into_iter().flatten();
            let again = again.filter(|(nlri, _)| Family::of(&nlri.prefix) == family);
            queue.put_again(family, peer.info.enhanced_refresh, again);
        }
    }

    /// Peers of each update group, and the work that was done once for all of them.
    pub fn groups(&self) -> impl Iterator<Item = (usize, GroupWork)> {
        self.groups.values().map(|group| (group.len(), group.work()))
    }

    /// Puts a peer into the group of those that are told the same; returns its number.
    pub(super) fn join(&mut self, info: &PeerInfo, queue: &Arc<OutQueue>) -> u32 {
        let audience = Audience::of(info);
        if audience.sends_any_several() {
            self.path_ids.keep(true, &self.table);
        }
        let known = self.groups.iter().find(|(_, group)| group.audience == audience);
        let number = match known {
            Some((number, _)) => *number,
            None => {
                let exporting = Exporting {
                    local_as: self.asn,
                    rules: self.rules,
                    next_hops: &self.next_hops,
                    path_ids: &self.path_ids,
                };
                let group = Group::new(audience, &self.table, &exporting);
                let number = self.next_group;
                self.next_group += 1;
                self.groups.insert(number, group);
                number
            }
        };
        if let Some(group) = self.groups.get_mut(&number) {
            group.join(info, Arc::clone(queue), &self.table, self.asn);
        }
        number
    }

    /// Takes a peer out of its group, which goes with its last one.
    pub(super) fn leave(&mut self, address: IpAddr) {
        let Some(out) = self.peers.get_mut(&address).and_then(|peer| peer.out.take()) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&out.group) {
            group.leave(address);
            if group.len() == 0 {
                self.groups.remove(&out.group);
            }
        }
        let several = self.groups.values().any(|group| group.audience.sends_any_several());
        self.path_ids.keep(several, &self.table);
    }

    /// Moves a peer to the group of its policy, and tells it what differs.
    pub(super) fn regroup(&mut self, info: &PeerInfo) {
        let Some(Out { group: old, queue }) = self.peers.get_mut(&info.address).and_then(|peer| peer.out.take()) else {
            return;
        };
        let new = self.join(info, &queue);
        if let (Some(before), Some(after)) = (self.groups.get(&old), self.groups.get(&new)) {
            let positions = before.positions().start..before.positions().end.max(after.positions().end);
            let mut announcers = [Announcer::default(), Announcer::default()];
            queue.put(positions.flat_map(|at| {
                // Where nobody was told there may be no prefix.
                let prefix = self.table.at(at).prefix;
                let [old, new] = &mut announcers;
                let before = before.told(at, &prefix, info, self.asn, old);
                let after = after.told(at, &prefix, info, self.asn, new);
                let gone = before.iter().map(|(id, _)| *id);
                let gone = gone.filter(|id| after.iter().all(|(known, _)| known != id));
                let mut changes: Vec<_> = gone.map(|id| (id, None)).collect();
                let differs = |told: &(u32, Arc<Attributes>)| !before.contains(told);
                changes.extend(after.into_iter().filter(differs).map(|(id, told)| (id, Some(told))));
                changes
                    .into_iter()
                    .map(move |(path_id, told)| (Nlri { prefix, path_id }, told))
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
    pub(super) fn all_told<'a>(
        &'a self,
        group: u32,
        info: &'a PeerInfo,
    ) -> Option<impl Iterator<Item = (Nlri, Option<Arc<Attributes>>)> + 'a> {
        let group = self.groups.get(&group)?;
        let mut announcer = Announcer::default();
        Some(group.positions().flat_map(move |at| {
            let prefix = self.table.at(at).prefix;
            let told = group.told(at, &prefix, info, self.asn, &mut announcer);
            told.into_iter()
                .map(move |(path_id, attributes)| (Nlri { prefix, path_id }, Some(attributes)))
        }))
    }
}
