//! What goes into a session and what comes out of it.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::Prefix;

use super::{ConnectionId, Direction, MessageCounts, Negotiated};
use crate::rib::Outgoing;
use crate::wire::{Attributes, Capabilities, Cease, EvpnKey, EvpnRoute, Notification, Update};
use crate::{Family, RemoteAs, Role};

/// States of RFC 4271 section 8.2.2, in order of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum State {
    /// Stopped, or pausing after a failure.
    #[default]
    Idle,
    /// A TCP connection is being made.
    Connect,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// OPEN sent, the peer's awaited.
    OpenSent,
    /// OPENs agree, KEEPALIVE awaited.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the state machine has to know of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Own AS.
    pub local_as: u32,
    /// The peer's AS.
    pub remote_as: RemoteAs,
    /// Own BGP identifier.
    pub router_id: Ipv4Addr,
    /// Proposed hold time, seconds.
    pub hold_time: u16,
    /// Longest pause between attempts.
    pub connect_retry: Duration,
    /// Never connect.
    pub passive: bool,
    /// Segments are signed, so silence may mean a wrong password.
    pub signed: bool,
    /// Longest time that the peer may take nothing of what is to be sent (RFC 9687).
    pub send_hold_time: Duration,
    /// What we are to the peer (RFC 9234).
    pub role: Option<Role>,
    /// The peer has to say its role too.
    pub strict_role: bool,
    /// What to offer. The graceful restart capability is that of the first session; later ones say that forwarding went
    /// on meanwhile. Without it no routes of the peer are kept.
    pub capabilities: Capabilities,
    /// Longest time that routes of a peer that restarts are kept: until it is back, and again until it has told all.
    pub stale_time: Duration,
    /// Longest time that they are kept after that as a last resort (RFC 9494).
    pub long_lived_time: Duration,
}

impl Config {
    /// True for a session within the AS.
    pub const fn is_ibgp(&self) -> bool {
        self.remote_as.is_internal(self.local_as)
    }
}

/// What happens to a session.
#[derive(Debug, Clone)]
pub enum Event {
    /// The operator wants the session.
    Start,
    /// The operator does not want it any more: the notification is sent, and it stays Idle.
    Stop(Notification),
    /// The session must end now, and may come back after a pause: this one, or the usual.
    Reset(Cease, Option<Duration>),
    /// A TCP connection is there: the one asked for by [`Output::Connect`], or one that the peer made.
    Connected(ConnectionId, Direction),
    /// The connection asked for was not made.
    ConnectFailed(String),
    /// A connection was closed by the peer or broke.
    Closed(ConnectionId, String),
    /// Bytes of a connection.
    Received(ConnectionId, Bytes),
    /// The connection took bytes of what is to be sent; so many are left.
    Sent(ConnectionId, usize),
    /// The driver stops reading until what was read is processed.
    Pause,
    /// The driver reads again.
    Resume,
    /// Announce prefixes of one family.
    Announce(Arc<Attributes>, Vec<Prefix>),
    /// Withdraw prefixes of one family.
    Withdraw(Vec<Prefix>),
    /// Send UPDATEs that were encoded for sessions of this kind, so many.
    Updates(Bytes, u64),
    /// Announce EVPN routes that share their attributes.
    AnnounceEvpn(Arc<Attributes>, Vec<EvpnRoute>),
    /// Withdraw EVPN routes.
    WithdrawEvpn(Vec<EvpnKey>),
    /// Mark the end of the first full table of a family.
    EndOfRib(Family),
    /// Ask the peer for a family again.
    AskRefresh(Family),
    /// Tell the peer that a family is told anew from here (RFC 7313)…
    RefreshBegins(Family),
    /// …to here.
    RefreshEnds(Family),
    /// The time of [`super::Session::poll_timeout`] has come.
    Timeout,
}

impl From<Outgoing> for Event {
    fn from(outgoing: Outgoing) -> Self {
        match outgoing {
            Outgoing::Announce(attributes, prefixes) => Self::Announce(attributes, prefixes),
            Outgoing::Withdraw(prefixes) => Self::Withdraw(prefixes),
            Outgoing::AnnounceEvpn(attributes, routes) => Self::AnnounceEvpn(attributes, routes),
            Outgoing::WithdrawEvpn(keys) => Self::WithdrawEvpn(keys),
            Outgoing::EndOfRib(family) => Self::EndOfRib(family),
            Outgoing::RefreshBegins(family) => Self::RefreshBegins(family),
            Outgoing::RefreshEnds(family) => Self::RefreshEnds(family),
            Outgoing::Batch(batch) => {
                let (bytes, count) = batch.encoded();
                Self::Updates(bytes.clone(), *count)
            }
        }
    }
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Make a TCP connection to the peer.
    Connect,
    /// Give up the one being made.
    AbortConnect,
    /// Write to a connection.
    Send(ConnectionId, Bytes),
    /// Write what is left, then close.
    Close(ConnectionId),
    /// Routes flow over this connection from now on.
    Established(ConnectionId, Arc<Negotiated>),
    /// Routes of the peer.
    Update(Update),
    /// The peer wants a family of the adj-rib-out again (RFC 2918).
    Refresh(Family),
    /// The peer tells a family anew: what it does not tell again before the end is void (RFC 7313)…
    RefreshBegins(Family),
    /// …which is here, or should have been.
    RefreshEnds(Family),
    /// Routes do not flow any more. What was learned is void, but for these families: the peer restarts, and its routes
    /// are kept until [`Output::StaleExpired`], or until it says otherwise (RFC 4724 section 4.2).
    Down(String, Vec<Family>),
    /// The peer did not come back in time: what was kept of these families is a last resort from here on (RFC 9494).
    LongLived(Vec<Family>),
    /// The peer did not come back, or did not tell all its routes again, in time: what was kept of these families is
    /// void.
    StaleExpired(Vec<Family>),
    /// For the log.
    Transition {
        /// State left.
        from: State,
        /// State entered.
        to: State,
        /// Why.
        reason: String,
    },
}

/// Counts since the session was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Those received, by type.
    pub received: MessageCounts,
    /// Those sent, by type.
    pub sent: MessageCounts,
    /// UPDATEs whose routes were treated as withdrawn.
    pub treated_as_withdraw: u64,
    /// Attributes discarded from UPDATEs that were otherwise used.
    pub attributes_discarded: u64,
    /// Refreshes that the peer told from beginning to end (RFC 7313).
    pub refreshes_in: u64,
    /// Refreshes that the peer asked for.
    pub refreshes_out: u64,
    /// Times that Established was left.
    pub flaps: u64,
    /// Why a connection last failed.
    pub last_error: Option<String>,
    /// How a connection last ended.
    pub last_ending: Option<Ending>,
    /// The last NOTIFICATION that ended one, either way, and when.
    pub last_notification: Option<(Ending, Instant)>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By this NOTIFICATION of ours.
    Sent(Notification),
    /// By this NOTIFICATION of the peer.
    Received(Notification),
    /// TCP broke, or was closed without a word.
    Closed,
}
