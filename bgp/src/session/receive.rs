//! What a connection's bytes do: messages by state (RFC 4271 section 8.2.2), the OPEN exchange, and collisions.

use std::sync::Arc;
use std::time::Instant;

use super::connection::Failure;
use super::{ConnectionId, Direction, Output, Session, State, negotiation};
use crate::wire::{self, Cease, Message, Notification, Open, Outcome, Update, code, fsm};

impl Session {
    pub(super) fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        if let Some(connection) = self.connection(id) {
            connection.buffer.extend_from_slice(bytes);
        }
        // Each message may end the connection, so it is looked up anew.
        let longest = if self.config.capabilities.extended_messages {
            wire::EXTENDED_MAX_MESSAGE
        } else {
            wire::MAX_MESSAGE
        };
        while let Some(connection) = self.connection(id) {
            let message = match wire::split_message(&mut connection.buffer, longest) {
                Ok(None) => return,
                Ok(Some(bytes)) => wire::decode(bytes),
                Err(notification) => Err(notification),
            };
            match message {
                Ok(message) => {
                    self.statistics.messages_in += 1;
                    self.statistics.received.received(&message);
                    self.message(id, message, now);
                }
                Err(notification) => self.fail(id, Failure::ours(notification), now),
            }
        }
    }

    fn message(&mut self, id: ConnectionId, message: Message, now: Instant) {
        let refreshed = now + self.config.stale_time;
        let Some(connection) = self.connection(id) else { return };
        match (connection.state, message) {
            (_, Message::Notification(notification)) => {
                self.fail(id, Failure::theirs(notification), now);
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
                    Some(Ok(update)) => {
                        connection.ended.extend(update.end_of_rib);
                        self.update(update);
                    }
                    Some(Err(notification)) => self.fail(id, Failure::ours(notification), now),
                    None => {}
                }
            }
            (State::Established, Message::RouteRefresh(family, kind)) => {
                connection.restart_hold(now);
                let output = family.and_then(|family| connection.refresh(family, kind, refreshed));
                match output {
                    Some(Output::Refresh(_)) => self.statistics.refreshes_out += 1,
                    Some(Output::RefreshEnds(_)) => self.statistics.refreshes_in += 1,
                    _ => {}
                }
                self.outputs.extend(output);
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

    fn update(&mut self, update: Update) {
        match update.outcome {
            Outcome::TreatAsWithdraw => self.statistics.treated_as_withdraw += 1,
            Outcome::AttributeDiscard => self.statistics.attributes_discarded += update.faults.len() as u64,
            Outcome::Clean => {}
        }
        self.outputs.push_back(Output::Update(update));
    }
}
