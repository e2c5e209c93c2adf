//! What the kernel tells: links, addresses, neighbours, routes.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{IfIndex, Mac, NextHopObjectChange, RouteChange, Vni};

/// A kernel interface appeared, changed or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChange {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Its address; `None` for interfaces without one.
    pub mac: Option<Mac>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Administratively up and carrier present.
    pub up: bool,
    /// False when the interface was removed.
    pub present: bool,
    /// Network identifier of a VXLAN device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
}

/// An address was added to or removed from a kernel interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressChange {
    /// Interface that holds it.
    pub interface: IfIndex,
    /// Address with the length of its subnet.
    pub address: IpNet,
    /// False when it was removed.
    pub present: bool,
}

/// What the kernel knows of a neighbour (its NUD state, folded).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighborState {
    /// Confirmed: REACHABLE, PERMANENT, NOARP.
    Reachable(Mac),
    /// Its MAC is used, and nobody has confirmed it lately: STALE, and DELAY and PROBE, which ask.
    Stale(Mac),
    /// Being resolved.
    Incomplete,
    /// Resolution failed.
    Failed,
    /// Forgotten.
    Gone,
}

impl NeighborState {
    /// The address to send to, if there is one that may be used.
    pub const fn mac(self) -> Option<Mac> {
        match self {
            Self::Reachable(mac) | Self::Stale(mac) => Some(mac),
            Self::Incomplete | Self::Failed | Self::Gone => None,
        }
    }
}

/// A neighbour's state changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NeighborChange {
    /// Interface it is on.
    pub interface: IfIndex,
    /// Its IP address.
    pub address: IpAddr,
    /// What is known of it.
    pub state: NeighborState,
}

/// Where the forwarding database of a VXLAN device says that a MAC address is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FdbChange {
    /// The device.
    pub interface: IfIndex,
    /// The address.
    pub mac: Mac,
    /// The remote endpoint behind which it is; `None` when the entry is gone.
    pub vtep: Option<IpAddr>,
}

/// One event of the kernel mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelEvent {
    /// Interface.
    Link(LinkChange),
    /// Interface address.
    Address(AddressChange),
    /// ARP or ND entry.
    Neighbor(NeighborChange),
    /// Another daemon's route, source [`crate::Source::Kernel`].
    Route(RouteChange),
    /// Next hops that routes of source [`crate::Source::Kernel`] name by number; told before the routes.
    NextHopObject(NextHopObjectChange),
    /// Entry of a VXLAN device's forwarding database.
    Fdb(FdbChange),
    /// Everything present at start (or at a resync) has been told.
    Synced,
}
