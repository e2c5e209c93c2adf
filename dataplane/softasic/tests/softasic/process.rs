//! A process for each test.

use std::process::Command;

use dpdk_sys::{Eal, EalConfig, LogLevel, Memory, Mempool};

const MARK: &str = "SOFTASIC_TEST_IN_CHILD";

/// True in the process that is to run the test; otherwise runs the test of this path in a new process and demands that
/// it passes.
pub fn in_child(path: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
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

/// EAL as every machine can have it, with the drivers under test.
pub fn eal() -> Eal {
    softasic::register().expect("registered");
    softasic::register().expect("a second call is harmless");
    let mut config = EalConfig::new("softasic-test", Memory::NoHuge { megabytes: 96 });
    config.log_level = LogLevel::Error;
    Eal::init(config).expect("EAL without hugepages")
}

pub fn pool(eal: &Eal) -> Mempool {
    Mempool::new(eal, "packets", 4095, 64, dpdk_sys::DEFAULT_DATA_ROOM).expect("pool")
}
