//! All sessions of one speaker: finds the session that a packet is for (RFC 5880 section 6.3, RFC 5881 section 3), names
//! sessions, and counts what is not taken. Without sockets and without a clock, like the sessions themselves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use net::IfIndex;
use serde::{Deserialize, Serialize};

use super::packet::{Control, Discard, State};
use super::session::{self, Config, Output, Session};
use super::view::{BfdState, BfdView};

/// TTL and hop limit of every packet (RFC 5881 section 5): no router can have passed it on.
pub const TTL: u8 = 255;

/// Packets that were not taken, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Discarded {
    /// Of a TTL or hop limit that is not 255.
    pub wrong_ttl: u64,
    /// Wrong version, length, multiplier or discriminator.
    pub malformed: u64,
    /// Authenticated.
    pub authenticated: u64,
    /// For no session of ours.
    pub unknown_session: u64,
}

impl Discarded {
    const fn count(&mut self, reason: Discard) {
        *match reason {
            Discard::Ttl => &mut self.wrong_ttl,
            Discard::Malformed => &mut self.malformed,
            Discard::Authentication => &mut self.authenticated,
            Discard::UnknownSession => &mut self.unknown_session,
        } += 1;
    }
}

/// A packet as it came.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Source address.
    pub from: IpAddr,
    /// Interface of a link-local source address.
    pub interface: Option<IfIndex>,
    /// TTL or hop limit; `None` if the kernel did not say.
    pub ttl: Option<u8>,
    /// Payload of the datagram.
    pub bytes: &'a [u8],
}

#[derive(Debug)]
struct Entry {
    session: Session,
    interface: Option<IfIndex>,
}

/// The sessions of one speaker, at most one with each address.
#[derive(Debug)]
pub struct Engine {
    sessions: BTreeMap<IpAddr, Entry>,
    names: HashMap<u32, IpAddr>,
    random: u64,
    discarded: Discarded,
    outputs: VecDeque<(IpAddr, Output)>,
}

impl Engine {
    /// Without sessions. `seed` feeds discriminators, which strangers should not guess, and jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            names: HashMap::new(),
            random: seed,
            discarded: Discarded::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Begins a session, or gives the one that there is other intervals. `interface` is where a link-local neighbour is.
    pub fn set(&mut self, neighbor: IpAddr, interface: Option<IfIndex>, config: Config, now: Instant) {
        if let Some(entry) = self.sessions.get_mut(&neighbor) {
            entry.interface = interface;
            entry.session.handle(session::Event::Configure(config), now);
        } else {
            let name = self.unused_name();
            let seed = self.draw();
            self.names.insert(name, neighbor);
            let session = Session::new(config, name, seed, now);
            self.sessions.insert(neighbor, Entry { session, interface });
        }
        self.collect(neighbor);
    }

    /// Ends a session; the neighbour is told that this is no failure.
    pub fn remove(&mut self, neighbor: IpAddr, now: Instant) {
        if let Some(entry) = self.sessions.get_mut(&neighbor) {
            entry.session.handle(session::Event::AdminDown, now);
            self.names.remove(&entry.session.discriminator());
        }
        self.collect(neighbor);
        self.sessions.remove(&neighbor);
    }

    /// Every neighbour.
    pub fn neighbors(&self) -> Vec<IpAddr> {
        self.sessions.keys().copied().collect()
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// Why it is not taken; it has been counted.
    pub fn receive(&mut self, packet: Received<'_>, now: Instant) -> Result<(), Discard> {
        let taken = self.find(packet);
        match taken {
            Ok((neighbor, control)) => {
                if let Some(entry) = self.sessions.get_mut(&neighbor) {
                    entry.session.handle(session::Event::Received(control), now);
                }
                self.collect(neighbor);
                Ok(())
            }
            Err(reason) => {
                self.discarded.count(reason);
                Err(reason)
            }
        }
    }

    /// Lets pass what is due.
    pub fn timeout(&mut self, now: Instant) {
        let due: Vec<IpAddr> = self
            .sessions
            .iter()
            .filter(|(_, entry)| entry.session.poll_timeout().is_some_and(|at| at <= now))
            .map(|(neighbor, _)| *neighbor)
            .collect();
        for neighbor in due {
            if let Some(entry) = self.sessions.get_mut(&neighbor) {
                entry.session.handle(session::Event::Timeout, now);
            }
            self.collect(neighbor);
        }
    }

    /// When [`Engine::timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sessions
            .values()
            .filter_map(|entry| entry.session.poll_timeout())
            .min()
    }

    /// The next thing to do, and with which neighbour.
    pub fn poll_output(&mut self) -> Option<(IpAddr, Output)> {
        self.outputs.pop_front()
    }

    /// State of the session with a neighbour.
    pub fn state(&self, neighbor: IpAddr) -> Option<State> {
        self.sessions.get(&neighbor).map(|entry| entry.session.state())
    }

    /// Every session, for people.
    pub fn view(&self, now: Instant) -> BfdState {
        BfdState {
            sessions: self
                .sessions
                .iter()
                .map(|(neighbor, entry)| BfdView::new(*neighbor, &entry.session, now))
                .collect(),
            discarded: self.discarded,
        }
    }

    fn find(&self, packet: Received<'_>) -> Result<(IpAddr, Control), Discard> {
        if packet.ttl != Some(TTL) {
            return Err(Discard::Ttl);
        }
        let control = Control::parse(packet.bytes)?;
        let neighbor = match control.your_discriminator {
            0 => packet.from,
            name => *self.names.get(&name).ok_or(Discard::UnknownSession)?,
        };
        let entry = self.sessions.get(&neighbor).ok_or(Discard::UnknownSession)?;
        let elsewhere = matches!((entry.interface, packet.interface), (Some(ours), Some(theirs)) if ours != theirs);
        if neighbor != packet.from || elsewhere {
            return Err(Discard::UnknownSession);
        }
        Ok((neighbor, control))
    }

    fn collect(&mut self, neighbor: IpAddr) {
        if let Some(entry) = self.sessions.get_mut(&neighbor) {
            while let Some(output) = entry.session.poll_output() {
                self.outputs.push_back((neighbor, output));
            }
        }
    }

    fn unused_name(&mut self) -> u32 {
        loop {
            let name = (self.draw() >> 32) as u32;
            if name != 0 && !self.names.contains_key(&name) {
                return name;
            }
        }
    }

    fn draw(&mut self) -> u64 {
        super::session::draw(&mut self.random)
    }
}
