//! NAT: who may use which public address and port.

mod forwards;
mod npt;
mod pool;
mod statics;

use std::net::IpAddr;

use net::{IpNet, VpcId};

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
            let address = pool.network();
            if let Some(what) = not_translated(address) {
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
    npt::check(config, findings);
    limits(config, findings);
    shadowed(config, findings);
    pool_overlap(config, findings);
    forwards::check(config, findings);
    vpc_timers(config, findings);
}

fn vpc_timers(config: &Config, findings: &mut Findings) {
    let rows = &config.nat.vpc_timers;
    for (index, row) in rows.iter().enumerate() {
        known_vpc(config, row.vpc, &format!("nat.vpc-timers[{index}]"), findings);
    }
    let claims = rows.iter().enumerate().map(|(index, row)| Claim {
        value: row.vpc,
        path: format!("nat.vpc-timers[{index}]"),
        owner: format!("[[nat.vpc-timers]] {}", index + 1),
    });
    unique(claims, findings, |vpc, first, second| Fault::Duplicate {
        what: "vpc",
        value: config.vrf_name(vpc.vrf()).to_owned(),
        first,
        second,
        remedy: "keep one [[nat.vpc-timers]] for each VPC",
    });
}

fn known_vpc(config: &Config, id: VpcId, path: &str, findings: &mut Findings) {
    if config.vpc(id).is_none() {
        findings.absent(format!("{path}.vpc"), "vpc", Fault::UnknownVpcId { id });
    }
}

fn limits(config: &Config, findings: &mut Findings) {
    let limits = &config.nat.limits;
    for (index, limit) in limits.iter().enumerate() {
        let path = format!("nat.limit[{index}]");
        let vpc = config.vrf_name(limit.vpc.vrf()).to_owned();
        known_vpc(config, limit.vpc, &path, findings);
        let numbers = [
            ("sessions", limit.sessions),
            ("new-sessions", limit.new_sessions),
            ("subscriber-sessions", limit.subscriber_sessions),
            ("subscriber-new-sessions", limit.subscriber_new_sessions),
        ];
        for (key, _) in numbers.iter().filter(|(_, number)| *number == Some(0)) {
            let fault = Fault::InvalidValue {
                key: (*key).to_owned(),
                reason: "0 connections are no NAT at all".to_owned(),
                example: "a number from 1, or leave it out for any number".to_owned(),
            };
            findings.at(format!("{path}.{key}"), fault);
        }
        if numbers.iter().all(|(_, number)| number.is_none()) {
            let (object, key) = (format!("NAT limit `{vpc}`"), "sessions");
            findings.at(path.clone(), Fault::MissingKey { object, key });
        }
        if let Some(earlier) = limits[..index].iter().position(|other| other.vpc == limit.vpc) {
            let fault = Fault::Duplicate {
                what: "NAT limit",
                value: vpc,
                first: "one".to_owned(),
                second: "another".to_owned(),
                remedy: "keep one [[nat.limit]] for each VPC",
            };
            findings.between(path, format!("nat.limit[{earlier}]"), fault);
        }
    }
}

/// Addresses of the default VRF's interfaces, each with its port.
fn interface_addresses(config: &Config) -> impl Iterator<Item = (IpAddr, String)> {
    config.ports.iter().flat_map(|port| {
        let addresses = port.addresses.iter();
        addresses.map(|net| (net.addr(), format!("port `{}`", port.name)))
    })
}

/// What an address is if no packet of NAT has it.
fn not_translated(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address"),
        _ => not_a_host(address),
    }
}

/// A rule that names addresses of both families.
fn mixed(path: String, key: &str, findings: &mut Findings) {
    let fault = Fault::InvalidValue {
        key: key.to_owned(),
        reason: "a rule is for IPv4 or for IPv6, and this one names both".to_owned(),
        example: "one rule for each family".to_owned(),
    };
    findings.at(path, fault);
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
    let mut pools: Vec<(String, IpNet, &Masquerade)> = Vec::new();
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
