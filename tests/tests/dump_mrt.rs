//! `turnpike dump mrt`, read by bgpdump.

use std::path::Path;
use std::process::Command;

use turnpike_tests::Topology;
use turnpike_tests::topology::{FABRIC, FABRIC_V6, PUBLIC, SERVER_PREFIXES};

/// bgpdump's lines.
fn read(path: &Path) -> Vec<String> {
    let output = Command::new("bgpdump").arg("-m").arg(path).output();
    let output = output.expect("bgpdump starts: run ./setup.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_dump_has_every_path_of_both_families_and_replaces_an_older_one() {
    let net = Topology::new();
    let gateway = net.converged();
    let file = net.scratch.path().join("table.mrt");
    std::fs::write(&file, "an older one").expect("the folder is there");
    let path = file.to_str().expect("UTF-8");
    gateway.cli(&["dump", "mrt", path]).expect("written");
    let lines = read(&file);
    for (prefix, router) in SERVER_PREFIXES.into_iter().zip([FABRIC[0], FABRIC_V6[0]]) {
        let wanted = format!("|B|{router}|65001|{prefix}|");
        assert!(lines.iter().any(|line| line.contains(&wanted)), "{wanted}: {lines:#?}");
    }
    gateway.cli(&["dump", "mrt", "--loc-rib", path]).expect("written");
    let ours = format!("|B|0.0.0.0|65010|{PUBLIC}|");
    let lines = read(&file);
    assert!(lines.iter().any(|line| line.contains(&ours)), "{ours}: {lines:#?}");

    let nowhere = net.scratch.path().join("nowhere/table.mrt");
    let refused = gateway.cli(&["dump", "mrt", nowhere.to_str().expect("UTF-8")]);
    let refused = refused.expect_err("the folder is not there");
    assert!(refused.contains("cannot write"), "{refused}");
    let left: Vec<_> = std::fs::read_dir(net.scratch.path())
        .expect("is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(".tmp"))
        .collect();
    assert_eq!(left, [""; 0]);
}
