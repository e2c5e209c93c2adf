//! RPKI: validated ROA payloads from caches over RTR (RFC 8210), and the validity of a route's origin (RFC 6811).
//!
//! Every cache has a task (`cache.rs`) that speaks with it all the time and holds what it said until that expires. What
//! counts is what the most preferred cache says that holds anything.

mod cache;
mod vrps;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use cache::{Cache, Status};
pub use vrps::{Vrp, VrpSet, origin};

/// Sets that wait for the core.
const WAITING: usize = 1;

/// A cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Where it listens.
    pub cache: SocketAddr,
    /// Lower is preferred.
    pub preference: u8,
}

/// The caches, as `turnpike show rpki` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RpkiState {
    /// VRPs that count.
    pub vrps: usize,
    /// One entry a cache, the most preferred first.
    pub caches: Vec<CacheView>,
}

/// A cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheView {
    /// Where it listens.
    pub cache: SocketAddr,
    /// Lower is preferred.
    pub preference: u8,
    /// It is what this one says that counts.
    pub in_use: bool,
    /// It is connected.
    pub connected: bool,
    /// Times that it connected.
    pub connects: u64,
    /// Answers that were taken whole.
    pub updates: u64,
    /// VRPs that it holds.
    pub vrps: usize,
    /// Its session, while anything of it is held.
    pub session: Option<u16>,
    /// Serial number of what is held.
    pub serial: Option<u32>,
    /// Seconds until that is dropped, if the cache says nothing more.
    pub expires_in: Option<u64>,
    /// Why it was last left, or not reached.
    pub last_error: Option<String>,
}

/// What a cache's task has for the core.
#[derive(Debug)]
struct News {
    serial: u64,
    /// `None`: it has expired.
    vrps: Option<Arc<VrpSet>>,
}

#[derive(Debug)]
struct Handle {
    config: CacheConfig,
    serial: u64,
    status: Arc<Mutex<Status>>,
    vrps: Option<Arc<VrpSet>>,
    /// Dropping it stops the task.
    _stop: oneshot::Sender<()>,
}

/// The caches of a speaker, as its core sees them.
#[derive(Debug)]
pub(crate) struct Caches {
    /// The most preferred first.
    handles: BTreeMap<(u8, SocketAddr), Handle>,
    tasks: JoinSet<()>,
    next_serial: u64,
    to_core: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
}

impl Caches {
    pub(crate) fn new() -> Self {
        let (to_core, news) = mpsc::channel(WAITING);
        Self {
            handles: BTreeMap::new(),
            tasks: JoinSet::new(),
            next_serial: 0,
            to_core,
            news,
        }
    }

    /// Has exactly these caches; one of which nothing changed goes on.
    pub(crate) fn set(&mut self, wanted: &[CacheConfig]) {
        self.handles.retain(|_, handle| wanted.contains(&handle.config));
        for config in wanted {
            let key = (config.preference, config.cache);
            if self.handles.contains_key(&key) {
                continue;
            }
            let (stop, stopped) = oneshot::channel();
            let status = Arc::new(Mutex::new(Status::default()));
            let serial = self.next_serial;
            self.next_serial += 1;
            let cache = Cache {
                config: *config,
                serial,
                news: self.to_core.clone(),
                status: Arc::clone(&status),
            };
            self.tasks.spawn(cache.run(stopped));
            let handle = Handle {
                config: *config,
                serial,
                status,
                vrps: None,
                _stop: stop,
            };
            self.handles.insert(key, handle);
        }
    }

    /// Waits until a cache has said something, or what it said has expired.
    pub(crate) async fn changed(&mut self) {
        let Some(News { serial, vrps }) = self.news.recv().await else {
            // Never: a sender is kept here.
            return std::future::pending().await;
        };
        if let Some(handle) = self.handles.values_mut().find(|handle| handle.serial == serial) {
            handle.vrps = vrps;
        }
    }

    /// What counts; `None` while no cache holds anything.
    pub(crate) fn vrps(&self) -> Option<Arc<VrpSet>> {
        self.in_use().and_then(|handle| handle.vrps.clone())
    }

    /// Ends every connection.
    pub(crate) async fn stop(&mut self) {
        self.handles.clear();
        // Whoever wants to hand something over meanwhile is not kept waiting.
        self.news.close();
        while self.tasks.join_next().await.is_some() {}
    }

    pub(crate) fn view(&self) -> RpkiState {
        let in_use = self.in_use().map(|handle| handle.serial);
        let now = Instant::now();
        let view = |handle: &Handle| {
            let status = handle.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let state = status.state.filter(|_| handle.vrps.is_some());
            CacheView {
                cache: handle.config.cache,
                preference: handle.config.preference,
                in_use: in_use == Some(handle.serial),
                connected: status.connected,
                connects: status.connects,
                updates: status.updates,
                vrps: status.vrps,
                session: state.map(rpki::rtr::state::State::session),
                serial: state.map(|state| u32::from(state.serial())),
                expires_in: status.expires.map(|end| end.saturating_duration_since(now).as_secs()),
                last_error: status.last_error,
            }
        };
        RpkiState {
            vrps: self.vrps().map_or(0, |vrps| vrps.len()),
            caches: self.handles.values().map(view).collect(),
        }
    }

    fn in_use(&self) -> Option<&Handle> {
        self.handles.values().find(|handle| handle.vrps.is_some())
    }
}
