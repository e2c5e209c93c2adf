//! Generations: which connections a new one touches, and what becomes of them.
//!
//! A pass looks at every connection once, in whatever budget the worker has, driven by the delta: what the delta does
//! not touch is stamped, the rest is resolved again. A packet that finds an old stamp has its connection revalidated
//! there and then, so that nothing is ever sent by the routes of a generation that is gone. A generation that comes
//! during a pass is merged into it: the pass goes on from where it is, once around.

use net::{Drop, Generation, RouteKind, VrfId};

use super::Engine;
use crate::connections::{NONE, Slot};
use crate::delta::{Delta, DeltaIndex};
use crate::entry::{ConnectionId, Entry, EntryRef};
use crate::policy::Target;
use crate::resolve::{Resolution, Resolver};
use crate::verdict::{EndReason, OffloadState, Outcome, RevalidationSummary};

/// A pass over every connection.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// The generation that connections are brought to.
    generation: Generation,
    /// The generation that every connection was brought to before.
    base: Generation,
    /// What changed from `base` to `generation`.
    delta: DeltaIndex,
    cursor: u32,
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

/// VRF in which a direction's destination is looked up once it is translated: its own if it leaves for the fabric, the
/// other end's if that is in a VPC.
fn lookup_vrf(entry: &Entry, opposite: &Entry) -> VrfId {
    match opposite.key.vrf() {
        VrfId::DEFAULT => entry.key.vrf(),
        inside => inside,
    }
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
        }
        pass.delta.add(delta);
        pass.generation = generation;
        pass.left = self.connections.slots();
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

    /// Goes on with the pass: `budget` slots at most. Tells each connection that changed; the summary, when the pass
    /// has ended, also counts those that their own packets revalidated.
    pub fn revalidate(
        &mut self,
        budget: usize,
        resolver: &impl Resolver,
        on_change: &mut impl FnMut(ConnectionId, Outcome),
    ) -> Option<RevalidationSummary> {
        if !self.pass.running || resolver.generation() < self.pass.generation {
            return None;
        }
        let stamp = self.pass.generation.0 as u32;
        let slots = self.connections.slots();
        for _ in 0..self.pass.left.min(u32::try_from(budget).unwrap_or(u32::MAX)) {
            let connection = if self.pass.cursor < slots { self.pass.cursor } else { 0 };
            self.pass.cursor = connection + 1;
            self.pass.left -= 1;
            let behind = (self.connections.stamps[connection as usize].wrapping_sub(stamp) as i32) < 0;
            if !behind || self.connections.cold[connection as usize].slot != Slot::Live {
                continue;
            }
            if !self.is_touched(connection) {
                self.connections.stamp(connection, stamp);
                self.pass.summary.kept += 1;
                continue;
            }
            let id = self.connections.id(connection);
            let waited = self.connections.cold[connection as usize].unrouted.is_some();
            let outcome = self.resolve_again(connection, stamp, resolver);
            self.pass.count(outcome);
            if outcome != Outcome::Kept && !(waited && outcome == Outcome::Unrouted) {
                on_change(id, outcome);
            }
        }
        if self.pass.left > 0 {
            return None;
        }
        self.pass.running = false;
        Some(self.pass.summary)
    }

    /// Brings the connection of a packet to the resolver's generation.
    pub fn revalidate_one(&mut self, at: EntryRef, resolver: &impl Resolver) -> Outcome {
        let entry = self.entry(at);
        if entry.is_dead() {
            return Outcome::Ended(Drop::NatPolicyDenied);
        }
        let connection = at.connection();
        let generation = resolver.generation();
        let stamp = generation.0 as u32;
        if entry.stamp == stamp {
            return Outcome::Kept;
        }
        let outcome = if generation == self.pass.generation && !self.is_touched(connection) {
            self.connections.stamp(connection, stamp);
            Outcome::Kept
        } else {
            self.resolve_again(connection, stamp, resolver)
        };
        if self.pass.running && generation == self.pass.generation {
            self.pass.count(outcome);
        }
        outcome
    }

    /// True unless the delta of the pass says that the connection goes the way it went.
    fn is_touched(&self, connection: u32) -> bool {
        let cold = &self.connections.cold[connection as usize];
        let stamp = self.connections.stamps[connection as usize];
        let older_than_delta = (stamp.wrapping_sub(self.pass.base.0 as u32) as i32) < 0;
        if older_than_delta
            || cold.policy != self.policy_number
            || cold.unrouted.is_some()
            || self.pass.delta.touches_all()
        {
            return true;
        }
        let pair = self.connections.pair(connection);
        let touches = |(entry, opposite): (&Entry, &Entry)| {
            self.pass.delta.touches(
                lookup_vrf(entry, opposite),
                entry.egress_vrf,
                entry.rewrite.destination(),
                entry.next_hop,
            )
        };
        touches((&pair[0], &pair[1])) || touches((&pair[1], &pair[0]))
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
        self.connections.stamp(connection, stamp);
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
        let way = |entry: &Entry, opposite: &Entry| {
            let destination = entry.rewrite.destination();
            if opposite.key.vrf() == VrfId::DEFAULT {
                self.outward(resolver, entry.key.vrf(), destination, cold.flow_hash)
            } else {
                self.inward(resolver, opposite.key.vrf(), destination, cold.flow_hash)
            }
        };
        let [original, reply] = self.connections.pair(connection);
        // From a VPC to the fabric, and now to somewhere else: the rule that made it is not about it any more.
        let from_inside = original.key.vrf() != VrfId::DEFAULT && reply.key.vrf() == VrfId::DEFAULT;
        let elsewhere = || {
            let (vrf, destination) = (original.key.vrf(), original.rewrite.destination());
            let way = resolver.resolve(vrf, destination, cold.flow_hash);
            way.is_ok_and(|way| way.kind == RouteKind::Unicast && way.vrf != VrfId::DEFAULT)
        };
        match (way(original, reply), way(reply, original)) {
            (Ok(there), Ok(back)) => Ways::Routed([there, back]),
            (Err(_), Ok(_)) if from_inside && elsewhere() => Ways::Denied,
            (Err(reason), _) | (_, Err(reason)) => Ways::Unrouted(reason),
        }
    }

    /// True if the present policy would make the same connection, with the same port or another.
    fn is_allowed(&self, connection: u32) -> bool {
        let cold = &self.connections.cold[connection as usize];
        let [original, reply] = self.connections.pair(connection);
        let (key, back) = (&original.key, &reply.key);
        let (protocol, policy) = (key.protocol(), &self.policy);
        if cold.pool != NONE {
            let from_inside = key.vrf() != VrfId::DEFAULT;
            let (vrf, source, address) = if from_inside {
                (key.vrf(), key.source(), back.destination())
            } else {
                (back.vrf(), back.source(), key.destination())
            };
            return policy.static_source(vrf, VrfId::DEFAULT, source).is_none()
                && policy.masquerade(vrf, source).is_some_and(|(_, rule)| {
                    rule.offers_to(source, address, cold.port) && (from_inside || rule.lets_in())
                })
                && !policy.is_forwarded(address, protocol, cold.port);
        }
        if key.vrf() == VrfId::DEFAULT {
            let end = Target {
                vrf: back.vrf(),
                address: back.source(),
                port: back.source_port(),
            };
            let (address, port) = (key.destination(), key.destination_port());
            if policy.is_forwarded(address, protocol, port) {
                return policy.leads_to(address, protocol, port, end);
            }
            let inside = policy.static_target(VrfId::DEFAULT, address);
            return inside == Some((end.vrf, end.address)) && end.port == port;
        }
        let seen_in = back.vrf();
        let source = policy.static_source(key.vrf(), seen_in, key.source());
        if seen_in == VrfId::DEFAULT {
            return source == Some(back.destination());
        }
        policy.static_target(key.vrf(), key.destination()) == Some((seen_in, back.source()))
            && source.unwrap_or(key.source()) == back.destination()
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

    fn lose_route(&mut self, connection: u32, reason: Drop) -> Outcome {
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
