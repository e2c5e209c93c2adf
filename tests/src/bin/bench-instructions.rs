//! `make bench-instructions`: instructions a packet of each path, counted by callgrind.
//!
//! Writes `target/bench/instructions.json` and a table. `bench-instructions --one NAME PACKETS` is what runs under
//! callgrind. Ends with status 1 if a row could not be counted.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use turnpike_tests::Scratch;
use turnpike_tests::bench::instructions::{SCENARIOS, Scenario, growth, totals};
use turnpike_tests::bench::interrupt;
use turnpike_tests::bench::report::{self, Row};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => all(),
        ["--one", name, packets] => one(name, packets),
        _ => Err("bench-instructions takes no arguments".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Forwards packets and prints how many.
fn one(name: &str, packets: &str) -> Result<(), String> {
    interrupt::end_with_parent()?;
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.ok_or_else(|| format!("no scenario `{name}`"))?;
    let packets = packets.parse().map_err(|error| format!("`{packets}`: {error}"))?;
    println!("{}", (scenario.run)(packets)?);
    Ok(())
}

fn all() -> Result<(), String> {
    interrupt::clean_up();
    let scratch = Scratch::new();
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        let value = count(scenario, &scratch).map_err(|error| format!("{}: {error}", scenario.name))?;
        eprintln!("{:<12} {value:.1} instructions a packet", scenario.name);
        rows.extend(Row::new(scenario.name, "instructions/packet", &[value], None));
    }
    let null = rows.first().map_or(0.0, |row| row.value);
    let remark = |row: &Row| match row.name.as_str() {
        "null-io" => String::new(),
        _ => format!("{:.1} without null-io", row.value - null),
    };
    print!("{}", report::table(rows.iter().map(|row| (row, remark(row)))));
    for file in report::write(&BTreeMap::from([("instructions", rows.clone())]))? {
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// Instructions a packet: the difference of two runs.
fn count(scenario: &Scenario, scratch: &Scratch) -> Result<f64, String> {
    let mut runs = Vec::new();
    for packets in [scenario.packets, scenario.packets * 2] {
        let name = format!("{}.{packets}", scenario.name);
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = Command::new("valgrind")
            .args([
                "--tool=callgrind",
                "--separate-threads=yes",
                "--fair-sched=yes",
                "--quiet",
            ])
            .arg(format!("--callgrind-out-file={}", scratch.path().join(&name).display()))
            .arg(program)
            .args(["--one", scenario.name, &packets.to_string()])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot start valgrind: {error}; `./setup.sh bench-instructions` installs it"))?;
        let out = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let forwarded: u64 = out
            .parse()
            .map_err(|_| format!("{}: {}{out}", output.status, String::from_utf8_lossy(&output.stderr)))?;
        runs.push((forwarded, totals(scratch.path(), &name)?));
    }
    let [(few, shorter), (many, longer)] = &runs[..] else {
        return Err("two runs were made".to_owned());
    };
    if many <= few {
        return Err(format!("{many} packets in the longer run, {few} in the shorter one"));
    }
    Ok(growth(shorter, longer) as f64 / (many - few) as f64)
}
