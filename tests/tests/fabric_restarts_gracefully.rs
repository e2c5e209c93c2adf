//! A fabric router's bgpd is killed with graceful restart on: its routes stay in use, traffic goes on through the
//! router, and it is back with nothing lost.

use std::time::Duration;

use turnpike_tests::topology::{FABRIC, SERVER, SERVER_PREFIXES, SESSIONS};
use turnpike_tests::traffic::{EchoClient, EchoServer, Flow};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, Turnpiked, eventually};

/// How long the router's bgpd is away; a takeover by the other router takes a fraction of that.
const AWAY: Duration = Duration::from_secs(5);
const GRACEFUL: &str = "
router bgp 65001
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
";

/// The path by way of fabric1 is in use, and stale or not.
fn in_use(gateway: &Turnpiked, stale: bool) -> Result<(), String> {
    gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0])?;
    let path = gateway.bgp_path(SERVER_PREFIXES[0], FABRIC[0]).unwrap_or_default();
    ensure(path["best"] == true && path["stale"] == stale, || path.to_string())
}

#[test]
fn routes_of_a_killed_bgpd_forward_until_it_is_back() {
    let mut net = Topology::new();
    net.fabric_frr[0].extend(GRACEFUL);
    net.fabric_frr[0].kill_bgpd();
    net.fabric_frr[0].restart_bgpd();
    let gateway = net.converged();
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));
    let flow = Flow::start(EchoClient::tcp(&net.red, echo.address()).expect("connects"));
    eventually(SOON, || {
        ensure(flow.seen().answers >= 50, || format!("{:?}", flow.seen()))
    });

    net.fabric_frr[0].kill_bgpd();
    gateway.await_sessions(SESSIONS / 2);
    let answers = flow.seen().answers;
    for _ in 0..50 {
        in_use(&gateway, true).expect("routes are kept");
        std::thread::sleep(AWAY / 50);
    }
    assert!(flow.seen().answers > answers + 50, "{:?}", flow.seen());

    net.fabric_frr[0].restart_bgpd();
    gateway.await_sessions(SESSIONS);
    eventually(SOON, || in_use(&gateway, false));
    let answers = flow.seen().answers;
    eventually(SOON, || {
        ensure(flow.seen().answers > answers + 50, || format!("{:?}", flow.seen()))
    });

    // An announced change counts at once, as ever.
    net.fabric1_announces_server(false);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));
}
