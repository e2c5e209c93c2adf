//! `make bench-nat`: the connection table and NAT alone, as rows in `target/bench/nat.json` and a table; beside them
//! Linux's nf_conntrack with nftables and OVS-DPDK's conntrack.
//!
//! `bench-nat [--rounds N] [--scale D] [--only NAME,...] [--no-peers]`. Each run is a process of its own
//! (`bench-nat --one NAME`), so that none finds the memory of another. With `--scale` all sizes are divided by D, and
//! the rows go to `nat-scaled.json`: they show that the program runs, nothing else. Ends with status 1 if a row could not
//! be measured.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use turnpike_tests::bench::connections::{self, RATE, SCENARIOS, Scenario};
use turnpike_tests::bench::peers::{self, MEMORY_MB, Program, Workload};
use turnpike_tests::bench::report::{self, Row};
use turnpike_tests::bench::{interrupt, kernel};
use turnpike_tests::hugepages::Hugepages;

struct Arguments {
    rounds: usize,
    scale: u32,
    rows: Vec<&'static Scenario>,
    one: bool,
    peers: bool,
}

/// What other programs were found to cost.
#[derive(Default)]
struct Peers {
    kernel_hit: Vec<f64>,
    kernel_new: Vec<f64>,
    ovs_hit: Vec<f64>,
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(|arguments| match arguments.rows.first() {
        Some(row) if arguments.one => (row.run)(arguments.scale).map(|value| println!("{value}")),
        _ => all(&arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-nat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        rounds: 5,
        scale: 1,
        rows: SCENARIOS.iter().collect(),
        one: false,
        peers: true,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--no-peers" {
            arguments.peers = false;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        let wrong = |error: &dyn std::fmt::Display| format!("`{word} {value}`: {error}");
        match word.as_str() {
            "--rounds" => arguments.rounds = value.parse().map_err(|error| wrong(&error))?,
            "--scale" => arguments.scale = value.parse().map_err(|error| wrong(&error))?,
            "--only" => arguments.rows = value.split(',').map(connections::find).collect::<Result<_, _>>()?,
            "--one" => {
                arguments.rows = vec![connections::find(&value)?];
                arguments.one = true;
            }
            _ => {
                return Err(format!(
                    "no option `{word}`: there are --rounds N, --scale D, --only NAME,..., --one NAME, --no-peers"
                ));
            }
        }
    }
    if arguments.rounds == 0 || !(1..=1000).contains(&arguments.scale) {
        return Err("--rounds is more than 0, --scale from 1 to 1000".to_owned());
    }
    Ok(arguments)
}

/// Every row in turn, round after round, and the peers after each round.
fn all(arguments: &Arguments) -> Result<(), String> {
    interrupt::clean_up();
    let mut runs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut peers = Peers::default();
    let mut failures = Vec::new();
    for round in 1..=arguments.rounds {
        for row in &arguments.rows {
            match subprocess(row, arguments.scale) {
                Ok(value) => {
                    eprintln!("round {round}: {:<32} {value:>12.1} {}", row.name, row.unit);
                    runs.entry(row.name).or_default().push(value);
                }
                Err(error) => {
                    eprintln!("round {round}: {:<32} FAILED: {error}", row.name);
                    failures.push(row.name);
                }
            }
        }
        if arguments.peers {
            failures.extend(measure_peers(round, arguments.scale, &mut peers));
        }
    }
    report(arguments, &runs, &peers)?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} runs failed: {}", failures.len(), failures.join(", ")))
    }
}

/// One run, in a process of its own.
fn subprocess(row: &Scenario, scale: u32) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(["--one", row.name, "--scale", &scale.to_string()])
        // As `turnpiked` has it: tables in huge pages.
        .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start: {error}"))?;
    let out = String::from_utf8_lossy(&output.stdout);
    match out.trim().parse() {
        Ok(value) if output.status.success() => Ok(value),
        _ => Err(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// A fixture that cannot be made panics; what else there is is measured all the same. Gives what failed.
fn measure_peers(round: usize, scale: u32, peers: &mut Peers) -> Vec<&'static str> {
    let mut failures = Vec::new();
    match catch_unwind(|| kernel::run(scale)).unwrap_or_else(|_| unable()) {
        Ok(found) => {
            eprintln!(
                "round {round}: nf_conntrack + nftables: hit {:.0} ns, new {:.0} ns",
                found.hit, found.new
            );
            peers.kernel_hit.push(found.hit);
            peers.kernel_new.push(1e9 / found.new);
        }
        Err(error) => {
            eprintln!("round {round}: nf_conntrack + nftables FAILED: {error}");
            failures.push("nf_conntrack");
        }
    }
    let ovs = || -> Result<f64, String> {
        peers::ovs_version()?;
        let _pages = Hugepages::reserve(MEMORY_MB)?;
        let workload = Workload {
            name: "nat-hit-64k",
            flows: 64_000 / scale,
            nat: true,
            goal: None,
        };
        peers::run(Program::Ovs, &workload, Duration::from_secs(2)).map(|measured| measured.value)
    };
    match catch_unwind(AssertUnwindSafe(ovs)).unwrap_or_else(|_| unable()) {
        Ok(value) => {
            eprintln!("round {round}: OVS-DPDK, source and sink included: hit {value:.0} ns");
            peers.ovs_hit.push(value);
        }
        Err(error) => {
            eprintln!("round {round}: OVS-DPDK FAILED: {error}");
            failures.push("OVS-DPDK");
        }
    }
    failures
}

fn unable<T>() -> Result<T, String> {
    Err("could not be set up, see above".to_owned())
}

fn report(arguments: &Arguments, runs: &BTreeMap<&str, Vec<f64>>, peers: &Peers) -> Result<(), String> {
    const KERNEL: &str = "nf_conntrack + nftables, same run, without what forwarding costs";
    let mut rows = Vec::new();
    let mut remarks = Vec::new();
    let mut add = |name: &str, unit: &str, values: &[f64], peer: Option<(&str, f64)>, remark: String| {
        if let Some(row) = Row::new(name, unit, values, peer) {
            rows.push(row);
            remarks.push(remark);
        }
    };
    for row in &arguments.rows {
        let values = runs.get(row.name).map_or(&[][..], Vec::as_slice);
        let theirs = match row.name {
            "nat-hit-64k" => peers.kernel_hit.as_slice(),
            "nat-new" => peers.kernel_new.as_slice(),
            _ => &[],
        };
        let peer = (!theirs.is_empty()).then(|| (KERNEL, report::median(theirs)));
        let median = report::median(values);
        let remark = match row.goal {
            _ if arguments.scale > 1 => format!("sizes divided by {}", arguments.scale),
            None => String::new(),
            Some(goal) if (row.unit == RATE && median >= goal) || (row.unit != RATE && median <= goal) => {
                format!("goal {goal:.0}: met")
            }
            Some(goal) => format!("goal {goal:.0}: missed"),
        };
        add(row.name, row.unit, values, peer, remark);
    }
    let none = String::new;
    add(
        "peer-nf-conntrack-hit-64k",
        "ns/packet",
        &peers.kernel_hit,
        None,
        none(),
    );
    add("peer-nf-conntrack-new", RATE, &peers.kernel_new, None, none());
    let wiring = "source and sink included".to_owned();
    add("peer-ovs-dpdk-hit-64k", "ns/packet", &peers.ovs_hit, None, wiring);
    print!("{}", report::table(rows.iter().zip(remarks)));
    let group = if arguments.scale > 1 { "nat-scaled" } else { "nat" };
    for file in report::write(&BTreeMap::from([(group, rows)]))? {
        println!("wrote {}", file.display());
    }
    Ok(())
}
