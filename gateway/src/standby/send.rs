//! The sending half: one connection after another, each with a stream of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane::ChangeRing;
use nat::standby::{Change, Progress, Sender};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::transport::Transport;
use super::{Ended, READ, Time, WeakDataplane, lock};
use crate::api::{SendingState, StandbySending};

/// Pause before the next connection is tried.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a worker may take to have room for an order.
const PATIENCE: u32 = 1_000;

/// Where changes come from.
pub(super) trait Source: Send {
    /// Workers that tell.
    fn workers(&self) -> u16;
    /// Has every worker begin the stream of this number.
    fn begin(&mut self, stream: u64) -> impl Future<Output = Result<(), Ended>> + Send;
    /// Has every worker end it.
    fn end(&mut self, stream: u64);
    /// The next change of any worker.
    fn next(&mut self) -> Option<Change>;
}

/// The workers of the data plane.
pub(super) struct Workers {
    dataplane: WeakDataplane,
    rings: Vec<ChangeRing>,
    /// Ring to look at first, so that none waits for another.
    first: usize,
}

impl Workers {
    pub(super) fn new(dataplane: WeakDataplane, rings: Vec<ChangeRing>) -> Self {
        Self {
            dataplane,
            rings,
            first: 0,
        }
    }
}

impl Source for Workers {
    fn workers(&self) -> u16 {
        self.rings.len() as u16
    }

    async fn begin(&mut self, stream: u64) -> Result<(), Ended> {
        for worker in 0..self.rings.len() {
            let mut tries = 0;
            loop {
                let Some(dataplane) = self.dataplane.upgrade() else {
                    return Err(Ended::Closed);
                };
                if dataplane.with_connections(worker, move |engine| engine.begin_stream(stream)) {
                    break;
                }
                drop(dataplane);
                tries += 1;
                if tries > PATIENCE {
                    return Err(Ended::Busy);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    fn end(&mut self, stream: u64) {
        let Some(dataplane) = self.dataplane.upgrade() else {
            return;
        };
        for worker in 0..self.rings.len() {
            // Of one that is busy the ring fills up, and nothing else happens until the next stream begins.
            dataplane.with_connections(worker, move |engine| engine.end_stream(stream));
        }
    }

    fn next(&mut self) -> Option<Change> {
        let count = self.rings.len();
        for step in 0..count {
            let at = (self.first + step) % count;
            if let Ok(change) = self.rings[at].pop() {
                self.first = at + 1;
                return Some(change);
            }
        }
        None
    }
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Sending {
    peer: SocketAddr,
    state: SendingState,
    stream: u64,
    progress: Progress,
    sessions: u64,
    last_error: Option<String>,
}

impl Sending {
    pub(super) fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            state: SendingState::Connecting,
            stream: 0,
            progress: Progress::default(),
            sessions: 0,
            last_error: None,
        }
    }

    pub(super) fn view(&self) -> StandbySending {
        let Progress {
            taken,
            acknowledged,
            limit,
            ..
        } = self.progress;
        StandbySending {
            peer: self.peer,
            state: self.state,
            stream: self.stream,
            sent: taken,
            acknowledged,
            lag: taken - acknowledged,
            backlog: 0,
            room: limit,
            sessions: self.sessions,
            last_error: self.last_error.clone(),
        }
    }
}

/// Runs until it is aborted.
pub(super) async fn run(
    mut transport: impl Transport,
    mut source: impl Source,
    shown: Arc<Mutex<Sending>>,
    mut stream: u64,
    time: Time,
) {
    loop {
        let ended = match transport.open().await {
            Ok(connection) => {
                stream += 1;
                let sender = Sender::new(stream, source.workers(), time.now());
                {
                    let mut shown = lock(&shown);
                    (shown.state, shown.stream) = (SendingState::Synchronizing, stream);
                    shown.progress = Progress::default();
                    shown.sessions += 1;
                }
                let Err(ended) = session(connection, sender, &mut source, &shown, &time).await;
                source.end(stream);
                tracing::warn!(stream, %ended, "the standby is not told of connections any more");
                ended
            }
            Err(error) => Ended::Transport(error),
        };
        {
            let mut shown = lock(&shown);
            shown.state = SendingState::Connecting;
            shown.last_error = Some(ended.to_string());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Carries one stream until the connection ends.
async fn session(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    mut sender: Sender,
    source: &mut impl Source,
    shown: &Mutex<Sending>,
    time: &Time,
) -> Result<std::convert::Infallible, Ended> {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut buffer = vec![0; READ];
    let mut synchronized = false;
    loop {
        if sender.begins() {
            source.begin(sender.stream()).await?;
        }
        for _ in 0..sender.room() {
            let Some(change) = source.next() else { break };
            sender.offer(&change);
        }
        sender.timeout(time.now())?;
        let progress = sender.progress();
        {
            let mut shown = lock(shown);
            shown.progress = progress;
            if progress.synchronized {
                shown.state = SendingState::Synchronized;
            }
        }
        if progress.synchronized && !std::mem::replace(&mut synchronized, true) {
            tracing::info!(
                stream = sender.stream(),
                changes = progress.taken,
                "the standby has every connection"
            );
        }
        let pause = time.until(Some(sender.poll_timeout()));
        let output = sender.output(time.now());
        tokio::select! {
            read = reader.read(&mut buffer) => match read? {
                0 => return Err(Ended::Closed),
                count => sender.receive(&buffer[..count], time.now())?,
            },
            written = writer.write(output), if !output.is_empty() => {
                let written = written?;
                sender.wrote(written);
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}
