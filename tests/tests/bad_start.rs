//! What cannot start says what is wrong and what to do, ends with a non-zero status, and leaves nothing behind.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use turnpike_tests::turnpiked::{ended, program};
use turnpike_tests::{Cables, Turnpiked};

/// The gateway refuses `text`; each of `words` is in what it prints.
fn refused(cables: &Cables, text: &str, words: &[&str]) {
    let (status, log) = Turnpiked::refused(&cables.gateway, text, &cables.scratch);
    check(cables, status, &log, words);
}

fn check(cables: &Cables, status: std::process::ExitStatus, log: &str, words: &[&str]) {
    assert!(
        status.code().is_some_and(|code| code != 0),
        "an orderly refusal, not {status}:\n{log}"
    );
    assert!(!log.contains("panicked at"), "a refusal is no panic:\n{log}");
    // A report is wrapped at any hyphen and has a frame.
    let squeezed: String = log.chars().filter(|c| !c.is_whitespace() && *c != '│').collect();
    for word in words {
        let sought: String = word.split_whitespace().collect();
        assert!(squeezed.contains(&sought), "`{word}` is not in:\n{log}");
    }
    let interfaces = cables.gateway.interfaces();
    assert!(
        !interfaces.iter().any(|name| name.starts_with("tp-")),
        "taps are left: {interfaces:?}"
    );
}

#[test]
fn missing_device() {
    let cables = Cables::new();
    refused(
        &cables,
        &cables.config().replace("iface=cable-left", "iface=nowhere"),
        &["left", "nowhere"],
    );
    let unknown_driver = cables
        .config()
        .replace("net_af_packet0,iface=cable-left", "net_nonsense0,iface=cable-left");
    refused(&cables, &unknown_driver, &["left", "net_nonsense0"]);
}

#[test]
fn too_few_hugepages() {
    let cables = Cables::new();
    let text = cables
        .config()
        .replace("memory = \"no-huge\"", "memory = \"hugepages\"");
    let text = text.replace("memory-mb = 256", "memory-mb = 1048576");
    // What is wrong, and both ways out.
    refused(&cables, &text, &["hugepages", "nr_hugepages", "without hugepages"]);
}

#[test]
fn wrong_configuration() {
    let cables = Cables::new();
    let good = cables.config();
    for (from, to, words) in [
        ("[dataplane]", "[dataplain]", &["dataplain", "turnpike.toml:"][..]),
        ("workers = [", "workers = [[", &["turnpike.toml:"]),
        ("192.0.2.1/24", "192.0.2.1/99", &["192.0.2.1/99", "turnpike.toml:"]),
        (
            "poll = \"adaptive\"",
            "poll = \"sometimes\"",
            &["sometimes", "adaptive", "busy"],
        ),
        ("name = \"right\"", "name = \"left\"", &["left"]),
    ] {
        assert!(good.contains(from), "{from} is in the configuration");
        refused(&cables, &good.replacen(from, to, 1), words);
    }

    // A file that is not there; and one that is checked without starting anything.
    let mut command = cables.gateway.command(program("turnpiked"));
    command.arg("--config").arg(cables.scratch.path().join("missing.toml"));
    let (status, log) = ended(command, &cables.scratch);
    check(&cables, status, &log, &["missing.toml"]);
    for (text, right) in [(good.clone(), true), (good.replace("192.0.2.1/24", "192.0.2.1"), false)] {
        let mut command = Turnpiked::command(&cables.gateway, &text, &cables.scratch);
        command.arg("--check");
        let (status, log) = ended(command, &cables.scratch);
        assert_eq!(status.success(), right, "{log}");
    }
}

#[test]
fn not_root() {
    let cables = Cables::new();
    // A folder that the other user may write, so that this is not what stops it.
    let open = cables.scratch.path().join("open");
    std::fs::create_dir(&open).expect("made");
    std::fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("ours");
    let socket = Turnpiked::socket(&cables.scratch);
    let text = cables.config();
    let text = text.replace(&*socket.to_string_lossy(), &open.join("api.sock").to_string_lossy());
    let config = cables.scratch.write("turnpike.toml", &text);
    // The build folder may be out of another user's reach.
    let copy = cables.scratch.path().join("turnpiked");
    std::fs::copy(program("turnpiked"), &copy).expect("copied");
    let mut command = cables.gateway.command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(copy)
        .arg("--config")
        .arg(config)
        .arg("--state-dir")
        .arg(open.join("state"));
    let (status, log) = ended(command, &cables.scratch);
    check(&cables, status, &log, &["root"]);
}

#[test]
fn port_and_socket_in_use() {
    let cables = Cables::new();
    let bgp = "\n[bgp]\nasn = 65010\nrouter-id = \"192.0.2.1\"\nlisten = [\"0.0.0.0:179\"]\n";
    let other = cables
        .gateway
        .enter(|| TcpListener::bind("0.0.0.0:179"))
        .expect("free in a fresh namespace");
    refused(&cables, &(cables.config() + bgp), &["179", "in use"]);
    drop(other);

    // A second gateway with the socket, or the state, of one that runs; the first is not disturbed.
    let first = cables.start("");
    let revision = first.show("summary")["revision"].clone();
    let second = Cables::new();
    let socket = Turnpiked::socket(&cables.scratch);
    let text = second.config().replace(
        &*Turnpiked::socket(&second.scratch).to_string_lossy(),
        &socket.to_string_lossy(),
    );
    refused(&second, &text, &["api.sock"]);
    let mut command = second.gateway.command(program("turnpiked"));
    command
        .arg("--config")
        .arg(second.scratch.write("turnpike.toml", &second.config()));
    command.arg("--state-dir").arg(cables.scratch.path().join("state"));
    let (status, log) = ended(command, &second.scratch);
    check(&second, status, &log, &["state"]);
    assert_eq!(first.show("summary")["revision"], revision);
    cables.assert_alive();
}
