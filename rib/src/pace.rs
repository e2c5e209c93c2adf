//! How closely generations may follow one another.
//!
//! With each generation workers change to the other copy of the tables, and what of it they use has to come into their caches
//! anew. That is nothing once in a while, and costs them several per cent when it happens thousands of times a second. So
//! changes are published at once while they come singly, and together, a few milliseconds apart, while they keep coming.

use std::time::{Duration, Instant};

/// Generations that may follow one another at once, after a pause of as many intervals.
const AT_ONCE: u32 = 16;

/// Says when the next generation may be published: a bucket of a few tokens that gets one each interval.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    /// When the bucket is full.
    full: Option<Instant>,
}

impl Pace {
    /// A pace of one generation an interval in the long run; zero is no limit.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, full: None }
    }

    /// Until when the next generation has to wait; `None` if it may be published now.
    pub fn wait(&self, now: Instant) -> Option<Instant> {
        let ahead = self.full?.checked_duration_since(now)?;
        let over = ahead.checked_sub(self.interval * (AT_ONCE - 1))?;
        (!over.is_zero()).then(|| now + over)
    }

    /// A generation was published, whether it had to wait or not.
    pub fn published(&mut self, now: Instant) {
        let most = now + self.interval * AT_ONCE;
        self.full = Some((self.full.unwrap_or(now).max(now) + self.interval).min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    fn single_changes_go_at_once_and_a_stream_of_them_at_the_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(5 * MS);
        for _ in 0..AT_ONCE {
            assert_eq!(pace.wait(start), None);
            pace.published(start);
        }
        assert_eq!(pace.wait(start), Some(start + 5 * MS));
        assert_eq!(pace.wait(start + 5 * MS), None);
        // A second of changes each tenth of a millisecond.
        let mut generations = 0;
        for step in 0..10_000 {
            let now = start + MS / 10 * step;
            if pace.wait(now).is_none() {
                pace.published(now);
                generations += 1;
            }
        }
        assert!((195..=201).contains(&generations), "{generations}");
        // What may not wait does not save tokens up, nor owe more than the bucket holds.
        let later = start + 1000 * MS;
        (0..1000).for_each(|_| pace.published(later));
        assert_eq!(pace.wait(later), Some(later + 5 * MS));
        assert_eq!(pace.wait(later + 5 * AT_ONCE * MS), None);
        let mut free = Pace::new(Duration::ZERO);
        (0..100).for_each(|_| free.published(start));
        assert_eq!(free.wait(start), None);
    }
}
