//! The candidate routes of one VRF: the authority from which the published FIB is made.

use net::{IpNet, Ipv4Net, Ipv6Net, Prefix, Source};
use prefix_trie::PrefixMap;
use smallvec::SmallVec;

/// Who holds a candidate of a prefix. In the order in which equal distances and metrics are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// An address that the NAT policy answers for.
    Nat,
    /// An address of the gateway.
    Local,
    /// Another source.
    Route(Source),
}

impl Owner {
    /// The source under which it is shown.
    pub(crate) const fn source(self) -> Source {
        match self {
            Self::Nat => Source::Static,
            Self::Local => Source::Connected,
            Self::Route(source) => source,
        }
    }
}

/// One candidate route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) distance: u8,
    pub(crate) owner: Owner,
    pub(crate) metric: u32,
    pub(crate) group: u32,
}

impl Candidate {
    /// Smaller is better.
    pub(crate) const fn preference(&self) -> (u8, u32, Owner) {
        (self.distance, self.metric, self.owner)
    }
}

/// Everything known of one prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// Best first, whether usable or not.
    pub(crate) candidates: SmallVec<[Candidate; 1]>,
    /// The elected one.
    pub(crate) winner: Option<Winning>,
    /// Group that the published FIB has here; 0 without one.
    pub(crate) leaf: u32,
    /// Waits for an election.
    pub(crate) dirty: bool,
    /// In the list of changed winners, or of changed prefixes, of the generation in the making.
    pub(crate) told: Told,
}

/// What is already listed of an entry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) winner: bool,
    pub(crate) prefix: bool,
}

impl Told {
    /// True if the entry is in the list of the generation in the making.
    pub(crate) const fn any(self) -> bool {
        self.winner || self.prefix
    }
}

/// The elected candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Winning {
    pub(crate) owner: Owner,
    pub(crate) group: u32,
}

/// The routes of one VRF.
pub(crate) struct VrfRoutes {
    v4: PrefixMap<Ipv4Net, Entry>,
    v6: PrefixMap<Ipv6Net, Entry>,
    /// The published root of (IPv4, IPv6) has been widened.
    pub(crate) wide: (bool, bool),
    /// Groups that stand for the default routes of (IPv4, IPv6) in the FIB, whatever these are; 0 while there is none.
    pub(crate) defaults: (u32, u32),
}

impl VrfRoutes {
    pub(crate) fn new() -> Self {
        Self {
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            wide: (false, false),
            defaults: (0, 0),
        }
    }

    pub(crate) fn get(&self, prefix: Prefix) -> Option<&Entry> {
        match prefix.net() {
            IpNet::V4(net) => self.v4.get(&net),
            IpNet::V6(net) => self.v6.get(&net),
        }
    }

    pub(crate) fn get_mut(&mut self, prefix: Prefix) -> Option<&mut Entry> {
        match prefix.net() {
            IpNet::V4(net) => self.v4.get_mut(&net),
            IpNet::V6(net) => self.v6.get_mut(&net),
        }
    }

    /// The entry of a prefix, made empty if there is none.
    pub(crate) fn entry(&mut self, prefix: Prefix) -> &mut Entry {
        match prefix.net() {
            IpNet::V4(net) => self.v4.entry(net).or_default(),
            IpNet::V6(net) => self.v6.entry(net).or_default(),
        }
    }

    pub(crate) fn remove(&mut self, prefix: Prefix) {
        match prefix.net() {
            IpNet::V4(net) => drop(self.v4.remove(&net)),
            IpNet::V6(net) => drop(self.v6.remove(&net)),
        }
    }

    /// Visits the entries that cover `prefix`, itself included, shortest first.
    pub(crate) fn covers(&self, prefix: Prefix, mut visit: impl FnMut(Prefix, &Entry)) {
        match prefix.net() {
            IpNet::V4(net) => self.v4.cover(&net).for_each(|(p, e)| visit(p.into(), e)),
            IpNet::V6(net) => self.v6.cover(&net).for_each(|(p, e)| visit(p.into(), e)),
        }
    }

    /// Every entry, IPv4 first, in address order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Prefix, &Entry)> {
        let v4 = self.v4.iter().map(|(p, e)| (p.into(), e));
        v4.chain(self.v6.iter().map(|(p, e)| (p.into(), e)))
    }

    /// The entries within `filter`, itself included, in address order.
    pub(crate) fn within(&self, filter: Prefix) -> Box<dyn Iterator<Item = (Prefix, &Entry)> + '_> {
        match filter.net() {
            IpNet::V4(net) => Box::new(self.v4.children(&net).map(|(p, e)| (p.into(), e))),
            IpNet::V6(net) => Box::new(self.v6.children(&net).map(|(p, e)| (p.into(), e))),
        }
    }

    /// Number of prefixes of a family.
    pub(crate) fn len(&self, v4: bool) -> usize {
        if v4 { self.v4.len() } else { self.v6.len() }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.v4.mem_size() + self.v6.mem_size()
    }
}
