//! IPv4 fragmentation (RFC 791 section 3.2), for packets that allow it and do not fit their next hop's MTU.

use dpdk_sys::Mbuf;
use net::{Drop, checksum, eth};
use rib::Adjacency;

use super::{ETHERNET, Packet4, Pipeline};

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

impl Pipeline {
    /// Cuts a packet, whose TTL is decremented already, into pieces that fit `adjacency` and sends them.
    #[cold]
    pub(super) fn fragment_v4(&mut self, packet: Packet4, adjacency: &Adjacency) {
        let start = usize::from(packet.meta.l3);
        let end = start + usize::from(packet.meta.ip.total_length);
        let header_length = usize::from(packet.mbuf.data()[start] & 0x0f) * 4;
        let Some(original) = packet.mbuf.data().get(start..end) else {
            return self.discard(packet.mbuf, Drop::Ipv4Malformed);
        };
        // RFC 791: pieces but the last carry a multiple of eight bytes. Options would have to be copied selectively.
        let room = (usize::from(adjacency.mtu).saturating_sub(header_length)) & !7;
        if room == 0 || header_length != 20 {
            return self.discard(packet.mbuf, Drop::FragmentFailed);
        }
        let field = u16::from_be_bytes([original[6], original[7]]);
        let (header, payload) = original.split_at(header_length);
        let pieces = payload.len().div_ceil(room);
        let mut ready: Vec<Mbuf> = Vec::with_capacity(pieces);
        for (i, piece) in payload.chunks(room).enumerate() {
            let last = i + 1 == pieces;
            let offset = (field & OFFSET) + (i * room / 8) as u16;
            let more = if last { field & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
            let Some(mbuf) = self.fragment(header, piece, offset | more) else {
                return self.discard(packet.mbuf, Drop::FragmentFailed);
            };
            ready.push(mbuf);
        }
        // One packet became several: the others count as made here.
        self.counters.generated.add(ready.len() as u64 - 1);
        for mbuf in ready {
            let length = mbuf.len() as u16 - ETHERNET;
            self.encapsulate(
                mbuf,
                ETHERNET,
                length,
                eth::ether_type::IPV4,
                packet.meta.hash,
                adjacency,
            );
        }
    }

    fn fragment(&self, header: &[u8], payload: &[u8], field: u16) -> Option<Mbuf> {
        let mut mbuf = self.pool.alloc()?;
        let length = header.len() + payload.len();
        let room = mbuf.append(usize::from(ETHERNET) + length)?;
        let packet = &mut room[usize::from(ETHERNET)..];
        packet[..header.len()].copy_from_slice(header);
        packet[header.len()..].copy_from_slice(payload);
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet[10..12].fill(0);
        let sum = checksum::checksum(&packet[..header.len()]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        Some(mbuf)
    }
}
