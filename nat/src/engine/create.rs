//! Packets that no connection was found for: which NAT rule applies, and the connection that it makes.

use std::sync::Arc;

use net::{Drop, RouteKind, VrfId, protocol, tcp_flag};

use super::Engine;
use crate::connections::{Cold, NONE, Slot};
use crate::entry::{ConnectionState, Entry, EntryRef};
use crate::key::FlowKey;
use crate::mappings::Inside;
use crate::policy::{Mapping, MasqueradeRule};
use crate::ports::{Lease, Subscriber, Want, protocol_index};
use crate::resolve::{Resolution, Resolver, forwarding};
use crate::rewrite::Rewrite;
use crate::time::Millis;
use crate::verdict::{EndReason, NewPacket, OffloadState, Verdict};

/// ICMP types (RFC 792).
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Public ports tried when the reply's tuple belongs to an older connection of a port forward.
const ATTEMPTS: usize = 4;

/// Ports of a full pool tried for one that can be overloaded.
const OVERLOADS: usize = 64;

/// Connections looked at for one to evict.
const SAMPLE: u32 = 16;

impl Engine {
    /// A packet that no connection was found for; `resolution` is that of its destination in its VRF.
    ///
    /// Call [`Engine::hit`] on the connection that comes back, as for any other packet.
    pub fn miss(
        &mut self,
        packet: &NewPacket,
        resolution: Resolution,
        resolver: &impl Resolver,
        now: Millis,
    ) -> Verdict {
        self.clock.tick(now);
        let verdict = if packet.vrf == VrfId::DEFAULT {
            self.miss_outside(packet, resolution, resolver)
        } else {
            self.miss_inside(packet, resolution, resolver)
        };
        match verdict {
            Ok(Verdict::HandOver(worker)) => {
                self.counters.handed_over += 1;
                Verdict::HandOver(worker)
            }
            Ok(verdict) => verdict,
            Err(reason) => {
                match reason {
                    Drop::NatPortsExhausted => self.counters.ports_exhausted += 1,
                    Drop::NatTableFull => self.counters.table_full += 1,
                    _ => {}
                }
                Verdict::Drop(reason)
            }
        }
    }

    /// From the fabric, or from a VPC behind its own translation: to a port forward, static NAT, a mapping, or in transit.
    fn miss_outside(
        &mut self,
        packet: &NewPacket,
        resolution: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        if !self.policy.is_public(packet.destination) {
            let to_nat = resolution.kind == RouteKind::Nat;
            return if to_nat {
                Err(Drop::NatNoMapping)
            } else {
                Ok(Verdict::Forward)
            };
        }
        if packet.fragment_later {
            return Err(Drop::NatFragment);
        }
        let key = packet.key();
        if let Some(at) = self.lookup(&key) {
            return Ok(Verdict::Connection(at));
        }
        if let Some(owner) = self.owner_outside(&key)
            && owner != self.slice.worker()
        {
            return Ok(Verdict::HandOver(owner));
        }
        let Some((inside, lease)) = self.inside_of(packet)? else {
            return Err(Drop::NatNoMapping);
        };
        self.check_opening(packet)?;
        let reply = FlowKey::v4(
            inside.vrf,
            packet.protocol,
            inside.address,
            packet.source,
            inside.port,
            packet.source_port,
        );
        if self.lookup(&reply).is_some() {
            return Err(Drop::NatNoMapping);
        }
        let inward = self.inward(resolver, inside.vrf, inside.address, packet.flow_hash)?;
        let outward = self.outward(resolver, inside.vrf, packet.source, packet.flow_hash)?;
        self.make_room()?;
        let at = self.create(packet, reply, [inward, outward], lease, resolver);
        Ok(Verdict::Connection(at))
    }

    /// Where a public end leads, for whoever may open a connection to it; with the port of a mapping if it is one.
    fn inside_of(&self, packet: &NewPacket) -> Result<Option<(Inside, Option<Lease>)>, Drop> {
        let NewPacket {
            protocol,
            destination,
            destination_port,
            ..
        } = *packet;
        let inside = |vrf, address, port| Inside {
            vrf,
            protocol,
            address,
            port,
        };
        let client = (packet.source, packet.source_port);
        if let Some(to) = self.policy.forward(destination, protocol, destination_port, client) {
            return Ok(Some((inside(to.vrf, to.address, to.port), None)));
        }
        if let Some((vrf, address)) = self.policy.static_target(VrfId::DEFAULT, destination) {
            return if is_translated_alone(packet) {
                Ok(Some((inside(vrf, address, destination_port), None)))
            } else {
                Err(Drop::NatUnsupported)
            };
        }
        if !is_translated(packet) {
            return Err(Drop::NatUnsupported);
        }
        let mapping = self.ports.number_of(destination).and_then(|pool| {
            let inside = self.mappings.inside_of(pool, protocol, destination_port)?;
            Some((inside, self.mappings.lease_of(&inside)?))
        });
        let open = |(inside, lease): &(Inside, Lease)| {
            let rule = self.policy.masquerade(inside.vrf, inside.address);
            (lease.address, lease.port) == (destination, destination_port)
                && protocol != protocol::ICMP
                && rule.is_some_and(|(_, rule)| {
                    rule.lets_in() && rule.offers_to(inside.address, destination, destination_port)
                })
        };
        Ok(mapping.filter(open).map(|(inside, lease)| (inside, Some(lease))))
    }

    /// From a VPC: translated statically or masqueraded when it leaves for the fabric, and when static NAT shows it to
    /// another VPC.
    fn miss_inside(
        &mut self,
        packet: &NewPacket,
        resolution: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        let NewPacket {
            vrf,
            protocol,
            source,
            destination,
            destination_port,
            ..
        } = *packet;
        if !self.policy.translates(vrf) {
            return Ok(Verdict::Forward);
        }
        let peer = self.policy.static_target(vrf, destination);
        if peer.is_none() {
            if resolution.vrf != VrfId::DEFAULT {
                return Ok(Verdict::Forward);
            }
            match resolution.kind {
                RouteKind::Unicast => {}
                // It comes back as from the fabric, or answers what came so.
                RouteKind::Nat if self.policy.is_public(destination) => {}
                RouteKind::Nat => return Err(Drop::NatNoMapping),
                _ => return Ok(Verdict::Forward),
            }
        }
        if !packet.fragment_later {
            let key = packet.key();
            if let Some(at) = self.lookup(&key) {
                return Ok(Verdict::Connection(at));
            }
            if let Some(owner) = self.owner_inside(&key)
                && owner != self.slice.worker()
            {
                return Ok(Verdict::HandOver(owner));
            }
        }
        if let Some(peer) = peer {
            return self.miss_peer(packet, peer, resolver);
        }
        if resolution.kind == RouteKind::Nat && !self.policy.leads_back(destination, protocol, destination_port) {
            return Err(Drop::NatNoMapping);
        }
        if let Some(outside) = self.policy.static_source(vrf, VrfId::DEFAULT, source) {
            return self.miss_static(packet, outside, resolution, resolver);
        }
        self.miss_masquerade(packet, resolution, resolver)
    }

    /// To a host of another VPC, whose address static NAT made for this one.
    fn miss_peer(
        &mut self,
        packet: &NewPacket,
        (peer, target): (VrfId, u32),
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        if packet.fragment_later {
            return Err(Drop::NatFragment);
        }
        if !is_translated_alone(packet) {
            return Err(Drop::NatUnsupported);
        }
        self.check_opening(packet)?;
        let source = self.policy.static_source(packet.vrf, peer, packet.source);
        let reply = FlowKey::v4(
            peer,
            packet.protocol,
            target,
            source.unwrap_or(packet.source),
            packet.destination_port,
            packet.source_port,
        );
        if self.lookup(&reply).is_some() {
            return Err(Drop::NatNoMapping);
        }
        let there = self.inward(resolver, peer, target, packet.flow_hash)?;
        let back = self.inward(resolver, packet.vrf, packet.source, packet.flow_hash)?;
        self.make_room()?;
        let at = self.create(packet, reply, [there, back], None, resolver);
        Ok(Verdict::Connection(at))
    }

    /// To the fabric, from a host with a public address of its own.
    fn miss_static(
        &mut self,
        packet: &NewPacket,
        outside: u32,
        outward: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        if packet.fragment_later {
            return Err(Drop::NatFragment);
        }
        if !is_translated_alone(packet) {
            return Err(Drop::NatUnsupported);
        }
        self.check_opening(packet)?;
        let reply = FlowKey::v4(
            VrfId::DEFAULT,
            packet.protocol,
            packet.destination,
            outside,
            packet.destination_port,
            packet.source_port,
        );
        if self.lookup(&reply).is_some() {
            return Err(Drop::NatNoMapping);
        }
        let inward = self.inward(resolver, packet.vrf, packet.source, packet.flow_hash)?;
        self.make_room()?;
        let at = self.create(packet, reply, [outward, inward], None, resolver);
        Ok(Verdict::Connection(at))
    }

    /// To the fabric, from a host that shares a public address.
    fn miss_masquerade(
        &mut self,
        packet: &NewPacket,
        outward: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        let (vrf, protocol) = (packet.vrf, packet.protocol);
        let Some((rule, _)) = self.policy.masquerade(vrf, packet.source) else {
            return if outward.kind == RouteKind::Nat {
                Err(Drop::NatNoMapping)
            } else {
                Ok(Verdict::Forward)
            };
        };
        if packet.fragment_later {
            return Err(Drop::NatFragment);
        }
        if !is_translated(packet) {
            return Err(Drop::NatUnsupported);
        }
        self.check_opening(packet)?;
        let inward = self.inward(resolver, vrf, packet.source, packet.flow_hash)?;
        self.make_room()?;
        for _ in 0..ATTEMPTS {
            let lease = self.lease(rule, packet)?;
            let remote_port = if protocol == protocol::ICMP {
                lease.port
            } else {
                packet.destination_port
            };
            let reply = FlowKey::v4(
                VrfId::DEFAULT,
                protocol,
                packet.destination,
                lease.address,
                remote_port,
                lease.port,
            );
            if self.lookup(&reply).is_none() {
                let at = self.create(packet, reply, [outward, inward], Some(lease), resolver);
                return Ok(Verdict::Connection(at));
            }
            self.give_up(lease, protocol);
        }
        Err(Drop::NatPortsExhausted)
    }

    /// A public port for a packet of the masquerade rule with this index: that of its mapping, or one that is free.
    fn lease(&mut self, rule: usize, packet: &NewPacket) -> Result<Lease, Drop> {
        let NewPacket {
            vrf,
            protocol,
            source,
            source_port,
            ..
        } = *packet;
        let policy = Arc::clone(&self.policy);
        let masquerade = &policy.rules()[rule];
        let mapping = masquerade.options.mapping;
        let inside = Inside {
            vrf,
            protocol,
            address: source,
            port: source_port,
        };
        if mapping == Mapping::EndpointIndependent
            && let Some(lease) = self.mappings.lease_of(&inside)
            && masquerade.offers_to(source, lease.address, lease.port)
            && !policy.is_forwarded(lease.address, protocol, lease.port)
        {
            return Ok(lease);
        }
        let want = Want {
            rule,
            subscriber: Subscriber { vrf, address: source },
            protocol,
            port: source_port,
        };
        let now = self.clock.latest();
        let Some(lease) = self.ports.allocate(masquerade, want, now, &mut self.random) else {
            let overloaded = (mapping == Mapping::Overloading).then(|| self.overload(masquerade, packet, want));
            return overloaded.flatten().ok_or(Drop::NatPortsExhausted);
        };
        let lease = Lease {
            shared: mapping != Mapping::PerConnection,
            ..lease
        };
        match mapping {
            Mapping::PerConnection => {}
            Mapping::EndpointIndependent => self.mappings.insert(inside, lease),
            Mapping::Overloading => self.mappings.insert_overloaded(lease, protocol),
        }
        Ok(lease)
    }

    /// A port that another connection has, and that nobody has to the end that the packet goes to.
    fn overload(&mut self, masquerade: &MasqueradeRule, packet: &NewPacket, want: Want) -> Option<Lease> {
        if packet.protocol == protocol::ICMP {
            // Its identifier is both ends' port: there is nothing else to tell two echoes by.
            return None;
        }
        for _ in 0..OVERLOADS {
            let lease = self.ports.guess(masquerade, want, &mut self.random)?;
            let reply = FlowKey::v4(
                VrfId::DEFAULT,
                packet.protocol,
                packet.destination,
                lease.address,
                packet.destination_port,
                lease.port,
            );
            if self.mappings.may_overload(lease.pool, packet.protocol, lease.port) && self.lookup(&reply).is_none() {
                return Some(Lease { shared: true, ..lease });
            }
        }
        None
    }

    /// Gives back a port that no connection was made with.
    fn give_up(&mut self, lease: Lease, protocol: u8) {
        if !lease.shared || self.mappings.leave_unused(lease.pool, protocol, lease.port) {
            self.ports
                .release(lease.pool, protocol, lease.port, self.clock.latest());
        }
    }

    /// Refuses what does not open a connection.
    fn check_opening(&self, packet: &NewPacket) -> Result<(), Drop> {
        const CONTROL: u8 = tcp_flag::SYN | tcp_flag::ACK | tcp_flag::FIN | tcp_flag::RST;
        match packet.protocol {
            protocol::TCP => {
                let opens = packet.tcp_flags & CONTROL == tcp_flag::SYN;
                let picked_up = self.policy.picks_up() && packet.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) == 0;
                if opens || picked_up {
                    Ok(())
                } else {
                    Err(Drop::NatStateInvalid)
                }
            }
            protocol::ICMP if packet.icmp_type != ECHO_REQUEST => Err(Drop::NatNoMapping),
            _ => Ok(()),
        }
    }

    /// The way to a host of a VPC: it must not lead out of the VPCs.
    pub(super) fn inward(
        &self,
        resolver: &impl Resolver,
        vrf: VrfId,
        destination: u32,
        flow_hash: u32,
    ) -> Result<Resolution, Drop> {
        let resolution = forwarding(resolver.resolve(vrf, destination, flow_hash)?)?;
        if resolution.vrf == VrfId::DEFAULT {
            Err(Drop::NoRoute)
        } else {
            Ok(resolution)
        }
    }

    /// The way from a VPC to the fabric: it must lead there. It may lead to a public end, and from there into a VPC again.
    pub(super) fn outward(
        &self,
        resolver: &impl Resolver,
        vrf: VrfId,
        destination: u32,
        flow_hash: u32,
    ) -> Result<Resolution, Drop> {
        let resolution = resolver.resolve(vrf, destination, flow_hash)?;
        let resolution = match resolution.kind {
            RouteKind::Nat => resolution,
            _ => forwarding(resolution)?,
        };
        if resolution.vrf == VrfId::DEFAULT {
            Ok(resolution)
        } else {
            Err(Drop::NoRoute)
        }
    }

    /// Room for one more connection: a full table gives up the longest silent one of some that nobody ever answered.
    fn make_room(&mut self) -> Result<(), Drop> {
        if !self.connections.is_full() {
            return Ok(());
        }
        let slots = self.connections.slots();
        let mut victim = None;
        for _ in 0..SAMPLE {
            let mut connection = self.random.below(slots);
            // Only the slots held back can be free.
            for _ in 0..EntryRef::QUARANTINE {
                if self.connections.cold[connection as usize].slot != Slot::Free {
                    break;
                }
                connection = if connection + 1 < slots { connection + 1 } else { 0 };
            }
            let cold = &self.connections.cold[connection as usize];
            let unreplied = self.connections.pair(connection)[0].state == ConnectionState::Unreplied;
            if cold.slot == Slot::Live && unreplied && !cold.offload.holds_rules() {
                let candidate = (self.connections.last_seen(connection), connection);
                victim = Some(victim.map_or(candidate, |v: (u32, u32)| v.min(candidate)));
            }
        }
        let (_, connection) = victim.ok_or(Drop::NatTableFull)?;
        self.end(connection, EndReason::Evicted);
        Ok(())
    }

    /// Makes a connection; neither of its tuples is in the table, and there is room.
    fn create(
        &mut self,
        packet: &NewPacket,
        reply: FlowKey,
        routes: [Resolution; 2],
        lease: Option<Lease>,
        resolver: &impl Resolver,
    ) -> EntryRef {
        let original = packet.key();
        let connection = self.connections.take();
        let stamp = resolver.generation().0 as u32;
        let tick = self.clock.latest();
        let entry = |key: FlowKey, rewrite: Rewrite, route: Resolution| Entry {
            rewrite,
            next_hop: route.next_hop,
            egress_vrf: route.vrf,
            stamp,
            last_seen: tick.0,
            ..Entry::of(key)
        };
        let [there, back] = Rewrite::both(&original, &reply);
        *self.connections.pair_mut(connection) = [entry(original, there, routes[0]), entry(reply, back, routes[1])];
        self.connections.stamps[connection as usize] = stamp;
        let cold = &mut self.connections.cold[connection as usize];
        *cold = Cold {
            epoch: cold.epoch,
            flow_hash: packet.flow_hash,
            pool: lease.map_or(NONE, |l| l.pool),
            port: lease.map_or(0, |l| l.port),
            shared: lease.is_some_and(|l| l.shared),
            policy: self.policy_number,
            slot: Slot::Live,
            offload: OffloadState::None,
            ..Cold::default()
        };
        if let Some(lease) = lease.filter(|lease| lease.shared) {
            self.mappings.enter(lease, packet.protocol);
        }
        self.table.insert(&original, EntryRef::original(connection));
        self.table.insert(&reply, EntryRef::reply(connection));
        let second = self.deadline(connection).second_up();
        self.wheel.arm(&mut self.connections.cold, connection, second);
        self.counters.created += 1;
        self.counters.states[protocol_index(packet.protocol)][ConnectionState::Unreplied as usize] += 1;
        EntryRef::original(connection)
    }
}

/// True if a packet can be translated by its addresses alone: any but one whose checksum covers them and is not known
/// here, and ICMP that is no echo.
fn is_translated_alone(packet: &NewPacket) -> bool {
    const DCCP: u8 = 33;
    const UDP_LITE: u8 = 136;
    match packet.protocol {
        protocol::ICMP => is_translated(packet),
        DCCP | UDP_LITE => false,
        _ => true,
    }
}

/// True for TCP, UDP and ICMP echo.
fn is_translated(packet: &NewPacket) -> bool {
    match packet.protocol {
        protocol::TCP | protocol::UDP => true,
        protocol::ICMP => matches!(packet.icmp_type, ECHO_REQUEST | ECHO_REPLY),
        _ => false,
    }
}
