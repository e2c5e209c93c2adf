//! The naive RIB: raw events, and everything computed from them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::{
    IfIndex, InterfaceId, IpNet, Mac, NeighborState, NextHop, NextHopObject, Prefix, Route, RouteKind, Source, VlanId,
    VrfId,
};
use rib::{Adjacency, AdjacencyKind, Attachment, Interface};

use crate::history::Event;

/// What a lookup may end at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    NoRoute,
    VrfLoop,
    Special(AdjacencyKindOrd),
    Glean(InterfaceId),
    Neighbor(InterfaceId, IpAddr),
    Tunnel(InterfaceId, IpAddr, Mac),
}

/// [`AdjacencyKind`] by number, to be sorted.
pub(crate) type AdjacencyKindOrd = u8;

pub(crate) type Key = (VrfId, Prefix);
/// Distance, metric, rank at a tie (NAT, local, sources), route.
pub(crate) type Candidate = (u8, u32, u8, Route);
/// A lookup that resolution made, and the length that it found.
pub(crate) type Step = (VrfId, IpAddr, Option<u8>);

/// The raw events, folded.
#[derive(Default)]
pub(crate) struct Reference {
    interfaces: BTreeMap<InterfaceId, Interface>,
    links: BTreeMap<IfIndex, bool>,
    addresses: BTreeSet<(IfIndex, IpNet)>,
    neighbors: BTreeMap<(IfIndex, IpAddr), NeighborState>,
    fdb: BTreeMap<(InterfaceId, Mac), IpAddr>,
    routes: BTreeMap<(VrfId, Prefix, Source), Route>,
    objects: BTreeMap<NextHopObject, Vec<NextHop>>,
}

impl Reference {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event.clone() {
            Event::Interface(i) => drop(self.interfaces.insert(i.id, i)),
            Event::RemoveInterface(id) => {
                if self.interfaces.remove(&id).is_some() {
                    self.fdb.retain(|(interface, _), _| *interface != id);
                }
            }
            Event::Link(host, up) => drop(self.links.insert(host, up)),
            Event::Address(host, net, true) => drop(self.addresses.insert((host, net))),
            Event::Address(host, net, false) => drop(self.addresses.remove(&(host, net))),
            Event::Neighbor(host, address, NeighborState::Gone) => drop(self.neighbors.remove(&(host, address))),
            Event::Neighbor(host, address, state) => drop(self.neighbors.insert((host, address), state)),
            Event::Fdb(interface, mac, Some(vtep)) => drop(self.fdb.insert((interface, mac), vtep)),
            Event::Fdb(interface, mac, None) => drop(self.fdb.remove(&(interface, mac))),
            Event::Route(change) => {
                let key = (change.vrf, change.prefix, change.source);
                match change.route {
                    Some(route) => drop(self.routes.insert(key, route)),
                    None => drop(self.routes.remove(&key)),
                }
            }
            Event::Object(object, next_hops) => drop(self.objects.insert(object, next_hops)),
            Event::Publish => {}
        }
    }

    /// The route with each object's next hops in its place.
    fn without_objects(&self, route: &Route) -> Route {
        let expand = |hop: &NextHop| match hop.object {
            None => vec![*hop],
            Some(object) => {
                let inner = self.objects.get(&object).map_or(&[][..], Vec::as_slice);
                let share = |inner: &NextHop| NextHop {
                    weight: inner.weight * hop.weight,
                    ..*inner
                };
                inner.iter().map(share).collect()
            }
        };
        Route {
            next_hops: route.next_hops.iter().flat_map(expand).collect(),
            ..route.clone()
        }
    }

    pub(crate) fn ours(&self, host: IfIndex) -> Option<&Interface> {
        self.interfaces.values().find(|i| i.host == Some(host))
    }

    pub(crate) fn up(&self, interface: &Interface) -> bool {
        interface
            .host
            .is_none_or(|h| self.links.get(&h).copied().unwrap_or(true))
    }

    /// Every candidate, best first.
    pub(crate) fn candidates(&self) -> BTreeMap<Key, Vec<Candidate>> {
        let mut all: BTreeMap<Key, Vec<Candidate>> = BTreeMap::new();
        for ((vrf, prefix, source), route) in &self.routes {
            let distance = route.distance.unwrap_or(source.default_distance());
            let candidate = (distance, route.metric, 2 + *source as u8, self.without_objects(route));
            all.entry((*vrf, *prefix)).or_default().push(candidate);
        }
        let mut local = BTreeSet::new();
        let mut connected: BTreeMap<Key, Vec<IfIndex>> = BTreeMap::new();
        for (host, net) in &self.addresses {
            let interface = self.ours(*host);
            let vrf = interface.map_or(VrfId::DEFAULT, |i| i.vrf);
            let link_local = matches!(net.addr(), IpAddr::V6(a) if a.is_unicast_link_local());
            if interface.is_some() || !link_local {
                local.insert((vrf, Prefix::host(net.addr())));
            }
            if interface.is_some() && !link_local && net.prefix_len() < net.max_prefix_len() {
                connected.entry((vrf, Prefix::from(*net))).or_default().push(*host);
            }
        }
        for key in local {
            all.entry(key)
                .or_default()
                .push((0, 0, 1, Route::special(RouteKind::Local)));
        }
        for (key, mut hosts) in connected {
            hosts.sort();
            let up = |h: &&IfIndex| self.ours(**h).is_some_and(|i| self.up(i));
            let host = hosts.iter().find(up).unwrap_or(&hosts[0]);
            all.entry(key)
                .or_default()
                .push((0, 0, 2, Route::unicast(NextHop::on_link(*host))));
        }
        for candidates in all.values_mut() {
            candidates.sort_by_key(|(distance, metric, rank, _)| (*distance, *metric, *rank));
        }
        all
    }

    /// Longest winner that covers an address.
    pub(crate) fn longest(winners: &BTreeMap<Key, Route>, vrf: VrfId, address: IpAddr) -> Option<(Prefix, &Route)> {
        let covers = winners.iter().filter(|((v, p), _)| *v == vrf && p.contains(address));
        covers
            .max_by_key(|((_, p), _)| p.len())
            .map(|((_, p), route)| (*p, route))
    }

    /// What the next hops of a route in `vrf` resolve to.
    pub(crate) fn resolve(
        &self,
        winners: &BTreeMap<Key, Route>,
        vrf: VrfId,
        route: &Route,
    ) -> (BTreeMap<End, u32>, Vec<Step>, Vec<VrfId>) {
        let (mut ends, mut steps, mut leaks) = (BTreeMap::new(), Vec::new(), Vec::new());
        for hop in &route.next_hops {
            let weight = u32::from(hop.weight);
            self.follow(
                winners,
                vrf,
                hop,
                None,
                weight,
                &mut Vec::new(),
                &mut ends,
                &mut steps,
                &mut leaks,
            );
        }
        (ends, steps, leaks)
    }

    #[allow(clippy::too_many_arguments, reason = "naive on purpose")]
    pub(crate) fn follow(
        &self,
        winners: &BTreeMap<Key, Route>,
        vrf: VrfId,
        hop: &NextHop,
        towards: Option<IpAddr>,
        weight: u32,
        path: &mut Vec<(VrfId, IpAddr)>,
        ends: &mut BTreeMap<End, u32>,
        steps: &mut Vec<Step>,
        leaks: &mut Vec<VrfId>,
    ) {
        if let Some(end) = hop.vxlan {
            let mut under = BTreeMap::new();
            let via = NextHop::via(end.vtep);
            self.follow(
                winners,
                VrfId::DEFAULT,
                &via,
                None,
                1,
                path,
                &mut under,
                steps,
                &mut Vec::new(),
            );
            let has = |i: &&Interface| matches!(i.attachment, Attachment::Vxlan { vni, .. } if vni == end.vni);
            if let Some(i) = self
                .interfaces
                .values()
                .find(has)
                .filter(|i| self.up(i) && !under.is_empty())
            {
                *ends.entry(End::Tunnel(i.id, end.vtep, end.mac)).or_default() += weight;
            }
            return;
        }
        let address = hop.gateway.or(towards);
        if let Some(host) = hop.interface {
            let Some(i) = self.ours(host).filter(|i| self.up(i)) else {
                return;
            };
            let end = address.map_or(End::Glean(i.id), |a| End::Neighbor(i.id, a));
            *ends.entry(end).or_default() += weight;
            return;
        }
        let Some(address) = address else {
            leaks.extend(hop.vrf);
            return;
        };
        let vrf = hop.vrf.unwrap_or(vrf);
        let found = Self::longest(winners, vrf, address);
        steps.push((vrf, address, found.map(|(p, _)| p.len())));
        if path.contains(&(vrf, address)) || path.len() == 8 {
            return;
        }
        if let Some((_, route)) = found {
            path.push((vrf, address));
            for next in &route.next_hops {
                let weight = weight * u32::from(next.weight);
                self.follow(winners, vrf, next, Some(address), weight, path, ends, steps, leaks);
            }
            path.pop();
        }
    }

    pub(crate) fn usable(&self, winners: &BTreeMap<Key, Route>, vrf: VrfId, prefix: Prefix, route: &Route) -> bool {
        if route.kind != RouteKind::Unicast {
            return true;
        }
        let (ends, steps, leaks) = self.resolve(winners, vrf, route);
        let loops = steps
            .iter()
            .any(|(v, a, l)| *v == vrf && prefix.contains(*a) && l.unwrap_or(0) <= prefix.len());
        (!ends.is_empty() || !leaks.is_empty()) && !loops
    }

    pub(crate) fn mac(&self, interface: &Interface, address: IpAddr) -> Option<Mac> {
        match self.neighbors.get(&(interface.host?, address))? {
            NeighborState::Reachable(mac) | NeighborState::Stale(mac) => Some(*mac),
            _ => None,
        }
    }

    /// Every end that packets in `vrf` to `address` may come to, having been in the VRFs of `path`.
    pub(crate) fn ends(
        &self,
        winners: &BTreeMap<Key, Route>,
        vrf: VrfId,
        address: IpAddr,
        path: &[VrfId],
    ) -> BTreeSet<End> {
        if path.len() > 4 || path.contains(&vrf) {
            return BTreeSet::from([End::VrfLoop]);
        }
        let Some((prefix, route)) = Self::longest(winners, vrf, address) else {
            return BTreeSet::from([End::NoRoute]);
        };
        let special = |kind: AdjacencyKind| BTreeSet::from([End::Special(kind as u8)]);
        match route.kind {
            RouteKind::Unicast => {}
            RouteKind::Local => return special(AdjacencyKind::Local),
            RouteKind::Nat => return special(AdjacencyKind::Nat),
            RouteKind::Blackhole => return special(AdjacencyKind::Blackhole),
            RouteKind::Unreachable => return special(AdjacencyKind::Unreachable),
            RouteKind::Prohibit => return special(AdjacencyKind::Prohibit),
        }
        // A reachable neighbour on the subnet that the address is best reached by.
        for hop in route
            .next_hops
            .iter()
            .filter(|h| h.gateway.is_none() && h.vxlan.is_none())
        {
            let interface = hop
                .interface
                .and_then(|h| self.ours(h))
                .filter(|i| i.vrf == vrf && self.up(i));
            if let Some(i) = interface.filter(|i| prefix != Prefix::host(address) && self.mac(i, address).is_some()) {
                return BTreeSet::from([End::Neighbor(i.id, address)]);
            }
        }
        let (ends, _, leaked) = self.resolve(winners, vrf, route);
        let further = leaked
            .iter()
            .flat_map(|v| self.ends(winners, *v, address, &[path, &[vrf]].concat()));
        ends.into_keys().chain(further).collect()
    }

    /// MACs that outer packets to a VXLAN endpoint may be sent to; none if they cannot be sent.
    pub(crate) fn underlay_macs(&self, winners: &BTreeMap<Key, Route>, vtep: IpAddr) -> Vec<Mac> {
        let route = Route::unicast(NextHop::via(vtep));
        let under = self.resolve(winners, VrfId::DEFAULT, &route).0;
        let mac = |end: &End| match end {
            End::Neighbor(id, address) => {
                let i = self.interfaces.get(id)?;
                let overlay = matches!(i.attachment, Attachment::Vxlan { .. });
                if overlay { None } else { self.mac(i, *address) }
            }
            _ => None,
        };
        under.keys().filter(|_| vtep.is_ipv4()).filter_map(mac).collect()
    }

    /// Checks the bytes and the kind of an adjacency.
    pub(crate) fn check_adjacency(&self, winners: &BTreeMap<Key, Route>, end: End, found: &Adjacency) {
        let (id, mac, vtep) = match end {
            End::NoRoute | End::VrfLoop => return,
            End::Special(kind) => return assert_eq!(found.kind as u8, kind),
            End::Glean(id) => return assert_eq!((found.kind, found.interface), (AdjacencyKind::Glean, id)),
            End::Neighbor(id, address) => {
                assert_eq!(found.gateway, Some(address));
                let mac = self.mac(&self.interfaces[&id], address);
                (id, mac, mac.and_then(|m| self.fdb.get(&(id, m)).copied()))
            }
            End::Tunnel(id, vtep, mac) => (id, Some(mac), Some(vtep)),
        };
        assert_eq!(found.interface, id);
        let interface = &self.interfaces[&id];
        let Some(mac) = mac else {
            return assert_eq!(found.kind, AdjacencyKind::Incomplete, "{end:?}");
        };
        let tagged = |port, id| (port, [&[0x81, 0x00], &VlanId::value(id).to_be_bytes()[..]].concat());
        let (port, tag) = match interface.attachment {
            Attachment::Port(port) => (port, Vec::new()),
            Attachment::Vlan { port, id } => tagged(port, id),
            Attachment::Vxlan { vni, source, .. } => {
                let macs = vtep.map_or(Vec::new(), |vtep| self.underlay_macs(winners, vtep));
                let Some(IpAddr::V4(vtep)) = vtep.filter(|_| !macs.is_empty()) else {
                    return assert_eq!(found.kind, AdjacencyKind::Incomplete, "{end:?}");
                };
                assert_eq!(found.kind, AdjacencyKind::Vxlan, "{end:?}");
                let bytes = found.rewrite();
                let outer = &bytes[bytes.len() - rib::VXLAN_OVERHEAD..];
                assert!(macs.iter().any(|m| m.0 == bytes[..6]));
                assert_eq!(outer[12..20], [source.octets(), vtep.octets()].concat());
                assert_eq!(outer[32..36], (vni.value() << 8).to_be_bytes());
                return assert_eq!(outer[36..48], [mac.0, interface.mac.0].concat());
            }
        };
        assert_eq!((found.kind, found.port), (AdjacencyKind::Forward, port), "{end:?}");
        let header = [&mac.0[..], &interface.mac.0, &tag].concat();
        assert_eq!(found.rewrite()[..header.len()], header);
        assert_eq!(found.rewrite().len(), header.len() + 2);
    }
}
