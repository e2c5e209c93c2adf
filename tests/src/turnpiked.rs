//! The two programs under test.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::wait::{SOON, ensure};
use crate::{Namespace, Process, Scratch, eventually};

/// A running gateway.
#[derive(Debug)]
pub struct Turnpiked {
    process: Process,
    socket: PathBuf,
}

impl Turnpiked {
    /// The gateway's socket in a scenario's folder.
    pub fn socket(scratch: &Scratch) -> PathBuf {
        scratch.path().join("api.sock")
    }

    /// The command that runs a gateway in `namespace` from the configuration `text`, its state kept in `scratch`.
    pub fn command(namespace: &Namespace, text: &str, scratch: &Scratch) -> Command {
        let config = scratch.write("turnpike.toml", text);
        let mut command = namespace.command(program("turnpiked"));
        command
            .arg("--config")
            .arg(config)
            .arg("--state-dir")
            .arg(scratch.path().join("state"));
        command
    }

    /// Starts a gateway and waits until it answers on its socket.
    ///
    /// # Panics
    /// If it ends before that, or takes too long.
    pub fn start(namespace: &Namespace, text: &str, scratch: &Scratch) -> Self {
        let process = Process::spawn("turnpiked", Self::command(namespace, text, scratch), scratch.path());
        let mut gateway = Self {
            process,
            socket: Self::socket(scratch),
        };
        eventually(SOON, || {
            if let Some(status) = gateway.process.wait(Duration::ZERO) {
                panic!("turnpiked ended at its start: {status}\n{}", gateway.process.log_tail());
            }
            gateway.try_show("summary")
        });
        gateway
    }

    /// Starts a gateway that is expected to refuse: its exit status and everything that it printed.
    ///
    /// # Panics
    /// If it still runs after the time that a start takes.
    pub fn refused(namespace: &Namespace, text: &str, scratch: &Scratch) -> (ExitStatus, String) {
        ended(Self::command(namespace, text, scratch), scratch)
    }

    /// What `turnpike show <what> --json` prints.
    ///
    /// # Errors
    /// What the program said, if it failed.
    pub fn try_show(&self, what: &str) -> Result<Value, String> {
        let text = self.cli(&["show", what, "--json"])?;
        serde_json::from_str(&text).map_err(|error| format!("turnpike show {what} --json: {error}\n{text}"))
    }

    /// The same for what must work.
    ///
    /// # Panics
    /// If it does not.
    pub fn show(&self, what: &str) -> Value {
        self.try_show(what).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What `turnpike explain route --json` prints.
    ///
    /// # Errors
    /// As [`Self::try_show`].
    pub fn explain_route(&self, vrf: &str, address: &str) -> Result<Value, String> {
        let text = self.cli(&["explain", "route", vrf, address, "--json"])?;
        serde_json::from_str(&text).map_err(|error| format!("explain route: {error}\n{text}"))
    }

    /// Runs `turnpike` against this gateway and returns what it prints.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn cli(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program("turnpike"));
        command.arg("--socket").arg(&self.socket).args(arguments);
        let output = command
            .output()
            .map_err(|error| format!("cannot start turnpike: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Packets dropped for one reason so far.
    pub fn dropped(&self, reason: &str) -> u64 {
        rows(&self.show("drops"))
            .iter()
            .find(|row| row["reason"] == reason)
            .map_or(0, |row| count(&row["packets"]))
    }

    /// The connections of a protocol ("tcp", "udp", "icmp") that a VPC has.
    pub fn connections(&self, vpc: &str, protocol: &str) -> Vec<Value> {
        let ours = |row: &&Value| row["vpc_name"] == vpc && row["protocol"] == protocol;
        rows(&self.show("connections")).iter().filter(ours).cloned().collect()
    }

    /// The active route to `prefix` in the default VRF.
    pub fn active_route(&self, prefix: &str) -> Option<Value> {
        let active = |row: &&Value| row["vrf_name"] == "default" && row["prefix"] == prefix && row["active"] == true;
        rows(&self.show("routes")).iter().find(active).cloned()
    }

    /// The path to `prefix` that the BGP peer at `peer` announces.
    pub fn bgp_path(&self, prefix: &str, peer: &str) -> Option<Value> {
        let bgp = self.show("bgp");
        let route = rows(&bgp["routes"]).iter().find(|route| route["prefix"] == prefix)?;
        rows(&route["paths"]).iter().find(|path| path["peer"] == peer).cloned()
    }

    /// The number of the current generation.
    pub fn generation(&self) -> u64 {
        count(&self.show("generations")["current"])
    }

    /// How many connections the generations after `generation` moved to another way out.
    pub fn moved_since(&self, generation: u64) -> u64 {
        let generations = self.show("generations");
        let later = rows(&generations["history"])
            .iter()
            .filter(|row| count(&row["generation"]) > generation);
        later.map(|row| count(&row["moved"])).sum()
    }

    /// Whether every packet is accounted for: for each worker what came in is what went out, was punted, handed over
    /// or dropped, or waits for a neighbour; and the drops by reason sum up to the total. Meant for a quiet moment:
    /// counters are not read at one instant.
    ///
    /// # Errors
    /// Which sum differs.
    pub fn counters_add_up(&self) -> Result<(), String> {
        let summary = self.try_show("summary")?;
        for worker in rows(&summary["workers"]) {
            let sum = |names: &[&str]| names.iter().map(|name| count(&worker[*name])).sum::<u64>();
            let (came, went) = (
                sum(&["rx", "injected", "generated", "taken_over"]),
                sum(&["tx", "punted", "handed_over", "dropped", "held"]),
            );
            ensure(came == went && came > 0, || {
                format!("{came} packets came to a worker, {went} went: {worker}")
            })?;
        }
        let drops: u64 = rows(&self.try_show("drops")?)
            .iter()
            .map(|row| count(&row["packets"]))
            .sum();
        let total = count(&summary["drops"]);
        ensure(drops == total, || {
            format!("drops by reason are {drops} in sum, in total {total}")
        })
    }

    /// How many BGP sessions are established.
    ///
    /// # Errors
    /// If the gateway does not answer.
    pub fn established(&self) -> Result<usize, String> {
        let bgp = self.try_show("bgp")?;
        Ok(rows(&bgp["peers"])
            .iter()
            .filter(|peer| peer["state"] == "Established")
            .count())
    }

    /// Waits until `wanted` sessions are established, or gone down to.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn await_sessions(&self, wanted: usize) {
        eventually(SOON, || {
            let established = self.established()?;
            ensure(established == wanted, || {
                format!("{established} of {wanted} sessions are established")
            })
        });
    }

    /// Whether the active route to `prefix` leads to `gateway`.
    ///
    /// # Errors
    /// What it is instead.
    pub fn routed_via(&self, prefix: &str, gateway: &str) -> Result<(), String> {
        let route = self
            .active_route(prefix)
            .ok_or_else(|| format!("no active route to {prefix}"))?;
        // A route of the kernel may name a next-hop object; what that is comes with the resolution.
        let mut ways = rows(&route["next_hops"]).iter().chain(rows(&route["resolved"]));
        ensure(ways.any(|hop| hop["gateway"] == gateway), || {
            format!("{prefix} does not lead to {gateway}: {route}")
        })
    }

    /// Ends it with SIGTERM.
    ///
    /// # Panics
    /// If it does not end.
    pub fn terminate(mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(SOON);
        status.unwrap_or_else(|| panic!("turnpiked runs on {SOON:?} after SIGTERM"))
    }

    /// Ends it with SIGKILL.
    ///
    /// # Panics
    /// If the kernel does not end it.
    pub fn kill(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(SOON).expect("SIGKILL ends a process");
    }
}

/// Runs a gateway's command that is expected to end by itself: its exit status and everything that it printed.
///
/// # Panics
/// If it still runs after the time that a start takes.
pub fn ended(command: Command, scratch: &Scratch) -> (ExitStatus, String) {
    let mut process = Process::spawn("turnpiked-refused", command, scratch.path());
    let status = process.wait(SOON);
    let status = status.unwrap_or_else(|| panic!("turnpiked runs, but should have refused:\n{}", process.log_tail()));
    (status, process.log())
}

/// The elements of a JSON list; none of anything else.
pub fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A counter in JSON; 0 for anything else.
pub fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// One of the gateway's programs, built beside this one (`target/<profile>/`).
///
/// # Panics
/// If it is not there.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the kernel knows this program");
    let folders = this.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build -p gateway` with this program's profile"))
}
