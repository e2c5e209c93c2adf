//! Operations that were entered, and those that are finished.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;

use dpdk_sys::flow::{Completion, FlowError};

use crate::rule::Rule;

/// Operations that a queue has room for from the beginning.
const ROOM: u32 = 4_096;

/// A queue of the flow engine.
pub(super) struct Queue {
    size: usize,
    pub(super) entered: VecDeque<Entered>,
    finished: VecDeque<Finished>,
}

/// A completion that awaits the pull.
struct Finished {
    completion: Completion,
    due: u64,
}

/// An operation that awaits the push.
pub(super) struct Entered {
    pub(super) user_data: u64,
    pub(super) what: What,
}

pub(super) enum What {
    Create { handle: NonZeroU64, rule: Arc<Rule> },
    Destroy(NonZeroU64),
}

impl Queue {
    pub(super) fn new(size: u32) -> Self {
        Self {
            size: size as usize,
            entered: VecDeque::with_capacity(size.min(ROOM) as usize),
            finished: VecDeque::with_capacity(size.min(ROOM) as usize),
        }
    }

    /// An error if as many operations as the queue is long have not been pulled.
    pub(super) fn check_room(&self) -> Result<(), FlowError> {
        if self.entered.len() + self.finished.len() >= self.size {
            Err(FlowError::full("the queue is full: push and pull"))
        } else {
            Ok(())
        }
    }

    /// Keeps a completion until `due`, milliseconds on the switch's clock, and until those before it are gone.
    pub(super) fn finish(&mut self, user_data: u64, ok: bool, due: u64) {
        let completion = Completion { user_data, ok };
        self.finished.push_back(Finished { completion, due });
    }

    /// The next completion that is due; `now` is asked for the time if one is held back.
    pub(super) fn next(&mut self, now: impl FnOnce() -> u64) -> Option<Completion> {
        let first = self.finished.front()?;
        if first.due > 0 && first.due > now() {
            return None;
        }
        self.finished.pop_front().map(|finished| finished.completion)
    }
}
