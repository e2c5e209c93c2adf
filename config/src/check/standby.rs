//! The other gateway of a pair is another one, and has an address.

use std::net::{IpAddr, SocketAddr};

use super::Findings;
use super::limits::{invalid, within};
use crate::model::Config;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let Some(standby) = &config.standby else { return };
    if let Some(peer) = standby.peer {
        within(findings, "standby.peer", peer.port(), 1..=u16::MAX);
        other_host(config, "standby.peer", peer.ip(), findings);
    }
    if let Some(listen) = &standby.listen {
        within(findings, "standby.listen", listen.address.port(), 1..=u16::MAX);
        other_host(config, "standby.primary", listen.primary, findings);
        if listen.address.is_ipv4() != listen.primary.is_ipv4() && !is_dual(listen.address) {
            let reason = format!("{} cannot be reached from {}", listen.address.ip(), listen.primary);
            invalid(findings, "standby.primary", reason, "an address of the same family");
        }
    }
}

/// True if IPv4 hosts are heard there as well.
fn is_dual(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn other_host(config: &Config, path: &str, address: IpAddr, findings: &mut Findings) {
    let own = config.ports.iter().flat_map(|port| &port.addresses);
    let reason = match address {
        _ if address.is_unspecified() || address.is_multicast() => format!("{address} is no gateway"),
        _ if own.into_iter().any(|net| net.addr() == address) => format!("{address} is this gateway itself"),
        _ => return,
    };
    invalid(findings, path, reason, "the address of the other gateway");
}
