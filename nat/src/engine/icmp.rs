//! ICMP errors about translated packets, in both directions (RFC 5508 section 4, RFC 792).
//!
//! An error quotes the packet that it is about as that packet was on the side where the error was made. The connection
//! is the one whose opposite direction the quoted packet belongs to; the quoted packet is translated back, and the error
//! goes where that opposite direction goes.

use net::checksum::{self, Delta};
use net::{Drop, FragmentPart, RouteKind, V4, VrfId, parse_quoted_v4, parse_v4, protocol};

use super::Engine;
use super::addresses::is_by_address;
use crate::entry::Entry;
use crate::key::FlowKey;
use crate::resolve::{Resolution, Resolver};
use crate::rewrite::Rewrite;
use crate::time::Millis;
use crate::verdict::{IcmpVerdict, Outcome};

/// Octets of an ICMP error before the packet that it quotes.
const HEADER: usize = 8;

impl Engine {
    /// An ICMP error that arrived in `vrf`: `packet` is the whole IP packet, checked as by [`net::parse_v4`].
    ///
    /// If it is about a packet of a connection, the quoted packet, the error's addresses and every checksum are
    /// translated in place. The timers of the connection don't change (RFC 5508 REQ-6 leaves them alone).
    ///
    /// `asked` is the number of workers that were asked before: an error made inside a VPC does not name the owner of its
    /// connection, so that each worker hands it to the next one until all were asked.
    pub fn icmp_error(
        &mut self,
        vrf: VrfId,
        packet: &mut [u8],
        asked: u16,
        resolver: &impl Resolver,
        now: Millis,
    ) -> IcmpVerdict {
        self.clock.tick(now);
        let outer = match parse_v4(packet) {
            Ok(outer) => outer,
            Err(reason) => return IcmpVerdict::Drop(reason),
        };
        if outer.protocol != protocol::ICMP || !is_error(outer.icmp_type) {
            return IcmpVerdict::NotOurs;
        }
        let verdict = match quoted_key(vrf, packet, &outer) {
            Ok((quoted, l4)) => self.translate_error(packet, &outer, &quoted, l4, (asked, resolver)),
            Err(reason) if vrf == VrfId::DEFAULT && self.policy.is_public(outer.destination.into()) => Err(reason),
            Err(_) => Ok(IcmpVerdict::NotOurs),
        };
        verdict.unwrap_or_else(IcmpVerdict::Drop)
    }

    fn translate_error(
        &mut self,
        packet: &mut [u8],
        outer: &V4,
        quoted: &FlowKey,
        quoted_l4: usize,
        (asked, resolver): (u16, &impl Resolver),
    ) -> Result<IcmpVerdict, Drop> {
        let Some(at) = self.lookup(&quoted.reversed()) else {
            return self.unknown_error(outer, quoted, asked, resolver);
        };
        let (l3, l4) = (0, usize::from(outer.l4));
        let total = usize::from(outer.total_length);
        let icmp = packet.get(l4..total).ok_or(Drop::IcmpMalformed)?;
        if !checksum::is_valid(icmp) {
            return Err(Drop::IcmpMalformed);
        }
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
        let rewrite = entry.rewrite;
        let source = if rewrite.source() == entry.key.source() {
            outer.source
        } else {
            rewrite.source()
        };
        let resolution = Resolution {
            next_hop: entry.next_hop,
            vrf: entry.egress_vrf,
            kind: RouteKind::Unicast,
        };
        let back = FlowKey::v4(
            quoted.vrf(),
            quoted.protocol(),
            rewrite.destination(),
            rewrite.source(),
            rewrite.destination_port(),
            rewrite.source_port(),
        );
        let (header, icmp) = packet[l3..total].split_at_mut(l4);
        Rewrite::new(quoted, &back).apply_quoted(&mut icmp[HEADER..], quoted_l4, quoted.protocol());
        icmp[2..4].fill(0);
        let sum = checksum::checksum(icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let delta = Delta::NONE
            .word32(outer.source, source)
            .word32(outer.destination, rewrite.destination());
        let sum = delta.apply(u16::from_be_bytes([header[10], header[11]]));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header[12..16].copy_from_slice(&source.to_be_bytes());
        header[16..20].copy_from_slice(&rewrite.destination().to_be_bytes());
        Ok(IcmpVerdict::Translated(resolution))
    }

    /// An error about no connection of this worker.
    fn unknown_error(
        &mut self,
        outer: &V4,
        quoted: &FlowKey,
        asked: u16,
        resolver: &impl Resolver,
    ) -> Result<IcmpVerdict, Drop> {
        let vrf = quoted.vrf();
        if vrf == VrfId::DEFAULT && !self.policy.is_public(quoted.source().into()) {
            return Ok(IcmpVerdict::NotOurs);
        }
        let about = self.flow_of(&quoted.reversed());
        let owner = if vrf == VrfId::DEFAULT {
            self.owner_outside(&about)
        } else {
            self.owner_inside(&about)
        };
        if let Some(owner) = owner
            && owner != self.slice.worker()
        {
            self.counters.handed_over += 1;
            return Ok(IcmpVerdict::HandOver(owner));
        }
        let leaves = || {
            resolver
                .resolve(vrf, outer.destination, 0)
                .is_ok_and(|way| way.vrf == VrfId::DEFAULT)
        };
        if vrf == VrfId::DEFAULT {
            return Err(Drop::NatNoMapping);
        }
        if self.policy.masquerade(vrf, outer.source.into()).is_none() || !leaves() {
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
fn quoted_key(vrf: VrfId, packet: &[u8], outer: &V4) -> Result<(FlowKey, usize), Drop> {
    if outer.fragment != FragmentPart::Whole {
        return Err(Drop::NatFragment);
    }
    let quote = usize::from(outer.l4) + HEADER;
    let quote = packet
        .get(quote..usize::from(outer.total_length))
        .ok_or(Drop::IcmpMalformed)?;
    let inner = parse_quoted_v4(quote)?;
    let translated = match inner.protocol {
        protocol::TCP | protocol::UDP => true,
        protocol::ICMP => matches!(inner.icmp_type, 0 | 8),
        other => is_by_address(other),
    };
    if inner.fragment == FragmentPart::Later {
        return Err(Drop::NatFragment);
    }
    if !translated {
        return Err(Drop::NatUnsupported);
    }
    let (source_port, destination_port) = (inner.source_port, inner.destination_port);
    let key = FlowKey::v4(
        vrf,
        inner.protocol,
        inner.source,
        inner.destination,
        source_port,
        destination_port,
    );
    Ok((key, usize::from(inner.l4)))
}

/// Destination unreachable, source quench, time exceeded, parameter problem (RFC 792). A redirect is between
/// neighbours and passes no router.
const fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 4 | 11 | 12)
}
