//! The edge: sockets, tasks and the clock around [`crate::session`] and [`crate::rib`].
//!
//! One task a peer (`peer.rs`) drives its session; one task (`core.rs`) owns the RIB and the channel of events; one task
//! a listening address (`listener.rs`) hands accepted connections to the peers; one an unnumbered peer (`unnumbered.rs`)
//! looks for it on its interface. Peers and core meet in a bounded
//! channel. When the reader of the events is slow, the core stops taking from the peers, their tasks stop reading their
//! sockets, and TCP slows the routers down; keepalives are still sent, and questions still answered.

mod core;
mod deferral;
mod first_message;
mod listener;
mod offer;
mod options;
mod peer;
mod socket;
mod unnumbered;

use std::collections::BTreeSet;
use std::net::IpAddr;

use net::policy::RouteSource;
use net::{Prefix, RouteChange, VrfId};
use tokio::sync::{mpsc, oneshot};

use self::core::{Command, Core};
use crate::bfd::BfdState;
use crate::bmp::BmpView;
use crate::mrt::{Snapshot, Table};
use crate::policy::{PolicyQuestion, PolicyTest};
use crate::rpki::RpkiState;
use crate::{Error, EvpnState, Family, RouteView, RouteWhy, SpeakerConfig, State};

pub use deferral::Deferral;
pub use offer::{peer_info, session_config};

/// What the speaker tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Changes of the loc-rib, and of what VRFs import of EVPN. When the best path of a prefix changes between external and internal, the withdrawal of
    /// the one source and the announcement of the other are neighbours in one batch.
    Routes(Vec<RouteChange>),
    /// A session was established.
    PeerUp {
        /// The peer.
        peer: IpAddr,
    },
    /// A session ended; its routes were withdrawn before, but for those kept.
    PeerDown {
        /// The peer.
        peer: IpAddr,
        /// Why.
        reason: String,
        /// Families whose routes are kept, because the peer restarts gracefully (RFC 4724).
        kept: Vec<Family>,
    },
    /// The peer has sent its whole table of a family.
    EndOfRib {
        /// The peer.
        peer: IpAddr,
        /// The family.
        family: Family,
    },
    /// The next hops to say something of, now and whenever it changes, through [`Speaker::feedback`]. Routes by those that
    /// nothing was said of yet wait, and so does the end of their table.
    NextHops(BTreeSet<IpAddr>),
}

/// Metric of the route to each of some next hops; `None` for one that is unreachable.
pub type NextHopAnswers = Vec<(IpAddr, Option<u32>)>;

/// What the owner tells the speaker of its own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feedback {
    /// Answers to [`Event::NextHops`].
    NextHops(NextHopAnswers),
    /// By a route of which source the owner forwards to each of some prefixes; `None` if by none that could be announced.
    Offers(Vec<(Prefix, Option<RouteSource>)>),
    /// The same of prefixes of VRFs that take part in EVPN.
    VrfOffers(Vec<(VrfId, Prefix, Option<RouteSource>)>),
    /// So many [`Event::Routes`] since the start are carried out: the owner forwards by them.
    Carried(u64),
}

/// A running speaker. Dropping it ends the sessions like [`Speaker::shutdown`], without waiting.
#[derive(Debug)]
pub struct Speaker {
    commands: mpsc::Sender<Command>,
    feedback: mpsc::UnboundedSender<Feedback>,
}

/// Why a question to the core is always answered.
const CORE_LIVES: &str = "the speaker's core runs as long as the speaker exists";

impl Speaker {
    /// Starts listening and connecting. Events leave through `events`, which is bounded: a slow reader slows the peers
    /// down, over TCP, and never ends a session.
    ///
    /// # Errors
    /// A configuration that cannot work, or an address that cannot be listened on.
    pub async fn start(config: SpeakerConfig, events: mpsc::Sender<Event>) -> Result<Self, Error> {
        let (feedback, told) = mpsc::unbounded_channel();
        let core = Core::new(config, events, told)?;
        let (commands, receiver) = mpsc::channel(1);
        tokio::spawn(core.run(receiver));
        Ok(Self { commands, feedback })
    }

    /// Takes another configuration: only peers of which more than the policy changed restart; originated prefixes and
    /// policies come and go without a reset.
    ///
    /// # Errors
    /// As [`Speaker::start`]; then nothing has changed.
    pub async fn apply(&self, config: SpeakerConfig) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Apply(Box::new(config), reply))
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Where feedback goes. Next hops that no path has are ignored.
    pub fn feedback(&self) -> mpsc::UnboundedSender<Feedback> {
        self.feedback.clone()
    }

    /// The speaker and its peers.
    ///
    /// # Panics
    /// If the speaker's core panicked, or the runtime that it was started on is gone.
    pub async fn state(&self) -> State {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::State(reply)).await.expect(CORE_LIVES);
        let mut state = answer.await.expect(CORE_LIVES);
        let sessions = self.bfd().await.sessions;
        for peer in &mut state.peers {
            let session = sessions.iter().find(|session| session.neighbor == peer.address);
            peer.bfd = session.map(|session| session.state);
        }
        state
    }

    /// The BFD sessions with the peers.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn bfd(&self) -> BfdState {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Bfd(reply)).await.expect(CORE_LIVES);
        // Without BFD, or if its thread has died, nobody answers.
        answer.await.unwrap_or_default()
    }

    /// The loc-rib with every path, or one prefix of it.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn routes(&self, of: Option<Prefix>) -> Vec<RouteView> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Routes(of, reply)).await.expect(CORE_LIVES);
        answer.await.expect(CORE_LIVES)
    }

    /// EVPN: the VRFs that take part, and the loc-rib with every path.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn evpn(&self) -> EvpnState {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Evpn(reply)).await.expect(CORE_LIVES);
        answer.await.expect(CORE_LIVES)
    }

    /// Asks a peer for all its routes again (RFC 2918); its session goes on.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::NoRefresh`], [`Error::Stopped`].
    pub async fn refresh(&self, peer: IpAddr) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Refresh(peer, reply))
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// The prefixes of the loc-rib that hold `address`, longest first, with every path.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn covering(&self, address: IpAddr) -> Vec<RouteView> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Covering(address, reply);
        self.commands.send(command).await.expect(CORE_LIVES);
        answer.await.expect(CORE_LIVES)
    }

    /// Why the route to a prefix is what it is, and who is told; `None` if there is no path.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn why(&self, prefix: Prefix) -> Option<RouteWhy> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Why(prefix, reply);
        self.commands.send(command).await.expect(CORE_LIVES);
        answer.await.expect(CORE_LIVES)
    }

    /// The BMP collectors.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn bmp(&self) -> Vec<BmpView> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Bmp(reply)).await.expect(CORE_LIVES);
        answer.await.expect(CORE_LIVES)
    }

    /// The RPKI caches.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn rpki(&self) -> RpkiState {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Rpki(reply)).await.expect(CORE_LIVES);
        answer.await.expect(CORE_LIVES)
    }

    /// The paths of a table, for an MRT dump.
    ///
    /// # Panics
    /// As [`Speaker::state`].
    pub async fn snapshot(&self, table: Table) -> Snapshot {
        let (reply, answer) = oneshot::channel();
        let command = Command::Snapshot(table, reply);
        self.commands.send(command).await.expect(CORE_LIVES);
        answer.await.expect(CORE_LIVES)
    }

    /// What a policy of the configuration makes of a route, and which term decides; nothing changes.
    ///
    /// # Errors
    /// [`Error::UnknownPolicy`], [`Error::NotReceived`], [`Error::Stopped`].
    pub async fn test_policy(&self, question: PolicyQuestion) -> Result<PolicyTest, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::TestPolicy(Box::new(question), reply))
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Ends every session with Cease, Administrative Shutdown, and closes all sockets. No event is sent any more. The
    /// peers' operators read the communication (RFC 9003), of which at most 128 bytes are sent.
    pub async fn shutdown(self, communication: &str) {
        let (reply, done) = oneshot::channel();
        let command = Command::Shutdown(communication.to_owned(), reply);
        if self.commands.send(command).await.is_ok() {
            // The core drops the sender when it is done, or has died: both mean that nothing is left to wait for.
            let _ = done.await;
        }
    }
}
