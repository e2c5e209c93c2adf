//! IPv6 NAT between real kernels: masquerade, port forward and its hairpin, static NAT, and two VPCs with equal addresses.

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{RED_V6, SERVER_V6};
use turnpike_tests::traffic::{EchoClient, EchoServer, HttpServer, fetch, fetch_as, file, ping};
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, Turnpiked, eventually};

/// Public prefix, announced by the gateway, and the addresses in it.
const PUBLIC: &str = "2001:db8:cc::/64";
const POOL: &str = "2001:db8:cc::1";
const FORWARDED: &str = "2001:db8:cc::3";
/// Public address of red's host by static NAT, where the test has that.
const OWN: &str = "2001:db8:cc:1::10";

const RULES: &str = r#"
[[nat.masquerade]]
vpc = "red"
pool = ["2001:db8:cc::1"]
ports = "2000-9999"

[[nat.port-forward]]
vpc = "red"
address = "2001:db8:cc::3"
protocol = "tcp"
port = 8080
target = "2001:db8:10::10"
target-port = 80
"#;

const STATICS: &str = r#"
[[nat.static]]
vpc = "red"
inside = "2001:db8:10::/64"
outside = "2001:db8:cc:1::/64"

[[nat.static]]
vpc = "red"
inside = "2001:db8:10::/64"
outside = "2001:db8:64:1::/64"
peer = "blue"

[[nat.static]]
vpc = "blue"
inside = "2001:db8:10::/64"
outside = "2001:db8:64:2::/64"
peer = "red"
"#;

/// The topology's configuration with other IPv6 prefixes announced, and these rules.
fn start(net: &Topology, public: &str, rules: &str) -> Turnpiked {
    let config = net.config(Memory::NoHuge);
    let announced = config.replace(
        "\"2001:db8:10::/64\"]\n",
        &format!("\"2001:db8:10::/64\", \"{public}\"]\n"),
    );
    assert_ne!(announced, config);
    // Blue has the same addresses as red.
    let blue = "vteps = [\"172.31.0.12\"]\naddresses = [\"10.0.0.1/24\"";
    let both = announced.replace(blue, &format!("{blue}, \"2001:db8:10::1/64\""));
    assert_ne!(both, announced);
    net.blue.ip(&format!("address add {RED_V6}/64 dev vxlan200 nodad"));
    net.blue.ip("-6 route add default via 2001:db8:10::1");
    let gateway = net.converged_with(&(both + rules));
    let learned = || net.server.ip(&format!("-6 route show {public}")).contains("proto bgp");
    eventually(SOON, || {
        ensure(learned(), || format!("the server has no route to {public}"))
    });
    gateway
}

fn hairpinned(gateway: &Turnpiked) -> u64 {
    let summary = gateway.show("summary");
    let workers = summary["workers"].as_array().expect("a list");
    workers.iter().map(|worker| count(&worker["hairpinned"])).sum()
}

#[test]
fn masquerade_and_port_forward_translate_ipv6() {
    let net = Topology::new();
    let gateway = start(&net, PUBLIC, RULES);

    eventually(SOON, || ping(&net.red, SERVER_V6, 1));
    ping(&net.red, SERVER_V6, 10).expect("every ping is answered");
    let pings = gateway.connections("red", "icmpv6");
    assert!(pings.iter().any(|row| row["translated"]["source"] == POOL), "{pings:?}");

    let echo = EchoServer::start(&net.server, &format!("[{SERVER_V6}]:7"));
    let mut tcp = EchoClient::tcp(&net.red, echo.address()).expect("connects");
    let mut udp = EchoClient::udp(&net.red, echo.address()).expect("has a route");
    for (client, protocol) in [(&mut tcp, "tcp"), (&mut udp, "udp")] {
        let seen = eventually(SOON, || client.exchange("hello").map_err(|error| error.to_string()));
        assert_eq!(seen.ip().to_string(), POOL, "{protocol}");
        assert!((2000..10_000).contains(&seen.port()), "{seen}");
        let known = gateway.connections("red", protocol);
        let row = known
            .iter()
            .find(|row| count(&row["translated"]["source_port"]) == u64::from(seen.port()));
        let row = row.unwrap_or_else(|| panic!("no {protocol} connection has port {}: {known:?}", seen.port()));
        assert_eq!(
            (&row["original"]["source"], &row["original"]["destination"]),
            (&RED_V6.into(), &SERVER_V6.into())
        );
    }
    // Larger than any MTU on the way: both hosts send fragments, and the server learns of the tunnel's MTU first.
    let long = "x".repeat(1900);
    let seen = eventually(SOON, || udp.exchange(&long).map_err(|error| error.to_string()));
    assert_eq!(seen.ip().to_string(), POOL);

    let content = file(1_000_000, 5);
    let _out = HttpServer::start(&net.server, &format!("[{SERVER_V6}]:80"), content.clone());
    let fetched = eventually(SOON, || fetch(&net.red, &format!("http://[{SERVER_V6}]/file")));
    assert!(fetched == content, "{} bytes came", fetched.len());

    let inside = file(100_000, 6);
    let _in = HttpServer::start(&net.red, &format!("[{RED_V6}]:80"), inside.clone());
    let url = format!("http://[{FORWARDED}]:8080/file");
    assert!(eventually(SOON, || fetch_as(&net.server, SERVER_V6, &url)) == inside);
    let before = hairpinned(&gateway);
    assert!(
        eventually(SOON, || fetch(&net.red, &url)) == inside,
        "its own public port"
    );
    assert!(hairpinned(&gateway) > before);
    eventually(SOON, || gateway.counters_add_up());
}

#[test]
fn static_nat_gives_ipv6_hosts_addresses_outside_and_in_another_vpc() {
    let net = Topology::new();
    let gateway = start(&net, "2001:db8:cc:1::/64", STATICS);
    let content = [file(100_000, 1), file(100_000, 2)];
    let _red = HttpServer::start(&net.red, &format!("[{RED_V6}]:80"), content[0].clone());
    let _blue = HttpServer::start(&net.blue, &format!("[{RED_V6}]:80"), content[1].clone());
    let url = |host: &str| format!("http://[{host}]/file");

    assert!(eventually(SOON, || fetch_as(&net.server, SERVER_V6, &url(OWN))) == content[0]);
    eventually(SOON, || ping(&net.red, SERVER_V6, 1));
    let echo = EchoServer::start(&net.server, &format!("[{SERVER_V6}]:7"));
    let mut client = EchoClient::udp(&net.red, echo.address()).expect("has a route");
    let seen = eventually(SOON, || client.exchange("hello").map_err(|error| error.to_string()));
    assert_eq!(seen.ip().to_string(), OWN);

    // Both hosts have one address. Each sees the other elsewhere.
    let [red, blue] = ["2001:db8:64:1::10", "2001:db8:64:2::10"];
    assert!(eventually(SOON, || fetch(&net.red, &url(blue))) == content[1]);
    assert!(eventually(SOON, || fetch(&net.blue, &url(red))) == content[0]);
    eventually(SOON, || ping(&net.red, blue, 1));
    eventually(SOON, || ping(&net.blue, red, 1));
    eventually(SOON, || gateway.counters_add_up());
}
