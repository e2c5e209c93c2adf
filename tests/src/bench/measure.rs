//! What one packet costs: the processor time of one saturated thread, divided by the packets that it sent.
//!
//! Time is the thread's own (the kernel's scheduler counts it in nanoseconds). On a core of its own that equals the
//! time on the wall; where somebody else takes a share of the core, it still says what the packets cost.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What one run of a scenario found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// The figure, in the row's unit.
    pub value: f64,
    /// The same by the time on the wall: higher where the core was shared.
    pub by_wall_clock: f64,
    /// Packets, or operations, that it is of.
    pub count: u64,
}

/// Processor time of one thread of a process.
#[derive(Debug, Clone)]
pub struct ThreadTime(PathBuf);

impl ThreadTime {
    /// The thread of process `pid` whose name starts with `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(pid: u32, name: &str) -> Result<Self, String> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| format!("process {pid}: {error}"))?;
        tasks
            .flatten()
            .map(|task| task.path())
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name)))
            .map(Self)
            .ok_or_else(|| format!("process {pid} has no thread `{name}`"))
    }

    /// Time that it ran, in nanoseconds.
    ///
    /// # Errors
    /// If it has ended.
    pub fn nanoseconds(&self) -> Result<u64, String> {
        let path = self.0.join("schedstat");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        text.split(' ')
            .next()
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| format!("{}: no time in `{text}`", path.display()))
    }
}

/// Counters of a forwarding thread at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that went any other way: dropped, punted, held.
    pub lost: u64,
    /// Rounds of its loop with packets; 0 if the program does not say.
    pub busy: u64,
    /// Rounds without.
    pub idle: u64,
}

/// Packets that may be on their way through the thread while its counters are read.
const IN_FLIGHT: u64 = 4096;
/// Largest share of rounds without packets of a thread that counts as saturated.
const IDLE: f64 = 0.01;

/// Watches a saturated thread for `window`.
///
/// # Errors
/// If a packet was lost, the thread had rounds without packets, or it sent nothing.
pub fn saturated(
    time: &ThreadTime,
    window: Duration,
    mut read: impl FnMut() -> Result<Reading, String>,
) -> Result<Measurement, String> {
    let (start, busy_before, before) = (Instant::now(), time.nanoseconds()?, read()?);
    thread::sleep(window);
    let (busy_after, after, wall) = (time.nanoseconds()?, read()?, start.elapsed());
    let sent = after.sent - before.sent;
    let received = after.received - before.received;
    if after.lost != before.lost {
        return Err(format!(
            "{} packets were not forwarded ({sent} were)",
            after.lost - before.lost
        ));
    }
    if sent == 0 || sent.abs_diff(received) > IN_FLIGHT {
        return Err(format!("{received} packets came, {sent} were sent"));
    }
    let (idle, busy) = (after.idle - before.idle, after.busy - before.busy);
    if idle as f64 > IDLE * (idle + busy) as f64 {
        return Err(format!(
            "not saturated: {idle} of {} rounds found no packet",
            idle + busy
        ));
    }
    Ok(Measurement {
        value: (busy_after - busy_before) as f64 / sent as f64,
        by_wall_clock: wall.as_nanos() as f64 / sent as f64,
        count: sent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(last: Reading) -> Result<Measurement, String> {
        let time = ThreadTime::find(std::process::id(), "").expect("this process has threads");
        let mut readings = [Reading::default(), last].into_iter();
        saturated(&time, Duration::from_millis(1), || {
            readings.next().ok_or_else(String::new)
        })
    }

    #[test]
    fn only_a_saturated_thread_without_losses_is_measured() {
        let good = Reading {
            received: 100_000,
            sent: 100_000,
            lost: 0,
            busy: 1000,
            idle: 1,
        };
        assert_eq!(watch(good).map(|m| m.count), Ok(100_000));
        let error = |reading| watch(reading).expect_err("refused");
        assert!(error(Reading { lost: 1, ..good }).contains("1 packets were not forwarded"));
        assert!(error(Reading { idle: 500, ..good }).contains("not saturated"));
        assert!(error(Reading { sent: 50_000, ..good }).contains("50000 were sent"));
        assert!(error(Reading::default()).contains("0 were sent"));
    }
}
