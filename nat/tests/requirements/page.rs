//! `docs/reference/nat-requirements.md` lists every test here, and names no other.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../docs/reference/nat-requirements.md");
const TESTS: [&str; 4] = [
    include_str!("rfc4787.rs"),
    include_str!("rfc5382.rs"),
    include_str!("rfc5508.rs"),
    include_str!("rfc6888.rs"),
];
const STATUS: [&str; 4] = ["met", "in part", "not met", "does not apply"];

/// Cells of the page's rows that are about a requirement.
fn rows() -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let rows = PAGE.lines().filter(|line| line.starts_with("| REQ-"));
    rows.map(cells).collect()
}

#[test]
fn every_requirement_has_a_status_and_what_is_met_has_a_test() {
    let rows = rows();
    assert_eq!(
        rows.len(),
        14 + 10 + 11 + 15,
        "requirements of RFC 4787, 5382, 5508 and 6888"
    );
    for row in rows {
        let [number, _, status, tests] = row[..] else {
            panic!("four cells: {row:?}")
        };
        assert!(STATUS.contains(&status), "{number}: `{status}`");
        assert!(
            status != "met" || tests.contains('`'),
            "{number} is met, and no test shows it"
        );
    }
}

#[test]
fn the_page_and_the_tests_agree() {
    let named = |text: &'static str| {
        text.split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.starts_with("rfc"))
    };
    let listed: BTreeSet<&str> = rows().iter().flat_map(|row| named(row[3])).collect();
    let function = |line: &'static str| line.strip_prefix("fn rfc").and_then(|rest| rest.split('(').next());
    let written: BTreeSet<String> = TESTS
        .iter()
        .flat_map(|text| text.lines().filter_map(function))
        .map(|rest| format!("rfc{rest}"))
        .collect();
    let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
    assert_eq!(
        listed.symmetric_difference(&written).collect::<Vec<_>>(),
        Vec::<&&str>::new()
    );
}
