//! ICMP errors that a router owes: time exceeded, no route, and packet too big with the right MTU.

use turnpike_tests::topology::{SERVER, SERVER_V6, TENANT_ROUTER};
use turnpike_tests::traffic::ping;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Namespace, Topology, Turnpiked, eventually};

/// One ping with `arguments` is refused by `router` with a message that contains `message`, and counted as `reason`.
fn refused(gateway: &Turnpiked, from: &Namespace, arguments: &str, router: &str, message: &str, reason: &str) {
    let before = gateway.dropped(reason);
    eventually(SOON, || {
        let error = ping(from, arguments, 1).expect_err("nothing answers this");
        let says = error.contains(&format!("From {router}")) && error.contains(message);
        ensure(says, || {
            format!("ping {arguments}: expected `{message}` from {router}: {error}")
        })
    });
    eventually(SOON, || {
        ensure(gateway.dropped(reason) > before, || format!("{reason} is not counted"))
    });
}

#[test]
fn a_router_says_why() {
    let net = Topology::new();
    let gateway = net.converged();
    eventually(SOON, || ping(&net.red, SERVER, 1));
    eventually(SOON, || ping(&net.red, SERVER_V6, 1));

    let v6_router = "2001:db8:10::1";
    refused(
        &gateway,
        &net.red,
        &format!("-t 1 {SERVER}"),
        TENANT_ROUTER,
        "Time to live exceeded",
        "ttl-expired",
    );
    refused(
        &gateway,
        &net.red,
        &format!("-t 1 {SERVER_V6}"),
        v6_router,
        "Time exceeded",
        "ttl-expired",
    );
    refused(
        &gateway,
        &net.red,
        "192.168.99.1",
        TENANT_ROUTER,
        "Unreachable",
        "no-route",
    );
    refused(
        &gateway,
        &net.red,
        "2001:db8:dead::1",
        v6_router,
        "nreachable",
        "no-route",
    );
    // The hop after the gateway is fabric1: its own time exceeded comes back through NAT to the tenant that asked.
    eventually(SOON, || {
        let error = ping(&net.red, &format!("-t 2 {SERVER}"), 1).expect_err("fabric1 does not forward this");
        ensure(error.contains("Time to live exceeded"), || error)
    });
    eventually(SOON, || gateway.counters_add_up());
}
