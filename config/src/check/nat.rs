//! NAT: who may use which public address and port.

mod pool;
mod statics;

use std::net::{IpAddr, Ipv4Addr};

use net::{Ipv4Net, VpcId};

use super::{Claim, Findings, not_a_host, unique};
use crate::fault::Fault;
use crate::model::{Config, Masquerade};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    for (index, rule) in config.nat.masquerades.iter().enumerate() {
        let path = format!("nat.masquerade[{index}]");
        let object = || format!("masquerade `{}`", config.vrf_name(rule.vpc.vrf()));
        known_vpc(config, rule.vpc, &path, findings);
        for (key, list) in [("sources", &rule.sources), ("pool", &rule.pool)] {
            if list.is_empty() {
                findings.at(format!("{path}.{key}"), Fault::Empty { object: object(), key });
            }
        }
        for (number, pool) in rule.pool.iter().enumerate() {
            let address = IpAddr::V4(pool.network());
            if let Some(what) = not_a_host(address) {
                findings.at(
                    format!("{path}.pool[{number}]"),
                    Fault::NotAHost {
                        object: object(),
                        address,
                        what,
                    },
                );
            }
        }
        pool_holds_interface(config, rule, &path, findings);
        pool::check(rule, &path, findings);
    }
    pool::shared_blocks(config, findings);
    statics::check(config, findings);
    shadowed(config, findings);
    pool_overlap(config, findings);
    port_forwards(config, findings);
}

fn known_vpc(config: &Config, id: VpcId, path: &str, findings: &mut Findings) {
    if config.vpc(id).is_none() {
        findings.absent(format!("{path}.vpc"), "vpc", Fault::UnknownVpcId { id });
    }
}

/// IPv4 addresses of the default VRF's interfaces, each with its port.
fn interface_addresses(config: &Config) -> impl Iterator<Item = (Ipv4Addr, String)> {
    config.ports.iter().flat_map(|port| {
        port.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(address) => Some((address, format!("port `{}`", port.name))),
            IpAddr::V6(_) => None,
        })
    })
}

fn pool_holds_interface(config: &Config, rule: &Masquerade, path: &str, findings: &mut Findings) {
    for (number, pool) in rule.pool.iter().enumerate() {
        if let Some((address, object)) = interface_addresses(config).find(|(address, _)| pool.contains(address)) {
            let vpc = config.vrf_name(rule.vpc.vrf()).to_owned();
            let fault = Fault::PoolHoldsInterface {
                pool: *pool,
                vpc,
                address,
                object,
            };
            findings.at(format!("{path}.pool[{number}]"), fault);
        }
    }
}

/// Within a VPC the first rule whose sources match decides, so sources that an earlier rule has never match.
fn shadowed(config: &Config, findings: &mut Findings) {
    let rules = &config.nat.masquerades;
    for (index, rule) in rules.iter().enumerate() {
        for (number, sources) in rule.sources.iter().enumerate() {
            let earlier = rules[..index]
                .iter()
                .enumerate()
                .filter(|(_, earlier)| earlier.vpc == rule.vpc)
                .find_map(|(position, earlier)| {
                    let covering = earlier.sources.iter().position(|other| other.contains(sources))?;
                    Some(format!("nat.masquerade[{position}].sources[{covering}]"))
                });
            if let Some(earlier) = earlier {
                let vpc = config.vrf_name(rule.vpc.vrf()).to_owned();
                let fault = Fault::MasqueradeShadowed { vpc, sources: *sources };
                findings.between(format!("nat.masquerade[{index}].sources[{number}]"), earlier, fault);
            }
        }
    }
}

/// Two VPCs must not pick the same address and port; rules of one VPC may share a pool.
fn pool_overlap(config: &Config, findings: &mut Findings) {
    let mut pools: Vec<(String, Ipv4Net, &Masquerade)> = Vec::new();
    for (index, rule) in config.nat.masquerades.iter().enumerate() {
        for (number, pool) in rule.pool.iter().enumerate() {
            let path = format!("nat.masquerade[{index}].pool[{number}]");
            let clash = pools.iter().find(|(_, other, owner)| {
                owner.vpc != rule.vpc
                    && owner.ports.overlaps(rule.ports)
                    && (other.contains(pool) || pool.contains(other))
            });
            if let Some((earlier, other, owner)) = clash {
                let fault = Fault::PoolOverlap {
                    first: *other,
                    first_vpc: config.vrf_name(owner.vpc.vrf()).to_owned(),
                    second: *pool,
                    second_vpc: config.vrf_name(rule.vpc.vrf()).to_owned(),
                };
                findings.between(path.clone(), earlier.clone(), fault);
            }
            pools.push((path, *pool, rule));
        }
    }
}

fn port_forwards(config: &Config, findings: &mut Findings) {
    let forwards = &config.nat.port_forwards;
    for (index, forward) in forwards.iter().enumerate() {
        let path = format!("nat.port-forward[{index}]");
        let (address, protocol, port) = (forward.address, forward.protocol, forward.port);
        known_vpc(config, forward.vpc, &path, findings);
        for (key, host) in [("address", address), ("target", forward.target)] {
            if let Some(what) = not_a_host(host.into()) {
                let object = format!("port forward `{address}`");
                findings.at(
                    format!("{path}.{key}"),
                    Fault::NotAHost {
                        object,
                        address: host.into(),
                        what,
                    },
                );
            }
        }
        if let Some((_, object)) = interface_addresses(config).find(|(known, _)| *known == address) {
            let fault = Fault::PortForwardIsInterface {
                address,
                protocol,
                port,
                object,
            };
            findings.at(format!("{path}.address"), fault);
        }
        for (number, rule) in config.nat.masquerades.iter().enumerate() {
            let pool = rule.pool.iter().position(|pool| pool.contains(&address));
            if let Some(position) = pool.filter(|_| rule.ports.contains(port)) {
                let (pool, ports) = (rule.pool[position], rule.ports);
                let fault = Fault::PortForwardInPool {
                    address,
                    protocol,
                    port,
                    pool,
                    ports,
                };
                findings.between(
                    format!("{path}.port"),
                    format!("nat.masquerade[{number}].pool[{position}]"),
                    fault,
                );
                break;
            }
        }
    }
    let claims = forwards.iter().enumerate().map(|(index, forward)| Claim {
        value: (forward.address, forward.protocol, forward.port),
        path: format!("nat.port-forward[{index}]"),
        owner: format!("{}:{}", forward.target, forward.target_port),
    });
    unique(claims, findings, |(address, protocol, port), first, second| {
        Fault::Duplicate {
            what: "public port",
            value: format!("{address} {protocol} {port}"),
            first,
            second,
            remedy: "keep one [[nat.port-forward]] for each address, protocol and port",
        }
    });
}
