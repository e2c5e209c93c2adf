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
    AddressChange, IfIndex, KernelEvent, LinkChange, NeighborChange, NeighborState, NextHop, NextHopObject,
    NextHopObjectChange, Prefix, Route, RouteChange, RouteKind, Source, VrfId,
};

use crate::digest::Digest;
use crate::fdb::Fdb;
use crate::heard::{Heard, ObservedAddress, ObservedFdb, ObservedNextHop, ObservedRoute, Verb};
use crate::object::Object;
use crate::objects::{Effect, Nature, Objects};
use crate::{KernelRule, KernelTable, Status};

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
    pub(crate) objects: Vec<(u32, Object)>,
    pub(crate) rules: Vec<KernelRule>,
    pub(crate) fdb: Vec<ObservedFdb>,
}

impl Snapshot {
    /// Takes one message of a dump.
    pub(crate) fn push(&mut self, heard: Heard) {
        match heard {
            Heard::Link(link) => self.links.push(link),
            Heard::Address(address) => self.addresses.push(address),
            Heard::Neighbor(neighbor) => self.neighbors.push(neighbor),
            Heard::Route(_, route) => self.routes.push(route),
            Heard::Object(id, Some(object)) => self.objects.push((id, object)),
            Heard::Rule(rule, _) => self.rules.push(rule),
            Heard::Fdb(entry, _) => self.fdb.push(entry),
            Heard::Object(_, None) | Heard::Nothing => {}
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
    /// Routes of other daemons in every table, each list in the kernel's order.
    routes: HashMap<(u32, Prefix), Vec<ObservedRoute>>,
    /// Of each list of a table that is a VRF's, the route that was told.
    told: HashMap<(u32, Prefix), Route>,
    /// IPv4 and IPv6 prefixes of each table.
    counts: BTreeMap<u32, [usize; 2]>,
    objects: Objects,
    /// Routes that name an object.
    named: HashMap<u32, HashSet<(u32, Prefix)>>,
    /// In order; a rule that is there twice is here twice.
    rules: Vec<KernelRule>,
    fdb: Fdb,
}

impl Inbound {
    /// An empty mirror that tells the routes of `tables`, and is blind to routes of `protocol`.
    pub(crate) fn new(protocol: u8, tables: impl IntoIterator<Item = (u32, VrfId)>) -> Self {
        Self {
            protocol,
            tables: tables.into_iter().collect(),
            links: BTreeMap::new(),
            addresses: BTreeSet::new(),
            neighbors: HashMap::new(),
            routes: HashMap::new(),
            told: HashMap::new(),
            counts: BTreeMap::new(),
            objects: Objects::default(),
            named: HashMap::new(),
            rules: Vec::new(),
            fdb: Fdb::default(),
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
            Heard::Object(id, object) => {
                // The routes of an object that goes, go without a word.
                let doubt = if object.is_none() { Doubt::Routes } else { Doubt::None };
                let effects = self.objects.set(id, object);
                self.objects_changed(effects, events);
                doubt
            }
            Heard::Rule(rule, present) => {
                self.rule(rule, present);
                Doubt::None
            }
            Heard::Fdb(entry, present) => {
                self.fdb.set(entry, present, events);
                Doubt::None
            }
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
        self.fdb.set_all(snapshot.fdb, events);
        self.rules = snapshot.rules;
        self.rules.sort_unstable();
        self.resync_routes(snapshot.objects, snapshot.routes, events);
    }

    /// Takes a dump of the next-hop objects and the routes, and appends the differences to `events`.
    pub(crate) fn resync_routes(
        &mut self,
        objects: Vec<(u32, Object)>,
        routes: Vec<ObservedRoute>,
        events: &mut Vec<KernelEvent>,
    ) {
        let effects = self.objects.set_all(objects);
        self.objects_changed(effects, events);
        let all = self.by_key(routes);
        let mut keys: Vec<_> = self.told.keys().filter(|&k| !all.contains_key(k)).copied().collect();
        keys.extend(all.keys());
        self.named.clear();
        self.counts.clear();
        for (key, list) in &all {
            self.counts.entry(key.0).or_default()[usize::from(!key.1.is_v4())] += 1;
            for id in list.iter().filter_map(|route| route.object) {
                self.named.entry(id).or_default().insert(*key);
            }
        }
        self.routes = all;
        for key in keys {
            self.tell(key, events);
        }
    }

    /// Digests of this state and of a dump: links, addresses, foreign routes, next-hop objects, rules, forwarding
    /// databases, and the MACs of neighbours (the kernel begins to resolve or confirm one without a notification).
    pub(crate) fn digests(&self, snapshot: &Snapshot) -> (Digest, Digest) {
        let (mut ours, mut kernels) = (Digest::default(), Digest::default());
        let link = |l: &LinkChange| (l.index, l.name.clone(), l.mac, l.mtu, l.up);
        self.links.values().for_each(|l| ours.add(&link(l)));
        snapshot.links.iter().for_each(|l| kernels.add(&link(l)));
        self.addresses.iter().for_each(|a| ours.add(a));
        for address in snapshot.addresses.iter().map(|a| &a.change).filter(|a| a.present) {
            kernels.add(&(address.interface, address.address));
        }
        for (neighbor, mac) in self.neighbors.iter().filter_map(|(n, state)| Some((n, state.mac()?))) {
            ours.add(&(neighbor, mac));
        }
        for (neighbor, mac) in snapshot.neighbors.iter().filter_map(|n| Some((n, n.state.mac()?))) {
            kernels.add(&((neighbor.interface, neighbor.address), mac));
        }
        self.routes.values().flatten().for_each(|r| ours.add(r));
        self.objects.iter().for_each(|object| ours.add(&object));
        snapshot
            .objects
            .iter()
            .for_each(|(id, object)| kernels.add(&(*id, object)));
        self.rules.iter().for_each(|rule| ours.add(rule));
        snapshot.rules.iter().for_each(|rule| kernels.add(rule));
        self.fdb.iter().for_each(|entry| ours.add(entry));
        snapshot.fdb.iter().for_each(|entry| kernels.add(entry));
        let routes = self.by_key(snapshot.routes.iter().cloned());
        routes.values().flatten().for_each(|r| kernels.add(r));
        (ours, kernels)
    }

    /// The routes that are mirrored in, by their place.
    fn by_key(&self, routes: impl IntoIterator<Item = ObservedRoute>) -> HashMap<(u32, Prefix), Vec<ObservedRoute>> {
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
    fn key(&self, route: &ObservedRoute) -> Option<(u32, Prefix)> {
        let ours = route.protocol == self.protocol || KERNELS_OWN.contains(&route.protocol);
        (!ours).then_some((route.table, route.prefix))
    }

    /// Tells objects before the routes that come to be, or cease to be, with them.
    fn objects_changed(&mut self, effects: Vec<Effect>, events: &mut Vec<KernelEvent>) {
        let mut routes = Vec::new();
        for effect in effects {
            if let Some(next_hops) = effect.ways {
                let object = kernel_object(effect.id);
                events.push(KernelEvent::NextHopObject(NextHopObjectChange { object, next_hops }));
            }
            if effect.nature {
                routes.extend(self.named.get(&effect.id).into_iter().flatten().copied());
            }
        }
        for key in routes {
            self.tell(key, events);
        }
    }

    fn rule(&mut self, rule: KernelRule, present: bool) {
        match (self.rules.binary_search(&rule), present) {
            (Ok(at), false) => drop(self.rules.remove(at)),
            (Ok(at) | Err(at), true) => self.rules.insert(at, rule),
            (Err(_), false) => {}
        }
    }

    /// Adds what is mirrored in to `status`.
    pub(crate) fn report(&self, status: &mut Status) {
        let mut tables: BTreeMap<u32, KernelTable> = self
            .tables
            .iter()
            .map(|(id, vrf)| (*id, KernelTable::new(*id, Some(*vrf))))
            .collect();
        for (id, count) in self.counts.iter().filter(|(_, count)| **count != [0, 0]) {
            let table = tables.entry(*id).or_insert_with(|| KernelTable::new(*id, None));
            [table.prefixes_v4, table.prefixes_v6] = *count;
        }
        status.tables = tables.into_values().collect();
        status.rules.clone_from(&self.rules);
        status.next_hop_objects = self.objects.len();
        status.fdb_entries = self.fdb.len();
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
            self.fdb.forget(link.index, events);
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
        if let Some(id) = route.object {
            self.named.entry(id).or_default().insert(key);
        }
        let count = &mut self.counts.entry(key.0).or_default()[usize::from(!key.1.is_v4())];
        let list = self.routes.entry(key).or_default();
        *count += usize::from(list.is_empty());
        let doubt = match verb {
            Verb::Delete => delete(list, &route),
            Verb::Replace => replace(list, route),
            Verb::Add | Verb::Append => add(list, verb, route),
        };
        if list.is_empty() {
            *count -= 1;
            self.routes.remove(&key);
        }
        self.tell(key, events);
        doubt
    }

    /// Tells the best route of `key`, in a table that is a VRF's, if it is not the one that was told.
    fn tell(&mut self, key: (u32, Prefix), events: &mut Vec<KernelEvent>) {
        let Some(vrf) = self.tables.get(&key.0).copied() else {
            return;
        };
        let best = self.routes.get(&key).and_then(|list| {
            list.iter()
                .filter_map(|r| Some((r.metric, usable(r, &self.objects, kernel_object)?)))
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
            vrf,
            prefix: key.1,
            source: Source::Kernel,
            route,
        }));
    }
}

/// The kernel's number of an object, in the words of the RIB.
fn kernel_object(id: u32) -> NextHopObject {
    let source = Source::Kernel;
    NextHopObject { source, id }
}

/// The route in the words of the RIB, an object under the number that `named` gives; `None` if no next hop of it is alive.
pub(crate) fn usable(route: &ObservedRoute, objects: &Objects, named: impl Fn(u32) -> NextHopObject) -> Option<Route> {
    if let Some(id) = route.object {
        let mut usable = match objects.nature(id)? {
            Nature::Ways => Route::unicast(NextHop::of_object(named(id))),
            Nature::OnLink => Route::multipath(objects.ways(id).iter().copied()),
            Nature::Blackhole => Route::special(RouteKind::Blackhole),
        };
        usable.metric = route.metric;
        return Some(usable);
    }
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
            object: None,
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
            .all(|r| r.kind == RouteKind::Unicast && r.object.is_none() && !r.next_hops.is_empty() && multipath(r))
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
    let candidate = |r: &ObservedRoute| {
        same_key(r, route) && r.kind == route.kind && r.protocol == route.protocol && r.object == route.object
    };
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
