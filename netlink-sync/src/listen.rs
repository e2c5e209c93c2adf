//! The task that listens: notifications, resync when in doubt, audits, and the sweep of what an earlier run left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use net::KernelEvent;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Error;
use crate::heard::{Heard, ObservedRoute, Verb};
use crate::inbound::{Doubt, Snapshot};
use crate::mirror::Shared;
use crate::object::Object;
use crate::socket::{Netlink, Received, frames, understand};

/// Doubts that come within this time are settled by one dump.
const SETTLE: Duration = Duration::from_millis(20);
/// A dump that failed, or a route of ours that somebody else took away, is looked after in this time.
const RETRY: Duration = Duration::from_millis(250);
/// Checks of our routes that follow one another are apart by [`RETRY`], doubled each time up to this power of two.
const ALARMS: u32 = 5;
/// An audit during which notifications come says nothing: it is tried again so often.
const AUDIT_TRIES: u32 = 4;
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
    doubt: Doubt,
    /// When the doubt is settled.
    resync_at: Option<Instant>,
    audit_at: Instant,
    /// When our routes are checked because somebody touched them.
    check_at: Option<Instant>,
    /// Checks since the last quiet audit.
    alarms: u32,
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
            doubt: Doubt::None,
            resync_at: None,
            audit_at: now + tuning.audit_interval,
            check_at: None,
            alarms: 0,
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
        this.shared.inbound().resync(snapshot, &mut first);
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
            let or_far = |at: Option<Instant>| at.unwrap_or(far);
            let (resync_at, sweep_at) = (or_far(self.resync_at), or_far(self.sweep_at));
            let check_at = or_far(self.check_at);
            let held_until = or_far(self.shared.outbound().poll_timeout().map(Instant::from_std));
            let shared = Arc::clone(&self.shared);
            let done = tokio::select! {
                received = self.notify.receive() => match received {
                    Ok(received) => self.heard(received).await,
                    Err(error) => Err(Stop::Socket(error)),
                },
                () = sleep_until(resync_at) => self.settle().await,
                () = sleep_until(self.audit_at) => self.audit().await,
                () = sleep_until(check_at) => {
                    self.check().await;
                    Ok(())
                }
                () = shared.unsure.notified() => {
                    self.suspect();
                    Ok(())
                }
                () = sleep_until(held_until) => {
                    self.shared.outbound().handle_timeout(Instant::now().into_std());
                    self.shared.work.notify_one();
                    Ok(())
                }
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
    async fn heard(&mut self, received: Received) -> Result<(), Stop> {
        let mut events = Vec::new();
        self.take(received, &mut events);
        for _ in 1..BATCH {
            match self.notify.try_receive().map_err(Stop::Socket)? {
                Some(next) => self.take(next, &mut events),
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

    fn take(&mut self, received: Received, events: &mut Vec<KernelEvent>) {
        match received {
            Received::Datagram => self.datagram(events),
            Received::Overrun => {
                self.shared.counters.overruns.fetch_add(1, Relaxed);
                self.doubt(Doubt::Everything);
            }
        }
    }

    /// Takes all that is there now; true if there was anything.
    fn take_all(&mut self, events: &mut Vec<KernelEvent>) -> Result<bool, Stop> {
        let mut any = false;
        while let Some(received) = self.notify.try_receive().map_err(Stop::Socket)? {
            self.take(received, events);
            any = true;
        }
        Ok(any)
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
                    self.shared
                        .outbound()
                        .contest(route.table, route.prefix, *verb != Verb::Delete);
                    suspicious |= matches!(verb, Verb::Delete | Verb::Replace);
                }
            }
            doubt = doubt.max(self.shared.inbound().hear(heard, events));
        }
        if suspicious {
            self.suspect();
        }
        self.doubt(if cut { Doubt::Everything } else { doubt });
    }

    /// Somebody touched our routes, or a write has no known end: they are checked soon, and the oftener this happens the
    /// later.
    fn suspect(&mut self) {
        self.check_at
            .get_or_insert_with(|| Instant::now() + RETRY * (1 << self.alarms));
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
                    self.shared
                        .outbound()
                        .contest_only(self.in_place_of_ours(&snapshot.routes));
                    let ours = snapshot
                        .routes
                        .iter()
                        .filter(|r| self.shared.is_ours(r))
                        .cloned()
                        .collect::<Vec<_>>();
                    self.shared.inbound().resync(snapshot, &mut events);
                    events.push(KernelEvent::Synced);
                    self.shared.counters.resyncs.fetch_add(1, Relaxed);
                    ours
                })
            }
            _ => self.dump_ways().await.map(|(objects, routes)| {
                self.shared.outbound().contest_only(self.in_place_of_ours(&routes));
                let (ours, others) = routes.into_iter().partition(|r| self.shared.is_ours(r));
                self.shared.inbound().resync_routes(objects, others, &mut events);
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

    /// Routes, and the objects that they name.
    async fn dump_ways(&mut self) -> Result<(Vec<(u32, Object)>, Vec<ObservedRoute>), Error> {
        Ok((self.dump.dump_objects().await?, self.dump.dump_routes(None).await?))
    }

    /// Compares our routes in the kernel with what it should have.
    async fn check(&mut self) {
        self.shared.outbound().begin_audit();
        let ours = self.dump.dump_routes(Some(self.shared.config.protocol)).await;
        self.compare(ours);
        self.alarms = (self.alarms + 1).min(ALARMS);
        self.check_at = None;
    }

    /// Compares everything that the kernel has with what we have and with what it should have of ours. A dump that was
    /// overtaken by notifications proves nothing.
    async fn audit(&mut self) -> Result<(), Stop> {
        let began = Instant::now();
        if self.check_at.is_none() {
            self.alarms = 0;
        }
        let mut events = Vec::new();
        for _ in 0..AUDIT_TRIES {
            self.take_all(&mut events)?;
            self.shared.outbound().begin_audit();
            let dumped = self.dump.dump_everything().await;
            let overtaken = self.take_all(&mut events)?;
            let ours = dumped.map(|snapshot| {
                let ours = snapshot.routes.iter().filter(|r| self.is_ours(r)).cloned().collect();
                if !overtaken && self.doubt == Doubt::None {
                    self.reconcile(snapshot, &mut events);
                }
                ours
            });
            self.compare(ours);
            if !overtaken || self.doubt != Doubt::None {
                break; // where there is doubt, the resync that is due finds out
            }
        }
        self.shared.counters.audits.fetch_add(1, Relaxed);
        let now = Instant::now();
        let tuning = &self.shared.tuning;
        self.audit_at = now + tuning.audit_interval.max((now - began) * tuning.audit_pause);
        self.tell(events).await
    }

    /// Compares digests, and tells what differs.
    fn reconcile(&mut self, snapshot: Snapshot, events: &mut Vec<KernelEvent>) {
        let digests = self.shared.inbound().digests(&snapshot);
        self.shared.outbound().audited = digests;
        if digests.0 == digests.1 {
            return;
        }
        let before = events.len();
        self.shared.inbound().resync(snapshot, events);
        let drift = events.len() - before;
        self.shared.counters.drift_in.fetch_add(drift as u64, Relaxed);
        tracing::info!(events = drift, "the kernel's state differed from the mirror's; healing");
    }

    fn compare(&self, ours: Result<Vec<ObservedRoute>, Error>) {
        match ours {
            Ok(ours) => {
                let drift = self
                    .shared
                    .outbound()
                    .finish_audit(ours.iter().filter(|r| self.is_ours(r)), Instant::now().into_std());
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

    fn in_place_of_ours<'a>(&self, routes: &'a [ObservedRoute]) -> impl Iterator<Item = &'a ObservedRoute> {
        routes.iter().filter(|r| self.shared.is_in_place_of_ours(r))
    }

    fn is_ours(&self, route: &ObservedRoute) -> bool {
        self.shared.is_ours(route)
    }
}
