//! Network namespaces, and cables between them.

use std::fs::File;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::janitor;

/// A network namespace of its own name, `tp<pid>-<n>-<role>`; removed, with every process in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A fresh namespace with its loopback up. `role` is for the reader of `ip netns`.
    ///
    /// # Panics
    /// Without root.
    pub fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "namespaces need root: run as root, as `make test` does"
        );
        janitor::once();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self {
            name: format!("{}{number}-{role}", janitor::prefix(std::process::id())),
        };
        run(Command::new("ip").args(["netns", "add", &namespace.name]));
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `program`, to be started in the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `ip` in the namespace with `arguments` split at blanks.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, arguments: &str) -> String {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    /// Runs a command line, split at blanks, in the namespace; returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, line: &str) -> String {
        run(&mut self.line(line))
    }

    /// The same for a command that may fail.
    pub fn try_run(&self, line: &str) -> Output {
        let mut command = self.line(line);
        command
            .output()
            .unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"))
    }

    fn line(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// Calls `f` on a thread that is in the namespace: sockets and taps that it opens stay there wherever they are
    /// used afterwards.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or `f` panics.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let handle = File::open(format!("/run/netns/{}", self.name))
            .unwrap_or_else(|error| panic!("cannot open namespace {}: {error}", self.name));
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(handle, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace that it made");
                f()
            });
            inside.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        })
    }

    /// Sets a network sysctl of this namespace; `key` is a path below `/proc/sys/net`.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn sysctl(&self, key: &str, value: u32) {
        self.enter(|| {
            std::fs::write(format!("/proc/sys/net/{key}"), value.to_string())
                .unwrap_or_else(|error| panic!("cannot set net/{key} to {value} in {}: {error}", self.name));
        });
    }

    /// Names of the interfaces in the namespace, without `lo`.
    pub fn interfaces(&self) -> Vec<String> {
        let listing = self.ip("-json link show");
        let links: Vec<serde_json::Value> = serde_json::from_str(&listing).expect("ip prints JSON");
        let names = links.iter().filter_map(|link| link["ifname"].as_str());
        names.filter(|name| *name != "lo").map(str::to_owned).collect()
    }

    /// Makes an interface that DPDK's af_packet driver takes invisible to the kernel's own IP: the driver copies
    /// frames, so the kernel would answer a second time for the addresses of the gateway's host interfaces.
    pub fn leave_to_dpdk(&self, interface: &str) {
        self.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), 1);
        self.sysctl(&format!("ipv6/conf/{interface}/disable_ipv6"), 1);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        janitor::remove_namespace(&self.name);
    }
}

/// Lays a cable between two namespaces: a veth pair, both ends up, checksums computed in software (a partial checksum
/// of the sender's kernel means nothing to a receiver that is not the kernel).
///
/// # Panics
/// If a command fails.
pub fn connect(one: (&Namespace, &str), other: (&Namespace, &str)) {
    let ((a, a_name), (b, b_name)) = (one, other);
    run(Command::new("ip")
        .args(["link", "add", a_name, "netns", a.name(), "type", "veth"])
        .args(["peer", "name", b_name, "netns", b.name()]));
    for (namespace, interface) in [one, other] {
        namespace.run(&format!("ethtool -K {interface} tx off"));
        namespace.ip(&format!("link set {interface} up"));
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Panics
/// If it fails, with the command and what it said.
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
