//! One TCP connection of a session: its own state, receive buffer and timers (RFC 4271 section 8.2.1 runs one state
//! machine a connection).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{Ending, Negotiated, Output, State};
use crate::Family;
use crate::wire::{Notification, Refresh};

/// Hold time while the peer's OPEN is awaited: "a large value" (RFC 4271 section 8.2.2, OpenSent).
pub(super) const OPEN_HOLD: Duration = Duration::from_secs(240);

/// Names a connection between the session and its driver; the driver chooses it and does not use it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This speaker.
    Outgoing,
    /// The peer.
    Incoming,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    /// OpenSent, OpenConfirm or Established.
    pub(super) state: State,
    pub(super) buffer: BytesMut,
    pub(super) hold: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
    /// When the peer has taken nothing for too long; runs while something is to be sent.
    pub(super) send_hold: Option<Instant>,
    /// Something is to be sent.
    pub(super) unsent: bool,
    pub(super) negotiated: Option<Arc<Negotiated>>,
    /// Families that the peer has told to their end once.
    pub(super) ended: BTreeSet<Family>,
    /// Families that the peer is telling anew.
    pub(super) refreshing: BTreeSet<Family>,
    /// When the last of these must have ended.
    pub(super) refresh_deadline: Option<Instant>,
    /// Failures in a row when this connection was established: taken up again if it ends by an error.
    pub(super) failures_before: u32,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, direction: Direction, now: Instant) -> Self {
        Self {
            id,
            direction,
            state: State::OpenSent,
            buffer: BytesMut::new(),
            hold: Some(now + OPEN_HOLD),
            keepalive: None,
            send_hold: None,
            unsent: false,
            negotiated: None,
            ended: BTreeSet::new(),
            refreshing: BTreeSet::new(),
            refresh_deadline: None,
            failures_before: 0,
        }
    }

    /// The peer was heard from, or is to be given its full time again.
    pub(super) fn restart_hold(&mut self, now: Instant) {
        if let Some(negotiated) = &self.negotiated {
            self.hold = (!negotiated.hold_time.is_zero()).then(|| now + negotiated.hold_time);
        }
    }

    /// Gives the peer its time to take something, from the moment that there is something.
    pub(super) fn arm_send_hold(&mut self, send_hold_time: Duration, now: Instant) {
        if self.unsent && self.send_hold.is_none() {
            self.send_hold = Some(now + send_hold_time);
        }
    }

    /// The peer took something, and `left` bytes remain.
    pub(super) const fn sent(&mut self, left: usize) {
        self.unsent = left > 0;
        self.send_hold = None;
    }

    /// What a ROUTE-REFRESH of a family asks for (RFC 2918, 7313 section 4); nothing if it is out of place. A family that
    /// the peer begins to tell anew must have ended by `deadline`.
    pub(super) fn refresh(&mut self, family: Family, kind: Refresh, deadline: Instant) -> Option<Output> {
        let capabilities = &self.negotiated.as_ref()?.capabilities;
        if !capabilities.families.contains(&family) {
            return None;
        }
        // Until a peer that restarts gracefully has told its table once, there is nothing to refresh.
        let begun = capabilities.graceful_restart.is_none() || self.ended.contains(&family);
        match kind {
            Refresh::Request => Some(Output::Refresh(family)),
            Refresh::Begin if capabilities.enhanced_route_refresh && begun => {
                self.refreshing.insert(family);
                self.refresh_deadline = Some(deadline);
                Some(Output::RefreshBegins(family))
            }
            Refresh::End => self.end_refresh(family),
            Refresh::Begin | Refresh::Unknown(_) => None,
        }
    }

    /// A refresh has come to its end, or takes too long.
    pub(super) fn end_refresh(&mut self, family: Family) -> Option<Output> {
        let begun = self.refreshing.remove(&family);
        if self.refreshing.is_empty() {
            self.refresh_deadline = None;
        }
        begun.then_some(Output::RefreshEnds(family))
    }

    /// A third of the hold time (RFC 4271 section 4.4); `None` without keepalives.
    pub(super) fn keepalive_interval(&self) -> Option<Duration> {
        let hold_time = self.negotiated.as_ref()?.hold_time;
        (!hold_time.is_zero()).then(|| hold_time / 3)
    }
}

/// Who ended a connection.
pub(super) enum End {
    /// We did, and tell the peer why.
    Ours(Notification),
    /// The peer did, and told why.
    Theirs(Notification),
    /// The TCP connection is gone.
    Tcp,
}

/// Why a connection ends.
pub(super) struct Failure {
    pub(super) end: End,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn ours(notification: Notification) -> Self {
        Self {
            reason: format!("sent {notification}"),
            end: End::Ours(notification),
        }
    }

    pub(super) fn theirs(notification: Notification) -> Self {
        Self {
            reason: format!("peer sent {notification}"),
            end: End::Theirs(notification),
        }
    }

    pub(super) fn ending(&self) -> Ending {
        match &self.end {
            End::Ours(notification) => Ending::Sent(notification.clone()),
            End::Theirs(notification) => Ending::Received(notification.clone()),
            End::Tcp => Ending::Closed,
        }
    }

    pub(super) const fn tcp(reason: String) -> Self {
        Self { end: End::Tcp, reason }
    }
}
