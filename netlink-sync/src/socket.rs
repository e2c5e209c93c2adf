//! The edge: a netlink socket in tokio. Subscription, dumps, and batches of requests paced by acknowledgements.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};
use tokio::time::timeout;

use crate::Error;
use crate::frame::{Frame, Frames, Nack, Truncated, push, push_raw};
use crate::heard::{Heard, ObservedRoute, hear};
use crate::inbound::Snapshot;
use crate::object::Object;

/// Larger than any message the kernel makes (32 KiB since Linux 4.9, more for interfaces with virtual functions).
const BUFFER: usize = 256 << 10;
/// Receive buffer of the sockets that ask, bytes.
const ANSWERS: usize = 4 << 20;
/// Acknowledgements come from the system call itself; this long without one means that something is broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// A dump that the kernel marks as interrupted by a change is tried again this often.
const TRIES: u32 = 8;

/// Multicast groups: links, neighbours (and forwarding databases), IPv4 and IPv6 addresses, routes and rules.
const GROUPS: [u32; 8] = [1, 3, 5, 9, 7, 11, 8, 19];
/// Multicast group of next-hop objects, since Linux 5.3; older kernels have none of them.
const NEXT_HOP_GROUP: u32 = 32;

/// `RTM_GETNEXTHOP`, and `struct nhmsg`: all of every family.
const GET_OBJECT: u16 = 106;
const ANY_OBJECT: [u8; 8] = [0; 8];

/// `NLMSG_ERROR` and `NLMSG_DONE`.
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;

/// What a read gave.
pub(crate) enum Received {
    /// One datagram of the kernel's, now in [`Netlink::datagram`].
    Datagram,
    /// The kernel dropped messages because this socket was full.
    Overrun,
}

/// A socket of the routing family, in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: TokioSocket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket for requests and dumps, with room for more answers than are ever under way.
    pub(crate) fn open() -> Result<Self, Error> {
        Self::with_room(ANSWERS)
    }

    fn with_room(receive_buffer: usize) -> Result<Self, Error> {
        let step = |step| move |source| Error::Socket { step, source };
        let mut netlink = TokioSocket::new(NETLINK_ROUTE).map_err(step("open"))?;
        let socket = netlink.socket_mut();
        let port = socket.bind_auto().map_err(step("bind"))?.port_number();
        socket.connect(&SocketAddr::new(0, 0)).map_err(step("connect"))?;
        // Niceties of newer kernels: filters in dumps, short acknowledgements, and the reason in words.
        for (name, result) in [
            ("NETLINK_GET_STRICT_CHK", socket.set_netlink_get_strict_chk(true)),
            ("NETLINK_CAP_ACK", socket.set_cap_ack(true)),
            ("NETLINK_EXT_ACK", socket.set_ext_ack(true)),
        ] {
            if let Err(error) = result {
                tracing::debug!(option = name, %error, "the kernel does without");
            }
        }
        // Past the system's limit with CAP_NET_ADMIN, up to it without.
        setsockopt(socket, sockopt::RcvBufForce, &receive_buffer)
            .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &receive_buffer))
            .map_err(|errno| Error::Socket {
                step: "receive buffer",
                source: errno.into(),
            })?;
        Ok(Self {
            socket: netlink,
            port,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// A socket that is subscribed to everything the mirror reads.
    pub(crate) fn subscribe(receive_buffer: usize) -> Result<Self, Error> {
        let this = Self::with_room(receive_buffer)?;
        let socket = this.socket.socket_ref();
        for group in GROUPS {
            socket.add_membership(group).map_err(|source| Error::Socket {
                step: "subscribe",
                source,
            })?;
        }
        if let Err(error) = socket.add_membership(NEXT_HOP_GROUP) {
            tracing::debug!(%error, "no next-hop objects in this kernel");
        }
        Ok(this)
    }

    /// `nlmsg_pid` of what this socket causes.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The datagram that was read last.
    pub(crate) fn datagram(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits for the next datagram of the kernel. Nothing is lost when the future is dropped.
    pub(crate) async fn receive(&mut self) -> io::Result<Received> {
        let Self { socket, buffer, .. } = self;
        loop {
            buffer.clear();
            let from = poll_fn(|cx| socket.poll_recv_from(cx, buffer)).await;
            if let Some(received) = classify(from, buffer)? {
                return Ok(received);
            }
        }
    }

    /// The next datagram if there is one now.
    pub(crate) fn try_receive(&mut self) -> io::Result<Option<Received>> {
        let Self { socket, buffer, .. } = self;
        loop {
            buffer.clear();
            let from = socket.socket_ref().recv_from(buffer, 0).map(|(_, from)| from);
            match classify(from, buffer) {
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                classified => return classified,
            }
        }
    }

    /// Sends requests in one go and waits until each is answered. The answers are in the order of the requests.
    pub(crate) async fn request(
        &mut self,
        what: &str,
        requests: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> Result<Vec<Result<(), Nack>>, Error> {
        let refused = |source| Error::Refused {
            what: what.to_owned(),
            source,
        };
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut count: usize = 0;
        for (message, flags) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            push(&mut bytes, message, flags | NLM_F_REQUEST | NLM_F_ACK, self.sequence);
            count += 1;
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        self.send(&bytes).await.map_err(refused)?;
        let mut answers = vec![None; count];
        let mut missing = count;
        while missing > 0 {
            match timeout(PATIENCE, self.receive()).await {
                Err(_) => {
                    return Err(Error::Timeout {
                        what: what.to_owned(),
                        seconds: PATIENCE.as_secs(),
                    });
                }
                Ok(received) => match received.map_err(refused)? {
                    Received::Datagram => {}
                    Received::Overrun => return Err(refused(io::Error::from_raw_os_error(libc::ENOBUFS))),
                },
            }
            for frame in Frames(&self.buffer).flatten().filter(|f| f.kind == MESSAGE_ERROR) {
                let answer = answers.get_mut(frame.sequence.wrapping_sub(first) as usize);
                if let Some(answer) = answer.filter(|a| a.is_none()) {
                    *answer = Some(Nack::parse(&frame));
                    missing -= 1;
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Everything the mirror reads.
    pub(crate) async fn dump_everything(&mut self) -> Result<Snapshot, Error> {
        let mut snapshot = self
            .dump("links", RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .await?;
        for (what, message) in [
            ("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default())),
            (
                "neighbours",
                RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            ),
        ] {
            let part = self.dump(what, message).await?;
            snapshot.addresses.extend(part.addresses);
            snapshot.neighbors.extend(part.neighbors);
        }
        let mut entries = NeighbourMessage::default();
        entries.header.family = AddressFamily::Bridge;
        let part = self
            .dump_if_any("forwarding databases", RouteNetlinkMessage::GetNeighbour(entries))
            .await?;
        snapshot.fdb = part.fdb;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let part = self.dump_if_any("rules", RouteNetlinkMessage::GetRule(message)).await?;
            snapshot.rules.extend(part.rules);
        }
        snapshot.objects = self.dump_objects().await?;
        snapshot.routes = self.dump_routes(None).await?;
        Ok(snapshot)
    }

    /// Every next-hop object.
    pub(crate) async fn dump_objects(&mut self) -> Result<Vec<(u32, Object)>, Error> {
        self.dump_if_any("next-hop objects", Request::Objects)
            .await
            .map(|part| part.objects)
    }

    /// A dump of what a kernel may know nothing of: then there is nothing.
    async fn dump_if_any(&mut self, what: &'static str, request: impl Into<Request>) -> Result<Snapshot, Error> {
        match self.dump(what, request).await {
            Err(Error::Refused { source, .. }) if is_unknown(&source) => Ok(Snapshot::default()),
            dumped => dumped,
        }
    }

    /// Routes of both families: all, or those of one protocol.
    pub(crate) async fn dump_routes(&mut self, only: Option<u8>) -> Result<Vec<ObservedRoute>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            if let Some(protocol) = only {
                message.header.protocol = protocol.into();
            }
            match self.dump("routes", RouteNetlinkMessage::GetRoute(message)).await {
                // A kernel without a family answers for all that it has.
                Ok(snapshot) => {
                    let asked = |r: &ObservedRoute| r.prefix.is_v4() == (family == AddressFamily::Inet);
                    routes.extend(snapshot.routes.into_iter().filter(asked));
                }
                // A kernel without the family has no routes of it.
                Err(Error::Refused { source, .. }) if is_unknown(&source) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(protocol) = only {
            routes.retain(|r| r.protocol == protocol); // kernels without strict checking ignore filters
        }
        Ok(routes)
    }

    /// One dump, tried again when it was interrupted by a change.
    pub(crate) async fn dump(&mut self, what: &'static str, request: impl Into<Request>) -> Result<Snapshot, Error> {
        let request = request.into();
        for _ in 0..TRIES {
            if let Some(snapshot) = self.try_dump(what, request.clone()).await? {
                return Ok(snapshot);
            }
        }
        Err(Error::DumpInterrupted { what, tries: TRIES })
    }

    async fn try_dump(&mut self, what: &'static str, request: Request) -> Result<Option<Snapshot>, Error> {
        let refused = |source| Error::Refused {
            what: format!("dump {what}"),
            source,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        match request {
            Request::Known(message) => push(&mut bytes, *message, flags, self.sequence),
            Request::Objects => push_raw(&mut bytes, GET_OBJECT, &ANY_OBJECT, flags, self.sequence),
        }
        self.send(&bytes).await.map_err(refused)?;
        let mut snapshot = Snapshot::default();
        let mut whole = true;
        loop {
            match timeout(PATIENCE, self.receive()).await {
                Err(_) => {
                    return Err(Error::Timeout {
                        what: format!("dump {what}"),
                        seconds: PATIENCE.as_secs(),
                    });
                }
                Ok(received) => match received.map_err(refused)? {
                    Received::Datagram => {}
                    Received::Overrun => whole = false,
                },
            }
            for frame in Frames(&self.buffer) {
                let Ok(frame) = frame else {
                    whole = false;
                    break;
                };
                if frame.sequence != self.sequence {
                    continue; // the rest of a request that was given up
                }
                whole &= frame.flags & NLM_F_DUMP_INTR == 0;
                match frame.kind {
                    MESSAGE_DONE | MESSAGE_ERROR => {
                        Nack::parse(&frame).map_err(|nack| refused(nack.into()))?;
                        return Ok(Some(snapshot).filter(|_| whole));
                    }
                    _ => snapshot.push(understand(&frame)),
                }
            }
        }
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| self.socket.poll_send(cx, bytes)).await.map(drop)
    }
}

/// What is dumped.
#[derive(Clone)]
pub(crate) enum Request {
    Known(Box<RouteNetlinkMessage>),
    Objects,
}

impl From<RouteNetlinkMessage> for Request {
    fn from(message: RouteNetlinkMessage) -> Self {
        Self::Known(Box::new(message))
    }
}

/// True for the kernel's ways to say that it does not have such things.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
    ) || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported)
}

/// What a frame says; one that cannot be parsed is logged and says nothing.
pub(crate) fn understand(frame: &Frame<'_>) -> Heard {
    hear(frame).unwrap_or_else(|error| {
        tracing::warn!(kind = frame.kind, %error, "netlink message not understood");
        Heard::Nothing
    })
}

/// The frames of a datagram up to the first that is cut.
pub(crate) fn frames(datagram: &[u8]) -> (impl Iterator<Item = Frame<'_>>, bool) {
    let cut = Frames(datagram).any(|f| f == Err(Truncated));
    (Frames(datagram).map_while(Result::ok), cut)
}

/// `None` for a datagram that is not the kernel's.
fn classify(from: io::Result<SocketAddr>, buffer: &mut Vec<u8>) -> io::Result<Option<Received>> {
    match from {
        Ok(from) => Ok((from.port_number() == 0).then_some(Received::Datagram)),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
            buffer.clear();
            Ok(Some(Received::Overrun))
        }
        Err(error) => Err(error),
    }
}
