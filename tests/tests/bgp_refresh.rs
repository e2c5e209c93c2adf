//! `turnpike bgp refresh` has a peer tell its routes again, without a reset.

use turnpike_tests::topology::{FABRIC, GATEWAY, SERVER_PREFIXES};
use turnpike_tests::turnpiked::{count, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn a_peer_tells_its_routes_again() {
    let net = Topology::new();
    let gateway = net.converged();
    let peer = || {
        let shown = gateway.try_show("bgp")?;
        let found = rows(&shown["peers"]).iter().find(|entry| entry["address"] == FABRIC[0]);
        found.cloned().ok_or_else(|| format!("no fabric1: {shown}"))
    };
    let asked = || {
        let shown = net.fabric_frr[0].show("bgp neighbors");
        count(&shown[GATEWAY[0]]["messageStats"]["routeRefreshRecv"])
    };
    let (before, asked_before) = (peer().expect("a peer"), asked());
    let answer = gateway.cli(&["bgp", "refresh", FABRIC[0]]).expect("it can");
    assert!(answer.contains(FABRIC[0]), "{answer}");
    eventually(SOON, || {
        ensure(asked() > asked_before, || "FRR was not asked".to_owned())?;
        let now = peer()?;
        let updates = |peer: &serde_json::Value| count(&peer["messages_received"]["update"]);
        ensure(updates(&now) > updates(&before), || {
            format!("nothing was told again: {now}")
        })?;
        ensure(now["flaps"] == before["flaps"], || {
            format!("the session was reset: {now}")
        })
    });
    gateway
        .routed_via(SERVER_PREFIXES[0], FABRIC[0])
        .expect("still forwards");
    let refused = gateway.cli(&["bgp", "refresh", "192.0.2.77"]).expect_err("no peer");
    assert!(refused.contains("192.0.2.77"), "{refused}");
}
