//! Validation of origins (RFC 6811): each path has its validity, and is looked at again when the RPKI says something else.

use std::sync::Arc;

use net::Prefix;
use net::policy::Validity;

use super::{Changed, Path, Place, Rib, mark};
use crate::policy::Marks;
use crate::rpki::{self, VrpSet};
use crate::wire::{Attributes, Nlri};

impl Rib {
    /// Takes what the RPKI says now; `None` while it says nothing. What comes from now on is validated by that; the paths that
    /// are there follow with [`Rib::revalidate`].
    pub fn set_vrps(&mut self, vrps: Option<Arc<VrpSet>>) {
        if self.vrps != vrps {
            self.vrps = vrps;
            self.revalidating = Some(Place::default());
        }
    }

    /// There are paths that [`Rib::revalidate`] has to look at.
    pub const fn is_revalidating(&self) -> bool {
        self.revalidating.is_some()
    }

    /// Looks at a slice of the table. Paths of which the RPKI says something else than before go through import policy again,
    /// and where they are best through export policies.
    pub fn revalidate(&mut self) {
        let Some(place) = self.revalidating else { return };
        let differs = |prefix: &Prefix, path: &Path| self.validity(prefix, &path.received) != path.marks().validity;
        let touched = self
            .entries(place)
            .flat_map(|(_, entry)| entry.paths.iter().map(move |path| (entry.prefix, path)))
            .filter(|(prefix, path)| differs(prefix, path))
            .map(|(prefix, path)| {
                let path_id = path.path_id();
                let nlri = Nlri { prefix, path_id };
                (nlri, path.peer.clone(), Arc::clone(&path.received), path.stale)
            });
        for (nlri, peer, received, stale) in touched.collect::<Vec<_>>() {
            // Its policies may have changed since the path was told.
            let info = peer.map(|peer| {
                let current = self.peers.get(&peer.address);
                current.map_or(peer, |current| Arc::clone(&current.info))
            });
            match info {
                Some(info) => {
                    let path = Path {
                        stale,
                        ..self.import(&info, nlri, &received)
                    };
                    self.insert(&info, nlri.prefix, path);
                }
                None => self.validate_own(&nlri.prefix),
            }
        }
        self.revalidating = self.after(place);
        if self.revalidating.is_none() {
            self.attributes.sweep();
        }
    }

    /// What the RPKI says of a route.
    pub(super) fn validity(&self, prefix: &Prefix, attributes: &Attributes) -> Validity {
        self.vrps.as_ref().map_or(Validity::NotFound, |vrps| {
            vrps.validate(prefix, rpki::origin(attributes, self.asn))
        })
    }

    /// What it says, for dry runs.
    pub fn vrps(&self) -> Option<&VrpSet> {
        self.vrps.as_deref()
    }

    fn validate_own(&mut self, prefix: &Prefix) {
        let Some(at) = self.table.position(prefix) else {
            return;
        };
        let own = self.table.at(at).paths.iter().find(|path| path.peer.is_none());
        let Some(changed) = own.map(|path| self.own_marks(prefix, &path.received)) else {
            return;
        };
        let entry = self.table.at_mut(at);
        for path in entry.paths.iter_mut().filter(|path| path.peer.is_none()) {
            path.changed.clone_from(&changed);
        }
        mark(&mut self.dirty, at, entry);
    }

    /// What validation attaches to a path that the speaker originates.
    pub(super) fn own_marks(&self, prefix: &Prefix, attributes: &Arc<Attributes>) -> Option<Arc<Changed>> {
        let marks = Marks {
            validity: self.validity(prefix, attributes),
            ..Marks::default()
        };
        Changed::new(attributes, Arc::clone(attributes), marks, 0)
    }
}
