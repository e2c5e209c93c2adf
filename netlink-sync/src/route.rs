//! Routes as they are written to the kernel.

use std::net::IpAddr;

use net::{IfIndex, Prefix, RouteKind, VrfId};
use serde::Serialize;

/// One way out of a route in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelNextHop {
    /// Address of the next router; `None` for an on-link route.
    pub gateway: Option<IpAddr>,
    /// Interface to leave by; `None` lets the kernel find it from the gateway.
    pub interface: Option<IfIndex>,
    /// Share of the traffic among several next hops; 0 counts as 1.
    pub weight: u16,
}

/// Why a winner cannot be said in the kernel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// A next hop is a lookup in another VRF.
    #[error("it leads into another VRF, and a route of the kernel does not")]
    OtherVrf,
    /// A next hop is a VXLAN endpoint that the route itself names.
    #[error("it names a VXLAN endpoint, and the kernel has no device that leads there")]
    Tunnel,
}

/// What the kernel shall have for a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KernelRoute {
    /// The VRF, to whose table it goes.
    pub vrf: VrfId,
    /// Destination.
    pub prefix: Prefix,
    /// Ways out; `None` removes the route. Not read when `kind` is not unicast.
    pub next_hops: Option<Vec<KernelNextHop>>,
    /// Unicast, blackhole, unreachable or prohibit. The kernel is not told of local and NAT routes: they remove.
    pub kind: RouteKind,
    /// Why the kernel cannot have it, whatever the rest says: it is removed there, and that is what became of it.
    pub obstacle: Option<Obstacle>,
}

impl KernelRoute {
    /// A request to have no route for `prefix`.
    pub fn remove(vrf: VrfId, prefix: Prefix) -> Self {
        Self {
            vrf,
            prefix,
            next_hops: None,
            kind: RouteKind::Unicast,
            obstacle: None,
        }
    }
}
