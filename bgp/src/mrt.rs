//! MRT table dumps, version 2 (RFC 6396 section 4.3): a [`Snapshot`] of the tables becomes a sequence of records.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use net::Prefix;

use crate::Error;
use crate::rib::PeerInfo;
use crate::wire::{self, Attributes};

/// Type and subtypes of the records.
const TABLE_DUMP_V2: u16 = 13;
const PEER_INDEX_TABLE: u16 = 1;
const RIB_IPV4_UNICAST: u16 = 2;
const RIB_IPV6_UNICAST: u16 = 4;
/// Flags of a peer: its address is IPv6, its AS number has 4 octets.
const PEER_IPV6: u8 = 1;
const PEER_AS4: u8 = 2;

/// Which table to dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Table {
    /// Every path of every peer, as it came.
    #[default]
    AdjRibIn,
    /// The best path to each prefix, as policy left it, originated ones included.
    LocRib,
}

/// A path of a [`Snapshot`].
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) prefix: Prefix,
    /// `None` for a prefix that the speaker originates.
    pub(crate) peer: Option<Arc<PeerInfo>>,
    pub(crate) attributes: Arc<Attributes>,
}

/// The paths of a table at one moment, in no order.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) table: Table,
    pub(crate) asn: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) entries: Vec<Entry>,
}

/// A dump: an iterator over its records, the table of peers first.
#[derive(Debug)]
pub struct TableDump {
    at: u32,
    peers: Option<Bytes>,
    /// In order; those of one prefix are neighbours.
    rows: std::iter::Peekable<std::vec::IntoIter<(Prefix, u16, Arc<Attributes>)>>,
    sequence: u32,
}

/// What makes two sessions with one address the same peer.
type Identity = (IpAddr, u32, Ipv4Addr);

impl TableDump {
    /// Orders a snapshot and numbers its peers; takes a while for a full table. `since_1970` is when it was taken.
    ///
    /// # Errors
    /// [`Error::TooManyPeers`].
    pub fn new(snapshot: Snapshot, since_1970: Duration) -> Result<Self, Error> {
        let Snapshot {
            table,
            asn,
            router_id,
            entries,
        } = snapshot;
        let mut identities: Vec<Identity> = Vec::new();
        let mut indices: HashMap<Identity, u16> = HashMap::new();
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            let identity = entry
                .peer
                .as_ref()
                .map_or((Ipv4Addr::UNSPECIFIED.into(), asn, router_id), |peer| {
                    (peer.address, peer.asn, peer.router_id)
                });
            let index = match indices.get(&identity) {
                Some(index) => *index,
                None => {
                    let index = u16::try_from(identities.len()).ok().filter(|index| *index < u16::MAX);
                    let index = index.ok_or(Error::TooManyPeers)?;
                    identities.push(identity);
                    indices.insert(identity, index);
                    index
                }
            };
            rows.push((entry.prefix, index, entry.attributes));
        }
        rows.sort_by_key(|(prefix, index, _)| (*prefix, *index));
        // The field ends in 2106.
        let at = since_1970.as_secs() as u32;
        let view = match table {
            Table::AdjRibIn => "adj-rib-in",
            Table::LocRib => "loc-rib",
        };
        Ok(Self {
            at,
            peers: Some(record(at, PEER_INDEX_TABLE, &peer_index(router_id, view, &identities))),
            rows: rows.into_iter().peekable(),
            sequence: 0,
        })
    }
}

impl Iterator for TableDump {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(peers) = self.peers.take() {
            return Some(peers);
        }
        let (prefix, index, attributes) = self.rows.next()?;
        let mut paths = vec![(index, attributes)];
        while let Some((_, index, attributes)) = self.rows.next_if(|(next, ..)| *next == prefix) {
            paths.push((index, attributes));
        }
        let body = rib(self.sequence, &prefix, &paths);
        self.sequence = self.sequence.wrapping_add(1);
        let kind = if prefix.is_v4() {
            RIB_IPV4_UNICAST
        } else {
            RIB_IPV6_UNICAST
        };
        Some(record(self.at, kind, &body))
    }
}

fn record(at: u32, subtype: u16, body: &[u8]) -> Bytes {
    let mut record = BytesMut::with_capacity(12 + body.len());
    record.put_u32(at);
    record.put_u16(TABLE_DUMP_V2);
    record.put_u16(subtype);
    record.put_u32(u32::try_from(body.len()).expect("65535 paths of 4 kB at most"));
    record.put_slice(body);
    record.freeze()
}

fn peer_index(router_id: Ipv4Addr, view: &str, peers: &[Identity]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_slice(&router_id.octets());
    body.put_u16(view.len() as u16);
    body.put_slice(view.as_bytes());
    body.put_u16(peers.len() as u16);
    for (address, asn, router_id) in peers {
        body.put_u8(if address.is_ipv6() { PEER_IPV6 } else { 0 } | PEER_AS4);
        body.put_slice(&router_id.octets());
        match address {
            IpAddr::V4(v4) => body.put_slice(&v4.octets()),
            IpAddr::V6(v6) => body.put_slice(&v6.octets()),
        }
        body.put_u32(*asn);
    }
    body
}

/// A prefix with its paths. One whose attributes have no form on the wire is left out; received ones always have one.
fn rib(sequence: u32, prefix: &Prefix, paths: &[(u16, Arc<Attributes>)]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u32(sequence);
    body.put_u8(prefix.len());
    let octets = usize::from(prefix.len().div_ceil(8));
    match prefix.address() {
        IpAddr::V4(v4) => body.put_slice(&v4.octets()[..octets]),
        IpAddr::V6(v6) => body.put_slice(&v6.octets()[..octets]),
    }
    let written: Vec<(u16, Vec<u8>)> = paths
        .iter()
        .filter_map(|(index, attributes)| Some((*index, wire::encode_for_dump(attributes, prefix)?)))
        .collect();
    body.put_u16(written.len() as u16);
    for (index, attributes) in written {
        body.put_u16(index);
        body.put_u32(0); // when it came is not kept
        body.put_u16(attributes.len() as u16);
        body.put_slice(&attributes);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("prefix")
    }

    #[test]
    fn records_are_in_order_and_whole() {
        let attributes = Arc::new(Attributes::originated(IpAddr::from([192, 0, 2, 1]).into()));
        let entry = |of: &str| Entry {
            prefix: prefix(of),
            peer: None,
            attributes: Arc::clone(&attributes),
        };
        let snapshot = Snapshot {
            table: Table::LocRib,
            asn: 65000,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            entries: vec![entry("2001:db8::/32"), entry("10.0.0.0/8"), entry("0.0.0.0/0")],
        };
        let dump = TableDump::new(snapshot, Duration::from_secs(0x0102_0304)).expect("one peer");
        let records: Vec<Bytes> = dump.collect();
        let subtype = |record: &Bytes| u16::from_be_bytes([record[6], record[7]]);
        assert_eq!(records.iter().map(subtype).collect::<Vec<_>>(), [1, 2, 2, 4]);
        for record in &records {
            assert_eq!(record[..6], [1, 2, 3, 4, 0, 13]);
            let length = u32::from_be_bytes([record[8], record[9], record[10], record[11]]);
            assert_eq!(record.len(), 12 + length as usize);
        }
        // Sequence, length 0, one path: the default route.
        assert_eq!(records[1][12..19], [0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(records[2][12..20], [0, 0, 0, 1, 8, 10, 0, 1]);
    }
}
