//! One copy for all who hold equal values: a full table has a few hundred thousand attribute sets for a million paths.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::wire::{AsPathSegment, Attributes};

/// Below this many values a sweep is not worth its time.
const SWEEP_FLOOR: usize = 1024;

/// A value that may hold more memory than it needs while it is made.
pub(crate) trait Compact {
    /// Gives the rest back.
    fn compact(&mut self);
}

impl Compact for Attributes {
    fn compact(&mut self) {
        for segment in &mut self.as_path.segments {
            let (AsPathSegment::AsSequence(ases) | AsPathSegment::AsSet(ases)) = segment;
            ases.shrink_to_fit();
        }
        self.as_path.segments.shrink_to_fit();
        self.cluster_list.shrink_to_fit();
        self.other.shrink_to_fit();
    }
}

/// Values by themselves. Two that it has handed out are equal if and only if they are at one address.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: HashSet<Arc<T>, RandomState>,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: HashSet::default(),
            sweep_at: SWEEP_FLOOR,
        }
    }
}

impl<T: Eq + Hash + Compact> Interner<T> {
    pub(crate) fn intern(&mut self, mut value: T) -> Arc<T> {
        if let Some(known) = self.values.get(&value) {
            return Arc::clone(known);
        }
        if self.values.len() >= self.sweep_at {
            self.sweep();
        }
        value.compact();
        let shared = Arc::new(value);
        self.values.insert(Arc::clone(&shared));
        shared
    }

    /// Drops the values that nobody else holds. Runs by itself when the set has doubled.
    pub(crate) fn sweep(&mut self) {
        self.values.retain(|value| Arc::strong_count(value) > 1);
        self.sweep_at = (self.values.len() * 2).max(SWEEP_FLOOR);
    }

    /// Values held, those not yet swept included.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Compact for String {
        fn compact(&mut self) {
            self.shrink_to_fit();
        }
    }

    #[test]
    fn equal_values_share_and_unused_ones_go() {
        let mut interner = Interner::default();
        let first = interner.intern("a".to_owned());
        assert!(Arc::ptr_eq(&first, &interner.intern("a".to_owned())));
        for i in 0..10 * SWEEP_FLOOR {
            interner.intern(i.to_string());
        }
        assert!(interner.len() <= SWEEP_FLOOR + 1);
        interner.sweep();
        assert_eq!(interner.len(), 1);
    }
}
