//! A BGP session without sockets and without a clock (RFC 4271 section 8).
//!
//! The driver feeds [`Session::handle`] with events and the time, does what [`Session::poll_output`] says until it says
//! nothing more, and sends [`Event::Timeout`] when [`Session::poll_timeout`] is due. The states are those of the RFC:
//! Idle, Connect and Active belong to the session, OpenSent, OpenConfirm and Established to each of its connections, of
//! which there are two for a moment when both speakers connect at once (section 6.8).
//!
//! Where the RFC leaves a choice: failed sessions restart by themselves after a pause that doubles (the IdleHoldTimer of
//! section 8.1.1); a connection from the peer is taken in every state but Established, so a peer that came back is not
//! kept waiting; DelayOpen is not used.
//!
//! Back-pressure: while the driver does not read ([`Event::Pause`]) the hold timer stands still, since the peer cannot
//! be heard, and keepalives still go out.

mod backoff;
mod connection;
mod negotiation;
mod types;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::Backoff;
use bytes::Bytes;
use connection::{Connection, Failure};
use net::Prefix;

use crate::wire::{self, Attributes, Cease, Message, Notification, Open, Outcome, Update, code, fsm};

pub use connection::{ConnectionId, Direction};
pub use negotiation::Negotiated;
pub use types::{Config, Event, Output, State, Statistics};

/// Longest wait for a TCP connection before it is tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One session with one peer.
#[derive(Debug)]
pub struct Session {
    config: Config,
    running: bool,
    /// Idle, Connect or Active: what is done to get a connection.
    initiator: State,
    /// End of the pause, or of the attempt being made.
    retry: Option<Instant>,
    connections: Vec<Connection>,
    paused: bool,
    backoff: Backoff,
    reported: State,
    established_at: Option<Instant>,
    statistics: Statistics,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A stopped session. `seed` feeds the jitter of timers; give different sessions different seeds.
    pub fn new(config: Config, seed: u64) -> Self {
        let backoff = Backoff::new(config.connect_retry, seed);
        Self {
            config,
            running: false,
            initiator: State::Idle,
            retry: None,
            connections: Vec::new(),
            paused: false,
            backoff,
            reported: State::Idle,
            established_at: None,
            statistics: Statistics::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The most advanced state of the session and its connections.
    pub fn state(&self) -> State {
        self.connections
            .iter()
            .map(|connection| connection.state)
            .max()
            .unwrap_or(self.initiator)
    }

    /// Result of the OPEN exchange, while established.
    pub fn negotiated(&self) -> Option<&Arc<Negotiated>> {
        self.established().and_then(|connection| connection.negotiated.as_ref())
    }

    /// When Established was entered, while in it.
    pub const fn established_at(&self) -> Option<Instant> {
        self.established_at
    }

    /// Counts since the session was made.
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Event::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hold = self
            .connections
            .iter()
            .filter(|_| !self.paused)
            .filter_map(|connection| connection.hold);
        let keepalive = self.connections.iter().filter_map(|connection| connection.keepalive);
        hold.chain(keepalive).chain(self.retry).min()
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Start => {
                if !self.running {
                    self.running = true;
                    self.initiate(now);
                    self.note("started");
                }
            }
            Event::Stop(notification) => self.stop(&notification, now),
            Event::Reset(cease) => {
                for id in self.ids() {
                    self.fail(id, Failure::ours(Notification::cease(cease)), now);
                }
            }
            Event::Connected(id, direction) => self.connected(id, direction, now),
            Event::ConnectFailed(reason) => {
                if self.initiator == State::Connect {
                    let reason = format!("cannot connect: {reason}");
                    self.statistics.last_error = Some(reason.clone());
                    self.initiator = State::Idle;
                    self.retry = None;
                    self.pause_unless_connected(State::Idle, now);
                    self.note(&reason);
                }
            }
            Event::Closed(id, reason) => self.fail(id, Failure::tcp(reason), now),
            Event::Received(id, bytes) => self.received(id, &bytes, now),
            Event::Pause => self.paused = true,
            Event::Resume => {
                self.paused = false;
                self.connections
                    .iter_mut()
                    .for_each(|connection| connection.restart_hold(now));
            }
            Event::Announce(attributes, prefixes) => self.announce(&attributes, &prefixes),
            Event::Withdraw(prefixes) => {
                if let Some((id, negotiated)) = self.speaking() {
                    for message in wire::encode_withdrawal(&prefixes, &negotiated.context) {
                        self.send(id, message);
                    }
                }
            }
            Event::EndOfRib(family) => {
                if let Some((id, negotiated)) = self.speaking() {
                    self.send(id, wire::encode_end_of_rib(family, &negotiated.context));
                }
            }
            Event::Timeout => self.timeout(now),
        }
    }

    fn stop(&mut self, notification: &Notification, now: Instant) {
        self.running = false;
        if self.initiator == State::Connect {
            self.outputs.push_back(Output::AbortConnect);
        }
        self.initiator = State::Idle;
        self.retry = None;
        for id in self.ids() {
            self.fail(id, Failure::ours(notification.clone()), now);
        }
        self.note("stopped");
    }

    /// Begins to get a connection.
    fn initiate(&mut self, now: Instant) {
        if self.config.passive {
            self.initiator = State::Active;
            self.retry = None;
        } else {
            self.initiator = State::Connect;
            self.retry = Some(now + CONNECT_TIMEOUT);
            self.outputs.push_back(Output::Connect);
        }
    }

    /// After a failure: pauses in `state`, unless another connection or attempt is under way.
    fn pause_unless_connected(&mut self, state: State, now: Instant) {
        if !self.running || !self.connections.is_empty() || self.initiator == State::Connect {
            return;
        }
        if self.config.passive {
            self.initiate(now);
        } else {
            self.initiator = state;
            self.retry = Some(now + self.backoff.pause());
        }
    }

    fn connected(&mut self, id: ConnectionId, direction: Direction, now: Instant) {
        let refusal = match direction {
            Direction::Outgoing if self.initiator != State::Connect => Some(Cease::ConnectionRejected),
            _ if !self.running => Some(Cease::ConnectionRejected),
            _ if self.established().is_some() => Some(Cease::CollisionResolution),
            _ => None,
        };
        if direction == Direction::Outgoing && self.initiator == State::Connect {
            self.initiator = State::Active;
            self.retry = None;
        }
        if let Some(cease) = refusal {
            self.send(id, Notification::cease(cease).encode());
            self.outputs.push_back(Output::Close(id));
            return;
        }
        if self.initiator != State::Connect {
            self.initiator = State::Active;
            self.retry = None;
        }
        // A second connection in the same direction means that the opener gave up the first.
        let stale: Vec<_> = self
            .connections
            .iter()
            .filter(|c| c.direction == direction)
            .map(|c| c.id)
            .collect();
        self.connections.push(Connection::new(id, direction, now));
        for old in stale {
            self.fail(old, Failure::ours(Notification::cease(Cease::CollisionResolution)), now);
        }
        let open = Open {
            asn: self.config.local_as,
            hold_time: self.config.hold_time,
            router_id: self.config.router_id,
            capabilities: self.config.capabilities.clone(),
        };
        self.send(id, open.encode());
        self.note(match direction {
            Direction::Outgoing => "connected",
            Direction::Incoming => "connection accepted",
        });
    }

    fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        if let Some(connection) = self.connection(id) {
            connection.buffer.extend_from_slice(bytes);
        }
        // Each message may end the connection, so it is looked up anew.
        while let Some(connection) = self.connection(id) {
            let message = match wire::split_message(&mut connection.buffer) {
                Ok(None) => return,
                Ok(Some(bytes)) => wire::decode(bytes),
                Err(notification) => Err(notification),
            };
            match message {
                Ok(message) => {
                    self.statistics.messages_in += 1;
                    self.message(id, message, now);
                }
                Err(notification) => self.fail(id, Failure::ours(notification), now),
            }
        }
    }

    fn message(&mut self, id: ConnectionId, message: Message, now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        match (connection.state, message) {
            (_, Message::Notification(notification)) => {
                self.fail(id, Failure::theirs(format!("peer sent {notification}")), now);
            }
            (State::OpenSent, Message::Open(open)) => self.opened(id, &open, now),
            (State::OpenConfirm, Message::Keepalive) => self.establish(id, now),
            (State::Established, Message::Keepalive) => connection.restart_hold(now),
            (State::Established, Message::Update(update)) => {
                connection.restart_hold(now);
                let context = connection
                    .negotiated
                    .as_ref()
                    .map(|negotiated| update.interpret(&negotiated.context));
                match context {
                    Some(Ok(update)) => self.update(update),
                    Some(Err(notification)) => self.fail(id, Failure::ours(notification), now),
                    None => {}
                }
            }
            (State::Established, Message::RouteRefresh(family)) => {
                connection.restart_hold(now);
                let negotiated = connection.negotiated.as_ref();
                let wanted = family.filter(|f| negotiated.is_some_and(|n| n.capabilities.families.contains(f)));
                self.outputs.extend(wanted.map(Output::Refresh));
            }
            (state, _) => {
                let subcode = match state {
                    State::Established => fsm::ESTABLISHED,
                    State::OpenConfirm => fsm::OPEN_CONFIRM,
                    _ => fsm::OPEN_SENT,
                };
                self.fail(id, Failure::ours(Notification::new(code::FSM, subcode)), now);
            }
        }
    }

    fn opened(&mut self, id: ConnectionId, open: &Open, now: Instant) {
        let negotiated = match negotiation::negotiate(&self.config, open) {
            Ok(negotiated) => Arc::new(negotiated),
            Err(notification) => return self.fail(id, Failure::ours(notification), now),
        };
        if let Some(loser) = self.collision(id, open) {
            self.fail(
                loser,
                Failure::ours(Notification::cease(Cease::CollisionResolution)),
                now,
            );
        }
        let Some(connection) = self.connection(id) else { return };
        connection.negotiated = Some(negotiated);
        connection.state = State::OpenConfirm;
        connection.restart_hold(now);
        self.send(id, wire::encode_keepalive());
        self.arm_keepalive(id, now);
        self.note("OPEN received");
    }

    /// RFC 4271 section 6.8, run when an OPEN arrives on connection `id`: the connection to close, if there are two.
    fn collision(&self, id: ConnectionId, open: &Open) -> Option<ConnectionId> {
        let this = self.connections.iter().find(|connection| connection.id == id)?;
        let other = self
            .connections
            .iter()
            .find(|c| c.id != id && c.state >= State::OpenConfirm)?;
        if other.state == State::Established {
            return Some(id);
        }
        // The speaker with the higher identifier keeps the connection that it opened; the AS decides if they are equal
        // (RFC 6286 section 2.3).
        let local = (self.config.router_id, self.config.local_as);
        let survivor = if local > (open.router_id, open.asn) {
            Direction::Outgoing
        } else {
            Direction::Incoming
        };
        Some(if this.direction == survivor { other.id } else { id })
    }

    fn establish(&mut self, id: ConnectionId, now: Instant) {
        let others: Vec<_> = self.ids().into_iter().filter(|other| *other != id).collect();
        for other in others {
            self.fail(
                other,
                Failure::ours(Notification::cease(Cease::CollisionResolution)),
                now,
            );
        }
        if self.initiator == State::Connect {
            self.outputs.push_back(Output::AbortConnect);
            self.initiator = State::Active;
            self.retry = None;
        }
        let failures = self.backoff.failures();
        self.backoff.set_failures(0);
        let Some(connection) = self.connection(id) else { return };
        connection.state = State::Established;
        connection.failures_before = failures;
        connection.restart_hold(now);
        let negotiated = connection.negotiated.clone();
        self.established_at = Some(now);
        self.outputs
            .extend(negotiated.map(|negotiated| Output::Established(id, negotiated)));
        self.note("KEEPALIVE received");
    }

    fn update(&mut self, update: Update) {
        match update.outcome {
            Outcome::TreatAsWithdraw => self.statistics.treated_as_withdraw += 1,
            Outcome::AttributeDiscard => self.statistics.attributes_discarded += update.faults.len() as u64,
            Outcome::Clean => {}
        }
        self.outputs.push_back(Output::Update(update));
    }

    fn announce(&mut self, attributes: &Attributes, prefixes: &[Prefix]) {
        let Some((id, negotiated)) = self.speaking() else {
            return;
        };
        // What cannot be written is withdrawn, so that the peer does not keep what it had before.
        let messages = match wire::encode_announcement(attributes, prefixes, &negotiated.context) {
            Ok(messages) => messages,
            Err(error) => {
                self.statistics.last_error = Some(error.to_string());
                wire::encode_withdrawal(prefixes, &negotiated.context)
            }
        };
        for message in messages {
            self.send(id, message);
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            if self.initiator == State::Connect {
                self.outputs.push_back(Output::AbortConnect);
            }
            self.initiate(now);
            self.note("connect retry timer expired");
        }
        for id in self.ids() {
            let paused = self.paused;
            let Some(connection) = self.connection(id) else {
                continue;
            };
            if !paused && connection.hold.is_some_and(|at| at <= now) {
                self.fail(id, Failure::ours(Notification::new(code::HOLD_TIMER, 0)), now);
            } else if connection.keepalive.is_some_and(|at| at <= now) {
                self.send(id, wire::encode_keepalive());
                self.arm_keepalive(id, now);
            }
        }
    }

    /// Ends a connection; the session pauses if it was the last.
    fn fail(&mut self, id: ConnectionId, failure: Failure, now: Instant) {
        let Some(at) = self.connections.iter().position(|connection| connection.id == id) else {
            return;
        };
        let connection = self.connections.remove(at);
        let ours = failure.notification.is_some();
        if let Some(notification) = failure.notification {
            self.send(id, notification.encode());
        }
        self.outputs.push_back(Output::Close(id));
        self.statistics.last_error = Some(failure.reason.clone());
        if connection.state == State::Established {
            self.statistics.flaps += 1;
            self.established_at = None;
            self.paused = false;
            if ours {
                self.backoff.set_failures(connection.failures_before);
            }
            self.outputs.push_back(Output::Down(failure.reason.clone()));
        }
        // RFC 4271 section 8.2.2: OpenSent goes to Active when TCP fails, every other case to Idle.
        let next = if connection.state == State::OpenSent && failure.tcp {
            State::Active
        } else {
            State::Idle
        };
        if self.connections.is_empty() && self.initiator == State::Active {
            self.initiator = next;
        }
        self.pause_unless_connected(next, now);
        self.note(&failure.reason);
    }

    fn arm_keepalive(&mut self, id: ConnectionId, now: Instant) {
        let Some(interval) = self
            .connection(id)
            .and_then(|connection| connection.keepalive_interval())
        else {
            return;
        };
        let at = now + self.backoff.jitter(interval);
        if let Some(connection) = self.connection(id) {
            connection.keepalive = Some(at);
        }
    }

    fn send(&mut self, id: ConnectionId, message: Bytes) {
        self.statistics.messages_out += 1;
        self.outputs.push_back(Output::Send(id, message));
    }

    /// Reports a change of state, if there is one.
    fn note(&mut self, reason: &str) {
        let (from, to) = (self.reported, self.state());
        if from != to {
            self.reported = to;
            self.outputs.push_back(Output::Transition {
                from,
                to,
                reason: reason.to_owned(),
            });
        }
    }

    fn ids(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|connection| connection.id).collect()
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn established(&self) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.state == State::Established)
    }

    fn speaking(&self) -> Option<(ConnectionId, Arc<Negotiated>)> {
        let connection = self.established()?;
        Some((connection.id, connection.negotiated.clone()?))
    }
}

#[cfg(test)]
mod tests;
