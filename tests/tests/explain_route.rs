//! `turnpike explain route` names the first step that stops a route, at each step that the network can stop one.

use serde_json::Value;
use turnpike_tests::topology::{FABRIC, PUBLIC, RED_PUBLIC, SERVER, SERVER_PREFIXES, TENANT};
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, Turnpiked, eventually};

/// Announced by fabric2, and kept out by the gateway's import policy.
const REJECTED: &str = "198.51.100.0/25";

/// Waits for this verdict, stopped at this step for this reason.
fn await_stop(gateway: &Turnpiked, vrf: &str, address: &str, wanted: [&str; 3]) -> Value {
    eventually(SOON, || {
        let told = gateway.explain_route(vrf, address)?;
        let found = ["verdict", "stopped_at", "reason"].map(|field| told[field].as_str().unwrap_or("-"));
        ensure(found == wanted, || {
            format!("{address} in {vrf}: {found:?}, not {wanted:?}\n{told:#}")
        })?;
        Ok(told.clone())
    })
}

fn step<'v>(told: &'v Value, name: &str) -> &'v Value {
    let found = rows(&told["steps"]).iter().find(|step| step["step"] == name);
    found.unwrap_or_else(|| panic!("no step {name} in {told:#}"))
}

#[test]
fn each_step_is_named() {
    let net = Topology::new();
    let static_routes = "\n[[route]]\nprefix = \"233.252.0.0/24\"\nvia = [\"192.0.2.77\"]\n\
         \n[[route]]\nprefix = \"233.252.1.0/24\"\nkind = \"prohibit\"\n\
         \n[[route]]\nprefix = \"233.252.2.0/24\"\nvia = [\"172.31.0.99\"]\n";
    let deny =
        format!("import = {{ default = \"accept\", prefixes = [{{ action = \"deny\", prefix = \"{REJECTED}\" }}] }}");
    let text = net.config(turnpike_tests::config::Memory::NoHuge);
    let peer = |import: &str| format!("families = [\"ipv4-unicast\"]\nhold-time = 9\nconnect-retry = 1\n{import}");
    let text = text.replace(&peer("import = \"accept\""), &peer(&deny)) + static_routes;
    let gateway = Turnpiked::start(&net.gateway, &text, &net.scratch);
    gateway.await_sessions(turnpike_tests::topology::SESSIONS);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));

    // A route that passes every step, seen from the fabric and from a tenant.
    let whole = await_stop(&gateway, "default", SERVER, ["forwarded", "-", "-"]);
    for name in [
        "received",
        "policy",
        "best",
        "next-hop",
        "neighbour",
        "generation",
        "kernel",
        "nic",
    ] {
        assert_eq!(step(&whole, name)["outcome"], "passed", "{whole:#}");
    }
    let leaked = await_stop(&gateway, "red", SERVER, ["forwarded", "-", "-"]);
    assert_eq!(leaked["lookup"]["leaks"][0]["prefix"], SERVER_PREFIXES[0], "{leaked:#}");

    await_stop(&gateway, "default", FABRIC[0], ["forwarded", "-", "-"]);
    await_stop(&gateway, "default", RED_PUBLIC, ["translated", "-", "-"]);
    await_stop(&gateway, "default", "172.31.0.1", ["delivered", "-", "-"]);
    await_stop(
        &gateway,
        "default",
        "233.252.3.1",
        ["stopped", "received", "not-received"],
    );
    await_stop(
        &gateway,
        "default",
        "233.252.1.1",
        ["discarded", "next-hop", "prohibit"],
    );
    await_stop(
        &gateway,
        "default",
        "233.252.0.1",
        ["stopped", "next-hop", "gateway-unresolved"],
    );
    await_stop(&gateway, "red", "233.252.3.1", ["stopped", "next-hop", "no-route"]);
    // Nobody is there: the kernel was asked, and gave up.
    await_stop(
        &gateway,
        "default",
        "233.252.2.1",
        ["stopped", "neighbour", "neighbor-failed"],
    );

    // A prefix that policy keeps out is named though a shorter one forwards, and stops where there is no other.
    let announce = |router: usize, line: &str| {
        let bgp = format!("router bgp {}", 65001 + router);
        let family = "address-family ipv4 unicast";
        net.fabric_frr[router].vtysh(&["configure terminal", &bgp, family, line]);
    };
    announce(1, &format!("network {REJECTED}"));
    eventually(SOON, || {
        let told = gateway.explain_route("default", SERVER)?;
        let kept_out = step(&told, "policy")["text"]
            .as_str()
            .is_some_and(|text| text.contains(REJECTED));
        ensure(kept_out && told["verdict"] == "forwarded", || format!("{told:#}"))
    });
    for router in [0, 1] {
        announce(router, &format!("no network {}", SERVER_PREFIXES[0]));
    }
    await_stop(&gateway, "default", SERVER, ["stopped", "policy", "rejected"]);

    let text = gateway.cli(&["explain", "route", "blue", TENANT]).expect("a table");
    assert!(text.contains("neighbour"), "{text}");
    let unknown = gateway
        .cli(&["explain", "route", "purple", TENANT])
        .expect_err("no such VRF");
    assert!(unknown.contains("purple"), "{unknown}");
    assert!(
        gateway.explain_route("default", PUBLIC).is_err(),
        "a prefix is no address"
    );
}
