//! What a session offers: from the configuration of the speaker and of a peer to that of the state machine. And what the
//! tables have to know of the peer, once the session is established.

use crate::rib::{LocalAddresses, PeerInfo};
use crate::session::{Config, Negotiated};
use crate::wire::{AddPathFamily, Capabilities, GracefulRestart, LongLivedFamily, RestartFamily};
use crate::{Family, PeerConfig, RestartMode, Role, SendPaths, SpeakerConfig};

/// The session with `peer` as its state machine is to run it.
pub fn session_config(speaker: &SpeakerConfig, peer: &PeerConfig) -> Config {
    let mut families = peer.families.clone();
    families.sort_unstable();
    families.dedup();
    Config {
        local_as: speaker.asn,
        remote_as: peer.remote_as,
        router_id: speaker.router_id,
        hold_time: peer.hold_time,
        connect_retry: peer.connect_retry,
        passive: peer.passive,
        capabilities: Capabilities {
            ipv6_next_hop_for_ipv4: families.contains(&Family::Ipv4Unicast),
            graceful_restart: graceful_restart(peer, &families),
            long_lived: long_lived(peer, &families),
            add_path: add_path(peer, &families),
            families,
            route_refresh: true,
            enhanced_route_refresh: true,
            extended_messages: true,
            four_octet_as: true,
            roles: peer.role.map(Role::value).into_iter().collect(),
        },
        role: peer.role,
        strict_role: peer.strict_role,
        stale_time: peer.stale_time,
        long_lived_time: peer.long_lived_stale_time,
        signed: peer.password.is_some(),
        send_hold_time: peer.send_hold_time,
    }
}

/// Nothing of add-path at all if it is not wanted in any direction.
fn add_path(peer: &PeerConfig, families: &[Family]) -> Vec<AddPathFamily> {
    let (receive, send) = (peer.add_path.receive, peer.add_path.send != SendPaths::None);
    let entry = |family: &Family| AddPathFamily {
        family: *family,
        receive,
        send,
    };
    let unicast = families.iter().filter(|family| Family::UNICAST.contains(family));
    unicast.filter(|_| receive || send).map(entry).collect()
}

/// The peer as the tables have to know it, after the OPENs have said what they agree on; `local` are our addresses towards
/// it.
pub fn peer_info(config: &PeerConfig, ebgp: bool, negotiated: &Negotiated, local: LocalAddresses) -> PeerInfo {
    PeerInfo {
        address: config.address,
        asn: negotiated.asn,
        ebgp,
        router_id: negotiated.router_id,
        interface: config.interface,
        context: negotiated.context.clone(),
        enhanced_refresh: negotiated.capabilities.enhanced_route_refresh,
        long_lived: negotiated.capabilities.long_lived.is_some(),
        preserved: negotiated
            .capabilities
            .graceful_restart
            .iter()
            .flat_map(GracefulRestart::preserved)
            .collect(),
        import: config.import.clone(),
        export: config.export.clone(),
        advertise_learned: config.advertise_learned,
        enforce_first_as: config.enforce_first_as,
        role: config.role,
        max_prefixes: config.max_prefixes.map(|max| max.limit),
        send_paths: config.add_path.send,
        local,
    }
}

/// What the first OPEN says: a speaker that starts has restarted, and its forwarding began anew.
fn graceful_restart(peer: &PeerConfig, families: &[Family]) -> Option<GracefulRestart> {
    let kept = match peer.graceful_restart {
        RestartMode::Off => return None,
        RestartMode::Helper => &[],
        RestartMode::Full => families,
    };
    let entry = |family: &Family| RestartFamily {
        family: *family,
        forwarding: false,
    };
    Some(GracefulRestart {
        restarting: peer.graceful_restart == RestartMode::Full,
        notification: true,
        restart_time: peer.restart_time,
        families: kept.iter().map(entry).collect(),
    })
}

/// The same for long-lived graceful restart (RFC 9494).
fn long_lived(peer: &PeerConfig, families: &[Family]) -> Option<Vec<LongLivedFamily>> {
    let kept = match peer.graceful_restart {
        RestartMode::Off => return None,
        RestartMode::Helper => &[],
        RestartMode::Full => families,
    };
    let stale_time = u32::try_from(peer.long_lived_stale_time.as_secs()).unwrap_or(u32::MAX);
    let entry = |family: &Family| LongLivedFamily {
        family: *family,
        forwarding: false,
        stale_time,
    };
    (stale_time > 0).then(|| kept.iter().map(entry).collect())
}
