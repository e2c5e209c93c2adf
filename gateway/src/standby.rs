//! A pair of gateways: the tasks that carry the protocol of `nat::standby` between two of them, and what is shown of it.
//!
//! Which of the two carries traffic is decided by routing, elsewhere. A gateway sends its connections to `standby.peer`
//! and receives another's on `standby.listen`; one that does both is half of a pair in which each can take over from the
//! other. What is received stays beside the connection tables until a takeover puts it in (`takeover.rs`).

mod receive;
mod send;
mod takeover;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use config::Config;
use dataplane::Dataplane;
use nat::Millis;
use nat::standby::{Receiver, StandbyError};
use tokio::task::JoinHandle;

use crate::Error;
use crate::api::{StandbyReceiving, StandbySending};
use crate::manager::clock;
use send::{Sending, Workers};
use transport::{Accept, Connect};

/// How long the driver of a connection waits for bytes before it looks at rings and clock again.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Why a connection to the other gateway ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Protocol(#[from] StandbyError),
    #[error("{0}")]
    Transport(#[from] std::io::Error),
    #[error("the other gateway closed the connection")]
    Closed,
    #[error("a worker has too much to do to begin")]
    Busy,
}

/// The clock of the protocol, and what both tasks show.
#[derive(Debug, Clone)]
struct Time(Instant);

impl Time {
    fn now(&self) -> Millis {
        Millis(clock().duration_since(self.0).as_millis() as u64)
    }

    /// From now until a time of the protocol, but no longer than [`LOOK`].
    fn until(&self, then: Option<Millis>) -> Duration {
        then.map_or(LOOK, |then| {
            LOOK.min(Duration::from_millis(then.0.saturating_sub(self.now().0)))
        })
    }
}

/// The receiving half.
struct Receiving {
    receiver: Arc<Mutex<Receiver>>,
    notes: Arc<Mutex<receive::Notes>>,
    listen: std::net::SocketAddr,
    primary: std::net::IpAddr,
}

/// This gateway's part in a pair. Without `[standby]` there is nothing in it.
#[derive(Default)]
pub(crate) struct Standby {
    time: Option<Time>,
    sending: Option<Arc<Mutex<Sending>>>,
    receiving: Option<Receiving>,
    tasks: Vec<JoinHandle<()>>,
}

impl Standby {
    /// Starts what the configuration asks for. `streams` is a number above that of every stream that an earlier process may
    /// have sent.
    ///
    /// # Errors
    /// [`Error::Standby`] if `standby.listen` cannot be listened on.
    pub(crate) async fn start(config: &Config, dataplane: &Arc<Dataplane>, streams: u64) -> Result<Self, Error> {
        let Some(standby) = &config.standby else {
            return Ok(Self::default());
        };
        let time = Time(clock());
        let mut started = Self::default();
        started.time = Some(time.clone());
        if let Some(listen) = &standby.listen {
            let transport = Accept::new(listen.address, listen.primary).await?;
            let workers = config.dataplane.workers.len() as u32;
            let limit = config.dataplane.connections.saturating_mul(workers);
            let receiver = Arc::new(Mutex::new(Receiver::new(limit)));
            let notes = Arc::default();
            let task = receive::run(transport, Arc::clone(&receiver), Arc::clone(&notes), time.clone());
            started.tasks.push(tokio::spawn(task));
            started.receiving = Some(Receiving {
                receiver,
                notes,
                listen: listen.address,
                primary: listen.primary,
            });
        }
        if let Some(peer) = standby.peer {
            let sending = Arc::new(Mutex::new(Sending::new(peer)));
            let workers = Workers::new(Arc::downgrade(dataplane), dataplane.take_changes());
            let task = send::run(Connect(peer), workers, Arc::clone(&sending), streams, time);
            started.tasks.push(tokio::spawn(task));
            started.sending = Some(sending);
        }
        Ok(started)
    }

    /// What is shown of the sending half; slots that workers have still to tell of are added by who asks them.
    pub(crate) fn sending(&self) -> Option<StandbySending> {
        self.sending.as_ref().map(|sending| lock(sending).view())
    }

    /// What is shown of the receiving half.
    pub(crate) fn receiving(&self) -> Option<StandbyReceiving> {
        let (receiving, time) = (self.receiving.as_ref()?, self.time.as_ref()?);
        let notes = lock(&receiving.notes).clone();
        let receiver = lock(&receiving.receiver);
        Some(StandbyReceiving {
            listen: receiving.listen,
            primary: receiving.primary,
            state: receiver.state(),
            stream: receiver.stream(),
            connections: receiver.connections(),
            applied: receiver.applied(),
            not_kept: receiver.refused(),
            sessions: notes.sessions,
            silent_ms: (notes.sessions > 0).then(|| receiver.silent(time.now())),
            last_error: notes.last_error,
        })
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The data plane, if it still runs.
type WeakDataplane = Weak<Dataplane>;
