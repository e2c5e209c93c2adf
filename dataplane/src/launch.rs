//! Start and end: ports are opened first, so that the control plane learns their numbers and MACs; threads run once it
//! has described the interfaces.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use dpdk_sys::{
    DEFAULT_DATA_ROOM, Eal, EalConfig, LogLevel, Memory, Mempool, PortConfig, PortStats, ReceiveHash, Rss, RxQueue,
    TxQueue,
};
use nat::snapshot::SavedConnection;
use nat::standby::Change;
use nat::{Engine, EngineConfig, Policy, SessionEvent};
use net::{IfIndex, InterfaceId, Mac, PortId};
use rib::{Reader, Tables};
use rtrb::RingBuffer;

use crate::counters::Counters;
use crate::host::{Host, HostCounters, HostInterface};
use crate::offload::{OffloadCounters, OffloadThread, OffloadedRule};
use crate::pipeline::{OffloadOutlet, Outlets, Pipeline};
use crate::steering::steering;
use crate::worker::{Command, Inlets, PollMode, Worker};
use crate::{Error, Event, EventSink};

/// A port to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Name in the configuration.
    pub name: String,
    /// DPDK devargs, attached in order; the last one is the port, the ones before it are what it wraps.
    pub devices: Vec<String>,
    /// MAC to take; `None` keeps the device's.
    pub mac: Option<Mac>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Install connections on this port's NIC.
    pub offload: bool,
}

/// What the data plane is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the process, as DPDK shows it.
    pub program: String,
    /// Core of each worker.
    pub workers: Vec<u32>,
    /// What idle workers do.
    pub poll: PollMode,
    /// Where packet buffers live.
    pub memory: Memory,
    /// How much DPDK logs.
    pub log_level: LogLevel,
    /// Packet buffers.
    pub buffers: u32,
    /// Connections of each worker.
    pub connections: u32,
    /// Seed for the choice of NAT ports.
    pub seed: u64,
    /// Seconds after the start in which a TCP segment without SYN may begin a connection.
    pub pick_up: u32,
    /// Workers can tell of their connections' changes: [`Dataplane::take_changes`].
    pub standby: bool,
    /// Workers tell of the beginning and end of each connection: [`Dataplane::take_sessions`].
    pub log_sessions: bool,
    /// Ports, in order.
    pub ports: Vec<PortSpec>,
}

/// A port as it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// Name in the configuration.
    pub name: String,
    /// Number that DPDK gave it.
    pub id: PortId,
    /// Its MAC.
    pub mac: Mac,
    /// DPDK driver.
    pub driver: String,
}

/// A port and its queues, by worker.
struct OpenPort {
    info: PortInfo,
    spec: PortSpec,
    port: dpdk_sys::StartedPort,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    flow: Vec<dpdk_sys::flow::FlowQueue>,
    hash: Option<ReceiveHash>,
}

/// Ports are open, no thread runs.
pub struct Opened {
    config: Config,
    eal: Eal,
    pool: Mempool,
    ports: Vec<OpenPort>,
}

/// What the control plane knows once it has seen the ports.
pub struct Wiring {
    /// Published tables.
    pub reader: Reader,
    /// Taps to make.
    pub host_interfaces: Vec<HostInterface>,
    /// Where events go.
    pub events: EventSink,
    /// Connections of an earlier process.
    pub restore: Option<Restore>,
}

/// Connections of an earlier process, to be put into the engines before the first packet.
#[derive(Debug)]
pub struct Restore {
    /// The NAT policy that will be in force: what it does not allow is not restored.
    pub policy: Arc<Policy>,
    /// The connections of all workers.
    pub connections: Vec<SavedConnection>,
    /// Seconds since they were saved.
    pub passed: u32,
}

/// Packets a ring to or from a worker holds.
const RING: usize = 1_024;
/// Changes of connections that a ring holds: some half a megabyte.
const CHANGES: usize = 4_096;
/// Beginnings and ends of connections that a ring holds.
const SESSIONS: usize = 8_192;
/// Requests to the offload thread that a ring holds.
const OFFLOAD_RING: usize = 8_192;
/// Buffers each thread keeps for itself.
const CACHE: u32 = 256;

impl Opened {
    /// Starts DPDK and opens the ports.
    ///
    /// # Errors
    /// [`Error::Dpdk`], with what DPDK says: hugepages, permission, a device that is missing or taken.
    pub fn new(config: Config) -> Result<Self, Error> {
        if config.workers.is_empty() {
            return Err(Error::NoWorkers);
        }
        let mut eal_config = EalConfig::new(config.program.clone(), config.memory);
        eal_config.log_level = config.log_level;
        let eal = Eal::init(eal_config).map_err(Error::dpdk("start"))?;
        let pool = Mempool::new(&eal, "packets", config.buffers, CACHE, DEFAULT_DATA_ROOM)
            .map_err(Error::dpdk("packet buffers (`dataplane.buffers`)"))?;
        let queues = config.workers.len() as u16;
        let mut ports = Vec::with_capacity(config.ports.len());
        for spec in &config.ports {
            ports.push(open_port(&eal, &pool, spec, queues)?);
        }
        Ok(Self {
            config,
            eal,
            pool,
            ports,
        })
    }

    /// The ports, in the configuration's order.
    pub fn ports(&self) -> impl Iterator<Item = &PortInfo> {
        self.ports.iter().map(|p| &p.info)
    }

    /// Makes the taps and starts every thread.
    ///
    /// # Errors
    /// [`Error::HostInterface`], [`Error::Connections`] or [`Error::Thread`]; what was started is stopped again.
    pub fn start(self, wiring: Wiring) -> Result<Dataplane, Error> {
        let workers = self.config.workers.len();
        let epoch = clock();
        let stop = Arc::new(AtomicBool::new(false));
        let host_counters = Arc::new(HostCounters::default());
        let offload_counters = Arc::new(OffloadCounters::new(workers));

        let (punt_in, punt_out) = rings(workers, RING);
        let (event_in, event_out) = rings(workers, RING);
        let (inject_in, inject_out) = RingBuffer::new(RING);
        let (command_in, command_out) = rings::<Command>(workers, 64);
        let (change_in, change_out) = rings(if self.config.standby { workers } else { 0 }, CHANGES);
        let mut change_in = change_in.into_iter();
        let (session_in, session_out) = rings(if self.config.log_sessions { workers } else { 0 }, SESSIONS);
        let mut session_in = session_in.into_iter();
        let host = Host::new(
            &wiring.host_interfaces,
            punt_out,
            event_out,
            inject_in,
            self.pool.clone(),
            Arc::clone(&wiring.events),
            Arc::clone(&host_counters),
        )?;
        let host_indices = host.indices()?;

        // Every pair of workers has a ring each way.
        let mut handover_in: Vec<Vec<Option<_>>> = (0..workers).map(|_| Vec::new()).collect();
        let mut handover_out: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (from, senders) in handover_in.iter_mut().enumerate() {
            for (to, receivers) in handover_out.iter_mut().enumerate() {
                if from == to {
                    senders.push(None);
                } else {
                    let (producer, consumer) = RingBuffer::new(RING);
                    senders.push(Some(producer));
                    receivers.push(consumer);
                }
            }
        }

        let mut rx: Vec<Vec<(PortId, RxQueue)>> = (0..workers).map(|_| Vec::new()).collect();
        let mut tx: Vec<Vec<(PortId, TxQueue)>> = (0..workers).map(|_| Vec::new()).collect();
        let mut ports = Vec::new();
        let mut offload_port = None;
        let mut ports_with_rules = Vec::new();
        let hashes: Vec<_> = self.ports.iter().map(|open| open.hash.clone()).collect();
        let steering = steering(&hashes);
        for open in self.ports {
            for (worker, queue) in open.rx.into_iter().enumerate() {
                rx[worker].push((open.info.id, queue));
            }
            for (worker, queue) in open.tx.into_iter().enumerate() {
                tx[worker].push((open.info.id, queue));
            }
            let port = Arc::new(open.port);
            if open.spec.offload {
                ports_with_rules.push(open.info.id);
                offload_port.get_or_insert_with(|| (Arc::clone(&port), open.flow));
            }
            ports.push((open.info, port));
        }

        let mut outlets: Vec<Option<OffloadOutlet>> = (0..workers).map(|_| None).collect();
        let offload = match offload_port {
            None => None,
            Some((port, flow)) => {
                let (request_in, request_out) = rings(workers, OFFLOAD_RING);
                let (reply_in, reply_out) = rings(workers, OFFLOAD_RING);
                let ports_with_rules: Arc<[PortId]> = ports_with_rules.into();
                for (worker, ((slot, requests), replies)) in
                    outlets.iter_mut().zip(request_in).zip(reply_out).enumerate()
                {
                    *slot = Some(OffloadOutlet {
                        requests,
                        replies,
                        ports: Arc::clone(&ports_with_rules),
                        counters: Arc::clone(&offload_counters),
                        worker,
                        backlog: VecDeque::new(),
                    });
                }
                let counters = Arc::clone(&offload_counters);
                let connections = self.config.connections.saturating_mul(workers as u32);
                let thread = OffloadThread::new(port, flow, connections, request_out, reply_in, counters)
                    .map_err(|source| Error::Flow { source })?;
                Some(thread)
            }
        };

        let counters: Vec<Arc<Counters>> = (0..workers).map(|_| Arc::default()).collect();
        let published = match wiring.reader.enter() {
            Some(tables) => Arc::clone(tables.nat()),
            None => return Err(Error::NoTables),
        };
        let restore = wiring.restore.unwrap_or_else(|| Restore {
            policy: published,
            connections: Vec::new(),
            passed: 0,
        });
        let mut restored = 0;
        let mut made = Vec::with_capacity(workers);
        let mut inject_out = Some(inject_out);
        let inlets = handover_out.into_iter().zip(command_out);
        let links = punt_in.into_iter().zip(event_in).zip(handover_in).zip(outlets);
        for (index, ((queues, transmit), (link, inlet))) in rx.into_iter().zip(tx).zip(links.zip(inlets)).enumerate() {
            let (((punts, events), handover), offloads) = link;
            let (handovers, commands) = inlet;
            let worker = index as u16;
            let mut engine = Engine::new(
                EngineConfig {
                    capacity: self.config.connections,
                    worker,
                    workers: workers as u16,
                    seed: self.config.seed.wrapping_add(u64::from(worker)),
                },
                Arc::clone(&restore.policy),
            )
            .map_err(|source| Error::Connections { worker, source })?;
            engine.pick_up_for(self.config.pick_up);
            engine.steer(steering.clone());
            if self.config.log_sessions {
                engine.log_sessions();
            }
            let back = restore.connections.iter();
            restored += back
                .filter(|saved| engine.restore(saved, restore.passed).is_ok())
                .count();
            let pipeline = Pipeline::new(
                worker,
                engine,
                Arc::clone(&counters[index]),
                self.pool.clone(),
                transmit,
                Outlets {
                    punts,
                    events,
                    handover,
                    offloads,
                    changes: change_in.next(),
                    sessions: session_in.next(),
                },
            );
            made.push(Worker {
                pipeline,
                queues,
                inlets: Inlets {
                    injects: inject_out.take(),
                    handovers,
                    commands,
                },
                reader: wiring.reader.named(&thread_name(worker)),
                poll: self.config.poll,
                epoch,
            });
        }

        let mut dataplane = Dataplane {
            threads: Vec::new(),
            stop,
            counters,
            host_counters,
            offload_counters,
            host_indices,
            commands: command_in.into_iter().map(Mutex::new).collect(),
            changes: Mutex::new(change_out),
            sessions: Mutex::new(session_out),
            rules: offload.as_ref().map(OffloadThread::rules),
            ports,
            pool: self.pool,
            restored,
        };
        let (eal, cores) = (self.eal, self.config.workers);
        dataplane.spawn("tp-host".to_owned(), &wiring.events, move |stop| {
            host.run(stop);
            Ok(())
        })?;
        if let Some(thread) = offload {
            dataplane.spawn("tp-offload".to_owned(), &wiring.events, move |stop| {
                thread.run(stop);
                Ok(())
            })?;
        }
        for (worker, core) in made.into_iter().zip(cores) {
            dataplane.spawn(thread_name(worker.pipeline.index), &wiring.events, move |stop| {
                let thread = eal.register_thread()?;
                thread.pin_to_core(core)?;
                worker.run(stop);
                Ok(())
            })?;
        }
        Ok(dataplane)
    }
}

/// What a worker's thread is called, by the kernel and where it is told of.
fn thread_name(worker: u16) -> String {
    format!("tp-worker-{worker}")
}

fn open_port(eal: &Eal, pool: &Mempool, spec: &PortSpec, queues: u16) -> Result<OpenPort, Error> {
    let context = |what: &str| format!("port `{}`: {what}", spec.name);
    let mut id = None;
    for devargs in &spec.devices {
        id = Some(eal.attach(devargs).map_err(Error::dpdk(context("device")))?.port());
    }
    let Some(id) = id else {
        return Err(Error::NoDevice {
            port: spec.name.clone(),
        });
    };
    let mut config = PortConfig::new(pool.clone());
    config.rx_queues = queues;
    config.tx_queues = queues;
    config.mtu = spec.mtu;
    config.mac = spec.mac.map(|mac| mac.0);
    config.rss = (queues > 1).then(Rss::default);
    config.flow = spec.offload.then(OffloadThread::flow_config);
    let configured =
        dpdk_sys::ConfiguredPort::configure(eal, id, &config).map_err(Error::dpdk(context("configuration")))?;
    let (port, rx, tx) = configured.start().map_err(Error::dpdk(context("start")))?;
    let flow = port.take_flow_queues();
    let hash = match queues {
        1 => None,
        _ => port.spread(queues).map_err(Error::dpdk(context("receive queues")))?,
    };
    let info = PortInfo {
        name: spec.name.clone(),
        id: PortId(id.0),
        mac: Mac(port.mac()),
        driver: port.driver_name(),
    };
    Ok(OpenPort {
        info,
        spec: spec.clone(),
        port,
        rx,
        tx,
        flow,
        hash,
    })
}

/// One ring for each worker.
fn rings<T>(count: usize, capacity: usize) -> (Vec<rtrb::Producer<T>>, Vec<rtrb::Consumer<T>>) {
    (0..count).map(|_| RingBuffer::new(capacity)).unzip()
}

/// The beginnings and ends of one worker's connections.
pub type SessionRing = rtrb::Consumer<SessionEvent>;

/// What one worker tells of its connections.
pub type ChangeRing = rtrb::Consumer<Change>;

/// The data plane, running. Dropping it stops every thread and removes the taps.
pub struct Dataplane {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    counters: Vec<Arc<Counters>>,
    host_counters: Arc<HostCounters>,
    offload_counters: Arc<OffloadCounters>,
    host_indices: Vec<(InterfaceId, IfIndex)>,
    commands: Vec<Mutex<rtrb::Producer<Command>>>,
    changes: Mutex<Vec<ChangeRing>>,
    sessions: Mutex<Vec<SessionRing>>,
    rules: Option<Arc<Mutex<Vec<OffloadedRule>>>>,
    ports: Vec<(PortInfo, Arc<dpdk_sys::StartedPort>)>,
    pool: Mempool,
    restored: usize,
}

impl Dataplane {
    fn spawn(
        &mut self,
        name: String,
        events: &EventSink,
        body: impl FnOnce(&AtomicBool) -> Result<(), dpdk_sys::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let (stop, events, thread) = (Arc::clone(&self.stop), Arc::clone(events), name.clone());
        let handle = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let reason = match catch_unwind(AssertUnwindSafe(|| body(&stop))) {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(panic) => panic_text(&*panic),
                };
                events(Event::Failed { thread, reason });
            })
            .map_err(|source| Error::Thread { name, source })?;
        self.threads.push(handle);
        Ok(())
    }

    /// Kernel index of each host interface.
    pub fn host_indices(&self) -> &[(InterfaceId, IfIndex)] {
        &self.host_indices
    }

    /// Connections of an earlier process that the workers began with.
    pub fn restored(&self) -> usize {
        self.restored
    }

    /// Rings, one from each worker, of what changes in its connections while a stream runs ([`Engine::begin_stream`]);
    /// none without `standby` in [`Config`], and none the second time.
    pub fn take_changes(&self) -> Vec<ChangeRing> {
        let mut rings = self.changes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut *rings)
    }

    /// Rings, one from each worker, of the beginnings and ends of its connections; none without `log_sessions` in
    /// [`Config`], and none the second time.
    pub fn take_sessions(&self) -> Vec<SessionRing> {
        let mut rings = self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut *rings)
    }

    /// Counters of each worker, by index.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Counters of the host interfaces' thread.
    pub fn host_counters(&self) -> &HostCounters {
        &self.host_counters
    }

    /// Counters of the offload thread.
    pub fn offload_counters(&self) -> &OffloadCounters {
        &self.offload_counters
    }

    /// Rules in the NIC; `None` when no port offloads.
    pub fn offloaded(&self) -> Option<Vec<OffloadedRule>> {
        self.rules
            .as_ref()
            .map(|rules| rules.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone())
    }

    /// Each port with its link state and statistics, in the configuration's order.
    pub fn ports(&self) -> Vec<(PortInfo, bool, PortStats)> {
        self.ports
            .iter()
            .map(|(info, port)| (info.clone(), port.link_up(), port.stats().unwrap_or_default()))
            .collect()
    }

    /// Packet buffers in use, and in all.
    pub fn buffers(&self) -> (u32, u32) {
        (self.pool.in_use(), self.pool.size())
    }

    /// Has a worker do something with its connections between two bursts. False if the worker has too much to do
    /// already, or there is no such worker.
    pub fn with_connections(&self, worker: usize, act: impl FnOnce(&mut Engine) + Send + 'static) -> bool {
        self.with_tables(worker, move |engine, _| act(engine))
    }

    /// The same with the tables of the generation that the worker is at.
    pub fn with_tables(&self, worker: usize, act: impl FnOnce(&mut Engine, &Tables) + Send + 'static) -> bool {
        self.commands.get(worker).is_some_and(|ring| {
            let mut ring = ring.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            ring.push(Box::new(act)).is_ok()
        })
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported it already.
            let _ = thread.join();
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[allow(clippy::disallowed_methods, reason = "the start of the data plane's clock")]
fn clock() -> Instant {
    Instant::now()
}
