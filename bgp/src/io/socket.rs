//! What the speaker needs of the kernel: connecting, listening, limits of distance, and its own addresses.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use net::Prefix;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_indextoname;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::options;
use crate::rib::LocalAddresses;
use crate::{Distance, PeerConfig};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Connects to a peer, from its configured local address if it has one.
pub(super) async fn connect(config: &PeerConfig, external: bool) -> io::Result<TcpStream> {
    let socket = if config.address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    let v6 = config.address.is_ipv6();
    if let Some(password) = &config.password {
        options::sign(&socket, v6, Prefix::host(config.address), Some(password))?;
    }
    limit_distance(&socket, v6, config, external)?;
    if let Some(local) = config.local_address {
        socket.bind(with_scope(local, 0, config))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(with_scope(config.address, config.port, config)).await
}

/// Has the kernel hold a connection with the peer to its configured distance.
pub(super) fn limit_distance(socket: &impl AsFd, v6: bool, config: &PeerConfig, external: bool) -> io::Result<()> {
    match config.distance {
        Distance::Usual if external => options::send_ttl(socket, v6, 1),
        Distance::Usual => Ok(()),
        Distance::Multihop(hops) => options::send_ttl(socket, v6, hops),
        Distance::Security(_) => {
            options::send_ttl(socket, v6, u8::MAX)?;
            options::lowest_ttl(socket, v6, config.distance.lowest_ttl())
        }
    }
}

fn with_scope(address: IpAddr, port: u16, config: &PeerConfig) -> SocketAddr {
    match (address, config.interface) {
        (IpAddr::V6(v6), Some(interface)) if v6.is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, interface.0))
        }
        _ => SocketAddr::new(address, port),
    }
}

/// Listens on an address. `[::]` takes IPv4 as well, unless `only_v6`.
pub(super) fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // A peer that asks for GTSM asks it of the handshake as well, before it is known who connects.
    options::send_ttl(&socket, address.is_ipv6(), u8::MAX)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Our addresses towards the peer: configured next hops first, then the session's own address, then an address of the
/// other family on the same interface.
pub(super) fn local_addresses(config: &PeerConfig, session: Option<IpAddr>) -> LocalAddresses {
    let session = session.map(|address| address.to_canonical());
    let mut local = LocalAddresses {
        session,
        v4: config.next_hop_v4,
        v6: config.next_hop_v6,
        link_local: match session {
            Some(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Some(v6),
            _ => None,
        },
    };
    let mut offer = |address: IpAddr| match address {
        IpAddr::V4(v4) => local.v4 = local.v4.or(Some(v4)),
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_loopback() => {}
        IpAddr::V6(v6) => local.v6 = local.v6.or(Some(v6)),
    };
    let Some(session) = session else {
        return local;
    };
    offer(session);
    let Ok(interfaces) = getifaddrs() else { return local };
    let addresses: Vec<(String, IpAddr)> = interfaces
        .filter_map(|entry| {
            let storage = entry.address?;
            let address = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::V4(v4.ip()),
                (_, Some(v6)) => IpAddr::V6(v6.ip()),
                _ => return None,
            };
            Some((entry.interface_name, address))
        })
        .collect();
    // Link-local addresses may be there on several.
    let named = config.interface.and_then(|index| if_indextoname(index.0).ok());
    let named = named.and_then(|name| name.into_string().ok());
    let interface = addresses
        .iter()
        .find(|(name, address)| *address == session && named.as_ref().is_none_or(|named| named == name))
        .map(|(name, _)| name);
    addresses
        .iter()
        .filter(|(name, _)| Some(name) == interface)
        .for_each(|(_, address)| offer(*address));
    local
}
