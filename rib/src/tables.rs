//! What workers read: one immutable generation of every VRF's FIB, the next hops, the interfaces and the NAT policy.
//!
//! The way of a lookup is FIB leaf -> group -> next-hop id -> [`Adjacency`]. A group is the set of next hops that any
//! number of prefixes share, so a change of next hops, like a change of a neighbour, is one operation whatever the
//! number of prefixes behind it.
//!
//! Two copies exist, of which `left-right` shows one to readers; [`TableOp`]s are applied to each in turn.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use nat::Delta;
use net::{Drop, Generation, InterfaceId, NextHopId, PortId, Revision, RouteKind, VlanId, VrfId};

use crate::adjacency::{Adjacency, AdjacencyKind};
use crate::interface::TableInterface;
use crate::sync::Witness;
use crate::trie::{BURST, Forest, Key, Root};

mod absorb;

pub(crate) use absorb::{GroupUpdate, TableOp};

/// Leaks from VRF to VRF that one lookup follows.
pub(crate) const MAX_LEAKS: usize = 4;
/// Generations whose deltas are kept; a worker that missed more revalidates everything.
const DELTAS: usize = 64;

/// Next hop of a destination without a route.
pub(crate) const NO_ROUTE: NextHopId = NextHopId(0);
/// Next hop of a destination whose leaks lead round in a circle.
pub(crate) const VRF_LOOP: NextHopId = NextHopId(1);

/// Where a destination goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Entry of the next-hop table.
    pub next_hop: NextHopId,
    /// VRF in which the lookup ended.
    pub vrf: VrfId,
    /// What the route says to do.
    pub kind: RouteKind,
}

impl Lookup {
    /// No route: next hop 0, whose adjacency says so too.
    pub const NO_ROUTE: Self = Self {
        next_hop: NO_ROUTE,
        vrf: VrfId::DEFAULT,
        kind: RouteKind::Unreachable,
    };
}

impl Default for Lookup {
    fn default() -> Self {
        Self::NO_ROUTE
    }
}

/// One member of a group: a next-hop id, or with the top bit the VRF in which to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member(u32);

impl Member {
    const LEAK: u32 = 1 << 31;

    pub(crate) const fn next_hop(id: NextHopId) -> Self {
        Self(id.0)
    }
    pub(crate) const fn leak(vrf: VrfId) -> Self {
        Self(Self::LEAK | vrf.0 as u32)
    }
    pub(crate) const fn id(self) -> Option<NextHopId> {
        if self.0 & Self::LEAK == 0 {
            Some(NextHopId(self.0))
        } else {
            None
        }
    }
    pub(crate) const fn vrf(self) -> Option<VrfId> {
        if self.0 & Self::LEAK == 0 {
            None
        } else {
            Some(VrfId(self.0 as u16))
        }
    }
}

/// A group as a lookup reads it.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// The only member; of several, the number of their buckets.
    first: Member,
    /// Number of buckets less one.
    mask: u32,
    kind: RouteKind,
}

/// The roots of one VRF.
#[derive(Clone, Copy)]
struct Vrf {
    v4: Root,
    v6: Root,
}

/// One generation, whole: routes of every VRF, next hops, interfaces and NAT policy.
///
/// The way of a lookup is FIB leaf -> group -> next-hop id -> [`Adjacency`].
#[derive(Clone)]
pub struct Tables {
    generation: Generation,
    revision: Revision,
    vrfs: Vec<Vrf>,
    v4: Forest<u32>,
    v6: Forest<u128>,
    groups: Vec<Group>,
    buckets: Vec<Box<[Member]>>,
    free_buckets: Vec<u32>,
    next_hops: Vec<Adjacency>,
    interfaces: Vec<Option<TableInterface>>,
    ports: Vec<Option<InterfaceId>>,
    vlans: Vec<Vec<Option<InterfaceId>>>,
    vnis: HashMap<u64, InterfaceId, foldhash::fast::FixedState>,
    /// By VRF, the first of its interfaces.
    vrf_interfaces: Vec<Option<InterfaceId>>,
    /// Our tunnel endpoints: address and UDP port, each once.
    vteps: Vec<(u32, u16)>,
    policy: Arc<nat::Policy>,
    deltas: VecDeque<(Generation, Arc<Delta>)>,
    witness: Witness,
}

impl Tables {
    /// Queries that one call of [`Tables::resolve_v4_burst`] or [`Tables::resolve_v6_burst`] takes.
    pub const BURST: usize = BURST;

    /// Generation 0: no route, no interface.
    pub(crate) fn new(policy: Arc<nat::Policy>) -> Self {
        let none = Group {
            first: Member::next_hop(NO_ROUTE),
            mask: 0,
            kind: RouteKind::Unreachable,
        };
        Self {
            generation: Generation(0),
            revision: Revision(0),
            vrfs: Vec::new(),
            v4: Forest::new(),
            v6: Forest::new(),
            groups: vec![none],
            buckets: Vec::new(),
            free_buckets: Vec::new(),
            next_hops: vec![
                Adjacency::plain(AdjacencyKind::NoRoute),
                Adjacency::plain(AdjacencyKind::VrfLoop),
            ],
            interfaces: Vec::new(),
            ports: Vec::new(),
            vlans: Vec::new(),
            vnis: HashMap::default(),
            vrf_interfaces: Vec::new(),
            vteps: Vec::new(),
            policy,
            deltas: VecDeque::new(),
            witness: Witness::default(),
        }
    }

    /// The number of this state.
    pub fn generation(&self) -> Generation {
        self.witness.read();
        self.generation
    }

    /// The configuration revision that the NAT policy came from.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Where an IPv4 packet in `vrf` goes; `destination` in host order, `flow_hash` decides between equal next hops.
    ///
    /// # Errors
    /// [`Drop::NoRoute`], or [`Drop::VrfLoop`] after more than four leaks or on coming back to a VRF.
    #[inline]
    pub fn resolve_v4(&self, vrf: VrfId, destination: u32, flow_hash: u32) -> Result<nat::Resolution, Drop> {
        resolution(self.lookup_v4(vrf, destination, flow_hash))
    }

    /// Where an IPv6 packet in `vrf` goes; `destination` in host order, `flow_hash` decides between equal next hops.
    ///
    /// # Errors
    /// [`Drop::NoRoute`], or [`Drop::VrfLoop`] after more than four leaks or on coming back to a VRF.
    #[inline]
    pub fn resolve_v6(&self, vrf: VrfId, destination: u128, flow_hash: u32) -> Result<nat::Resolution, Drop> {
        resolution(self.lookup_v6(vrf, destination, flow_hash))
    }

    /// [`Tables::resolve_v4`] that names a next hop in any case: no route and a circle of leaks have theirs.
    #[inline]
    pub fn lookup_v4(&self, vrf: VrfId, destination: u32, flow_hash: u32) -> Lookup {
        self.witness.read();
        let leaf = |vrf| self.v4.lookup(self.root(vrf, |r| r.v4), destination);
        self.follow(vrf, leaf(vrf), || flow_hash, leaf)
    }

    /// [`Tables::resolve_v6`] that names a next hop in any case: no route and a circle of leaks have theirs.
    #[inline]
    pub fn lookup_v6(&self, vrf: VrfId, destination: u128, flow_hash: u32) -> Lookup {
        let leaf = |vrf| self.v6.lookup(self.root(vrf, |r| r.v6), destination);
        self.follow(vrf, leaf(vrf), || flow_hash, leaf)
    }

    /// [`Tables::lookup_v4`] of the first `count` queries (VRF, destination) of a burst of [`Tables::BURST`] at most,
    /// whose cache misses overlap. The results beyond are no route. A flow's hash is asked for only where there is a
    /// choice.
    #[inline(always)]
    pub fn resolve_v4_burst(
        &self,
        count: usize,
        query: impl Fn(usize) -> (VrfId, u32),
        flow_hash: impl Fn(usize) -> u32,
    ) -> [Lookup; BURST] {
        self.burst(&self.v4, |r| r.v4, count, query, flow_hash, |found| found)
    }

    /// The next hops of [`Tables::resolve_v4_burst`] alone.
    #[inline(always)]
    pub fn next_hops_v4_burst(
        &self,
        count: usize,
        query: impl Fn(usize) -> (VrfId, u32),
        flow_hash: impl Fn(usize) -> u32,
    ) -> [NextHopId; BURST] {
        self.burst(&self.v4, |r| r.v4, count, query, flow_hash, |found| found.next_hop)
    }

    /// [`Tables::resolve_v4_burst`] for IPv6.
    #[inline(always)]
    pub fn resolve_v6_burst(
        &self,
        count: usize,
        query: impl Fn(usize) -> (VrfId, u128),
        flow_hash: impl Fn(usize) -> u32,
    ) -> [Lookup; BURST] {
        self.burst(&self.v6, |r| r.v6, count, query, flow_hash, |found| found)
    }

    /// The entry of a next hop; an id that no table ever gave out is no route.
    #[inline]
    pub fn adjacency(&self, id: NextHopId) -> &Adjacency {
        self.next_hops
            .get(id.0 as usize)
            .unwrap_or(&self.next_hops[NO_ROUTE.0 as usize])
    }

    /// An interface.
    #[inline]
    pub fn interface(&self, id: InterfaceId) -> Option<&TableInterface> {
        self.interfaces.get(usize::from(id.0))?.as_ref()
    }

    /// The interface of a port's untagged frames.
    #[inline]
    pub fn port_interface(&self, port: PortId) -> Option<InterfaceId> {
        *self.ports.get(usize::from(port.0))?
    }

    /// The interface of a VLAN on a port.
    #[inline]
    pub fn vlan_interface(&self, port: PortId, vlan: VlanId) -> Option<InterfaceId> {
        *self.vlans.get(usize::from(port.0))?.get(usize::from(vlan.value()))?
    }

    /// The interface of a VNI at one of our tunnel endpoints (host order).
    #[inline]
    pub fn vni_interface(&self, destination: u32, vni: u32) -> Option<InterfaceId> {
        self.vnis.get(&vni_key(destination, vni)).copied()
    }

    /// The interface that packets of a VRF come in on, the one with the lowest number if there are several.
    pub fn vrf_interface(&self, vrf: VrfId) -> Option<&TableInterface> {
        let id = *self.vrf_interfaces.get(usize::from(vrf.0))?;
        self.interface(id?)
    }

    /// True if UDP to this address (host order) and port is for one of our tunnel endpoints.
    #[inline]
    pub fn is_vtep(&self, destination: u32, udp_port: u16) -> bool {
        self.vteps.contains(&(destination, udp_port))
    }

    /// True if there is a tunnel endpoint of ours.
    #[inline]
    pub fn has_vteps(&self) -> bool {
        !self.vteps.is_empty()
    }

    /// The NAT policy.
    pub fn nat(&self) -> &Arc<nat::Policy> {
        &self.policy
    }

    /// What changed after `generation`. A generation too old to be remembered gives [`Delta::everything`].
    pub fn delta_since(&self, generation: Generation) -> Arc<Delta> {
        if generation >= self.generation {
            return Arc::new(Delta::default());
        }
        let mut missed = self.deltas.iter().filter(|(g, _)| *g > generation).map(|(_, d)| d);
        let remembered = self
            .deltas
            .front()
            .is_some_and(|(oldest, _)| *oldest <= generation.next());
        match (missed.next(), missed.next()) {
            (Some(only), None) if remembered => Arc::clone(only),
            (Some(first), Some(second)) if remembered => {
                let mut merged = Delta::clone(first);
                for delta in std::iter::once(second).chain(missed) {
                    merged.merge(delta);
                }
                Arc::new(merged)
            }
            _ => Arc::new(Delta::everything()),
        }
    }

    /// Bytes of the FIBs, groups and next hops of this copy.
    pub fn memory(&self) -> usize {
        self.v4.memory()
            + self.v6.memory()
            + self.groups.capacity() * size_of::<Group>()
            + self.buckets.iter().map(|b| size_of_val(&**b)).sum::<usize>()
            + self.next_hops.capacity() * size_of::<Adjacency>()
    }

    #[inline]
    fn root(&self, vrf: VrfId, family: impl Fn(&Vrf) -> Root) -> Root {
        self.vrfs.get(usize::from(vrf.0)).map_or(Root::EMPTY, family)
    }

    #[inline(always)]
    fn burst<K: Key, F: Copy>(
        &self,
        forest: &Forest<K>,
        family: impl Fn(&Vrf) -> Root + Copy,
        count: usize,
        query: impl Fn(usize) -> (VrfId, K),
        flow_hash: impl Fn(usize) -> u32,
        wanted: impl Fn(Lookup) -> F,
    ) -> [F; BURST] {
        let count = count.min(BURST);
        let slots = forest.lookup_burst(count, |i| {
            let (vrf, destination) = query(i);
            (self.root(vrf, family), destination)
        });
        let mut out = [wanted(Lookup::NO_ROUTE); BURST];
        for i in 0..count {
            let (vrf, destination) = query(i);
            let again = |vrf| forest.lookup(self.root(vrf, family), destination);
            out[i] = wanted(self.follow(vrf, slots[i].id(), || flow_hash(i), again));
        }
        out
    }

    /// From a FIB leaf in `vrf` to a next hop; `again` looks the same destination up in the VRF of a leak.
    #[inline(always)]
    fn follow(&self, vrf: VrfId, leaf: u32, flow_hash: impl Fn() -> u32, again: impl Fn(VrfId) -> u32) -> Lookup {
        let (member, kind) = self.choose(leaf, &flow_hash);
        match member.id() {
            Some(next_hop) => Lookup { next_hop, vrf, kind },
            None => self.follow_leak(vrf, member, flow_hash(), again),
        }
    }

    /// Goes on in the VRF of a leak, in each VRF once: a lookup that ends in the VRF it began in saw no other, which is
    /// what [`nat::Delta`]'s readers rely on.
    #[inline(never)]
    fn follow_leak(&self, origin: VrfId, leak: Member, mut flow_hash: u32, again: impl Fn(VrfId) -> u32) -> Lookup {
        let mut vrf = VrfId(leak.0 as u16);
        let mut path = [origin; MAX_LEAKS];
        let mut seen = vrf == origin;
        for at in 1..=MAX_LEAKS {
            if seen {
                break;
            }
            // The next VRF chooses anew, not by the bits that led here.
            flow_hash = flow_hash.wrapping_mul(0x85eb_ca6b).rotate_left(13);
            let (member, kind) = self.choose(again(vrf), || flow_hash);
            match member.id() {
                // Nearly always the first leak is the last.
                Some(next_hop) => return Lookup { next_hop, vrf, kind },
                None => {
                    path[at % MAX_LEAKS] = vrf;
                    vrf = VrfId(member.0 as u16);
                    seen = path.contains(&vrf);
                }
            }
        }
        Lookup {
            next_hop: VRF_LOOP,
            vrf,
            kind: RouteKind::Unreachable,
        }
    }

    /// The member of a leaf's group that a flow goes by.
    #[inline(always)]
    fn choose(&self, leaf: u32, flow_hash: impl Fn() -> u32) -> (Member, RouteKind) {
        let group = &self.groups[leaf as usize];
        let member = if group.mask == 0 {
            group.first
        } else {
            self.bucket(group, flow_hash())
        };
        (member, group.kind)
    }

    /// Low bits of an RSS hash chose the worker, so they are the same for all its flows: mix before masking.
    #[inline]
    fn bucket(&self, group: &Group, flow_hash: u32) -> Member {
        let mixed = flow_hash.wrapping_mul(0x9e37_79b1) >> 16;
        self.buckets[group.first.0 as usize][(mixed & group.mask) as usize]
    }
}

impl nat::Resolver for Tables {
    fn generation(&self) -> Generation {
        self.generation
    }

    fn resolve(&self, vrf: VrfId, destination: u32, flow_hash: u32) -> Result<nat::Resolution, Drop> {
        self.resolve_v4(vrf, destination, flow_hash)
    }

    fn resolve_v6(&self, vrf: VrfId, destination: u128, flow_hash: u32) -> Result<nat::Resolution, Drop> {
        self.resolve_v6(vrf, destination, flow_hash)
    }
}

#[inline(always)]
fn resolution(lookup: Lookup) -> Result<nat::Resolution, Drop> {
    match lookup {
        Lookup { next_hop: NO_ROUTE, .. } => Err(Drop::NoRoute),
        Lookup { next_hop: VRF_LOOP, .. } => Err(Drop::VrfLoop),
        Lookup { next_hop, vrf, kind } => Ok(nat::Resolution { next_hop, vrf, kind }),
    }
}

fn vni_key(destination: u32, vni: u32) -> u64 {
    u64::from(destination) << 32 | u64::from(vni)
}
