//! Fragments where NAT has a say: each goes the way of its datagram's first one, which has the ports.

use dpdk_sys::Mbuf;
use nat::{DatagramKey, Fragment, Gathered};
use net::ipv4::Ipv4;
use net::parse::{FragmentPart, V4, protocol};
use rib::Tables;

use super::{Meta, Packet, Packet4, Pipeline, flow_hash};

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
        if self.fragments.is_empty() {
            return;
        }
        let mut late = Vec::new();
        self.fragments.expire(self.now, &mut |packet| late.push(packet));
        for packet in late {
            self.forward_later_v4(tables, packet);
        }
        self.count_held();
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
            source: ip.source,
            destination: ip.destination,
            identification: header.identification(),
        },
        offset: header.fragment_offset() * 8,
        length: ip.total_length - ip.l4,
        more: header.more_fragments(),
        ports: (ip.source_port, ip.destination_port),
    })
}
