//! FRR as a fabric peer: zebra and bgpd of Debian's package, without systemd, in a namespace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Group, User, chown};

use crate::namespace::run;
use crate::{Namespace, Process, Scratch, eventually};

const DAEMONS: &str = "/usr/lib/frr";
const START: Duration = Duration::from_secs(15);

/// zebra and bgpd in one namespace. The namespace's addresses and kernel routes are the scenario's to set.
#[derive(Debug)]
pub struct Frr {
    folder: PathBuf,
    namespace: String,
    bgpd: Process,
    _zebra: Process,
}

impl Frr {
    /// Starts both daemons; `bgp` is bgpd's configuration.
    ///
    /// # Panics
    /// If FRR is not installed or does not start.
    pub fn start(namespace: &Namespace, bgp: &str, scratch: &Scratch) -> Self {
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
        for (name, text) in [
            ("zebra.conf", "log stdout\n"),
            ("bgpd.conf", &format!("log stdout\n{bgp}")),
        ] {
            std::fs::write(folder.join(name), text).expect("folder was made above");
        }
        chown(&folder, Some(user.uid), Some(group.gid)).expect("root may give a folder away");
        let zebra = daemon("zebra", namespace.name(), &folder);
        eventually(START, || exists(&folder.join("zserv.api")));
        let bgpd = daemon("bgpd", namespace.name(), &folder);
        eventually(START, || exists(&folder.join("bgpd.vty")));
        Self {
            folder,
            namespace: namespace.name().to_owned(),
            bgpd,
            _zebra: zebra,
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
        self.bgpd.signal(Signal::SIGKILL);
        self.bgpd.wait(Duration::from_secs(5)).expect("SIGKILL ends a process");
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
        // Left behind by the killed one; its reappearance shows that the new one listens.
        let _ = std::fs::remove_file(self.folder.join("bgpd.vty"));
        self.bgpd = daemon("bgpd", &self.namespace, &self.folder);
        eventually(START, || exists(&self.folder.join("bgpd.vty")));
    }
}

fn daemon(name: &str, namespace: &str, folder: &Path) -> Process {
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", namespace, &format!("{DAEMONS}/{name}")]);
    command.args(["-u", "frr", "-g", "frr", "--log", "stdout"]);
    command.arg("--vty_socket").arg(folder);
    command.arg("-z").arg(folder.join("zserv.api"));
    command.arg("-i").arg(folder.join(format!("{name}.pid")));
    command.arg("-f").arg(folder.join(format!("{name}.conf")));
    Process::spawn(name, command, folder)
}

fn exists(path: &Path) -> Result<(), String> {
    crate::wait::ensure(path.exists(), || format!("{} does not exist", path.display()))
}
