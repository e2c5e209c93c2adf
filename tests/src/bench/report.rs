//! Rows of results: JSON files in `target/bench` and a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Median of the runs.
    pub value: f64,
    /// What it is in.
    pub unit: String,
    /// Number of runs.
    pub runs: usize,
    /// Smallest of the runs.
    pub min: f64,
    /// Largest of the runs.
    pub max: f64,
    /// The program that it is compared with, and where that program's figure is from.
    pub peer: Option<String>,
    /// That program's figure.
    pub peer_value: Option<f64>,
    /// `value / peer_value`: below 1 is better for a time, above 1 for a rate.
    pub ratio: Option<f64>,
}

impl Row {
    /// The row of these runs; `None` without any.
    pub fn new(name: &str, unit: &str, runs: &[f64], peer: Option<(&str, f64)>) -> Option<Self> {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let value = median(runs);
        Some(Self {
            name: name.to_owned(),
            value: rounded(value),
            unit: unit.to_owned(),
            runs: runs.len(),
            min: rounded(min),
            max: rounded(max),
            peer: peer.map(|(name, _)| name.to_owned()),
            peer_value: peer.map(|(_, figure)| rounded(figure)),
            ratio: peer.map(|(_, figure)| (value / figure * 1000.0).round() / 1000.0),
        })
    }
}

/// The middle one, or the mean of the two in the middle; 0 of none.
pub fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Ten decimals of a nanosecond say nothing.
fn rounded(value: f64) -> f64 {
    if value.abs() >= 1000.0 {
        value.round()
    } else {
        (value * 10.0).round() / 10.0
    }
}

/// Writes each group's rows to `target/bench/<group>.json`; returns the files.
///
/// # Errors
/// If a file cannot be written.
pub fn write<R: Serialize>(rows: &BTreeMap<&str, Vec<R>>) -> Result<Vec<PathBuf>, String> {
    let folder = folder();
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = Vec::new();
    for (group, rows) in rows {
        let path = folder.join(format!("{group}.json"));
        let text = serde_json::to_string_pretty(rows).map_err(|error| format!("{group}: {error}"))?;
        fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}

/// `bench` in the folder that this program was built into.
fn folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).unwrap_or(Path::new("target")).join("bench")
}

/// The rows as aligned columns, each with a remark.
pub fn table<'a>(rows: impl IntoIterator<Item = (&'a Row, String)>) -> String {
    let mut lines = vec![["row", "value", "unit", "min", "max", "ratio", ""].map(str::to_owned)];
    for (row, remark) in rows {
        let figure = |value: f64| {
            if value >= 1000.0 {
                format!("{value:.0}")
            } else {
                format!("{value:.1}")
            }
        };
        let peer = match (&row.peer, row.peer_value) {
            (Some(peer), Some(value)) => format!("{} {peer}", figure(value)),
            _ => String::new(),
        };
        let remark = [remark, peer].into_iter().filter(|part| !part.is_empty());
        lines.push([
            row.name.clone(),
            figure(row.value),
            row.unit.clone(),
            figure(row.min),
            figure(row.max),
            row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            remark.collect::<Vec<_>>().join("; "),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let text = |line: &[String; 7]| {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if [0, 2, 6].contains(&column) {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_with_its_spread_and_ratio() {
        let row = Row::new("x", "ns/packet", &[30.0, 10.0, 20.04], Some(("y", 40.0))).expect("there are runs");
        assert_eq!((row.value, row.min, row.max, row.runs), (20.0, 10.0, 30.0, 3));
        assert_eq!(row.ratio, Some(0.501));
        assert_eq!(Row::new("x", "ns/packet", &[], None), None);
        assert_eq!(median(&[1.0, 3.0]), 2.0);
    }

    #[test]
    fn without_a_peer_the_fields_are_there_and_null() {
        let row = Row::new("x", "connections/s", &[1e6], None).expect("there are runs");
        let json = serde_json::to_value(row).expect("plain data");
        let names: Vec<_> = json.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(
            names,
            [
                "max",
                "min",
                "name",
                "peer",
                "peer_value",
                "ratio",
                "runs",
                "unit",
                "value"
            ]
        );
        assert!(json["peer"].is_null() && json["ratio"].is_null() && json["peer_value"].is_null());
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            Row::new("short", "ns/packet", &[1.0], None).expect("there are runs"),
            Row::new("much-longer", "ns/packet", &[1000.0], None).expect("there are runs"),
        ];
        let text = table(rows.iter().map(|row| (row, String::new())));
        let at: Vec<_> = text.lines().skip(1).map(|line| line.find("ns/packet")).collect();
        assert_eq!(at[0], at[1]);
    }
}
