//! What the kernel has, and the differences that are told. Sans-IO.
//!
//! Messages change the state one by one; a dump replaces it. Either way only what differs from what was told before
//! becomes an event, so a resync after lost messages disturbs nothing that did not change.
//!
//! IPv4 routes vanish without a message when their interface or source address goes, and some messages cannot be told
//! apart from what the state holds. Both are answered with [`Doubt::Routes`]: dump the routes again. What is lost without
//! any sign is found by the audit, which compares digests of the state and of a dump.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use net::{
    AddressChange, IfIndex, KernelEvent, LinkChange, NeighborChange, NeighborState, NextHop, Prefix, Route,
    RouteChange, RouteKind, Source, VrfId,
};

use crate::digest::Digest;
use crate::heard::{Heard, ObservedAddress, ObservedNextHop, ObservedRoute, Verb};

/// `RTPROT_REDIRECT` and `RTPROT_KERNEL`: caches, and the connected routes that the RIB derives from addresses.
pub(crate) const KERNELS_OWN: [u8; 2] = [1, 2];

/// Whether the state may have drifted from the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    None,
    /// Routes must be dumped again.
    Routes,
    /// Everything must be dumped again.
    Everything,
}

/// Everything the kernel has, as dumped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) links: Vec<LinkChange>,
    pub(crate) addresses: Vec<ObservedAddress>,
    pub(crate) neighbors: Vec<NeighborChange>,
    pub(crate) routes: Vec<ObservedRoute>,
}

impl Snapshot {
    /// Takes one message of a dump.
    pub(crate) fn push(&mut self, heard: Heard) {
        match heard {
            Heard::Link(link) => self.links.push(link),
            Heard::Address(address) => self.addresses.push(address),
            Heard::Neighbor(neighbor) => self.neighbors.push(neighbor),
            Heard::Route(_, route) => self.routes.push(route),
            Heard::NextHopObject | Heard::Nothing => {}
        }
    }
}

/// The mirror of the kernel's state.
#[derive(Debug)]
pub(crate) struct Inbound {
    protocol: u8,
    tables: HashMap<u32, VrfId>,
    links: BTreeMap<IfIndex, LinkChange>,
    addresses: BTreeSet<(IfIndex, IpNet)>,
    neighbors: HashMap<(IfIndex, IpAddr), NeighborState>,
    /// Routes of other daemons, each list in the kernel's order.
    routes: HashMap<(VrfId, Prefix), Vec<ObservedRoute>>,
    /// Of each list the route that was told.
    told: HashMap<(VrfId, Prefix), Route>,
}

impl Inbound {
    /// An empty mirror of `tables`, blind to routes of `protocol`.
    pub(crate) fn new(protocol: u8, tables: impl IntoIterator<Item = (u32, VrfId)>) -> Self {
        Self {
            protocol,
            tables: tables.into_iter().collect(),
            links: BTreeMap::new(),
            addresses: BTreeSet::new(),
            neighbors: HashMap::new(),
            routes: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// Takes one notification and appends what it changes to `events`.
    pub(crate) fn hear(&mut self, heard: Heard, events: &mut Vec<KernelEvent>) -> Doubt {
        match heard {
            Heard::Link(link) => self.link(link, events),
            Heard::Address(address) => self.address(address.change, events),
            Heard::Neighbor(neighbor) => {
                self.neighbor(neighbor, events);
                Doubt::None
            }
            Heard::Route(verb, route) => self.route(verb, route, events),
            Heard::NextHopObject => Doubt::Routes,
            Heard::Nothing => Doubt::None,
        }
    }

    /// Takes a whole dump and appends the differences to `events`.
    pub(crate) fn resync(&mut self, snapshot: Snapshot, events: &mut Vec<KernelEvent>) {
        let links: HashSet<_> = snapshot.links.iter().map(|l| l.index).collect();
        let addresses: HashSet<_> = snapshot
            .addresses
            .iter()
            .map(|a| (a.change.interface, a.change.address))
            .collect();
        let neighbors: HashSet<_> = snapshot.neighbors.iter().map(|n| (n.interface, n.address)).collect();

        let gone: Vec<_> = self
            .neighbors
            .keys()
            .filter(|&n| !neighbors.contains(n))
            .copied()
            .collect();
        for (interface, address) in gone {
            self.neighbor(
                NeighborChange {
                    interface,
                    address,
                    state: NeighborState::Gone,
                },
                events,
            );
        }
        let gone: Vec<_> = self
            .addresses
            .iter()
            .filter(|&a| !addresses.contains(a))
            .copied()
            .collect();
        for (interface, address) in gone {
            self.address(
                AddressChange {
                    interface,
                    address,
                    present: false,
                },
                events,
            );
        }
        let gone: Vec<_> = self
            .links
            .values()
            .filter(|l| !links.contains(&l.index))
            .cloned()
            .collect();
        for link in gone {
            self.link(
                LinkChange {
                    present: false,
                    up: false,
                    ..link
                },
                events,
            );
        }
        for link in snapshot.links {
            self.link(link, events);
        }
        for address in snapshot.addresses {
            self.address(address.change, events);
        }
        for neighbor in snapshot.neighbors {
            self.neighbor(neighbor, events);
        }
        self.resync_routes(snapshot.routes, events);
    }

    /// Takes a dump of the routes and appends the differences to `events`.
    pub(crate) fn resync_routes(&mut self, routes: Vec<ObservedRoute>, events: &mut Vec<KernelEvent>) {
        let all = self.by_key(routes);
        let mut keys: Vec<_> = self.told.keys().filter(|&k| !all.contains_key(k)).copied().collect();
        keys.extend(all.keys());
        self.routes = all;
        for key in keys {
            self.tell(key, events);
        }
    }

    /// Digests of this state and of a dump: links, addresses, foreign routes, and neighbours that are reachable (the
    /// kernel begins to resolve one without a notification).
    pub(crate) fn digests(&self, snapshot: &Snapshot) -> (Digest, Digest) {
        let (mut ours, mut kernels) = (Digest::default(), Digest::default());
        let link = |l: &LinkChange| (l.index, l.name.clone(), l.mac, l.mtu, l.up);
        self.links.values().for_each(|l| ours.add(&link(l)));
        snapshot.links.iter().for_each(|l| kernels.add(&link(l)));
        self.addresses.iter().for_each(|a| ours.add(a));
        for address in snapshot.addresses.iter().map(|a| &a.change).filter(|a| a.present) {
            kernels.add(&(address.interface, address.address));
        }
        let reachable = |state| matches!(state, NeighborState::Reachable(_));
        for (neighbor, state) in self.neighbors.iter().filter(|(_, s)| reachable(**s)) {
            ours.add(&(neighbor, state));
        }
        for neighbor in snapshot.neighbors.iter().filter(|n| reachable(n.state)) {
            kernels.add(&((neighbor.interface, neighbor.address), neighbor.state));
        }
        self.routes.values().flatten().for_each(|r| ours.add(r));
        let routes = self.by_key(snapshot.routes.iter().cloned());
        routes.values().flatten().for_each(|r| kernels.add(r));
        (ours, kernels)
    }

    /// The routes that are mirrored in, by where they are told.
    fn by_key(&self, routes: impl IntoIterator<Item = ObservedRoute>) -> HashMap<(VrfId, Prefix), Vec<ObservedRoute>> {
        let mut all: HashMap<_, Vec<ObservedRoute>> = HashMap::new();
        for route in routes {
            let Some(key) = self.key(&route) else { continue };
            let same = all.entry(key).or_default();
            if same.contains(&route) {
                continue;
            }
            match same.iter_mut().find(|r| is_sibling(r, &route)) {
                // Kernels before 4.11 dump an IPv6 multipath route as one message for each next hop.
                Some(sibling) => {
                    sibling.next_hops.extend(route.next_hops);
                    sibling.next_hops.sort_unstable();
                }
                None => same.push(route),
            }
        }
        all
    }

    /// `None` if the route is not mirrored in.
    fn key(&self, route: &ObservedRoute) -> Option<(VrfId, Prefix)> {
        let ours = route.protocol == self.protocol || KERNELS_OWN.contains(&route.protocol);
        self.tables
            .get(&route.table)
            .filter(|_| !ours)
            .map(|&vrf| (vrf, route.prefix))
    }

    fn link(&mut self, link: LinkChange, events: &mut Vec<KernelEvent>) -> Doubt {
        let before = self.links.get(&link.index);
        if before == Some(&link) || (before.is_none() && !link.present) {
            return Doubt::None;
        }
        let was_up = before.map(|l| l.up);
        if link.present {
            self.links.insert(link.index, link.clone());
        } else {
            let neighbors: Vec<_> = self.neighbors.keys().filter(|n| n.0 == link.index).copied().collect();
            for (interface, address) in neighbors {
                self.neighbor(
                    NeighborChange {
                        interface,
                        address,
                        state: NeighborState::Gone,
                    },
                    events,
                );
            }
            let addresses: Vec<_> = self.addresses.iter().filter(|a| a.0 == link.index).copied().collect();
            for (interface, address) in addresses {
                self.address(
                    AddressChange {
                        interface,
                        address,
                        present: false,
                    },
                    events,
                );
            }
            self.links.remove(&link.index);
        }
        // Down, the kernel drops routes or marks next hops as dead, and up it revives them: both without a word.
        let changed = was_up.is_some_and(|was| was != link.up);
        let doubt = if changed { Doubt::Routes } else { Doubt::None };
        events.push(KernelEvent::Link(link));
        doubt
    }

    fn address(&mut self, address: AddressChange, events: &mut Vec<KernelEvent>) -> Doubt {
        let key = (address.interface, address.address);
        let changed = if address.present {
            self.addresses.insert(key)
        } else {
            self.addresses.remove(&key)
        };
        if !changed {
            return Doubt::None;
        }
        let doubt = if address.present { Doubt::None } else { Doubt::Routes };
        events.push(KernelEvent::Address(address));
        doubt
    }

    fn neighbor(&mut self, neighbor: NeighborChange, events: &mut Vec<KernelEvent>) {
        let key = (neighbor.interface, neighbor.address);
        let before = match neighbor.state {
            NeighborState::Gone => self.neighbors.remove(&key).unwrap_or(NeighborState::Gone),
            state => self.neighbors.insert(key, state).unwrap_or(NeighborState::Gone),
        };
        if before != neighbor.state {
            events.push(KernelEvent::Neighbor(neighbor));
        }
    }

    fn route(&mut self, verb: Verb, route: ObservedRoute, events: &mut Vec<KernelEvent>) -> Doubt {
        let Some(key) = self.key(&route) else {
            return Doubt::None;
        };
        let list = self.routes.entry(key).or_default();
        let doubt = match verb {
            Verb::Delete => delete(list, &route),
            Verb::Replace => replace(list, route),
            Verb::Add | Verb::Append => add(list, verb, route),
        };
        if list.is_empty() {
            self.routes.remove(&key);
        }
        self.tell(key, events);
        doubt
    }

    /// Tells the best route of `key` if it is not the one that was told.
    fn tell(&mut self, key: (VrfId, Prefix), events: &mut Vec<KernelEvent>) {
        let best = self.routes.get(&key).and_then(|list| {
            list.iter()
                .filter_map(|r| Some((r.metric, usable(r)?)))
                .min_by_key(|(metric, _)| *metric)
        });
        let route = best.map(|(_, route)| route);
        if self.told.get(&key) == route.as_ref() {
            return;
        }
        match &route {
            Some(route) => self.told.insert(key, route.clone()),
            None => self.told.remove(&key),
        };
        events.push(KernelEvent::Route(RouteChange {
            vrf: key.0,
            prefix: key.1,
            source: Source::Kernel,
            route,
        }));
    }
}

/// The route in the words of the RIB; `None` if no next hop of it is alive.
pub(crate) fn usable(route: &ObservedRoute) -> Option<Route> {
    let next_hops = route
        .next_hops
        .iter()
        .filter(|n| !n.dead)
        .map(|ObservedNextHop { hop, .. }| NextHop {
            gateway: hop.gateway,
            interface: hop.interface,
            weight: hop.weight.max(1),
            vrf: None,
            vxlan: None,
        });
    let mut usable = match route.kind {
        RouteKind::Unicast => Route::multipath(next_hops),
        kind => Route::special(kind),
    };
    usable.metric = route.metric;
    (usable.kind != RouteKind::Unicast || !usable.next_hops.is_empty()).then_some(usable)
}

/// Same place in the kernel's table: same table and metric (the prefix is the list's).
fn same_key(a: &ObservedRoute, b: &ObservedRoute) -> bool {
    a.table == b.table && a.metric == b.metric
}

/// True if `b` is another next hop of the IPv6 multipath route `a`: only IPv6 joins routes of one metric so.
fn is_sibling(a: &ObservedRoute, b: &ObservedRoute) -> bool {
    let multipath = |r: &ObservedRoute| r.next_hops.iter().all(|n| n.hop.gateway.is_some());
    !a.prefix.is_v4()
        && same_key(a, b)
        && a.protocol == b.protocol
        && [a, b]
            .iter()
            .all(|r| r.kind == RouteKind::Unicast && !r.next_hops.is_empty() && multipath(r))
}

/// True if every next hop of `part` is one of `whole`, whatever its weight and state.
fn includes(whole: &ObservedRoute, part: &ObservedRoute) -> bool {
    let ways = |n: &ObservedNextHop| (n.hop.gateway, n.hop.interface);
    part.next_hops
        .iter()
        .all(|p| whole.next_hops.iter().any(|w| ways(w) == ways(p)))
}

fn add(list: &mut Vec<ObservedRoute>, verb: Verb, route: ObservedRoute) -> Doubt {
    if list.contains(&route) {
        return Doubt::None;
    }
    if let Some(sibling) = list.iter_mut().find(|r| is_sibling(r, &route)) {
        let whole = includes(&route, sibling);
        *sibling = route;
        return if whole { Doubt::None } else { Doubt::Routes };
    }
    let behind = |r: &ObservedRoute| match verb {
        Verb::Append => r.metric > route.metric,
        _ => r.metric >= route.metric,
    };
    let place = list.iter().position(behind).unwrap_or(list.len());
    list.insert(place, route);
    Doubt::None
}

fn replace(list: &mut Vec<ObservedRoute>, route: ObservedRoute) -> Doubt {
    let ambiguous = list.iter().filter(|r| same_key(r, &route)).count() > 1;
    match list.iter_mut().find(|r| same_key(r, &route)) {
        Some(first) => *first = route,
        None => return add(list, Verb::Add, route),
    }
    if ambiguous { Doubt::Routes } else { Doubt::None }
}

fn delete(list: &mut Vec<ObservedRoute>, route: &ObservedRoute) -> Doubt {
    let candidate = |r: &ObservedRoute| same_key(r, route) && r.kind == route.kind && r.protocol == route.protocol;
    if let Some(place) = list
        .iter()
        .position(|r| candidate(r) && includes(r, route) && includes(route, r))
    {
        list.remove(place);
        return Doubt::None;
    }
    // One next hop of an IPv6 multipath route.
    if let Some(whole) = list
        .iter_mut()
        .find(|r| candidate(r) && is_sibling(r, route) && includes(r, route))
    {
        let deleted = |n: &ObservedNextHop| {
            route
                .next_hops
                .iter()
                .any(|d| (d.hop.gateway, d.hop.interface) == (n.hop.gateway, n.hop.interface))
        };
        whole.next_hops.retain(|n| !deleted(n));
        if let [last] = whole.next_hops.as_mut_slice() {
            last.hop.weight = 1; // the kernel shows no weight where there is no choice
        }
        return Doubt::None;
    }
    if list.iter().any(|r| same_key(r, route)) {
        Doubt::Routes
    } else {
        Doubt::None
    }
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
