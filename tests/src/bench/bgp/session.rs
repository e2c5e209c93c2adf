//! A peer's session: the handshake, and messages out of a stream of bytes. No keepalives: the hold time is longer than a run.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{LOCAL, address, asn, codec};
use crate::{Namespace, within};

/// How long a program may take to let a peer in.
const ESTABLISHED: Duration = Duration::from_secs(60);
/// Longest silence while something is awaited. A full table on a busy machine is well within.
pub const SILENCE: Duration = Duration::from_secs(300);
const READ_SIZE: usize = 256 * 1024;

/// An established session.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    messages: Messages,
}

impl Session {
    /// Opens the session of `peer` from its namespace, again and again until the program takes it.
    ///
    /// # Errors
    /// If it does not.
    pub fn connect(namespace: &Namespace, peer: u16) -> Result<Self, String> {
        namespace.enter(|| {
            let attempt = || {
                let mut session = Self::over(dial(peer).map_err(|error| error.to_string())?)?;
                session.open(peer)?;
                Ok(session)
            };
            let (session, _) = within(ESTABLISHED, attempt).map_err(|error| format!("peer {peer}: {error}"))?;
            Ok(session)
        })
    }

    /// Answers the next peer that connects, as the program under test would.
    ///
    /// # Errors
    /// If that is not BGP.
    pub fn accept(listener: &TcpListener) -> Result<Self, String> {
        let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
        let mut session = Self::over(stream)?;
        let open = codec::open(super::LOCAL_AS, LOCAL);
        session.send(&open)?;
        session.expect(codec::OPEN)?;
        session.send(&codec::message(codec::KEEPALIVE, &[]))?;
        session.expect(codec::KEEPALIVE)?;
        Ok(session)
    }

    /// The half that sends and the half that receives.
    ///
    /// # Errors
    /// If the kernel refuses a second handle.
    pub fn split(self) -> Result<(TcpStream, Receiver), String> {
        let writer = self.stream.try_clone().map_err(|error| error.to_string())?;
        let receiver = Receiver {
            stream: self.stream,
            messages: self.messages,
        };
        Ok((writer, receiver))
    }

    fn over(stream: TcpStream) -> Result<Self, String> {
        let set = || {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            stream.set_write_timeout(Some(SILENCE))
        };
        set().map_err(|error| error.to_string())?;
        Ok(Self {
            stream,
            messages: Messages::default(),
        })
    }

    fn open(&mut self, peer: u16) -> Result<(), String> {
        self.send(&codec::open(asn(peer), address(peer)))?;
        self.expect(codec::OPEN)?;
        self.send(&codec::message(codec::KEEPALIVE, &[]))?;
        self.expect(codec::KEEPALIVE)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| error.to_string())
    }

    fn expect(&mut self, wanted: u8) -> Result<(), String> {
        loop {
            match self.messages.next()? {
                Some((kind, _)) if kind == wanted => return Ok(()),
                Some((kind, body)) => return Err(format!("message of type {kind} instead of {wanted}: {body:02x?}")),
                None => self
                    .messages
                    .fill(&mut self.stream)
                    .map_err(|error| error.to_string())?,
            }
        }
    }
}

/// The half of a session that receives.
#[derive(Debug)]
pub struct Receiver {
    stream: TcpStream,
    messages: Messages,
}

impl Receiver {
    /// Waits for bytes, then calls `each` with type and body of every whole message.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn receive(&mut self, mut each: impl FnMut(u8, &[u8])) -> Result<(), String> {
        let filled = self.messages.fill(&mut self.stream);
        filled.map_err(|error| format!("session lost: {error}"))?;
        while let Some((kind, body)) = self.messages.next()? {
            if kind == codec::NOTIFICATION {
                return Err(format!("NOTIFICATION {body:02x?}"));
            }
            each(kind, body);
        }
        Ok(())
    }
}

/// Bytes received, and how far they have been read.
#[derive(Debug, Default)]
struct Messages {
    buffer: Vec<u8>,
    read: usize,
}

impl Messages {
    fn fill(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.buffer.drain(..self.read);
        self.read = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + READ_SIZE, 0);
        let n = stream.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + *n.as_ref().unwrap_or(&0));
        match n? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn next(&mut self) -> Result<Option<(u8, &[u8])>, String> {
        let rest = &self.buffer[self.read..];
        let Some(header) = rest.first_chunk::<{ codec::HEADER }>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        if length < codec::HEADER {
            return Err(format!("a message of {length} octets"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.read;
        self.read += length;
        Ok(Some((header[18], &self.buffer[from + codec::HEADER..self.read])))
    }
}

fn dial(peer: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address(peer), 0)).into())?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect_timeout(&SocketAddr::from((LOCAL, 179)).into(), Duration::from_secs(2))?;
    Ok(socket.into())
}
