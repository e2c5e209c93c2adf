//! One behaviour of the RIB a test, through its public interface.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc;

use net::{
    AddressChange, Drop, Generation, IfIndex, InterfaceId, KernelEvent, LinkChange, Mac, NeighborChange, NeighborState,
    NextHop, NextHopId, PortId, Prefix, Revision, Route, RouteChange, RouteKind, Source, VlanId, Vni, VpcId, VrfId,
    VxlanNextHop,
};
use rib::{Adjacency, AdjacencyKind, Attachment, Interface, Lookup, Published, Reader, Reason, Rib, RibConfig};

const HOST: IfIndex = IfIndex(10);
const OTHER: IfIndex = IfIndex(11);
const TENANT: IfIndex = IfIndex(12);
const VRF: VrfId = VrfId::DEFAULT;

/// Two ports in the default VRF, 10.0.0.1/24 and 10.0.1.1/24, both routers resolved, all published.
struct Bench {
    rib: Rib,
    reader: Reader,
}

impl Bench {
    fn new() -> Self {
        let (rib, reader) = Rib::new(RibConfig::default());
        let mut bench = Self { rib, reader };
        for (id, host) in [(0, HOST), (1, OTHER)] {
            let attachment = Attachment::Port(PortId(id));
            bench.rib.set_interface(interface(id, host, VRF, attachment));
            bench.address(host, &format!("10.0.{id}.1/24"), true);
            bench.neighbor(
                host,
                &format!("10.0.{id}.2"),
                NeighborState::Reachable(mac(id as u8 + 0x20)),
            );
        }
        bench.publish();
        bench
    }

    fn publish(&mut self) -> Published {
        self.rib.publish().expect("no reader is inside")
    }

    fn address(&mut self, host: IfIndex, text: &str, present: bool) {
        let address = text.parse().expect("an address");
        self.rib.kernel(KernelEvent::Address(AddressChange {
            interface: host,
            address,
            present,
        }));
    }

    fn neighbor(&mut self, host: IfIndex, text: &str, state: NeighborState) {
        self.rib.kernel(KernelEvent::Neighbor(NeighborChange {
            interface: host,
            address: ip(text),
            state,
        }));
    }

    fn link(&mut self, index: IfIndex, up: bool) {
        let link = LinkChange {
            index,
            name: "tap".into(),
            mac: None,
            mtu: 1500,
            up,
            present: true,
        };
        self.rib.kernel(KernelEvent::Link(link));
    }

    fn announce(&mut self, vrf: VrfId, prefix: &str, source: Source, route: Route) {
        let prefix = prefix.parse().expect("a prefix");
        self.rib.route(RouteChange {
            vrf,
            prefix,
            source,
            route: Some(route),
        });
    }

    fn withdraw(&mut self, vrf: VrfId, prefix: &str, source: Source) {
        let prefix = prefix.parse().expect("a prefix");
        self.rib.route(RouteChange {
            vrf,
            prefix,
            source,
            route: None,
        });
    }

    fn lookup(&self, vrf: VrfId, destination: &str) -> Result<(NextHopId, Adjacency), Drop> {
        let tables = self.reader.enter().expect("published");
        let found = match ip(destination) {
            IpAddr::V4(a) => tables.resolve_v4(vrf, a.into(), 7)?,
            IpAddr::V6(a) => tables.resolve_v6(vrf, a.into(), 7)?,
        };
        Ok((found.next_hop, tables.adjacency(found.next_hop).clone()))
    }

    /// Kind and gateway of the way to a destination.
    fn way(&self, vrf: VrfId, destination: &str) -> Result<(AdjacencyKind, Option<IpAddr>), Drop> {
        self.lookup(vrf, destination).map(|(_, a)| (a.kind, a.gateway))
    }

    fn reason(&self, prefix: &str, source: Source) -> Option<Reason> {
        let views = self
            .rib
            .routes(None, Some(prefix.parse().expect("a prefix")), usize::MAX);
        views.iter().find(|v| v.source == source).expect("a candidate").reason
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn via(gateway: &str) -> Route {
    Route::unicast(NextHop::via(ip(gateway)))
}

fn forward(gateway: &str) -> Result<(AdjacencyKind, Option<IpAddr>), Drop> {
    Ok((AdjacencyKind::Forward, Some(ip(gateway))))
}

fn interface(id: u16, host: IfIndex, vrf: VrfId, attachment: Attachment) -> Interface {
    Interface {
        id: InterfaceId(id),
        name: format!("if{id}"),
        host: Some(host),
        vrf,
        mac: mac(id as u8),
        mtu: 1500,
        attachment,
    }
}

fn vxlan(id: u16, host: IfIndex, vrf: VrfId, vni: u32) -> Interface {
    let vni = Vni::new(vni).expect("valid");
    interface(
        id,
        host,
        vrf,
        Attachment::Vxlan {
            vni,
            source: Ipv4Addr::new(192, 0, 2, 1),
            udp_port: 4789,
        },
    )
}

#[test]
fn the_lowest_distance_wins_then_the_lowest_metric() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Ibgp, via("10.0.0.2"));
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, via("10.0.1.2"));
    let equal = Route {
        distance: Some(20),
        metric: 5,
        ..via("10.0.0.2")
    };
    b.announce(VRF, "20.0.0.0/8", Source::Kernel, equal.clone());
    b.announce(VRF, "20.0.0.0/8", Source::Fpm, Route { metric: 0, ..equal });
    b.publish();
    assert_eq!(b.way(VRF, "20.1.1.1"), forward("10.0.1.2"));
    assert_eq!(b.reason("20.0.0.0/8", Source::Ebgp), None);
    assert_eq!(b.reason("20.0.0.0/8", Source::Ibgp), Some(Reason::Distance));
    assert_eq!(b.reason("20.0.0.0/8", Source::Kernel), Some(Reason::Metric));
    assert_eq!(b.reason("20.0.0.0/8", Source::Fpm), Some(Reason::Source));
    b.withdraw(VRF, "20.0.0.0/8", Source::Ebgp);
    b.publish();
    assert_eq!(b.way(VRF, "20.1.1.1"), forward("10.0.0.2"));
    let (rib, _) = Rib::new(RibConfig {
        distances: vec![(Source::Ibgp, 5)],
        ..RibConfig::default()
    });
    b.rib = rib;
    b.announce(VRF, "20.0.0.0/8", Source::Ibgp, Route::special(RouteKind::Blackhole));
    assert_eq!(b.rib.routes(None, None, 1)[0].distance, 5);
}

#[test]
fn a_gateway_is_resolved_through_other_routes() {
    let mut b = Bench::new();
    b.announce(VRF, "30.0.0.0/8", Source::Ebgp, via("20.0.0.9"));
    let published = b.publish();
    assert_eq!(b.way(VRF, "30.1.1.1"), Err(Drop::NoRoute));
    assert_eq!(b.reason("30.0.0.0/8", Source::Ebgp), Some(Reason::GatewayUnresolved));
    assert!(published.winners.is_empty());
    b.announce(VRF, "20.0.0.0/24", Source::Static, via("10.0.0.2"));
    let published = b.publish();
    assert_eq!(b.way(VRF, "30.1.1.1"), forward("10.0.0.2"));
    let winner = published
        .winners
        .iter()
        .find(|w| w.prefix.to_string() == "30.0.0.0/8")
        .expect("it came to life");
    let hops = &winner.route.as_ref().expect("usable").next_hops;
    assert_eq!((hops[0].gateway, hops[0].interface), (Some(ip("10.0.0.2")), Some(HOST)));
    // The route to the gateway moves: the prefix stays as it is, and its flows are told by their next hop.
    let (old, _) = b.lookup(VRF, "30.1.1.1").expect("routed");
    b.announce(VRF, "20.0.0.0/24", Source::Static, via("10.0.1.2"));
    let published = b.publish();
    assert_eq!(b.way(VRF, "30.1.1.1"), forward("10.0.1.2"));
    assert!(published.delta.next_hops.contains(&old) && !published.delta.everything);
    assert!(
        !published
            .delta
            .prefixes
            .iter()
            .any(|(_, p)| p.to_string() == "30.0.0.0/8")
    );
    assert!(
        published.winners.iter().any(|w| w.prefix.to_string() == "30.0.0.0/8"),
        "the kernel's copy must move too"
    );
}

#[test]
fn a_route_that_covers_its_own_gateway_loses_and_no_other_does() {
    let mut b = Bench::new();
    b.announce(VRF, "40.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.announce(VRF, "40.1.0.0/16", Source::Ebgp, via("40.1.0.1"));
    b.announce(VRF, "50.0.0.0/8", Source::Ebgp, via("40.1.0.1"));
    b.announce(VRF, "10.0.0.0/8", Source::Ebgp, via("10.0.1.2"));
    b.publish();
    assert_eq!(b.reason("40.1.0.0/16", Source::Ebgp), Some(Reason::Loop));
    assert_eq!(b.way(VRF, "40.1.0.7"), forward("10.0.0.2"));
    assert_eq!(b.way(VRF, "50.0.0.1"), forward("10.0.0.2"));
    assert_eq!(
        b.way(VRF, "10.9.9.9"),
        forward("10.0.1.2"),
        "its gateway is on a longer, connected subnet"
    );
    b.address(OTHER, "10.0.1.1/24", false);
    b.publish();
    assert_eq!(b.reason("10.0.0.0/8", Source::Ebgp), Some(Reason::GatewayUnresolved));
}

#[test]
fn routes_that_resolve_through_each_other_do_not_flap() {
    let mut b = Bench::new();
    b.announce(VRF, "0.0.0.0/0", Source::Static, via("10.0.0.2"));
    b.announce(VRF, "60.0.0.0/8", Source::Ebgp, via("70.0.0.1"));
    b.announce(VRF, "70.0.0.0/8", Source::Ebgp, via("60.0.0.1"));
    b.publish();
    let reasons = ["60.0.0.0/8", "70.0.0.0/8"].map(|p| b.reason(p, Source::Ebgp));
    assert_eq!(
        reasons.iter().filter(|r| **r == Some(Reason::Loop)).count(),
        1,
        "{reasons:?}"
    );
    assert_eq!(b.way(VRF, "60.0.0.5"), forward("10.0.0.2"));
    assert_eq!(b.way(VRF, "70.0.0.5"), forward("10.0.0.2"));
}

#[test]
fn leaked_routes_are_followed_and_circles_are_found() {
    let mut b = Bench::new();
    b.announce(
        VrfId(1),
        "0.0.0.0/0",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VRF)),
    );
    b.announce(
        VRF,
        "10.7.0.0/16",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VrfId(2))),
    );
    b.announce(
        VrfId(2),
        "10.7.0.0/16",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VrfId(1))),
    );
    b.announce(VrfId(3), "30.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.announce(
        VrfId(3),
        "10.0.0.0/8",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VRF)),
    );
    b.publish();
    assert_eq!(b.way(VrfId(1), "10.0.0.2"), forward("10.0.0.2"));
    assert_eq!(b.way(VrfId(1), "10.7.0.1"), Err(Drop::VrfLoop));
    assert_eq!(b.way(VrfId(1), "99.0.0.1"), Err(Drop::NoRoute));
    assert_eq!(
        b.way(VrfId(3), "30.0.0.1"),
        forward("10.0.0.2"),
        "a gateway is resolved across the leak"
    );
    let tables = b.reader.enter().expect("published");
    let ended = tables
        .resolve_v4(VrfId(1), Ipv4Addr::new(10, 0, 0, 2).into(), 0)
        .expect("routed");
    assert_eq!(ended.vrf, VRF);
}

#[test]
fn flows_spread_by_weight_over_the_members_that_are_up() {
    let mut b = Bench::new();
    let hop = |gateway: &str, weight| NextHop {
        weight,
        ..NextHop::via(ip(gateway))
    };
    b.announce(
        VRF,
        "20.0.0.0/8",
        Source::Ebgp,
        Route::multipath([hop("10.0.0.2", 3), hop("10.0.1.2", 1)]),
    );
    b.publish();
    let share = |b: &Bench| {
        let tables = b.reader.enter().expect("published");
        let target = Ipv4Addr::new(20, 0, 0, 1).into();
        // Hashes that one worker sees: their low bits are all the same.
        let ways = (0..4000u32).map(|i| tables.resolve_v4(VRF, target, i << 7 | 5).expect("routed").next_hop);
        ways.filter(|id| tables.adjacency(*id).gateway == Some(ip("10.0.0.2")))
            .count()
    };
    assert!((2800..3200).contains(&share(&b)), "{}", share(&b));
    b.link(HOST, false);
    b.publish();
    assert_eq!(share(&b), 0);
    b.link(HOST, true);
    b.publish();
    assert!((2800..3200).contains(&share(&b)));
}

#[test]
fn a_link_going_down_takes_its_routes_and_hosts_along() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, via("10.0.0.2"));
    b.publish();
    b.link(HOST, false);
    let published = b.publish();
    for destination in ["10.0.0.2", "10.0.0.77", "20.0.0.1"] {
        assert_eq!(b.way(VRF, destination), Err(Drop::NoRoute), "{destination}");
        assert!(published.delta.touches_v4(
            VRF,
            match ip(destination) {
                IpAddr::V4(a) => a.into(),
                _ => 0,
            }
        ));
    }
    assert_eq!(b.reason("10.0.0.0/24", Source::Connected), Some(Reason::InterfaceDown));
    assert_eq!(
        b.way(VRF, "10.0.0.1"),
        Ok((AdjacencyKind::Local, None)),
        "our address is still ours"
    );
    assert!(
        !b.reader
            .enter()
            .expect("published")
            .interface(InterfaceId(0))
            .expect("known")
            .up
    );
}

#[test]
fn neighbours_are_host_routes_that_change_in_place() {
    let mut b = Bench::new();
    assert_eq!(b.way(VRF, "10.0.0.9"), Ok((AdjacencyKind::Glean, None)));
    b.neighbor(HOST, "10.0.0.9", NeighborState::Incomplete);
    b.publish();
    assert_eq!(b.way(VRF, "10.0.0.9").map(|w| w.0), Ok(AdjacencyKind::Glean));
    b.neighbor(HOST, "10.0.0.9", NeighborState::Reachable(mac(0x50)));
    b.publish();
    let (id, adjacency) = b.lookup(VRF, "10.0.0.9").expect("routed");
    assert_eq!(adjacency.rewrite()[..6], mac(0x50).0);
    b.neighbor(HOST, "10.0.0.9", NeighborState::Reachable(mac(0x51)));
    let published = b.publish();
    assert_eq!(published.delta.next_hops, [id]);
    assert!(published.delta.prefixes.is_empty() && published.winners.is_empty());
    let (same, adjacency) = b.lookup(VRF, "10.0.0.9").expect("routed");
    assert_eq!((same, &adjacency.rewrite()[..6]), (id, &mac(0x51).0[..]));
    // A longer route to the neighbour's address wins over its being a neighbour.
    b.announce(VRF, "10.0.0.8/29", Source::Static, Route::special(RouteKind::Blackhole));
    b.publish();
    assert_eq!(b.way(VRF, "10.0.0.9").map(|w| w.0), Ok(AdjacencyKind::Blackhole));
    b.withdraw(VRF, "10.0.0.8/29", Source::Static);
    b.neighbor(HOST, "10.0.0.9", NeighborState::Gone);
    b.publish();
    assert_eq!(b.way(VRF, "10.0.0.9").map(|w| w.0), Ok(AdjacencyKind::Glean));
}

#[test]
fn an_unknown_gateway_is_asked_for_once() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, via("10.0.0.33"));
    b.announce(VRF, "21.0.0.0/8", Source::Ebgp, via("10.0.0.33"));
    assert_eq!(b.publish().wanted, [(HOST, ip("10.0.0.33"))]);
    assert_eq!(
        b.way(VRF, "20.0.0.1"),
        Ok((AdjacencyKind::Incomplete, Some(ip("10.0.0.33"))))
    );
    b.neighbor(HOST, "10.0.0.33", NeighborState::Incomplete);
    b.neighbor(HOST, "10.0.0.33", NeighborState::Failed);
    assert_eq!(b.publish().wanted, []);
    b.neighbor(HOST, "10.0.0.33", NeighborState::Reachable(mac(9)));
    b.publish();
    assert_eq!(b.way(VRF, "20.0.0.1"), forward("10.0.0.33"));
    b.neighbor(HOST, "10.0.0.33", NeighborState::Gone);
    assert_eq!(b.publish().wanted, [(HOST, ip("10.0.0.33"))]);
}

#[test]
fn a_link_local_gateway_carries_its_interface() {
    let mut b = Bench::new();
    b.neighbor(OTHER, "fe80::2", NeighborState::Reachable(mac(0x60)));
    let hop = NextHop::via(ip("fe80::2")).through(OTHER);
    b.announce(VRF, "2001:db8::/32", Source::Ebgp, Route::unicast(hop));
    b.announce(VRF, "2001:db9::/32", Source::Ebgp, via("fe80::2"));
    b.address(OTHER, "fe80::1/64", true);
    b.publish();
    let (_, adjacency) = b.lookup(VRF, "2001:db8::1").expect("routed");
    assert_eq!((adjacency.kind, adjacency.port), (AdjacencyKind::Forward, PortId(1)));
    assert_eq!(
        b.way(VRF, "2001:db9::1"),
        Err(Drop::NoRoute),
        "a link-local gateway without its interface is nowhere"
    );
    assert_eq!(b.way(VRF, "fe80::1"), Ok((AdjacencyKind::Local, None)));
    assert_eq!(
        b.way(VRF, "fe80::77"),
        Err(Drop::NoRoute),
        "link-local subnets are no routes"
    );
}

#[test]
fn an_address_elsewhere_is_local_in_the_default_vrf() {
    let mut b = Bench::new();
    b.address(IfIndex(1), "198.51.100.1/24", true);
    b.publish();
    assert_eq!(b.way(VRF, "198.51.100.1"), Ok((AdjacencyKind::Local, None)));
    assert_eq!(b.way(VRF, "198.51.100.2"), Err(Drop::NoRoute));
    b.address(IfIndex(1), "198.51.100.1/24", false);
    b.publish();
    assert_eq!(b.way(VRF, "198.51.100.1"), Err(Drop::NoRoute));
}

#[test]
fn a_vxlan_neighbour_follows_its_underlay() {
    let mut b = Bench::new();
    b.rib.set_interface(vxlan(2, TENANT, VrfId(1), 100));
    b.address(TENANT, "172.16.0.1/24", true);
    b.announce(VRF, "192.0.2.2/32", Source::Ebgp, via("10.0.0.2"));
    b.neighbor(TENANT, "172.16.0.2", NeighborState::Reachable(mac(0x70)));
    b.publish();
    assert_eq!(
        b.way(VrfId(1), "172.16.0.2").map(|w| w.0),
        Ok(AdjacencyKind::Incomplete),
        "no forwarding entry yet"
    );
    b.rib.fdb(InterfaceId(2), mac(0x70), Some(ip("192.0.2.2")));
    let published = b.publish();
    let (id, adjacency) = b.lookup(VrfId(1), "172.16.0.2").expect("routed");
    assert_eq!(published.delta.next_hops, [id]);
    assert_eq!(
        (adjacency.kind, adjacency.port, adjacency.mtu),
        (AdjacencyKind::Vxlan, PortId(0), 1450)
    );
    let bytes = adjacency.rewrite();
    assert_eq!(bytes.len(), 14 + rib::VXLAN_OVERHEAD);
    assert_eq!(bytes[..6], mac(0x20).0);
    assert_eq!(bytes[26..34], [192, 0, 2, 1, 192, 0, 2, 2]);
    assert_eq!(bytes[46..49], [0, 0, 100]);
    assert_eq!(bytes[50..56], mac(0x70).0);
    // Another MAC of the underlay router, then another underlay router: the same next hop, other bytes.
    b.neighbor(HOST, "10.0.0.2", NeighborState::Reachable(mac(0x21)));
    let published = b.publish();
    assert!(published.delta.next_hops.contains(&id));
    assert_eq!(
        b.lookup(VrfId(1), "172.16.0.2").expect("routed").1.rewrite()[..6],
        mac(0x21).0
    );
    b.announce(VRF, "192.0.2.2/32", Source::Ebgp, via("10.0.1.2"));
    b.publish();
    let (same, adjacency) = b.lookup(VrfId(1), "172.16.0.2").expect("routed");
    assert_eq!((same, adjacency.port), (id, PortId(1)));
    b.withdraw(VRF, "192.0.2.2/32", Source::Ebgp);
    b.publish();
    assert_eq!(
        b.way(VrfId(1), "172.16.0.2").map(|w| w.0),
        Ok(AdjacencyKind::Incomplete)
    );
}

#[test]
fn a_vxlan_next_hop_needs_no_neighbour() {
    let mut b = Bench::new();
    b.rib.set_interface(vxlan(2, TENANT, VrfId(1), 100));
    let end = VxlanNextHop {
        vni: Vni::new(100).expect("valid"),
        vtep: ip("192.0.2.9"),
        mac: mac(0x71),
    };
    let hop = NextHop {
        vxlan: Some(end),
        gateway: None,
        ..NextHop::in_vrf(VRF)
    };
    b.announce(VrfId(1), "172.17.0.0/16", Source::Ibgp, Route::unicast(hop));
    b.publish();
    assert_eq!(b.reason("172.17.0.0/16", Source::Ibgp), Some(Reason::GatewayUnresolved));
    b.announce(VRF, "192.0.2.0/24", Source::Static, via("10.0.1.2"));
    b.publish();
    let (_, adjacency) = b.lookup(VrfId(1), "172.17.3.4").expect("routed");
    assert_eq!(
        (adjacency.kind, adjacency.port, adjacency.gateway),
        (AdjacencyKind::Vxlan, PortId(1), None)
    );
    assert_eq!(adjacency.rewrite()[50..56], mac(0x71).0);
}

#[test]
fn interfaces_are_found_by_what_they_sit_on() {
    let mut b = Bench::new();
    let vlan = VlanId::new(7).expect("valid");
    b.rib.set_interface(interface(
        2,
        TENANT,
        VrfId(1),
        Attachment::Vlan {
            port: PortId(0),
            id: vlan,
        },
    ));
    b.rib.set_interface(vxlan(3, IfIndex(13), VrfId(2), 100));
    b.publish();
    {
        let tables = b.reader.enter().expect("published");
        assert_eq!(tables.port_interface(PortId(1)), Some(InterfaceId(1)));
        assert_eq!(tables.port_interface(PortId(9)), None);
        assert_eq!(tables.vlan_interface(PortId(0), vlan), Some(InterfaceId(2)));
        assert_eq!(tables.vlan_interface(PortId(1), vlan), None);
        assert_eq!(
            tables.vni_interface(Ipv4Addr::new(192, 0, 2, 1).into(), 100),
            Some(InterfaceId(3))
        );
        assert_eq!(tables.vni_interface(Ipv4Addr::new(192, 0, 2, 2).into(), 100), None);
        assert_eq!(tables.interface(InterfaceId(2)).expect("known").vrf, VrfId(1));
    }
    b.rib.set_interface(vxlan(3, IfIndex(13), VrfId(2), 200));
    b.rib.remove_interface(InterfaceId(2));
    b.publish();
    let tables = b.reader.enter().expect("published");
    assert_eq!(tables.vni_interface(Ipv4Addr::new(192, 0, 2, 1).into(), 100), None);
    assert_eq!(
        tables.vni_interface(Ipv4Addr::new(192, 0, 2, 1).into(), 200),
        Some(InterfaceId(3))
    );
    assert_eq!(
        (tables.vlan_interface(PortId(0), vlan), tables.interface(InterfaceId(2))),
        (None, None)
    );
}

#[test]
fn public_addresses_of_nat_win_over_everything() {
    let mut b = Bench::new();
    b.address(HOST, "203.0.113.1/32", true);
    let rule = nat::Masquerade {
        vpc: VpcId::new(1).expect("valid"),
        sources: vec!["0.0.0.0/0".parse().expect("a net")],
        pool: vec![Ipv4Addr::new(203, 0, 113, 1)],
        ports: (1024, 65535),
    };
    let spec = nat::PolicySpec {
        masquerade: vec![rule],
        ..nat::PolicySpec::default()
    };
    let policy = Arc::new(nat::Policy::compile(spec).expect("valid"));
    b.rib.set_policy(Arc::clone(&policy), Revision(4));
    let published = b.publish();
    assert!(published.delta.policy);
    assert_eq!(b.way(VRF, "203.0.113.1"), Ok((AdjacencyKind::Nat, None)));
    assert_eq!(b.reader.enter().expect("published").revision(), Revision(4));
    let none = nat::Policy::compile(nat::PolicySpec::default()).expect("valid");
    b.rib.set_policy(Arc::new(none), Revision(5));
    b.publish();
    assert_eq!(b.way(VRF, "203.0.113.1"), Ok((AdjacencyKind::Local, None)));
}

#[test]
fn deltas_add_up_until_they_are_forgotten() {
    let mut b = Bench::new();
    let start = b.rib.generation();
    for i in 0..70u32 {
        b.announce(VRF, &format!("20.{i}.0.0/16"), Source::Static, via("10.0.0.2"));
        let published = b.publish();
        let tables = b.reader.enter().expect("published");
        let since = tables.delta_since(Generation(published.generation.0 - 1));
        assert!(Arc::ptr_eq(&since, &published.delta), "one generation is not copied");
        assert_eq!(tables.delta_since(start).everything, i >= 64);
        assert_eq!(tables.delta_since(Generation(published.generation.0)).prefixes.len(), 0);
        if i < 64 {
            assert_eq!(tables.delta_since(start).prefixes.len(), i as usize + 1);
        }
    }
}

#[test]
fn a_delta_too_long_to_list_says_everything() {
    let (rib, reader) = Rib::new(RibConfig {
        max_delta: 3,
        ..RibConfig::default()
    });
    let mut b = Bench { rib, reader };
    for i in 0..5 {
        b.announce(
            VRF,
            &format!("20.{i}.0.0/16"),
            Source::Static,
            Route::special(RouteKind::Blackhole),
        );
    }
    let published = b.publish();
    assert!(published.delta.everything && published.delta.prefixes.is_empty());
    assert_eq!(published.winners.len(), 5, "the kernel's mirror still has to know each");
}

#[test]
fn a_burst_is_the_same_as_its_lookups() {
    let mut b = Bench::new();
    b.announce(
        VrfId(1),
        "0.0.0.0/0",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VRF)),
    );
    b.announce(VRF, "2001:db8::/32", Source::Static, via("10.0.0.2"));
    b.publish();
    let tables = b.reader.enter().expect("published");
    let queries: Vec<(VrfId, u32, u32)> = (0..150u32)
        .map(|i| {
            (
                VrfId((i % 3) as u16),
                u32::from(Ipv4Addr::new(10, 0, (i % 2) as u8, i as u8)),
                i,
            )
        })
        .collect();
    let mut found = vec![Lookup::default(); queries.len()];
    tables.resolve_v4_burst(&queries, &mut found);
    for (query, found) in queries.iter().zip(&found) {
        let single = tables.resolve_v4(query.0, query.1, query.2);
        assert_eq!(
            single.map(|r| r.next_hop),
            if *found == Lookup::NO_ROUTE || query.0 == VrfId(2) {
                Err(Drop::NoRoute)
            } else {
                Ok(found.next_hop)
            }
        );
    }
    let mut found = [Lookup::default(); 2];
    tables.resolve_v6_burst(&[(VRF, 0x2001_0db8 << 96 | 1, 0), (VRF, 1, 0)], &mut found);
    assert_eq!(tables.adjacency(found[0].next_hop).gateway, Some(ip("10.0.0.2")));
    assert_eq!(found[1].next_hop, Lookup::NO_ROUTE.next_hop);
}

#[test]
fn a_stalled_reader_stalls_publishing_and_loses_nothing() {
    let mut b = Bench::new();
    let reader = b.reader.clone();
    let (inside, wait_inside) = mpsc::channel();
    let (leave, wait_leave) = mpsc::channel::<()>();
    let worker = std::thread::spawn(move || {
        let guard = reader.enter().expect("published");
        inside.send(guard.generation()).expect("the test waits");
        wait_leave.recv().expect("the test tells");
        let held = guard.generation();
        drop(guard);
        (held, reader.enter().expect("published").generation())
    });
    let held = wait_inside.recv().expect("the worker is inside");
    b.announce(VRF, "20.0.0.0/8", Source::Static, via("10.0.0.2"));
    let first = b.rib.publish().expect("the other copy is free");
    b.announce(VRF, "21.0.0.0/8", Source::Static, via("10.0.0.2"));
    let next = first.generation.next();
    assert_eq!(
        b.rib.publish().expect_err("the worker holds the older copy").generation,
        next
    );
    b.announce(VRF, "22.0.0.0/8", Source::Static, via("10.0.0.2"));
    assert!(b.rib.publish().is_err());
    assert_eq!(b.rib.pending(), 2);
    assert_eq!(b.reader.generation(), first.generation);
    assert_eq!(b.way(VRF, "21.0.0.1"), Err(Drop::NoRoute));
    leave.send(()).expect("the worker waits");
    let (kept, seen) = worker.join().expect("the worker ends");
    assert_eq!((kept, seen), (held, first.generation));
    let published = b.publish();
    assert_eq!(
        (published.generation, published.changes, published.winners.len()),
        (next, 2, 2)
    );
    assert_eq!(published.delta.prefixes.len(), 2);
    let tables = b.reader.enter().expect("published");
    assert_eq!(tables.delta_since(first.generation).prefixes.len(), 2);
    drop(tables);
    assert_eq!(b.way(VRF, "21.0.0.1"), forward("10.0.0.2"));
    assert_eq!(b.way(VRF, "22.0.0.1"), forward("10.0.0.2"));
}

#[test]
fn handles_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Rib>();
    is_send::<Reader>();
    let (rib, reader) = Rib::new(RibConfig::default());
    assert!(reader.enter().is_some());
    drop(rib);
    assert!(reader.enter().is_none());
}

#[test]
fn a_filter_shows_what_is_within() {
    let mut b = Bench::new();
    b.announce(VRF, "10.0.0.0/8", Source::Static, via("10.0.0.2"));
    let within: Prefix = "10.0.0.0/16".parse().expect("a prefix");
    let views = b.rib.routes(Some(VRF), Some(within), usize::MAX);
    assert!(
        views.iter().all(|v| within.covers(&v.prefix)) && views.len() == 4,
        "{views:?}"
    );
    assert_eq!(b.rib.routes(Some(VrfId(9)), None, usize::MAX), []);
    assert_eq!(b.rib.routes(None, None, 2).len(), 2);
}
