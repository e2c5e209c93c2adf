//! Pauses between connection attempts, and the jitter of timers (RFC 4271 section 10).

use std::time::Duration;

/// First pause after a failure.
const FIRST: Duration = Duration::from_secs(1);

/// Doubling pauses with a ceiling, jittered so that two speakers do not keep meeting.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    ceiling: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    pub(super) const fn new(ceiling: Duration, seed: u64) -> Self {
        Self {
            ceiling,
            failures: 0,
            random: seed,
        }
    }

    /// Failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Goes back (or on) to a number of failures in a row.
    pub(super) const fn set_failures(&mut self, failures: u32) {
        self.failures = failures;
    }

    /// Counts a failure and yields the pause before the next attempt.
    pub(super) fn pause(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.jitter(doubled.min(self.ceiling))
    }

    /// 75 to 100 % of `duration`.
    pub(super) fn jitter(&mut self, duration: Duration) -> Duration {
        // SplitMix64: spreads well from any seed, and nothing here needs to be unpredictable.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let parts = 768 + u32::try_from((mixed ^ (mixed >> 31)) % 257).expect("a remainder of 257 fits");
        duration * parts / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_ceiling_and_stay_within_the_jitter() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(Duration::from_secs(10), seed);
            for full in [1, 2, 4, 8, 10, 10] {
                let pause = backoff.pause();
                let full = Duration::from_secs(full);
                assert!(pause >= full * 3 / 4 && pause <= full, "{pause:?} of {full:?}");
            }
        }
    }
}
