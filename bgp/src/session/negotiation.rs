//! What two OPEN messages agree on, and what is wrong with the received one (RFC 4271 section 6.2).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Config;
use crate::wire::{Capabilities, Context, Notification, Open, code, open_error};

/// Result of the OPEN exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// AS of the peer.
    pub asn: u32,
    /// BGP identifier of the peer.
    pub router_id: Ipv4Addr,
    /// Hold time; zero means that neither side keeps alive.
    pub hold_time: Duration,
    /// Capabilities of both sides.
    pub capabilities: Capabilities,
    /// How UPDATEs are read and written.
    pub context: Context,
}

/// Checks the peer's OPEN against the configuration.
pub(super) fn negotiate(config: &Config, open: &Open) -> Result<Negotiated, Notification> {
    let error = |subcode| Notification::new(code::OPEN, subcode);
    if !config.remote_as.admits(open.asn, config.local_as) {
        return Err(error(open_error::BAD_PEER_AS));
    }
    // RFC 6286: identifiers are unique within an AS, not beyond.
    if open.router_id.is_unspecified() || (config.is_ibgp() && open.router_id == config.router_id) {
        return Err(error(open_error::BAD_IDENTIFIER));
    }
    if matches!(open.hold_time, 1 | 2) {
        return Err(error(open_error::HOLD_TIME));
    }
    if !roles_agree(config, &open.capabilities.roles) {
        return Err(error(open_error::ROLE));
    }
    let capabilities = config.capabilities.intersection(&open.capabilities);
    if capabilities.families.is_empty() {
        return Err(error(open_error::CAPABILITY).with_data(config.capabilities.multiprotocol_bytes()));
    }
    let context = Context {
        four_octet_as: capabilities.four_octet_as,
        ibgp: config.is_ibgp(),
        families: capabilities.families.clone(),
        ipv6_next_hop_for_ipv4: capabilities.ipv6_next_hop_for_ipv4,
        extended_messages: capabilities.extended_messages,
        add_path: capabilities.add_path.clone(),
    };
    let hold_time = Duration::from_secs(u64::from(open.hold_time.min(config.hold_time)));
    Ok(Negotiated {
        asn: open.asn,
        router_id: open.router_id,
        hold_time,
        capabilities,
        context,
    })
}

/// RFC 9234 section 4.2. A peer without a role is taken for the opposite of ours unless the session is strict.
fn roles_agree(config: &Config, theirs: &[u8]) -> bool {
    match (config.role, theirs) {
        (None, _) => true,
        (Some(_), []) => !config.strict_role,
        (Some(ours), [theirs]) => *theirs == ours.opposite().value(),
        // Several different ones.
        (Some(_), _) => false,
    }
}
