//! One behaviour of the RIB a test, through its public interface.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc;

use net::{
    AddressChange, Drop, FdbChange, Generation, IfIndex, InterfaceId, KernelEvent, LinkChange, Mac, NeighborChange,
    NeighborState, NextHop, NextHopId, NextHopObject, NextHopObjectChange, PortId, Prefix, Revision, Route,
    RouteChange, RouteKind, Source, VlanId, Vni, VpcId, VrfId, VxlanNextHop,
};
use rib::{Adjacency, AdjacencyKind, Attachment, Interface, Lookup, Published, Reader, Reason, Rib, RibConfig};

mod ecmp;
mod effort;
mod explaining;
mod interfaces;
mod publishing;
mod routes;

pub(crate) const HOST: IfIndex = IfIndex(10);
pub(crate) const OTHER: IfIndex = IfIndex(11);
pub(crate) const TENANT: IfIndex = IfIndex(12);
pub(crate) const VRF: VrfId = VrfId::DEFAULT;

/// Two ports in the default VRF, 10.0.0.1/24 and 10.0.1.1/24, both routers resolved, all published.
pub(crate) struct Bench {
    pub(crate) rib: Rib,
    pub(crate) reader: Reader,
}

impl Bench {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn publish(&mut self) -> Published {
        self.rib.publish().expect("no reader is inside")
    }

    pub(crate) fn address(&mut self, host: IfIndex, text: &str, present: bool) {
        let address = text.parse().expect("an address");
        self.rib.kernel(KernelEvent::Address(AddressChange {
            interface: host,
            address,
            present,
        }));
    }

    pub(crate) fn neighbor(&mut self, host: IfIndex, text: &str, state: NeighborState) {
        self.rib.kernel(KernelEvent::Neighbor(NeighborChange {
            interface: host,
            address: ip(text),
            state,
        }));
    }

    pub(crate) fn link(&mut self, index: IfIndex, up: bool) {
        let link = LinkChange {
            index,
            name: "tap".into(),
            mac: None,
            mtu: 1500,
            up,
            vni: None,
            present: true,
        };
        self.rib.kernel(KernelEvent::Link(link));
    }

    pub(crate) fn announce(&mut self, vrf: VrfId, prefix: &str, source: Source, route: Route) {
        let prefix = prefix.parse().expect("a prefix");
        self.rib.route(RouteChange {
            vrf,
            prefix,
            source,
            route: Some(route),
        });
    }

    pub(crate) fn withdraw(&mut self, vrf: VrfId, prefix: &str, source: Source) {
        let prefix = prefix.parse().expect("a prefix");
        self.rib.route(RouteChange {
            vrf,
            prefix,
            source,
            route: None,
        });
    }

    pub(crate) fn lookup(&self, vrf: VrfId, destination: &str) -> Result<(NextHopId, Adjacency), Drop> {
        let tables = self.reader.enter().expect("published");
        let found = match ip(destination) {
            IpAddr::V4(a) => tables.resolve_v4(vrf, a.into(), 7)?,
            IpAddr::V6(a) => tables.resolve_v6(vrf, a.into(), 7)?,
        };
        Ok((found.next_hop, tables.adjacency(found.next_hop).clone()))
    }

    /// Kind and gateway of the way to a destination.
    pub(crate) fn way(&self, vrf: VrfId, destination: &str) -> Result<(AdjacencyKind, Option<IpAddr>), Drop> {
        self.lookup(vrf, destination).map(|(_, a)| (a.kind, a.gateway))
    }

    pub(crate) fn reason(&self, prefix: &str, source: Source) -> Option<Reason> {
        let views = self
            .rib
            .routes(None, Some(prefix.parse().expect("a prefix")), usize::MAX);
        views.iter().find(|v| v.source == source).expect("a candidate").reason
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

pub(crate) fn via(gateway: &str) -> Route {
    Route::unicast(NextHop::via(ip(gateway)))
}

pub(crate) fn forward(gateway: &str) -> Result<(AdjacencyKind, Option<IpAddr>), Drop> {
    Ok((AdjacencyKind::Forward, Some(ip(gateway))))
}

pub(crate) fn interface(id: u16, host: IfIndex, vrf: VrfId, attachment: Attachment) -> Interface {
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

pub(crate) fn vxlan(id: u16, host: IfIndex, vrf: VrfId, vni: u32) -> Interface {
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
