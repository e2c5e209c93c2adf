//! Routes learned over BGP become generations, lose with a reason, reach the kernel, and go when they are withdrawn.

use turnpike_tests::topology::{FABRIC, FABRIC_V6, GATEWAY, PUBLIC, SERVER_PREFIXES};
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn routes_come_win_and_go() {
    let net = Topology::new();
    let gateway = net.converged();

    // Both routers announce the server's networks; the longer AS path loses, and says why.
    for (prefix, [winner, loser]) in SERVER_PREFIXES.into_iter().zip([FABRIC, FABRIC_V6]) {
        let winners = eventually(SOON, || {
            gateway.routed_via(prefix, winner)?;
            gateway.active_route(prefix).ok_or("the route went".to_owned())
        });
        assert_eq!(winners["source"], "ebgp", "{winners}");
        assert_eq!(winners["distance"], 20, "{winners}");
        assert!(
            rows(&winners["next_hops"]).iter().all(|hop| hop["gateway"] != loser),
            "{winners}"
        );
    }

    // The winner is in the kernel, marked as ours; our announcement is in the peers' kernels.
    let mirrored = || net.gateway.ip(&format!("route show {} proto 212", SERVER_PREFIXES[0]));
    eventually(SOON, || {
        ensure(mirrored().contains(FABRIC[0]), || {
            format!("the kernel has `{}`", mirrored())
        })
    });
    for (i, router) in net.fabric.iter().enumerate() {
        let back = || router.ip(&format!("route show {PUBLIC}"));
        eventually(SOON, || {
            ensure(back().contains(GATEWAY[i]), || {
                format!("fabric{} has `{}`", i + 1, back())
            })
        });
    }

    // A withdrawal makes the other one win, within a new generation.
    let generation = gateway.generation();
    net.fabric1_announces_server(false);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));
    assert!(gateway.generation() > generation);
    eventually(SOON, || {
        ensure(mirrored().contains(FABRIC[1]), || {
            format!("the kernel has `{}`", mirrored())
        })
    });
    assert_eq!(gateway.established(), Ok(4), "a withdrawal ends no session");

    // Withdrawn by both, it is gone from the gateway and from the kernel.
    let line = format!("no network {}", SERVER_PREFIXES[0]);
    net.fabric_frr[1].vtysh(&[
        "configure terminal",
        "router bgp 65002",
        "address-family ipv4 unicast",
        &line,
    ]);
    eventually(SOON, || {
        let route = gateway.active_route(SERVER_PREFIXES[0]);
        ensure(route.is_none(), || format!("still there: {route:?}"))
    });
    eventually(SOON, || {
        ensure(mirrored().is_empty(), || format!("the kernel has `{}`", mirrored()))
    });
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[1], FABRIC_V6[0]));
}
