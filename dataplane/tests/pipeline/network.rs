//! The network that every test stands in: names, addresses, and what its hosts send.
//!
//! ```text
//!  PEER 192.0.2.2 ----- fabric (wire 0) [gateway] uplink (wire 1) ----- HOST 198.51.100.2
//!  VTEP 192.0.2.9 ---/     192.0.2.1       198.51.100.1   \---- VLAN 100 `red`, VPC 1: tenant 10.0.0.5
//!    \-- VNI 5000 `blue`, VPC 2: tenant 10.0.0.5
//! ```

use std::net::{IpAddr, Ipv4Addr};

use net::{InterfaceId, Mac, NextHop, Route, RouteKind, VrfId};

use crate::frames::{Frame, Layer4, Outer};

pub const FABRIC: usize = 0;
pub const UPLINK: usize = 1;

pub const FABRIC_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
pub const UPLINK_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x11]);
pub const RED_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x12]);
pub const BLUE_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x13]);
pub const PEER_MAC: Mac = Mac([2, 0, 0, 0, 2, 2]);
pub const VTEP_MAC: Mac = Mac([2, 0, 0, 0, 2, 9]);
pub const HOST_MAC: Mac = Mac([2, 0, 0, 0, 3, 2]);
pub const TENANT_MAC: Mac = Mac([2, 0, 0, 0, 1, 5]);

pub const FABRIC_IF: InterfaceId = InterfaceId(0);
pub const UPLINK_IF: InterfaceId = InterfaceId(1);
pub const RED_IF: InterfaceId = InterfaceId(2);
pub const BLUE_IF: InterfaceId = InterfaceId(3);

pub const RED: VrfId = VrfId(1);
pub const BLUE: VrfId = VrfId(2);
pub const VLAN: u16 = 100;
pub const VNI: u32 = 5000;
pub const OUR_VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// A second endpoint that is configured, and never heard of otherwise.
pub const OTHER_VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const OTHER_VTEP_MAC: Mac = Mac([2, 0, 0, 0, 2, 10]);

pub const TENANT: &str = "10.0.0.5";
/// Somebody behind the peer.
pub const SERVER: &str = "198.18.0.9";
pub const HOST: &str = "198.51.100.2";
/// Address that tenants are masqueraded behind.
pub const POOL: &str = "203.0.113.1";
/// Address whose port 80 leads to the tenant's port 8080 in VPC 1.
pub const FORWARDED: &str = "203.0.113.2";

/// Longest IP packet of the fabric, the uplink, VLAN `red` and VNI `blue`.
pub const MTU: [u16; 4] = [1500, 1400, 1400, 1450];

/// An address from text.
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Out by a router.
pub fn via(gateway: &str) -> Route {
    Route::unicast(NextHop::via(address(gateway)))
}

/// A route without next hops.
pub fn special(kind: RouteKind) -> Route {
    Route::special(kind)
}

/// From the host on the uplink to somebody behind the peer.
pub fn from_host(layer4: Layer4) -> Frame {
    Frame::new((HOST_MAC, UPLINK_MAC), HOST, SERVER, layer4)
}

/// The same in IPv6.
pub fn from_host_v6(layer4: Layer4) -> Frame {
    Frame::new((HOST_MAC, UPLINK_MAC), "2001:db8:3::2", "2001:db8:f::9", layer4)
}

/// From the tenant of VPC 1 to somebody behind the peer.
pub fn from_red(layer4: Layer4) -> Frame {
    Frame::new((TENANT_MAC, RED_MAC), TENANT, SERVER, layer4).with(|frame| frame.vlan = Some(VLAN))
}

/// From the tenant of VPC 2 to somebody behind the peer, without its tunnel.
pub fn from_blue(layer4: Layer4) -> Frame {
    Frame::new((TENANT_MAC, BLUE_MAC), TENANT, SERVER, layer4)
}

/// The tunnel from the remote endpoint to us.
pub fn tunnel_in() -> Outer {
    Outer {
        source_mac: VTEP_MAC,
        destination_mac: FABRIC_MAC,
        source: VTEP,
        destination: OUR_VTEP,
        source_port: 50_000,
        vni: VNI,
        checksum: false,
    }
}

/// The tunnel from us to the remote endpoint.
pub fn tunnel_out(source_port: u16) -> Outer {
    Outer {
        source_mac: FABRIC_MAC,
        destination_mac: VTEP_MAC,
        source: OUR_VTEP,
        destination: VTEP,
        source_port,
        vni: VNI,
        checksum: false,
    }
}
