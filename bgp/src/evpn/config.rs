//! What the speaker is told of a VRF that takes part in EVPN.

use std::collections::BTreeMap;
use std::net::IpAddr;

use net::policy::RouteSource;
use net::{Mac, Prefix, RouteDistinguisher, RouteTarget, Vni, VrfId};

use crate::policy::Policy;

/// A VRF whose routes are exchanged over EVPN by symmetric IRB (RFC 9135 section 5, RFC 9136 section 4.4.1): packets travel
/// in VXLAN between the endpoints of the routers, under the VNI of the VRF, addressed to the MAC address of the other router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvpnVrf {
    /// The VRF.
    pub vrf: VrfId,
    /// What people call it.
    pub name: String,
    /// Tells its routes from those of other VRFs and routers.
    pub rd: RouteDistinguisher,
    /// Routes with any of these targets are imported.
    pub import: Vec<RouteTarget>,
    /// Its own routes are announced with all of these.
    pub export: Vec<RouteTarget>,
    /// VNI of the VRF.
    pub vni: Vni,
    /// Our endpoint of its tunnels.
    pub vtep: IpAddr,
    /// Our MAC address in it.
    pub router_mac: Mac,
    /// Whether others are to send broadcasts of the VNI here: a type 3 route is announced.
    pub multicast: bool,
    /// Prefixes to announce whether there are routes to them or not.
    pub announce: Vec<Prefix>,
    /// What to announce of its routes of other sources: a policy for each source.
    pub redistribute: BTreeMap<RouteSource, Policy>,
}
