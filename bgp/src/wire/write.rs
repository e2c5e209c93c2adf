//! UPDATEs of ours for the unicast families, into one buffer: the attributes are encoded once, by the library, whatever the
//! number of prefixes and of messages that they take.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use net::IpNet;
use rustbgpd_wire as library;

use super::{Attributes, Context, EncodeError, HEADER, LENGTH_AT, NextHop, Nlri, PathAttribute};
use crate::Family;

const OPTIONAL: u8 = 0x80;
/// The length has two octets.
const EXTENDED: u8 = 0x10;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;
/// ORIGINATOR_ID: attributes of lower type codes are written before those of reflected routes.
const ORIGINATOR_ID: u8 = 9;
/// Octets of an UPDATE that are not attributes and not NLRI.
const OVERHEAD: usize = HEADER + 4;
/// Most octets of MP_UNREACH_NLRI around its prefixes: flags, type, length, AFI, SAFI.
const UNREACH_OVERHEAD: usize = 4 + 3;

/// Writes announcements of `prefixes`, all of one family, behind what is in `out`, in as few messages as they need; returns
/// how many.
///
/// # Errors
/// [`EncodeError`] if the attributes do not fit or have no form on the wire; then nothing is written.
pub fn write_announcement(
    attributes: &Attributes,
    prefixes: &[Nlri],
    context: &Context,
    out: &mut BytesMut,
) -> Result<u64, EncodeError> {
    let v4 = all_v4(prefixes);
    let body_next_hop = match attributes.next_hop.address {
        IpAddr::V4(address) if v4 => Some(PathAttribute::NextHop(address)),
        _ => None,
    };
    // What MP_REACH_NLRI has in front of its prefixes, but for flags, type and length.
    let reach = body_next_hop.is_none().then(|| reach(attributes.next_hop, v4));
    let encoded = encode_attributes(attributes, body_next_hop, context)?;
    let around = OVERHEAD + encoded.len() + reach.as_ref().map_or(0, |reach| 4 + reach.len());
    let room = usize::from(context.longest()).checked_sub(around);
    let with_ids = ids_sent(prefixes, context);
    let chunks = room.and_then(|room| chunks(prefixes, room, with_ids));
    let chunks = chunks.ok_or(EncodeError::TooLong(encoded.len()))?;
    let count = chunks.len() as u64;
    for chunk in chunks {
        message(out, |out| {
            out.put_u16(0);
            let attributes_at = out.len();
            out.put_u16(0);
            if let Some(reach) = &reach {
                // RFC 7606 section 5.1: it is the first attribute.
                attribute(out, MP_REACH_NLRI, reach.len() + octets(chunk, with_ids));
                out.put_slice(reach);
                chunk.iter().for_each(|nlri| put(out, nlri, with_ids));
            }
            out.put_slice(&encoded);
            let length = out.len() - attributes_at - 2;
            set_length(out, attributes_at, length);
            if reach.is_none() {
                chunk.iter().for_each(|nlri| put(out, nlri, with_ids));
            }
        });
    }
    Ok(count)
}

/// Writes withdrawals of `prefixes`, all of one family, in the same way.
pub fn write_withdrawal(prefixes: &[Nlri], context: &Context, out: &mut BytesMut) -> u64 {
    let v4 = all_v4(prefixes);
    let with_ids = ids_sent(prefixes, context);
    let room = usize::from(context.longest()) - OVERHEAD - UNREACH_OVERHEAD;
    let chunks = chunks(prefixes, room, with_ids).expect("an empty message has room for a prefix");
    let count = chunks.len() as u64;
    for chunk in chunks {
        let octets = octets(chunk, with_ids);
        message(out, |out| {
            if v4 {
                out.put_u16(octets as u16);
                chunk.iter().for_each(|nlri| put(out, nlri, with_ids));
                out.put_u16(0);
            } else {
                out.put_u16(0);
                let attributes_at = out.len();
                out.put_u16(0);
                attribute(out, MP_UNREACH_NLRI, octets + 3);
                out.put_slice(&family(false));
                chunk.iter().for_each(|nlri| put(out, nlri, with_ids));
                let length = out.len() - attributes_at - 2;
                set_length(out, attributes_at, length);
            }
        });
    }
    count
}

/// [`write_announcement`], a message a piece.
///
/// # Errors
/// As there.
pub fn encode_announcement(
    attributes: &Attributes,
    prefixes: &[Nlri],
    context: &Context,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut out = BytesMut::new();
    write_announcement(attributes, prefixes, context, &mut out)?;
    Ok(split(out))
}

/// [`write_withdrawal`], a message a piece.
pub fn encode_withdrawal(prefixes: &[Nlri], context: &Context) -> Vec<Bytes> {
    let mut out = BytesMut::new();
    write_withdrawal(prefixes, context, &mut out);
    split(out)
}

/// Cuts what was written into its messages.
fn split(mut written: BytesMut) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Some(length) = written.get(LENGTH_AT..LENGTH_AT + 2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        messages.push(written.split_to(length).freeze());
    }
    messages
}

/// The attributes in order of type code, but for those that hold prefixes.
fn encode_attributes(
    attributes: &Attributes,
    next_hop: Option<PathAttribute>,
    context: &Context,
) -> Result<Vec<u8>, EncodeError> {
    let mut first = vec![
        PathAttribute::Origin(attributes.origin),
        PathAttribute::AsPath(attributes.as_path.clone()),
    ];
    first.extend(next_hop);
    first.extend(attributes.med.map(PathAttribute::Med));
    first.extend(attributes.local_pref.map(PathAttribute::LocalPref));
    let mut reflected: Vec<PathAttribute> = attributes
        .originator_id
        .map(PathAttribute::OriginatorId)
        .into_iter()
        .collect();
    if !attributes.cluster_list.is_empty() {
        reflected.push(PathAttribute::ClusterList(attributes.cluster_list.clone()));
    }
    let others = &attributes.other[..];
    let lower = others.partition_point(|attribute| attribute.type_code() < ORIGINATOR_ID);
    let mut encoded = Vec::with_capacity(128);
    for part in [&first, &others[..lower], &reflected, &others[lower..]] {
        library::attribute::encode_path_attributes(part, &mut encoded, context.four_octet_as, false)
            .map_err(|error| EncodeError::Unrepresentable(error.to_string()))?;
    }
    Ok(encoded)
}

/// AFI, SAFI, next hop with its length, and the reserved octet (RFC 4760 section 3).
fn reach(next_hop: NextHop, v4: bool) -> Vec<u8> {
    let address = match next_hop.address {
        // RFC 4291 section 2.5.5.2: the form an IPv4 address takes where only an IPv6 next hop fits.
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut addresses = address.octets().to_vec();
    addresses.extend(next_hop.link_local.iter().flat_map(|address| address.octets()));
    let mut reach = family(v4).to_vec();
    reach.push(addresses.len() as u8);
    reach.extend(addresses);
    reach.push(0);
    reach
}

/// Writes the header of an optional attribute with a value of so many octets.
fn attribute(out: &mut BytesMut, code: u8, length: usize) {
    match u8::try_from(length) {
        Ok(length) => out.put_slice(&[OPTIONAL, code, length]),
        Err(_) => {
            out.put_slice(&[OPTIONAL | EXTENDED, code]);
            out.put_u16(length as u16);
        }
    }
}

/// AFI and SAFI of a unicast family.
fn family(v4: bool) -> [u8; 3] {
    let family = if v4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast };
    let (afi, safi) = family.numbers();
    let [high, low] = afi.to_be_bytes();
    [high, low, safi]
}

/// Writes an UPDATE around its body.
fn message(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    const UPDATE: u8 = library::constants::message_type::UPDATE;
    let start = out.len();
    out.put_bytes(0xff, LENGTH_AT);
    out.put_u16(0);
    out.put_u8(UPDATE);
    body(out);
    let length = out.len() - start;
    set_length(out, start + LENGTH_AT, length);
}

/// Sets the length of two octets at `at`: messages are bounded, so it fits.
fn set_length(out: &mut [u8], at: usize, length: usize) {
    out[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
}

fn put(out: &mut BytesMut, nlri: &Nlri, with_id: bool) {
    if with_id {
        out.put_u32(nlri.path_id);
    }
    let length = nlri.prefix.len();
    let octets = usize::from(length.div_ceil(8));
    out.put_u8(length);
    match nlri.prefix.net() {
        IpNet::V4(v4) => out.put_slice(&v4.addr().octets()[..octets]),
        IpNet::V6(v6) => out.put_slice(&v6.addr().octets()[..octets]),
    }
}

/// Octets of a prefix in NLRI.
fn size(nlri: &Nlri, with_id: bool) -> usize {
    let id = if with_id { size_of::<u32>() } else { 0 };
    id + 1 + usize::from(nlri.prefix.len().div_ceil(8))
}

fn octets(prefixes: &[Nlri], with_ids: bool) -> usize {
    prefixes.iter().map(|nlri| size(nlri, with_ids)).sum()
}

fn all_v4(prefixes: &[Nlri]) -> bool {
    prefixes.iter().all(|nlri| nlri.prefix.is_v4())
}

/// Whether prefixes, all of one family, are written with their path identifiers.
fn ids_sent(prefixes: &[Nlri], context: &Context) -> bool {
    prefixes
        .first()
        .is_some_and(|nlri| context.sends_path_ids(Family::of(&nlri.prefix)))
}

/// Cuts the list into runs whose NLRI take at most `room` octets; `None` if one prefix alone does not fit.
fn chunks(prefixes: &[Nlri], room: usize, with_ids: bool) -> Option<Vec<&[Nlri]>> {
    let mut runs = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (i, nlri) in prefixes.iter().enumerate() {
        let size = size(nlri, with_ids);
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
