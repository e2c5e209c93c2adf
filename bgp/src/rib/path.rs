//! A path of the adj-rib-in: who told it, with which attributes, and how it stands.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use net::IfIndex;
use net::policy::RouteSource;

use crate::policy::{Decision, Marks, Policy};
use crate::wire::{Attributes, Context};
use crate::{Family, Role};

/// What the RIB knows of an established peer; fixed while the session lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerInfo {
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// The session is external.
    pub ebgp: bool,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Interface of its link-local addresses.
    pub interface: Option<IfIndex>,
    /// What UPDATEs may carry.
    pub context: Context,
    /// A family that it is told again has a beginning and an end (RFC 7313).
    pub enhanced_refresh: bool,
    /// It knows what a long-lived stale path is, and may be told one (RFC 9494 section 4.3).
    pub long_lived: bool,
    /// Families whose routes of the session before are still good until they are told again (RFC 4724).
    pub preserved: Vec<Family>,
    /// Import policy.
    pub import: Policy,
    /// Export policy.
    pub export: Policy,
    /// Announce what other external peers told.
    pub advertise_learned: bool,
    /// Refuse paths that do not begin with its AS.
    pub enforce_first_as: bool,
    /// What we are to it (RFC 9234).
    pub role: Option<Role>,
    /// Most prefixes it may announce.
    pub max_prefixes: Option<u32>,
    /// Our addresses towards it: next hop self, and what a next hop of its paths must not be.
    pub local: LocalAddresses,
}

/// Our own addresses on the way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalAddresses {
    /// Our end of the session.
    pub session: Option<IpAddr>,
    /// IPv4, to announce as next hop.
    pub v4: Option<Ipv4Addr>,
    /// IPv6, global, to announce as next hop.
    pub v6: Option<Ipv6Addr>,
    /// IPv6, link-local, to announce beside it or alone, on a session between such addresses.
    pub link_local: Option<Ipv6Addr>,
}

impl LocalAddresses {
    /// True if `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let announced = match address {
            IpAddr::V4(v4) => self.v4 == Some(v4),
            IpAddr::V6(v6) => self.v6 == Some(v6),
        };
        announced || self.session == Some(address)
    }
}

/// Why a path takes no part in the decision process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ineligible {
    /// Our AS is in the AS path (RFC 4271 section 9).
    AsLoop,
    /// We are the originator, or in the cluster list (RFC 4456 section 8).
    ReflectionLoop,
    /// The AS path does not begin with the peer's AS (RFC 4271 section 6.3).
    FirstAs,
    /// A route leak: it is marked Only to Customer, and the peer is none who may tell it then (RFC 9234 section 5).
    RouteLeak,
    /// The next hop is an address of ours (RFC 4271 section 5.1.3).
    NextHopSelf,
    /// The next hop is link-local and the peer's interface is not configured.
    NextHopInterface,
    /// It is not known yet whether the next hop is reachable.
    NextHopAsked,
    /// There is no route to the next hop (RFC 4271 section 9.1.2.1).
    NextHopUnreachable,
    /// The import policy, or its absence on an external session (RFC 8212).
    Policy(Decision),
}

/// Steps of the decision process (RFC 4271 section 9.1.2), in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The speaker originates the prefix itself; one announced outright comes before one that is redistributed.
    Originated,
    /// A path of a router that has been away for long is the last resort (RFC 9494 section 4.3).
    LongLivedStale,
    /// Of the routes to one host, one that must not move wins, then the one of its last move (RFC 7432 section 15).
    MacMobility,
    /// Higher weight wins; a matter of this gateway alone, given by policy.
    Weight,
    /// Higher LOCAL_PREF wins.
    LocalPref,
    /// Shorter AS path wins.
    AsPathLength,
    /// Lower ORIGIN wins.
    Origin,
    /// Lower MULTI_EXIT_DISC wins, among paths of the same neighbour AS unless all are compared.
    Med,
    /// External wins over internal.
    External,
    /// Lower metric of the route to the next hop wins.
    IgpCost,
    /// Of external paths the one that is used already stays (RFC 5004).
    Oldest,
    /// Lower BGP identifier (or ORIGINATOR_ID) wins.
    RouterId,
    /// Shorter CLUSTER_LIST wins (RFC 4456 section 9).
    ClusterList,
    /// Lower peer address wins.
    PeerAddress,
}

/// How a path stands after the decision process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The one best path.
    Best,
    /// Equal up to the tie breaks, and used beside the best.
    Multipath,
    /// Lost at this step.
    Lost(Step),
    /// Did not take part.
    Ineligible(Ineligible),
}

/// What import policy made of a path.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its attributes; the same copy as received if policy has only marked the path.
    pub attributes: Arc<Attributes>,
    /// What policy attached to it.
    pub marks: Marks,
}

/// A path to a prefix. There may be millions: what is rare has a place of its own.
#[derive(Debug, Clone)]
pub struct Path {
    /// Who told it; `None` for a prefix that the speaker originates.
    pub peer: Option<Arc<PeerInfo>>,
    /// Where it comes from.
    pub source: RouteSource,
    /// Its attributes as they came, before policy.
    pub received: Arc<Attributes>,
    /// What policy made of it, if that is something else.
    pub changed: Option<Arc<Changed>>,
    /// How it stands.
    pub standing: Standing,
    /// Told before its peer restarted, and not again since (RFC 4724).
    pub stale: bool,
}

impl Path {
    /// Its attributes after policy.
    pub fn attributes(&self) -> &Arc<Attributes> {
        self.changed
            .as_ref()
            .map_or(&self.received, |changed| &changed.attributes)
    }

    /// What policy attached to it.
    pub fn marks(&self) -> Marks {
        self.changed
            .as_ref()
            .map_or_else(Marks::default, |changed| changed.marks)
    }

    /// True unless something keeps the path out of the decision process.
    pub const fn is_eligible(&self) -> bool {
        !matches!(self.standing, Standing::Ineligible(_))
    }

    /// True for a path that forwards.
    pub const fn is_used(&self) -> bool {
        matches!(self.standing, Standing::Best | Standing::Multipath)
    }

    /// True if `address` told it.
    pub fn is_from(&self, address: IpAddr) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.address == address)
    }
}

/// What keeps a path of `peer` out of the decision process of the speaker (`asn`, `router_id`) before policy is asked.
pub(crate) fn ineligible(
    peer: &PeerInfo,
    asn: u32,
    router_id: Ipv4Addr,
    attributes: &Attributes,
) -> Option<Ineligible> {
    if attributes.as_path.contains_asn(asn) {
        Some(Ineligible::AsLoop)
    } else if attributes.originator_id == Some(router_id) || attributes.cluster_list.contains(&router_id) {
        Some(Ineligible::ReflectionLoop)
    } else if peer.ebgp && peer.enforce_first_as && attributes.neighbor_as() != Some(peer.asn) {
        Some(Ineligible::FirstAs)
    } else if peer.role.is_some_and(|role| role.is_leak(peer.asn, attributes)) {
        Some(Ineligible::RouteLeak)
    } else {
        None
    }
}

/// What is wrong with the next hop that policy has left.
pub(crate) fn unusable_next_hop(peer: &PeerInfo, router_id: Ipv4Addr, attributes: &Attributes) -> Option<Ineligible> {
    let next_hop = attributes.next_hop;
    if peer.local.contains(next_hop.address) || next_hop.address == IpAddr::V4(router_id) {
        Some(Ineligible::NextHopSelf)
    } else if next_hop.is_link_local() && peer.interface.is_none() {
        Some(Ineligible::NextHopInterface)
    } else {
        None
    }
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy(Decision::NoPolicy) => "no import policy on an external session (RFC 8212)",
            Self::Policy(_) => "denied by import policy",
            Self::AsLoop => "own AS in the AS path",
            Self::ReflectionLoop => "own identifier as originator or in the cluster list",
            Self::FirstAs => "AS path does not begin with the peer's AS",
            Self::RouteLeak => "route leak: only to customer, and the peer's role is none that may tell it (RFC 9234)",
            Self::NextHopSelf => "next hop is an own address",
            Self::NextHopAsked => "next hop is being looked up",
            Self::NextHopUnreachable => "next hop is unreachable",
            Self::NextHopInterface => "next hop is link-local and the peer has no interface configured",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Originated => "prefix is originated here",
            Self::LongLivedStale => "long-lived stale",
            Self::MacMobility => "MAC mobility: the host has moved on, or must not move",
            Self::Weight => "weight",
            Self::LocalPref => "local preference",
            Self::AsPathLength => "AS path length",
            Self::Origin => "origin",
            Self::Med => "MED",
            Self::External => "internal, beside an external path",
            Self::IgpCost => "metric to the next hop",
            Self::Oldest => "newer than the external path in use",
            Self::RouterId => "router id",
            Self::ClusterList => "cluster list length",
            Self::PeerAddress => "peer address",
        })
    }
}
