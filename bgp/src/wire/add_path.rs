//! Several paths of one prefix on one session (RFC 7911): the identifiers that tell them apart, and the capability by which
//! two speakers agree on them, for each family and direction.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use net::Prefix;

use crate::Family;

/// Octets of a family in the capability: AFI, SAFI, Send/Receive.
const ENTRY: usize = 4;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;

/// A prefix in an UPDATE. On a session with add-path the identifier is part of what is announced, replaced and withdrawn;
/// on any other it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// Destination.
    pub prefix: Prefix,
    /// Tells the paths of one prefix from one speaker apart; says nothing else (RFC 7911 section 3).
    pub path_id: u32,
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Self {
        Self { prefix, path_id: 0 }
    }
}

impl fmt::Display for Nlri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path_id {
            0 => self.prefix.fmt(f),
            id => write!(f, "{} path {id}", self.prefix),
        }
    }
}

/// What one side does with several paths of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddPathFamily {
    /// The family.
    pub family: Family,
    /// It can take them.
    pub receive: bool,
    /// It would send them.
    pub send: bool,
}

/// The families and directions in which both sides are for it, seen from the side of `ours`.
pub(super) fn intersection(ours: &[AddPathFamily], theirs: &[AddPathFamily]) -> Vec<AddPathFamily> {
    let both = |ours: &AddPathFamily| {
        let theirs = theirs.iter().find(|theirs| theirs.family == ours.family)?;
        let (receive, send) = (ours.receive && theirs.send, ours.send && theirs.receive);
        (receive || send).then_some(AddPathFamily {
            family: ours.family,
            receive,
            send,
        })
    };
    ours.iter().filter_map(both).collect()
}

/// Reads the value of the capability into `families`; of several entries for one family the last counts. Families that the
/// speaker does not know are passed over. One that is malformed, or has a Send/Receive that is not assigned, counts as not
/// understood as a whole (RFC 7911 section 4, RFC 5492 section 3): false, and nothing is read.
pub(super) fn read(value: &[u8], families: &mut Vec<AddPathFamily>) -> bool {
    let (entries, rest) = value.as_chunks::<ENTRY>();
    let assigned = RECEIVE..=(RECEIVE | SEND);
    if !rest.is_empty() || entries.iter().any(|[.., mode]| !assigned.contains(mode)) {
        return false;
    }
    for [high, low, safi, mode] in entries {
        let numbers = (u16::from_be_bytes([*high, *low]), *safi);
        let Some(family) = Family::UNICAST.into_iter().find(|family| family.numbers() == numbers) else {
            continue;
        };
        families.retain(|known| known.family != family);
        families.push(AddPathFamily {
            family,
            receive: mode & RECEIVE != 0,
            send: mode & SEND != 0,
        });
    }
    true
}

/// Writes the value of the capability.
pub(super) fn written(families: &[AddPathFamily]) -> Bytes {
    let mut value = BytesMut::with_capacity(ENTRY * families.len());
    for entry in families {
        let (afi, safi) = entry.family.numbers();
        value.put_u16(afi);
        value.put_u8(safi);
        value.put_u8(u8::from(entry.receive) * RECEIVE + u8::from(entry.send) * SEND);
    }
    value.freeze()
}

/// On sessions without add-path a prefix is all that there is.
#[cfg(test)]
impl PartialEq<Prefix> for Nlri {
    fn eq(&self, other: &Prefix) -> bool {
        *self == Self::from(*other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Family = Family::Ipv4Unicast;
    const V6: Family = Family::Ipv6Unicast;

    const fn entry(family: Family, receive: bool, send: bool) -> AddPathFamily {
        AddPathFamily { family, receive, send }
    }

    #[test]
    fn a_direction_counts_if_one_side_sends_what_the_other_takes() {
        let ours = [entry(V4, true, false), entry(V6, true, true)];
        for (theirs, expected) in [
            (vec![entry(V4, true, false)], vec![]),
            (vec![entry(V4, false, true)], vec![entry(V4, true, false)]),
            (vec![entry(V4, true, true)], vec![entry(V4, true, false)]),
            (vec![entry(V6, true, false)], vec![entry(V6, false, true)]),
            (vec![entry(V6, true, true)], vec![entry(V6, true, true)]),
            (vec![], vec![]),
        ] {
            assert_eq!(intersection(&ours, &theirs), expected);
        }
    }

    #[test]
    fn a_capability_is_read_as_the_rfc_says() {
        let families = |value: &[u8]| {
            let mut families = Vec::new();
            read(value, &mut families).then_some(families)
        };
        assert_eq!(
            families(&[0, 1, 1, 1, 0, 2, 1, 3]),
            Some(vec![entry(V4, true, false), entry(V6, true, true)])
        );
        // A family that nobody here knows does not take the others along.
        assert_eq!(
            families(&[0x40, 4, 71, 1, 0, 1, 1, 2]),
            Some(vec![entry(V4, false, true)])
        );
        assert_eq!(families(&[0, 1, 1, 1, 0, 1, 1, 2]), Some(vec![entry(V4, false, true)]));
        assert_eq!(families(&[]), Some(vec![]));
        // Not understood: a length, and a value that is not assigned, wherever it is.
        assert_eq!(families(&[0, 1, 1]), None);
        assert_eq!(families(&[0, 1, 1, 3, 0]), None);
        assert_eq!(families(&[0, 1, 1, 0]), None);
        assert_eq!(families(&[0, 1, 1, 3, 0, 2, 1, 4]), None);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for mode in 1..4_u8 {
            let ours = [entry(V4, mode & 1 != 0, mode & 2 != 0), entry(V6, true, false)];
            let mut again = Vec::new();
            assert!(read(&written(&ours), &mut again));
            assert_eq!(again, ours);
        }
    }
}
