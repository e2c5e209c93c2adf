//! Rules as the gateway writes them.

use std::net::{IpAddr, Ipv4Addr};

use dpdk_sys::PortId;
use dpdk_sys::flow::{Action, Attr, Eth, Flow, Ipv4, Item, Match, Tcp, Udp, Vlan, Vxlan, VxlanTunnel};

use crate::bench::{Side, mac};
use crate::frames::{Ends, GATEWAY, L4, PEER, REMOTE, TENANT, VTEP};

pub const IP_MASK: Ipv4 = Ipv4 {
    version_ihl: 0xff,
    tos: 0,
    fragment: 0xbfff,
    ttl: 0,
    protocol: 0xff,
    src: Ipv4Addr::BROADCAST,
    dst: Ipv4Addr::BROADCAST,
};

/// How packets come in or go out.
#[derive(Clone, Copy)]
pub enum Way {
    Plain,
    Vlan(u16),
    Vxlan(u32),
    /// VXLAN with a tagged outer frame; only out.
    VxlanInVlan(u32, u16),
}

/// To the address of the network behind a tag or a tunnel, and no other.
fn to_tenant() -> Item {
    let dst = |dst| Eth { dst, ..Eth::default() };
    Item::Eth(Match::new(dst(TENANT), dst([0xff; 6])))
}

pub fn items(way: Way, ends: Ends) -> Vec<Item> {
    let mut items = Vec::new();
    match way {
        Way::Plain => items.push(Item::Eth(Match::any())),
        Way::Vlan(tci) => {
            items.push(to_tenant());
            let mask = Vlan {
                tci: 0x0fff,
                inner_type: 0,
            };
            items.push(Item::Vlan(Match::new(Vlan { tci, inner_type: 0 }, mask)));
        }
        Way::Vxlan(vni) | Way::VxlanInVlan(vni, _) => {
            items.push(Item::Eth(Match::any()));
            let ip = |dst| Ipv4 { dst, ..Ipv4::default() };
            items.push(Item::Ipv4(Match::new(ip(VTEP.into()), ip(Ipv4Addr::BROADCAST))));
            items.push(Item::Udp(Match::new(
                Udp { src: 0, dst: 4789 },
                Udp { src: 0, dst: 0xffff },
            )));
            items.push(Item::Vxlan(Match::new(Vxlan { vni }, Vxlan { vni: 0xff_ffff })));
            items.push(to_tenant());
        }
    }
    let protocol = match ends.l4 {
        L4::Udp(..) => 17,
        L4::Tcp(..) => 6,
    };
    let ip = Ipv4 {
        version_ihl: 0x45,
        protocol,
        src: ends.src.into(),
        dst: ends.dst.into(),
        ..Ipv4::default()
    };
    items.push(Item::Ipv4(Match::new(ip, IP_MASK)));
    items.push(match ends.l4 {
        L4::Udp(src, dst) => Item::Udp(Match::new(
            Udp { src, dst },
            Udp {
                src: 0xffff,
                dst: 0xffff,
            },
        )),
        L4::Tcp(src, dst, _) => {
            let mask = Tcp {
                src: 0xffff,
                dst: 0xffff,
                flags: 0x07,
            };
            Item::Tcp(Match::new(Tcp { src, dst, flags: 0 }, mask))
        }
    });
    items
}

pub fn ports(l4: L4) -> (u16, u16) {
    match l4 {
        L4::Udp(src, dst) | L4::Tcp(src, dst, _) => (src, dst),
    }
}

/// From port B's address to [`PEER`].
pub fn actions(way_in: Way, way_out: Way, to: Ends, egress: PortId) -> Vec<Action> {
    let mut actions = Vec::new();
    match way_in {
        Way::Plain => {}
        Way::Vlan(_) => actions.push(Action::OfPopVlan),
        Way::Vxlan(_) | Way::VxlanInVlan(..) => actions.push(Action::VxlanDecap),
    }
    let (src, dst) = ports(to.l4);
    actions.extend([
        Action::SetIpv4Src(to.src.into()),
        Action::SetIpv4Dst(to.dst.into()),
        Action::SetTpSrc(src),
        Action::SetTpDst(dst),
        Action::DecTtl,
        Action::SetMacDst(PEER),
        Action::SetMacSrc(mac(1)),
    ]);
    match way_out {
        Way::Plain => {}
        Way::Vlan(id) => actions.extend([Action::OfPushVlan(0x8100), Action::OfSetVlanVid(id)]),
        Way::Vxlan(vni) => actions.push(Action::VxlanEncap(tunnel(vni, None))),
        Way::VxlanInVlan(vni, id) => actions.push(Action::VxlanEncap(tunnel(vni, Some(id)))),
    }
    actions.extend([Action::Count, Action::RepresentedPort(egress)]);
    actions
}

pub fn tunnel(vni: u32, vlan: Option<u16>) -> VxlanTunnel {
    VxlanTunnel {
        dst_mac: GATEWAY,
        src_mac: mac(1),
        vlan,
        src: IpAddr::from(VTEP),
        dst: IpAddr::from(REMOTE),
        ttl: 61,
        tos: 0xb8,
        udp_src: 0xc0de,
        udp_dst: 4789,
        vni,
    }
}

/// The rule without which no other matches.
pub fn open(side: &Side) -> Flow {
    side.port
        .flow_create(&Attr::transfer(0), &[Item::Eth(Match::any())], &[Action::Jump(1)])
        .expect("entrance")
}
