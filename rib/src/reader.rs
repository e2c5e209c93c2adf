//! A worker's handle to the published tables.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use left_right::{ReadGuard, ReadHandle};
use net::Generation;

use crate::tables::Tables;

/// Handle to the published tables. A clone for each worker: it can be sent to another thread, and not be shared.
#[derive(Clone)]
pub struct Reader {
    handle: ReadHandle<Tables>,
    published: Arc<AtomicU64>,
}

impl Reader {
    pub(crate) fn new(handle: ReadHandle<Tables>, published: Arc<AtomicU64>) -> Self {
        Self { handle, published }
    }

    /// The newest generation, whole and unchanging while the guard lives; `None` once the [`crate::Rib`] is gone.
    ///
    /// Call it once a burst, and never hold the guard while idle: while a guard of the last but one generation lives,
    /// [`crate::Rib::publish`] is [`crate::Stalled`].
    #[inline]
    pub fn enter(&self) -> Option<Guard<'_>> {
        self.handle.enter().map(Guard)
    }

    /// Number of the newest generation, without entering it.
    #[inline]
    pub fn generation(&self) -> Generation {
        Generation(self.published.load(Ordering::Acquire))
    }
}

/// One generation, held.
pub struct Guard<'a>(ReadGuard<'a, Tables>);

impl Deref for Guard<'_> {
    type Target = Tables;

    #[inline]
    fn deref(&self) -> &Tables {
        &self.0
    }
}
