//! A gateway that has restarted announces nothing before its peers have told their tables (RFC 4724 section 4.1): who
//! draws traffic must know where it goes.

use serde_json::json;
use turnpike_tests::topology::{FABRIC, GATEWAY, PUBLIC};
use turnpike_tests::turnpiked::{Turnpiked, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn nothing_is_announced_before_the_last_table_is_there() {
    let mut net = Topology::new();
    net.fabric_frr[1].kill_bgpd();
    let full = "graceful-restart = \"full\"\n";
    let text = net.config_of_peers(&[(FABRIC[0], full), (FABRIC[1], full)]);
    let text = text.replace("[bgp]\n", "[bgp]\nselection-deferral-time = 3600\n");
    let gateway = Turnpiked::start(&net.gateway, &text, &net.scratch);

    // fabric1 has told its table, and fabric2 is awaited: what fabric1 is to know waits.
    let told = || {
        let text = gateway.cli(&["show", "bgp", "why", PUBLIC, "--json"])?;
        let why: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let of = rows(&why["told"]).iter().find(|entry| entry["peer"] == FABRIC[0]);
        of.cloned().ok_or_else(|| format!("fabric1 has no session: {why}"))
    };
    eventually(SOON, || {
        let shown = gateway.try_show("bgp")?;
        ensure(shown["awaited"] == json!([FABRIC[1]]), || {
            format!("awaited: {}", shown["awaited"])
        })?;
        let entry = told()?;
        ensure(entry["told"] == true && entry["waits"] == true, || entry.to_string())
    });
    assert!(!is_told(&net), "fabric1 is told before fabric2 has told its table");

    net.fabric_frr[1].restart_bgpd();
    eventually(SOON, || {
        let shown = gateway.try_show("bgp")?;
        ensure(shown["awaited"] == json!([]), || {
            format!("awaited: {}", shown["awaited"])
        })?;
        ensure(told()?["waits"] == false, || "still waits".to_owned())?;
        ensure(is_told(&net), || "fabric1 is not told".to_owned())
    });
}

/// fabric1 has what the gateway announces.
fn is_told(net: &Topology) -> bool {
    let shown = net.fabric_frr[0].vtysh(&[&format!("show bgp ipv4 unicast {PUBLIC}")]);
    shown.contains(&format!("from {}", GATEWAY[0]))
}
