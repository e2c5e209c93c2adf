//! A worker's side of offload: what it asks of the offload thread, and what it does with the answers.

use std::collections::VecDeque;
use std::sync::Arc;

use nat::{ConnectionId, Direction, OffloadState, Outcome};
use net::PortId;
use rib::Tables;
use rtrb::{Consumer, Producer};

use super::Pipeline;
use crate::offload::{ConnectionOffload, NotOffloaded, OffloadCounters, OffloadReply, OffloadRequest};

/// Rings to and from the offload thread.
pub(crate) struct OffloadOutlet {
    pub(crate) requests: Producer<OffloadRequest>,
    pub(crate) replies: Consumer<OffloadReply>,
    /// Ports that take rules.
    pub(crate) ports: Arc<[PortId]>,
    /// Where this worker counts what stays in software, by its number.
    pub(crate) counters: Arc<OffloadCounters>,
    pub(crate) worker: usize,
    /// Removals that found the ring full: those must not be lost, for the NIC would go on forwarding.
    pub(crate) backlog: VecDeque<OffloadRequest>,
}

impl OffloadOutlet {
    fn count(&self, reason: NotOffloaded) {
        if let Some(reasons) = self.counters.reasons.get(self.worker) {
            reasons.count(reason);
        }
    }

    /// The connection as rules, or why not, which is counted.
    fn describe(&self, tables: &Tables, id: ConnectionId, directions: [Direction; 2]) -> Option<ConnectionOffload> {
        ConnectionOffload::new(tables, &self.ports, id, directions)
            .inspect_err(|reason| self.count(*reason))
            .ok()
    }

    fn remove(&mut self, request: OffloadRequest) {
        if self.backlog.is_empty() {
            if let Err(rtrb::PushError::Full(request)) = self.requests.push(request) {
                self.backlog.push_back(request);
            }
        } else {
            self.backlog.push_back(request);
        }
    }
}

impl Pipeline {
    /// Asks for a connection to be installed in the NIC. Without room in the queue it stays in software.
    pub(super) fn request_offload(&mut self, tables: &Tables, id: ConnectionId) {
        let Some(outlet) = &mut self.offloads else { return };
        let Some(directions) = self.engine.directions(id) else {
            return;
        };
        let Some(install) = outlet.describe(tables, id, directions) else {
            return;
        };
        let queued = outlet.backlog.is_empty() && outlet.requests.push(OffloadRequest::Install(install)).is_ok();
        if !queued {
            outlet.count(NotOffloaded::QueueFull);
        }
        self.engine.set_offload(
            id,
            if queued {
                OffloadState::Queued
            } else {
                OffloadState::Refused
            },
        );
    }

    /// Brings the NIC in line with what revalidation found: rules of a moved connection are replaced, those of an ended
    /// or stranded one removed.
    pub(crate) fn reoffload(&mut self, tables: &Tables, id: ConnectionId, outcome: Outcome) {
        if self.offloads.is_some() && outcome == Outcome::Moved && self.engine.is_worth_offloading(id) {
            return self.request_offload(tables, id);
        }
        let Some(outlet) = &mut self.offloads else { return };
        if !matches!(
            self.engine.offload_state(id),
            Some(OffloadState::Queued | OffloadState::Live)
        ) {
            return;
        }
        let again = match outcome {
            Outcome::Kept => return,
            Outcome::Moved => self
                .engine
                .directions(id)
                .and_then(|directions| outlet.describe(tables, id, directions)),
            Outcome::Unrouted | Outcome::Ended(_) => None,
        };
        match again {
            Some(install) => {
                outlet.remove(OffloadRequest::Replace(install));
                self.engine.set_offload(id, OffloadState::Queued);
            }
            None => outlet.remove(OffloadRequest::Remove(id)),
        }
    }

    /// Has an ended connection's rules removed; its port is free when that is confirmed.
    fn retire_offload(&mut self, id: ConnectionId) {
        let Some(outlet) = &mut self.offloads else { return };
        if matches!(
            self.engine.offload_state(id),
            Some(OffloadState::Queued | OffloadState::Live)
        ) {
            outlet.remove(OffloadRequest::Remove(id));
        }
    }

    /// Expires connections: at most `budget` timers.
    pub(crate) fn expire(&mut self, budget: usize) {
        let mut ended = std::mem::take(&mut self.ended);
        self.engine.expire(self.now, budget, &mut |id, _reason| ended.push(id));
        for id in ended.drain(..) {
            self.retire_offload(id);
        }
        self.ended = ended;
    }

    /// Goes on with the background revalidation of the newest generation; a summary when it has ended.
    pub(crate) fn revalidate(&mut self, tables: &Tables, budget: usize) -> Option<nat::RevalidationSummary> {
        let mut changed = std::mem::take(&mut self.changed);
        let summary = self
            .engine
            .revalidate(budget, tables, &mut |id, outcome| changed.push((id, outcome)));
        for (id, outcome) in changed.drain(..) {
            self.reoffload(tables, id, outcome);
        }
        self.changed = changed;
        summary
    }

    /// Takes in what the offload thread has done.
    pub(crate) fn take_replies(&mut self) {
        let Some(outlet) = &mut self.offloads else { return };
        while let Some(request) = outlet.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(request)) = outlet.requests.push(request) {
                outlet.backlog.push_front(request);
                break;
            }
        }
        while let Ok(reply) = outlet.replies.pop() {
            match reply {
                OffloadReply::Live(id) => {
                    self.engine.set_offload(id, OffloadState::Live);
                }
                OffloadReply::Refused(id, reason) => {
                    outlet.count(reason);
                    self.engine.set_offload(id, OffloadState::Refused);
                }
                OffloadReply::Removed(id) => {
                    self.engine.set_offload(id, OffloadState::None);
                    self.engine.release(id);
                }
                OffloadReply::Seen { id, packets, bytes } => self.engine.touch(id, packets, bytes, self.now),
            }
        }
    }
}
