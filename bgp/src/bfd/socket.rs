//! The sockets of BFD: one a family that hears every neighbour, one a session that speaks.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use net::IfIndex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::PORT;
use super::engine::{Received, TTL};

/// Source ports (RFC 5881 section 4).
const FIRST_SOURCE_PORT: u16 = 49152;
/// Class selector 6: for network control (RFC 2474).
const CONTROL: u32 = 0xc0;
/// More than any packet that is taken.
const LONGEST: usize = 512;

/// Opens the socket that hears every neighbour of a family.
pub(super) fn listen(v6: bool) -> io::Result<UdpSocket> {
    let socket = new(v6)?;
    if v6 {
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
    }
    socket.bind(&SocketAddr::new(unspecified(v6), PORT).into())?;
    Ok(socket.into())
}

/// Opens the socket of a session, whose source port stays the same as long as the session does. `from` is where the search
/// for a free port begins.
pub(super) fn speak(
    neighbor: IpAddr,
    local: Option<IpAddr>,
    interface: Option<IfIndex>,
    from: u64,
) -> io::Result<UdpSocket> {
    let v6 = neighbor.is_ipv6();
    let socket = new(v6)?;
    if v6 {
        socket.set_unicast_hops_v6(u32::from(TTL))?;
        socket.set_tclass_v6(CONTROL)?;
    } else {
        socket.set_ttl_v4(u32::from(TTL))?;
        socket.set_tos_v4(CONTROL)?;
    }
    let ports = u64::from(u16::MAX - FIRST_SOURCE_PORT) + 1;
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for offset in 0..ports {
        let port = FIRST_SOURCE_PORT + u16::try_from((from % ports + offset) % ports).map_err(io::Error::other)?;
        let address = with_scope(local.unwrap_or(unspecified(v6)), port, interface);
        match socket.bind(&address.into()) {
            Ok(()) => return Ok(socket.into()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Where a neighbour listens.
pub(super) fn destination(neighbor: IpAddr, interface: Option<IfIndex>) -> SocketAddr {
    with_scope(neighbor, PORT, interface)
}

/// Takes one datagram and hands it to `taken`.
pub(super) fn receive(socket: &impl AsRawFd, taken: impl FnOnce(Received<'_>)) -> io::Result<()> {
    let mut bytes = [0; LONGEST];
    let mut control = nix::cmsg_space!(libc::c_int);
    let (length, from, ttl) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
        let ttl = message.cmsgs()?.find_map(|header| match header {
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(ttl).ok(),
            _ => None,
        });
        (message.bytes, message.address, ttl)
    };
    let v4 = from.and_then(|from| Some(IpAddr::V4(from.as_sockaddr_in()?.ip())));
    let v6 = from.as_ref().and_then(SockaddrStorage::as_sockaddr_in6).copied();
    let Some(from) = v4.or(v6.map(|from| IpAddr::V6(from.ip()))) else {
        return Ok(());
    };
    let scope = v6.map(|from| from.scope_id()).filter(|scope| *scope != 0);
    taken(Received {
        from,
        interface: scope.map(IfIndex),
        ttl,
        bytes: &bytes[..length],
    });
    Ok(())
}

fn new(v6: bool) -> io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

const fn unspecified(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

fn with_scope(address: IpAddr, port: u16, interface: Option<IfIndex>) -> SocketAddr {
    match (address, interface) {
        (IpAddr::V6(v6), Some(interface)) if v6.is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, interface.0))
        }
        _ => SocketAddr::new(address, port),
    }
}
