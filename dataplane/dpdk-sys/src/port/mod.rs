//! Ports: configured once, started once, stopped and closed when the last handle is gone.

mod config;
mod query;
mod rss;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use config::{PortConfig, Rss};
pub use query::{Capabilities, PortStats};
pub use rss::{ReceiveHash, software_hash};

use crate::error::{Errno, Error, c_string};
use crate::flow::FlowQueue;
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use crate::{Eal, ffi, log};

/// DPDK's number of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PortId {
    /// The port of a device's name, as in `net_af_packet0`.
    ///
    /// # Errors
    /// [`Error::NoSuchPort`] if there is none.
    pub fn by_name(_eal: &Eal, name: &str) -> Result<Self, Error> {
        Self::find(name)
    }

    pub(crate) fn find(name: &str) -> Result<Self, Error> {
        let text = c_string("port name", name)?;
        let mut id = 0;
        // SAFETY: a NUL-terminated string and a place for the number.
        let status = unsafe { ffi::rte_eth_dev_get_port_by_name(text.as_ptr(), &mut id) };
        if status == 0 {
            Ok(Self(id))
        } else {
            Err(Error::NoSuchPort(name.to_owned()))
        }
    }

    pub(crate) fn info(self) -> Result<ffi::rte_eth_dev_info, Error> {
        let mut info = ffi::rte_eth_dev_info::default();
        // SAFETY: DPDK checks the number and fills in the structure.
        let status = unsafe { ffi::rte_eth_dev_info_get(self.0, &mut info) };
        if status == 0 {
            Ok(info)
        } else {
            Err(Error::NoSuchPort(self.to_string()))
        }
    }

    /// False for a number that no port has; DPDK's functions for owners do not survive one.
    fn exists(self) -> bool {
        // SAFETY: DPDK checks the number.
        unsafe { ffi::rte_eth_dev_is_valid_port(self.0) != 0 }
    }

    /// True if somebody holds the port.
    pub(crate) fn is_owned(self) -> bool {
        let mut owner = ffi::rte_eth_dev_owner::default();
        // SAFETY: the port exists; DPDK fills in the structure.
        let status = unsafe {
            if self.exists() {
                ffi::rte_eth_dev_owner_get(self.0, &mut owner)
            } else {
                -1
            }
        };
        status == 0 && owner.id != u64::from(ffi::RTE_ETH_DEV_NO_OWNER)
    }
}

/// Marks rules of one life of a port, from one start or flush to the next.
static EPOCH: AtomicU32 = AtomicU32::new(1);

/// The port, held: nobody else in the process can hold it. Closed on drop if it was configured.
#[derive(Debug)]
pub(crate) struct Held {
    id: PortId,
    owner: u64,
    epoch: AtomicU32,
    configured: std::sync::atomic::AtomicBool,
    /// Pools that the port receives into: they live until it is closed.
    pools: std::sync::Mutex<Vec<Mempool>>,
}

impl Held {
    fn take(id: PortId) -> Result<Arc<Self>, Error> {
        if !id.exists() {
            return Err(Error::NoSuchPort(id.to_string()));
        }
        let mut owner = 0;
        // SAFETY: DPDK fills in the number.
        unsafe { ffi::rte_eth_dev_owner_new(&mut owner) };
        let mut description = ffi::rte_eth_dev_owner {
            id: owner,
            ..Default::default()
        };
        for (to, from) in description.name.iter_mut().zip(b"turnpike") {
            *to = *from as std::ffi::c_char;
        }
        let mark = log::mark();
        // SAFETY: DPDK checks the number and copies the structure.
        let status = unsafe { ffi::rte_eth_dev_owner_set(id.0, &description) };
        match -status {
            0 => {}
            libc::ENODEV => return Err(Error::NoSuchPort(id.to_string())),
            libc::EPERM => return Err(Error::PortInUse(id)),
            errno => return Err(failed(id, "be owned", -errno, mark)),
        }
        Ok(Arc::new(Self {
            id,
            owner,
            epoch: AtomicU32::new(EPOCH.fetch_add(1, Ordering::Relaxed)),
            configured: false.into(),
            pools: std::sync::Mutex::default(),
        }))
    }

    pub(crate) fn id(&self) -> PortId {
        self.id
    }

    /// Rules of another epoch are gone.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Makes every rule so far stale.
    pub(crate) fn next_epoch(&self) {
        self.epoch
            .store(EPOCH.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn keep(&self, pool: &Mempool) {
        self.pools
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(pool.clone());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: this was the last handle of the port: nobody uses it or its queues any more.
        unsafe {
            if self.configured.load(Ordering::Relaxed) {
                ffi::rte_eth_dev_close(self.id.0);
            } else {
                ffi::rte_eth_dev_owner_unset(self.id.0, self.owner);
            }
        }
    }
}

/// The port, started. Stopped on drop.
#[derive(Debug)]
pub(crate) struct Running(Arc<Held>);

impl Running {
    pub(crate) fn id(&self) -> PortId {
        self.0.id
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the queues hold this value, so none of them is left.
        let status = unsafe { ffi::rte_eth_dev_stop(self.0.id.0) };
        if status != 0 {
            tracing::warn!(port = self.0.id.0, error = %Errno::of(status), "port did not stop");
        }
        self.0.next_epoch();
    }
}

/// State of a port that is configured and not yet started.
#[derive(Debug)]
pub struct Configured {
    rx_queues: u16,
    tx_queues: u16,
    flow_queues: u16,
}

/// State of a port that is started.
#[derive(Debug)]
pub struct Started {
    _running: Arc<Running>,
    flow_queues: std::sync::Mutex<Vec<FlowQueue>>,
}

/// State of a port that a driver wraps: see [`crate::pmd::LowerPort`].
#[derive(Debug)]
pub struct Wrapped {
    _held: (),
}

/// A port in one of its states.
///
/// It is stopped when its last queue and its [`StartedPort`] are gone, and closed when, besides, its flow queues,
/// templates and tables are: no queue outlives its port, because it keeps the port running.
///
/// A port is started once, because starting consumes it:
/// ```compile_fail
/// fn twice(port: dpdk_sys::ConfiguredPort) {
///     let _ = port.start();
///     let _ = port.start();
/// }
/// ```
#[derive(Debug)]
pub struct Port<State> {
    held: Arc<Held>,
    state: State,
}

/// A port that is configured and not yet started.
pub type ConfiguredPort = Port<Configured>;

/// A port that is started.
pub type StartedPort = Port<Started>;

impl Port<Configured> {
    /// Takes a port and configures it: queues, MTU, addresses, receive hash and the flow engine.
    ///
    /// # Errors
    /// [`Error::PortInUse`] if somebody holds it, [`Error::Capability`] if it has less than was asked for,
    /// [`Error::Port`] if the driver refuses.
    pub fn configure(_eal: &Eal, id: PortId, config: &PortConfig) -> Result<Self, Error> {
        let held = Held::take(id)?;
        config::apply(&held, config)?;
        let state = Configured {
            rx_queues: config.rx_queues,
            tx_queues: config.tx_queues,
            flow_queues: config.flow.as_ref().map_or(0, |flow| flow.queues),
        };
        Ok(Self { held, state })
    }

    /// Starts the port and hands out its queues.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver refuses; the port is closed then.
    pub fn start(self) -> Result<(StartedPort, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let (running, rx, tx) = start(&self.held, self.state.rx_queues, self.state.tx_queues)?;
        let flow_queues = (0..self.state.flow_queues)
            .map(|i| FlowQueue::new(self.held.clone(), i))
            .collect();
        let state = Started {
            _running: running,
            flow_queues: std::sync::Mutex::new(flow_queues),
        };
        Ok((Port { held: self.held, state }, rx, tx))
    }
}

impl Port<Started> {
    /// Hands out the queues of the flow engine, each for one thread: all at the first call, none afterwards.
    pub fn take_flow_queues(&self) -> Vec<FlowQueue> {
        std::mem::take(
            &mut *self
                .state
                .flow_queues
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl Port<Wrapped> {
    /// Takes the port of a device's name for a driver that wraps it: applications see it as owned from here on.
    ///
    /// # Errors
    /// [`Error::NoSuchPort`] if there is none, [`Error::PortInUse`] if somebody holds it.
    pub fn take(name: &str) -> Result<Self, Error> {
        Ok(Self {
            held: Held::take(PortId::find(name)?)?,
            state: Wrapped { _held: () },
        })
    }

    /// Configures and starts the port and hands out its queues. It stops when the last of them is dropped, and can
    /// then be started again, also with another configuration.
    ///
    /// # Errors
    /// [`Error::Capability`] and [`Error::Port`], as [`Port::configure`] and [`Port::start`].
    pub fn start(&self, config: &PortConfig) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        config::apply(&self.held, config)?;
        let (_, rx, tx) = start(&self.held, config.rx_queues, config.tx_queues)?;
        Ok((rx, tx))
    }
}

impl<State> Port<State> {
    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Its number.
    pub fn id(&self) -> PortId {
        self.held.id
    }

    /// The outcome of a driver call.
    fn done(&self, operation: &'static str, status: i32, mark: log::Mark) -> Result<(), Error> {
        if status < 0 {
            Err(failed(self.held.id, operation, status, mark))
        } else {
            Ok(())
        }
    }
}

type RunningQueues = (Arc<Running>, Vec<RxQueue>, Vec<TxQueue>);

fn start(held: &Arc<Held>, rx_queues: u16, tx_queues: u16) -> Result<RunningQueues, Error> {
    let mark = log::mark();
    // SAFETY: the port is ours, configured and stopped.
    let status = unsafe { ffi::rte_eth_dev_start(held.id.0) };
    if status != 0 {
        return Err(failed(held.id, "start", status, mark));
    }
    let running = Arc::new(Running(held.clone()));
    let rx = (0..rx_queues)
        .map(|index| RxQueue::new(running.clone(), index))
        .collect();
    let tx = (0..tx_queues)
        .map(|index| TxQueue::new(running.clone(), index))
        .collect();
    Ok((running, rx, tx))
}

fn failed(port: PortId, operation: &'static str, status: i32, mark: log::Mark) -> Error {
    let errno = Errno::of(status);
    if matches!(errno.0, libc::EPERM | libc::EACCES) {
        return Error::Permission {
            what: format!("port {port} to {operation}"),
        };
    }
    Error::Port {
        port,
        operation,
        errno,
        log: log::since(mark),
    }
}
