//! Waiting for what another program is about to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(20);

/// Patience with what must come true. Far more than it takes anywhere: a machine with other work must not fail a test.
pub const SOON: Duration = Duration::from_secs(60);

/// Asks `probe` until it answers `Ok`; returns the answer and how long that took.
///
/// # Errors
/// The last refusal, once `timeout` has passed.
pub fn within<T>(timeout: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<(T, Duration), String> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(answer) => return Ok((answer, start.elapsed())),
            Err(why) if start.elapsed() > timeout => return Err(format!("not within {timeout:?}: {why}")),
            Err(_) => thread::sleep(STEP),
        }
    }
}

/// [`within`] for what must come true.
///
/// # Panics
/// With the last refusal, once `timeout` has passed.
pub fn eventually<T>(timeout: Duration, probe: impl FnMut() -> Result<T, String>) -> T {
    within(timeout, probe).unwrap_or_else(|why| panic!("{why}")).0
}

/// `Ok` if `condition` holds; else an error that says `why`.
///
/// # Errors
/// If the condition does not hold.
pub fn ensure(condition: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(why()) }
}

/// A thread that only sleeps, and knows how late it ever woke: what the machine itself adds to each step of anything that
/// a test measures in time.
#[derive(Debug)]
pub struct Bystander {
    latest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Begins to watch.
    pub fn start() -> Self {
        let (latest, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (latest_of_thread, stop_of_thread) = (Arc::clone(&latest), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stop_of_thread.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(STEP);
                let late = start.elapsed().saturating_sub(STEP);
                latest_of_thread.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self {
            latest,
            stop,
            thread: Some(thread),
        }
    }

    /// `wanted`, and what the machine may have added since the last call: the ten threads of five programs that a packet
    /// and a route wake one after the other were each late by as much as this one at most.
    pub fn allowing(&self, wanted: Duration) -> Duration {
        wanted + Duration::from_micros(self.latest.swap(0, Ordering::Relaxed)) * 10
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusal_is_the_error() {
        let mut asked = 0;
        let error = within(Duration::from_millis(30), || -> Result<(), _> {
            asked += 1;
            Err(format!("refusal {asked}"))
        });
        assert!(asked >= 2);
        assert!(error.expect_err("refused").ends_with(&format!("refusal {asked}")));
    }
}
