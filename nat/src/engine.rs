//! The life of a connection: made by a packet that no connection was found for, kept by its packets, moved by
//! generations, ended by time or policy.
//!
//! ```text
//! miss (create.rs) ── live ── hit (below) ── revalidation (revalidate.rs) ── end: timers (expire.rs), policy, eviction
//!                                                                            │
//!                            offload Queued or Live: zombie ── release (offload.rs) ── free
//!                            else ─────────────────────────────────────────────────── free
//! ```
//! From its end on a connection is not found any more. A zombie keeps its public port until the NIC is known to have
//! forgotten it, so that no rule of the NIC ever sends to a port's former owner.

mod create;
mod expire;
mod icmp;
mod offload;
mod owner;
mod revalidate;
mod show;

use std::sync::Arc;

use net::{Drop, protocol, tcp_flag};

use crate::connections::{Connections, NONE, Slot};
use crate::entry::{ConnectionState, Entry, EntryRef};
use crate::key::{FlowKey, Secret};
use crate::mappings::Mappings;
use crate::policy::Policy;
use crate::ports::{Ports, Slice, protocol_index};
use crate::random::Random;
use crate::table::Table;
use crate::time::{Clock, Millis, Tick};
use crate::verdict::{EndReason, Hit, OffloadState};
use crate::view::EndCounts;
use crate::wheel::Wheel;
use revalidate::Pass;

/// Size and place of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Connections that may exist at once.
    pub capacity: u32,
    /// Number of the worker that owns the engine, from 0.
    pub worker: u16,
    /// Number of workers; public ports are divided among them.
    pub workers: u16,
    /// Seeds port choice and the table's hash. Take it from a random source; a constant makes runs repeatable.
    pub seed: u64,
}

/// Why an engine cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A table of no size, or of one whose entries cannot be numbered.
    #[error("connection table of {0} connections: use 1 to {max}", max = Engine::MAX_CAPACITY)]
    Capacity(u32),
    /// A worker outside of the workers.
    #[error("worker {worker} of {workers}: use 1 to {max} workers, numbered from 0", max = Engine::MAX_WORKERS)]
    Worker {
        /// Number of the worker.
        worker: u16,
        /// Number of workers.
        workers: u16,
    },
}

/// Connections by protocol (TCP, UDP, ICMP) and state.
type Counts = [[u64; ConnectionState::COUNT]; 3];

/// What the engine counts as it goes.
#[derive(Debug, Clone, Default)]
struct Counters {
    states: Counts,
    zombies: u32,
    unrouted: u32,
    created: u64,
    ended: EndCounts,
    ports_exhausted: u64,
    table_full: u64,
    handed_over: u64,
}

/// Connections and NAT of one worker. Nothing in it is shared: no locks, no atomics.
#[derive(Debug)]
pub struct Engine {
    connections: Connections,
    table: Table,
    wheel: Wheel,
    clock: Clock,
    policy: Arc<Policy>,
    /// Counts policies, so that a connection knows whether it was checked against the present one.
    policy_number: u32,
    slice: Slice,
    ports: Ports,
    mappings: Mappings,
    pass: Pass,
    random: Random,
    counters: Counters,
    capacity: u32,
}

impl Engine {
    /// Largest capacity.
    pub const MAX_CAPACITY: u32 = 1 << 28;
    /// Most workers that public ports can be divided among.
    pub const MAX_WORKERS: u16 = 1024;
    /// Most keys that [`Engine::lookup_burst`] takes.
    pub const BURST: usize = 64;

    /// An engine without connections.
    ///
    /// # Errors
    /// [`EngineError`] for a size or place that cannot be.
    pub fn new(config: EngineConfig, policy: Arc<Policy>) -> Result<Self, EngineError> {
        let EngineConfig {
            capacity,
            worker,
            workers,
            seed,
        } = config;
        if !(1..=Self::MAX_CAPACITY).contains(&capacity) {
            return Err(EngineError::Capacity(capacity));
        }
        if worker >= workers || workers > Self::MAX_WORKERS {
            return Err(EngineError::Worker { worker, workers });
        }
        let mut random = Random::new(seed);
        let slice = Slice::new(worker, workers);
        let mut engine = Self {
            connections: Connections::new(capacity),
            table: Table::new(capacity * 2, Secret::new(&mut random)),
            wheel: Wheel::new(),
            clock: Clock::default(),
            policy: Arc::clone(&policy),
            policy_number: 0,
            slice,
            ports: Ports::new(slice),
            mappings: Mappings::default(),
            pass: Pass::default(),
            random,
            counters: Counters::default(),
            capacity,
        };
        engine.set_policy(policy);
        Ok(engine)
    }

    /// Replaces the NAT policy. New connections follow it at once; each existing one is checked against it when it is
    /// next revalidated, keeps its port if it is still allowed, and ends if not. Call before the
    /// [`Engine::on_generation`] of the generation that brought it.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.ports.follow(&policy);
        self.policy = policy;
        self.policy_number = self.policy_number.wrapping_add(1);
    }

    /// The NAT policy in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Finds the connections of the first `count` keys of a burst of [`Engine::BURST`] at most; those beyond are `None`.
    #[inline(always)]
    pub fn lookup_burst(&self, count: usize, key: impl Fn(usize) -> FlowKey) -> [Option<EntryRef>; Self::BURST] {
        self.table.get_burst(count, key, &self.connections.entries)
    }

    /// Finds the connection of one packet.
    pub fn lookup(&self, key: &FlowKey) -> Option<EntryRef> {
        self.table.get(key, &self.connections.entries)
    }

    /// The hot part of a direction.
    ///
    /// # Panics
    /// If `at` is of another engine.
    #[inline]
    pub fn entry(&self, at: EntryRef) -> &Entry {
        &self.connections.entries[at.0 as usize]
    }

    /// A packet of a connection: counts it, follows TCP, refreshes the timer. `length` is that of the IP packet;
    /// `tcp_flags` counts for TCP only.
    #[inline]
    pub fn hit(&mut self, at: EntryRef, tcp_flags: u8, length: u16, now: Millis) -> Hit {
        const CONTROL: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
        let tick = self.clock.tick(now);
        let entry = &mut self.connections.entries[at.0 as usize];
        if entry.flags != 0 {
            return self.refuse(at);
        }
        entry.packets += 1;
        entry.bytes += u64::from(length);
        entry.last_seen = tick.0;
        if entry.state == ConnectionState::Established && tcp_flags & CONTROL == 0 {
            return Hit::default();
        }
        self.advance(at, tcp_flags)
    }

    #[cold]
    fn refuse(&self, at: EntryRef) -> Hit {
        let unrouted = self.connections.cold[at.connection() as usize].unrouted;
        Hit {
            offload: false,
            refused: Some(unrouted.unwrap_or(Drop::NatPolicyDenied)),
        }
    }

    /// Follows the state of a connection that is not quietly established.
    fn advance(&mut self, at: EntryRef, tcp_flags: u8) -> Hit {
        let connection = at.connection();
        let entry = self.entry(at);
        let (protocol, state) = (entry.key.protocol(), entry.state);
        let next = match protocol {
            protocol::TCP => next_tcp_state(state, tcp_flags, at.is_reply()),
            protocol::UDP => {
                let packets = entry.packets + self.entry(at.opposite()).packets;
                match state {
                    ConnectionState::Unreplied if at.is_reply() => ConnectionState::Replied,
                    ConnectionState::Replied if packets >= 4 => ConnectionState::Established,
                    other => other,
                }
            }
            _ if at.is_reply() => ConnectionState::Replied,
            _ => state,
        };
        if next == state {
            return Hit::default();
        }
        self.set_state(connection, next);
        let asked = self.connections.cold[connection as usize].offload;
        let may_ask = matches!(asked, OffloadState::None | OffloadState::Dead);
        Hit {
            offload: next == ConnectionState::Established && may_ask,
            refused: None,
        }
    }

    fn set_state(&mut self, connection: u32, state: ConnectionState) {
        let pair = self.connections.pair_mut(connection);
        let counts = &mut self.counters.states[protocol_index(pair[0].key.protocol())];
        counts[pair[0].state as usize] -= 1;
        counts[state as usize] += 1;
        pair.iter_mut().for_each(|entry| entry.state = state);
        self.arm_earlier(connection);
    }

    /// When the connection ends if no packet comes.
    fn deadline(&self, connection: u32) -> Tick {
        let timers = self.policy.timers();
        let original = &self.connections.pair(connection)[0];
        let idle = match (original.key.protocol(), original.state) {
            (protocol::TCP, ConnectionState::Established) => timers.tcp_established,
            (protocol::TCP, _) => timers.tcp_transitory,
            (protocol::UDP, _) => timers.udp,
            _ => timers.icmp,
        };
        let idle = Tick(self.connections.last_seen(connection)).after(idle);
        let cold = &self.connections.cold[connection as usize];
        match cold.unrouted {
            Some(_) => idle.min(Tick(cold.unrouted_since).after(timers.unrouted_grace)),
            None => idle,
        }
    }

    /// Sees to it that the wheel does not look later than the deadline, which may have come nearer.
    fn arm_earlier(&mut self, connection: u32) {
        let second = self.deadline(connection).second_up();
        if second < self.connections.cold[connection as usize].second {
            self.wheel.disarm(&mut self.connections.cold, connection);
            self.wheel.arm(&mut self.connections.cold, connection, second);
        }
    }

    /// Ends a live connection that is on the wheel.
    fn end(&mut self, connection: u32, reason: EndReason) {
        self.wheel.disarm(&mut self.connections.cold, connection);
        self.end_disarmed(connection, reason);
    }

    fn end_disarmed(&mut self, connection: u32, reason: EndReason) {
        let pair = self.connections.pair_mut(connection);
        pair.iter_mut().for_each(|entry| entry.flags |= Entry::DEAD);
        let (keys, state) = ([pair[0].key, pair[1].key], pair[0].state);
        self.table.remove(&keys[0], EntryRef::original(connection));
        self.table.remove(&keys[1], EntryRef::reply(connection));
        self.counters.states[protocol_index(keys[0].protocol())][state as usize] -= 1;
        let ended = &mut self.counters.ended;
        *match reason {
            EndReason::Idle => &mut ended.idle,
            EndReason::Closed => &mut ended.closed,
            EndReason::Unrouted => &mut ended.unrouted,
            EndReason::Policy => &mut ended.policy,
            EndReason::Evicted => &mut ended.evicted,
        } += 1;
        let cold = &mut self.connections.cold[connection as usize];
        if cold.unrouted.take().is_some() {
            self.counters.unrouted -= 1;
        }
        if cold.offload.holds_rules() {
            cold.slot = Slot::Zombie;
            if cold.shared {
                self.mappings.mourn(cold.pool, keys[0].protocol(), cold.port);
            }
            self.counters.zombies += 1;
            self.connections
                .pair_mut(connection)
                .iter_mut()
                .for_each(|entry| entry.state = ConnectionState::Zombie);
        } else {
            self.free(connection);
        }
    }

    /// Gives back the port and the slot of a connection that ended.
    fn free(&mut self, connection: u32) {
        let cold = &self.connections.cold[connection as usize];
        if cold.pool != NONE {
            let protocol = self.connections.pair(connection)[0].key.protocol();
            let (pool, port, zombie) = (cold.pool, cold.port, cold.slot == Slot::Zombie);
            if !cold.shared || self.mappings.leave(pool, protocol, port, zombie) {
                self.ports.release(cold.pool, protocol, cold.port, self.clock.latest());
            }
        }
        self.connections.give_back(connection);
    }
}

/// TCP by its SYN, FIN and RST. RFC 5382 section 5: opening and closing connections have the transitory timer.
fn next_tcp_state(state: ConnectionState, flags: u8, reply: bool) -> ConnectionState {
    use ConnectionState::{Closing, Established, Replied, Unreplied};
    let has = |flag| flags & flag != 0;
    match state {
        _ if has(tcp_flag::FIN | tcp_flag::RST) => Closing,
        // The client uses the tuple for its next connection.
        Closing if !reply && has(tcp_flag::SYN) && !has(tcp_flag::ACK) => Unreplied,
        Unreplied if reply => Replied,
        Replied if !reply && has(tcp_flag::ACK) && !has(tcp_flag::SYN) => Established,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use net::Generation;

    use super::*;
    use crate::support::*;
    use crate::{Delta, Masquerade};

    /// Random traffic, ends, offloads and policy edits; then everything is let go, and nothing may be left.
    #[test]
    fn churn_leaks_no_slot_table_entry_timer_or_port() {
        let pools: [&[&str]; 3] = [&["192.0.2.1"], &["192.0.2.1", "192.0.2.2"], &["192.0.2.2", "192.0.2.3"]];
        let rules =
            |n: usize| -> Vec<Masquerade> { (1..3).map(|vpc| masquerade(vpc, pools[n], (3000, 3400))).collect() };
        let forwards = |n: usize| vec![forward(1, UDP, "192.0.2.1", 3000 + n as u16, "10.0.0.9", 53)];
        let mut routes = routes();
        let mut engine = worker(500, 1, 2, policy(rules(0), forwards(0)));
        let mut random = Random::new(11);
        let mut now = Millis(1);
        for step in 0..60_000u32 {
            let vrf = 1 + random.below(2) as u16;
            let inside = (
                ["10.0.0.5", "10.0.0.6"][random.below(2) as usize],
                random.below(400) as u16,
            );
            let outside = (["198.51.100.1", "198.51.100.2"][random.below(2) as usize], 53);
            let headers = [udp(inside, outside), tcp(inside, outside, SYN)][random.below(2) as usize];
            let fate = send(&mut engine, &routes, vrf, &build(&headers, b""), now);
            if let (Fate::Sent(..), 0) = (&fate, random.below(3)) {
                let reply = build(
                    &answer(&fate.headers(), [ACK, RST, SYN | ACK][random.below(3) as usize]),
                    b"",
                );
                send(&mut engine, &routes, 0, &reply, now);
            }
            let client = udp(
                ("203.0.113.5", random.below(300) as u16),
                ("192.0.2.1", 3000 + random.below(3) as u16),
            );
            send(&mut engine, &routes, 0, &build(&client, b""), now);
            if step % 7 == 0 {
                let slot = random.below(engine.connections.slots());
                engine.set_offload(engine.connections.id(slot), OffloadState::Live);
            }
            if step % 500 == 0 {
                let n = random.below(3) as usize;
                engine.set_policy(policy(rules(n), forwards(n)));
                routes.generation += 1;
                routes.remove(0, "198.51.100.2/32");
                if random.below(2) == 0 {
                    routes.add(0, "198.51.100.2/32", To::Fail(Drop::Blackhole));
                }
                engine.on_generation(Generation(routes.generation), &Delta::everything());
            }
            engine.revalidate(20, &routes, &mut |_, _| {});
            now.0 += u64::from(random.below(300));
            engine.expire(now, 10, &mut |_, _| {});
            let slot = random.below(engine.connections.slots());
            engine.release(engine.connections.id(slot));
        }
        let stats = engine.stats();
        assert!(
            stats.ended.idle > 100 && stats.ended.policy > 100 && stats.ended.evicted > 100,
            "{stats:?}"
        );
        assert!(
            stats.ended.unrouted > 10 && stats.ended.closed > 10 && stats.zombies > 10,
            "{stats:?}"
        );
        assert!(!engine.is_spotless());
        now.0 += 10_000_000;
        engine.expire(now, usize::MAX, &mut |_, _| {});
        for slot in 0..engine.connections.slots() {
            engine.release(engine.connections.id(slot));
        }
        assert!(engine.is_spotless(), "{:?}", engine.stats());
        assert_eq!(engine.counters.created, engine.counters.ended.total());
    }

    #[test]
    fn a_slot_freed_in_a_burst_has_no_next_owner_in_that_burst() {
        let mut engine = worker(4, 0, 1, policy(vec![masquerade(1, &["192.0.2.1"], (1, 65535))], vec![]));
        let routes = routes();
        let mut last_burst: std::collections::VecDeque<u32> = Default::default();
        for port in 1..5000 {
            let request = udp(("10.0.0.5", port), ("198.51.100.9", 53));
            assert!(matches!(
                send(&mut engine, &routes, 1, &build(&request, b""), Millis(1)),
                Fate::Sent(..)
            ));
            let key = FlowKey::v4(net::VrfId(1), UDP, request.source, request.destination, port, 53);
            let slot = engine.lookup(&key).expect("made").connection();
            assert!(!last_burst.contains(&slot));
            last_burst.push_back(slot);
            if last_burst.len() > Engine::BURST {
                last_burst.pop_front();
            }
        }
        assert!(engine.connections.slots() <= 4 + EntryRef::QUARANTINE);
    }

    #[test]
    fn an_engine_of_no_size_or_place_is_refused() {
        let make = |capacity, worker, workers| {
            let config = EngineConfig {
                capacity,
                worker,
                workers,
                seed: 0,
            };
            Engine::new(config, policy(vec![], vec![]))
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert!(make(0, 0, 1).is_err_and(|e| e.contains("0 connections")));
        assert!(make(1, 2, 2).is_err_and(|e| e.contains("worker 2 of 2")));
        assert!(make(1, 0, 0).is_err());
        assert_eq!(make(1, 1, 2), Ok(()));
    }
}
