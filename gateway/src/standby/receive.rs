//! The receiving half: the newest connection of the other gateway, until it ends or a newer one comes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nat::standby::{Receiver, ReceiverState};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::transport::Transport;
use super::{Ended, READ, Time, lock};

/// Pause after the system refused to accept.
const AGAIN: Duration = Duration::from_millis(100);

/// What is shown beside the receiver itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    pub(super) sessions: u64,
    pub(super) last_error: Option<String>,
}

/// Runs until it is aborted.
pub(super) async fn run(
    mut transport: impl Transport,
    receiver: Arc<Mutex<Receiver>>,
    notes: Arc<Mutex<Notes>>,
    time: Time,
) {
    let mut next = None;
    loop {
        let connection = match next.take() {
            Some(connection) => connection,
            None => transport.open().await,
        };
        let ended = match connection {
            Ok(connection) => {
                lock(&receiver).connect(time.now());
                lock(&notes).sessions += 1;
                let ended = tokio::select! {
                    Err(ended) = session(connection, &receiver, &time) => Some(ended),
                    newer = transport.open() => {
                        next = Some(newer);
                        None
                    }
                };
                let mut receiver = lock(&receiver);
                receiver.disconnect();
                if let Some(ended) = &ended {
                    tracing::warn!(%ended, connections = receiver.connections(), "the primary is not heard any more");
                }
                ended
            }
            Err(error) => {
                tokio::time::sleep(AGAIN).await;
                Some(Ended::Transport(error))
            }
        };
        if let Some(ended) = ended {
            lock(&notes).last_error = Some(ended.to_string());
        }
    }
}

async fn session(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    receiver: &Mutex<Receiver>,
    time: &Time,
) -> Result<Infallible, Ended> {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut buffer = vec![0; READ];
    let mut synchronized = false;
    loop {
        let (output, pause) = {
            let mut receiver = lock(receiver);
            receiver.timeout(time.now())?;
            if receiver.state() == ReceiverState::Synchronized && !std::mem::replace(&mut synchronized, true) {
                tracing::info!(
                    connections = receiver.connections(),
                    "every connection of the primary is here"
                );
            }
            let output = receiver.output(time.now()).to_vec();
            (output, time.until(receiver.poll_timeout()))
        };
        tokio::select! {
            read = reader.read(&mut buffer) => match read? {
                0 => return Err(Ended::Closed),
                count => lock(receiver).receive(&buffer[..count], time.now())?,
            },
            written = writer.write(&output), if !output.is_empty() => lock(receiver).wrote(written?),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
