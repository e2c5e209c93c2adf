//! A router that announces more than it may loses its session, and what it announced; it comes back when it announces less.

use turnpike_tests::topology::{FABRIC, SERVER_PREFIXES, SESSIONS};
use turnpike_tests::turnpiked::{Turnpiked, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn too_many_prefixes_end_the_session_until_there_are_fewer() {
    let net = Topology::new();
    // What fabric1 may pass on of fabric2 and the server is not its fault.
    let text = net.config_of_peers(&[(FABRIC[0], "max-prefixes = 8\nmax-prefixes-restart = 1\n")]);
    let gateway = Turnpiked::start(&net.gateway, &text, &net.scratch);
    gateway.await_sessions(SESSIONS);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));

    let announce = |no: &str| {
        let networks: Vec<String> = (0..9).map(|i| format!("{no}network 10.66.{i}.0/24")).collect();
        let mut lines = vec!["configure terminal", "router bgp 65001", "address-family ipv4 unicast"];
        lines.extend(networks.iter().map(String::as_str));
        net.fabric_frr[0].vtysh(&lines);
    };
    announce("");
    eventually(SOON, || {
        let shown = gateway.try_show("bgp")?;
        let peer = rows(&shown["peers"]).iter().find(|entry| entry["address"] == FABRIC[0]);
        let notification = peer.map_or("-".to_owned(), |peer| peer["last_notification"]["meaning"].to_string());
        ensure(notification.contains("Maximum Number of Prefixes Reached"), || {
            format!("{notification} in {shown}")
        })
    });
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));

    announce("no ");
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));
    gateway.await_sessions(SESSIONS);
}
