//! Ports, VPCs and the tunnel endpoint: names, addresses, subnets, segments.

use std::net::IpAddr;

use net::{IpNet, Mac, VrfId};

use super::{Claim, Findings, not_a_host, unique};
use crate::fault::Fault;
use crate::model::{Config, DEFAULT_VRF, Segment, Vpc};

/// `RT_TABLE_MAIN` and `RT_TABLE_LOCAL`.
const MAIN_TABLE: u32 = 254;
const LOCAL_TABLE: u32 = 255;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let interfaces: Vec<_> = interfaces(config).collect();
    for interface in &interfaces {
        interface.check(findings);
    }
    host_interfaces(&interfaces, findings);
    identities(config, findings);
    segments(config, findings);
    kernel_tables(config, findings);
    vxlan(config, findings);
    subnets(config, &interfaces, findings);
}

/// What a port and a VPC have in common.
struct Interface<'c> {
    path: String,
    object: String,
    vrf: VrfId,
    host_interface: &'c str,
    mac: Option<Mac>,
    mtu: u16,
    addresses: &'c [IpNet],
}

fn interfaces(config: &Config) -> impl Iterator<Item = Interface<'_>> {
    let ports = config.ports.iter().enumerate().map(|(index, port)| Interface {
        path: format!("port[{index}]"),
        object: format!("port `{}`", port.name),
        vrf: VrfId::DEFAULT,
        host_interface: &port.host_interface,
        mac: port.mac,
        mtu: port.mtu,
        addresses: &port.addresses,
    });
    let vpcs = config.vpcs.iter().enumerate().map(|(index, vpc)| Interface {
        path: format!("vpc[{index}]"),
        object: format!("vpc `{}`", vpc.name),
        vrf: vpc.id.vrf(),
        host_interface: &vpc.host_interface,
        mac: Some(vpc.mac),
        mtu: vpc.mtu,
        addresses: &vpc.addresses,
    });
    ports.chain(vpcs)
}

impl Interface<'_> {
    fn check(&self, findings: &mut Findings) {
        let path = |key: &str| format!("{}.{key}", self.path);
        let object = || self.object.clone();
        let reason = match self.host_interface {
            "" => Some("it is empty"),
            name if name.len() > 15 => Some("it is longer than 15 bytes"),
            name if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) => {
                Some("it holds a character that the kernel refuses")
            }
            "." | ".." | "lo" | "all" | "default" => Some("the kernel uses it itself"),
            _ => None,
        };
        if let Some(reason) = reason {
            let name = self.host_interface.to_owned();
            findings.at(
                path("host-interface"),
                Fault::HostInterface {
                    object: object(),
                    name,
                    reason,
                },
            );
        }
        if let Some(mac) = self.mac {
            let what = if mac.is_zero() {
                Some("all zero")
            } else {
                mac.is_multicast().then_some("a group address")
            };
            if let Some(what) = what {
                findings.at(
                    path("mac"),
                    Fault::Mac {
                        object: object(),
                        mac,
                        what,
                    },
                );
            }
        }
        let least = if self.addresses.iter().any(|address| address.addr().is_ipv6()) {
            1280
        } else {
            68
        };
        let reason = match self.mtu {
            mtu if mtu > 9000 => Some("packet buffers hold 9000 bytes"),
            mtu if mtu >= least => None,
            _ if least == 68 => Some("IPv4 needs 68 bytes (RFC 791)"),
            _ => Some("IPv6 needs 1280 bytes (RFC 8200 section 5)"),
        };
        if let Some(reason) = reason {
            findings.at(
                path("mtu"),
                Fault::Mtu {
                    object: object(),
                    mtu: self.mtu,
                    least,
                    reason,
                },
            );
        }
        for (index, net) in self.addresses.iter().enumerate() {
            let address = net.addr();
            let what = not_a_host(address).or(match net {
                IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.network() => {
                    Some("the address of the subnet itself")
                }
                IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.broadcast() => {
                    Some("the subnet's broadcast address")
                }
                _ => None,
            });
            if let Some(what) = what {
                findings.at(
                    path(&format!("addresses[{index}]")),
                    Fault::NotAHost {
                        object: object(),
                        address,
                        what,
                    },
                );
            }
        }
    }
}

fn host_interfaces(interfaces: &[Interface<'_>], findings: &mut Findings) {
    let claims = interfaces.iter().map(|interface| Claim {
        value: interface.host_interface.to_owned(),
        path: format!("{}.host-interface", interface.path),
        owner: interface.object.clone(),
    });
    unique(claims, findings, |value, first, second| Fault::Duplicate {
        what: "host interface",
        value,
        first,
        second,
        remedy: "set `host-interface` to another name",
    });
}

/// Names, ids and devices.
fn identities(config: &Config, findings: &mut Findings) {
    let number = |kind: &str, index: usize| format!("{kind} number {}", index + 1);
    let names = config.ports.iter().enumerate().map(|(index, port)| Claim {
        value: port.name.clone(),
        path: format!("port[{index}].name"),
        owner: number("port", index),
    });
    let duplicate = |what, remedy| {
        move |value, first, second| Fault::Duplicate {
            what,
            value,
            first,
            second,
            remedy,
        }
    };
    unique(names, findings, duplicate("port name", "choose another name"));
    let devices = config.ports.iter().enumerate().map(|(index, port)| Claim {
        value: port.device.split(',').next().unwrap_or_default().to_owned(),
        path: format!("port[{index}].device"),
        owner: format!("port `{}`", port.name),
    });
    unique(
        devices,
        findings,
        duplicate("device", "number the devices, as in net_tap0 and net_tap1"),
    );
    let names = config.vpcs.iter().enumerate().map(|(index, vpc)| Claim {
        value: vpc.name.clone(),
        path: format!("vpc[{index}].name"),
        owner: number("vpc", index),
    });
    unique(names, findings, duplicate("vpc name", "choose another name"));
    let ids = config.vpcs.iter().enumerate().map(|(index, vpc)| Claim {
        value: vpc.id,
        path: format!("vpc[{index}].id"),
        owner: format!("vpc `{}`", vpc.name),
    });
    let duplicate_id = duplicate("vpc id", "choose another number");
    unique(ids, findings, |id, first, second| {
        duplicate_id(id.to_string(), first, second)
    });
    for (index, vpc) in config.vpcs.iter().enumerate() {
        if vpc.name == DEFAULT_VRF {
            findings.at(format!("vpc[{index}].name"), Fault::ReservedName);
        }
    }
}

/// Kernel tables that are a VPC's: not those that the kernel or the default VRF has, and each of one VPC.
fn kernel_tables(config: &Config, findings: &mut Findings) {
    let of = |(index, vpc): (usize, &Vpc)| {
        let claim = |value| Claim {
            value,
            path: format!("vpc[{index}].kernel-table"),
            owner: format!("vpc `{}`", vpc.name),
        };
        vpc.kernel_table.map(claim)
    };
    let claims: Vec<_> = config.vpcs.iter().enumerate().filter_map(of).collect();
    for claim in &claims {
        let reason = match claim.value {
            0 | 253 | LOCAL_TABLE => "the kernel keeps it for itself",
            MAIN_TABLE => "it is main, whose routes are the default VRF's",
            table if table == config.kernel.table => {
                "it is where winners of the default VRF are written (`kernel.table`)"
            }
            _ => continue,
        };
        findings.at(
            claim.path.clone(),
            Fault::InvalidValue {
                key: "kernel-table".to_owned(),
                reason: format!("{} cannot be the table of {}: {reason}", claim.value, claim.owner),
                example: "the number of another table, such as 1001".to_owned(),
            },
        );
    }
    unique(claims, findings, |table, first, second| Fault::Duplicate {
        what: "kernel table",
        value: table.to_string(),
        first,
        second,
        remedy: "give each VPC a table of its own",
    });
}

fn segments(config: &Config, findings: &mut Findings) {
    let mut vnis = Vec::new();
    let mut vlans = Vec::new();
    for (index, vpc) in config.vpcs.iter().enumerate() {
        let owner = vpc.name.clone();
        match &vpc.segment {
            Segment::Vxlan { vni, vteps } => {
                vnis.push(Claim {
                    value: *vni,
                    path: format!("vpc[{index}].vni"),
                    owner,
                });
                if vteps.is_empty() && vpc.evpn.is_none() {
                    let object = format!("vpc `{}`", vpc.name);
                    findings.at(format!("vpc[{index}].vteps"), Fault::Empty { object, key: "vteps" });
                }
            }
            Segment::Vlan { port, id } => {
                vlans.push(Claim {
                    value: (port.clone(), *id),
                    path: format!("vpc[{index}].vlan"),
                    owner,
                });
                if config.port(port).is_none() {
                    let remedy = match config.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>() {
                        names if names.is_empty() => "add a [[port]]".to_owned(),
                        names => format!("the ports are {}", names.join(", ")),
                    };
                    let fault = Fault::Unknown {
                        kind: "port",
                        name: port.clone(),
                        remedy,
                    };
                    findings.absent(format!("vpc[{index}].vlan.port"), "port", fault);
                }
            }
        }
    }
    unique(vnis, findings, |vni, first, second| Fault::DuplicateVni {
        vni,
        first,
        second,
    });
    unique(vlans, findings, |(port, id), first, second| Fault::DuplicateVlan {
        port,
        id,
        first,
        second,
    });
}

fn vxlan(config: &Config, findings: &mut Findings) {
    if let Some(vxlan) = &config.vxlan {
        let ours = config
            .ports
            .iter()
            .flat_map(|port| &port.addresses)
            .any(|net| net.addr() == vxlan.address);
        if !ours {
            findings.absent("vxlan.address", "port", Fault::VxlanAddress { address: vxlan.address });
        }
    }
    for (index, vpc) in config.vpcs.iter().enumerate() {
        let Segment::Vxlan { vteps, .. } = &vpc.segment else {
            continue;
        };
        let Some(vxlan) = &config.vxlan else {
            let fault = Fault::VxlanMissing { vpc: vpc.name.clone() };
            findings.absent(format!("vpc[{index}].vni"), "vxlan", fault);
            continue;
        };
        for (number, vtep) in vteps.iter().enumerate() {
            if let Some(reason) = useless_vtep(*vtep, vxlan.address) {
                let fault = Fault::Vtep {
                    vpc: vpc.name.clone(),
                    vtep: *vtep,
                    reason,
                };
                findings.at(format!("vpc[{index}].vteps[{number}]"), fault);
            }
        }
    }
}

fn useless_vtep(vtep: IpAddr, ours: IpAddr) -> Option<&'static str> {
    if vtep == ours {
        Some("is our own endpoint")
    } else if vtep.is_ipv4() != ours.is_ipv4() {
        Some("is of the other address family than our endpoint")
    } else {
        not_a_host(vtep).map(|_| "is not a unicast address")
    }
}

/// No two interfaces of a VRF share addresses; several addresses of one interface may lie in one subnet.
fn subnets(config: &Config, interfaces: &[Interface<'_>], findings: &mut Findings) {
    let mut placed: Vec<(IpNet, String, &Interface<'_>)> = Vec::new();
    for interface in interfaces {
        if interface.vrf != VrfId::DEFAULT {
            placed.clear(); // a VPC is the only interface of its VRF; the ports, which come first, share theirs
        }
        for (index, net) in interface.addresses.iter().enumerate() {
            if matches!(net.addr(), IpAddr::V6(address) if address.is_unicast_link_local()) {
                continue;
            }
            let path = format!("{}.addresses[{index}]", interface.path);
            let clash = placed.iter().find(|(other, _, owner)| {
                let same_subnet = owner.path == interface.path && other.trunc() == net.trunc();
                !same_subnet && (other.contains(net) || net.contains(other))
            });
            if let Some((other, earlier, owner)) = clash {
                let fault = Fault::OverlappingSubnets {
                    vrf: config.vrf_name(interface.vrf).to_owned(),
                    first: *other,
                    first_object: owner.object.clone(),
                    second: *net,
                    second_object: interface.object.clone(),
                };
                findings.between(path.clone(), earlier.clone(), fault);
            }
            placed.push((*net, path, interface));
        }
    }
}
