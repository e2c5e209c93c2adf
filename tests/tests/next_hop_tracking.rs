//! A path whose next hop has no route is not used, says so, and is used again when there is one.

use std::time::Duration;

use serde_json::Value;
use turnpike_tests::topology::{FABRIC, SERVER_PREFIXES};
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, Turnpiked, eventually};

const SOON: Duration = Duration::from_secs(60);
/// Known by a route of the gateway's kernel alone.
const FAR: &str = "10.77.0.1";

fn reason(gateway: &Turnpiked, wanted: &Value) -> Result<(), String> {
    let path = gateway.bgp_path(SERVER_PREFIXES[0], FABRIC[0]).ok_or("no path")?;
    ensure(path["reason"] == *wanted && path["next_hop"] == FAR, || {
        path.to_string()
    })
}

#[test]
fn a_path_follows_the_route_to_its_next_hop() {
    let net = Topology::new();
    let gateway = net.converged();
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));

    // Fabric1's path is the better one, but nobody knows the way to its next hop.
    net.fabric_frr[0].vtysh(&[
        "configure terminal",
        "route-map OUT permit 10",
        &format!("set ip next-hop {FAR}"),
    ]);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));
    eventually(SOON, || reason(&gateway, &Value::from("next hop is unreachable")));

    let route = format!("10.77.0.0/24 via {}", FABRIC[0]);
    for _ in 0..2 {
        net.gateway.ip(&format!("route add {route}"));
        eventually(SOON, || reason(&gateway, &Value::Null));
        eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FAR));
        net.gateway.ip(&format!("route del {route}"));
        eventually(SOON, || reason(&gateway, &Value::from("next hop is unreachable")));
        eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));
    }
}
