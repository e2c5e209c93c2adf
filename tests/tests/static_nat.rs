//! Static NAT: a host with a public address of its own, and two VPCs with the same addresses that talk to each other.

use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{SERVER, TENANT};
use turnpike_tests::traffic::{HttpServer, fetch, fetch_as, file, ping};
use turnpike_tests::{Topology, eventually};

const SOON: Duration = Duration::from_secs(30);

/// Public address of red's host.
const RED_OWN: &str = "203.0.113.10";
/// What red's host is for blue, and blue's for red.
const SEEN: [&str; 2] = ["100.64.1.10", "100.64.2.10"];

const RULES: &str = r#"
[[nat.static]]
vpc = "red"
inside = "10.0.0.8/30"
outside = "203.0.113.8/30"

[[nat.static]]
vpc = "red"
inside = "10.0.0.0/24"
outside = "100.64.1.0/24"
peer = "blue"

[[nat.static]]
vpc = "blue"
inside = "10.0.0.0/24"
outside = "100.64.2.0/24"
peer = "red"
"#;

#[test]
fn hosts_have_addresses_of_their_own_outside_and_in_another_vpc() {
    let net = Topology::new();
    let config = net.config(Memory::NoHuge) + RULES;
    let gateway = net.converged_with(&config);
    let content = [file(100_000, 1), file(100_000, 2), file(50_000, 3)];
    let _red = HttpServer::start(&net.red, &format!("{TENANT}:80"), content[0].clone());
    let _blue = HttpServer::start(&net.blue, &format!("{TENANT}:80"), content[1].clone());
    let _server = HttpServer::start(&net.server, &format!("{SERVER}:80"), content[2].clone());

    // From and to the fabric, with the same address.
    let url = |host: &str| format!("http://{host}/file");
    assert_eq!(
        eventually(SOON, || fetch_as(&net.server, SERVER, &url(RED_OWN))),
        content[0]
    );
    assert_eq!(eventually(SOON, || fetch(&net.red, &url(SERVER))), content[2]);
    let known = gateway.connections("red", "tcp");
    let own = |row: &&serde_json::Value| row["translated"]["source"] == RED_OWN && row["original"]["source"] == TENANT;
    assert!(known.iter().any(|row| own(&row)), "{known:?}");
    eventually(SOON, || ping(&net.fabric[0], RED_OWN, 1));

    // Both hosts are 10.0.0.10. Each sees the other elsewhere.
    assert_eq!(eventually(SOON, || fetch(&net.red, &url(SEEN[1]))), content[1]);
    assert_eq!(eventually(SOON, || fetch(&net.blue, &url(SEEN[0]))), content[0]);
    eventually(SOON, || ping(&net.red, SEEN[1], 1));
    eventually(SOON, || ping(&net.blue, SEEN[0], 1));
    let known = gateway.connections("red", "tcp");
    let twice = |row: &&serde_json::Value| {
        row["translated"]["source"] == SEEN[0]
            && row["translated"]["destination"] == TENANT
            && row["original"]["destination"] == SEEN[1]
    };
    assert!(known.iter().any(|row| twice(&row)), "{known:?}");
    eventually(SOON, || gateway.counters_add_up());
}
