//! What workers read: rules by what they match, and the ports, in two copies that change places.
//!
//! A reader enters once a burst and never waits; the writer applies each change to both copies and waits for readers
//! that are still in the old one.

use std::hint::black_box;
use std::sync::Arc;

use hashbrown::HashTable;
use left_right::Absorb;

use crate::port::Wire;
use crate::rule::{Key, Rule};

/// The e-switch, as workers see it.
#[derive(Default)]
pub(crate) struct Table {
    rules: HashTable<Entry>,
    /// UDP ports of tunnels that rules match in, with how many rules do.
    tunnel_ports: Vec<(u16, usize)>,
    /// Rules that match on one port alone, by framing.
    on_port: [usize; 4],
    /// Rules that lead from group 0 here.
    entrances: usize,
    /// Running ports, by number.
    wires: Vec<Option<Arc<Wire>>>,
}

#[derive(Clone)]
struct Entry {
    hash: u64,
    rule: Arc<Rule>,
}

/// A change of one rule.
#[derive(Clone)]
pub(crate) enum Edit {
    Insert(Arc<Rule>),
    Remove(Arc<Rule>),
}

impl Edit {
    fn hash(&self) -> u64 {
        match self {
            Self::Insert(rule) | Self::Remove(rule) => rule.hash,
        }
    }
}

/// A change of the table.
pub(crate) enum Change {
    /// In this order.
    Rules(Vec<Edit>),
    Open,
    Close,
    PortUp(u16, Arc<Wire>),
    PortDown(u16),
    /// So many more rules will come.
    Expect(u32),
}

impl Table {
    /// True if no packet can match.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.entrances == 0 || self.rules.is_empty()
    }

    #[inline]
    pub(crate) fn is_tunnel_port(&self, port: u16) -> bool {
        self.tunnel_ports.iter().any(|(tunnel, _)| *tunnel == port)
    }

    #[inline]
    pub(crate) fn wire(&self, port: u16) -> Option<&Arc<Wire>> {
        self.wires.get(usize::from(port))?.as_ref()
    }

    /// The rule for a packet that came in on `port`; `hash` is the key's.
    #[inline]
    pub(crate) fn find(&self, key: &Key, hash: u64, port: u16) -> Option<&Rule> {
        if self.on_port[key.framing()] > 0 {
            let key = key.on_port(port);
            if let Some(rule) = self.exact(&key, key.hash_value()) {
                return Some(rule);
            }
        }
        self.exact(key, hash)
    }

    #[inline]
    fn exact(&self, key: &Key, hash: u64) -> Option<&Rule> {
        self.rules
            .find(hash, |entry| entry.hash == hash && entry.rule.key == *key)
            .map(|entry| &*entry.rule)
    }

    /// Reads where rules are or will be. No step depends on the one before, so their cache misses overlap.
    fn look_ahead(&self, edits: &[Edit]) {
        let taken = |edit: &&Edit| {
            self.rules
                .find(edit.hash(), |entry| entry.hash == edit.hash())
                .is_some()
        };
        black_box(edits.iter().filter(taken).count());
    }

    fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Insert(rule) => self.insert(rule),
            Edit::Remove(rule) => self.remove(&rule),
        }
    }

    fn insert(&mut self, rule: Arc<Rule>) {
        self.on_port[rule.key.framing()] += usize::from(rule.key.is_on_port());
        if let Some(port) = rule.key.tunnel_port() {
            match self.tunnel_ports.iter_mut().find(|(tunnel, _)| *tunnel == port) {
                Some((_, count)) => *count += 1,
                None => self.tunnel_ports.push((port, 1)),
            }
        }
        let hash = rule.hash;
        self.rules.insert_unique(hash, Entry { hash, rule }, |entry| entry.hash);
    }

    fn remove(&mut self, rule: &Arc<Rule>) {
        let Ok(entry) = self.rules.find_entry(rule.hash, |entry| Arc::ptr_eq(&entry.rule, rule)) else {
            return;
        };
        entry.remove();
        self.on_port[rule.key.framing()] -= usize::from(rule.key.is_on_port());
        if let Some(port) = rule.key.tunnel_port() {
            if let Some((_, count)) = self.tunnel_ports.iter_mut().find(|(tunnel, _)| *tunnel == port) {
                *count -= 1;
            }
            self.tunnel_ports.retain(|(_, count)| *count > 0);
        }
    }
}

impl Absorb<Change> for Table {
    fn absorb_first(&mut self, change: &mut Change, _other: &Self) {
        match change {
            Change::Rules(edits) => {
                self.look_ahead(edits);
                edits.iter().for_each(|edit| self.edit(edit.clone()));
            }
            Change::Expect(rules) => self.rules.reserve(*rules as usize, |entry| entry.hash),
            Change::Open => self.entrances += 1,
            Change::Close => self.entrances -= 1,
            Change::PortUp(port, wire) => {
                let port = usize::from(*port);
                if self.wires.len() <= port {
                    self.wires.resize(port + 1, None);
                }
                self.wires[port] = Some(wire.clone());
            }
            Change::PortDown(port) => {
                if let Some(wire) = self.wires.get_mut(usize::from(*port)) {
                    *wire = None;
                }
            }
        }
    }

    fn absorb_second(&mut self, change: Change, other: &Self) {
        match change {
            Change::Rules(edits) => {
                self.look_ahead(&edits);
                edits.into_iter().for_each(|edit| self.edit(edit));
            }
            mut other_change => self.absorb_first(&mut other_change, other),
        }
    }

    fn sync_with(&mut self, first: &Self) {
        self.rules = first.rules.clone();
        self.tunnel_ports = first.tunnel_ports.clone();
        self.on_port = first.on_port;
        self.entrances = first.entrances;
        self.wires = first.wires.clone();
    }
}
