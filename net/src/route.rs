//! Routes and their changes: what BGP, the kernel and the configuration hand to the RIB.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{IfIndex, Mac, Prefix, Vni, VrfId};

/// Where a route was learned. A RIB keeps at most one route for a prefix, a VRF and a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Subnet of an interface address.
    Connected,
    /// From the configuration.
    Static,
    /// From an external BGP peer.
    Ebgp,
    /// From an internal BGP peer.
    Ibgp,
    /// Mirrored from the kernel's tables (another daemon's route).
    Kernel,
    /// Pushed by FRR over the Forwarding Plane Manager interface.
    Fpm,
}

impl Source {
    /// Administrative distance when the configuration names none; lower wins.
    pub const fn default_distance(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Static => 1,
            Self::Ebgp => 20,
            Self::Fpm => 110,
            Self::Kernel => 120,
            Self::Ibgp => 200,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Static => "static",
            Self::Ebgp => "ebgp",
            Self::Ibgp => "ibgp",
            Self::Kernel => "kernel",
            Self::Fpm => "fpm",
        })
    }
}

/// What happens to a packet that matches a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// Forwarded to one of the route's next hops.
    #[default]
    Unicast,
    /// Delivered to the host behind the gateway's host interface (an address of the gateway).
    Local,
    /// Handed to NAT: a pool address or the public address of a port forward.
    Nat,
    /// Dropped silently.
    Blackhole,
    /// Dropped with ICMP host unreachable.
    Unreachable,
    /// Dropped with ICMP administratively prohibited.
    Prohibit,
}

/// Next hop across a VXLAN tunnel whose remote end is known without a lookup in a neighbour table (EVPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VxlanNextHop {
    /// VNI to encapsulate with.
    pub vni: Vni,
    /// Remote tunnel endpoint, resolved in the default VRF.
    pub vtep: IpAddr,
    /// Inner destination MAC: the remote router's MAC.
    pub mac: Mac,
}

/// Next hops that a source keeps apart from its routes, under a number (a next-hop group of FRR or of the kernel): when
/// they change, that is one change whatever the number of routes that name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NextHopObject {
    /// Whose number it is.
    pub source: Source,
    /// The number.
    pub id: u32,
}

/// The next hops of an object came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NextHopObjectChange {
    /// The object.
    pub object: NextHopObject,
    /// Its next hops, each with a gateway and none of them an object; none at all when it is gone.
    pub next_hops: Vec<NextHop>,
}

/// One way out of a route, before resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NextHop {
    /// Address of the next router; `None` for an on-link route.
    pub gateway: Option<IpAddr>,
    /// Kernel interface to leave by. Mandatory for an on-link route and for an IPv6 link-local gateway.
    pub interface: Option<IfIndex>,
    /// Share of the traffic among several next hops; 1 or more.
    pub weight: u16,
    /// VRF in which the lookup goes on (a leaked route); `None` is the route's own.
    pub vrf: Option<VrfId>,
    /// Remote VXLAN endpoint, if the route says so itself.
    pub vxlan: Option<VxlanNextHop>,
    /// The next hops of this object, whatever they are at the time; then there is no other field but the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<NextHopObject>,
}

impl NextHop {
    /// Through a router whose interface is found by resolution.
    pub const fn via(gateway: IpAddr) -> Self {
        Self {
            gateway: Some(gateway),
            interface: None,
            weight: 1,
            vrf: None,
            vxlan: None,
            object: None,
        }
    }

    /// Straight onto an interface.
    pub const fn on_link(interface: IfIndex) -> Self {
        Self {
            gateway: None,
            interface: Some(interface),
            weight: 1,
            vrf: None,
            vxlan: None,
            object: None,
        }
    }

    /// Looked up again in another VRF.
    pub const fn in_vrf(vrf: VrfId) -> Self {
        Self {
            gateway: None,
            interface: None,
            weight: 1,
            vrf: Some(vrf),
            vxlan: None,
            object: None,
        }
    }

    /// Whatever the next hops of an object are.
    pub const fn of_object(object: NextHopObject) -> Self {
        Self {
            gateway: None,
            interface: None,
            weight: 1,
            vrf: None,
            vxlan: None,
            object: Some(object),
        }
    }

    /// The same, leaving by `interface`.
    #[must_use]
    pub const fn through(mut self, interface: IfIndex) -> Self {
        self.interface = Some(interface);
        self
    }
}

/// A route as its source sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// What happens to a packet.
    pub kind: RouteKind,
    /// Ways out; not empty if and only if `kind` is [`RouteKind::Unicast`].
    pub next_hops: SmallVec<[NextHop; 1]>,
    /// Administrative distance; `None` takes the source's.
    pub distance: Option<u8>,
    /// Decides between equal distances; lower wins.
    pub metric: u32,
}

impl Route {
    /// A unicast route with one next hop and metric 0.
    pub fn unicast(next_hop: NextHop) -> Self {
        Self {
            kind: RouteKind::Unicast,
            next_hops: SmallVec::from_buf([next_hop]),
            distance: None,
            metric: 0,
        }
    }

    /// A unicast route over several next hops (ECMP).
    pub fn multipath(next_hops: impl IntoIterator<Item = NextHop>) -> Self {
        Self {
            kind: RouteKind::Unicast,
            next_hops: next_hops.into_iter().collect(),
            distance: None,
            metric: 0,
        }
    }

    /// A route without next hops: local, NAT, blackhole, unreachable or prohibit.
    pub fn special(kind: RouteKind) -> Self {
        Self {
            kind,
            next_hops: SmallVec::new(),
            distance: None,
            metric: 0,
        }
    }
}

/// A route came, changed (the same source announces again: implicit withdraw) or went (`route` is `None`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteChange {
    /// Table it belongs to.
    pub vrf: VrfId,
    /// Destination.
    pub prefix: Prefix,
    /// Who says so.
    pub source: Source,
    /// The route, or `None` for a withdrawal.
    pub route: Option<Route>,
}
