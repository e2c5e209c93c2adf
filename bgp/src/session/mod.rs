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
//! Peers that restart gracefully keep their routes: `restart.rs`.
//!
//! Back-pressure: while the driver does not read ([`Event::Pause`]) the hold timer stands still, since the peer cannot
//! be heard, and keepalives still go out.

mod backoff;
mod connection;
mod counts;
mod negotiation;
mod receive;
mod restart;
mod types;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::Backoff;
use bytes::Bytes;
use connection::{Connection, End, Failure};
use net::Prefix;
use restart::Restart;

use crate::evpn;
use crate::wire::{self, Attributes, Cease, Notification, Open, Refresh, code};

pub use connection::{ConnectionId, Direction};
pub use counts::MessageCounts;
pub use negotiation::Negotiated;
pub use types::{Config, Ending, Event, Output, State, Statistics};

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
    /// No connection is made or taken before.
    barred: Option<Instant>,
    connections: Vec<Connection>,
    paused: bool,
    backoff: Backoff,
    restart: Restart,
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
            barred: None,
            connections: Vec::new(),
            paused: false,
            backoff,
            restart: Restart::default(),
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
        let sending = self
            .connections
            .iter()
            .flat_map(|connection| [connection.keepalive, connection.send_hold, connection.refresh_deadline])
            .flatten();
        hold.chain(sending)
            .chain(self.retry)
            .chain(self.restart.deadline())
            .min()
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
            Event::Reset(cease, pause) => {
                self.barred = pause.map(|pause| now + pause);
                for id in self.ids() {
                    let notification = self.final_form(id, Notification::cease(cease));
                    self.fail(id, Failure::ours(notification), now);
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
            Event::Sent(id, left) => {
                if let Some(connection) = self.connection(id) {
                    connection.sent(left);
                }
            }
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
            Event::Updates(messages, count) => {
                if let Some((id, _)) = self.speaking() {
                    self.send(id, messages);
                    // One of them is counted.
                    self.statistics.messages_out += count.saturating_sub(1);
                }
            }
            Event::AnnounceEvpn(attributes, routes) => {
                if let Some((id, negotiated)) = self.speaking() {
                    for message in evpn::announcement(&attributes, &routes, &negotiated.context) {
                        self.send(id, message);
                    }
                }
            }
            Event::WithdrawEvpn(keys) => {
                if let Some((id, negotiated)) = self.speaking() {
                    for message in wire::encode_evpn_withdrawal(&keys, &negotiated.context) {
                        self.send(id, message);
                    }
                }
            }
            Event::EndOfRib(family) => {
                if let Some((id, negotiated)) = self.speaking() {
                    self.send(id, wire::encode_end_of_rib(family, &negotiated.context));
                }
            }
            Event::AskRefresh(family) => {
                if let Some((id, negotiated)) = self.speaking()
                    && negotiated.capabilities.route_refresh
                    && negotiated.capabilities.families.contains(&family)
                {
                    self.send(id, wire::encode_route_refresh(family, Refresh::Request));
                }
            }
            Event::RefreshBegins(family) => {
                if let Some((id, _)) = self.speaking() {
                    self.send(id, wire::encode_route_refresh(family, Refresh::Begin));
                }
            }
            Event::RefreshEnds(family) => {
                if let Some((id, _)) = self.speaking() {
                    self.send(id, wire::encode_route_refresh(family, Refresh::End));
                }
            }
            Event::Timeout => self.timeout(now),
        }
        for connection in &mut self.connections {
            connection.arm_send_hold(self.config.send_hold_time, now);
        }
    }

    fn stop(&mut self, notification: &Notification, now: Instant) {
        self.running = false;
        if self.initiator == State::Connect {
            self.outputs.push_back(Output::AbortConnect);
        }
        self.initiator = State::Idle;
        self.retry = None;
        self.barred = None;
        for id in self.ids() {
            let notification = self.final_form(id, notification.clone());
            self.fail(id, Failure::ours(notification), now);
        }
        self.restart.cancel();
        self.note("stopped");
    }

    /// A notification after which neither side may keep routes: a hard reset, where a plain one would not do.
    fn final_form(&mut self, id: ConnectionId, notification: Notification) -> Notification {
        let negotiated = self.connection(id).and_then(|connection| connection.negotiated.clone());
        match negotiated {
            Some(negotiated) if restart::survives_notification(&self.config, &negotiated) => {
                notification.into_hard_reset()
            }
            _ => notification,
        }
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
        if let Some(until) = self.barred {
            self.initiator = State::Idle;
            self.retry = Some(until);
        } else if self.config.passive {
            self.initiate(now);
        } else {
            self.initiator = state;
            self.retry = Some(now + self.backoff.pause());
        }
    }

    fn connected(&mut self, id: ConnectionId, direction: Direction, now: Instant) {
        if direction == Direction::Incoming {
            self.replace_restarted(now);
        }
        let refusal = match direction {
            Direction::Outgoing if self.initiator != State::Connect => Some(Cease::ConnectionRejected),
            _ if !self.running || self.barred.is_some() => Some(Cease::ConnectionRejected),
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
            capabilities: self.restart.offer(&self.config),
        };
        self.send(id, open.encode());
        self.note(match direction {
            Direction::Outgoing => "connected",
            Direction::Incoming => "connection accepted",
        });
    }

    /// A peer that connects while its session is up has restarted, and its old connection is dead, if it can restart
    /// gracefully (RFC 4724 section 4.2). Not so just after the session came up: then it is the loser of a collision.
    fn replace_restarted(&mut self, now: Instant) {
        let Some((id, negotiated)) = self.speaking() else {
            return;
        };
        let settled = self
            .established_at
            .is_some_and(|at| now.duration_since(at) > CONNECT_TIMEOUT);
        let theirs = negotiated.capabilities.graceful_restart.as_ref();
        if settled && theirs.is_some_and(|theirs| !theirs.families.is_empty()) {
            self.fail(id, Failure::tcp("peer restarted: it connected again".to_owned()), now);
        }
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
        self.restart.established(&self.config, now);
        self.outputs
            .extend(negotiated.map(|negotiated| Output::Established(id, negotiated)));
        self.note("KEEPALIVE received");
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
            self.barred = None;
            if self.initiator == State::Connect {
                self.outputs.push_back(Output::AbortConnect);
                self.statistics.last_error = Some(self.no_answer());
            }
            self.initiate(now);
            self.note("connect retry timer expired");
        }
        let restart::Expired { long_lived, void } = self.restart.expired(now);
        if !long_lived.is_empty() {
            self.outputs.push_back(Output::LongLived(long_lived));
        }
        if !void.is_empty() {
            self.outputs.push_back(Output::StaleExpired(void));
        }
        for id in self.ids() {
            let paused = self.paused;
            let Some(connection) = self.connection(id) else {
                continue;
            };
            if !paused && connection.hold.is_some_and(|at| at <= now) {
                self.fail(id, Failure::ours(Notification::new(code::HOLD_TIMER, 0)), now);
            } else if connection.send_hold.is_some_and(|at| at <= now) {
                self.fail(id, Failure::ours(Notification::new(code::SEND_HOLD_TIMER, 0)), now);
            } else if connection.keepalive.is_some_and(|at| at <= now) {
                self.send(id, wire::encode_keepalive());
                self.arm_keepalive(id, now);
            } else if connection.refresh_deadline.is_some_and(|at| at <= now) {
                let late = connection.refreshing.clone();
                let ended: Vec<_> = late
                    .into_iter()
                    .filter_map(|family| connection.end_refresh(family))
                    .collect();
                self.outputs.extend(ended);
            }
        }
    }

    fn no_answer(&self) -> String {
        let silence = format!("cannot connect: no answer in {} s", CONNECT_TIMEOUT.as_secs());
        if self.config.signed {
            format!("{silence}; is the password the peer's?")
        } else {
            silence
        }
    }

    /// Ends a connection; the session pauses if it was the last.
    fn fail(&mut self, id: ConnectionId, failure: Failure, now: Instant) {
        let Some(at) = self.connections.iter().position(|connection| connection.id == id) else {
            return;
        };
        let connection = self.connections.remove(at);
        let ours = matches!(failure.end, End::Ours(_));
        if let End::Ours(notification) = &failure.end {
            self.send(id, notification.encode());
        }
        self.outputs.push_back(Output::Close(id));
        self.statistics.last_error = Some(failure.reason.clone());
        let ending = failure.ending();
        if ending != Ending::Closed {
            self.statistics.last_notification = Some((ending.clone(), now));
        }
        self.statistics.last_ending = Some(ending);
        if connection.state == State::Established {
            self.statistics.flaps += 1;
            self.established_at = None;
            self.paused = false;
            if ours {
                self.backoff.set_failures(connection.failures_before);
            }
            let kept = self
                .restart
                .ended(&self.config, connection.negotiated.as_deref(), &failure, now);
            self.outputs.push_back(Output::Down(failure.reason.clone(), kept));
        }
        // RFC 4271 section 8.2.2: OpenSent goes to Active when TCP fails, every other case to Idle.
        let next = if connection.state == State::OpenSent && matches!(failure.end, End::Tcp) {
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
        self.statistics.sent.sent(&message);
        if let Some(connection) = self.connection(id) {
            connection.unsent = true;
        }
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
