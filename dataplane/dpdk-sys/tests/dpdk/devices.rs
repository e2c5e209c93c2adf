//! Two tiny drivers in Rust, as a driver's author would write them.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dpdk_sys::flow::{
    Action, Attr, Completion, FlowAge, FlowConfig, FlowCount, FlowError, Item, TableAttr, TemplateAction,
};
use dpdk_sys::pmd::{
    Completions, Driver, DriverError, DriverInfo, DriverStats, FlowDriver, LowerPort, PerQueue, Probe, TemplateHandles,
};
use dpdk_sys::{Burst, Mbuf, Mempool, PortConfig, RxQueue, TxQueue};

pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 42];

/// Devices that exist now.
pub static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// The last key that a device was given.
pub static RSS_KEY: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// What is sent on a queue is received on it, up to a capacity; it also has a flow engine that remembers rules.
pub struct Loopback {
    queues: PerQueue<VecDeque<Mbuf>>,
    capacity: usize,
    sent: AtomicU64,
    received: AtomicU64,
    pools: Mutex<Vec<Mempool>>,
    engine: Option<Arc<Engine>>,
}

impl Loopback {
    pub fn attach(probe: &Probe, engine: Option<Arc<Engine>>) -> Result<Self, DriverError> {
        let capacity = probe
            .argument("capacity")
            .unwrap_or("1024")
            .parse()
            .map_err(|_| DriverError::INVALID)?;
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Ok(Self {
            queues: PerQueue::new(16),
            capacity,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            pools: Mutex::default(),
            engine,
        })
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Driver for Loopback {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            mac: MAC,
            rss: true,
            ..DriverInfo::default()
        }
    }

    fn set_rss_key(&self, key: &[u8]) {
        *RSS_KEY.lock().expect("key") = key.to_vec();
    }

    fn rx_queue_setup(&self, _queue: u16, _descriptors: u16, mempool: &Mempool) -> Result<(), DriverError> {
        self.pools.lock().expect("pools").push(mempool.clone());
        Ok(())
    }

    fn tx_queue_setup(&self, queue: u16, _descriptors: u16) -> Result<(), DriverError> {
        self.queues
            .set(queue, VecDeque::new())
            .map(|_| ())
            .map_err(|_| DriverError::BUSY)
    }

    fn stop(&self) {
        self.queues.clear();
    }

    fn rx_burst(&self, queue: u16, out: &mut Burst, max: usize) {
        self.queues.with(queue, |ring| {
            while out.len() < max
                && let Some(packet) = ring.pop_front()
            {
                out.push(packet);
            }
        });
        self.received.fetch_add(out.len() as u64, Ordering::Relaxed);
    }

    fn tx_burst(&self, queue: u16, packets: &mut Burst) {
        let taken = self.queues.with(queue, |ring| {
            let taken = packets.len().min(self.capacity - ring.len());
            ring.extend(packets.drain(..taken));
            taken
        });
        self.sent.fetch_add(taken.unwrap_or(0) as u64, Ordering::Relaxed);
    }

    fn stats(&self) -> DriverStats {
        let (rx_packets, tx_packets) = (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed));
        DriverStats {
            rx_packets,
            tx_packets,
            rx_no_buffers: 3,
            ..DriverStats::default()
        }
    }

    fn stats_reset(&self) {
        self.received.store(0, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), DriverError> {
        if mtu == 1234 {
            Err(DriverError::UNSUPPORTED)
        } else {
            Ok(())
        }
    }

    fn flow(&self) -> Option<&dyn FlowDriver> {
        self.engine.as_deref().map(|engine| engine as &dyn FlowDriver)
    }
}

/// Passes on what another port receives and sends.
pub struct Wrapper {
    lower: LowerPort,
    pools: Mutex<Vec<Mempool>>,
    rx: PerQueue<RxQueue>,
    tx: PerQueue<TxQueue>,
}

impl Wrapper {
    pub fn attach(probe: &Probe) -> Result<Self, DriverError> {
        let name = probe.argument("wire").ok_or(DriverError::INVALID)?;
        let lower = LowerPort::take(name).map_err(|_| DriverError::MISSING)?;
        Ok(Self {
            lower,
            pools: Mutex::default(),
            rx: PerQueue::new(1),
            tx: PerQueue::new(1),
        })
    }
}

impl Driver for Wrapper {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            mac: self.lower.mac(),
            max_rx_queues: 1,
            max_tx_queues: 1,
            ..DriverInfo::default()
        }
    }

    fn rx_queue_setup(&self, _queue: u16, _descriptors: u16, mempool: &Mempool) -> Result<(), DriverError> {
        self.pools.lock().expect("pools").push(mempool.clone());
        Ok(())
    }

    fn start(&self) -> Result<(), DriverError> {
        let pool = self
            .pools
            .lock()
            .expect("pools")
            .last()
            .cloned()
            .ok_or(DriverError::INVALID)?;
        let (mut rx, mut tx) = self
            .lower
            .start(&PortConfig::new(pool))
            .map_err(|_| DriverError::BUSY)?;
        self.rx.set(0, rx.remove(0)).map_err(|_| DriverError::BUSY)?;
        self.tx.set(0, tx.remove(0)).map_err(|_| DriverError::BUSY)?;
        Ok(())
    }

    fn stop(&self) {
        self.rx.clear();
        self.tx.clear();
    }

    fn rx_burst(&self, queue: u16, out: &mut Burst, max: usize) {
        self.rx.with(queue, |rx| rx.burst(out, max));
    }

    fn tx_burst(&self, queue: u16, packets: &mut Burst) {
        self.tx.with(queue, |tx| tx.burst(packets));
    }

    fn stats(&self) -> DriverStats {
        DriverStats::default()
    }

    fn stats_reset(&self) {}
}

/// A rule, as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub attr: Attr,
    pub items: Vec<Item>,
    pub actions: Vec<Action>,
}

/// A flow engine that remembers what it is told.
#[derive(Default)]
pub struct Engine {
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub last: u64,
    pub rules: HashMap<u64, Rule>,
    pub config: FlowConfig,
    pub patterns: HashMap<u64, Vec<Item>>,
    pub actions: HashMap<u64, Vec<TemplateAction>>,
    pub tables: HashMap<u64, TableAttr>,
    /// Operations entered, and those carried out but not yet pulled.
    pub entered: Vec<(Completion, Option<u64>)>,
    pub finished: VecDeque<Completion>,
}

impl State {
    fn handle(&mut self) -> NonZeroU64 {
        self.last += 1;
        NonZeroU64::new(self.last).expect("counted from 1")
    }
}

impl FlowDriver for Engine {
    fn validate(&self, _attr: &Attr, _items: &[Item], actions: &[Action]) -> Result<(), FlowError> {
        if actions.is_empty() {
            Err(FlowError::unsupported("a rule without actions"))
        } else {
            Ok(())
        }
    }

    fn create(&self, attr: &Attr, items: &[Item], actions: &[Action]) -> Result<NonZeroU64, FlowError> {
        self.validate(attr, items, actions)?;
        let mut state = self.state.lock().expect("state");
        let handle = state.handle();
        let rule = Rule {
            attr: *attr,
            items: items.to_vec(),
            actions: actions.to_vec(),
        };
        state.rules.insert(handle.get(), rule);
        Ok(handle)
    }

    fn destroy(&self, flow: NonZeroU64) -> Result<(), FlowError> {
        let removed = self.state.lock().expect("state").rules.remove(&flow.get());
        removed.map(|_| ()).ok_or_else(|| FlowError::handle("no such rule"))
    }

    fn flush(&self) -> Result<(), FlowError> {
        self.state.lock().expect("state").rules.clear();
        Ok(())
    }

    fn query_count(&self, flow: NonZeroU64, reset: bool) -> Result<FlowCount, FlowError> {
        Ok(FlowCount {
            packets: Some(flow.get() * 10),
            bytes: reset.then_some(7),
        })
    }

    fn query_age(&self, _flow: NonZeroU64) -> Result<FlowAge, FlowError> {
        Ok(FlowAge {
            aged: true,
            idle_seconds: Some(0x00ab_cdef),
        })
    }

    fn aged(&self, max: Option<usize>, contexts: &mut Vec<u64>) -> Result<usize, FlowError> {
        let state = self.state.lock().expect("state");
        let of_rule = |rule: &Rule| {
            rule.actions.iter().find_map(|action| match action {
                Action::Age { context, .. } => Some(*context),
                _ => None,
            })
        };
        contexts.extend(state.rules.values().filter_map(of_rule).take(max.unwrap_or(0)));
        Ok(state.rules.len())
    }

    fn configure(&self, config: &FlowConfig) -> Result<(), FlowError> {
        self.state.lock().expect("state").config = config.clone();
        Ok(())
    }

    fn pattern_template_create(&self, _attr: &Attr, items: &[Item]) -> Result<NonZeroU64, FlowError> {
        let mut state = self.state.lock().expect("state");
        let handle = state.handle();
        state.patterns.insert(handle.get(), items.to_vec());
        Ok(handle)
    }

    fn pattern_template_destroy(&self, template: NonZeroU64) -> Result<(), FlowError> {
        self.state.lock().expect("state").patterns.remove(&template.get());
        Ok(())
    }

    fn actions_template_create(&self, _attr: &Attr, actions: &[TemplateAction]) -> Result<NonZeroU64, FlowError> {
        let mut state = self.state.lock().expect("state");
        let handle = state.handle();
        state.actions.insert(handle.get(), actions.to_vec());
        Ok(handle)
    }

    fn actions_template_destroy(&self, template: NonZeroU64) -> Result<(), FlowError> {
        self.state.lock().expect("state").actions.remove(&template.get());
        Ok(())
    }

    fn table_create(&self, attr: &TableAttr, templates: TemplateHandles<'_>) -> Result<NonZeroU64, FlowError> {
        let mut state = self.state.lock().expect("state");
        assert!(templates.patterns.iter().all(|t| state.patterns.contains_key(&t.get())));
        assert!(templates.actions.iter().all(|t| state.actions.contains_key(&t.get())));
        let handle = state.handle();
        state.tables.insert(handle.get(), *attr);
        Ok(handle)
    }

    fn table_destroy(&self, table: NonZeroU64) -> Result<(), FlowError> {
        self.state.lock().expect("state").tables.remove(&table.get());
        Ok(())
    }

    fn async_create(
        &self,
        queue: u32,
        postpone: bool,
        table: NonZeroU64,
        items: &[Item],
        pattern: u8,
        actions: &[Action],
        action: u8,
        user_data: u64,
    ) -> Result<NonZeroU64, FlowError> {
        assert_eq!((postpone, pattern, action), (true, 0, 0));
        let mut state = self.state.lock().expect("state");
        assert!(queue < u32::from(state.config.queues));
        if state.entered.len() >= state.config.queue_size as usize {
            return Err(FlowError::full("queue is full"));
        }
        let handle = state.handle();
        let attr = state.tables[&table.get()].attr;
        state.rules.insert(
            handle.get(),
            Rule {
                attr,
                items: items.to_vec(),
                actions: actions.to_vec(),
            },
        );
        state.entered.push((Completion { user_data, ok: true }, None));
        Ok(handle)
    }

    fn async_destroy(&self, _queue: u32, _postpone: bool, flow: NonZeroU64, user_data: u64) -> Result<(), FlowError> {
        let mut state = self.state.lock().expect("state");
        if state.entered.len() >= state.config.queue_size as usize {
            return Err(FlowError::full("queue is full"));
        }
        let ok = state.rules.contains_key(&flow.get());
        state.entered.push((Completion { user_data, ok }, Some(flow.get())));
        Ok(())
    }

    fn push(&self, _queue: u32) -> Result<(), FlowError> {
        let mut state = self.state.lock().expect("state");
        for (completion, removed) in std::mem::take(&mut state.entered) {
            if let Some(rule) = removed {
                state.rules.remove(&rule);
            }
            state.finished.push_back(completion);
        }
        Ok(())
    }

    fn pull(&self, _queue: u32, out: &mut Completions<'_>) -> Result<(), FlowError> {
        let mut state = self.state.lock().expect("state");
        while out.remaining() > 0
            && let Some(completion) = state.finished.pop_front()
        {
            assert!(out.push(completion));
        }
        Ok(())
    }
}
