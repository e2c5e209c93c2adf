//! The thread that owns the flow queue: requests in, completions and counters out.
//!
//! A rule that the NIC does not remove keeps its record, and with it the NAT port of its connection, until it is gone. An
//! end that was not entered is entered again, at growing intervals. One that was entered and failed has spent the
//! rule's handle (rte_flow.h, `rte_flow_async_destroy`), so the NIC is flushed and every other connection installed
//! anew: software forwards meanwhile, as it does before any rule.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dpdk_sys::StartedPort;
use dpdk_sys::flow::{Completion, FlowConfig, FlowError, FlowErrorKind, FlowQueue};
use nat::ConnectionId;
use rtrb::{Consumer, Producer};

use super::installer::Installer;
use super::record::{Phase, Record};
use super::{ConnectionOffload, NotOffloaded, OffloadCounters, OffloadReply, OffloadRequest, OffloadedRule, RuleState};

/// Operations in the flow queue at once.
const QUEUE: u32 = 4_096;
/// Operations of a connection that are under way at once, at most.
const OPERATIONS: u32 = 2;
/// Requests taken from all workers before the NIC is pushed.
const BATCH: usize = QUEUE as usize / 8;
/// Counters read between two looks at the rings.
const COUNTS: usize = 256;
/// Rules shown, at most.
const SHOWN: usize = 1_000;
/// Pause when there is nothing to do.
const PAUSE: Duration = Duration::from_micros(500);
/// Pause before the end of a rule is entered again that the NIC refused; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// Longest such pause.
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// Shortest time between two flushes: each sends every connection through software for a moment.
const FLUSHES: Duration = Duration::from_secs(5);

/// The offload thread's state.
pub(crate) struct OffloadThread {
    installer: Installer,
    requests: Vec<Consumer<OffloadRequest>>,
    replies: Vec<Producer<OffloadReply>>,
    /// Slab: a completion's token is twice the slot, plus the direction.
    records: Vec<Option<Record>>,
    free: Vec<usize>,
    slots: HashMap<(usize, ConnectionId), usize>,
    /// Slots in [`Phase::Waiting`], and stale ones.
    waiting: VecDeque<usize>,
    /// Slots with rules whose end is to be entered again, and stale ones, by when.
    retry: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Operations entered whose completions were not pulled.
    under_way: u32,
    /// A rule without a handle is to be flushed, not before this.
    flush_due: Option<Instant>,
    /// Not before this again.
    next_flush: Instant,
    /// The queue did not answer the last time.
    mute: bool,
    /// Where reading counters goes on.
    cursor: usize,
    shown: Vec<OffloadedRule>,
    rules: Arc<Mutex<Vec<OffloadedRule>>>,
    counters: Arc<OffloadCounters>,
    capacity: u32,
}

impl OffloadThread {
    /// How a port's flow engine is set up before it starts.
    pub(crate) fn flow_config() -> FlowConfig {
        FlowConfig {
            queues: 1,
            queue_size: QUEUE,
            counters: 0,
            aging_objects: 0,
        }
    }

    /// Prepares the NIC behind `port` for `connections` connections.
    pub(crate) fn new(
        port: Arc<StartedPort>,
        queues: Vec<FlowQueue>,
        connections: u32,
        requests: Vec<Consumer<OffloadRequest>>,
        replies: Vec<Producer<OffloadReply>>,
        counters: Arc<OffloadCounters>,
    ) -> Result<Self, FlowError> {
        let installer = Installer::new(port, queues.into_iter().next(), connections.saturating_mul(2))?;
        Ok(Self {
            installer,
            requests,
            replies,
            records: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            waiting: VecDeque::new(),
            retry: BinaryHeap::new(),
            under_way: 0,
            flush_due: None,
            next_flush: now(),
            mute: false,
            cursor: 0,
            shown: Vec::new(),
            rules: Arc::default(),
            counters,
            capacity: connections,
        })
    }

    /// The rules in the NIC, renewed about once a second.
    pub(crate) fn rules(&self) -> Arc<Mutex<Vec<OffloadedRule>>> {
        Arc::clone(&self.rules)
    }

    /// Runs until `stop`; every rule is taken out at the end.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let mut completions = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let mut work = false;
            if self.flush_due.is_some_and(|due| due <= now()) {
                if self.under_way == 0 {
                    self.start_over();
                }
            } else {
                self.enter_waiting();
                work = self.take_requests();
                self.retry_removals();
            }
            let pulled = self.installer.pull(&mut completions);
            if let Err(error) = &pulled
                && !self.mute
            {
                tracing::error!(%error, "the NIC's flow queue does not answer");
            }
            self.mute = pulled.is_err();
            work |= !completions.is_empty();
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            self.read_counters();
            if !work {
                std::thread::sleep(PAUSE);
            }
        }
        if let Err(error) = self.installer.flush() {
            tracing::error!(%error, "rules stay in the NIC");
        }
    }

    fn take_requests(&mut self) -> bool {
        let mut any = false;
        let share = (BATCH / self.requests.len().max(1)).max(1);
        for worker in 0..self.requests.len() {
            for _ in 0..share {
                if !self.has_room() {
                    return any;
                }
                let Ok(request) = self.requests[worker].pop() else {
                    break;
                };
                any = true;
                match request {
                    OffloadRequest::Install(offload) => self.install(worker, offload),
                    OffloadRequest::Replace(offload) => self.withdraw(worker, offload.id, Some(offload)),
                    OffloadRequest::Remove(id) => self.withdraw(worker, id, None),
                }
            }
        }
        any
    }

    fn install(&mut self, worker: usize, offload: ConnectionOffload) {
        let id = offload.id;
        if self.slots.contains_key(&(worker, id)) {
            return self.withdraw(worker, id, Some(offload));
        }
        if self.slots.len() >= self.capacity as usize {
            self.counters.refused.add(1);
            return self.reply(worker, OffloadReply::Refused(id, NotOffloaded::NicFull));
        }
        let slot = self.free.pop().unwrap_or(self.records.len());
        if slot == self.records.len() {
            self.records.push(None);
        }
        self.slots.insert((worker, id), slot);
        self.records[slot] = Some(Record::new(worker, offload));
        self.enter_rules(slot);
    }

    /// True if the operations of one more connection can be entered.
    fn has_room(&self) -> bool {
        self.under_way + OPERATIONS <= QUEUE
    }

    /// Enters rules of records that wait for that.
    fn enter_waiting(&mut self) {
        while self.has_room()
            && let Some(slot) = self.waiting.pop_front()
        {
            let waits = |record: &Record| record.phase == Phase::Waiting;
            if self.records[slot].as_ref().is_some_and(waits) {
                self.enter_rules(slot);
            }
        }
    }

    /// Enters ends of rules again that are due.
    fn retry_removals(&mut self) {
        if self.retry.is_empty() {
            return;
        }
        let now = now();
        while self.has_room()
            && self.retry.peek().is_some_and(|Reverse((due, _))| *due <= now)
            && let Some(Reverse((_, slot))) = self.retry.pop()
        {
            let removing = |record: &Record| record.phase == Phase::Removing;
            if self.records[slot].as_ref().is_some_and(removing) {
                self.remove_rules(slot);
            }
        }
    }

    /// Enters both rules of a record.
    fn enter_rules(&mut self, slot: usize) {
        let Some(record) = &mut self.records[slot] else { return };
        record.phase = Phase::Installing;
        for side in 0..2 {
            match self
                .installer
                .create(&record.offload.directions[side], token(slot, side))
            {
                Ok(flow) => {
                    record.flows[side] = Some(flow);
                    record.awaited += 1;
                    self.under_way += 1;
                }
                Err(error) => {
                    tracing::debug!(%error, rule = record.offload.directions[side].describe(), "rule refused");
                    record.refused = Some(match error.kind {
                        FlowErrorKind::Full => NotOffloaded::NicFull,
                        _ => NotOffloaded::NicRefused,
                    });
                }
            }
        }
        self.settle(slot);
    }

    fn withdraw(&mut self, worker: usize, id: ConnectionId, next: Option<ConnectionOffload>) {
        match self.slots.get(&(worker, id)).copied() {
            Some(slot) => {
                if let Some(record) = &mut self.records[slot] {
                    record.unwanted = true;
                    record.next = next;
                }
                self.settle(slot);
            }
            // Refused or removed in the meantime.
            None => match next {
                Some(offload) => self.install(worker, offload),
                None => self.reply(worker, OffloadReply::Removed(id)),
            },
        }
    }

    fn complete(&mut self, completion: Completion) {
        let (slot, side) = ((completion.user_data / 2) as usize, (completion.user_data % 2) as usize);
        self.under_way = self.under_way.saturating_sub(1);
        let Some(Some(record)) = self.records.get_mut(slot) else {
            return;
        };
        record.awaited = record.awaited.saturating_sub(1);
        match record.phase {
            Phase::Installing if !completion.ok => {
                record.flows[side] = None;
                record.refused = Some(NotOffloaded::NicRefused);
            }
            Phase::Removing if !completion.ok => {
                let rule = record.offload.directions[side].describe();
                tracing::error!(rule, "the NIC did not remove a rule: it will be flushed");
                if !record.is_stuck() {
                    self.counters.stuck.add(1);
                }
                record.lost = true;
                self.counters.removals_refused.add(1);
                let due = self.next_flush.max(now());
                self.flush_due.get_or_insert(due);
            }
            _ => {}
        }
        self.settle(slot);
    }

    /// Takes a record to its next phase when nothing is awaited any more.
    fn settle(&mut self, slot: usize) {
        let Some(record) = &mut self.records[slot] else { return };
        if record.awaited > 0 {
            return;
        }
        match record.phase {
            Phase::Waiting if record.unwanted => self.removed(slot),
            Phase::Waiting => {}
            Phase::Installing if record.refused.is_none() && !record.unwanted => {
                record.phase = Phase::Live;
                let (worker, id) = (record.worker, record.offload.id);
                self.counters.installed.add(1);
                self.counters.live.add(1);
                self.reply(worker, OffloadReply::Live(id));
            }
            Phase::Installing => self.remove_rules(slot),
            Phase::Live if record.unwanted => {
                self.counters.live.set(self.counters.live.get().saturating_sub(1));
                self.remove_rules(slot);
            }
            Phase::Live => {}
            Phase::Removing if record.lost || record.flows.iter().any(Option::is_some) => {}
            Phase::Removing => self.removed(slot),
        }
    }

    /// Enters the end of every rule that a record still has.
    fn remove_rules(&mut self, slot: usize) {
        let Some(record) = &mut self.records[slot] else { return };
        let was_stuck = record.is_stuck();
        record.phase = Phase::Removing;
        let mut refused = None;
        for side in 0..2 {
            if let Some(flow) = record.flows[side].take() {
                match self.installer.destroy(flow, token(slot, side)) {
                    Ok(()) => {
                        record.awaited += 1;
                        self.under_way += 1;
                    }
                    Err(kept) => {
                        record.flows[side] = Some(kept.flow);
                        refused = Some(kept.error);
                    }
                }
            }
        }
        match refused {
            Some(error) if error.kind == FlowErrorKind::Full => self.retry.push(Reverse((now(), slot))),
            Some(error) => {
                if record.attempts == 0 {
                    let id = record.offload.id;
                    tracing::error!(%error, ?id, "the NIC does not remove a connection's rules: it is asked again");
                }
                let pause = FIRST_RETRY.saturating_mul(1 << record.attempts.min(16));
                record.attempts += 1;
                self.counters.removals_refused.add(1);
                if !was_stuck {
                    self.counters.stuck.add(1);
                }
                self.retry.push(Reverse((now() + pause.min(LONGEST_RETRY), slot)));
            }
            None if record.awaited == 0 && !record.lost => self.removed(slot),
            None => {}
        }
    }

    /// Has the NIC drop every rule, for one of them cannot be named any more, and installs what is wanted anew.
    fn start_over(&mut self) {
        self.next_flush = now() + FLUSHES;
        if let Err(error) = self.installer.start_over() {
            tracing::error!(%error, "the NIC keeps rules that it was told to remove: it is asked again");
            self.flush_due = Some(self.next_flush);
            return;
        }
        tracing::warn!("the NIC was flushed, for it had not removed a rule; connections are installed anew");
        self.flush_due = None;
        self.retry.clear();
        self.counters.live.set(0);
        for slot in 0..self.records.len() {
            let Some(record) = &mut self.records[slot] else {
                continue;
            };
            record.flows = [None, None];
            match record.phase {
                Phase::Live => {
                    record.next = Some(record.offload.clone());
                    self.removed(slot);
                }
                Phase::Removing => self.removed(slot),
                // Not in the NIC; with nothing under way there is none that is being installed.
                Phase::Waiting | Phase::Installing => {}
            }
        }
    }

    /// Nothing of a record is in the NIC.
    fn removed(&mut self, slot: usize) {
        let Some(mut record) = self.records[slot].take() else {
            return;
        };
        if record.is_stuck() {
            self.counters.stuck.set(self.counters.stuck.get().saturating_sub(1));
        }
        if let Some(next) = record.next.take() {
            self.counters.removed.add(1);
            self.records[slot] = Some(Record::new(record.worker, next));
            self.waiting.push_back(slot);
            return;
        }
        let id = record.offload.id;
        self.slots.remove(&(record.worker, id));
        self.free.push(slot);
        match record.refused {
            Some(reason) if !record.unwanted => {
                self.counters.refused.add(1);
                self.reply(record.worker, OffloadReply::Refused(id, reason));
            }
            _ => {
                self.counters.removed.add(1);
                self.reply(record.worker, OffloadReply::Removed(id));
            }
        }
    }

    /// Reads a few counters and tells workers which connections the NIC carries, so that those do not expire.
    fn read_counters(&mut self) {
        for _ in 0..COUNTS.min(self.records.len()) {
            if self.cursor >= self.records.len() {
                self.cursor = 0;
                let fresh = std::mem::take(&mut self.shown);
                *self.rules.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = fresh;
                return;
            }
            let slot = self.cursor;
            self.cursor += 1;
            let Some(record) = &mut self.records[slot] else {
                continue;
            };
            let stuck = record.is_stuck();
            if record.phase != Phase::Live && !stuck {
                continue;
            }
            let (mut packets, mut bytes) = ([0; 2], [0; 2]);
            for side in 0..2 {
                // A rule that was lost or is gone counts nothing any more.
                let count = record.flows[side].as_ref().map(|flow| self.installer.count(flow));
                let count = count.unwrap_or_default();
                let total = (count.packets.unwrap_or(0), count.bytes.unwrap_or(0));
                (packets[side], bytes[side]) = record.count(side, total.0, total.1);
                if self.shown.len() < SHOWN {
                    self.shown.push(OffloadedRule {
                        worker: record.worker as u16,
                        state: if stuck { RuleState::Stuck } else { RuleState::Live },
                        rule: record.offload.directions[side].describe(),
                        packets: record.packets[side],
                        bytes: record.bytes[side],
                    });
                }
            }
            if packets != [0; 2] {
                let (worker, id) = (record.worker, record.offload.id);
                self.counters.packets.add(packets.iter().sum());
                self.counters.bytes.add(bytes.iter().sum());
                self.reply(worker, OffloadReply::Seen { id, packets, bytes });
            }
        }
    }

    /// Answers a worker. The worker empties its ring at least once a millisecond and never waits for this thread, so
    /// waiting for it ends; it ends at once if the worker is gone.
    fn reply(&mut self, worker: usize, reply: OffloadReply) {
        let ring = &mut self.replies[worker];
        let mut reply = reply;
        while let Err(rtrb::PushError::Full(back)) = ring.push(reply) {
            if ring.is_abandoned() {
                return;
            }
            reply = back;
            std::thread::sleep(PAUSE);
        }
    }
}

fn token(slot: usize, side: usize) -> u64 {
    (slot * 2 + side) as u64
}

#[allow(
    clippy::disallowed_methods,
    reason = "the thread's loop is the edge where refusals by the NIC meet the clock"
)]
fn now() -> Instant {
    Instant::now()
}
