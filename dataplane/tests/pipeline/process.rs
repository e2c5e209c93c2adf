//! A process and a network namespace for each test.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

const MARK: &str = "DATAPLANE_TEST_IN_CHILD";

/// True in the process that is to run the test, which is in a network namespace of its own from then on; otherwise runs
/// the test of this path in a new process and demands that it passes.
pub fn in_child(path: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        enter_namespace();
        return true;
    }
    assert!(
        Uid::effective().is_root(),
        "this test makes a network namespace and taps: run it as root"
    );
    // The harness names tests without the crate.
    let name = path.split_once("::").map_or(path, |(_, rest)| rest);
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("a child process");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name} in its own process:\n{text}"
    );
    false
}

/// Moves this thread, and every thread that it starts from now on, into a namespace that is gone with the process. The
/// kernel there says nothing by itself, and answers whoever asks.
fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (run as root)");
    for (name, value) in [
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ] {
        std::fs::write(format!("/proc/sys/net/{name}"), value).expect("a setting of the namespace");
    }
}

/// Runs `ip` in the test's namespace.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the program `ip`");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A test in a process of its own.
#[macro_export]
macro_rules! isolated {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            if $crate::process::in_child(concat!(module_path!(), "::", stringify!($name))) $body
        }
    };
}
