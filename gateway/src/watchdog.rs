//! Watches workers that keep a generation from being published: who, since when, for how long. Sans-IO.
//!
//! A worker enters a generation for each burst, so to be met inside is usual, and over within microseconds. One that stays
//! is stuck; forwarding on the others goes on, and so does everything in the control plane but the publishing.

use std::time::{Duration, Instant};

use net::Generation;
use rib::{Holder, Stalled};
use serde::Serialize;

/// A stall that lasts longer is told of in the log, and counted.
const LONG: Duration = Duration::from_secs(1);

/// A generation that waits, or waited, for workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StallView {
    /// The generation that waits.
    pub generation: Generation,
    /// Milliseconds after the gateway's start at which it was first put off.
    pub since_ms: u64,
    /// Milliseconds that it has waited.
    pub for_ms: u64,
    /// Workers that were met inside an older generation, and which one they are in.
    pub workers: Vec<Holder>,
}

/// `stalls` in `show generations`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StallsView {
    /// The one that there is.
    pub current: Option<StallView>,
    /// The last one of more than a second.
    pub last: Option<StallView>,
    /// How many of more than a second there were, without the current one.
    pub long: u64,
    /// The longest, in milliseconds, without the current one.
    pub longest_ms: u64,
}

/// The stall that there is, and those that were.
#[derive(Debug)]
pub(crate) struct Watchdog {
    epoch: Instant,
    current: Option<Stall>,
    past: StallsView,
}

#[derive(Debug)]
struct Stall {
    generation: Generation,
    since: Instant,
    holders: Vec<Holder>,
    told: bool,
}

impl Watchdog {
    /// With the gateway's start.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            current: None,
            past: StallsView::default(),
        }
    }

    /// A publish was put off.
    pub(crate) fn stalled(&mut self, stalled: Stalled, now: Instant) {
        let stall = self.current.get_or_insert(Stall {
            generation: stalled.generation,
            since: now,
            holders: Vec::new(),
            told: false,
        });
        // Whoever leaves between the try and the look is not there; the last ones that were seen are kept.
        if !stalled.holders.is_empty() {
            stall.holders = stalled.holders;
        }
        if !stall.told && now.duration_since(stall.since) >= LONG {
            stall.told = true;
            tracing::warn!(
                generation = %stall.generation,
                holders = stall.names(),
                "a worker is stuck in an older generation: no routes are published until it leaves"
            );
        }
    }

    /// A generation was published.
    pub(crate) fn published(&mut self, now: Instant) {
        let Some(stall) = self.current.take() else { return };
        let view = stall.view(self.epoch, now);
        self.past.longest_ms = self.past.longest_ms.max(view.for_ms);
        if now.duration_since(stall.since) >= LONG {
            tracing::warn!(
                generation = %stall.generation,
                holders = stall.names(),
                milliseconds = view.for_ms,
                "the worker has left: routes are published again"
            );
            self.past.long += 1;
            self.past.last = Some(view);
        }
    }

    /// To show.
    pub(crate) fn view(&self, now: Instant) -> StallsView {
        StallsView {
            current: self.current.as_ref().map(|stall| stall.view(self.epoch, now)),
            ..self.past.clone()
        }
    }
}

impl Stall {
    fn names(&self) -> String {
        let names: Vec<_> = self.holders.iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    fn view(&self, epoch: Instant, now: Instant) -> StallView {
        StallView {
            generation: self.generation,
            since_ms: self.since.duration_since(epoch).as_millis() as u64,
            for_ms: now.duration_since(self.since).as_millis() as u64,
            workers: self.holders.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_has_names_a_beginning_and_an_end() {
        let epoch = crate::manager::clock();
        let at = |ms| epoch + Duration::from_millis(ms);
        let put_off = |holders: &[&str]| Stalled {
            generation: Generation(8),
            holders: holders
                .iter()
                .map(|name| Holder {
                    reader: (*name).to_owned(),
                    generation: Generation(6),
                })
                .collect(),
        };
        let mut watchdog = Watchdog::new(epoch);
        watchdog.stalled(put_off(&[]), at(10));
        watchdog.published(at(11));
        let short = watchdog.view(at(12));
        assert_eq!((short.longest_ms, short.long, &short.last), (1, 0, &None));

        watchdog.stalled(put_off(&["tp-worker-0", "tp-worker-1"]), at(100));
        watchdog.stalled(put_off(&["tp-worker-1"]), at(101));
        watchdog.stalled(put_off(&[]), at(102));
        let current = watchdog.view(at(2000)).current.expect("there is one");
        assert_eq!((current.since_ms, current.for_ms), (100, 1900));
        assert_eq!(current.workers, put_off(&["tp-worker-1"]).holders);
        watchdog.stalled(put_off(&["tp-worker-1"]), at(2100));
        watchdog.published(at(2200));
        let after = watchdog.view(at(9000));
        assert_eq!((after.current, after.longest_ms, after.long), (None, 2100, 1));
        let last = after.last.expect("it was long");
        assert_eq!((last.generation, last.for_ms), (Generation(8), 2100));
    }
}
