//! What the speaker needs of the kernel: connecting, listening, and its own addresses.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use nix::ifaddrs::getifaddrs;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::PeerConfig;
use crate::rib::LocalAddresses;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Connects to a peer, from its configured local address if it has one.
pub(super) async fn connect(config: &PeerConfig) -> io::Result<TcpStream> {
    let socket = if config.address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    if let Some(local) = config.local_address {
        socket.bind(with_scope(local, 0, config))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(with_scope(config.address, config.port, config)).await
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
    let interface = addresses
        .iter()
        .find(|(_, address)| *address == session)
        .map(|(name, _)| name);
    addresses
        .iter()
        .filter(|(name, _)| Some(name) == interface)
        .for_each(|(_, address)| offer(*address));
    local
}
