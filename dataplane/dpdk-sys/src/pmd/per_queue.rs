//! A value for each queue, for a driver's burst functions.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// One value a queue, reached through a shared reference by the one thread that runs the queue.
///
/// DPDK promises that one thread at a time bursts on a queue, but a trait cannot; so each value has a flag that costs
/// one uncontended atomic a burst. A second thread on the same queue finds it taken and gets `None`.
#[derive(Debug)]
pub struct PerQueue<T>(Box<[Slot<T>]>);

/// On its own cache lines: neighbours belong to other threads.
#[derive(Debug)]
#[repr(align(128))]
struct Slot<T> {
    taken: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: a value is reached only between winning its flag and giving it back, so by one thread at a time.
unsafe impl<T: Send> Sync for PerQueue<T> {}

impl<T> PerQueue<T> {
    /// Room for `queues` values, all empty.
    pub fn new(queues: u16) -> Self {
        let slot = |_| Slot {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(None),
        };
        Self((0..queues).map(slot).collect())
    }

    /// Number of queues that there is room for.
    pub fn queues(&self) -> u16 {
        self.0.len() as u16
    }

    /// Runs `f` on the queue's value; `None` if it has none, or another thread is at it.
    #[inline(always)]
    pub fn with<R>(&self, queue: u16, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.slot(queue, |value| value.as_mut().map(f))?
    }

    /// Gives the queue a value and returns the one before.
    ///
    /// # Errors
    /// The value itself, if there is no such queue or another thread is at it.
    pub fn set(&self, queue: u16, value: T) -> Result<Option<T>, T> {
        let mut value = Some(value);
        match self.slot(queue, |place| std::mem::replace(place, value.take())) {
            Some(old) => Ok(old),
            None => value.map_or(Ok(None), Err),
        }
    }

    /// Takes the queue's value away.
    pub fn take(&self, queue: u16) -> Option<T> {
        self.slot(queue, Option::take)?
    }

    /// Drops every value that no thread is at.
    pub fn clear(&self) {
        for queue in 0..self.queues() {
            drop(self.take(queue));
        }
    }

    #[inline(always)]
    fn slot<R>(&self, queue: u16, f: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        /// Gives the flag back, also when `f` unwinds.
        struct Release<'a>(&'a AtomicBool);
        impl Drop for Release<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        let slot = self.0.get(usize::from(queue))?;
        if slot.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let _release = Release(&slot.taken);
        // SAFETY: the flag was won, so no other reference to the value exists until it is given back.
        Some(f(unsafe { &mut *slot.value.get() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_reached_by_one_at_a_time() {
        let values = PerQueue::new(2);
        assert_eq!(values.set(0, 7), Ok(None));
        assert_eq!(values.set(2, 7), Err(7));
        let nested = values.with(0, |outer| {
            *outer += 1;
            (
                *outer,
                values.with(0, |inner| *inner),
                values.with(1, |inner| *inner),
                values.set(0, 9),
            )
        });
        assert_eq!(nested, Some((8, None, None, Err(9))));
        assert_eq!(values.take(0), Some(8));
        assert_eq!(values.with(0, |v| *v), None);
    }
}
