//! DPDK's own tables over the same prefixes and destinations: `dpdk-test-fib` of the DPDK project, in its own process.
//!
//! It prints cycles of the time stamp counter for each operation; the counter's rate is in its log.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use net::Prefix;

use super::lookup::destinations;
use super::world::PEERS;
use super::{Figures, Sizes, figures};
use crate::Scratch;
use crate::bench::random::Random;
use crate::hugepages::Hugepages;

/// The rows of this part.
pub const ROWS: &[&str] = &["peer-fib-v4-per-s", "peer-lpm-v4-per-s", "peer-fib-v6-per-s"];

/// Prefixes that `rte_lpm` gets at most: adding one takes a time that grows with their number.
const LPM: usize = 200_000;

/// `rte_fib`, `rte_lpm` and `rte_fib6`.
///
/// # Errors
/// If the program is missing, or what it says cannot be understood.
pub fn run(sizes: &Sizes) -> Result<Figures, String> {
    let mut random = Random::new(4);
    let prefixes = random.prefixes_v4(sizes.v4);
    let prefixes_v6 = random.prefixes_v6(sizes.v6);
    let inside = destinations(&mut random, &prefixes);
    let inside_v6 = destinations(&mut random, &prefixes_v6);
    let few = &prefixes[..prefixes.len().min(LPM)];
    let inside_few = destinations(&mut random, few);
    let fib = ask(&prefixes, &inside, &["-g", "256"])?;
    let lpm = ask(few, &inside_few, &["-g", "256", "-c"])?;
    // Each of the longer prefixes needs one table of 256 entries at each of its bytes beyond the third, at most.
    let tables = (prefixes_v6.len() * 3).to_string();
    let fib6 = ask(&prefixes_v6, &inside_v6, &["-6", "-g", &tables])?;
    figures([
        ("peer-fib-v4-per-s", rate(&fib, "AVG FIB lookup ")?),
        ("peer-lpm-v4-per-s", rate(&lpm, "AVG LPM lookup ")?),
        ("peer-fib-v6-per-s", rate(&fib6, "AVG FIB lookup ")?),
    ])
}

/// Runs the program; returns what it printed.
fn ask(prefixes: &[Prefix], destinations: &[IpAddr], options: &[&str]) -> Result<String, String> {
    let (mut routes, mut lookups) = (String::new(), String::new());
    for (prefix, next_hop) in prefixes.iter().zip((1..=PEERS).cycle()) {
        writeln!(routes, "{prefix} {next_hop}").map_err(|error| error.to_string())?;
    }
    for destination in destinations {
        writeln!(lookups, "{destination}").map_err(|error| error.to_string())?;
    }
    let scratch = Scratch::new();
    let (routes, lookups) = (scratch.write("routes", &routes), scratch.write("lookups", &lookups));
    let megabytes = 512 + prefixes.len() / 300 * if options.contains(&"-6") { 2 } else { 1 };
    let pages = Hugepages::reserve(megabytes as u64);
    let mut command = Command::new("dpdk-test-fib");
    match &pages {
        Ok(_) => command.args(["--in-memory", "-m", &megabytes.to_string()]),
        Err(_) => command.args(["--no-huge", "--no-shconf", "-m", &megabytes.to_string()]),
    };
    command.args([
        "--no-pci",
        "--iova-mode=va",
        "-l",
        "1",
        "--log-level=lib.eal:debug",
        "--",
    ]);
    command.arg("-f").arg(&routes).arg("-t").arg(&lookups).args(options);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start dpdk-test-fib (Debian: dpdk-dev): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(text.into_owned())
    } else {
        let end: Vec<_> = text.lines().rev().take(5).collect();
        Err(format!("{command:?}: {}: {}", output.status, end.join(" / ")))
    }
}

/// Operations a second from the cycles that one takes.
fn rate(output: &str, name: &str) -> Result<f64, String> {
    let after = |name: &str| {
        let at = output.find(name).map(|at| &output[at + name.len()..]);
        let number = at.map(|text| {
            text.trim_start_matches('~')
                .split_whitespace()
                .next()
                .unwrap_or_default()
        });
        number
            .and_then(|number| number.parse::<f64>().ok())
            .ok_or_else(|| format!("dpdk-test-fib did not say `{name}`"))
    };
    Ok(after("TSC frequency is ")? * 1000.0 / after(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_become_a_rate() {
        let output = "EAL: TSC frequency is ~2000000 KHz\nAVG FIB add 900\nAVG FIB lookup 20.0\n";
        assert_eq!(rate(output, "AVG FIB lookup "), Ok(1e8));
        assert!(rate(output, "AVG LPM lookup ").is_err());
    }
}
