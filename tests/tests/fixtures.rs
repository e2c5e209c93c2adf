//! The fixtures by themselves: what a scenario takes for granted about namespaces, FRR and traffic, without a gateway.

use std::time::Duration;

use turnpike_tests::frame::Host;
use turnpike_tests::namespace::connect;
use turnpike_tests::topology::{FABRIC, SERVER};
use turnpike_tests::traffic::{EchoClient, EchoServer, Flow, HttpServer, fetch, file, ping};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Namespace, Topology, Wire, eventually};

/// The whole topology stands: fabric routers and server speak BGP, and hosts reach what needs no gateway.
#[test]
fn fabric_works_without_a_gateway() {
    let net = Topology::new();
    for (i, frr) in net.fabric_frr.iter().enumerate() {
        for server in [format!("198.18.{}.2", i + 1), format!("2001:db8:1:{}::2", i + 1)] {
            eventually(SOON, || {
                let state = frr.session(&server);
                ensure(state == "Established", || {
                    format!("session of fabric{} with {server} is {state}", i + 1)
                })
            });
        }
    }
    let routed = || net.server.ip("-6 route show 2001:db8:a1::1").contains("proto bgp");
    eventually(SOON, || {
        ensure(routed(), || "server has no route to fabric1's host".to_owned())
    });
    ping(&net.fabric[0], SERVER, 2).expect("fabric1 reaches the server");

    let content = file(100_000, 1);
    let _http = HttpServer::start(&net.server, "198.51.100.10:80", content.clone());
    assert_eq!(
        fetch(&net.fabric[1], "http://198.51.100.10/file").as_ref(),
        Ok(&content)
    );
    assert!(
        fetch(&net.fabric[1], "http://198.51.100.10/other").is_err(),
        "a file that is not there is not served"
    );

    let error = ping(&net.red, "10.0.0.1", 1).expect_err("there is no gateway");
    assert!(error.contains("100% packet loss"), "{error}");
    assert!(
        net.fabric_frr[0].session("192.0.2.1") != "Established",
        "{} has no peer",
        FABRIC[0]
    );
}

/// An echo server says under which address it saw the client; a flow notices silence.
#[test]
fn flows_notice_addresses_and_gaps() {
    let (client, server) = (Namespace::new("client"), Namespace::new("server"));
    connect((&client, "cable"), (&server, "cable"));
    client.ip("address add 10.1.1.1/24 dev cable");
    server.ip("address add 10.1.1.2/24 dev cable");
    let echo = EchoServer::start(&server, "10.1.1.2:7");
    let tcp = Flow::start(EchoClient::tcp(&client, echo.address()).expect("connects"));
    let udp = Flow::start(EchoClient::udp(&client, echo.address()).expect("has a route"));
    for flow in [&tcp, &udp] {
        eventually(SOON, || {
            ensure(flow.seen().answers >= 20, || format!("{:?}", flow.seen()))
        });
        let seen = flow.seen();
        assert_eq!((seen.addresses.len(), seen.failures), (1, 0), "{seen:?}");
        assert!(
            seen.addresses
                .iter()
                .all(|address| address.ip().to_string() == "10.1.1.1"),
            "{seen:?}"
        );
        flow.reset();
    }
    server.ip("link set cable down");
    eventually(SOON, || {
        let gap = tcp.seen().longest_gap.min(udp.seen().longest_gap);
        ensure(gap > Duration::from_millis(600) && udp.seen().failures > 0, || {
            format!("longest gap {gap:?}")
        })
    });
}

/// Crafted frames, VLAN tag included, leave a wire and come back over a bridge as they were sent.
#[test]
fn wires_carry_vlan_tags() {
    let namespace = Namespace::new("bridge");
    namespace.ip("link add bridge type bridge");
    namespace.ip("link set bridge up");
    let wires = ["one", "two"].map(|name| Wire::new(&namespace, name));
    for wire in &wires {
        namespace.ip(&format!("link set {} master bridge", wire.name()));
    }
    let [asker, owner] = [1, 2].map(|n| Host {
        mac: [2, 0, 0, 0, 0, n],
        address: [10, 0, 0, n].into(),
        vlan: Some(30),
    });
    let frame = asker.icmp_echo(owner.mac, owner.address, 7, 64);
    let arrived = eventually(SOON, || {
        wires[0].send(&frame);
        let same = |seen: &[u8]| (seen == frame).then(|| seen.to_vec());
        wires[1]
            .receive(Duration::from_millis(200), same)
            .ok_or("no frame came".to_owned())
    });
    assert_eq!(arrived[12..16], [0x81, 0, 0, 30], "the tag is in the frame");
    let asked = std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let answer = |seen: &[u8]| {
                owner.answer_arp(&wires[1], seen);
                (seen[16..18] == [8, 6]).then_some(())
            };
            wires[1].receive(SOON, answer)
        });
        let asked = asker.resolve(&wires[0], owner.address, SOON);
        assert!(answering.join().expect("no panic").is_some());
        asked
    });
    assert_eq!(asked, Some(owner.mac));
    let stranger = Host {
        vlan: Some(31),
        ..asker
    };
    assert_eq!(
        stranger.resolve(&wires[0], owner.address, Duration::from_millis(200)),
        None
    );
}

/// Nothing is left of a namespace once it is dropped: not its name, not the processes in it.
#[test]
fn a_namespace_takes_its_processes_with_it() {
    let namespace = Namespace::new("short");
    let name = namespace.name().to_owned();
    let mut sleeper = namespace.command("sleep").arg("1000").spawn().expect("sleep starts");
    eventually(SOON, || {
        let listed = std::process::Command::new("ip")
            .args(["netns", "pids", &name])
            .output()
            .expect("ip runs");
        ensure(
            String::from_utf8_lossy(&listed.stdout).trim() == sleeper.id().to_string(),
            || "not yet".to_owned(),
        )
    });
    drop(namespace);
    assert!(
        sleeper.try_wait().expect("our child").is_some(),
        "the process was ended"
    );
    assert!(!turnpike_tests::janitor::namespaces().contains(&name));
}
