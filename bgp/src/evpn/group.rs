//! Peers that are told the same EVPN routes: one adj-rib-out and one computation for all of them, as in `rib/group.rs`.
//!
//! Next hops stay as they are on every kind of session: they are the tunnel's endpoints, and whoever passes a route on
//! does not become one (RFC 7432 section 7 leaves them to the endpoint; FRR does the same between ASes).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use net::policy::Community;

use super::path::{EvpnPath, policy_prefix};
use super::pending::Word;
use crate::policy::PolicyRoute;
use crate::rib::export::{LOCAL_PREF, stays, with_partial};
use crate::rib::intern::Interner;
use crate::rib::{Audience, OutQueue, PeerInfo};
use crate::wire::{Attributes, EvpnKey, EvpnRoute};

/// What is told of a route.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    attributes: Arc<Attributes>,
    route: EvpnRoute,
    /// Who told us; `None` for our own.
    from: Option<IpAddr>,
}

#[derive(Debug)]
struct Member {
    asn: u32,
    queue: Arc<OutQueue>,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) audience: Audience,
    members: BTreeMap<IpAddr, Member>,
    told: BTreeMap<EvpnKey, Told>,
}

impl Group {
    pub(super) const fn new(audience: Audience) -> Self {
        Self {
            audience,
            members: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn join(&mut self, info: &PeerInfo, queue: &Arc<OutQueue>) {
        let queue = Arc::clone(queue);
        self.members.insert(info.address, Member { asn: info.asn, queue });
    }

    pub(super) fn leave(&mut self, address: IpAddr) {
        self.members.remove(&address);
    }

    pub(super) fn queue(&self, address: IpAddr) -> Option<&Arc<OutQueue>> {
        self.members.get(&address).map(|member| &member.queue)
    }

    /// The best path of a route has changed.
    pub(super) fn advertise(
        &mut self,
        key: EvpnKey,
        best: Option<&EvpnPath>,
        interner: &mut Interner<Attributes>,
        local_as: u32,
    ) {
        let after = best.and_then(|best| {
            let attributes = export(&self.audience, local_as, best)?;
            Some(Told {
                attributes: interner.intern(attributes),
                route: best.route,
                from: best.path.peer.as_ref().map(|peer| peer.address),
            })
        });
        let before = match &after {
            Some(after) => self.told.insert(key, after.clone()),
            None => self.told.remove(&key),
        };
        if before == after {
            return;
        }
        for (address, member) in &self.members {
            let word = |told: &Option<Told>| self.word(told.as_ref()?, *address, member.asn);
            let (old, new) = (word(&before), word(&after));
            if old != new {
                member.queue.put_evpn([(key, new)].into_iter());
            }
        }
    }

    /// All that a member has been told.
    pub(super) fn all_told(&self, address: IpAddr) -> impl Iterator<Item = (EvpnKey, Word)> {
        let asn = self.members.get(&address).map(|member| member.asn);
        self.told.iter().filter_map(move |(key, told)| {
            let word = self.word(told, address, asn?)?;
            Some((*key, Some(word)))
        })
    }

    /// What a member is told, unless it must not get it back.
    fn word(&self, told: &Told, address: IpAddr, asn: u32) -> Word {
        let excluded = told.from == Some(address) || (self.audience.ebgp && told.attributes.as_path.contains_asn(asn));
        (!excluded).then(|| (Arc::clone(&told.attributes), told.route))
    }
}

/// The attributes of a best path as an audience is to see them; `None` if it must not see the route. What others told goes
/// only where unicast routes of others go: from an external peer to one for whom the gateway is a transit.
fn export(audience: &Audience, local_as: u32, best: &EvpnPath) -> Option<Attributes> {
    let path = &best.path;
    if path
        .peer
        .as_ref()
        .is_some_and(|from| !audience.advertise_learned || !from.ebgp)
    {
        return None;
    }
    let attributes = &**path.attributes();
    if stays(attributes, audience.ebgp) {
        return None;
    }
    if !audience.long_lived && attributes.has_community(Community::LLGR_STALE) {
        return None;
    }
    let mut route = PolicyRoute {
        prefix: policy_prefix(&best.route.key),
        attributes: Cow::Borrowed(attributes),
        marks: path.marks(),
        neighbor: audience.neighbor,
        source: path.source,
        local_as,
        next_hop: None,
    };
    if audience.ebgp && attributes.med.is_some() && !attributes.as_path.is_empty() {
        // MED does not cross two AS borders (RFC 4271 section 5.1.4).
        route.attributes.to_mut().med = None;
    }
    if !audience.export.for_evpn().evaluate(audience.ebgp, &mut route).accept {
        return None;
    }
    let attributes = route.attributes;
    Some(Attributes {
        origin: attributes.origin,
        as_path: if audience.ebgp {
            attributes.prepended(local_as)
        } else {
            attributes.as_path.clone()
        },
        next_hop: attributes.next_hop,
        med: attributes.med,
        local_pref: (!audience.ebgp).then(|| attributes.local_pref.unwrap_or(LOCAL_PREF)),
        originator_id: None,
        cluster_list: Vec::new(),
        other: attributes.other.iter().map(with_partial).collect(),
    })
}
