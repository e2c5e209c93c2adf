//! The book's reference says what the programs say: every drop reason, every field, every command.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FABRIC, SERVER};
use turnpike_tests::traffic::{EchoClient, EchoServer, Flow, ping};
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, eventually};

const SHOWN: [&str; 14] = [
    "summary",
    "routes",
    "bgp",
    "bfd",
    "bmp",
    "rpki",
    "neighbors",
    "kernel",
    "connections",
    "generations",
    "offloads",
    "drops",
    "standby",
    "nat",
];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/reference")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_drop_reason_is_listed() {
    let rows = net::Drop::ALL
        .iter()
        .map(|drop| format!("| `{}` | {} |\n", drop.name(), drop.description()));
    let table: String = ["| reason | meaning |\n|---|---|\n".to_owned()]
        .into_iter()
        .chain(rows)
        .collect();
    assert!(
        page("drops.md").ends_with(&table),
        "docs/reference/drops.md should end with this table:\n{table}"
    );
}

#[test]
fn every_reason_of_a_route_is_listed() {
    let page = page("commands.md");
    for reason in rib::Reason::ALL {
        let row = format!("| `{}` | {} |\n", reason.name(), reason.description());
        assert!(
            page.contains(&row),
            "docs/reference/commands.md should have this row:\n{row}"
        );
    }
    for problem in rib::HopProblem::ALL {
        assert!(page.contains(&format!("`{}`", problem.name())), "{problem:?}");
    }
}

#[test]
fn every_field_is_explained() {
    let net = Topology::new();
    let first = format!("address = \"{}\"\n", FABRIC[0]);
    let config = net
        .config(Memory::NoHuge)
        .replace(&first, &format!("{first}bfd = {{}}\n"));
    // Nobody listens there; what there is to show of it is shown all the same.
    let config =
        config + "\n[standby]\npeer = \"127.0.0.1:4790\"\nlisten = \"127.0.0.1:4790\"\nprimary = \"127.0.0.1\"\n";
    let config = config + "\n[[bgp.bmp]]\ncollector = \"127.0.0.1:1790\"\n[[bgp.rpki]]\ncache = \"127.0.0.1:323\"\n";
    let gateway = net.converged_with(&config);
    // Something in every list.
    eventually(Duration::from_secs(10), || ping(&net.red, SERVER, 1));
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));
    let _flow = Flow::start(EchoClient::tcp(&net.red, echo.address()).expect("connects"));
    eventually(Duration::from_secs(10), || {
        ensure(count(&gateway.try_show("offloads")?["live"]) > 0, || {
            "no offload".to_owned()
        })
    });

    let page = page("commands.md");
    let help = gateway.cli(&["show", "--help"]).expect("help is printed");
    for what in SHOWN {
        assert!(help.contains(what), "`turnpike show {what}` is not in its own help");
        let (_, section) = page
            .split_once(&format!("### show {what}\n"))
            .unwrap_or_else(|| panic!("no section on {what}"));
        let section = section.split("\n### ").next().unwrap_or_default();
        explains(section, &gateway.show(what), what);
    }
    let (_, section) = page.split_once("### explain route\n").expect("a section");
    let section = section.split("\n### ").next().unwrap_or_default();
    for (vrf, address) in [("red", SERVER), ("default", SERVER), ("default", "233.252.0.1")] {
        let told = gateway.explain_route(vrf, address).expect("explained");
        explains(section, &told, "explain route");
    }
}

fn explains(section: &str, shown: &Value, what: &str) {
    let mut fields = BTreeSet::new();
    collect(shown, &mut fields);
    let unexplained: Vec<_> = fields
        .iter()
        .filter(|field| !section.contains(&format!("`{field}`")))
        .collect();
    assert!(
        unexplained.is_empty(),
        "docs/reference/commands.md, {what}, does not explain {unexplained:?}"
    );
    assert!(!fields.is_empty(), "{what} has nothing to show");
}

/// Every name of a field in `value`.
fn collect(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields.insert(name.clone());
                collect(value, fields);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, fields)),
        _ => {}
    }
}
