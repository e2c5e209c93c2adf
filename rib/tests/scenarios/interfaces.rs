//! Interfaces, addresses, neighbours and tunnels.

use crate::*;

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
        let red = tables.interface(InterfaceId(2)).expect("known");
        assert_eq!(red.vrf, VrfId(1));
        assert_eq!(tables.vrf_interface(VrfId(1)), Some(red));
        assert_eq!(tables.vrf_interface(VrfId(2)), tables.interface(InterfaceId(3)));
        assert_eq!(tables.vrf_interface(VrfId::DEFAULT), tables.interface(InterfaceId(0)));
        assert_eq!(tables.vrf_interface(VrfId(3)), None);
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
    assert_eq!(tables.vrf_interface(VrfId(1)), None);
}

/// The kernel's VXLAN device of a network says where MACs are; what a worker learned later is believed, and not taken back.
#[test]
fn the_forwarding_database_of_a_kernel_device_is_that_of_its_network() {
    let mut b = Bench::new();
    b.announce(VRF, "198.51.100.0/24", Source::Static, via("10.0.0.2"));
    let device = IfIndex(40);
    let link = |b: &mut Bench, vni: Option<u32>| {
        b.rib.kernel(KernelEvent::Link(LinkChange {
            index: device,
            name: "vxlan100".into(),
            mac: None,
            mtu: 1450,
            up: true,
            present: vni.is_some(),
            vni: vni.map(|vni| Vni::new(vni).expect("valid")),
        }));
    };
    let entry = |b: &mut Bench, vtep: Option<&str>| {
        b.rib.kernel(KernelEvent::Fdb(FdbChange {
            interface: device,
            mac: mac(9),
            vtep: vtep.map(ip),
        }));
        b.publish();
    };
    let tenant = VrfId(1);
    b.rib.set_interface(vxlan(3, TENANT, tenant, 100));
    b.address(TENANT, "10.9.0.1/24", true);
    b.neighbor(TENANT, "10.9.0.2", NeighborState::Reachable(mac(9)));
    let vtep = |b: &Bench| {
        let (_, adjacency) = b.lookup(tenant, "10.9.0.2").expect("routed");
        match adjacency.kind {
            AdjacencyKind::Vxlan => adjacency.rewrite()[adjacency.rewrite().len() - 34..][..4]
                .try_into()
                .ok(),
            _ => None::<[u8; 4]>,
        }
    };
    entry(&mut b, Some("198.51.100.7"));
    assert_eq!(vtep(&b), None, "nobody knows yet whose device it is");
    link(&mut b, Some(100));
    b.publish();
    assert_eq!(vtep(&b), Some([198, 51, 100, 7]));
    entry(&mut b, Some("198.51.100.8"));
    assert_eq!(vtep(&b), Some([198, 51, 100, 8]));
    entry(&mut b, None);
    assert_eq!(vtep(&b), None);

    entry(&mut b, Some("198.51.100.8"));
    b.rib.fdb(InterfaceId(3), mac(9), Some(ip("198.51.100.9")));
    entry(&mut b, None);
    assert_eq!(vtep(&b), Some([198, 51, 100, 9]), "a worker learned it since");
    entry(&mut b, Some("198.51.100.8"));
    link(&mut b, None);
    b.publish();
    assert_eq!(vtep(&b), None, "the device is gone");
}

#[test]
fn a_stale_neighbour_is_sent_to_and_a_failed_one_is_not() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.publish();
    assert!(b.rib.sends_to(HOST, ip("10.0.0.2")));
    assert!(!b.rib.sends_to(HOST, ip("10.0.0.99")));
    let reachable = mac(0x20);
    for state in [NeighborState::Stale(reachable), NeighborState::Reachable(reachable)] {
        b.neighbor(HOST, "10.0.0.2", state);
        assert_eq!(b.rib.pending(), 0, "{state:?} changes nothing for workers");
        assert_eq!(b.way(VRF, "20.0.0.1"), forward("10.0.0.2"));
    }
    b.neighbor(HOST, "10.0.0.2", NeighborState::Stale(mac(0x77)));
    b.publish();
    assert_eq!(b.lookup(VRF, "20.0.0.1").expect("routed").1.rewrite()[..6], mac(0x77).0);
    b.neighbor(HOST, "10.0.0.2", NeighborState::Failed);
    let published = b.publish();
    assert_eq!(published.wanted, [(HOST, ip("10.0.0.2"))]);
    assert_eq!(
        b.way(VRF, "20.0.0.1"),
        Ok((AdjacencyKind::Incomplete, Some(ip("10.0.0.2"))))
    );
    // A route to a neighbour that is stale already has it asked for once.
    b.neighbor(HOST, "10.0.0.3", NeighborState::Stale(mac(3)));
    let published = b.publish();
    assert_eq!(published.wanted, [(HOST, ip("10.0.0.3"))]);
    b.announce(VRF, "21.0.0.0/8", Source::Static, via("10.0.0.3"));
    assert_eq!(b.publish().wanted, []);
    assert_eq!(b.way(VRF, "21.0.0.1"), forward("10.0.0.3"));
}
