//! Connections of an earlier process: taken out of its engines, and put into the engines of the next one.

use net::{Drop, Generation, NextHopId, RouteKind, VrfId};

use super::{Engine, addresses};
use crate::connections::{NONE, Slot};
use crate::key::FlowKey;
use crate::ports::Lease;
use crate::resolve::{Resolution, Resolver};
use crate::snapshot::SavedConnection;
use crate::time::Tick;
use crate::verdict::{EndReason, NewPacket};

/// Why a saved connection is not there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRestored {
    /// Another worker owns it.
    NotOurs,
    /// It was silent for too long.
    TooOld,
    /// The policy does not allow it any more.
    Policy,
    /// One of its tuples, or its port, is taken.
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
}

impl Engine {
    /// Appends what the connections from slot `from` on need to outlive the process, `limit` at most. Gives the slot to go
    /// on from, or `None` at the end.
    pub fn save(&self, from: u32, limit: usize, out: &mut Vec<SavedConnection>) -> Option<u32> {
        let mut left = limit;
        for connection in from..self.connections.slots() {
            let cold = &self.connections.cold[connection as usize];
            if cold.slot != Slot::Live {
                continue;
            }
            if left == 0 {
                return Some(connection);
            }
            left -= 1;
            let [original, reply] = self.connections.pair(connection);
            let seen = Tick(self.connections.last_seen(connection));
            out.push(SavedConnection {
                keys: [original.key, reply.key],
                masqueraded: cold.pool != NONE,
                state: original.state,
                fins: cold.tcp.fins(),
                sequences: [original.sequence, reply.sequence],
                flow_hash: cold.flow_hash,
                idle: (self.clock.latest().millis_since(seen) / 1000) as u32,
                packets: [original.packets, reply.packets],
                bytes: [original.bytes, reply.bytes],
            });
        }
        None
    }

    /// Puts a connection of an earlier process into an engine that has seen no generation yet, `passed` seconds after it was
    /// saved. It has no route until the first pass gives it one, and waits for that longer than others do.
    ///
    /// # Errors
    /// [`NotRestored`]; the engine is as it was.
    pub fn restore(&mut self, saved: &SavedConnection, passed: u32) -> Result<(), NotRestored> {
        let [original, reply] = saved.keys;
        let protocol = original.protocol();
        if self.owner_of(saved) != self.slice.worker() {
            return Err(NotRestored::NotOurs);
        }
        if self.lookup(&original).is_some() || self.lookup(&reply).is_some() || original == reply {
            return Err(NotRestored::Taken);
        }
        if self.connections.is_full() {
            return Err(NotRestored::Full);
        }
        let lease = if saved.masqueraded {
            let (address, port) = (reply.destination(), reply.destination_port());
            let lease = match addresses::is_by_address(protocol) {
                true => self
                    .ports
                    .number_of(address)
                    .map(|pool| Lease { pool, address, port: 0 }),
                false => self.ports.claim(address, protocol, port),
            };
            Some(lease.ok_or(match self.policy.is_pool(address) {
                true => NotRestored::Taken,
                false => NotRestored::Policy,
            })?)
        } else {
            None
        };
        let nowhere = Resolution {
            next_hop: NextHopId(0),
            vrf: VrfId::DEFAULT,
            kind: RouteKind::Unicast,
        };
        let at = self.create(
            &packet_of(&original, saved.flow_hash),
            reply,
            [nowhere; 2],
            lease,
            &Nowhere,
        );
        let connection = at.connection();
        if !self.is_allowed(connection) {
            self.end(connection, EndReason::Policy);
            return Err(NotRestored::Policy);
        }
        self.connections.cold[connection as usize].tcp.set_fins(saved.fins);
        let counts = saved.packets.into_iter().zip(saved.bytes).zip(saved.sequences);
        for (entry, ((packets, bytes), sequence)) in self.connections.pair_mut(connection).iter_mut().zip(counts) {
            (entry.packets, entry.bytes, entry.sequence) = (packets, bytes, sequence);
        }
        self.set_state(connection, saved.state);
        let lifetime = self.deadline(connection).0 - self.clock.latest().0;
        if saved.idle.saturating_add(passed) >= lifetime / Tick::PER_SECOND {
            self.end(connection, EndReason::Idle);
            return Err(NotRestored::TooOld);
        }
        self.lose_route(connection, Drop::NoRoute);
        let since = self.clock.latest().after(LEARNING);
        self.connections.cold[connection as usize].unrouted_since = since.0;
        let stamp = Nowhere.generation().0 as u32;
        self.connections.note_ways(connection, stamp);
        self.arm_earlier(connection);
        Ok(())
    }

    /// The worker that packets of both directions are handed to.
    fn owner_of(&self, saved: &SavedConnection) -> u16 {
        let [original, reply] = &saved.keys;
        let protocol = original.protocol();
        if !saved.masqueraded {
            self.slice
                .client_owner(original.source(), original.source_port(), protocol)
        } else if addresses::is_by_address(protocol) {
            self.slice.client_owner(original.destination(), 0, protocol)
        } else {
            self.slice.owner(reply.destination_port())
        }
    }
}

fn packet_of(key: &FlowKey, flow_hash: u32) -> NewPacket {
    NewPacket {
        vrf: key.vrf(),
        protocol: key.protocol(),
        source: key.source(),
        destination: key.destination(),
        source_port: key.source_port(),
        destination_port: key.destination_port(),
        flow_hash,
        ..NewPacket::default()
    }
}
