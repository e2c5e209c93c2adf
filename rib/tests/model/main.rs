//! The RIB against a naive one: after each generation of a random history, everything that workers and the kernel's
//! mirror see is what a reference finds that keeps nothing but the raw events and recomputes all from them.
//!
//! The reference takes one thing from the RIB, who wins, and checks that it is a stable choice: each winner is the best
//! candidate that is usable given all winners. (Where routes resolve through each other there may be two such choices,
//! so it cannot be computed without knowing the history; without such circles there is exactly one.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::{
    AddressChange, Drop, KernelEvent, LinkChange, NeighborChange, NextHopId, NextHopObjectChange, Prefix, Route,
    RouteKind, Source, VrfId,
};
use proptest::prelude::*;
use rib::{Adjacency, AdjacencyKind, Lookup, Reader, ResolvedHop, Rib, RibConfig, RouteView, Tables};

mod history;
mod reference;

use history::{Event, History, events, interfaces, probes};
use reference::{Candidate, End, Key, Reference};

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
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

/// Histories of a run: few, unless the environment asks for more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(48)
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
                    vni: None,
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
            Event::Object(object, next_hops) => {
                self.rib.next_hop_object(NextHopObjectChange { object, next_hops });
            }
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
                let ends = self.reference.ends(winners, vrf, address, &[]);
                let route = Reference::longest(winners, vrf, address).map(|(_, route)| route);
                let incomplete = |end: &&End| match end {
                    End::Tunnel(_, vtep, _) => self.reference.underlay_macs(winners, *vtep).is_empty(),
                    _ => false,
                };
                // Several incomplete tunnels look alike; behind a leak a next hop may be too rare to be seen.
                let alike = ends.iter().filter(incomplete).count() > 1;
                let counted = !alike && route.is_none_or(|r| self.reference.resolve(winners, vrf, r).2.is_empty());
                let mut reached = BTreeSet::new();
                // A next hop with a small share of a weighted route may take more flows to be seen.
                for hash in 0..65_536u32 {
                    if hash >= 300 && (!counted || reached == ends) {
                        break;
                    }
                    let found = match address {
                        IpAddr::V4(a) => tables.resolve_v4(vrf, a.into(), hash << 5),
                        IpAddr::V6(a) => tables.resolve_v6(vrf, a.into(), hash << 5),
                    };
                    let burst: [Lookup; Tables::BURST] = match address {
                        IpAddr::V4(a) => tables.resolve_v4_burst(1, |_| (vrf, a.into()), |_| hash << 5),
                        IpAddr::V6(a) => tables.resolve_v6_burst(1, |_| (vrf, a.into()), |_| hash << 5),
                    };
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
                    if hash < 16 {
                        let now = (id, burst[0].vrf, adjacency);
                        self.check_delta(delta, (vrf, address, hash), &now);
                        seen.insert((vrf, address, hash), now);
                    }
                }
                if counted {
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
        // A connection without a way is looked at with each generation.
        let Some(old) = before.0 else { return };
        let listed = |(v, p): &(VrfId, Prefix)| (*v == vrf || before.1 != vrf) && p.contains(address);
        let told = delta.everything || delta.next_hops.contains(&old) || delta.prefixes.iter().any(listed);
        assert!(
            before == now || told,
            "{vrf} {address} went {before:?}, goes {now:?}, not in {delta:?}"
        );
    }
}
