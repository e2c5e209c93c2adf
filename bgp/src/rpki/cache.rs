//! The task of one cache: speaks RTR with it (RFC 8210 version 1, or 0 if it wants that), and holds what it said until it
//! expires.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net::Prefix;
use rpki::rtr::client::{Client, PayloadError, PayloadTarget, PayloadUpdate};
use rpki::rtr::payload::{Action, Payload, Timing};
use rpki::rtr::state::State;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::vrps::{Vrp, VrpSet};
use super::{CacheConfig, News};

/// The version that is asked for first.
const VERSION: u8 = 1;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// First pause after a failure; it doubles up to the retry interval of the cache.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time that an answer may take from its first to its last octet.
const ANSWER: Duration = Duration::from_secs(120);
/// Most VRPs of one cache; ten times what there is in the world.
const MOST: usize = 10_000_000;
/// Upper bounds of the intervals that a cache may ask for (RFC 8210 section 6), seconds: refresh, retry, expire.
const LONGEST: (u32, u32, u32) = (86_400, 7_200, 172_800);

/// A cache as people see it, shared with the speaker's core.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    pub(super) connected: bool,
    pub(super) connects: u64,
    pub(super) updates: u64,
    pub(super) vrps: usize,
    pub(super) state: Option<State>,
    pub(super) expires: Option<Instant>,
    pub(super) last_error: Option<String>,
}

pub(super) struct Cache {
    pub(super) config: CacheConfig,
    pub(super) serial: u64,
    pub(super) news: mpsc::Sender<News>,
    pub(super) status: Arc<Mutex<Status>>,
}

/// What the cache has said, and what of it the core does not know yet.
#[derive(Debug, Default)]
struct Holding {
    vrps: HashSet<Vrp>,
    timing: Option<Timing>,
    /// The cache contradicted itself: what it says next has to be everything.
    broken: bool,
}

/// An answer on its way in.
#[derive(Debug)]
struct Answer {
    reset: bool,
    changes: Vec<(Action, Vrp)>,
}

impl PayloadUpdate for Answer {
    fn push_update(&mut self, action: Action, payload: Payload) -> Result<(), PayloadError> {
        // Router keys and the like are of no use here.
        let Payload::Origin(origin) = payload else {
            return Ok(());
        };
        if self.changes.len() >= MOST {
            return Err(PayloadError::Internal);
        }
        let (address, length): (IpAddr, u8) = origin.prefix.prefix().addr_and_len();
        let prefix = Prefix::containing(address, length).map_err(|_| PayloadError::Corrupt)?;
        let vrp = Vrp {
            prefix,
            max_length: origin.prefix.resolved_max_len(),
            asn: origin.asn.into_u32(),
        };
        self.changes.push((action, vrp));
        Ok(())
    }
}

impl PayloadTarget for Holding {
    type Update = Answer;

    fn start(&mut self, reset: bool) -> Answer {
        Answer {
            reset,
            changes: Vec::new(),
        }
    }

    fn apply(&mut self, update: Answer, timing: Timing) -> Result<(), PayloadError> {
        if update.reset {
            self.vrps.clear();
        }
        // RFC 8210 sections 12 and 5.6: both errors are fatal.
        let result = update.changes.into_iter().try_for_each(|(action, vrp)| match action {
            Action::Announce if !self.vrps.insert(vrp) => Err(PayloadError::DuplicateAnnounce),
            Action::Withdraw if !self.vrps.remove(&vrp) => Err(PayloadError::UnknownWithdraw),
            _ => Ok(()),
        });
        let result = result.and(if self.vrps.len() > MOST {
            Err(PayloadError::Internal)
        } else {
            Ok(())
        });
        self.broken = result.is_err();
        self.timing = Some(timing);
        result
    }
}

impl Holding {
    fn interval(&self, of: impl Fn(Timing) -> u32, longest: u32) -> Duration {
        let seconds = of(self.timing.unwrap_or_default()).clamp(1, longest);
        Duration::from_secs(u64::from(seconds))
    }
}

impl Cache {
    /// Runs until it is told to stop, or nobody is there to tell it.
    pub(super) async fn run(self, mut stop: oneshot::Receiver<()>) {
        tokio::select! {
            _ = &mut stop => {}
            () = self.speak() => {}
        }
    }

    async fn speak(self) {
        let mut holding = Holding::default();
        let mut state = None;
        let mut expires: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let reason = match connect(&self.config).await {
                Err(error) => format!("cannot connect: {error}"),
                Ok(stream) => {
                    info!(cache = %self.config.cache, "RPKI cache connected");
                    self.note(|status| {
                        status.connected = true;
                        status.connects += 1;
                    });
                    let mut client = Client::with_initial_version(VERSION, stream, holding, state);
                    let reason = self.converse(&mut client, &mut expires, &mut pause).await;
                    state = client.state();
                    holding = client.into_target();
                    if holding.broken {
                        state = None;
                    }
                    reason
                }
            };
            let news = {
                let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
                status.connected || status.last_error.as_ref() != Some(&reason)
            };
            if news {
                warn!(cache = %self.config.cache, reason, "RPKI cache left");
            }
            self.note(|status| {
                status.connected = false;
                status.last_error = Some(reason);
            });
            let retry = holding.interval(|timing| timing.retry, LONGEST.1);
            let again = Instant::now() + pause.min(retry);
            pause = (pause * 2).min(retry);
            if let Some(end) = expires.filter(|end| *end <= again) {
                sleep_until(end).await;
                warn!(cache = %self.config.cache, "what the RPKI cache said has expired");
                (expires, state) = (None, None);
                holding.vrps.clear();
                self.publish(None, None, None).await;
            }
            sleep_until(again).await;
        }
    }

    /// Asks and listens until the connection ends; says why it did.
    async fn converse(
        &self,
        client: &mut Client<TcpStream, Holding>,
        expires: &mut Option<Instant>,
        pause: &mut Duration,
    ) -> String {
        loop {
            let refresh = client.target().interval(|timing| timing.refresh, LONGEST.0);
            let longest = if client.target().timing.is_some() {
                refresh + ANSWER
            } else {
                ANSWER
            };
            // What expires while the cache is silent is not held any longer.
            let longest = expires.map_or(longest, |end| {
                longest.min(end.saturating_duration_since(Instant::now()))
            });
            match timeout(longest, client.step()).await {
                Err(_) => return "the cache does not answer".to_owned(),
                Ok(Err(error)) if error.to_string().is_empty() => {
                    return "the cache contradicts what it said before".to_owned();
                }
                Ok(Err(error)) => return format!("connection lost: {error}"),
                Ok(Ok(())) => {}
            }
            *pause = FIRST_PAUSE;
            let end = Instant::now() + client.target().interval(|timing| timing.expire, LONGEST.2);
            *expires = Some(end);
            let vrps: Vec<Vrp> = client.target().vrps.iter().copied().collect();
            // Takes long enough for the other tasks to notice.
            let set = tokio::task::spawn_blocking(move || vrps.into_iter().collect::<VrpSet>()).await;
            let Ok(set) = set else {
                return "the runtime is ending".to_owned();
            };
            self.publish(Some(Arc::new(set)), client.state(), Some(end)).await;
        }
    }

    async fn publish(&self, vrps: Option<Arc<VrpSet>>, state: Option<State>, expires: Option<Instant>) {
        self.note(|status| {
            status.updates += u64::from(vrps.is_some());
            status.vrps = vrps.as_ref().map_or(0, |vrps| vrps.len());
            status.state = state;
            status.expires = expires;
        });
        let news = News {
            serial: self.serial,
            vrps,
        };
        if self.news.send(news).await.is_err() {
            // Without a core there is nobody to stop this task either.
            sleep(Duration::MAX).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

async fn connect(config: &CacheConfig) -> std::io::Result<TcpStream> {
    timeout(CONNECT, TcpStream::connect(config.cache))
        .await
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"))?
}
