//! The longest-prefix-match structure that workers read: a multibit trie with pushed leaves.
//!
//! A VRF's root consumes 8 bits (a small VRF costs 1 KiB) or, once it is large, 16 bits; every level below consumes 8.
//! A slot is 32 bits: a leaf (id and length of the prefix it came from) or a pointer to a chunk of 256 slots. Leaves
//! are pushed down into every slot they cover, so a lookup never goes back up, and each carries its prefix length,
//! so that inserting or removing a covering prefix repaints only the slots that are its own.
//!
//! A slot may also point to a [`Skip`]: one long prefix, or one deep chunk, alone below it. It stands for the chain of
//! chunks that would lead there, which would cost 1 KiB and a cache miss a level. A large IPv4 VRF does without: its
//! chains are at most two chunks long, and a lookup that never has to tell the two apart is faster.
//!
//! Slots of all VRFs live in one arena, so a lookup is plain indexing, and a burst of lookups is done level by level
//! with the loads of one level independent of each other.

use std::fmt;

use prefetch_index::prefetch_index;

/// Slots of a chunk.
const CHUNK: usize = 256;
/// Queries that one call of [`Forest::lookup_burst`] takes.
pub(crate) const BURST: usize = 64;
/// Ids of leaves are smaller than this.
pub(crate) const MAX_LEAVES: u32 = 1 << 23;

/// An address as the trie reads it.
pub(crate) trait Key: Copy + Eq + Default + fmt::Debug {
    /// Roots of 16 bits have skips below them too; roots of 8 bits always do.
    const SKIPS_WHEN_WIDE: bool;
    /// `count` bits (8 or 16) that follow the first `from`; any bits if there are not so many.
    fn bits(self, from: u32, count: u32) -> usize;
    /// Leading bits that both have in common.
    fn common(self, other: Self) -> u32;
}

impl Key for u32 {
    const SKIPS_WHEN_WIDE: bool = false;
    #[inline]
    fn bits(self, from: u32, count: u32) -> usize {
        (self.wrapping_shl(from) >> (32 - count)) as usize
    }
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
}

impl Key for u128 {
    const SKIPS_WHEN_WIDE: bool = true;
    #[inline]
    fn bits(self, from: u32, count: u32) -> usize {
        (self.wrapping_shl(from) >> (128 - count)) as usize
    }
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
}

/// Bit 31 clear: a leaf, prefix length in bits 23..31 and id in bits 0..23. Bit 31 set: a pointer, to a skip if bit 30
/// is set and to a chunk if not.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Slot(u32);

impl Slot {
    /// No prefix covers this slot.
    pub(crate) const NONE: Self = Self(0);
    const POINTER: u32 = 1 << 31;
    const SKIP: u32 = 1 << 30;

    /// The leaf `id` of a prefix of `length` bits.
    pub(crate) const fn leaf(id: u32, length: u8) -> Self {
        debug_assert!(id < MAX_LEAVES);
        Self((length as u32) << 23 | id)
    }
    const fn chunk(number: u32) -> Self {
        Self(Self::POINTER | number)
    }
    const fn skip(number: u32) -> Self {
        Self(Self::POINTER | Self::SKIP | number)
    }
    #[inline]
    const fn is_pointer(self) -> bool {
        self.0 & Self::POINTER != 0
    }
    #[inline]
    const fn is_skip(self) -> bool {
        self.0 & (Self::POINTER | Self::SKIP) == Self::POINTER | Self::SKIP
    }
    #[inline]
    const fn number(self) -> usize {
        (self.0 & (Self::SKIP - 1)) as usize
    }
    const fn length(self) -> u32 {
        self.0 >> 23
    }
    #[inline]
    pub(crate) const fn id(self) -> u32 {
        self.0 & (MAX_LEAVES - 1)
    }
}

/// Everything below a slot that is not `cover`: addresses that share the first `depth` bits of `key` go on at `inner`.
#[derive(Clone, Copy, Debug, Default)]
struct Skip<K> {
    key: K,
    /// A chunk at `depth` bits, or the leaf of a prefix of `depth` bits.
    inner: Slot,
    /// The leaf for every other address.
    cover: Slot,
    depth: u32,
}

/// Where the trie of one VRF and family begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    chunk: u32,
    stride: u32,
}

impl Root {
    /// The root of a VRF without prefixes: the shared empty chunk.
    pub(crate) const EMPTY: Self = Self { chunk: 0, stride: 8 };

    #[inline]
    fn index<K: Key>(self, key: K) -> usize {
        self.chunk as usize * CHUNK + key.bits(0, self.stride)
    }
}

/// A prefix on its way into or out of the trie.
#[derive(Clone, Copy)]
struct Change<K> {
    key: K,
    length: u32,
    slot: Slot,
    /// May be stored as a skip.
    skips: bool,
}

/// The tries of every VRF of one address family.
#[derive(Clone)]
pub(crate) struct Forest<K> {
    slots: Vec<Slot>,
    free_chunks: Vec<u32>,
    skips: Vec<Skip<K>>,
    free_skips: Vec<u32>,
}

impl<K: Key> Forest<K> {
    /// No prefix anywhere.
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![Slot::NONE; CHUNK],
            free_chunks: Vec::new(),
            skips: Vec::new(),
            free_skips: Vec::new(),
        }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.skips.capacity() * size_of::<Skip<K>>()
    }

    /// Leaf of the longest prefix that `key` is in.
    #[inline]
    pub(crate) fn lookup(&self, root: Root, key: K) -> u32 {
        let mut slot = self.slots[root.index(key)];
        let mut depth = root.stride as u8;
        while slot.is_pointer() {
            slot = self.step(slot, key, &mut depth);
        }
        slot.id()
    }

    /// [`Forest::lookup`] of up to [`BURST`] keys whose cache misses overlap.
    #[inline(always)]
    pub(crate) fn lookup_burst(&self, count: usize, query: impl Fn(usize) -> (Root, K)) -> [Slot; BURST] {
        let count = count.min(BURST);
        let mut slots = [Slot::NONE; BURST];
        let mut depths = [0_u8; BURST];
        let mut places = [0; BURST];
        let mut active = [0_u8; BURST];
        for i in 0..count {
            let (root, key) = query(i);
            let place = root.index(key);
            prefetch_index(&self.slots, place);
            (places[i], depths[i]) = (place, root.stride as u8);
        }
        let mut pending = 0;
        for i in 0..count {
            active[pending % BURST] = i as u8;
            let (slot, next, on) = self.descend(places[i], query(i).1, &mut depths[i]);
            (slots[i], places[i]) = (slot, next);
            pending += on;
        }
        while pending > 0 {
            let mut kept = 0;
            for at in 0..pending.min(BURST) {
                let i = usize::from(active[at]) % BURST;
                active[kept % BURST] = i as u8;
                let (slot, next, on) = self.descend(places[i], query(i).1, &mut depths[i]);
                (slots[i], places[i]) = (slot, next);
                kept += on;
            }
            pending = kept;
        }
        slots
    }

    /// What is at `place` on the way to `key`; where it goes on if it does, which is asked of the memory; and 1 if it
    /// does, else 0.
    #[inline(always)]
    fn descend(&self, place: usize, key: K, depth: &mut u8) -> (Slot, usize, usize) {
        let mut slot = self.slots[place];
        if slot.is_skip() {
            slot = self.skip(slot, key, depth);
        }
        // Which keys go on is random, and to guess it wrong would stop the work on the keys behind: arithmetic,
        // because a choice would be compiled into a jump.
        let on = (slot.0.cast_signed() >> 31) as usize;
        let next = (slot.number() * CHUNK + key.bits((*depth).into(), 8)) & on;
        prefetch_index(&self.slots, next);
        *depth = depth.wrapping_add(8);
        (slot, next, on & 1)
    }

    /// Where a skipped path leads `key`: to a chunk at `depth` bits, or to a leaf.
    #[inline(always)]
    fn skip(&self, slot: Slot, key: K, depth: &mut u8) -> Slot {
        let skip = &self.skips[slot.number()];
        *depth = skip.depth as u8;
        if skip.key.common(key) < skip.depth {
            skip.cover
        } else {
            skip.inner
        }
    }

    /// The slot below pointer `slot` on the way to `key`.
    #[inline(always)]
    fn step(&self, slot: Slot, key: K, depth: &mut u8) -> Slot {
        if !slot.is_skip() {
            return self.below(slot, key, depth);
        }
        let slot = self.skip(slot, key, depth);
        if slot.is_pointer() {
            self.below(slot, key, depth)
        } else {
            slot
        }
    }

    /// The slot of `key` in the chunk that `slot` points to.
    #[inline(always)]
    fn below(&self, slot: Slot, key: K, depth: &mut u8) -> Slot {
        let place = slot.number() * CHUNK + key.bits((*depth).into(), 8);
        *depth = depth.wrapping_add(8);
        self.slots[place]
    }

    /// Adds a prefix, or gives it another leaf.
    pub(crate) fn insert(&mut self, root: &mut Root, key: K, length: u8, id: u32) {
        if *root == Root::EMPTY {
            root.chunk = self.allocate_chunk(Slot::NONE);
        }
        let change = Change {
            key,
            length: length.into(),
            slot: Slot::leaf(id, length),
            skips: K::SKIPS_WHEN_WIDE || root.stride == 8,
        };
        self.insert_below(root.chunk as usize * CHUNK, 0, root.stride, change);
    }

    /// Takes a prefix out. `cover` is the leaf of the longest other prefix that covers it, [`Slot::NONE`] without one.
    pub(crate) fn remove(&mut self, root: &mut Root, key: K, length: u8, cover: Slot) {
        if *root != Root::EMPTY {
            let change = Change {
                key,
                length: length.into(),
                slot: cover,
                skips: false,
            };
            self.remove_below(root.chunk as usize * CHUNK, 0, root.stride, change);
        }
    }

    /// Makes an 8-bit root a 16-bit root: one cache miss less for every lookup, for 256 KiB.
    pub(crate) fn widen(&mut self, root: &mut Root) {
        if root.stride != 8 {
            return;
        }
        let narrow = root.chunk as usize * CHUNK;
        let wide = self.slots.len();
        self.slots.resize(wide + CHUNK * CHUNK, Slot::NONE);
        for i in 0..CHUNK {
            let part = wide + i * CHUNK;
            let slot = self.slots[narrow + i];
            if slot.is_skip() {
                let skip = self.skips[slot.number()];
                self.slots[part..part + CHUNK].fill(skip.cover);
                self.place(part, 8, slot, skip);
            } else if slot.is_pointer() {
                let from = slot.number() * CHUNK;
                self.slots.copy_within(from..from + CHUNK, part);
                self.free_chunks.push(slot.number() as u32);
            } else {
                self.slots[part..part + CHUNK].fill(slot);
            }
        }
        if *root != Root::EMPTY {
            self.free_chunks.push(root.chunk);
        }
        *root = Root {
            chunk: (wide / CHUNK) as u32,
            stride: 16,
        };
    }

    /// Inserts below the chunk (or wide root) whose slots begin at `base`, `depth` bits into the address.
    fn insert_below(&mut self, base: usize, depth: u32, stride: u32, change: Change<K>) {
        let end = depth + stride;
        if change.length <= end {
            for index in range(base, depth, stride, change) {
                self.paint(index, change.slot);
            }
            return;
        }
        let index = base + change.key.bits(depth, stride);
        let slot = self.slots[index];
        if slot.is_skip() {
            self.insert_at_skip(index, end, change);
        } else if slot.is_pointer() {
            self.insert_below(slot.number() * CHUNK, end, 8, change);
        } else if change.skips {
            let skip = Skip {
                key: change.key,
                inner: change.slot,
                cover: slot,
                depth: change.length,
            };
            self.slots[index] = self.allocate_skip(skip);
        } else {
            let chunk = self.allocate_chunk(slot);
            self.slots[index] = Slot::chunk(chunk);
            self.insert_below(chunk as usize * CHUNK, end, 8, change);
        }
    }

    /// Inserts a prefix longer than `end` bits where the slot at `index`, `end` bits deep, holds a skip.
    fn insert_at_skip(&mut self, index: usize, end: u32, change: Change<K>) {
        let slot = self.slots[index];
        let skip = self.skips[slot.number()];
        let common = skip.key.common(change.key);
        if common >= skip.depth {
            if skip.inner.is_pointer() && change.length > skip.depth {
                return self.insert_below(skip.inner.number() * CHUNK, skip.depth, 8, change);
            }
            if !skip.inner.is_pointer() && change.length == skip.depth {
                self.skips[slot.number()].inner = change.slot;
                return;
            }
        }
        // They part below `at`: a chunk there takes what the skip led to and the prefix.
        let at = common.min(change.length - 1).min(skip.depth - 1) & !7;
        let chunk = self.allocate_chunk(skip.cover);
        let base = chunk as usize * CHUNK;
        self.place(base, at, slot, skip);
        self.slots[index] = if at == end {
            Slot::chunk(chunk)
        } else {
            self.allocate_skip(Skip {
                inner: Slot::chunk(chunk),
                depth: at,
                ..skip
            })
        };
        self.insert_below(base, at, 8, change);
    }

    /// Puts what `skip` (at pointer `slot`) leads to into the chunk at `base`, `at` bits deep.
    fn place(&mut self, base: usize, at: u32, slot: Slot, skip: Skip<K>) {
        if skip.depth > at + 8 {
            self.slots[base + skip.key.bits(at, 8)] = slot;
            return;
        }
        self.free_skips.push(slot.number() as u32);
        if skip.inner.is_pointer() {
            self.slots[base + skip.key.bits(at, 8)] = skip.inner;
        } else {
            let change = Change {
                key: skip.key,
                length: skip.depth,
                slot: skip.inner,
                skips: false,
            };
            for index in range(base, at, 8, change) {
                self.slots[index] = skip.inner;
            }
        }
    }

    /// Writes `leaf` into every slot at and below `index` whose own prefix is not longer.
    fn paint(&mut self, index: usize, leaf: Slot) {
        let replace = |slot: Slot| slot.length() <= leaf.length();
        self.repaint(index, leaf, &replace);
    }

    /// Writes `leaf` into every slot at and below `index` that `replace` picks.
    fn repaint(&mut self, index: usize, leaf: Slot, replace: &impl Fn(Slot) -> bool) {
        let slot = self.slots[index];
        if !slot.is_pointer() {
            if replace(slot) {
                self.slots[index] = leaf;
            }
            return;
        }
        let mut inner = slot;
        if slot.is_skip() {
            let skip = &mut self.skips[slot.number()];
            if replace(skip.cover) {
                skip.cover = leaf;
            }
            inner = skip.inner;
        }
        // The leaf of a skip is longer than any prefix that covers the skip.
        if inner.is_pointer() {
            for below in 0..CHUNK {
                self.repaint(inner.number() * CHUNK + below, leaf, replace);
            }
        }
    }

    /// Removes below the chunk (or wide root) whose slots begin at `base`.
    fn remove_below(&mut self, base: usize, depth: u32, stride: u32, change: Change<K>) {
        let end = depth + stride;
        if change.length <= end {
            let replace = |slot: Slot| slot.length() == change.length;
            for index in range(base, depth, stride, change) {
                self.repaint(index, change.slot, &replace);
            }
            return;
        }
        let index = base + change.key.bits(depth, stride);
        let slot = self.slots[index];
        if !slot.is_pointer() {
            return;
        }
        let mut inner = slot;
        let mut end = end;
        if slot.is_skip() {
            let skip = self.skips[slot.number()];
            if skip.key.common(change.key) < skip.depth {
                return;
            }
            if !skip.inner.is_pointer() {
                if skip.depth == change.length {
                    self.slots[index] = skip.cover;
                    self.free_skips.push(slot.number() as u32);
                }
                return;
            }
            (inner, end) = (skip.inner, skip.depth);
        }
        let chunk = inner.number() * CHUNK;
        self.remove_below(chunk, end, 8, change);
        let first = self.slots[chunk];
        if !first.is_pointer() && self.slots[chunk..chunk + CHUNK].iter().all(|s| *s == first) {
            self.slots[index] = first;
            self.free_chunks.push(inner.number() as u32);
            if slot.is_skip() {
                self.free_skips.push(slot.number() as u32);
            }
        }
    }

    fn allocate_chunk(&mut self, fill: Slot) -> u32 {
        if let Some(chunk) = self.free_chunks.pop() {
            let base = chunk as usize * CHUNK;
            self.slots[base..base + CHUNK].fill(fill);
            return chunk;
        }
        let base = self.slots.len();
        self.slots.resize(base + CHUNK, fill);
        (base / CHUNK) as u32
    }

    fn allocate_skip(&mut self, skip: Skip<K>) -> Slot {
        if let Some(number) = self.free_skips.pop() {
            self.skips[number as usize] = skip;
            return Slot::skip(number);
        }
        self.skips.push(skip);
        Slot::skip((self.skips.len() - 1) as u32)
    }
}

/// Slots that a prefix ending in this chunk covers.
fn range<K: Key>(base: usize, depth: u32, stride: u32, change: Change<K>) -> std::ops::Range<usize> {
    let first = base + change.key.bits(depth, stride);
    first..first + (1 << (depth + stride - change.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prefix_trie::PrefixMap;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    type Net4 = net::Ipv4Net;
    type Net6 = net::Ipv6Net;

    #[derive(Clone, Debug)]
    enum Step<A> {
        Insert(A, u8, u32),
        Remove(usize),
        Widen,
    }

    fn steps<A: Clone + fmt::Debug>(
        address: impl Strategy<Value = A> + Clone,
        length: impl Strategy<Value = u8> + Clone,
    ) -> impl Strategy<Value = Vec<Step<A>>> {
        let step = prop_oneof![
            8 => (address, length, 1..50u32).prop_map(|(a, l, id)| Step::Insert(a, l, id)),
            5 => any::<usize>().prop_map(Step::Remove),
            1 => Just(Step::Widen),
        ];
        prop::collection::vec(step, 1..120)
    }

    /// Addresses that share long stretches, so that prefixes nest and skips part at every depth.
    fn address6() -> impl Strategy<Value = u128> + Clone {
        (
            prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x80, 0xff]), 16),
            0..=16usize,
        )
            .prop_map(|(mut b, n)| {
                b[..n].fill(0x20);
                u128::from_be_bytes(b.try_into().expect("16 bytes"))
            })
    }

    fn address4() -> impl Strategy<Value = u32> + Clone {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 10, 0x80, 0xff]), 4)
            .prop_map(|b| u32::from_be_bytes(b.try_into().expect("4 bytes")))
    }

    macro_rules! against_prefix_trie {
        ($name:ident, $key:ty, $net:ty, $addr:ty, $bits:literal, $address:expr) => {
            proptest! {
                #![proptest_config(ProptestConfig::with_cases(300))]
                #[test]
                fn $name(
                    steps in steps($address, 0..=$bits as u8),
                    probes in prop::collection::vec($address, 40),
                ) {
                    let mut forest = Forest::<$key>::new();
                    let (mut root, mut other) = (Root::EMPTY, Root::EMPTY);
                    forest.insert(&mut other, 0, 0, 999);
                    let mut map = PrefixMap::<$net, u32>::new();
                    let mut widened = false;
                    for step in steps {
                        match step {
                            Step::Insert(a, l, id) => {
                                let net = <$net>::new(<$addr>::from(a), l).expect("length").trunc();
                                map.insert(net, id);
                                forest.insert(&mut root, net.addr().into(), l, id);
                            }
                            Step::Remove(n) => {
                                let Some(net) = map.keys().nth(n % map.len().max(1)) else { continue };
                                map.remove(&net);
                                let cover = map.cover(&net).last().map_or(Slot::NONE, |(p, id)| Slot::leaf(*id, p.prefix_len()));
                                forest.remove(&mut root, net.addr().into(), net.prefix_len(), cover);
                            }
                            Step::Widen if !widened => { forest.widen(&mut root); widened = true; }
                            Step::Widen => {}
                        }
                    }
                    let mut keys: Vec<$key> = probes;
                    keys.extend(map.keys().map(|n| <$key>::from(n.addr())));
                    keys.extend(map.keys().map(|n| <$key>::from(n.broadcast())));
                    for chunk in keys.chunks(BURST) {
                        let mut burst = [0; BURST];
                        burst[..chunk.len()].copy_from_slice(chunk);
                        let found = forest.lookup_burst(chunk.len(), |i| (root, burst[i]));
                        for (i, key) in chunk.iter().enumerate() {
                            let host = <$net>::new(<$addr>::from(*key), $bits).expect("length");
                            let expected = map.get_lpm(&host).map_or(0, |(_, id)| *id);
                            prop_assert_eq!(forest.lookup(root, *key), expected, "{}", host);
                            prop_assert_eq!(found[i].id(), expected, "{} in a burst", host);
                            prop_assert_eq!(forest.lookup(other, *key), 999);
                        }
                    }
                    // Whatever the history, removing everything gives every chunk and skip back.
                    let nets: Vec<$net> = map.keys().collect();
                    for net in nets {
                        map.remove(&net);
                        let cover = map.cover(&net).last().map_or(Slot::NONE, |(p, id)| Slot::leaf(*id, p.prefix_len()));
                        forest.remove(&mut root, net.addr().into(), net.prefix_len(), cover);
                    }
                    prop_assert_eq!(forest.free_skips.len(), forest.skips.len());
                    let roots = 2 + if root == Root::EMPTY { 0 } else if root.stride == 16 { 256 } else { 1 };
                    prop_assert_eq!(forest.free_chunks.len() + roots, forest.slots.len() / CHUNK);
                }
            }
        };
    }
    against_prefix_trie!(v4_equals_prefix_trie, u32, Net4, Ipv4Addr, 32, address4());
    against_prefix_trie!(v6_equals_prefix_trie, u128, Net6, Ipv6Addr, 128, address6());
}
