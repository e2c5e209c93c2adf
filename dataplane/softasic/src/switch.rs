//! The e-switch: one for all ports of the process. Rules by handle, their number, and what workers are shown.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dpdk_sys::flow::{FlowError, FlowErrorKind};
use hashbrown::HashTable;
use left_right::{ReadHandle, ReadHandleFactory, WriteHandle};

use crate::port::Wire;
use crate::rule::Rule;
use crate::table::{Change, Edit, Table};

/// Rules that the e-switch holds unless told otherwise.
const DEFAULT_CAPACITY: u32 = 1_000_000;

pub(crate) struct Switch {
    control: Mutex<Control>,
    readers: ReadHandleFactory<Table>,
    /// Rules that age: without any, packets do not ask for the time.
    aging: AtomicU32,
    started: Instant,
}

impl Switch {
    #[allow(
        clippy::disallowed_methods,
        reason = "the emulated device has a clock of its own, as a NIC has"
    )]
    pub(crate) fn new() -> Self {
        let (mut write, read) = left_right::new::<Table, Change>();
        write.publish();
        Self {
            control: Mutex::new(Control {
                write,
                slots: Vec::new(),
                free: Vec::new(),
                index: HashTable::new(),
                used: 0,
                capacity: DEFAULT_CAPACITY,
                ports: BTreeSet::new(),
                edits: Vec::new(),
            }),
            readers: read.factory(),
            aging: AtomicU32::new(0),
            started: Instant::now(),
        }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u32 {
        self.started.elapsed().as_millis() as u32
    }

    /// The same, or 0 if no rule wants to know.
    #[inline]
    pub(crate) fn packet_time(&self) -> u32 {
        if self.aging.load(Relaxed) == 0 { 0 } else { self.now() }
    }

    pub(crate) fn reader(&self) -> ReadHandle<Table> {
        self.readers.handle()
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_capacity(&self, rules: u32) {
        self.control().capacity = rules;
    }

    pub(crate) fn attach(&self, port: u16) {
        self.control().ports.insert(port);
    }

    /// The port is gone, and with it its rules.
    pub(crate) fn detach(&self, port: u16) {
        let mut control = self.control();
        self.remove_rules_of(&mut control, port);
        control.ports.remove(&port);
    }

    pub(crate) fn port_up(&self, wire: &Arc<Wire>) {
        let mut control = self.control();
        control.write.append(Change::PortUp(wire.id(), wire.clone()));
        control.publish();
    }

    /// The port stops; its rules go with it, because its handles do. Nobody sends to it when this returns.
    pub(crate) fn port_down(&self, port: u16) {
        let mut control = self.control();
        self.remove_rules_of(&mut control, port);
        control.write.append(Change::PortDown(port));
        control.publish();
        // The second time waits for those who still read what the first time replaced.
        control.publish();
    }

    /// Removes every rule that was made through a port.
    pub(crate) fn remove_rules_of(&self, control: &mut Control, port: u16) {
        for index in 0..control.slots.len() {
            let owned = match &control.slots[index].held {
                Held::Rule(rule) => rule.owner == port,
                Held::Entrance(owner) | Held::Queued(owner) => *owner == port,
                Held::Nothing => false,
            };
            if owned {
                self.remove_slot(control, index);
            }
        }
        control.publish();
    }

    /// Takes a place for a rule.
    pub(crate) fn reserve(&self, control: &mut Control, owner: u16) -> Result<NonZeroU64, FlowError> {
        if control.used >= control.capacity {
            return Err(FlowError::full(format!(
                "the e-switch holds {} rules: give a port a larger rules=N",
                control.capacity
            )));
        }
        control.used += 1;
        Ok(control.place(Held::Queued(owner)))
    }

    /// Puts a rule in a place of [`Switch::reserve`]. It matches after [`Control::publish`].
    pub(crate) fn insert(&self, control: &mut Control, handle: NonZeroU64, rule: Arc<Rule>) -> Result<(), FlowError> {
        let index = control.slot(handle).ok_or_else(unknown)?;
        let taken = control.find(&rule).is_some();
        if taken || !matches!(control.slots[index].held, Held::Queued(_)) {
            self.remove_slot(control, index);
            return Err(if taken { exists() } else { unknown() });
        }
        self.aging.fetch_add(u32::from(rule.age.is_some()), Relaxed);
        control.edits.push(Edit::Insert(rule.clone()));
        let Control { index: keys, slots, .. } = control;
        let hash = rule.hash;
        slots[index].held = Held::Rule(rule);
        keys.insert_unique(hash, index as u32, |slot| slots[*slot as usize].hash());
        Ok(())
    }

    /// Makes the way from group 0 to group 1.
    pub(crate) fn open(&self, owner: u16) -> Result<NonZeroU64, FlowError> {
        let mut control = self.control();
        let there = |slot: &Slot| matches!(slot.held, Held::Entrance(port) if port == owner);
        if control.slots.iter().any(there) {
            return Err(exists());
        }
        let handle = control.place(Held::Entrance(owner));
        control.write.append(Change::Open);
        control.publish();
        Ok(handle)
    }

    /// Takes a rule out. It matches no longer after [`Control::publish`].
    pub(crate) fn remove(&self, control: &mut Control, handle: NonZeroU64, owner: u16) -> Result<(), FlowError> {
        let index = control.slot_of(handle, owner)?;
        self.remove_slot(control, index);
        Ok(())
    }

    fn remove_slot(&self, control: &mut Control, index: usize) {
        match std::mem::replace(&mut control.slots[index].held, Held::Nothing) {
            Held::Nothing => return,
            Held::Entrance(_) => {
                control.write.append(Change::Close);
            }
            Held::Queued(_) => control.used -= 1,
            Held::Rule(rule) => {
                if let Ok(entry) = control.index.find_entry(rule.hash, |slot| *slot as usize == index) {
                    entry.remove();
                }
                self.aging.fetch_sub(u32::from(rule.age.is_some()), Relaxed);
                if let Some(used) = &rule.table_use {
                    used.fetch_sub(1, Relaxed);
                }
                control.used -= 1;
                control.edits.push(Edit::Remove(rule));
            }
        }
        let slot = &mut control.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        control.free.push(index as u32);
    }
}

/// What only the control plane touches.
pub(crate) struct Control {
    write: WriteHandle<Table, Change>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots of rules, by what they match.
    index: HashTable<u32>,
    /// Rules in place or queued.
    used: u32,
    capacity: u32,
    ports: BTreeSet<u16>,
    /// What workers have not been shown yet.
    edits: Vec<Edit>,
}

/// Where a handle leads.
struct Slot {
    generation: u32,
    held: Held,
}

enum Held {
    Nothing,
    /// The way from group 0, made through this port.
    Entrance(u16),
    /// A rule that this port has queued.
    Queued(u16),
    Rule(Arc<Rule>),
}

impl Slot {
    fn hash(&self) -> u64 {
        match &self.held {
            Held::Rule(rule) => rule.hash,
            _ => 0,
        }
    }
}

impl Control {
    /// Shows workers what was changed.
    pub(crate) fn publish(&mut self) {
        if !self.edits.is_empty() {
            let room = Vec::with_capacity(self.edits.len());
            let edits = std::mem::replace(&mut self.edits, room);
            self.write.append(Change::Rules(edits));
        }
        self.write.publish();
    }

    /// Reads where rules with these hashes are or will be, so that cache misses overlap.
    pub(crate) fn look_ahead(&self, hashes: impl Iterator<Item = u64>) {
        let taken = |hash: &u64| {
            let found = self.index.find(*hash, |_| true);
            found.is_some_and(|slot| matches!(self.slots[*slot as usize].held, Held::Rule(_)))
        };
        black_box(hashes.filter(taken).count());
    }

    /// The hash of a handle's rule.
    pub(crate) fn hash_of(&self, handle: NonZeroU64) -> Option<u64> {
        self.slot(handle).map(|index| self.slots[index].hash())
    }

    /// Makes room for so many more rules, within the e-switch's capacity.
    pub(crate) fn expect(&mut self, rules: u32) {
        let room = rules.min(self.capacity.saturating_sub(self.used));
        self.slots.reserve(room as usize);
        let Self { index, slots, .. } = self;
        index.reserve(room as usize, |slot| slots[*slot as usize].hash());
        self.write.append(Change::Expect(room));
        self.publish();
    }

    /// True if rules may send there.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// The rule of a handle.
    pub(crate) fn rule(&self, handle: NonZeroU64, owner: u16) -> Result<&Arc<Rule>, FlowError> {
        let index = self.slot_of(handle, owner)?;
        match &self.slots[index].held {
            Held::Rule(rule) => Ok(rule),
            _ => Err(FlowError::handle("the rule is not in place")),
        }
    }

    /// An error if the handle is not of a rule of this port.
    pub(crate) fn check(&self, handle: NonZeroU64, owner: u16) -> Result<(), FlowError> {
        self.slot_of(handle, owner).map(|_| ())
    }

    /// True if this is the way from group 0 to group 1.
    pub(crate) fn is_entrance(&self, handle: NonZeroU64) -> bool {
        self.slot(handle)
            .is_some_and(|index| matches!(self.slots[index].held, Held::Entrance(_)))
    }

    /// Spends a handle; its rule stays where it is.
    pub(crate) fn forget(&mut self, handle: NonZeroU64) {
        if let Some(index) = self.slot(handle) {
            let slot = &mut self.slots[index];
            slot.generation = slot.generation.wrapping_add(1);
        }
    }

    /// An error if there is a rule for the same packets.
    pub(crate) fn check_absent(&self, rule: &Rule) -> Result<(), FlowError> {
        self.find(rule).map_or(Ok(()), |_| Err(exists()))
    }

    /// Rules made through a port.
    pub(crate) fn rules_of(&self, port: u16) -> impl Iterator<Item = &Arc<Rule>> {
        self.slots.iter().filter_map(move |slot| match &slot.held {
            Held::Rule(rule) if rule.owner == port => Some(rule),
            _ => None,
        })
    }

    fn find(&self, rule: &Rule) -> Option<u32> {
        let same = |slot: &u32| matches!(&self.slots[*slot as usize].held, Held::Rule(other) if other.key == rule.key);
        self.index.find(rule.hash, same).copied()
    }

    fn place(&mut self, held: Held) -> NonZeroU64 {
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize].held = held;
                index
            }
            None => {
                self.slots.push(Slot { generation: 0, held });
                self.slots.len() as u32 - 1
            }
        };
        let generation = self.slots[index as usize].generation;
        NonZeroU64::MIN.saturating_add(u64::from(generation) << 32 | u64::from(index))
    }

    fn slot(&self, handle: NonZeroU64) -> Option<usize> {
        let (generation, index) = ((handle.get() - 1) >> 32, (handle.get() - 1) as u32 as usize);
        let slot = self.slots.get(index)?;
        (u64::from(slot.generation) == generation && !matches!(slot.held, Held::Nothing)).then_some(index)
    }

    fn slot_of(&self, handle: NonZeroU64, owner: u16) -> Result<usize, FlowError> {
        let index = self.slot(handle).ok_or_else(unknown)?;
        let of = match &self.slots[index].held {
            Held::Rule(rule) => rule.owner,
            Held::Entrance(of) | Held::Queued(of) => *of,
            Held::Nothing => return Err(unknown()),
        };
        if of == owner {
            Ok(index)
        } else {
            Err(FlowError::handle("the rule was made through another port"))
        }
    }
}

fn unknown() -> FlowError {
    FlowError::handle("no such rule")
}

fn exists() -> FlowError {
    FlowError::new(
        FlowErrorKind::Unspecified,
        libc::EEXIST,
        "EEXIST: there is a rule with this match: destroy it first",
    )
}
