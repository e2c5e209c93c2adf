//! A rule: what it matches, what it does, what it has seen.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use net::checksum::Delta;

/// How a frame comes off the wire. Untagged it is to the port's own address; in a VLAN or a tunnel it is to that of a
/// tenant's network, `mac`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Untagged,
    Vlan {
        id: u16,
        mac: [u8; 6],
    },
    Vxlan {
        destination: u32,
        port: u16,
        vni: u32,
        mac: [u8; 6],
    },
}

/// Addresses, protocol and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FiveTuple {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) protocol: u8,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
}

/// Everything that a rule matches, packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    addresses: u64,
    ports: u64,
    outer: u64,
    place: u64,
}

/// The place of a rule that matches on every port.
const ANY_PORT: u64 = u16::MAX as u64;

impl Key {
    pub(crate) fn new(framing: Framing, flow: FiveTuple) -> Self {
        let (outer, port, [a, b, c, d, e, f]) = match framing {
            Framing::Untagged => (0, 0, [0; 6]),
            Framing::Vlan { id, mac } => (1 << 62 | u64::from(id), 0, mac),
            Framing::Vxlan {
                destination,
                port,
                vni,
                mac,
            } => (2 << 62 | u64::from(vni) << 32 | u64::from(destination), port, mac),
        };
        Self {
            addresses: u64::from(flow.source) << 32 | u64::from(flow.destination),
            ports: u64::from(u16::from_be_bytes([a, b])) << 48
                | u64::from(flow.source_port) << 32
                | u64::from(flow.destination_port) << 16
                | u64::from(flow.protocol),
            outer,
            place: u64::from(u32::from_be_bytes([c, d, e, f])) << 32 | u64::from(port) << 16 | ANY_PORT,
        }
    }

    /// The same, only for what comes in from the wire of this port.
    #[must_use]
    pub(crate) fn on_port(self, port: u16) -> Self {
        Self {
            place: self.place & !ANY_PORT | u64::from(port),
            ..self
        }
    }

    /// True if it matches on one port alone.
    pub(crate) fn is_on_port(&self) -> bool {
        self.place & ANY_PORT != ANY_PORT
    }

    /// A number below 4 for untagged frames, VLAN and VXLAN.
    #[inline]
    pub(crate) fn framing(&self) -> usize {
        (self.outer >> 62) as usize
    }

    /// The UDP port of the tunnel that it matches in.
    pub(crate) fn tunnel_port(&self) -> Option<u16> {
        (self.outer >> 62 == 2).then_some((self.place >> 16) as u16)
    }

    #[inline]
    pub(crate) fn hash_value(&self) -> u64 {
        foldhash::fast::FixedState::default().hash_one(self)
    }
}

/// Longest header that is put in front of a packet: Ethernet, tag, IPv4, UDP, VXLAN, inner Ethernet.
pub(crate) const MAX_HEADER: usize = 14 + 4 + 20 + 8 + 8 + 14;

/// What a rule makes of a packet that it forwards.
#[derive(Debug, Clone)]
pub(crate) struct Rewrite {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// What addresses and TTL - 1 do to the IPv4 header's checksum; the TTL's word is the packet's, its change is not.
    pub(crate) header_delta: Delta,
    /// What addresses and ports do to the checksum of TCP or UDP.
    pub(crate) layer4_delta: Delta,
    /// Everything in front of the IPv4 header.
    pub(crate) header: [u8; MAX_HEADER],
    pub(crate) header_length: u8,
    /// The header ends with VXLAN and an inner Ethernet header.
    pub(crate) tunnel: Option<Tunnel>,
    /// Number of the port that it leaves by.
    pub(crate) egress: u16,
}

/// How a VXLAN header is finished for each packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tunnel {
    pub(crate) udp_source: u16,
}

/// What becomes of a packet.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    Forward(Rewrite),
    Drop,
}

/// When a rule without packets is reported.
#[derive(Debug)]
pub(crate) struct Age {
    pub(crate) seconds: u32,
    pub(crate) context: u64,
    /// Milliseconds on the switch's clock.
    last_hit: AtomicU32,
    reported: AtomicBool,
}

impl Age {
    pub(crate) fn new(seconds: u32, context: u64, now: u32) -> Self {
        Self {
            seconds,
            context,
            last_hit: now.into(),
            reported: false.into(),
        }
    }

    pub(crate) fn hit(&self, now: u32) {
        self.last_hit.store(now, Relaxed);
        self.reported.store(false, Relaxed);
    }

    pub(crate) fn idle_seconds(&self, now: u32) -> u32 {
        now.wrapping_sub(self.last_hit.load(Relaxed)) / 1000
    }

    pub(crate) fn is_aged(&self, now: u32) -> bool {
        self.idle_seconds(now) >= self.seconds
    }

    /// True once until the next packet.
    pub(crate) fn report(&self, now: u32) -> bool {
        self.is_aged(now) && !self.reported.swap(true, Relaxed)
    }

    pub(crate) fn is_due(&self, now: u32) -> bool {
        self.is_aged(now) && !self.reported.load(Relaxed)
    }
}

/// A rule of group 1.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) key: Key,
    pub(crate) hash: u64,
    pub(crate) fate: Fate,
    /// Number of the port that it was made through.
    pub(crate) owner: u16,
    pub(crate) counted: bool,
    pub(crate) age: Option<Age>,
    /// How many rules its template table has; none if it was made by a synchronous call.
    pub(crate) table_use: Option<Arc<AtomicU32>>,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Rule {
    pub(crate) fn new(key: Key, fate: Fate, owner: u16, counted: bool, age: Option<Age>) -> Self {
        Self {
            key,
            hash: key.hash_value(),
            fate,
            owner,
            counted,
            age,
            table_use: None,
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn hit(&self, bytes: usize, now: u32) {
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        if let Some(age) = &self.age {
            age.hit(now);
        }
    }

    /// Packets and bytes, set to zero if `reset`.
    pub(crate) fn count(&self, reset: bool) -> (u64, u64) {
        let read = |counter: &AtomicU64| {
            if reset {
                counter.swap(0, Relaxed)
            } else {
                counter.load(Relaxed)
            }
        };
        (read(&self.packets), read(&self.bytes))
    }
}
