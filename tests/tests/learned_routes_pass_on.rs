//! Routes of one router are passed on to another, once the generation with them is published.

use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FABRIC, GATEWAY, SERVER_PREFIXES};
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, Turnpiked, eventually};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn the_better_path_reaches_the_other_router_and_is_withdrawn() {
    let net = Topology::new();
    let text = net.config(Memory::NoHuge);
    let transit = text.replace("[bgp]\n", "[bgp]\nadvertise-installed = true\n");
    assert_ne!(text, transit, "the topology speaks BGP");
    // The IPv4 session with fabric2.
    let peer = format!("address = \"{}\"\n", FABRIC[1]);
    let told = transit.replace(&peer, &format!("{peer}advertise-learned = true\n"));
    assert_ne!(transit, told, "fabric2 is a peer");
    let gateway = Turnpiked::start(&net.gateway, &told, &net.scratch);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));

    let command = format!("show bgp ipv4 unicast {}", SERVER_PREFIXES[0]);
    let from_gateway = |router: usize| {
        let shown = net.fabric_frr[router].vtysh(&[&command]);
        shown.contains(&format!("from {}", GATEWAY[router]))
    };
    eventually(SOON, || {
        ensure(from_gateway(1), || "fabric2 does not hear of fabric1's path".to_owned())
    });
    assert!(!from_gateway(0), "fabric1 is not told anything learned");

    // Fabric2's own path is the best there is then: it must not get that back.
    net.fabric1_announces_server(false);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));
    eventually(SOON, || {
        ensure(!from_gateway(1), || "fabric2 still has the path of fabric1".to_owned())
    });
}
