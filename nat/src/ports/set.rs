//! The ports of one public address and protocol: which are taken.

use super::Slice;
use crate::random::Random;

/// Any slot of a word.
pub(super) const ANY: u64 = u64::MAX;
/// The even slots of a word.
pub(super) const EVEN: u64 = 0x5555_5555_5555_5555;

/// One bit a port, and above it one bit for each word that has no free port: the next free port is found in some twenty
/// steps, however full the set.
#[derive(Debug, Clone)]
pub(super) struct PortSet {
    used: Box<[u64]>,
    /// Ports that a port forward has; may be used as well, by a connection older than the forward.
    blocked: Box<[u64]>,
    full: [u64; 16],
    pub(super) in_use: u32,
}

impl PortSet {
    pub(super) fn new(slice: Slice) -> Self {
        let words = slice.slots().div_ceil(64);
        Self {
            used: vec![0; words].into(),
            blocked: vec![0; words].into(),
            full: [0; 16],
            in_use: 0,
        }
    }

    pub(super) fn is_free(&self, slot: u16) -> bool {
        let word = usize::from(slot / 64);
        (self.used[word] | self.blocked[word]) >> (slot % 64) & 1 == 0
    }

    fn update_full(&mut self, word: usize) {
        let bit = 1 << (word % 64);
        if self.used[word] | self.blocked[word] == u64::MAX {
            self.full[word / 64] |= bit;
        } else {
            self.full[word / 64] &= !bit;
        }
    }

    pub(super) fn take(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        debug_assert!(self.used[word] >> (slot % 64) & 1 == 0, "a port has one owner");
        self.used[word] |= 1 << (slot % 64);
        self.in_use += 1;
        self.update_full(word);
    }

    pub(super) fn put_back(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        debug_assert!(self.used[word] >> (slot % 64) & 1 == 1, "a port is given back once");
        self.used[word] &= !(1 << (slot % 64));
        self.in_use -= 1;
        self.update_full(word);
    }

    pub(super) fn unblock_all(&mut self) {
        for word in 0..self.blocked.len() {
            self.blocked[word] = 0;
            self.update_full(word);
        }
    }

    pub(super) fn block(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        self.blocked[word] |= 1 << (slot % 64);
        self.update_full(word);
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

    /// The first free slot in the inclusive range whose bit of its word is in `only`.
    fn first_free(&self, from: u16, to: u16, only: u64) -> Option<u16> {
        let (first, last) = (usize::from(from / 64), usize::from(to / 64));
        let free = |word: usize| !(self.used[word] | self.blocked[word]) & only;
        let slot = |word: usize, bits: u64| {
            let slot = (word * 64) as u32 + bits.trailing_zeros();
            (bits != 0 && slot <= u32::from(to)).then_some(slot as u16)
        };
        let bits = free(first) & u64::MAX << (from % 64);
        if bits != 0 || first == last {
            return slot(first, bits);
        }
        let mut word = self.next_word(first + 1)?;
        while word <= last && free(word) == 0 {
            word = self.next_word(word + 1)?;
        }
        if word > last { None } else { slot(word, free(word)) }
    }

    /// The first word from `word` on that has a free slot.
    fn next_word(&self, word: usize) -> Option<usize> {
        let mut group = word / 64;
        let mut bits = !*self.full.get(group)? & u64::MAX << (word % 64);
        while bits == 0 {
            group += 1;
            bits = !*self.full.get(group)?;
        }
        let word = group * 64 + bits.trailing_zeros() as usize;
        (word < self.used.len()).then_some(word)
    }

    /// Takes a free slot of the inclusive range: the preferred one if that is free, else one whose bit of its word is in
    /// `only`.
    pub(super) fn allocate(
        &mut self,
        (from, to): (u16, u16),
        preferred: Option<u16>,
        only: u64,
        random: &mut Random,
    ) -> Option<u16> {
        let slot = match preferred.filter(|slot| (from..=to).contains(slot) && self.is_free(*slot)) {
            Some(slot) => slot,
            None => {
                let start = from + random.below(u32::from(to - from) + 1) as u16;
                let above = self.first_free(start, to, only);
                above.or_else(|| self.first_free(from, start, only))?
            }
        };
        self.take(slot);
        Some(slot)
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
            prop_assert!(set.in_use == 0 && set.used.iter().all(|w| *w == 0) && set.full == [0; 16]);
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
            set.allocate((1000, 1999), None, !EVEN, &mut random)
                .map(|slot| slot % 2),
            Some(1)
        );
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
