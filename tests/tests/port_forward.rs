//! A port forward leads a public port to a tenant's host; its neighbours lead nowhere.

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
