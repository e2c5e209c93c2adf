//! The task that owns the RIB: takes what peers learn, yields events, answers questions, applies configurations.

mod evpn;
mod hearing;
mod peers;
mod reconcile;
mod telling;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use net::Prefix;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use self::peers::{AbortOnDrop, Handle};
use super::deferral::Deferral;
use super::listener::{Directory, Listeners, Stranger};
use super::peer::{Gate, Message, Order, sleep_until};
use super::unnumbered::Found;
use super::{Event, Feedback};
use crate::bfd::{Bfd, BfdState};
use crate::bmp::{BmpView, Request, Stations};
use crate::evpn::{Evpn, EvpnState};
use crate::mrt::{Snapshot, Table};
use crate::policy::{PolicyQuestion, PolicyTest};
use crate::rib::{Delivery, Rib};
use crate::rpki::{Caches, RpkiState};
use crate::wire::Notification;
use crate::{Error, RestartMode, RouteView, RouteWhy, SpeakerConfig, State};

/// Messages of peers that wait for the core; as many are worked off before changes are looked at.
const INBOX: usize = 64;
/// Longest wait for peers to take their last message.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// Questions and orders of the speaker's owner.
#[derive(Debug)]
pub(super) enum Command {
    Apply(Box<SpeakerConfig>, oneshot::Sender<Result<(), Error>>),
    State(oneshot::Sender<State>),
    Bfd(oneshot::Sender<BfdState>),
    Bmp(oneshot::Sender<Vec<BmpView>>),
    Snapshot(Table, oneshot::Sender<Snapshot>),
    Rpki(oneshot::Sender<RpkiState>),
    Routes(Option<Prefix>, oneshot::Sender<Vec<RouteView>>),
    Evpn(oneshot::Sender<EvpnState>),
    TestPolicy(Box<PolicyQuestion>, oneshot::Sender<Result<PolicyTest, Error>>),
    Refresh(IpAddr, oneshot::Sender<Result<(), Error>>),
    Covering(IpAddr, oneshot::Sender<Vec<RouteView>>),
    Why(Prefix, oneshot::Sender<Option<RouteWhy>>),
    Shutdown(String, oneshot::Sender<()>),
}

/// What woke the core.
enum Turn<'a> {
    Command(Option<Command>),
    OwnerReady(Option<mpsc::Permit<'a, Event>>),
    Messages,
    Stranger(Stranger),
    Found(Found),
    Collector(Request),
    Rpki,
    Feedback(Feedback),
    TaskEnded,
    Deferred,
}

pub(super) struct Core {
    config: SpeakerConfig,
    rib: Rib,
    evpn: Evpn,
    /// Next hops that each of the two wants to know of.
    next_hops: [BTreeSet<IpAddr>; 2],
    peers: BTreeMap<IpAddr, Handle>,
    tasks: JoinSet<()>,
    next_serial: u64,
    directory: Directory,
    strangers: mpsc::Receiver<Stranger>,
    /// The tasks that look for unnumbered peers, by interface.
    discoveries: BTreeMap<String, AbortOnDrop>,
    to_found: mpsc::Sender<Found>,
    found: mpsc::Receiver<Found>,
    dynamic_refused: u64,
    /// What is awaited before anything is announced.
    deferral: Option<Deferral>,
    gate: Gate,
    listeners: Listeners,
    /// While a peer has it.
    bfd: Option<Bfd>,
    collectors: Stations,
    caches: Caches,
    to_core: mpsc::Sender<Message>,
    inbox: mpsc::Receiver<Message>,
    events: mpsc::Sender<Event>,
    feedback: mpsc::UnboundedReceiver<Feedback>,
    /// Batches of routes given to the owner, and those that it has carried out.
    routes: (u64, u64),
    /// What peers are told when so many batches are carried out.
    deliveries: VecDeque<(u64, Vec<Delivery>)>,
    /// Ends of tables whose next hops the owner has not said all of: they are no earlier than the routes.
    held: Vec<Event>,
    /// Events that the owner did not take yet. While there is any, nothing is taken from the peers.
    pending: VecDeque<Event>,
}

impl Core {
    pub(super) fn new(
        config: SpeakerConfig,
        events: mpsc::Sender<Event>,
        feedback: mpsc::UnboundedReceiver<Feedback>,
    ) -> Result<Self, Error> {
        config.check()?;
        let (to_core, inbox) = mpsc::channel(INBOX);
        let (to_stranger, strangers) = mpsc::channel(INBOX);
        let directory = Directory::new(to_stranger);
        let (to_found, found) = mpsc::channel(INBOX);
        let mut listeners = Listeners::default();
        listeners.set(&config, &directory)?;
        let restarting = config.peers.iter();
        let restarting = restarting.filter(|peer| peer.graceful_restart == RestartMode::Full);
        let awaited = restarting.map(|peer| peer.address);
        let deferral = Deferral::new(awaited, config.selection_deferral, now());
        let mut core = Self {
            gate: Gate::new(deferral.is_none().into()),
            deferral,
            rib: Rib::new(config.asn, config.router_id, config.vrf),
            evpn: Evpn::new(config.asn, config.router_id),
            next_hops: Default::default(),
            peers: BTreeMap::new(),
            tasks: JoinSet::new(),
            next_serial: 0,
            directory,
            strangers,
            discoveries: BTreeMap::new(),
            to_found,
            found,
            dynamic_refused: 0,
            listeners,
            bfd: None,
            collectors: Stations::new(),
            caches: Caches::new(),
            to_core,
            inbox,
            events,
            feedback,
            routes: (0, 0),
            deliveries: VecDeque::new(),
            held: Vec::new(),
            pending: VecDeque::new(),
            config: SpeakerConfig {
                peers: Vec::new(),
                ..config.clone()
            },
        };
        core.listen_for_bfd(&config)?;
        core.reconcile(config);
        Ok(core)
    }

    /// Runs until the speaker is shut down or dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut messages = Vec::with_capacity(INBOX);
        let events = self.events.clone();
        loop {
            let turn = tokio::select! {
                biased;
                command = commands.recv() => Turn::Command(command),
                permit = events.reserve(), if !self.pending.is_empty() => Turn::OwnerReady(permit.ok()),
                Some(feedback) = self.feedback.recv() => Turn::Feedback(feedback),
                _ = self.inbox.recv_many(&mut messages, INBOX), if self.pending.is_empty() => Turn::Messages,
                Some(stranger) = self.strangers.recv() => Turn::Stranger(stranger),
                Some(found) = self.found.recv() => Turn::Found(found),
                request = self.collectors.request() => Turn::Collector(request),
                () = self.caches.changed() => Turn::Rpki,
                Some(_) = self.tasks.join_next() => Turn::TaskEnded,
                () = sleep_until(self.deferral.as_ref().map(Deferral::deadline)) => Turn::Deferred,
            };
            match turn {
                // Whoever asked may have stopped waiting for the answer.
                Turn::Command(Some(Command::Apply(config, reply))) => drop(reply.send(self.apply(*config))),
                Turn::Command(Some(Command::State(reply))) => drop(reply.send(self.state())),
                Turn::Command(Some(Command::Bfd(reply))) => {
                    if let Some(bfd) = &self.bfd {
                        bfd.view(reply);
                    }
                }
                Turn::Command(Some(Command::Bmp(reply))) => drop(reply.send(self.collectors.view())),
                Turn::Command(Some(Command::Snapshot(table, reply))) => drop(reply.send(self.rib.snapshot(table))),
                Turn::Command(Some(Command::Rpki(reply))) => drop(reply.send(self.caches.view())),
                Turn::Command(Some(Command::Routes(of, reply))) => drop(reply.send(self.rib.view(of.as_ref()))),
                Turn::Command(Some(Command::Evpn(reply))) => drop(reply.send(self.evpn.view())),
                Turn::Command(Some(Command::TestPolicy(question, reply))) => {
                    drop(reply.send(self.test_policy(&question)));
                }
                Turn::Command(Some(Command::Refresh(peer, reply))) => drop(reply.send(self.refresh(peer))),
                Turn::Command(Some(Command::Covering(address, reply))) => drop(reply.send(self.rib.covering(address))),
                Turn::Command(Some(Command::Why(prefix, reply))) => drop(reply.send(self.rib.why(&prefix))),
                Turn::Command(Some(Command::Shutdown(communication, done))) => {
                    self.shutdown(&communication).await;
                    drop(done);
                    return;
                }
                Turn::Command(None) => return self.shutdown("").await,
                Turn::OwnerReady(Some(permit)) => {
                    if let Some(event) = self.pending.pop_front() {
                        permit.send(event);
                    }
                }
                // Nobody reads any more; sessions go on until the speaker is dropped.
                Turn::OwnerReady(None) => self.pending.clear(),
                Turn::Messages => {
                    messages.drain(..).for_each(|message| self.message(message));
                    self.flush();
                }
                Turn::Stranger(stranger) => self.stranger(stranger),
                Turn::Found(found) => self.found(&found),
                Turn::Collector(request) => self.collector(request),
                Turn::Rpki => self.validate(),
                Turn::Feedback(Feedback::NextHops(answers)) => {
                    self.rib.next_hops_are(&answers);
                    self.evpn.next_hops_are(&answers);
                    self.flush();
                }
                Turn::Feedback(Feedback::Offers(offers)) => {
                    self.rib.offer(offers);
                    self.flush();
                }
                Turn::Feedback(Feedback::VrfOffers(offers)) => {
                    self.evpn.offer(offers);
                    self.flush();
                }
                Turn::Feedback(Feedback::Carried(routes)) => {
                    self.routes.1 = routes;
                    self.deliver();
                }
                Turn::TaskEnded => {}
                Turn::Deferred => self.end_deferral(),
            }
        }
    }

    async fn shutdown(mut self, communication: &str) {
        for (address, handle) in std::mem::take(&mut self.peers) {
            self.directory.remove(address);
            // A task that has ended needs no order.
            let _ = handle.orders.send(Order::Stop(Notification::shutdown(communication)));
        }
        let ended = timeout(SHUTDOWN, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.collectors.stop().await;
        self.caches.stop().await;
        if let Some(bfd) = self.bfd.take() {
            bfd.stop().await;
        }
        if ended.is_err() {
            warn!("peers did not take their last message in time: connections are dropped");
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
