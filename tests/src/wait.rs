//! Waiting for what another program is about to do.

use std::thread;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(20);

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
