//! Static, connected and kernel routes are announced as the policy for their source says, and go when they go.

use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, Turnpiked, eventually};

const SOON: Duration = Duration::from_secs(60);

/// Everything but the networks of the routers' links, and marked.
const POLICIES: &str = r#"
[[bgp.prefix-set]]
name = "links"
prefixes = [{ prefix = "192.0.2.0/24", le = 32 }, { prefix = "2001:db8::/32", le = 128 }]

[[bgp.policy]]
name = "ours"
term = [
    { name = "links", match = { prefix-set = "links" }, then = "reject" },
    { name = "rest", match = { source = ["static", "kernel", "connected"] }, set = { add-communities = ["65010:9"] }, then = "accept" },
]

[[route]]
prefix = "10.88.0.0/16"
kind = "blackhole"
"#;

#[test]
fn static_connected_and_kernel_routes_are_announced_by_policy() {
    let net = Topology::new();
    let text = net.config(Memory::NoHuge);
    let keys = "redistribute-static = \"ours\"\nredistribute-connected = \"ours\"\nredistribute-kernel = \"ours\"\n";
    let text = text.replace("[bgp]\n", &format!("[bgp]\n{keys}")) + POLICIES;
    let gateway = Turnpiked::start(&net.gateway, &text, &net.scratch);
    let known = |prefix: &str| {
        let shown = net.fabric_frr[0].vtysh(&[&format!("show bgp ipv4 unicast {prefix}")]);
        shown.contains("65010") && shown.contains("65010:9")
    };
    let told = |prefix: &str, wanted: bool| {
        eventually(SOON, || {
            ensure(known(prefix) == wanted, || {
                format!("{prefix}: wanted {wanted}: {}", gateway.show("bgp")["routes"])
            })
        });
    };
    told("10.88.0.0/16", true);
    // The tenants' underlay is a subnet of the gateway.
    told("172.31.0.0/24", true);
    assert!(!known("192.0.2.2/31"), "the policy keeps the links back");

    net.gateway.ip("route add 10.99.0.0/16 via 192.0.2.2");
    told("10.99.0.0/16", true);
    net.gateway.ip("route del 10.99.0.0/16");
    told("10.99.0.0/16", false);
    told("10.88.0.0/16", true);
}
