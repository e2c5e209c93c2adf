//! The thread that owns the flow queue: requests in, completions and counters out.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dpdk_sys::StartedPort;
use dpdk_sys::flow::{Completion, Flow, FlowConfig, FlowError, FlowErrorKind, FlowQueue};
use nat::ConnectionId;
use rtrb::{Consumer, Producer};

use super::installer::Installer;
use super::{ConnectionOffload, NotOffloaded, OffloadCounters, OffloadReply, OffloadRequest, OffloadedRule};

/// Operations in the flow queue at once.
const QUEUE: u32 = 4_096;
/// Requests taken from all workers before the NIC is pushed. A request is at most four operations, two of them after
/// the completion of the others, so the queue has room for those that are entered again, too.
const BATCH: usize = QUEUE as usize / 8;
/// Counters read between two looks at the rings.
const COUNTS: usize = 256;
/// Rules shown, at most.
const SHOWN: usize = 1_000;
/// Pause when there is nothing to do.
const PAUSE: Duration = Duration::from_micros(500);

/// Where a connection is on its way into or out of the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Rules were entered and are not yet confirmed.
    Installing,
    /// Both rules are confirmed.
    Live,
    /// Rules are being taken out.
    Removing,
}

/// A connection that has, had or will have rules.
struct Record {
    worker: usize,
    offload: ConnectionOffload,
    phase: Phase,
    flows: [Option<Flow>; 2],
    /// Completions awaited.
    awaited: u8,
    /// Why a rule was refused.
    refused: Option<NotOffloaded>,
    /// The worker wants it out.
    unwanted: bool,
    /// What to install once it is out.
    next: Option<ConnectionOffload>,
    packets: [u64; 2],
    bytes: [u64; 2],
}

/// The offload thread's state.
pub(crate) struct OffloadThread {
    installer: Installer,
    requests: Vec<Consumer<OffloadRequest>>,
    replies: Vec<Producer<OffloadReply>>,
    /// Slab: a completion's token is twice the slot, plus the direction.
    records: Vec<Option<Record>>,
    free: Vec<usize>,
    slots: HashMap<(usize, ConnectionId), usize>,
    /// Slots whose removal found the queue full.
    retry: VecDeque<usize>,
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
            retry: VecDeque::new(),
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
            let mut work = self.take_requests();
            for _ in 0..self.retry.len() {
                if let Some(slot) = self.retry.pop_front() {
                    self.remove_rules(slot);
                }
            }
            if let Err(error) = self.installer.pull(&mut completions) {
                tracing::error!(%error, "the NIC's flow queue does not answer");
            }
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
        self.records[slot] = Some(Record {
            worker,
            offload,
            phase: Phase::Installing,
            flows: [None, None],
            awaited: 0,
            refused: None,
            unwanted: false,
            next: None,
            packets: [0; 2],
            bytes: [0; 2],
        });
        self.enter_rules(slot);
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
        let Some(Some(record)) = self.records.get_mut(slot) else {
            return;
        };
        if !completion.ok && record.phase == Phase::Removing {
            // The rule may be in the NIC still, and its handle is spent: the record waits for ever, and with it the NAT
            // port, which nobody else may get while the NIC might translate to it.
            let rule = record.offload.directions[side].describe();
            tracing::error!(
                rule,
                "the NIC did not remove a rule: its NAT port stays taken until the restart"
            );
            return;
        }
        record.awaited = record.awaited.saturating_sub(1);
        if !completion.ok && record.phase == Phase::Installing {
            record.flows[side] = None;
            record.refused = Some(NotOffloaded::NicRefused);
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
            Phase::Removing if record.flows.iter().any(Option::is_some) => self.remove_rules(slot),
            Phase::Removing => self.removed(slot),
        }
    }

    /// Enters the end of every rule that a record still has.
    fn remove_rules(&mut self, slot: usize) {
        let Some(record) = &mut self.records[slot] else { return };
        record.phase = Phase::Removing;
        let mut full = false;
        for side in 0..2 {
            if let Some(flow) = record.flows[side].take() {
                match self.installer.destroy(flow, token(slot, side)) {
                    Ok(()) => record.awaited += 1,
                    Err(flow) => {
                        record.flows[side] = Some(flow);
                        full = true;
                    }
                }
            }
        }
        if full {
            self.retry.push_back(slot);
        } else if record.awaited == 0 {
            self.removed(slot);
        }
    }

    /// Nothing of a record is in the NIC.
    fn removed(&mut self, slot: usize) {
        let Some(mut record) = self.records[slot].take() else {
            return;
        };
        if let Some(next) = record.next.take() {
            self.counters.removed.add(1);
            self.records[slot] = Some(Record {
                offload: next,
                refused: None,
                unwanted: false,
                packets: [0; 2],
                bytes: [0; 2],
                ..record
            });
            return self.enter_rules(slot);
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
            if record.phase != Phase::Live {
                continue;
            }
            let (mut packets, mut bytes) = ([0; 2], [0; 2]);
            for side in 0..2 {
                let Some(flow) = &record.flows[side] else { continue };
                let count = self.installer.count(flow);
                let (now_packets, now_bytes) = (count.packets.unwrap_or(0), count.bytes.unwrap_or(0));
                packets[side] = now_packets.saturating_sub(record.packets[side]);
                bytes[side] = now_bytes.saturating_sub(record.bytes[side]);
                record.packets[side] = record.packets[side].max(now_packets);
                record.bytes[side] = record.bytes[side].max(now_bytes);
                if self.shown.len() < SHOWN {
                    self.shown.push(OffloadedRule {
                        worker: record.worker as u16,
                        rule: record.offload.directions[side].describe(),
                        packets: now_packets,
                        bytes: now_bytes,
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
