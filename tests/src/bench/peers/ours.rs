//! `turnpiked` in the wiring.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{DESTINATIONS, MAC, POOL, ROUTER, ROUTER_MAC, SINK, VLAN, WARM_UP, Workload};
use crate::bench::gateway::worker_core;
use crate::bench::measure::{self, Measurement, Reading, ThreadTime};
use crate::turnpiked::{count, rows};
use crate::{Namespace, Scratch, Turnpiked};

/// The replaying port holds a buffer for each frame of the file, beside those on their way.
const BUFFERS: u32 = 131_072;
const MEMORY_MB: u32 = 768;

pub(super) fn run(
    workload: &Workload,
    file: &Path,
    scratch: &Scratch,
    window: Duration,
) -> Result<Measurement, String> {
    let namespace = Namespace::new("gw");
    let mut gateway = Turnpiked::start(&namespace, &config(workload, file, scratch), scratch);
    // Nobody answers ARP behind the sink.
    namespace.ip(&format!(
        "neigh replace {ROUTER} lladdr {ROUTER_MAC} nud permanent dev tp-sink"
    ));
    thread::sleep(WARM_UP);
    let worker = ThreadTime::find(gateway.process().pid(), "tp-worker-0")?;
    let measured = measure::saturated(&worker, window, || reading(&gateway));
    let drops = gateway.show("drops");
    let (connections, wanted) = (
        count(&gateway.show("summary")["connections"]),
        u64::from(workload.flows),
    );
    let status = gateway.terminate();
    if !status.success() {
        return Err(format!("turnpiked ended with {status}"));
    }
    if workload.nat && connections != wanted {
        return Err(format!("{connections} connections instead of {wanted}; drops: {drops}"));
    }
    measured.map_err(|error| format!("{error}; drops since the start: {drops}"))
}

fn config(workload: &Workload, file: &Path, scratch: &Scratch) -> String {
    let base = format!(
        r#"[gateway]
name = "gw"

[dataplane]
workers = [{core}]
poll = "busy"
memory = "hugepages"
memory-mb = {MEMORY_MB}
buffers = {BUFFERS}
connections = 131072

[api]
socket = "{socket}"

[[port]]
name = "source"
device = "{source}"
addresses = ["172.31.0.1/24"]

[[port]]
name = "sink"
device = "{SINK}"
addresses = ["172.31.1.1/24"]

[[route]]
prefix = "{DESTINATIONS}"
via = ["{ROUTER}"]
"#,
        core = worker_core(),
        socket = Turnpiked::socket(scratch).display(),
        source = super::source(file),
    );
    if !workload.nat {
        return base;
    }
    base + &format!(
        r#"
[[vpc]]
id = 1
name = "tenant"
vlan = {{ port = "source", id = {VLAN} }}
mac = "{MAC}"
addresses = ["10.0.0.1/16"]

[[route]]
vrf = "tenant"
prefix = "0.0.0.0/0"
in-vrf = "default"

[[nat.masquerade]]
vpc = "tenant"
pool = ["{POOL}"]
"#
    )
}

fn reading(gateway: &Turnpiked) -> Result<Reading, String> {
    let summary = gateway.try_show("summary")?;
    let worker = rows(&summary["workers"]).first().ok_or("the gateway has no worker")?;
    let sum = |names: &[&str]| names.iter().map(|name| count(&worker[*name])).sum();
    Ok(Reading {
        received: count(&worker["rx"]),
        sent: count(&worker["tx"]),
        lost: sum(&["dropped", "held"]),
        busy: count(&worker["busy_polls"]),
        idle: count(&worker["idle_polls"]),
    })
}
