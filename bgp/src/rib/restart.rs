//! Paths of a peer that restarts gracefully (RFC 4724 section 4.2): kept and marked stale when it goes, replaced as it
//! tells them again, swept when it has told all, or not in time.

use std::net::IpAddr;
use std::sync::Arc;

use net::Prefix;
use net::policy::Community;

use super::{Path, Peer, PeerInfo, Rib};
use crate::Family;
use crate::wire::Nlri;

type Counts = [u32; Family::ALL.len()];

impl Rib {
    /// A session ended, and the peer restarts: its paths of `kept` families stay and count as stale, every other goes.
    /// What was stale already has not survived two restarts, and goes too.
    pub fn peer_restarts(&mut self, address: IpAddr, kept: &[Family]) {
        // A refresh that was cut short is another matter: it has not lasted for a session yet.
        let peer = self.peers.get_mut(&address);
        let refreshing = peer
            .map(|peer| std::mem::take(&mut peer.refreshing))
            .unwrap_or_default();
        self.drop_paths(address, |prefix, stale| {
            let family = Family::of(prefix);
            (stale && !refreshing.contains(&family)) || !kept.contains(&family)
        });
        for path in self.table.iter_mut().flat_map(|(_, entry)| &mut entry.paths) {
            path.stale |= path.is_from(address);
        }
        self.leave(address);
    }

    /// The stale paths of a peer in these families go; one that is still away and has no others is forgotten.
    pub fn stale_expired(&mut self, address: IpAddr, families: &[Family]) {
        self.sweep(address, |prefix| families.contains(&Family::of(prefix)));
        let gone = |peer: &Peer| peer.out.is_none() && peer.received.iter().all(|count| *count == 0);
        if self.peers.get(&address).is_some_and(gone) {
            self.peer_down(address);
        }
    }

    /// A peer is up, or paths of it are kept.
    pub fn is_known(&self, address: IpAddr) -> bool {
        self.peers.contains_key(&address)
    }

    /// A peer that restarts is away for long: its stale paths in these families become a last resort (RFC 9494 section
    /// 4.2), and say so, but for those that must not be kept so long.
    pub fn long_lived(&mut self, address: IpAddr, families: &[Family]) {
        let Some(info) = self.peers.get(&address).map(|peer| Arc::clone(&peer.info)) else {
            return;
        };
        let theirs = self.paths_from(address);
        let picked = theirs.filter(|(nlri, path)| path.stale && families.contains(&Family::of(&nlri.prefix)));
        let picked: Vec<_> = picked.map(|(nlri, path)| (nlri, Arc::clone(&path.received))).collect();
        for (nlri, received) in picked {
            if received.has_community(Community::NO_LLGR) {
                self.remove(&nlri.prefix, |path| path.is_told(address, nlri.path_id));
                continue;
            }
            let mut marked = (*received).clone();
            let communities = marked.every_community();
            marked.set_communities(communities.into_iter().chain([Community::LLGR_STALE]));
            let marked = self.attributes.intern(marked);
            let path = Path {
                stale: true,
                ..self.import(&info, nlri, &marked)
            };
            self.insert(&info, nlri.prefix, path);
        }
    }

    /// Stale paths of a peer's kept prefixes go.
    pub(super) fn sweep(&mut self, address: IpAddr, which: impl Fn(&Prefix) -> bool) {
        self.drop_paths(address, |prefix, stale| stale && which(prefix));
    }

    /// Ends what is left of the session before, and yields the counts of the paths that are kept.
    pub(super) fn take_kept(&mut self, info: &PeerInfo) -> (Counts, Counts) {
        let before = self.peers.get(&info.address);
        let restarts = before.is_some_and(|peer| peer.out.is_none());
        // Where only one of the two sessions has path identifiers, nothing that comes can replace what is kept.
        let numbered = |family: &Family| before.is_some_and(|peer| peer.info.context.receives_path_ids(*family));
        let same = |family: &Family| numbered(family) == info.context.receives_path_ids(*family);
        let kept: Vec<Family> = info.preserved.iter().copied().filter(same).collect();
        let kept = |family: &Family| kept.contains(family) && info.context.families.contains(family);
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
        let theirs = self.paths_from(address);
        let picked = theirs.filter(|(nlri, path)| which(&nlri.prefix, path.stale));
        let picked: Vec<Nlri> = picked.map(|(nlri, _)| nlri).collect();
        for nlri in picked {
            self.remove(&nlri.prefix, |path| path.is_told(address, nlri.path_id));
        }
    }
}
