//! The task of one collector: connects, writes what its feed says, and gives up a collector that does not read.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::feed::{Feed, Item};
use super::message::{self, Stage};
use super::{BmpConfig, Request};
use crate::rib::Place;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// First pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Bytes that the kernel may hold for the collector.
const SEND_BUFFER: u32 = 256 * 1024;
/// Below this many unsent bytes more is written.
const WRITE_LOW: usize = 64 * 1024;
/// Prefixes written at once.
const WRITE_BATCH: usize = 4096;
/// How long the last message may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A collector as people see it, shared with the speaker's core.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    pub(super) connected_at: Option<Instant>,
    pub(super) connects: u64,
    pub(super) cut_off: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) waiting: usize,
    pub(super) unencodable: u64,
    pub(super) last_error: Option<String>,
}

/// What the core answers to a collector that has come.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The peers that are up.
    pub(super) first: Vec<Item>,
    /// What happens from now on; closed by the core when too much of it waits.
    pub(super) items: mpsc::UnboundedReceiver<Item>,
    /// Routes in `items`.
    pub(super) outstanding: Arc<AtomicUsize>,
}

/// Why a collector is left.
enum Left {
    /// It does not read, or not fast enough.
    CutOff(&'static str),
    Lost(String),
    Stopped,
}

pub(super) struct Station {
    pub(super) config: BmpConfig,
    pub(super) description: String,
    pub(super) name: String,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) status: Arc<Mutex<Status>>,
}

impl Station {
    /// Runs until it is told to stop, or nobody is there to tell it.
    pub(super) async fn run(self, mut stop: oneshot::Receiver<()>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let stream = tokio::select! {
                _ = &mut stop => return,
                stream = connect(self.config.collector) => stream,
            };
            let left = match stream {
                Ok(stream) => {
                    info!(collector = %self.config.collector, "BMP collector connected");
                    self.note(|status| {
                        status.connected_at = Some(Instant::now());
                        status.connects += 1;
                    });
                    self.serve(stream, &mut stop, &mut pause).await
                }
                Err(error) => Left::Lost(format!("cannot connect: {error}")),
            };
            let reason = match left {
                Left::Stopped => return,
                Left::CutOff(reason) => {
                    self.note(|status| status.cut_off += 1);
                    reason.to_owned()
                }
                Left::Lost(reason) => reason,
            };
            let news = {
                let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
                status.connected_at.is_some() || status.last_error.as_ref() != Some(&reason)
            };
            if news {
                warn!(collector = %self.config.collector, reason, "BMP collector left");
            }
            self.note(|status| {
                status.connected_at = None;
                status.waiting = 0;
                status.last_error = Some(reason);
            });
            tokio::select! {
                _ = &mut stop => return,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn serve(&self, stream: TcpStream, stop: &mut oneshot::Receiver<()>, pause: &mut Duration) -> Left {
        let join = async {
            let (reply, answer) = oneshot::channel();
            let request = Request::Join(self.config.collector, reply);
            self.requests.send(request).await.ok()?;
            answer.await.ok()
        };
        // A core that is being shut down answers nothing any more.
        let joined = tokio::select! {
            biased;
            _ = &mut *stop => None,
            joined = join => joined,
        };
        let Some(mut joined) = joined else {
            return Left::Stopped;
        };
        let mut feed = Feed::new(&self.stages());
        let mut unsent = BytesMut::new();
        unsent.extend_from_slice(&message::initiation(&self.description, &self.name));
        for item in joined.first.drain(..) {
            if feed.put(item).is_err() {
                return Left::CutOff("more peers than a collector can be told");
            }
        }
        let mut wanted = Some(Place::default());
        let period = self.config.statistics.filter(|period| !period.is_zero());
        let mut statistics = period.map(|period| Instant::now() + period);
        let mut taken_at = Instant::now();
        loop {
            while unsent.len() < WRITE_LOW && !feed.is_empty() {
                let messages = feed.take(WRITE_BATCH);
                self.note(|status| status.messages += messages.len() as u64);
                messages.iter().for_each(|message| unsent.extend_from_slice(message));
            }
            if unsent.is_empty() {
                taken_at = Instant::now();
                // All is said: this is a collector that reads.
                *pause = FIRST_PAUSE;
            }
            self.note(|status| {
                status.waiting = feed.waiting();
                status.unencodable = feed.unencodable();
            });
            tokio::select! {
                biased;
                _ = &mut *stop => {
                    let _ = timeout(FAREWELL, farewell(&stream, &mut unsent)).await;
                    return Left::Stopped;
                }
                item = joined.items.recv() => {
                    let Some(item) = item else {
                        return Left::CutOff("it reads more slowly than routes change");
                    };
                    let routes = match &item {
                        Item::Routes(routes, _) => routes.len(),
                        Item::Slice(slice) => {
                            wanted = slice.next;
                            slice.items.len()
                        }
                        _ => 0,
                    };
                    joined.outstanding.fetch_sub(routes, Ordering::Relaxed);
                    if feed.put(item).is_err() {
                        return Left::CutOff("it reads more slowly than peers come and go");
                    }
                }
                permit = self.requests.reserve(), if wanted.is_some() => {
                    let (Ok(permit), Some(place)) = (permit, wanted.take()) else {
                        return Left::Stopped;
                    };
                    permit.send(Request::Slice(self.config.collector, place));
                }
                ready = stream.writable(), if !unsent.is_empty() => match ready.and_then(|()| stream.try_write(&unsent)) {
                    Ok(written) => {
                        unsent.advance(written);
                        taken_at = Instant::now();
                        self.note(|status| status.bytes += written as u64);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Left::Lost(format!("connection lost: {error}")),
                },
                ready = stream.readable() => {
                    // A collector has nothing to say (RFC 7854 section 3.2).
                    match ready.and_then(|()| stream.try_read(&mut [0; 256])) {
                        Ok(0) => return Left::Lost("the collector closed the connection".to_owned()),
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Left::Lost(format!("connection lost: {error}")),
                    }
                }
                () = at(statistics) => {
                    statistics = period.map(|period| Instant::now() + period);
                    // A core that is busy answers the next time.
                    let _ = self.requests.try_send(Request::Statistics(self.config.collector));
                }
                () = sleep_until(taken_at + self.config.patience), if !unsent.is_empty() => {
                    return Left::CutOff("it does not read");
                }
            }
        }
    }

    fn stages(&self) -> Vec<Stage> {
        let pre = self.config.pre_policy.then_some(Stage::PrePolicy);
        let post = self.config.post_policy.then_some(Stage::PostPolicy);
        [pre, post].into_iter().flatten().collect()
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

async fn connect(collector: SocketAddr) -> io::Result<TcpStream> {
    let socket = if collector.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    timeout(CONNECT, socket.connect(collector))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))?
}

/// Writes what is left, then the termination message.
async fn farewell(stream: &TcpStream, unsent: &mut BytesMut) -> io::Result<()> {
    unsent.extend_from_slice(&message::termination());
    while !unsent.is_empty() {
        stream.writable().await?;
        match stream.try_write(unsent) {
            Ok(written) => unsent.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
