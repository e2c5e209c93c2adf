//! Groups: sets of unresolved next hops that routes share, each resolved once for all of them.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use net::{IfIndex, InterfaceId, Mac, NextHop, Prefix, RouteKind, VrfId};
use serde::Serialize;
use smallvec::SmallVec;

use crate::tables::{GroupUpdate, Member};
use crate::trie::MAX_LEAVES;

/// Members beyond this many are not used.
pub(crate) const MAX_MEMBERS: usize = 64;

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
    /// No interface has the VNI, or the VXLAN endpoint is not an IPv4 address.
    VxlanUnknown,
}

/// What makes two sets of next hops the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    pub(crate) vrf: VrfId,
    pub(crate) kind: RouteKind,
    pub(crate) next_hops: SmallVec<[NextHop; 1]>,
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

/// The outcome of resolving a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    pub(crate) steps: SmallVec<[Step; 2]>,
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
    pub(crate) resolved: Arc<[ResolvedHop]>,
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

    /// What workers are told.
    pub(crate) fn update(&self) -> GroupUpdate {
        let weights: Vec<u32> = self.targets.iter().map(|(_, w)| *w).collect();
        let shares = if self.members.len() == weights.len() {
            shares(&weights)
        } else {
            vec![1; self.members.len()]
        };
        let buckets = self
            .members
            .iter()
            .zip(shares)
            .flat_map(|(m, n)| std::iter::repeat_n(*m, n))
            .collect();
        GroupUpdate {
            kind: self.key.kind,
            buckets,
        }
    }
}

/// Buckets of each member: a power of two in all, each at least one, else in proportion (largest remainders).
fn shares(weights: &[u32]) -> Vec<usize> {
    let equal = weights.windows(2).all(|w| w[0] == w[1]);
    if equal && (weights.is_empty() || weights.len().is_power_of_two()) {
        return vec![1; weights.len()];
    }
    let buckets = if weights.len() <= 16 { 64 } else { 256 };
    let total: u64 = weights.iter().map(|w| u64::from(*w)).sum::<u64>().max(1);
    let spare = (buckets - weights.len()) as u64;
    let exact = |w: u32| u64::from(w) * spare;
    let mut shares: Vec<usize> = weights.iter().map(|w| 1 + (exact(*w) / total) as usize).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| Reverse(exact(weights[*i]) % total));
    let left = buckets - shares.iter().sum::<usize>();
    for i in order.into_iter().cycle().take(left) {
        shares[i] += 1;
    }
    shares
}

/// Every group, by id and by key.
pub(crate) struct Groups {
    entries: Vec<Group>,
    free: Vec<u32>,
    by_key: HashMap<Arc<GroupKey>, u32, foldhash::fast::RandomState>,
}

impl Groups {
    /// Group 0 alone, which stands for "no route" and is never given out.
    pub(crate) fn new() -> Self {
        let key = GroupKey {
            vrf: VrfId::DEFAULT,
            kind: RouteKind::Unreachable,
            next_hops: SmallVec::new(),
        };
        Self {
            entries: vec![fresh(Arc::new(key))],
            free: Vec::new(),
            by_key: HashMap::default(),
        }
    }

    pub(crate) fn get(&self, id: u32) -> &Group {
        &self.entries[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> &mut Group {
        &mut self.entries[id as usize]
    }

    /// The id of a key and whether it is new; `None` when every id is in use. Does not count a reference.
    pub(crate) fn intern(&mut self, key: GroupKey) -> Option<(u32, bool)> {
        if let Some(id) = self.by_key.get(&key) {
            return Some((*id, false));
        }
        let group = fresh(Arc::new(key));
        let key = Arc::clone(&group.key);
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = group;
                id
            }
            None if self.entries.len() < MAX_LEAVES as usize => {
                self.entries.push(group);
                (self.entries.len() - 1) as u32
            }
            None => return None,
        };
        self.by_key.insert(key, id);
        Some((id, true))
    }

    /// Takes a group without references out.
    pub(crate) fn remove(&mut self, id: u32) -> Group {
        let vacant = fresh(Arc::clone(&self.entries[0].key));
        let group = std::mem::replace(&mut self.entries[id as usize], vacant);
        self.by_key.remove(&*group.key);
        self.free.push(id);
        group
    }

    /// Ids in use.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (1..self.entries.len() as u32).filter(|id| self.entries[*id as usize].references > 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - 1 - self.free.len()
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
        resolved: Arc::new([]),
        dirty: false,
        visits: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        assert_eq!(shares(&[5]), [1]);
        assert_eq!(shares(&[1, 1]), [1, 1]);
        assert_eq!(shares(&[1, 1, 1]).iter().sum::<usize>(), 64);
        assert_eq!(shares(&[3, 1]), [48, 16]);
        let many = shares(&[1; 63]);
        assert_eq!(many.iter().sum::<usize>(), 256);
        assert!(many.iter().all(|n| (4..=5).contains(n)));
        let skewed = shares(&[65_535, 1]);
        assert_eq!(skewed.iter().sum::<usize>(), 64);
        assert_eq!(skewed[1], 1);
    }
}
