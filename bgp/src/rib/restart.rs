//! Paths of a peer that restarts gracefully (RFC 4724 section 4.2): kept and marked stale when it goes, replaced as it
//! tells them again, swept when it has told all, or not in time.

use std::net::IpAddr;

use net::Prefix;

use super::{PeerInfo, Rib};
use crate::Family;

type Counts = [u32; Family::ALL.len()];

impl Rib {
    /// A session ended, and the peer restarts: its paths of `kept` families stay and count as stale, every other goes.
    /// What was stale already has not survived two restarts, and goes too.
    pub fn peer_restarts(&mut self, address: IpAddr, kept: &[Family]) {
        self.drop_paths(address, |prefix, stale| stale || !kept.contains(&Family::of(prefix)));
        for path in self.table.iter_mut().flat_map(|(_, entry)| &mut entry.paths) {
            path.stale |= path.is_from(address);
        }
        self.leave(address);
    }

    /// The stale paths of a peer go; one that is still away is forgotten.
    pub fn stale_expired(&mut self, address: IpAddr) {
        match self.peers.get(&address) {
            Some(peer) if peer.out.is_none() => self.peer_down(address),
            _ => self.sweep(address, |_| true),
        }
    }

    /// Stale paths of a peer's kept prefixes go.
    pub(super) fn sweep(&mut self, address: IpAddr, which: impl Fn(&Prefix) -> bool) {
        self.drop_paths(address, |prefix, stale| stale && which(prefix));
    }

    /// Ends what is left of the session before, and yields the counts of the paths that are kept.
    pub(super) fn take_kept(&mut self, info: &PeerInfo) -> (Counts, Counts) {
        let kept = |family: &Family| info.preserved.contains(family) && info.context.families.contains(family);
        let restarts = self.peers.get(&info.address).is_some_and(|peer| peer.out.is_none());
        if !restarts {
            self.peer_down(info.address);
        }
        self.drop_paths(info.address, |prefix, _| !kept(&Family::of(prefix)));
        self.peers
            .remove(&info.address)
            .map_or_else(Default::default, |peer| (peer.received, peer.accepted))
    }

    /// Removes the paths of a peer that `which` picks by prefix and staleness.
    fn drop_paths(&mut self, address: IpAddr, which: impl Fn(&Prefix, bool) -> bool) {
        let picked: Vec<Prefix> = self
            .table
            .iter()
            .filter(|(_, entry)| {
                let path = entry.paths.iter().find(|path| path.is_from(address));
                path.is_some_and(|path| which(&entry.prefix, path.stale))
            })
            .map(|(_, entry)| entry.prefix)
            .collect();
        for prefix in picked {
            self.remove(&prefix, |path| path.is_from(address));
        }
    }
}
