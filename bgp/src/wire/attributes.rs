//! Path attributes in the shape that the decision process, policy and export want (RFC 4271 section 5).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::policy::{self, Community};
use rustbgpd_wire::ExtendedCommunity;
pub use rustbgpd_wire::{AsPath, AsPathSegment, LargeCommunity, Origin, PathAttribute};

/// Longest segment of an AS path (RFC 4271 section 4.3: one octet counts the ASes).
const SEGMENT_MAX: usize = 255;

/// Next hop of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The global address, or the link-local one if no other came.
    pub address: IpAddr,
    /// The link-local address beside a global one (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}

impl NextHop {
    /// True if the only address known is link-local.
    pub fn is_link_local(&self) -> bool {
        matches!(self.address, IpAddr::V6(v6) if v6.is_unicast_link_local())
    }
}

/// ORIGIN of a word.
pub const fn origin(word: policy::Origin) -> Origin {
    match word {
        policy::Origin::Igp => Origin::Igp,
        policy::Origin::Egp => Origin::Egp,
        policy::Origin::Incomplete => Origin::Incomplete,
    }
}

/// The attributes of a route; one copy serves every route that shares them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH.
    pub as_path: AsPath,
    /// NEXT_HOP, or the next hop of MP_REACH_NLRI.
    pub next_hop: NextHop,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; never set on a route from an external peer.
    pub local_pref: Option<u32>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// Every other attribute, in order of type code.
    pub other: Vec<PathAttribute>,
}

impl Attributes {
    /// Those of a prefix that the speaker originates.
    pub fn originated(next_hop: NextHop) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath { segments: Vec::new() },
            next_hop,
            med: None,
            local_pref: None,
            originator_id: None,
            cluster_list: Vec::new(),
            other: Vec::new(),
        }
    }

    /// The AS that the route was learned from: leftmost of the first sequence (RFC 4271 section 9.1.2.2 c).
    pub fn neighbor_as(&self) -> Option<u32> {
        match self.as_path.segments.first() {
            Some(AsPathSegment::AsSequence(sequence)) => sequence.first().copied(),
            _ => None,
        }
    }

    /// The word of the ORIGIN.
    pub const fn origin_word(&self) -> policy::Origin {
        match self.origin {
            Origin::Igp => policy::Origin::Igp,
            Origin::Egp => policy::Origin::Egp,
            Origin::Incomplete => policy::Origin::Incomplete,
        }
    }

    /// COMMUNITIES (RFC 1997).
    pub fn communities(&self) -> &[u32] {
        self.other
            .iter()
            .find_map(PathAttribute::communities)
            .unwrap_or_default()
    }

    /// LARGE_COMMUNITIES (RFC 8092).
    pub fn large_communities(&self) -> &[LargeCommunity] {
        self.other
            .iter()
            .find_map(PathAttribute::large_communities)
            .unwrap_or_default()
    }

    /// Communities of all three kinds.
    pub fn every_community(&self) -> Vec<Community> {
        let extended = self.other.iter().find_map(PathAttribute::extended_communities);
        let standard = self.communities().iter().map(|value| Community::Standard(*value));
        let extended = extended.unwrap_or_default().iter();
        let large = self.large_communities().iter();
        standard
            .chain(extended.map(|value| Community::Extended(value.as_u64())))
            .chain(large.map(|value| Community::Large(value.global_admin, value.local_data1, value.local_data2)))
            .collect()
    }

    /// True if the route carries `community`.
    pub fn has_community(&self, community: Community) -> bool {
        match community {
            Community::Standard(value) => self.communities().contains(&value),
            _ => self.every_community().contains(&community),
        }
    }

    /// Replaces the communities of all three kinds.
    pub fn set_communities(&mut self, communities: impl IntoIterator<Item = Community>) {
        let (mut standard, mut extended, mut large) = (Vec::new(), Vec::new(), Vec::new());
        let sorted: BTreeSet<Community> = communities.into_iter().collect();
        for community in sorted {
            match community {
                Community::Standard(value) => standard.push(value),
                Community::Extended(raw) => extended.push(ExtendedCommunity::new(raw)),
                Community::Large(global, one, two) => large.push(LargeCommunity::new(global, one, two)),
            }
        }
        self.other.retain(|attribute| {
            attribute.communities().is_none()
                && attribute.extended_communities().is_none()
                && attribute.large_communities().is_none()
        });
        let lists = [
            (!standard.is_empty()).then_some(PathAttribute::Communities(standard)),
            (!extended.is_empty()).then_some(PathAttribute::ExtendedCommunities(extended)),
            (!large.is_empty()).then_some(PathAttribute::LargeCommunities(large)),
        ];
        self.other.extend(lists.into_iter().flatten());
        self.other.sort_by_key(PathAttribute::type_code);
    }

    /// ONLY_TO_CUSTOMER (RFC 9234): the AS since which the route is for customers alone.
    pub fn only_to_customer(&self) -> Option<u32> {
        self.other.iter().find_map(PathAttribute::only_to_customer)
    }

    /// Adds ONLY_TO_CUSTOMER unless it is there.
    pub fn mark_only_to_customer(&mut self, asn: u32) {
        if self.only_to_customer().is_none() {
            self.other.push(PathAttribute::OnlyToCustomer(asn));
            self.other.sort_by_key(PathAttribute::type_code);
        }
    }

    /// The AS path with `asn` in front of it.
    #[must_use]
    pub fn prepended(&self, asn: u32) -> AsPath {
        let mut segments = self.as_path.segments.clone();
        match segments.first_mut() {
            Some(AsPathSegment::AsSequence(sequence)) if sequence.len() < SEGMENT_MAX => sequence.insert(0, asn),
            _ => segments.insert(0, AsPathSegment::AsSequence(vec![asn])),
        }
        AsPath { segments }
    }

    /// From a decoded list. ORIGIN and AS_PATH must be in it (the caller has validated that).
    pub(super) fn from_list(list: &[PathAttribute], next_hop: NextHop, ibgp: bool) -> Option<Self> {
        let mut attributes = Self::originated(next_hop);
        let (mut origin, mut as_path) = (false, false);
        for attribute in list {
            match attribute {
                PathAttribute::Origin(value) => (attributes.origin, origin) = (*value, true),
                PathAttribute::AsPath(value) => (attributes.as_path, as_path) = (value.clone(), true),
                PathAttribute::Med(value) => attributes.med = Some(*value),
                // RFC 4271 section 5.1.5 and RFC 4456 section 8: not for external sessions, ignored there.
                PathAttribute::LocalPref(value) if ibgp => attributes.local_pref = Some(*value),
                PathAttribute::OriginatorId(value) if ibgp => attributes.originator_id = Some(*value),
                PathAttribute::ClusterList(value) if ibgp => attributes.cluster_list.clone_from(value),
                PathAttribute::LocalPref(_)
                | PathAttribute::OriginatorId(_)
                | PathAttribute::ClusterList(_)
                | PathAttribute::NextHop(_)
                | PathAttribute::MpReachNlri(_)
                | PathAttribute::MpUnreachNlri(_) => {}
                other => attributes.other.push(other.clone()),
            }
        }
        attributes.other.sort_by_key(PathAttribute::type_code);
        (origin && as_path).then_some(attributes)
    }

    /// As a list in order of type code, without NEXT_HOP and MP_REACH_NLRI.
    pub(super) fn to_list(&self) -> Vec<PathAttribute> {
        let mut list = vec![
            PathAttribute::Origin(self.origin),
            PathAttribute::AsPath(self.as_path.clone()),
        ];
        list.extend(self.med.map(PathAttribute::Med));
        list.extend(self.local_pref.map(PathAttribute::LocalPref));
        list.extend(self.originator_id.map(PathAttribute::OriginatorId));
        if !self.cluster_list.is_empty() {
            list.push(PathAttribute::ClusterList(self.cluster_list.clone()));
        }
        list.extend(self.other.iter().cloned());
        list.sort_by_key(PathAttribute::type_code);
        list
    }
}
