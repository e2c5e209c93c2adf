//! Why an address is reached the way it is: every candidate that covers it, the route that forwards, each next hop with
//! its neighbour, and whether the published generation shows the same.
//!
//! Nothing is decided here: it reads what `settle.rs` decided and what readers see.

use std::net::IpAddr;

use net::{Generation, Mac, NeighborState, NextHopId, Prefix, RouteKind, VrfId};
use serde::Serialize;

use crate::adjacency::{Adjacency, AdjacencyKind};
use crate::group::{Group, Target};
use crate::interface::Attachment;
use crate::rib::Rib;
use crate::routes::Entry;
use crate::tables::{Lookup, MAX_LEAKS, Member};
use crate::view::RouteView;

/// The walk of a lookup of one address in one VRF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Where it is looked up.
    pub vrf: VrfId,
    /// What is looked up.
    pub address: IpAddr,
    /// Every candidate whose prefix covers the address, longest prefix first, best first of each.
    pub candidates: Vec<RouteView>,
    /// Prefix of the FIB entry that the lookup ends at; `None` without a route.
    pub prefix: Option<Prefix>,
    /// True if that entry is a reachable neighbour on a connected subnet and not a candidate.
    pub host_route: bool,
    /// What the entry does with packets; `None` without a route.
    pub kind: Option<RouteKind>,
    /// Where it leads, one entry a next hop.
    pub next_hops: Vec<HopExplanation>,
    /// The lookups that go on in other VRFs (leaked routes), each VRF once.
    pub leaks: Vec<Self>,
    /// The newest published generation.
    pub generation: Generation,
    /// True if that generation shows workers the entry and its next hops as they are here.
    pub published: bool,
}

/// One next hop of the entry that forwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HopExplanation {
    /// Its number; `None` for a lookup that goes on in another VRF.
    pub id: Option<NextHopId>,
    /// What workers do with a packet to it.
    pub kind: AdjacencyKind,
    /// Name of the interface that it leaves by.
    pub interface: Option<String>,
    /// The neighbour.
    pub gateway: Option<IpAddr>,
    /// The neighbour's MAC.
    pub mac: Option<Mac>,
    /// The remote VXLAN endpoint.
    pub vtep: Option<IpAddr>,
    /// VRF in which the lookup goes on.
    pub vrf: Option<VrfId>,
    /// Largest IP packet it takes.
    pub mtu: u16,
    /// Share of the flows: buckets of this next hop, of [`Self::buckets_total`].
    pub buckets: usize,
    /// Buckets of the entry.
    pub buckets_total: usize,
    /// Why no packet leaves by it.
    pub problem: Option<HopProblem>,
}

/// Why a next hop that a route resolved to does not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HopProblem {
    /// The kernel has not been heard of the neighbour: it is being asked.
    NeighborUnknown,
    /// The kernel is resolving the neighbour.
    NeighborIncomplete,
    /// The neighbour does not answer ARP or ND.
    NeighborFailed,
    /// No VXLAN endpoint is known for the neighbour's MAC.
    VtepUnknown,
    /// No neighbour on the way to the VXLAN endpoint is resolved.
    UnderlayUnresolved,
}

impl HopProblem {
    /// Every problem.
    pub const ALL: [Self; 5] = [
        Self::NeighborUnknown,
        Self::NeighborIncomplete,
        Self::NeighborFailed,
        Self::VtepUnknown,
        Self::UnderlayUnresolved,
    ];

    /// Its name in what is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeighborUnknown => "neighbor-unknown",
            Self::NeighborIncomplete => "neighbor-incomplete",
            Self::NeighborFailed => "neighbor-failed",
            Self::VtepUnknown => "vtep-unknown",
            Self::UnderlayUnresolved => "underlay-unresolved",
        }
    }

    /// What it means, in a sentence without its full stop.
    pub const fn description(self) -> &'static str {
        match self {
            Self::NeighborUnknown => "the kernel has not been heard of the neighbour yet and is asked for it",
            Self::NeighborIncomplete => "the kernel waits for the neighbour's answer to ARP or ND",
            Self::NeighborFailed => "the neighbour does not answer ARP or ND",
            Self::VtepUnknown => "no VXLAN endpoint is known for the neighbour's MAC",
            Self::UnderlayUnresolved => "no neighbour on the way to the VXLAN endpoint is resolved",
        }
    }
}

impl Rib {
    /// Walks the way of `address` in `vrf`, as it is decided, and compares it with what workers read.
    pub fn explain(&self, vrf: VrfId, address: IpAddr) -> Explanation {
        self.explain_along(vrf, address, &mut Vec::new())
    }

    fn explain_along(&self, vrf: VrfId, address: IpAddr, path: &mut Vec<VrfId>) -> Explanation {
        path.push(vrf);
        let mut explanation = Explanation {
            vrf,
            address,
            candidates: self.candidates_covering(vrf, address),
            prefix: None,
            host_route: false,
            kind: None,
            next_hops: Vec::new(),
            leaks: Vec::new(),
            generation: self.generation(),
            published: self.shown(vrf, address, &[]),
        };
        if let Some((prefix, entry)) = self.fib_entry(vrf, address) {
            let group = self.groups.get(entry.leaf);
            explanation.prefix = Some(prefix);
            explanation.host_route = entry.winner.is_none();
            explanation.kind = Some(group.key.kind);
            if group.key.kind == RouteKind::Unicast {
                let hops = group.members.iter().zip(&group.targets);
                explanation.next_hops = hops
                    .map(|(member, (target, _))| self.explain_hop(group, address, (*member, *target)))
                    .collect();
            }
            let leaks = group.members.iter().filter_map(|member| member.vrf());
            explanation.leaks = leaks
                .filter(|next| !path.contains(next) && path.len() <= MAX_LEAKS)
                .map(|next| self.explain_along(next, address, &mut path.clone()))
                .collect();
            let mut ids = group.members.iter().filter_map(|member| member.id());
            let waits = entry.dirty || ids.any(|id| self.next_hops.dirty.contains(&id));
            explanation.published = !waits && self.shown(vrf, address, &group.members);
        }
        explanation
    }

    /// The candidates of every prefix that covers an address, longest first.
    fn candidates_covering(&self, vrf: VrfId, address: IpAddr) -> Vec<RouteView> {
        let mut by_prefix = Vec::new();
        if let Some(routes) = self.vrfs.get(&vrf) {
            routes.covers(Prefix::host(address), |prefix, entry| {
                let views = entry.candidates.iter();
                by_prefix.push(
                    views
                        .map(|c| self.route_view(vrf, prefix, entry, c))
                        .collect::<Vec<_>>(),
                );
            });
        }
        by_prefix.into_iter().rev().flatten().collect()
    }

    /// The longest entry with a leaf that covers an address.
    pub(crate) fn fib_entry(&self, vrf: VrfId, address: IpAddr) -> Option<(Prefix, &Entry)> {
        let routes = self.vrfs.get(&vrf)?;
        let lengths = (0..=Prefix::host(address).len()).rev();
        let prefixes = lengths.filter_map(|length| Prefix::containing(address, length).ok());
        prefixes
            .filter_map(|prefix| Some((prefix, routes.get(prefix)?)))
            .find(|(_, entry)| entry.leaf != 0)
    }

    fn explain_hop(&self, group: &Group, address: IpAddr, (member, target): (Member, Target)) -> HopExplanation {
        let buckets_total = group.buckets.len().max(1);
        let buckets = match group.buckets.len() {
            0 => 1,
            _ => group.buckets.iter().filter(|bucket| **bucket == member).count(),
        };
        let mut hop = HopExplanation {
            id: member.id(),
            kind: AdjacencyKind::VrfLoop,
            interface: None,
            gateway: None,
            mac: None,
            vtep: None,
            vrf: member.vrf(),
            mtu: 0,
            buckets,
            buckets_total,
            problem: None,
        };
        let Some(id) = member.id() else { return hop };
        let adjacency: &Adjacency = &self.next_hops.get(id).adjacency;
        let interface = self.interfaces.get(&adjacency.interface);
        (hop.kind, hop.gateway, hop.mtu) = (adjacency.kind, adjacency.gateway, adjacency.mtu);
        hop.interface = interface.map(|interface| interface.name.clone());
        hop.vtep = self.endpoint(target);
        let host = interface.and_then(|interface| interface.host);
        let state = match target {
            Target::Neighbor(_, gateway) => host.and_then(|host| self.neighbors.get(&(host, gateway))),
            Target::Tunnel(_, _, mac) => Some(&NeighborState::Reachable(mac)),
            Target::Glean(_) => host.and_then(|host| self.neighbors.get(&(host, address))),
            Target::Leak(_) => return hop,
        };
        (hop.mac, hop.problem) = match state {
            Some(NeighborState::Reachable(mac) | NeighborState::Stale(mac)) => (Some(*mac), None),
            Some(NeighborState::Incomplete) => (None, Some(HopProblem::NeighborIncomplete)),
            Some(NeighborState::Failed) => (None, Some(HopProblem::NeighborFailed)),
            Some(NeighborState::Gone) | None => (None, Some(HopProblem::NeighborUnknown)),
        };
        // It has a MAC, and there is nothing to send it in.
        let tunnel = interface.is_some_and(|i| matches!(i.attachment, Attachment::Vxlan { .. }));
        if hop.kind == AdjacencyKind::Incomplete && hop.problem.is_none() && tunnel {
            hop.problem = Some(match hop.vtep {
                None => HopProblem::VtepUnknown,
                Some(_) => HopProblem::UnderlayUnresolved,
            });
        }
        hop
    }

    /// True if readers find one of these members, as its adjacency is here; no route, if there are none.
    fn shown(&self, vrf: VrfId, address: IpAddr, members: &[Member]) -> bool {
        let Some(tables) = self.write.enter() else {
            return false;
        };
        let found = match address {
            IpAddr::V4(address) => tables.lookup_v4(vrf, address.into(), 0),
            IpAddr::V6(address) => tables.lookup_v6(vrf, address.into(), 0),
        };
        if members.is_empty() {
            return found.next_hop == Lookup::NO_ROUTE.next_hop;
        }
        if members.iter().any(|member| member.vrf().is_some()) {
            return found.vrf != vrf || members.contains(&Member::next_hop(found.next_hop));
        }
        members.contains(&Member::next_hop(found.next_hop))
            && *tables.adjacency(found.next_hop) == self.next_hops.get(found.next_hop).adjacency
    }
}
