//! FRR as a fabric peer: zebra and bgpd of Debian's package, without systemd, in a namespace.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::{Group, User, chown};

use crate::namespace::run;
use crate::wait::SOON;
use crate::{Namespace, Process, Scratch, eventually};

const DAEMONS: &str = "/usr/lib/frr";

/// How FRR's daemons are started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Configuration of zebra.
    pub zebra: &'a str,
    /// More arguments of zebra.
    pub zebra_arguments: &'a [&'a str],
    /// Each further daemon: its name, its configuration, more arguments.
    pub daemons: &'a [(&'a str, &'a str, &'a [&'a str])],
}

/// zebra and other daemons, mostly bgpd, in one namespace. The namespace's addresses and kernel routes are the scenario's
/// to set.
#[derive(Debug)]
pub struct Frr {
    folder: PathBuf,
    namespace: String,
    /// zebra first.
    daemons: Vec<Daemon>,
}

#[derive(Debug)]
struct Daemon {
    name: String,
    arguments: Vec<String>,
    process: Process,
}

impl Frr {
    /// Starts both daemons; `bgp` is bgpd's configuration.
    ///
    /// # Panics
    /// If FRR is not installed or does not start.
    pub fn start(namespace: &Namespace, bgp: &str, scratch: &Scratch) -> Self {
        let setup = Setup {
            daemons: &[("bgpd", bgp, &[])],
            ..Setup::default()
        };
        Self::start_with(namespace, setup, scratch)
    }

    /// Starts zebra and the daemons of `setup`.
    ///
    /// # Panics
    /// If FRR is not installed or does not start.
    pub fn start_with(namespace: &Namespace, setup: Setup<'_>, scratch: &Scratch) -> Self {
        let folder = scratch.path().join(namespace.name());
        std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let user = User::from_name("frr")
            .ok()
            .flatten()
            .expect("user frr exists: run ./setup.sh");
        let group = Group::from_name("frr")
            .ok()
            .flatten()
            .expect("group frr exists: run ./setup.sh");
        chown(&folder, Some(user.uid), Some(group.gid)).expect("root may give a folder away");
        let mut frr = Self {
            folder,
            namespace: namespace.name().to_owned(),
            daemons: Vec::new(),
        };
        let zebra = ("zebra", setup.zebra, setup.zebra_arguments);
        for (name, text, arguments) in [zebra].iter().chain(setup.daemons) {
            frr.add(name, text, arguments);
        }
        frr
    }

    /// Starts one more daemon.
    ///
    /// # Panics
    /// If it does not start.
    pub fn add(&mut self, name: &str, text: &str, arguments: &[&str]) {
        let conf = self.folder.join(format!("{name}.conf"));
        std::fs::write(conf, format!("log stdout\n{text}")).expect("the folder was made at the start");
        let mut arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        if name == "bfdd" {
            // Its control socket is one of the whole host otherwise.
            let socket = self.folder.join("bfdd.sock");
            arguments.extend(["--bfdctl".to_owned(), socket.display().to_string()]);
        }
        let process = self.spawn(name, &arguments);
        self.daemons.push(Daemon {
            name: name.to_owned(),
            arguments,
            process,
        });
    }

    /// Sends a signal to a daemon.
    ///
    /// # Panics
    /// If the scenario does not run it.
    pub fn signal(&mut self, daemon: &str, signal: Signal) {
        let found = self.daemons.iter_mut().find(|known| known.name == daemon);
        found.expect("the scenario runs it").process.signal(signal);
    }

    /// Starts a daemon and waits until it answers.
    fn spawn(&self, name: &str, arguments: &[String]) -> Process {
        let socket = if name == "zebra" {
            "zserv.api".to_owned()
        } else {
            format!("{name}.vty")
        };
        // Left behind by a killed one; its reappearance shows that the new one listens.
        let _ = std::fs::remove_file(self.folder.join(&socket));
        let process = daemon(name, &self.namespace, &self.folder, arguments);
        eventually(SOON, || exists(&self.folder.join(&socket)));
        process
    }

    /// Kills every daemon with SIGKILL: what they wrote to the kernel stays.
    pub fn kill(&mut self) {
        for daemon in &mut self.daemons {
            daemon.process.signal(Signal::SIGKILL);
            let ended = daemon.process.wait(SOON);
            ended.expect("SIGKILL ends a process");
        }
    }

    /// Starts every daemon again as it was started first.
    pub fn restart(&mut self) {
        for i in 0..self.daemons.len() {
            let process = self.spawn(&self.daemons[i].name, &self.daemons[i].arguments);
            self.daemons[i].process = process;
        }
    }

    /// Runs commands of the FRR shell, one after the other, and returns what they print.
    ///
    /// # Panics
    /// If the shell fails.
    pub fn vtysh(&self, commands: &[&str]) -> String {
        let mut shell = std::process::Command::new("vtysh");
        shell.arg("--vty_socket").arg(&self.folder);
        for command in commands {
            shell.args(["-c", command]);
        }
        run(&mut shell)
    }

    /// What a `show … json` command prints.
    ///
    /// # Panics
    /// If it is no JSON.
    pub fn show(&self, command: &str) -> serde_json::Value {
        let text = self.vtysh(&[&format!("show {command} json")]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("show {command} json: {error}\n{text}"))
    }

    /// State of the session with `peer` as this side sees it, as in "Established".
    pub fn session(&self, peer: &str) -> String {
        self.show("bgp neighbors")[peer]["bgpState"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned()
    }

    /// Kills bgpd with SIGKILL: no NOTIFICATION, the kernel closes its sessions.
    pub fn kill_bgpd(&mut self) {
        let bgpd = self.bgpd();
        bgpd.process.signal(Signal::SIGKILL);
        let ended = bgpd.process.wait(SOON);
        ended.expect("SIGKILL ends a process");
    }

    /// Adds to the configuration with which bgpd starts the next time.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn extend(&self, bgp: &str) {
        let path = self.folder.join("bgpd.conf");
        let text = std::fs::read_to_string(&path).expect("it was written at the start");
        std::fs::write(&path, text + bgp).expect("it was written at the start");
    }

    /// Starts bgpd again with its configuration.
    pub fn restart_bgpd(&mut self) {
        let arguments = self.bgpd().arguments.clone();
        self.bgpd().process = self.spawn("bgpd", &arguments);
    }

    fn bgpd(&mut self) -> &mut Daemon {
        let bgpd = self.daemons.iter_mut().find(|daemon| daemon.name == "bgpd");
        bgpd.expect("the scenario runs bgpd")
    }
}

fn daemon(name: &str, namespace: &str, folder: &Path, arguments: &[String]) -> Process {
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", namespace, &format!("{DAEMONS}/{name}")]);
    command.args(["-u", "frr", "-g", "frr", "--log", "stdout"]);
    command.arg("--vty_socket").arg(folder);
    command.arg("-z").arg(folder.join("zserv.api"));
    command.arg("-i").arg(folder.join(format!("{name}.pid")));
    command.arg("-f").arg(folder.join(format!("{name}.conf")));
    command.args(arguments);
    Process::spawn(name, command, folder)
}

fn exists(path: &Path) -> Result<(), String> {
    crate::wait::ensure(path.exists(), || format!("{} does not exist", path.display()))
}
