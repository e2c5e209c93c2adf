//! A peer tells a family anew (RFC 7313 section 4): what it does not tell again between the two markers is void.
//!
//! The paths wait for the end marked stale, as those of a peer that restarts do (`restart.rs`).

use std::net::IpAddr;

use super::Rib;
use crate::Family;

impl Rib {
    /// The peer begins to tell a family anew.
    pub fn refresh_begins(&mut self, address: IpAddr, family: Family) {
        let Some(peer) = self.peers.get_mut(&address).filter(|peer| peer.out.is_some()) else {
            return;
        };
        peer.refreshing.insert(family);
        for (_, entry) in self.table.iter_mut() {
            if Family::of(&entry.prefix) == family {
                let theirs = entry.paths.iter_mut().filter(|path| path.is_from(address));
                theirs.for_each(|path| path.stale = true);
            }
        }
    }

    /// The peer has told the family to its end.
    pub fn refresh_ends(&mut self, address: IpAddr, family: Family) {
        let peer = self.peers.get_mut(&address);
        if peer.is_some_and(|peer| peer.refreshing.remove(&family)) {
            self.sweep(address, |prefix| Family::of(prefix) == family);
        }
    }
}
