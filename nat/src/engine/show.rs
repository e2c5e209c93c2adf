//! What an operator sees of the engine.

use super::Engine;
use crate::connections::{Slot, protocol_name};
use crate::entry::{ConnectionId, ConnectionState};
use crate::flow::Flow;
use crate::pools::PoolUse;
use crate::ports::BlockEvent;
use crate::time::Tick;
use crate::view::{ConnectionView, StateCounts, Stats, Tuple};

impl Engine {
    /// One connection; also one that ended and was not released.
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionView> {
        let (connection, _) = self.connections.find(id)?;
        Some(self.view(connection))
    }

    /// Appends connections from slot `from` on, `limit` at most. Gives the slot to go on from, or `None` at the end.
    pub fn snapshot(&self, from: u32, limit: usize, out: &mut Vec<ConnectionView>) -> Option<u32> {
        let mut left = limit;
        for connection in from..self.connections.slots() {
            if self.connections.cold[connection as usize].slot == Slot::Free {
                continue;
            }
            if left == 0 {
                return Some(connection);
            }
            out.push(self.view(connection));
            left -= 1;
        }
        None
    }

    fn view(&self, connection: u32) -> ConnectionView {
        let pair = self.connections.pair(connection);
        let [original, reply] = pair;
        let cold = &self.connections.cold[connection as usize];
        let (original_tuple, translated) = self.tuples(connection);
        ConnectionView {
            id: self.connections.id(connection),
            worker: self.slice.worker(),
            vpc: self.connections.inner_vrf(connection).vpc(),
            protocol: protocol_name(original.key.protocol()),
            state: original.state,
            unrouted: cold.unrouted.is_some(),
            original: original_tuple,
            translated,
            generation: self.connections.ways.stamp(connection),
            next_hops: [original.next_hop, reply.next_hop],
            packets: [original.packets, reply.packets],
            bytes: [original.bytes, reply.bytes],
            idle_ms: self
                .clock
                .latest()
                .millis_since(Tick(self.connections.last_seen(connection))),
            offload: cold.offload,
        }
    }

    /// Packets of the original direction as they arrive, and as they leave.
    pub(super) fn tuples(&self, connection: u32) -> (Tuple, Tuple) {
        let [original, reply] = self.connections.pair(connection);
        let leaving = self.flow_of(&reply.key).reversed();
        (tuple(self.flow_of(&original.key)), tuple(leaving))
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let counters = &self.counters;
        let states = |counts: &[u64; ConnectionState::COUNT]| StateCounts {
            unreplied: counts[ConnectionState::Unreplied as usize],
            replied: counts[ConnectionState::Replied as usize],
            established: counts[ConnectionState::Established as usize],
            closing: counts[ConnectionState::Closing as usize],
        };
        let [tcp, udp, icmp, other] = counters.states.each_ref().map(states);
        Stats {
            capacity: self.capacity,
            connections: self.connections.used() - counters.zombies,
            zombies: counters.zombies,
            tcp,
            udp,
            icmp,
            other,
            unrouted: counters.unrouted,
            created: counters.created,
            ended: counters.ended,
            mappings: self.mappings.len() as u32,
            blocks: self.ports.blocks_in_use() as u32,
            block_events_lost: self.ports.block_events_lost(),
            session_events_lost: self.session_events_lost(),
            ports: self.ports.in_use(),
            ports_exhausted: counters.ports_exhausted,
            tenant_limited: counters.tenant_limited,
            subscriber_limited: counters.subscriber_limited,
            table_full: counters.table_full,
            handed_over: counters.handed_over,
        }
    }

    /// This worker's share of each pool.
    pub fn pools(&self) -> Vec<PoolUse> {
        self.ports.pool_use(&self.policy, self.clock.latest())
    }

    /// What became of a port block, in order; `None` once everything was told. Fetch them often: some thousands are kept,
    /// and later ones are lost and counted.
    pub fn next_block_event(&mut self) -> Option<BlockEvent> {
        self.ports.next_block_event()
    }

    /// True if everything that belongs to a connection was given back: slots, table entries, timers, ports.
    #[cfg(test)]
    pub(crate) fn is_spotless(&self) -> bool {
        let ports = self.ports.in_use();
        self.connections.used() == 0
            && self.table.census() == (0, 0)
            && self.wheel.armed(&self.connections.cold) == 0
            && self.queues.queued(&self.connections.cold) == [0, 0]
            && (
                self.mappings.len(),
                self.mappings.contacts(),
                self.ports.blocks_in_use(),
            ) == (0, 0, 0)
            && self.book.len() == 0
            && self.meter.is_empty()
            && ports.iter().all(|p| p.tcp + p.udp + p.icmp == 0)
            && self.counters.states.as_flattened().iter().all(|n| *n == 0)
            && (self.counters.zombies, self.counters.unrouted) == (0, 0)
    }
}

fn tuple(flow: Flow) -> Tuple {
    Tuple {
        source: flow.source.ip(),
        source_port: flow.source_port,
        destination: flow.destination.ip(),
        destination_port: flow.destination_port,
    }
}
