//! The end that keeps another gateway's connections: one for all connections of the transport, of which one at a time is
//! in use.

use std::collections::HashMap;

use super::wire::{Hello, Inbox, Message, Outbox, Role};
use super::{HOLD, KEEP_ALIVE, News, Place, StandbyError};
use crate::snapshot::SavedConnection;
use crate::time::Millis;

type Kept = HashMap<Place, SavedConnection>;

/// Keeps the connections of another gateway.
#[derive(Debug)]
pub struct Receiver {
    limit: u32,
    /// The connections of the last stream that was whole, with its changes.
    kept: Kept,
    /// What a stream has told that is not whole yet.
    unfinished: Kept,
    session: Option<Session>,
    /// When the sender was last heard.
    heard: Millis,
    applied: u64,
    refused: u64,
}

/// A connection of the transport.
#[derive(Debug)]
struct Session {
    inbox: Inbox,
    outbox: Outbox,
    greeted: bool,
    stream: Option<u64>,
    /// Everything that there was when the stream began was told.
    whole: bool,
    /// Changes applied, and those that the sender was told of.
    changes: u64,
    acknowledged: u64,
    said: Millis,
}

/// What a receiver waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiverState {
    /// A sender.
    Waiting,
    /// The end of everything that the sender has.
    Synchronizing,
    /// Changes.
    Synchronized,
}

impl Receiver {
    /// Keeps `limit` connections at most.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            kept: Kept::new(),
            unfinished: Kept::new(),
            session: None,
            heard: Millis::default(),
            applied: 0,
            refused: 0,
        }
    }

    /// A sender has connected. A connection before it is over.
    pub fn connect(&mut self, now: Millis) {
        let mut outbox = Outbox::default();
        outbox.push(&Message::Hello(Hello {
            role: Role::Receives,
            limit: self.limit,
        }));
        self.heard = self.heard.max(now);
        self.session = Some(Session {
            inbox: Inbox::default(),
            outbox,
            greeted: false,
            stream: None,
            whole: false,
            changes: 0,
            acknowledged: 0,
            said: now,
        });
    }

    /// The connection is over. What was told stays.
    pub fn disconnect(&mut self) {
        self.session = None;
    }

    /// Bytes came from the sender.
    ///
    /// # Errors
    /// [`StandbyError`]: give the connection up.
    pub fn receive(&mut self, bytes: &[u8], now: Millis) -> Result<(), StandbyError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session.inbox.push(bytes);
        while let Some(session) = &mut self.session
            && let Some(message) = session.inbox.next()?
        {
            self.handle(message)?;
            self.heard = self.heard.max(now);
        }
        Ok(())
    }

    fn handle(&mut self, message: Message) -> Result<(), StandbyError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        match (message, session.stream) {
            (Message::Hello(_), _) if session.greeted => Err(StandbyError::Unexpected("hello")),
            (Message::Hello(hello), _) if hello.role == Role::Receives => Err(StandbyError::Role("receives")),
            (Message::Hello(_), _) => {
                session.greeted = true;
                Ok(())
            }
            (message, _) if !session.greeted => Err(StandbyError::Unexpected(message.name())),
            (Message::Begin { stream }, None) => {
                session.stream = Some(stream);
                self.unfinished = Kept::new();
                Ok(())
            }
            (Message::Alive, _) => Ok(()),
            (Message::Batch { stream, .. } | Message::Whole { stream, .. }, Some(expected)) if stream != expected => {
                Err(StandbyError::Stream {
                    expected,
                    found: stream,
                })
            }
            (Message::Batch { first, news, .. }, Some(_)) => {
                let expected = session.changes + 1;
                if first != expected {
                    return Err(StandbyError::Sequence { expected, found: first });
                }
                session.changes += news.len() as u64;
                let kept = match session.whole {
                    true => &mut self.kept,
                    false => &mut self.unfinished,
                };
                self.applied += news.len() as u64;
                for news in news {
                    match news {
                        News::Is(place, connection) => {
                            if kept.len() < self.limit as usize || kept.contains_key(&place) {
                                kept.insert(place, connection);
                            } else {
                                self.refused += 1;
                            }
                        }
                        News::Gone(place) => drop(kept.remove(&place)),
                        News::AllTold(_) => {}
                    }
                }
                Ok(())
            }
            (Message::Whole { changes, .. }, Some(_)) => {
                if session.whole {
                    return Err(StandbyError::Unexpected("whole"));
                }
                if changes != session.changes {
                    return Err(StandbyError::Sequence {
                        expected: session.changes,
                        found: changes,
                    });
                }
                session.whole = true;
                self.kept = std::mem::take(&mut self.unfinished);
                Ok(())
            }
            (message, _) => Err(StandbyError::Unexpected(message.name())),
        }
    }

    /// Bytes to send to the sender.
    pub fn output(&mut self, now: Millis) -> &[u8] {
        let Some(session) = &mut self.session else {
            return &[];
        };
        if let Some(stream) = session.stream
            && session.acknowledged < session.changes
            && session.outbox.bytes().is_empty()
        {
            let changes = session.changes;
            session.outbox.push(&Message::Ack { stream, changes });
            session.acknowledged = changes;
        }
        if !session.outbox.bytes().is_empty() {
            session.said = session.said.max(now);
        }
        session.outbox.bytes()
    }

    /// The first `count` bytes of [`Receiver::output`] were sent.
    pub fn wrote(&mut self, count: usize) {
        if let Some(session) = &mut self.session {
            session.outbox.wrote(count);
        }
    }

    /// When [`Receiver::timeout`] is to be called; never without a connection.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let session = self.session.as_ref()?;
        Some(Millis((self.heard.0 + HOLD).min(session.said.0 + KEEP_ALIVE)))
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`StandbyError::Silent`]: give the connection up.
    pub fn timeout(&mut self, now: Millis) -> Result<(), StandbyError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        if now.0 >= self.heard.0 + HOLD {
            return Err(StandbyError::Silent(HOLD / 1000));
        }
        if now.0 >= session.said.0 + KEEP_ALIVE {
            // What waits for the transport says as much.
            if session.outbox.bytes().is_empty() {
                session.outbox.push(&Message::Alive);
            }
            session.said = now;
        }
        Ok(())
    }

    /// What it waits for.
    pub fn state(&self) -> ReceiverState {
        match &self.session {
            Some(session) if session.whole => ReceiverState::Synchronized,
            Some(session) if session.stream.is_some() => ReceiverState::Synchronizing,
            _ => ReceiverState::Waiting,
        }
    }

    /// Number of the stream that is received.
    pub fn stream(&self) -> Option<u64> {
        self.session.as_ref().and_then(|session| session.stream)
    }

    /// Connections that a takeover would find.
    pub fn connections(&self) -> usize {
        self.kept.len().max(self.unfinished.len())
    }

    /// The kept connections, those of a stream that is not whole first: of two that contradict each other the first one is
    /// the newer.
    pub fn kept(&self) -> impl Iterator<Item = (&Place, &SavedConnection)> {
        self.unfinished.iter().chain(&self.kept)
    }

    /// The same, to be taken over: they are not kept any more. A sender that is still connected goes on to tell what
    /// changes.
    pub fn take(&mut self) -> Vec<(Place, SavedConnection)> {
        let unfinished = std::mem::take(&mut self.unfinished).into_iter();
        unfinished.chain(std::mem::take(&mut self.kept)).collect()
    }

    /// Keeps again what was taken in vain, except for what has changed since.
    pub fn put_back(&mut self, taken: Vec<(Place, SavedConnection)>) {
        for (place, connection) in taken {
            if !self.unfinished.contains_key(&place) && self.kept.len() < self.limit as usize {
                self.kept.entry(place).or_insert(connection);
            }
        }
    }

    /// Milliseconds since the sender was last heard.
    pub fn silent(&self, now: Millis) -> u64 {
        now.0.saturating_sub(self.heard.0)
    }

    /// Changes applied since the start.
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Connections not kept since the start, because there was no room.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}
