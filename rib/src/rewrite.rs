//! Building adjacencies: neighbour, VXLAN forwarding entry and underlay become the bytes in front of a packet.

use std::net::IpAddr;

use net::{IfIndex, Mac, NeighborState, NextHop, NextHopId, PortId, RouteKind, VrfId};
use smallvec::smallvec;

use crate::adjacency::{Adjacency, AdjacencyKind, Tunnel};
use crate::group::{GroupKey, Target};
use crate::interface::Attachment;
use crate::rib::Rib;
use crate::tables::TableOp;

impl Rib {
    /// Builds an adjacency again, in place, and passes on what that changes.
    pub(crate) fn rebuild(&mut self, id: NextHopId) {
        let Some(target) = self.next_hops.get(id).target else {
            return;
        };
        self.outcome.effort.rebuilds += 1;
        let vtep = self.endpoint(target);
        self.join_underlay(id, vtep);
        let adjacency = self.build(id, target, vtep);
        self.want(id, target);
        let entry = self.next_hops.get_mut(id);
        if entry.adjacency == adjacency {
            return;
        }
        let told = entry.adjacency.kind != AdjacencyKind::NoRoute;
        entry.adjacency = adjacency.clone();
        self.write.append(TableOp::NextHop {
            id,
            adjacency: Box::new(adjacency),
        });
        if told {
            self.outcome.delta.next_hops.push(id);
            self.bound_delta();
        }
        for (underlay, overlay) in &self.overlays {
            if self.groups.get(*underlay).members.iter().any(|m| m.id() == Some(id)) {
                self.next_hops.dirty.extend(overlay);
            }
        }
    }

    /// The VXLAN endpoint that a next hop is behind, as far as it is known.
    pub(crate) fn endpoint(&self, target: Target) -> Option<IpAddr> {
        match target {
            Target::Tunnel(_, vtep, _) => Some(vtep),
            Target::Neighbor(interface, address) => {
                let interface = self.interfaces.get(&interface)?;
                if !matches!(interface.attachment, Attachment::Vxlan { .. }) {
                    return None;
                }
                let mac = self.neighbor_mac(interface.host?, address)?;
                self.fdb.get(&(interface.id, mac)).copied()
            }
            Target::Glean(_) | Target::Leak(_) => None,
        }
    }

    fn neighbor_mac(&self, host: IfIndex, address: IpAddr) -> Option<Mac> {
        self.neighbors.get(&(host, address))?.mac()
    }

    /// Makes a next hop depend on the underlay route to `vtep` and on no other.
    fn join_underlay(&mut self, id: NextHopId, vtep: Option<IpAddr>) {
        let key = vtep.map(|vtep| GroupKey {
            vrf: VrfId::DEFAULT,
            kind: RouteKind::Unicast,
            next_hops: smallvec![NextHop::via(vtep)],
            lineage: 0,
        });
        let old = self.next_hops.get(id).underlay;
        if old.map(|old| &*self.groups.get(old).key) == key.as_ref() {
            return;
        }
        let new = key.and_then(|key| self.intern(key));
        if let Some(new) = new {
            self.groups.get_mut(new).references += 1;
            self.overlays.entry(new).or_default().insert(id);
        }
        self.next_hops.get_mut(id).underlay = new;
        if let Some(old) = old {
            self.leave_underlay(id, old);
        }
    }

    fn build(&self, id: NextHopId, target: Target, vtep: Option<IpAddr>) -> Adjacency {
        let (interface, gateway) = match target {
            Target::Neighbor(interface, address) => (interface, Some(address)),
            Target::Glean(interface) | Target::Tunnel(interface, ..) => (interface, None),
            Target::Leak(_) => return Adjacency::plain(AdjacencyKind::VrfLoop),
        };
        let kind = if matches!(target, Target::Glean(_)) {
            AdjacencyKind::Glean
        } else {
            AdjacencyKind::Incomplete
        };
        let mut waiting = Adjacency::plain(kind);
        (waiting.interface, waiting.gateway) = (interface, gateway);
        let Some(interface) = self.interfaces.get(&interface) else {
            return waiting;
        };
        let (port, vlan, tunnel) = match interface.attachment {
            Attachment::Port(port) => (port, None, None),
            Attachment::Vlan { port, id } => (port, Some(id), None),
            Attachment::Vxlan { vni, source, udp_port } => (PortId(0), None, Some((vni, source, udp_port))),
        };
        let mtu = interface.mtu;
        (waiting.port, waiting.mtu) = (port, mtu);
        let mac = match target {
            Target::Tunnel(_, _, mac) => Some(mac),
            _ => interface
                .host
                .zip(gateway)
                .and_then(|(host, address)| self.neighbor_mac(host, address)),
        };
        let Some(mac) = mac else { return waiting };
        let Some((vni, source, udp_port)) = tunnel else {
            let Some(gateway) = gateway else { return waiting };
            let mut forward = Adjacency::forward(gateway, mac, interface.mac, vlan);
            (forward.interface, forward.port, forward.mtu) = (interface.id, port, mtu);
            return forward;
        };
        match (vtep, self.underlay(id)) {
            (Some(IpAddr::V4(vtep)), Some(underlay)) => {
                let tunnel = Tunnel {
                    interface: interface.id,
                    vni,
                    source,
                    vtep,
                    udp_port,
                    inner_source: interface.mac,
                    inner_destination: mac,
                    mtu,
                };
                Adjacency::vxlan(gateway, tunnel, underlay)
            }
            _ => waiting,
        }
    }

    /// The adjacency that the outer packet of an overlay next hop leaves by: the first that can be sent to.
    fn underlay(&self, id: NextHopId) -> Option<&Adjacency> {
        let group = self.groups.get(self.next_hops.get(id).underlay?);
        let mut adjacencies = group
            .members
            .iter()
            .filter_map(|m| Some(&self.next_hops.get(m.id()?).adjacency));
        adjacencies.find(|adjacency| adjacency.kind == AdjacencyKind::Forward)
    }

    /// Has the kernel asked, once, for a neighbour that is not known or not confirmed.
    fn want(&mut self, id: NextHopId, target: Target) {
        let Target::Neighbor(interface, address) = target else {
            return;
        };
        let Some(host) = self.interfaces.get(&interface).and_then(|i| i.host) else {
            return;
        };
        let state = self.neighbors.get(&(host, address));
        let known = matches!(state, Some(NeighborState::Reachable(_)));
        let entry = self.next_hops.get_mut(id);
        if !known && !entry.wanted {
            self.outcome.wanted.insert((host, address));
        }
        entry.wanted = !known;
    }
}
