//! What a group of peers was told of a prefix, kept as the path that it was told of: as what it heard of that follows from
//! the path alone (`export.rs`), and is computed again where it is asked for. The path is there anyway, so an adj-rib-out costs a
//! few words a prefix; the attributes as announced would be as many again as those received.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use net::Prefix;
use net::policy::RouteSource;
use smallvec::SmallVec;

use super::export;
use super::group::Audience;
use super::{Changed, Path, PeerInfo};
use crate::policy::Marks;
use crate::wire::Attributes;

/// Announcements remembered at most: those of a batch of changes.
const REMEMBERED: usize = 4096;

/// A path that is told of prefixes, as they share it.
#[derive(Debug)]
pub(super) struct Told {
    /// Who told us; `None` for what the speaker originates.
    from: Option<Arc<PeerInfo>>,
    source: RouteSource,
    received: Arc<Attributes>,
    changed: Option<Arc<Changed>>,
}

impl Told {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            from: path.peer.clone(),
            source: path.source,
            received: Arc::clone(&path.received),
            changed: path.changed.clone(),
        }
    }

    /// True if this is the path, as it is: then it is announced as it was. Attributes are interned: equal ones are at one address.
    pub(super) fn is(&self, path: &Path) -> bool {
        let from = path.peer.as_ref().map(|peer| peer.address);
        self.origin() == from
            && Arc::ptr_eq(self.attributes(), path.attributes())
            && self.source == path.source
            && self.marks() == path.marks()
    }

    /// Who told us.
    pub(super) fn origin(&self) -> Option<IpAddr> {
        self.from.as_ref().map(|peer| peer.address)
    }

    /// Where it comes from.
    pub(super) const fn source(&self) -> RouteSource {
        self.source
    }

    /// Its attributes after import policy.
    pub(super) fn attributes(&self) -> &Arc<Attributes> {
        self.changed
            .as_ref()
            .map_or(&self.received, |changed| &changed.attributes)
    }

    /// What import policy attached to it.
    pub(super) fn marks(&self) -> Marks {
        self.changed
            .as_ref()
            .map_or_else(Marks::default, |changed| changed.marks)
    }

    /// Equal in all that [`export::export`] looks at.
    pub(super) fn is_announced_as(&self, other: &Self) -> bool {
        self.origin() == other.origin()
            && Arc::ptr_eq(self.attributes(), other.attributes())
            && (self.source(), self.marks()) == (other.source(), other.marks())
    }
}

/// Announcements computed: neighbouring prefixes often share their attributes. Of those that it yields, equal ones are at one
/// address.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    /// By the address of the attributes, and whether it was for IPv4.
    known: HashMap<(usize, bool), SmallVec<[Known; 1]>, RandomState>,
    made: HashSet<Arc<Attributes>, RandomState>,
    /// Times that one was computed.
    pub(super) computed: u64,
}

#[derive(Debug)]
struct Known {
    told: Arc<Told>,
    /// As what, if that is the same for all prefixes of the family.
    announced: Option<Option<Arc<Attributes>>>,
}

impl Announcer {
    /// As what an audience is told a path, if at all.
    pub(super) fn path(
        &mut self,
        audience: &Audience,
        local_as: u32,
        prefix: &Prefix,
        path: &Path,
    ) -> Option<(Arc<Told>, Arc<Attributes>)> {
        let key = (Arc::as_ptr(path.attributes()).addr(), prefix.is_v4());
        let known = self.known.get(&key);
        let told = match known.and_then(|known| known.iter().find(|known| known.told.is(path))) {
            Some(Known {
                told,
                announced: Some(announced),
            }) => return Some((Arc::clone(told), announced.clone()?)),
            Some(Known { told, .. }) => Arc::clone(told),
            None => Arc::new(Told::of(path)),
        };
        let announced = self.compute(audience, local_as, prefix, &told);
        Some((told, announced?))
    }

    /// As what it is told a path that it was told.
    pub(super) fn told(
        &mut self,
        audience: &Audience,
        local_as: u32,
        prefix: &Prefix,
        told: &Arc<Told>,
    ) -> Option<Arc<Attributes>> {
        let key = (Arc::as_ptr(told.attributes()).addr(), prefix.is_v4());
        let known = self.known.get(&key);
        match known.and_then(|known| known.iter().find(|known| known.told.is_announced_as(told))) {
            Some(Known {
                announced: Some(announced),
                ..
            }) => announced.clone(),
            _ => self.compute(audience, local_as, prefix, told),
        }
    }

    fn compute(
        &mut self,
        audience: &Audience,
        local_as: u32,
        prefix: &Prefix,
        told: &Arc<Told>,
    ) -> Option<Arc<Attributes>> {
        self.computed += 1;
        let announced = export::export(audience, local_as, prefix, told).ok().map(|attributes| {
            if let Some(known) = self.made.get(&attributes) {
                return Arc::clone(known);
            }
            let made = Arc::new(attributes);
            self.made.insert(Arc::clone(&made));
            made
        });
        if self.known.len() >= REMEMBERED || self.made.len() >= REMEMBERED {
            self.clear();
        }
        let known = self
            .known
            .entry((Arc::as_ptr(told.attributes()).addr(), prefix.is_v4()))
            .or_default();
        if !known.iter().any(|known| known.told.is_announced_as(told)) {
            let uniform = audience.export.of(prefix).is_uniform();
            known.push(Known {
                told: Arc::clone(told),
                announced: uniform.then(|| announced.clone()),
            });
        }
        announced
    }

    /// Forgets all but the count.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.made.clear();
    }
}
