//! Port forwards: public ports that are theirs alone, and targets that are hosts.

use std::net::IpAddr;

use super::super::Findings;
use super::{interface_addresses, known_vpc, mixed, not_translated};
use crate::fault::Fault;
use crate::model::{Config, PortForward};

/// Most targets of one rule.
const TARGETS: usize = 512;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let forwards = &config.nat.port_forwards;
    for (index, forward) in forwards.iter().enumerate() {
        let path = format!("nat.port-forward[{index}]");
        let (address, protocol, ports) = (forward.address, forward.protocol, forward.ports);
        known_vpc(config, forward.vpc, &path, findings);
        host(forward, address, format!("{path}.address"), findings);
        targets(forward, &path, findings);
        if let Some((_, object)) = interface_addresses(config).find(|(known, _)| *known == address) {
            let fault = Fault::PortForwardIsInterface {
                address,
                protocol,
                port: ports.brief(),
                object,
            };
            findings.at(format!("{path}.address"), fault);
        }
        in_pool(config, forward, &path, findings);
        let earlier = forwards[..index]
            .iter()
            .position(|other| (other.address, other.protocol) == (address, protocol) && other.ports.overlaps(ports));
        if let Some(earlier) = earlier {
            let fault = Fault::Duplicate {
                what: "public port",
                value: format!("{address} {protocol} {}", ports.brief()),
                first: owner(&forwards[earlier]),
                second: owner(forward),
                remedy: "keep one [[nat.port-forward]] for each address, protocol and port",
            };
            findings.between(path, format!("nat.port-forward[{earlier}]"), fault);
        }
    }
}

fn owner(forward: &PortForward) -> String {
    match forward.targets[..] {
        [target] => format!("{}:{}", target.address, target.port),
        _ => format!("{} targets", forward.targets.len()),
    }
}

fn targets(forward: &PortForward, path: &str, findings: &mut Findings) {
    let object = || format!("port forward `{}`", forward.address);
    if forward.targets.is_empty() {
        let (object, key) = (object(), "targets");
        findings.at(format!("{path}.targets"), Fault::Empty { object, key });
    } else if forward.targets.iter().all(|target| target.weight == 0) || forward.targets.len() > TARGETS {
        let fault = Fault::InvalidValue {
            key: "targets".to_owned(),
            reason: "nobody has a share of the clients, or more than 512 do".to_owned(),
            example: "1 to 512 targets, at least one of them with a weight above 0".to_owned(),
        };
        findings.at(format!("{path}.targets"), fault);
    }
    for (number, target) in forward.targets.iter().enumerate() {
        let key = match forward.targets.len() {
            1 => "target".to_owned(),
            _ => format!("targets[{number}].address"),
        };
        host(forward, target.address, format!("{path}.{key}"), findings);
        if target.address.is_ipv4() != forward.address.is_ipv4() {
            mixed(format!("{path}.{key}"), "target", findings);
        }
    }
}

fn host(forward: &PortForward, address: IpAddr, path: String, findings: &mut Findings) {
    if let Some(what) = not_translated(address) {
        let object = format!("port forward `{}`", forward.address);
        findings.at(path, Fault::NotAHost { object, address, what });
    }
}

/// Ports that masquerading may pick for another.
fn in_pool(config: &Config, forward: &PortForward, path: &str, findings: &mut Findings) {
    for (number, rule) in config.nat.masquerades.iter().enumerate() {
        let pool = rule.pool.iter().position(|pool| pool.contains(&forward.address));
        if let Some(position) = pool.filter(|_| rule.ports.overlaps(forward.ports)) {
            let fault = Fault::PortForwardInPool {
                address: forward.address,
                protocol: forward.protocol,
                port: forward.ports.brief(),
                pool: rule.pool[position],
                ports: rule.ports,
            };
            let earlier = format!("nat.masquerade[{number}].pool[{position}]");
            findings.between(format!("{path}.port"), earlier, fault);
            break;
        }
    }
}
