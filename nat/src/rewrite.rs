//! What NAT does to each packet of a direction: new addresses and ports, and what that does to both checksums.
//!
//! The checksum deltas (RFC 1624) are computed once when the connection is made, so that a packet costs two 16-bit
//! additions whatever its length, and the order in which TTL and NAT are applied does not matter.

use net::checksum::{Delta, Sum};
use net::protocol;

use crate::FlowKey;

/// A protocol of which nothing is rewritten beyond the IP header.
const NO_LAYER_4: u8 = 255;

/// New addresses and ports of one direction of a connection, and the checksum deltas they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    addresses: [u8; 8],
    ports: [u8; 4],
    /// IPv4 header checksum.
    header: Delta,
    /// TCP, UDP or ICMP checksum.
    layer4: Delta,
}

impl Rewrite {
    /// Of an entry that no packet finds.
    pub(crate) const NONE: Self = Self {
        addresses: [0; 8],
        ports: [0; 4],
        header: Delta::NONE,
        layer4: Delta::NONE,
    };

    /// The rewrite of packets that match `from` into packets that carry the addresses and ports of `to`.
    pub fn new(from: &FlowKey, to: &FlowKey) -> Self {
        let (header_from, header_to) = (addresses_of(from), addresses_of(to));
        // An echo has one identifier and no pseudo-header (RFC 792).
        let layer4 = if from.protocol() == protocol::ICMP {
            Delta::NONE.word(from.source_port(), to.source_port())
        } else {
            let with_ports = |sum: Sum, key: &FlowKey| sum.word(key.source_port()).word(key.destination_port());
            Delta::between(with_ports(header_from, from), with_ports(header_to, to))
        };
        Self::into(to, Delta::between(header_from, header_to), layer4)
    }

    /// The rewrites of both directions of a connection whose packets match `original` and `reply`.
    pub(crate) fn both(original: &FlowKey, reply: &FlowKey) -> [Self; 2] {
        let there = Self::new(original, &reply.reversed());
        let back = Self::into(&original.reversed(), there.header.reversed(), there.layer4.reversed());
        [there, back]
    }

    /// That of a direction to or from IPv6: where `to` is IPv6 its addresses stand here as their numbers. There is no
    /// header checksum to keep.
    pub(crate) fn short(to: &FlowKey, layer4: Delta) -> Self {
        Self::into(to, Delta::NONE, layer4)
    }

    /// What it does to the checksum of layer 4.
    pub(crate) const fn delta(&self) -> Delta {
        self.layer4
    }

    fn into(to: &FlowKey, header: Delta, layer4: Delta) -> Self {
        let mut addresses = [0; 8];
        addresses[..4].copy_from_slice(&to.source().to_be_bytes());
        addresses[4..].copy_from_slice(&to.destination().to_be_bytes());
        let mut ports = [0; 4];
        ports[..2].copy_from_slice(&to.source_port().to_be_bytes());
        ports[2..].copy_from_slice(&to.destination_port().to_be_bytes());
        Self {
            addresses,
            ports,
            header,
            layer4,
        }
    }

    /// New source address, host order.
    pub fn source(&self) -> u32 {
        be32(&self.addresses, 0)
    }

    /// New destination address, host order.
    pub fn destination(&self) -> u32 {
        be32(&self.addresses, 4)
    }

    /// New source port, or echo identifier.
    pub fn source_port(&self) -> u16 {
        be16(&self.ports, 0)
    }

    /// New destination port, or echo identifier.
    pub fn destination_port(&self) -> u16 {
        be16(&self.ports, 2)
    }

    /// Rewrites a packet of the direction: addresses, ports and both checksums.
    ///
    /// `packet` begins with its IPv4 header, whose length and whose layer 4 header at `l4` were checked; a packet too
    /// short for them is left as it is. A UDP checksum of zero (none) stays zero.
    #[inline]
    pub fn apply(&self, packet: &mut [u8], l4: usize, protocol: u8) {
        if protocol == protocol::TCP && packet.len() < l4 + 18 {
            return;
        }
        self.apply_quoted(packet, l4, protocol);
    }

    /// Rewrites a fragment that begins with its IPv4 header, which ends at `end` and was checked, and has no header of layer 4.
    pub fn apply_to_fragment(&self, packet: &mut [u8], end: usize) {
        self.apply_quoted(packet, end, NO_LAYER_4);
    }

    /// [`Rewrite::apply`] for TCP, or else UDP, behind an IPv4 header without options, of which at least 40 bytes are there.
    #[inline(always)]
    pub fn apply_plain(&self, packet: &mut [u8; 40], tcp: bool) {
        if tcp {
            let sum = self.layer4.apply(u16::from_be_bytes([packet[36], packet[37]]));
            packet[36..38].copy_from_slice(&sum.to_be_bytes());
        } else {
            let sum = self.layer4.apply_udp(u16::from_be_bytes([packet[26], packet[27]]));
            packet[26..28].copy_from_slice(&sum.to_be_bytes());
        }
        let sum = self.header.apply(u16::from_be_bytes([packet[10], packet[11]]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet[12..20].copy_from_slice(&self.addresses);
        packet[20..24].copy_from_slice(&self.ports);
    }

    /// [`Rewrite::apply`] for a packet quoted in an ICMP error, of which 8 octets of layer 4 are enough: a TCP checksum beyond
    /// the quote's end is not there to be rewritten.
    #[inline]
    pub(crate) fn apply_quoted(&self, packet: &mut [u8], l4: usize, protocol: u8) {
        let Some((header, payload)) = packet.split_at_mut_checked(l4) else {
            return;
        };
        let Some(header) = header.first_chunk_mut::<20>() else {
            return;
        };
        match protocol {
            protocol::UDP => {
                let Some(udp) = payload.first_chunk_mut::<8>() else {
                    return;
                };
                udp[..4].copy_from_slice(&self.ports);
                let sum = self.layer4.apply_udp(u16::from_be_bytes([udp[6], udp[7]]));
                udp[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            protocol::TCP => {
                let Some(ports) = payload.first_chunk_mut::<8>() else {
                    return;
                };
                ports[..4].copy_from_slice(&self.ports);
                if let Some(tcp) = payload.first_chunk_mut::<18>() {
                    let sum = self.layer4.apply(u16::from_be_bytes([tcp[16], tcp[17]]));
                    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
                }
            }
            protocol::ICMP => {
                let Some(icmp) = payload.first_chunk_mut::<8>() else {
                    return;
                };
                icmp[4..6].copy_from_slice(&self.ports[..2]);
                let sum = self.layer4.apply(u16::from_be_bytes([icmp[2], icmp[3]]));
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            _ => {}
        }
        let sum = self.header.apply(u16::from_be_bytes([header[10], header[11]]));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header[12..20].copy_from_slice(&self.addresses);
    }
}

fn addresses_of(key: &FlowKey) -> Sum {
    Sum::ZERO.long(key.source()).long(key.destination())
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
