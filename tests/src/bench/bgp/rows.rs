//! The rows of `make bench-bgp`: every program's runs of one figure, ours against the best of the others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::report::{self, Row};
use super::run::{FanOut, FullTable};

/// Runs of every figure, by row and program.
#[derive(Debug, Default)]
pub struct Runs(BTreeMap<(&'static str, String), Vec<f64>>);

/// What a row is.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    unit: &'static str,
    /// Ours should be at most this.
    goal: Option<f64>,
}

const fn kind(name: &'static str, unit: &'static str, goal: Option<f64>) -> Kind {
    Kind { name, unit, goal }
}

/// Every row, in the order of the table. Where the goal is to be ahead of the others, none is given.
const KINDS: &[Kind] = &[
    kind("bgp-generator-sink-s", "s", None),
    kind("bgp-full-table-s", "s", None),
    kind("bgp-bytes-per-path", "B", Some(150.0)),
    kind("bgp-latency-idle-p99-ms", "ms", Some(5.0)),
    kind("bgp-latency-load-p99-ms", "ms", Some(50.0)),
    kind("bgp-withdraw-s", "s", None),
    kind("bgp-fanout-50-ratio", "x", Some(1.5)),
    kind("bgp-fanout-50-wall-ratio", "x", None),
];

/// A row with the figures of every program of the run.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// Ours, against the best of the others.
    #[serde(flatten)]
    pub row: Row,
    /// Median, least and greatest of each other program.
    pub peers: BTreeMap<String, [f64; 3]>,
    /// Prefixes of the table.
    pub prefixes: usize,
    #[serde(skip)]
    remark: String,
}

impl Runs {
    /// Adds the time of the generator alone.
    pub fn sink(&mut self, program: &str, seconds: f64) {
        self.add("bgp-generator-sink-s", program, seconds);
    }

    /// Adds a full table.
    pub fn full_table(&mut self, program: &str, run: &FullTable) {
        self.add("bgp-full-table-s", program, run.load);
        self.add("bgp-bytes-per-path", program, run.bytes_per_path);
        self.add("bgp-latency-idle-p99-ms", program, run.idle);
        self.add("bgp-latency-load-p99-ms", program, run.loaded);
        self.add("bgp-withdraw-s", program, run.withdraw);
    }

    /// Adds a fan-out to one receiver and to many.
    pub fn fan_out(&mut self, program: &str, one: &FanOut, many: &FanOut) {
        self.add("bgp-fanout-50-ratio", program, many.user / one.user.max(0.01));
        self.add("bgp-fanout-50-wall-ratio", program, many.wall / one.wall.max(0.001));
    }

    fn add(&mut self, row: &'static str, program: &str, value: f64) {
        self.0.entry((row, program.to_owned())).or_default().push(value);
    }

    /// The rows in which `ours` was measured.
    pub fn rows(&self, ours: &str, prefixes: usize) -> Vec<Compared> {
        let row = |kind: &Kind| {
            let own = self.0.get(&(kind.name, ours.to_owned()))?;
            let others = self
                .0
                .iter()
                .filter(|((name, program), _)| *name == kind.name && program != ours);
            let medians: BTreeMap<String, [f64; 3]> = others
                .map(|((_, program), runs)| {
                    let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
                    let greatest = runs.iter().copied().fold(0.0, f64::max);
                    (program.clone(), [report::median(runs), least, greatest])
                })
                .collect();
            let best = medians.iter().min_by(|one, other| one.1[0].total_cmp(&other.1[0]));
            let row = Row::new(
                kind.name,
                kind.unit,
                own,
                best.map(|(name, figures)| (name.as_str(), figures[0])),
            )?;
            let mut remarks: Vec<String> = medians.iter().map(|(name, f)| format!("{name} {:.1}", f[0])).collect();
            if let Some(goal) = kind.goal {
                let met = if row.value <= goal { "met" } else { "missed" };
                remarks.insert(0, format!("goal {goal}: {met}"));
            }
            Some(Compared {
                row,
                peers: medians,
                prefixes,
                remark: remarks.join(", "),
            })
        };
        KINDS.iter().filter_map(row).collect()
    }
}

/// The rows as aligned columns.
pub fn table(rows: &[Compared]) -> String {
    report::table(rows.iter().map(|row| (&row.row, row.remark.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_held_against_the_best_of_the_others() {
        let mut runs = Runs::default();
        for (program, figures) in [
            ("turnpike", [3.0, 1.0, 2.0]),
            ("a", [5.0, 4.0, 6.0]),
            ("b", [9.0, 8.0, 7.0]),
        ] {
            figures
                .into_iter()
                .for_each(|seconds| runs.add("bgp-full-table-s", program, seconds));
        }
        let rows = runs.rows("turnpike", 7);
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (row.row.value, row.row.peer.as_deref(), row.row.ratio),
            (2.0, Some("a"), Some(0.4))
        );
        assert_eq!(row.peers["b"], [8.0, 7.0, 9.0]);
        let json = serde_json::to_value(row).expect("plain data");
        assert_eq!(json["name"], "bgp-full-table-s");
        assert!(table(&rows).contains("a 5.0, b 8.0"));
    }
}
