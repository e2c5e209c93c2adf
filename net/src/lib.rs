//! Vocabulary of the house: the words every other crate speaks.
//!
//! Owns: identifiers ([`Vni`], [`VpcId`], [`VrfId`], [`PortId`], …), [`Mac`], [`Prefix`], routes and the events that
//! carry them ([`RouteChange`], [`KernelEvent`]), routing policy as data ([`policy`]), the one [`Drop`] enum, and the
//! zero-copy header views.
//!
//! Never does: I/O, async, allocation on the packet path, or anything that needs a clock.
//!
//! Read first: `route.rs` for the walk of a route, `parse.rs` for the walk of a packet.
#![forbid(unsafe_code)]

mod bytes;
mod drop_reason;
mod event;
mod evpn;
mod id;
mod mac;
mod prefix;
mod route;

pub mod arp;
pub mod checksum;
pub mod eth;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod parse;
pub mod policy;
pub mod tcp;
pub mod udp;
pub mod vlan;
pub mod vxlan;

pub use drop_reason::Drop;
pub use event::{AddressChange, FdbChange, KernelEvent, LinkChange, NeighborChange, NeighborState};
pub use evpn::{AdministratorError, RouteDistinguisher, RouteTarget};
pub use id::{Generation, IdError, IfIndex, InterfaceId, NextHopId, PortId, Revision, VlanId, Vni, VpcId, VrfId};
pub use mac::{Mac, MacError};
pub use parse::{
    FragmentPart, Link, Plain, V4, V6, parse_link, parse_quoted_v4, parse_quoted_v6, parse_v4, parse_v6, protocol,
    tcp_flag,
};
pub use prefix::{Prefix, PrefixError};
pub use route::{NextHop, NextHopObject, NextHopObjectChange, Route, RouteChange, RouteKind, Source, VxlanNextHop};

pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
