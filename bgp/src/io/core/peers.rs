//! Peers come and go: configured ones, those of a range, and unnumbered ones.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use net::Prefix;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use super::Core;
use crate::PeerConfig;
use crate::bfd::{Bfd, Wanted};
use crate::bmp::Ended;
use crate::io::listener::Stranger;
use crate::io::peer::{Order, Peer, Shared};
use crate::io::unnumbered::Found;
use crate::wire::{Cease, Notification};

/// Accepted connections that wait for a peer's task.
const ACCEPTED: usize = 4;

/// What makes somebody a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its address is configured.
    Address,
    /// It has connected from a range of dynamic peers.
    Range(Prefix),
    /// It has advertised itself on the interface of an unnumbered peer.
    Interface(String),
}

pub(super) struct Handle {
    pub(super) config: PeerConfig,
    pub(super) serial: u64,
    /// The owner knows the peer as up.
    pub(super) up: bool,
    /// Its routes are kept while it restarts.
    pub(super) kept: bool,
    /// How it came to be a peer.
    pub(super) origin: Origin,
    /// The log has been warned that the peer announces many prefixes.
    pub(super) warned: bool,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) shared: Arc<Shared>,
}

impl Core {
    /// Adds a peer; the answer takes connections that it made.
    pub(super) fn add_peer(&mut self, config: PeerConfig, origin: Origin) -> mpsc::Sender<TcpStream> {
        let serial = self.next_serial;
        self.next_serial += 1;
        let shared = Arc::new(Shared::default());
        let (orders, order_queue) = mpsc::unbounded_channel();
        let (connections, accepted) = mpsc::channel::<TcpStream>(ACCEPTED);
        self.directory.insert(config.address, connections.clone());
        let peer = Peer::new(
            &self.config,
            config.clone(),
            serial,
            Arc::clone(&shared),
            self.to_core.clone(),
            Arc::clone(&self.gate),
        );
        self.tasks.spawn(peer.run(order_queue, accepted));
        let handle = Handle {
            config,
            serial,
            up: false,
            kept: false,
            origin,
            warned: false,
            orders,
            shared,
        };
        if let Some(bfd) = self.bfd.as_ref().filter(|_| handle.config.bfd.is_some()) {
            watch(bfd, &handle);
        }
        self.peers.insert(handle.config.address, handle);
        connections
    }

    /// Someone in a range of dynamic peers has connected.
    pub(super) fn stranger(&mut self, (address, stream): Stranger) {
        if let Some(handle) = self.peers.get(&address) {
            // Its first connection was still on the way here: the peer has been added since.
            debug!(peer = %handle.config.address, "second connection of a dynamic peer: closed");
            return;
        }
        let Some(dynamic) = self.config.dynamic_at(address) else {
            return;
        };
        let (range, limit) = (dynamic.range, dynamic.limit as usize);
        let present = self
            .peers
            .values()
            .filter(|handle| handle.origin == Origin::Range(range))
            .count();
        if present >= limit {
            self.dynamic_refused += 1;
            debug!(peer = %address, %range, limit, "range of dynamic peers is full: connection closed");
            return;
        }
        if present + 1 == limit {
            warn!(%range, limit, "range of dynamic peers is full: further ones are refused");
        }
        info!(peer = %address, %range, "dynamic BGP peer");
        let connections = self.add_peer(dynamic.peer(address), Origin::Range(range));
        // The queue is empty, and its reader has just been started.
        drop(connections.try_send(stream));
    }

    /// A router has advertised itself on the interface of an unnumbered peer. It takes the place of another there that
    /// has no session.
    pub(super) fn found(&mut self, found: &Found) {
        let interface = &found.interface;
        let unnumbered = self.config.unnumbered.iter().find(|peer| peer.interface == *interface);
        let Some(peer) = unnumbered.map(|peer| peer.peer(found.address, found.index)) else {
            return;
        };
        let here = Origin::Interface(interface.clone());
        let address = peer.address;
        let known = self.peers.get(&address);
        if let Some(known) = known.filter(|known| known.origin != here) {
            debug!(peer = %address, interface, known = ?known.origin, "BGP peer of the same address elsewhere: ignored");
            return;
        }
        if known.is_some_and(|known| known.config.interface == Some(found.index)) {
            return;
        }
        let before: Vec<_> = self.peers.iter().filter(|(_, handle)| handle.origin == here).collect();
        if before.iter().any(|(_, handle)| handle.up || handle.kept) && known.is_none() {
            debug!(peer = %address, interface, "second router on the interface of an unnumbered BGP peer: ignored");
            return;
        }
        let before: Vec<_> = before.into_iter().map(|(address, _)| *address).collect();
        for gone in before {
            self.remove_peer(gone, Cease::PeerDeconfigured);
        }
        info!(peer = %address, interface, "unnumbered BGP peer");
        self.add_peer(peer, here);
        self.flush();
    }

    /// Forgets a dynamic peer that has no connection and whose routes are not kept.
    pub(super) fn forget(&mut self, peer: IpAddr) {
        let leaves = |handle: &Handle| matches!(handle.origin, Origin::Range(_)) && !handle.up && !handle.kept;
        if self.peers.get(&peer).is_some_and(leaves) {
            self.remove_peer(peer, Cease::PeerDeconfigured);
        }
    }

    pub(super) fn remove_peer(&mut self, address: IpAddr, cease: Cease) {
        let Some(handle) = self.peers.remove(&address) else {
            return;
        };
        self.directory.remove(address);
        if let Some(deferral) = &mut self.deferral {
            deferral.forget(address);
            self.end_deferral();
        }
        if let Some(bfd) = &self.bfd {
            bfd.remove(address);
        }
        let notification = Notification::cease(cease);
        let reason = format!("sent {notification}");
        info!(peer = %address, %reason, "BGP peer removed");
        // A task that has ended needs no order.
        let _ = handle.orders.send(Order::Stop(notification));
        if handle.up {
            self.down(address, reason, &[], Ended::Deconfigured);
        } else {
            // It may be away for a restart.
            self.rib.peer_down(address);
            self.evpn.peer_down(address);
        }
    }
}

impl Handle {
    pub(super) fn treated_as_withdraw(&self) -> u64 {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.statistics.treated_as_withdraw
    }
}

/// Has BFD watch a peer as its configuration says, or watch it no more.
pub(super) fn watch(bfd: &Bfd, handle: &Handle) {
    let config = &handle.config;
    let Some(intervals) = config.bfd else {
        return bfd.remove(config.address);
    };
    let orders = handle.orders.clone();
    bfd.set(Wanted {
        neighbor: config.address,
        interface: config.interface,
        local: config.local_address,
        config: intervals,
        failed: Box::new(move |_| {
            // A task that has ended needs no order.
            let _ = orders.send(Order::Reset(Cease::BfdDown, None));
        }),
    });
}

/// Ends a task when dropped.
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
