//! `make bench`: every scenario of the benchmark, several times in turn, as rows in `target/bench` and a table.
//!
//! `bench [--rounds N] [--seconds S] [--only NAME,...]`. Each run is a process of its own (`bench --one NAME`), because
//! DPDK starts once in a process. Ends with status 1 if a row could not be measured.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use dataplane::Memory;
use turnpike_tests::bench::interrupt;
use turnpike_tests::bench::measure::Measurement;
use turnpike_tests::bench::report::{self, Row};
use turnpike_tests::bench::scenario::{self, Options, SCENARIOS, Scenario};
use turnpike_tests::hugepages::Hugepages;

/// MiB of packet buffers.
const MEMORY_MB: u32 = 64;

struct Arguments {
    rounds: usize,
    seconds: f64,
    scenarios: Vec<&'static Scenario>,
    one: bool,
    no_huge: bool,
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(|arguments| match arguments.scenarios.first() {
        Some(scenario) if arguments.one => one(scenario, &arguments),
        _ => all(&arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        rounds: 5,
        seconds: 1.0,
        scenarios: SCENARIOS.iter().collect(),
        one: false,
        no_huge: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--no-huge" {
            arguments.no_huge = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        let wrong = |error: &dyn std::fmt::Display| format!("`{word} {value}`: {error}");
        match word.as_str() {
            "--rounds" => arguments.rounds = value.parse().map_err(|error| wrong(&error))?,
            "--seconds" => arguments.seconds = value.parse().map_err(|error| wrong(&error))?,
            "--only" => arguments.scenarios = value.split(',').map(scenario::find).collect::<Result<_, _>>()?,
            "--one" => {
                arguments.scenarios = vec![scenario::find(&value)?];
                arguments.one = true;
            }
            _ => {
                return Err(format!(
                    "no option `{word}`: there are --rounds N, --seconds S, --only NAME,..., --one NAME, --no-huge"
                ));
            }
        }
    }
    if arguments.rounds == 0 || arguments.seconds <= 0.0 || !arguments.seconds.is_finite() {
        return Err("--rounds and --seconds are more than 0".to_owned());
    }
    Ok(arguments)
}

/// One run, in this process.
fn one(scenario: &Scenario, arguments: &Arguments) -> Result<(), String> {
    interrupt::end_with_parent()?;
    let options = Options {
        window: Duration::from_secs_f64(arguments.seconds),
        memory: if arguments.no_huge {
            Memory::NoHuge { megabytes: MEMORY_MB }
        } else {
            Memory::Hugepages { megabytes: MEMORY_MB }
        },
    };
    let measured = (scenario.run)(&options)?;
    println!(
        "{}",
        serde_json::to_string(&measured).map_err(|error| error.to_string())?
    );
    Ok(())
}

/// Every scenario in turn, round after round.
fn all(arguments: &Arguments) -> Result<(), String> {
    interrupt::clean_up();
    let mut runs: BTreeMap<&str, Vec<Measurement>> = BTreeMap::new();
    let mut failures = Vec::new();
    for round in 1..=arguments.rounds {
        for scenario in &arguments.scenarios {
            match subprocess(scenario, arguments) {
                Ok(measured) => {
                    eprintln!(
                        "round {round}: {:<16} {:>12.1} {} (by the wall {:.1}, {} packets)",
                        scenario.name, measured.value, scenario.unit, measured.by_wall_clock, measured.count
                    );
                    runs.entry(scenario.name).or_default().push(measured);
                }
                Err(error) => {
                    eprintln!("round {round}: {:<16} FAILED: {error}", scenario.name);
                    failures.push(scenario.name);
                }
            }
        }
    }
    report(arguments, &runs)?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} runs failed: {}", failures.len(), failures.join(", ")))
    }
}

/// One run, in a process of its own. Hugepages are reserved for each run anew: another program of the machine may have
/// given them back.
fn subprocess(scenario: &Scenario, arguments: &Arguments) -> Result<Measurement, String> {
    let (no_huge, _pages) = match Hugepages::reserve(u64::from(MEMORY_MB)) {
        Ok(pages) if !arguments.no_huge => (false, Some(pages)),
        Ok(_) => (true, None),
        Err(why) => {
            eprintln!("bench: ordinary memory instead of hugepages: {why}");
            (true, None)
        }
    };
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--one", scenario.name, "--seconds", &arguments.seconds.to_string()]);
    // As `turnpiked` has it: tables in huge pages.
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    if no_huge {
        command.arg("--no-huge");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let last = out.lines().last().unwrap_or_default();
    match serde_json::from_str(last) {
        Ok(measured) if output.status.success() => Ok(measured),
        _ => Err(format!("{}: {}", output.status, err.trim())),
    }
}

fn report(arguments: &Arguments, runs: &BTreeMap<&str, Vec<Measurement>>) -> Result<(), String> {
    let values = |name: &str| -> Vec<f64> {
        let measured = runs.get(name).map_or(&[][..], Vec::as_slice);
        measured.iter().map(|m| m.value).collect()
    };
    let calibration = report::median(&values("null-io"));
    let mut groups: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    let mut lines = Vec::new();
    for scenario in &arguments.scenarios {
        let peer = scenario.peer.map(|peer| (peer.name, peer.value));
        let Some(row) = Row::new(scenario.name, scenario.unit, &values(scenario.name), peer) else {
            continue;
        };
        let timed = scenario.unit == "ns/packet" && scenario.name != "null-io" && calibration > 0.0;
        let remark = match timed {
            true => format!("{:.1} without null-io", row.value - calibration),
            false => String::new(),
        };
        groups.entry(scenario.group).or_default().push(row.clone());
        lines.push((row, remark));
    }
    print!(
        "{}",
        report::table(lines.iter().map(|(row, remark)| (row, remark.clone())))
    );
    for file in report::write(&groups)? {
        println!("wrote {}", file.display());
    }
    Ok(())
}
