//! The task that owns the RIB: takes what peers learn, yields events, answers questions, applies configurations.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use net::{Prefix, RouteChange};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::listener::{Directory, Keys, Listeners, Stranger};
use super::peer::{Message, News, Order, Peer, Shared};
use super::{Event, Feedback};
use crate::policy::{PolicyQuestion, PolicyTest};
use crate::rib::{Delivery, Rib};
use crate::session::State as SessionState;
use crate::wire::{Cease, Notification};
use crate::{Error, Family, PeerConfig, PeerView, RouteView, SpeakerConfig, State};

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
    Routes(Option<Prefix>, oneshot::Sender<Vec<RouteView>>),
    TestPolicy(Box<PolicyQuestion>, oneshot::Sender<Result<PolicyTest, Error>>),
    Covering(IpAddr, oneshot::Sender<Vec<RouteView>>),
    Shutdown(String, oneshot::Sender<()>),
}

/// What woke the core.
enum Turn<'a> {
    Command(Option<Command>),
    OwnerReady(Option<mpsc::Permit<'a, Event>>),
    Messages,
    Stranger(Stranger),
    Feedback(Feedback),
    TaskEnded,
}

struct Handle {
    config: PeerConfig,
    serial: u64,
    /// The owner knows the peer as up.
    up: bool,
    /// Its routes are kept while it restarts.
    kept: bool,
    /// The range that it is a dynamic peer of.
    dynamic: Option<Prefix>,
    /// The log has been warned that the peer announces many prefixes.
    warned: bool,
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
}

pub(super) struct Core {
    config: SpeakerConfig,
    rib: Rib,
    peers: BTreeMap<IpAddr, Handle>,
    tasks: JoinSet<()>,
    next_serial: u64,
    directory: Directory,
    strangers: mpsc::Receiver<Stranger>,
    dynamic_refused: u64,
    listeners: Listeners,
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
        let mut listeners = Listeners::default();
        listeners.set(&config.listen, &keys(&config), &directory)?;
        let mut core = Self {
            rib: Rib::new(config.asn, config.router_id, config.vrf),
            peers: BTreeMap::new(),
            tasks: JoinSet::new(),
            next_serial: 0,
            directory,
            strangers,
            dynamic_refused: 0,
            listeners,
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
                Some(_) = self.tasks.join_next() => Turn::TaskEnded,
            };
            match turn {
                // Whoever asked may have stopped waiting for the answer.
                Turn::Command(Some(Command::Apply(config, reply))) => drop(reply.send(self.apply(*config))),
                Turn::Command(Some(Command::State(reply))) => drop(reply.send(self.state())),
                Turn::Command(Some(Command::Routes(of, reply))) => drop(reply.send(self.rib.view(of.as_ref()))),
                Turn::Command(Some(Command::TestPolicy(question, reply))) => {
                    drop(reply.send(self.test_policy(&question)));
                }
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
                Turn::Feedback(Feedback::NextHops(answers)) => {
                    self.rib.next_hops_are(&answers);
                    self.flush();
                }
                Turn::Feedback(Feedback::Offers(offers)) => {
                    self.rib.offer(offers);
                    self.flush();
                }
                Turn::Feedback(Feedback::Carried(routes)) => {
                    self.routes.1 = routes;
                    self.deliver();
                }
                Turn::TaskEnded => {}
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
            News::Up(epoch, info) => {
                handle.up = true;
                handle.kept = false;
                let mut info = *info;
                // They may have changed since the session's task was started.
                info.import.clone_from(&handle.config.import);
                info.export.clone_from(&handle.config.export);
                let queue = self.rib.peer_up(info);
                *handle.shared.queue.lock().unwrap_or_else(PoisonError::into_inner) = (epoch, queue);
                self.flush();
                self.pending.push_back(Event::PeerUp { peer });
            }
            News::Update(update) => {
                let end_of_rib = update.end_of_rib;
                let excess = self.rib.update(peer, update).err();
                if let Some(max) = handle.config.max_prefixes {
                    let received = self.rib.received(peer);
                    if received >= max.warn && !handle.warned {
                        warn!(%peer, received, limit = max.limit, "peer comes close to its limit of prefixes");
                    }
                    handle.warned = received >= max.warn;
                    if excess.is_some() {
                        warn!(%peer, received, limit = max.limit, "too many prefixes");
                        // A task that has ended needs no order.
                        let _ = handle.orders.send(Order::Reset(Cease::MaxPrefixes, max.restart));
                    }
                }
                if let Some(family) = end_of_rib {
                    self.held.push(Event::EndOfRib { peer, family });
                    self.flush();
                }
            }
            News::Refresh(family) => self.rib.refresh(peer, family),
            News::Down(reason, kept) => {
                handle.up = false;
                handle.kept = !kept.is_empty();
                self.down(peer, reason, &kept);
            }
            News::Alone => self.forget(peer),
            News::StaleExpired => {
                handle.kept = false;
                info!(%peer, "routes that the restarted peer did not tell again are withdrawn");
                self.rib.stale_expired(peer);
                self.forget(peer);
            }
        }
    }

    /// Withdraws what the peer told, but for `kept` families, then says that it is down.
    fn down(&mut self, peer: IpAddr, reason: String, kept: &[Family]) {
        self.held
            .retain(|event| !matches!(event, Event::EndOfRib { peer: ended, .. } if *ended == peer));
        if kept.is_empty() {
            self.rib.peer_down(peer);
        } else {
            self.rib.peer_restarts(peer, kept);
        }
        self.flush();
        let kept = kept.to_vec();
        self.pending.push_back(Event::PeerDown { peer, reason, kept });
    }

    /// Turns what has changed in the RIB into events and wakes the peers that have to be told.
    fn flush(&mut self) {
        let changes = self.rib.take_changes();
        for batch in batches(changes) {
            self.routes.0 += 1;
            self.pending.push_back(Event::Routes(batch));
        }
        let held = self.rib.take_held();
        if !held.is_empty() {
            self.deliveries.push_back((self.routes.0, held));
        }
        self.pending.extend(self.rib.wanted_next_hops().map(Event::NextHops));
        if !self.held.is_empty() && !self.rib.awaits_next_hops() {
            self.pending.extend(self.held.drain(..));
        }
        self.deliver();
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

    fn apply(&mut self, config: SpeakerConfig) -> Result<(), Error> {
        config.check()?;
        self.listeners.set(&config.listen, &keys(&config), &self.directory)?;
        self.reconcile(config);
        Ok(())
    }

    /// Makes peers and prefixes what `config` says, touching only what differs.
    fn reconcile(&mut self, config: SpeakerConfig) {
        let identity = |config: &SpeakerConfig| (config.asn, config.router_id, config.vrf);
        let same_speaker = identity(&self.config) == identity(&config);
        let leaving: Vec<(IpAddr, Cease)> = self
            .peers
            .iter()
            .filter_map(|(address, handle)| match wanted(&config, *address) {
                None => Some((*address, Cease::PeerDeconfigured)),
                Some(peer) if !same_speaker || !peer.0.same_session(&handle.config) || peer.1 != handle.dynamic => {
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
            self.flush();
            let offered = self.rib.offered();
            self.rib = Rib::new(config.asn, config.router_id, config.vrf);
            self.rib.offer(offered);
            self.held.clear();
            self.deliveries.clear();
        }
        self.rib.track_next_hops(config.track_next_hops);
        self.rib.hold(config.advertise_installed);
        self.rib.set_rules(config.rules);
        self.rib.set_originated(&config.originate);
        self.rib.set_redistribution(&config.redistribute);
        self.directory
            .set_ranges(config.dynamic.iter().map(|dynamic| dynamic.range).collect());
        self.config = config;
        for peer in self.config.peers.clone() {
            if !self.peers.contains_key(&peer.address) {
                self.add_peer(peer, None);
            }
        }
        self.flush();
        for (address, handle) in &mut self.peers {
            // Those that differ in more have gone, and come back as they are to be.
            if let Some((peer, _)) = wanted(&self.config, *address).filter(|(peer, _)| *peer != handle.config) {
                info!(peer = %address, "BGP policy changed");
                self.rib.set_policies(*address, &peer.import, &peer.export);
                handle.config = peer;
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
        Ok(question.answer(program, self.config.asn, received))
    }

    /// Adds a peer; the answer takes connections that it made.
    fn add_peer(&mut self, config: PeerConfig, dynamic: Option<Prefix>) -> mpsc::Sender<TcpStream> {
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
        );
        self.tasks.spawn(peer.run(order_queue, accepted));
        self.peers.insert(
            config.address,
            Handle {
                config,
                serial,
                up: false,
                kept: false,
                dynamic,
                warned: false,
                orders,
                shared,
            },
        );
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
            .filter(|handle| handle.dynamic == Some(range))
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
        let connections = self.add_peer(dynamic.peer(address), Some(range));
        // The queue is empty, and its reader has just been started.
        drop(connections.try_send(stream));
    }

    /// Forgets a dynamic peer that has no connection and whose routes are not kept.
    fn forget(&mut self, peer: IpAddr) {
        let leaves = |handle: &Handle| handle.dynamic.is_some() && !handle.up && !handle.kept;
        if self.peers.get(&peer).is_some_and(leaves) {
            self.remove_peer(peer, Cease::PeerDeconfigured);
        }
    }

    fn remove_peer(&mut self, address: IpAddr, cease: Cease) {
        let Some(handle) = self.peers.remove(&address) else {
            return;
        };
        self.directory.remove(address);
        let notification = Notification::cease(cease);
        let reason = format!("sent {notification}");
        info!(peer = %address, %reason, "BGP peer removed");
        // A task that has ended needs no order.
        let _ = handle.orders.send(Order::Stop(notification));
        if handle.up {
            self.down(address, reason, &[]);
        } else {
            // It may be away for a restart.
            self.rib.peer_down(address);
        }
    }

    async fn shutdown(mut self, communication: &str) {
        for (address, handle) in std::mem::take(&mut self.peers) {
            self.directory.remove(address);
            // A task that has ended needs no order.
            let _ = handle.orders.send(Order::Stop(Notification::shutdown(communication)));
        }
        let ended = timeout(SHUTDOWN, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            warn!("peers did not take their last message in time: connections are dropped");
        }
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
        let now = tokio::time::Instant::now().into_std();
        let established = status.state == SessionState::Established;
        let seconds = |at| now.saturating_duration_since(at).as_secs();
        PeerView {
            address: config.address,
            remote_as: config.remote_as,
            router_id: negotiated.map(|negotiated| negotiated.router_id),
            dynamic: handle.dynamic,
            description: config.description.clone(),
            state: status.state.to_string(),
            uptime: status.established_at.filter(|_| established).map(seconds),
            hold_time: negotiated.map_or(config.hold_time, |negotiated| {
                u16::try_from(negotiated.hold_time.as_secs()).unwrap_or(u16::MAX)
            }),
            capabilities: negotiated
                .map(|negotiated| negotiated.capabilities.names())
                .unwrap_or_default(),
            families: self.rib.counters(config.address),
            messages_in: status.statistics.messages_in,
            messages_out: status.statistics.messages_out,
            treated_as_withdraw: status.statistics.treated_as_withdraw,
            attributes_discarded: status.statistics.attributes_discarded,
            flaps: status.statistics.flaps,
            last_error: status.statistics.last_error,
        }
    }
}

/// The passwords that listeners have to know.
fn keys(config: &SpeakerConfig) -> Keys {
    let peers = config.peers.iter().map(|peer| (Prefix::host(peer.address), peer));
    let ranges = config.dynamic.iter().map(|dynamic| (dynamic.range, &dynamic.template));
    peers
        .chain(ranges)
        .filter_map(|(addresses, peer)| Some((addresses, peer.password.clone()?)))
        .collect()
}

/// What a configuration says of the peer at an address, and the range if it is a dynamic one.
fn wanted(config: &SpeakerConfig, address: IpAddr) -> Option<(PeerConfig, Option<Prefix>)> {
    let own = config.peers.iter().find(|peer| peer.address == address);
    let dynamic = || {
        let dynamic = config.dynamic_at(address)?;
        Some((dynamic.peer(address), Some(dynamic.range)))
    };
    own.map(|peer| (peer.clone(), None)).or_else(dynamic)
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
