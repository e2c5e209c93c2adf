//! Finds an entry by its key: buckets of one cache line, each with ten 16-bit tags and ten entry numbers.
//!
//! A lookup reads the bucket's line, compares all tags at once, and then reads the line of one entry. Nothing is read
//! on the way to a decision that is not in those two lines, so that a burst can have all its bucket lines, and then all
//! its entry lines, on their way from memory at the same time. What a bucket has no room for is in a chain of spill
//! buckets behind it.
//!
//! The table grows with its entries by linear hashing (Litwin, "Linear hashing: a new tool for file and table
//! addressing", 1980): an insertion that finds the load above one half adds one bucket and moves to it what belongs there of one
//! other. No insertion does more than that, nothing is ever copied elsewhere, and memory is used as it is needed. At its
//! full size, which the bound on connections gives, the table is evenly loaded.

use prefetch_index::prefetch_index;

use crate::entry::{Entry, EntryRef};
use crate::key::{FlowKey, Secret};

const LANES: usize = 10;
/// Entries a bucket that the table grows at.
const LOAD: usize = 5;
/// Most buckets that a table begins with.
const FIRST: usize = 2048;
const EMPTY: u16 = 0;
/// The first bit of a hash that says which bucket of a level it is, above those of the tag.
const LEVEL: u32 = 16;

const LOW: u64 = 0x0001_0001_0001_0001;
const HIGH: u64 = 0x8000_8000_8000_8000;

#[derive(Debug, Clone)]
#[repr(C, align(64))]
struct Bucket {
    /// Four 16-bit lanes a word: ten tags, and in the upper half of the last word one more than the number of the spill
    /// bucket behind this one, or 0.
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

    /// True if an entry with this tag is neither here nor in a chain behind.
    #[inline]
    fn is_without(&self, tag: u16) -> bool {
        self.candidates(tag) == 0 && self.tags[2] >> 32 == 0
    }

    /// Position of the spill bucket behind this one.
    #[inline]
    fn next(&self) -> Option<usize> {
        ((self.tags[2] >> 32) as usize).checked_sub(1)
    }

    fn set_next(&mut self, next: Option<usize>) {
        let link = next.map_or(0, |at| at as u64 + 1);
        self.tags[2] = self.tags[2] & 0xffff_ffff | link << 32;
    }

    /// Some lane without an entry.
    #[inline]
    fn free_lane(&self) -> Option<usize> {
        // Of the candidates the lowest one is always right.
        let free = self.candidates(EMPTY);
        (free != 0).then(|| Self::lane_of(free))
    }

    fn last_used(&self) -> Option<usize> {
        (0..LANES).rev().find(|lane| self.lane(*lane) != EMPTY)
    }

    fn lane_with(&self, tag: u16, entry: EntryRef) -> Option<usize> {
        (0..LANES).find(|lane| self.at[*lane] == entry.0 && self.lane(*lane) == tag)
    }

    fn fill(&mut self, lane: usize, tag: u16, number: u32) {
        self.set_lane(lane, tag);
        self.at[lane] = number;
    }
}

/// What a key's place follows from, whatever the size of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hash(u64);

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
    spill: Vec<Bucket>,
    /// First of the unused spill buckets, which are linked.
    spare: Option<usize>,
    secret: Secret,
    /// Buckets of level 0. Level `n` has `base << n`.
    base: usize,
    /// `2^(n + 1) - 1` while the table grows from level `n` to the next; `2^n - 1` at level `n` when it is of its full size.
    mask: u32,
    /// Buckets of level `n`.
    level: usize,
    /// Buckets of the table at its full size.
    full: usize,
    entries: usize,
}

impl Table {
    /// A table for up to `entries` entries, of which few are there at first.
    pub(crate) fn new(entries: u32, secret: Secret) -> Self {
        let wanted = entries as usize / LOAD + 2;
        let mut levels = 0;
        while wanted >> levels > FIRST {
            levels += 1;
        }
        let base = wanted.div_ceil(1 << levels);
        let full = base << levels;
        let mut buckets = Vec::with_capacity(full);
        buckets.resize(base, Bucket::NEW);
        Self {
            buckets,
            spill: Vec::with_capacity(full / 8 + 16),
            spare: None,
            secret,
            base,
            mask: u32::from(levels > 0),
            level: base,
            full,
            entries: 0,
        }
    }

    #[inline]
    fn place(&self, key: &FlowKey) -> Place {
        self.place_of(self.hash(key))
    }

    #[inline]
    fn place_of(&self, Hash(hash): Hash) -> Place {
        let first = ((hash >> 32) * self.base as u64) >> 32;
        let level = (hash >> LEVEL) as u32 & self.mask;
        // The bucket of the next level, if it has been split off already.
        let mut bucket = first as usize + self.base * level as usize;
        if bucket >= self.buckets.len() {
            bucket -= self.level;
        }
        Place {
            bucket: bucket as u32,
            tag: hash as u16 | 1,
        }
    }

    /// The hash of `key`.
    #[inline]
    pub(crate) fn hash(&self, key: &FlowKey) -> Hash {
        Hash(key.hash(&self.secret))
    }

    /// The entry of `key`.
    #[inline]
    pub(crate) fn get(&self, key: &FlowKey, entries: &[Entry]) -> Option<EntryRef> {
        self.get_hashed(self.hash(key), key, entries)
    }

    /// The entry of `key`, whose hash is known.
    #[inline]
    pub(crate) fn get_hashed(&self, hash: Hash, key: &FlowKey, entries: &[Entry]) -> Option<EntryRef> {
        let place = self.place_of(hash);
        if self.buckets[place.bucket as usize].is_without(place.tag) {
            return None;
        }
        self.find(place, *key, entries)
    }

    #[inline(never)]
    fn find(&self, place: Place, key: FlowKey, entries: &[Entry]) -> Option<EntryRef> {
        let mut bucket = &self.buckets[place.bucket as usize];
        loop {
            let mut candidates = bucket.candidates(place.tag);
            while candidates != 0 {
                let number = bucket.at[Bucket::lane_of(candidates)];
                candidates &= candidates - 1;
                if entries.get(number as usize).is_some_and(|entry| entry.key == key) {
                    return Some(EntryRef(number));
                }
            }
            bucket = &self.spill[bucket.next()?];
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
            if entry.is_none_or(|entry| entry.key != key) {
                let place = places[i];
                let without = self.buckets[place.bucket as usize].is_without(place.tag);
                found[i] = if without { None } else { self.find(place, key, entries) };
            }
        }
        found
    }

    /// Asks for what looking for `key`, or adding it, will read.
    #[inline]
    pub(crate) fn expect(&self, key: &FlowKey) -> Hash {
        let hash = self.hash(key);
        prefetch_index(&self.buckets, self.place_of(hash).bucket as usize);
        hash
    }

    /// Adds an entry, which must be among `entries`, under its key, which must not be in the table.
    #[inline]
    pub(crate) fn insert(&mut self, hash: Hash, entry: EntryRef, entries: &[Entry]) {
        self.entries += 1;
        if self.entries > self.buckets.len() * LOAD && self.buckets.len() < self.full {
            self.split(entries);
        }
        self.put(self.place_of(hash), entry.0);
    }

    #[inline]
    fn put(&mut self, place: Place, number: u32) {
        let bucket = &mut self.buckets[place.bucket as usize];
        match bucket.free_lane() {
            Some(lane) => bucket.fill(lane, place.tag, number),
            None => self.put_behind(place, number),
        }
    }

    /// Adds an entry to the chain of a bucket that is full.
    #[cold]
    #[inline(never)]
    fn put_behind(&mut self, place: Place, number: u32) {
        let mut at = None;
        loop {
            let bucket = self.bucket_mut(place, at);
            if let Some(lane) = bucket.free_lane() {
                return bucket.fill(lane, place.tag, number);
            }
            at = match bucket.next() {
                Some(next) => Some(next),
                None => {
                    let new = self.take_spill();
                    self.bucket_mut(place, at).set_next(Some(new));
                    Some(new)
                }
            };
        }
    }

    /// The spill bucket `at`, or the bucket of `place`.
    fn bucket_mut(&mut self, place: Place, at: Option<usize>) -> &mut Bucket {
        match at {
            Some(at) => &mut self.spill[at],
            None => &mut self.buckets[place.bucket as usize],
        }
    }

    fn take_spill(&mut self) -> usize {
        match self.spare {
            Some(at) => {
                self.spare = self.spill[at].next();
                self.spill[at] = Bucket::NEW;
                at
            }
            None => {
                self.spill.push(Bucket::NEW);
                self.spill.len() - 1
            }
        }
    }

    fn give_spill(&mut self, at: usize) {
        self.spill[at] = Bucket::NEW;
        self.spill[at].set_next(self.spare);
        self.spare = Some(at);
    }

    /// Adds a bucket and moves what belongs to it there.
    #[inline(never)]
    fn split(&mut self, entries: &[Entry]) {
        let from = self.next_split();
        // What tells the keys of the next level's bucket from those of this one.
        let bit = u64::from(self.mask / 2 + 1) << LEVEL;
        self.buckets.push(Bucket::NEW);
        if self.buckets.len() == self.level * 2 && self.buckets.len() < self.full {
            self.level *= 2;
            self.mask = self.mask << 1 | 1;
        }
        match self.buckets[from].next() {
            None => self.move_out(from, bit, entries),
            Some(_) => self.spread(from, entries),
        }
        // What the next split reads is here by then: five insertions from now.
        let next = self.next_split();
        prefetch_index(&self.buckets, next + 1);
        let numbers = self.buckets[next].at;
        numbers
            .iter()
            .for_each(|number| prefetch_index(entries, *number as usize));
    }

    /// The bucket that the next split takes from.
    fn next_split(&self) -> usize {
        self.buckets.len() - self.level
    }

    /// Moves what has `bit` in its hash from bucket `from`, which has no chain, to the new bucket.
    fn move_out(&mut self, from: usize, bit: u64, entries: &[Entry]) {
        let Some((new, old)) = self.buckets.split_last_mut() else {
            return;
        };
        let old = &mut old[from];
        let mut both = [Bucket::NEW; 2];
        let mut filled = [0; 2];
        for (lane, number) in old.at.iter().enumerate() {
            let tag = old.lane(lane);
            if tag != EMPTY {
                // An even chance that no branch is to guess.
                let goes = usize::from(entries[*number as usize].key.hash(&self.secret) & bit != 0);
                both[goes].fill(filled[goes], tag, *number);
                filled[goes] += 1;
            }
        }
        [*old, *new] = both;
    }

    /// Puts everything of bucket `from` and its chain where it belongs.
    #[cold]
    fn spread(&mut self, from: usize, entries: &[Entry]) {
        let mut old = std::mem::replace(&mut self.buckets[from], Bucket::NEW);
        loop {
            for lane in (0..LANES).filter(|lane| old.lane(*lane) != EMPTY) {
                let number = old.at[lane];
                let place = self.place(&entries[number as usize].key);
                self.put(place, number);
            }
            let Some(next) = old.next() else { break };
            old = self.spill[next].clone();
            self.give_spill(next);
        }
    }

    /// Removes an entry that is in the table under `key`. The hole is filled from the end of the chain.
    pub(crate) fn remove(&mut self, key: &FlowKey, entry: EntryRef) {
        let place = self.place(key);
        let (mut hole, mut before, mut at) = (None, None, None);
        loop {
            let bucket = self.bucket_mut(place, at);
            if hole.is_none() {
                hole = bucket.lane_with(place.tag, entry).map(|lane| (at, lane));
            }
            match bucket.next() {
                Some(next) => (before, at) = (at, Some(next)),
                None => break,
            }
        }
        debug_assert!(hole.is_some(), "an entry that is removed is in the table");
        let Some((holder, lane)) = hole else { return };
        self.entries -= 1;
        let end = self.bucket_mut(place, at);
        let Some(last) = end.last_used() else { return };
        let (tag, number) = (end.lane(last), end.at[last]);
        end.set_lane(last, EMPTY);
        let is_empty = end.last_used().is_none();
        if (holder, lane) != (at, last) {
            self.bucket_mut(place, holder).fill(lane, tag, number);
        }
        if let (true, Some(spilled)) = (is_empty, at) {
            self.bucket_mut(place, before).set_next(None);
            self.give_spill(spilled);
        }
    }

    /// Entries in the table, and spill buckets in use. For checks, not for packets.
    #[cfg(test)]
    pub(crate) fn census(&self) -> (usize, usize) {
        let used = |b: &Bucket| (0..LANES).filter(|lane| b.lane(*lane) != EMPTY).count();
        let spare = std::iter::successors(self.spare, |at| self.spill[*at].next()).count();
        let all = self.buckets.iter().chain(&self.spill).map(used).sum();
        assert_eq!(all, self.entries);
        (all, self.spill.len() - spare)
    }
}

#[cfg(test)]
mod tests;
