//! `make bench-peers`: the gateway and OVS-DPDK in one wiring, in turn, as rows in `target/bench/peers.json` and a table.
//!
//! `bench-peers [--rounds N] [--seconds S]`. Ends with status 1 if a row could not be measured.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use turnpike_tests::bench::measure::Measurement;
use turnpike_tests::bench::peers::{self, MEMORY_MB, Program, WORKLOADS, Workload};
use turnpike_tests::bench::report::{self, Row};
use turnpike_tests::bench::{gateway, interrupt};
use turnpike_tests::hugepages::Hugepages;

fn main() -> ExitCode {
    interrupt::clean_up();
    match arguments().and_then(|(rounds, window)| compare(rounds, window)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(usize, Duration), String> {
    let (mut rounds, mut seconds) = (3, 2.0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        match word.as_str() {
            "--rounds" => rounds = value.parse().map_err(|error| format!("`{word} {value}`: {error}"))?,
            "--seconds" => seconds = value.parse().map_err(|error| format!("`{word} {value}`: {error}"))?,
            _ => return Err(format!("no option `{word}`: there are --rounds N, --seconds S")),
        }
    }
    let window = Duration::try_from_secs_f64(seconds).map_err(|error| format!("`--seconds {seconds}`: {error}"))?;
    if rounds == 0 || window.is_zero() {
        return Err("--rounds and --seconds are more than 0".to_owned());
    }
    Ok((rounds, window))
}

fn compare(rounds: usize, window: Duration) -> Result<(), String> {
    let ovs = peers::ovs_version()?;
    gateway::leave_the_worker_core()?;
    let mut runs: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    let mut failures = Vec::new();
    for round in 1..=rounds {
        for workload in WORKLOADS {
            for (program, name) in [(Program::Turnpike, "turnpiked"), (Program::Ovs, ovs.as_str())] {
                match guarded(program, workload, window) {
                    Ok(measured) => {
                        eprintln!(
                            "round {round}: {:<17} {name:<15} {:>8.1} ns/packet (by the wall {:.1}, {} packets)",
                            workload.name, measured.value, measured.by_wall_clock, measured.count
                        );
                        runs.entry((workload.name, name)).or_default().push(measured.value);
                    }
                    Err(error) => {
                        eprintln!("round {round}: {:<17} {name:<15} FAILED: {error}", workload.name);
                        failures.push(format!("{} of {name}", workload.name));
                    }
                }
            }
        }
    }
    report(&ovs, &runs)?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} runs failed: {}", failures.len(), failures.join(", ")))
    }
}

/// A fixture that cannot be made panics; the other rows are measured all the same. Hugepages are reserved for each run
/// anew: another program of the machine may have given them back.
fn guarded(program: Program, workload: &Workload, window: Duration) -> Result<Measurement, String> {
    let _pages = Hugepages::reserve(MEMORY_MB)?;
    catch_unwind(AssertUnwindSafe(|| peers::run(program, workload, window)))
        .unwrap_or_else(|_| Err("could not be set up, see above".to_owned()))
}

fn report(ovs: &str, runs: &BTreeMap<(&str, &str), Vec<f64>>) -> Result<(), String> {
    let none = Vec::new();
    let mut rows = Vec::new();
    let mut remarks = Vec::new();
    for workload in WORKLOADS {
        let of = |program| runs.get(&(workload.name, program)).unwrap_or(&none);
        let theirs = of(ovs);
        let name = format!("{ovs}, same wiring and run");
        let peer = (!theirs.is_empty()).then(|| (name.as_str(), report::median(theirs)));
        let Some(row) = Row::new(workload.name, "ns/packet", of("turnpiked"), peer) else {
            continue;
        };
        remarks.push(match workload.goal {
            Some(goal) if row.value <= goal => format!("goal {goal:.0}: met"),
            Some(goal) => format!("goal {goal:.0}: missed"),
            None => String::new(),
        });
        rows.push(row);
    }
    print!("{}", report::table(rows.iter().zip(remarks)));
    for file in report::write(&BTreeMap::from([("peers", rows)]))? {
        println!("wrote {}", file.display());
    }
    Ok(())
}
