//! Packets that no connection was found for: which NAT rule applies, and the connection that it makes.

use net::{Drop, RouteKind, VrfId, protocol, tcp_flag};

use super::addresses::is_by_address;
use super::{Engine, count_index};
use crate::connections::{Cold, NONE, Slot};
use crate::entry::{ConnectionState, Entry, EntryRef};
use crate::eviction::Worth;
use crate::key::FlowKey;
use crate::ports::Lease;

use crate::resolve::{Resolution, Resolver, forwarding};
use crate::rewrite::Rewrite;
use crate::time::Millis;
use crate::verdict::{EndReason, NewPacket, OffloadState, Verdict};

/// ICMP types (RFC 792).
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Public ports tried when the reply's tuple belongs to an older connection of a port forward.
const ATTEMPTS: usize = 4;

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
                    Drop::NatTableFull => self.counters.table_full += 1,
                    _ => {}
                }
                Verdict::Drop(reason)
            }
        }
    }

    /// From the fabric: to a port forward, to a pool address, or in transit.
    fn miss_outside(
        &mut self,
        packet: &NewPacket,
        resolution: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        let NewPacket {
            protocol,
            source,
            destination,
            source_port,
            destination_port,
            ..
        } = *packet;
        if !self.policy.is_public(destination) {
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
        let key = packet.key();
        if let Some(at) = self.lookup(&key) {
            return Ok(Verdict::Connection(at));
        }
        if let Some(target) = self.policy.forward(destination, protocol, destination_port) {
            let owner = self.slice.client_owner(source, source_port, protocol);
            if owner != self.slice.worker() {
                return Ok(Verdict::HandOver(owner));
            }
            self.check_opening(packet)?;
            let reply = FlowKey::v4(target.vrf, protocol, target.address, source, target.port, source_port);
            if self.lookup(&reply).is_some() {
                return Err(Drop::NatNoMapping);
            }
            let inward = self.inward(resolver, target.vrf, target.address, packet.flow_hash)?;
            let outward = self.outward(resolver, target.vrf, source, packet.flow_hash)?;
            self.make_room()?;
            return Ok(Verdict::Connection(self.create(
                packet,
                reply,
                [inward, outward],
                None,
                resolver,
            )));
        }
        if !is_translated(packet) {
            return self.miss_outside_by_address(packet);
        }
        let owner = self.slice.owner(destination_port);
        if self.policy.is_pool(destination) && owner != self.slice.worker() {
            return Ok(Verdict::HandOver(owner));
        }
        Err(Drop::NatNoMapping)
    }

    /// From a VPC: masqueraded when it leaves for the fabric.
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
            source_port,
            destination,
            destination_port,
            ..
        } = *packet;
        if !self.policy.translates(vrf) || resolution.vrf != VrfId::DEFAULT {
            return Ok(Verdict::Forward);
        }
        match resolution.kind {
            RouteKind::Unicast => {}
            RouteKind::Nat => return Err(Drop::NatNoMapping),
            _ => return Ok(Verdict::Forward),
        }
        if !packet.fragment_later {
            if let Some(at) = self.lookup(&packet.key()) {
                return Ok(Verdict::Connection(at));
            }
            if self.policy.is_target(vrf, source, protocol, source_port) {
                let owner = self.slice.client_owner(destination, destination_port, protocol);
                if owner != self.slice.worker() {
                    return Ok(Verdict::HandOver(owner));
                }
            }
        }
        let Some((rule, range)) = self
            .policy
            .masquerade(vrf, source)
            .map(|(index, rule)| (index, rule.ports))
        else {
            return Ok(Verdict::Forward);
        };
        if packet.fragment_later && !is_by_address(packet.protocol) {
            return Err(Drop::NatFragment);
        }
        if !is_translated(packet) {
            return self.miss_by_address(packet, rule, resolution, resolver);
        }
        self.check_opening(packet)?;
        let inward = self.inward(resolver, vrf, source, packet.flow_hash)?;
        self.make_room()?;
        for _ in 0..ATTEMPTS {
            let lease = self.allocate(rule, range, packet).ok_or(Drop::NatPortsExhausted)?;
            let remote_port = if protocol == protocol::ICMP {
                lease.port
            } else {
                destination_port
            };
            let reply = FlowKey::v4(
                VrfId::DEFAULT,
                protocol,
                destination,
                lease.address,
                remote_port,
                lease.port,
            );
            if self.lookup(&reply).is_none() {
                let at = self.create(packet, reply, [resolution, inward], Some(lease), resolver);
                return Ok(Verdict::Connection(at));
            }
            self.ports.release(lease.pool, protocol, lease.port);
        }
        Err(Drop::NatPortsExhausted)
    }

    /// Refuses what does not open a connection.
    fn check_opening(&self, packet: &NewPacket) -> Result<(), Drop> {
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

    /// The way from a VPC to the fabric: it must lead there.
    fn outward(
        &self,
        resolver: &impl Resolver,
        vrf: VrfId,
        destination: u32,
        flow_hash: u32,
    ) -> Result<Resolution, Drop> {
        let resolution = forwarding(resolver.resolve(vrf, destination, flow_hash)?)?;
        if resolution.vrf == VrfId::DEFAULT {
            Ok(resolution)
        } else {
            Err(Drop::NoRoute)
        }
    }

    /// Room for one more connection: a full table gives up the least valuable one.
    pub(super) fn make_room(&mut self) -> Result<(), Drop> {
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
    pub(super) fn create(
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
            last_seen: tick.0,
            ..Entry::of(key)
        };
        let [there, back] = Rewrite::both(&original, &reply);
        *self.connections.pair_mut(connection) = [entry(original, there, routes[0]), entry(reply, back, routes[1])];
        let cold = &mut self.connections.cold[connection as usize];
        *cold = Cold {
            epoch: cold.epoch,
            flow_hash: packet.flow_hash,
            pool: lease.map_or(NONE, |l| l.pool),
            port: lease.map_or(0, |l| l.port),
            policy: self.policy_number,
            slot: Slot::Live,
            offload: OffloadState::None,
            ..Cold::default()
        };
        self.connections.note_ways(connection, stamp);
        for (key, at) in [
            (original, EntryRef::original(connection)),
            (reply, EntryRef::reply(connection)),
        ] {
            self.table.insert(&key, at, &self.connections.entries);
        }
        self.queues
            .join(&mut self.connections.cold, connection, Worth::Unreplied, tick.0);
        let second = self.deadline(connection).second_up();
        self.wheel.arm(&mut self.connections.cold, connection, second);
        self.counters.created += 1;
        self.counters.states[count_index(packet.protocol)][ConnectionState::Unreplied as usize] += 1;
        EntryRef::original(connection)
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
