//! Connections told to a standby: what changed is marked as it changes, and read when there is room to tell it.

use super::Engine;
use crate::connections::Slot;
use crate::entry::{ConnectionState, EntryRef};
use crate::journal::{Journal, Look};
use crate::standby::{Change, News, Place};

impl Engine {
    /// Begins the stream of this number: everything that there is, and what changes from now on, is to be had from
    /// [`Engine::next_changes`]. What a stream before was not told is forgotten.
    pub fn begin_stream(&mut self, stream: u64) {
        let slots = self.capacity + EntryRef::QUARANTINE;
        self.journal = Some(Box::new(Journal::new(stream, slots, self.connections.slots())));
    }

    /// Ends the stream of this number, if it is the one that runs.
    pub fn end_stream(&mut self, stream: u64) {
        self.journal.take_if(|journal| journal.stream() == stream);
    }

    /// Tells what a standby does not know yet; looks at `budget` slots at most. What is not fetched costs nothing more: a
    /// slot that changes again meanwhile is told of once.
    pub fn next_changes(&mut self, budget: usize, tell: &mut impl FnMut(Change)) {
        let Some(mut journal) = self.journal.take() else { return };
        for _ in 0..budget {
            let Some(look) = journal.next() else { break };
            let news = match look {
                Look::ToldAll => Some(News::AllTold(self.slice.worker())),
                Look::Changed(slot) => Some(self.news_of(slot)),
                // The standby begins with nothing.
                Look::Swept(slot) => Some(self.news_of(slot)).filter(|news| matches!(news, News::Is(..))),
            };
            if let Some(news) = news {
                let stream = journal.stream();
                tell(Change { stream, news });
            }
        }
        self.journal = Some(journal);
    }

    /// Slots that a standby has not been told of yet.
    pub fn stream_backlog(&self) -> usize {
        self.journal.as_ref().map_or(0, |journal| journal.backlog())
    }

    /// What a standby is to know of a slot.
    fn news_of(&self, slot: u32) -> News {
        let place = Place {
            worker: self.slice.worker(),
            slot,
        };
        // A standby is told of IPv4 alone: what stands in an IPv6 key means nothing elsewhere.
        let v4 = !self.connections.pair(slot).iter().any(|entry| entry.key.is_v6());
        let live = v4 && self.connections.cold[slot as usize].slot == Slot::Live;
        let saved = live.then(|| self.saved(slot));
        match saved.filter(|saved| saved.state != ConnectionState::Unreplied) {
            Some(connection) => News::Is(place, connection),
            None => News::Gone(place),
        }
    }

    /// Notes that a standby has to be told of a connection.
    #[inline]
    pub(super) fn changed(&mut self, connection: u32) {
        if let Some(journal) = &mut self.journal {
            journal.mark(connection);
        }
    }
}
