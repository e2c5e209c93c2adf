//! As much of the BGP codec as a peer of the benchmark needs, written apart from the speaker's: what it measures must not
//! be what it measures with.

use std::net::{IpAddr, Ipv4Addr};

use net::Prefix;

/// Octets of a message's header.
pub const HEADER: usize = 19;
/// Type of an OPEN.
pub const OPEN: u8 = 1;
/// Type of an UPDATE.
pub const UPDATE: u8 = 2;
/// Type of a NOTIFICATION.
pub const NOTIFICATION: u8 = 3;
/// Type of a KEEPALIVE.
pub const KEEPALIVE: u8 = 4;
/// Largest message.
pub const LARGEST: usize = 4096;

/// A message of this type.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(((HEADER + body.len()) as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An OPEN that offers both unicast families and 4-octet AS numbers, with the hold time of every program here.
pub fn open(asn: u16, identifier: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = Vec::new();
    for afi in [1_u8, 2] {
        capabilities.extend([1, 4, 0, afi, 0, 1]);
    }
    capabilities.extend([65, 4, 0, 0]);
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(asn.to_be_bytes());
    body.extend(super::HOLD_TIME.to_be_bytes());
    body.extend(identifier.octets());
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// An attribute, with its length in two octets where it needs them.
pub fn attribute(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    const EXTENDED: u8 = 0x10;
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags, code, length]),
        Err(_) => {
            out.extend([flags | EXTENDED, code]);
            out.extend((value.len() as u16).to_be_bytes());
        }
    }
    out.extend(value);
}

/// A prefix as NLRI.
pub fn nlri(out: &mut Vec<u8>, prefix: &Prefix) {
    out.push(prefix.len());
    let octets = usize::from(prefix.len().div_ceil(8));
    match prefix.address() {
        IpAddr::V4(address) => out.extend(&address.octets()[..octets]),
        IpAddr::V6(address) => out.extend(&address.octets()[..octets]),
    }
}

/// An UPDATE of these sections.
pub fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + withdrawn.len() + attributes.len() + announced.len());
    body.extend((withdrawn.len() as u16).to_be_bytes());
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(announced);
    message(UPDATE, &body)
}

/// Withdrawals of `prefixes`, in as few messages as they need, IPv4 ones first.
pub fn withdrawals(prefixes: &[Prefix]) -> Vec<u8> {
    const ROOM: usize = LARGEST - HEADER - 32;
    let mut out = Vec::new();
    for v4 in [true, false] {
        let mut run = Vec::new();
        let mut flush = |run: &mut Vec<u8>| {
            if run.is_empty() {
            } else if v4 {
                out.extend(update(run, &[], &[]));
            } else {
                let mut value = vec![0, 2, 1];
                value.extend(&*run);
                let mut attributes = Vec::new();
                attribute(&mut attributes, 0x80, 15, &value);
                out.extend(update(&[], &attributes, &[]));
            }
            run.clear();
        };
        for prefix in prefixes.iter().filter(|prefix| prefix.is_v4() == v4) {
            nlri(&mut run, prefix);
            if run.len() > ROOM {
                flush(&mut run);
            }
        }
        flush(&mut run);
    }
    out
}

/// Number of a prefix in maps: its octets, and its length in the low ones, which are 0 in prefixes of 64 bits and fewer.
pub fn key(v4: bool, length: u8, octets: &[u8]) -> u128 {
    const V4: u128 = 1 << 16;
    let mut padded = [0; 16];
    padded[..octets.len()].copy_from_slice(octets);
    let family = if v4 { V4 } else { 0 };
    u128::from_be_bytes(padded) | family | u128::from(length)
}

/// [`key`] of a prefix.
pub fn key_of(prefix: &Prefix) -> u128 {
    let mut encoded = Vec::with_capacity(17);
    nlri(&mut encoded, prefix);
    key(prefix.is_v4(), encoded[0], &encoded[1..])
}

/// What an UPDATE says, its prefixes still encoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Update<'a> {
    /// IPv4 prefixes withdrawn.
    pub withdrawn: &'a [u8],
    /// IPv6 prefixes withdrawn.
    pub withdrawn_v6: &'a [u8],
    /// IPv4 prefixes announced.
    pub announced: &'a [u8],
    /// IPv6 prefixes announced.
    pub announced_v6: &'a [u8],
    /// Second AS of the path: the one that the program under test has learned the route from.
    pub learned_from: Option<u32>,
}

/// Reads the body of an UPDATE; `None` if it is not one. AS numbers have 4 octets.
pub fn parse(body: &[u8]) -> Option<Update<'_>> {
    let (withdrawn, rest) = section(body)?;
    let (mut attributes, announced) = section(rest)?;
    let mut update = Update {
        withdrawn,
        announced,
        ..Update::default()
    };
    while let [flags, code, rest @ ..] = attributes {
        let (value, rest) = if flags & 0x10 != 0 {
            section(rest)?
        } else {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*length))?
        };
        match code {
            2 => {
                update.learned_from = value
                    .get(6..10)
                    .map(|asn| u32::from_be_bytes([asn[0], asn[1], asn[2], asn[3]]))
            }
            // AFI, SAFI, length of the next hop, next hop, a reserved octet.
            14 => {
                let afi = *value.get(1)?;
                let routes = value.get(5 + usize::from(*value.get(3)?)..)?;
                *(if afi == 1 {
                    &mut update.announced
                } else {
                    &mut update.announced_v6
                }) = routes;
            }
            15 => {
                let afi = *value.get(1)?;
                let routes = value.get(3..)?;
                *(if afi == 1 {
                    &mut update.withdrawn
                } else {
                    &mut update.withdrawn_v6
                }) = routes;
            }
            _ => {}
        }
        attributes = rest;
    }
    Some(update)
}

/// Splits off what a length of two octets in front announces.
fn section(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    bytes[2..].split_at_checked(usize::from(length))
}

/// Length and octets of each prefix of an NLRI field; ends early where it is broken.
pub fn prefixes(mut field: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = field.split_first()?;
        let (octets, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        field = rest;
        Some((*length, octets))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withdrawals_are_read_as_they_were_written() {
        let all: Vec<Prefix> = ["192.0.2.0/24", "2001:db8::/32", "10.0.0.0/9"]
            .iter()
            .map(|text| text.parse().expect("prefix"))
            .collect();
        let bytes = withdrawals(&all);
        let first = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        let (v4, v6) = bytes.split_at(first);
        let keys = |v4, field| prefixes(field).map(|(l, o)| key(v4, l, o)).collect::<Vec<_>>();
        let update = parse(&v4[HEADER..]).expect("an UPDATE");
        assert_eq!(keys(true, update.withdrawn), [key_of(&all[0]), key_of(&all[2])]);
        let update = parse(&v6[HEADER..]).expect("an UPDATE");
        assert_eq!(keys(false, update.withdrawn_v6), [key_of(&all[1])]);
        assert_eq!(parse(&[0]), None);
    }
}
