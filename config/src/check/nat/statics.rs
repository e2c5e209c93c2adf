//! Static NAT: prefixes that pair, and that nobody else has.

use net::IpNet;

use super::super::Findings;
use super::{interface_addresses, known_vpc, mixed, not_translated};
use crate::fault::Fault;
use crate::model::{Config, StaticNat};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let rules = &config.nat.statics;
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("nat.static[{index}]");
        let vpc = || config.vrf_name(rule.vpc.vrf()).to_owned();
        known_vpc(config, rule.vpc, &path, findings);
        if let Some(id) = rule.peer.filter(|peer| config.vpc(*peer).is_none()) {
            findings.absent(format!("{path}.peer"), "vpc", Fault::UnknownVpcId { id });
        }
        if rule.peer == Some(rule.vpc) {
            findings.at(format!("{path}.peer"), Fault::StaticPeer { vpc: vpc() });
        }
        let StaticNat { inside, outside, .. } = *rule;
        if inside.addr().is_ipv4() != outside.addr().is_ipv4() {
            mixed(format!("{path}.outside"), "outside", findings);
        } else if inside.prefix_len() != outside.prefix_len() {
            let fault = Fault::StaticLength {
                vpc: vpc(),
                inside,
                outside,
            };
            findings.at(format!("{path}.outside"), fault);
        }
        for (key, prefix) in [("inside", inside), ("outside", outside)] {
            hosts(&path, key, prefix, &vpc(), findings);
        }
        for (earlier, other) in rules[..index].iter().enumerate() {
            if other.peer == rule.peer {
                let whose = format!("that of vpc `{}`", config.vrf_name(other.vpc.vrf()));
                let clash = |key, prefix| {
                    let fault = Fault::StaticOverlap {
                        vpc: vpc(),
                        prefix,
                        other: whose.clone(),
                    };
                    (format!("{path}.{key}"), format!("nat.static[{earlier}].{key}"), fault)
                };
                let inside = (other.vpc == rule.vpc && overlap(other.inside, inside)).then(|| clash("inside", inside));
                let outside = overlap(other.outside, outside).then(|| clash("outside", outside));
                for (at, earlier, fault) in inside.into_iter().chain(outside) {
                    findings.between(at, earlier, fault);
                }
            }
        }
        if rule.peer.is_none() {
            public(config, rule, &path, findings);
        }
    }
}

/// A public prefix that a pool, a port forward or an interface has.
fn public(config: &Config, rule: &StaticNat, path: &str, findings: &mut Findings) {
    let fault = |other: String| Fault::StaticOverlap {
        vpc: config.vrf_name(rule.vpc.vrf()).to_owned(),
        prefix: rule.outside,
        other,
    };
    let at = || format!("{path}.outside");
    for (number, masquerade) in config.nat.masquerades.iter().enumerate() {
        if let Some(position) = masquerade.pool.iter().position(|pool| overlap(*pool, rule.outside)) {
            let earlier = format!("nat.masquerade[{number}].pool[{position}]");
            let pool = masquerade.pool[position];
            findings.between(at(), earlier, fault(format!("in the masquerade pool {pool}")));
        }
    }
    let forwards = &config.nat.port_forwards;
    if let Some(number) = forwards
        .iter()
        .position(|forward| rule.outside.contains(&forward.address))
    {
        let earlier = format!("nat.port-forward[{number}].address");
        let address = forwards[number].address;
        findings.between(at(), earlier, fault(format!("that of the port forward `{address}`")));
    }
    if let Some((_, object)) = interface_addresses(config).find(|(address, _)| rule.outside.contains(address)) {
        findings.at(at(), fault(format!("that of {object}")));
    }
}

fn hosts(path: &str, key: &str, prefix: IpNet, vpc: &str, findings: &mut Findings) {
    let ends = [prefix.network(), prefix.broadcast()];
    let wrong = ends
        .into_iter()
        .find_map(|address| Some((address, not_translated(address)?)));
    if let Some((address, what)) = wrong {
        let object = format!("static NAT of vpc `{vpc}`");
        findings.at(format!("{path}.{key}"), Fault::NotAHost { object, address, what });
    }
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}
