//! Random histories: what happens to a gateway, in a small world where much collides.

use std::net::{IpAddr, Ipv4Addr};

use net::{
    IfIndex, InterfaceId, IpNet, Mac, NeighborState, NextHop, NextHopObject, PortId, Prefix, Route, RouteChange,
    RouteKind, Source, VlanId, Vni, VrfId, VxlanNextHop,
};
use proptest::prelude::*;
use proptest::sample::select;
use rib::{Attachment, Interface};

/// One event of a history.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Interface(Interface),
    RemoveInterface(InterfaceId),
    Link(IfIndex, bool),
    Address(IfIndex, IpNet, bool),
    Neighbor(IfIndex, IpAddr, NeighborState),
    Route(RouteChange),
    Fdb(InterfaceId, Mac, Option<IpAddr>),
    Object(NextHopObject, Vec<NextHop>),
    Publish,
}

/// Events, printed one a line.
#[derive(Clone)]
pub(crate) struct History(pub(crate) Vec<Event>);

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|event| write!(f, "\n{event:?}"))
    }
}

const GATEWAYS: [&str; 8] = [
    "10.0.0.2",
    "10.0.0.3",
    "10.0.1.2",
    "10.1.0.1",
    "20.0.0.1",
    "192.0.2.9",
    "fe80::2",
    "2001:db8::2",
];
const PREFIXES: [&str; 15] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.0/24",
    "10.0.1.0/24",
    "10.0.0.2/32",
    "10.1.0.0/30",
    "20.0.0.0/8",
    "20.0.0.0/24",
    "192.0.2.0/24",
    "192.0.2.9/32",
    "::/0",
    "2001:db8::/32",
    "2001:db8::/64",
    "2001:db8::2/128",
];
const ADDRESSES: [&str; 7] = [
    "10.0.0.1/24",
    "10.0.1.1/24",
    "10.1.0.2/30",
    "20.0.0.1/32",
    "20.0.0.9/8",
    "2001:db8::1/64",
    "fe80::9/64",
];

pub(crate) fn probes() -> impl Iterator<Item = IpAddr> {
    let more = [
        "10.0.0.1",
        "10.0.0.77",
        "10.1.0.2",
        "20.9.0.1",
        "9.9.9.9",
        "2001:db8::77",
        "2001:dead::1",
    ];
    GATEWAYS.into_iter().chain(more).map(|a| a.parse().expect("an address"))
}

pub(crate) fn parsed<T: std::str::FromStr + Clone + std::fmt::Debug + 'static>(
    texts: &[&str],
) -> impl Strategy<Value = T> + use<T> {
    let values: Vec<T> = texts.iter().map(|t| t.parse().ok().expect("valid")).collect();
    select(values)
}

pub(crate) fn macs() -> impl Strategy<Value = Mac> {
    (1..4u8).prop_map(|n| Mac([2, 0, 0, 0, 1, n]))
}

pub(crate) fn interface(id: u16, host: u32, vrf: u16, attachment: Attachment) -> Interface {
    let mac = Mac([2, 0, 0, 0, 0, id as u8]);
    Interface {
        id: InterfaceId(id),
        name: format!("if{id}"),
        host: Some(IfIndex(host)),
        vrf: VrfId(vrf),
        mac,
        mtu: 1500,
        attachment,
    }
}

pub(crate) fn interfaces() -> Vec<Interface> {
    let vlan = VlanId::new(7).expect("valid");
    let vxlan = |vni| Attachment::Vxlan {
        vni,
        source: Ipv4Addr::new(192, 0, 2, 1),
        udp_port: 4789,
    };
    let vni = |n| Vni::new(n).expect("valid");
    vec![
        interface(0, 10, 0, Attachment::Port(PortId(0))),
        interface(1, 11, 0, Attachment::Port(PortId(1))),
        interface(
            2,
            12,
            1,
            Attachment::Vlan {
                port: PortId(0),
                id: vlan,
            },
        ),
        interface(3, 13, 1, vxlan(vni(100))),
        interface(3, 13, 2, vxlan(vni(200))),
        interface(1, 11, 1, Attachment::Port(PortId(1))),
    ]
}

pub(crate) fn next_hops() -> impl Strategy<Value = NextHop> {
    let host = || (10..15u32).prop_map(IfIndex);
    let tunnel = (parsed::<IpAddr>(&GATEWAYS), macs(), select(vec![100, 200])).prop_map(|(vtep, mac, vni)| {
        let vni = Vni::new(vni).expect("valid");
        NextHop {
            vxlan: Some(VxlanNextHop { vni, vtep, mac }),
            ..NextHop::in_vrf(VrfId::DEFAULT)
        }
    });
    prop_oneof![
        6 => parsed::<IpAddr>(&GATEWAYS).prop_map(NextHop::via),
        2 => (parsed::<IpAddr>(&GATEWAYS), host()).prop_map(|(a, h)| NextHop::via(a).through(h)),
        1 => host().prop_map(NextHop::on_link),
        2 => (0..3u16).prop_map(|v| NextHop::in_vrf(VrfId(v))),
        1 => (parsed::<IpAddr>(&GATEWAYS), 0..3u16).prop_map(|(a, v)| NextHop { vrf: Some(VrfId(v)), ..NextHop::via(a) }),
        1 => tunnel,
    ]
}

fn objects() -> impl Strategy<Value = NextHopObject> {
    let source = select(vec![Source::Kernel, Source::Fpm]);
    (source, 1..4u32).prop_map(|(source, id)| NextHopObject { source, id })
}

fn weighted(
    hops: impl Strategy<Value = NextHop>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<NextHop>> {
    let weigh = |(hop, weight)| NextHop { weight, ..hop };
    prop::collection::vec((hops, 1..3u16).prop_map(weigh), count)
}

pub(crate) fn routes() -> impl Strategy<Value = Option<Route>> {
    let special =
        select(vec![RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit]).prop_map(Route::special);
    let hops = prop_oneof![5 => next_hops(), 1 => objects().prop_map(NextHop::of_object)];
    let unicast = weighted(hops, 1..4).prop_map(Route::multipath);
    let route = prop_oneof![8 => unicast, 1 => special];
    let route =
        (route, prop::option::of(0..3u8), 0..2u32).prop_map(|(r, distance, metric)| Route { distance, metric, ..r });
    prop::option::weighted(0.75, route)
}

pub(crate) fn events() -> impl Strategy<Value = Event> {
    let host = || select(vec![10, 11, 12, 13, 1]).prop_map(IfIndex);
    let source = select(vec![
        Source::Static,
        Source::Ebgp,
        Source::Ibgp,
        Source::Kernel,
        Source::Fpm,
    ]);
    let change = ((0..3u16).prop_map(VrfId), parsed::<Prefix>(&PREFIXES), source, routes());
    let state = prop_oneof![
        3 => macs().prop_map(NeighborState::Reachable),
        2 => macs().prop_map(NeighborState::Stale),
        1 => Just(NeighborState::Incomplete),
        1 => Just(NeighborState::Failed),
        1 => Just(NeighborState::Gone),
    ];
    let vtep = prop::option::weighted(0.8, parsed::<IpAddr>(&GATEWAYS));
    prop_oneof![
        2 => select(interfaces()).prop_map(Event::Interface),
        1 => (0..4u16).prop_map(|id| Event::RemoveInterface(InterfaceId(id))),
        2 => (host(), prop::bool::weighted(0.7)).prop_map(|(h, up)| Event::Link(h, up)),
        4 => (host(), parsed::<IpNet>(&ADDRESSES), prop::bool::weighted(0.7)).prop_map(|(h, n, p)| Event::Address(h, n, p)),
        6 => (host(), parsed::<IpAddr>(&GATEWAYS), state).prop_map(|(h, a, s)| Event::Neighbor(h, a, s)),
        14 => change.prop_map(|(vrf, prefix, source, route)| Event::Route(RouteChange { vrf, prefix, source, route })),
        2 => (macs(), vtep).prop_map(|(mac, vtep)| Event::Fdb(InterfaceId(3), mac, vtep)),
        4 => (objects(), weighted(next_hops().prop_filter("a gateway", |hop| hop.gateway.is_some()), 0..4)).prop_map(|(object, hops)| Event::Object(object, hops)),
        6 => Just(Event::Publish),
    ]
}
