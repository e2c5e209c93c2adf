//! The adj-rib-ins for whoever watches them: each change, with the attributes before and after policy (RFC 7854).

use std::net::IpAddr;
use std::sync::Arc;

use net::Prefix;

use super::{Path, Rib};
use crate::wire::{Attributes, Nlri};

/// The path of a peer to a prefix, or its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The peer.
    pub peer: IpAddr,
    /// The prefix, and the identifier of the path.
    pub nlri: Nlri,
    /// The attributes as they came; `None`: there is no path any more.
    pub received: Option<Arc<Attributes>>,
    /// The attributes after policy; `None`: there is no path, or it takes no part in the decision process.
    pub accepted: Option<Arc<Attributes>>,
}

impl Learned {
    pub(super) fn new(peer: IpAddr, prefix: Prefix, path: &Path) -> Self {
        Self {
            peer,
            nlri: Nlri {
                prefix,
                path_id: path.path_id(),
            },
            received: Some(Arc::clone(&path.received)),
            accepted: path.is_eligible().then(|| Arc::clone(path.attributes())),
        }
    }

    pub(super) const fn gone(peer: IpAddr, nlri: Nlri) -> Self {
        Self {
            peer,
            nlri,
            received: None,
            accepted: None,
        }
    }
}

impl Rib {
    /// From now on changes are kept for [`Rib::take_learned`], or not any more.
    pub fn watch(&mut self, watched: bool) {
        self.learned = watched.then(Vec::new);
    }

    /// The changes since it was asked last, oldest first; none of a peer whose session ended with all its paths.
    pub fn take_learned(&mut self) -> Vec<Learned> {
        self.learned.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
