//! Pools of a carrier: ports by the block, each of which is logged, as each session is, and a limit of connections for each host.

use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{RED_PUBLIC, SERVER, TENANT};
use turnpike_tests::traffic::{EchoClient, EchoServer};
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, eventually};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn ports_come_by_the_block_and_a_host_has_so_many_connections() {
    let net = Topology::new();
    let pool = format!("pool = [\"{RED_PUBLIC}/32\"]\n");
    let config = net.config(Memory::NoHuge);
    assert!(config.contains(&pool));
    let blocks = "ports = \"20000-29999\"\nblocks = { size = 100, count = 1 }\n";
    let limit = "\n[[nat.limit]]\nvpc = \"red\"\nsubscriber-sessions = 3\n";
    let config = config.replace(&pool, &format!("{pool}{blocks}")) + limit + "\n[nat]\nlog-sessions = \"sources\"\n";
    let mut gateway = net.converged_with(&config);
    let server = EchoServer::start(&net.server, &format!("{SERVER}:7"));

    let mut ports = Vec::new();
    for n in 0..3 {
        let mut client = EchoClient::udp(&net.red, server.address()).expect("a socket");
        // The first packet may wait for a neighbour for longer than the client does.
        let shown = eventually(SOON, || client.exchange("hello").map_err(|error| error.to_string()));
        assert_eq!(shown.ip().to_string(), RED_PUBLIC, "connection {n}");
        ports.push(shown.port());
    }
    let (least, most) = (ports.iter().min().expect("three"), ports.iter().max().expect("three"));
    let first = least - (least - 20_000) % 100;
    assert!(*most < first + 100, "{ports:?} are of one block");

    let line = format!(
        "nat_event=\"port-block-allocated\" vrf=1 source_ipv4_address={TENANT} post_nat_source_ipv4_address={RED_PUBLIC} \
         port_range_start={first} port_range_end={} port_range_step_size=1",
        first + 99
    );
    eventually(SOON, || {
        let log = gateway.process().log();
        ensure(log.contains(&line), || format!("no line with {line}"))
    });

    // Each of them alone as well, without where it went.
    for port in &ports {
        let end = format!("post_nat_source_ipv4_address={RED_PUBLIC} post_napt_source_transport_port={port}");
        eventually(SOON, || {
            let log = gateway.process().log();
            let mut lines = log.lines().filter(|line| line.contains("nat::session"));
            let created = |line: &str| line.contains("nat_event=\"nat44-session-create\" vrf=1 protocol_identifier=17");
            ensure(lines.any(|line| created(line) && line.ends_with(&end)), || {
                format!("no line with {end}")
            })
        });
    }

    // The pool has a hundred blocks of TCP's and UDP's ports, of which the host has one.
    eventually(SOON, || {
        let shown = gateway.try_show("nat")?;
        let blocks = rows(&shown["pools"])
            .iter()
            .find(|row| row["vpc_name"] == "red" && row["kind"] == "blocks");
        ensure(
            blocks.is_some_and(|row| row["used"] == 1 && row["capacity"] == 100),
            || shown.to_string(),
        )
    });

    let mut fourth = EchoClient::udp(&net.red, server.address()).expect("a socket");
    assert!(fourth.exchange("me too").is_err(), "a fourth connection");
    eventually(SOON, || {
        ensure(gateway.dropped("nat-subscriber-limit") > 0, || "not counted".to_owned())
    });
    eventually(SOON, || gateway.counters_add_up());
}
