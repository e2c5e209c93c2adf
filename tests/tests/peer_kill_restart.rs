//! A peer is killed without a word: what it announced goes, the other router takes over; it comes back with its routes.

use turnpike_tests::topology::{FABRIC, FABRIC_V6, SERVER, SERVER_PREFIXES, SESSIONS};
use turnpike_tests::traffic::{EchoClient, EchoServer, Flow};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn the_other_router_takes_over_and_gives_back() {
    let mut net = Topology::new();
    let gateway = net.converged();
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));
    let flow = Flow::start(EchoClient::tcp(&net.red, echo.address()).expect("connects"));
    eventually(SOON, || {
        ensure(flow.seen().answers >= 50, || format!("{:?}", flow.seen()))
    });
    let addresses = flow.seen().addresses;

    let routed = |v4: &str, v6: &str| {
        eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], v4));
        eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[1], v6));
    };
    net.fabric_frr[0].kill_bgpd();
    routed(FABRIC[1], FABRIC_V6[1]);
    gateway.await_sessions(SESSIONS / 2);

    net.fabric_frr[0].restart_bgpd();
    gateway.await_sessions(SESSIONS);
    routed(FABRIC[0], FABRIC_V6[0]);

    // Killed again while everything is fresh: nothing depends on the first time.
    net.fabric_frr[0].kill_bgpd();
    routed(FABRIC[1], FABRIC_V6[1]);
    let so_far = flow.seen().answers;
    eventually(SOON, || {
        ensure(flow.seen().answers > so_far + 50, || format!("{:?}", flow.seen()))
    });
    assert_eq!(
        flow.seen().addresses,
        addresses,
        "one TCP connection all along, under one port"
    );
}
