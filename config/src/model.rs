//! The configuration as everything else reads it: plain values, references resolved to ids, defaults filled in.
//!
//! Order is canonical, so that equal configurations compare, serialize and hash equal whatever the order in the file:
//! ports by name, VPCs by id, routes by VRF and prefix, peers by address, addresses ascending. Three lists keep
//! the order of the file because it means something there: the rules of a peer's own policy, the terms of a named one, and
//! the masquerade rules of one VPC (first match wins).

mod bgp;
mod nat;
mod rib;
mod standby;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use net::{IpNet, Mac, Prefix, RouteDistinguisher, VlanId, Vni, VpcId, VrfId};
use serde::Serialize;

pub use bgp::{
    Action, AddPath, Bfd, Bgp, Bmp, DynamicPeers, Family, Filter, GracefulRestart, Password, PasswordError, Peer,
    PeerAs, PeerPolicy, PrefixFilter, PrefixRule, Role, RpkiCache, SendPaths, UnnumberedPeer,
};
pub use nat::{
    Filtering, ForwardTarget, Mapping, Masquerade, Nat, NatLimit, Npt, Pairing, PortBlocks, PortChoice, PortForward,
    PortRange, Protocol, SessionLog, StaticNat, Timers, VpcTimers,
};
pub use rib::{BatchBounds, Distances, Rib};
pub use standby::{Standby, StandbyListen};

/// One whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[dataplane]`
    pub dataplane: Dataplane,
    /// `[vxlan]`; present whenever a VPC has a VNI.
    pub vxlan: Option<Vxlan>,
    /// `[[port]]`, by name. All of them are in the default VRF.
    pub ports: Vec<Port>,
    /// `[[vpc]]`, by id.
    pub vpcs: Vec<Vpc>,
    /// `[[route]]`, by VRF and prefix; one for each pair.
    pub routes: Vec<StaticRoute>,
    /// `[rib]`
    pub rib: Rib,
    /// `[kernel]`
    pub kernel: Kernel,
    /// `[fpm]`; without it FRR cannot push routes.
    pub fpm: Option<Fpm>,
    /// `[bgp]`; without it the gateway does not speak BGP.
    pub bgp: Option<Bgp>,
    /// `[nat]`
    pub nat: Nat,
    /// `[standby]`; without it nobody takes over the connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby: Option<Standby>,
    /// `[api]`
    pub api: Api,
}

impl Config {
    /// The VPC with this id.
    pub fn vpc(&self, id: VpcId) -> Option<&Vpc> {
        self.vpcs.iter().find(|vpc| vpc.id == id)
    }

    /// The port with this name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The VRF of the port or VPC with this name.
    pub fn interface_vrf(&self, name: &str) -> Option<VrfId> {
        let vpc = self.vpcs.iter().find(|vpc| vpc.name == name).map(|vpc| vpc.id.vrf());
        self.port(name).map(|_| VrfId::DEFAULT).or(vpc)
    }

    /// The name of a VRF: its VPC's, or `default`.
    pub fn vrf_name(&self, vrf: VrfId) -> &str {
        vrf.vpc()
            .and_then(|id| self.vpc(id))
            .map_or(DEFAULT_VRF, |vpc| vpc.name.as_str())
    }

    /// Sorts every list whose order means nothing, and drops what is listed twice in it.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        fn set<T: Ord>(list: &mut Vec<T>) {
            list.sort_unstable();
            list.dedup();
        }
        set(&mut self.dataplane.workers);
        self.ports.sort_by(|a, b| a.name.cmp(&b.name));
        self.ports.iter_mut().for_each(|port| set(&mut port.addresses));
        self.vpcs.sort_by_key(|vpc| vpc.id);
        for vpc in &mut self.vpcs {
            set(&mut vpc.addresses);
            if let Some(evpn) = &mut vpc.evpn {
                set(&mut evpn.import_rt);
                set(&mut evpn.export_rt);
                set(&mut evpn.announce);
            }
            if let Segment::Vxlan { vteps, .. } = &mut vpc.segment {
                set(vteps);
            }
        }
        self.routes.sort_by_key(|route| (route.vrf, route.prefix));
        for route in &mut self.routes {
            if let RouteTarget::Via(gateways) = &mut route.target {
                set(gateways);
            }
        }
        if let Some(bgp) = &mut self.bgp {
            set(&mut bgp.listen);
            set(&mut bgp.announce);
            bgp.peers.sort_by_key(|peer| peer.address);
            bgp.dynamic.sort_by_key(|dynamic| dynamic.prefix);
            bgp.bmp.sort_by_key(|bmp| bmp.collector);
            bgp.rpki.sort_by_key(|rpki| rpki.cache);
            let templates = bgp.dynamic.iter_mut().map(|dynamic| &mut dynamic.template);
            bgp.peers
                .iter_mut()
                .chain(templates)
                .for_each(|peer| set(&mut peer.families));
            let policies = &mut bgp.policies;
            policies.prefix_sets.sort_by(|a, b| a.name.cmp(&b.name));
            policies.prefix_sets.iter_mut().for_each(|item| set(&mut item.prefixes));
            policies.as_path_sets.sort_by(|a, b| a.name.cmp(&b.name));
            policies
                .as_path_sets
                .iter_mut()
                .for_each(|item| set(&mut item.patterns));
            policies.community_sets.sort_by(|a, b| a.name.cmp(&b.name));
            let communities = policies.community_sets.iter_mut();
            communities.for_each(|item| set(&mut item.communities));
            policies.policies.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.nat.masquerades.sort_by_key(|rule| rule.vpc); // stable: the order within a VPC is kept
        for rule in &mut self.nat.masquerades {
            set(&mut rule.sources);
            set(&mut rule.pool);
        }
        self.nat.limits.sort_by_key(|limit| limit.vpc);
        self.nat.statics.sort_by_key(|rule| (rule.vpc, rule.peer, rule.inside));
        self.nat.npt.sort_by_key(|rule| (rule.vpc, rule.inside));
        self.nat.vpc_timers.sort_by_key(|row| row.vpc);
        self.nat
            .port_forwards
            .sort_by_key(|forward| (forward.address, forward.protocol, forward.ports));
        self
    }
}

/// Name of the underlay's VRF, where the ports are.
pub const DEFAULT_VRF: &str = "default";

/// `[gateway]`: what this gateway is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gateway {
    /// Name shown in logs, metrics and `turnpike show`.
    pub name: String,
}

/// `[dataplane]`: the workers and their memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dataplane {
    /// CPU cores, one worker each; ascending, at least one.
    pub workers: Vec<u16>,
    /// What an idle worker does.
    pub poll: Poll,
    /// Where packet buffers live.
    pub memory: Memory,
    /// Memory for DPDK, MiB.
    pub memory_mb: u32,
    /// Packet buffers in the pool.
    pub buffers: u32,
    /// Size of each worker's connection table.
    pub connections: u32,
}

/// What an idle worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Poll {
    /// Sleeps briefly when it finds nothing to do.
    Adaptive,
    /// Never sleeps.
    Busy,
}

/// Where DPDK's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Huge pages of the system.
    Hugepages,
    /// Ordinary pages: slower, and needs no preparation.
    NoHuge,
}

/// `[vxlan]`: this gateway's tunnel endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Vxlan {
    /// Our endpoint: an address of a port.
    pub address: IpAddr,
    /// UDP port (RFC 7348: 4789).
    pub port: u16,
}

/// `[[port]]`: a DPDK device that the gateway forwards on, in the default VRF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Port {
    /// Unique name.
    pub name: String,
    /// DPDK device arguments.
    pub device: String,
    /// Tap through which the kernel sees the port.
    pub host_interface: String,
    /// MAC address; `None` takes the device's.
    pub mac: Option<Mac>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Our addresses with their subnets, ascending.
    pub addresses: Vec<IpNet>,
    /// Wrapped by the emulated ASIC, which takes flow rules.
    pub offload: bool,
}

/// `[[vpc]]`: one tenant network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Vpc {
    /// Its number, and that of its VRF.
    pub id: VpcId,
    /// Unique name; also the name of its VRF.
    pub name: String,
    /// How its packets are told from others'.
    pub segment: Segment,
    /// Tap through which the kernel sees the VPC.
    pub host_interface: String,
    /// MAC address of the gateway in the VPC.
    pub mac: Mac,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// The gateway's addresses in the VPC with their subnets, ascending.
    pub addresses: Vec<IpNet>,
    /// Kernel table whose routes, of other programs, are the VPC's.
    pub kernel_table: Option<u32>,
    /// Its part in EVPN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evpn: Option<VpcEvpn>,
}

/// `[vpc.evpn]`: a VPC whose routes are exchanged with the fabric over EVPN; its VNI is that of the VRF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VpcEvpn {
    /// Route distinguisher; `None` makes one of the router id and the VPC's number.
    pub rd: Option<RouteDistinguisher>,
    /// Routes with any of these targets are imported; ascending.
    pub import_rt: Vec<net::RouteTarget>,
    /// What is announced has all of these; ascending.
    pub export_rt: Vec<net::RouteTarget>,
    /// Prefixes that are announced whether there are routes to them or not; ascending.
    pub announce: Vec<Prefix>,
    /// The policy by which subnets of the VPC are announced; `None` announces none.
    pub redistribute_connected: Option<String>,
    /// The same for static routes of the VPC.
    pub redistribute_static: Option<String>,
    /// The same for routes of its kernel table.
    pub redistribute_kernel: Option<String>,
}

/// How the packets of a VPC are told from those of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Segment {
    /// By VXLAN network identifier.
    Vxlan {
        /// Its VNI.
        vni: Vni,
        /// Remote endpoints that broadcast and unknown unicast are copied to; ascending, at least one unless the VPC is in
        /// EVPN: then nothing is bridged.
        vteps: Vec<IpAddr>,
    },
    /// By VLAN tag on a port.
    Vlan {
        /// Name of the port.
        port: String,
        /// VLAN ID.
        id: VlanId,
    },
}

/// `[[route]]`: a static route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StaticRoute {
    /// Destination.
    pub prefix: Prefix,
    /// Table it is in.
    pub vrf: VrfId,
    /// Where packets go.
    pub target: RouteTarget,
    /// Administrative distance; lower wins.
    pub distance: u8,
    /// Decides between equal distances; lower wins.
    pub metric: u32,
}

/// Where a static route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTarget {
    /// To next hops, ascending, at least one; gateways are of the prefix's family.
    Via(Vec<Via>),
    /// To another lookup in this VRF (a leaked route).
    InVrf(VrfId),
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, with ICMP host unreachable.
    Unreachable,
    /// Nowhere, with ICMP administratively prohibited.
    Prohibit,
}

/// One next hop of a static route: a gateway, an interface (on-link), or a gateway on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Via {
    /// The router; without one, every destination is a neighbour on the interface.
    pub gateway: Option<IpAddr>,
    /// Name of the port or VPC that it is on; needed for a link-local gateway and without a gateway.
    pub interface: Option<String>,
    /// VRF in which the gateway is looked up; the route's own without it.
    pub vrf: Option<VrfId>,
    /// Share of the flows among several next hops; at least 1.
    pub weight: u16,
}

impl Via {
    /// A gateway that is looked up in the route's own VRF.
    pub fn gateway(gateway: IpAddr) -> Self {
        Self {
            gateway: Some(gateway),
            interface: None,
            vrf: None,
            weight: 1,
        }
    }
}

/// `[kernel]`: how winners are mirrored to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kernel {
    /// Routing table for the default VRF.
    pub table: u32,
    /// `rtm_protocol` that marks our routes.
    pub protocol: u8,
    /// Metric of our routes.
    pub metric: u32,
    /// Seconds from one comparison of the kernel's whole state with ours to the next.
    pub audit_interval: u32,
}

/// `[fpm]`: the server of FRR's Forwarding Plane Manager interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fpm {
    /// Where zebra connects to; an address of the loopback interface.
    pub listen: SocketAddr,
    /// Seconds for which routes outlive their connection, unless FRR confirms them on the next one.
    pub stale_time: u32,
}

/// `[api]`: how clients reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Api {
    /// Unix socket.
    pub socket: PathBuf,
}
