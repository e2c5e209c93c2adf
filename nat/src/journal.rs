//! Which slots a standby has to be told of: a mark for each that changed, and a sweep over all that there were when the
//! stream began. Bounded by the number of slots, and allocates nothing once it is made.

use std::collections::VecDeque;

/// What a standby has not been told of yet.
#[derive(Debug)]
pub(crate) struct Journal {
    stream: u64,
    /// One bit for each slot: it is in the queue.
    marked: Vec<u64>,
    queue: VecDeque<u32>,
    /// The sweep's next slot.
    next: u32,
    /// Slots that there were when the stream began.
    slots: u32,
    told_all: bool,
    /// The sweep is next, the queue was before.
    sweep: bool,
}

/// What to look at next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A slot that changed.
    Changed(u32),
    /// A slot of the sweep.
    Swept(u32),
    /// The sweep has ended.
    ToldAll,
}

impl Journal {
    /// For a table of `capacity` slots, of which `slots` were ever used.
    pub(crate) fn new(stream: u64, capacity: u32, slots: u32) -> Self {
        Self {
            stream,
            marked: vec![0; (capacity as usize).div_ceil(64)],
            queue: VecDeque::with_capacity(capacity as usize),
            next: 0,
            slots,
            told_all: false,
            sweep: false,
        }
    }

    pub(crate) const fn stream(&self) -> u64 {
        self.stream
    }

    /// Notes that a slot changed.
    pub(crate) fn mark(&mut self, slot: u32) {
        let (word, bit) = (&mut self.marked[(slot / 64) as usize], 1 << (slot % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.queue.push_back(slot);
        }
    }

    /// The next slot to tell of, of the sweep and of the changed ones in turn.
    pub(crate) fn next(&mut self) -> Option<Look> {
        self.sweep = !self.sweep;
        if self.sweep {
            self.swept().or_else(|| self.changed())
        } else {
            self.changed().or_else(|| self.swept())
        }
    }

    fn changed(&mut self) -> Option<Look> {
        let slot = self.queue.pop_front()?;
        self.marked[(slot / 64) as usize] &= !(1 << (slot % 64));
        Some(Look::Changed(slot))
    }

    fn swept(&mut self) -> Option<Look> {
        if self.next < self.slots {
            self.next += 1;
            return Some(Look::Swept(self.next - 1));
        }
        (!std::mem::replace(&mut self.told_all, true)).then_some(Look::ToldAll)
    }

    /// Slots that are still to be told of.
    pub(crate) fn backlog(&self) -> usize {
        self.queue.len() + (self.slots - self.next) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_told_of_once_however_often_it_changed_and_the_sweep_ends_once() {
        let mut journal = Journal::new(7, 200, 3);
        for slot in [150, 1, 150, 150, 199] {
            journal.mark(slot);
        }
        assert_eq!(journal.backlog(), 6);
        let told: Vec<Look> = std::iter::from_fn(|| journal.next()).collect();
        let expected = [
            Look::Swept(0),
            Look::Changed(150),
            Look::Swept(1),
            Look::Changed(1),
            Look::Swept(2),
            Look::Changed(199),
            Look::ToldAll,
        ];
        assert_eq!(told, expected);
        journal.mark(150);
        assert_eq!((journal.next(), journal.next()), (Some(Look::Changed(150)), None));
    }

    #[test]
    fn the_queue_never_grows() {
        let mut journal = Journal::new(1, 1000, 0);
        let room = journal.queue.capacity();
        for round in 0..50_000u32 {
            journal.mark(round.wrapping_mul(7919) % 1000);
        }
        assert_eq!((journal.queue.capacity(), journal.backlog()), (room, 1000));
    }
}
