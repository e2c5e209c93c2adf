//! What operators see of the RIB.

use std::net::IpAddr;

use net::{Generation, IfIndex, InterfaceId, NeighborState, NextHop, NextHopId, Prefix, RouteKind, Source, VrfId};
use serde::Serialize;

use crate::adjacency::AdjacencyKind;
use crate::group::{Reason, ResolvedHop, Target};
use crate::interface::Interface;
use crate::rib::Rib;
use crate::routes::{Candidate, Entry, Winning};

/// One candidate route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// Its VRF.
    pub vrf: VrfId,
    /// Its prefix.
    pub prefix: Prefix,
    /// Who it is from.
    pub source: Source,
    /// What it does with packets.
    pub kind: RouteKind,
    /// Administrative distance.
    pub distance: u8,
    /// Metric.
    pub metric: u32,
    /// True if it is the best route, the one that forwards.
    pub active: bool,
    /// Why it is not; `None` for the best route.
    pub reason: Option<Reason>,
    /// Next hops as its source named them.
    pub next_hops: Vec<NextHop>,
    /// Next hops as resolved.
    pub resolved: Vec<ResolvedHop>,
}

/// One entry of the next-hop table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextHopView {
    /// Its number.
    pub id: NextHopId,
    /// What workers do with packets to it.
    pub kind: AdjacencyKind,
    /// Interface it leaves by.
    pub interface: InterfaceId,
    /// The neighbour.
    pub gateway: Option<IpAddr>,
    /// The remote VXLAN endpoint, if it is behind one that is known.
    pub vtep: Option<IpAddr>,
    /// Groups that it is a member of.
    pub references: u32,
    /// Largest inner IP packet.
    pub mtu: u16,
}

/// One neighbour of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeighborView {
    /// Interface of ours, if it is on one.
    pub interface: Option<InterfaceId>,
    /// The kernel's interface.
    pub host: IfIndex,
    /// Its address.
    pub address: IpAddr,
    /// What is known of it.
    pub state: NeighborState,
}

/// One interface and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceView {
    /// The interface.
    #[serde(flatten)]
    pub interface: Interface,
    /// False while its host interface is down.
    pub up: bool,
}

/// Sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The newest published generation.
    pub generation: Generation,
    /// Changes that it does not have.
    pub pending: usize,
    /// VRFs with or after routes.
    pub vrfs: usize,
    /// Prefixes, IPv4.
    pub prefixes_v4: usize,
    /// Prefixes, IPv6.
    pub prefixes_v6: usize,
    /// Distinct sets of next hops.
    pub groups: usize,
    /// Next hops in use.
    pub next_hops: usize,
    /// Neighbours.
    pub neighbors: usize,
    /// Routes refused because of a full table.
    pub refused: u64,
    /// Bytes of the route tables of the RIB: prefixes, candidates, sets of next hops.
    pub rib_bytes: usize,
    /// Bytes of one of the two copies of the published tables.
    pub table_bytes: usize,
}

impl Rib {
    /// Candidate routes of one VRF or all, within `filter`, at most `limit` of them.
    ///
    /// Shows what was decided: a change since the last publish is in the list and may not be active yet.
    pub fn routes(&self, vrf: Option<VrfId>, filter: Option<Prefix>, limit: usize) -> Vec<RouteView> {
        let mut vrfs: Vec<VrfId> = self
            .vrfs
            .keys()
            .copied()
            .filter(|v| vrf.is_none_or(|only| only == *v))
            .collect();
        vrfs.sort_unstable();
        let entries = vrfs.into_iter().flat_map(|vrf| {
            let routes = &self.vrfs[&vrf];
            let entries: Box<dyn Iterator<Item = (Prefix, &Entry)>> = match filter {
                Some(filter) => routes.within(filter),
                None => Box::new(routes.iter()),
            };
            entries.map(move |(prefix, entry)| (vrf, prefix, entry))
        });
        let candidates =
            entries.flat_map(|(vrf, prefix, entry)| entry.candidates.iter().map(move |c| (vrf, prefix, entry, c)));
        candidates
            .take(limit)
            .map(|(vrf, prefix, entry, c)| self.route_view(vrf, prefix, entry, c))
            .collect()
    }

    pub(crate) fn route_view(&self, vrf: VrfId, prefix: Prefix, entry: &Entry, candidate: &Candidate) -> RouteView {
        let group = self.groups.get(candidate.group);
        let active = entry.winner
            == Some(Winning {
                owner: candidate.owner,
                group: candidate.group,
            });
        let better = entry
            .winner
            .and_then(|w| entry.candidates.iter().find(|c| c.owner == w.owner));
        let reason = match group.usable_for(prefix) {
            _ if active => None,
            Err(reason) => Some(reason),
            Ok(()) if entry.dirty => Some(Reason::Pending),
            Ok(()) => Some(better.map_or(Reason::Pending, |better| {
                if better.distance != candidate.distance {
                    Reason::Distance
                } else if better.metric != candidate.metric {
                    Reason::Metric
                } else {
                    Reason::Source
                }
            })),
        };
        RouteView {
            vrf,
            prefix,
            source: candidate.owner.source(),
            kind: group.key.kind,
            distance: candidate.distance,
            metric: candidate.metric,
            active,
            reason,
            next_hops: group.key.next_hops.to_vec(),
            resolved: group.resolved.to_vec(),
        }
    }

    /// Next hops in use.
    pub fn next_hops(&self) -> Vec<NextHopView> {
        let view = |(id, target, entry): (NextHopId, Target, &crate::next_hop::NextHopEntry)| {
            let underlay = entry.underlay.map(|u| &self.groups.get(u).key.next_hops[0]);
            let vtep = match target {
                Target::Tunnel(_, vtep, _) => Some(vtep),
                _ => underlay.and_then(|hop| hop.gateway),
            };
            NextHopView {
                id,
                kind: entry.adjacency.kind,
                interface: entry.adjacency.interface,
                gateway: entry.adjacency.gateway,
                vtep,
                references: entry.references,
                mtu: entry.adjacency.mtu,
            }
        };
        self.next_hops.iter().map(view).collect()
    }

    /// Neighbours as the kernel told them.
    pub fn neighbors(&self) -> Vec<NeighborView> {
        let view = |(&(host, address), &state): (&(IfIndex, IpAddr), &NeighborState)| NeighborView {
            interface: self.hosts.get(&host).copied(),
            host,
            address,
            state,
        };
        self.neighbors.iter().map(view).collect()
    }

    /// Interfaces and their states.
    pub fn interfaces(&self) -> Vec<InterfaceView> {
        let view = |i: &Interface| InterfaceView {
            interface: i.clone(),
            up: self.is_up(i),
        };
        self.interfaces.values().map(view).collect()
    }

    /// Sizes.
    pub fn stats(&self) -> Stats {
        Stats {
            generation: self.generation,
            pending: self.pending(),
            vrfs: self.vrfs.len(),
            prefixes_v4: self.vrfs.values().map(|r| r.len(true)).sum(),
            prefixes_v6: self.vrfs.values().map(|r| r.len(false)).sum(),
            groups: self.groups.len(),
            next_hops: self.next_hops.len(),
            neighbors: self.neighbors.len(),
            refused: self.refused,
            rib_bytes: self.vrfs.values().map(|r| r.memory()).sum::<usize>() + self.groups.memory(),
            table_bytes: self.write.enter().map_or(0, |tables| tables.memory()),
        }
    }
}
