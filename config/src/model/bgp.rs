//! `[bgp]`: our speaker and its peers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use net::Prefix;
use serde::Serialize;

/// `[bgp]`: our speaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bgp {
    /// Our autonomous system; never 0.
    pub asn: u32,
    /// Our BGP identifier; never 0.0.0.0 (RFC 6286).
    pub router_id: Ipv4Addr,
    /// Sockets to accept sessions on; empty accepts none.
    pub listen: Vec<SocketAddr>,
    /// Prefixes that we originate.
    pub announce: Vec<Prefix>,
    /// Most equal-cost paths of a route; 1 or more.
    pub multipath: u16,
    /// `[[bgp.peer]]`, by address.
    pub peers: Vec<Peer>,
}

/// `[[bgp.peer]]`: one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Peer {
    /// Its address, in the default VRF.
    pub address: IpAddr,
    /// Its autonomous system; the session is internal if it equals ours.
    pub asn: u32,
    /// TCP port to connect to.
    pub port: u16,
    /// Never connects, only accepts.
    pub passive: bool,
    /// Hold time to offer, seconds: 0 (no keepalives) or 3 and more (RFC 4271 section 4.2).
    pub hold_time: u16,
    /// Seconds between attempts to connect.
    pub connect_retry: u16,
    /// Address families to negotiate; at least one.
    pub families: Vec<Family>,
    /// What is taken of what the peer announces.
    pub import: Policy,
    /// What is announced to the peer.
    pub export: Policy,
    /// Most prefixes that the peer may announce; `None` is no limit.
    pub max_prefixes: Option<u32>,
}

/// An address family of BGP (AFI and SAFI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

/// A prefix policy: the first rule that matches decides, else the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Rules in the order of the file.
    pub rules: Vec<PrefixRule>,
    /// What happens to a prefix that no rule matches.
    pub default: Action,
}

impl Policy {
    /// A policy without rules.
    pub const fn all(default: Action) -> Self {
        Self {
            rules: Vec::new(),
            default,
        }
    }

    /// What the policy says about `prefix`.
    pub fn decide(&self, prefix: &Prefix) -> Action {
        self.rules
            .iter()
            .find(|rule| rule.matches(prefix))
            .map_or(self.default, |rule| rule.action)
    }
}

/// One rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrefixRule {
    /// Matches prefixes that lie in this one…
    pub prefix: Prefix,
    /// …and are at least this long…
    pub ge: u8,
    /// …and at most this long.
    pub le: u8,
    /// What happens to them.
    pub action: Action,
}

impl PrefixRule {
    /// True if the rule applies to `prefix`.
    pub fn matches(&self, prefix: &Prefix) -> bool {
        self.prefix.covers(prefix) && (self.ge..=self.le).contains(&prefix.len())
    }
}

/// What a policy does with a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Taken or announced.
    Accept,
    /// Ignored or withheld.
    Deny,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_matching_rule_decides() {
        let p = |s: &str| s.parse::<Prefix>().expect("valid");
        let rule = |prefix, ge, le, action| PrefixRule {
            prefix: p(prefix),
            ge,
            le,
            action,
        };
        let policy = Policy {
            rules: vec![
                rule("10.1.0.0/16", 16, 24, Action::Deny),
                rule("10.0.0.0/8", 8, 32, Action::Accept),
            ],
            default: Action::Deny,
        };
        assert_eq!(policy.decide(&p("10.1.2.0/24")), Action::Deny);
        assert_eq!(policy.decide(&p("10.1.2.0/25")), Action::Accept);
        assert_eq!(policy.decide(&p("10.0.0.0/8")), Action::Accept);
        assert_eq!(policy.decide(&p("0.0.0.0/0")), Action::Deny);
        assert_eq!(policy.decide(&p("2001:db8::/32")), Action::Deny);
    }
}
