//! Messages of the BGP Monitoring Protocol, version 3 (RFC 7854 section 4), as they are written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::Family;

const VERSION: u8 = 3;
const COMMON_HEADER: usize = 6;

const ROUTE_MONITORING: u8 = 0;
const STATISTICS_REPORT: u8 = 1;
const PEER_DOWN: u8 = 2;
const PEER_UP: u8 = 3;
const INITIATION: u8 = 4;
const TERMINATION: u8 = 5;

/// Flags of the per-peer header.
const FLAG_IPV6: u8 = 0x80;
const FLAG_POST_POLICY: u8 = 0x40;

/// Statistics (RFC 7854 section 4.8).
const ADJ_RIB_IN: u16 = 7;
const ADJ_RIB_IN_OF_FAMILY: u16 = 9;
const TREATED_AS_WITHDRAW: u16 = 11;

/// Seconds and microseconds since 1970; zero where the time is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Stamp {
    seconds: u32,
    micros: u32,
}

impl From<Duration> for Stamp {
    fn from(since_1970: Duration) -> Self {
        Self {
            // The field ends in 2106.
            seconds: since_1970.as_secs() as u32,
            micros: since_1970.subsec_micros(),
        }
    }
}

/// Which adj-rib-in a route is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    PrePolicy,
    PostPolicy,
}

/// What the per-peer header says of a peer (RFC 7854 section 4.2). AS paths are always of 4 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
    pub(crate) router_id: Ipv4Addr,
}

/// What a peer-up notification says (RFC 7854 section 4.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) local: SocketAddr,
    pub(crate) remote_port: u16,
    /// Whole messages.
    pub(crate) sent: Bytes,
    pub(crate) received: Bytes,
}

/// Why a peer is down (RFC 7854 section 4.9); the bytes are whole NOTIFICATIONs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// We ended the session and told the peer why.
    Local(Bytes),
    /// The peer did, and told us.
    Remote(Bytes),
    /// The TCP connection is gone.
    Closed,
    /// The peer is not watched any more.
    Deconfigured,
}

/// What a statistics report says of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) treated_as_withdraw: u64,
    /// Prefixes of the adj-rib-in.
    pub(crate) received: Vec<(Family, u64)>,
}

pub(crate) fn initiation(description: &str, name: &str) -> Bytes {
    let mut body = BytesMut::new();
    put_tlv(&mut body, 1, description.as_bytes());
    put_tlv(&mut body, 2, name.as_bytes());
    message(INITIATION, &body)
}

/// With reason 0: administratively closed.
pub(crate) fn termination() -> Bytes {
    let mut body = BytesMut::new();
    put_tlv(&mut body, 1, &0_u16.to_be_bytes());
    message(TERMINATION, &body)
}

pub(crate) fn peer_up(peer: Identity, opened: &Opened, at: Stamp) -> Bytes {
    let mut body = BytesMut::new();
    put_peer(&mut body, peer, Stage::PrePolicy, at);
    put_address(&mut body, opened.local.ip());
    body.put_u16(opened.local.port());
    body.put_u16(opened.remote_port);
    body.put_slice(&opened.sent);
    body.put_slice(&opened.received);
    message(PEER_UP, &body)
}

pub(crate) fn peer_down(peer: Identity, ended: &Ended, at: Stamp) -> Bytes {
    let mut body = BytesMut::new();
    put_peer(&mut body, peer, Stage::PrePolicy, at);
    match ended {
        Ended::Local(notification) => {
            body.put_u8(1);
            body.put_slice(notification);
        }
        Ended::Remote(notification) => {
            body.put_u8(3);
            body.put_slice(notification);
        }
        Ended::Closed => body.put_u8(4),
        Ended::Deconfigured => body.put_u8(5),
    }
    message(PEER_DOWN, &body)
}

/// Wraps an UPDATE.
pub(crate) fn route_monitoring(peer: Identity, stage: Stage, at: Stamp, update: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    put_peer(&mut body, peer, stage, at);
    body.put_slice(update);
    message(ROUTE_MONITORING, &body)
}

pub(crate) fn statistics(peer: Identity, counts: &Counts, at: Stamp) -> Bytes {
    let mut body = BytesMut::new();
    put_peer(&mut body, peer, Stage::PrePolicy, at);
    body.put_u32(2 + counts.received.len() as u32);
    // A 32-bit counter.
    put_tlv(
        &mut body,
        TREATED_AS_WITHDRAW,
        &(counts.treated_as_withdraw as u32).to_be_bytes(),
    );
    let all: u64 = counts.received.iter().map(|(_, count)| count).sum();
    put_tlv(&mut body, ADJ_RIB_IN, &all.to_be_bytes());
    for (family, count) in &counts.received {
        let (afi, safi) = family.numbers();
        let mut value = BytesMut::new();
        value.put_u16(afi);
        value.put_u8(safi);
        value.put_u64(*count);
        put_tlv(&mut body, ADJ_RIB_IN_OF_FAMILY, &value);
    }
    message(STATISTICS_REPORT, &body)
}

fn message(kind: u8, body: &[u8]) -> Bytes {
    let length = COMMON_HEADER + body.len();
    let mut message = BytesMut::with_capacity(length);
    message.put_u8(VERSION);
    message.put_u32(u32::try_from(length).expect("two messages of BGP at most, and a header"));
    message.put_u8(kind);
    message.put_slice(body);
    message.freeze()
}

fn put_peer(body: &mut BytesMut, peer: Identity, stage: Stage, at: Stamp) {
    let mut flags = if peer.address.is_ipv6() { FLAG_IPV6 } else { 0 };
    if stage == Stage::PostPolicy {
        flags |= FLAG_POST_POLICY;
    }
    body.put_u8(0); // a peer of the global instance
    body.put_u8(flags);
    body.put_u64(0); // without a distinguisher
    put_address(body, peer.address);
    body.put_u32(peer.asn);
    body.put_slice(&peer.router_id.octets());
    body.put_u32(at.seconds);
    body.put_u32(at.micros);
}

/// An IPv4 address is at the end of its 16 octets.
fn put_address(body: &mut BytesMut, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            body.put_bytes(0, 12);
            body.put_slice(&v4.octets());
        }
        IpAddr::V6(v6) => body.put_slice(&v6.octets()),
    }
}

/// A value that is too long is cut off.
fn put_tlv(body: &mut BytesMut, kind: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.put_u16(kind);
    body.put_u16(value.len() as u16);
    body.put_slice(value);
}
