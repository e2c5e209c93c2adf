//! BMP exporter (RFC 7854): tells collectors what the peers announce, before and after import policy.
//!
//! `message` is the wire format, `feed` what a collector still has to be told, both without sockets; `station` is the task
//! of a collector. The speaker's core only hands routes over: it never waits for a collector. One that reads slowly gets
//! the newest state of each prefix, one that does not read is cut off, counted, and told everything anew when it is back.

mod feed;
pub(crate) mod message;
mod station;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::Family;
use crate::rib::{Learned, Place, Slice};
pub(crate) use feed::{Item, Watched};
pub(crate) use message::{Counts, Ended, Identity, Opened, Stamp};
pub(crate) use station::Joined;
use station::{Station, Status};

/// Routes that may wait for a collector's task to look at them.
const OUTSTANDING: usize = 1_000_000;
/// Requests of collectors' tasks that wait for the core.
const REQUESTS: usize = 16;

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmpConfig {
    /// Where it listens.
    pub collector: SocketAddr,
    /// Tell routes as they come.
    pub pre_policy: bool,
    /// Tell routes as import policy leaves them.
    pub post_policy: bool,
    /// Pause between statistics reports; `None` for none.
    pub statistics: Option<Duration>,
    /// Longest time that it may take nothing of what is to be sent.
    pub patience: Duration,
}

impl BmpConfig {
    /// Routes before and after policy, statistics each minute, half a minute of patience.
    pub const fn new(collector: SocketAddr) -> Self {
        Self {
            collector,
            pre_policy: true,
            post_policy: true,
            statistics: Some(Duration::from_secs(60)),
            patience: Duration::from_secs(30),
        }
    }
}

/// A collector, as `turnpike show bmp` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BmpView {
    /// Where it listens.
    pub collector: SocketAddr,
    /// It is connected.
    pub connected: bool,
    /// Seconds since it connected.
    pub uptime: Option<u64>,
    /// Times that it connected.
    pub connects: u64,
    /// Times that it was left because it did not read, or too slowly.
    pub cut_off: u64,
    /// Messages written.
    pub messages: u64,
    /// Bytes that it took.
    pub bytes: u64,
    /// Prefixes that wait to be told.
    pub waiting: usize,
    /// Prefixes whose attributes did not fit into a message of ours, in this connection.
    pub unencodable: u64,
    /// Why it was last left, or not reached.
    pub last_error: Option<String>,
}

/// What a collector's task asks of the core.
#[derive(Debug)]
pub(crate) enum Request {
    Join(SocketAddr, oneshot::Sender<Joined>),
    /// What there is from this place on.
    Slice(SocketAddr, Place),
    Statistics(SocketAddr),
}

#[derive(Debug)]
struct Listening {
    items: mpsc::UnboundedSender<Item>,
    outstanding: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Handle {
    config: BmpConfig,
    status: Arc<Mutex<Status>>,
    /// Dropping it stops the task.
    _stop: oneshot::Sender<()>,
    /// While the collector is connected.
    listening: Option<Listening>,
}

/// The collectors of a speaker, as its core sees them.
#[derive(Debug)]
pub(crate) struct Stations {
    handles: BTreeMap<SocketAddr, Handle>,
    tasks: JoinSet<()>,
    /// Peers that are up.
    watched: BTreeMap<IpAddr, Arc<Watched>>,
    to_core: mpsc::Sender<Request>,
    requests: mpsc::Receiver<Request>,
}

impl Stations {
    pub(crate) fn new() -> Self {
        let (to_core, requests) = mpsc::channel(REQUESTS);
        Self {
            handles: BTreeMap::new(),
            tasks: JoinSet::new(),
            watched: BTreeMap::new(),
            to_core,
            requests,
        }
    }

    /// Has exactly these collectors; one of which nothing changed stays connected.
    pub(crate) fn set(&mut self, wanted: &[BmpConfig], name: &str) {
        self.handles.retain(|_, handle| wanted.contains(&handle.config));
        for config in wanted {
            if self.handles.contains_key(&config.collector) {
                continue;
            }
            let status = Arc::new(Mutex::new(Status::default()));
            let (stop, stopped) = oneshot::channel();
            let station = Station {
                config: config.clone(),
                description: concat!("Turnpike ", env!("CARGO_PKG_VERSION")).to_owned(),
                name: name.to_owned(),
                requests: self.to_core.clone(),
                status: Arc::clone(&status),
            };
            self.tasks.spawn(station.run(stopped));
            let handle = Handle {
                config: config.clone(),
                status,
                _stop: stop,
                listening: None,
            };
            self.handles.insert(config.collector, handle);
        }
    }

    /// What a task asks next.
    pub(crate) async fn request(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            // Never: a sender is kept here.
            None => std::future::pending().await,
        }
    }

    /// True if any collector wants to be told.
    pub(crate) fn are_listening(&self) -> bool {
        self.handles.values().any(|handle| handle.listening.is_some())
    }

    /// Lets a collector in, and tells it the peers that are up; it asks for their routes ([`Request::Slice`]).
    pub(crate) fn join(&mut self, collector: SocketAddr, reply: oneshot::Sender<Joined>) {
        let Some(handle) = self.handles.get_mut(&collector) else {
            return;
        };
        let (items, receiver) = mpsc::unbounded_channel();
        let outstanding = Arc::new(AtomicUsize::new(0));
        handle.listening = Some(Listening {
            items,
            outstanding: Arc::clone(&outstanding),
        });
        let peers = self.watched.values().map(|watched| Item::PeerUp(Arc::clone(watched)));
        let first = peers.collect();
        // A task that has ended needs no answer.
        let _ = reply.send(Joined {
            first,
            items: receiver,
            outstanding,
        });
    }

    /// Tells one collector a slice of what there is.
    pub(crate) fn slice(&mut self, collector: SocketAddr, slice: Slice<Learned>) {
        if let Some(handle) = self.handles.get_mut(&collector) {
            handle.tell(&Item::Slice(Arc::new(slice)));
        }
    }

    /// Tells one collector the counts of the peers that are up.
    pub(crate) fn statistics(&mut self, collector: SocketAddr, counts: impl Fn(IpAddr) -> Counts) {
        let counts = self.watched.keys().map(|peer| (*peer, counts(*peer))).collect();
        if let Some(handle) = self.handles.get_mut(&collector) {
            handle.tell(&Item::Statistics(counts, now()));
        }
    }

    pub(crate) fn peer_up(&mut self, watched: Watched) {
        let watched = Arc::new(watched);
        self.watched.insert(watched.identity.address, Arc::clone(&watched));
        self.tell(&Item::PeerUp(watched));
    }

    pub(crate) fn peer_down(&mut self, peer: IpAddr, ended: Ended) {
        if self.watched.remove(&peer).is_some() {
            self.tell(&Item::PeerDown(peer, ended, now()));
        }
    }

    pub(crate) fn routes(&mut self, learned: Vec<Learned>) {
        if !learned.is_empty() {
            self.tell(&Item::Routes(Arc::new(learned), now()));
        }
    }

    pub(crate) fn end_of_rib(&mut self, peer: IpAddr, family: Family) {
        self.tell(&Item::EndOfRib(peer, family));
    }

    /// Ends every connection with a termination message.
    pub(crate) async fn stop(&mut self) {
        self.handles.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    pub(crate) fn view(&self) -> Vec<BmpView> {
        let view = |(collector, handle): (&SocketAddr, &Handle)| {
            let status = handle.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            BmpView {
                collector: *collector,
                connected: status.connected_at.is_some(),
                uptime: status.connected_at.map(|at| at.elapsed().as_secs()),
                connects: status.connects,
                cut_off: status.cut_off,
                messages: status.messages,
                bytes: status.bytes,
                waiting: status.waiting,
                unencodable: status.unencodable,
                last_error: status.last_error,
            }
        };
        self.handles.iter().map(view).collect()
    }

    fn tell(&mut self, item: &Item) {
        self.handles.values_mut().for_each(|handle| handle.tell(item));
    }
}

impl Handle {
    /// Hands an item over. A collector's task that has too much to look at loses its connection.
    fn tell(&mut self, item: &Item) {
        let Some(listening) = &self.listening else { return };
        let routes = match item {
            Item::Routes(routes, _) => routes.len(),
            Item::Slice(slice) => slice.items.len(),
            _ => 0,
        };
        let outstanding = listening.outstanding.fetch_add(routes, Ordering::Relaxed);
        if outstanding > OUTSTANDING || listening.items.send(item.clone()).is_err() {
            self.listening = None;
        }
    }
}

/// The time of day.
#[allow(clippy::disallowed_methods, reason = "an edge: collectors are told when routes came")]
pub(crate) fn now() -> Stamp {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(Stamp::from)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
