//! From the configuration to what the BGP speaker is started with.

use std::sync::Arc;
use std::time::Duration;

use bgp::PolicyTable;
use config::{Config, Filter};
use net::policy::RouteSource;
use net::{Prefix, RouteDistinguisher};

use crate::Error;

/// The speaker, if BGP is configured.
pub(crate) fn speaker(config: &Config) -> Result<Option<bgp::SpeakerConfig>, Error> {
    let Some(bgp) = &config.bgp else { return Ok(None) };
    let mut speaker = bgp::SpeakerConfig::new(bgp.asn, bgp.router_id);
    speaker.listen.clone_from(&bgp.listen);
    speaker.originate.clone_from(&bgp.announce);
    speaker.selection_deferral = Duration::from_secs(u64::from(bgp.selection_deferral_time));
    speaker.policies = PolicyTable::compile(&bgp.policies)?;
    speaker.rules = bgp::rib::Rules {
        multipath: u8::try_from(bgp.multipath).unwrap_or(u8::MAX),
        multipath_internal: u8::try_from(bgp.multipath_internal).unwrap_or(u8::MAX),
        always_compare_med: bgp.always_compare_med,
        prefer_oldest: bgp.prefer_oldest,
    };
    let sources = [
        (RouteSource::Connected, &bgp.redistribute_connected),
        (RouteSource::Static, &bgp.redistribute_static),
        (RouteSource::Kernel, &bgp.redistribute_kernel),
    ];
    speaker.redistribute = sources
        .into_iter()
        .filter_map(|(source, name)| Some((source, named(name.as_ref()?, &speaker.policies))))
        .collect();
    speaker.track_next_hops = true;
    speaker.evpn = config
        .vpcs
        .iter()
        .filter_map(|vpc| evpn(config, bgp, vpc, &speaker.policies))
        .collect();
    speaker.advertise_installed = bgp.advertise_installed;
    speaker.peers = bgp.peers.iter().map(|item| peer(item, &speaker.policies)).collect();
    let dynamic = |dynamic: &config::DynamicPeers| bgp::DynamicPeers {
        range: dynamic.prefix,
        limit: dynamic.limit,
        template: peer(&dynamic.template, &speaker.policies),
    };
    let unnumbered = |unnumbered: &config::UnnumberedPeer| {
        let port = config.port(&unnumbered.interface)?;
        Some(bgp::UnnumberedPeer {
            interface: port.host_interface.clone(),
            template: peer(&unnumbered.template, &speaker.policies),
        })
    };
    speaker.unnumbered = bgp.unnumbered.iter().filter_map(unnumbered).collect();
    speaker.name.clone_from(&config.gateway.name);
    let cache = |rpki: &config::RpkiCache| bgp::rpki::CacheConfig {
        cache: rpki.cache,
        preference: rpki.preference,
    };
    speaker.rpki = bgp.rpki.iter().map(cache).collect();
    let collector = |bmp: &config::Bmp| bgp::BmpConfig {
        pre_policy: bmp.pre_policy,
        post_policy: bmp.post_policy,
        statistics: (bmp.statistics_interval > 0).then(|| Duration::from_secs(u64::from(bmp.statistics_interval))),
        ..bgp::BmpConfig::new(bmp.collector)
    };
    speaker.bmp = bgp.bmp.iter().map(collector).collect();
    speaker.dynamic = bgp.dynamic.iter().map(dynamic).collect();
    Ok(Some(speaker))
}

fn peer(peer: &config::Peer, policies: &PolicyTable) -> bgp::PeerConfig {
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let mut made = bgp::PeerConfig::new(
        peer.address,
        match peer.asn {
            config::PeerAs::Number(number) => bgp::RemoteAs::Number(number),
            config::PeerAs::External => bgp::RemoteAs::External,
        },
    );
    made.port = peer.port;
    made.passive = peer.passive;
    made.advertise_learned = peer.advertise_learned;
    made.hold_time = peer.hold_time;
    made.send_hold_time = seconds(peer.send_hold_time);
    made.connect_retry = seconds(u32::from(peer.connect_retry));
    made.local_address = peer.local_address;
    made.password = peer
        .password
        .as_ref()
        .and_then(|password| bgp::Password::new(password.reveal()));
    made.distance = match (peer.ttl_security, peer.multihop) {
        (Some(hops), _) => bgp::Distance::Security(hops),
        (None, Some(hops)) => bgp::Distance::Multihop(hops),
        (None, None) => bgp::Distance::Usual,
    };
    made.graceful_restart = match peer.graceful_restart {
        config::GracefulRestart::Off => bgp::RestartMode::Off,
        config::GracefulRestart::Helper => bgp::RestartMode::Helper,
        config::GracefulRestart::Full => bgp::RestartMode::Full,
    };
    made.restart_time = peer.restart_time;
    made.stale_time = seconds(peer.stale_time);
    made.long_lived_stale_time = seconds(peer.long_lived_stale_time);
    made.role = peer.role.map(|role| match role {
        config::Role::Provider => bgp::Role::Provider,
        config::Role::RsServer => bgp::Role::RsServer,
        config::Role::RsClient => bgp::Role::RsClient,
        config::Role::Customer => bgp::Role::Customer,
        config::Role::Peer => bgp::Role::Peer,
    });
    made.strict_role = peer.strict_role;
    made.add_path = bgp::AddPath {
        receive: peer.add_path.receive,
        send: match peer.add_path.send {
            config::SendPaths::None => bgp::SendPaths::None,
            config::SendPaths::All => bgp::SendPaths::All,
            config::SendPaths::Best(most) => bgp::SendPaths::Best(most),
        },
    };
    made.bfd = peer.bfd.map(|bfd| bgp::bfd::session::Config {
        min_tx: Duration::from_millis(u64::from(bfd.min_tx_ms)),
        min_rx: Duration::from_millis(u64::from(bfd.min_rx_ms)),
        multiplier: bfd.multiplier,
    });
    made.families = peer
        .families
        .iter()
        .map(|family| match family {
            config::Family::Ipv4Unicast => bgp::Family::Ipv4Unicast,
            config::Family::Ipv6Unicast => bgp::Family::Ipv6Unicast,
            config::Family::L2vpnEvpn => bgp::Family::L2vpnEvpn,
        })
        .collect();
    made.import = policy(&peer.import, &peer.families, policies);
    made.export = policy(&peer.export, &peer.families, policies);
    made.max_prefixes = peer.max_prefixes.map(|limit| {
        let percent = u64::from(limit) * u64::from(peer.max_prefixes_warn) / 100;
        bgp::MaxPrefixes {
            limit,
            warn: u32::try_from(percent).unwrap_or(limit),
            restart: peer.max_prefixes_restart.map(seconds),
        }
    });
    made
}

/// The policy of a name. The check of the configuration has seen to it that there is one; without, nothing passes.
fn named(name: &str, policies: &PolicyTable) -> bgp::Policy {
    let program = policies.get(name);
    program.map_or(bgp::Policy::Deny, |program| bgp::Policy::Program(Arc::clone(program)))
}

fn policy(policy: &config::PeerPolicy, families: &[config::Family], policies: &PolicyTable) -> bgp::Policy {
    let of = |filter: &Option<Filter>| match filter {
        None => bgp::Policy::Unset,
        Some(Filter::Rules(rules)) => prefix_filter(rules),
        Some(Filter::Named(name)) => named(name, policies),
    };
    let evpn = families.contains(&config::Family::L2vpnEvpn);
    let same = !evpn || policy.l2vpn_evpn == policy.ipv4_unicast;
    if same && policy.ipv4_unicast == policy.ipv6_unicast {
        return of(&policy.ipv4_unicast);
    }
    bgp::Policy::PerFamily {
        ipv4: Box::new(of(&policy.ipv4_unicast)),
        ipv6: Box::new(of(&policy.ipv6_unicast)),
        evpn: Box::new(of(&policy.l2vpn_evpn)),
    }
}

/// The part of a VPC in EVPN.
fn evpn(config: &Config, bgp: &config::Bgp, vpc: &config::Vpc, policies: &PolicyTable) -> Option<bgp::EvpnVrf> {
    let (evpn, vxlan) = (vpc.evpn.as_ref()?, config.vxlan.as_ref()?);
    let config::Segment::Vxlan { vni, vteps } = &vpc.segment else {
        return None;
    };
    let sources = [
        (RouteSource::Connected, &evpn.redistribute_connected),
        (RouteSource::Static, &evpn.redistribute_static),
        (RouteSource::Kernel, &evpn.redistribute_kernel),
    ];
    let made = || RouteDistinguisher::automatic(bgp.router_id, vpc.id.value());
    Some(bgp::EvpnVrf {
        vrf: vpc.id.vrf(),
        name: vpc.name.clone(),
        rd: evpn.rd.unwrap_or_else(made),
        import: evpn.import_rt.clone(),
        export: evpn.export_rt.clone(),
        vni: *vni,
        vtep: vxlan.address,
        router_mac: vpc.mac,
        // Without endpoints to copy broadcasts to nothing is bridged.
        multicast: !vteps.is_empty() && !evpn.export_rt.is_empty(),
        announce: evpn.announce.clone(),
        redistribute: sources
            .into_iter()
            .filter_map(|(source, name)| Some((source, named(name.as_ref()?, policies))))
            .collect(),
    })
}

fn prefix_filter(filter: &config::PrefixFilter) -> bgp::Policy {
    let action = |action| match action {
        config::Action::Accept => bgp::Action::Accept,
        config::Action::Deny => bgp::Action::Deny,
    };
    if filter.rules.is_empty() {
        return match filter.default {
            config::Action::Accept => bgp::Policy::Accept,
            config::Action::Deny => bgp::Policy::Deny,
        };
    }
    let mut rules: Vec<bgp::PrefixRule> = filter
        .rules
        .iter()
        .map(|rule| bgp::PrefixRule {
            action: action(rule.action),
            prefix: rule.prefix,
            ge: Some(rule.ge),
            le: Some(rule.le),
        })
        .collect();
    // A prefix list ends in deny; another default is a last rule for each family.
    if filter.default == config::Action::Accept {
        for (prefix, longest) in [(Prefix::DEFAULT_V4, 32), (Prefix::DEFAULT_V6, 128)] {
            rules.push(bgp::PrefixRule {
                action: bgp::Action::Accept,
                prefix,
                ge: Some(0),
                le: Some(longest),
            });
        }
    }
    bgp::Policy::PrefixList(bgp::PrefixList { rules })
}

#[cfg(test)]
mod tests {
    use config::Candidate;

    use super::*;

    #[test]
    fn peers_get_the_policies_they_name_for_each_family() {
        let text = r#"
            gateway.name = "a"
            [[port]]
            name = "fabric"
            device = "net_tap0"
            [bgp]
            asn = 65001
            router-id = "192.0.2.1"
            policy = [{ name = "p", term = [{ name = "t", then = "accept" }] }]
            peer = [
                { address = "192.0.2.8", asn = 65000, import = "p", export = { ipv6-unicast = "p" } },
                { address = "192.0.2.10", asn = 65000, import = "p", families = ["ipv4-unicast", "l2vpn-evpn"], export = { l2vpn-evpn = "p" } },
                { address = "192.0.2.9", asn = "external", role = "rs-client", strict-role = true },
            ]
            unnumbered = [{ interface = "fabric", asn = "external" }]
        "#;
        let checked = Candidate::new("t", text).check().expect("valid");
        let speaker = speaker(checked.config()).expect("compiles").expect("configured");
        let program = || bgp::Policy::Program(Arc::clone(speaker.policies.get("p").expect("compiled")));
        assert_eq!(speaker.peers[0].import, program());
        let by_family = bgp::Policy::PerFamily {
            ipv4: Box::new(bgp::Policy::Unset),
            ipv6: Box::new(program()),
            evpn: Box::new(bgp::Policy::Unset),
        };
        assert_eq!(speaker.peers[0].export, by_family);
        assert_eq!(speaker.peers[1].import, bgp::Policy::Unset);
        let evpn = &speaker.peers[2];
        assert_eq!(
            (evpn.import.clone(), evpn.export.for_evpn().clone()),
            (program(), program())
        );
        assert_eq!(speaker.peers[1].remote_as, bgp::RemoteAs::External);
        assert_eq!(speaker.unnumbered[0].interface, "tp-fabric");
        let role = |i: usize| (speaker.peers[i].role, speaker.peers[i].strict_role);
        assert_eq!([role(0), role(1)], [(None, false), (Some(bgp::Role::RsClient), true)]);
    }
}
