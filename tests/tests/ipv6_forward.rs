//! IPv6 is forwarded from port to port and between a VPC and the fabric, over TCP, UDP and ICMPv6, without NAT.

use turnpike_tests::topology::{FABRIC_HOSTS_V6, FABRIC_V6, RED_V6, SERVER_V6};
use turnpike_tests::traffic::{EchoClient, EchoServer, HttpServer, fetch, file, ping};
use turnpike_tests::wait::SOON;
use turnpike_tests::{Topology, eventually};

#[test]
fn ipv6_is_forwarded_untranslated() {
    let net = Topology::new();
    let gateway = net.converged();
    let [one, two] = FABRIC_HOSTS_V6;
    for (i, host) in FABRIC_HOSTS_V6.iter().enumerate() {
        eventually(SOON, || gateway.routed_via(&format!("{host}/128"), FABRIC_V6[i]));
    }
    eventually(SOON, || ping(&net.fabric[0], &format!("-I {one} {two}"), 1));
    ping(&net.fabric[0], &format!("-I {one} {two}"), 10).expect("port to port");

    eventually(SOON, || ping(&net.red, SERVER_V6, 1));
    let echo = EchoServer::start(&net.server, &format!("[{SERVER_V6}]:7"));
    let mut tcp = EchoClient::tcp(&net.red, echo.address()).expect("connects");
    let mut udp = EchoClient::udp(&net.red, echo.address()).expect("has a route");
    for client in [&mut tcp, &mut udp] {
        let seen = eventually(SOON, || client.exchange("hello").map_err(|error| error.to_string()));
        assert_eq!(seen.ip().to_string(), RED_V6, "no translation");
    }
    let content = file(1_000_000, 8);
    let _http = HttpServer::start(&net.server, &format!("[{SERVER_V6}]:80"), content.clone());
    let fetched = fetch(&net.red, &format!("http://[{SERVER_V6}]/file")).expect("fetched");
    assert!(
        fetched == content,
        "{} bytes of {} came, or they differ",
        fetched.len(),
        content.len()
    );
}
