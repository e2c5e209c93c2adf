//! From the head of a scenario to the configuration of production.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bgp::bfd::session::Config as BfdConfig;
use bgp::policy::{Policy, PolicyTable};
use bgp::rib::LocalAddresses;
use bgp::{AddPath, MaxPrefixes, PeerConfig, RemoteAs, RestartMode, SendPaths};
use net::policy::{Change, Community, Condition, Policies, PrefixRange, PrefixSet, Term};

use crate::script::{Head, PeerHead, SendHead};

pub(crate) fn peer_config(of: &PeerHead, policies: &PolicyTable) -> Result<PeerConfig, String> {
    let remote = of.asn.map_or(RemoteAs::External, RemoteAs::Number);
    let mut config = PeerConfig::new(of.address, remote);
    config.passive = of.passive;
    config.hold_time = of.hold_time.unwrap_or(config.hold_time);
    config.send_hold_time = of.send_hold_time.map_or(config.send_hold_time, Duration::from_secs);
    config.connect_retry = of.connect_retry.map_or(config.connect_retry, Duration::from_secs);
    if let Some(families) = &of.families {
        config.families.clone_from(families);
    }
    config.import = policy(of.import.as_deref(), policies)?;
    config.export = policy(of.export.as_deref(), policies)?;
    config.advertise_learned = of.advertise_learned;
    config.enforce_first_as = of.enforce_first_as.unwrap_or(config.enforce_first_as);
    config.max_prefixes = of.max_prefixes.as_ref().map(|max| MaxPrefixes {
        limit: max.limit,
        warn: max.limit,
        restart: max.restart.map(Duration::from_secs),
    });
    config.graceful_restart = match of.graceful_restart.as_deref() {
        None | Some("helper") => RestartMode::Helper,
        Some("off") => RestartMode::Off,
        Some("full") => RestartMode::Full,
        Some(other) => return Err(format!("graceful restart is off, helper or full, not `{other}`")),
    };
    config.restart_time = of.restart_time.unwrap_or(config.restart_time);
    config.stale_time = of.stale_time.map_or(config.stale_time, Duration::from_secs);
    config.long_lived_stale_time = Duration::from_secs(of.long_lived_stale_time.unwrap_or(0));
    config.role = of.role;
    config.strict_role = of.strict_role;
    config.bfd = of.bfd.then(BfdConfig::default);
    if let Some(add_path) = &of.add_path {
        config.add_path = AddPath {
            receive: add_path.receive,
            send: match &add_path.send {
                None => SendPaths::None,
                Some(SendHead::Best(best)) => SendPaths::Best(*best),
                Some(SendHead::Word(word)) => match word.as_str() {
                    "none" => SendPaths::None,
                    "all" => SendPaths::All,
                    other => return Err(format!("paths to send are none, all or a number, not `{other}`")),
                },
            },
        };
    }
    Ok(config)
}

pub(crate) fn policy(name: Option<&str>, policies: &PolicyTable) -> Result<Policy, String> {
    Ok(match name {
        None => Policy::Unset,
        Some("accept") => Policy::Accept,
        Some("deny") => Policy::Deny,
        Some(name) => {
            let program = policies
                .get(name)
                .ok_or_else(|| format!("there is no policy `{name}`"))?;
            Policy::Program(Arc::clone(program))
        }
    })
}

/// Every policy that the head writes out, compiled.
pub(crate) fn policies(head: &Head) -> Result<PolicyTable, String> {
    let mut data = Policies::default();
    for (name, communities) in &head.speaker.community_sets {
        let parsed = communities.iter().map(|text| {
            let community: Community = text.parse().map_err(|error| format!("community set {name}: {error}"))?;
            community
                .to_string()
                .parse()
                .map_err(|error| format!("community set {name}: {error}"))
        });
        data.community_sets.push(net::policy::CommunitySet {
            name: name.clone(),
            communities: parsed.collect::<Result<_, String>>()?,
        });
    }
    for (name, ranges) in &head.speaker.prefix_sets {
        let range = |range: &crate::script::PrefixRangeText| PrefixRange {
            prefix: range.prefix,
            ge: range.ge.unwrap_or(range.prefix.len()),
            le: range.le.unwrap_or(range.prefix.len()),
        };
        data.prefix_sets.push(PrefixSet {
            name: name.clone(),
            prefixes: ranges.iter().map(range).collect(),
        });
    }
    for (name, terms) in &head.speaker.policies {
        let wrong = |key: &str, value: &str| format!("policy {name}: `{key}` cannot be `{value}`");
        let term = |term: &crate::script::TermText| {
            let conditions = term.conditions.iter();
            let conditions =
                conditions.map(|(key, value)| Condition::parse(key, value).ok_or_else(|| wrong(key, value)));
            let changes = term.set.iter();
            let changes = changes.map(|(key, value)| Change::parse(key, value).ok_or_else(|| wrong(key, value)));
            Ok::<_, String>(Term {
                name: term.name.clone(),
                conditions: conditions.collect::<Result<_, _>>()?,
                changes: changes.collect::<Result<_, _>>()?,
                then: term.then.parse().map_err(|()| wrong("then", &term.then))?,
            })
        };
        data.policies.push(net::policy::Policy {
            name: name.clone(),
            terms: terms.iter().map(term).collect::<Result<_, _>>()?,
            accept_by_default: false,
        });
    }
    PolicyTable::compile(&data).map_err(|error| error.to_string())
}

/// As `io/socket.rs` finds them on the session's interface.
pub(crate) fn local_addresses(all: &[IpAddr]) -> LocalAddresses {
    let v4 = all.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6s = all.iter().filter_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    let (link_local, v6): (Vec<_>, Vec<_>) = v6s.partition(|v6| v6.is_unicast_link_local());
    LocalAddresses {
        session: all.first().copied(),
        v4,
        v6: v6.first().copied(),
        link_local: link_local.first().copied(),
    }
}
