//! UPDATE: what it says after RFC 7606, and how ours are written.
//!
//! The three outcomes that leave the session up are [`Outcome`]; the fourth, session reset, is the error of
//! [`RawUpdate::interpret`]. With several faults in one message the strongest outcome holds (RFC 7606 section 3 h).

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use net::{IpNet, Prefix};
use rustbgpd_wire as library;

use super::evpn::{self, EvpnAnnouncement, EvpnUpdate};
use super::{Attributes, NextHop, Notification, PathAttribute, code};
use crate::Family;

/// What the session knows that decoding and encoding need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// AS numbers are 4 octets wide.
    pub four_octet_as: bool,
    /// The session is internal.
    pub ibgp: bool,
    /// Negotiated families; routes of others are ignored (RFC 4760 section 7).
    pub families: Vec<Family>,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub ipv6_next_hop_for_ipv4: bool,
    /// The peer takes messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
}

impl Context {
    /// Longest UPDATE that may be sent, octets.
    const fn longest(&self) -> u16 {
        if self.extended_messages {
            super::EXTENDED_MAX_MESSAGE
        } else {
            super::MAX_MESSAGE
        }
    }

    /// Octets for attributes and NLRI of one family in MP_REACH_NLRI or MP_UNREACH_NLRI.
    pub(super) fn room(&self) -> usize {
        usize::from(self.longest()) - UPDATE_OVERHEAD - MP_OVERHEAD
    }
}

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
    pub prefixes: Vec<Prefix>,
}

/// What an UPDATE asks of the adj-rib-in. Withdrawals come first (RFC 4271 section 3.1: a prefix in both is announced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Prefixes to remove.
    pub withdrawn: Vec<Prefix>,
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
            .parse_revised(context.four_octet_as, context.ibgp, false, &[])
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
            update
                .withdrawn
                .extend(withdrawn.iter().map(|entry| prefix_v4(entry.prefix)));
        }
        if let Some(unreach) = unreach
            && super::family_from_library(unreach.afi, unreach.safi).is_some_and(negotiated)
        {
            update
                .withdrawn
                .extend(unreach.withdrawn.iter().map(|entry| prefix(entry.prefix)));
            let routes = unreach.evpn_withdrawn.iter().filter_map(evpn::from_library);
            update.evpn.withdrawn.extend(routes.map(|route| route.key));
        }

        let body: Vec<Prefix> = if ipv4 {
            announced.iter().map(|entry| prefix_v4(entry.prefix)).collect()
        } else {
            Vec::new()
        };
        let reach = reach.filter(|reach| super::family_from_library(reach.afi, reach.safi).is_some_and(negotiated));
        let multiprotocol: Vec<Prefix> = reach
            .map(|reach| reach.announced.iter().map(|entry| prefix(entry.prefix)).collect())
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
const UPDATE_OVERHEAD: usize = super::HEADER + 4;
/// MP_REACH_NLRI around its prefixes: attribute header, AFI, SAFI, next hop length, two addresses, reserved octet.
const MP_OVERHEAD: usize = 4 + 3 + 1 + 32 + 1;

/// Writes announcements of `prefixes`, all of one family, in as few messages as they need.
///
/// # Errors
/// [`EncodeError`] if the attributes do not fit or have no form on the wire.
pub fn encode_announcement(
    attributes: &Attributes,
    prefixes: &[Prefix],
    context: &Context,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut list = attributes.to_list();
    let mut measured = Vec::new();
    library::attribute::encode_path_attributes(&list, &mut measured, context.four_octet_as, false)
        .map_err(|error| EncodeError::Unrepresentable(error.to_string()))?;
    let body_next_hop = match attributes.next_hop.address {
        IpAddr::V4(address) if prefixes.iter().all(Prefix::is_v4) => Some(address),
        _ => None,
    };
    let room = usize::from(context.longest())
        .checked_sub(UPDATE_OVERHEAD + MP_OVERHEAD + measured.len())
        .ok_or(EncodeError::TooLong(measured.len()))?;
    let chunks = chunks(prefixes, room).ok_or(EncodeError::TooLong(measured.len()))?;
    if let Some(address) = body_next_hop {
        list.push(PathAttribute::NextHop(address));
        list.sort_by_key(PathAttribute::type_code);
        return chunks
            .into_iter()
            .map(|chunk| build(&entries_v4(chunk), &[], &list, context))
            .collect();
    }
    // RFC 7606 section 5.1: MP_REACH_NLRI is the first attribute.
    list.insert(0, PathAttribute::Origin(attributes.origin));
    chunks
        .into_iter()
        .map(|chunk| {
            list[0] = PathAttribute::MpReachNlri(Box::new(mp_reach(attributes.next_hop, chunk)));
            build(&[], &[], &list, context)
        })
        .collect()
}

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

/// Writes withdrawals of `prefixes`, all of one family, in as few messages as they need.
pub fn encode_withdrawal(prefixes: &[Prefix], context: &Context) -> Vec<Bytes> {
    let room = usize::from(context.longest()) - UPDATE_OVERHEAD - MP_OVERHEAD;
    let chunks = chunks(prefixes, room).expect("an empty message has room for a prefix");
    let encode = |chunk: &[Prefix]| {
        if chunk.iter().all(Prefix::is_v4) {
            build(&[], &entries_v4(chunk), &[], context)
        } else {
            let family = library::Afi::Ipv6;
            build(
                &[],
                &[],
                &[PathAttribute::MpUnreachNlri(Box::new(mp_unreach(family, chunk)))],
                context,
            )
        }
    };
    chunks
        .into_iter()
        .map(|chunk| encode(chunk).expect("withdrawals hold no attribute values"))
        .collect()
}

/// Writes the end-of-RIB marker of a family (RFC 4724 section 2).
pub fn encode_end_of_rib(family: Family, context: &Context) -> Bytes {
    let list = match family {
        Family::Ipv4Unicast => Vec::new(),
        Family::Ipv6Unicast => vec![PathAttribute::MpUnreachNlri(Box::new(mp_unreach(
            library::Afi::Ipv6,
            &[],
        )))],
        Family::L2vpnEvpn => return evpn::unreach(&[], context),
    };
    build(&[], &[], &list, context).expect("an empty UPDATE encodes")
}

pub(super) fn build(
    announced: &[library::Ipv4NlriEntry],
    withdrawn: &[library::Ipv4NlriEntry],
    attributes: &[PathAttribute],
    context: &Context,
) -> Result<Bytes, EncodeError> {
    let unrepresentable = |error: library::EncodeError| EncodeError::Unrepresentable(error.to_string());
    let mode = library::Ipv4UnicastMode::Body;
    let message =
        library::UpdateMessage::try_build(announced, withdrawn, attributes, context.four_octet_as, false, mode)
            .map_err(unrepresentable)?;
    let mut buffer = BytesMut::with_capacity(message.encoded_len());
    message
        .encode_with_limit(&mut buffer, context.longest())
        .map_err(unrepresentable)?;
    Ok(buffer.freeze())
}

/// Cuts the list into runs whose NLRI take at most `room` octets; `None` if one prefix alone does not fit.
fn chunks(prefixes: &[Prefix], room: usize) -> Option<Vec<&[Prefix]>> {
    let mut runs = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (i, prefix) in prefixes.iter().enumerate() {
        let size = 1 + usize::from(prefix.len().div_ceil(8));
        if size > room {
            return None;
        }
        if used + size > room {
            runs.push(&prefixes[start..i]);
            (start, used) = (i, 0);
        }
        used += size;
    }
    if start < prefixes.len() {
        runs.push(&prefixes[start..]);
    }
    Some(runs)
}

fn prefix_v4(prefix: library::Ipv4Prefix) -> Prefix {
    Prefix::containing(IpAddr::V4(prefix.addr), prefix.len).expect("the library bounds IPv4 prefix lengths")
}

fn prefix(prefix: library::Prefix) -> Prefix {
    match prefix {
        library::Prefix::V4(v4) => prefix_v4(v4),
        library::Prefix::V6(v6) => {
            Prefix::containing(IpAddr::V6(v6.addr), v6.len).expect("the library bounds IPv6 prefix lengths")
        }
    }
}

fn entries_v4(prefixes: &[Prefix]) -> Vec<library::Ipv4NlriEntry> {
    let entry = |prefix: &Prefix| match prefix.net() {
        IpNet::V4(v4) => Some(library::Ipv4NlriEntry {
            path_id: 0,
            prefix: library::Ipv4Prefix::new(v4.addr(), v4.prefix_len()),
        }),
        IpNet::V6(_) => None,
    };
    prefixes.iter().filter_map(entry).collect()
}

fn entries(prefixes: &[Prefix]) -> Vec<library::NlriEntry> {
    let entry = |prefix: &Prefix| {
        let prefix = match prefix.net() {
            IpNet::V4(v4) => library::Prefix::V4(library::Ipv4Prefix::new(v4.addr(), v4.prefix_len())),
            IpNet::V6(v6) => library::Prefix::V6(library::Ipv6Prefix::new(v6.addr(), v6.prefix_len())),
        };
        library::NlriEntry { path_id: 0, prefix }
    };
    prefixes.iter().map(entry).collect()
}

pub(super) fn mp_reach(next_hop: NextHop, prefixes: &[Prefix]) -> library::MpReachNlri {
    let ipv4 = prefixes.iter().all(Prefix::is_v4);
    library::MpReachNlri {
        afi: if ipv4 { library::Afi::Ipv4 } else { library::Afi::Ipv6 },
        safi: library::Safi::Unicast,
        next_hop: match next_hop.address {
            // RFC 4291 section 2.5.5.2: the form an IPv4 address takes where only an IPv6 next hop fits.
            IpAddr::V4(v4) if !ipv4 => IpAddr::V6(v4.to_ipv6_mapped()),
            address => address,
        },
        link_local_next_hop: next_hop.link_local,
        announced: entries(prefixes),
        flowspec_announced: Vec::new(),
        evpn_announced: Vec::new(),
        bgpls_announced: Vec::new(),
        vpn_announced: Vec::new(),
        labeled_announced: Vec::new(),
        rtc_announced: Vec::new(),
    }
}

pub(super) fn mp_unreach(afi: library::Afi, prefixes: &[Prefix]) -> library::MpUnreachNlri {
    library::MpUnreachNlri {
        afi,
        safi: library::Safi::Unicast,
        withdrawn: entries(prefixes),
        flowspec_withdrawn: Vec::new(),
        evpn_withdrawn: Vec::new(),
        bgpls_withdrawn: Vec::new(),
        vpn_withdrawn: Vec::new(),
        labeled_withdrawn: Vec::new(),
        rtc_withdrawn: Vec::new(),
    }
}
