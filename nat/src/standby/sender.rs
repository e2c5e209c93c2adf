//! The end that has the connections: one for each connection of the transport.

use super::wire::{BATCH, Hello, Inbox, Message, Outbox, Role};
use super::{Change, HOLD, KEEP_ALIVE, News, StandbyError};
use crate::time::Millis;

/// Changes that may be on their way, or at the receiver and not acknowledged.
const WINDOW: u64 = 16_384;
/// Bytes that may wait for the transport before no more changes are taken.
const BACKLOG: usize = 1 << 17;

/// Streams connections to a standby.
#[derive(Debug)]
pub struct Sender {
    stream: u64,
    workers: u16,
    inbox: Inbox,
    outbox: Outbox,
    /// The other end said hello.
    greeted: bool,
    /// The caller was told to begin.
    begun: bool,
    batch: Vec<News>,
    /// Changes taken, those of `batch` as well.
    taken: u64,
    acknowledged: u64,
    /// Workers that have not told all yet.
    telling: u16,
    /// Changes before the message that said that all was told.
    whole: Option<u64>,
    /// Connections that the standby has room for.
    limit: u32,
    heard: Millis,
    said: Millis,
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Changes taken.
    pub taken: u64,
    /// Changes that the standby has.
    pub acknowledged: u64,
    /// The standby has everything that there was when the stream began.
    pub synchronized: bool,
    /// Connections that the standby has room for; 0 before its hello.
    pub limit: u32,
}

impl Sender {
    /// The end of a new connection, which is to carry the stream of this number, from so many workers. No other stream
    /// to the same standby may have the number.
    pub fn new(stream: u64, workers: u16, now: Millis) -> Self {
        let mut outbox = Outbox::default();
        outbox.push(&Message::Hello(Hello {
            role: Role::Sends,
            limit: 0,
        }));
        Self {
            stream,
            workers,
            inbox: Inbox::default(),
            outbox,
            greeted: false,
            begun: false,
            batch: Vec::with_capacity(BATCH),
            taken: 0,
            acknowledged: 0,
            telling: workers,
            whole: None,
            limit: 0,
            heard: now,
            said: now,
        }
    }

    /// Number of the stream.
    pub const fn stream(&self) -> u64 {
        self.stream
    }

    /// Bytes came from the standby.
    ///
    /// # Errors
    /// [`StandbyError`]: give the connection up.
    pub fn receive(&mut self, bytes: &[u8], now: Millis) -> Result<(), StandbyError> {
        self.heard = self.heard.max(now);
        self.inbox.push(bytes);
        while let Some(message) = self.inbox.next()? {
            self.handle(&message)?;
        }
        Ok(())
    }

    fn handle(&mut self, message: &Message) -> Result<(), StandbyError> {
        match *message {
            Message::Hello(_) if self.greeted => Err(StandbyError::Unexpected("hello")),
            Message::Hello(Hello { role: Role::Sends, .. }) => Err(StandbyError::Role("sends")),
            Message::Hello(hello) => {
                self.greeted = true;
                self.limit = hello.limit;
                let stream = self.stream;
                self.outbox.push(&Message::Begin { stream });
                Ok(())
            }
            Message::Ack { .. } | Message::Alive if !self.greeted => Err(StandbyError::Unexpected(message.name())),
            Message::Ack { stream, .. } if stream != self.stream => Err(StandbyError::Stream {
                expected: self.stream,
                found: stream,
            }),
            Message::Ack { changes, .. } => {
                let sent = self.taken - self.batch.len() as u64;
                if changes > sent || changes < self.acknowledged {
                    return Err(StandbyError::Acknowledged {
                        acknowledged: changes,
                        sent,
                    });
                }
                self.acknowledged = changes;
                Ok(())
            }
            Message::Alive => Ok(()),
            Message::Begin { .. } | Message::Batch { .. } | Message::Whole { .. } => {
                Err(StandbyError::Unexpected(message.name()))
            }
        }
    }

    /// True once: when every worker's engine is to be told [`crate::Engine::begin_stream`].
    pub fn begins(&mut self) -> bool {
        self.greeted && !std::mem::replace(&mut self.begun, self.greeted)
    }

    /// Changes that may be offered now. Leave others where they are.
    pub fn room(&self) -> usize {
        if !self.begun || self.outbox.bytes().len() > BACKLOG {
            return 0;
        }
        WINDOW.saturating_sub(self.taken - self.acknowledged) as usize
    }

    /// Takes a change. One of another stream is nothing to this one.
    pub fn offer(&mut self, change: &Change) {
        if change.stream != self.stream || !self.begun {
            return;
        }
        if let News::AllTold(_) = change.news {
            self.telling = self.telling.saturating_sub(1);
            if self.telling == 0 && self.whole.is_none() {
                self.send_batch();
                self.whole = Some(self.taken);
                self.outbox.push(&Message::Whole {
                    stream: self.stream,
                    changes: self.taken,
                });
            }
            return;
        }
        self.taken += 1;
        self.batch.push(change.news);
        if self.batch.len() == BATCH {
            self.send_batch();
        }
    }

    fn send_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let message = Message::Batch {
            stream: self.stream,
            first: self.taken - self.batch.len() as u64 + 1,
            news: std::mem::take(&mut self.batch),
        };
        self.outbox.push(&message);
        if let Message::Batch { mut news, .. } = message {
            news.clear();
            self.batch = news;
        }
    }

    /// Bytes to send to the standby, those of changes offered before as well.
    pub fn output(&mut self, now: Millis) -> &[u8] {
        self.send_batch();
        if !self.outbox.bytes().is_empty() {
            self.said = self.said.max(now);
        }
        self.outbox.bytes()
    }

    /// The first `count` bytes of [`Sender::output`] were sent.
    pub fn wrote(&mut self, count: usize) {
        self.outbox.wrote(count);
    }

    /// When [`Sender::timeout`] is to be called.
    pub fn poll_timeout(&self) -> Millis {
        Millis((self.heard.0 + HOLD).min(self.said.0 + KEEP_ALIVE))
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`StandbyError::Silent`]: give the connection up.
    pub fn timeout(&mut self, now: Millis) -> Result<(), StandbyError> {
        if now.0 >= self.heard.0 + HOLD {
            return Err(StandbyError::Silent(HOLD / 1000));
        }
        if now.0 >= self.said.0 + KEEP_ALIVE {
            // What waits for the transport says as much.
            if self.outbox.bytes().is_empty() {
                self.outbox.push(&Message::Alive);
            }
            self.said = now;
        }
        Ok(())
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress {
            taken: self.taken,
            acknowledged: self.acknowledged,
            synchronized: self.whole.is_some_and(|changes| changes <= self.acknowledged),
            limit: self.limit,
        }
    }

    /// Workers that have told everything that they had at the beginning.
    pub const fn told(&self) -> u16 {
        self.workers - self.telling
    }
}
