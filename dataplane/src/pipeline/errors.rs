//! ICMP and ICMPv6 errors that the gateway sends (RFC 792, RFC 1812 section 4.3, RFC 4443).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nat::IcmpVerdict;
use net::{InterfaceId, VrfId, icmp, icmpv6};
use rib::Tables;

use super::{ETHERNET, Packet4, Packet6, Pipeline};
use crate::hold::Held;

/// Most bytes of an ICMP error: 576 for IPv4 (RFC 1812 section 4.3.2.3), 1280 for IPv6 (RFC 4443 section 2.4 (c)).
const LARGEST: usize = icmpv6::MAX_ERROR;

impl Pipeline {
    /// Tells a packet's sender what went wrong, if it may be told (RFC 1812 section 4.3.2.7) and the rate allows it.
    #[cold]
    pub(super) fn answer_v4(&mut self, tables: &Tables, packet: &Packet4, error: icmp::Error) {
        let original = packet
            .mbuf
            .data()
            .get(usize::from(packet.meta.l3)..)
            .unwrap_or_default();
        self.answer_v4_about(tables, packet.meta.ingress, packet.meta.vrf, original, error);
    }

    /// The same for IPv6.
    #[cold]
    pub(super) fn answer_v6(&mut self, tables: &Tables, packet: &Packet6, error: icmpv6::Error) {
        let original = packet
            .mbuf
            .data()
            .get(usize::from(packet.meta.l3)..)
            .unwrap_or_default();
        self.answer_v6_about(tables, packet.meta.ingress, packet.meta.vrf, original, error);
    }

    /// The neighbour of a held packet did not answer.
    #[cold]
    pub(super) fn host_unreachable(&mut self, tables: &Tables, held: &Held) {
        // A packet whose addresses were translated on the way to another VRF has no sender there to be told.
        let Some(vrf) = tables
            .interface(held.ingress)
            .map(|i| i.vrf)
            .filter(|vrf| *vrf == held.vrf)
        else {
            return;
        };
        let original = held.mbuf.data().get(usize::from(held.l3)..).unwrap_or_default();
        match held.destination {
            IpAddr::V4(_) => {
                self.answer_v4_about(tables, held.ingress, vrf, original, icmp::Error::HostUnreachable);
            }
            IpAddr::V6(_) => {
                self.answer_v6_about(tables, held.ingress, vrf, original, icmpv6::Error::AddressUnreachable);
            }
        }
    }

    fn answer_v4_about(
        &mut self,
        tables: &Tables,
        ingress: InterfaceId,
        vrf: VrfId,
        original: &[u8],
        error: icmp::Error,
    ) {
        if !icmp::may_answer(original) {
            return;
        }
        let Some(interface) = tables.interface(ingress) else {
            return;
        };
        let Some(source) = interface.address_v4 else { return };
        let mut packet = [0; LARGEST];
        let Ok(length) = icmp::build_error(&mut packet, source.into(), original, error) else {
            return;
        };
        let mut vrf = vrf;
        if vrf != interface.vrf {
            // The packet turned back at a public end: its sender knows it by the addresses that it had before.
            match self.engine.icmp_error(vrf, &mut packet[..length], 0, tables, self.now) {
                IcmpVerdict::Translated(way) => vrf = way.vrf,
                _ => return,
            }
        }
        let destination = Ipv4Addr::from([packet[16], packet[17], packet[18], packet[19]]);
        self.originate(tables, ingress, vrf, &packet[..length], IpAddr::V4(destination));
    }

    fn answer_v6_about(
        &mut self,
        tables: &Tables,
        ingress: InterfaceId,
        vrf: VrfId,
        original: &[u8],
        error: icmpv6::Error,
    ) {
        if !icmpv6::may_answer(original, error) {
            return;
        }
        let Some(interface) = tables.interface(ingress) else {
            return;
        };
        let Some(source) = interface.address_v6 else { return };
        let mut packet = [0; LARGEST];
        let Ok(length) = icmpv6::build_error(&mut packet, source.into(), original, error) else {
            return;
        };
        let mut vrf = vrf;
        if vrf != interface.vrf {
            // It turned back at a public end: see IPv4.
            match self
                .engine
                .icmpv6_error(vrf, &mut packet[..length], 0, tables, self.now)
            {
                IcmpVerdict::Translated(way) => vrf = way.vrf,
                _ => return,
            }
        }
        let Ok(destination) = <[u8; 16]>::try_from(&packet[24..40]) else {
            return;
        };
        self.originate(
            tables,
            ingress,
            vrf,
            &packet[..length],
            IpAddr::V6(Ipv6Addr::from(destination)),
        );
    }

    /// Sends an IP packet of the gateway's own.
    fn originate(&mut self, tables: &Tables, ingress: InterfaceId, vrf: VrfId, packet: &[u8], destination: IpAddr) {
        if !self.limiter.take(self.now.0) {
            return self.counters.icmp_limited.add(1);
        }
        let Some(mut mbuf) = self.pool.alloc() else { return };
        // `resume` puts a link header in front of the packet: leave the room that a received one would have had.
        let Some(room) = mbuf.append(usize::from(ETHERNET) + packet.len()) else {
            return;
        };
        room[usize::from(ETHERNET)..].copy_from_slice(packet);
        self.counters.generated.add(1);
        self.resume(
            tables,
            Held {
                own: true,
                mbuf,
                l3: ETHERNET,
                ingress,
                vrf,
                destination,
                hash: 0,
            },
        );
    }
}
