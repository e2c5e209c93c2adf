//! Fragments where NAT has a say: each goes the way of its datagram's first one, which has the ports.

use dpdk_sys::Mbuf;
use nat::{DatagramKey, Fragment, Gathered};
use net::ipv4::Ipv4;
use net::parse::{FragmentPart, V4, V6, protocol};
use rib::Tables;

use super::classify::hash_v6;
use super::{Meta, Packet, Packet4, Packet6, Pipeline, flow_hash};

impl Pipeline {
    /// A fragment. The first one goes on like any packet; the others go on once its ports are known.
    #[cold]
    pub(super) fn gather_v4(&mut self, tables: &Tables, mbuf: Mbuf, meta: Meta<V4>) {
        let Some(fragment) = fragment_of(&mbuf, &meta) else {
            return self.discard(mbuf, net::Drop::Ipv4Malformed);
        };
        match self.fragments.gather(&fragment, Packet { mbuf, meta }, self.now) {
            Gathered::Ports(ports, packet) if meta.ip.fragment == FragmentPart::First => {
                self.walk_v4(tables, with_ports(packet, ports));
                let waited = self.fragments.released(&fragment.datagram);
                self.gathered
                    .extend(waited.into_iter().map(|packet| with_ports(packet, ports)));
            }
            Gathered::Ports(ports, packet) => self.gathered.push(with_ports(packet, ports)),
            Gathered::Held => {}
            Gathered::Refused(reason, packet) => self.discard(packet.mbuf, reason),
        }
        self.count_held();
        if self.gathered.len() >= FLUSH {
            self.forward_gathered(tables);
        }
    }

    /// Forwards the fragments whose ports are known now, behind the first ones.
    pub(super) fn forward_gathered(&mut self, tables: &Tables) {
        if self.gathered.is_empty() {
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        for packet in gathered.drain(..) {
            self.forward_later_v4(tables, packet);
        }
        self.gathered = gathered;
    }

    /// Gives up fragments that waited too long: they go on as what they are, without ports, which NAT then refuses.
    pub(crate) fn tend_fragments(&mut self, tables: &Tables) {
        if self.fragments.is_empty() && self.fragments_v6.is_empty() {
            return;
        }
        let mut late = Vec::new();
        self.fragments.expire(self.now, &mut |packet| late.push(packet));
        for packet in late {
            self.forward_later_v4(tables, packet);
        }
        let mut late = Vec::new();
        self.fragments_v6.expire(self.now, &mut |packet| late.push(packet));
        for packet in late {
            self.forward_later_v6(tables, packet);
        }
        self.count_held();
    }

    /// The same for IPv6 (RFC 8200 section 4.5).
    #[cold]
    pub(super) fn gather_v6(&mut self, tables: &Tables, packet: Packet6) {
        let ip = packet.meta.ip;
        let Some(fragment) = fragment_of_v6(&packet) else {
            return self.discard(packet.mbuf, net::Drop::Ipv6Malformed);
        };
        match self.fragments_v6.gather(&fragment, packet, self.now) {
            Gathered::Ports(ports, packet) if ip.fragment == FragmentPart::First => {
                self.forward_later_v6(tables, with_ports_v6(packet, ports));
                let waited = self.fragments_v6.released(&fragment.datagram);
                self.gathered_v6
                    .extend(waited.into_iter().map(|packet| with_ports_v6(packet, ports)));
            }
            Gathered::Ports(ports, packet) => self.gathered_v6.push(with_ports_v6(packet, ports)),
            Gathered::Held => {}
            Gathered::Refused(reason, packet) => self.discard(packet.mbuf, reason),
        }
        self.count_held();
        if self.gathered_v6.len() >= FLUSH {
            self.forward_gathered_v6(tables);
        }
    }

    /// Forwards the IPv6 fragments whose ports are known now, behind the first ones.
    pub(super) fn forward_gathered_v6(&mut self, tables: &Tables) {
        if self.gathered_v6.is_empty() {
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathered_v6);
        for packet in gathered.drain(..) {
            self.forward_later_v6(tables, packet);
        }
        self.gathered_v6 = gathered;
    }

    fn forward_later_v6(&mut self, tables: &Tables, packet: Packet6) {
        let route = tables.lookup_v6(packet.meta.vrf, packet.meta.ip.destination, packet.meta.hash);
        self.walk_v6(tables, packet, route);
    }

    /// A fragment without the header of layer 4. Where the protocol has ports and these are not known, no connection is
    /// its own.
    pub(super) fn forward_later_v4(&mut self, tables: &Tables, packet: Packet4) {
        let found = if lacks_ports(&packet.meta.ip) {
            None
        } else {
            self.engine.lookup(&super::v4::key_of(&packet.meta))
        };
        match found {
            Some(at) => self.connected_v4(tables, packet, at),
            None => {
                let ip = &packet.meta.ip;
                let route = tables.lookup_v4(packet.meta.vrf, ip.destination, packet.meta.hash);
                self.unmatched_v4(tables, packet, route);
            }
        }
    }
}

/// Fragments beyond which those gathered are forwarded before the burst is complete.
const FLUSH: usize = 256;

/// True for a fragment of a protocol with ports that does not know them.
pub(super) const fn lacks_ports(ip: &V4) -> bool {
    matches!(ip.fragment, FragmentPart::Later)
        && matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::ICMP)
        && ip.source_port == 0
        && ip.destination_port == 0
}

fn with_ports(mut packet: Packet4, (source, destination): (u16, u16)) -> Packet4 {
    let ip = &mut packet.meta.ip;
    (ip.source_port, ip.destination_port) = (source, destination);
    // All fragments of a datagram take the same of several equal routes.
    packet.meta.hash = flow_hash(ip.source, ip.destination, ip.protocol, source, destination);
    packet
}

fn fragment_of(mbuf: &Mbuf, meta: &Meta<V4>) -> Option<Fragment> {
    let ip = &meta.ip;
    let header = Ipv4::new(mbuf.data().get(usize::from(meta.l3)..)?).ok()?;
    Some(Fragment {
        datagram: DatagramKey {
            vrf: meta.vrf,
            protocol: ip.protocol,
            source: ip.source.into(),
            destination: ip.destination.into(),
            identification: header.identification().into(),
        },
        offset: header.fragment_offset() * 8,
        length: ip.total_length - ip.l4,
        more: header.more_fragments(),
        ports: (ip.source_port, ip.destination_port),
    })
}

/// [`lacks_ports`] for IPv6.
pub(super) const fn lacks_ports_v6(ip: &V6) -> bool {
    matches!(ip.fragment, FragmentPart::Later)
        && matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::ICMPV6)
        && ip.source_port == 0
        && ip.destination_port == 0
}

fn with_ports_v6(mut packet: Packet6, (source, destination): (u16, u16)) -> Packet6 {
    let ip = &mut packet.meta.ip;
    (ip.source_port, ip.destination_port) = (source, destination);
    packet.meta.hash = hash_v6(ip);
    packet
}

/// Length of a fragment header, and of an IPv6 header without extensions.
const FRAGMENT: usize = 8;
const FIXED: u16 = 40;

fn fragment_of_v6(packet: &Packet6) -> Option<Fragment> {
    let (ip, l3) = (&packet.meta.ip, usize::from(packet.meta.l3));
    let end = ip.payload_length.checked_add(FIXED)?;
    // The first one may have more extension headers before layer 4; what it is short of by them leaves a gap, no overlap.
    let (offset, more) = match ip.fragment {
        FragmentPart::Later => {
            let at = l3 + usize::from(ip.l4).checked_sub(FRAGMENT)?;
            let field = packet.mbuf.data().get(at + 2..at + 4)?;
            let field = u16::from_be_bytes(*field.first_chunk()?);
            (field & !7, field & 1 == 1)
        }
        FragmentPart::First | FragmentPart::Whole => (0, true),
    };
    Some(Fragment {
        datagram: DatagramKey {
            vrf: packet.meta.vrf,
            protocol: ip.protocol,
            source: ip.source.into(),
            destination: ip.destination.into(),
            identification: ip.identification,
        },
        offset,
        length: end.checked_sub(ip.l4)?,
        more,
        ports: (ip.source_port, ip.destination_port),
    })
}
