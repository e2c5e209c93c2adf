//! Routes that somebody takes away from us again and again: two writers, one place. Sans-IO.
//!
//! Healing at once is right when a route was lost by accident, and a busy loop when another program wants the place as
//! well. The first losses of a prefix are healed at once; further ones wait, each twice as long as the one before.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use net::Prefix;

/// Losses that are healed at once.
const FREE: u32 = 3;
/// How long the next one waits, and the longest wait.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Without a loss for this long the place is ours again.
const PEACE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy)]
struct Fight {
    losses: u32,
    last: Instant,
    until: Option<Instant>,
}

/// How often each of our routes was lost lately, and which are not written for now.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    fights: HashMap<Prefix, Fight>,
    held: BTreeSet<(Instant, Prefix)>,
}

impl Contention {
    /// The kernel does not have our route any more, and not by our doing.
    pub(crate) fn lost(&mut self, prefix: Prefix, now: Instant) {
        let fight = self.fights.entry(prefix).or_insert(Fight {
            losses: 0,
            last: now,
            until: None,
        });
        if now.saturating_duration_since(fight.last) >= PEACE {
            fight.losses = 0;
        }
        fight.losses = fight.losses.saturating_add(1);
        fight.last = now;
        if fight.losses <= FREE || fight.until.is_some() {
            return;
        }
        let doublings = (fight.losses - FREE - 1).min(16);
        let until = now + (FIRST * (1 << doublings)).min(LONGEST);
        fight.until = Some(until);
        self.held.insert((until, prefix));
    }

    /// True if the prefix is not written for now.
    pub(crate) fn is_held(&self, prefix: &Prefix) -> bool {
        self.fights.get(prefix).is_some_and(|f| f.until.is_some())
    }

    /// How often it was lost lately.
    pub(crate) fn losses(&self, prefix: &Prefix) -> u32 {
        self.fights.get(prefix).map_or(0, |f| f.losses)
    }

    /// When [`Self::release`] has something to give.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.held.first().map(|(until, _)| *until)
    }

    /// Those that may be written again.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<Prefix> {
        let mut due = Vec::new();
        while let Some(&(until, prefix)) = self.held.first().filter(|(until, _)| *until <= now) {
            self.held.remove(&(until, prefix));
            if let Some(fight) = self.fights.get_mut(&prefix) {
                fight.until = None;
            }
            due.push(prefix);
        }
        due
    }

    /// Forgets those that have long been left alone.
    pub(crate) fn forget_settled(&mut self, now: Instant) {
        self.fights
            .retain(|_, f| f.until.is_some() || now.saturating_duration_since(f.last) < PEACE);
    }

    /// Those that are held, with their losses, the soonest first.
    pub(crate) fn held(&self) -> impl ExactSizeIterator<Item = (Prefix, u32)> + '_ {
        self.held.iter().map(|(_, prefix)| (*prefix, self.losses(prefix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    fn the_first_losses_are_free_and_an_hour_of_fighting_costs_few_writes() {
        let (mut contention, start) = (Contention::default(), Instant::now());
        let prefix: Prefix = "10.0.0.0/8".parse().expect("prefix");
        let (mut now, mut writes) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            if contention.is_held(&prefix) {
                let until = contention.poll_timeout().expect("held");
                assert!(contention.release(until - Duration::from_millis(1)).is_empty());
                now = until;
                assert_eq!(contention.release(now), [prefix]);
            } else {
                writes += 1;
                contention.lost(prefix, now);
                now += Duration::from_millis(1);
            }
        }
        assert!((FREE + 6..80).contains(&writes), "{writes} writes in an hour");
        contention.forget_settled(now + PEACE);
        assert_eq!(contention.losses(&prefix), 0);
        contention.lost(prefix, now + PEACE);
        assert!(!contention.is_held(&prefix));
    }
}
