//! `make bench-routes`: from route changes to tables, to workers and to the kernel, as rows in `target/bench` and a table.
//!
//! `bench-routes [--rounds N] [--seconds S] [--v4 N] [--v6 N] [--kernel N] [--vrfs N] [--only PART,...]`. Each run of a part is a
//! process of its own (`bench-routes --one PART`). With sizes of one's own the rows go to `routes-small.json`, for their
//! names speak of the full ones. Ends with status 1 if a row could not be measured.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::Duration;

use turnpike_tests::bench::interrupt;
use turnpike_tests::bench::report::{self, Row};
use turnpike_tests::bench::table::{Figures, PARTS, Part, ROWS, Sizes};

struct Arguments {
    rounds: usize,
    sizes: Sizes,
    parts: Vec<&'static Part>,
    one: bool,
    /// Words that say the sizes, for the processes of the parts.
    words: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(|arguments| match arguments.parts.first() {
        Some(part) if arguments.one => one(part, &arguments.sizes),
        _ => all(&arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-routes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        rounds: 5,
        sizes: Sizes::FULL,
        parts: PARTS.iter().collect(),
        one: false,
        words: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        let sizes = &mut arguments.sizes;
        match word.as_str() {
            "--rounds" => arguments.rounds = parse(&word, &value)?,
            "--seconds" => {
                let seconds: f64 = parse(&word, &value)?;
                sizes.window = Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{word}`: {error}"))?;
            }
            "--v4" => sizes.v4 = parse(&word, &value)?,
            "--v6" => sizes.v6 = parse(&word, &value)?,
            "--kernel" => sizes.kernel = parse(&word, &value)?,
            "--vrfs" => sizes.vrfs = parse(&word, &value)?,
            "--only" => arguments.parts = value.split(',').map(part).collect::<Result<_, _>>()?,
            "--one" => {
                arguments.parts = vec![part(&value)?];
                arguments.one = true;
            }
            _ => {
                return Err(format!(
                    "no option `{word}`: there are --rounds N, --seconds S, --v4 N, --v6 N, --kernel N, --vrfs N, \
                     --only PART,..., --one PART"
                ));
            }
        }
        if !["--rounds", "--only", "--one"].contains(&word.as_str()) {
            arguments.words.extend([word, value]);
        }
    }
    let sizes = &arguments.sizes;
    let smallest = [
        sizes.v4,
        sizes.v6,
        sizes.kernel,
        usize::from(sizes.vrfs),
        arguments.rounds,
    ];
    if smallest.contains(&0) || sizes.window.is_zero() {
        return Err("every number is more than 0".to_owned());
    }
    Ok(arguments)
}

fn parse<T: FromStr<Err: std::fmt::Display>>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("`{word} {value}`: {error}"))
}

fn part(name: &str) -> Result<&'static Part, String> {
    let names = || PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
    PARTS
        .iter()
        .find(|part| part.name == name)
        .ok_or_else(|| format!("no part `{name}`: there are {}", names()))
}

/// One run, in this process.
fn one(part: &Part, sizes: &Sizes) -> Result<(), String> {
    interrupt::end_with_parent()?;
    let figures = (part.run)(sizes)?;
    println!(
        "{}",
        serde_json::to_string(&figures).map_err(|error| error.to_string())?
    );
    Ok(())
}

/// Every part in turn, round after round.
fn all(arguments: &Arguments) -> Result<(), String> {
    interrupt::clean_up();
    let mut runs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut failures = Vec::new();
    for round in 1..=arguments.rounds {
        for part in &arguments.parts {
            match subprocess(part, arguments) {
                Ok(figures) => {
                    for (name, value) in figures {
                        eprintln!("round {round}: {name:<36} {value:>14.2}");
                        runs.entry(name).or_default().push(value);
                    }
                }
                Err(error) => {
                    eprintln!("round {round}: {} FAILED: {error}", part.name);
                    failures.push(part.name);
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

/// One run, in a process of its own, with tables in huge pages as `turnpiked` has them.
fn subprocess(part: &Part, arguments: &Arguments) -> Result<Figures, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--one", part.name]).args(&arguments.words);
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let out = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str(out.lines().last().unwrap_or_default()) {
        Ok(figures) if output.status.success() => Ok(figures),
        _ => Err(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

fn report(arguments: &Arguments, runs: &BTreeMap<String, Vec<f64>>) -> Result<(), String> {
    let of = |name: &str| runs.get(name).map_or(&[][..], Vec::as_slice);
    let rows: Vec<Row> = ROWS
        .iter()
        .filter_map(|row| {
            let peer = row.peer.map(|(name, figure)| (name, report::median(of(figure))));
            Row::new(
                row.name,
                row.unit,
                of(row.name),
                peer.filter(|(_, figure)| *figure > 0.0),
            )
        })
        .collect();
    print!("{}", report::table(rows.iter().map(|row| (row, String::new()))));
    let same = Sizes {
        window: Sizes::FULL.window,
        ..arguments.sizes
    };
    let group = if same == Sizes::FULL { "routes" } else { "routes-small" };
    for file in report::write(&BTreeMap::from([(group, rows)]))? {
        println!("wrote {}", file.display());
    }
    Ok(())
}
