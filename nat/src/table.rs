//! Finds an entry by its key: buckets of one cache line, each with ten 16-bit tags and ten entry numbers.
//!
//! A lookup reads the bucket's line, compares all tags at once, and then reads the line of one entry. Nothing is read
//! on the way to a decision that is not in those two lines, so that a burst can have all its bucket lines, and then all
//! its entry lines, on their way from memory at the same time.
//!
//! A bucket that is full overflows into the next ones; it counts how many did, so that a lookup goes on only then. The
//! table is made for 50 % load and never grows: the number of connections is bounded.

use prefetch_index::prefetch_index;

use crate::entry::{Entry, EntryRef};
use crate::key::{FlowKey, Secret};

const LANES: usize = 10;
/// Lane of the tag words that counts entries which belong here and are further on.
const OVERFLOW: usize = 10;
const EMPTY: u16 = 0;

const LOW: u64 = 0x0001_0001_0001_0001;
const HIGH: u64 = 0x8000_8000_8000_8000;

#[derive(Debug, Clone)]
#[repr(C, align(64))]
struct Bucket {
    /// Four 16-bit lanes a word: ten tags, the overflow count, one unused.
    tags: [u64; 3],
    at: [u32; LANES],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

impl Bucket {
    const NEW: Self = Self {
        tags: [0; 3],
        at: [0; LANES],
    };

    #[inline]
    fn lane(&self, lane: usize) -> u16 {
        (self.tags[lane / 4] >> (lane % 4 * 16)) as u16
    }

    #[inline]
    fn set_lane(&mut self, lane: usize, value: u16) {
        let shift = lane % 4 * 16;
        let word = &mut self.tags[lane / 4];
        *word = *word & !(0xffff << shift) | u64::from(value) << shift;
    }

    /// Lanes whose tag is `tag`, and perhaps one above such a lane. Lane `4 * w + l` is bit `16 * l + 15 - w`.
    #[inline]
    fn candidates(&self, tag: u16) -> u64 {
        let wanted = u64::from(tag) * LOW;
        let zero_lanes = |word: u64| {
            let difference = word ^ wanted;
            difference.wrapping_sub(LOW) & !difference & HIGH
        };
        zero_lanes(self.tags[0]) | zero_lanes(self.tags[1]) >> 1 | (zero_lanes(self.tags[2]) & 0xffff_ffff) >> 2
    }

    #[inline]
    fn lane_of(candidates: u64) -> usize {
        let bit = candidates.trailing_zeros() as usize;
        // A mask of the lane keeps the index below the next power of two; the caller's array access is checked.
        (15 - (bit & 15)) * 4 + (bit >> 4)
    }

    fn overflowed(&self) -> bool {
        self.tags[OVERFLOW / 4] >> (OVERFLOW % 4 * 16) & 0xffff != 0
    }

    fn free_lane(&self) -> Option<usize> {
        (0..LANES).find(|lane| self.lane(*lane) == EMPTY)
    }

    /// A count that once reached its bound stays there: the lookup goes on for nothing, and never stops too early.
    fn add_overflow(&mut self) {
        self.set_lane(OVERFLOW, self.lane(OVERFLOW).saturating_add(1));
    }

    fn remove_overflow(&mut self) {
        let count = self.lane(OVERFLOW);
        if count != u16::MAX {
            self.set_lane(OVERFLOW, count.saturating_sub(1));
        }
    }
}

/// Where a key belongs.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    bucket: u32,
    tag: u16,
}

/// The index over the entries of one worker.
#[derive(Debug)]
pub(crate) struct Table {
    buckets: Vec<Bucket>,
    secret: Secret,
}

impl Table {
    /// A table for up to `entries` entries.
    pub(crate) fn new(entries: u32, secret: Secret) -> Self {
        let buckets = entries as usize / 5 + 2;
        Self {
            buckets: vec![Bucket::NEW; buckets],
            secret,
        }
    }

    #[inline]
    fn place(&self, key: &FlowKey) -> Place {
        let hash = key.hash(&self.secret);
        let bucket = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        Place {
            bucket: bucket as u32,
            tag: (hash as u16).max(1),
        }
    }

    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() {
            0
        } else {
            bucket + 1
        }
    }

    /// The entry of `key`.
    pub(crate) fn get(&self, key: &FlowKey, entries: &[Entry]) -> Option<EntryRef> {
        self.find(self.place(key), *key, entries)
    }

    #[inline(never)]
    fn find(&self, place: Place, key: FlowKey, entries: &[Entry]) -> Option<EntryRef> {
        let mut at = place.bucket as usize;
        loop {
            let bucket = &self.buckets[at];
            let mut candidates = bucket.candidates(place.tag);
            while candidates != 0 {
                let number = bucket.at[Bucket::lane_of(candidates)];
                candidates &= candidates - 1;
                if entries
                    .get(number as usize)
                    .is_some_and(|entry| entry.key == key && !entry.is_dead())
                {
                    return Some(EntryRef(number));
                }
            }
            if !bucket.overflowed() {
                return None;
            }
            at = self.next(at);
            if at == place.bucket as usize {
                return None;
            }
        }
    }

    /// The entries of the first `count` keys of a burst of `N` at most, each of which is asked for twice. Each step asks for what the next one reads, so that
    /// the cache misses of all keys overlap.
    #[inline(always)]
    pub(crate) fn get_burst<const N: usize>(
        &self,
        count: usize,
        key: impl Fn(usize) -> FlowKey,
        entries: &[Entry],
    ) -> [Option<EntryRef>; N] {
        let mut places = [Place::default(); N];
        let mut found = [None; N];
        let count = count.min(N);
        for (i, place) in places.iter_mut().enumerate().take(count) {
            *place = self.place(&key(i));
            prefetch_index(&self.buckets, place.bucket as usize);
        }
        for i in 0..count {
            let bucket = &self.buckets[places[i].bucket as usize];
            let candidates = bucket.candidates(places[i].tag);
            if candidates != 0 {
                let number = bucket.at[Bucket::lane_of(candidates)];
                found[i] = Some(EntryRef(number));
                prefetch_index(entries, number as usize);
            }
        }
        for i in 0..count {
            let key = key(i);
            let entry = found[i].and_then(|at| entries.get(at.0 as usize));
            if !entry.is_some_and(|entry| entry.key == key && !entry.is_dead()) {
                found[i] = self.find(places[i], key, entries);
            }
        }
        found
    }

    /// Adds an entry under its key, which must not be in the table.
    pub(crate) fn insert(&mut self, key: &FlowKey, entry: EntryRef) {
        let place = self.place(key);
        let mut at = place.bucket as usize;
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(lane) = bucket.free_lane() {
                bucket.set_lane(lane, place.tag);
                bucket.at[lane] = entry.0;
                return;
            }
            bucket.add_overflow();
            at = self.next(at);
        }
    }

    /// Removes an entry that is in the table under `key`.
    pub(crate) fn remove(&mut self, key: &FlowKey, entry: EntryRef) {
        let place = self.place(key);
        let mut at = place.bucket as usize;
        loop {
            let bucket = &mut self.buckets[at];
            let lane = (0..LANES).find(|lane| bucket.at[*lane] == entry.0 && bucket.lane(*lane) == place.tag);
            if let Some(lane) = lane {
                bucket.set_lane(lane, EMPTY);
                return;
            }
            debug_assert!(bucket.overflowed(), "an entry that is removed is in the table");
            bucket.remove_overflow();
            at = self.next(at);
            if at == place.bucket as usize {
                return;
            }
        }
    }

    /// Entries in the table, and entries that are not in their first bucket. For checks, not for packets.
    #[cfg(test)]
    pub(crate) fn census(&self) -> (usize, usize) {
        let used = |b: &Bucket| (0..LANES).filter(|lane| b.lane(*lane) != EMPTY).count();
        let overflow = self.buckets.iter().map(|b| usize::from(b.lane(OVERFLOW))).sum();
        (self.buckets.iter().map(used).sum(), overflow)
    }
}

#[cfg(test)]
mod tests {
    use net::VrfId;

    use super::*;
    use crate::random::Random;

    fn key(n: u32) -> FlowKey {
        FlowKey::v4(VrfId(1), 6, n, !n, n as u16, 80)
    }

    /// Far beyond the load that the table is made for, so that overflow chains are long.
    #[test]
    fn a_crowded_table_finds_what_a_map_finds() {
        let mut random = Random::new(5);
        let mut table = Table::new(5 * 8, Secret::new(&mut random));
        let entries: Vec<_> = (0..400).map(|n| Entry::of(key(n))).collect();
        let mut present = vec![false; entries.len()];
        for _ in 0..40_000 {
            let n = random.below(400);
            let full = present.iter().filter(|p| **p).count() >= 95;
            match (present[n as usize], full) {
                (true, _) => table.remove(&key(n), EntryRef(n)),
                (false, false) => table.insert(&key(n), EntryRef(n)),
                (false, true) => continue,
            }
            present[n as usize] ^= true;
            let probe = random.below(400);
            let expected = present[probe as usize].then_some(EntryRef(probe));
            assert_eq!(table.get(&key(probe), &entries), expected);
            let keys = [key(probe), key(n), key(999)];
            let found = table.get_burst::<4>(keys.len(), |i| keys[i], &entries);
            assert_eq!(
                found,
                [expected, present[n as usize].then_some(EntryRef(n)), None, None]
            );
        }
        for n in (0..400).filter(|n| present[*n as usize]) {
            table.remove(&key(n), EntryRef(n));
        }
        assert_eq!(table.census(), (0, 0));
    }

    #[test]
    fn few_entries_overflow_at_the_intended_load() {
        let mut table = Table::new(60_000, Secret::new(&mut Random::new(1)));
        (0..60_000).for_each(|n| table.insert(&key(n), EntryRef(n)));
        let (entries, overflow) = table.census();
        assert_eq!(entries, 60_000);
        assert!(overflow < 600, "{overflow} entries beyond their first bucket");
    }
}
