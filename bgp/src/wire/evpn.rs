//! EVPN routes: NLRI of AFI 25, SAFI 70 (RFC 7432 section 7, RFC 9136 section 3), and the extended communities that
//! go with them.
//!
//! A route is its key, which is what a withdrawal names, and a payload. Types 1 to 5 are read; any other is skipped, as
//! RFC 7606 section 5.4 asks for. One whose length or fields contradict each other is NLRI that cannot be read, which
//! resets the session (section 5.3); one that is readable and means nothing is treated as withdrawn.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use net::policy::Community;
use net::{IpNet, Mac, Prefix, RouteDistinguisher, Vni};
use rustbgpd_wire as library;

use super::update::{build, mp_reach, mp_unreach};
use super::{Attributes, Context, EncodeError, PathAttribute};

/// Most octets that one route takes: type, length, and those of type 5 for IPv6.
const LONGEST: usize = 2 + 58;
/// VXLAN among the tunnel types (RFC 8365 section 11).
const VXLAN: u16 = 8;

/// Ethernet segment identifier (RFC 7432 section 5); all zero: a site with one uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Esi(pub [u8; 10]);

impl Esi {
    /// True for a site with one uplink.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Esi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets: Vec<String> = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        f.write_str(&octets.join(":"))
    }
}

/// What tells EVPN routes apart (RFC 7432 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvpnKey {
    /// Type 1, Ethernet auto-discovery.
    Discovery {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet segment.
        esi: Esi,
        /// Ethernet tag; all ones for the segment as a whole.
        tag: u32,
    },
    /// Type 2, a host: MAC address, with an IP address or without.
    Host {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet tag.
        tag: u32,
        /// Its MAC address.
        mac: Mac,
        /// Its IP address.
        ip: Option<IpAddr>,
    },
    /// Type 3, inclusive multicast: an endpoint that takes broadcasts of a segment.
    Multicast {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet tag.
        tag: u32,
        /// The endpoint.
        originator: IpAddr,
    },
    /// Type 4, a router on an Ethernet segment.
    Segment {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet segment.
        esi: Esi,
        /// The router.
        originator: IpAddr,
    },
    /// Type 5, an IP prefix (RFC 9136).
    Prefix {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet tag.
        tag: u32,
        /// The prefix.
        prefix: Prefix,
    },
}

impl EvpnKey {
    /// Number of the route type.
    pub const fn route_type(&self) -> u8 {
        match self {
            Self::Discovery { .. } => 1,
            Self::Host { .. } => 2,
            Self::Multicast { .. } => 3,
            Self::Segment { .. } => 4,
            Self::Prefix { .. } => 5,
        }
    }

    /// Route distinguisher.
    pub const fn rd(&self) -> RouteDistinguisher {
        match self {
            Self::Discovery { rd, .. }
            | Self::Host { rd, .. }
            | Self::Multicast { rd, .. }
            | Self::Segment { rd, .. }
            | Self::Prefix { rd, .. } => *rd,
        }
    }

    /// The destination in a VRF: the prefix of type 5, or the host of type 2.
    pub fn destination(&self) -> Option<Prefix> {
        match self {
            Self::Prefix { prefix, .. } => Some(*prefix),
            Self::Host { ip, .. } => ip.map(Prefix::host),
            _ => None,
        }
    }
}

/// In brackets, as most routers write them: type, Ethernet tag or segment, and what is told.
impl fmt::Display for EvpnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery { esi, tag, .. } => write!(f, "[1]:[{tag}]:[{esi}]"),
            Self::Host { tag, mac, ip: None, .. } => write!(f, "[2]:[{tag}]:[{mac}]"),
            Self::Host {
                tag, mac, ip: Some(ip), ..
            } => write!(f, "[2]:[{tag}]:[{mac}]:[{ip}]"),
            Self::Multicast { tag, originator, .. } => write!(f, "[3]:[{tag}]:[{originator}]"),
            Self::Segment { esi, originator, .. } => write!(f, "[4]:[{esi}]:[{originator}]"),
            Self::Prefix { tag, prefix, .. } => write!(f, "[5]:[{tag}]:[{prefix}]"),
        }
    }
}

/// An EVPN route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EvpnRoute {
    /// What it is the route of.
    pub key: EvpnKey,
    /// Types 2 and 5: the Ethernet segment that it is on.
    pub esi: Esi,
    /// Type 5: the router to send to, if that is to be looked up (an overlay index).
    pub gateway: Option<IpAddr>,
    /// Types 1, 2 and 5: the 24 bits of the (first) label, a VNI over VXLAN.
    pub label: u32,
    /// Type 2: the second label, the VNI of the VRF (RFC 9135 section 5.1).
    pub routed_label: Option<u32>,
}

impl EvpnRoute {
    /// A route with nothing but its key.
    pub fn new(key: EvpnKey) -> Self {
        Self {
            key,
            esi: Esi::default(),
            gateway: None,
            label: 0,
            routed_label: None,
        }
    }
}

/// EVPN routes that share their attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvpnAnnouncement {
    /// The attributes, next hop included.
    pub attributes: Attributes,
    /// The routes.
    pub routes: Vec<EvpnRoute>,
}

/// What an UPDATE says of EVPN routes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvpnUpdate {
    /// Routes to remove.
    pub withdrawn: Vec<EvpnKey>,
    /// Routes to add or replace.
    pub announced: Vec<EvpnAnnouncement>,
}

/// Endpoint of ingress replication for a VNI: the PMSI Tunnel attribute of a type 3 route (RFC 8365 section 9).
pub fn ingress_replication(vni: Vni, endpoint: IpAddr) -> PathAttribute {
    PathAttribute::PmsiTunnel(library::PmsiTunnel::for_evpn_ingress_replication(vni.value(), endpoint))
}

/// The VNI of a PMSI Tunnel attribute.
pub fn replicated_vni(attributes: &Attributes) -> Option<u32> {
    let tunnel = attributes.other.iter().find_map(PathAttribute::pmsi_tunnel)?;
    Some(tunnel.mpls_label)
}

/// The extended community that says: encapsulated in VXLAN (RFC 8365 section 5.1.3).
pub fn vxlan_encapsulation() -> Community {
    Community::Extended(library::ExtendedCommunity::bgp_encapsulation(VXLAN).as_u64())
}

/// The extended community with the MAC address of the router (RFC 9135 section 8.1).
pub fn router_mac(mac: Mac) -> Community {
    Community::Extended(library::ExtendedCommunity::router_mac(mac.0).as_u64())
}

/// What the extended communities of an EVPN route say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EvpnMarks {
    /// Address of the router that routes there; the first counts (RFC 9135 section 8.1).
    pub router_mac: Option<Mac>,
    /// Sticky, and sequence number (RFC 7432 section 7.7).
    pub mobility: Option<(bool, u32)>,
    /// Encapsulations are named, and VXLAN is none of them.
    pub other_encapsulation: bool,
}

impl EvpnMarks {
    /// Of these attributes.
    pub fn of(attributes: &Attributes) -> Self {
        let lists = attributes.other.iter().filter_map(PathAttribute::extended_communities);
        let mut marks = Self::default();
        let (mut named, mut vxlan) = (false, false);
        for community in lists.flatten() {
            marks.router_mac = marks.router_mac.or(community.as_router_mac().map(Mac));
            marks.mobility = marks.mobility.or(community.as_mac_mobility());
            if let Some(tunnel) = community.as_bgp_encapsulation() {
                (named, vxlan) = (true, vxlan || tunnel == VXLAN);
            }
        }
        marks.other_encapsulation = named && !vxlan;
        marks
    }
}

/// Writes announcements of `routes` in as few messages as they need.
///
/// # Errors
/// [`EncodeError`] if the attributes do not fit or have no form on the wire.
pub fn encode_evpn_announcement(
    attributes: &Attributes,
    routes: &[EvpnRoute],
    context: &Context,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut list = attributes.to_list();
    let mut measured = Vec::new();
    library::attribute::encode_path_attributes(&list, &mut measured, context.four_octet_as, false)
        .map_err(|error| EncodeError::Unrepresentable(error.to_string()))?;
    let room = context
        .room()
        .checked_sub(measured.len())
        .filter(|room| *room >= LONGEST)
        .ok_or(EncodeError::TooLong(measured.len()))?;
    list.insert(0, PathAttribute::Origin(attributes.origin));
    let message = |chunk: &[EvpnRoute]| {
        let mut reach = mp_reach(attributes.next_hop, &[]);
        (reach.afi, reach.safi) = (library::Afi::L2Vpn, library::Safi::Evpn);
        // Whatever `mp_reach` makes of an address without prefixes: ours is the address of an endpoint.
        reach.next_hop = attributes.next_hop.address;
        reach.link_local_next_hop = None;
        reach.evpn_announced = chunk.iter().map(to_library).collect();
        let mut list = list.clone();
        list[0] = PathAttribute::MpReachNlri(Box::new(reach));
        build(&[], &[], &list, context)
    };
    routes.chunks(room / LONGEST).map(message).collect()
}

/// Writes withdrawals of `keys` in as few messages as they need.
pub fn encode_evpn_withdrawal(keys: &[EvpnKey], context: &Context) -> Vec<Bytes> {
    let message = |chunk: &[EvpnKey]| unreach(chunk, context);
    keys.chunks(context.room() / LONGEST).map(message).collect()
}

/// Withdraws `keys`; of nothing it is the end-of-RIB marker.
pub(super) fn unreach(keys: &[EvpnKey], context: &Context) -> Bytes {
    let mut unreach = mp_unreach(library::Afi::L2Vpn, &[]);
    unreach.safi = library::Safi::Evpn;
    unreach.evpn_withdrawn = keys.iter().map(|key| to_library(&EvpnRoute::new(*key))).collect();
    let list = [PathAttribute::MpUnreachNlri(Box::new(unreach))];
    build(&[], &[], &list, context).expect("withdrawals hold no attribute values")
}

/// `None` for a type that this speaker does not know.
pub(super) fn from_library(route: &library::EvpnRoute) -> Option<EvpnRoute> {
    let rd = |rd: library::RouteDistinguisher| RouteDistinguisher::from_octets(rd.octets());
    let esi = |esi: library::EthernetSegmentIdentifier| Esi(esi.octets());
    Some(match route {
        library::EvpnRoute::EadPerEs(r) => EvpnRoute {
            label: r.label.value(),
            ..EvpnRoute::new(EvpnKey::Discovery {
                rd: rd(r.rd),
                esi: esi(r.esi),
                tag: r.ethernet_tag.0,
            })
        },
        library::EvpnRoute::EadPerEvi(r) => EvpnRoute {
            label: r.label.value(),
            ..EvpnRoute::new(EvpnKey::Discovery {
                rd: rd(r.rd),
                esi: esi(r.esi),
                tag: r.ethernet_tag.0,
            })
        },
        library::EvpnRoute::MacIp(r) => EvpnRoute {
            esi: esi(r.esi),
            label: r.label1.value(),
            routed_label: r.label2.map(|label| label.value()),
            ..EvpnRoute::new(EvpnKey::Host {
                rd: rd(r.rd),
                tag: r.ethernet_tag.0,
                mac: Mac(r.mac.octets()),
                ip: r.ip,
            })
        },
        library::EvpnRoute::Imet(r) => EvpnRoute::new(EvpnKey::Multicast {
            rd: rd(r.rd),
            tag: r.ethernet_tag.0,
            originator: r.originator_ip,
        }),
        library::EvpnRoute::Es(r) => EvpnRoute::new(EvpnKey::Segment {
            rd: rd(r.rd),
            esi: esi(r.esi),
            originator: r.originator_ip,
        }),
        library::EvpnRoute::IpPrefix(r) => {
            let (address, length) = match r.prefix {
                library::EvpnIpPrefixValue::V4(v4) => (IpAddr::V4(v4.addr), v4.len),
                library::EvpnIpPrefixValue::V6(v6) => (IpAddr::V6(v6.addr), v6.len),
            };
            EvpnRoute {
                esi: esi(r.esi),
                gateway: (!r.gateway.is_unspecified()).then_some(r.gateway),
                label: r.label.value(),
                ..EvpnRoute::new(EvpnKey::Prefix {
                    rd: rd(r.rd),
                    tag: r.ethernet_tag.0,
                    prefix: Prefix::containing(address, length).ok()?,
                })
            }
        }
        _ => return None,
    })
}

fn to_library(route: &EvpnRoute) -> library::EvpnRoute {
    let rd = library::RouteDistinguisher::new(route.key.rd().octets());
    let esi = |esi: Esi| library::EthernetSegmentIdentifier::new(esi.0);
    let tag = library::EthernetTagId;
    let label = library::MplsLabel::new(route.label);
    match route.key {
        EvpnKey::Discovery {
            esi: segment, tag: t, ..
        } if tag(t).is_max_et() => library::EvpnRoute::EadPerEs(library::EvpnEadPerEs {
            rd,
            esi: esi(segment),
            ethernet_tag: tag(t),
            label,
        }),
        EvpnKey::Discovery {
            esi: segment, tag: t, ..
        } => library::EvpnRoute::EadPerEvi(library::EvpnEadPerEvi {
            rd,
            esi: esi(segment),
            ethernet_tag: tag(t),
            label,
        }),
        EvpnKey::Host { tag: t, mac, ip, .. } => library::EvpnRoute::MacIp(library::EvpnMacIp {
            rd,
            esi: esi(route.esi),
            ethernet_tag: tag(t),
            mac: library::MacAddress::new(mac.0),
            ip,
            label1: label,
            label2: route.routed_label.map(library::MplsLabel::new),
        }),
        EvpnKey::Multicast { tag: t, originator, .. } => library::EvpnRoute::Imet(library::EvpnImet {
            rd,
            ethernet_tag: tag(t),
            originator_ip: originator,
        }),
        EvpnKey::Segment {
            esi: segment,
            originator,
            ..
        } => library::EvpnRoute::Es(library::EvpnEs {
            rd,
            esi: esi(segment),
            originator_ip: originator,
        }),
        EvpnKey::Prefix { tag: t, prefix, .. } => {
            let (value, unspecified) = match prefix.net() {
                IpNet::V4(v4) => (
                    library::EvpnIpPrefixValue::V4(library::Ipv4Prefix::new(v4.addr(), v4.prefix_len())),
                    IpAddr::from([0; 4]),
                ),
                IpNet::V6(v6) => (
                    library::EvpnIpPrefixValue::V6(library::Ipv6Prefix::new(v6.addr(), v6.prefix_len())),
                    IpAddr::from([0; 16]),
                ),
            };
            library::EvpnRoute::IpPrefix(library::EvpnIpPrefixRoute {
                rd,
                esi: esi(route.esi),
                ethernet_tag: tag(t),
                prefix: value,
                gateway: route.gateway.unwrap_or(unspecified),
                label,
            })
        }
    }
}
