//! Connections as bytes, so that they outlive the process: a versioned format with a checksum, bounded by its own length.
//!
//! ```text
//! magic "turnpike", version u16, record length u16, records u32, milliseconds u64 │ records │ checksum u64
//! ```
//! All numbers are big-endian. Nothing of the present network is in it: routes and policy are asked anew when a connection
//! is restored.

use crate::FlowKey;
use crate::entry::ConnectionState;

/// What of a connection outlives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedConnection {
    /// What its packets are found by, in the original direction and in the reply direction.
    pub keys: [FlowKey; 2],
    /// What it has of a pool.
    pub pooled: Pooled,
    /// How far it had come.
    pub state: ConnectionState,
    /// TCP: FINs seen, 1 of the original direction, 2 of the reply.
    pub fins: u8,
    /// TCP: last sequence numbers.
    pub sequences: [u32; 2],
    /// Hash that decides between equal next hops.
    pub flow_hash: u32,
    /// Seconds since its last packet.
    pub idle: u32,
    /// Packets of each direction.
    pub packets: [u64; 2],
    /// Bytes of each direction.
    pub bytes: [u64; 2],
}

/// What a connection has of a masquerade's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Pooled {
    /// Nothing: a port forward or static NAT.
    Nothing = 0,
    /// A port of its own, or an address alone if its protocol has no ports.
    Own = 1,
    /// The port that its end inside has for all of its connections.
    Mapping = 2,
    /// A port that others may have as well, to other ends outside.
    Overloaded = 3,
}

/// Why bytes are no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Something else, or a snapshot that was cut off.
    #[error("not a snapshot of connections, or cut off")]
    Malformed,
    /// Written by a version that this one does not know.
    #[error("a snapshot of format {0}; this version reads format {VERSION}")]
    Version(u16),
    /// Bytes have changed since it was written.
    #[error("the checksum does not match: the snapshot was damaged")]
    Checksum,
    /// More connections than there may be.
    #[error("{records} connections, but at most {limit} may be restored")]
    TooMany {
        /// Connections in the snapshot.
        records: u32,
        /// Bound of the caller.
        limit: u32,
    },
}

const MAGIC: [u8; 8] = *b"turnpike";
/// Version of the format, of a record as well.
pub(crate) const VERSION: u16 = 1;
const HEADER: usize = 24;
/// Bytes of a connection.
pub(crate) const RECORD: usize = 84;
const CHECKSUM: usize = 8;

/// The connections of every worker as one snapshot, taken `milliseconds` after 1970.
pub fn encode(connections: &[SavedConnection], milliseconds: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + connections.len() * RECORD + CHECKSUM);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend((RECORD as u16).to_be_bytes());
    bytes.extend((connections.len() as u32).to_be_bytes());
    bytes.extend(milliseconds.to_be_bytes());
    for connection in connections {
        write(connection, &mut bytes);
    }
    let sum = checksum(&bytes);
    bytes.extend(sum.to_be_bytes());
    bytes
}

/// The connections of a snapshot, and when it was taken, in milliseconds after 1970.
///
/// # Errors
/// [`SnapshotError`]; nothing of a snapshot with a fault is used.
pub fn decode(bytes: &[u8], limit: u32) -> Result<(Vec<SavedConnection>, u64), SnapshotError> {
    let mut header = Reader(bytes);
    if header.take::<8>()? != MAGIC {
        return Err(SnapshotError::Malformed);
    }
    let (version, length) = (header.u16()?, header.u16()?);
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    let (records, milliseconds) = (header.u32()?, header.u64()?);
    if records > limit {
        return Err(SnapshotError::TooMany { records, limit });
    }
    let end = HEADER + records as usize * RECORD;
    if usize::from(length) != RECORD || bytes.len() != end + CHECKSUM {
        return Err(SnapshotError::Malformed);
    }
    if checksum(&bytes[..end]).to_be_bytes() != bytes[end..] {
        return Err(SnapshotError::Checksum);
    }
    let connections = bytes[HEADER..end].chunks_exact(RECORD).map(record);
    Ok((connections.collect::<Result<_, _>>()?, milliseconds))
}

/// Appends a connection: [`RECORD`] bytes.
pub(crate) fn write(connection: &SavedConnection, bytes: &mut Vec<u8>) {
    for key in connection.keys {
        bytes.extend(key.to_bytes());
    }
    bytes.extend([connection.pooled as u8, connection.state as u8, connection.fins, 0]);
    let words = connection
        .sequences
        .into_iter()
        .chain([connection.flow_hash, connection.idle]);
    words.for_each(|word| bytes.extend(word.to_be_bytes()));
    let counts = connection.packets.into_iter().chain(connection.bytes);
    counts.for_each(|count| bytes.extend(count.to_be_bytes()));
}

/// The connection of such bytes.
pub(crate) fn record(bytes: &[u8]) -> Result<SavedConnection, SnapshotError> {
    read(&mut Reader(bytes))
}

fn read(record: &mut Reader<'_>) -> Result<SavedConnection, SnapshotError> {
    let keys = [FlowKey::from_bytes(record.take()?), FlowKey::from_bytes(record.take()?)];
    let [pooled, state, fins, _] = record.take()?;
    let state = match state {
        0 => ConnectionState::Unreplied,
        1 => ConnectionState::Replied,
        2 => ConnectionState::Established,
        3 => ConnectionState::Closing,
        _ => return Err(SnapshotError::Malformed),
    };
    let pooled = match pooled {
        0 => Pooled::Nothing,
        1 => Pooled::Own,
        2 => Pooled::Mapping,
        3 => Pooled::Overloaded,
        _ => return Err(SnapshotError::Malformed),
    };
    Ok(SavedConnection {
        keys,
        pooled,
        state,
        fins,
        sequences: [record.u32()?, record.u32()?],
        flow_hash: record.u32()?,
        idle: record.u32()?,
        packets: [record.u64()?, record.u64()?],
        bytes: [record.u64()?, record.u64()?],
    })
}

/// FNV-1a over words of 8 bytes: finds damage, proves nothing about the writer.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_be_bytes(word)
    });
    words.fold(0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64, |sum, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(SnapshotError::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, SnapshotError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        self.take().map(u64::from_be_bytes)
    }
}
