//! What becomes of connections of a VLAN network, a VXLAN network and the fabric.

use nat::{FlowKey, Rewrite};
use net::{
    AddressChange, IfIndex, InterfaceId, KernelEvent, NeighborChange, NeighborState, NextHop, Route, RouteChange,
    Source,
};
use rib::{Interface, Reader, Rib, RibConfig};

use super::*;

const FABRIC: PortId = PortId(3);
const VLAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
const VXLAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x20]);
const RED: VrfId = VrfId(1);
const BLUE: VrfId = VrfId(2);
const OUTSIDE: u32 = 0xc000_0263;
const TENANT: u32 = 0x0a00_0009;

/// The fabric on a port of MTU 1500 and, on it, a VLAN and a VXLAN of these MTUs.
fn tables(vlan_mtu: u16, vxlan_mtu: u16) -> (Rib, Reader) {
    let (mut rib, reader) = Rib::new(RibConfig::default());
    let vlan = Attachment::Vlan {
        port: FABRIC,
        id: VlanId::new(7).expect("valid"),
    };
    let vxlan = Attachment::Vxlan {
        vni: Vni::new(100).expect("valid"),
        source: Ipv4Addr::new(192, 0, 2, 1),
        udp_port: 4789,
    };
    let interfaces = [
        (
            VrfId::DEFAULT,
            Attachment::Port(FABRIC),
            1500,
            Mac([2; 6]),
            "192.0.2.1/24",
            "192.0.2.99",
        ),
        (RED, vlan, vlan_mtu, VLAN_MAC, "10.0.0.1/24", "10.0.0.9"),
        (BLUE, vxlan, vxlan_mtu, VXLAN_MAC, "10.0.0.1/24", "10.0.0.9"),
    ];
    for (number, (vrf, attachment, mtu, mac, address, neighbor)) in (0..).zip(interfaces) {
        let host = IfIndex(10 + u32::from(number));
        rib.set_interface(Interface {
            id: InterfaceId(number),
            name: format!("if{number}"),
            host: Some(host),
            vrf,
            mac,
            mtu,
            attachment,
        });
        rib.kernel(KernelEvent::Address(AddressChange {
            interface: host,
            address: address.parse().expect("valid"),
            present: true,
        }));
        rib.kernel(KernelEvent::Neighbor(NeighborChange {
            interface: host,
            address: neighbor.parse().expect("valid"),
            state: NeighborState::Reachable(Mac([4, 0, 0, 0, 0, number as u8])),
        }));
    }
    // The remote endpoint of the VXLAN is the fabric's neighbour.
    let endpoint = "192.0.2.99".parse().expect("valid");
    rib.fdb(InterfaceId(2), Mac([4, 0, 0, 0, 0, 2]), Some(endpoint));
    for (vrf, prefix, gateway) in [
        (VrfId::DEFAULT, "192.0.2.99/32", "192.0.2.99"),
        (RED, "10.0.0.9/32", "10.0.0.9"),
        (BLUE, "10.0.0.9/32", "10.0.0.9"),
    ] {
        rib.route(RouteChange {
            vrf,
            prefix: prefix.parse().expect("valid"),
            source: Source::Static,
            route: Some(Route::unicast(NextHop::via(gateway.parse().expect("valid")))),
        });
    }
    rib.publish().expect("published");
    (rib, reader)
}

/// From a tenant's host to the fabric and back.
fn connection(tables: &Tables, vrf: VrfId, protocol: u8) -> [Direction; 2] {
    let public = 0xc633_6407;
    let out = FlowKey::v4(vrf, protocol, TENANT, OUTSIDE, 5000, 53);
    let back = FlowKey::v4(VrfId::DEFAULT, protocol, OUTSIDE, public, 53, 40_000);
    let direction = |key: FlowKey, to: FlowKey, egress_vrf, destination| Direction {
        key,
        rewrite: Rewrite::new(&key, &to),
        next_hop: tables.resolve_v4(egress_vrf, destination, 0).expect("a route").next_hop,
        egress_vrf,
    };
    let outward = FlowKey::v4(VrfId::DEFAULT, protocol, public, OUTSIDE, 40_000, 53);
    let inward = FlowKey::v4(vrf, protocol, OUTSIDE, TENANT, 53, 5000);
    [
        direction(out, outward, VrfId::DEFAULT, OUTSIDE),
        direction(back, inward, vrf, TENANT),
    ]
}

type Rules = Result<[OffloadDirection; 2], NotOffloaded>;

fn offload(reader: &Reader, vrf: VrfId, protocol: u8, ports: &[PortId]) -> Rules {
    let tables = reader.enter().expect("published");
    let [out, back] = connection(&tables, vrf, protocol);
    Ok([
        OffloadDirection::new(&tables, ports, out)?,
        OffloadDirection::new(&tables, ports, back)?,
    ])
}

#[test]
fn a_rule_matches_what_software_checks() {
    let (_rib, reader) = tables(1500, 1450);
    let exactly = |mac: Mac| {
        let dst = |dst| Eth { dst, ..Eth::default() };
        Item::Eth(Match::new(dst(mac.0), dst([0xff; 6])))
    };
    let red = offload(&reader, RED, protocol::UDP, &[FABRIC]).expect("rules");
    let items = red[0].items();
    assert_eq!(items[0], Item::RepresentedPort(dpdk_sys::PortId(3)));
    assert_eq!(items[1], exactly(VLAN_MAC));
    let blue = offload(&reader, BLUE, protocol::TCP, &[FABRIC]).expect("rules");
    let items = blue[0].items();
    assert_eq!((items[0], items[4]), (Item::Eth(Match::any()), exactly(VXLAN_MAC)));
    // The way back is untagged, on any port to its own address.
    assert_eq!(red[1].items()[0], Item::Eth(Match::any()));
    assert_eq!(blue[1].action(), Framing::Vxlan as u8);
}

#[test]
fn rules_have_the_shape_of_their_templates() {
    let (_rib, reader) = tables(1500, 1450);
    let (patterns, actions) = (pattern_templates(), action_templates());
    let mask = |item: &Item| match *item {
        Item::Eth(layer) => Item::Eth(Match {
            spec: layer.mask,
            ..layer
        }),
        Item::Vlan(layer) => Item::Vlan(Match {
            spec: layer.mask,
            ..layer
        }),
        Item::Ipv4(layer) => Item::Ipv4(Match {
            spec: layer.mask,
            ..layer
        }),
        Item::Udp(layer) => Item::Udp(Match {
            spec: layer.mask,
            ..layer
        }),
        Item::Tcp(layer) => Item::Tcp(Match {
            spec: layer.mask,
            ..layer
        }),
        Item::Vxlan(layer) => Item::Vxlan(Match {
            spec: layer.mask,
            ..layer
        }),
        Item::RepresentedPort(_) => Item::RepresentedPort(dpdk_sys::PortId(0)),
        ref other => panic!("{}", other.name()),
    };
    for vrf in [RED, BLUE] {
        for protocol in [protocol::TCP, protocol::UDP] {
            let connection = offload(&reader, vrf, protocol, &[FABRIC]).expect("rules");
            for direction in &connection {
                let template = &patterns[usize::from(direction.pattern())];
                let items = direction.items();
                assert!(items.iter().map(mask).eq(template.iter().map(mask)), "{items:?}");
                let template = &actions[usize::from(direction.action())];
                let kinds = direction
                    .actions()
                    .iter()
                    .map(std::mem::discriminant)
                    .collect::<Vec<_>>();
                assert!(
                    kinds
                        .into_iter()
                        .eq(template.iter().map(|of| std::mem::discriminant(&of.action)))
                );
            }
        }
    }
}

#[test]
fn what_rules_cannot_say_stays_in_software() {
    let (_rib, reader) = tables(1500, 1450);
    let why = |reader: &Reader, vrf, protocol, ports: &[PortId]| offload(reader, vrf, protocol, ports).map(|_| ());
    assert_eq!(why(&reader, RED, protocol::UDP, &[FABRIC]), Ok(()));
    assert_eq!(
        why(&reader, RED, protocol::ICMP, &[FABRIC]),
        Err(NotOffloaded::Protocol)
    );
    assert_eq!(why(&reader, RED, protocol::UDP, &[PortId(0)]), Err(NotOffloaded::Port));

    let (_rib, narrow) = tables(1499, 1449);
    assert_eq!(why(&narrow, RED, protocol::UDP, &[FABRIC]), Err(NotOffloaded::Mtu));
    assert_eq!(why(&narrow, BLUE, protocol::UDP, &[FABRIC]), Err(NotOffloaded::Mtu));
    let (_rib, wide) = tables(9000, 9000);
    assert_eq!(
        why(&wide, RED, protocol::UDP, &[FABRIC]),
        Ok(()),
        "the port is the limit"
    );
    assert_eq!(why(&wide, BLUE, protocol::UDP, &[FABRIC]), Ok(()));

    let (mut rib, reader) = tables(1500, 1450);
    rib.kernel(KernelEvent::Neighbor(NeighborChange {
        interface: IfIndex(11),
        address: "10.0.0.9".parse().expect("valid"),
        state: NeighborState::Failed,
    }));
    rib.publish().expect("published");
    assert_eq!(why(&reader, RED, protocol::UDP, &[FABRIC]), Err(NotOffloaded::NextHop));
    let tables = reader.enter().expect("published");
    let mut directions = connection(&tables, BLUE, protocol::UDP);
    directions[0].key = FlowKey::v4(VrfId(9), protocol::UDP, TENANT, OUTSIDE, 5000, 53);
    let why = OffloadDirection::new(&tables, &[FABRIC], directions[0]).map(|_| ());
    assert_eq!(why, Err(NotOffloaded::Interface));
}
