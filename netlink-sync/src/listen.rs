//! The task that listens: notifications, resync when in doubt, audits, and the sweep of what an earlier run left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use net::{KernelEvent, Prefix};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Error;
use crate::heard::{Heard, ObservedRoute, Verb};
use crate::inbound::{Doubt, Inbound};
use crate::mirror::Shared;
use crate::socket::{Netlink, Received, frames, understand};

/// Doubts that come within this time are settled by one dump.
const SETTLE: Duration = Duration::from_millis(20);
/// A dump that failed, or a route of ours that somebody else took away, is looked after in this time.
const RETRY: Duration = Duration::from_millis(250);
/// Datagrams that are read into one batch of events.
const BATCH: usize = 256;
/// `sleep_until` this is "not now".
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the task ended.
enum Stop {
    /// Nobody takes the events any more.
    Unheard,
    Socket(io::Error),
}

/// State of the task.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    events: mpsc::Sender<Vec<KernelEvent>>,
    notify: Netlink,
    dump: Netlink,
    /// `nlmsg_pid` of our own writes.
    writer: u32,
    inbound: Inbound,
    doubt: Doubt,
    /// When the doubt is settled.
    resync_at: Option<Instant>,
    audit_at: Instant,
    sweep_at: Option<Instant>,
}

impl Listener {
    /// Dumps everything, tells it in one batch, and adopts our routes of an earlier run.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        events: mpsc::Sender<Vec<KernelEvent>>,
        notify: Netlink,
        dump: Netlink,
        writer: u32,
    ) -> Result<(Self, Vec<KernelEvent>), Error> {
        let now = Instant::now();
        let (config, tuning) = (&shared.config, &shared.tuning);
        let mut this = Self {
            inbound: Inbound::new(config.protocol, config.tables.iter().copied()),
            doubt: Doubt::None,
            resync_at: None,
            audit_at: now + tuning.audit_interval,
            sweep_at: Some(now + config.stale_sweep),
            shared,
            events,
            notify,
            dump,
            writer,
        };
        let snapshot = this.dump.dump_everything().await?;
        {
            let mut outbound = this.shared.outbound();
            snapshot
                .routes
                .iter()
                .filter(|r| this.is_ours(r))
                .for_each(|r| outbound.adopt(r));
        }
        let mut first = Vec::new();
        this.inbound.resync(snapshot, &mut first);
        first.push(KernelEvent::Synced);
        Ok((this, first))
    }

    /// Runs until nobody takes the events any more.
    pub(crate) async fn run(mut self, first: Vec<KernelEvent>) {
        match self.listen(first).await {
            Stop::Unheard => tracing::debug!("kernel events are not taken any more; the mirror stops listening"),
            Stop::Socket(error) => tracing::error!(%error, "the notification socket failed; the mirror is deaf"),
        }
    }

    async fn listen(&mut self, first: Vec<KernelEvent>) -> Stop {
        let Ok(()) = self.tell(first).await else {
            return Stop::Unheard;
        };
        loop {
            let far = Instant::now() + FAR;
            let (resync_at, sweep_at) = (self.resync_at.unwrap_or(far), self.sweep_at.unwrap_or(far));
            let done = tokio::select! {
                received = self.notify.receive() => match received {
                    Ok(received) => self.heard(received).await,
                    Err(error) => Err(Stop::Socket(error)),
                },
                () = sleep_until(resync_at) => self.settle().await,
                () = sleep_until(self.audit_at) => self.audit().await,
                () = sleep_until(sweep_at) => {
                    self.sweep_at = None;
                    self.shared.end_of_start();
                    Ok(())
                }
            };
            if let Err(stop) = done {
                return stop;
            }
        }
    }

    async fn tell(&self, events: Vec<KernelEvent>) -> Result<(), Stop> {
        if events.is_empty() {
            return Ok(());
        }
        self.shared.counters.events.fetch_add(events.len() as u64, Relaxed);
        self.events.send(events).await.map_err(|_| Stop::Unheard)
    }

    /// Takes the datagram that was just read and what else is there.
    async fn heard(&mut self, mut received: Received) -> Result<(), Stop> {
        let mut events = Vec::new();
        for _ in 0..BATCH {
            match received {
                Received::Datagram => self.datagram(&mut events),
                Received::Overrun => {
                    self.shared.counters.overruns.fetch_add(1, Relaxed);
                    self.doubt(Doubt::Everything);
                }
            }
            match self.notify.try_receive().map_err(Stop::Socket)? {
                Some(next) => received = next,
                None => break,
            }
        }
        // What the kernel refused for want of an interface or an address, it may take now.
        let better = |e: &KernelEvent| match e {
            KernelEvent::Link(link) => link.up,
            KernelEvent::Address(address) => address.present,
            _ => false,
        };
        if events.iter().any(better) {
            self.shared.outbound().retry_refused();
            self.shared.work.notify_one();
        }
        self.tell(events).await
    }

    fn datagram(&mut self, events: &mut Vec<KernelEvent>) {
        if self.doubt == Doubt::Everything {
            return; // the state is unknown until the dump, which will say more than this
        }
        let mut doubt = Doubt::None;
        let mut suspicious = false;
        let (frames, cut) = frames(self.notify.datagram());
        for frame in frames {
            let heard = understand(&frame);
            if let Heard::Route(verb, route) = &heard {
                suspicious |= *verb == Verb::Delete && frame.port != self.writer && self.shared.is_ours(route);
                if self.shared.is_in_place_of_ours(route) {
                    self.shared.outbound().contest(route.prefix, *verb != Verb::Delete);
                    suspicious |= matches!(verb, Verb::Delete | Verb::Replace);
                }
            }
            doubt = doubt.max(self.inbound.hear(heard, events));
        }
        if suspicious {
            self.audit_at = self.audit_at.min(Instant::now() + RETRY);
        }
        self.doubt(if cut { Doubt::Everything } else { doubt });
    }

    fn doubt(&mut self, doubt: Doubt) {
        if doubt > Doubt::None {
            self.doubt = self.doubt.max(doubt);
            self.resync_at.get_or_insert_with(|| Instant::now() + SETTLE);
        }
    }

    /// Settles the doubt by a dump: only differences are told.
    async fn settle(&mut self) -> Result<(), Stop> {
        let doubt = std::mem::replace(&mut self.doubt, Doubt::None);
        self.resync_at = None;
        let mut events = Vec::new();
        self.shared.outbound().begin_audit();
        let dumped = match doubt {
            Doubt::Everything => {
                while self.notify.try_receive().map_err(Stop::Socket)?.is_some() {}
                self.dump.dump_everything().await.map(|snapshot| {
                    let ours = snapshot
                        .routes
                        .iter()
                        .filter(|r| self.shared.is_ours(r))
                        .cloned()
                        .collect::<Vec<_>>();
                    self.inbound.resync(snapshot, &mut events);
                    events.push(KernelEvent::Synced);
                    self.shared.counters.resyncs.fetch_add(1, Relaxed);
                    ours
                })
            }
            _ => self.dump.dump_routes(None).await.map(|routes| {
                self.shared.outbound().contest_only(self.in_place_of_ours(&routes));
                let (ours, others) = routes.into_iter().partition(|r| self.shared.is_ours(r));
                self.inbound.resync_routes(others, &mut events);
                ours
            }),
        };
        if dumped.is_err() {
            self.doubt(doubt);
            self.resync_at = Some(Instant::now() + RETRY);
        }
        self.compare(dumped);
        self.tell(events).await
    }

    /// Compares our routes in the kernel with what it should have.
    async fn audit(&mut self) -> Result<(), Stop> {
        self.audit_at = Instant::now() + self.shared.tuning.audit_interval;
        self.shared.outbound().begin_audit();
        let config = &self.shared.config;
        let ours = self.dump.dump_routes(Some((config.protocol, config.table))).await;
        self.compare(ours);
        Ok(())
    }

    fn compare(&self, ours: Result<Vec<ObservedRoute>, Error>) {
        match ours {
            Ok(ours) => {
                let drift = self
                    .shared
                    .outbound()
                    .finish_audit(ours.iter().filter(|r| self.is_ours(r)));
                if drift > 0 {
                    tracing::info!(
                        routes = drift,
                        "our routes in the kernel were not as they should be; healing"
                    );
                }
                self.shared.work.notify_one();
            }
            Err(error) => {
                self.shared.outbound().abandon_audit();
                tracing::warn!(%error, "the kernel's state could not be dumped; trying again");
            }
        }
    }

    fn in_place_of_ours<'a>(&'a self, routes: &'a [ObservedRoute]) -> impl Iterator<Item = Prefix> + 'a {
        routes
            .iter()
            .filter(|r| self.shared.is_in_place_of_ours(r))
            .map(|r| r.prefix)
    }

    fn is_ours(&self, route: &ObservedRoute) -> bool {
        self.shared.is_ours(route)
    }
}
