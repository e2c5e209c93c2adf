//! The prefixes: a dense array of entries, found by prefix through an index of positions.
//!
//! A position stays the same as long as its prefix has a path, so what other tables know of a prefix (what a group of
//! peers was told) is an array too. Positions of prefixes that are gone are used again.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use net::{IpNet, Prefix, Route, Source};
use smallvec::SmallVec;

use super::Path;

/// Paths of a prefix. Most prefixes have as many as there are uplinks, for good: two need no place of their own.
pub(super) type Paths = SmallVec<[Path; 2]>;

/// A prefix with its paths.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) prefix: Prefix,
    /// Waits for the decision process.
    pub(super) dirty: bool,
    live: bool,
    pub(super) paths: Paths,
    /// What the gateway was told last.
    pub(super) announced: Option<Arc<(Source, Route)>>,
}

/// Every prefix with a path, and those whose last path has gone and nobody was told so yet.
#[derive(Debug, Default)]
pub(super) struct Table {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    hasher: RandomState,
}

impl Table {
    /// The position of a prefix that is there.
    pub(super) fn position(&self, prefix: &Prefix) -> Option<u32> {
        let same = |at: &u32| self.entries[*at as usize].prefix == *prefix;
        self.index.find(hash(&self.hasher, prefix), same).copied()
    }

    /// The position of a prefix, which is there from now on.
    pub(super) fn make(&mut self, prefix: Prefix) -> u32 {
        let Self {
            index,
            entries,
            free,
            hasher,
        } = self;
        let same = |at: &u32| entries[*at as usize].prefix == prefix;
        let rehash = |at: &u32| hash(hasher, &entries[*at as usize].prefix);
        let slot = match index.entry(hash(hasher, &prefix), same, rehash) {
            Slot::Occupied(known) => return *known.get(),
            Slot::Vacant(slot) => slot,
        };
        let entry = Entry {
            prefix,
            dirty: false,
            live: true,
            paths: Paths::new(),
            announced: None,
        };
        let at = match free.pop() {
            Some(at) => {
                entries[at as usize] = entry;
                at
            }
            None => {
                let at = u32::try_from(entries.len()).expect("memory ends long before 2^32 prefixes");
                entries.push(entry);
                at
            }
        };
        slot.insert(at);
        at
    }

    pub(super) fn remove(&mut self, at: u32) {
        let Self {
            index, entries, hasher, ..
        } = self;
        let entry = &mut entries[at as usize];
        if let Ok(found) = index.find_entry(hash(hasher, &entry.prefix), |known| *known == at) {
            found.remove();
            (entry.live, entry.announced) = (false, None);
            entry.paths = Paths::new();
            self.free.push(at);
        }
    }

    pub(super) fn get(&self, prefix: &Prefix) -> Option<&Entry> {
        Some(&self.entries[self.position(prefix)? as usize])
    }

    pub(super) fn at(&self, at: u32) -> &Entry {
        &self.entries[at as usize]
    }

    pub(super) fn at_mut(&mut self, at: u32) -> &mut Entry {
        &mut self.entries[at as usize]
    }

    /// Positions and entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..).zip(&self.entries).filter(|(_, entry)| entry.live)
    }

    /// Of the `count` positions from `from` on those that have a prefix, and their entries.
    pub(super) fn slice(&self, from: u32, count: usize) -> impl Iterator<Item = (u32, &Entry)> {
        let start = (from as usize).min(self.entries.len());
        let end = start.saturating_add(count).min(self.entries.len());
        let slice = (from..).zip(&self.entries[start..end]);
        slice.filter(|(_, entry)| entry.live)
    }

    /// The position behind the last.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Positions and entries, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Entry)> {
        (0..).zip(&mut self.entries).filter(|(_, entry)| entry.live)
    }

    /// Prefixes.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

/// Few words in, since every UPDATE asks for it.
fn hash(hasher: &RandomState, prefix: &Prefix) -> u64 {
    match prefix.net() {
        IpNet::V4(v4) => hasher.hash_one(u64::from(u32::from(v4.addr())) << 8 | u64::from(v4.prefix_len())),
        IpNet::V6(v6) => hasher.hash_one((u128::from(v6.addr()), v6.prefix_len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_found_and_used_again() {
        let prefix = |n: u32| Prefix::host(std::net::Ipv4Addr::from(n).into());
        let mut table = Table::default();
        let made: Vec<u32> = (0..1000).map(|n| table.make(prefix(n))).collect();
        assert_eq!(table.make(prefix(7)), made[7]);
        table.remove(made[7]);
        table.remove(made[7]);
        assert_eq!((table.len(), table.position(&prefix(7))), (999, None));
        assert_eq!(table.iter().count(), 999);
        assert_eq!(table.make(prefix(5000)), made[7]);
        assert!((0..1000).all(|n| n == 7 || table.position(&prefix(n)) == Some(made[n as usize])));
    }
}
