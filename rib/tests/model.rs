//! The RIB against a naive one: after each generation of a random history, everything that workers and the kernel's
//! mirror see is what a reference finds that keeps nothing but the raw events and recomputes all from them.
//!
//! The reference takes one thing from the RIB, who wins, and checks that it is a stable choice: each winner is the best
//! candidate that is usable given all winners. (Where routes resolve through each other there may be two such choices,
//! so it cannot be computed without knowing the history; without such circles there is exactly one.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use net::{
    AddressChange, Drop, IfIndex, InterfaceId, IpNet, KernelEvent, LinkChange, Mac, NeighborChange, NeighborState,
    NextHop, NextHopId, PortId, Prefix, Route, RouteChange, RouteKind, Source, VlanId, Vni, VrfId, VxlanNextHop,
};
use proptest::prelude::*;
use proptest::sample::select;
use rib::{Adjacency, AdjacencyKind, Attachment, Interface, Lookup, Reader, ResolvedHop, Rib, RibConfig, RouteView};

/// One event of a history.
#[derive(Clone, Debug)]
enum Event {
    Interface(Interface),
    RemoveInterface(InterfaceId),
    Link(IfIndex, bool),
    Address(IfIndex, IpNet, bool),
    Neighbor(IfIndex, IpAddr, NeighborState),
    Route(RouteChange),
    Fdb(InterfaceId, Mac, Option<IpAddr>),
    Publish,
}

/// Events, printed one a line.
#[derive(Clone)]
struct History(Vec<Event>);

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|event| write!(f, "\n{event:?}"))
    }
}

/// What a lookup may end at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    NoRoute,
    VrfLoop,
    Special(AdjacencyKindOrd),
    Glean(InterfaceId),
    Neighbor(InterfaceId, IpAddr),
    Tunnel(InterfaceId, IpAddr, Mac),
}

/// [`AdjacencyKind`] by number, to be sorted.
type AdjacencyKindOrd = u8;

type Key = (VrfId, Prefix);
/// Distance, metric, rank at a tie (NAT, local, sources), route.
type Candidate = (u8, u32, u8, Route);
/// A lookup that resolution made, and the length that it found.
type Step = (VrfId, IpAddr, Option<u8>);

/// The raw events, folded.
#[derive(Default)]
struct Reference {
    interfaces: BTreeMap<InterfaceId, Interface>,
    links: BTreeMap<IfIndex, bool>,
    addresses: BTreeSet<(IfIndex, IpNet)>,
    neighbors: BTreeMap<(IfIndex, IpAddr), NeighborState>,
    fdb: BTreeMap<(InterfaceId, Mac), IpAddr>,
    routes: BTreeMap<(VrfId, Prefix, Source), Route>,
}

impl Reference {
    fn apply(&mut self, event: &Event) {
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
            Event::Publish => {}
        }
    }

    fn ours(&self, host: IfIndex) -> Option<&Interface> {
        self.interfaces.values().find(|i| i.host == Some(host))
    }

    fn up(&self, interface: &Interface) -> bool {
        interface
            .host
            .is_none_or(|h| self.links.get(&h).copied().unwrap_or(true))
    }

    /// Every candidate, best first.
    fn candidates(&self) -> BTreeMap<Key, Vec<Candidate>> {
        let mut all: BTreeMap<Key, Vec<Candidate>> = BTreeMap::new();
        for ((vrf, prefix, source), route) in &self.routes {
            let distance = route.distance.unwrap_or(source.default_distance());
            let candidate = (distance, route.metric, 2 + *source as u8, route.clone());
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
    fn longest<'a>(winners: &'a BTreeMap<Key, Route>, vrf: VrfId, address: IpAddr) -> Option<(Prefix, &'a Route)> {
        let covers = winners.iter().filter(|((v, p), _)| *v == vrf && p.contains(address));
        covers
            .max_by_key(|((_, p), _)| p.len())
            .map(|((_, p), route)| (*p, route))
    }

    /// What the next hops of a route in `vrf` resolve to.
    fn resolve(
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
    fn follow(
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

    fn usable(&self, winners: &BTreeMap<Key, Route>, vrf: VrfId, prefix: Prefix, route: &Route) -> bool {
        if route.kind != RouteKind::Unicast {
            return true;
        }
        let (ends, steps, leaks) = self.resolve(winners, vrf, route);
        let loops = steps
            .iter()
            .any(|(v, a, l)| *v == vrf && prefix.contains(*a) && l.unwrap_or(0) <= prefix.len());
        (!ends.is_empty() || !leaks.is_empty()) && !loops
    }

    fn mac(&self, interface: &Interface, address: IpAddr) -> Option<Mac> {
        match self.neighbors.get(&(interface.host?, address))? {
            NeighborState::Reachable(mac) => Some(*mac),
            _ => None,
        }
    }

    /// Every end that packets in `vrf` to `address` may come to.
    fn ends(&self, winners: &BTreeMap<Key, Route>, vrf: VrfId, address: IpAddr, leaks: usize) -> BTreeSet<End> {
        if leaks > 4 {
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
        let further = leaked.iter().flat_map(|v| self.ends(winners, *v, address, leaks + 1));
        ends.into_keys().chain(further).collect()
    }

    /// MACs that outer packets to a VXLAN endpoint may be sent to; none if they cannot be sent.
    fn underlay_macs(&self, winners: &BTreeMap<Key, Route>, vtep: IpAddr) -> Vec<Mac> {
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
    fn check_adjacency(&self, winners: &BTreeMap<Key, Route>, end: End, found: &Adjacency) {
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

/// What the last generation showed a prober, to be compared with the next one's delta.
type Seen = BTreeMap<(VrfId, IpAddr, u32), (Option<NextHopId>, VrfId, Adjacency)>;

struct Check {
    rib: Rib,
    reader: Reader,
    reference: Reference,
    seen: Seen,
    mirror: BTreeMap<Key, (Source, RouteKind, Vec<ResolvedHop>)>,
}

impl Check {
    fn apply(&mut self, event: Event) {
        self.reference.apply(&event);
        match event {
            Event::Interface(i) => self.rib.set_interface(i),
            Event::RemoveInterface(id) => self.rib.remove_interface(id),
            Event::Link(index, up) => {
                let link = LinkChange {
                    index,
                    name: String::new(),
                    mac: None,
                    mtu: 1500,
                    up,
                    present: true,
                };
                self.rib.kernel(KernelEvent::Link(link));
            }
            Event::Address(interface, address, present) => {
                self.rib.kernel(KernelEvent::Address(AddressChange {
                    interface,
                    address,
                    present,
                }));
            }
            Event::Neighbor(interface, address, state) => {
                self.rib.kernel(KernelEvent::Neighbor(NeighborChange {
                    interface,
                    address,
                    state,
                }));
            }
            Event::Route(change) => self.rib.route(change),
            Event::Fdb(interface, mac, vtep) => self.rib.fdb(interface, mac, vtep),
            Event::Publish => self.publish(),
        }
    }

    fn publish(&mut self) {
        let published = self.rib.publish().expect("no reader is inside");
        let views = self.rib.routes(None, None, usize::MAX);
        let winners = self.check_choice(&views);
        for winner in published.winners {
            let key = (winner.vrf, winner.prefix);
            match winner.route {
                Some(r) => drop(self.mirror.insert(key, (r.source, r.kind, r.next_hops.to_vec()))),
                None => drop(self.mirror.remove(&key)),
            }
        }
        let active = views.iter().filter(|v| v.active);
        let shown = active
            .map(|v| ((v.vrf, v.prefix), (v.source, v.kind, v.resolved.clone())))
            .collect();
        assert_eq!(self.mirror, shown, "the winners told so far are the winners");
        self.check_tables(&winners, &published.delta);
    }

    /// The candidates are the reference's, and who wins is the best that is usable.
    fn check_choice(&self, views: &[RouteView]) -> BTreeMap<Key, Route> {
        let candidates = self.reference.candidates();
        let mut winners = BTreeMap::new();
        let mut shown: BTreeMap<Key, Vec<(u8, u32, RouteKind, bool)>> = BTreeMap::new();
        for v in views {
            shown
                .entry((v.vrf, v.prefix))
                .or_default()
                .push((v.distance, v.metric, v.kind, v.active));
            assert_eq!(v.reason.is_none(), v.active, "{v:?}");
            if v.active {
                let at = shown[&(v.vrf, v.prefix)].len() - 1;
                winners.insert((v.vrf, v.prefix), candidates[&(v.vrf, v.prefix)][at].3.clone());
            }
        }
        let usable = |(vrf, prefix): &Key, route| self.reference.usable(&winners, *vrf, *prefix, route);
        let expected: BTreeMap<_, Vec<_>> = candidates
            .iter()
            .map(|(key, all)| {
                let best = all.iter().position(|(.., route)| usable(key, route));
                let flag = |(i, c): (usize, &Candidate)| (c.0, c.1, c.3.kind, Some(i) == best);
                (*key, all.iter().enumerate().map(flag).collect())
            })
            .collect();
        assert_eq!(shown, expected);
        winners
    }

    fn check_tables(&mut self, winners: &BTreeMap<Key, Route>, delta: &nat::Delta) {
        let tables = self.reader.enter().expect("published");
        let mut seen = Seen::new();
        for vrf in [0, 1, 2].map(VrfId) {
            for address in probes() {
                let ends = self.reference.ends(winners, vrf, address, 0);
                let mut reached = BTreeSet::new();
                for hash in 0..300u32 {
                    let found = match address {
                        IpAddr::V4(a) => tables.resolve_v4(vrf, a.into(), hash << 5),
                        IpAddr::V6(a) => tables.resolve_v6(vrf, a.into(), hash << 5),
                    };
                    let mut burst = [Lookup::default()];
                    match address {
                        IpAddr::V4(a) => tables.resolve_v4_burst(&[(vrf, a.into(), hash << 5)], &mut burst),
                        IpAddr::V6(a) => tables.resolve_v6_burst(&[(vrf, a.into(), hash << 5)], &mut burst),
                    }
                    let (end, id) = match found {
                        Ok(r) => {
                            assert_eq!(
                                (burst[0].next_hop, burst[0].vrf, burst[0].kind),
                                (r.next_hop, r.vrf, r.kind)
                            );
                            (
                                self.end_of(winners, &ends, tables.adjacency(r.next_hop)),
                                Some(r.next_hop),
                            )
                        }
                        Err(Drop::VrfLoop) => (Some(End::VrfLoop), None),
                        Err(_) => (Some(End::NoRoute), None),
                    };
                    let adjacency = tables.adjacency(burst[0].next_hop).clone();
                    let end = end.unwrap_or_else(|| panic!("{vrf} {address}: {adjacency:?} is none of {ends:?}"));
                    assert!(ends.contains(&end), "{vrf} {address}: {end:?} is none of {ends:?}");
                    self.reference.check_adjacency(winners, end, &adjacency);
                    reached.insert(end);
                    if hash < 4 {
                        let now = (id, burst[0].vrf, adjacency);
                        self.check_delta(delta, (vrf, address, hash), &now);
                        seen.insert((vrf, address, hash), now);
                    }
                }
                let route = Reference::longest(winners, vrf, address).map(|(_, route)| route);
                let incomplete = |end: &&End| match end {
                    End::Tunnel(_, vtep, _) => self.reference.underlay_macs(winners, *vtep).is_empty(),
                    _ => false,
                };
                // Several incomplete tunnels look alike; behind a leak a next hop may be too rare to be seen.
                let alike = ends.iter().filter(incomplete).count() > 1;
                if !alike && route.is_none_or(|r| self.reference.resolve(winners, vrf, r).2.is_empty()) {
                    assert_eq!(reached, ends, "{vrf} {address}: every next hop gets flows");
                }
            }
        }
        drop(tables);
        self.seen = seen;
    }

    /// Which of the possible ends an adjacency is.
    fn end_of(&self, winners: &BTreeMap<Key, Route>, ends: &BTreeSet<End>, found: &Adjacency) -> Option<End> {
        let is = |end: &&End| match **end {
            End::NoRoute | End::VrfLoop => false,
            End::Special(kind) => found.kind as u8 == kind,
            End::Glean(id) => found.kind == AdjacencyKind::Glean && found.interface == id,
            End::Neighbor(id, address) => found.interface == id && found.gateway == Some(address),
            End::Tunnel(id, vtep, mac) => {
                let bytes = found.rewrite();
                let complete = !self.reference.underlay_macs(winners, vtep).is_empty();
                let same = match (found.kind, vtep) {
                    (AdjacencyKind::Vxlan, IpAddr::V4(vtep)) => {
                        let inner = bytes.len() - 14;
                        bytes[inner..][..6] == mac.0 && bytes[inner - 20..][..4] == vtep.octets()
                    }
                    (kind, _) => kind == AdjacencyKind::Incomplete && !complete,
                };
                found.interface == id && found.gateway.is_none() && same
            }
        };
        ends.iter().find(is).copied()
    }

    /// A connection whose way changed is told so by the delta.
    fn check_delta(
        &self,
        delta: &nat::Delta,
        probe: (VrfId, IpAddr, u32),
        now: &(Option<NextHopId>, VrfId, Adjacency),
    ) {
        let (vrf, address, _) = probe;
        let Some(before) = self.seen.get(&probe) else { return };
        let Some(old) = before.0 else { return };
        let listed = |(v, p): &(VrfId, Prefix)| (*v == vrf || before.1 != vrf) && p.contains(address);
        let told = delta.everything || delta.next_hops.contains(&old) || delta.prefixes.iter().any(listed);
        assert!(
            before == now || told,
            "{vrf} {address} went {before:?}, goes {now:?}, not in {delta:?}"
        );
    }
}

const GATEWAYS: [&str; 8] = [
    "10.0.0.2",
    "10.0.0.3",
    "10.0.1.2",
    "10.1.0.1",
    "20.0.0.1",
    "192.0.2.9",
    "fe80::2",
    "2001:db8::2",
];
const PREFIXES: [&str; 15] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.0/24",
    "10.0.1.0/24",
    "10.0.0.2/32",
    "10.1.0.0/30",
    "20.0.0.0/8",
    "20.0.0.0/24",
    "192.0.2.0/24",
    "192.0.2.9/32",
    "::/0",
    "2001:db8::/32",
    "2001:db8::/64",
    "2001:db8::2/128",
];
const ADDRESSES: [&str; 7] = [
    "10.0.0.1/24",
    "10.0.1.1/24",
    "10.1.0.2/30",
    "20.0.0.1/32",
    "20.0.0.9/8",
    "2001:db8::1/64",
    "fe80::9/64",
];

fn probes() -> impl Iterator<Item = IpAddr> {
    let more = [
        "10.0.0.1",
        "10.0.0.77",
        "10.1.0.2",
        "20.9.0.1",
        "9.9.9.9",
        "2001:db8::77",
        "2001:dead::1",
    ];
    GATEWAYS.into_iter().chain(more).map(|a| a.parse().expect("an address"))
}

fn parsed<T: std::str::FromStr + Clone + std::fmt::Debug + 'static>(
    texts: &[&str],
) -> impl Strategy<Value = T> + use<T> {
    let values: Vec<T> = texts.iter().map(|t| t.parse().ok().expect("valid")).collect();
    select(values)
}

fn macs() -> impl Strategy<Value = Mac> {
    (1..4u8).prop_map(|n| Mac([2, 0, 0, 0, 1, n]))
}

fn interface(id: u16, host: u32, vrf: u16, attachment: Attachment) -> Interface {
    let mac = Mac([2, 0, 0, 0, 0, id as u8]);
    Interface {
        id: InterfaceId(id),
        name: format!("if{id}"),
        host: Some(IfIndex(host)),
        vrf: VrfId(vrf),
        mac,
        mtu: 1500,
        attachment,
    }
}

fn interfaces() -> Vec<Interface> {
    let vlan = VlanId::new(7).expect("valid");
    let vxlan = |vni| Attachment::Vxlan {
        vni,
        source: Ipv4Addr::new(192, 0, 2, 1),
        udp_port: 4789,
    };
    let vni = |n| Vni::new(n).expect("valid");
    vec![
        interface(0, 10, 0, Attachment::Port(PortId(0))),
        interface(1, 11, 0, Attachment::Port(PortId(1))),
        interface(
            2,
            12,
            1,
            Attachment::Vlan {
                port: PortId(0),
                id: vlan,
            },
        ),
        interface(3, 13, 1, vxlan(vni(100))),
        interface(3, 13, 2, vxlan(vni(200))),
        interface(1, 11, 1, Attachment::Port(PortId(1))),
    ]
}

fn next_hops() -> impl Strategy<Value = NextHop> {
    let host = || (10..15u32).prop_map(IfIndex);
    let tunnel = (parsed::<IpAddr>(&GATEWAYS), macs(), select(vec![100, 200])).prop_map(|(vtep, mac, vni)| {
        let vni = Vni::new(vni).expect("valid");
        NextHop {
            vxlan: Some(VxlanNextHop { vni, vtep, mac }),
            ..NextHop::in_vrf(VrfId::DEFAULT)
        }
    });
    prop_oneof![
        6 => parsed::<IpAddr>(&GATEWAYS).prop_map(NextHop::via),
        2 => (parsed::<IpAddr>(&GATEWAYS), host()).prop_map(|(a, h)| NextHop::via(a).through(h)),
        1 => host().prop_map(NextHop::on_link),
        2 => (0..3u16).prop_map(|v| NextHop::in_vrf(VrfId(v))),
        1 => (parsed::<IpAddr>(&GATEWAYS), 0..3u16).prop_map(|(a, v)| NextHop { vrf: Some(VrfId(v)), ..NextHop::via(a) }),
        1 => tunnel,
    ]
}

fn routes() -> impl Strategy<Value = Option<Route>> {
    let special =
        select(vec![RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit]).prop_map(Route::special);
    let unicast = prop::collection::vec((next_hops(), 1..3u16), 1..4)
        .prop_map(|hops| Route::multipath(hops.into_iter().map(|(hop, weight)| NextHop { weight, ..hop })));
    let route = prop_oneof![8 => unicast, 1 => special];
    let route =
        (route, prop::option::of(0..3u8), 0..2u32).prop_map(|(r, distance, metric)| Route { distance, metric, ..r });
    prop::option::weighted(0.75, route)
}

fn events() -> impl Strategy<Value = Event> {
    let host = || select(vec![10, 11, 12, 13, 1]).prop_map(IfIndex);
    let source = select(vec![
        Source::Static,
        Source::Ebgp,
        Source::Ibgp,
        Source::Kernel,
        Source::Fpm,
    ]);
    let change = ((0..3u16).prop_map(VrfId), parsed::<Prefix>(&PREFIXES), source, routes());
    let state = prop_oneof![
        4 => macs().prop_map(NeighborState::Reachable),
        1 => Just(NeighborState::Incomplete),
        1 => Just(NeighborState::Failed),
        1 => Just(NeighborState::Gone),
    ];
    let vtep = prop::option::weighted(0.8, parsed::<IpAddr>(&GATEWAYS));
    prop_oneof![
        2 => select(interfaces()).prop_map(Event::Interface),
        1 => (0..4u16).prop_map(|id| Event::RemoveInterface(InterfaceId(id))),
        2 => (host(), prop::bool::weighted(0.7)).prop_map(|(h, up)| Event::Link(h, up)),
        4 => (host(), parsed::<IpNet>(&ADDRESSES), prop::bool::weighted(0.7)).prop_map(|(h, n, p)| Event::Address(h, n, p)),
        6 => (host(), parsed::<IpAddr>(&GATEWAYS), state).prop_map(|(h, a, s)| Event::Neighbor(h, a, s)),
        14 => change.prop_map(|(vrf, prefix, source, route)| Event::Route(RouteChange { vrf, prefix, source, route })),
        2 => (macs(), vtep).prop_map(|(mac, vtep)| Event::Fdb(InterfaceId(3), mac, vtep)),
        6 => Just(Event::Publish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn published_tables_equal_the_reference(history in prop::collection::vec(events(), 1..70).prop_map(History)) {
        let (rib, reader) = Rib::new(RibConfig::default());
        let mut check = Check { rib, reader, reference: Reference::default(), seen: Seen::new(), mirror: BTreeMap::new() };
        for i in interfaces().into_iter().take(4) {
            check.apply(Event::Interface(i));
        }
        for event in history.0 {
            check.apply(event);
        }
        check.publish();
    }
}
