//! NPTv6 between real kernels: a tenant's prefix is another one outside, in both directions, and no state is kept for it.

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{RED_V6, SERVER_V6};
use turnpike_tests::traffic::{EchoClient, EchoServer, HttpServer, fetch, fetch_as, file, ping};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

const RULE: &str = r#"
[[nat.npt]]
vpc = "red"
inside = "2001:db8:10::/64"
outside = "2001:db8:cc:7::/64"
"#;

/// Red's host outside: the first word behind the prefix makes up for the prefix (RFC 6296 section 3.5).
/// 2001:db8:10:0 sums to 2dc9, 2001:db8:cc:7 to 2e8c, and 2dc9 - 2e8c is ff3c in one's complement.
const OUTSIDE: &str = "2001:db8:cc:7:ff3c::10";

#[test]
fn a_prefix_is_another_one_outside() {
    let net = Topology::new();
    let config = net.config(Memory::NoHuge);
    let announced = config.replace(
        "\"2001:db8:10::/64\"]\n",
        "\"2001:db8:10::/64\", \"2001:db8:cc:7::/64\"]\n",
    );
    assert_ne!(announced, config);
    let gateway = net.converged_with(&(announced + RULE));
    let learned = || net.server.ip("-6 route show 2001:db8:cc:7::/64").contains("proto bgp");
    eventually(SOON, || {
        ensure(learned(), || "the server has no route to the prefix".to_owned())
    });

    eventually(SOON, || ping(&net.red, SERVER_V6, 1));
    ping(&net.red, SERVER_V6, 10).expect("every ping is answered");
    eventually(SOON, || ping(&net.server, &format!("-I {SERVER_V6} {OUTSIDE}"), 1));
    ping(&net.server, &format!("-I {SERVER_V6} {OUTSIDE}"), 10).expect("every ping is answered");

    let echo = EchoServer::start(&net.server, &format!("[{SERVER_V6}]:7"));
    let mut tcp = EchoClient::tcp(&net.red, echo.address()).expect("connects");
    let mut udp = EchoClient::udp(&net.red, echo.address()).expect("has a route");
    for client in [&mut tcp, &mut udp] {
        let seen = eventually(SOON, || client.exchange("hello").map_err(|error| error.to_string()));
        assert_eq!(seen.ip().to_string(), OUTSIDE);
    }
    // Fragments need nobody to remember them, and the server learns of the tunnel's MTU from the gateway.
    let long = "x".repeat(1900);
    eventually(SOON, || udp.exchange(&long).map_err(|error| error.to_string()));

    let content = [file(500_000, 1), file(500_000, 2)];
    let _out = HttpServer::start(&net.server, &format!("[{SERVER_V6}]:80"), content[0].clone());
    let _in = HttpServer::start(&net.red, &format!("[{RED_V6}]:80"), content[1].clone());
    let fetched = eventually(SOON, || fetch(&net.red, &format!("http://[{SERVER_V6}]/file")));
    assert!(fetched == content[0]);
    let url = format!("http://[{OUTSIDE}]/file");
    let fetched = eventually(SOON, || fetch_as(&net.server, SERVER_V6, &url));
    assert!(fetched == content[1]);
    let fetched = eventually(SOON, || fetch(&net.red, &url));
    assert!(fetched == content[1], "its own prefix outside");
    assert!(
        gateway
            .connections("red", "tcp")
            .iter()
            .all(|row| row["original"]["source"] != RED_V6),
        "no state"
    );
    eventually(SOON, || gateway.counters_add_up());
}
