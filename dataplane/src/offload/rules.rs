//! A connection's two directions as patterns and actions.

use std::net::{IpAddr, Ipv4Addr};

use arrayvec::ArrayVec;
use dpdk_sys::flow::{Action, Eth, Ipv4, Item, Match, Tcp, TemplateAction, Udp, Vlan, Vxlan, VxlanTunnel};
use nat::{ConnectionId, Direction};
use net::parse::{protocol, tcp_flag};
use net::{Mac, NextHopId, PortId, VlanId, Vni, VrfId, eth, vxlan};
use rib::{Adjacency, AdjacencyKind, Attachment, Tables, VXLAN_OVERHEAD};

use super::NotOffloaded;
use crate::pipeline::flow_hash;

/// Ways in and out of the NIC. The numbers index the templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Untagged = 0,
    Vlan = 1,
    Vxlan = 2,
}

impl Framing {
    pub(super) const ALL: [Self; 3] = [Self::Untagged, Self::Vlan, Self::Vxlan];
}

/// How the packets of a direction arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ingress {
    /// On any port, to its MAC.
    Untagged,
    Vlan {
        port: PortId,
        id: VlanId,
        mac: Mac,
    },
    Vxlan {
        vni: Vni,
        source: Ipv4Addr,
        udp_port: u16,
        mac: Mac,
    },
}

/// One direction, ready to be installed.
#[derive(Debug, Clone)]
pub(crate) struct OffloadDirection {
    direction: Direction,
    ingress: Ingress,
    adjacency: Adjacency,
    hash: u32,
}

/// A connection, ready to be installed.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionOffload {
    pub(crate) id: ConnectionId,
    pub(super) directions: [OffloadDirection; 2],
}

impl ConnectionOffload {
    /// The rules of a connection, or why there cannot be any; `ports` are those that take rules.
    pub(crate) fn new(
        tables: &Tables,
        ports: &[PortId],
        id: ConnectionId,
        directions: [Direction; 2],
    ) -> Result<Self, NotOffloaded> {
        let [a, b] = directions;
        if a.key.is_v6() || b.key.is_v6() {
            return Err(NotOffloaded::Ipv6);
        }
        let make = |direction: Direction| OffloadDirection::new(tables, ports, direction);
        Ok(Self {
            id,
            directions: [make(a)?, make(b)?],
        })
    }
}

impl OffloadDirection {
    fn new(tables: &Tables, ports: &[PortId], direction: Direction) -> Result<Self, NotOffloaded> {
        let key = &direction.key;
        if !matches!(key.protocol(), protocol::TCP | protocol::UDP) {
            return Err(NotOffloaded::Protocol);
        }
        let adjacency = tables.adjacency(direction.next_hop).clone();
        has_mac(&adjacency)?;
        let ingress = ingress(tables, key.vrf())?;
        let comes_in = match ingress {
            Ingress::Vlan { port, .. } => ports.contains(&port),
            Ingress::Untagged | Ingress::Vxlan { .. } => true,
        };
        if !comes_in {
            return Err(NotOffloaded::Port);
        }
        leaves_by_rule(tables, ports, &adjacency)?;
        let hash = flow_hash(
            key.source(),
            key.destination(),
            key.protocol(),
            key.source_port(),
            key.destination_port(),
        );
        Ok(Self {
            direction,
            ingress,
            adjacency,
            hash,
        })
    }

    /// Index of the pattern template.
    pub(super) fn pattern(&self) -> u8 {
        pattern_index(self.way_in(), self.direction.key.protocol())
    }

    /// Index of the actions template.
    pub(super) fn action(&self) -> u8 {
        action_index(self.way_in(), self.way_out())
    }

    fn way_in(&self) -> Framing {
        match self.ingress {
            Ingress::Untagged => Framing::Untagged,
            Ingress::Vlan { .. } => Framing::Vlan,
            Ingress::Vxlan { .. } => Framing::Vxlan,
        }
    }

    fn way_out(&self) -> Framing {
        match self.adjacency.kind {
            AdjacencyKind::Vxlan => Framing::Vxlan,
            _ if self.adjacency.rewrite().len() > eth::LENGTH => Framing::Vlan,
            _ => Framing::Untagged,
        }
    }

    /// The pattern.
    pub(super) fn items(&self) -> ArrayVec<Item, ITEMS> {
        let key = &self.direction.key;
        let mut items = ArrayVec::new();
        match self.ingress {
            Ingress::Untagged => items.push(Item::Eth(Match::any())),
            Ingress::Vlan { port, id, mac } => {
                items.push(Item::RepresentedPort(nic_port(port)));
                items.push(to(mac));
                let vlan = Vlan {
                    tci: id.value(),
                    inner_type: 0,
                };
                items.push(Item::Vlan(Match::new(vlan, VLAN_MASK)));
            }
            Ingress::Vxlan {
                vni,
                source,
                udp_port,
                mac,
            } => {
                items.push(Item::Eth(Match::any()));
                let outer = Ipv4 {
                    dst: source,
                    ..Ipv4::default()
                };
                items.push(Item::Ipv4(Match::new(outer, OUTER_MASK)));
                let udp = Udp { src: 0, dst: udp_port };
                items.push(Item::Udp(Match::new(udp, TUNNEL_MASK)));
                items.push(Item::Vxlan(Match::new(Vxlan { vni: vni.value() }, VNI_MASK)));
                items.push(to(mac));
            }
        }
        let ip = Ipv4 {
            version_ihl: 0x45,
            protocol: key.protocol(),
            src: Ipv4Addr::from(key.source()),
            dst: Ipv4Addr::from(key.destination()),
            ..Ipv4::default()
        };
        items.push(Item::Ipv4(Match::new(ip, IP_MASK)));
        let (src, dst) = (key.source_port(), key.destination_port());
        items.push(match key.protocol() {
            protocol::TCP => Item::Tcp(Match::new(Tcp { src, dst, flags: 0 }, TCP_MASK)),
            _ => Item::Udp(Match::new(Udp { src, dst }, UDP_MASK)),
        });
        items
    }

    /// The actions, in the order of [`action_template`].
    pub(super) fn actions(&self) -> ArrayVec<Action, ACTIONS> {
        let rewrite = &self.direction.rewrite;
        let header = self.adjacency.rewrite();
        let mut actions = ArrayVec::new();
        match self.way_in() {
            Framing::Untagged => {}
            Framing::Vlan => actions.push(Action::OfPopVlan),
            Framing::Vxlan => actions.push(Action::VxlanDecap),
        }
        actions.push(Action::SetIpv4Src(Ipv4Addr::from(rewrite.source())));
        actions.push(Action::SetIpv4Dst(Ipv4Addr::from(rewrite.destination())));
        actions.push(Action::SetTpSrc(rewrite.source_port()));
        actions.push(Action::SetTpDst(rewrite.destination_port()));
        actions.push(Action::DecTtl);
        let outer = header.len().saturating_sub(VXLAN_OVERHEAD);
        let macs = if self.way_out() == Framing::Vxlan {
            outer + VXLAN_OVERHEAD - eth::LENGTH
        } else {
            0
        };
        actions.push(Action::SetMacDst(array(header, macs)));
        actions.push(Action::SetMacSrc(array(header, macs + 6)));
        match self.way_out() {
            Framing::Untagged => {}
            Framing::Vlan => {
                actions.push(Action::OfPushVlan(eth::ether_type::VLAN));
                actions.push(Action::OfSetVlanVid(u16::from_be_bytes(array(header, 14)) & 0x0fff));
            }
            Framing::Vxlan => {
                let [_, _, _, _, vni @ ..] = array::<7>(header, outer + 28);
                actions.push(Action::VxlanEncap(VxlanTunnel {
                    dst_mac: array(header, 0),
                    src_mac: array(header, 6),
                    vlan: (outer > eth::LENGTH).then(|| u16::from_be_bytes(array(header, 14)) & 0x0fff),
                    src: IpAddr::V4(Ipv4Addr::from(array::<4>(header, outer + 12))),
                    dst: IpAddr::V4(Ipv4Addr::from(array::<4>(header, outer + 16))),
                    ttl: header.get(outer + 8).copied().unwrap_or_default(),
                    tos: header.get(outer + 1).copied().unwrap_or_default(),
                    udp_src: vxlan::entropy_port(self.hash),
                    udp_dst: u16::from_be_bytes(array(header, outer + 22)),
                    vni: u32::from_be_bytes([0, vni[0], vni[1], vni[2]]),
                }));
            }
        }
        actions.push(Action::Count);
        actions.push(Action::RepresentedPort(nic_port(self.adjacency.port)));
        actions
    }

    /// The rule in words.
    pub(super) fn describe(&self) -> String {
        let (key, to) = (&self.direction.key, &self.direction.rewrite);
        let name = if key.protocol() == protocol::TCP { "tcp" } else { "udp" };
        let address = |address: u32, port: u16| format!("{}:{port}", Ipv4Addr::from(address));
        format!(
            "vrf {} {name} {} > {} => {} > {} port {}",
            key.vrf(),
            address(key.source(), key.source_port()),
            address(key.destination(), key.destination_port()),
            address(to.source(), to.source_port()),
            address(to.destination(), to.destination_port()),
            self.adjacency.port,
        )
    }
}

/// Whether rules can send packets by a next hop, or why not; `ports` are those that take rules.
///
/// # Errors
/// What would keep every connection by it in software.
pub fn next_hop_offload(tables: &Tables, ports: &[PortId], next_hop: NextHopId) -> Result<(), NotOffloaded> {
    let adjacency = tables.adjacency(next_hop);
    has_mac(adjacency)?;
    leaves_by_rule(tables, ports, adjacency)
}

fn has_mac(adjacency: &Adjacency) -> Result<(), NotOffloaded> {
    match adjacency.kind {
        AdjacencyKind::Forward | AdjacencyKind::Vxlan => Ok(()),
        _ => Err(NotOffloaded::NextHop),
    }
}

fn leaves_by_rule(tables: &Tables, ports: &[PortId], adjacency: &Adjacency) -> Result<(), NotOffloaded> {
    if !ports.contains(&adjacency.port) {
        return Err(NotOffloaded::Port);
    }
    if !port_is_the_limit(tables, adjacency) {
        return Err(NotOffloaded::Mtu);
    }
    Ok(())
}

/// How packets of a VRF arrive.
fn ingress(tables: &Tables, vrf: VrfId) -> Result<Ingress, NotOffloaded> {
    if vrf == VrfId::DEFAULT {
        return Ok(Ingress::Untagged);
    }
    let interface = tables.vrf_interface(vrf).filter(|interface| interface.up);
    let interface = interface.ok_or(NotOffloaded::Interface)?;
    let mac = interface.mac;
    match interface.attachment {
        // Untagged frames of a tenant look like the fabric's.
        Attachment::Port(_) => Err(NotOffloaded::Interface),
        Attachment::Vlan { port, id } => Ok(Ingress::Vlan { port, id, mac }),
        Attachment::Vxlan { vni, source, udp_port } => Ok(Ingress::Vxlan {
            vni,
            source,
            udp_port,
            mac,
        }),
    }
}

/// True if whatever fits the port fits the next hop: the NIC knows no other limit, and a rule cannot match lengths.
fn port_is_the_limit(tables: &Tables, adjacency: &Adjacency) -> bool {
    let overhead = match adjacency.kind {
        AdjacencyKind::Vxlan => VXLAN_OVERHEAD as u16,
        _ => 0,
    };
    let port = tables.port_interface(adjacency.port);
    port.and_then(|id| tables.interface(id))
        .is_some_and(|port| adjacency.mtu >= port.mtu.saturating_sub(overhead))
}

fn nic_port(port: PortId) -> dpdk_sys::PortId {
    dpdk_sys::PortId(port.0)
}

/// Frames to this address alone.
fn to(mac: Mac) -> Item {
    let eth = Eth {
        dst: mac.0,
        ..Eth::default()
    };
    Item::Eth(Match::new(eth, MAC_MASK))
}

/// Items of the longest pattern: a tunnel's.
const ITEMS: usize = 7;
/// Actions of the longest list: out of a tunnel or VLAN and into a VLAN.
const ACTIONS: usize = 12;

const MAC_MASK: Eth = Eth {
    dst: [0xff; 6],
    src: [0; 6],
    ether_type: 0,
};
const VLAN_MASK: Vlan = Vlan {
    tci: 0x0fff,
    inner_type: 0,
};
const OUTER_MASK: Ipv4 = Ipv4 {
    version_ihl: 0,
    tos: 0,
    fragment: 0,
    ttl: 0,
    protocol: 0,
    src: Ipv4Addr::UNSPECIFIED,
    dst: Ipv4Addr::BROADCAST,
};
const TUNNEL_MASK: Udp = Udp { src: 0, dst: u16::MAX };
const VNI_MASK: Vxlan = Vxlan { vni: 0x00ff_ffff };
/// Header length is matched so that options reach software, flags and offset (all but DF) so that fragments do.
const IP_MASK: Ipv4 = Ipv4 {
    version_ihl: 0xff,
    tos: 0,
    fragment: 0xbfff,
    ttl: 0,
    protocol: 0xff,
    src: Ipv4Addr::BROADCAST,
    dst: Ipv4Addr::BROADCAST,
};
const UDP_MASK: Udp = Udp {
    src: u16::MAX,
    dst: u16::MAX,
};
const TCP_MASK: Tcp = Tcp {
    src: u16::MAX,
    dst: u16::MAX,
    flags: tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST,
};

fn pattern_index(way_in: Framing, l4: u8) -> u8 {
    way_in as u8 * 2 + u8::from(l4 == protocol::UDP)
}

fn action_index(way_in: Framing, way_out: Framing) -> u8 {
    way_in as u8 * 3 + way_out as u8
}

/// Pattern templates, by index: every way in, TCP before UDP.
pub(super) fn pattern_templates() -> Vec<Vec<Item>> {
    let mut templates = Vec::new();
    for way_in in Framing::ALL {
        for l4 in [
            Item::Tcp(Match::new(Tcp::default(), TCP_MASK)),
            Item::Udp(Match::new(Udp::default(), UDP_MASK)),
        ] {
            let mut items = match way_in {
                Framing::Untagged => vec![Item::Eth(Match::any())],
                Framing::Vlan => vec![
                    Item::RepresentedPort(dpdk_sys::PortId(0)),
                    to(Mac::default()),
                    Item::Vlan(Match::new(Vlan::default(), VLAN_MASK)),
                ],
                Framing::Vxlan => vec![
                    Item::Eth(Match::any()),
                    Item::Ipv4(Match::new(Ipv4::default(), OUTER_MASK)),
                    Item::Udp(Match::new(Udp::default(), TUNNEL_MASK)),
                    Item::Vxlan(Match::new(Vxlan::default(), VNI_MASK)),
                    to(Mac::default()),
                ],
            };
            items.push(Item::Ipv4(Match::new(Ipv4::default(), IP_MASK)));
            items.push(l4);
            templates.push(items);
        }
    }
    templates
}

/// Actions templates, by index: every way in, with every way out.
pub(super) fn action_templates() -> Vec<Vec<TemplateAction>> {
    let mut templates = Vec::new();
    for way_in in Framing::ALL {
        for way_out in Framing::ALL {
            templates.push(action_template(way_in, way_out));
        }
    }
    templates
}

fn action_template(way_in: Framing, way_out: Framing) -> Vec<TemplateAction> {
    let mut actions = Vec::new();
    match way_in {
        Framing::Untagged => {}
        Framing::Vlan => actions.push(TemplateAction::fixed(Action::OfPopVlan)),
        Framing::Vxlan => actions.push(TemplateAction::fixed(Action::VxlanDecap)),
    }
    actions.extend([
        TemplateAction::per_rule(Action::SetIpv4Src(Ipv4Addr::UNSPECIFIED)),
        TemplateAction::per_rule(Action::SetIpv4Dst(Ipv4Addr::UNSPECIFIED)),
        TemplateAction::per_rule(Action::SetTpSrc(0)),
        TemplateAction::per_rule(Action::SetTpDst(0)),
        TemplateAction::fixed(Action::DecTtl),
        TemplateAction::per_rule(Action::SetMacDst([0; 6])),
        TemplateAction::per_rule(Action::SetMacSrc([0; 6])),
    ]);
    match way_out {
        Framing::Untagged => {}
        Framing::Vlan => actions.extend([
            TemplateAction::fixed(Action::OfPushVlan(eth::ether_type::VLAN)),
            TemplateAction::per_rule(Action::OfSetVlanVid(0)),
        ]),
        Framing::Vxlan => actions.push(TemplateAction::per_rule(Action::VxlanEncap(VxlanTunnel {
            dst_mac: [0; 6],
            src_mac: [0; 6],
            vlan: None,
            src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ttl: 0,
            tos: 0,
            udp_src: 0,
            udp_dst: 0,
            vni: 0,
        }))),
    }
    actions.push(TemplateAction::fixed(Action::Count));
    actions.push(TemplateAction::per_rule(Action::RepresentedPort(dpdk_sys::PortId(0))));
    actions
}

/// `N` bytes at `at`; zeros where the header ends, which a complete adjacency's does not.
fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
