//! A worker that stops in the middle of a burst: the control plane goes on, says which worker it is and since when, and
//! publishes what came meanwhile when the worker goes on.

use std::fs;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FABRIC, SERVER, SERVER_PREFIXES, SESSIONS};
use turnpike_tests::traffic::ping;
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

/// The only worker's thread.
const WORKER: &str = "tp-worker-0";

/// A thread that is stopped as a debugger stops it, until dropped.
struct Stopped(Pid);

impl Stopped {
    fn stop(thread: Pid) -> Self {
        ptrace::attach(thread).expect("root may trace");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        Self(thread)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It has ended if the gateway has.
        let _ = ptrace::detach(self.0, None);
    }
}

fn thread_of(process: u32, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let number = threads.flatten().find_map(|entry| {
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        (comm.trim() == name).then(|| entry.file_name().to_str()?.parse().ok())?
    });
    Pid::from_raw(number.unwrap_or_else(|| panic!("no thread {name}")))
}

#[test]
fn a_worker_stuck_in_a_burst_is_named_and_holds_up_only_the_publishing() {
    let net = Topology::new();
    // A worker that does not sleep is inside a burst nearly always.
    let config = net.config(Memory::NoHuge).replace("\"adaptive\"", "\"busy\"");
    let mut gateway = net.converged_with(&config);
    let thread = thread_of(gateway.process().pid(), WORKER);
    let stall = |gateway: &turnpike_tests::Turnpiked| gateway.show("generations")["stalls"]["current"].clone();

    // Stopped outside a burst it holds nothing: then it is stopped again.
    let mut announced = true;
    let (stopped, told) = loop {
        let stopped = Stopped::stop(thread);
        let generation = gateway.generation();
        // The first change may be published; a later one waits for a worker that is inside.
        let mut told = Value::Null;
        for _ in 0..4 {
            announced = !announced;
            net.fabric1_announces_server(announced);
            eventually(SOON, || {
                told = stall(&gateway);
                let seen = gateway.bgp_path(SERVER_PREFIXES[0], FABRIC[0]).is_some();
                ensure(!told.is_null() || seen == announced, || {
                    "the change has not come".to_owned()
                })
            });
            if !told.is_null() {
                break;
            }
        }
        if !told.is_null() && gateway.generation() <= generation + 1 {
            break (stopped, told);
        }
        drop(stopped);
    };
    let workers = rows(&told["workers"]);
    assert_eq!(
        (workers.len(), &workers[0]["reader"]),
        (1, &Value::from(WORKER)),
        "{told:#}"
    );

    // Sessions live and are answered for, changes are taken, and every view answers.
    announced = !announced;
    net.fabric1_announces_server(announced);
    eventually(SOON, || {
        let seen = gateway.bgp_path(SERVER_PREFIXES[0], FABRIC[0]).is_some();
        ensure(seen == announced, || "the speaker has not taken the change".to_owned())
    });
    gateway.await_sessions(SESSIONS);
    let still = stall(&gateway);
    assert_eq!(still["generation"], told["generation"], "{still:#}");
    assert!(
        still["for_ms"].as_u64() >= told["for_ms"].as_u64() && still["since_ms"] == told["since_ms"],
        "{still:#}"
    );
    assert_eq!(gateway.show("summary")["stall"]["workers"], told["workers"]);
    assert!(
        gateway
            .cli(&["show", "generations"])
            .expect("answered")
            .contains(WORKER)
    );

    // It goes on: what came meanwhile is published, and forwards.
    drop(stopped);
    eventually(SOON, || {
        ensure(stall(&gateway).is_null(), || stall(&gateway).to_string())
    });
    if !announced {
        net.fabric1_announces_server(true);
    }
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));
    eventually(SOON, || ping(&net.red, SERVER, 1));
    assert!(gateway.terminate().success());
}
