//! Open vSwitch with its userspace datapath in the wiring, run by itself: no service, no file outside of the folder of
//! the run.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::{DESTINATIONS, MAC, POOL_RANGE, ROUTER_MAC, SINK, VLAN, WARM_UP, Workload, core_masks};
use crate::bench::measure::{self, Measurement, Reading, ThreadTime};
use crate::namespace::run as execute;
use crate::{Namespace, Process, Scratch, eventually};

/// Debian's build with DPDK.
const VSWITCHD: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const START: Duration = Duration::from_secs(30);
/// Largest share of packets that may be missing at the sink: the two counters are read one after the other.
const SKEW: f64 = 0.05;

/// What `ovs-vswitchd --version` says first.
///
/// # Errors
/// If it is not installed.
pub fn version() -> Result<String, String> {
    let output = Command::new(VSWITCHD)
        .arg("--version")
        .output()
        .map_err(|error| format!("{VSWITCHD}: {error}; `./setup.sh bench-peers` installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.lines().next().and_then(|line| line.split(' ').next_back());
    Ok(format!("OVS-DPDK {}", number.unwrap_or("of unknown version")))
}

/// A running switch.
struct Switch<'a> {
    namespace: Namespace,
    folder: &'a Path,
    switch: Process,
    _database: Process,
}

pub(super) fn run(
    workload: &Workload,
    file: &Path,
    scratch: &Scratch,
    window: Duration,
) -> Result<Measurement, String> {
    let switch = Switch::start(scratch);
    switch.vsctl(&[
        "add-port",
        "br0",
        "source",
        "--",
        "set",
        "Interface",
        "source",
        "type=dpdk",
        "ofport_request=1",
        &format!("options:dpdk-devargs=\"{}\"", super::source(file)),
        "--",
        "add-port",
        "br0",
        "sink",
        "--",
        "set",
        "Interface",
        "sink",
        "type=dpdk",
        "ofport_request=2",
        &format!("options:dpdk-devargs=\"{SINK}\""),
    ]);
    for port in ["source", "sink"] {
        let error = switch.vsctl(&["get", "Interface", port, "error"]);
        if error.trim() != "[]" {
            return Err(format!("port {port}: {}", error.trim()));
        }
    }
    thread::sleep(WARM_UP);
    switch.ofctl(&["del-flows", "br0"]);
    switch.ofctl(&["add-flow", "br0", &flow(workload)]);
    thread::sleep(WARM_UP);

    let forwarding = ThreadTime::find(switch.switch.pid(), "pmd-c")?;
    let before = (switch.received()?, switch.delivered()?);
    let measured = measure::saturated(&forwarding, window, || switch.reading())?;
    let (received, delivered) = (switch.received()? - before.0, switch.delivered()? - before.1);
    if (delivered as f64) < received as f64 * (1.0 - SKEW) {
        return Err(format!("{received} packets came, {delivered} reached the sink"));
    }
    if workload.nat {
        let connections = switch.appctl(&["dpctl/dump-conntrack"]).lines().count();
        if connections != workload.flows as usize {
            return Err(format!("{connections} connections instead of {}", workload.flows));
        }
    }
    Ok(measured)
}

/// The same work as the gateway's.
fn flow(workload: &Workload) -> String {
    let route = format!("dec_ttl,mod_dl_src:{MAC},mod_dl_dst:{ROUTER_MAC},output:2");
    if workload.nat {
        format!(
            "in_port=1,dl_vlan={VLAN},ip,nw_dst={DESTINATIONS},\
             actions=strip_vlan,ct(commit,zone=1,nat(src={POOL_RANGE})),{route}"
        )
    } else {
        format!("in_port=1,ip,nw_dst={DESTINATIONS},actions={route}")
    }
}

impl<'a> Switch<'a> {
    fn start(scratch: &'a Scratch) -> Self {
        let folder = scratch.path();
        let namespace = Namespace::new("ovs");
        let at = |name: &str| folder.join(name).display().to_string();
        execute(Command::new("ovsdb-tool").args(["create", &at("conf.db"), SCHEMA]));
        let mut database = namespace.command("ovsdb-server");
        database
            .args([at("conf.db"), format!("--remote=punix:{}", at("db.sock"))])
            .arg(format!("--unixctl={}", at("ovsdb.ctl")));
        let database = Process::spawn("ovsdb-server", environment(database, folder), folder);
        eventually(START, || {
            folder
                .join("db.sock")
                .exists()
                .then_some(())
                .ok_or_else(|| database.log_tail())
        });
        let mut command = namespace.command(VSWITCHD);
        command
            .arg(format!("unix:{}", at("db.sock")))
            .arg(format!("--unixctl={}", at("switch.ctl")));
        let (worker, others) = core_masks();
        let setting = |name: &str, value: &str| format!("other_config:{name}=\"{value}\"");
        vsctl(folder, &["--no-wait", "init"]);
        vsctl(
            folder,
            &[
                "--no-wait",
                "set",
                "Open_vSwitch",
                ".",
                &setting("dpdk-init", "true"),
                &setting("pmd-cpu-mask", &worker),
                &setting("dpdk-lcore-mask", &others),
                &setting("dpdk-extra", "--no-pci --iova-mode=va --in-memory"),
            ],
        );
        let switch = Process::spawn("ovs-vswitchd", environment(command, folder), folder);
        let mut this = Self {
            namespace,
            folder,
            switch,
            _database: database,
        };
        eventually(START, || {
            assert!(
                this.switch.is_running(),
                "ovs-vswitchd ended at its start:\n{}",
                this.switch.log_tail()
            );
            let ready = folder.join("switch.ctl").exists();
            ready.then_some(()).ok_or_else(|| this.switch.log_tail())
        });
        this.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"]);
        this
    }

    fn vsctl(&self, arguments: &[&str]) -> String {
        vsctl(self.folder, arguments)
    }

    fn ofctl(&self, arguments: &[&str]) -> String {
        let mut command = self.namespace.command("ovs-ofctl");
        command.args(arguments);
        execute(&mut environment(command, self.folder))
    }

    fn appctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("ovs-appctl");
        command.arg("-t").arg(self.folder.join("switch.ctl")).args(arguments);
        execute(&mut environment(command, self.folder))
    }

    /// Counters of the forwarding thread. It says how many packets it received and how many cycles it was idle; that
    /// they were delivered is seen at the sink.
    fn reading(&self) -> Result<Reading, String> {
        let text = self.appctl(&["dpif-netdev/pmd-stats-show"]);
        let received = field(&text, "packets received:")?;
        Ok(Reading {
            received,
            sent: received,
            lost: 0,
            busy: field(&text, "processing cycles:")?,
            idle: field(&text, "idle cycles:")?,
        })
    }

    fn received(&self) -> Result<u64, String> {
        self.reading().map(|reading| reading.received)
    }

    /// Packets that the sink took.
    fn delivered(&self) -> Result<u64, String> {
        let text = self.ofctl(&["dump-ports", "br0", "sink"]);
        let sent = text.lines().find(|line| line.trim_start().starts_with("tx "));
        let sent = sent.and_then(|line| line.split("pkts=").nth(1)?.split(',').next()?.parse().ok());
        sent.ok_or_else(|| format!("ovs-ofctl dump-ports says nothing of the sink:\n{text}"))
    }
}

/// Everything of Open vSwitch stays in the folder.
fn environment(mut command: Command, folder: &Path) -> Command {
    for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(name, folder);
    }
    command
}

fn vsctl(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("ovs-vsctl");
    command
        .arg(format!("--db=unix:{}", folder.join("db.sock").display()))
        .arg("--timeout=30")
        .args(arguments);
    execute(&mut environment(command, folder))
}

/// The number behind `label`, of the first thread that has one: there is one.
fn field(text: &str, label: &str) -> Result<u64, String> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("pmd-stats-show without `{label}`:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_the_forwarding_thread_are_read() {
        let text = "pmd thread numa_id 0 core_id 1:\n  packets received: 5120\n  packet recirculations: 0\n  \
                    idle cycles: 40 (0.10%)\n  processing cycles: 39960 (99.90%)\nmain thread:\n  packets received: 0\n";
        assert_eq!(field(text, "packets received:"), Ok(5120));
        assert_eq!(field(text, "idle cycles:"), Ok(40));
        assert!(field(text, "hits:").is_err());
    }
}
