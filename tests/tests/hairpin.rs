//! Tenants reach public ends of the gateway that they are behind: a port forward of their own VPC or of another, and
//! each other's mappings.

use std::net::UdpSocket;
use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{BLUE_PUBLIC, FORWARDED, RED_PUBLIC, SERVER, TENANT};
use turnpike_tests::traffic::{EchoServer, HttpServer, fetch, file};
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Namespace, Topology, Turnpiked, eventually};

const SOON: Duration = Duration::from_secs(30);

fn hairpinned(gateway: &Turnpiked) -> u64 {
    let summary = gateway.show("summary");
    let workers = summary["workers"].as_array().expect("a list");
    workers.iter().map(|worker| count(&worker["hairpinned"])).sum()
}

#[test]
fn a_forwarded_port_is_reached_from_its_own_vpc_and_from_another() {
    let net = Topology::new();
    let gateway = net.converged();
    let content = file(100_000, 7);
    let _http = HttpServer::start(&net.red, &format!("{TENANT}:80"), content.clone());

    let url = format!("http://{FORWARDED}:8080/file");
    for (host, public) in [(&net.red, RED_PUBLIC), (&net.blue, BLUE_PUBLIC)] {
        let before = hairpinned(&gateway);
        assert_eq!(eventually(SOON, || fetch(host, &url)), content);
        assert!(hairpinned(&gateway) > before);
        // The server sees the client's public address, as it would see one of the fabric (RFC 4787 REQ-9a).
        let known = gateway.connections("red", "tcp");
        assert!(known.iter().any(|row| row["original"]["source"] == public), "{known:?}");
    }
    eventually(SOON, || gateway.counters_add_up());
}

/// A socket of a tenant's host that gives up long before the test does.
fn socket(host: &Namespace) -> UdpSocket {
    let socket = host.enter(|| UdpSocket::bind(format!("{TENANT}:0"))).expect("binds");
    let patience = Some(Duration::from_millis(200));
    socket.set_read_timeout(patience).expect("a time");
    socket
}

/// Sends a word until it is heard, and gives the address that it came from.
fn heard(from: &UdpSocket, to: &str, at: &UdpSocket, word: &str) -> String {
    eventually(SOON, || {
        from.send_to(word.as_bytes(), to).map_err(|error| error.to_string())?;
        let mut buffer = [0; 100];
        let (length, source) = at.recv_from(&mut buffer).map_err(|error| error.to_string())?;
        let got = String::from_utf8_lossy(&buffer[..length]).into_owned();
        ensure(got == word, || format!("{got} from {source} instead of {word}"))?;
        Ok(source.to_string())
    })
}

/// What an echo server in the fabric sees a socket as.
fn shown_as(socket: &UdpSocket, server: &EchoServer) -> String {
    eventually(SOON, || {
        let sent = socket.send_to(b"where am I", server.address());
        sent.map_err(|error| error.to_string())?;
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let address = text
            .split_whitespace()
            .find(|word| word.parse::<std::net::SocketAddr>().is_ok());
        address.map(str::to_owned).ok_or(text)
    })
}

#[test]
fn tenants_meet_at_their_mappings() {
    let net = Topology::new();
    let mut config = net.config(Memory::NoHuge);
    for public in [RED_PUBLIC, BLUE_PUBLIC] {
        let pool = format!("pool = [\"{public}/32\"]\n");
        assert!(config.contains(&pool));
        let open = "mapping = \"endpoint-independent\"\nfiltering = \"endpoint-independent\"\n";
        config = config.replace(&pool, &format!("{pool}{open}"));
    }
    let _gateway = net.converged_with(&config);
    let server = EchoServer::start(&net.server, &format!("{SERVER}:7"));
    let (red, blue) = (socket(&net.red), socket(&net.blue));
    let (red_shown, blue_shown) = (shown_as(&red, &server), shown_as(&blue, &server));
    assert!(red_shown.starts_with(&format!("{RED_PUBLIC}:")), "{red_shown}");
    assert!(blue_shown.starts_with(&format!("{BLUE_PUBLIC}:")), "{blue_shown}");

    assert_eq!(
        heard(&red, &blue_shown, &blue, "hello"),
        red_shown,
        "one mapping for everybody"
    );
    assert_eq!(heard(&blue, &red_shown, &red, "hello too"), blue_shown);
    // And anybody in the fabric may send to a mapping.
    let stranger = net.fabric[1].enter(|| UdpSocket::bind("0.0.0.0:0")).expect("binds");
    heard(&stranger, &red_shown, &red, "let me in");
}
