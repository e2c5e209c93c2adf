//! The ports of one public address and protocol: which are taken.

use super::Slice;
use crate::random::Random;

/// Any slot of a word.
pub(super) const ANY: u64 = u64::MAX;
/// The even slots of a word.
pub(super) const EVEN: u64 = 0x5555_5555_5555_5555;
/// The odd slots of a word.
pub(super) const ODD: u64 = !EVEN;

/// Words of slots that one word of a [`Summary`] tells of.
const GROUP: usize = 64;
/// Groups that there can be: 2^16 slots.
const GROUPS: usize = 16;

/// Which words have no free slot of those asked for: a bit for each word, and above those one for each 64 words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    words: [u64; GROUPS],
    groups: u16,
}

impl Summary {
    /// Of so many words, all of them with free slots; those that there are not have none.
    fn of(words: usize) -> Self {
        let mut summary = Self {
            words: [0; GROUPS],
            groups: 0,
        };
        (words..GROUP * GROUPS).for_each(|word| summary.set(word, true));
        summary
    }

    #[inline]
    fn set(&mut self, word: usize, full: bool) {
        let (group, bit) = (word / GROUP % GROUPS, 1 << (word % GROUP));
        if full {
            self.words[group] |= bit;
        } else {
            self.words[group] &= !bit;
        }
        let whole = self.words[group] == u64::MAX;
        self.groups = self.groups & !(1 << group) | u16::from(whole) << group;
    }

    /// Of either of two kinds of slots.
    #[inline]
    fn group(&self, other: &Self, group: usize) -> u64 {
        self.words[group % GROUPS] & other.words[group % GROUPS]
    }
}

/// One bit a port. Above them summaries say which words have a free one, so that the next free port is found by looking at
/// two words of ports and two of each summary, however full the set.
#[derive(Debug, Clone)]
pub(super) struct PortSet {
    used: Box<[u64]>,
    /// Ports that a port forward has; may be used as well, by a connection older than the forward. Empty if there are
    /// none.
    blocked: Box<[u64]>,
    /// Of the even slots.
    even: Summary,
    /// Of the odd slots.
    odd: Summary,
    pub(super) in_use: u32,
    /// Words that were looked at to find free ports.
    #[cfg(test)]
    pub(super) inspected: std::cell::Cell<u32>,
}

impl PortSet {
    pub(super) fn new(slice: Slice) -> Self {
        let words = slice.slots().div_ceil(64);
        Self {
            used: vec![0; words].into(),
            blocked: Box::default(),
            even: Summary::of(words),
            odd: Summary::of(words),
            in_use: 0,
            #[cfg(test)]
            inspected: Default::default(),
        }
    }

    /// The free slots of a word.
    #[inline]
    fn free(&self, word: usize) -> u64 {
        self.inspect(1);
        !(self.used[word] | self.blocked.get(word).unwrap_or(&0))
    }

    #[cfg(test)]
    fn inspect(&self, words: u32) {
        self.inspected.set(self.inspected.get() + words);
    }

    #[cfg(not(test))]
    const fn inspect(&self, _: u32) {}

    #[inline]
    pub(super) fn is_free(&self, slot: u16) -> bool {
        self.free(usize::from(slot / 64)) >> (slot % 64) & 1 == 1
    }

    /// Notes the free slots of a word.
    fn update(&mut self, word: usize) {
        let free = self.free(word);
        self.even.set(word, free & EVEN == 0);
        self.odd.set(word, free & ODD == 0);
    }

    #[inline]
    pub(super) fn take(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        debug_assert!(self.used[word] >> (slot % 64) & 1 == 0, "a port has one owner");
        self.used[word] |= 1 << (slot % 64);
        self.in_use += 1;
        let free = self.free(word);
        if free & EVEN == 0 || free & ODD == 0 {
            self.update(word);
        }
    }

    pub(super) fn put_back(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        debug_assert!(self.used[word] >> (slot % 64) & 1 == 1, "a port is given back once");
        self.used[word] &= !(1 << (slot % 64));
        self.in_use -= 1;
        self.update(word);
    }

    pub(super) fn unblock_all(&mut self) {
        let blocked = std::mem::take(&mut self.blocked);
        let had = blocked.iter().enumerate().filter(|(_, bits)| **bits != 0);
        had.for_each(|(word, _)| self.update(word));
    }

    pub(super) fn block(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        if self.blocked.is_empty() {
            self.blocked = vec![0; self.used.len()].into();
        }
        self.blocked[word] |= 1 << (slot % 64);
        self.update(word);
    }

    /// True if no slot of the inclusive range is in use.
    pub(super) fn is_unused(&self, (from, to): (u16, u16)) -> bool {
        (usize::from(from / 64)..=usize::from(to / 64)).all(|word| {
            let start = u16::try_from(word * 64).unwrap_or(u16::MAX);
            let below = u64::MAX << from.saturating_sub(start).min(63);
            let above = u64::MAX >> (63 - to.saturating_sub(start).min(63));
            self.used[word] & below & above == 0
        })
    }

    /// The first free slot in the inclusive range whose bit of its word is in `only`: all, the even or the odd ones.
    fn first_free(&self, from: u16, to: u16, only: u64) -> Option<u16> {
        let slot = |word: usize, bits: u64| {
            let slot = (word * 64) as u32 + bits.trailing_zeros();
            (bits != 0 && slot <= u32::from(to)).then_some(slot as u16)
        };
        let first = usize::from(from / 64);
        let bits = self.free(first) & only & u64::MAX << (from % 64);
        if bits != 0 || first == usize::from(to / 64) {
            return slot(first, bits);
        }
        let word = self.next_word(first + 1, only)?;
        if word * 64 > usize::from(to) {
            return None;
        }
        slot(word, self.free(word) & only)
    }

    /// The first word from `word` on that has a free slot of those in `only`.
    fn next_word(&self, word: usize, only: u64) -> Option<usize> {
        let (one, other) = match only {
            EVEN => (&self.even, &self.even),
            ODD => (&self.odd, &self.odd),
            _ => (&self.even, &self.odd),
        };
        let group = word / GROUP;
        if group >= GROUPS {
            return None;
        }
        self.inspect(2);
        let here = !one.group(other, group) & u64::MAX << (word % GROUP);
        if here != 0 {
            return Some(group * GROUP + here.trailing_zeros() as usize);
        }
        let behind = !(one.groups & other.groups) & u16::MAX.checked_shl(group as u32 + 1).unwrap_or(0);
        if behind == 0 {
            return None;
        }
        self.inspect(2);
        let group = behind.trailing_zeros() as usize;
        Some(group * GROUP + (!one.group(other, group)).trailing_zeros() as usize)
    }

    /// Takes a free slot of the inclusive range: the preferred one if that is free, else one whose bit of its word is in
    /// `only`, as of [`PortSet::first_free`].
    #[inline]
    pub(super) fn allocate(
        &mut self,
        (from, to): (u16, u16),
        preferred: Option<u16>,
        only: u64,
        random: &mut Random,
    ) -> Option<u16> {
        let slot = match preferred.filter(|slot| (from..=to).contains(slot) && self.is_free(*slot)) {
            Some(slot) => slot,
            None => self.any_free((from, to), only, random)?,
        };
        self.take(slot);
        Some(slot)
    }

    /// A free slot of the inclusive range: the first one behind a random one.
    #[inline(never)]
    fn any_free(&self, (from, to): (u16, u16), only: u64, random: &mut Random) -> Option<u16> {
        let start = from + random.below(u32::from(to - from) + 1) as u16;
        let above = self.first_free(start, to, only);
        above.or_else(|| self.first_free(from, start, only))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_range_is_given_out_to_the_last_port_and_no_port_twice(
            first in 1u16..4000, length in 0u16..700, workers in 1u16..5, worker in 0u16..5, seed: u64,
        ) {
            let slice = Slice::new(worker % workers, workers);
            let range = (first, first + length);
            let expected: Vec<u16> = (range.0..=range.1).filter(|p| slice.slot(*p).is_some()).collect();
            let mut set = PortSet::new(slice);
            let mut random = Random::new(seed);
            let mut got = Vec::new();
            if let Some(slots) = slice.slots_of(range) {
                while let Some(slot) = set.allocate(slots, slice.slot(first + 3), ANY, &mut random) {
                    got.push(slice.port(slot));
                }
            }
            if expected.contains(&(first + 3)) {
                prop_assert_eq!(got.first(), Some(&(first + 3)));
            }
            got.sort_unstable();
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(set.in_use as usize, expected.len());
            for port in got {
                set.put_back(slice.slot(port).expect("ours"));
            }
            let new = PortSet::new(slice);
            prop_assert!(set.in_use == 0 && set.used == new.used);
            prop_assert!((set.even, set.odd) == (new.even, new.odd));
        }
    }

    #[test]
    fn a_blocked_port_is_not_given_out_and_survives_its_use() {
        let slice = Slice::new(0, 1);
        let mut set = PortSet::new(slice);
        let mut random = Random::new(0);
        assert_eq!(set.allocate((80, 80), None, ANY, &mut random), Some(80));
        set.block(80);
        set.put_back(80);
        assert_eq!(set.allocate((80, 80), Some(80), ANY, &mut random), None);
        set.unblock_all();
        assert_eq!(set.allocate((80, 80), Some(80), ANY, &mut random), Some(80));
    }

    #[test]
    fn every_other_slot_is_given_out_and_no_more() {
        let mut set = PortSet::new(Slice::new(0, 1));
        let mut random = Random::new(5);
        let mut got: Vec<u16> = std::iter::from_fn(|| set.allocate((1000, 1999), None, EVEN, &mut random)).collect();
        got.sort_unstable();
        assert_eq!(got, (1000..2000).step_by(2).collect::<Vec<_>>());
        assert_eq!(
            set.allocate((1000, 1999), None, ODD, &mut random).map(|slot| slot % 2),
            Some(1)
        );
    }

    /// What a new port takes does not depend on how full the set is: counted in words, for time is the machine's.
    #[test]
    fn finding_a_port_takes_as_much_of_a_full_set_as_of_an_empty_one() {
        // The preferred port; twice, on either side of a random one, two words of ports and two of both summaries; the word
        // of the port that is taken, twice if it was its last.
        const MOST: u32 = 1 + 2 * (2 + 2 * 2) + 2;
        let mut random = Random::new(3);
        for workers in [1, 2, 5] {
            let slice = Slice::new(0, workers);
            for (range, only) in [((1024, 65535), ANY), ((1, 65535), EVEN), ((5000, 9000), ODD)] {
                let slots = slice.slots_of(range).expect("some");
                let mut set = PortSet::new(slice);
                let mut words_of = |set: &mut PortSet, only| {
                    let before = set.inspected.get();
                    let slot = set.allocate(slots, Some(slots.0), only, &mut random);
                    (slot, set.inspected.get() - before)
                };
                let mut given = Vec::new();
                while let (Some(slot), words) = words_of(&mut set, only) {
                    assert!(words <= MOST, "{words} words with {} ports in use", set.in_use);
                    given.push(slot);
                }
                let (none, words) = words_of(&mut set, only);
                assert!(none.is_none() && words <= MOST, "{words} words to find none");
                // One free port, anywhere.
                for at in (0..given.len()).step_by(97) {
                    set.put_back(given[at]);
                    let (slot, words) = words_of(&mut set, only);
                    assert_eq!(slot, Some(given[at]));
                    assert!(words <= MOST, "{words} words to find the last port");
                }
            }
        }
    }

    #[test]
    fn a_range_is_unused_until_one_of_its_slots_is_taken() {
        for slot in [127, 128, 150, 191, 192, 200, 255, 256] {
            let mut set = PortSet::new(Slice::new(0, 1));
            set.take(slot);
            for range in [(128, 255), (128, 199), (150, 151), (192, 192), (100, 300)] {
                assert_eq!(
                    set.is_unused(range),
                    !(range.0..=range.1).contains(&slot),
                    "{slot} {range:?}"
                );
            }
        }
    }
}
