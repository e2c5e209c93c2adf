//! The shared object in a program that knows nothing of it: Debian's `dpdk-testpmd`, by its command line.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What txonly sends: the addresses and ports are testpmd's own.
const PATTERN: &str = "eth / ipv4 version_ihl is 0x45 fragment_offset spec 0 fragment_offset mask 0xbfff proto is 17 \
                       src is 198.18.0.1 dst is 198.18.0.2 / udp src is 9 dst is 9 / end";
const REWRITE: &str = "set_ipv4_src ipv4_addr 203.0.113.1 / set_ipv4_dst ipv4_addr 198.18.0.2 / set_tp_src port 20000 / \
                       set_tp_dst port 9 / dec_ttl / set_mac_dst mac_addr 02:00:00:00:00:99 / \
                       set_mac_src mac_addr 02:00:00:00:00:b0 / count / represented_port ethdev_port_id 3 / end";

const OBJECT: &str = "librte_net_softasic.so";

/// A folder with the object, which cargo puts beside this program: DPDK loads nothing from below a folder that everybody
/// may write to, as the build's may be.
fn installed() -> TempDir {
    let program = std::env::current_exe().expect("this program");
    let built = program.with_file_name(OBJECT);
    let folder = TempDir::with_prefix_in("softasic-pmd-", "/run").expect("root writes to /run");
    let copied = fs::copy(&built, folder.path().join(OBJECT));
    copied.unwrap_or_else(|error| panic!("{} was not built: {error}", built.display()));
    folder
}

/// Runs testpmd with these commands and returns what it prints. Ports 0 and 1 are the wires of 2 and 3.
fn testpmd(arguments: &str, commands: &[String]) -> String {
    let folder = installed();
    let mut child = Command::new("dpdk-testpmd")
        .arg("-d")
        .arg(folder.path().join(OBJECT))
        .args([
            "--no-huge",
            "--no-shconf",
            "--no-telemetry",
            "--no-pci",
            "--iova-mode=va",
            "-m",
            "256",
        ])
        .args(["--lcores=0@0,1@0", "--vdev=net_ring0", "--vdev=net_ring1"])
        .arg(format!("--vdev=net_softasic0,wire=net_ring0{arguments}"))
        .arg("--vdev=net_softasic1,wire=net_ring1")
        .args([
            "--",
            "--interactive",
            "--total-num-mbufs=2048",
            "--port-topology=loop",
            "--no-mlockall",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dpdk-testpmd of the package dpdk-dev: `make setup` installs it");
    let mut script = commands.join("\n");
    script.push_str("\nquit\n");
    let mut input = child.stdin.take().expect("a pipe");
    // A program that has ended already takes no commands; what it printed tells why.
    let _ = input.write_all(script.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("output");
    let printed = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}:\n{printed}", output.status);
    printed
}

/// Demands that these occur, one after the other.
fn in_order(printed: &str, wanted: &[&str]) {
    let mut rest = printed;
    for text in wanted {
        let at = rest.find(text);
        let at = at.unwrap_or_else(|| panic!("`{text}` does not follow in:\n{printed}"));
        rest = &rest[at + text.len()..];
    }
}

fn commands(text: &[&str]) -> Vec<String> {
    text.iter().map(|command| (*command).to_owned()).collect()
}

#[test]
fn testpmd_makes_lists_counts_and_destroys_rules() {
    let mut script = commands(&[
        "mac_addr set 2 02:00:00:00:00:a0",
        "set eth-peer 2 02:00:00:00:00:a0",
        "set portlist 2",
        "set fwd rxonly",
        "flow create 2 group 0 transfer pattern eth / end actions jump group 1 / end",
    ]);
    script.push(format!(
        "flow validate 2 group 1 transfer pattern {PATTERN} actions {REWRITE}"
    ));
    script.push(format!(
        "flow create 2 group 1 transfer pattern {PATTERN} actions {REWRITE}"
    ));
    script.push(format!(
        "flow create 2 group 1 transfer pattern {PATTERN} actions {REWRITE}"
    ));
    script.extend(commands(&[
        "flow list 2",
        "start tx_first",
        "stop",
        "flow query 2 1 count",
        "show port stats 3",
        "flow destroy 2 rule 1",
        "flow query 2 1 count",
        "flow list 2",
        "flow flush 2",
    ]));
    let printed = testpmd("", &script);
    in_order(
        &printed,
        &[
            "Flow rule #0 created",
            "Flow rule validated",
            "Flow rule #1 created",
            // One burst: every packet of it was a hit, and left by the other port.
            "hits: 32\n",
            "NIC statistics for port 3",
            "TX-packets: 32 ",
            "Flow rule #1 destroyed",
        ],
    );
    in_order(
        &printed,
        &[
            "ID\tGroup\tPrio\tAttr\tRule",
            "1\t1\t0\t--t",
            "ETH IPV4 UDP => SET_IPV4_SRC",
        ],
    );
    assert!(printed.contains("EEXIST: there is a rule with this match"), "{printed}");
    assert!(printed.contains("Flow rule #1 not found"), "{printed}");
}

#[test]
fn what_the_driver_has_to_say_is_seen() {
    let mut script = commands(&["flow create 2 group 0 transfer pattern eth / end actions jump group 1 / end"]);
    script.push(format!(
        "flow create 2 group 1 transfer pattern {PATTERN} actions {REWRITE}"
    ));
    script.push("flow create 2 group 7 transfer pattern eth / end actions drop / end".to_owned());
    let printed = testpmd(",refuse-create=1", &script);
    assert!(printed.contains("refused on order of a test"), "{printed}");
    assert!(printed.contains("only groups 0 and 1"), "{printed}");
}
