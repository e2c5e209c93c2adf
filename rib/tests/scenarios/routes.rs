//! Which route wins, and over which next hops.

use crate::*;

#[test]
fn the_lowest_distance_wins_then_the_lowest_metric() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Ibgp, via("10.0.0.2"));
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, via("10.0.1.2"));
    let equal = Route {
        distance: Some(20),
        metric: 5,
        ..via("10.0.0.2")
    };
    b.announce(VRF, "20.0.0.0/8", Source::Kernel, equal.clone());
    b.announce(VRF, "20.0.0.0/8", Source::Fpm, Route { metric: 0, ..equal });
    b.publish();
    assert_eq!(b.way(VRF, "20.1.1.1"), forward("10.0.1.2"));
    assert_eq!(b.reason("20.0.0.0/8", Source::Ebgp), None);
    assert_eq!(b.reason("20.0.0.0/8", Source::Ibgp), Some(Reason::Distance));
    assert_eq!(b.reason("20.0.0.0/8", Source::Kernel), Some(Reason::Metric));
    assert_eq!(b.reason("20.0.0.0/8", Source::Fpm), Some(Reason::Source));
    b.withdraw(VRF, "20.0.0.0/8", Source::Ebgp);
    b.publish();
    assert_eq!(b.way(VRF, "20.1.1.1"), forward("10.0.0.2"));
    let (rib, _) = Rib::new(RibConfig {
        distances: vec![(Source::Ibgp, 5)],
        ..RibConfig::default()
    });
    b.rib = rib;
    b.announce(VRF, "20.0.0.0/8", Source::Ibgp, Route::special(RouteKind::Blackhole));
    assert_eq!(b.rib.routes(None, None, 1)[0].distance, 5);
}

#[test]
fn a_gateway_is_resolved_through_other_routes() {
    let mut b = Bench::new();
    b.announce(VRF, "30.0.0.0/8", Source::Ebgp, via("20.0.0.9"));
    let published = b.publish();
    assert_eq!(b.way(VRF, "30.1.1.1"), Err(Drop::NoRoute));
    assert_eq!(b.reason("30.0.0.0/8", Source::Ebgp), Some(Reason::GatewayUnresolved));
    assert!(published.winners.is_empty());
    b.announce(VRF, "20.0.0.0/24", Source::Static, via("10.0.0.2"));
    let published = b.publish();
    assert_eq!(b.way(VRF, "30.1.1.1"), forward("10.0.0.2"));
    let winner = published
        .winners
        .iter()
        .find(|w| w.prefix.to_string() == "30.0.0.0/8")
        .expect("it came to life");
    let hops = &winner.route.as_ref().expect("usable").next_hops;
    assert_eq!((hops[0].gateway, hops[0].interface), (Some(ip("10.0.0.2")), Some(HOST)));
    // The route to the gateway moves: the prefix stays as it is, and its flows are told by their next hop.
    let (old, _) = b.lookup(VRF, "30.1.1.1").expect("routed");
    b.announce(VRF, "20.0.0.0/24", Source::Static, via("10.0.1.2"));
    let published = b.publish();
    assert_eq!(b.way(VRF, "30.1.1.1"), forward("10.0.1.2"));
    assert!(published.delta.next_hops.contains(&old) && !published.delta.everything);
    assert!(
        !published
            .delta
            .prefixes
            .iter()
            .any(|(_, p)| p.to_string() == "30.0.0.0/8")
    );
    assert!(
        published.winners.iter().any(|w| w.prefix.to_string() == "30.0.0.0/8"),
        "the kernel's copy must move too"
    );
}

#[test]
fn a_route_that_covers_its_own_gateway_loses_and_no_other_does() {
    let mut b = Bench::new();
    b.announce(VRF, "40.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.announce(VRF, "40.1.0.0/16", Source::Ebgp, via("40.1.0.1"));
    b.announce(VRF, "50.0.0.0/8", Source::Ebgp, via("40.1.0.1"));
    b.announce(VRF, "10.0.0.0/8", Source::Ebgp, via("10.0.1.2"));
    b.publish();
    assert_eq!(b.reason("40.1.0.0/16", Source::Ebgp), Some(Reason::Loop));
    assert_eq!(b.way(VRF, "40.1.0.7"), forward("10.0.0.2"));
    assert_eq!(b.way(VRF, "50.0.0.1"), forward("10.0.0.2"));
    assert_eq!(
        b.way(VRF, "10.9.9.9"),
        forward("10.0.1.2"),
        "its gateway is on a longer, connected subnet"
    );
    b.address(OTHER, "10.0.1.1/24", false);
    b.publish();
    assert_eq!(b.reason("10.0.0.0/8", Source::Ebgp), Some(Reason::GatewayUnresolved));
}

#[test]
fn routes_that_resolve_through_each_other_do_not_flap() {
    let mut b = Bench::new();
    b.announce(VRF, "0.0.0.0/0", Source::Static, via("10.0.0.2"));
    b.announce(VRF, "60.0.0.0/8", Source::Ebgp, via("70.0.0.1"));
    b.announce(VRF, "70.0.0.0/8", Source::Ebgp, via("60.0.0.1"));
    b.publish();
    let reasons = ["60.0.0.0/8", "70.0.0.0/8"].map(|p| b.reason(p, Source::Ebgp));
    assert_eq!(
        reasons.iter().filter(|r| **r == Some(Reason::Loop)).count(),
        1,
        "{reasons:?}"
    );
    assert_eq!(b.way(VRF, "60.0.0.5"), forward("10.0.0.2"));
    assert_eq!(b.way(VRF, "70.0.0.5"), forward("10.0.0.2"));
}

#[test]
fn leaked_routes_are_followed_and_circles_are_found() {
    let mut b = Bench::new();
    b.announce(
        VrfId(1),
        "0.0.0.0/0",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VRF)),
    );
    b.announce(
        VRF,
        "10.7.0.0/16",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VrfId(2))),
    );
    b.announce(
        VrfId(2),
        "10.7.0.0/16",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VrfId(1))),
    );
    b.announce(VrfId(3), "30.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.announce(
        VrfId(3),
        "10.0.0.0/8",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VRF)),
    );
    b.publish();
    assert_eq!(b.way(VrfId(1), "10.0.0.2"), forward("10.0.0.2"));
    assert_eq!(b.way(VrfId(1), "10.7.0.1"), Err(Drop::VrfLoop));
    assert_eq!(b.way(VrfId(1), "99.0.0.1"), Err(Drop::NoRoute));
    assert_eq!(
        b.way(VrfId(3), "30.0.0.1"),
        forward("10.0.0.2"),
        "a gateway is resolved across the leak"
    );
    let tables = b.reader.enter().expect("published");
    let ended = tables
        .resolve_v4(VrfId(1), Ipv4Addr::new(10, 0, 0, 2).into(), 0)
        .expect("routed");
    assert_eq!(ended.vrf, VRF);
}

#[test]
fn flows_spread_by_weight_over_the_members_that_are_up() {
    let mut b = Bench::new();
    let hop = |gateway: &str, weight| NextHop {
        weight,
        ..NextHop::via(ip(gateway))
    };
    b.announce(
        VRF,
        "20.0.0.0/8",
        Source::Ebgp,
        Route::multipath([hop("10.0.0.2", 3), hop("10.0.1.2", 1)]),
    );
    b.publish();
    let share = |b: &Bench| {
        let tables = b.reader.enter().expect("published");
        let target = Ipv4Addr::new(20, 0, 0, 1).into();
        // Hashes that one worker sees: their low bits are all the same.
        let ways = (0..4000u32).map(|i| tables.resolve_v4(VRF, target, i << 7 | 5).expect("routed").next_hop);
        ways.filter(|id| tables.adjacency(*id).gateway == Some(ip("10.0.0.2")))
            .count()
    };
    assert!((2800..3200).contains(&share(&b)), "{}", share(&b));
    b.link(HOST, false);
    b.publish();
    assert_eq!(share(&b), 0);
    b.link(HOST, true);
    b.publish();
    assert!((2800..3200).contains(&share(&b)));
}
