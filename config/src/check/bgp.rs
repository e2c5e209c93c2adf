//! The BGP speaker and its peers.

use super::{Claim, Findings, not_a_host, unique};
use crate::fault::Fault;
use crate::model::{Bgp, Config, Peer, Policy};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let Some(bgp) = &config.bgp else { return };
    autonomous_system(bgp.asn, "[bgp]", "bgp.asn", findings);
    if bgp.router_id.is_unspecified() {
        findings.at("bgp.router-id", Fault::RouterIdZero);
    }
    for (index, peer) in bgp.peers.iter().enumerate() {
        let path = format!("bgp.peer[{index}]");
        check_address(config, peer, &path, findings);
        check_peer(peer, &format!("bgp peer `{}`", peer.address), &path, findings);
    }
    for (index, dynamic) in bgp.dynamic.iter().enumerate() {
        let object = format!("bgp dynamic `{}`", dynamic.prefix);
        check_peer(&dynamic.template, &object, &format!("bgp.dynamic[{index}]"), findings);
    }
    duplicates(bgp, findings);
}

/// RFC 7607 (0), RFC 6793 (AS_TRANS), RFC 7300 (the last of each width).
fn autonomous_system(asn: u32, object: &str, path: &str, findings: &mut Findings) {
    if matches!(asn, 0 | 23_456 | 65_535 | u32::MAX) {
        findings.at(
            path,
            Fault::Asn {
                object: object.to_owned(),
                asn,
            },
        );
    }
}

fn check_address(config: &Config, peer: &Peer, path: &str, findings: &mut Findings) {
    let object = format!("bgp peer `{}`", peer.address);
    let address_path = format!("{path}.address");
    if let Some(what) = not_a_host(peer.address) {
        findings.at(
            address_path,
            Fault::NotAHost {
                object,
                address: peer.address,
                what,
            },
        );
    } else if config
        .ports
        .iter()
        .flat_map(|port| &port.addresses)
        .any(|net| net.addr() == peer.address)
    {
        findings.at(address_path, Fault::PeerIsSelf { peer: peer.address });
    }
}

fn check_peer(peer: &Peer, object: &str, path: &str, findings: &mut Findings) {
    autonomous_system(peer.asn, object, &format!("{path}.asn"), findings);
    if matches!(peer.hold_time, 1 | 2) {
        let fault = Fault::HoldTime {
            peer: peer.address,
            hold_time: peer.hold_time,
        };
        findings.at(format!("{path}.hold-time"), fault);
    }
    if peer.send_hold_time <= u32::from(peer.hold_time) {
        let fault = Fault::SendHoldTime {
            peer: peer.address,
            send_hold_time: peer.send_hold_time,
            hold_time: peer.hold_time,
        };
        findings.at(format!("{path}.send-hold-time"), fault);
    }
    if let Some(local) = peer.local_address
        && local.is_ipv4() != peer.address.is_ipv4()
    {
        let fault = Fault::LocalAddressFamily {
            peer: peer.address,
            local,
        };
        findings.at(format!("{path}.local-address"), fault);
    }
    if peer.ttl_security.is_some() && peer.multihop.is_some() {
        let fault = Fault::TwoDistances { peer: peer.address };
        findings.at(format!("{path}.multihop"), fault);
    }
    if peer.families.is_empty() {
        findings.at(
            format!("{path}.families"),
            Fault::Empty {
                object: object.to_owned(),
                key: "families",
            },
        );
    }
    policy(&peer.import, &format!("{path}.import"), findings);
    policy(&peer.export, &format!("{path}.export"), findings);
}

fn policy(policy: &Policy, path: &str, findings: &mut Findings) {
    for (index, rule) in policy.rules.iter().enumerate() {
        let longest = rule.prefix.net().max_prefix_len();
        if rule.ge < rule.prefix.len() || rule.le < rule.ge || rule.le > longest {
            let fault = Fault::RuleLengths {
                prefix: rule.prefix,
                ge: rule.ge,
                le: rule.le,
                longest,
            };
            findings.at(format!("{path}.prefixes[{index}]"), fault);
        }
    }
}

fn duplicates(bgp: &Bgp, findings: &mut Findings) {
    let claims = bgp.peers.iter().enumerate().map(|(index, peer)| Claim {
        value: peer.address,
        path: format!("bgp.peer[{index}].address"),
        owner: format!("peer number {}", index + 1),
    });
    unique(claims, findings, |address, first, second| Fault::Duplicate {
        what: "bgp peer address",
        value: address.to_string(),
        first,
        second,
        remedy: "keep one [[bgp.peer]] for each address",
    });
    let claims = bgp.dynamic.iter().enumerate().map(|(index, dynamic)| Claim {
        value: dynamic.prefix,
        path: format!("bgp.dynamic[{index}].prefix"),
        owner: format!("range number {}", index + 1),
    });
    unique(claims, findings, |prefix, first, second| Fault::Duplicate {
        what: "range of dynamic bgp peers",
        value: prefix.to_string(),
        first,
        second,
        remedy: "keep one [[bgp.dynamic]] for each prefix",
    });
}
