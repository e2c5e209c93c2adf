//! The BGP speaker and its peers.

use net::policy::PrefixRange;

use super::{Claim, Findings, not_a_host, policy, unique};
use crate::fault::Fault;
use crate::model::{Bgp, Config, Filter, Peer, PeerAs, PrefixFilter, UnnumberedPeer};
use crate::words::Word;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let Some(bgp) = &config.bgp else { return };
    autonomous_system(bgp.asn, "[bgp]", "bgp.asn", findings);
    if bgp.router_id.is_unspecified() {
        findings.at("bgp.router-id", Fault::RouterIdZero);
    }
    for (index, peer) in bgp.peers.iter().enumerate() {
        let path = format!("bgp.peer[{index}]");
        check_address(config, peer, &path, findings);
        check_peer(peer, bgp, &format!("bgp peer `{}`", peer.address), &path, findings);
        check_policies(bgp, peer, &path, findings);
    }
    for (index, dynamic) in bgp.dynamic.iter().enumerate() {
        let object = format!("bgp dynamic `{}`", dynamic.prefix);
        let path = format!("bgp.dynamic[{index}]");
        check_peer(&dynamic.template, bgp, &object, &path, findings);
        check_policies(bgp, &dynamic.template, &path, findings);
    }
    for (index, unnumbered) in bgp.unnumbered.iter().enumerate() {
        let object = format!("bgp unnumbered `{}`", unnumbered.interface);
        let path = format!("bgp.unnumbered[{index}]");
        check_unnumbered(config, unnumbered, &object, &path, findings);
        check_peer(&unnumbered.template, bgp, &object, &path, findings);
        check_policies(bgp, &unnumbered.template, &path, findings);
    }
    for (index, bmp) in bgp.bmp.iter().enumerate() {
        if !bmp.pre_policy && !bmp.post_policy {
            let fault = Fault::IdleCollector {
                collector: bmp.collector,
            };
            findings.at(format!("bgp.bmp[{index}].post-policy"), fault);
        }
    }
    for (key, name) in [
        ("redistribute-connected", &bgp.redistribute_connected),
        ("redistribute-static", &bgp.redistribute_static),
        ("redistribute-kernel", &bgp.redistribute_kernel),
    ] {
        if let Some(name) = name {
            policy::exists(&bgp.policies, name, &format!("bgp.{key}"), findings);
        }
    }
    duplicates(bgp, findings);
    policy::check(&bgp.policies, findings);
}

/// RFC 7607 (0), RFC 6793 (AS_TRANS), RFC 7300 (the last of each width).
pub(super) fn autonomous_system(asn: u32, object: &str, path: &str, findings: &mut Findings) {
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

fn check_unnumbered(config: &Config, unnumbered: &UnnumberedPeer, object: &str, path: &str, findings: &mut Findings) {
    if config.port(&unnumbered.interface).is_none() {
        let names: Vec<_> = config.ports.iter().map(|port| port.name.as_str()).collect();
        let fault = Fault::Unknown {
            kind: "port",
            name: unnumbered.interface.clone(),
            remedy: format!("the ports are {}", names.join(", ")),
        };
        findings.absent(format!("{path}.interface"), "port", fault);
    }
    let template = &unnumbered.template;
    for (key, given) in [
        ("password", template.password.is_some()),
        ("local-address", template.local_address.is_some()),
    ] {
        if given {
            let object = object.to_owned();
            findings.at(format!("{path}.{key}"), Fault::NeedsAddress { object, key });
        }
    }
}

fn check_peer(peer: &Peer, bgp: &Bgp, object: &str, path: &str, findings: &mut Findings) {
    if let PeerAs::Number(asn) = peer.asn {
        autonomous_system(asn, object, &format!("{path}.asn"), findings);
    }
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
    if peer.role.is_some() && peer.asn == PeerAs::Number(bgp.asn) {
        findings.at(format!("{path}.role"), Fault::RoleInside { peer: peer.address });
    }
    if peer.strict_role && peer.role.is_none() {
        findings.at(format!("{path}.strict-role"), Fault::StrictRole { peer: peer.address });
    }
    let hops = peer.ttl_security.or(peer.multihop);
    if peer.bfd.is_some() && hops.is_some_and(|hops| hops > 1) {
        let fault = Fault::BfdDistance { peer: peer.address };
        findings.at(format!("{path}.bfd"), fault);
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
}

/// Import and export: references and ranges.
fn check_policies(bgp: &Bgp, peer: &Peer, path: &str, findings: &mut Findings) {
    for (direction, policy) in [("import", &peer.import), ("export", &peer.export)] {
        let path = format!("{path}.{direction}");
        // The same policy for all families is one thing in the file.
        let same = policy.is_one();
        for (family, filter) in policy.filters().take(if same { 1 } else { 3 }) {
            let path = if same {
                path.clone()
            } else {
                format!("{path}.{}", family.word())
            };
            match filter {
                Filter::Rules(rules) => prefix_filter(rules, &path, findings),
                Filter::Named(name) => policy::exists(&bgp.policies, name, &path, findings),
            }
        }
    }
}

fn prefix_filter(filter: &PrefixFilter, path: &str, findings: &mut Findings) {
    for (index, rule) in filter.rules.iter().enumerate() {
        let range = PrefixRange {
            prefix: rule.prefix,
            ge: rule.ge,
            le: rule.le,
        };
        policy::range(&range, &format!("{path}.prefixes[{index}]"), findings);
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
    let claims = bgp.rpki.iter().enumerate().map(|(index, rpki)| Claim {
        value: rpki.cache,
        path: format!("bgp.rpki[{index}].cache"),
        owner: format!("cache number {}", index + 1),
    });
    unique(claims, findings, |cache, first, second| Fault::Duplicate {
        what: "rpki cache",
        value: cache.to_string(),
        first,
        second,
        remedy: "keep one [[bgp.rpki]] for each cache",
    });
    let claims = bgp.bmp.iter().enumerate().map(|(index, bmp)| Claim {
        value: bmp.collector,
        path: format!("bgp.bmp[{index}].collector"),
        owner: format!("collector number {}", index + 1),
    });
    unique(claims, findings, |collector, first, second| Fault::Duplicate {
        what: "bmp collector",
        value: collector.to_string(),
        first,
        second,
        remedy: "keep one [[bgp.bmp]] for each collector",
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
    let claims = bgp.unnumbered.iter().enumerate().map(|(index, unnumbered)| Claim {
        value: unnumbered.interface.as_str(),
        path: format!("bgp.unnumbered[{index}].interface"),
        owner: format!("peer number {}", index + 1),
    });
    unique(claims, findings, |interface, first, second| Fault::Duplicate {
        what: "interface of an unnumbered bgp peer",
        value: interface.to_string(),
        first,
        second,
        remedy: "keep one [[bgp.unnumbered]] for each interface",
    });
}
