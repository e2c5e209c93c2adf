//! A port of the e-switch: a wire behind it, an application in front of it.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dpdk_sys::pmd::{Driver, DriverError, DriverInfo, DriverStats, FlowDriver, LowerPort, PerQueue, Probe};
use dpdk_sys::{Burst, MAX_BURST, Mbuf, Mempool, PortConfig, PortId, Rss, RxQueue, TxQueue};
use left_right::ReadHandle;

use crate::classify::{Candidate, candidate, candidate_outside};
use crate::counters::{self, Counters};
use crate::fault::{Operation, Refusal, faults};
use crate::flow::FlowEngine;
use crate::forward;
use crate::rule::{Fate, Rule};
use crate::switch::Switch;
use crate::table::Table;

/// Queues of a port, each way, at most.
const MAX_QUEUES: u16 = 64;

/// What the e-switch knows of a port: every port can send out of it.
pub(crate) struct Wire {
    id: AtomicU16,
    mac: AtomicU64,
    mtu: AtomicU16,
    tx: PerQueue<TxQueue>,
    tx_queues: AtomicU16,
    counters: Box<[Counters]>,
}

impl Wire {
    /// Number of the port; no port's before it is attached.
    pub(crate) fn id(&self) -> u16 {
        self.id.load(Relaxed)
    }

    fn mac(&self) -> [u8; 6] {
        let [_, _, mac @ ..] = self.mac.load(Relaxed).to_be_bytes();
        mac
    }

    fn set_mac(&self, mac: [u8; 6]) {
        let [a, b, c, d, e, f] = mac;
        self.mac.store(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Relaxed);
    }

    /// Sends what other ports forward. What the wire refuses is counted as a transmit error and freed.
    fn forward(&self, queue: u16, packets: &mut Burst) {
        let queues = self.tx_queues.load(Relaxed).max(1);
        // The queue of the same number belongs to the same thread. Where it does not, another queue will do.
        for offset in 0..queues {
            let queue = (queue % queues + offset) % queues;
            let counters = &self.counters[usize::from(queue)];
            if self.tx.with(queue, |tx| send(tx, packets, counters)).is_some() {
                counters.not_sent(packets.len());
                Mbuf::free_bulk(packets);
                return;
            }
        }
        self.counters[0].not_sent(packets.len());
        Mbuf::free_bulk(packets);
    }
}

/// Sends and counts; what the wire refuses stays.
fn send(tx: &mut TxQueue, packets: &mut Burst, counters: &Counters) {
    let lengths: usize = packets.iter().map(Mbuf::len).sum();
    let sent = tx.burst(packets);
    let refused: usize = packets.iter().map(Mbuf::len).sum();
    counters.sent(sent, lengths - refused);
}

/// What a receive queue needs.
struct Receiver {
    queue: RxQueue,
    table: ReadHandle<Table>,
    /// Packets on their way to other wires, by the number of the port.
    leaving: Vec<Burst>,
    /// Ports that have packets in `leaving`.
    pending: Vec<u16>,
    /// What the packets of a burst are looked up by.
    candidates: Vec<Option<Candidate>>,
}

/// The driver of one port.
pub(crate) struct AsicPort {
    switch: Arc<Switch>,
    wire: Arc<Wire>,
    flow: FlowEngine,
    receivers: PerQueue<Receiver>,
    state: Mutex<State>,
    running: AtomicBool,
    lower: LowerPort,
}

/// What the application asked for.
#[derive(Default)]
struct State {
    rx_queues: u16,
    tx_queues: u16,
    rx_descriptors: u16,
    tx_descriptors: u16,
    mempool: Option<Mempool>,
    promiscuous: bool,
    rss_key: Option<Vec<u8>>,
}

impl AsicPort {
    /// Makes a port of the devices' arguments.
    pub(crate) fn attach(probe: &Probe, switch: &Arc<Switch>) -> Result<Self, DriverError> {
        let refuse = |why: &str, error: DriverError| {
            tracing::error!(device = probe.name(), "{why}");
            error
        };
        let number = |key: &str| match probe.argument(key).map(str::parse::<u32>) {
            None => Ok(None),
            Some(Ok(number)) if number > 0 => Ok(Some(number)),
            Some(_) => Err(refuse(&format!("{key}= wants a number above 0"), DriverError::INVALID)),
        };
        let rules = number("rules")?;
        let refusals = [
            (Operation::Create, number("refuse-create")?),
            (Operation::Destroy, number("refuse-destroy")?),
        ];
        let delay = number("delay-completions")?;
        let name = probe
            .argument("wire")
            .ok_or_else(|| refuse("wire= is missing: name the device to wrap", DriverError::INVALID))?;
        let lower =
            LowerPort::take(name).map_err(|error| refuse(&format!("wire={name}: {error}"), DriverError::MISSING))?;
        if let Some(rules) = rules {
            switch.set_capacity(rules);
        }
        for (operation, count) in refusals {
            if let Some(count) = count {
                faults().refuse(Refusal::next(operation, count.into()));
            }
        }
        if let Some(delay) = delay {
            faults().delay_completions(Duration::from_millis(delay.into()));
        }
        let wire = Arc::new(Wire {
            id: AtomicU16::new(u16::MAX),
            mac: AtomicU64::new(0),
            mtu: AtomicU16::new(lower.mtu()),
            tx: PerQueue::new(MAX_QUEUES),
            tx_queues: AtomicU16::new(0),
            counters: counters::for_queues(MAX_QUEUES),
        });
        wire.set_mac(lower.mac());
        Ok(Self {
            switch: switch.clone(),
            flow: FlowEngine::new(switch.clone(), wire.clone()),
            wire,
            receivers: PerQueue::new(MAX_QUEUES),
            state: Mutex::default(),
            running: AtomicBool::new(false),
            lower,
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }
}

impl Drop for AsicPort {
    fn drop(&mut self) {
        self.stop();
        self.switch.detach(self.wire.id());
    }
}

/// The refusal of the lower port, with its reason in the log.
fn refused(error: dpdk_sys::Error) -> DriverError {
    tracing::error!(%error, "the wire refuses");
    match error {
        dpdk_sys::Error::Port { errno, .. } => DriverError(errno),
        _ => DriverError::INVALID,
    }
}

impl Driver for AsicPort {
    fn info(&self) -> DriverInfo {
        let lower = self.lower.capabilities();
        DriverInfo {
            mac: self.wire.mac(),
            max_rx_queues: lower.max_rx_queues.min(MAX_QUEUES),
            max_tx_queues: lower.max_tx_queues.min(MAX_QUEUES),
            max_mtu: lower.max_mtu,
            rss: lower.rss,
        }
    }

    fn attached(&self, port: PortId) {
        self.wire.id.store(port.0, Relaxed);
        self.switch.attach(port.0);
    }

    fn configure(&self, rx_queues: u16, tx_queues: u16) -> Result<(), DriverError> {
        let mut state = self.state();
        state.rx_queues = rx_queues;
        state.tx_queues = tx_queues;
        Ok(())
    }

    fn set_rss_key(&self, key: &[u8]) {
        self.state().rss_key = Some(key.to_vec());
    }

    fn rx_queue_setup(&self, _queue: u16, descriptors: u16, mempool: &Mempool) -> Result<(), DriverError> {
        let mut state = self.state();
        state.rx_descriptors = descriptors;
        state.mempool = Some(mempool.clone());
        Ok(())
    }

    fn tx_queue_setup(&self, _queue: u16, descriptors: u16) -> Result<(), DriverError> {
        self.state().tx_descriptors = descriptors;
        Ok(())
    }

    fn start(&self) -> Result<(), DriverError> {
        let state = self.state();
        let mempool = state.mempool.clone().ok_or(DriverError::INVALID)?;
        let config = PortConfig {
            rx_queues: state.rx_queues,
            tx_queues: state.tx_queues,
            rx_descriptors: state.rx_descriptors,
            tx_descriptors: state.tx_descriptors,
            mtu: self.wire.mtu.load(Relaxed),
            promiscuous: state.promiscuous,
            rss: self.lower.capabilities().rss.then(|| Rss {
                key: state.rss_key.clone(),
            }),
            ..PortConfig::new(mempool)
        };
        let (rx, tx) = self.lower.start(&config).map_err(refused)?;
        for (index, queue) in (0..).zip(rx) {
            let receiver = Receiver {
                queue,
                table: self.switch.reader(),
                leaving: Vec::new(),
                pending: Vec::new(),
                candidates: Vec::with_capacity(MAX_BURST),
            };
            self.receivers.set(index, receiver).map_err(|_| DriverError::BUSY)?;
        }
        self.wire.tx_queues.store(state.tx_queues, Relaxed);
        for (index, queue) in (0..).zip(tx) {
            self.wire.tx.set(index, queue).map_err(|_| DriverError::BUSY)?;
        }
        self.running.store(true, Relaxed);
        self.switch.port_up(&self.wire);
        Ok(())
    }

    fn stop(&self) {
        if !self.running.swap(false, Relaxed) {
            return;
        }
        // After this no other port sends here, so that the queues can go and the wire stops.
        self.switch.port_down(self.wire.id());
        self.receivers.clear();
        self.wire.tx.clear();
    }

    fn rx_burst(&self, queue: u16, out: &mut Burst, max: usize) {
        self.receivers.with(queue, |receiver| {
            receiver.poll(&self.switch, &self.wire, queue, out, max)
        });
    }

    fn tx_burst(&self, queue: u16, packets: &mut Burst) {
        if let Some(counters) = self.wire.counters.get(usize::from(queue)) {
            self.wire.tx.with(queue, |tx| send(tx, packets, counters));
        }
    }

    fn stats(&self) -> DriverStats {
        let mut stats = counters::total(&self.wire.counters);
        if let Ok(lower) = self.lower.stats() {
            stats.rx_missed = lower.rx_missed;
            stats.rx_errors = lower.rx_errors;
            stats.rx_no_buffers = lower.rx_no_buffers;
        }
        stats
    }

    fn stats_reset(&self) {
        counters::reset(&self.wire.counters);
        if let Err(error) = self.lower.reset_stats() {
            tracing::debug!(%error, "the wire keeps its counters");
        }
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), DriverError> {
        if self.is_running() {
            self.lower.set_mtu(mtu).map_err(refused)?;
        }
        self.wire.mtu.store(mtu, Relaxed);
        Ok(())
    }

    fn set_mac(&self, mac: [u8; 6]) -> Result<(), DriverError> {
        if self.lower.mac() != mac {
            match self.lower.set_mac(mac) {
                // A wire without addresses of its own receives everything.
                Err(dpdk_sys::Error::Port { errno, .. }) if errno.0 == libc::ENOTSUP => {}
                outcome => outcome.map_err(refused)?,
            }
        }
        self.wire.set_mac(mac);
        Ok(())
    }

    fn set_promiscuous(&self, on: bool) -> Result<(), DriverError> {
        if self.is_running() {
            self.lower.set_promiscuous(on).map_err(refused)?;
        }
        self.state().promiscuous = on;
        Ok(())
    }

    fn link_up(&self) -> bool {
        self.lower.link_up()
    }

    fn flow(&self) -> Option<&dyn FlowDriver> {
        Some(&self.flow)
    }
}

/// What becomes of a received packet.
enum Verdict {
    /// To the application.
    Pass,
    Drop,
    /// Rewritten, out of this port.
    Leave(u16),
}

impl Receiver {
    /// Receives a burst: what matches a rule leaves at once, the rest is appended to `out`.
    fn poll(&mut self, switch: &Switch, wire: &Wire, queue: u16, out: &mut Burst, max: usize) {
        let received = self.queue.burst(out, max);
        if received == 0 {
            return;
        }
        let bytes = out.iter().map(Mbuf::len).sum();
        wire.counters[usize::from(queue)].received(received, bytes);
        let Some(table) = self.table.enter() else { return };
        if table.is_idle() {
            return;
        }
        for mbuf in out.iter() {
            mbuf.prefetch();
        }
        let mac = wire.mac();
        self.candidates.clear();
        self.candidates.extend(out.iter().map(|mbuf| {
            if mbuf.is_contiguous() {
                candidate(&table, mbuf.data(), mac)
            } else {
                None
            }
        }));
        let (port, now) = (wire.id(), switch.packet_time());
        for (mut mbuf, candidate) in std::mem::take(out).into_iter().zip(&self.candidates) {
            let verdict = match candidate {
                Some(candidate) => decide(&table, &mut mbuf, candidate, port, mac, now),
                None => Verdict::Pass,
            };
            match verdict {
                Verdict::Pass => out.push(mbuf),
                Verdict::Drop => drop(mbuf),
                Verdict::Leave(egress) => {
                    let index = usize::from(egress);
                    if self.leaving.len() <= index {
                        self.leaving.resize_with(index + 1, Burst::new);
                    }
                    if self.leaving[index].is_empty() {
                        self.pending.push(egress);
                    }
                    self.leaving[index].push(mbuf);
                }
            }
        }
        for egress in self.pending.drain(..) {
            let packets = &mut self.leaving[usize::from(egress)];
            if let Some(wire) = table.wire(egress) {
                wire.forward(queue, packets);
            }
        }
    }
}

/// Finds the packet's rule and carries it out.
#[inline]
fn decide(table: &Table, mbuf: &mut Mbuf, found: &Candidate, port: u16, mac: [u8; 6], now: u32) -> Verdict {
    if let Some(rule) = table.find(&found.key, found.hash, port) {
        return apply(table, mbuf, found, rule, now);
    }
    // A rule may be about the tunnel's own packets.
    if found.key.tunnel_port().is_some()
        && let Some(outside) = candidate_outside(mbuf.data(), mac)
        && let Some(rule) = table.find(&outside.key, outside.hash, port)
    {
        return apply(table, mbuf, &outside, rule, now);
    }
    Verdict::Pass
}

#[inline]
fn apply(table: &Table, mbuf: &mut Mbuf, found: &Candidate, rule: &Rule, now: u32) -> Verdict {
    let length = mbuf.len();
    match &rule.fate {
        Fate::Drop => {
            rule.hit(length, now);
            Verdict::Drop
        }
        Fate::Forward(rewrite) => {
            let Some(egress) = table.wire(rewrite.egress) else {
                return Verdict::Pass;
            };
            let mtu = egress.mtu.load(Relaxed);
            if !forward::fits(rewrite, found.length, mtu) || !forward::rewrite(mbuf, found, rewrite) {
                return Verdict::Pass;
            }
            rule.hit(length, now);
            Verdict::Leave(rewrite.egress)
        }
    }
}
