//! Long-lived graceful restart (RFC 9494): a router that stays away is the last resort, behind any other path, and used
//! when there is no other.

use turnpike_tests::topology::{FABRIC, SERVER, SERVER_PREFIXES};
use turnpike_tests::traffic::ping;
use turnpike_tests::turnpiked::Turnpiked;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

const LONG_LIVED: &str = "
router bgp 65001
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 bgp graceful-restart restart-time 1
 bgp long-lived-graceful-restart stale-time 3600
";

#[test]
fn its_routes_are_the_last_resort() {
    let mut net = Topology::new();
    net.fabric_frr[0].extend(LONG_LIVED);
    net.fabric_frr[0].kill_bgpd();
    net.fabric_frr[0].restart_bgpd();
    let text = net.config_of_peers(&[(FABRIC[0], "long-lived-stale-time = 3600\n")]);
    let gateway = net.converged_with(&text);
    let prefix = SERVER_PREFIXES[0];

    net.fabric_frr[0].kill_bgpd();
    eventually(SOON, || last_resort(&gateway, prefix, "long-lived stale"));
    eventually(SOON, || gateway.routed_via(prefix, FABRIC[1]));

    // Nobody else has a path: packets go by the router that is away, whose kernel still forwards.
    let line = format!("no network {prefix}");
    net.fabric_frr[1].vtysh(&[
        "configure terminal",
        "router bgp 65002",
        "address-family ipv4 unicast",
        &line,
    ]);
    eventually(SOON, || gateway.routed_via(prefix, FABRIC[0]));
    eventually(SOON, || ping(&net.red, SERVER, 1));

    net.fabric_frr[0].restart_bgpd();
    eventually(SOON, || {
        let path = gateway.bgp_path(prefix, FABRIC[0]).unwrap_or_default();
        let fresh = path["best"] == true && path["stale"] == false && path["communities"] == serde_json::json!([]);
        ensure(fresh, || path.to_string())
    });
}

/// The path by way of fabric1 is stale, and lost for this reason.
fn last_resort(gateway: &Turnpiked, prefix: &str, reason: &str) -> Result<(), String> {
    let path = gateway.bgp_path(prefix, FABRIC[0]).unwrap_or_default();
    ensure(path["stale"] == true && path["reason"] == reason, || path.to_string())
}
