//! The task that owns the RIB: takes what peers learn, yields events, answers questions, applies configurations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use net::{Prefix, RouteChange};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::deferral::Deferral;
use super::listener::{Directory, Listeners, Stranger};
use super::peer::{Gate, Message, News, Order, Peer, Shared, sleep_until};
use super::unnumbered::{self, Found};
use super::{Event, Feedback};
use crate::bfd::{Bfd, BfdState, Wanted};
use crate::bmp::{self, BmpView, Counts, Ended, Identity, Request, Stations, Watched};
use crate::evpn::{Evpn, EvpnState};
use crate::mrt::{Snapshot, Table};
use crate::policy::{PolicyQuestion, PolicyTest};
use crate::rib::{Delivery, Rib};
use crate::rpki::{Caches, RpkiState};
use crate::session::{Ending, State as SessionState};
use crate::wire::{Cease, Context, Notification};
use crate::{
    Error, Family, FamilyCounters, NotificationView, PeerConfig, PeerView, RestartMode, Role, RouteView, SpeakerConfig,
    State,
};

/// Messages of peers that wait for the core; as many are worked off before changes are looked at.
const INBOX: usize = 64;
/// Most prefixes of one batch of changes.
const BATCH: usize = 4096;
/// Accepted connections that wait for a peer's task.
const ACCEPTED: usize = 4;
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

/// What makes somebody a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// Its address is configured.
    Address,
    /// It has connected from a range of dynamic peers.
    Range(Prefix),
    /// It has advertised itself on the interface of an unnumbered peer.
    Interface(String),
}

struct Handle {
    config: PeerConfig,
    serial: u64,
    /// The owner knows the peer as up.
    up: bool,
    /// Its routes are kept while it restarts.
    kept: bool,
    /// How it came to be a peer.
    origin: Origin,
    /// The log has been warned that the peer announces many prefixes.
    warned: bool,
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
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

    fn message(&mut self, Message { peer, serial, news }: Message) {
        if matches!(news, News::Up(..)) {
            // What a peer begins with is up to date.
            self.flush();
        }
        let Some(handle) = self.peers.get_mut(&peer).filter(|handle| handle.serial == serial) else {
            return;
        };
        match news {
            News::Up(epoch, info, opened, ending) => {
                handle.up = true;
                let kept = std::mem::take(&mut handle.kept);
                let mut info = *info;
                let watched = Watched {
                    identity: Identity {
                        address: peer,
                        asn: info.asn,
                        router_id: info.router_id,
                    },
                    opened: *opened,
                    context: Context {
                        four_octet_as: true,
                        ..info.context.clone()
                    },
                    since: bmp::now(),
                };
                // They may have changed since the session's task was started.
                info.import.clone_from(&handle.config.import);
                info.export.clone_from(&handle.config.export);
                let queue = self.rib.peer_up(info.clone());
                self.evpn.peer_up(&Arc::new(info), &queue);
                *handle.shared.queue.lock().unwrap_or_else(PoisonError::into_inner) = (epoch, queue);
                self.flush();
                self.collectors.peer_up(watched);
                if kept && self.collectors.are_listening() {
                    self.collectors.routes(self.rib.every_learned(Some(peer)));
                }
                self.pending.push_back(Event::PeerUp { peer });
                if let Some(deferral) = &mut self.deferral {
                    deferral.up(peer, &ending);
                    self.end_deferral();
                }
            }
            News::Update(mut update) => {
                let end_of_rib = update.end_of_rib;
                self.evpn.update(peer, std::mem::take(&mut update.evpn));
                if end_of_rib == Some(Family::L2vpnEvpn) {
                    self.evpn.sweep(peer);
                }
                let excess = self.rib.update(peer, update).is_err();
                if let Some(max) = handle.config.max_prefixes {
                    let received = self.rib.received(peer).saturating_add(self.evpn.received(peer));
                    let excess = excess || received > max.limit;
                    if received >= max.warn && !handle.warned {
                        warn!(%peer, received, limit = max.limit, "peer comes close to its limit of prefixes");
                    }
                    handle.warned = received >= max.warn;
                    if excess {
                        warn!(%peer, received, limit = max.limit, "too many prefixes");
                        // A task that has ended needs no order.
                        let _ = handle.orders.send(Order::Reset(Cease::MaxPrefixes, max.restart));
                    }
                }
                if let Some(family) = end_of_rib {
                    self.held.push(Event::EndOfRib { peer, family });
                    self.flush();
                    if family != Family::L2vpnEvpn {
                        self.collectors.end_of_rib(peer, family);
                    }
                    if let Some(deferral) = &mut self.deferral {
                        deferral.end_of_rib(peer, family);
                        self.end_deferral();
                    }
                }
            }
            News::Refresh(Family::L2vpnEvpn) => self.evpn.refresh(peer),
            News::RefreshBegins(Family::L2vpnEvpn) => self.evpn.refresh_begins(peer),
            News::RefreshEnds(Family::L2vpnEvpn) => self.evpn.refresh_ends(peer),
            News::Refresh(family) => self.rib.refresh(peer, family),
            News::RefreshBegins(family) => self.rib.refresh_begins(peer, family),
            News::RefreshEnds(family) => self.rib.refresh_ends(peer, family),
            News::Down(reason, kept, ended) => {
                handle.up = false;
                handle.kept = !kept.is_empty();
                self.down(peer, reason, &kept, ended);
            }
            News::Alone => self.forget(peer),
            News::LongLived(families) => {
                info!(%peer, ?families, "routes of the peer, which is still away, are a last resort from here on");
                self.rib.long_lived(peer, &families);
                if families.contains(&Family::L2vpnEvpn) {
                    self.evpn.long_lived(peer);
                }
            }
            News::StaleExpired(families) => {
                info!(%peer, ?families, "routes that the restarted peer did not tell again are withdrawn");
                self.rib.stale_expired(peer, &families);
                if families.contains(&Family::L2vpnEvpn) {
                    self.evpn.sweep(peer);
                }
                handle.kept = self.rib.is_known(peer) || self.evpn.is_known(peer);
                self.forget(peer);
            }
        }
    }

    /// Lets the peers be told what they are to know, if the wait for tables is over.
    fn end_deferral(&mut self) {
        if self.deferral.as_ref().is_some_and(|deferral| deferral.is_over(now())) {
            if let Some(deferral) = self.deferral.take() {
                let late: Vec<_> = deferral.awaited().map(|peer| peer.to_string()).collect();
                if late.is_empty() {
                    info!("every awaited BGP peer has told its table: routes are announced");
                } else {
                    warn!(
                        peers = late.join(", "),
                        "BGP peers have not told their tables in time: routes are announced"
                    );
                }
            }
            self.gate.store(true, Ordering::Release);
            self.flush();
        }
    }

    /// Asks a peer for everything again.
    fn refresh(&self, peer: IpAddr) -> Result<(), Error> {
        let handle = self.peers.get(&peer).ok_or(Error::UnknownPeer(peer))?;
        let status = handle.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        let negotiated = status.negotiated.as_ref();
        if !negotiated.is_some_and(|negotiated| negotiated.capabilities.route_refresh) {
            return Err(Error::NoRefresh(peer));
        }
        drop(status);
        // A task that has ended needs no order.
        let _ = handle.orders.send(Order::Refresh);
        Ok(())
    }

    /// Withdraws what the peer told, but for `kept` families, then says that it is down.
    fn down(&mut self, peer: IpAddr, reason: String, kept: &[Family], ended: Ended) {
        self.held
            .retain(|event| !matches!(event, Event::EndOfRib { peer: told, .. } if *told == peer));
        if kept.is_empty() {
            self.rib.peer_down(peer);
        } else {
            self.rib.peer_restarts(peer, kept);
        }
        if kept.contains(&Family::L2vpnEvpn) {
            self.evpn.peer_restarts(peer);
        } else {
            self.evpn.peer_down(peer);
        }
        self.flush();
        self.collectors.peer_down(peer, ended);
        let kept = kept.to_vec();
        self.pending.push_back(Event::PeerDown { peer, reason, kept });
    }

    /// Turns what has changed in the RIB into events and wakes the peers that have to be told.
    fn flush(&mut self) {
        if self.collectors.are_listening() {
            self.collectors.routes(self.rib.take_learned());
        } else {
            self.rib.watch(false);
        }
        let mut changes = self.rib.take_changes();
        changes.extend(self.evpn.take_changes());
        for batch in batches(changes) {
            self.routes.0 += 1;
            self.pending.push_back(Event::Routes(batch));
        }
        let held = self.rib.take_held();
        if !held.is_empty() {
            self.deliveries.push_back((self.routes.0, held));
        }
        self.ask_next_hops();
        if !self.held.is_empty() && !self.rib.awaits_next_hops() && !self.evpn.awaits_next_hops() {
            self.pending.extend(self.held.drain(..));
        }
        self.deliver();
    }

    /// Asks the owner for next hops, if they are others than the last time.
    fn ask_next_hops(&mut self) {
        let wanted = [self.rib.wanted_next_hops(), self.evpn.wanted_next_hops()];
        if wanted.iter().all(Option::is_none) {
            return;
        }
        for (known, wanted) in self.next_hops.iter_mut().zip(wanted) {
            *known = wanted.unwrap_or_else(|| std::mem::take(known));
        }
        let [unicast, evpn] = &self.next_hops;
        self.pending.push_back(Event::NextHops(unicast | evpn));
    }

    /// Gives peers what they may be told, and wakes those that have to be.
    fn deliver(&mut self) {
        let all = !self.config.advertise_installed;
        while let Some((_, deliveries)) = self
            .deliveries
            .pop_front_if(|(after, _)| all || *after <= self.routes.1)
        {
            deliveries.into_iter().for_each(Delivery::deliver);
        }
        for handle in self.peers.values().filter(|handle| handle.up) {
            if !handle
                .shared
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .1
                .is_empty()
            {
                handle.shared.wake.notify_one();
            }
        }
    }

    /// What the RPKI says has changed, or who says it.
    fn validate(&mut self) {
        self.rib.set_vrps(self.caches.vrps());
        self.flush();
    }

    /// A collector's task asks something.
    fn collector(&mut self, request: Request) {
        match request {
            Request::Join(collector, reply) => {
                // What is known of before is in what it is told first.
                self.flush();
                self.rib.watch(true);
                self.collectors.join(collector, self.rib.every_learned(None), reply);
            }
            Request::Statistics(collector) => {
                let counts = |peer: IpAddr| Counts {
                    treated_as_withdraw: self.peers.get(&peer).map_or(0, Handle::treated_as_withdraw),
                    received: self
                        .rib
                        .counters(peer)
                        .iter()
                        .map(|counters| (counters.family, u64::from(counters.received)))
                        .collect(),
                };
                self.collectors.statistics(collector, counts);
            }
        }
    }

    fn apply(&mut self, config: SpeakerConfig) -> Result<(), Error> {
        config.check()?;
        self.listeners.set(&config, &self.directory)?;
        self.listen_for_bfd(&config)?;
        self.reconcile(config);
        Ok(())
    }

    /// Makes ready for the BFD sessions that `config` wants.
    fn listen_for_bfd(&mut self, config: &SpeakerConfig) -> Result<(), Error> {
        let peers = config.peers.iter().map(|peer| (peer.address.is_ipv6(), peer));
        let ranges = config
            .dynamic
            .iter()
            .map(|range| (!range.range.is_v4(), &range.template));
        for (v6, _) in peers.chain(ranges).filter(|(_, peer)| peer.bfd.is_some()) {
            if self.bfd.is_none() {
                self.bfd = Some(Bfd::start()?);
            }
            if let Some(bfd) = &mut self.bfd {
                bfd.listen(v6)?;
            }
        }
        Ok(())
    }

    /// Makes peers and prefixes what `config` says, touching only what differs.
    fn reconcile(&mut self, config: SpeakerConfig) {
        let identity = |config: &SpeakerConfig| (config.asn, config.router_id, config.vrf);
        let same_speaker = identity(&self.config) == identity(&config);
        let leaving: Vec<(IpAddr, Cease)> = self
            .peers
            .iter()
            .filter_map(|(address, handle)| match wanted(&config, handle) {
                None => Some((*address, Cease::PeerDeconfigured)),
                Some(peer) if !same_speaker || !peer.0.same_session(&handle.config) || peer.1 != handle.origin => {
                    Some((*address, Cease::ConfigurationChange))
                }
                Some(_) => None,
            })
            .collect();
        for (address, cease) in leaving {
            self.remove_peer(address, cease);
        }
        if !same_speaker {
            self.rib.set_originated(&[]);
            self.evpn.set_vrfs(&[]);
            self.flush();
            let offered = self.rib.offered();
            let of_vrfs = self.evpn.offered();
            self.rib = Rib::new(config.asn, config.router_id, config.vrf);
            self.evpn = Evpn::new(config.asn, config.router_id);
            self.evpn.offer(of_vrfs);
            self.next_hops = Default::default();
            self.rib.watch(self.collectors.are_listening());
            self.rib.offer(offered);
            self.held.clear();
            self.deliveries.clear();
        }
        self.collectors.set(&config.bmp, &config.name);
        self.caches.set(&config.rpki);
        self.rib.set_vrps(self.caches.vrps());
        self.rib.track_next_hops(config.track_next_hops);
        self.evpn.track_next_hops(config.track_next_hops);
        self.evpn.set_rules(config.rules);
        self.evpn.set_vrfs(&config.evpn);
        self.rib.hold(config.advertise_installed);
        self.rib.set_rules(config.rules);
        self.rib.set_originated(&config.originate);
        self.rib.set_redistribution(&config.redistribute);
        self.directory
            .set_ranges(config.dynamic.iter().map(|dynamic| dynamic.range).collect());
        let looked_for = |interface: &String| config.unnumbered.iter().any(|peer| peer.interface == *interface);
        self.discoveries.retain(|interface, _| looked_for(interface));
        for unnumbered in &config.unnumbered {
            let interface = unnumbered.interface.clone();
            let to_found = self.to_found.clone();
            self.discoveries.entry(interface.clone()).or_insert_with(|| {
                let task = tokio::spawn(unnumbered::discover(interface, to_found));
                AbortOnDrop(task.abort_handle())
            });
        }
        self.config = config;
        for peer in self.config.peers.clone() {
            if !self.peers.contains_key(&peer.address) {
                self.add_peer(peer, Origin::Address);
            }
        }
        self.flush();
        for (address, handle) in &mut self.peers {
            // Those that differ in more have gone, and come back as they are to be.
            if let Some((peer, _)) = wanted(&self.config, handle).filter(|(peer, _)| *peer != handle.config) {
                info!(peer = %address, "BGP policy changed");
                self.rib.set_policies(*address, &peer.import, &peer.export);
                self.evpn.set_policies(*address, &peer.import, &peer.export);
                let bfd_changed = handle.config.bfd != peer.bfd;
                handle.config = peer;
                if let Some(bfd) = self.bfd.as_ref().filter(|_| bfd_changed) {
                    watch(bfd, handle);
                }
            }
        }
        self.flush();
    }

    fn test_policy(&self, question: &PolicyQuestion) -> Result<PolicyTest, Error> {
        let Some(program) = self.config.policies.get(&question.policy) else {
            let known: Vec<&str> = self.config.policies.names().collect();
            return Err(Error::UnknownPolicy {
                name: question.policy.clone(),
                known: if known.is_empty() {
                    "none is configured".to_owned()
                } else {
                    format!("the policies are {}", known.join(", "))
                },
            });
        };
        let received = match question.received_from {
            None => None,
            Some(peer) => Some(
                self.rib
                    .received_route(peer, &question.prefix)
                    .ok_or(Error::NotReceived {
                        peer,
                        prefix: question.prefix,
                    })?,
            ),
        };
        Ok(question.answer(program, self.config.asn, received, self.rib.vrps()))
    }

    /// Adds a peer; the answer takes connections that it made.
    fn add_peer(&mut self, config: PeerConfig, origin: Origin) -> mpsc::Sender<TcpStream> {
        let serial = self.next_serial;
        self.next_serial += 1;
        let shared = Arc::new(Shared::default());
        let (orders, order_queue) = mpsc::unbounded_channel();
        let (connections, accepted) = mpsc::channel::<TcpStream>(ACCEPTED);
        self.directory.insert(config.address, connections.clone());
        let peer = Peer::new(
            &self.config,
            config.clone(),
            serial,
            Arc::clone(&shared),
            self.to_core.clone(),
            Arc::clone(&self.gate),
        );
        self.tasks.spawn(peer.run(order_queue, accepted));
        let handle = Handle {
            config,
            serial,
            up: false,
            kept: false,
            origin,
            warned: false,
            orders,
            shared,
        };
        if let Some(bfd) = self.bfd.as_ref().filter(|_| handle.config.bfd.is_some()) {
            watch(bfd, &handle);
        }
        self.peers.insert(handle.config.address, handle);
        connections
    }

    /// Someone in a range of dynamic peers has connected.
    fn stranger(&mut self, (address, stream): Stranger) {
        if let Some(handle) = self.peers.get(&address) {
            // Its first connection was still on the way here: the peer has been added since.
            debug!(peer = %handle.config.address, "second connection of a dynamic peer: closed");
            return;
        }
        let Some(dynamic) = self.config.dynamic_at(address) else {
            return;
        };
        let (range, limit) = (dynamic.range, dynamic.limit as usize);
        let present = self
            .peers
            .values()
            .filter(|handle| handle.origin == Origin::Range(range))
            .count();
        if present >= limit {
            self.dynamic_refused += 1;
            debug!(peer = %address, %range, limit, "range of dynamic peers is full: connection closed");
            return;
        }
        if present + 1 == limit {
            warn!(%range, limit, "range of dynamic peers is full: further ones are refused");
        }
        info!(peer = %address, %range, "dynamic BGP peer");
        let connections = self.add_peer(dynamic.peer(address), Origin::Range(range));
        // The queue is empty, and its reader has just been started.
        drop(connections.try_send(stream));
    }

    /// A router has advertised itself on the interface of an unnumbered peer. It takes the place of another there that
    /// has no session.
    fn found(&mut self, found: &Found) {
        let interface = &found.interface;
        let unnumbered = self.config.unnumbered.iter().find(|peer| peer.interface == *interface);
        let Some(peer) = unnumbered.map(|peer| peer.peer(found.address, found.index)) else {
            return;
        };
        let here = Origin::Interface(interface.clone());
        let address = peer.address;
        let known = self.peers.get(&address);
        if let Some(known) = known.filter(|known| known.origin != here) {
            debug!(peer = %address, interface, known = ?known.origin, "BGP peer of the same address elsewhere: ignored");
            return;
        }
        if known.is_some_and(|known| known.config.interface == Some(found.index)) {
            return;
        }
        let before: Vec<_> = self.peers.iter().filter(|(_, handle)| handle.origin == here).collect();
        if before.iter().any(|(_, handle)| handle.up || handle.kept) && known.is_none() {
            debug!(peer = %address, interface, "second router on the interface of an unnumbered BGP peer: ignored");
            return;
        }
        let before: Vec<_> = before.into_iter().map(|(address, _)| *address).collect();
        for gone in before {
            self.remove_peer(gone, Cease::PeerDeconfigured);
        }
        info!(peer = %address, interface, "unnumbered BGP peer");
        self.add_peer(peer, here);
        self.flush();
    }

    /// Forgets a dynamic peer that has no connection and whose routes are not kept.
    fn forget(&mut self, peer: IpAddr) {
        let leaves = |handle: &Handle| matches!(handle.origin, Origin::Range(_)) && !handle.up && !handle.kept;
        if self.peers.get(&peer).is_some_and(leaves) {
            self.remove_peer(peer, Cease::PeerDeconfigured);
        }
    }

    fn remove_peer(&mut self, address: IpAddr, cease: Cease) {
        let Some(handle) = self.peers.remove(&address) else {
            return;
        };
        self.directory.remove(address);
        if let Some(deferral) = &mut self.deferral {
            deferral.forget(address);
            self.end_deferral();
        }
        if let Some(bfd) = &self.bfd {
            bfd.remove(address);
        }
        let notification = Notification::cease(cease);
        let reason = format!("sent {notification}");
        info!(peer = %address, %reason, "BGP peer removed");
        // A task that has ended needs no order.
        let _ = handle.orders.send(Order::Stop(notification));
        if handle.up {
            self.down(address, reason, &[], Ended::Deconfigured);
        } else {
            // It may be away for a restart.
            self.rib.peer_down(address);
            self.evpn.peer_down(address);
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

    /// Route counts of a peer, one entry a family.
    fn counters(&self, peer: IpAddr) -> Vec<FamilyCounters> {
        let mut counters = self.rib.counters(peer);
        let evpn = self.evpn.counters(peer);
        for counters in &mut counters {
            if let Some(evpn) = evpn.as_ref().filter(|evpn| evpn.family == counters.family) {
                counters.clone_from(evpn);
            }
        }
        counters
    }

    fn state(&self) -> State {
        let (prefixes, paths, attribute_sets) = self.rib.sizes();
        State {
            local_as: self.config.asn,
            router_id: self.config.router_id,
            prefixes,
            paths,
            attribute_sets,
            update_groups: self.rib.groups().count(),
            dynamic_refused: self.dynamic_refused,
            unknown_refused: self.directory.refused(),
            awaited: self.deferral.iter().flat_map(Deferral::awaited).collect(),
            peers: self.peers.values().map(|handle| self.peer_view(handle)).collect(),
        }
    }

    fn peer_view(&self, handle: &Handle) -> PeerView {
        let status = handle
            .shared
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let config = &handle.config;
        let negotiated = status.negotiated.as_ref();
        let now = now();
        let established = status.state == SessionState::Established;
        let seconds = |at| now.saturating_duration_since(at).as_secs();
        PeerView {
            address: config.address,
            remote_as: config
                .remote_as
                .number()
                .or(negotiated.map(|negotiated| negotiated.asn)),
            unnumbered: match &handle.origin {
                Origin::Interface(interface) => Some(interface.clone()),
                Origin::Address | Origin::Range(_) => None,
            },
            router_id: negotiated.map(|negotiated| negotiated.router_id),
            dynamic: match handle.origin {
                Origin::Range(range) => Some(range),
                Origin::Address | Origin::Interface(_) => None,
            },
            description: config.description.clone(),
            state: status.state.to_string(),
            uptime: status.established_at.filter(|_| established).map(seconds),
            hold_time: negotiated.map_or(config.hold_time, |negotiated| {
                u16::try_from(negotiated.hold_time.as_secs()).unwrap_or(u16::MAX)
            }),
            role: config.role,
            remote_role: negotiated.and_then(|negotiated| match negotiated.capabilities.roles[..] {
                [role] => Role::from_value(role),
                _ => None,
            }),
            capabilities: negotiated
                .map(|negotiated| negotiated.capabilities.names())
                .unwrap_or_default(),
            families: self.counters(config.address),
            messages_in: status.statistics.messages_in,
            messages_out: status.statistics.messages_out,
            messages_received: status.statistics.received,
            messages_sent: status.statistics.sent,
            last_notification: status
                .statistics
                .last_notification
                .as_ref()
                .and_then(|(ending, at)| notification_view(ending, seconds(*at))),
            treated_as_withdraw: status.statistics.treated_as_withdraw,
            attributes_discarded: status.statistics.attributes_discarded,
            refreshes_in: status.statistics.refreshes_in,
            refreshes_out: status.statistics.refreshes_out,
            flaps: status.statistics.flaps,
            last_error: status.statistics.last_error,
            bfd: None,
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn notification_view(ending: &Ending, seconds_ago: u64) -> Option<NotificationView> {
    let (sent, notification) = match ending {
        Ending::Sent(notification) => (true, notification),
        Ending::Received(notification) => (false, notification),
        Ending::Closed => return None,
    };
    Some(NotificationView {
        sent,
        seconds_ago,
        code: notification.code,
        subcode: notification.subcode,
        meaning: notification.to_string(),
        data: notification.data.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

impl Handle {
    fn treated_as_withdraw(&self) -> u64 {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.statistics.treated_as_withdraw
    }
}

/// Has BFD watch a peer as its configuration says, or watch it no more.
fn watch(bfd: &Bfd, handle: &Handle) {
    let config = &handle.config;
    let Some(intervals) = config.bfd else {
        return bfd.remove(config.address);
    };
    let orders = handle.orders.clone();
    bfd.set(Wanted {
        neighbor: config.address,
        interface: config.interface,
        local: config.local_address,
        config: intervals,
        failed: Box::new(move |_| {
            // A task that has ended needs no order.
            let _ = orders.send(Order::Reset(Cease::BfdDown, None));
        }),
    });
}

/// What a configuration says of somebody who is a peer, and what makes it one.
fn wanted(config: &SpeakerConfig, handle: &Handle) -> Option<(PeerConfig, Origin)> {
    let address = handle.config.address;
    if let Some(own) = config.peers.iter().find(|peer| peer.address == address) {
        return Some((own.clone(), Origin::Address));
    }
    if let (Origin::Interface(interface), IpAddr::V6(v6)) = (&handle.origin, address) {
        let here = config.unnumbered.iter().find(|peer| peer.interface == *interface)?;
        return Some((here.peer(v6, handle.config.interface?), handle.origin.clone()));
    }
    let dynamic = config.dynamic_at(address)?;
    Some((dynamic.peer(address), Origin::Range(dynamic.range)))
}

/// Ends a task when dropped.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Cuts changes into batches of bounded size; the changes of one prefix stay together.
fn batches(changes: Vec<RouteChange>) -> Vec<Vec<RouteChange>> {
    let mut batches: Vec<Vec<RouteChange>> = Vec::new();
    for change in changes {
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH || batch.last().is_some_and(|last| last.prefix == change.prefix) => {
                batch.push(change);
            }
            _ => batches.push(vec![change]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use net::{Source, VrfId};

    use super::*;

    #[test]
    fn batches_are_bounded_and_keep_a_prefix_together() {
        let prefix = |i: u32| Prefix::host(IpAddr::V4(Ipv4Addr::from(i)));
        let change = |i, source| RouteChange {
            vrf: VrfId::DEFAULT,
            prefix: prefix(i),
            source,
            route: None,
        };
        let count = u32::try_from(BATCH).expect("small");
        let mut changes: Vec<_> = (0..count).map(|i| change(i, Source::Ebgp)).collect();
        changes.push(change(count - 1, Source::Ibgp));
        changes.push(change(count, Source::Ebgp));
        let batches = batches(changes);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [BATCH + 1, 1]);
    }
}
