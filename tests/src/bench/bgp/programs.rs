//! Who is measured: each program with its configuration, in its namespace. All are passive, take everything from everybody,
//! tell feeds and the probe nothing and receivers everything, and write to no kernel table.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Group, User, chown};

use super::{FEEDS, HOLD_TIME, LOCAL, LOCAL_AS, LOCAL_V6, PROBE, RECEIVERS, address, asn};
use crate::{Namespace, Process, Scratch};

/// A speaker under comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The `bgp` crate, in a process of its own.
    Turnpike,
    /// FRR's bgpd.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP.
    GoBgp,
}

impl Program {
    /// Every program, ours first.
    pub const ALL: [Self; 4] = [Self::Turnpike, Self::Frr, Self::Bird, Self::GoBgp];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Turnpike => "turnpike",
            Self::Frr => "frr",
            Self::Bird => "bird",
            Self::GoBgp => "gobgp",
        }
    }

    /// Its name with its version.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn version(self) -> Result<String, String> {
        let (program, option, name, word) = match self {
            Self::Turnpike => return Ok("turnpike".to_owned()),
            Self::Frr => (FRR, "--version", "FRR", 2),
            Self::Bird => ("/usr/sbin/bird", "--version", "BIRD", 2),
            Self::GoBgp => ("/usr/bin/gobgpd", "--version", "GoBGP", 2),
        };
        let missing = |error| format!("{program}: {error}: run ./setup.sh bench-bgp");
        let output = Command::new(program).arg(option).output().map_err(missing)?;
        // BIRD writes its version to standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let version = text.split_whitespace().nth(word).unwrap_or("of unknown version");
        Ok(format!("{name} {version}"))
    }

    /// Starts it for `receivers` receivers beside the feeds and the probe.
    ///
    /// # Errors
    /// If its configuration cannot be written.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(self, namespace: &Namespace, receivers: u16, scratch: &Scratch) -> Result<Process, String> {
        let folder = scratch.path();
        let file = |name: &str, text: String| scratch.write(name, &text).display().to_string();
        let command = match self {
            Self::Turnpike => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = namespace.command(program);
                command.args(["--speaker", &receivers.to_string()]);
                command
            }
            Self::Frr => {
                give_to_frr(folder)?;
                let mut command = namespace.command(FRR);
                command.args([
                    "-f",
                    &file("bgpd.conf", frr(receivers)),
                    "-n",
                    "-Z",
                    "-u",
                    "frr",
                    "-g",
                    "frr",
                ]);
                command.args(["--log", "stdout", "--log-level", "warnings"]);
                command.args(["-i", &folder.join("bgpd.pid").display().to_string()]);
                command.args(["--vty_socket", &folder.display().to_string(), "-P", "0"]);
                command
            }
            Self::Bird => {
                let mut command = namespace.command("/usr/sbin/bird");
                command.args(["-f", "-c", &file("bird.conf", bird(receivers))]);
                command.args(["-s", &folder.join("bird.ctl").display().to_string()]);
                command
            }
            Self::GoBgp => {
                let mut command = namespace.command("/usr/bin/gobgpd");
                command.args(["-f", &file("gobgp.toml", gobgp(receivers)), "-l", "warn", "--api-hosts"]);
                command.arg("127.0.0.1:50051");
                command
            }
        };
        Ok(Process::spawn(self.name(), command, folder))
    }
}

const FRR: &str = "/usr/lib/frr/bgpd";

fn give_to_frr(folder: &Path) -> Result<(), String> {
    let user = User::from_name("frr").ok().flatten();
    let group = Group::from_name("frr").ok().flatten();
    let (Some(user), Some(group)) = (user, group) else {
        return Err("there is no user frr: run ./setup.sh".to_owned());
    };
    chown(folder, Some(user.uid), Some(group.gid)).map_err(|error| format!("{}: {error}", folder.display()))
}

/// Every peer, and whether it is told everything.
fn peers(receivers: u16) -> impl Iterator<Item = (u16, bool)> {
    let silent = FEEDS.into_iter().chain([PROBE]).map(|peer| (peer, false));
    silent.chain((RECEIVERS..RECEIVERS + receivers).map(|peer| (peer, true)))
}

fn frr(receivers: u16) -> String {
    let mut text = format!(
        "ip prefix-list none seq 5 deny any\nipv6 prefix-list none6 seq 5 deny any\nrouter bgp {LOCAL_AS}\n \
         bgp router-id {LOCAL}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         timers bgp {} {HOLD_TIME}\n",
        HOLD_TIME / 3
    );
    for (peer, told) in peers(receivers) {
        let at = address(peer);
        let _ = writeln!(text, " neighbor {at} remote-as {}\n neighbor {at} passive", asn(peer));
        let _ = writeln!(text, " neighbor {at} advertisement-interval 0");
        for (family, list) in [("ipv4", "none"), ("ipv6", "none6")] {
            let _ = writeln!(text, " address-family {family} unicast\n  neighbor {at} activate");
            if !told {
                let _ = writeln!(text, "  neighbor {at} prefix-list {list} out");
            }
            text += " exit-address-family\n";
        }
    }
    text
}

fn bird(receivers: u16) -> String {
    let mut text = format!("log stderr {{ warning, error, fatal, bug }};\nrouter id {LOCAL};\nprotocol device {{ }}\n");
    for (peer, told) in peers(receivers) {
        let export = if told { "all" } else { "none" };
        let _ = writeln!(
            text,
            "protocol bgp peer{peer} {{ local {LOCAL} as {LOCAL_AS}; neighbor {} as {}; passive on; hold time {HOLD_TIME}; \
             ipv4 {{ import all; export {export}; }}; \
             ipv6 {{ import all; export {export}; next hop address {LOCAL_V6}; }}; }}",
            address(peer),
            asn(peer)
        );
    }
    text
}

fn gobgp(receivers: u16) -> String {
    let mut text = format!(
        "[global.config]\nas = {LOCAL_AS}\nrouter-id = \"{LOCAL}\"\nlocal-address-list = [\"{LOCAL}\"]\n\
         [global.apply-policy.config]\nexport-policy-list = [\"silence\"]\ndefault-export-policy = \"accept-route\"\n"
    );
    let silent: Vec<_> = peers(0).map(|(peer, _)| format!("\"{}\"", address(peer))).collect();
    let _ = writeln!(
        text,
        "[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"silent\"\nneighbor-info-list = [{}]\n\
         [[policy-definitions]]\nname = \"silence\"\n[[policy-definitions.statements]]\n\
         [policy-definitions.statements.conditions.match-neighbor-set]\nneighbor-set = \"silent\"\n\
         [policy-definitions.statements.actions]\nroute-disposition = \"reject-route\"",
        silent.join(", ")
    );
    for (peer, _) in peers(receivers) {
        let _ = writeln!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
             [neighbors.transport.config]\npassive-mode = true\n[neighbors.timers.config]\nhold-time = {HOLD_TIME}",
            address(peer),
            asn(peer)
        );
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            let _ = writeln!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\""
            );
        }
    }
    text
}
