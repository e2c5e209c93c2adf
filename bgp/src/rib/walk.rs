//! The table looked through in slices, so that nobody waits for a walk through all of it: whoever walks asks for a slice at a
//! time, and between two of them anything may change.
//!
//! A prefix that is there all the time is in exactly one slice of a walk, as it is when that slice is taken. One that comes
//! or goes meanwhile may be in one or in none, and one that goes and comes back in two: then the later one holds.

use std::net::IpAddr;
use std::sync::Arc;

use net::Prefix;

use super::table::Entry;
use super::{Learned, Path, Rib, Standing};
use crate::mrt;

/// Positions of a slice.
pub const SLICE: usize = 2048;

/// Where a walk goes on; it begins at the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place(u32);

/// Part of what a walk yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<T> {
    /// What comes of at most [`SLICE`] prefixes, in no order.
    pub items: Vec<T>,
    /// Where the next one begins; `None` after the last.
    pub next: Option<Place>,
}

impl Rib {
    /// Prefixes.
    pub fn prefixes(&self, from: Place) -> Slice<Prefix> {
        self.slice(from, |entry, items| items.push(entry.prefix))
    }

    /// Paths of peers as a collector is told them.
    pub fn every_learned(&self, from: Place) -> Slice<Learned> {
        self.slice(from, |entry, items| {
            items.extend(entry.paths.iter().filter_map(|path| learned(entry.prefix, path)));
        })
    }

    /// Every path of one peer.
    pub fn learned_from(&self, address: IpAddr) -> Vec<Learned> {
        let theirs = self.paths_from(address);
        theirs.filter_map(|(nlri, path)| learned(nlri.prefix, path)).collect()
    }

    /// The paths of a table, for a dump.
    pub fn snapshot(&self, table: mrt::Table, from: Place) -> (mrt::Snapshot, Option<Place>) {
        let wanted = |path: &&Path| match table {
            mrt::Table::AdjRibIn => path.peer.is_some(),
            mrt::Table::LocRib => path.standing == Standing::Best,
        };
        let Slice { items, next } = self.slice(from, |entry: &Entry, items| {
            items.extend(entry.paths.iter().filter(wanted).map(|path| mrt::Entry {
                prefix: entry.prefix,
                peer: path.peer.clone(),
                path_id: path.path_id(),
                attributes: Arc::clone(match table {
                    mrt::Table::AdjRibIn => &path.received,
                    mrt::Table::LocRib => path.attributes(),
                }),
            }));
        });
        let snapshot = mrt::Snapshot {
            table,
            asn: self.asn,
            router_id: self.router_id,
            slices: vec![items],
        };
        (snapshot, next)
    }

    fn slice<T>(&self, from: Place, mut take: impl FnMut(&Entry, &mut Vec<T>)) -> Slice<T> {
        let mut items = Vec::new();
        for (_, entry) in self.table.slice(from.0, SLICE) {
            take(entry, &mut items);
        }
        Slice {
            items,
            next: self.after(from),
        }
    }

    /// Where the slice behind the one from `place` begins.
    pub(super) fn after(&self, Place(at): Place) -> Option<Place> {
        let next = at.saturating_add(SLICE as u32);
        (next < self.table.end()).then_some(Place(next))
    }

    /// Positions and prefixes of a slice.
    pub(super) fn entries(&self, Place(at): Place) -> impl Iterator<Item = (u32, &Entry)> {
        self.table.slice(at, SLICE)
    }
}

fn learned(prefix: Prefix, path: &Path) -> Option<Learned> {
    let peer = path.peer.as_ref()?.address;
    Some(Learned::new(peer, prefix, path))
}
