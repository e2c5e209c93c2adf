//! How a pool's ports are chosen: choices that fit each other and the pool's size.

use net::IpNet;

use super::super::Findings;
use super::mixed;
use crate::fault::Fault;
use crate::model::{Config, Filtering, Mapping, Masquerade, PortBlocks, PortChoice};

/// Longest pool of IPv6, as a prefix: 1,024 addresses, each with ports of its own.
const SHORTEST_V6: u8 = 118;

pub(super) fn check(rule: &Masquerade, path: &str, findings: &mut Findings) {
    let v4 = rule.pool.first().is_none_or(|net| net.addr().is_ipv4());
    for (key, list) in [("pool", &rule.pool), ("sources", &rule.sources)] {
        if let Some(at) = list.iter().position(|net| net.addr().is_ipv4() != v4) {
            mixed(format!("{path}.{key}[{at}]"), key, findings);
        }
    }
    let mut wrong = |key: &str, reason: String, example: &str| {
        findings.at(
            format!("{path}.{key}"),
            Fault::InvalidValue {
                key: key.rsplit('.').next().unwrap_or(key).to_owned(),
                reason,
                example: example.to_owned(),
            },
        );
    };
    if rule.filtering != Filtering::AddressAndPortDependent && rule.mapping != Mapping::EndpointIndependent {
        let reason = "a port that is not one host's own cannot let others in".to_owned();
        wrong("filtering", reason, "mapping = \"endpoint-independent\" too");
    }
    for (at, net) in rule.pool.iter().enumerate() {
        if net.addr().is_ipv6() && net.prefix_len() < SHORTEST_V6 {
            let reason = format!("{net} has more addresses than a pool may have");
            wrong(
                &format!("pool[{at}]"),
                reason,
                "one address, or a prefix of /118 or longer",
            );
        }
    }
    let ports = u64::from(rule.ports.last() - rule.ports.first()) + 1;
    match rule.choice {
        PortChoice::Free => {}
        PortChoice::Blocks(PortBlocks { size, count, .. }) => {
            if size == 0 || u64::from(size) > ports {
                let reason = format!("{size} does not fit into the {ports} ports of the pool");
                wrong("blocks.size", reason, "a number from 1 to that of the ports");
            }
            if count == 0 {
                wrong("blocks.count", "0 blocks are no ports".to_owned(), "a number from 1");
            }
            if rule.parity {
                wrong(
                    "parity",
                    "blocks are handed out whole".to_owned(),
                    "one of parity and blocks",
                );
            }
            if rule.mapping == Mapping::Overloading {
                let reason = "ports of a block are its subscriber's alone".to_owned();
                wrong("mapping", reason, "\"per-connection\" or \"endpoint-independent\"");
            }
        }
        PortChoice::Deterministic if !v4 => {
            let reason = "IPv6 has more subscribers than a pool has ports".to_owned();
            wrong("deterministic", reason, "`blocks`, or neither");
        }
        PortChoice::Deterministic => {
            let all = |nets: &[IpNet]| nets.iter().map(addresses).fold(0_u64, u64::saturating_add);
            let (subscribers, pool) = (all(&rule.sources), all(&rule.pool));
            if pool > 0 && subscribers.div_ceil(pool) > ports {
                let reason = format!(
                    "{subscribers} addresses in `sources` share {pool} with {ports} ports each, which leaves none for some"
                );
                wrong("deterministic", reason, "fewer sources, or more addresses or ports");
            }
        }
    }
}

/// Blocks lie in ports that no other rule has.
pub(super) fn shared_blocks(config: &Config, findings: &mut Findings) {
    let rules = &config.nat.masquerades;
    let blocks = |rule: &Masquerade| matches!(rule.choice, PortChoice::Blocks(_));
    for (index, rule) in rules.iter().enumerate() {
        for (earlier, other) in rules[..index].iter().enumerate() {
            let both = blocks(rule) && blocks(other);
            if !both && !((blocks(rule) || blocks(other)) && rule.ports.overlaps(other.ports)) {
                continue;
            }
            let overlap = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
            for (number, pool) in rule.pool.iter().enumerate() {
                let Some(position) = other.pool.iter().position(|theirs| overlap(pool, theirs)) else {
                    continue;
                };
                findings.between(
                    format!("nat.masquerade[{index}].pool[{number}]"),
                    format!("nat.masquerade[{earlier}].pool[{position}]"),
                    Fault::SharedBlocks {
                        pool: *pool,
                        vpc: config.vrf_name(rule.vpc.vrf()).to_owned(),
                    },
                );
            }
        }
    }
}

fn addresses(net: &IpNet) -> u64 {
    let host = u32::from(net.max_prefix_len() - net.prefix_len());
    1_u64.checked_shl(host).unwrap_or(u64::MAX)
}
