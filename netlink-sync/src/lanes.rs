//! The order in which prefixes are written: an urgent lane before a bulk lane. Sans-IO.
//!
//! A withdrawal or a change of next hops redirects traffic that flows now; a new route of a full table does not. Without
//! lanes the first would wait behind the whole of the second.

use std::collections::{HashMap, VecDeque};

use net::Prefix;

/// Of so many writes one is taken from the bulk lane though the urgent one has more: neither starves.
const BULK_SHARE: u8 = 4;

/// How soon a prefix is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Withdrawals and changes of what the kernel has.
    Urgent,
    /// Routes that the kernel does not have yet.
    Bulk,
}

/// Prefixes that wait, each once.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    urgent: VecDeque<Prefix>,
    bulk: VecDeque<Prefix>,
    /// The lane of each; an entry of the other lane is out of date.
    waiting: HashMap<Prefix, Lane>,
    turn: u8,
}

impl Lanes {
    /// Appends a prefix; one that waits in the bulk lane moves to the urgent one if it is urgent now.
    pub(crate) fn push(&mut self, prefix: Prefix, lane: Lane) {
        match (self.waiting.get(&prefix), lane) {
            (Some(Lane::Urgent), _) | (Some(Lane::Bulk), Lane::Bulk) => return,
            (_, Lane::Urgent) => self.urgent.push_back(prefix),
            (None, Lane::Bulk) => self.bulk.push_back(prefix),
        }
        self.waiting.insert(prefix, lane);
    }

    /// Takes the next prefix.
    pub(crate) fn pop(&mut self) -> Option<Prefix> {
        self.turn = (self.turn + 1) % BULK_SHARE;
        let order = if self.turn == 0 {
            [Lane::Bulk, Lane::Urgent]
        } else {
            [Lane::Urgent, Lane::Bulk]
        };
        order.into_iter().find_map(|lane| self.pop_from(lane))
    }

    fn pop_from(&mut self, lane: Lane) -> Option<Prefix> {
        let queue = match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        };
        while let Some(prefix) = queue.pop_front() {
            if self.waiting.get(&prefix) == Some(&lane) {
                self.waiting.remove(&prefix);
                return Some(prefix);
            }
        }
        None
    }

    /// True if the prefix waits.
    pub(crate) fn contains(&self, prefix: &Prefix) -> bool {
        self.waiting.contains_key(prefix)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(n: u8) -> Prefix {
        format!("10.{n}.0.0/16").parse().expect("prefix")
    }

    #[test]
    fn urgent_ones_overtake_and_bulk_goes_on() {
        let mut lanes = Lanes::default();
        (0..20).for_each(|n| lanes.push(prefix(n), Lane::Bulk));
        (100..120).for_each(|n| lanes.push(prefix(n), Lane::Urgent));
        lanes.push(prefix(19), Lane::Urgent); // was last of all
        let first: Vec<_> = std::iter::from_fn(|| lanes.pop()).take(28).collect();
        let urgent = first.iter().filter(|p| **p >= prefix(100) || **p == prefix(19)).count();
        assert_eq!(urgent, 21, "three of four, from the first on: {first:?}");
        assert_eq!(lanes.len(), 12);
    }

    proptest! {
        #[test]
        fn each_prefix_comes_out_once_for_each_time_it_waited(
            steps in proptest::collection::vec((0..6_u8, any::<bool>(), any::<bool>()), 0..200),
        ) {
            let mut lanes = Lanes::default();
            let mut model = std::collections::BTreeSet::new();
            for (n, urgent, pop) in steps {
                if pop {
                    match lanes.pop() {
                        Some(prefix) => prop_assert!(model.remove(&prefix)),
                        None => prop_assert!(model.is_empty()),
                    }
                } else {
                    lanes.push(prefix(n), if urgent { Lane::Urgent } else { Lane::Bulk });
                    model.insert(prefix(n));
                }
                prop_assert_eq!(lanes.len(), model.len());
                prop_assert!(model.iter().all(|p| lanes.contains(p)));
            }
        }
    }
}
