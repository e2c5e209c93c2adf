//! Groups: sets of unresolved next hops that routes share, each resolved once for all of them.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use net::{IfIndex, InterfaceId, Mac, NextHop, NextHopObject, Prefix, RouteKind, Vni, VrfId};
use serde::Serialize;
use smallvec::SmallVec;

use crate::tables::{GroupUpdate, Member};
use crate::trie::MAX_LEAVES;
use crate::users::Users;

/// Members beyond this many are not used.
pub(crate) const MAX_MEMBERS: usize = 64;

/// Groups of the same next hops that differ in how their flows lie; routes beyond share the one whose flows lie as in a
/// new division.
const MAX_LINEAGES: usize = 64;

/// Why a route does not forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Another source's administrative distance is lower.
    Distance,
    /// The distance is the same and another's metric is lower.
    Metric,
    /// Distance and metric are the same, and another source comes first.
    Source,
    /// No route leads to the gateway.
    GatewayUnresolved,
    /// The gateway is an address of our own.
    GatewayLocal,
    /// The route to the gateway drops packets.
    GatewayDiscarded,
    /// The way to the gateway leads through the route itself, or round in a circle.
    Loop,
    /// The interface is none of the gateway's.
    InterfaceUnknown,
    /// The interface is down.
    InterfaceDown,
    /// No interface has the VNI of the VXLAN next hop.
    VxlanUnknown,
    /// Its source has not told the next hops that it names by number, or has withdrawn them.
    ObjectUnknown,
    /// It came or changed after the newest generation: the next one decides.
    Pending,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Distance,
        Self::Metric,
        Self::Source,
        Self::GatewayUnresolved,
        Self::GatewayLocal,
        Self::GatewayDiscarded,
        Self::Loop,
        Self::InterfaceUnknown,
        Self::InterfaceDown,
        Self::VxlanUnknown,
        Self::ObjectUnknown,
        Self::Pending,
    ];

    /// Its name in what is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Distance => "distance",
            Self::Metric => "metric",
            Self::Source => "source",
            Self::GatewayUnresolved => "gateway-unresolved",
            Self::GatewayLocal => "gateway-local",
            Self::GatewayDiscarded => "gateway-discarded",
            Self::Loop => "loop",
            Self::InterfaceUnknown => "interface-unknown",
            Self::InterfaceDown => "interface-down",
            Self::VxlanUnknown => "vxlan-unknown",
            Self::ObjectUnknown => "object-unknown",
            Self::Pending => "pending",
        }
    }

    /// What it means, in a sentence without its full stop.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Distance => "a route of another source has a lower administrative distance",
            Self::Metric => "a route of the same distance has a lower metric",
            Self::Source => "a route of the same distance and metric comes from a source that is preferred",
            Self::GatewayUnresolved => "no route leads to the gateway",
            Self::GatewayLocal => "the gateway is an address of our own",
            Self::GatewayDiscarded => "the route to the gateway drops packets",
            Self::Loop => "the way to the gateway leads through the route itself, or round in a circle",
            Self::InterfaceUnknown => "the interface is none of the gateway's",
            Self::InterfaceDown => "the interface is down",
            Self::VxlanUnknown => "no interface has the VNI of the VXLAN next hop",
            Self::ObjectUnknown => {
                "its source has not told the next hops that it names by number, or has withdrawn them"
            }
            Self::Pending => "it came or changed after the newest generation, and the next one decides",
        }
    }
}

/// What makes two sets of next hops the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    pub(crate) vrf: VrfId,
    pub(crate) kind: RouteKind,
    pub(crate) next_hops: SmallVec<[NextHop; 1]>,
    /// 0, or which division of flows the group took over when it was made: routes whose flows lie differently cannot
    /// share buckets.
    pub(crate) lineage: u64,
}

impl GroupKey {
    /// True if both name the same next hops, whatever their flows did before.
    pub(crate) fn same_hops(&self, other: &Self) -> bool {
        (self.vrf, self.kind, &self.next_hops) == (other.vrf, other.kind, &other.next_hops)
    }
}

/// One next hop as resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// A router or host.
    Neighbor(InterfaceId, IpAddr),
    /// Whatever is on the interface.
    Glean(InterfaceId),
    /// A router behind a VXLAN endpoint.
    Tunnel(InterfaceId, IpAddr, Mac),
    /// The lookup goes on in another VRF.
    Leak(VrfId),
}

/// One next hop of a route after resolution, as the kernel would be told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResolvedHop {
    /// The neighbour to send to; `None` for an on-link or leaked route.
    pub gateway: Option<IpAddr>,
    /// Host interface to leave by; `None` for a leaked route.
    pub interface: Option<IfIndex>,
    /// VRF in which the lookup goes on (a leaked route).
    pub vrf: Option<VrfId>,
    /// True if `gateway` is a VXLAN endpoint that the route itself names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tunnel: bool,
    /// Share of the traffic.
    pub weight: u32,
}

/// One lookup that resolution made: where, for which address, and the length of the route it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) vrf: VrfId,
    pub(crate) address: IpAddr,
    pub(crate) length: Option<u8>,
}

/// What resolution asked for the state of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The interface of ours that this host interface stands for.
    Host(IfIndex),
    /// The interface with this VNI.
    Vni(Vni),
    /// Next hops that a source keeps under a number.
    Object(NextHopObject),
}

/// The outcome of resolving a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    pub(crate) steps: SmallVec<[Step; 2]>,
    pub(crate) needs: SmallVec<[Need; 1]>,
    /// Sorted, each target once, with its weight.
    pub(crate) targets: Vec<(Target, u32)>,
    /// The first thing that went wrong.
    pub(crate) problem: Option<Reason>,
    /// Lookups made.
    pub(crate) lookups: usize,
}

/// A group and what it resolves to.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) key: Arc<GroupKey>,
    /// Candidates, FIB leaves and overlay next hops that refer to it; 0 for a free entry.
    pub(crate) references: u32,
    /// Why it cannot be used, if it cannot.
    pub(crate) problem: Option<Reason>,
    pub(crate) steps: SmallVec<[Step; 2]>,
    pub(crate) targets: Vec<(Target, u32)>,
    pub(crate) members: Vec<Member>,
    /// Which member each share of the flows goes to: a power of two of them, none without members.
    pub(crate) buckets: Vec<Member>,
    /// Tells divisions of flows apart; 0 while there is one member or none.
    pub(crate) division: u64,
    pub(crate) resolved: Arc<[ResolvedHop]>,
    /// Interfaces and VNIs whose state decided.
    pub(crate) needs: SmallVec<[Need; 1]>,
    /// The prefixes that have it among their candidates.
    pub(crate) users: Users,
    /// Waits for resolution.
    pub(crate) dirty: bool,
    /// Resolutions in the generation in the making.
    pub(crate) visits: u32,
}

impl Group {
    /// Whether a route to `prefix` in this group's VRF can be used, or why not.
    ///
    /// It loops if one of the lookups that resolve it would end at the route itself once that is in the table. The
    /// answer does not depend on whether it is in the table now, so election cannot flap.
    pub(crate) fn usable_for(&self, prefix: Prefix) -> Result<(), Reason> {
        let loops = |step: &Step| {
            step.vrf == self.key.vrf && step.length.unwrap_or(0) <= prefix.len() && prefix.contains(step.address)
        };
        match self.problem {
            Some(reason) => Err(reason),
            None if self.steps.iter().any(loops) => Err(Reason::Loop),
            None => Ok(()),
        }
    }

    /// How its flows lie, and by which weights.
    pub(crate) fn weights(&self) -> Vec<(Member, u32)> {
        let members = self.members.iter().copied();
        members.zip(self.targets.iter().map(|(_, weight)| *weight)).collect()
    }

    /// What workers are told.
    pub(crate) fn update(&self) -> GroupUpdate {
        GroupUpdate {
            kind: self.key.kind,
            buckets: self.buckets.as_slice().into(),
        }
    }
}

/// Every group, by id and by key.
pub(crate) struct Groups {
    entries: Vec<Group>,
    free: Vec<u32>,
    stand_ins: usize,
    by_key: HashMap<Arc<GroupKey>, u32, foldhash::fast::RandomState>,
    /// Groups of the same next hops with a lineage, by their key without it.
    lineages: HashMap<GroupKey, usize, foldhash::fast::RandomState>,
}

impl Groups {
    /// Group 0 alone, which stands for "no route" and is never given out.
    pub(crate) fn new() -> Self {
        let key = GroupKey {
            vrf: VrfId::DEFAULT,
            kind: RouteKind::Unreachable,
            next_hops: SmallVec::new(),
            lineage: 0,
        };
        Self {
            entries: vec![fresh(Arc::new(key))],
            free: Vec::new(),
            stand_ins: 0,
            by_key: HashMap::default(),
            lineages: HashMap::default(),
        }
    }

    pub(crate) fn get(&self, id: u32) -> &Group {
        &self.entries[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> &mut Group {
        &mut self.entries[id as usize]
    }

    /// The id of a key and whether it is new; `None` when every id is in use. Does not count a reference.
    pub(crate) fn intern(&mut self, mut key: GroupKey) -> Option<(u32, bool)> {
        if let Some(id) = self.by_key.get(&key) {
            return Some((*id, false));
        }
        if key.lineage != 0 {
            let lineage = std::mem::take(&mut key.lineage);
            if self.lineages.get(&key).is_some_and(|count| *count >= MAX_LINEAGES) {
                return self.intern(key);
            }
            *self.lineages.entry(key.clone()).or_default() += 1;
            key.lineage = lineage;
        }
        let group = fresh(Arc::new(key));
        let key = Arc::clone(&group.key);
        let id = self.place(group)?;
        self.by_key.insert(key, id);
        Some((id, true))
    }

    fn place(&mut self, group: Group) -> Option<u32> {
        match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = group;
                Some(id)
            }
            None if self.entries.len() < MAX_LEAVES as usize => {
                self.entries.push(group);
                Some((self.entries.len() - 1) as u32)
            }
            None => None,
        }
    }

    /// An id that stands for another group, or none, in the FIB; never given back. `None` when every id is in use.
    pub(crate) fn stand_in(&mut self) -> Option<u32> {
        let id = self.place(fresh(Arc::clone(&self.entries[0].key)))?;
        self.stand_ins += 1;
        Some(id)
    }

    /// Takes a group without references out.
    pub(crate) fn remove(&mut self, id: u32) -> Group {
        let vacant = fresh(Arc::clone(&self.entries[0].key));
        let group = std::mem::replace(&mut self.entries[id as usize], vacant);
        self.by_key.remove(&*group.key);
        if group.key.lineage != 0 {
            let mut key = GroupKey::clone(&group.key);
            key.lineage = 0;
            if let Some(count) = self.lineages.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.lineages.remove(&key);
                }
            }
        }
        self.free.push(id);
        group
    }

    /// Sets of next hops.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - 1 - self.free.len() - self.stand_ins
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        let held = |group: &Group| {
            group.targets.capacity() * size_of::<(Target, u32)>()
                + (group.members.capacity() + group.buckets.capacity()) * size_of::<Member>()
                + group.users.memory()
        };
        let entries = self.entries.capacity() * size_of::<Group>();
        entries + self.entries.iter().map(held).sum::<usize>()
    }
}

fn fresh(key: Arc<GroupKey>) -> Group {
    Group {
        key,
        references: 0,
        problem: None,
        steps: SmallVec::new(),
        targets: Vec::new(),
        members: Vec::new(),
        buckets: Vec::new(),
        division: 0,
        resolved: Arc::new([]),
        needs: SmallVec::new(),
        users: Users::default(),
        dirty: false,
        visits: 0,
    }
}
