//! The messages of the standby protocol, version 1. All numbers are big-endian.
//!
//! ```text
//! length u32 │ kind u8 │ body │ checksum u64        length: of kind, body and checksum; checksum: of kind and body
//!
//! 1 hello  magic "turnpike", version u16, record format u16, record length u16, role u8, limit u32
//! 2 begin  stream u64
//! 3 batch  stream u64, number of the first change u64, changes u16, then each: 1, worker u16, slot u32, record
//!                                                                           or 2, worker u16, slot u32
//! 4 whole  stream u64, changes before it u64
//! 5 ack    stream u64, changes applied u64
//! 6 alive
//! ```
//! Both ends say hello first; a sender waits for the other's before it begins. Records are those of a snapshot
//! (`snapshot.rs`). No message is longer than [`LONGEST`], so that an end never holds more than one and a read.

use super::{News, Place, StandbyError};
use crate::snapshot;

/// Version of the protocol.
pub(super) const VERSION: u16 = 1;
/// Longest message, without its length.
pub(super) const LONGEST: usize = 1 << 16;
/// Changes of a batch, at most.
pub(super) const BATCH: usize = 256;

const MAGIC: [u8; 8] = *b"turnpike";
const CHECKSUM: usize = 8;
const PLACE: usize = 7;
const _: () = assert!(
    BATCH * (PLACE + snapshot::RECORD) + 64 < LONGEST,
    "a batch fits a message"
);

/// What an end does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sends,
    Receives,
}

/// How an end introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) role: Role,
    /// Connections that it has room for.
    pub(super) limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Hello(Hello),
    Begin { stream: u64 },
    Batch { stream: u64, first: u64, news: Vec<News> },
    Whole { stream: u64, changes: u64 },
    Ack { stream: u64, changes: u64 },
    Alive,
}

impl Message {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Begin { .. } => "begin",
            Self::Batch { .. } => "batch",
            Self::Whole { .. } => "whole",
            Self::Ack { .. } => "ack",
            Self::Alive => "alive",
        }
    }

    /// Appends the message.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        match self {
            Self::Hello(hello) => {
                out.push(1);
                out.extend(MAGIC);
                for number in [VERSION, snapshot::VERSION, snapshot::RECORD as u16] {
                    out.extend(number.to_be_bytes());
                }
                out.push(match hello.role {
                    Role::Sends => 1,
                    Role::Receives => 2,
                });
                out.extend(hello.limit.to_be_bytes());
            }
            Self::Begin { stream } => numbers(2, &[*stream], out),
            Self::Batch { stream, first, news } => {
                numbers(3, &[*stream, *first], out);
                out.extend((news.len() as u16).to_be_bytes());
                news.iter().for_each(|news| write_news(news, out));
            }
            Self::Whole { stream, changes } => numbers(4, &[*stream, *changes], out),
            Self::Ack { stream, changes } => numbers(5, &[*stream, *changes], out),
            Self::Alive => out.push(6),
        }
        let sum = snapshot::checksum(&out[start + 4..]);
        out.extend(sum.to_be_bytes());
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Reads kind and body.
    fn read(bytes: &[u8]) -> Result<Self, StandbyError> {
        let (kind, body) = bytes.split_first().ok_or(StandbyError::Length(0))?;
        let mut body = Body(body);
        let message = match kind {
            1 => return hello(body).map(Self::Hello),
            2 => body.u64().map(|stream| Self::Begin { stream }),
            3 => batch(&mut body),
            4 => body.pair().map(|[stream, changes]| Self::Whole { stream, changes }),
            5 => body.pair().map(|[stream, changes]| Self::Ack { stream, changes }),
            6 => Some(Self::Alive),
            other => return Err(StandbyError::Kind(*other)),
        };
        let name = ["", "hello", "begin", "batch", "whole", "ack", "alive"][usize::from(*kind)];
        message
            .filter(|_| body.0.is_empty())
            .ok_or(StandbyError::Malformed(name))
    }
}

fn numbers(kind: u8, numbers: &[u64], out: &mut Vec<u8>) {
    out.push(kind);
    numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
}

fn write_news(news: &News, out: &mut Vec<u8>) {
    let (kind, place) = match news {
        News::Is(place, _) => (1, place),
        News::Gone(place) => (2, place),
        News::AllTold(_) => unreachable!("a sender keeps for itself who has told all"),
    };
    out.push(kind);
    out.extend(place.worker.to_be_bytes());
    out.extend(place.slot.to_be_bytes());
    if let News::Is(_, connection) = news {
        snapshot::write(connection, out);
    }
}

/// A hello of any version begins alike, so that a newer peer is told from a stranger.
fn hello(mut body: Body<'_>) -> Result<Hello, StandbyError> {
    if body.take() != Some(MAGIC) {
        return Err(StandbyError::Stranger);
    }
    let malformed = StandbyError::Malformed("hello");
    let version = body.u16().ok_or(malformed.clone())?;
    if version != VERSION {
        return Err(StandbyError::Version {
            ours: VERSION,
            theirs: version,
        });
    }
    let (format, length) = (body.u16(), body.u16());
    let (Some(format), Some(length)) = (format, length) else {
        return Err(malformed);
    };
    if (format, usize::from(length)) != (snapshot::VERSION, snapshot::RECORD) {
        return Err(StandbyError::Records {
            ours: snapshot::VERSION,
            theirs: format,
        });
    }
    let role = match body.take() {
        Some([1]) => Role::Sends,
        Some([2]) => Role::Receives,
        _ => return Err(malformed),
    };
    match (body.u32(), body.0.is_empty()) {
        (Some(limit), true) => Ok(Hello { role, limit }),
        _ => Err(malformed),
    }
}

fn batch(body: &mut Body<'_>) -> Option<Message> {
    let [stream, first] = body.pair()?;
    let count = usize::from(body.u16()?);
    if count > BATCH {
        return None;
    }
    let mut news = Vec::with_capacity(count);
    for _ in 0..count {
        let [kind] = body.take()?;
        let place = Place {
            worker: body.u16()?,
            slot: body.u32()?,
        };
        news.push(match kind {
            1 => News::Is(place, snapshot::record(&body.take::<{ snapshot::RECORD }>()?).ok()?),
            2 => News::Gone(place),
            _ => return None,
        });
    }
    Some(Message::Batch { stream, first, news })
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn pair(&mut self) -> Option<[u64; 2]> {
        Some([self.u64()?, self.u64()?])
    }
}

/// Bytes that came and are no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// Takes the next message out; `None` until all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Message>, StandbyError> {
        let Some((length, rest)) = self.0.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        if !(1 + CHECKSUM..=LONGEST).contains(&(length as usize)) {
            // What is no such protocol at all is likely to be found out here.
            return Err(StandbyError::Length(length));
        }
        let Some(frame) = rest.get(..length as usize) else {
            return Ok(None);
        };
        let (content, sum) = frame.split_at(frame.len() - CHECKSUM);
        if snapshot::checksum(content).to_be_bytes() != sum {
            return Err(StandbyError::Checksum);
        }
        let message = Message::read(content);
        self.0.drain(..4 + length as usize);
        message.map(Some)
    }
}

/// Bytes to send.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Those that were sent.
    sent: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, message: &Message) {
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
        message.write(&mut self.bytes);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn wrote(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.bytes.len());
    }
}
