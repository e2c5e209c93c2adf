//! Recorded conformance: each `.jsonl` file here is one behaviour that an RFC asks for, as events and what comes of them,
//! replayed through the sessions, tables and BFD of production without sockets. The format is told in `bgp/CONFORMANCE.md`.
//!
//! With `RECORD=1` the test writes what it observes into the files instead of comparing; what it wrote is then to be read
//! by somebody who holds it against the RFC.

mod hex;
mod message;
mod open;
mod script;
mod setup;
mod show;
mod update;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use script::Script;
use serde_json::Value;
use world::World;

const RECORD: &str = "RECORD";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every scenario, by file name.
fn scenarios() -> BTreeMap<String, PathBuf> {
    let folder = root().join("tests/conformance");
    let entries = fs::read_dir(&folder).expect("the folder of the scenarios is there");
    entries
        .map(|entry| entry.expect("entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| (name(&path), path))
        .collect()
}

fn name(path: &Path) -> String {
    path.file_name()
        .expect("a file has a name")
        .to_string_lossy()
        .into_owned()
}

/// Replays a scenario: what came of each step.
fn replay(script: &Script) -> Result<Vec<Vec<Value>>, String> {
    let mut world = World::new(&script.head).map_err(|error| format!("1: {error}"))?;
    let step = |step: &script::Step| {
        world
            .step(&step.input)
            .map_err(|error| format!("{}: {error}", step.line))
    };
    script.steps.iter().map(step).collect()
}

/// Where what came of a step is not what is written: the lines of both, those that differ marked.
fn differences(file: &str, script: &Script, observed: &[Vec<Value>]) -> String {
    let mut text = String::new();
    for (step, observed) in script.steps.iter().zip(observed) {
        let expected: Vec<&Value> = step.outputs.iter().map(|(_, value)| value).collect();
        if expected.iter().copied().eq(observed) {
            continue;
        }
        let same = expected.iter().zip(observed).take_while(|(a, b)| **a == *b).count();
        let after = step.outputs.get(same).map_or(step.line + same, |(line, _)| *line);
        let _ = writeln!(text, "{file}:{after}: after {:?}", step.input);
        let lines = expected.iter().take(same).map(|value| (' ', *value));
        let lines = lines.chain(expected.iter().skip(same).map(|value| ('-', *value)));
        for (mark, value) in lines.chain(observed.iter().skip(same).map(|value| ('+', value))) {
            let _ = writeln!(text, "  {mark} {value}");
        }
    }
    text
}

#[test]
fn every_scenario_comes_out_as_written() {
    let record = std::env::var_os(RECORD).is_some();
    let mut wrong = String::new();
    for (file, path) in scenarios() {
        let text = fs::read_to_string(&path).expect("scenarios can be read");
        let outcome = Script::parse(&text).and_then(|script| Ok((replay(&script)?, script)));
        match outcome {
            Err(error) => wrong.push_str(&format!("{file}:{error}\n")),
            Ok((observed, _)) if record => {
                fs::write(&path, Script::record(&text, &observed)).expect("scenarios can be written");
            }
            Ok((observed, script)) => wrong.push_str(&differences(&file, &script, &observed)),
        }
    }
    assert!(wrong.is_empty(), "expected (-) and observed (+) differ:\n{wrong}");
}

/// A file begins with the number of the RFC that it is first of all about; steps that belong to I/O name a test that is there.
#[test]
fn scenarios_say_what_they_are_about() {
    for (file, path) in scenarios() {
        let text = fs::read_to_string(&path).expect("scenarios can be read");
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{file}:{error}"));
        let first = script.head.rfcs.first().unwrap_or_else(|| panic!("{file}: no RFC"));
        assert!(
            file.starts_with(&format!("rfc{first}_")),
            "{file}: begins with RFC {first}"
        );
        assert!(!script.head.shows.is_empty(), "{file}: shows nothing");
        assert!(!script.steps.is_empty(), "{file}: nothing happens");
        for step in &script.elsewhere {
            assert!(
                root().join(&step.test).is_file(),
                "{file}:{}: no {}",
                step.line,
                step.test
            );
        }
    }
}

/// The table of `CONFORMANCE.md` lists the files of each RFC, no more and no less, and tests that are there.
#[test]
fn the_table_of_coverage_is_true() {
    let mut covered: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (file, path) in scenarios() {
        let text = fs::read_to_string(&path).expect("scenarios can be read");
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{file}:{error}"));
        for rfc in script.head.rfcs {
            covered.entry(rfc).or_default().insert(file.clone());
        }
    }
    let document = fs::read_to_string(root().join("CONFORMANCE.md")).expect("the document is there");
    let is_row = |line: &&str| {
        line.strip_prefix("| ")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let (tests, listed): (Vec<&str>, Vec<&str>) =
        document.lines().filter(is_row).partition(|row| row.contains("`tests/"));
    let wanted: Vec<String> = covered
        .iter()
        .map(|(rfc, files)| {
            let files: Vec<String> = files.iter().map(|file| format!("`{file}`")).collect();
            format!("| {rfc} | {} |", files.join(", "))
        })
        .collect();
    assert_eq!(listed, wanted, "the rows are to be:\n{}", wanted.join("\n"));
    for test in tests
        .iter()
        .flat_map(|row| row.split('`'))
        .filter(|part| part.starts_with("tests/"))
    {
        assert!(root().join(test).is_file(), "there is no {test}");
    }
}

const HEAD: &str = r#"{"shows": "x", "rfcs": [4271], "speaker": {"asn": 65000, "router-id": "10.0.0.1"}, "peers": {"a": {"address": "192.0.2.2", "asn": 65001}}}"#;

#[test]
fn what_is_not_known_is_refused_with_its_line() {
    let refused = [
        r#"{"in": {"start": "a", "now": true}}"#,
        r#"{"in": {"begin": "a"}}"#,
        r#"{"in": {"connected": {"peer": "a", "by": "us", "port": 179}}}"#,
        r#"{"in": {"receive": {"peer": "a", "message": {"update": {"attribute": []}}}}}"#,
        r#"{"comment": "x"}"#,
        r#"{"note": "x", "in": {"start": "a"}}"#,
        "",
    ];
    for line in refused {
        let error = Script::parse(&format!("{HEAD}\n{line}\n")).expect_err(line);
        assert!(error.starts_with("2: "), "{error}");
    }
    let head = HEAD.replacen("\"shows\"", "\"show\"", 1);
    assert!(Script::parse(&head).expect_err("head").starts_with("1: "));
    let early = format!("{HEAD}\n{{\"out\": \"x\"}}\n");
    assert!(Script::parse(&early).expect_err("early").starts_with("2: "));
    let nobody = Script::parse(&format!("{HEAD}\n{{\"in\": {{\"start\": \"b\"}}}}\n")).expect("parses");
    assert!(replay(&nobody).expect_err("nobody").starts_with("2: "));
}

#[test]
fn a_difference_is_told_with_file_line_and_both_sides() {
    let text = format!("{HEAD}\n{{\"in\": {{\"start\": \"a\"}}}}\n{{\"out\": {{\"connect\": \"b\", \"at\": 0.0}}}}\n");
    let script = Script::parse(&text).expect("parses");
    let observed = replay(&script).expect("replays");
    let told = differences("x.jsonl", &script, &observed);
    assert!(told.starts_with("x.jsonl:3: "), "{told}");
    assert!(told.contains("  - {\"at\":0.0,\"connect\":\"b\"}"), "{told}");
    assert!(told.contains("  + {\"at\":0.0,\"connect\":\"a\"}"), "{told}");
    // What is recorded is then what comes out.
    let recorded = Script::record(&text, &observed);
    let script = Script::parse(&recorded).expect("what is recorded parses");
    assert_eq!(differences("x.jsonl", &script, &observed), "");
    assert!(!recorded.contains("\"b\""), "{recorded}");
}
