//! Masquerade for TCP, UDP and ICMP echo: the server sees the public address, the gateway tells the same port.

use std::net::SocketAddr;
use turnpike_tests::topology::{RED_PUBLIC, SERVER, TENANT};
use turnpike_tests::traffic::{EchoClient, EchoServer, HttpServer, fetch, file, ping};
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::SOON;
use turnpike_tests::{Topology, eventually};

#[test]
fn tcp_udp_and_icmp_are_translated() {
    let net = Topology::new();
    let gateway = net.converged();
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));

    eventually(SOON, || ping(&net.red, SERVER, 1));
    ping(&net.red, SERVER, 10).expect("every ping is answered");
    let pings = gateway.connections("red", "icmp");
    assert!(!pings.is_empty(), "ICMP echo has a connection");
    assert!(
        pings.iter().all(|row| row["translated"]["source"] == RED_PUBLIC),
        "{pings:?}"
    );

    let mut tcp = EchoClient::tcp(&net.red, echo.address()).expect("connects");
    let mut udp = EchoClient::udp(&net.red, echo.address()).expect("has a route");
    for (client, protocol) in [(&mut tcp, "tcp"), (&mut udp, "udp")] {
        let seen = eventually(SOON, || client.exchange("hello").map_err(|error| error.to_string()));
        assert_eq!(seen.ip().to_string(), RED_PUBLIC, "{protocol}");
        for word in 0..50 {
            // A lost datagram is no fault of NAT; another port would be.
            let again = eventually(SOON, || {
                client.exchange(&word.to_string()).map_err(|error| error.to_string())
            });
            assert_eq!(again, seen, "{protocol} keeps its port");
        }
        let known = gateway.connections("red", protocol);
        let row = known
            .iter()
            .find(|row| count(&row["translated"]["source_port"]) == u64::from(seen.port()));
        let row = row.unwrap_or_else(|| panic!("no {protocol} connection has port {}: {known:?}", seen.port()));
        assert_eq!(row["original"]["source"], TENANT, "{row}");
        assert_eq!(row["original"]["destination"], SERVER, "{row}");
        assert_eq!(row["original"]["destination_port"], 7, "{row}");
    }

    // Two connections of one host never share a public port.
    let mut others: Vec<_> = (0..8)
        .map(|_| EchoClient::tcp(&net.red, echo.address()).expect("connects"))
        .collect();
    let mut ports: Vec<SocketAddr> = others
        .iter_mut()
        .map(|client| client.exchange("x").expect("answered"))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8, "{ports:?}");

    // A transfer of many full segments arrives whole.
    let content = file(3_000_000, 3);
    let _http = HttpServer::start(&net.server, &format!("{SERVER}:80"), content.clone());
    let fetched = fetch(&net.red, &format!("http://{SERVER}/file")).expect("fetched");
    assert!(
        fetched == content,
        "{} bytes of {} came, or they differ",
        fetched.len(),
        content.len()
    );
    eventually(SOON, || gateway.counters_add_up());
}
