//! Packets that no connection was found for: which NAT rule applies, and the connection that it makes.

use net::{Drop, RouteKind, VrfId, protocol, tcp_flag};

use super::addresses::is_by_address;
use super::{Engine, count_index};
use crate::address::Address;
use crate::connections::{Cold, NONE, Slot};
use crate::entry::{ConnectionState, Entry, EntryRef};
use crate::eviction::Worth;
use crate::flow::Flow;
use crate::mappings::Inside;
use crate::policy::{Filtering, MasqueradeRule};
use crate::ports::{Lease, Subscriber};
use crate::resolve::{Resolution, Resolver, forwarding, resolve};
use crate::rewrite::Rewrite;
use crate::table::Hash;
use crate::time::{Millis, Tick};
use crate::verdict::{EndReason, NewPacket, OffloadState, Verdict};

/// ICMP types (RFC 792).
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// ICMPv6 types (RFC 4443).
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Connections of a queue looked at for one to evict.
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
                    Drop::NatTenantLimit => self.counters.tenant_limited += 1,
                    Drop::NatSubscriberLimit => self.counters.subscriber_limited += 1,
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
        if packet.fragment_later && !is_by_address(packet.protocol) {
            return Err(Drop::NatFragment);
        }
        let flow = packet.flow();
        if let Some(at) = self.find(&flow) {
            return Ok(Verdict::Connection(at));
        }
        if let Some(owner) = self.owner_outside(&flow)
            && owner != self.slice.worker()
        {
            return Ok(Verdict::HandOver(owner));
        }
        let Some((inside, lease)) = self.inside_of(packet)? else {
            return Err(Drop::NatNoMapping);
        };
        self.check_opening(packet)?;
        let reply = Flow {
            vrf: inside.vrf,
            protocol: packet.protocol,
            source: inside.address,
            destination: packet.source,
            source_port: inside.port,
            destination_port: packet.source_port,
        };
        if self.find(&reply).is_some() {
            return Err(Drop::NatNoMapping);
        }
        let inward = self.inward(resolver, inside.vrf, inside.address, packet.flow_hash)?;
        let outward = self.outward(resolver, inside.vrf, packet.source, packet.flow_hash)?;
        self.make_room(inside.vrf, inside.address)?;
        if lease.is_some() && self.mappings.lease_of(&inside) != lease {
            // The connection that made room was the last one of the mapping.
            return Err(Drop::NatNoMapping);
        }
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
            check_translated(packet)?;
            return Ok(Some((inside(vrf, address, destination_port), None)));
        }
        check_translated(packet)?;
        let mapping = self.ports.number_of(destination).and_then(|pool| {
            let inside = self.mappings.inside_of(pool, protocol, destination_port)?;
            Some((inside, self.mappings.lease_of(&inside)?))
        });
        let open = |(inside, lease): &(Inside, Lease)| {
            let rule = self.policy.masquerade(inside.vrf, inside.address);
            (lease.address, lease.port) == (destination, destination_port)
                && !matches!(protocol, protocol::ICMP | protocol::ICMPV6)
                && rule.is_some_and(|(_, rule)| {
                    self.lets_in(rule, lease, packet) && rule.offers_to(inside.address, destination, destination_port)
                })
        };
        Ok(mapping.filter(open).map(|(inside, lease)| (inside, Some(lease))))
    }

    /// True if the source of a packet may open a connection to a mapped port (RFC 4787 section 5).
    fn lets_in(&self, rule: &MasqueradeRule, lease: &Lease, packet: &NewPacket) -> bool {
        match rule.options.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressAndPortDependent => false,
            Filtering::AddressDependent => {
                let outside = (lease.pool, packet.protocol, lease.port);
                // An IPv6 address that is not in the book has no connection at all.
                let short = match packet.source.to_v4() {
                    Some(address) => Some(address),
                    None => self.book.number(packet.source.to_bits()),
                };
                short.is_some_and(|remote| self.mappings.has_met(outside, remote))
            }
        }
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
        let translates = match source.is_v4() {
            true => self.policy.translates(vrf),
            false => self.policy.translates_v6(vrf),
        };
        if !translates {
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
        let no_ports = packet.fragment_later && !is_by_address(protocol);
        if !no_ports {
            let flow = packet.flow();
            if let Some(at) = self.find(&flow) {
                return Ok(Verdict::Connection(at));
            }
            if let Some(owner) = self.owner_inside(&flow)
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
        (peer, target): (VrfId, Address),
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        check_translated(packet)?;
        self.check_opening(packet)?;
        let source = self.policy.static_source(packet.vrf, peer, packet.source);
        let reply = Flow {
            vrf: peer,
            protocol: packet.protocol,
            source: target,
            destination: source.unwrap_or(packet.source),
            source_port: packet.destination_port,
            destination_port: packet.source_port,
        };
        if self.find(&reply).is_some() {
            return Err(Drop::NatNoMapping);
        }
        let there = self.inward(resolver, peer, target, packet.flow_hash)?;
        let back = self.inward(resolver, packet.vrf, packet.source, packet.flow_hash)?;
        self.make_room(packet.vrf, packet.source)?;
        let at = self.create(packet, reply, [there, back], None, resolver);
        Ok(Verdict::Connection(at))
    }

    /// To the fabric, from a host with a public address of its own.
    fn miss_static(
        &mut self,
        packet: &NewPacket,
        outside: Address,
        outward: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        check_translated(packet)?;
        self.check_opening(packet)?;
        let reply = Flow {
            vrf: VrfId::DEFAULT,
            protocol: packet.protocol,
            source: packet.destination,
            destination: outside,
            source_port: packet.destination_port,
            destination_port: packet.source_port,
        };
        if self.find(&reply).is_some() {
            return Err(Drop::NatNoMapping);
        }
        let inward = self.inward(resolver, packet.vrf, packet.source, packet.flow_hash)?;
        self.make_room(packet.vrf, packet.source)?;
        let at = self.create(packet, reply, [outward, inward], None, resolver);
        Ok(Verdict::Connection(at))
    }

    /// Refuses what does not open a connection.
    pub(super) fn check_opening(&self, packet: &NewPacket) -> Result<(), Drop> {
        const CONTROL: u8 = tcp_flag::SYN | tcp_flag::ACK | tcp_flag::FIN | tcp_flag::RST;
        match packet.protocol {
            protocol::TCP => {
                let opens = packet.tcp_flags & CONTROL == tcp_flag::SYN;
                let picks_up = self.policy.picks_up() || self.clock.latest() < self.pick_up_until;
                let picked_up = picks_up && packet.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) == 0;
                if opens || picked_up {
                    Ok(())
                } else {
                    Err(Drop::NatStateInvalid)
                }
            }
            protocol::ICMP if packet.icmp_type != ECHO_REQUEST => Err(Drop::NatNoMapping),
            protocol::ICMPV6 if packet.icmp_type != ECHO_REQUEST_V6 => Err(Drop::NatNoMapping),
            _ => Ok(()),
        }
    }

    /// The way to a host of a VPC: it must not lead out of the VPCs.
    pub(super) fn inward(
        &self,
        resolver: &impl Resolver,
        vrf: VrfId,
        destination: Address,
        flow_hash: u32,
    ) -> Result<Resolution, Drop> {
        let resolution = forwarding(resolve(resolver, vrf, destination, flow_hash)?)?;
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
        destination: Address,
        flow_hash: u32,
    ) -> Result<Resolution, Drop> {
        let resolution = resolve(resolver, vrf, destination, flow_hash)?;
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

    /// Room for one more connection of a host, and within its limits: a full table gives up the least valuable one.
    pub(super) fn make_room(&mut self, vrf: VrfId, address: Address) -> Result<(), Drop> {
        if let Some(limits) = self.policy.limits(vrf) {
            let subscriber = Subscriber { vrf, address };
            let now = self.clock.latest();
            self.meter.check(limits, self.slice.workers(), subscriber, now)?;
        }
        if self.book.is_full() {
            return Err(Drop::NatTableFull);
        }
        if !self.connections.is_full() {
            return Ok(());
        }
        let victim = Worth::EVICTABLE.into_iter().find_map(|worth| self.victim(worth));
        self.end(victim.ok_or(Drop::NatTableFull)?, EndReason::Evicted);
        Ok(())
    }

    /// The oldest connection of a worth that may go. Those found in use since they were queued go to the end of the
    /// queue; after some of them the next one goes all the same. One that the NIC may carry stays: its slot would not be
    /// free.
    fn victim(&mut self, worth: Worth) -> Option<u32> {
        for attempt in 0..SAMPLE {
            let connection = self.queues.oldest(worth)?;
            let seen = self.connections.last_seen(connection);
            let cold = &mut self.connections.cold;
            let Cold { queued, offload, .. } = cold[connection as usize];
            let used = seen > queued && attempt < SAMPLE / 2;
            if !used && !offload.holds_rules() {
                return Some(connection);
            }
            self.queues.leave(cold, connection);
            self.queues.join(cold, connection, worth, seen);
        }
        None
    }

    /// Makes a connection; neither of its tuples is in the table, and there is room.
    #[inline]
    pub(super) fn create(
        &mut self,
        packet: &NewPacket,
        reply: Flow,
        routes: [Resolution; 2],
        lease: Option<Lease>,
        resolver: &impl Resolver,
    ) -> EntryRef {
        let connection = self.prepare(packet, &reply, routes, lease, resolver);
        let hash = self.table.hash(&self.connections.pair(connection)[1].key);
        self.establish(packet, connection, hash, lease)
    }

    /// The first part of [`Engine::create`]: a slot with everything that the connection is to be, which nobody finds yet.
    pub(super) fn prepare(
        &mut self,
        packet: &NewPacket,
        reply: &Flow,
        routes: [Resolution; 2],
        lease: Option<Lease>,
        resolver: &impl Resolver,
    ) -> u32 {
        let original = self.enter_book(&packet.flow());
        let reply = self.enter_book(reply);
        let connection = self.connections.take();
        let stamp = resolver.generation().0 as u32;
        let tick = self.clock.latest();
        let entry = |key, rewrite: Rewrite, route: Resolution| Entry {
            rewrite,
            next_hop: route.next_hop,
            egress_vrf: route.vrf,
            last_seen: tick.0,
            ..Entry::of(key)
        };
        let [there, back] = self.rewrites(&original, &reply);
        *self.connections.pair_mut(connection) = [entry(original, there, routes[0]), entry(reply, back, routes[1])];
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
        self.connections.note_ways(connection, stamp);
        connection
    }

    /// The second part: from here on packets find it. `hash` is that of its reply.
    pub(super) fn establish(
        &mut self,
        packet: &NewPacket,
        connection: u32,
        hash: Hash,
        lease: Option<Lease>,
    ) -> EntryRef {
        if let Some(lease) = lease.filter(|lease| lease.shared) {
            self.mappings.enter(lease, packet.protocol);
            if let Some((outside, remote)) = self.contact_of(connection) {
                self.mappings.meet(outside, remote);
            }
        }
        let original = self.table.hash(&self.connections.pair(connection)[0].key);
        let entries = &self.connections.entries;
        self.table.insert(original, EntryRef::original(connection), entries);
        self.table.insert(hash, EntryRef::reply(connection), entries);
        let tick = self.clock.latest();
        let cold = &mut self.connections.cold;
        self.queues.join(cold, connection, Worth::Unreplied, tick.0);
        let vrf = self.connections.inner_vrf(connection);
        let timers = self.policy.timers(vrf);
        let second = tick.after(timers.idle(packet.protocol, ConnectionState::Unreplied));
        self.wheel
            .arm(&mut self.connections.cold, connection, second.second_up());
        if self.policy.has_limits() {
            self.meter_open(connection, tick);
        }
        self.counters.created += 1;
        self.log_session(connection, None);
        self.counters.states[count_index(packet.protocol)][ConnectionState::Unreplied as usize] += 1;
        EntryRef::original(connection)
    }

    /// Takes back what [`Engine::prepare`] did.
    #[cold]
    pub(super) fn abandon(&mut self, connection: u32) {
        self.leave_book(connection);
        self.connections.give_back(connection);
    }

    /// Counts a connection for whoever has a limit.
    #[inline(never)]
    fn meter_open(&mut self, connection: u32, tick: Tick) {
        let subscriber = self.subscriber(connection);
        if let Some(limits) = self.policy.limits(subscriber.vrf) {
            self.meter.open(limits, self.slice.workers(), subscriber, tick);
            self.connections.cold[connection as usize].counted = true;
        }
    }
}

/// Refuses what cannot be translated: a fragment that does not know the ports of its protocol, ICMP that is no echo, and
/// what [`is_by_address`] leaves out.
pub(super) fn check_translated(packet: &NewPacket) -> Result<(), Drop> {
    let translated = match packet.protocol {
        protocol::TCP | protocol::UDP => true,
        protocol::ICMP if packet.source.is_v4() => {
            packet.fragment_later || matches!(packet.icmp_type, ECHO_REQUEST | ECHO_REPLY)
        }
        protocol::ICMPV6 if !packet.source.is_v4() => {
            packet.fragment_later || matches!(packet.icmp_type, ECHO_REQUEST_V6 | ECHO_REPLY_V6)
        }
        protocol::ICMP | protocol::ICMPV6 => false,
        other => is_by_address(other),
    };
    match translated {
        false => Err(Drop::NatUnsupported),
        true if packet.fragment_later && !is_by_address(packet.protocol) => Err(Drop::NatFragment),
        true => Ok(()),
    }
}
