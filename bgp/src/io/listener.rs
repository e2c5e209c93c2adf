//! Accepting: a connection goes to the peer whose address it comes from, every other is closed at once.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use net::Prefix;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::{options, socket};
use crate::{Error, Password, PeerConfig, SpeakerConfig};

/// Pause after the kernel refused to accept (most likely: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection from an address in a range of dynamic peers.
pub(super) type Stranger = (IpAddr, TcpStream);

/// Where accepted connections go: by peer address, or to the core if the address is in a range of dynamic peers.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    entries: Arc<RwLock<Entries>>,
    /// Connections from addresses that are no peers.
    refused: Arc<AtomicU64>,
    strangers: mpsc::Sender<Stranger>,
}

#[derive(Debug, Default)]
struct Entries {
    peers: HashMap<IpAddr, mpsc::Sender<TcpStream>>,
    ranges: Vec<Prefix>,
}

impl Directory {
    pub(super) fn new(strangers: mpsc::Sender<Stranger>) -> Self {
        Self {
            entries: Arc::default(),
            refused: Arc::default(),
            strangers,
        }
    }

    pub(super) fn insert(&self, peer: IpAddr, connections: mpsc::Sender<TcpStream>) {
        self.write().peers.insert(peer, connections);
    }

    pub(super) fn remove(&self, peer: IpAddr) {
        self.write().peers.remove(&peer);
    }

    pub(super) fn set_ranges(&self, ranges: Vec<Prefix>) {
        self.write().ranges = ranges;
    }

    /// Hands a connection on, without waiting; one that nobody wants is closed.
    pub(super) fn deliver(&self, from: IpAddr, stream: TcpStream) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        match entries.peers.get(&from) {
            // A peer whose queue is full has connections to choose from already.
            Some(peer) => drop(peer.try_send(stream)),
            None if entries.ranges.iter().any(|range| range.covers(&Prefix::host(from))) => {
                // So has a core whose queue is full.
                drop(self.strangers.try_send((from, stream)));
            }
            None => {
                let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
                debug!(%from, "connection from an address that is not a peer: closed");
                // However many come, the log stays readable.
                if refused.is_power_of_two() {
                    info!(%from, refused, "connections from addresses that are not a peer were closed");
                }
            }
        }
    }

    /// Connections from addresses that are no peers, which were closed.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passwords of peers, by the addresses that they are good for.
type Keys = BTreeMap<Prefix, Password>;

/// The listening sockets; dropping one closes it.
#[derive(Debug, Default)]
pub(super) struct Listeners(HashMap<SocketAddr, Listening>);

#[derive(Debug)]
struct Listening {
    listener: Arc<TcpListener>,
    /// Keys that the kernel has for it.
    keys: Keys,
    /// Lowest TTL that the kernel takes on it.
    lowest_ttl: u8,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listeners {
    /// Listens on exactly the configured addresses, for the configured peers; those already listened on go on.
    ///
    /// # Errors
    /// The first address that cannot be bound, then nothing has changed; or the first option that the kernel refuses.
    pub(super) fn set(&mut self, config: &SpeakerConfig, directory: &Directory) -> Result<(), Error> {
        let addresses = &config.listen;
        let mut added = HashMap::new();
        for &address in addresses {
            if self.0.contains_key(&address) || added.contains_key(&address) {
                continue;
            }
            let v4_too = addresses
                .iter()
                .any(|other| other.is_ipv4() && other.port() == address.port());
            let listener = socket::listen(address, v4_too).map_err(|source| Error::Listen { address, source })?;
            added.insert(address, Arc::new(listener));
        }
        self.0.retain(|address, _| addresses.contains(address));
        for (address, listener) in added {
            let task = tokio::spawn(accept(Arc::clone(&listener), directory.clone()));
            let listening = Listening {
                listener,
                keys: Keys::new(),
                lowest_ttl: 0,
                task,
            };
            self.0.insert(address, listening);
        }
        let keys = keys(config);
        self.0.iter_mut().try_for_each(|(address, listening)| {
            listening.set_keys(*address, &keys)?;
            listening.set_lowest_ttl(*address, lowest_ttl(config, address.is_ipv4()))
        })
    }
}

impl Listening {
    /// The handshake and the first segments, of which the kernel does not know yet whose they are.
    fn set_lowest_ttl(&mut self, address: SocketAddr, ttl: u8) -> Result<(), Error> {
        if self.lowest_ttl != ttl {
            options::lowest_ttl(&self.listener, address.is_ipv6(), ttl)
                .map_err(|source| Error::Listen { address, source })?;
            self.lowest_ttl = ttl;
        }
        Ok(())
    }

    fn set_keys(&mut self, address: SocketAddr, wanted: &Keys) -> Result<(), Error> {
        let v6 = address.is_ipv6();
        // An IPv4 socket has no peers with IPv6 addresses.
        let wanted: Keys = wanted
            .iter()
            .filter(|(peer, _)| v6 || peer.is_v4())
            .map(|(peer, password)| (*peer, password.clone()))
            .collect();
        let refused = |peer: Prefix| {
            move |source| Error::Password {
                peer,
                listen: address,
                source,
            }
        };
        let gone: Vec<Prefix> = self
            .keys
            .keys()
            .filter(|peer| !wanted.contains_key(peer))
            .copied()
            .collect();
        for peer in gone {
            options::sign(&self.listener, v6, peer, None).map_err(refused(peer))?;
            self.keys.remove(&peer);
        }
        for (peer, password) in wanted {
            if self.keys.get(&peer) != Some(&password) {
                options::sign(&self.listener, v6, peer, Some(&password)).map_err(refused(peer))?;
                self.keys.insert(peer, password);
            }
        }
        Ok(())
    }
}

/// The passwords that listeners have to know.
fn keys(config: &SpeakerConfig) -> Keys {
    callers(config)
        .filter_map(|(addresses, peer)| Some((addresses, peer.password.clone()?)))
        .collect()
}

/// The lowest TTL that a segment may have if it comes from any of those who may connect (RFC 5082): 0 unless each of them
/// asks for it. On an IPv4 socket only IPv4 peers connect.
fn lowest_ttl(config: &SpeakerConfig, only_v4: bool) -> u8 {
    callers(config)
        .filter(|(addresses, _)| !only_v4 || addresses.is_v4())
        .map(|(_, peer)| peer.distance.lowest_ttl())
        .min()
        .unwrap_or(0)
}

/// Who may connect, by address or range.
fn callers(config: &SpeakerConfig) -> impl Iterator<Item = (Prefix, &PeerConfig)> {
    let peers = config.peers.iter().map(|peer| (Prefix::host(peer.address), peer));
    let ranges = config.dynamic.iter().map(|dynamic| (dynamic.range, &dynamic.template));
    let link_local = Prefix::containing(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 10).expect("a length of IPv6");
    let unnumbered = config.unnumbered.iter().map(move |peer| (link_local, &peer.template));
    peers.chain(ranges).chain(unnumbered)
}

async fn accept(listener: Arc<TcpListener>, directory: Directory) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => directory.deliver(from.ip().to_canonical(), stream),
            Err(error) => {
                warn!(%error, "cannot accept BGP connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::Distance;

    #[test]
    fn a_listener_asks_of_everybody_what_the_farthest_peer_may_have() {
        let mut config = SpeakerConfig::new(65000, Ipv4Addr::new(192, 0, 2, 1));
        let mut add = |address: &str, distance| {
            let mut peer = PeerConfig::new(address.parse().expect("address"), 65001);
            peer.distance = distance;
            config.peers.push(peer);
            (lowest_ttl(&config, true), lowest_ttl(&config, false))
        };
        assert_eq!(add("192.0.2.2", Distance::Security(1)), (255, 255));
        assert_eq!(add("192.0.2.3", Distance::Security(3)), (253, 253));
        assert_eq!(add("2001:db8::2", Distance::Usual), (253, 0));
        assert_eq!(add("192.0.2.4", Distance::Multihop(2)), (0, 0));
        assert_eq!(lowest_ttl(&SpeakerConfig::new(65000, Ipv4Addr::LOCALHOST), false), 0);
    }
}
