//! How a pool's ports are chosen: choices that fit each other and the pool's size.

use net::Ipv4Net;

use super::super::Findings;
use crate::fault::Fault;
use crate::model::{Config, Filtering, Mapping, Masquerade, PortBlocks, PortChoice};

pub(super) fn check(rule: &Masquerade, path: &str, findings: &mut Findings) {
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
        PortChoice::Deterministic => {
            let subscribers: u64 = rule.sources.iter().map(addresses).sum();
            let pool: u64 = rule.pool.iter().map(addresses).sum();
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
            let overlap = |one: &Ipv4Net, other: &Ipv4Net| one.contains(other) || other.contains(one);
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

fn addresses(net: &Ipv4Net) -> u64 {
    1 << (32 - net.prefix_len())
}
