//! The identifiers by which peers with add-path are told several paths of a prefix (RFC 7911 section 3).
//!
//! They are ours, whatever those are that the paths came with. A path keeps its identifier as long as it is there, whoever
//! is told of it; they are kept while a group of peers is told several paths, and cost nothing else.

use std::net::IpAddr;

use net::policy::RouteSource;
use smallvec::SmallVec;

use super::Path;
use super::table::{Entry, Table};

/// What tells the paths of one prefix apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Own(RouteSource),
    Told(IpAddr, u32),
}

impl Key {
    fn of(path: &Path) -> Self {
        match &path.peer {
            None => Self::Own(path.source),
            Some(peer) => Self::Told(peer.address, path.path_id()),
        }
    }
}

/// Identifiers of the paths to each prefix, by position in the table.
#[derive(Debug, Default)]
pub(super) struct PathIds {
    kept: bool,
    ids: Vec<SmallVec<[(Key, u32); 2]>>,
}

impl PathIds {
    /// Whether there is anybody who has to know them. Those of all paths are made when there is.
    pub(super) fn keep(&mut self, kept: bool, table: &Table) {
        if self.kept != kept {
            (self.kept, self.ids) = (kept, Vec::new());
            table.iter().for_each(|(at, entry)| self.update(at, entry));
        }
    }

    /// Gives each path of a prefix an identifier that has none, the lowest that is free, and frees those of paths that are
    /// gone.
    pub(super) fn update(&mut self, at: u32, entry: &Entry) {
        let position = at as usize;
        if !self.kept || (self.ids.len() <= position && entry.paths.is_empty()) {
            return;
        }
        if self.ids.len() <= position {
            self.ids.resize(position + 1, SmallVec::new());
        }
        let ids = &mut self.ids[position];
        ids.retain(|(key, _)| entry.paths.iter().any(|path| Key::of(path) == *key));
        let mut next = 1;
        for path in &entry.paths {
            let key = Key::of(path);
            if ids.iter().any(|(known, _)| *known == key) {
                continue;
            }
            while ids.iter().any(|(_, taken)| *taken == next) {
                next += 1;
            }
            ids.push((key, next));
        }
        ids.shrink_to_fit();
    }

    /// The identifier of a path.
    pub(super) fn of(&self, at: u32, path: &Path) -> Option<u32> {
        let key = Key::of(path);
        let ids = self.ids.get(at as usize)?;
        ids.iter().find(|(known, _)| *known == key).map(|(_, id)| *id)
    }
}
