//! One speaker without sockets and without a clock: the sessions, the tables and BFD of production, and this file in the
//! place of `io`, which does with what sessions ask for what `io/peer.rs` and `io/core.rs` do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::bfd::engine::{Engine, Received};
use bgp::bfd::packet::{Control, Diagnostic};
use bgp::bfd::session::{Config as BfdConfig, Output as BfdOutput};
use bgp::policy::PolicyTable;
use bgp::rib::{Excess, LocalAddresses, OutQueue, Rib, Rules};
use bgp::session::{ConnectionId, Direction, Event, Negotiated, Output, Session, State};
use bgp::wire::{Cease, Notification, Outcome, Update};
use bgp::{Deferral, Family, PeerConfig, RestartMode, SpeakerConfig};
use serde_json::{Value, json};

use crate::hex::Hex;
use crate::message::{Afi, HEADER, Message, Reading};
use crate::script::{CeaseName, Head, In, Side};
use crate::setup::{local_addresses, peer_config, policies, policy};
use crate::show::{FIRST, counts, on, route_change, route_view, telling};

/// Jitter and BFD's discriminators come from here, the same in every run.
const SEED: u64 = 7;
/// Prefixes taken from a queue at once.
const BATCH: usize = 4096;

struct Peer {
    config: PeerConfig,
    local: LocalAddresses,
    session: Session,
    /// Of the established session.
    queue: Option<Arc<OutQueue>>,
    /// Its routes are kept.
    kept: bool,
    reads: bool,
    negotiated: Option<Arc<Negotiated>>,
}

pub(crate) struct World {
    speaker: SpeakerConfig,
    policies: PolicyTable,
    rib: Rib,
    peers: BTreeMap<String, Peer>,
    deferral: Option<Deferral>,
    bfd: Engine,
    began: Instant,
    now: Instant,
    observed: Vec<Value>,
    /// What comes of the step is not told.
    silent: bool,
}

impl World {
    /// # Errors
    /// What of the head cannot be.
    pub(crate) fn new(head: &Head) -> Result<Self, String> {
        let policies = policies(head)?;
        let mut speaker = SpeakerConfig::new(head.speaker.asn, head.speaker.router_id);
        speaker.originate.clone_from(&head.speaker.originate);
        let least = Rules::default();
        speaker.rules = Rules {
            multipath: head.speaker.multipath.unwrap_or(least.multipath),
            multipath_internal: head.speaker.multipath_internal.unwrap_or(least.multipath_internal),
            always_compare_med: head.speaker.always_compare_med,
            prefer_oldest: head.speaker.prefer_oldest,
        };
        let mut rib = Rib::new(speaker.asn, speaker.router_id, speaker.vrf);
        rib.set_rules(speaker.rules);
        rib.track_next_hops(head.speaker.track_next_hops);
        rib.set_originated(&speaker.originate);
        #[allow(
            clippy::disallowed_methods,
            reason = "the scenario's clock begins at the real one and is moved by hand"
        )]
        let now = Instant::now();
        let mut bfd = Engine::new(SEED);
        let mut peers = BTreeMap::new();
        for (name, of) in &head.peers {
            let config = peer_config(of, &policies).map_err(|error| format!("peer {name}: {error}"))?;
            if of.bfd {
                bfd.set(config.address, None, BfdConfig::default(), now);
            }
            let session = Session::new(bgp::session_config(&speaker, &config), SEED);
            speaker.peers.push(config.clone());
            let peer = Peer {
                config,
                local: local_addresses(&of.local),
                session,
                queue: None,
                kept: false,
                reads: true,
                negotiated: None,
            };
            peers.insert(name.clone(), peer);
        }
        speaker.check().map_err(|error| error.to_string())?;
        let restarting = speaker.peers.iter();
        let restarting = restarting.filter(|peer| peer.graceful_restart == RestartMode::Full);
        let time = Duration::from_secs(head.speaker.selection_deferral.unwrap_or(0));
        Ok(Self {
            deferral: Deferral::new(restarting.map(|peer| peer.address), time, now),
            speaker,
            policies,
            rib,
            peers,
            bfd,
            began: now,
            now,
            observed: Vec::new(),
            silent: false,
        })
    }

    /// Lets `input` happen; what came of it, in order.
    ///
    /// # Errors
    /// What of the input cannot be.
    pub(crate) fn step(&mut self, input: &In) -> Result<Vec<Value>, String> {
        match input {
            In::Start(peer) => self.feed(peer, Event::Start)?,
            In::Stop { peer, communication } => {
                self.feed(peer, Event::Stop(Notification::shutdown(communication)))?;
            }
            In::Remove { peer, cease } => {
                let cease = match cease {
                    CeaseName::PeerDeconfigured => Cease::PeerDeconfigured,
                    CeaseName::ConfigurationChange => Cease::ConfigurationChange,
                };
                self.feed(peer, Event::Stop(Notification::cease(cease)))?;
                let address = self.peer(peer)?.config.address;
                self.rib.peer_down(address);
                self.settle();
            }
            In::Connected { peer, connection, by } => {
                let direction = match by {
                    Side::Us => Direction::Outgoing,
                    Side::Peer => Direction::Incoming,
                };
                self.feed(peer, Event::Connected(ConnectionId(*connection), direction))?;
            }
            In::ConnectFailed { peer, reason } => self.feed(peer, Event::ConnectFailed(reason.clone()))?,
            In::Closed {
                peer,
                connection,
                reason,
            } => self.feed(peer, Event::Closed(ConnectionId(*connection), reason.clone()))?,
            In::Receive {
                peer,
                connection,
                message,
            } => self.receive(peer, *connection, message.encode())?,
            In::Bytes { peer, connection, hex } => self.receive(peer, *connection, hex.0.clone())?,
            In::Establish { peer, open } => {
                self.silent = true;
                if self.peer(peer)?.session.state() == State::Idle {
                    self.feed(peer, Event::Start)?;
                }
                self.feed(peer, Event::Connected(FIRST, Direction::Outgoing))?;
                self.receive(peer, FIRST.0, open.encode())?;
                self.silent = false;
                self.receive(peer, FIRST.0, Message::Keepalive.encode())?;
            }
            In::Reads { peer, reads } => {
                let known = self.peer(peer)?;
                known.reads = *reads;
                if *reads {
                    self.feed(peer, Event::Sent(FIRST, 0))?;
                }
            }
            In::Advance(seconds) => self.advance(Duration::from_secs_f64(*seconds)),
            In::NextHops(answers) => {
                let answers: Vec<_> = answers.iter().map(|(address, metric)| (*address, *metric)).collect();
                self.rib.next_hops_are(&answers);
                self.settle();
            }
            In::AskRefresh(peer) => {
                for family in self.peer(peer)?.config.families.clone() {
                    self.feed(peer, Event::AskRefresh(family))?;
                }
            }
            In::Policies { peer, import, export } => {
                let import = policy(import.as_deref(), &self.policies)?;
                let export = policy(export.as_deref(), &self.policies)?;
                let known = self.peer(peer)?;
                (known.config.import, known.config.export) = (import.clone(), export.clone());
                let address = known.config.address;
                self.rib.set_policies(address, &import, &export);
                self.settle();
            }
            In::Originate(prefixes) => {
                self.rib.set_originated(prefixes);
                self.settle();
            }
            In::Bfd {
                peer,
                state,
                knows_us,
                ttl,
            } => self.bfd_packet(peer, *state, *knows_us, *ttl)?,
            In::ShowRib => {
                let routes: Vec<Value> = self.rib.view(None).iter().map(route_view).collect();
                self.observe(json!({ "rib": routes }));
            }
            In::ShowPeer(peer) => {
                let view = self.peer_view(peer)?;
                self.observe(view);
            }
        }
        Ok(std::mem::take(&mut self.observed))
    }

    fn peer(&mut self, name: &str) -> Result<&mut Peer, String> {
        self.peers
            .get_mut(name)
            .ok_or_else(|| format!("the head has no peer `{name}`"))
    }

    fn receive(&mut self, peer: &str, connection: u64, bytes: Vec<u8>) -> Result<(), String> {
        self.feed(peer, Event::Received(ConnectionId(connection), bytes.into()))
    }

    fn feed(&mut self, peer: &str, event: Event) -> Result<(), String> {
        let now = self.now;
        self.peer(peer)?.session.handle(event, now);
        self.settle();
        Ok(())
    }

    /// Lets everything happen that is due until `time` has passed.
    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let sessions = self.peers.values().filter_map(|peer| peer.session.poll_timeout());
            let deferral = self.deferral.as_ref().map(Deferral::deadline);
            let due = sessions.chain(self.bfd.poll_timeout()).chain(deferral).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.bfd.timeout(self.now);
            for peer in self.peers.values_mut() {
                if peer.session.poll_timeout().is_some_and(|at| at <= self.now) {
                    peer.session.handle(Event::Timeout, self.now);
                }
            }
            self.settle();
        }
        self.now = end;
    }

    /// Does what is asked for until nothing more is.
    fn settle(&mut self) {
        loop {
            self.bfd_outputs();
            let names: Vec<String> = self.peers.keys().cloned().collect();
            let mut busy = false;
            for name in &names {
                while let Some(output) = self.peers.get_mut(name).and_then(|peer| peer.session.poll_output()) {
                    busy = true;
                    self.perform(name, output);
                }
            }
            for change in self.rib.take_changes() {
                self.observe(route_change(&change));
            }
            if let Some(wanted) = self.rib.wanted_next_hops() {
                self.observe(json!({ "next-hops-wanted": wanted }));
            }
            if self
                .deferral
                .as_ref()
                .is_some_and(|deferral| deferral.is_over(self.now))
            {
                self.deferral = None;
                self.observe(json!("deferral-over"));
            }
            for name in &names {
                busy |= self.speak(name);
            }
            if !busy {
                return;
            }
        }
    }

    /// Hands a session what its peer has to be told; false if there is nothing.
    fn speak(&mut self, name: &str) -> bool {
        let Some(peer) = self.peers.get_mut(name).filter(|_| self.deferral.is_none()) else {
            return false;
        };
        let Some(queue) = &peer.queue else { return false };
        let outgoing = queue.take(BATCH);
        let more = !outgoing.is_empty();
        for item in outgoing {
            peer.session.handle(item.into(), self.now);
        }
        more
    }

    fn perform(&mut self, name: &str, output: Output) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        let address = peer.config.address;
        match output {
            Output::Connect => self.observe(json!({ "connect": name })),
            Output::AbortConnect => self.observe(json!({ "abort-connect": name })),
            Output::Send(id, bytes) => {
                if peer.reads {
                    peer.session.handle(Event::Sent(id, 0), self.now);
                }
                self.sent(name, id, &bytes);
            }
            Output::Close(id) => self.observe(on(name, id, "close", None)),
            Output::Established(_, negotiated) => {
                let external = !peer.config.remote_as.is_internal(self.speaker.asn);
                let info = bgp::peer_info(&peer.config, external, &negotiated, peer.local);
                let restart = negotiated.capabilities.graceful_restart.as_ref();
                let ending = match restart {
                    Some(theirs) if !theirs.restarting => negotiated.capabilities.families.clone(),
                    _ => Vec::new(),
                };
                peer.kept = false;
                peer.queue = Some(self.rib.peer_up(info));
                peer.negotiated = Some(negotiated);
                if let Some(deferral) = &mut self.deferral {
                    deferral.up(address, &ending);
                }
            }
            Output::Update(update) => self.update(name, address, update),
            Output::Refresh(family) => self.rib.refresh(address, family),
            Output::RefreshBegins(family) => self.rib.refresh_begins(address, family),
            Output::RefreshEnds(family) => self.rib.refresh_ends(address, family),
            Output::Down(reason, kept) => {
                peer.queue = None;
                peer.negotiated = None;
                peer.kept = !kept.is_empty();
                if kept.is_empty() {
                    self.rib.peer_down(address);
                } else {
                    self.rib.peer_restarts(address, &kept);
                }
                self.observe(json!({ "down": { "peer": name, "reason": reason, "kept": kept } }));
            }
            Output::LongLived(families) => {
                self.rib.long_lived(address, &families);
                self.observe(json!({ "long-lived": { "peer": name, "families": families } }));
            }
            Output::StaleExpired(families) => {
                self.rib.stale_expired(address, &families);
                self.observe(json!({ "stale-expired": { "peer": name, "families": families } }));
            }
            Output::Transition { from, to, reason } => {
                let (from, to) = (from.to_string(), to.to_string());
                self.observe(json!({ "state": { "peer": name, "from": from, "to": to, "reason": reason } }));
            }
        }
    }

    fn update(&mut self, name: &str, address: IpAddr, update: Update) {
        for fault in &update.faults {
            let outcome = match fault.outcome {
                Outcome::Clean => "clean",
                Outcome::AttributeDiscard => "attribute-discard",
                Outcome::TreatAsWithdraw => "treat-as-withdraw",
            };
            self.observe(json!({ "fault": {
                "peer": name,
                "attribute": fault.attribute,
                "outcome": outcome,
                "detail": fault.detail,
                "bytes": String::from(Hex(fault.bytes.to_vec())),
            } }));
        }
        let end_of_rib = update.end_of_rib;
        let excess = self.rib.update(address, update);
        if let (Err(excess), Some(peer)) = (excess, self.peers.get_mut(name)) {
            let pause = peer.config.max_prefixes.and_then(|max| max.restart);
            peer.session.handle(Event::Reset(Cease::MaxPrefixes, pause), self.now);
            self.observe(match excess {
                Excess::Prefixes { received, limit } => {
                    json!({ "too-many-prefixes": { "peer": name, "received": received, "limit": limit } })
                }
                Excess::Paths(prefix) => json!({ "too-many-paths": { "peer": name, "prefix": prefix } }),
            });
        }
        if let Some(family) = end_of_rib {
            self.observe(json!({ "end-of-rib": { "peer": name, "family": family } }));
            if let Some(deferral) = &mut self.deferral {
                deferral.end_of_rib(address, family);
            }
        }
    }

    /// Tells every message of what is sent.
    fn sent(&mut self, name: &str, id: ConnectionId, mut bytes: &[u8]) {
        let reading = self.peers.get(name).map(reading).unwrap_or_default();
        while bytes.len() >= HEADER {
            let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
            let (message, rest) = bytes.split_at(length);
            bytes = rest;
            let readable = Message::decode(message, &reading)
                .and_then(|message| serde_json::to_value(message).ok())
                .unwrap_or_else(|| json!({ "hex": String::from(Hex(message.to_vec())) }));
            self.observe(on(name, id, "send", Some(readable)));
        }
        assert!(bytes.is_empty(), "whole messages are sent");
    }

    fn bfd_packet(
        &mut self,
        peer: &str,
        state: bgp::bfd::packet::State,
        knows_us: bool,
        ttl: u8,
    ) -> Result<(), String> {
        let from = self.peer(peer)?.config.address;
        let sessions = self.bfd.view(self.now).sessions;
        let ours = sessions.iter().find(|session| session.neighbor == from);
        let ours = ours
            .ok_or_else(|| format!("peer `{peer}` has no BFD"))?
            .local_discriminator;
        let interval = BfdConfig::default();
        let packet = Control {
            diagnostic: Diagnostic::NONE,
            state,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: interval.multiplier,
            my_discriminator: 1,
            your_discriminator: if knows_us { ours } else { 0 },
            desired_min_tx: interval.min_tx,
            required_min_rx: interval.min_rx,
        };
        let received = Received {
            from,
            interface: None,
            ttl: Some(ttl),
            bytes: &packet.encode(),
        };
        if let Err(reason) = self.bfd.receive(received, self.now) {
            self.observe(json!({ "bfd-discarded": { "peer": peer, "reason": format!("{reason:?}") } }));
        }
        self.settle();
        Ok(())
    }

    /// Packets of BFD are not told, there are several a second; what it says of its neighbours is.
    fn bfd_outputs(&mut self) {
        while let Some((neighbor, output)) = self.bfd.poll_output() {
            let Some(name) = self.peers.iter().find(|(_, peer)| peer.config.address == neighbor) else {
                continue;
            };
            let name = name.0.clone();
            match output {
                BfdOutput::Send(_) => {}
                BfdOutput::Up => self.observe(json!({ "bfd": { "peer": name, "up": true } })),
                BfdOutput::Down(cause) => {
                    let reason = format!("{cause:?}");
                    self.observe(json!({ "bfd": { "peer": name, "up": false, "cause": reason } }));
                    let peer = self.peers.get_mut(&name);
                    let peer = peer.filter(|peer| cause.is_failure() && peer.session.state() == State::Established);
                    if let Some(peer) = peer {
                        peer.session.handle(Event::Reset(Cease::BfdDown, None), self.now);
                    }
                }
            }
        }
    }

    fn peer_view(&mut self, name: &str) -> Result<Value, String> {
        let peer = self.peer(name)?;
        let (state, address) = (peer.session.state(), peer.config.address);
        let statistics = peer.session.statistics().clone();
        let capabilities = peer
            .session
            .negotiated()
            .map(|negotiated| negotiated.capabilities.names());
        let hold_time = peer
            .session
            .negotiated()
            .map(|negotiated| negotiated.hold_time.as_secs());
        let counters = counts(json!({
            "treated-as-withdraw": statistics.treated_as_withdraw,
            "attributes-discarded": statistics.attributes_discarded,
            "refreshes-in": statistics.refreshes_in,
            "refreshes-out": statistics.refreshes_out,
            "flaps": statistics.flaps,
        }));
        let view = json!({
            "name": name,
            "state": state.to_string(),
            "capabilities": capabilities,
            "hold-time": hold_time,
            "received": counts(json!(statistics.received)),
            "sent": counts(json!(statistics.sent)),
            "counters": counters,
            "last-error": statistics.last_error,
            "families": self.rib.counters(address),
        });
        Ok(json!({ "peer": telling(view) }))
    }

    fn observe(&mut self, mut value: Value) {
        if self.silent {
            return;
        }
        let at = self.now.duration_since(self.began).as_millis();
        if let (Value::Object(map), Ok(at)) = (&mut value, u32::try_from(at)) {
            map.insert("at".to_owned(), json!(f64::from(at) / 1000.0));
        }
        self.observed.push(value);
    }
}

/// How what is sent to a peer is read.
fn reading(peer: &Peer) -> Reading {
    let Some(negotiated) = &peer.negotiated else {
        return Reading::default();
    };
    let context = &negotiated.context;
    let numbered = Family::UNICAST
        .into_iter()
        .filter(|family| context.sends_path_ids(*family));
    Reading {
        two_octet_as: !context.four_octet_as,
        add_path: numbered
            .map(|family| {
                let (afi, safi) = family.numbers();
                Afi(afi, safi)
            })
            .collect(),
    }
}
