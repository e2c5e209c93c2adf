//! BFD with a fabric router, through the data plane: a router that is not heard any more loses its sessions although BGP's
//! keepalives go on.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FABRIC, FABRIC_V6, GATEWAY, GATEWAY_V6, SERVER_PREFIXES, SESSIONS};
use turnpike_tests::turnpiked::{Turnpiked, rows};
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, eventually};

const SOON: Duration = Duration::from_secs(60);

/// Long enough for a busy machine.
const BFDD: &str = "bfd\n profile lab\n  detect-multiplier 10\n  receive-interval 300\n  transmit-interval 300\n";

/// The scenario's configuration, with BFD on both sessions with fabric1.
fn config(net: &Topology) -> String {
    [FABRIC[0], FABRIC_V6[0]]
        .iter()
        .fold(net.config(Memory::NoHuge), |text, peer| {
            let line = format!("address = \"{peer}\"\n");
            assert!(text.contains(&line), "{peer} is a peer");
            text.replace(&line, &format!("{line}bfd = {{ min-tx-ms = 200, multiplier = 10 }}\n"))
        })
}

/// Waits until BFD with fabric1 is in this state in both families.
fn await_bfd(gateway: &Turnpiked, state: &str) -> Value {
    eventually(SOON, || {
        let shown = gateway.try_show("bfd")?;
        let sessions = rows(&shown["sessions"]);
        let all = sessions.len() == 2 && sessions.iter().all(|session| session["state"] == state);
        ensure(all, || format!("BFD is {shown}"))?;
        Ok(shown)
    })
}

#[test]
fn a_router_whose_bfd_falls_silent_loses_its_sessions_and_gets_them_back() {
    let mut net = Topology::new();
    net.fabric_frr[0].add("bfdd", BFDD, &[]);
    for peer in [GATEWAY[0], GATEWAY_V6[0]] {
        let line = format!("neighbor {peer} bfd profile lab");
        net.fabric_frr[0].vtysh(&["configure terminal", "router bgp 65001", &line]);
    }
    let gateway = Turnpiked::start(&net.gateway, &config(&net), &net.scratch);
    gateway.await_sessions(SESSIONS);
    // FRR begins BFD anew when BGP has told it the interface.
    eventually(SOON, || {
        let known = net.fabric_frr[0].show("bfd peers");
        let settled = |peer: &&Value| peer["status"] == "up" && !peer["interface"].is_null();
        ensure(rows(&known).iter().filter(settled).count() == 2, || {
            format!("FRR's BFD is {known}")
        })
    });
    let shown = await_bfd(&gateway, "up");
    for session in rows(&shown["sessions"]) {
        assert_eq!(session["remote_state"], "up", "{session}");
    }
    let table = gateway.cli(&["show", "bfd"]).expect("answers");
    assert!(table.contains(FABRIC[0]) && table.contains(FABRIC_V6[0]), "{table}");
    for (prefix, router) in SERVER_PREFIXES.into_iter().zip([FABRIC[0], FABRIC_V6[0]]) {
        eventually(SOON, || gateway.routed_via(prefix, router));
    }

    // BGP's keepalives go on: nothing but BFD would end the sessions.
    let before = flaps(&gateway.show("bgp"));
    net.fabric_frr[0].signal("bfdd", Signal::SIGSTOP);
    let shown = await_bfd(&gateway, "down");
    for session in rows(&shown["sessions"]) {
        assert_eq!(session["diagnostic"], "detection time expired", "{session}");
    }
    eventually(SOON, || {
        let shown = gateway.try_show("bgp")?;
        let ended = flaps(&shown).iter().zip(&before).all(|(now, before)| now > before);
        ensure(ended, || format!("sessions go on: {shown}"))
    });

    net.fabric_frr[0].signal("bfdd", Signal::SIGCONT);
    await_bfd(&gateway, "up");
    gateway.await_sessions(SESSIONS);
}

/// How often each session with BFD has ended.
fn flaps(shown: &Value) -> Vec<u64> {
    let peers = rows(&shown["peers"]).iter();
    let watched = peers.filter(|peer| !peer["bfd"].is_null());
    watched.map(|peer| peer["flaps"].as_u64().unwrap_or(0)).collect()
}
