//! The benchmark of routes (`make bench-routes`): from changes to published tables, seen by a worker, and into the kernel.
//!
//! Owns: the rows of `target/bench/routes.json`, and the same work done by other programs in the same run.
//!
//! Never does: start DPDK in this process, or measure packets; `bench/routes.rs` has forwarding by large tables.
//!
//! Read first: this file for the rows, then `world.rs`.

pub mod change;
pub mod dpdk;
pub mod kernel;
pub mod load;
pub mod lookup;
pub mod neighbor;
pub mod world;

use std::collections::BTreeMap;
use std::time::Duration;

/// How large everything is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// IPv4 prefixes of the large VRF.
    pub v4: usize,
    /// IPv6 prefixes of the large VRF.
    pub v6: usize,
    /// Routes written to the kernel.
    pub kernel: usize,
    /// Small VRFs beside the large one, of a hundred routes each.
    pub vrfs: u16,
    /// Length of each timed part that has a length.
    pub window: Duration,
}

impl Sizes {
    /// Those that the rows' names speak of.
    pub const FULL: Self = Self {
        v4: 1_000_000,
        v6: 200_000,
        kernel: 100_000,
        vrfs: 1000,
        window: Duration::from_secs(2),
    };
}

/// Figures of one run, by row.
pub type Figures = BTreeMap<String, f64>;

/// One part of the benchmark, run in a process of its own.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Measures its rows once.
    pub run: fn(&Sizes) -> Result<Figures, String>,
}

/// Every part, in the order of the table.
pub const PARTS: &[Part] = &[
    Part {
        name: "publish",
        run: load::publish,
    },
    Part {
        name: "memory",
        run: load::memory,
    },
    Part {
        name: "lookup",
        run: lookup::run,
    },
    Part {
        name: "dpdk",
        run: dpdk::run,
    },
    Part {
        name: "change",
        run: change::run,
    },
    Part {
        name: "kernel",
        run: kernel::run,
    },
    Part {
        name: "neighbor",
        run: neighbor::run,
    },
];

/// One row.
#[derive(Debug)]
pub struct RowOf {
    /// Its name, the same for ever.
    pub name: &'static str,
    /// Unit of its value.
    pub unit: &'static str,
    /// What it is compared with, and the row that has that figure.
    pub peer: Option<(&'static str, &'static str)>,
}

const fn row(name: &'static str, unit: &'static str) -> RowOf {
    RowOf { name, unit, peer: None }
}

const fn against(name: &'static str, unit: &'static str, peer: &'static str, figure: &'static str) -> RowOf {
    let peer = Some((peer, figure));
    RowOf { name, unit, peer }
}

/// Every row, in the order of the table.
pub const ROWS: &[RowOf] = &[
    against("routes-1m-publish-s", "s", "prefix-trie alone", "peer-trie-insert-s"),
    row("routes-other-copy-s", "s"),
    row("routes-peer-down-s", "s"),
    against(
        "routes-bytes-per-route",
        "B",
        "prefix-trie alone, 4 B a value",
        "peer-trie-bytes-per-route",
    ),
    row("routes-small-vrfs-bytes-per-route", "B"),
    row("routes-4gib-host-mib", "MiB"),
    against(
        "routes-lookup-v4-1m",
        "lookups/s",
        "rte_fib DIR24_8",
        "peer-fib-v4-per-s",
    ),
    against(
        "routes-lookup-v4-skewed",
        "lookups/s",
        "prefix-trie alone",
        "peer-trie-v4-skewed-per-s",
    ),
    row("routes-lookup-v4-anywhere", "lookups/s"),
    against(
        "routes-lookup-v6-200k",
        "lookups/s",
        "rte_fib6 trie",
        "peer-fib-v6-per-s",
    ),
    row("routes-visible-p50-us", "us"),
    row("routes-visible-p99-us", "us"),
    against(
        "routes-sustained-per-s",
        "changes/s",
        "ip -batch into the kernel",
        "peer-kernel-batch-per-s",
    ),
    row("routes-reader-loss-percent", "%"),
    row("routes-reader-loss-elsewhere-percent", "%"),
    against(
        "kernel-mirror-per-s",
        "routes/s",
        "ip -batch",
        "peer-kernel-batch-per-s",
    ),
    row("kernel-read-per-s", "routes/s"),
    row("neighbour-to-next-hop-p50-us", "us"),
    row("neighbour-to-next-hop-p99-us", "us"),
    row("peer-trie-insert-s", "s"),
    row("peer-trie-bytes-per-route", "B"),
    row("peer-trie-v4-per-s", "lookups/s"),
    row("peer-trie-v4-skewed-per-s", "lookups/s"),
    row("peer-trie-v6-per-s", "lookups/s"),
    row("peer-fib-v4-per-s", "lookups/s"),
    row("peer-lpm-v4-per-s", "lookups/s"),
    row("peer-fib-v6-per-s", "lookups/s"),
    row("peer-kernel-batch-per-s", "routes/s"),
];

/// Figures as a part hands them back.
fn figures<const N: usize>(of: [(&str, f64); N]) -> Result<Figures, String> {
    Ok(of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SMALL: Sizes = Sizes {
        v4: 3000,
        v6: 500,
        kernel: 200,
        vrfs: 3,
        window: Duration::from_millis(20),
    };

    #[test]
    fn every_row_is_measured_by_one_part_and_each_peer_is_a_row() {
        // DPDK's program is no part of a test; `make bench-routes` shows that it answers.
        let mut measured: BTreeSet<String> = dpdk::ROWS.iter().map(|name| (*name).to_owned()).collect();
        for part in PARTS.iter().filter(|part| part.name != "dpdk") {
            let figures = (part.run)(&SMALL).unwrap_or_else(|error| panic!("{}: {error}", part.name));
            for (name, value) in figures {
                assert!(value.is_finite(), "{name}: {value}");
                assert!(measured.insert(name.clone()), "{name} twice");
            }
        }
        let named: BTreeSet<String> = ROWS.iter().map(|row| row.name.to_owned()).collect();
        assert_eq!(measured, named);
        for (_, peer) in ROWS.iter().filter_map(|row| row.peer) {
            assert!(named.contains(peer), "{peer}");
        }
    }
}
