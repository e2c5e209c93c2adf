//! A gateway killed with SIGKILL starts again at once, whatever it could not clean up.

use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FABRIC, SERVER, SERVER_PREFIXES, SESSIONS};
use turnpike_tests::traffic::ping;
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::SOON;
use turnpike_tests::{Topology, eventually};

#[test]
fn starts_over_what_a_killed_one_left() {
    let net = Topology::new();
    let gateway = net.converged();
    eventually(SOON, || ping(&net.red, SERVER, 1));
    gateway.kill();

    let gateway = net.start(Memory::NoHuge);
    gateway.await_sessions(SESSIONS);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));
    eventually(SOON, || ping(&net.red, SERVER, 1));
    assert_eq!(
        gateway.show("summary")["revision"],
        1,
        "the same configuration is no new revision"
    );

    // What the killed one had mirrored to the kernel is no route of another daemon's.
    let routes = gateway.show("routes");
    let kernel: Vec<_> = rows(&routes)
        .iter()
        .filter(|row| row["prefix"] == SERVER_PREFIXES[0])
        .collect();
    assert!(kernel.iter().all(|row| row["source"] == "ebgp"), "{kernel:?}");
    let mirrored = net.gateway.ip(&format!("route show {} proto 212", SERVER_PREFIXES[0]));
    assert_eq!(mirrored.lines().count(), 1, "mirrored once: {mirrored}");
    assert!(gateway.terminate().success());
}
