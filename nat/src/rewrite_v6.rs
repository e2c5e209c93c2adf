//! What NAT does to each packet of a direction that leaves as IPv6. There is no header checksum; that of layer 4 covers
//! the addresses, for ICMPv6 too (RFC 8200 section 8.1).

use net::checksum::{Delta, Sum};
use net::protocol;

use crate::address::Address;
use crate::flow::Flow;
use crate::rewrite::Rewrite;

/// New addresses and ports of one direction of a connection, and the checksum delta they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteV6 {
    flow: Flow,
    layer4: Delta,
}

impl RewriteV6 {
    /// That of a direction whose packets become those of `flow`.
    pub(crate) fn of(rewrite: &Rewrite, flow: Flow) -> Self {
        let layer4 = rewrite.delta();
        Self { flow, layer4 }
    }

    /// The rewrite of packets of `from` into packets of `to`.
    pub(crate) fn new(from: &Flow, to: &Flow) -> Self {
        let layer4 = Self::layer4(from, to);
        Self { flow: *to, layer4 }
    }

    /// What becoming `to` does to the checksum of layer 4 of packets of `from`, either of which may be IPv4. Length and
    /// protocol are in both pseudo-headers.
    pub(crate) fn layer4(from: &Flow, to: &Flow) -> Delta {
        let ends = |flow: &Flow| {
            let sum = match (flow.source.to_v4(), flow.destination.to_v4()) {
                (Some(source), Some(destination)) => Sum::ZERO.long(source).long(destination),
                _ => Sum::pseudo_v6(flow.source.to_bits(), flow.destination.to_bits(), 0, 0),
            };
            match flow.protocol {
                protocol::TCP | protocol::UDP => sum.word(flow.source_port).word(flow.destination_port),
                protocol::ICMPV6 => sum.word(flow.source_port),
                _ => sum,
            }
        };
        Delta::between(ends(from), ends(to))
    }

    /// New source address.
    pub const fn source(&self) -> Address {
        self.flow.source
    }

    /// New destination address.
    pub const fn destination(&self) -> Address {
        self.flow.destination
    }

    /// New source and destination port, or the echo identifier twice.
    pub const fn ports(&self) -> (u16, u16) {
        (self.flow.source_port, self.flow.destination_port)
    }

    /// Rewrites an IPv6 packet of the direction: addresses, ports and the checksum of layer 4, whose header at `l4` was
    /// checked. A packet too short for them is left as it is.
    pub fn apply(&self, packet: &mut [u8], l4: usize, protocol: u8) {
        if protocol == protocol::TCP && packet.len() < l4 + 18 {
            return;
        }
        self.apply_quoted(packet, l4, protocol);
    }

    /// Rewrites a fragment that has no header of layer 4.
    pub fn apply_to_fragment(&self, packet: &mut [u8]) {
        if let Some(header) = packet.first_chunk_mut::<40>() {
            self.put_addresses(header);
        }
    }

    /// The same for a packet quoted in an ICMPv6 error, of which 8 octets of layer 4 are enough.
    pub(crate) fn apply_quoted(&self, packet: &mut [u8], l4: usize, protocol: u8) {
        let Some((header, payload)) = packet.split_at_mut_checked(l4) else {
            return;
        };
        let Some(header) = header.first_chunk_mut::<40>() else {
            return;
        };
        let ports = [self.flow.source_port, self.flow.destination_port].map(u16::to_be_bytes);
        match (protocol, payload.first_chunk_mut::<8>()) {
            (protocol::UDP, Some(udp)) => {
                udp[..4].copy_from_slice(ports.as_flattened());
                let sum = self.layer4.apply_udp(u16::from_be_bytes([udp[6], udp[7]]));
                udp[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            (protocol::TCP, Some(start)) => {
                start[..4].copy_from_slice(ports.as_flattened());
                if let Some(tcp) = payload.first_chunk_mut::<18>() {
                    let sum = self.layer4.apply(u16::from_be_bytes([tcp[16], tcp[17]]));
                    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
                }
            }
            (protocol::ICMPV6, Some(icmp)) => {
                icmp[4..6].copy_from_slice(&ports[0]);
                let sum = self.layer4.apply(u16::from_be_bytes([icmp[2], icmp[3]]));
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            (protocol::UDP | protocol::TCP | protocol::ICMPV6, None) => return,
            _ => {}
        }
        self.put_addresses(header);
    }

    fn put_addresses(&self, header: &mut [u8; 40]) {
        header[8..24].copy_from_slice(&self.flow.source.to_bits().to_be_bytes());
        header[24..40].copy_from_slice(&self.flow.destination.to_bits().to_be_bytes());
    }
}
