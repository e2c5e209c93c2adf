//! Generations: which connections a new one touches, and what becomes of them.
//!
//! A pass looks at every connection once, in whatever budget the worker has, driven by the delta: what the delta does
//! not touch is stamped, the rest is resolved again. It reads two compact columns for that, not the entries. While it runs,
//! a packet whose entry has an old stamp has its connection revalidated there and then, so that nothing is ever sent by the
//! routes of a generation that is gone; once it has ended, every connection is of the generation, and entries' stamps
//! do not matter. A generation that comes during a pass is merged into it: the pass goes on from where it is, once around.

use net::{Drop, Generation, RouteKind, VrfId};

use super::Engine;
use super::addresses::is_by_address;
use crate::connections::NONE;
use crate::delta::{Delta, DeltaIndex};
use crate::entry::{ConnectionId, Entry, EntryRef};
use crate::flow::Flow;
use crate::policy::{MasqueradeRule, Target};
use crate::resolve::{Resolution, Resolver, resolve};
use crate::verdict::{EndReason, OffloadState, Outcome, RevalidationSummary};
use crate::ways::BLOCK;

/// Slots of a budget that one connection takes which is resolved again.
const EXAMINATION: u32 = 16;

/// A pass over every connection.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// The generation that connections are brought to.
    generation: Generation,
    /// The generation that every connection was brought to before.
    base: Generation,
    /// The policy that every connection was found to agree with then.
    base_policy: u32,
    /// What changed from `base` to `generation`.
    delta: DeltaIndex,
    cursor: u32,
    /// Slots to go around: those that there were when the newest generation came. Later ones are of it.
    slots: u32,
    left: u32,
    running: bool,
    summary: RevalidationSummary,
}

impl Pass {
    fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Kept => &mut self.summary.kept,
            Outcome::Moved => &mut self.summary.moved,
            Outcome::Unrouted => &mut self.summary.unrouted,
            Outcome::Ended(_) => &mut self.summary.ended,
        } += 1;
    }
}

/// Where the directions of a connection go, or why the connection cannot go on.
enum Ways {
    Routed([Resolution; 2]),
    Unrouted(Drop),
    Denied,
}

impl Engine {
    /// A generation was published; `delta` is what changed since the one told before. Starts a pass, or widens the one
    /// that runs. A generation that is not newer is ignored.
    pub fn on_generation(&mut self, generation: Generation, delta: &Delta) {
        let pass = &mut self.pass;
        if generation <= pass.generation {
            return;
        }
        if !pass.running {
            pass.base = pass.generation;
            pass.delta.clear();
            // No number that a generation has soon.
            self.settled = (generation.0 as u32).wrapping_sub(1 << 31);
        }
        pass.delta.add(delta);
        pass.generation = generation;
        pass.slots = self.connections.slots();
        pass.left = pass.slots;
        pass.running = true;
        pass.summary = RevalidationSummary {
            generation,
            ..RevalidationSummary::default()
        };
    }

    /// True while a pass is not finished.
    pub fn is_revalidating(&self) -> bool {
        self.pass.running
    }

    /// Goes on with the pass: about `budget` slots, and fewer if many of them are touched. Tells each connection that
    /// changed; the summary, when the pass has ended, also counts those that their own packets revalidated.
    pub fn revalidate(
        &mut self,
        budget: usize,
        resolver: &impl Resolver,
        on_change: &mut impl FnMut(ConnectionId, Outcome),
    ) -> Option<RevalidationSummary> {
        if !self.pass.running || resolver.generation() < self.pass.generation {
            return None;
        }
        let mut budget = u32::try_from(budget).unwrap_or(u32::MAX);
        while self.pass.left > 0 && budget > 0 {
            if self.pass.cursor >= self.pass.slots {
                self.pass.cursor = 0;
            }
            let first = self.pass.cursor;
            let length = (self.pass.slots - first)
                .min(BLOCK as u32)
                .min(self.pass.left)
                .min(budget);
            let examined = self.revalidate_block(first, length, resolver, on_change);
            self.pass.cursor += length;
            self.pass.left -= length;
            budget = budget.saturating_sub(length + examined * EXAMINATION);
        }
        if self.pass.left > 0 {
            return None;
        }
        let stamp = self.pass.generation.0 as u32;
        self.pass.running = false;
        self.pass.base_policy = self.policy_number;
        self.settled = stamp;
        Some(self.pass.summary)
    }

    /// Gives the number of connections that were resolved again.
    fn revalidate_block(
        &mut self,
        first: u32,
        length: u32,
        resolver: &impl Resolver,
        on_change: &mut impl FnMut(ConnectionId, Outcome),
    ) -> u32 {
        let stamp = self.pass.generation.0 as u32;
        let ways = &mut self.connections.ways;
        let (behind, touched) = ways.scan(first as usize, length as usize, &self.pass.delta, stamp);
        let policy_changed = self.pass.base_policy != self.policy_number;
        let mut candidates = if policy_changed { behind } else { touched };
        self.pass.summary.kept += u64::from((behind & !candidates).count_ones());
        let mut examined = 0;
        while candidates != 0 {
            let connection = first + candidates.trailing_zeros();
            candidates &= candidates - 1;
            if !policy_changed && !self.is_way_touched(connection) {
                self.connections.ways.set_stamp(connection, stamp);
                self.pass.summary.kept += 1;
                continue;
            }
            examined += 1;
            let id = self.connections.id(connection);
            let waited = self.connections.cold[connection as usize].unrouted.is_some();
            let outcome = self.resolve_again(connection, stamp, resolver);
            self.pass.count(outcome);
            if outcome != Outcome::Kept && !(waited && outcome == Outcome::Unrouted) {
                on_change(id, outcome);
            }
        }
        examined
    }

    /// Brings the connection of a packet to the resolver's generation.
    pub fn revalidate_one(&mut self, at: EntryRef, resolver: &impl Resolver) -> Outcome {
        if self.entry(at).is_dead() {
            return Outcome::Ended(Drop::NatPolicyDenied);
        }
        let connection = at.connection();
        let generation = resolver.generation();
        let stamp = generation.0 as u32;
        if self.connections.ways.stamp(connection) == stamp {
            return Outcome::Kept;
        }
        let of_pass = generation == self.pass.generation;
        let outcome = if of_pass && (self.is_untouched(at) || !self.is_touched(connection)) {
            self.connections.ways.set_stamp(connection, stamp);
            Outcome::Kept
        } else {
            self.resolve_again(connection, stamp, resolver)
        };
        if self.pass.running && of_pass {
            self.pass.count(outcome);
        }
        outcome
    }

    /// True if the delta of the pass does not touch the connection as far as its entries can tell, which a packet has in
    /// its cache anyway: they don't say where a lookup began, so that a prefix of any VRF counts.
    fn is_untouched(&self, at: EntryRef) -> bool {
        let pass = &self.pass;
        let untouched = |entry: &Entry| {
            let (destination, next_hop) = (entry.rewrite.destination(), entry.next_hop);
            !pass.delta.touches_anywhere(destination, next_hop)
        };
        self.entry(at).flags == 0
            && pass.base_policy == self.policy_number
            && !pass.delta.touches_all()
            && self.connections.pair(at.connection()).iter().all(untouched)
    }

    /// True unless the delta of the pass says that the connection goes the way it went.
    fn is_touched(&self, connection: u32) -> bool {
        self.pass.base_policy != self.policy_number || self.is_way_touched(connection)
    }

    /// True unless the delta of the pass leaves the ways of the connection alone.
    fn is_way_touched(&self, connection: u32) -> bool {
        let (ways, delta) = (&self.connections.ways, &self.pass.delta);
        let pair = self.connections.pair(connection);
        if !ways.is_touched(connection, delta) {
            return false;
        }
        if delta.touches_all() || !pair.iter().any(|entry| entry.key.is_v6()) {
            return true;
        }
        // The columns know of IPv6 addresses only that they are such.
        (0..2).any(|direction| {
            let (begins, egress, next_hop, waits) = ways.of(connection, direction);
            let destination = self.flow_of(&pair[1 - direction].key).source;
            waits
                || match destination.to_v4() {
                    Some(destination) => delta.touches(begins, egress, destination, next_hop),
                    None => delta.touches_v6(begins, egress, destination.to_bits(), next_hop),
                }
        })
    }

    pub(super) fn resolve_again(&mut self, connection: u32, stamp: u32, resolver: &impl Resolver) -> Outcome {
        self.pass.summary.examined += 1;
        let outcome = match self.ways(connection, resolver) {
            Ways::Routed(routes) => self.follow(connection, routes),
            Ways::Unrouted(reason) => self.lose_route(connection, reason),
            Ways::Denied => {
                self.end(connection, EndReason::Policy);
                return Outcome::Ended(Drop::NatPolicyDenied);
            }
        };
        self.connections.note_ways(connection, stamp);
        self.connections.cold[connection as usize].policy = self.policy_number;
        // A new policy may have shorter timers.
        self.arm_earlier(connection);
        outcome
    }

    fn ways(&self, connection: u32, resolver: &impl Resolver) -> Ways {
        let cold = &self.connections.cold[connection as usize];
        let [original, reply] = self.connections.pair(connection);
        let leased = (cold.pool != NONE).then_some(cold.port);
        let [there, back] = [self.flow_of(&original.key), self.flow_of(&reply.key)];
        if cold.policy != self.policy_number && !self.is_allowed([&there, &back], leased) {
            return Ways::Denied;
        }
        let way = |flow: &Flow, opposite: &Flow| {
            // Packets leave as the opposite of what the other direction is found by.
            let destination = opposite.source;
            if opposite.vrf == VrfId::DEFAULT {
                self.outward(resolver, flow.vrf, destination, cold.flow_hash)
            } else {
                self.inward(resolver, opposite.vrf, destination, cold.flow_hash)
            }
        };
        // From a VPC to the fabric, and now to somewhere else: the rule that made it is not about it any more.
        let from_inside = there.vrf != VrfId::DEFAULT && back.vrf == VrfId::DEFAULT;
        let elsewhere = || {
            let way = resolve(resolver, there.vrf, back.source, cold.flow_hash);
            way.is_ok_and(|way| way.kind == RouteKind::Unicast && way.vrf != VrfId::DEFAULT)
        };
        match (way(&there, &back), way(&back, &there)) {
            (Ok(there), Ok(back)) => Ways::Routed([there, back]),
            (Err(_), Ok(_)) if from_inside && elsewhere() => Ways::Denied,
            (Err(reason), _) | (_, Err(reason)) => Ways::Unrouted(reason),
        }
    }

    /// True if the present policy would make the connection with these keys, in the original and in the reply direction,
    /// with the same port of a pool or with another one.
    pub(super) fn is_allowed(&self, [key, back]: [&Flow; 2], leased: Option<u16>) -> bool {
        let (protocol, policy) = (key.protocol, &self.policy);
        if let Some(port) = leased {
            let from_inside = key.vrf != VrfId::DEFAULT;
            let (vrf, source, address) = if from_inside {
                (key.vrf, key.source, back.destination)
            } else {
                (back.vrf, back.source, key.destination)
            };
            let offered = |rule: &MasqueradeRule| match is_by_address(protocol) {
                true => rule.pairs(source, address),
                false => rule.offers_to(source, address, port),
            };
            return policy.static_source(vrf, VrfId::DEFAULT, source).is_none()
                && policy
                    .masquerade(vrf, source)
                    .is_some_and(|(_, rule)| offered(rule) && (from_inside || rule.lets_in()))
                && !policy.is_forwarded(address, protocol, port);
        }
        if key.vrf == VrfId::DEFAULT {
            let end = Target {
                vrf: back.vrf,
                address: back.source,
                port: back.source_port,
            };
            let (address, port) = (key.destination, key.destination_port);
            if policy.is_forwarded(address, protocol, port) {
                return policy.leads_to(address, protocol, port, end);
            }
            let inside = policy.static_target(VrfId::DEFAULT, address);
            return inside == Some((end.vrf, end.address)) && end.port == port;
        }
        let seen_in = back.vrf;
        let source = policy.static_source(key.vrf, seen_in, key.source);
        if seen_in == VrfId::DEFAULT {
            return source == Some(back.destination);
        }
        policy.static_target(key.vrf, key.destination) == Some((seen_in, back.source))
            && source.unwrap_or(key.source) == back.destination
    }

    fn follow(&mut self, connection: u32, routes: [Resolution; 2]) -> Outcome {
        let cold = &mut self.connections.cold[connection as usize];
        let offloaded = !matches!(cold.offload, OffloadState::None | OffloadState::Refused);
        let mut moved = cold.unrouted.take().is_some();
        if moved {
            self.counters.unrouted -= 1;
        }
        for (entry, route) in self.connections.pair_mut(connection).iter_mut().zip(routes) {
            moved |= (entry.next_hop, entry.egress_vrf) != (route.next_hop, route.vrf);
            entry.next_hop = route.next_hop;
            entry.egress_vrf = route.vrf;
            entry.flags &= !Entry::UNROUTED;
        }
        moved |= offloaded
            && routes
                .iter()
                .any(|route| self.pass.delta.touches_next_hop(route.next_hop));
        if moved { Outcome::Moved } else { Outcome::Kept }
    }

    pub(super) fn lose_route(&mut self, connection: u32, reason: Drop) -> Outcome {
        let now = self.clock.latest();
        let cold = &mut self.connections.cold[connection as usize];
        if cold.unrouted.replace(reason).is_none() {
            cold.unrouted_since = now.0;
            self.counters.unrouted += 1;
            self.connections
                .pair_mut(connection)
                .iter_mut()
                .for_each(|entry| entry.flags |= Entry::UNROUTED);
        }
        Outcome::Unrouted
    }
}
