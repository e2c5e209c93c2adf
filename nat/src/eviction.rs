//! Which connection a full table gives up: the least valuable, and among those the oldest.
//!
//! Two queues hold what may go: connections that nobody ever answered, then those that open or close. An established
//! connection is in neither. A queue is in the order in which connections joined it; one that is found at the old end but
//! had packets since then goes to the new end instead, so that nothing has to be moved for a packet.

use crate::connections::{Cold, NONE};
use crate::entry::ConnectionState;

/// What a connection is worth to a full table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Worth {
    /// Nobody answered.
    Unreplied,
    /// Answered, but opening, closing, or a single exchange.
    Transitory,
    /// Never given up.
    #[default]
    Kept,
}

impl Worth {
    /// Those that may be given up, the least valuable first.
    pub(crate) const EVICTABLE: [Self; 2] = [Self::Unreplied, Self::Transitory];

    /// What a connection in `state` is worth.
    pub(crate) const fn of(state: ConnectionState) -> Self {
        match state {
            ConnectionState::Unreplied => Self::Unreplied,
            ConnectionState::Replied | ConnectionState::Closing => Self::Transitory,
            ConnectionState::Established | ConnectionState::Zombie => Self::Kept,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Queue {
    oldest: u32,
    newest: u32,
}

/// The queues. Their links are in the connections themselves.
#[derive(Debug)]
pub(crate) struct Queues([Queue; 2]);

impl Queues {
    pub(crate) fn new() -> Self {
        Self(
            [Queue {
                oldest: NONE,
                newest: NONE,
            }; 2],
        )
    }

    /// Puts a connection that is in no queue at the new end of that of its worth.
    pub(crate) fn join(&mut self, cold: &mut [Cold], connection: u32, worth: Worth, tick: u32) {
        let this = &mut cold[connection as usize];
        (this.worth, this.queued) = (worth, tick);
        let Some(queue) = self.0.get_mut(worth as usize) else {
            return;
        };
        (this.older, this.newer) = (queue.newest, NONE);
        match queue.newest {
            NONE => queue.oldest = connection,
            newest => cold[newest as usize].newer = connection,
        }
        queue.newest = connection;
    }

    /// Takes a connection out of the queue that it is in, if it is in one.
    pub(crate) fn leave(&mut self, cold: &mut [Cold], connection: u32) {
        let Cold {
            older, newer, worth, ..
        } = cold[connection as usize];
        let Some(queue) = self.0.get_mut(worth as usize) else {
            return;
        };
        match older {
            NONE => queue.oldest = newer,
            older => cold[older as usize].newer = newer,
        }
        match newer {
            NONE => queue.newest = older,
            newer => cold[newer as usize].older = older,
        }
        cold[connection as usize].worth = Worth::Kept;
    }

    /// The one that joined first.
    pub(crate) fn oldest(&self, worth: Worth) -> Option<u32> {
        let queue = self.0.get(worth as usize)?;
        (queue.oldest != NONE).then_some(queue.oldest)
    }

    /// Connections in the queues, by walking them. For checks, not for packets.
    #[cfg(test)]
    pub(crate) fn queued(&self, cold: &[Cold]) -> [usize; 2] {
        let newer = |connection: &u32| Some(cold[*connection as usize].newer).filter(|next| *next != NONE);
        let count = |queue: Queue| std::iter::successors(Some(queue.oldest).filter(|o| *o != NONE), newer).count();
        self.0.map(count)
    }
}
