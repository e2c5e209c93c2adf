//! The task of one peer: drives its session, owns its sockets, and passes what it learns to the core.

use std::collections::{HashSet, VecDeque};
use std::future::{self, Future};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::first_message::FirstMessage;
use super::{offer, socket};
use crate::bmp::{Ended, Opened};
use crate::rib::{OutQueue, PeerInfo};
use crate::session::{ConnectionId, Direction, Ending, Event, Negotiated, Output, Session, State, Statistics};
use crate::wire::{Cease, Notification, Outcome, Update};
use crate::{Family, PeerConfig, SpeakerConfig};

/// Most bytes read at once: bounds what a pause can still bring.
const READ_SIZE: usize = 64 * 1024;
/// Below this many unsent bytes more routes are encoded.
const WRITE_LOW: usize = 64 * 1024;
/// Prefixes encoded at once.
const WRITE_BATCH: usize = 4096;
/// How long a closing connection may take to deliver its last bytes.
const LINGER: Duration = Duration::from_secs(1);

/// What a peer's task tells the core.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) peer: IpAddr,
    /// The task that sends; messages of a task that was replaced are ignored.
    pub(super) serial: u64,
    pub(super) news: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// Established, with these OPENs; the epoch tells this session from the one before. The peer will end the tables of the
    /// families.
    Up(u64, Box<PeerInfo>, Box<Opened>, Vec<Family>),
    Update(Update),
    Refresh(Family),
    RefreshBegins(Family),
    RefreshEnds(Family),
    /// Ended, how; the peer's routes of these families are kept.
    Down(String, Vec<Family>, Ended),
    /// What was kept of these families is a last resort from here on.
    LongLived(Vec<Family>),
    /// What was kept of these families is void.
    StaleExpired(Vec<Family>),
    /// The last connection has ended, and none is being made.
    Alone,
}

/// What the core tells a peer's task.
#[derive(Debug)]
pub(super) enum Order {
    /// End the session and the task.
    Stop(Notification),
    /// End the session; it comes back after this pause, or the usual.
    Reset(Cease, Option<Duration>),
    /// Ask the peer for everything again.
    Refresh,
}

/// Closed until this speaker may announce something: it has just been started (`deferral.rs`).
pub(super) type Gate = Arc<AtomicBool>;

/// What the core and a peer's task share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) status: Mutex<Status>,
    /// The adj-rib-out queue of the session of that epoch.
    pub(super) queue: Mutex<(u64, Arc<OutQueue>)>,
    /// Wakes the task when its queue has something.
    pub(super) wake: Notify,
}

/// A peer's session as `Speaker::state` shows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    pub(super) state: State,
    pub(super) established_at: Option<Instant>,
    pub(super) negotiated: Option<Arc<Negotiated>>,
    pub(super) statistics: Statistics,
}

#[derive(Debug)]
struct Socket {
    id: ConnectionId,
    stream: TcpStream,
    unsent: BytesMut,
    /// The first message each way: sent, received.
    opens: [FirstMessage; 2],
}

enum Ready {
    Read(usize),
    Write(usize),
}

/// What woke the task.
enum Turn<'a> {
    Order(Option<Order>),
    Connected(io::Result<TcpStream>, Direction),
    CoreReady(Option<mpsc::Permit<'a, Message>>),
    SocketReady(Ready),
    Wake,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Task of one peer.
pub(super) struct Peer {
    config: PeerConfig,
    serial: u64,
    /// Open once anything may be announced.
    gate: Gate,
    ebgp: bool,
    session: Session,
    shared: Arc<Shared>,
    core: mpsc::Sender<Message>,
    /// News that the core did not take yet. While there is any, nothing is read.
    backlog: VecDeque<News>,
    paused: bool,
    /// There has been a connection since the core was told that there is none.
    accompanied: bool,
    /// Attributes that the log has faults of in this session.
    faulty: HashSet<u8>,
    epoch: u64,
    sockets: Vec<Socket>,
    connecting: Option<Connecting>,
    closing: JoinSet<()>,
    next_connection: u64,
    buffer: Vec<u8>,
}

impl Peer {
    pub(super) fn new(
        speaker: &SpeakerConfig,
        config: PeerConfig,
        serial: u64,
        shared: Arc<Shared>,
        core: mpsc::Sender<Message>,
        gate: Gate,
    ) -> Self {
        let session = Session::new(
            offer::session_config(speaker, &config),
            RandomState::new().hash_one(serial),
        );
        Self {
            ebgp: !config.remote_as.is_internal(speaker.asn),
            config,
            serial,
            gate,
            session,
            shared,
            core,
            backlog: VecDeque::new(),
            paused: false,
            accompanied: false,
            faulty: HashSet::new(),
            epoch: 0,
            sockets: Vec::new(),
            connecting: None,
            closing: JoinSet::new(),
            next_connection: 0,
            buffer: vec![0; READ_SIZE],
        }
    }

    /// Runs until it is told to stop and the last bytes are out.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut accepted: mpsc::Receiver<TcpStream>,
    ) {
        let core = self.core.clone();
        let shared = Arc::clone(&self.shared);
        self.session.handle(Event::Start, now());
        loop {
            if self.session.poll_timeout().is_some_and(|at| at <= now()) {
                self.session.handle(Event::Timeout, now());
            }
            self.settle();
            let timer = self.session.poll_timeout();
            let turn = tokio::select! {
                order = orders.recv() => Turn::Order(order),
                Some(stream) = accepted.recv() => Turn::Connected(Ok(stream), Direction::Incoming),
                stream = connected(&mut self.connecting) => Turn::Connected(stream, Direction::Outgoing),
                permit = core.reserve(), if !self.backlog.is_empty() => Turn::CoreReady(permit.ok()),
                ready = ready(&self.sockets, !self.paused) => Turn::SocketReady(ready),
                () = sleep_until(timer) => Turn::Wake,
                () = shared.wake.notified() => Turn::Wake,
                Some(_) = self.closing.join_next() => Turn::Wake,
            };
            match turn {
                // A session that is only coming up shows by itself whether its peer is reached.
                Turn::Order(Some(Order::Reset(Cease::BfdDown, _))) if self.session.state() != State::Established => {}
                Turn::Order(Some(Order::Reset(cease, pause))) => {
                    self.session.handle(Event::Reset(cease, pause), now());
                }
                Turn::Order(Some(Order::Refresh)) => {
                    for family in self.config.families.clone() {
                        self.session.handle(Event::AskRefresh(family), now());
                    }
                }
                Turn::Order(Some(Order::Stop(notification))) => return self.stop(notification).await,
                // The core outlives its peers unless it panicked, or the runtime is being shut down.
                Turn::Order(None) | Turn::CoreReady(None) => return self.stop(Notification::shutdown("")).await,
                Turn::Connected(Ok(stream), direction) => {
                    if direction == Direction::Outgoing {
                        self.connecting = None;
                    }
                    self.adopt(stream, direction);
                }
                Turn::Connected(Err(error), _) => {
                    self.connecting = None;
                    self.session.handle(Event::ConnectFailed(error.to_string()), now());
                }
                Turn::CoreReady(Some(permit)) => {
                    if let Some(news) = self.backlog.pop_front() {
                        permit.send(Message {
                            peer: self.config.address,
                            serial: self.serial,
                            news,
                        });
                    }
                }
                Turn::SocketReady(Ready::Read(i)) => self.read(i),
                Turn::SocketReady(Ready::Write(i)) => self.write(i),
                Turn::Wake => {}
            }
        }
    }

    async fn stop(mut self, notification: Notification) {
        self.session.handle(Event::Stop(notification), now());
        self.connecting = None;
        self.settle();
        while self.closing.join_next().await.is_some() {}
    }

    /// Does what the session asks for until it asks for nothing more.
    fn settle(&mut self) {
        self.perform();
        while self.speak() {
            self.perform();
        }
        if self.accompanied && self.sockets.is_empty() {
            self.accompanied = false;
            self.backlog.push_back(News::Alone);
        }
        self.pass_on();
        let paused = !self.backlog.is_empty();
        if paused != self.paused {
            self.paused = paused;
            self.session
                .handle(if paused { Event::Pause } else { Event::Resume }, now());
        }
        let status = Status {
            state: self.session.state(),
            established_at: self.session.established_at(),
            negotiated: self.session.negotiated().cloned(),
            statistics: self.session.statistics().clone(),
        };
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn perform(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => {
                    let (config, external) = (self.config.clone(), self.ebgp);
                    self.connecting = Some(Box::pin(async move { socket::connect(&config, external).await }));
                }
                Output::AbortConnect => self.connecting = None,
                Output::Send(id, bytes) => {
                    if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.id == id) {
                        socket.opens[0].feed(&bytes);
                        socket.unsent.extend_from_slice(&bytes);
                    }
                }
                Output::Close(id) => {
                    if let Some(at) = self.sockets.iter().position(|socket| socket.id == id) {
                        let socket = self.sockets.swap_remove(at);
                        self.closing.spawn(close(socket));
                    }
                }
                Output::Established(id, negotiated) => self.up(id, &negotiated),
                Output::Update(update) => self.update(update),
                Output::Refresh(family) => self.backlog.push_back(News::Refresh(family)),
                Output::RefreshBegins(family) => self.backlog.push_back(News::RefreshBegins(family)),
                Output::RefreshEnds(family) => self.backlog.push_back(News::RefreshEnds(family)),
                Output::LongLived(families) => self.backlog.push_back(News::LongLived(families)),
                Output::StaleExpired(families) => self.backlog.push_back(News::StaleExpired(families)),
                Output::Down(reason, kept) => {
                    let ended = match &self.session.statistics().last_ending {
                        Some(Ending::Sent(notification)) => Ended::Local(notification.encode()),
                        Some(Ending::Received(notification)) => Ended::Remote(notification.encode()),
                        Some(Ending::Closed) | None => Ended::Closed,
                    };
                    self.backlog.push_back(News::Down(reason, kept, ended));
                }
                Output::Transition { from, to, reason } => {
                    info!(peer = %self.config.address, %from, %to, %reason, "BGP session");
                }
            }
        }
    }

    fn up(&mut self, id: ConnectionId, negotiated: &Negotiated) {
        self.epoch += 1;
        self.faulty.clear();
        let session = self
            .sockets
            .iter()
            .find(|socket| socket.id == id)
            .and_then(|s| s.stream.local_addr().ok());
        let local = socket::local_addresses(&self.config, session.map(|address| address.ip()));
        if negotiated.capabilities.families.contains(&Family::Ipv6Unicast) && local.v6.or(local.link_local).is_none() {
            warn!(peer = %self.config.address, "no IPv6 address towards the peer: IPv6 prefixes are not announced");
        }
        let info = offer::peer_info(&self.config, self.ebgp, negotiated, local);
        // A peer that restarts does not tell its table before it has ours.
        let restart = negotiated.capabilities.graceful_restart.as_ref();
        let ending = match restart {
            Some(theirs) if !theirs.restarting => negotiated.capabilities.families.clone(),
            _ => Vec::new(),
        };
        let opened = Box::new(self.opened(id));
        self.backlog
            .push_back(News::Up(self.epoch, Box::new(info), opened, ending));
    }

    /// How the session came about, for those who watch it.
    fn opened(&self, id: ConnectionId) -> Opened {
        let socket = self.sockets.iter().find(|socket| socket.id == id);
        let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let open = |at: usize| socket.map_or_else(Bytes::new, |socket| socket.opens[at].message());
        Opened {
            local: socket
                .and_then(|socket| socket.stream.local_addr().ok())
                .unwrap_or(unknown),
            remote_port: socket
                .and_then(|socket| socket.stream.peer_addr().ok())
                .unwrap_or(unknown)
                .port(),
            sent: open(0),
            received: open(1),
        }
    }

    /// Passes an UPDATE on. A peer that sends a fault sends many of it: the log has the first of each attribute in a session.
    fn update(&mut self, update: Update) {
        for fault in &update.faults {
            let (peer, attribute, detail) = (self.config.address, fault.attribute, fault.detail.as_str());
            if !self.faulty.insert(attribute) {
                debug!(%peer, attribute, detail, "faulty UPDATE once more");
                continue;
            }
            let bytes = fault.hex();
            match fault.outcome {
                Outcome::TreatAsWithdraw => warn!(%peer, attribute, detail, bytes, "UPDATE treated as withdraw"),
                _ => warn!(%peer, attribute, detail, bytes, "attribute discarded"),
            }
        }
        self.backlog.push_back(News::Update(update));
    }

    /// Hands the core as much as it takes without waiting.
    fn pass_on(&mut self) {
        while !self.backlog.is_empty() {
            let Ok(permit) = self.core.try_reserve() else { return };
            if let Some(news) = self.backlog.pop_front() {
                permit.send(Message {
                    peer: self.config.address,
                    serial: self.serial,
                    news,
                });
            }
        }
    }

    /// Encodes some of what the peer still has to be told; false if there is nothing, or the socket has enough.
    fn speak(&mut self) -> bool {
        let busy = self.sockets.iter().any(|socket| socket.unsent.len() >= WRITE_LOW);
        if busy || !self.gate.load(Ordering::Acquire) || self.session.state() != State::Established {
            return false;
        }
        let (epoch, queue) = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if epoch != self.epoch {
            return false;
        }
        let outgoing = queue.take(WRITE_BATCH);
        let more = !outgoing.is_empty();
        for item in outgoing {
            self.session.handle(item.into(), now());
        }
        more
    }

    fn adopt(&mut self, stream: TcpStream, direction: Direction) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(peer = %self.config.address, %error, "cannot set TCP_NODELAY");
        }
        let v6 = stream.local_addr().is_ok_and(|local| local.is_ipv6());
        if direction == Direction::Incoming
            && let Err(error) = socket::limit_distance(&stream, v6, &self.config, self.ebgp)
        {
            warn!(peer = %self.config.address, %error, "cannot limit the distance of the peer: connection closed");
            return;
        }
        if let (Ok(SocketAddr::V6(from)), Some(interface)) = (stream.peer_addr(), self.config.interface)
            && from.ip().is_unicast_link_local()
            && from.scope_id() != interface.0
        {
            debug!(peer = %self.config.address, "connection from the same address on another interface: closed");
            return;
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.accompanied = true;
        self.sockets.push(Socket {
            id,
            stream,
            unsent: BytesMut::new(),
            opens: Default::default(),
        });
        self.session.handle(Event::Connected(id, direction), now());
    }

    fn read(&mut self, i: usize) {
        let socket = &mut self.sockets[i];
        let read = socket.stream.try_read(&mut self.buffer);
        if let Ok(n) = read {
            socket.opens[1].feed(&self.buffer[..n]);
        }
        let event = match read {
            Ok(0) => Event::Closed(socket.id, "peer closed the connection".to_owned()),
            Ok(n) => Event::Received(socket.id, Bytes::copy_from_slice(&self.buffer[..n])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => Event::Closed(socket.id, format!("connection lost: {error}")),
        };
        self.session.handle(event, now());
    }

    fn write(&mut self, i: usize) {
        let socket = &mut self.sockets[i];
        match socket.stream.try_write(&socket.unsent) {
            Ok(n) => {
                socket.unsent.advance(n);
                let event = Event::Sent(socket.id, socket.unsent.len());
                self.session.handle(event, now());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                let event = Event::Closed(socket.id, format!("connection lost: {error}"));
                self.session.handle(event, now());
            }
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => future::pending().await,
    }
}

async fn connected(connecting: &mut Option<Connecting>) -> io::Result<TcpStream> {
    match connecting {
        Some(connecting) => connecting.await,
        None => future::pending().await,
    }
}

/// The next socket that can be written and has something to write, or may be read and has something to read.
async fn ready(sockets: &[Socket], read: bool) -> Ready {
    future::poll_fn(|context| {
        for (i, socket) in sockets.iter().enumerate() {
            // An error shows when the operation is tried.
            if !socket.unsent.is_empty() && socket.stream.poll_write_ready(context).is_ready() {
                return Poll::Ready(Ready::Write(i));
            }
            if read && socket.stream.poll_read_ready(context).is_ready() {
                return Poll::Ready(Ready::Read(i));
            }
        }
        Poll::Pending
    })
    .await
}

/// Delivers the last bytes (a NOTIFICATION, usually), then waits for the peer to close: closing with unread data would
/// reset the connection and may take the NOTIFICATION with it.
async fn close(mut socket: Socket) {
    let farewell = async {
        socket.stream.write_all(&socket.unsent).await?;
        socket.stream.shutdown().await?;
        let mut rest = [0; 4096];
        while socket.stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // The peer may be gone, or not care: there is nothing more to do about it.
    let _ = timeout(LINGER, farewell).await;
}
