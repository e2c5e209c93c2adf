//! What a rule does to a packet: the same bytes as the gateway's own path makes.

use dpdk_sys::Mbuf;
use net::{eth, ipv4, protocol, vxlan};

use crate::classify::Candidate;
use crate::rule::Rewrite;

/// True if what the rule makes of the packet fits an MTU.
#[inline]
pub(crate) fn fits(rewrite: &Rewrite, length: u16, mtu: u16) -> bool {
    let overhead = if rewrite.tunnel.is_some() { vxlan::OUTER_V4 } else { 0 };
    usize::from(length) + overhead <= usize::from(mtu)
}

/// Rewrites the packet; false, and nothing done, if there is no room for its headers.
#[inline]
pub(crate) fn rewrite(mbuf: &mut Mbuf, candidate: &Candidate, rewrite: &Rewrite) -> bool {
    let (l3, header) = (usize::from(candidate.l3), usize::from(rewrite.header_length));
    if header > l3 + mbuf.headroom() {
        return false;
    }
    rewrite_packet(&mut mbuf.data_mut()[l3..], candidate.protocol, rewrite);
    if rewrite.tunnel.is_some() {
        // Padding of a short Ethernet frame is not part of the packet.
        mbuf.truncate(l3 + usize::from(candidate.length));
    }
    let frame = if header <= l3 {
        mbuf.trim_front(l3 - header);
        mbuf.data_mut()
    } else {
        match mbuf.prepend(header - l3) {
            Some(_) => mbuf.data_mut(),
            None => return false,
        }
    };
    frame[..header].copy_from_slice(&rewrite.header[..header]);
    if let Some(tunnel) = rewrite.tunnel {
        let inner = eth::LENGTH + usize::from(candidate.length);
        let outer = &mut frame[header - vxlan::OUTER_V4 - eth::LENGTH..];
        // Both lengths were checked: the header is there, and the result fits an MTU.
        return vxlan::finish_outer(outer, inner, tunnel.udp_source).is_ok();
    }
    true
}

/// Addresses, ports, TTL and checksums of the packet that starts at its IPv4 header without options.
#[inline]
pub(crate) fn rewrite_packet(packet: &mut [u8], protocol: u8, rewrite: &Rewrite) {
    let Some((ip, layer4)) = packet.split_first_chunk_mut::<{ ipv4::LENGTH }>() else {
        return;
    };
    ip[8] -= 1;
    let checksum = rewrite.header_delta.apply(u16::from_be_bytes([ip[10], ip[11]]));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip[12..16].copy_from_slice(&rewrite.source.to_be_bytes());
    ip[16..20].copy_from_slice(&rewrite.destination.to_be_bytes());
    layer4[0..2].copy_from_slice(&rewrite.source_port.to_be_bytes());
    layer4[2..4].copy_from_slice(&rewrite.destination_port.to_be_bytes());
    if protocol == protocol::UDP {
        let checksum = u16::from_be_bytes([layer4[6], layer4[7]]);
        layer4[6..8].copy_from_slice(&rewrite.layer4_delta.apply_udp(checksum).to_be_bytes());
    } else {
        let checksum = u16::from_be_bytes([layer4[16], layer4[17]]);
        layer4[16..18].copy_from_slice(&rewrite.layer4_delta.apply(checksum).to_be_bytes());
    }
}
