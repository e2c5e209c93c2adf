//! UPDATE: what it says after RFC 7606, and how ours are written.
//!
//! The three outcomes that leave the session up are [`Outcome`]; the fourth, session reset, is the error of
//! [`RawUpdate::interpret`]. With several faults in one message the strongest outcome holds (RFC 7606 section 3 h).

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use net::Prefix;
use rustbgpd_wire as library;

use super::evpn::{self, EvpnAnnouncement, EvpnUpdate};
use super::{Attributes, Context, NextHop, Nlri, Notification, PathAttribute, code};
use crate::Family;

/// How far an UPDATE could be used, weakest action first (RFC 7606 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As it is.
    Clean,
    /// Without the malformed attributes.
    AttributeDiscard,
    /// Every route in it counts as withdrawn.
    TreatAsWithdraw,
}

/// One fault of an UPDATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Type code of the attribute; 0 if its header was not readable.
    pub attribute: u8,
    /// What this fault alone asks for.
    pub outcome: Outcome,
    /// For the log.
    pub detail: String,
    /// The attribute as it came, as far as it is known.
    pub bytes: Bytes,
}

/// Prefixes that share their attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The attributes, next hop included.
    pub attributes: Attributes,
    /// The prefixes.
    pub prefixes: Vec<Nlri>,
}

/// What an UPDATE asks of the adj-rib-in. Withdrawals come first (RFC 4271 section 3.1: a prefix in both is announced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Prefixes to remove.
    pub withdrawn: Vec<Nlri>,
    /// Prefixes to add or replace.
    pub announced: Vec<Announcement>,
    /// EVPN routes to remove, add or replace.
    pub evpn: EvpnUpdate,
    /// The family whose first full table ends here (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// The strongest of the faults' outcomes.
    pub outcome: Outcome,
    /// What was wrong.
    pub faults: Vec<Fault>,
}

/// An UPDATE whose sections are delimited and not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawUpdate(library::UpdateMessage);

impl RawUpdate {
    pub(super) fn new(message: library::UpdateMessage) -> Self {
        Self(message)
    }

    /// Decodes and validates the sections.
    ///
    /// # Errors
    /// The notification of a session reset: NLRI that cannot be located or read (RFC 7606 sections 3 j and 5.3).
    pub fn interpret(&self, context: &Context) -> Result<Update, Notification> {
        let parsed = self
            .0
            .parse_revised(
                context.four_octet_as,
                context.ibgp,
                context.receives_path_ids(Family::Ipv4Unicast),
                &context.library_families(),
            )
            .map_err(Notification::from)?;
        let mut faults: Vec<Fault> = parsed.malformed.iter().map(Fault::from_library).collect();
        faults.extend(parsed.update.attributes.iter().filter_map(zero_only_to_customer));
        if !context.ibgp {
            faults.extend(parsed.update.attributes.iter().filter_map(internal_only));
        }
        let library::ParsedUpdate {
            withdrawn,
            mut attributes,
            announced,
            ..
        } = parsed.update;
        for attribute in &mut attributes {
            if let PathAttribute::MpReachNlri(reach) = attribute {
                normalize_next_hop(reach);
            }
        }
        let reach = attributes.iter().find_map(|attribute| match attribute {
            PathAttribute::MpReachNlri(reach) => Some(reach.as_ref()),
            _ => None,
        });
        let unreach = attributes.iter().find_map(|attribute| match attribute {
            PathAttribute::MpUnreachNlri(unreach) => Some(unreach.as_ref()),
            _ => None,
        });

        let mut update = Update {
            withdrawn: Vec::new(),
            announced: Vec::new(),
            evpn: EvpnUpdate::default(),
            end_of_rib: self.end_of_rib(&attributes, unreach, context),
            outcome: Outcome::Clean,
            faults: Vec::new(),
        };
        let negotiated = |family| context.families.contains(&family);
        let ipv4 = negotiated(Family::Ipv4Unicast);
        if ipv4 {
            update.withdrawn.extend(withdrawn.iter().map(nlri_v4));
        }
        if let Some(unreach) = unreach
            && super::family_from_library(unreach.afi, unreach.safi).is_some_and(negotiated)
        {
            update.withdrawn.extend(unreach.withdrawn.iter().map(nlri));
            let routes = unreach.evpn_withdrawn.iter().filter_map(evpn::from_library);
            update.evpn.withdrawn.extend(routes.map(|route| route.key));
        }

        let body: Vec<Nlri> = if ipv4 {
            announced.iter().map(nlri_v4).collect()
        } else {
            Vec::new()
        };
        let reach = reach.filter(|reach| super::family_from_library(reach.afi, reach.safi).is_some_and(negotiated));
        let multiprotocol: Vec<Nlri> = reach
            .map(|reach| reach.announced.iter().map(nlri).collect())
            .unwrap_or_default();
        let routes: Vec<_> = reach
            .map(|reach| reach.evpn_announced.iter().filter_map(evpn::from_library).collect())
            .unwrap_or_default();

        let has_routes = !body.is_empty() || !multiprotocol.is_empty() || !routes.is_empty();
        let missed = validate(&attributes, has_routes, !body.is_empty(), context)?;
        // An attribute that was malformed is missed as well, which says nothing more.
        faults.extend(missed.filter(|missed| !faults.iter().any(|fault| fault.attribute == missed.attribute)));
        let body_next_hop = attributes.iter().find_map(|attribute| match attribute {
            PathAttribute::NextHop(address) => Some(NextHop::from(IpAddr::V4(*address))),
            _ => None,
        });
        let reach_next_hop = reach.map(|reach| NextHop {
            address: reach.next_hop,
            link_local: reach.link_local_next_hop,
        });
        for (prefixes, next_hop, attribute) in [(body, body_next_hop, 3), (multiprotocol, reach_next_hop, 14)] {
            if prefixes.is_empty() {
                continue;
            }
            let usable = next_hop.and_then(|next_hop| Attributes::from_list(&attributes, next_hop, context.ibgp));
            match usable {
                Some(attributes) => update.announced.push(Announcement { attributes, prefixes }),
                None => {
                    if !faults.iter().any(|fault| fault.outcome == Outcome::TreatAsWithdraw) {
                        faults.push(Fault::missing(attribute));
                    }
                    update.withdrawn.extend(prefixes);
                }
            }
        }
        if !routes.is_empty() {
            let usable = reach_next_hop.and_then(|hop| Attributes::from_list(&attributes, hop, context.ibgp));
            match usable {
                Some(attributes) => update.evpn.announced.push(EvpnAnnouncement { attributes, routes }),
                None => {
                    if !faults.iter().any(|fault| fault.outcome == Outcome::TreatAsWithdraw) {
                        faults.push(Fault::missing(14));
                    }
                    update.evpn.withdrawn.extend(routes.iter().map(|route| route.key));
                }
            }
        }
        update.outcome = faults.iter().map(|fault| fault.outcome).max().unwrap_or(Outcome::Clean);
        update.faults = faults;
        if update.outcome == Outcome::TreatAsWithdraw {
            let announced = std::mem::take(&mut update.announced);
            update
                .withdrawn
                .extend(announced.into_iter().flat_map(|announcement| announcement.prefixes));
            let announced = std::mem::take(&mut update.evpn.announced).into_iter();
            let routes = announced.flat_map(|announcement| announcement.routes);
            update.evpn.withdrawn.extend(routes.map(|route| route.key));
        }
        Ok(update)
    }

    /// An empty UPDATE ends IPv4 unicast; one with nothing but an empty MP_UNREACH_NLRI ends that family.
    fn end_of_rib(
        &self,
        attributes: &[PathAttribute],
        unreach: Option<&library::MpUnreachNlri>,
        context: &Context,
    ) -> Option<Family> {
        if !self.0.withdrawn_routes.is_empty() || !self.0.nlri.is_empty() {
            return None;
        }
        let family = match unreach {
            None if self.0.path_attributes.is_empty() => Some(Family::Ipv4Unicast),
            Some(unreach) if attributes.len() == 1 && self.0.path_attributes.len() <= EMPTY_UNREACH => {
                super::family_from_library(unreach.afi, unreach.safi)
            }
            _ => None,
        };
        family.filter(|family| context.families.contains(family))
    }
}

impl Fault {
    /// Routes without an attribute that they cannot do without.
    fn missing(attribute: u8) -> Self {
        Self {
            attribute,
            outcome: Outcome::TreatAsWithdraw,
            detail: "mandatory attribute is missing".to_owned(),
            bytes: Bytes::new(),
        }
    }

    /// The first of its bytes in hexadecimal, for the log.
    pub fn hex(&self) -> String {
        const SHOWN: usize = 64;
        let shown: String = self
            .bytes
            .iter()
            .take(SHOWN)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let rest = self.bytes.len().saturating_sub(SHOWN);
        if rest == 0 {
            shown
        } else {
            format!("{shown} and {rest} more bytes")
        }
    }

    fn from_library(malformed: &library::MalformedAttribute) -> Self {
        Self {
            attribute: malformed.type_code,
            outcome: match malformed.disposition {
                library::ErrorDisposition::AttributeDiscard => Outcome::AttributeDiscard,
                // Resets have ended the parse before; if one gets here the routes are at least not used.
                library::ErrorDisposition::TreatAsWithdraw | library::ErrorDisposition::SessionReset => {
                    Outcome::TreatAsWithdraw
                }
            },
            detail: malformed.error.to_string(),
            bytes: malformed.error.to_notification().2,
        }
    }
}

/// ONLY_TO_CUSTOMER with AS 0, which names nobody (RFC 7607) and which the library takes: the routes are not to be used
/// by whoever reads a mark in it.
fn zero_only_to_customer(attribute: &PathAttribute) -> Option<Fault> {
    (attribute.only_to_customer() == Some(0)).then(|| Fault {
        attribute: attribute.type_code(),
        outcome: Outcome::TreatAsWithdraw,
        detail: "ONLY_TO_CUSTOMER holds AS 0".to_owned(),
        bytes: Bytes::from_static(&[0; 4]),
    })
}

/// An attribute that an external peer has no business with: discarded, whatever it says (RFC 7606 sections 7.5, 7.9 and
/// 7.10).
fn internal_only(attribute: &PathAttribute) -> Option<Fault> {
    let (PathAttribute::LocalPref(_) | PathAttribute::OriginatorId(_) | PathAttribute::ClusterList(_)) = attribute
    else {
        return None;
    };
    let mut bytes = Vec::new();
    // For the log: without its bytes if they cannot be written again.
    let _ = library::attribute::encode_path_attributes(std::slice::from_ref(attribute), &mut bytes, true, false);
    Some(Fault {
        attribute: attribute.type_code(),
        outcome: Outcome::AttributeDiscard,
        detail: "attribute is for internal sessions".to_owned(),
        bytes: bytes.into(),
    })
}

/// Semantic checks of the attribute list; a fault, or the notification of a reset.
fn validate(
    attributes: &[PathAttribute],
    has_routes: bool,
    has_body: bool,
    context: &Context,
) -> Result<Option<Fault>, Notification> {
    let mut options = library::UpdateValidationOptions::default();
    options.link_local_next_hop = true;
    options.allow_ipv4_link_local_mp_reach_next_hop = context.ipv6_next_hop_for_ipv4;
    let checked = library::validate::validate_update_attributes_with_context(
        attributes,
        has_routes,
        has_body,
        !context.ibgp,
        options,
    );
    let Err(failure) = checked else { return Ok(None) };
    if failure.error.disposition == library::ErrorDisposition::SessionReset {
        return Err(Notification::new(code::UPDATE, failure.error.subcode).with_data(failure.error.data));
    }
    let outcome = match failure.error.disposition {
        library::ErrorDisposition::AttributeDiscard => Outcome::AttributeDiscard,
        _ => Outcome::TreatAsWithdraw,
    };
    let detail = Notification::new(code::UPDATE, failure.error.subcode).to_string();
    Ok(Some(Fault {
        attribute: failure.type_code,
        outcome,
        detail,
        bytes: failure.error.data.into(),
    }))
}

/// Some routers send `::` or the link-local address twice when they have no global one; the link-local address is what
/// is meant.
fn normalize_next_hop(reach: &mut library::MpReachNlri) {
    if let (IpAddr::V6(first), Some(second)) = (reach.next_hop, reach.link_local_next_hop) {
        if first.is_unspecified() {
            reach.next_hop = IpAddr::V6(second);
        }
        if reach.next_hop == IpAddr::V6(second) && reach.afi == library::Afi::Ipv6 {
            reach.link_local_next_hop = None;
        }
    }
}

/// Why an UPDATE of ours cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The attributes leave no room for a prefix.
    #[error(
        "attributes of {0} bytes leave no room for a prefix in a message: announce the route with fewer attributes"
    )]
    TooLong(usize),
    /// A value that the wire has no form for.
    #[error("attributes cannot be written: {0}")]
    Unrepresentable(String),
}

/// Most octets of an MP_UNREACH_NLRI that withdraws nothing: header with a length of two octets, AFI, SAFI. What is skipped
/// in a longer one is something.
const EMPTY_UNREACH: usize = 4 + 3;
/// Octets of an UPDATE that are not attributes and not NLRI.
pub(super) const UPDATE_OVERHEAD: usize = super::HEADER + 4;
/// MP_REACH_NLRI around its prefixes: attribute header, AFI, SAFI, next hop length, two addresses, reserved octet.
pub(super) const MP_OVERHEAD: usize = 4 + 3 + 1 + 32 + 1;

/// Writes the attributes of one path to `prefix` for a table dump: AS numbers of 4 octets, and of MP_REACH_NLRI the next hop
/// alone (RFC 6396 section 4.3.4); `None` if they have no form on the wire.
pub fn encode_for_dump(attributes: &Attributes, prefix: &Prefix) -> Option<Vec<u8>> {
    const MP_REACH_NLRI: u8 = 14;
    const OPTIONAL: u8 = 0x80;
    let mut list = attributes.to_list();
    if let IpAddr::V4(address) = attributes.next_hop.address
        && prefix.is_v4()
    {
        list.push(PathAttribute::NextHop(address));
        list.sort_by_key(PathAttribute::type_code);
    }
    let mut written = Vec::new();
    library::attribute::encode_path_attributes(&list, &mut written, true, false).ok()?;
    let v6 = match attributes.next_hop.address {
        IpAddr::V4(_) if prefix.is_v4() => None,
        IpAddr::V4(v4) => Some(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => Some(v6),
    };
    if let Some(v6) = v6 {
        let link_local = attributes.next_hop.link_local.map(|address| address.octets());
        let hops = [&v6.octets()[..], link_local.as_ref().map_or(&[], |octets| &octets[..])].concat();
        let length = hops.len() as u8;
        written.extend([OPTIONAL, MP_REACH_NLRI, length + 1, length]);
        written.extend(hops);
    }
    u16::try_from(written.len()).is_ok().then_some(written)
}

/// Writes the end-of-RIB marker of a family (RFC 4724 section 2).
pub fn encode_end_of_rib(family: Family, context: &Context) -> Bytes {
    let list = match family {
        Family::Ipv4Unicast => Vec::new(),
        Family::Ipv6Unicast => vec![PathAttribute::MpUnreachNlri(Box::new(mp_unreach(library::Afi::Ipv6)))],
        Family::L2vpnEvpn => return evpn::unreach(&[], context),
    };
    build(&list, context).expect("an empty UPDATE encodes")
}

pub(super) fn build(attributes: &[PathAttribute], context: &Context) -> Result<Bytes, EncodeError> {
    let unrepresentable = |error: library::EncodeError| EncodeError::Unrepresentable(error.to_string());
    let mode = library::Ipv4UnicastMode::Body;
    let message = library::UpdateMessage::try_build(&[], &[], attributes, context.four_octet_as, false, mode)
        .map_err(unrepresentable)?;
    let mut buffer = BytesMut::with_capacity(message.encoded_len());
    message
        .encode_with_limit(&mut buffer, context.longest())
        .map_err(unrepresentable)?;
    Ok(buffer.freeze())
}

fn nlri_v4(entry: &library::Ipv4NlriEntry) -> Nlri {
    let address = IpAddr::V4(entry.prefix.addr);
    Nlri {
        prefix: Prefix::containing(address, entry.prefix.len).expect("the library bounds IPv4 prefix lengths"),
        path_id: entry.path_id,
    }
}

fn nlri(entry: &library::NlriEntry) -> Nlri {
    let path_id = entry.path_id;
    match entry.prefix {
        library::Prefix::V4(prefix) => nlri_v4(&library::Ipv4NlriEntry { path_id, prefix }),
        library::Prefix::V6(v6) => Nlri {
            prefix: Prefix::containing(IpAddr::V6(v6.addr), v6.len).expect("the library bounds IPv6 prefix lengths"),
            path_id,
        },
    }
}

pub(super) fn mp_reach(next_hop: NextHop) -> library::MpReachNlri {
    library::MpReachNlri {
        afi: library::Afi::Ipv6,
        safi: library::Safi::Unicast,
        next_hop: match next_hop.address {
            // RFC 4291 section 2.5.5.2: the form an IPv4 address takes where only an IPv6 next hop fits.
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
            address => address,
        },
        link_local_next_hop: next_hop.link_local,
        announced: Vec::new(),
        flowspec_announced: Vec::new(),
        evpn_announced: Vec::new(),
        bgpls_announced: Vec::new(),
        vpn_announced: Vec::new(),
        labeled_announced: Vec::new(),
        rtc_announced: Vec::new(),
    }
}

pub(super) fn mp_unreach(afi: library::Afi) -> library::MpUnreachNlri {
    library::MpUnreachNlri {
        afi,
        safi: library::Safi::Unicast,
        withdrawn: Vec::new(),
        flowspec_withdrawn: Vec::new(),
        evpn_withdrawn: Vec::new(),
        bgpls_withdrawn: Vec::new(),
        vpn_withdrawn: Vec::new(),
        labeled_withdrawn: Vec::new(),
        rtc_withdrawn: Vec::new(),
    }
}
