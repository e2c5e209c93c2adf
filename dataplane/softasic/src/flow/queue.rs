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
    pub(super) entered: VecDeque<Operation>,
    pub(super) finished: VecDeque<Completion>,
}

/// An operation that awaits the push.
pub(super) struct Operation {
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

    pub(super) fn finish(&mut self, user_data: u64, ok: bool) {
        self.finished.push_back(Completion { user_data, ok });
    }
}
