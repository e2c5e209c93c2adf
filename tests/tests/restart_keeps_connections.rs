//! A restart in order loses no established TCP connection: the next process goes on with the connections of the last one,
//! ports and all, in the NIC as well.

use std::time::Duration;

use nix::sys::signal::Signal;
use turnpike_tests::topology::{RED_PUBLIC, SERVER};
use turnpike_tests::traffic::{EchoClient, EchoServer};
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, eventually};

const SOON: Duration = Duration::from_secs(60);
const CLIENTS: usize = 12;

#[test]
fn established_connections_go_on_over_a_restart() {
    let net = Topology::new();
    let mut gateway = net.converged();
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let connect = || EchoClient::tcp(&net.red, echo.address()).map_err(|error| error.to_string());
            eventually(SOON, connect).patient()
        })
        .collect();
    let ports: Vec<_> = clients
        .iter_mut()
        .map(|client| client.exchange("before").expect("answered"))
        .collect();
    assert!(ports.iter().all(|seen| seen.ip().to_string() == RED_PUBLIC));

    for round in 0..2 {
        gateway.process().signal(Signal::SIGTERM);
        let status = gateway.process().wait(SOON).expect("it ends");
        assert!(status.success(), "{status}\n{}", gateway.process().log_tail());
        drop(gateway);
        gateway = net.converged();
        let log = gateway.process().log_tail();
        for (client, port) in clients.iter_mut().zip(&ports) {
            // A word that was lost while there was no route is sent again by TCP, so that only patience is needed.
            let seen = client
                .exchange(&format!("round {round}"))
                .unwrap_or_else(|error| panic!("a connection did not outlive restart {round}: {error}\n{log}"));
            assert_eq!(seen, *port, "restart {round}: the same public port");
        }
        // The NIC, which began with nothing, carries them again.
        eventually(SOON, || {
            let live = count(&gateway.try_show("offloads")?["live"]) as usize;
            ensure(live >= CLIENTS, || format!("{live} connections are offloaded"))
        });
        // They were restored, not picked up in their midst: the counters go on as well.
        let known = gateway.connections("red", "tcp");
        let packets = |row: &serde_json::Value| count(&row["packets"][0]) + count(&row["packets"][1]);
        eventually(SOON, || {
            let old = known.iter().filter(|row| row["translated"]["destination_port"] == 7);
            let old = old.filter(|row| packets(row) > 6).count();
            ensure(old >= CLIENTS, || format!("{old} connections of before: {known:?}"))
        });
    }
    // What ends later is not found by a later start.
    drop(clients);
    assert!(gateway.terminate().success());
}
