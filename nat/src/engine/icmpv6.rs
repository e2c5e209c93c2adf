//! ICMPv6 errors about translated IPv6 packets, in both directions: as `icmp.rs` for IPv4 (RFC 4443).

use net::checksum::Sum;
use net::{Drop, FragmentPart, RouteKind, V6, VrfId, parse_quoted_v6, parse_v6, protocol};

use super::Engine;
use super::addresses::is_by_address;
use crate::address::Address;
use crate::entry::{Entry, EntryRef};
use crate::flow::Flow;
use crate::resolve::{Resolution, Resolver, resolve};
use crate::rewrite_v6::RewriteV6;
use crate::time::Millis;
use crate::verdict::{IcmpVerdict, Outcome};

/// Octets of an ICMPv6 error before the packet that it quotes.
const HEADER: usize = 8;
/// Octets of an IPv6 header without extensions.
const FIXED: usize = 40;

impl Engine {
    /// An ICMPv6 error that arrived in `vrf`: as [`Engine::icmp_error`] for IPv4.
    pub fn icmpv6_error(
        &mut self,
        vrf: VrfId,
        packet: &mut [u8],
        asked: u16,
        resolver: &impl Resolver,
        now: Millis,
    ) -> IcmpVerdict {
        self.clock.tick(now);
        let outer = match parse_v6(packet) {
            Ok(outer) => outer,
            Err(reason) => return IcmpVerdict::Drop(reason),
        };
        if outer.protocol != protocol::ICMPV6 || !is_error(outer.icmp_type) {
            return IcmpVerdict::NotOurs;
        }
        let verdict = match quoted_flow(vrf, packet, &outer) {
            Ok((quoted, l4)) => self.translate_error_v6(packet, &outer, &quoted, l4, (asked, resolver)),
            Err(reason) if vrf == VrfId::DEFAULT && self.policy.is_public(outer.destination.into()) => Err(reason),
            Err(_) => Ok(IcmpVerdict::NotOurs),
        };
        verdict.unwrap_or_else(IcmpVerdict::Drop)
    }

    fn translate_error_v6(
        &mut self,
        packet: &mut [u8],
        outer: &V6,
        quoted: &Flow,
        quoted_l4: usize,
        (asked, resolver): (u16, &impl Resolver),
    ) -> Result<IcmpVerdict, Drop> {
        let Some(at) = self.find(&quoted.reversed()) else {
            return self.unknown_error_v6(outer, quoted, asked, resolver);
        };
        let (l4, total) = (usize::from(outer.l4), FIXED + usize::from(outer.payload_length));
        let icmp = packet.get(l4..total).ok_or(Drop::IcmpMalformed)?;
        let pseudo = |source: u128, destination: u128| {
            Sum::pseudo_v6(source, destination, protocol::ICMPV6, (total - l4) as u32)
        };
        if !pseudo(outer.source, outer.destination).bytes(icmp).is_valid() {
            return Err(Drop::IcmpMalformed);
        }
        let resolution = self.way_of_error(at, resolver)?;
        let before = self.flow(at);
        let after = self.translated(at);
        // An error of the other end itself comes from where that end is seen; one of a router in between keeps its source.
        let source = match after.source == before.source {
            true => Address::v6(outer.source),
            false => after.source,
        };
        let (header, icmp) = packet[..total].split_at_mut(l4);
        RewriteV6::new(quoted, &after.reversed()).apply_quoted(&mut icmp[HEADER..], quoted_l4, quoted.protocol);
        header[8..24].copy_from_slice(&source.to_bits().to_be_bytes());
        header[24..40].copy_from_slice(&after.destination.to_bits().to_be_bytes());
        icmp[2..4].fill(0);
        let sum = pseudo(source.to_bits(), after.destination.to_bits())
            .bytes(icmp)
            .checksum();
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        Ok(IcmpVerdict::Translated(resolution))
    }

    /// Where an error goes that belongs to this direction of a connection.
    pub(super) fn way_of_error(&mut self, at: EntryRef, resolver: &impl Resolver) -> Result<Resolution, Drop> {
        if !self.is_current(at, resolver.generation())
            && let Outcome::Ended(reason) = self.revalidate_one(at, resolver)
        {
            return Err(reason);
        }
        let entry = self.entry(at);
        if entry.flags & Entry::UNROUTED != 0 {
            let reason = self.connections.cold[at.connection() as usize].unrouted;
            return Err(reason.unwrap_or(Drop::NoRoute));
        }
        Ok(Resolution {
            next_hop: entry.next_hop,
            vrf: entry.egress_vrf,
            kind: RouteKind::Unicast,
        })
    }

    /// An error about no connection of this worker.
    fn unknown_error_v6(
        &mut self,
        outer: &V6,
        quoted: &Flow,
        asked: u16,
        resolver: &impl Resolver,
    ) -> Result<IcmpVerdict, Drop> {
        let vrf = quoted.vrf;
        if vrf == VrfId::DEFAULT && !self.policy.is_public(quoted.source) {
            return Ok(IcmpVerdict::NotOurs);
        }
        let about = quoted.reversed();
        let owner = match vrf {
            VrfId::DEFAULT => self.owner_outside(&about),
            _ => self.owner_inside(&about),
        };
        if let Some(owner) = owner
            && owner != self.slice.worker()
        {
            self.counters.handed_over += 1;
            return Ok(IcmpVerdict::HandOver(owner));
        }
        if vrf == VrfId::DEFAULT {
            return Err(Drop::NatNoMapping);
        }
        let destination = Address::v6(outer.destination);
        let leaves = resolve(resolver, vrf, destination, 0).is_ok_and(|way| way.vrf == VrfId::DEFAULT);
        if self.policy.masquerade(vrf, outer.source.into()).is_none() || !leaves {
            return Ok(IcmpVerdict::NotOurs);
        }
        if owner.is_none() && asked + 1 < self.slice.workers() {
            self.counters.handed_over += 1;
            return Ok(IcmpVerdict::HandOver((self.slice.worker() + 1) % self.slice.workers()));
        }
        Err(Drop::NatNoMapping)
    }
}

/// What the quoted packet would be found by, and where its layer 4 begins in the quote.
fn quoted_flow(vrf: VrfId, packet: &[u8], outer: &V6) -> Result<(Flow, usize), Drop> {
    if outer.fragment != FragmentPart::Whole {
        return Err(Drop::NatFragment);
    }
    let end = FIXED + usize::from(outer.payload_length);
    let quote = packet.get(usize::from(outer.l4) + HEADER..end);
    let inner = parse_quoted_v6(quote.ok_or(Drop::IcmpMalformed)?)?;
    let translated = match inner.protocol {
        protocol::TCP | protocol::UDP => true,
        protocol::ICMPV6 => matches!(inner.icmp_type, 128 | 129),
        other => is_by_address(other),
    };
    if inner.fragment == FragmentPart::Later {
        return Err(Drop::NatFragment);
    }
    if !translated || inner.is_martian() {
        return Err(Drop::NatUnsupported);
    }
    let flow = Flow {
        vrf,
        protocol: inner.protocol,
        source: inner.source.into(),
        destination: inner.destination.into(),
        source_port: inner.source_port,
        destination_port: inner.destination_port,
    };
    Ok((flow, usize::from(inner.l4)))
}

/// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
const fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 1..=4)
}
