//! Roles (RFC 9234): a provider's route is marked, and does not go to a lateral peer whatever is passed on to it.

use turnpike_tests::topology::{FABRIC, GATEWAY, SERVER_PREFIXES};
use turnpike_tests::turnpiked::{Turnpiked, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn a_providers_route_does_not_leak_to_a_lateral_peer() {
    let net = Topology::new();
    for (router, role) in ["provider", "peer"].into_iter().enumerate() {
        let bgp = format!("router bgp {}", 65001 + router);
        let line = format!("neighbor {} local-role {role}", GATEWAY[router]);
        net.fabric_frr[router].vtysh(&["configure terminal", &bgp, &line]);
    }
    let text = net.config_of_peers(&[
        (FABRIC[0], "role = \"customer\"\nstrict-role = true\n"),
        (FABRIC[1], "role = \"peer\"\nadvertise-learned = true\n"),
    ]);
    let gateway = Turnpiked::start(&net.gateway, &text, &net.scratch);
    let prefix = SERVER_PREFIXES[0];
    eventually(SOON, || gateway.routed_via(prefix, FABRIC[0]));
    let path = gateway.bgp_path(prefix, FABRIC[0]).expect("in use");
    assert_eq!(path["only_to_customer"], 65001, "{path}");

    let held_back = || gateway.cli(&["show", "bgp", "why", prefix]);
    eventually(SOON, || {
        let text = held_back()?;
        let wanted = format!("{}: not told: it is for customers alone (RFC 9234)", FABRIC[1]);
        ensure(text.contains(&wanted), || text.clone())
    });
    let shown = gateway.show("bgp");
    let roles = |peer: &str| {
        let found = rows(&shown["peers"]).iter().find(|entry| entry["address"] == peer);
        let found = found.expect("a peer");
        [&found["role"], &found["remote_role"]].map(|role| role.as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(roles(FABRIC[0]), ["customer", "provider"], "{shown}");
    assert_eq!(roles(FABRIC[1]), ["peer", "peer"], "{shown}");
    let leaked = net.fabric_frr[1].vtysh(&[&format!("show bgp ipv4 unicast {prefix}")]);
    assert!(!leaked.contains(&format!("from {}", GATEWAY[1])), "{leaked}");
}
