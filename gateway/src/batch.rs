//! When a batch of changes closes, and how those before it did.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rib::Pace;
use serde::Serialize;

/// Why a batch closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closed {
    /// Nothing waited any more.
    #[default]
    Drained,
    /// Nothing waited, but generations followed one another too closely: it waited for its turn.
    Paced,
    /// It had as many changes as a batch may have.
    Size,
    /// It was open as long as a batch may be.
    Time,
    /// The last table that was awaited is complete.
    EndOfRib,
}

/// Bounds of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Changes.
    pub size: usize,
    /// Milliseconds.
    pub time_ms: u64,
}

/// How many batches closed for each reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Because nothing waited.
    pub drained: u64,
    /// The same, after waiting for their turn.
    pub paced: u64,
    /// At the bound of changes.
    pub size: u64,
    /// At the bound of time.
    pub time: u64,
    /// With the last End-of-RIB that was awaited.
    pub end_of_rib: u64,
    /// Publishes put off because a worker still held an older generation.
    pub stalled: u64,
}

/// `batches` in `show generations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchesView {
    /// The bounds in force.
    pub bounds: Bounds,
    /// True while they are the large ones.
    pub large: bool,
    /// What became of the batches so far.
    #[serde(flatten)]
    pub tally: Tally,
}

/// The rule of batches: bounds by what is going on, and a tally.
pub(crate) struct Batches {
    steady: Bounds,
    large: Bounds,
    /// Peers whose table is awaited, and until when.
    loading: HashMap<IpAddr, Instant>,
    /// Until when the tables of the start are awaited.
    starting: Option<Instant>,
    patience: Duration,
    pace: Pace,
    /// The batch in the making had to wait for its turn.
    waited: bool,
    tally: Tally,
}

impl Batches {
    /// With `awaited` sessions at the start; a table is awaited for `patience` at most.
    pub(crate) fn new(config: &config::Rib, awaited: usize, patience: Duration, now: Instant) -> Self {
        let bounds = |bounds: config::BatchBounds| Bounds {
            size: bounds.size as usize,
            time_ms: bounds.time.into(),
        };
        Self {
            steady: bounds(config.batch),
            large: bounds(config.large_batch),
            loading: HashMap::new(),
            starting: (awaited > 0).then_some(now + patience),
            patience,
            pace: Pace::new(Duration::from_millis(config.publish_interval.into())),
            waited: false,
            tally: Tally::default(),
        }
    }

    /// Until when a batch that closes with nothing more waiting has to be kept back; `None` if it may be published.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Instant> {
        let until = self.pace.wait(now);
        self.waited |= until.is_some();
        until
    }

    /// A session came up: its table follows.
    pub(crate) fn peer_up(&mut self, peer: IpAddr, now: Instant) {
        self.loading.insert(peer, now + self.patience);
    }

    /// A peer's table is complete, or will not be.
    pub(crate) fn peer_done(&mut self, peer: IpAddr) {
        self.loading.remove(&peer);
    }

    /// Every table of the start is complete.
    pub(crate) fn started(&mut self) {
        self.starting = None;
    }

    /// The bounds of a batch that opens.
    pub(crate) fn bounds(&mut self, now: Instant) -> Bounds {
        self.loading.retain(|_, until| now < *until);
        self.starting = self.starting.filter(|until| now < *until);
        if self.is_large() { self.large } else { self.steady }
    }

    fn is_large(&self) -> bool {
        self.starting.is_some() || !self.loading.is_empty()
    }

    /// A batch was published. Returns what closed it after all.
    pub(crate) fn published(&mut self, closed: Closed, now: Instant) -> Closed {
        self.pace.published(now);
        let closed = match (std::mem::take(&mut self.waited), closed) {
            (true, Closed::Drained) => Closed::Paced,
            _ => closed,
        };
        let count = match closed {
            Closed::Drained => &mut self.tally.drained,
            Closed::Paced => &mut self.tally.paced,
            Closed::Size => &mut self.tally.size,
            Closed::Time => &mut self.tally.time,
            Closed::EndOfRib => &mut self.tally.end_of_rib,
        };
        *count += 1;
        closed
    }

    /// A publish was put off.
    pub(crate) fn stalled(&mut self) {
        self.tally.stalled += 1;
    }

    /// To show.
    pub(crate) fn view(&mut self, now: Instant) -> BatchesView {
        BatchesView {
            bounds: self.bounds(now),
            large: self.is_large(),
            tally: self.tally,
        }
    }
}

impl Bounds {
    /// Whether a batch of `pending` changes, open for `open`, closes although more waits.
    pub(crate) fn reached(&self, pending: usize, open: Duration) -> Option<Closed> {
        if pending >= self.size {
            Some(Closed::Size)
        } else if open >= Duration::from_millis(self.time_ms) {
            Some(Closed::Time)
        } else {
            None
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn bounds() -> config::Rib {
        let bounds = |size, time| config::BatchBounds { size, time };
        config::Rib {
            batch: bounds(10, 5),
            large_batch: bounds(1000, 50),
            publish_interval: 5,
            distance: config::Distances {
                fixed: 1,
                ebgp: 20,
                ibgp: 200,
                kernel: 120,
                fpm: 110,
            },
        }
    }

    fn batches(awaited: usize, now: Instant) -> Batches {
        Batches::new(&bounds(), awaited, Duration::from_secs(120), now)
    }

    #[test]
    fn a_batch_closes_at_the_first_bound() {
        let bounds = Bounds { size: 10, time_ms: 5 };
        let ms = Duration::from_millis;
        assert_eq!(bounds.reached(9, ms(4)), None);
        assert_eq!(bounds.reached(10, ms(0)), Some(Closed::Size));
        assert_eq!(bounds.reached(0, ms(5)), Some(Closed::Time));
    }

    #[test]
    fn bounds_are_large_while_a_table_is_awaited() {
        let now = crate::manager::clock();
        let later = |seconds| now + Duration::from_secs(seconds);
        let peer = IpAddr::from([192, 0, 2, 1]);
        let mut start = batches(2, now);
        assert_eq!(start.bounds(now).size, 1000);
        start.started();
        assert_eq!(start.bounds(now).size, 10);
        start.peer_up(peer, now);
        assert_eq!(start.bounds(later(119)).size, 1000);
        start.peer_done(peer);
        assert_eq!(start.bounds(now).size, 10);
        // A peer that never says so is not awaited for ever, nor is one that never comes.
        start.peer_up(peer, now);
        assert_eq!(start.bounds(later(120)).size, 10);
        let mut alone = batches(2, now);
        assert_eq!(alone.bounds(later(120)).size, 10);
        assert_eq!(batches(0, now).bounds(now).size, 10, "nobody is awaited");
    }

    #[test]
    fn batches_are_tallied_by_what_closed_them() {
        let now = crate::manager::clock();
        let mut batches = batches(0, now);
        for closed in [
            Closed::Drained,
            Closed::Drained,
            Closed::Size,
            Closed::Time,
            Closed::EndOfRib,
        ] {
            assert_eq!(batches.published(closed, now), closed);
        }
        while batches.wait(now).is_none() {
            batches.published(Closed::Size, now);
        }
        assert_eq!(batches.published(Closed::Drained, now), Closed::Paced);
        batches.stalled();
        let view = batches.view(now);
        let tally = Tally {
            drained: 2,
            paced: 1,
            size: 12,
            time: 1,
            end_of_rib: 1,
            stalled: 1,
        };
        assert_eq!((view.tally, view.large), (tally, false));
    }
}
