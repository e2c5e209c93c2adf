//! Next-hop resolution: from the gateways of a group to neighbours on interfaces, over the routes themselves.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use net::{IfIndex, NextHop, NextHopId, NextHopObject, RouteKind, Vni, VrfId};
use smallvec::SmallVec;

use crate::buckets::{Division, divide, losers};
use crate::group::{GroupKey, MAX_MEMBERS, Need, Reason, ResolvedHop, Step, Target, Walk};
use crate::interface::{Attachment, Interface};
use crate::next_hop::special_id;
use crate::rib::Rib;
use crate::tables::{Member, TableOp};

/// Gateways behind gateways that resolution follows.
const MAX_DEPTH: usize = 8;
/// Lookups that the resolution of one group may take.
const MAX_LOOKUPS: usize = 512;
/// Resolutions of one group in one generation after which its routes count as a loop.
const MAX_VISITS: u32 = 64;

/// Lookups on the way to the one being made.
type Path = SmallVec<[(VrfId, IpAddr); MAX_DEPTH]>;

impl Rib {
    /// The group of a set of next hops, resolved; `None` when every id is in use.
    pub(crate) fn intern(&mut self, key: GroupKey) -> Option<u32> {
        self.intern_after(key, None)
    }

    /// The same; a group that is made takes the flows over as they lie in group `before`.
    pub(crate) fn intern_after(&mut self, key: GroupKey, before: Option<u32>) -> Option<u32> {
        let (id, new) = self.groups.intern(key)?;
        if new {
            self.resolve_after(id, before);
        }
        Some(id)
    }

    /// One reference less; the last takes the group out.
    pub(crate) fn release_group(&mut self, id: u32) {
        self.groups.get_mut(id).references -= 1;
        self.drop_unused_group(id);
    }

    /// Takes a group out if nothing refers to it.
    pub(crate) fn drop_unused_group(&mut self, id: u32) {
        if self.groups.get(id).references > 0 {
            return;
        }
        let group = self.groups.remove(id);
        for need in &group.needs {
            self.dependents.remove(&(*need, id));
        }
        self.work.flipped.remove(&id);
        self.outcome.regrouped.remove(&id);
        self.unwatch(id, &group.steps);
        self.release_members(&group.members);
    }

    /// Resolves a group, and passes on what that changes.
    pub(crate) fn resolve(&mut self, id: u32) {
        self.resolve_after(id, None);
    }

    fn resolve_after(&mut self, id: u32, before: Option<u32>) {
        let key = Arc::clone(&self.groups.get(id).key);
        let mut walk = self.walk(&key);
        self.outcome.effort.resolutions += 1;
        let group = self.groups.get_mut(id);
        group.dirty = false;
        group.visits += 1;
        if group.visits == 1 {
            self.work.visited.push(id);
        }
        if group.visits > MAX_VISITS {
            tracing::warn!(vrf = %key.vrf, next_hops = ?key.next_hops, "resolution does not settle; treated as a loop");
            walk.targets.clear();
            walk.problem = Some(Reason::Loop);
        }
        let unusable = walk.targets.is_empty() && key.kind == RouteKind::Unicast;
        let problem = unusable.then(|| walk.problem.unwrap_or(Reason::GatewayUnresolved));
        let flipped = group.references > 0 && group.problem.is_some() != problem.is_some();
        group.problem = problem;
        if flipped {
            self.work.flipped.insert(id);
        }
        let needs = std::mem::replace(&mut group.needs, walk.needs.clone());
        if needs != walk.needs {
            for need in needs {
                self.dependents.remove(&(need, id));
            }
            self.dependents.extend(walk.needs.iter().map(|need| (*need, id)));
        }
        let group = self.groups.get_mut(id);
        let old = std::mem::replace(&mut group.steps, walk.steps.clone());
        if old != walk.steps {
            self.unwatch(id, &old);
            self.watch(id, &walk.steps);
            self.mark_self_covering(key.vrf, old.iter().chain(&walk.steps));
        }
        let group = self.groups.get(id);
        if group.visits == 1 && group.references == 0 || group.targets != walk.targets {
            self.regroup(id, walk.targets, before);
        }
    }

    /// Gives a group other members; its flows stay where they lie, in it or in group `before`, as far as they can.
    fn regroup(&mut self, id: u32, targets: Vec<(Target, u32)>, before: Option<u32>) {
        let members: Vec<Member> = match self.groups.get(id).key.kind {
            RouteKind::Unicast => targets.iter().map(|(t, _)| self.member(*t)).collect(),
            special => vec![Member::next_hop(special_id(special))],
        };
        let resolved = targets
            .iter()
            .map(|(target, weight)| self.resolved_hop(*target, *weight))
            .collect();
        let lay = self.groups.get(before.unwrap_or(id));
        let old = Division {
            buckets: &lay.buckets,
            weights: &lay.weights(),
        };
        let weight = |at: usize| targets.get(at).map_or(1, |(_, weight)| *weight);
        let weighted: Vec<(Member, u32)> = members.iter().enumerate().map(|(at, m)| (*m, weight(at))).collect();
        let buckets = divide(old, &weighted);
        let division = division(&buckets, &members, &targets);
        let group = self.groups.get_mut(id);
        group.targets = targets;
        group.resolved = resolved;
        group.division = division;
        let old = std::mem::replace(&mut group.members, members);
        let old_buckets = std::mem::replace(&mut group.buckets, buckets);
        if group.references > 0 {
            // Whoever has a flow that goes another way looks again; of a leak it is not known who.
            for member in losers(&old_buckets, &group.buckets) {
                match member.id() {
                    Some(id) => self.outcome.delta.next_hops.push(id),
                    None => self.outcome.delta.everything = true,
                }
            }
            self.outcome.regrouped.insert(id);
            self.bound_delta();
        }
        let update = Box::new(self.groups.get(id).update());
        for id in self.followers.get(&id).into_iter().flatten().copied() {
            self.write.append(TableOp::Group {
                id,
                update: update.clone(),
            });
        }
        self.write.append(TableOp::Group { id, update });
        self.release_members(&old);
        if let Some(overlay) = self.overlays.get(&id) {
            self.next_hops.dirty.extend(overlay);
        }
    }

    fn member(&mut self, target: Target) -> Member {
        match target {
            Target::Leak(vrf) => Member::leak(vrf),
            target => Member::next_hop(self.next_hops.retain(target, self.generation.next())),
        }
    }

    fn release_members(&mut self, members: &[Member]) {
        let building = self.building();
        for id in members.iter().filter_map(|m| m.id()) {
            if self.next_hops.get(id).target.is_none() {
                continue; // fixed entries stay
            }
            if let Some(underlay) = self.next_hops.release(id, building).and_then(|gone| gone.underlay) {
                self.leave_underlay(id, underlay);
            }
        }
    }

    /// An overlay next hop does not depend on `underlay` any more.
    pub(crate) fn leave_underlay(&mut self, id: NextHopId, underlay: u32) {
        if let Some(overlay) = self.overlays.get_mut(&underlay) {
            overlay.remove(&id);
            if overlay.is_empty() {
                self.overlays.remove(&underlay);
            }
        }
        self.release_group(underlay);
    }

    fn resolved_hop(&self, target: Target, weight: u32) -> ResolvedHop {
        let host = |id| self.interfaces.get(&id).and_then(|i: &Interface| i.host);
        let (gateway, interface, vrf) = match target {
            Target::Neighbor(interface, address) => (Some(address), host(interface), None),
            Target::Glean(interface) => (None, host(interface), None),
            Target::Tunnel(interface, vtep, _) => (Some(vtep), host(interface), None),
            Target::Leak(vrf) => (None, None, Some(vrf)),
        };
        ResolvedHop {
            gateway,
            interface,
            vrf,
            tunnel: matches!(target, Target::Tunnel(..)),
            weight,
        }
    }

    fn watch(&mut self, id: u32, steps: &[Step]) {
        for step in steps {
            self.watches.entry((step.vrf, step.address)).or_default().push(id);
        }
    }

    fn unwatch(&mut self, id: u32, steps: &[Step]) {
        for step in steps {
            let key = (step.vrf, step.address);
            if let Some(ids) = self.watches.get_mut(&key) {
                ids.retain(|i| *i != id);
                if ids.is_empty() {
                    self.watches.remove(&key);
                }
            }
        }
    }

    /// Elects again the prefixes that hold a gateway of a group whose steps changed: they may loop, or loop no longer.
    fn mark_self_covering<'a>(&mut self, vrf: VrfId, steps: impl Iterator<Item = &'a Step>) {
        let Some(routes) = self.vrfs.get(&vrf) else { return };
        for step in steps.filter(|s| s.vrf == vrf) {
            routes.covers(net::Prefix::host(step.address), |p, _| {
                self.work.prefixes.push((vrf, p))
            });
        }
    }

    /// Follows every next hop of a group.
    fn walk(&self, key: &GroupKey) -> Walk {
        let mut walk = Walk::default();
        for hop in &key.next_hops {
            self.walk_hop(
                key.vrf,
                hop,
                None,
                u32::from(hop.weight.max(1)),
                &mut Path::new(),
                &mut walk,
            );
        }
        walk.targets.sort_unstable();
        walk.targets.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 = first.1.saturating_add(later.1);
            }
            same
        });
        walk.targets.truncate(MAX_MEMBERS);
        walk
    }

    /// Follows one next hop of a route in `vrf`. `destination` is the gateway that is being resolved through it.
    fn walk_hop(
        &self,
        vrf: VrfId,
        hop: &NextHop,
        destination: Option<IpAddr>,
        weight: u32,
        path: &mut Path,
        walk: &mut Walk,
    ) {
        if let Some(object) = hop.object {
            return self.walk_object(vrf, object, destination, weight, path, walk);
        }
        let target = if let Some(vxlan) = hop.vxlan {
            need(walk, Need::Vni(vxlan.vni));
            let mut underlay = Walk {
                lookups: walk.lookups,
                ..Walk::default()
            };
            self.walk_gateway(VrfId::DEFAULT, vxlan.vtep, 1, path, &mut underlay);
            walk.lookups = underlay.lookups;
            for step in underlay.steps {
                note(walk, step);
            }
            for needed in underlay.needs {
                need(walk, needed);
            }
            match underlay.targets.first() {
                Some(_) => self
                    .vxlan_interface(vxlan.vni)
                    .map(|i| Target::Tunnel(i.id, vxlan.vtep, vxlan.mac)),
                None => Err(underlay.problem.unwrap_or(Reason::GatewayUnresolved)),
            }
        } else {
            if let Some(host) = hop.interface {
                need(walk, Need::Host(host));
            }
            match (hop.interface, hop.gateway.or(destination)) {
                (Some(host), Some(address)) => self.usable(host).map(|i| Target::Neighbor(i.id, address)),
                (Some(host), None) => self.usable(host).map(|i| Target::Glean(i.id)),
                (None, Some(gateway)) => {
                    return self.walk_gateway(hop.vrf.unwrap_or(vrf), gateway, weight, path, walk);
                }
                (None, None) => hop.vrf.map(Target::Leak).ok_or(Reason::GatewayUnresolved),
            }
        };
        match target {
            Ok(target) => walk.targets.push((target, weight)),
            Err(reason) => walk.problem = walk.problem.or(Some(reason)),
        }
    }

    /// Follows what an object stands for now.
    fn walk_object(
        &self,
        vrf: VrfId,
        object: NextHopObject,
        destination: Option<IpAddr>,
        weight: u32,
        path: &mut Path,
        walk: &mut Walk,
    ) {
        need(walk, Need::Object(object));
        let Some(next_hops) = self.objects.get(&object) else {
            walk.problem = walk.problem.or(Some(Reason::ObjectUnknown));
            return;
        };
        for hop in next_hops.iter().filter(|hop| hop.object.is_none()) {
            let weight = weight.saturating_mul(u32::from(hop.weight.max(1)));
            self.walk_hop(vrf, hop, destination, weight, path, walk);
        }
    }

    /// Looks a gateway up in `vrf` and follows the best route to it.
    fn walk_gateway(&self, vrf: VrfId, gateway: IpAddr, weight: u32, path: &mut Path, walk: &mut Walk) {
        let found = self.best_cover(vrf, gateway);
        walk.lookups += 1;
        note(
            walk,
            Step {
                vrf,
                address: gateway,
                length: found.map(|(length, _)| length),
            },
        );
        let problem = match found.map(|(_, id)| &self.groups.get(id).key) {
            _ if path.contains(&(vrf, gateway)) || path.len() == MAX_DEPTH || walk.lookups > MAX_LOOKUPS => {
                Reason::Loop
            }
            None => Reason::GatewayUnresolved,
            Some(key) => match key.kind {
                RouteKind::Unicast => {
                    path.push((vrf, gateway));
                    for hop in &key.next_hops {
                        let weight = weight.saturating_mul(u32::from(hop.weight.max(1)));
                        self.walk_hop(key.vrf, hop, Some(gateway), weight, path, walk);
                    }
                    path.pop();
                    return;
                }
                RouteKind::Local | RouteKind::Nat => Reason::GatewayLocal,
                RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => Reason::GatewayDiscarded,
            },
        };
        walk.problem = walk.problem.or(Some(problem));
    }

    /// The interface of ours that a host interface stands for, if it is up.
    pub(crate) fn usable(&self, host: IfIndex) -> Result<&Interface, Reason> {
        let interface = self
            .hosts
            .get(&host)
            .and_then(|id| self.interfaces.get(id))
            .ok_or(Reason::InterfaceUnknown)?;
        if self.is_up(interface) {
            Ok(interface)
        } else {
            Err(Reason::InterfaceDown)
        }
    }

    fn vxlan_interface(&self, vni: Vni) -> Result<&Interface, Reason> {
        let has = |i: &&Interface| matches!(i.attachment, Attachment::Vxlan { vni: v, .. } if v == vni);
        let interface = self.interfaces.values().find(has).ok_or(Reason::VxlanUnknown)?;
        if self.is_up(interface) {
            Ok(interface)
        } else {
            Err(Reason::InterfaceDown)
        }
    }
}

/// What tells one division of flows from another; 0 if there is nothing to divide.
fn division(buckets: &[Member], members: &[Member], targets: &[(Target, u32)]) -> u64 {
    if buckets.len() < 2 {
        return 0;
    }
    let owner = |bucket: &Member| {
        let at = members.iter().position(|member| member == bucket);
        at.and_then(|at| targets.get(at)).map(|(target, _)| target)
    };
    let owners: Vec<Option<&Target>> = buckets.iter().map(owner).collect();
    foldhash::fast::FixedState::default().hash_one(owners).max(1)
}

/// Notes whose state is asked for, once.
fn need(walk: &mut Walk, need: Need) {
    if !walk.needs.contains(&need) {
        walk.needs.push(need);
    }
}

/// Notes a lookup, once.
fn note(walk: &mut Walk, step: Step) {
    if !walk.steps.contains(&step) {
        walk.steps.push(step);
    }
}
