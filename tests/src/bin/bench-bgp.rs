//! `make bench-bgp`: the BGP speaker, FRR, BIRD and GoBGP in one wiring, in turn, as rows in `target/bench/bgp.json` and
//! a table.
//!
//! `bench-bgp [--rounds N] [--ipv4 N] [--ipv6 N] [--receivers N] [--programs NAME,NAME] [--only full-table|fan-out]`;
//! `bench-bgp --smoke` is one round of a small table. Ends with status 1 if a row could not be measured.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use turnpike_tests::bench::bgp::programs::Program;
use turnpike_tests::bench::bgp::rows::{self, Runs};
use turnpike_tests::bench::bgp::run::Failure;
use turnpike_tests::bench::bgp::table::Table;
use turnpike_tests::bench::bgp::{ours, run};
use turnpike_tests::bench::{interrupt, report};

const FULL_TABLE: &str = "full table";
const FAN_OUT: &str = "fan-out";

/// What to measure.
struct Options {
    rounds: usize,
    ipv4: usize,
    ipv6: usize,
    receivers: u16,
    programs: Vec<Program>,
    full_table: bool,
    fan_out: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match &words[..] {
        // The process under test, started by the others.
        [option, receivers] if option == "--speaker" => interrupt::end_with_parent()
            .and_then(|()| receivers.parse().map_err(|error| format!("`{receivers}`: {error}")))
            .and_then(ours::speak),
        _ => {
            interrupt::clean_up();
            options(&words).and_then(|options| compare(&options))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-bgp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        rounds: 5,
        ipv4: 1_000_000,
        ipv6: 200_000,
        receivers: 50,
        programs: Program::ALL.to_vec(),
        full_table: true,
        fan_out: true,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--smoke" {
            (options.rounds, options.ipv4, options.ipv6) = (1, 20_000, 4_000);
            continue;
        }
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        let number = || value.parse().map_err(|error| format!("`{word} {value}`: {error}"));
        match word.as_str() {
            "--rounds" => options.rounds = number()?,
            "--ipv4" => options.ipv4 = number()?,
            "--ipv6" => options.ipv6 = number()?,
            "--receivers" => options.receivers = u16::try_from(number()?).unwrap_or(u16::MAX),
            "--programs" => options.programs = programs(value)?,
            "--only" => {
                options.full_table = value == "full-table";
                options.fan_out = value == "fan-out";
            }
            _ => {
                return Err(format!(
                    "no option `{word}`: there are --rounds, --ipv4, --ipv6, --receivers, --programs, --only, --smoke"
                ));
            }
        }
    }
    if options.rounds == 0 || options.ipv4 + options.ipv6 == 0 || !(1..=50).contains(&options.receivers) {
        return Err("--rounds and a size are more than 0, --receivers is 1 to 50".to_owned());
    }
    if !options.full_table && !options.fan_out {
        return Err("--only is full-table or fan-out".to_owned());
    }
    Ok(options)
}

fn programs(names: &str) -> Result<Vec<Program>, String> {
    let known = |name: &str| {
        let program = Program::ALL.into_iter().find(|program| program.name() == name);
        program.ok_or_else(|| format!("no program `{name}`: there are turnpike, frr, bird, gobgp"))
    };
    names.split(',').map(known).collect()
}

fn compare(options: &Options) -> Result<(), String> {
    let programs = options
        .programs
        .iter()
        .map(|program| Ok((*program, program.version()?)));
    let programs: Vec<(Program, String)> = programs.collect::<Result<_, String>>()?;
    let table = Arc::new(Table::new(options.ipv4, options.ipv6));
    for (feed, number) in table.feeds.iter().zip(1..) {
        let (sets, size) = (feed.sets, feed.bytes.len());
        eprintln!(
            "feed {number}: {} prefixes, {sets} attribute sets, {size} bytes",
            table.prefixes.len()
        );
    }
    let ours = Program::Turnpike.name();
    let mut runs = Runs::default();
    let mut misses = Misses::default();
    for round in 1..=options.rounds {
        match guarded(|| run::to_a_sink(&table)) {
            Ok(seconds) => {
                eprintln!("round {round}: generator to a sink {seconds:.2} s");
                runs.sink(ours, seconds);
            }
            Err(error) => misses.failures.push(format!("generator: {error}")),
        }
        for (program, name) in &programs {
            if options.full_table && !misses.left_out.contains(&(*program, FULL_TABLE)) {
                match guarded(|| run::full_table(*program, &table)) {
                    Ok(measured) => {
                        eprintln!("round {round}: {name:<14} {measured:?}");
                        runs.full_table(name, &measured);
                    }
                    Err(failure) => misses.add(*program, FULL_TABLE, failure),
                }
            }
            if options.fan_out && !misses.left_out.contains(&(*program, FAN_OUT)) {
                let both = guarded(|| -> Result<_, Failure> {
                    let one = run::fan_out(*program, &table, 1)?;
                    Ok((one, run::fan_out(*program, &table, options.receivers)?))
                });
                match both {
                    Ok((one, many)) => {
                        eprintln!(
                            "round {round}: {name:<14} to 1 {one:?}, to {} {many:?}",
                            options.receivers
                        );
                        runs.fan_out(name, &one, &many);
                    }
                    Err(failure) => misses.add(*program, FAN_OUT, failure),
                }
            }
        }
    }
    let rows = runs.rows(ours, table.prefixes.len());
    print!("{}", rows::table(&rows));
    for file in report::write(&BTreeMap::from([("bgp", rows)]))? {
        println!("wrote {}", file.display());
    }
    let failures = misses.failures;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} runs failed:\n{}", failures.len(), failures.join("\n")))
    }
}

/// What was not measured.
#[derive(Debug, Default)]
struct Misses {
    failures: Vec<String>,
    /// Other programs that were too slow are waited for once.
    left_out: Vec<(Program, &'static str)>,
}

impl Misses {
    fn add(&mut self, program: Program, what: &'static str, failure: Failure) {
        let name = program.name();
        if failure == Failure::Slow && program != Program::Turnpike {
            eprintln!("{what} of {name}: {failure}: left out from here on");
            self.left_out.push((program, what));
        } else {
            self.failures.push(format!("{what} of {name}: {failure}"));
        }
    }
}

/// A fixture that cannot be made panics; the other rows are measured all the same.
fn guarded<T, E: From<String>>(run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("could not be set up, see above".to_owned().into()))
}
