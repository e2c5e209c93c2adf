//! Logical interfaces of the gateway: what the configuration says of them, and what workers read of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use net::{IfIndex, InterfaceId, Mac, PortId, VlanId, Vni, VrfId};
use serde::Serialize;

/// Logical interface of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its number, dense from 0.
    pub id: InterfaceId,
    /// Its name in the configuration.
    pub name: String,
    /// Its host interface (tap) in the kernel.
    pub host: Option<IfIndex>,
    /// VRF that packets received on it are looked up in.
    pub vrf: VrfId,
    /// Its own address.
    pub mac: Mac,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// What it sits on.
    pub attachment: Attachment,
}

/// What an interface sits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// Untagged frames of a port.
    Port(PortId),
    /// Frames of a port with one 802.1Q tag.
    Vlan {
        /// The port.
        port: PortId,
        /// The tag.
        id: VlanId,
    },
    /// A VXLAN segment (RFC 7348).
    Vxlan {
        /// Its network identifier.
        vni: Vni,
        /// Our tunnel endpoint, an address of the default VRF.
        source: Ipv4Addr,
        /// Destination port of the outer UDP header.
        udp_port: u16,
    },
}

/// An interface as workers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInterface {
    /// VRF that packets received on it are looked up in.
    pub vrf: VrfId,
    /// Its own address.
    pub mac: Mac,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// What it sits on.
    pub attachment: Attachment,
    /// False while its host interface is down.
    pub up: bool,
    /// Its first IPv4 address: source of ICMP errors (RFC 1812 section 4.3.2.4).
    pub address_v4: Option<Ipv4Addr>,
    /// Its first IPv6 address that is not link-local: source of ICMPv6 errors (RFC 4443 section 2.2).
    pub address_v6: Option<Ipv6Addr>,
}
