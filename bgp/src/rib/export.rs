//! How a route changes on the way out (RFC 4271 section 9.1.3), and who must not see it.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use net::Prefix;
use net::policy::{Community, NextHopChange};

use super::Path;
use super::group::Audience;
use crate::policy::{Decision, PolicyRoute};
use crate::wire::{Attributes, NextHop, PathAttribute};

/// LOCAL_PREF told to internal peers when a route has none.
pub(crate) const LOCAL_PREF: u32 = 100;

/// The next hop to announce for a prefix: ourselves. `None` if we have no address that the peer could use.
fn next_hop_self(audience: &Audience, prefix: &Prefix) -> Option<NextHop> {
    let link_local = audience.link_local;
    let v6 = match audience.v6 {
        Some(global) => Some(NextHop {
            address: IpAddr::V6(global),
            link_local,
        }),
        None => link_local.map(|alone| NextHop::from(IpAddr::V6(alone))),
    };
    if prefix.is_v4() {
        let v4 = audience.v4.map(|v4| NextHop::from(IpAddr::V4(v4)));
        v4.or_else(|| v6.filter(|_| audience.context.ipv6_next_hop_for_ipv4))
    } else {
        v6
    }
}

/// What keeps a route from an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withheld {
    /// A well-known community.
    Community,
    /// A route for customers alone, and they are none (RFC 9234 section 5).
    Role,
    /// A long-lived stale path, and they do not know what that is (RFC 9494 section 4.3).
    LongLivedStale,
    /// Export policy, or its absence on an external session (RFC 8212).
    Policy(Decision),
    /// We have no address that they could use as next hop.
    NextHop,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Community => "a well-known community keeps it",
            Self::Role => "it is for customers alone (RFC 9234)",
            Self::LongLivedStale => "the path is long-lived stale, which the peer does not know of (RFC 9494)",
            Self::Policy(_) => "denied by export policy",
            Self::NextHop => "there is no address of ours that the peer could use as next hop",
        })
    }
}

/// The attributes of an originated or learned route as an audience is to see them.
///
/// # Errors
/// Why it must not see the route.
///
/// Export policy sees the route as the decision process does, without our AS, and without what may not leave the AS; what
/// it sets is what the peers get.
pub(super) fn export(audience: &Audience, local_as: u32, prefix: &Prefix, path: &Path) -> Result<Attributes, Withheld> {
    let attributes = &**path.attributes();
    if stays(attributes, audience.ebgp) {
        return Err(Withheld::Community);
    }
    if audience.role.is_some_and(|role| role.withholds(attributes)) {
        return Err(Withheld::Role);
    }
    if !audience.long_lived && attributes.has_community(Community::LLGR_STALE) {
        return Err(Withheld::LongLivedStale);
    }
    let attributes = if audience.ebgp {
        without_internals(attributes)
    } else {
        Cow::Borrowed(attributes)
    };
    let mut route = PolicyRoute {
        prefix: *prefix,
        attributes,
        marks: path.marks(),
        neighbor: audience.neighbor,
        source: path.source,
        local_as,
        next_hop: None,
    };
    let verdict = audience.export.evaluate(audience.ebgp, &mut route);
    if !verdict.accept {
        return Err(Withheld::Policy(verdict.decision));
    }
    let next_hop = match route.next_hop {
        Some(NextHopChange::Address(_)) => route.attributes.next_hop,
        Some(NextHopChange::Unchanged) if path.peer.is_some() => route.attributes.next_hop,
        _ => next_hop_self(audience, prefix).ok_or(Withheld::NextHop)?,
    };
    let attributes = route.attributes;
    let mut told = Attributes {
        origin: attributes.origin,
        as_path: if audience.ebgp {
            attributes.prepended(local_as)
        } else {
            attributes.as_path.clone()
        },
        next_hop,
        med: attributes.med,
        // LOCAL_PREF stays inside the AS.
        local_pref: (!audience.ebgp).then(|| attributes.local_pref.unwrap_or(LOCAL_PREF)),
        originator_id: None,
        cluster_list: Vec::new(),
        other: attributes.other.iter().map(with_partial).collect(),
    };
    if let Some(role) = audience.role {
        role.mark_sent(local_as, &mut told);
    }
    Ok(told)
}

/// Without what does not leave the AS: a MED that has come from outside (RFC 4271 section 5.1.4), and extended communities
/// that are not transitive (RFC 4360 section 6).
fn without_internals(attributes: &Attributes) -> Cow<'_, Attributes> {
    let mut told = Cow::Borrowed(attributes);
    if attributes.med.is_some() && !attributes.as_path.is_empty() {
        told.to_mut().med = None;
    }
    let extended = attributes.other.iter().find_map(PathAttribute::extended_communities);
    if extended.is_some_and(|list| list.iter().any(|value| !value.is_transitive())) {
        let every = attributes.every_community().into_iter();
        told.to_mut()
            .set_communities(every.filter(|community| community.is_transitive()));
    }
    told
}

/// True if a well-known community keeps the route from the peer. Without a confederation, its border is the AS's.
pub(crate) fn stays(attributes: &Attributes, ebgp: bool) -> bool {
    let inside = [Community::NO_EXPORT, Community::NO_EXPORT_SUBCONFED];
    attributes.has_community(Community::NO_ADVERTISE)
        || (ebgp && inside.into_iter().any(|community| attributes.has_community(community)))
}

/// An attribute that we do not know and pass on is marked so (RFC 4271 section 5).
pub(crate) fn with_partial(attribute: &PathAttribute) -> PathAttribute {
    const PARTIAL: u8 = 0x20;
    match attribute {
        PathAttribute::Unknown(raw) => {
            let mut raw = raw.clone();
            raw.flags |= PARTIAL;
            PathAttribute::Unknown(raw)
        }
        known => known.clone(),
    }
}
