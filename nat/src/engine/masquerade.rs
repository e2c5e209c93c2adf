//! Masquerade: a public port for a new connection, as its pool has it chosen.

use net::{Drop, RouteKind, VrfId, protocol};

use super::Engine;
use super::addresses::is_by_address;
use super::create::check_translated;
use crate::flow::Flow;
use crate::mappings::Inside;
use crate::policy::Mapping;
use crate::ports::{Lease, Subscriber, Want};
use crate::resolve::{Resolution, Resolver};
use crate::verdict::{NewPacket, Verdict};

/// Public ports tried when the reply's tuple belongs to an older connection of a port forward.
const ATTEMPTS: usize = 4;

/// Ports of a full pool tried for one that can be overloaded.
const OVERLOADS: usize = 64;

impl Engine {
    /// To the fabric, from a host that shares a public address.
    pub(super) fn miss_masquerade(
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
        check_translated(packet)?;
        if is_by_address(protocol) {
            return self.miss_by_address(packet, rule, outward, resolver);
        }
        self.check_opening(packet)?;
        let inward = self.inward(resolver, vrf, packet.source, packet.flow_hash)?;
        self.make_room(packet.vrf, packet.source)?;
        for _ in 0..ATTEMPTS {
            let lease = self.lease(rule, packet)?;
            let remote_port = match protocol {
                protocol::ICMP | protocol::ICMPV6 => lease.port,
                _ => packet.destination_port,
            };
            let reply = Flow {
                vrf: VrfId::DEFAULT,
                protocol,
                source: packet.destination,
                destination: lease.address,
                source_port: remote_port,
                destination_port: lease.port,
            };
            // What says whether somebody has this tuple comes from memory while the connection is written.
            let hash = reply.key_v4().map(|key| self.table.expect(&key));
            let connection = self.prepare(packet, &reply, [outward, inward], Some(lease), resolver);
            let key = self.connections.pair(connection)[1].key;
            let hash = hash.unwrap_or_else(|| self.table.hash(&key));
            if self.table.get_hashed(hash, &key, &self.connections.entries).is_none() {
                let at = self.establish(packet, connection, hash, Some(lease));
                return Ok(Verdict::Connection(at));
            }
            self.abandon(connection);
            self.give_up(lease, protocol);
        }
        Err(Drop::NatPortsExhausted)
    }

    /// A public port for a packet of the masquerade rule with this index: that of its mapping, or one that is free.
    #[inline]
    fn lease(&mut self, rule: usize, packet: &NewPacket) -> Result<Lease, Drop> {
        let NewPacket {
            vrf,
            protocol,
            source,
            source_port,
            ..
        } = *packet;
        let policy = &self.policy;
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
        let Some(lease) = self.allocate(want, packet) else {
            let overloaded = (mapping == Mapping::Overloading).then(|| self.overload(packet, want));
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
    fn overload(&mut self, packet: &NewPacket, want: Want) -> Option<Lease> {
        if matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6) {
            // Its identifier is both ends' port: there is nothing else to tell two echoes by.
            return None;
        }
        for _ in 0..OVERLOADS {
            let masquerade = &self.policy.rules()[want.rule];
            let lease = self.ports.guess(masquerade, want, &mut self.random)?;
            let reply = Flow {
                vrf: VrfId::DEFAULT,
                protocol: packet.protocol,
                source: packet.destination,
                destination: lease.address,
                source_port: packet.destination_port,
                destination_port: lease.port,
            };
            if self.mappings.may_overload(lease.pool, packet.protocol, lease.port) && self.find(&reply).is_none() {
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
}
