//! The last steps: headers in front of the packet, and the port's transmit queue.

use std::net::{IpAddr, Ipv4Addr};

use dpdk_sys::{Mbuf, TxQueue};
use net::vxlan::{self, OuterV4};
use net::{Drop, Mac, NextHopId, PortId, VrfId, eth, ipv4};
use rib::{Adjacency, AdjacencyKind, Attachment, Tables};

use super::{Egress, Packets, Pipeline};
use crate::counters::Counters;
use crate::hold::Held;
use crate::host::Inject;

/// Length of a VLAN tag.
const TAG: usize = 4;
/// TTL of the gateway's own outer headers.
const TTL: u8 = 64;

/// Packets that go to a port at once instead of waiting for the end of the burst.
const WORTH_A_BURST: usize = 16;

/// Packets that follow each other to the same port.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) port: PortId,
    pub(super) packets: Packets<Mbuf>,
}

impl Run {
    pub(super) fn new() -> Self {
        Self {
            port: PortId(0),
            packets: Packets::new(),
        }
    }
}

impl Egress {
    /// Sends what is queued.
    fn flush(&mut self, counters: &Counters) {
        send(&mut self.queue, &mut self.packets, counters);
    }

    /// Sends `packets`; none are left. Nothing is queued.
    fn send(&mut self, packets: &mut Packets<Mbuf>, counters: &Counters) {
        send(&mut self.queue, packets, counters);
    }
}

fn send(queue: &mut TxQueue, packets: &mut Packets<Mbuf>, counters: &Counters) {
    let mut sent = queue.burst(packets);
    if !packets.is_empty() {
        // A driver may take less than it could; one more try costs less than the packets.
        sent += queue.burst(packets);
    }
    counters.transmitted.add(sent as u64);
    for mbuf in packets.drain(..) {
        counters.count_drop(Drop::TxQueueFull);
        drop(mbuf);
    }
}

impl Pipeline {
    /// Puts the adjacency's headers in front of the IP packet at `l3`, `length` bytes long, and queues it.
    #[inline(always)]
    pub(super) fn encapsulate(
        &mut self,
        mut mbuf: Mbuf,
        l3: u16,
        length: u16,
        ether_type: u16,
        hash: u32,
        adjacency: &Adjacency,
    ) {
        let header = adjacency.rewrite();
        if adjacency.kind == AdjacencyKind::Forward {
            let Some(frame) = make_room(&mut mbuf, usize::from(l3), header.len()) else {
                return self.discard(mbuf, Drop::HeadroomExhausted);
            };
            put_header(frame, header, ether_type);
            return self.queue(adjacency.port, mbuf);
        }
        // Padding of a short Ethernet frame is not part of the packet.
        mbuf.truncate(usize::from(l3) + usize::from(length));
        let Some(frame) = make_room(&mut mbuf, usize::from(l3), header.len()) else {
            return self.discard(mbuf, Drop::HeadroomExhausted);
        };
        put_header(frame, header, ether_type);
        let inner = eth::LENGTH + usize::from(length);
        let outer = &mut frame[header.len() - vxlan::OUTER_V4 - eth::LENGTH..];
        if let Err(reason) = vxlan::finish_outer(outer, inner, vxlan::entropy_port(hash)) {
            return self.discard(mbuf, reason);
        }
        self.queue(adjacency.port, mbuf);
    }

    /// Queues a whole frame on a port.
    #[inline(always)]
    pub(super) fn queue(&mut self, port: PortId, mbuf: Mbuf) {
        let Some(Some(egress)) = self.tx.get_mut(usize::from(port.0)) else {
            return self.discard(mbuf, Drop::InterfaceDown);
        };
        egress.packets.push(mbuf);
        if egress.packets.is_full() {
            egress.flush(&self.counters);
        }
    }

    /// Queues the packets of a run; none are left.
    pub(super) fn queue_run(&mut self, run: &mut Run) {
        self.queue_all(run.port, &mut run.packets);
    }

    /// Queues whole frames on a port; none are left.
    #[inline(never)]
    pub(super) fn queue_all(&mut self, port: PortId, packets: &mut Packets<Mbuf>) {
        let Some(Some(egress)) = self.tx.get_mut(usize::from(port.0)) else {
            for mbuf in packets.drain(..) {
                self.counters.count_drop(Drop::InterfaceDown);
                drop(mbuf);
            }
            return;
        };
        if egress.packets.is_empty() && packets.len() >= WORTH_A_BURST {
            return egress.send(packets, &self.counters);
        }
        for mbuf in packets.drain(..) {
            egress.packets.push(mbuf);
            if egress.packets.is_full() {
                egress.flush(&self.counters);
            }
        }
    }

    /// Sends everything that is queued. Called at the end of every burst.
    #[inline]
    pub(crate) fn flush(&mut self) {
        for egress in self.tx.iter_mut().flatten() {
            if !egress.packets.is_empty() {
                egress.flush(&self.counters);
            }
        }
    }

    /// Resolves a packet's destination once more and sends it: after its neighbour was resolved, or a packet that the
    /// gateway made itself.
    pub(super) fn resume(&mut self, tables: &Tables, held: Held) {
        let adjacency = tables.adjacency(next_hop_of(tables, &held));
        match adjacency.kind {
            AdjacencyKind::Forward | AdjacencyKind::Vxlan => {
                let mut mbuf = held.mbuf;
                let l3 = usize::from(held.l3);
                let (length, ether_type) = match held.destination {
                    IpAddr::V4(_) => {
                        if !held.own {
                            decrement_ttl(&mut mbuf, held.l3);
                        }
                        (
                            u16::from_be_bytes([mbuf.data()[l3 + 2], mbuf.data()[l3 + 3]]),
                            eth::ether_type::IPV4,
                        )
                    }
                    IpAddr::V6(_) => {
                        mbuf.data_mut()[l3 + 7] -= u8::from(!held.own);
                        let payload = u16::from_be_bytes([mbuf.data()[l3 + 4], mbuf.data()[l3 + 5]]);
                        (payload.saturating_add(40), eth::ether_type::IPV6)
                    }
                };
                if length > adjacency.mtu {
                    // The way changed to a smaller one while the packet waited.
                    return self.discard(mbuf, Drop::PacketTooBig);
                }
                self.encapsulate(mbuf, held.l3, length, ether_type, held.hash, adjacency);
            }
            AdjacencyKind::Glean | AdjacencyKind::Incomplete => {
                let address = adjacency.gateway.unwrap_or(held.destination);
                self.wait_for_neighbor(adjacency.interface, address, held);
            }
            AdjacencyKind::Prohibit | AdjacencyKind::Local => self.discard(held.mbuf, Drop::Prohibited),
            AdjacencyKind::VrfLoop => self.discard(held.mbuf, Drop::VrfLoop),
            AdjacencyKind::NoRoute => self.discard(held.mbuf, Drop::NoRoute),
            AdjacencyKind::Unreachable => self.discard(held.mbuf, Drop::Unreachable),
            AdjacencyKind::Nat => self.discard(held.mbuf, Drop::NatNoMapping),
            AdjacencyKind::Blackhole => self.discard(held.mbuf, Drop::Blackhole),
        }
    }

    /// Sends a frame of the kernel out of a logical interface.
    pub(super) fn send_frame(&mut self, tables: &Tables, frame: Inject) {
        let Inject {
            mut mbuf,
            interface,
            vtep,
        } = frame;
        let Some(egress) = tables.interface(interface) else {
            return self.discard(mbuf, Drop::InterfaceDown);
        };
        match &egress.attachment {
            Attachment::Port(port) => self.queue(*port, mbuf),
            Attachment::Vlan { port, id } => {
                if mbuf.len() < eth::LENGTH {
                    return self.discard(mbuf, Drop::FrameTruncated);
                }
                if mbuf.prepend(TAG).is_none() {
                    return self.discard(mbuf, Drop::HeadroomExhausted);
                }
                let data = mbuf.data_mut();
                data.copy_within(TAG..TAG + 12, 0);
                data[12..14].copy_from_slice(&eth::ether_type::VLAN.to_be_bytes());
                data[14..16].copy_from_slice(&id.value().to_be_bytes());
                self.queue(*port, mbuf);
            }
            Attachment::Vxlan { vni, source, udp_port } => {
                let Some(vtep) = vtep else {
                    return self.discard(mbuf, Drop::NoRoute);
                };
                let outer = OuterV4 {
                    destination_mac: Mac::default(),
                    source_mac: Mac::default(),
                    source: u32::from(*source),
                    destination: u32::from(vtep),
                    vni: *vni,
                    ttl: TTL,
                    tos: 0,
                };
                self.tunnel(tables, mbuf, &outer, *udp_port);
            }
        }
    }

    /// Encapsulates a frame of the kernel and sends it to a remote VXLAN endpoint.
    fn tunnel(&mut self, tables: &Tables, mut mbuf: Mbuf, outer: &OuterV4, udp_port: u16) {
        let way = match tables.resolve_v4(VrfId::DEFAULT, outer.destination, 0) {
            Ok(way) => way,
            Err(reason) => return self.discard(mbuf, reason),
        };
        let adjacency = tables.adjacency(way.next_hop);
        match adjacency.kind {
            AdjacencyKind::Forward => {
                let mut headers = [0; vxlan::OUTER_V4];
                vxlan::write_outer_v4(&mut headers, outer);
                let port_at = eth::LENGTH + ipv4::LENGTH + 2;
                headers[port_at..port_at + 2].copy_from_slice(&udp_port.to_be_bytes());
                let inner = mbuf.len();
                let link = adjacency.rewrite();
                if mbuf.prepend(link.len() + vxlan::OUTER_V4 - eth::LENGTH).is_none() {
                    return self.discard(mbuf, Drop::HeadroomExhausted);
                }
                let frame = mbuf.data_mut();
                // The link header may carry a VLAN tag; what follows it is the same.
                let start = link.len() - eth::LENGTH;
                frame[start..start + vxlan::OUTER_V4].copy_from_slice(&headers);
                frame[..link.len()].copy_from_slice(link);
                frame[link.len() - 2..link.len()].copy_from_slice(&eth::ether_type::IPV4.to_be_bytes());
                if let Err(reason) = vxlan::finish_outer(&mut frame[start..], inner, vxlan::entropy_port(0)) {
                    return self.discard(mbuf, reason);
                }
                self.queue(adjacency.port, mbuf);
            }
            AdjacencyKind::Glean | AdjacencyKind::Incomplete => {
                // The kernel repeats ARP and ND by itself: have the way ready for the next one.
                let address = adjacency
                    .gateway
                    .unwrap_or(IpAddr::V4(Ipv4Addr::from(outer.destination)));
                self.report(crate::Event::NeighborWanted {
                    interface: adjacency.interface,
                    address,
                });
                self.discard(mbuf, Drop::NeighborUnresolved);
            }
            _ => self.discard(mbuf, Drop::NoRoute),
        }
    }
}

/// Copies an adjacency's headers to the front of a frame. Their last two bytes are the EtherType of the gateway's family,
/// which need not be the packet's (RFC 8950).
#[inline(always)]
fn put_header(frame: &mut [u8], header: &[u8], ether_type: u16) {
    // The usual lengths are copied in registers.
    if let (eth::LENGTH, Some(to), Some(from)) = (header.len(), frame.first_chunk_mut(), header.first_chunk()) {
        *to = *from as [u8; eth::LENGTH];
    } else if let (VXLAN_HEADERS, Some(to), Some(from)) = (header.len(), frame.first_chunk_mut(), header.first_chunk())
    {
        *to = *from as [u8; VXLAN_HEADERS];
    } else {
        frame[..header.len()].copy_from_slice(header);
    }
    frame[header.len() - 2..header.len()].copy_from_slice(&ether_type.to_be_bytes());
}

/// Headers of a VXLAN next hop over an untagged underlay.
const VXLAN_HEADERS: usize = eth::LENGTH + rib::VXLAN_OVERHEAD;

/// Makes the frame start `header` bytes before its network header, which is at `l3`.
#[inline(always)]
fn make_room(mbuf: &mut Mbuf, l3: usize, header: usize) -> Option<&mut [u8]> {
    if header < l3 {
        mbuf.trim_front(l3 - header);
    } else if header > l3 {
        mbuf.prepend(header - l3)?;
    }
    Some(mbuf.data_mut())
}

/// Readdresses packets where they are, from the first one on, while all go to one port, behind nothing but an Ethernet header, and fit. `way`
/// gives next hop and length of the IP packet, `readdress` puts the header there. Says how many were done, and their port.
#[inline(always)]
pub(super) fn readdress_run(
    tables: &Tables,
    mbufs: &mut [Mbuf],
    way: impl Fn(usize) -> (NextHopId, u32),
    readdress: impl Fn(usize, &mut Mbuf, &[u8; eth::LENGTH]) -> Option<()>,
) -> (usize, PortId) {
    let port = tables.adjacency(way(0).0).port;
    for (i, mbuf) in mbufs.iter_mut().enumerate() {
        let (next_hop, length) = way(i);
        let adjacency = tables.adjacency(next_hop);
        let fits = length <= u32::from(adjacency.mtu) && adjacency.port == port;
        let header = adjacency.ethernet().filter(|_| fits);
        if header.and_then(|header| readdress(i, mbuf, header)).is_none() {
            return (i, port);
        }
    }
    (mbufs.len(), port)
}

/// Puts an adjacency's header in front of the IPv6 packet at `l3`, in place of what is there, and takes one off its hop
/// limit, which is at least 1. `None` without headroom.
#[inline(always)]
pub(super) fn readdress_v6<const HEADER: usize>(mbuf: &mut Mbuf, l3: usize, header: &[u8; HEADER]) -> Option<()> {
    if l3 != HEADER {
        make_room(mbuf, l3, HEADER)?;
    }
    let headers = mbuf.data_mut().get_mut(..HEADER + 8)?;
    let (link, ip) = headers.split_first_chunk_mut::<HEADER>()?;
    *link = *header;
    // As for IPv4: the header is for the gateway's family.
    link[HEADER - 2..].copy_from_slice(&eth::ether_type::IPV6.to_be_bytes());
    ip[7] = ip[7].wrapping_sub(1);
    Some(())
}

/// Puts an adjacency's header in front of the IPv4 packet at `l3`, in place of what is there, and takes one off its TTL,
/// which is at least 1. `None` without headroom.
#[inline(always)]
pub(super) fn readdress_v4<const HEADER: usize>(mbuf: &mut Mbuf, l3: usize, header: &[u8; HEADER]) -> Option<()> {
    if l3 != HEADER {
        make_room(mbuf, l3, HEADER)?;
    }
    let headers = mbuf.data_mut().get_mut(..HEADER + ipv4::LENGTH)?;
    let (link, ip) = headers.split_first_chunk_mut::<HEADER>()?;
    *link = *header;
    // The header is for the gateway's family, which need not be the packet's (RFC 8950).
    link[HEADER - 2..].copy_from_slice(&eth::ether_type::IPV4.to_be_bytes());
    let [.., ttl, protocol, high, low] = *ip.first_chunk::<12>()?;
    let [high, low] = after_ttl([high, low]);
    ip[8..12].copy_from_slice(&[ttl.wrapping_sub(1), protocol, high, low]);
    Some(())
}

/// Decrements the TTL of the IPv4 packet at `l3`, with its checksum. The TTL is at least 1.
#[inline]
pub(super) fn decrement_ttl(mbuf: &mut Mbuf, l3: u16) {
    let at = usize::from(l3) + 8;
    if let Some(bytes) = mbuf.data_mut().get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        take_off_ttl(bytes);
    }
}

/// TTL, protocol and checksum of an IPv4 header, after one more hop.
#[inline(always)]
fn take_off_ttl(bytes: &mut [u8; 4]) {
    let [ttl, protocol, high, low] = *bytes;
    let [high, low] = after_ttl([high, low]);
    *bytes = [ttl.wrapping_sub(1), protocol, high, low];
}

/// The checksum of an IPv4 header whose TTL is one less: one's complement addition of 0x0100, with a sum of all ones told
/// as zero, as of RFC 1624 equation 3. It is the same in either byte order.
#[inline(always)]
fn after_ttl(checksum: [u8; 2]) -> [u8; 2] {
    const ONE: u32 = u16::from_ne_bytes([1, 0]) as u32;
    let sum = u32::from(u16::from_ne_bytes(checksum)) + ONE;
    ((sum + u32::from(sum >= 0xffff)) as u16).to_ne_bytes()
}

/// Takes the VLAN tag off a frame whose network header is at `l3`.
pub(super) fn remove_tag(mbuf: &mut Mbuf, l3: u16) {
    let tag = usize::from(l3) - eth::LENGTH;
    mbuf.data_mut().copy_within(0..12, tag);
    mbuf.trim_front(tag);
}

fn next_hop_of(tables: &Tables, held: &Held) -> NextHopId {
    let found = match held.destination {
        IpAddr::V4(address) => tables.lookup_v4(held.vrf, address.into(), held.hash),
        IpAddr::V6(address) => tables.lookup_v6(held.vrf, address.into(), held.hash),
    };
    found.next_hop
}

/// True while the next hop of a held packet has no MAC.
pub(super) fn waits_for_neighbor(tables: &Tables, held: &Held) -> bool {
    let kind = tables.adjacency(next_hop_of(tables, held)).kind;
    matches!(kind, AdjacencyKind::Glean | AdjacencyKind::Incomplete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_after_the_ttl_is_that_of_every_other_rewrite() {
        for checksum in 0..=u16::MAX {
            assert_eq!(
                u16::from_be_bytes(after_ttl(checksum.to_be_bytes())),
                net::checksum::incremental16(checksum, 0x0100, 0),
                "{checksum:#06x}"
            );
        }
    }
}
