//! What a netlink message says, in the mirror's own words. Pure parsing: no state.

use std::net::IpAddr;

use ipnet::IpNet;
use net::{AddressChange, IfIndex, LinkChange, Mac, NeighborChange, NeighborState, Prefix, RouteKind, Vni};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{DecodeError, NLM_F_APPEND, NLM_F_REPLACE, ParseableParametrized};

use crate::KernelNextHop;
use crate::frame::Frame;
use crate::object::{Object, object, object_id};
use crate::rule::{KernelRule, observe_rule};

/// `RTM_NEWNEXTHOP` and `RTM_DELNEXTHOP`, which the netlink crate does not parse.
pub(crate) const NEW_OBJECT: u16 = 104;
pub(crate) const DELETE_OBJECT: u16 = 105;
/// Message types that the crate parses: links, addresses, routes, neighbours, rules, each new and deleted.
const KNOWN: [u16; 10] = [16, 17, 20, 21, 24, 25, 28, 29, 32, 33];

/// One message, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Link(LinkChange),
    Address(ObservedAddress),
    Neighbor(NeighborChange),
    Route(Verb, ObservedRoute),
    /// A next-hop object, `None` if it goes.
    Object(u32, Option<Object>),
    /// A policy rule, and whether it is there.
    Rule(KernelRule, bool),
    /// An entry of a forwarding database, and whether it is there.
    Fdb(ObservedFdb, bool),
    /// Nothing that concerns us.
    Nothing,
}

/// An address as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedAddress {
    pub(crate) change: AddressChange,
    /// The kernel made a route to its subnet.
    pub(crate) connected_route: bool,
}

/// An entry of the forwarding database of a bridge or a VXLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObservedFdb {
    pub(crate) interface: IfIndex,
    pub(crate) mac: Mac,
    pub(crate) vlan: Option<u16>,
    /// Of the bridge that the interface is a port of, and not of the interface itself.
    pub(crate) bridge: bool,
    pub(crate) vtep: Option<IpAddr>,
}

/// What happened to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// New, in front of or behind others of the same key.
    Add,
    /// New, behind others of the same key; of an IPv6 multipath route, the whole of it with one more next hop.
    Append,
    /// In the place of the first of the same key.
    Replace,
    Delete,
}

/// A next hop as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObservedNextHop {
    pub(crate) hop: KernelNextHop,
    /// The kernel does not use it: its interface is down.
    pub(crate) dead: bool,
}

/// A route as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ObservedRoute {
    pub(crate) table: u32,
    pub(crate) protocol: u8,
    pub(crate) prefix: Prefix,
    pub(crate) metric: u32,
    pub(crate) kind: RouteKind,
    /// As the message spells them out; of a route that names an object, none.
    pub(crate) next_hops: Vec<ObservedNextHop>,
    /// The next-hop object whose ways it goes.
    pub(crate) object: Option<u32>,
}

/// What `frame` says.
///
/// # Errors
/// The parser's error for a message of a known type that is malformed.
pub(crate) fn hear(frame: &Frame<'_>) -> Result<Heard, DecodeError> {
    let nothing = |object: Option<Heard>| Ok(object.unwrap_or(Heard::Nothing));
    match frame.kind {
        NEW_OBJECT => return nothing(object(frame.body).map(|(id, object)| Heard::Object(id, Some(object)))),
        DELETE_OBJECT => return nothing(object_id(frame.body).map(|id| Heard::Object(id, None))),
        _ => {}
    }
    if !KNOWN.contains(&frame.kind) {
        return Ok(Heard::Nothing);
    }
    use RouteNetlinkMessage as M;
    let heard = match M::parse_with_param(frame.body, frame.kind)? {
        M::NewLink(message) => link(message, true).map(Heard::Link),
        M::DelLink(message) => link(message, false).map(Heard::Link),
        M::NewAddress(message) => address(&message, true).map(Heard::Address),
        M::DelAddress(message) => address(&message, false).map(Heard::Address),
        M::NewNeighbour(message) if bridging(&message) => fdb(&message).map(|entry| Heard::Fdb(entry, true)),
        M::DelNeighbour(message) if bridging(&message) => fdb(&message).map(|entry| Heard::Fdb(entry, false)),
        M::NewNeighbour(message) => neighbor(&message, true).map(Heard::Neighbor),
        M::DelNeighbour(message) => neighbor(&message, false).map(Heard::Neighbor),
        M::NewRule(message) => observe_rule(&message).map(|rule| Heard::Rule(rule, true)),
        M::DelRule(message) => observe_rule(&message).map(|rule| Heard::Rule(rule, false)),
        M::NewRoute(message) => {
            let verb = match frame.flags {
                flags if flags & NLM_F_REPLACE != 0 => Verb::Replace,
                flags if flags & NLM_F_APPEND != 0 => Verb::Append,
                _ => Verb::Add,
            };
            observe_route(&message).map(|route| Heard::Route(verb, route))
        }
        M::DelRoute(message) => observe_route(&message).map(|route| Heard::Route(Verb::Delete, route)),
        _ => None,
    };
    Ok(heard.unwrap_or(Heard::Nothing))
}

fn link(message: LinkMessage, present: bool) -> Option<LinkChange> {
    // AF_BRIDGE messages tell of a bridge port: its RTM_DELLINK means that the port left the bridge, not that it went.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let flags = message.header.flags;
    let mut change = LinkChange {
        index: IfIndex(message.header.index),
        name: String::new(),
        mac: None,
        mtu: 0,
        up: present && flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        present,
        vni: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => change.name = name,
            LinkAttribute::Mtu(mtu) => change.mtu = mtu,
            LinkAttribute::LinkInfo(infos) => change.vni = infos.iter().find_map(vni),
            LinkAttribute::Address(bytes) => {
                change.mac = bytes.try_into().ok().map(Mac).filter(|mac| !mac.is_zero());
            }
            // Devices that do not report their state say `Unknown`: there the flags decide.
            LinkAttribute::OperState(state) if !matches!(state, State::Up | State::Unknown) => change.up = false,
            _ => {}
        }
    }
    Some(change)
}

/// The network of a VXLAN device; 0, of one that takes it from each packet, is none.
fn vni(info: &LinkInfo) -> Option<Vni> {
    let LinkInfo::Data(InfoData::Vxlan(settings)) = info else {
        return None;
    };
    settings.iter().find_map(|setting| match setting {
        InfoVxlan::Id(id) => Vni::new(*id).ok(),
        _ => None,
    })
}

fn address(message: &AddressMessage, present: bool) -> Option<ObservedAddress> {
    let (mut address, mut local) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // With IPv4, and on point-to-point links, IFA_LOCAL is ours and IFA_ADDRESS is the peer's.
    let address = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    // An address in or after a lost duplicate detection is not usable, although the kernel has it; the end is notified.
    let usable = !flags.intersects(AddressFlags::Dadfailed | AddressFlags::Tentative)
        || flags.contains(AddressFlags::Optimistic);
    let present = present && usable;
    Some(ObservedAddress {
        change: AddressChange {
            interface: IfIndex(message.header.index),
            address,
            present,
        },
        connected_route: !flags.contains(AddressFlags::Noprefixroute),
    })
}

fn neighbor(message: &NeighbourMessage, present: bool) -> Option<NeighborChange> {
    let header = &message.header;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
        || header.flags.contains(NeighbourFlags::Proxy)
    {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    let address = address.filter(|a| !a.is_multicast())?;
    // The kernel's own NOARP entries for broadcast addresses and on the loopback interface are no neighbours.
    if header.state == NeighbourState::Noarp && mac.is_none_or(|m| m.is_multicast() || m.is_zero()) {
        return None;
    }
    let state = match header.state {
        _ if !present => NeighborState::Gone,
        NeighbourState::Failed => NeighborState::Failed,
        NeighbourState::Incomplete | NeighbourState::None => NeighborState::Incomplete,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => {
            mac.map_or(NeighborState::Incomplete, NeighborState::Stale)
        }
        _ => mac.map_or(NeighborState::Incomplete, NeighborState::Reachable),
    };
    Some(NeighborChange {
        interface: IfIndex(header.ifindex),
        address,
        state,
    })
}

fn bridging(message: &NeighbourMessage) -> bool {
    message.header.family == AddressFamily::Bridge
}

fn fdb(message: &NeighbourMessage) -> Option<ObservedFdb> {
    let (mut mac, mut vlan, mut vtep) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            NeighbourAttribute::Vlan(id) => vlan = Some(*id),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => vtep = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => vtep = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => vtep = ip_of(bytes),
            _ => {}
        }
    }
    Some(ObservedFdb {
        interface: IfIndex(message.header.ifindex),
        mac: mac?,
        vlan,
        bridge: message.header.flags.contains(NeighbourFlags::Controller),
        vtep,
    })
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A route as a message describes it; `None` for one that is not a route for a destination.
pub(crate) fn observe_route(message: &RouteMessage) -> Option<ObservedRoute> {
    let header = &message.header;
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        _ => return None,
    };
    // Cloned routes are caches. Routes for one TOS or one source only are not routes for a destination.
    if header.flags.contains(RouteFlags::Cloned) || header.tos != 0 || header.source_prefix_length != 0 {
        return None;
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => Prefix::DEFAULT_V4.address(),
        AddressFamily::Inet6 => Prefix::DEFAULT_V6.address(),
        _ => return None,
    };
    let (mut table, mut metric) = (u32::from(header.table), 0);
    let (mut destination, mut gateway, mut interface) = (unspecified, None, None);
    let mut object = None;
    let mut multipath = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::NhId(id) if kind == RouteKind::Unicast => object = Some(*id),
            RouteAttribute::Oif(index) => interface = Some(IfIndex(*index)),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = router(attribute),
            RouteAttribute::MultiPath(hops) => {
                multipath = hops
                    .iter()
                    .map(|hop| ObservedNextHop {
                        hop: KernelNextHop {
                            gateway: hop.attributes.iter().find_map(router),
                            interface: Some(IfIndex(hop.interface_index)).filter(|i| i.0 != 0),
                            weight: u16::from(hop.hops) + 1,
                        },
                        dead: hop.flags.contains(RouteNextHopFlags::Dead),
                    })
                    .collect();
            }
            _ => {}
        }
    }
    let single = (gateway.is_some() || interface.is_some()).then_some(ObservedNextHop {
        hop: KernelNextHop {
            gateway,
            interface,
            weight: 1,
        },
        dead: header.flags.contains(RouteFlags::Dead),
    });
    multipath.sort_unstable(); // notifications and dumps of one IPv6 route differ in their order, which means nothing
    let next_hops = match kind {
        // What the kernel spells out of an object changes without a word; the object itself does not.
        RouteKind::Unicast if object.is_some() => Vec::new(),
        RouteKind::Unicast if multipath.is_empty() => single.into_iter().collect(),
        RouteKind::Unicast => multipath,
        _ => Vec::new(),
    };
    Some(ObservedRoute {
        table,
        protocol: header.protocol.into(),
        prefix: Prefix::containing(destination, header.destination_prefix_length).ok()?,
        metric,
        kind,
        next_hops,
        object,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn router(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bridge_port_leaving_its_bridge_is_not_a_link_removed() {
        let mut message = LinkMessage::default();
        message.header.index = 3;
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(link(message.clone(), false), None);
        message.header.interface_family = AddressFamily::Unspec;
        assert!(link(message, false).is_some_and(|l| !l.present));
    }

    #[test]
    fn link_is_up_only_with_carrier_and_operational_state() {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = vec![LinkAttribute::OperState(State::Unknown)];
        assert!(link(message.clone(), true).is_some_and(|l| l.up));
        message.attributes = vec![LinkAttribute::OperState(State::LowerLayerDown)];
        assert!(link(message.clone(), true).is_some_and(|l| !l.up));
        message.attributes.clear();
        message.header.flags = LinkFlags::Up;
        assert!(link(message, true).is_some_and(|l| !l.up));
    }

    #[test]
    fn neighbor_states_fold() {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 1].into())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
        ];
        let mut fold = |state| {
            message.header.state = state;
            neighbor(&message, true).map(|n| n.state)
        };
        let reachable = Some(NeighborState::Reachable(Mac([2, 0, 0, 0, 0, 1])));
        let stale = Some(NeighborState::Stale(Mac([2, 0, 0, 0, 0, 1])));
        for state in [NeighbourState::Stale, NeighbourState::Delay, NeighbourState::Probe] {
            assert_eq!(fold(state), stale, "{state}");
        }
        for state in [
            NeighbourState::Reachable,
            NeighbourState::Permanent,
            NeighbourState::Noarp,
        ] {
            assert_eq!(fold(state), reachable, "{state}");
        }
        assert_eq!(fold(NeighbourState::Failed), Some(NeighborState::Failed));
        assert_eq!(fold(NeighbourState::Incomplete), Some(NeighborState::Incomplete));
        message.attributes[1] = NeighbourAttribute::LinkLayerAddress(vec![0xff; 6]);
        message.header.state = NeighbourState::Noarp;
        assert_eq!(neighbor(&message, true), None, "broadcast noise");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            kind in proptest::sample::select(KNOWN.as_slice()),
            body in proptest::collection::vec(any::<u8>(), 0..128),
        ) {
            let _ = hear(&Frame { kind, flags: 0, sequence: 0, port: 0, body: &body });
        }
    }
}
