//! Connections of an earlier process: taken out of its engines, and put into the engines of the next one.

use net::{Drop, Generation, NextHopId, RouteKind, VrfId, protocol};

use super::{Engine, addresses};
use crate::address::Address;
use crate::connections::{NONE, Slot};
use crate::entry::Entry;
use crate::flow::Flow;
use crate::mappings::Inside;
use crate::ports::{Lease, Subscriber};
use crate::resolve::{Resolution, Resolver};
use crate::snapshot::{Pooled, SavedConnection};
use crate::time::Tick;
use crate::verdict::NewPacket;

/// Why a saved connection is not there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRestored {
    /// Another worker owns it.
    NotOurs,
    /// It was silent for too long.
    TooOld,
    /// The policy does not allow it any more, or not on the worker that has its port.
    Policy,
    /// One of its tuples, its port, or the block that its port is in is taken.
    Taken,
    /// The table is full.
    Full,
}

/// Seconds that a restored connection waits for its routes beyond what a connection that loses them waits: after a start
/// they have to be learned first.
const LEARNING: u32 = 120;

/// Before the first generation there is no way.
struct Nowhere;

impl Resolver for Nowhere {
    fn generation(&self) -> Generation {
        Generation(0)
    }

    fn resolve(&self, _: VrfId, _: u32, _: u32) -> Result<Resolution, Drop> {
        Err(Drop::NoRoute)
    }

    fn resolve_v6(&self, _: VrfId, _: u128, _: u32) -> Result<Resolution, Drop> {
        Err(Drop::NoRoute)
    }
}

impl Engine {
    /// Appends what the IPv4 connections from slot `from` on need to outlive the process, `limit` at most. Gives the slot to go
    /// on from, or `None` at the end.
    pub fn save(&self, from: u32, limit: usize, out: &mut Vec<SavedConnection>) -> Option<u32> {
        let mut left = limit;
        for connection in from..self.connections.slots() {
            let cold = &self.connections.cold[connection as usize];
            let kept = cold.slot == Slot::Live && self.connections.pair(connection).iter().all(|e| !e.key.is_v6());
            if !kept {
                continue;
            }
            if left == 0 {
                return Some(connection);
            }
            left -= 1;
            out.push(self.saved(connection));
        }
        None
    }

    /// What of a connection outlives the process.
    pub(super) fn saved(&self, connection: u32) -> SavedConnection {
        let [original, reply] = self.connections.pair(connection);
        let cold = &self.connections.cold[connection as usize];
        let seen = Tick(self.connections.last_seen(connection));
        SavedConnection {
            keys: [original.key, reply.key],
            pooled: self.pooled(connection),
            state: original.state,
            fins: cold.tcp.fins(),
            sequences: [original.sequence, reply.sequence],
            flow_hash: cold.flow_hash,
            idle: (self.clock.latest().millis_since(seen) / 1000) as u32,
            packets: [original.packets, reply.packets],
            bytes: [original.bytes, reply.bytes],
        }
    }

    fn pooled(&self, connection: u32) -> Pooled {
        let cold = &self.connections.cold[connection as usize];
        let protocol = self.connections.pair(connection)[0].key.protocol();
        match cold.shared {
            _ if cold.pool == NONE => Pooled::Nothing,
            false => Pooled::Own,
            true if self.mappings.inside_of(cold.pool, protocol, cold.port).is_some() => Pooled::Mapping,
            true => Pooled::Overloaded,
        }
    }

    /// Puts a connection of an earlier process into an engine that has seen no generation yet, `passed` seconds after it was
    /// saved. It has no route until the first pass gives it one, and waits for that longer than others do.
    ///
    /// # Errors
    /// [`NotRestored`]; the engine is as it was.
    pub fn restore(&mut self, saved: &SavedConnection, passed: u32) -> Result<(), NotRestored> {
        self.put_back(saved, passed).map(|_| ())
    }

    /// Puts a connection of another gateway into an engine that is at the resolver's generation, `passed` seconds after
    /// that gateway was last heard. How long it had been silent then is not known, only that it had not ended.
    ///
    /// # Errors
    /// [`NotRestored`]; the engine is as it was.
    pub fn take_over(
        &mut self,
        saved: &SavedConnection,
        passed: u32,
        resolver: &impl Resolver,
    ) -> Result<(), NotRestored> {
        let saved = SavedConnection { idle: 0, ..*saved };
        let connection = self.put_back(&saved, passed)?;
        self.resolve_again(connection, resolver.generation().0 as u32, resolver);
        Ok(())
    }

    fn put_back(&mut self, saved: &SavedConnection, passed: u32) -> Result<u32, NotRestored> {
        let [original, reply] = saved.keys.map(|key| self.flow_of(&key));
        let protocol = original.protocol;
        let (inside, outside) = ends(saved);
        if self.owner_of(saved) != self.slice.worker() {
            return Err(NotRestored::NotOurs);
        }
        if self.find(&original).is_some() || self.find(&reply).is_some() || original == reply {
            return Err(NotRestored::Taken);
        }
        if self.connections.is_full() {
            return Err(NotRestored::Full);
        }
        let leased = (saved.pooled != Pooled::Nothing).then_some(outside.1);
        if !self.is_allowed([&original, &reply], leased) || self.is_parted(saved) {
            return Err(NotRestored::Policy);
        }
        let idle = self.policy.timers(inside.vrf).idle(protocol, saved.state);
        if saved.idle.saturating_add(passed) >= idle {
            return Err(NotRestored::TooOld);
        }
        let lease = match saved.pooled {
            Pooled::Nothing => None,
            pooled => Some(self.claim(pooled, inside, outside).ok_or(NotRestored::Taken)?),
        };
        let nowhere = Resolution {
            next_hop: NextHopId(0),
            vrf: VrfId::DEFAULT,
            kind: RouteKind::Unicast,
        };
        let packet = packet_of(&original, saved.flow_hash);
        // Its session was logged when it was made.
        let at = self.without_session_log(|engine| engine.create(&packet, reply, [nowhere; 2], lease, &Nowhere));
        let connection = at.connection();
        if self.connections.cold[connection as usize].counted {
            self.meter.was_there(self.subscriber(connection));
        }
        self.connections.cold[connection as usize].tcp.set_fins(saved.fins);
        let counts = saved.packets.into_iter().zip(saved.bytes).zip(saved.sequences);
        for (entry, ((packets, bytes), sequence)) in self.connections.pair_mut(connection).iter_mut().zip(counts) {
            (entry.packets, entry.bytes, entry.sequence) = (packets, bytes, sequence);
            entry.flags |= Entry::RESTORED;
        }
        self.set_state(connection, saved.state);
        self.lose_route(connection, Drop::NoRoute);
        let since = self.clock.latest().after(LEARNING);
        self.connections.cold[connection as usize].unrouted_since = since.0;
        let stamp = Nowhere.generation().0 as u32;
        self.connections.note_ways(connection, stamp);
        self.arm_earlier(connection);
        Ok(connection)
    }

    /// What a connection had of a pool, for it again: its port, in its block, or its share of a port.
    fn claim(&mut self, pooled: Pooled, inside: Inside, (address, port): (Address, u16)) -> Option<Lease> {
        let Inside { vrf, protocol, .. } = inside;
        let pool = self.ports.number_of(address)?;
        let lease = Lease {
            pool,
            address,
            port,
            shared: true,
        };
        if addresses::is_by_address(protocol) {
            return (pooled == Pooled::Own).then_some(Lease { shared: false, ..lease });
        }
        let joins = match pooled {
            Pooled::Mapping => self.mappings.inside_of(pool, protocol, port) == Some(inside),
            Pooled::Overloaded => protocol != protocol::ICMP && self.mappings.may_overload(pool, protocol, port),
            Pooled::Own | Pooled::Nothing => false,
        };
        if joins {
            return Some(lease);
        }
        let subscriber = Subscriber {
            vrf,
            address: inside.address,
        };
        let own = self.ports.claim(pool, protocol, port, subscriber)?;
        match pooled {
            Pooled::Mapping => self.mappings.insert(inside, lease),
            Pooled::Overloaded => self.mappings.insert_overloaded(lease, protocol),
            Pooled::Own | Pooled::Nothing => return Some(own),
        }
        Some(lease)
    }

    /// The worker that has to have it: the owner of its port, or the one that packets of both directions are handed to.
    fn owner_of(&self, saved: &SavedConnection) -> u16 {
        let [original, _] = &saved.keys;
        if saved.pooled != Pooled::Nothing && !addresses::is_by_address(original.protocol()) {
            let (_, (_, port)) = ends(saved);
            return self.slice.owner(port);
        }
        let owner = match original.vrf() {
            VrfId::DEFAULT => self.owner_outside(&self.flow_of(original)),
            _ => self.owner_inside(&self.flow_of(original)),
        };
        owner.unwrap_or(0)
    }

    /// True if packets from inside are handed to another worker than those from outside: if the number of workers is
    /// another one, and the policy wants one worker for all that the end inside has.
    fn is_parted(&self, saved: &SavedConnection) -> bool {
        let [original, reply] = &saved.keys;
        let from_inside = if original.vrf() == VrfId::DEFAULT {
            reply
        } else {
            original
        };
        let owner = self.owner_inside(&self.flow_of(from_inside));
        owner.is_some_and(|owner| owner != self.slice.worker())
    }
}

/// The end inside, and the address and port that it is seen as outside.
fn ends(saved: &SavedConnection) -> (Inside, (Address, u16)) {
    let [original, reply] = &saved.keys;
    let (from_inside, to_inside) = match original.vrf() {
        VrfId::DEFAULT => (reply, original),
        _ => (original, reply),
    };
    let inside = Inside {
        vrf: from_inside.vrf(),
        protocol: original.protocol(),
        address: from_inside.source().into(),
        port: from_inside.source_port(),
    };
    (inside, (to_inside.destination().into(), to_inside.destination_port()))
}

fn packet_of(flow: &Flow, flow_hash: u32) -> NewPacket {
    NewPacket {
        vrf: flow.vrf,
        protocol: flow.protocol,
        source: flow.source,
        destination: flow.destination,
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        flow_hash,
        ..NewPacket::default()
    }
}
