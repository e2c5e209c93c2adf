//! From the configuration to what each subsystem is started with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use config::{Config, RouteTarget, Segment, Via};
use dataplane::{HostInterface, Memory, PollMode, PortInfo, PortSpec};
use net::{IfIndex, InterfaceId, IpNet, Mac, NextHop, Route, RouteChange, RouteKind, Source, VrfId};
use netlink_sync::{MirrorConfig, Tuning};
use rib::{Attachment, Interface};

use crate::Error;

/// The kernel's main table, whose routes are the default VRF's.
pub(crate) const MAIN_TABLE: u32 = 254;
/// Routes left in the kernel by an earlier run are removed after this time even if a peer never says End-of-RIB.
pub(crate) const STALE: Duration = Duration::from_secs(120);

/// A logical interface: what the RIB, the data plane and the kernel are told of it.
#[derive(Debug, Clone)]
pub(crate) struct PlannedInterface {
    pub(crate) interface: Interface,
    pub(crate) host: HostInterface,
    pub(crate) addresses: Vec<IpNet>,
}

/// What the data plane opens.
pub(crate) fn dataplane(config: &Config, seed: u64, log_level: dataplane::LogLevel) -> dataplane::Config {
    let megabytes = config.dataplane.memory_mb;
    dataplane::Config {
        program: "turnpiked".to_owned(),
        workers: config.dataplane.workers.iter().map(|core| u32::from(*core)).collect(),
        poll: match config.dataplane.poll {
            config::Poll::Adaptive => PollMode::Adaptive,
            config::Poll::Busy => PollMode::Busy,
        },
        memory: match config.dataplane.memory {
            config::Memory::Hugepages => Memory::Hugepages { megabytes },
            config::Memory::NoHuge => Memory::NoHuge { megabytes },
        },
        log_level,
        buffers: config.dataplane.buffers,
        connections: config.dataplane.connections,
        seed,
        pick_up: config.nat.pick_up,
        standby: config.standby.as_ref().is_some_and(|standby| standby.peer.is_some()),
        log_sessions: config.nat.log_sessions != config::SessionLog::Off,
        ports: config
            .ports
            .iter()
            .enumerate()
            .map(|(index, port)| port_spec(index, port))
            .collect(),
    }
}

fn port_spec(index: usize, port: &config::Port) -> PortSpec {
    let mut devices = vec![port.device.clone()];
    if port.offload {
        let wire = port.device.split(',').next().unwrap_or_default();
        devices.push(format!("{}{index},wire={wire}", softasic::DRIVER));
    }
    PortSpec {
        name: port.name.clone(),
        devices,
        mac: port.mac,
        mtu: port.mtu,
        offload: port.offload,
    }
}

/// Every logical interface: ports first, in the configuration's order, then VPCs.
pub(crate) fn interfaces(config: &Config, ports: &[PortInfo]) -> Result<Vec<PlannedInterface>, Error> {
    let mut planned = Vec::with_capacity(config.ports.len() + config.vpcs.len());
    for (port, info) in config.ports.iter().zip(ports) {
        planned.push(planned_interface(
            planned.len(),
            &port.name,
            VrfId::DEFAULT,
            (info.mac, port.mtu),
            Attachment::Port(info.id),
            (&port.host_interface, Vec::new()),
            &port.addresses,
        ));
    }
    for vpc in &config.vpcs {
        let (attachment, flood) = match &vpc.segment {
            Segment::Vlan { port, id } => {
                let Some(info) = ports.iter().find(|info| info.name == *port) else {
                    continue;
                };
                (Attachment::Vlan { port: info.id, id: *id }, Vec::new())
            }
            Segment::Vxlan { vni, vteps } => {
                let Some(vxlan) = &config.vxlan else { continue };
                let source = v4("vxlan.address", vxlan.address)?;
                let flood = vteps
                    .iter()
                    .map(|vtep| v4(&format!("VTEP of VPC `{}`", vpc.name), *vtep))
                    .collect::<Result<_, _>>()?;
                (
                    Attachment::Vxlan {
                        vni: *vni,
                        source,
                        udp_port: vxlan.port,
                    },
                    flood,
                )
            }
        };
        planned.push(planned_interface(
            planned.len(),
            &vpc.name,
            vpc.id.vrf(),
            (vpc.mac, vpc.mtu),
            attachment,
            (&vpc.host_interface, flood),
            &vpc.addresses,
        ));
    }
    Ok(planned)
}

fn planned_interface(
    index: usize,
    name: &str,
    vrf: VrfId,
    (mac, mtu): (Mac, u16),
    attachment: Attachment,
    (tap, flood): (&str, Vec<Ipv4Addr>),
    addresses: &[IpNet],
) -> PlannedInterface {
    let id = InterfaceId(index as u16);
    PlannedInterface {
        interface: Interface {
            id,
            name: name.to_owned(),
            host: None,
            vrf,
            mac,
            mtu,
            attachment,
        },
        host: HostInterface {
            id,
            name: tap.to_owned(),
            mac,
            mtu,
            flood,
        },
        addresses: addresses.to_vec(),
    }
}

fn v4(what: &str, address: IpAddr) -> Result<Ipv4Addr, Error> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(Error::TunnelFamily {
            what: what.to_owned(),
            address,
        }),
    }
}

/// NAT policy.
pub(crate) fn nat(config: &Config) -> Result<nat::Policy, Error> {
    let nat = &config.nat;
    let spec = nat::PolicySpec {
        masquerade: nat
            .masquerades
            .iter()
            .map(|rule| nat::Masquerade {
                vpc: rule.vpc,
                sources: rule.sources.clone(),
                pool: rule.pool.iter().flat_map(|net| every_address(*net)).collect(),
                ports: (rule.ports.first(), rule.ports.last()),
                options: nat::PoolOptions {
                    mapping: match rule.mapping {
                        config::Mapping::PerConnection => nat::Mapping::PerConnection,
                        config::Mapping::Overloading => nat::Mapping::Overloading,
                        config::Mapping::EndpointIndependent => nat::Mapping::EndpointIndependent,
                    },
                    filtering: match rule.filtering {
                        config::Filtering::AddressAndPortDependent => nat::Filtering::AddressAndPortDependent,
                        config::Filtering::AddressDependent => nat::Filtering::AddressDependent,
                        config::Filtering::EndpointIndependent => nat::Filtering::EndpointIndependent,
                    },
                    strict_pairing: rule.pairing == config::Pairing::Strict,
                    parity: rule.parity,
                    choice: match rule.choice {
                        config::PortChoice::Free => nat::PortChoice::Free,
                        config::PortChoice::Deterministic => nat::PortChoice::Deterministic,
                        config::PortChoice::Blocks(blocks) => nat::PortChoice::Blocks(nat::PortBlocks {
                            size: blocks.size,
                            count: blocks.count,
                            quarantine: blocks.quarantine,
                        }),
                    },
                },
            })
            .collect(),
        port_forwards: nat
            .port_forwards
            .iter()
            .map(|forward| nat::PortForward {
                vpc: forward.vpc,
                address: forward.address,
                protocol: match forward.protocol {
                    config::Protocol::Tcp => net::protocol::TCP,
                    config::Protocol::Udp => net::protocol::UDP,
                },
                ports: (forward.ports.first(), forward.ports.last()),
                targets: forward
                    .targets
                    .iter()
                    .map(|target| nat::ForwardTarget {
                        address: target.address,
                        port: target.port,
                        weight: target.weight,
                    })
                    .collect(),
                affinity: forward.affinity,
            })
            .collect(),
        limits: nat
            .limits
            .iter()
            .map(|limit| nat::Limits {
                vpc: limit.vpc,
                tenant: nat::Limit {
                    sessions: limit.sessions,
                    new_sessions: limit.new_sessions,
                },
                subscriber: nat::Limit {
                    sessions: limit.subscriber_sessions,
                    new_sessions: limit.subscriber_new_sessions,
                },
            })
            .collect(),
        statics: nat
            .statics
            .iter()
            .map(|rule| nat::StaticNat {
                vpc: rule.vpc,
                inside: rule.inside,
                outside: rule.outside,
                peer: rule.peer,
            })
            .collect(),
        npt: nat
            .npt
            .iter()
            .map(|rule| nat::Npt {
                vpc: rule.vpc,
                inside: rule.inside,
                outside: rule.outside,
            })
            .collect(),
        timers: timers(&nat.timers),
        vpc_timers: nat
            .vpc_timers
            .iter()
            .map(|row| (row.vpc, timers(&row.timers)))
            .collect(),
        ..nat::PolicySpec::default()
    };
    Ok(nat::Policy::compile(spec)?)
}

fn timers(timers: &config::Timers) -> nat::Timers {
    nat::Timers {
        tcp_established: timers.tcp_established,
        tcp_transitory: timers.tcp_transitory,
        udp: timers.udp,
        icmp: timers.icmp,
        other: timers.other,
        ..nat::Timers::default()
    }
}

/// Every address of a pool's prefix, the first and last included: a pool is not a subnet.
fn every_address(net: IpNet) -> Box<dyn Iterator<Item = IpAddr>> {
    match net {
        IpNet::V4(net) => {
            let all = net.network().to_bits()..=net.broadcast().to_bits();
            Box::new(all.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))))
        }
        IpNet::V6(net) => {
            let all = net.network().to_bits()..=net.broadcast().to_bits();
            Box::new(all.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))))
        }
    }
}

/// Static routes; `host` is the host interface of a port or VPC.
pub(crate) fn routes(config: &Config, host: impl Fn(&str) -> Option<IfIndex>) -> Vec<RouteChange> {
    config
        .routes
        .iter()
        .map(|route| {
            let mut made = match &route.target {
                RouteTarget::Via(hops) => Route::multipath(hops.iter().map(|via| next_hop(via, &host))),
                RouteTarget::InVrf(vrf) => Route::unicast(NextHop::in_vrf(*vrf)),
                RouteTarget::Blackhole => Route::special(RouteKind::Blackhole),
                RouteTarget::Unreachable => Route::special(RouteKind::Unreachable),
                RouteTarget::Prohibit => Route::special(RouteKind::Prohibit),
            };
            made.distance = Some(route.distance);
            made.metric = route.metric;
            RouteChange {
                vrf: route.vrf,
                prefix: route.prefix,
                source: Source::Static,
                route: Some(made),
            }
        })
        .collect()
}

/// An interface whose host interface is gone (it never has index 0) keeps the route out, with that as the reason.
fn next_hop(via: &Via, host: impl Fn(&str) -> Option<IfIndex>) -> NextHop {
    let interface = via.interface.as_deref();
    NextHop {
        gateway: via.gateway,
        interface: interface.map(|name| host(name).unwrap_or(IfIndex(0))),
        weight: via.weight,
        vrf: via.vrf,
        vxlan: None,
        object: None,
    }
}

/// The kernel mirror: main is the default VRF's table, and each VPC may have one, both ways.
pub(crate) fn mirror(config: &Config) -> (MirrorConfig, Tuning) {
    let of_vpcs = config
        .vpcs
        .iter()
        .filter_map(|vpc| Some((vpc.kernel_table?, vpc.id.vrf())));
    let mirror = MirrorConfig {
        protocol: config.kernel.protocol,
        table: config.kernel.table,
        vrf_tables: of_vpcs.clone().map(|(table, vrf)| (vrf, table)).collect(),
        metric: config.kernel.metric,
        tables: [(MAIN_TABLE, VrfId::DEFAULT)].into_iter().chain(of_vpcs).collect(),
        stale_sweep: STALE,
    };
    let tuning = Tuning {
        audit_interval: Duration::from_secs(config.kernel.audit_interval.into()),
        ..Tuning::default()
    };
    (mirror, tuning)
}

/// The server that FRR pushes routes to.
pub(crate) fn fpm(fpm: &config::Fpm) -> netlink_sync::FpmConfig {
    netlink_sync::FpmConfig {
        listen: fpm.listen,
        table: MAIN_TABLE,
        keep_stale: Duration::from_secs(u64::from(fpm.stale_time)),
    }
}
