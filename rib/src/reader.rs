//! A worker's handle to the published tables, and who is inside them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use left_right::{ReadGuard, ReadHandle};
use net::Generation;
use serde::Serialize;

use crate::sync::{AtomicU64, Ordering};
use crate::tables::Tables;

/// Handle to the published tables. A clone for each worker: it can be sent to another thread, and not be shared.
pub struct Reader {
    handle: ReadHandle<Tables>,
    published: Arc<AtomicU64>,
    seats: Arc<Seats>,
    seat: Arc<Seat>,
}

/// A reader that is inside a generation which is not the newest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Holder {
    /// What [`Reader::named`] called it.
    pub reader: String,
    /// The generation that it holds.
    pub generation: Generation,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in generation {}", self.reader, self.generation)
    }
}

/// What the writer sees of a reader. On cache lines of its own, for it is written twice a burst.
#[repr(align(128))]
pub(crate) struct Seat {
    name: Arc<str>,
    /// The generation that is held, and one; 0 outside.
    held: AtomicU64,
}

/// The seats of all readers that there are.
#[derive(Default)]
pub(crate) struct Seats(Mutex<Vec<Weak<Seat>>>);

impl Seats {
    fn take(&self, name: Arc<str>) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            name,
            held: AtomicU64::new(0),
        });
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        seat
    }

    /// Who holds a generation older than `current`, by name.
    pub(crate) fn holders(&self, current: Generation) -> Vec<Holder> {
        let seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut holders: Vec<_> = (seats.iter().filter_map(Weak::upgrade))
            .filter_map(|seat| {
                let generation = Generation(seat.held.load(Ordering::Relaxed).checked_sub(1)?);
                let reader = seat.name.to_string();
                (generation < current).then_some(Holder { reader, generation })
            })
            .collect();
        holders.sort();
        holders
    }
}

impl Reader {
    pub(crate) fn new(handle: ReadHandle<Tables>, published: Arc<AtomicU64>, seats: Arc<Seats>) -> Self {
        let seat = seats.take("reader".into());
        Self {
            handle,
            published,
            seats,
            seat,
        }
    }

    /// Another handle, under a name by which [`crate::Stalled`] tells of it.
    pub fn named(&self, name: &str) -> Self {
        Self {
            handle: self.handle.clone(),
            published: Arc::clone(&self.published),
            seats: Arc::clone(&self.seats),
            seat: self.seats.take(name.into()),
        }
    }

    /// The newest generation, whole and unchanging while the guard lives; `None` once the [`crate::Rib`] is gone.
    ///
    /// Call it once a burst, and never hold the guard while idle: while a guard of the last but one generation lives,
    /// [`crate::Rib::publish`] is [`crate::Stalled`].
    #[inline]
    pub fn enter(&self) -> Option<Guard<'_>> {
        let tables = self.handle.enter()?;
        let outer = self.seat.held.load(Ordering::Relaxed);
        self.seat.held.store(tables.generation().0 + 1, Ordering::Relaxed);
        Some(Guard {
            tables,
            seat: &self.seat,
            outer,
        })
    }

    /// Number of the newest generation, without entering it.
    #[inline]
    pub fn generation(&self) -> Generation {
        Generation(self.published.load(Ordering::Acquire))
    }
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        self.named(&self.seat.name)
    }
}

/// One generation, held.
pub struct Guard<'a> {
    tables: ReadGuard<'a, Tables>,
    seat: &'a Seat,
    /// What the seat said before: a reader may enter again while it is inside.
    outer: u64,
}

impl Deref for Guard<'_> {
    type Target = Tables;

    #[inline]
    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.seat.held.store(self.outer, Ordering::Relaxed);
    }
}
