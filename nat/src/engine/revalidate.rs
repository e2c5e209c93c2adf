//! Generations: which connections a new one touches, and what becomes of them.
//!
//! A pass looks at every connection once, in whatever budget the worker has, driven by the delta: what the delta does
//! not touch is stamped, the rest is resolved again. It reads two compact columns for that, not the entries. While it runs,
//! a packet whose entry has an old stamp has its connection revalidated there and then, so that nothing is ever sent by the
//! routes of a generation that is gone; once it has ended, every connection is of the generation, and entries' stamps
//! do not matter. A generation that comes during a pass is merged into it: the pass goes on from where it is, once around.

use net::{Drop, Generation, VrfId};

use super::Engine;
use super::addresses::is_by_address;
use crate::connections::NONE;
use crate::delta::{Delta, DeltaIndex};
use crate::entry::{ConnectionId, Entry, EntryRef};
use crate::resolve::{Resolution, Resolver, forwarding};
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
            if !policy_changed && !self.connections.ways.is_touched(connection, &self.pass.delta) {
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
        self.pass.base_policy != self.policy_number || self.connections.ways.is_touched(connection, &self.pass.delta)
    }

    fn resolve_again(&mut self, connection: u32, stamp: u32, resolver: &impl Resolver) -> Outcome {
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
        if cold.policy != self.policy_number && !self.is_allowed(connection) {
            return Ways::Denied;
        }
        let vrf = self.connections.inner_vrf(connection);
        let way = |entry: &Entry| forwarding(resolver.resolve(vrf, entry.rewrite.destination(), cold.flow_hash)?);
        let [original, reply] = self.connections.pair(connection);
        let (there, back) = match (way(original), way(reply)) {
            (Ok(there), Ok(back)) => (there, back),
            (Err(reason), _) | (_, Err(reason)) => return Ways::Unrouted(reason),
        };
        let masqueraded = cold.pool != NONE;
        let (outward, inward) = if masqueraded { (there, back) } else { (back, there) };
        if masqueraded && outward.vrf != VrfId::DEFAULT {
            return Ways::Denied;
        }
        if outward.vrf != VrfId::DEFAULT || inward.vrf == VrfId::DEFAULT {
            return Ways::Unrouted(Drop::NoRoute);
        }
        Ways::Routed([there, back])
    }

    /// True if the present policy would make the same connection, with the same port or another.
    pub(super) fn is_allowed(&self, connection: u32) -> bool {
        let cold = &self.connections.cold[connection as usize];
        let [original, reply] = self.connections.pair(connection);
        let protocol = original.key.protocol();
        if cold.pool == NONE {
            let (address, port) = (original.key.destination(), original.key.destination_port());
            return self.policy.forward(address, protocol, port).is_some_and(|target| {
                let end = (reply.key.vrf(), reply.key.source(), reply.key.source_port());
                end == (target.vrf, target.address, target.port)
            });
        }
        let address = reply.key.destination();
        self.policy
            .masquerade(original.key.vrf(), original.key.source())
            .is_some_and(|(_, rule)| {
                let port = is_by_address(protocol) || (rule.ports.0..=rule.ports.1).contains(&cold.port);
                port && rule.pool.contains(&address)
            })
            && self.policy.forward(address, protocol, cold.port).is_none()
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
