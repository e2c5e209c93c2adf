//! Why an address goes where it goes, and why a route does not forward.

use std::collections::BTreeSet;

use rib::{Explanation, HopProblem};

use crate::*;

fn explain(b: &Bench, vrf: VrfId, address: &str) -> Explanation {
    b.rib.explain(vrf, ip(address))
}

#[test]
fn every_reason_is_reached() {
    let mut b = Bench::new();
    let mut reached = BTreeSet::new();
    b.rib.set_interface(vxlan(3, TENANT, VrfId(1), 100));
    let tunnel = |vni: u32| {
        let vni = Vni::new(vni).expect("valid");
        let vxlan = VxlanNextHop {
            vni,
            vtep: ip("10.0.0.2"),
            mac: mac(9),
        };
        Route::unicast(NextHop {
            vxlan: Some(vxlan),
            ..NextHop::in_vrf(VRF)
        })
    };
    let far = Route {
        distance: Some(250),
        ..via("10.0.0.2")
    };
    let metric = |metric| Route { metric, ..far.clone() };
    let object = Route::unicast(NextHop::of_object(NextHopObject {
        source: Source::Fpm,
        id: 1,
    }));
    let on_link = |host| Route::unicast(NextHop::on_link(IfIndex(host)));
    b.announce(VRF, "66.0.0.0/8", Source::Static, Route::special(RouteKind::Blackhole));
    b.announce(VRF, "20.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.announce(VRF, "21.0.0.0/8", Source::Static, metric(1));
    b.announce(VRF, "22.0.0.0/8", Source::Kernel, metric(1));
    let losers = [
        (Reason::Distance, "20.0.0.0/8", far.clone()),
        (Reason::Metric, "21.0.0.0/8", metric(2)),
        (Reason::Source, "22.0.0.0/8", metric(1)),
        (Reason::GatewayUnresolved, "30.0.0.0/8", via("99.0.0.1")),
        (Reason::GatewayLocal, "31.0.0.0/8", via("10.0.0.1")),
        (Reason::GatewayDiscarded, "32.0.0.0/8", via("66.0.0.1")),
        (Reason::Loop, "33.0.0.0/8", via("33.0.0.1")),
        (Reason::InterfaceUnknown, "34.0.0.0/8", on_link(77)),
        (Reason::InterfaceDown, "35.0.0.0/8", on_link(OTHER.0)),
        (Reason::VxlanUnknown, "36.0.0.0/8", tunnel(101)),
        (Reason::ObjectUnknown, "37.0.0.0/8", object),
    ];
    b.announce(VRF, "32.0.0.0/7", Source::Static, via("10.0.0.2"));
    b.link(OTHER, false);
    for (_, prefix, route) in &losers {
        b.announce(VRF, prefix, Source::Fpm, route.clone());
    }
    b.publish();
    b.announce(VRF, "40.0.0.0/8", Source::Fpm, via("10.0.0.2"));
    assert_eq!(b.reason("40.0.0.0/8", Source::Fpm), Some(Reason::Pending));
    reached.insert(Reason::Pending.name());
    for (reason, prefix, _) in losers {
        assert_eq!(b.reason(prefix, Source::Fpm), Some(reason), "{prefix}");
        reached.insert(reason.name());
    }
    assert_eq!(reached, Reason::ALL.map(Reason::name).into());
    for reason in Reason::ALL {
        assert_eq!(serde_json::json!(reason), reason.name());
    }
}

#[test]
fn a_route_is_walked_to_the_neighbour() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.announce(VRF, "20.1.0.0/16", Source::Ebgp, via("99.0.0.1"));
    b.announce(VRF, "20.2.0.0/16", Source::Static, via("10.0.1.9"));
    b.publish();
    let found = explain(&b, VRF, "20.1.2.3");
    let prefixes: Vec<_> = found
        .candidates
        .iter()
        .map(|c| (c.prefix.to_string(), c.reason))
        .collect();
    assert_eq!(
        prefixes,
        [
            ("20.1.0.0/16".into(), Some(Reason::GatewayUnresolved)),
            ("20.0.0.0/8".into(), None)
        ]
    );
    assert_eq!(found.prefix.map(|p| p.to_string()), Some("20.0.0.0/8".into()));
    assert!(found.published && !found.host_route);
    let hop = &found.next_hops[0];
    assert_eq!(
        (hop.gateway, hop.mac, hop.problem),
        (Some(ip("10.0.0.2")), Some(mac(0x20)), None)
    );
    assert_eq!(hop.interface.as_deref(), Some("if0"));

    let states = [
        (NeighborState::Incomplete, HopProblem::NeighborIncomplete),
        (NeighborState::Failed, HopProblem::NeighborFailed),
        (NeighborState::Gone, HopProblem::NeighborUnknown),
    ];
    for (state, problem) in states {
        b.neighbor(OTHER, "10.0.1.9", state);
        b.publish();
        assert_eq!(explain(&b, VRF, "20.2.0.1").next_hops[0].problem, Some(problem));
    }
    b.neighbor(OTHER, "10.0.1.9", NeighborState::Reachable(mac(7)));
    let ahead = explain(&b, VRF, "20.2.0.1");
    assert!(ahead.next_hops[0].problem.is_none() || !ahead.published);
    b.publish();
    let found = explain(&b, VRF, "20.2.0.1");
    assert!(found.next_hops[0].problem.is_none() && found.published);

    assert!(explain(&b, VRF, "10.0.0.2").host_route);
    assert_eq!(explain(&b, VRF, "10.0.0.1").kind, Some(RouteKind::Local));
    let nothing = explain(&b, VRF, "99.9.9.9");
    assert!(nothing.prefix.is_none() && nothing.candidates.is_empty() && nothing.published);
}

#[test]
fn a_generation_that_waits_is_told_from_the_published_one() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.publish();
    let guard = b.reader.enter().expect("published");
    b.rib.kernel(KernelEvent::Synced);
    let change = |rib: &mut Rib, gateway| {
        rib.route(RouteChange {
            vrf: VRF,
            prefix: "20.0.0.0/8".parse().expect("a prefix"),
            source: Source::Static,
            route: Some(via(gateway)),
        });
    };
    change(&mut b.rib, "10.0.1.2");
    assert!(!b.rib.explain(VRF, ip("20.0.0.1")).published);
    b.rib.publish().expect("a reader of the last generation is no obstacle");
    change(&mut b.rib, "10.0.0.2");
    b.rib.publish().expect_err("it is one of the last but one");
    let found = b.rib.explain(VRF, ip("20.0.0.1"));
    assert_eq!(found.next_hops[0].gateway, Some(ip("10.0.0.2")));
    assert!(!found.published);
    drop(guard);
    b.publish();
    assert!(explain(&b, VRF, "20.0.0.1").published);
}

#[test]
fn a_leak_is_followed_into_its_vrf() {
    let mut b = Bench::new();
    let leak = |vrf| Route::unicast(NextHop::in_vrf(vrf));
    b.announce(VrfId(1), "0.0.0.0/0", Source::Static, leak(VRF));
    b.announce(VrfId(2), "0.0.0.0/0", Source::Static, leak(VrfId(3)));
    b.announce(VrfId(3), "0.0.0.0/0", Source::Static, leak(VrfId(2)));
    b.publish();
    let found = explain(&b, VrfId(1), "10.0.0.2");
    assert_eq!(found.next_hops[0].vrf, Some(VRF));
    assert!(found.published && found.leaks[0].host_route && found.leaks[0].published);
    let circle = explain(&b, VrfId(2), "10.0.0.2");
    assert!(circle.leaks[0].leaks.is_empty() && circle.leaks[0].prefix.is_some());
}

#[test]
fn a_tunnel_says_what_it_waits_for() {
    let mut b = Bench::new();
    b.rib.set_interface(vxlan(3, TENANT, VrfId(1), 100));
    b.address(TENANT, "172.16.0.1/24", true);
    b.announce(VrfId(1), "20.0.0.0/8", Source::Static, via("172.16.0.2"));
    b.neighbor(TENANT, "172.16.0.2", NeighborState::Reachable(mac(9)));
    b.publish();
    let problem = |b: &Bench| explain(b, VrfId(1), "20.0.0.1").next_hops[0].problem;
    assert_eq!(problem(&b), Some(HopProblem::VtepUnknown));
    b.rib.fdb(InterfaceId(3), mac(9), Some(ip("10.0.0.77")));
    b.publish();
    assert_eq!(problem(&b), Some(HopProblem::UnderlayUnresolved));
    b.neighbor(HOST, "10.0.0.77", NeighborState::Reachable(mac(0x77)));
    b.publish();
    assert_eq!(problem(&b), None);
    let names: BTreeSet<_> = HopProblem::ALL.iter().map(|p| p.name()).collect();
    assert_eq!(names.len(), HopProblem::ALL.len());
}
