//! A route is withdrawn and replaced under running flows: they move within the same second and keep their NAT ports.

use std::time::Duration;

use turnpike_tests::topology::{FABRIC, SERVER, SERVER_PREFIXES};
use turnpike_tests::traffic::{EchoClient, EchoServer, Flow};
use turnpike_tests::wait::{Bystander, SOON, ensure};
use turnpike_tests::{Topology, eventually};

#[test]
fn flows_move_and_keep_their_ports() {
    let net = Topology::new();
    let gateway = net.converged();
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));
    let flows = [
        Flow::start(EchoClient::tcp(&net.red, echo.address()).expect("connects")),
        Flow::start(EchoClient::udp(&net.red, echo.address()).expect("has a route")),
        Flow::start(EchoClient::tcp(&net.blue, echo.address()).expect("connects")),
        Flow::start(EchoClient::udp(&net.blue, echo.address()).expect("has a route")),
    ];
    let answers = |wanted: u64| {
        for flow in &flows {
            eventually(SOON, || {
                ensure(flow.seen().answers >= wanted, || format!("{:?}", flow.seen()))
            });
        }
    };
    answers(50);
    let addresses = flows.each_ref().map(|flow| flow.seen().addresses);
    assert!(addresses.iter().all(|seen| seen.len() == 1), "{addresses:?}");

    let bystander = Bystander::start();
    for (announce, router) in [(false, FABRIC[1]), (true, FABRIC[0]), (false, FABRIC[1])] {
        flows.iter().for_each(Flow::reset);
        answers(5);
        let generation = gateway.generation();
        net.fabric1_announces_server(announce);
        eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], router));
        // Answers of the time after the change.
        let so_far = flows.iter().map(|flow| flow.seen().answers).max().unwrap_or(0);
        answers(so_far + 100);
        let second = bystander.allowing(Duration::from_secs(1));
        for flow in &flows {
            let seen = flow.seen();
            assert!(
                seen.longest_gap < second,
                "silent too long on the way to {router}: {seen:?}"
            );
        }
        assert_eq!(
            flows.each_ref().map(|flow| flow.seen().addresses),
            addresses,
            "ports on the way to {router}"
        );
        eventually(SOON, || {
            let moved = gateway.moved_since(generation);
            ensure(moved >= 4, || {
                format!("{moved} of 4 connections were moved to {router}")
            })
        });
    }
}
