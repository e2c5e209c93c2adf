//! `poll = "adaptive"`: an idle gateway leaves the processor alone.

use std::thread;
use std::time::Duration;

use turnpike_tests::Cables;

#[test]
fn an_idle_worker_sleeps() {
    let cables = Cables::new();
    let mut gateway = cables.start("");
    cables.assert_alive();
    // Start-up work, neighbour discovery included, has passed.
    thread::sleep(Duration::from_secs(2));
    let before = gateway.process().processor_time();
    let watched = Duration::from_secs(2);
    thread::sleep(watched);
    let used = gateway.process().processor_time().saturating_sub(before);
    assert!(
        used < watched / 2,
        "used {used:?} of processor time in {watched:?} of idleness"
    );
    // And it wakes up.
    cables.assert_alive();
}
