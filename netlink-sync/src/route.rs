//! Routes as they are written to the kernel.

use std::net::IpAddr;

use net::{IfIndex, Prefix, RouteKind};

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

/// What the kernel shall have for a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KernelRoute {
    /// Destination.
    pub prefix: Prefix,
    /// Ways out; `None` removes the route. Not read when `kind` is not unicast.
    pub next_hops: Option<Vec<KernelNextHop>>,
    /// Unicast, blackhole, unreachable or prohibit. The kernel is not told of local and NAT routes: they remove.
    pub kind: RouteKind,
}

impl KernelRoute {
    /// A request to have no route for `prefix`.
    pub fn remove(prefix: Prefix) -> Self {
        Self {
            prefix,
            next_hops: None,
            kind: RouteKind::Unicast,
        }
    }
}
