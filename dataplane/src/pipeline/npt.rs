//! NPTv6 (RFC 6296): prefixes are exchanged without state, in packets that leave a VPC and in those that come back.

use nat::NptPacket;
use net::icmpv6;
use net::parse::{FragmentPart, protocol};
use net::{Drop, RouteKind, VrfId};
use rib::{Lookup, Tables};

use super::{Packet6, Pipeline};

impl Pipeline {
    /// Takes a packet to its end if a prefix of it is exchanged; else gives it back.
    pub(super) fn exchange_prefix(&mut self, tables: &Tables, packet: Packet6, route: Lookup) -> Option<Packet6> {
        let (meta, policy) = (&packet.meta, tables.nat());
        let leaves = route.vrf == VrfId::DEFAULT && matches!(route.kind, RouteKind::Unicast | RouteKind::Nat);
        let (found, outward) = match meta.vrf {
            VrfId::DEFAULT if route.kind == RouteKind::Nat => (policy.npt_in(meta.ip.destination), false),
            VrfId::DEFAULT => (None, false),
            vrf if leaves => (policy.npt_out(vrf, meta.ip.source), true),
            _ => (None, true),
        };
        match found {
            None => return Some(packet),
            Some(Ok(npt)) if outward => self.npt_out(tables, packet, &npt, route),
            Some(Ok(npt)) => self.npt_in(tables, packet, &npt),
            Some(Err(reason)) => {
                self.answer_v6(tables, &packet, icmpv6::Error::AddressUnreachable);
                self.discard(packet.mbuf, reason);
            }
        }
        None
    }

    fn npt_out(&mut self, tables: &Tables, packet: Packet6, npt: &NptPacket, route: Lookup) {
        let Some(mut packet) = self.admit_v6(tables, packet, route.next_hop) else {
            return;
        };
        apply(tables, &mut packet, npt);
        packet.meta.ip.source = npt.address;
        if route.kind != RouteKind::Nat {
            return self.transmit_v6(tables, packet, route);
        }
        // To a prefix of ours: it comes back as from the fabric (RFC 6296 section 4).
        packet.meta.vrf = VrfId::DEFAULT;
        self.counters.hairpinned.add(1);
        let route = tables.lookup_v6(VrfId::DEFAULT, packet.meta.ip.destination, packet.meta.hash);
        self.translate_v6(tables, packet, route);
    }

    fn npt_in(&mut self, tables: &Tables, packet: Packet6, npt: &NptPacket) {
        let way = tables.lookup_v6(npt.vrf, npt.address, packet.meta.hash);
        if way.vrf == VrfId::DEFAULT {
            return self.deny_v6(tables, packet, Drop::NoRoute);
        }
        let Some(mut packet) = self.admit_v6(tables, packet, way.next_hop) else {
            return;
        };
        apply(tables, &mut packet, npt);
        packet.meta.ip.destination = npt.address;
        self.transmit_v6(tables, packet, way);
    }
}

fn apply(tables: &Tables, packet: &mut Packet6, npt: &NptPacket) {
    let (ip, l3) = (&packet.meta.ip, usize::from(packet.meta.l3));
    let is_error = ip.protocol == protocol::ICMPV6 && icmpv6::is_error(ip.icmp_type);
    let quote = (is_error && ip.fragment == FragmentPart::Whole).then(|| usize::from(ip.l4) + icmpv6::LENGTH);
    tables.nat().apply_npt(npt, &mut packet.mbuf.data_mut()[l3..], quote);
}
