//! Requests to the kernel: routes, neighbours, links, addresses. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use net::{IfIndex, Prefix, RouteKind};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use crate::KernelNextHop;
use crate::outbound::{Form, Write};

/// By what our routes are known: table, protocol and priority.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) protocol: u8,
    pub(crate) table: u32,
    pub(crate) metric: u32,
}

impl Mark {
    /// The request for a write, with its flags.
    pub(crate) fn route(self, prefix: Prefix, write: &Write) -> (RouteNetlinkMessage, u16) {
        match write {
            // EXCL: where a foreign route of our metric is, ours is refused.
            Write::Add(form) => (
                RouteNetlinkMessage::NewRoute(self.with(prefix, form)),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            // Without CREATE: a replace that finds nothing says so, and becomes an add.
            Write::Replace(form) => (RouteNetlinkMessage::NewRoute(self.with(prefix, form)), NLM_F_REPLACE),
            Write::Remove => {
                let mut message = self.bare(prefix);
                message.header.scope = RouteScope::NoWhere; // any
                (RouteNetlinkMessage::DelRoute(message), 0)
            }
        }
    }

    fn bare(self, prefix: Prefix) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(prefix.address());
        message.header.destination_prefix_length = prefix.len();
        message.header.protocol = self.protocol.into();
        message.header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.attributes = vec![
            RouteAttribute::Table(self.table),
            RouteAttribute::Destination(prefix.address().into()),
            RouteAttribute::Priority(self.metric),
        ];
        message
    }

    fn with(self, prefix: Prefix, form: &Form) -> RouteMessage {
        let mut message = self.bare(prefix);
        message.header.kind = match form.kind {
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
            _ => RouteType::Unicast,
        };
        let on_link = form.kind == RouteKind::Unicast && form.next_hops.iter().all(|n| n.gateway.is_none());
        message.header.scope = if on_link {
            RouteScope::Link
        } else {
            RouteScope::Universe
        };
        match form.next_hops.as_slice() {
            [] => {}
            [hop] => {
                message.header.flags = if forced(hop) {
                    RouteFlags::Onlink
                } else {
                    RouteFlags::empty()
                };
                message
                    .attributes
                    .extend(hop.interface.map(|i| RouteAttribute::Oif(i.0)));
                message.attributes.extend(hop.gateway.map(|g| router(prefix, g)));
            }
            hops => message.attributes.push(RouteAttribute::MultiPath(
                hops.iter()
                    .map(|hop| {
                        let mut next = RouteNextHop::default();
                        next.flags = if forced(hop) {
                            RouteNextHopFlags::Onlink
                        } else {
                            RouteNextHopFlags::empty()
                        };
                        next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
                        next.interface_index = hop.interface.map_or(0, |i| i.0);
                        next.attributes.extend(hop.gateway.map(|g| router(prefix, g)));
                        next
                    })
                    .collect(),
            )),
        }
        message
    }
}

/// A gateway with its interface needs no connected route for the kernel to believe in it: the RIB resolved it.
fn forced(hop: &KernelNextHop) -> bool {
    hop.gateway.is_some() && hop.interface.is_some()
}

/// RFC 8950 next hops, IPv6 for an IPv4 prefix, have an attribute of their own.
fn router(prefix: Prefix, gateway: IpAddr) -> RouteAttribute {
    if prefix.is_v4() == gateway.is_ipv4() {
        RouteAttribute::Gateway(gateway.into())
    } else {
        RouteAttribute::Via(gateway.into())
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// "As if a packet had to go there": the kernel resolves, and tells by notification.
pub(crate) fn use_neighbor(interface: IfIndex, address: IpAddr) -> (RouteNetlinkMessage, u16) {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface.0;
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
}

/// Up or down, and the MTU.
pub(crate) fn set_link(interface: IfIndex, up: bool, mtu: Option<u32>) -> (RouteNetlinkMessage, u16) {
    let mut message = LinkMessage::default();
    message.header.index = interface.0;
    message.header.change_mask = LinkFlags::Up;
    message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    message.attributes = mtu.map(LinkAttribute::Mtu).into_iter().collect();
    (RouteNetlinkMessage::SetLink(message), 0)
}

/// An address with or without the kernel's connected route, usable at once.
pub(crate) fn add_address(interface: IfIndex, address: IpNet, connected_route: bool) -> (RouteNetlinkMessage, u16) {
    let mut message = bare_address(interface, address);
    let mut flags = AddressFlags::Nodad;
    flags.set(AddressFlags::Noprefixroute, !connected_route);
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Flags(flags));
    (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The address goes.
pub(crate) fn remove_address(interface: IfIndex, address: IpNet) -> (RouteNetlinkMessage, u16) {
    (RouteNetlinkMessage::DelAddress(bare_address(interface, address)), 0)
}

fn bare_address(interface: IfIndex, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = interface.0;
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
}
