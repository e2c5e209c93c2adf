//! A port forward leads a public port, or a range of them, to a tenant's host or several; its neighbours lead nowhere.

use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FORWARDED, SERVER, TENANT};
use turnpike_tests::traffic::{HttpServer, fetch, fetch_as, file};
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn one_public_port_leads_to_red() {
    let net = Topology::new();
    let gateway = net.converged();
    let content = file(100_000, 7);
    let _http = HttpServer::start(&net.red, &format!("{TENANT}:80"), content.clone());

    let url = format!("http://{FORWARDED}:8080/file");
    assert_eq!(eventually(SOON, || fetch_as(&net.server, SERVER, &url)), content);
    // From elsewhere in the fabric too.
    assert_eq!(eventually(SOON, || fetch(&net.fabric[1], &url)), content);

    let known = gateway.connections("red", "tcp");
    let forwarded = known.iter().find(|row| row["original"]["source"] == SERVER);
    let row = forwarded.unwrap_or_else(|| panic!("no connection from {SERVER}: {known:?}"));
    assert_eq!(
        (&row["original"]["destination"], &row["original"]["destination_port"]),
        (&FORWARDED.into(), &8080.into())
    );
    assert_eq!(
        (
            &row["translated"]["destination"],
            &row["translated"]["destination_port"]
        ),
        (&TENANT.into(), &80.into())
    );

    let before = gateway.dropped("nat-no-mapping");
    assert!(
        fetch_as(&net.server, SERVER, &format!("http://{FORWARDED}:8081/file")).is_err(),
        "8081 is not forwarded"
    );
    let counted = || {
        ensure(gateway.dropped("nat-no-mapping") > before, || {
            "nat-no-mapping is not counted".to_owned()
        })
    };
    eventually(SOON, counted);
    assert!(!rows(&gateway.show("drops")).is_empty());
}

/// Another address of red's host.
const SECOND: &str = "10.0.0.11";

#[test]
fn a_range_leads_to_a_range_and_clients_are_shared_out_among_targets() {
    let net = Topology::new();
    net.red.ip(&format!("address add {SECOND}/24 dev vxlan100"));
    let more = format!(
        r#"
[[nat.port-forward]]
vpc = "red"
address = "{FORWARDED}"
protocol = "tcp"
port = "9000-9002"
target = "{TENANT}"
target-port = 8000

[[nat.port-forward]]
vpc = "red"
address = "{FORWARDED}"
protocol = "tcp"
port = 80
targets = [{{ address = "{TENANT}", port = 81 }}, {{ address = "{SECOND}", port = 82 }}]
"#
    );
    let gateway = net.converged_with(&(net.config(Memory::NoHuge) + &more));
    let start = |address: &str, seed: u64| {
        let content = file(10_000, seed);
        (HttpServer::start(&net.red, address, content.clone()), content)
    };
    let range: Vec<_> = (0..3).map(|n| start(&format!("{TENANT}:{}", 8000 + n), n)).collect();
    for (n, (_, content)) in range.iter().enumerate() {
        let url = format!("http://{FORWARDED}:{}/file", 9000 + n);
        assert_eq!(eventually(SOON, || fetch_as(&net.server, SERVER, &url)), *content);
    }
    let before = gateway.dropped("nat-no-mapping");
    assert!(fetch_as(&net.server, SERVER, &format!("http://{FORWARDED}:9003/file")).is_err());
    eventually(SOON, || {
        ensure(gateway.dropped("nat-no-mapping") > before, || {
            "beyond the range".to_owned()
        })
    });

    // Each connection has a client port of its own, so that both targets get some, sooner or later.
    let targets = [start(&format!("{TENANT}:81"), 11), start(&format!("{SECOND}:82"), 12)];
    let mut seen = [false; 2];
    let patience = Duration::from_secs(60);
    eventually(patience, || {
        let got = fetch_as(&net.server, SERVER, &format!("http://{FORWARDED}/file"))?;
        let from = targets.iter().position(|(_, content)| *content == got);
        seen[from.ok_or("the file is nobody's")?] = true;
        ensure(seen == [true, true], || format!("one target was not seen: {seen:?}"))
    });
}
