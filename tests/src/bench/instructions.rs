//! Instructions a packet, as callgrind counts them: the figures that do not move with the machine's load.
//!
//! A scenario runs under callgrind twice, the second time for twice as many packets; what the worker's thread executed
//! more, divided by the packets that it forwarded more, is what a packet takes. Set-up is the same in both and falls
//! out. Generator and sink run on the same thread and are part of it; the row `null-io` says how much they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dataplane::Memory;

use super::gateway::{Gateway, Plan};
use super::measure::Reading;
use super::random::Random;
use super::{nat, null, routes};

/// Ordinary memory: valgrind knows no hugepages.
pub const MEMORY: Memory = Memory::NoHuge { megabytes: 64 };

/// Destinations, prefixes and connections: callgrind has no cache to outgrow.
pub const SMALL: usize = 4096;
/// First packets of connections that `nat-new` has in store.
const NEW: u32 = 1 << 18;

/// One row.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Packets of the shorter run, set-up included.
    pub packets: u64,
    /// Forwards at least so many packets and says how many it were.
    pub run: fn(u64) -> Result<u64, String>,
}

/// Every row.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "null-io",
        packets: 100_000,
        run: null::count,
    },
    Scenario {
        name: "forward-v4",
        packets: 50_000,
        run: |packets| forward(packets, false),
    },
    Scenario {
        name: "forward-v6",
        packets: 50_000,
        run: |packets| forward(packets, true),
    },
    Scenario {
        name: "nat-hit",
        packets: 100_000,
        run: known,
    },
    Scenario {
        name: "nat-new",
        packets: 40_000,
        run: first,
    },
];

fn forward(packets: u64, v6: bool) -> Result<u64, String> {
    let mut random = Random::new(1);
    let prefixes = if v6 {
        random.prefixes_v6(SMALL)
    } else {
        random.prefixes_v4(SMALL)
    };
    let frames = routes::frames_into(&mut random, &prefixes, SMALL);
    let plan = Plan {
        prefixes,
        connections: 1024,
        masquerade: false,
        offload: false,
        memory: MEMORY,
    };
    run(Gateway::start(plan, &frames)?, packets).map(|reading| reading.sent)
}

fn known(packets: u64) -> Result<u64, String> {
    run(nat::established(MEMORY, SMALL as u32)?, packets).map(|reading| reading.sent)
}

fn first(packets: u64) -> Result<u64, String> {
    let mut frames = nat::first_packets(NEW);
    Random::new(2).shuffle(&mut frames);
    let reading = run(Gateway::start(nat::plan(MEMORY, NEW), &frames)?, packets)?;
    if reading.sent > u64::from(NEW) {
        return Err(format!("{} packets, but only {NEW} first ones", reading.sent));
    }
    Ok(reading.sent)
}

fn run(gateway: Gateway, packets: u64) -> Result<Reading, String> {
    gateway.await_sent(&Reading::default(), packets)?;
    let reading = gateway.finish();
    if reading.lost > 0 {
        return Err(format!("{} packets were not forwarded", reading.lost));
    }
    Ok(reading)
}

/// Instructions by thread, from the files `<name>.<thread>` that callgrind wrote to `folder`.
///
/// # Errors
/// If a file cannot be read or holds no total.
pub fn totals(folder: &Path, name: &str) -> Result<BTreeMap<String, u64>, String> {
    let mut totals = BTreeMap::new();
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(thread) = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')) else {
            continue;
        };
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        let total = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")))
            .and_then(|total| total.trim().parse().ok())
            .ok_or_else(|| format!("{}: callgrind wrote no total", path.display()))?;
        totals.insert(thread.to_owned(), total);
    }
    Ok(totals)
}

/// The growth of the thread that grew most: the worker, for every other one has nothing to do with packets.
pub fn growth(shorter: &BTreeMap<String, u64>, longer: &BTreeMap<String, u64>) -> u64 {
    let grown = longer
        .iter()
        .map(|(thread, total)| total.saturating_sub(shorter.get(thread).copied().unwrap_or(0)));
    grown.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    #[test]
    fn the_thread_that_grew_is_found_in_callgrinds_files() {
        let scratch = Scratch::new();
        for (name, main, worker) in [("a", 900, 100), ("b", 901, 300)] {
            scratch.write(&format!("{name}-01"), &format!("events: Ir\n1 2\ntotals: {main}\n"));
            scratch.write(&format!("{name}-02"), &format!("events: Ir\nsummary: {worker}\n"));
        }
        let read = |name| totals(scratch.path(), name).expect("both have totals");
        assert_eq!(growth(&read("a"), &read("b")), 200);
        scratch.write("c-01", "events: Ir\n");
        assert!(totals(scratch.path(), "c").is_err_and(|error| error.contains("no total")));
    }
}
