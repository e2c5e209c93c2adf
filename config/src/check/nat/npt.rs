//! NPTv6: prefixes that pair, and that nobody else has.

use net::IpNet;

use super::super::Findings;
use super::{interface_addresses, known_vpc, not_translated};
use crate::fault::Fault;
use crate::model::Config;

/// Longest prefix: behind it is room for the word that makes up for it (RFC 6296).
const LONGEST: u8 = 64;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let rules = &config.nat.npt;
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("nat.npt[{index}]");
        known_vpc(config, rule.vpc, &path, findings);
        let (inside, outside) = (IpNet::V6(rule.inside), IpNet::V6(rule.outside));
        let mut wrong = |key: &str, reason: String, example: &str| {
            let fault = Fault::InvalidValue {
                key: key.to_owned(),
                reason,
                example: example.to_owned(),
            };
            findings.at(format!("{path}.{key}"), fault);
        };
        if inside.prefix_len() > LONGEST {
            let reason = format!("{inside} leaves no room for what keeps checksums right");
            wrong("inside", reason, "a prefix of at most /64");
        }
        if inside.prefix_len() != outside.prefix_len() {
            let reason = format!("{outside} is not as long as {inside}");
            wrong("outside", reason, "two prefixes of one length");
        }
        for (key, prefix) in [("inside", inside), ("outside", outside)] {
            let address = prefix.network();
            if let Some(what) = not_translated(address) {
                let object = format!("NPTv6 of vpc `{}`", config.vrf_name(rule.vpc.vrf()));
                findings.at(format!("{path}.{key}"), Fault::NotAHost { object, address, what });
            }
        }
        for (earlier, other) in rules[..index].iter().enumerate() {
            let whose = || format!("that of vpc `{}`", config.vrf_name(other.vpc.vrf()));
            let mut clash = |key: &str, prefix, theirs: IpNet| {
                if overlap(prefix, theirs) {
                    let earlier = format!("nat.npt[{earlier}].{key}");
                    findings.between(format!("{path}.{key}"), earlier, taken(config, index, prefix, whose()));
                }
            };
            if other.vpc == rule.vpc {
                clash("inside", inside, other.inside.into());
            }
            clash("outside", outside, other.outside.into());
        }
        public(config, index, outside, &path, findings);
    }
}

/// A prefix outside that a pool, a port forward, static NAT or an interface has.
fn public(config: &Config, index: usize, outside: IpNet, path: &str, findings: &mut Findings) {
    let nat = &config.nat;
    let pools = nat.masquerades.iter().enumerate().flat_map(|(number, rule)| {
        let pools = rule.pool.iter().enumerate();
        pools.map(move |(at, net)| (format!("nat.masquerade[{number}].pool[{at}]"), *net))
    });
    let forwards = nat.port_forwards.iter().enumerate();
    let forwards = forwards.map(|(number, rule)| (format!("nat.port-forward[{number}].address"), rule.address.into()));
    let statics = nat.statics.iter().enumerate().filter(|(_, rule)| rule.peer.is_none());
    let statics = statics.map(|(number, rule)| (format!("nat.static[{number}].outside"), rule.outside));
    for (earlier, _) in pools
        .chain(forwards)
        .chain(statics)
        .filter(|(_, net)| overlap(outside, *net))
    {
        let other = "that of another NAT rule".to_owned();
        findings.between(format!("{path}.outside"), earlier, taken(config, index, outside, other));
    }
    if let Some((_, object)) = interface_addresses(config).find(|(address, _)| outside.contains(address)) {
        let fault = taken(config, index, outside, format!("that of {object}"));
        findings.at(format!("{path}.outside"), fault);
    }
}

fn taken(config: &Config, index: usize, prefix: IpNet, other: String) -> Fault {
    let vpc = config.vrf_name(config.nat.npt[index].vpc.vrf()).to_owned();
    Fault::NptOverlap { vpc, prefix, other }
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}
