//! A fabric router that is known by the port alone: found by its router advertisements, it and the gateway exchange routes
//! of both families over link-local addresses, and IPv4 packets go to IPv6 next hops (RFC 8950).

use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{GATEWAY, GATEWAY_V6, SERVER, SERVER_PREFIXES, SERVER_V6};
use turnpike_tests::traffic::ping;
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, Turnpiked, eventually};

const SOON: Duration = Duration::from_secs(60);

/// The gateway's configuration with fabric1 on a port that has no addresses.
fn unnumbered(net: &Topology) -> String {
    let text = net.config(Memory::NoHuge);
    let addresses = format!("\"{}/31\", \"{}/64\"", GATEWAY[0], GATEWAY_V6[0]);
    assert!(text.contains(&addresses), "{text}");
    let (before, peers) = text.split_once("\n[[bgp.peer]]").expect("peers at the end");
    let others: String = peers
        .split("\n[[bgp.peer]]")
        .filter(|peer| peer.contains("asn = 65002"))
        .map(|peer| format!("\n[[bgp.peer]]{peer}"))
        .collect();
    let settings = "asn = \"external\"\nhold-time = 9\nconnect-retry = 1\nimport = \"accept\"\nexport = \"accept\"\n";
    let before = before.replace(&addresses, "");
    format!("{before}\n[[bgp.unnumbered]]\ninterface = \"f1\"\n{settings}{others}")
}

#[test]
fn packets_of_both_families_go_to_a_router_without_addresses() {
    let net = Topology::new();
    net.fabric[0].ip("address flush dev gw scope global");
    let frr = &net.fabric_frr[0];
    let mut lines = vec!["configure terminal", "router bgp 65001"];
    let gone = [GATEWAY[0], GATEWAY_V6[0]].map(|peer| format!("no neighbor {peer}"));
    lines.extend(gone.iter().map(String::as_str));
    lines.extend([
        "neighbor gw interface remote-as external",
        "neighbor gw timers connect 1",
    ]);
    for family in ["address-family ipv4 unicast", "address-family ipv6 unicast"] {
        lines.extend([
            family,
            "neighbor gw activate",
            "neighbor gw route-map OUT out",
            "exit-address-family",
        ]);
    }
    frr.vtysh(&lines);

    let gateway = Turnpiked::start(&net.gateway, &unnumbered(&net), &net.scratch);
    gateway.await_sessions(3);
    let shown = gateway.show("bgp");
    let peers = rows(&shown["peers"]);
    let peer = peers.iter().find(|peer| peer["unnumbered"] == "tp-f1");
    let peer = peer.unwrap_or_else(|| panic!("no unnumbered peer: {shown}"));
    assert_eq!(peer["remote_as"], 65001, "{peer}");
    let router = peer["address"].as_str().expect("an address");
    for prefix in SERVER_PREFIXES {
        eventually(SOON, || gateway.routed_via(prefix, router));
    }
    eventually(SOON, || {
        let back = net.server.ip("route show 203.0.113.0/28");
        ensure(back.contains("198.18.1.1"), || format!("the server has `{back}`"))
    });
    for server in [SERVER, SERVER_V6] {
        eventually(SOON, || ping(&net.red, server, 3));
    }
}
