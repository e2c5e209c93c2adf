//! The server of FRR's Forwarding Plane Manager interface: zebra (`-M dplane_fpm_nl`) connects and pushes its routes and
//! next-hop objects as netlink messages.
//!
//! `fpm/stream.rs` cuts the stream into frames, `object.rs` reads next-hop objects, `fpm/table.rs` holds the state and
//! decides what is told; this file is the socket around them. One connection at a time: the newest is FRR after a restart,
//! and ends the one before.
//!
//! The protocol knows no authentication, no end of the initial push and no answer. A stream that cannot be read ends the
//! connection; FRR connects again and pushes everything anew.

mod stream;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::{NextHopObjectChange, RouteChange};
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use self::stream::Stream;
pub use self::stream::StreamError;
use self::table::Table;
use crate::Error;

/// Bytes read at once; a frame is at most 64 KiB.
const READ: usize = 64 << 10;
/// `sleep_until` this is "not now".
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the server is told at start.
#[derive(Debug, Clone)]
pub struct FpmConfig {
    /// Where FRR connects to; the protocol has no authentication, so an address of the loopback interface.
    pub listen: SocketAddr,
    /// Kernel table whose routes are the default VRF's; 254 is main.
    pub table: u32,
    /// Routes of a connection that ended are kept for so long, unless FRR confirms them on the next one.
    pub keep_stale: Duration,
}

/// Counters and state of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FpmStatus {
    /// FRR's end of the connection, while there is one.
    pub peer: Option<SocketAddr>,
    /// Connections since start.
    pub connections: u64,
    /// Routes.
    pub routes: usize,
    /// Of these, those of an ended connection that FRR has not confirmed yet.
    pub stale: usize,
    /// Of these, those whose next-hop object is not known: they are not told.
    pub unresolved: usize,
    /// Next-hop objects.
    pub objects: usize,
    /// Netlink messages, since start.
    pub messages: u64,
    /// Messages that made no sense and were left out.
    pub malformed: u64,
    /// Streams that could not be read any further and were ended.
    pub broken_streams: u64,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}

/// What FRR pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FpmEvent {
    /// A route of source [`net::Source::Fpm`].
    Route(RouteChange),
    /// The next hops of an object that such routes name; told before the first of them.
    NextHopObject(NextHopObjectChange),
}

/// A running server. Dropping it closes the socket.
#[derive(Debug)]
pub struct FpmServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl FpmServer {
    /// Listens, and tells routes of source [`net::Source::Fpm`]. A full channel makes FRR wait.
    ///
    /// # Errors
    /// [`Error::Fpm`] if the address cannot be listened on.
    pub async fn start(config: FpmConfig, routes: mpsc::Sender<Vec<FpmEvent>>) -> Result<Self, Error> {
        let failed = |source| Error::Fpm {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Mutex::new(Shared {
            table: Table::new(config.table, config.keep_stale),
            status: FpmStatus::default(),
        }));
        let server = Server {
            shared: Arc::clone(&shared),
            routes,
        };
        let task = tokio::spawn(server.run(listener));
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counters and state.
    pub fn status(&self) -> FpmStatus {
        let shared = lock(&self.shared);
        let mut status = shared.status.clone();
        shared.table.report(&mut status);
        status
    }
}

impl Drop for FpmServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the handle and the task share.
#[derive(Debug)]
struct Shared {
    table: Table,
    status: FpmStatus,
}

/// A panic elsewhere does not make the state behind the lock unusable: each change of it is complete.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Server {
    shared: Arc<Mutex<Shared>>,
    routes: mpsc::Sender<Vec<FpmEvent>>,
}

/// FRR's connection.
struct Connection {
    socket: TcpStream,
    stream: Stream,
}

impl Server {
    async fn run(self, listener: TcpListener) {
        let mut connection: Option<Connection> = None;
        let mut buffer = vec![0; READ];
        loop {
            let timeout = lock(&self.shared).table.poll_timeout();
            let sweep_at = timeout.map_or_else(|| Instant::now() + FAR, Instant::from_std);
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => connection = Some(self.connected(socket, peer)),
                    Err(error) => {
                        tracing::warn!(%error, "FPM connection not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: no busy loop
                    }
                },
                read = read(&mut connection, &mut buffer) => {
                    let bytes = read.map(|length| buffer.get(..length).unwrap_or_default());
                    if let Some(why) = self.received(connection.as_mut(), bytes) {
                        connection = None;
                        self.disconnected(why);
                    }
                }
                () = sleep_until(sweep_at) => lock(&self.shared).table.handle_timeout(Instant::now().into_std()),
            }
            let changes = lock(&self.shared).table.flush();
            if !changes.is_empty() && self.routes.send(changes).await.is_err() {
                return; // nobody takes the routes any more
            }
        }
    }

    fn connected(&self, socket: TcpStream, peer: SocketAddr) -> Connection {
        tracing::info!(%peer, "FRR connected to the FPM");
        let mut shared = lock(&self.shared);
        shared.table.connected(Instant::now().into_std());
        shared.status.connections += 1;
        shared.status.peer = Some(peer);
        Connection {
            socket,
            stream: Stream::default(),
        }
    }

    fn disconnected(&self, why: String) {
        tracing::warn!(why, "the FPM connection ended; its routes are kept for now");
        let mut shared = lock(&self.shared);
        shared.table.disconnected(Instant::now().into_std());
        shared.status.peer = None;
        shared.status.last_error = Some(why);
    }

    /// Takes what was read; the reason if that is the end of the connection.
    fn received(&self, connection: Option<&mut Connection>, bytes: io::Result<&[u8]>) -> Option<String> {
        let stream = match (connection, bytes) {
            (_, Err(error)) => return Some(error.to_string()),
            (_, Ok([])) => return Some("closed by FRR".to_owned()),
            (Some(connection), Ok(bytes)) => {
                connection.stream.push(bytes);
                &mut connection.stream
            }
            (None, Ok(_)) => return None,
        };
        let mut shared = lock(&self.shared);
        let broken = loop {
            match stream.next_frame() {
                Ok(None) => return None,
                Ok(Some(frame)) => match shared.table.frame(frame) {
                    Ok(()) => {}
                    Err(error) => break error,
                },
                Err(error) => break error,
            }
        };
        shared.status.broken_streams += 1;
        Some(broken.to_string())
    }
}

/// Reads from the connection; never ends while there is none.
async fn read(connection: &mut Option<Connection>, buffer: &mut [u8]) -> io::Result<usize> {
    match connection {
        Some(connection) => connection.socket.read(buffer).await,
        None => std::future::pending().await,
    }
}
