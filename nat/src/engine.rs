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

mod addresses;
mod create;
mod expect;
mod expire;
mod flows;
mod icmp;
mod icmpv6;
mod journal;
mod masquerade;
mod offload;
mod owner;
mod restore;
mod revalidate;
mod sessions;
mod show;
mod steer;
mod tcp;

pub use restore::NotRestored;
pub use sessions::{Ended, SessionEvent};
pub use tcp::Segment;
pub(crate) use tcp::TcpMemory;

use std::sync::Arc;

use net::{Drop, Generation, VrfId, protocol, tcp_flag};

use crate::book::Book;
use crate::connections::{Connections, NONE, Slot};
use crate::entry::{ConnectionState, Entry, EntryRef};
use crate::eviction::{Queues, Worth};
use crate::journal::Journal;
use crate::key::{FlowKey, Secret};
use crate::limits::Meter;
use crate::mappings::{Mappings, Outside};
use crate::policy::Policy;
use crate::ports::{Lease, Ports, Slice};
use crate::random::Random;
use crate::steering::Steering;
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

/// Connections by protocol ([`count_index`]) and state.
type Counts = [[u64; ConnectionState::COUNT]; 4];

/// What the engine counts as it goes.
#[derive(Debug, Clone, Default)]
struct Counters {
    states: Counts,
    zombies: u32,
    unrouted: u32,
    created: u64,
    ended: EndCounts,
    ports_exhausted: u64,
    tenant_limited: u64,
    subscriber_limited: u64,
    table_full: u64,
    handed_over: u64,
}

/// Connections and NAT of one worker. Nothing in it is shared: no locks, no atomics.
#[derive(Debug)]
pub struct Engine {
    connections: Connections,
    /// IPv6 addresses of the connections.
    book: Book,
    table: Table,
    wheel: Wheel,
    queues: Queues,
    clock: Clock,
    policy: Arc<Policy>,
    /// Counts policies, so that a connection knows whether it was checked against the present one.
    policy_number: u32,
    slice: Slice,
    ports: Ports,
    mappings: Mappings,
    meter: Meter,
    pass: Pass,
    /// Low 32 bits of the generation that every connection is of, while no pass runs; of none during a pass.
    settled: u32,
    random: Random,
    counters: Counters,
    capacity: u32,
    /// Until then a TCP segment without SYN may begin a connection.
    pick_up_until: Tick,
    steering: Option<Steering>,
    /// What a standby has not been told of yet; `None` while none is told.
    journal: Option<Box<Journal>>,
    sessions: sessions::SessionLog,
    /// Scratch of port choice, kept so that it allocates once.
    set_aside: Vec<Lease>,
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
            book: Book::default(),
            table: Table::new(capacity * 2, Secret::new(&mut random)),
            wheel: Wheel::new(),
            queues: Queues::new(),
            clock: Clock::default(),
            policy: Arc::clone(&policy),
            policy_number: 0,
            slice,
            ports: Ports::new(slice),
            mappings: Mappings::default(),
            meter: Meter::default(),
            pass: Pass::default(),
            settled: 0,
            random,
            counters: Counters::default(),
            capacity,
            pick_up_until: Tick::default(),
            steering: None,
            journal: None,
            sessions: sessions::SessionLog::default(),
            set_aside: Vec::new(),
        };
        engine.ports.follow(&policy);
        engine.follow_contacts(policy.filters_by_address());
        engine.follow_families();
        Ok(engine)
    }

    /// Lets TCP segments without SYN begin connections for `seconds` from the latest time that the engine was told of, or
    /// from its beginning: after a restart or a takeover without all connections of before.
    pub fn pick_up_for(&mut self, seconds: u32) {
        self.pick_up_until = self.pick_up_until.max(self.clock.latest().after(seconds));
    }

    /// Replaces the NAT policy. New connections follow it at once; each existing one is checked against it when it is
    /// next revalidated, keeps its port if it is still allowed, and ends if not. Call before the
    /// [`Engine::on_generation`] of the generation that brought it.
    ///
    /// The policy that is in force already changes nothing.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        if Arc::ptr_eq(&self.policy, &policy) {
            return;
        }
        self.ports.follow(&policy);
        self.follow_contacts(policy.filters_by_address());
        self.policy = policy;
        self.policy_number = self.policy_number.wrapping_add(1);
        self.follow_families();
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

    /// True if the way of a direction is of `generation`; else [`Engine::revalidate_one`] has to be called before a packet
    /// goes by it.
    ///
    /// # Panics
    /// If `at` is of another engine.
    #[inline]
    pub fn is_current(&self, at: EntryRef, generation: Generation) -> bool {
        let generation = generation.0 as u32;
        self.settled == generation || self.connections.ways.stamp(at.connection()) == generation
    }

    /// A packet of a connection: counts it, follows TCP, refreshes the timer. `length` is that of the IP packet.
    #[inline(always)]
    pub fn hit(&mut self, at: EntryRef, segment: Segment, length: u16, now: Millis) -> Hit {
        if self.hit_quietly(at, segment, length, now) {
            Hit::default()
        } else {
            self.advance(at, segment)
        }
    }

    /// The same for a fragment without the header of layer 4.
    #[cold]
    pub fn hit_fragment(&mut self, at: EntryRef, length: u16, now: Millis) -> Hit {
        let sequence = self.entry(at).sequence;
        self.hit(at, Segment { flags: 0, sequence }, length, now)
    }

    /// The first part of [`Engine::hit`]: counts a packet and refreshes the timer, and is all of it if true comes back.
    /// If not, [`Engine::advance`] says what is to be done.
    #[inline(always)]
    pub fn hit_quietly(&mut self, at: EntryRef, segment: Segment, length: u16, now: Millis) -> bool {
        const CONTROL: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
        let tick = self.clock.tick(now);
        let entry = &mut self.connections.entries[at.0 as usize];
        if entry.flags != 0 {
            self.hit_restored(at, length, tick);
            return false;
        }
        entry.packets += 1;
        entry.bytes += u64::from(length);
        entry.last_seen = tick.0;
        match entry.state {
            ConnectionState::Established if segment.flags & CONTROL == 0 => {
                entry.sequence = segment.sequence;
                true
            }
            ConnectionState::Unreplied => !at.is_reply() && entry.key.protocol() == protocol::UDP,
            _ => false,
        }
    }

    /// Counts the first packet of a direction of a restored connection; [`Engine::advance`] does the rest.
    #[cold]
    fn hit_restored(&mut self, at: EntryRef, length: u16, tick: Tick) {
        let entry = &mut self.connections.entries[at.0 as usize];
        if entry.flags == Entry::RESTORED {
            entry.packets += 1;
            entry.bytes += u64::from(length);
            entry.last_seen = tick.0;
        }
    }

    #[cold]
    fn refuse(&self, at: EntryRef) -> Hit {
        let unrouted = self.connections.cold[at.connection() as usize].unrouted;
        Hit {
            offload: false,
            refused: Some(unrouted.unwrap_or(Drop::NatPolicyDenied)),
        }
    }

    /// The rest of [`Engine::hit`], after [`Engine::hit_quietly`] said false: follows the state of a connection that is
    /// not quietly established, or refuses the packet.
    #[inline(never)]
    pub fn advance(&mut self, at: EntryRef, segment: Segment) -> Hit {
        let flags = self.entry(at).flags;
        if flags & !Entry::RESTORED != 0 {
            return self.refuse(at);
        }
        let connection = at.connection();
        let entry = self.entry(at);
        let (protocol, state) = (entry.key.protocol(), entry.state);
        let next = match protocol {
            protocol::TCP => self.follow_tcp(at, segment),
            protocol::ICMP | protocol::ICMPV6 if at.is_reply() => ConnectionState::Replied,
            protocol::ICMP | protocol::ICMPV6 => state,
            _ => {
                let packets = entry.packets + self.entry(at.opposite()).packets;
                match state {
                    ConnectionState::Unreplied if at.is_reply() => ConnectionState::Replied,
                    ConnectionState::Replied if packets >= 4 => ConnectionState::Established,
                    other => other,
                }
            }
        };
        // A restored connection is as established as it was, and nobody has asked for its offload in this process.
        let restored = flags == Entry::RESTORED;
        if restored {
            self.connections.entries[at.0 as usize].flags = 0;
        }
        if next != state {
            self.set_state(connection, next);
        } else if !restored {
            return Hit::default();
        }
        let asked = self.connections.cold[connection as usize].offload;
        let may_ask = matches!(asked, OffloadState::None | OffloadState::Dead);
        Hit {
            offload: next == ConnectionState::Established && may_ask && !addresses::is_by_address(protocol),
            refused: None,
        }
    }

    fn follow_tcp(&mut self, at: EntryRef, segment: Segment) -> ConnectionState {
        let cold = &mut self.connections.cold[at.connection() as usize];
        let entry = &mut self.connections.entries[at.0 as usize];
        // Before a connection is established there is nothing to compare with; of one that the NIC carries, or another
        // gateway carried, we don't see what it is at.
        let near = entry.state != ConnectionState::Established
            || cold.offload.holds_rules()
            || entry.flags == Entry::RESTORED
            || tcp::is_near(segment.sequence, entry.sequence);
        if near {
            entry.sequence = segment.sequence;
        }
        let fins = cold.tcp.fins();
        let next = tcp::follow(entry.state, &mut cold.tcp, segment.flags, at.is_reply(), near);
        if cold.tcp.fins() != fins {
            self.changed(at.connection());
        }
        next
    }

    fn set_state(&mut self, connection: u32, state: ConnectionState) {
        let pair = self.connections.pair_mut(connection);
        let counts = &mut self.counters.states[count_index(pair[0].key.protocol())];
        counts[pair[0].state as usize] -= 1;
        counts[state as usize] += 1;
        pair.iter_mut().for_each(|entry| entry.state = state);
        self.changed(connection);
        self.queue(connection, Worth::of(state));
        self.arm_earlier(connection);
    }

    /// Puts a connection into the eviction queue of its worth, as used now.
    fn queue(&mut self, connection: u32, worth: Worth) {
        if self.connections.cold[connection as usize].worth != worth {
            self.queues.leave(&mut self.connections.cold, connection);
            let now = self.clock.latest().0;
            self.queues.join(&mut self.connections.cold, connection, worth, now);
        }
    }

    /// When the connection ends if no packet comes.
    fn deadline(&self, connection: u32) -> Tick {
        let timers = self.policy.timers(self.connections.inner_vrf(connection));
        let original = &self.connections.pair(connection)[0];
        let idle = timers.idle(original.key.protocol(), original.state);
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
        self.log_session(connection, Some(reason));
        let pair = self.connections.pair_mut(connection);
        pair.iter_mut().for_each(|entry| entry.flags |= Entry::DEAD);
        let (keys, state) = ([pair[0].key, pair[1].key], pair[0].state);
        self.table.remove(&keys[0], EntryRef::original(connection));
        self.table.remove(&keys[1], EntryRef::reply(connection));
        self.counters.states[count_index(keys[0].protocol())][state as usize] -= 1;
        let ended = &mut self.counters.ended;
        *match reason {
            EndReason::Idle => &mut ended.idle,
            EndReason::Closed => &mut ended.closed,
            EndReason::Unrouted => &mut ended.unrouted,
            EndReason::Policy => &mut ended.policy,
            EndReason::Evicted => &mut ended.evicted,
        } += 1;
        if state != ConnectionState::Unreplied {
            self.changed(connection);
        }
        if let Some((outside, remote)) = self.contact_of(connection) {
            self.mappings.part(outside, remote);
        }
        self.queues.leave(&mut self.connections.cold, connection);
        self.connections.ways.clear(connection);
        if std::mem::take(&mut self.connections.cold[connection as usize].counted) {
            self.meter.close(self.subscriber(connection), self.clock.latest());
        }
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

    /// The public port that a connection shares, and the address outside that it is with.
    fn contact_of(&self, connection: u32) -> Option<(Outside, u32)> {
        let cold = &self.connections.cold[connection as usize];
        if !cold.shared {
            return None;
        }
        let [original, reply] = self.connections.pair(connection);
        let from_outside = if original.key.vrf() == VrfId::DEFAULT {
            original
        } else {
            reply
        };
        let outside = (cold.pool, original.key.protocol(), cold.port);
        Some((outside, from_outside.key.source()))
    }

    /// Keeps who mappings have connections with, if the policy asks for it: once it does, of all that there are.
    fn follow_contacts(&mut self, keep: bool) {
        if !self.mappings.keep_contacts(keep) {
            return;
        }
        for connection in 0..self.connections.slots() {
            if self.connections.cold[connection as usize].slot == Slot::Live
                && let Some((outside, remote)) = self.contact_of(connection)
            {
                self.mappings.meet(outside, remote);
            }
        }
    }

    /// Gives back the port and the slot of a connection that ended.
    fn free(&mut self, connection: u32) {
        let cold = &self.connections.cold[connection as usize];
        let protocol = self.connections.pair(connection)[0].key.protocol();
        if cold.pool != NONE && !addresses::is_by_address(protocol) {
            let (pool, port, zombie) = (cold.pool, cold.port, cold.slot == Slot::Zombie);
            if !cold.shared || self.mappings.leave(pool, protocol, port, zombie) {
                self.ports.release(pool, protocol, port, self.clock.latest());
            }
        }
        self.leave_book(connection);
        self.connections.give_back(connection);
    }
}

/// Position of a protocol in what is counted by protocol: TCP, UDP, ICMP, others.
const fn count_index(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => 0,
        protocol::UDP => 1,
        protocol::ICMP | protocol::ICMPV6 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
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
            if step % 3 == 0 {
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
            stats.ended.unrouted > 10 && stats.ended.closed > 10 && stats.zombies > 0,
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
