//! Every kind of static route: on-link, through an IPv6 link-local router, through a gateway of another VRF, with weights,
//! and the three that lead nowhere.

use serde_json::Value;
use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FABRIC, SESSIONS, TENANT};
use turnpike_tests::traffic::ping;
use turnpike_tests::turnpiked::{count, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, Turnpiked, eventually};

/// An address of fabric1 that is on no subnet of the gateway.
const ON_LINK: &str = "192.0.2.200";

/// The link-local address of fabric1's interface to the gateway.
fn link_local(net: &Topology) -> String {
    let text = net.fabric[0].ip("-j -6 address show dev gw scope link");
    let shown: Value = serde_json::from_str(&text).expect("JSON of iproute2");
    let addresses = rows(&shown[0]["addr_info"]).iter();
    let address = addresses.filter_map(|address| address["local"].as_str()).next();
    address
        .unwrap_or_else(|| panic!("no link-local address in {text}"))
        .to_owned()
}

/// Waits until an address of the default VRF is forwarded, and returns its next hops.
fn forwarded(gateway: &Turnpiked, address: &str) -> Vec<Value> {
    eventually(SOON, || {
        let told = gateway.explain_route("default", address)?;
        ensure(told["verdict"] == "forwarded", || format!("{told:#}"))?;
        Ok(rows(&told["lookup"]["next_hops"]).to_vec())
    })
}

#[test]
fn each_kind_leads_where_it_says() {
    let net = Topology::new();
    net.fabric[0].ip(&format!("address add {ON_LINK}/32 dev gw"));
    let router = link_local(&net);
    let text = net.config(Memory::NoHuge)
        + &format!(
            r#"
[[route]]
prefix = "192.0.2.192/28"
via = [{{ interface = "f1" }}]

[[route]]
prefix = "2001:db8:200::/48"
via = [{{ gateway = "{router}", interface = "f1" }}]

[[route]]
prefix = "10.66.0.0/24"
via = [{{ gateway = "{TENANT}", vrf = "red" }}]

[[route]]
prefix = "10.67.0.0/24"
via = [{{ gateway = "{}", weight = 3 }}, "{}"]

[[route]]
prefix = "10.68.1.0/24"
kind = "blackhole"

[[route]]
prefix = "10.68.2.0/24"
kind = "unreachable"

[[route]]
prefix = "10.68.3.0/24"
kind = "prohibit"
"#,
            FABRIC[0], FABRIC[1]
        );
    let gateway = Turnpiked::start(&net.gateway, &text, &net.scratch);
    gateway.await_sessions(SESSIONS);

    // On link: the destination itself is resolved, when the first packet wants it.
    eventually(SOON, || ping(&net.red, ON_LINK, 1));
    let told = gateway.explain_route("default", ON_LINK).expect("explained");
    assert_eq!(told["lookup"]["host_route"], true, "{told:#}");

    let hops = forwarded(&gateway, "2001:db8:200::1");
    assert_eq!(hops[0]["gateway"], router.as_str());
    assert_eq!(hops[0]["interface"], "f1");

    let hops = forwarded(&gateway, "10.66.0.1");
    assert_eq!(
        hops[0]["interface"], "red",
        "the gateway is looked up in the tenant's VRF"
    );
    assert!(hops[0]["vtep"].is_string(), "{hops:?}");

    let hops = forwarded(&gateway, "10.67.0.1");
    let share = |gateway: &str| {
        let hop = hops.iter().find(|hop| hop["gateway"] == gateway);
        hop.map_or(0, |hop| count(&hop["buckets"]))
    };
    assert_eq!(share(FABRIC[0]), 3 * share(FABRIC[1]), "{hops:?}");

    for (address, kind) in [
        ("10.68.1.1", "blackhole"),
        ("10.68.2.1", "unreachable"),
        ("10.68.3.1", "prohibit"),
    ] {
        let told = gateway.explain_route("default", address).expect("explained");
        assert_eq!(
            (&told["verdict"], &told["reason"]),
            (&"discarded".into(), &kind.into()),
            "{told:#}"
        );
    }
}
