//! Tenants with the same addresses, ports included, do not meet: by VNI and by VLAN tag.

use std::net::UdpSocket;
use std::time::Duration;

use turnpike_tests::frame::Host;
use turnpike_tests::topology::{BLUE_PUBLIC, GREEN_VLAN, RED_PUBLIC, SERVER, TENANT, TENANT_ROUTER};
use turnpike_tests::traffic::{EchoClient, EchoServer, HttpServer, fetch, file};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Namespace, Topology, Wire, eventually};

#[test]
fn equal_tuples_in_three_tenants() {
    let net = Topology::new();
    let gateway = net.converged();
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));

    // The same 5-tuple in red and blue, alive at the same time.
    let client = |tenant: &Namespace| {
        let socket = tenant
            .enter(|| UdpSocket::bind((TENANT, 5555)))
            .expect("a port of the host's own");
        socket.connect(echo.address()).expect("has a route");
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a fresh socket");
        EchoClient::Udp(socket)
    };
    let (mut red, mut blue) = (client(&net.red), client(&net.blue));
    for round in 0..20 {
        for (client, public, name) in [(&mut red, RED_PUBLIC, "red"), (&mut blue, BLUE_PUBLIC, "blue")] {
            let word = format!("{name}-{round}");
            let seen = eventually(SOON, || client.exchange(&word).map_err(|error| error.to_string()));
            assert_eq!(seen.ip().to_string(), public, "{name}");
        }
    }

    // Each tenant's own server is its own: the same URL, two files.
    let files = [file(50_000, 5), file(50_000, 6)];
    let _servers = [&net.red, &net.blue].map(|tenant| {
        let content = if std::ptr::eq(tenant, &net.red) {
            &files[0]
        } else {
            &files[1]
        };
        HttpServer::start(tenant, &format!("{TENANT}:80"), content.clone())
    });
    for (tenant, content) in [(&net.red, &files[0]), (&net.blue, &files[1])] {
        assert_eq!(fetch(tenant, &format!("http://{TENANT}/file")).as_ref(), Ok(content));
    }

    // Green is a VLAN on the same port; its frames come back with its tag.
    let wire = Wire::new(&net.tenants, "green");
    net.tenants.ip("link set green master bridge");
    let green = Host {
        mac: [2, 0, 0, 0, 0, 0x30],
        address: TENANT.parse().expect("address"),
        vlan: Some(GREEN_VLAN),
    };
    let router = TENANT_ROUTER.parse().expect("address");
    let mac = eventually(SOON, || {
        green
            .resolve(&wire, router, Duration::from_millis(300))
            .ok_or("no ARP answer in the VLAN".to_owned())
    });
    let server = SERVER.parse().expect("address");
    eventually(SOON, || {
        let answered = green.ping(&wire, mac, server, 99, Duration::from_millis(500));
        ensure(answered, || "no echo reply in the VLAN".to_owned())
    });

    // A VLAN that no tenant has gets no answer, and is counted.
    let before = gateway.dropped("vlan-unknown");
    let stranger = Host {
        vlan: Some(GREEN_VLAN + 1),
        ..green
    };
    assert_eq!(stranger.resolve(&wire, router, Duration::from_millis(300)), None);
    eventually(SOON, || {
        ensure(gateway.dropped("vlan-unknown") > before, || {
            "vlan-unknown is not counted".to_owned()
        })
    });
    eventually(SOON, || gateway.counters_add_up());
}
