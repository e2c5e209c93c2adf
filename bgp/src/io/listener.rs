//! Accepting: a connection goes to the peer whose address it comes from, every other is closed at once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::socket;
use crate::Error;

/// Pause after the kernel refused to accept (most likely: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where accepted connections go, by peer address.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory(Arc<RwLock<HashMap<IpAddr, mpsc::Sender<TcpStream>>>>);

impl Directory {
    pub(super) fn insert(&self, peer: IpAddr, connections: mpsc::Sender<TcpStream>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(peer, connections);
    }

    pub(super) fn remove(&self, peer: IpAddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn find(&self, peer: IpAddr) -> Option<mpsc::Sender<TcpStream>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&peer)
            .cloned()
    }
}

/// The listening sockets; dropping one closes it.
#[derive(Debug, Default)]
pub(super) struct Listeners(HashMap<SocketAddr, Task>);

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listeners {
    /// Listens on exactly these addresses; those already listened on are left alone.
    ///
    /// # Errors
    /// The first address that cannot be bound; then nothing has changed.
    pub(super) fn set(&mut self, addresses: &[SocketAddr], directory: &Directory) -> Result<(), Error> {
        let mut added = HashMap::new();
        for &address in addresses {
            if self.0.contains_key(&address) || added.contains_key(&address) {
                continue;
            }
            let v4_too = addresses
                .iter()
                .any(|other| other.is_ipv4() && other.port() == address.port());
            let listener = socket::listen(address, v4_too).map_err(|source| Error::Listen { address, source })?;
            added.insert(address, (listener, directory.clone()));
        }
        self.0.retain(|address, _| addresses.contains(address));
        for (address, (listener, directory)) in added {
            self.0.insert(address, Task(tokio::spawn(accept(listener, directory))));
        }
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, directory: Directory) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match directory.find(from.ip().to_canonical()) {
                // A peer whose queue is full has connections to choose from already.
                Some(peer) => drop(peer.try_send(stream)),
                None => debug!(%from, "connection from an address that is not a peer: closed"),
            },
            Err(error) => {
                warn!(%error, "cannot accept BGP connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
