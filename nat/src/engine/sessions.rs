//! The log of sessions: who had which public port with whom, and until when (RFC 8158 section 5.6.1).

use std::collections::VecDeque;

use net::VrfId;

use super::Engine;
use crate::verdict::EndReason;
use crate::view::Tuple;

/// Most events kept for a caller who does not fetch them.
const EVENTS: usize = 4096;

/// A connection was made, or has ended (RFC 8158, `natEvent` 4 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEvent {
    /// VRF of the end inside.
    pub vrf: VrfId,
    /// IP protocol number.
    pub protocol: u8,
    /// Packets of the original direction as they arrive.
    pub original: Tuple,
    /// The same packets as they leave.
    pub translated: Tuple,
    /// Opened by the end inside (`natOriginatingAddressRealm` 1, not 2).
    pub from_inside: bool,
    /// How it ended; `None` if it was made.
    pub ended: Option<Ended>,
}

/// The end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// Packets of the original and of the reply direction.
    pub packets: [u64; 2],
    /// Bytes of the original and of the reply direction.
    pub bytes: [u64; 2],
}

/// Events that were not fetched yet; allocated once.
#[derive(Debug, Default)]
pub(super) struct SessionLog {
    events: VecDeque<SessionEvent>,
    on: bool,
    lost: u64,
}

impl Engine {
    /// Keeps events of sessions for [`Engine::next_session_event`] from now on.
    pub fn log_sessions(&mut self) {
        self.sessions.on = true;
        self.sessions.events.reserve_exact(EVENTS);
    }

    /// What became of a session, in order; `None` once everything was told. Fetch them often: some thousands are kept, and
    /// later ones are lost and counted.
    pub fn next_session_event(&mut self) -> Option<SessionEvent> {
        self.sessions.events.pop_front()
    }

    /// Events that were lost for want of room.
    pub(super) fn session_events_lost(&self) -> u64 {
        self.sessions.lost
    }

    /// Does `act` without a line in the log: what it makes or ends was, or will be, logged elsewhere.
    pub(super) fn without_session_log<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let on = std::mem::replace(&mut self.sessions.on, false);
        let result = act(self);
        self.sessions.on = on;
        result
    }

    /// Logs that a connection was made, or why it ends.
    #[inline]
    pub(super) fn log_session(&mut self, connection: u32, reason: Option<EndReason>) {
        if self.sessions.on {
            self.note_session(connection, reason);
        }
    }

    #[cold]
    fn note_session(&mut self, connection: u32, reason: Option<EndReason>) {
        if self.sessions.events.len() == EVENTS {
            self.sessions.lost += 1;
            return;
        }
        let [original, reply] = self.connections.pair(connection);
        let (original_tuple, translated) = self.tuples(connection);
        let event = SessionEvent {
            vrf: self.subscriber(connection).vrf,
            protocol: original.key.protocol(),
            original: original_tuple,
            translated,
            from_inside: original.key.vrf() != VrfId::DEFAULT,
            ended: reason.map(|reason| Ended {
                reason,
                packets: [original.packets, reply.packets],
                bytes: [original.bytes, reply.bytes],
            }),
        };
        self.sessions.events.push_back(event);
    }
}
