//! `[bgp]`: our speaker and its peers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use net::Prefix;
use net::policy::Policies;
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
    /// The policy by which subnets of the gateway are announced; `None` announces none.
    pub redistribute_connected: Option<String>,
    /// The same for static routes.
    pub redistribute_static: Option<String>,
    /// The same for routes of the kernel.
    pub redistribute_kernel: Option<String>,
    /// Most equal-cost paths of a route from external peers; 1 or more.
    pub multipath: u16,
    /// Most seconds that a start waits for the tables of peers with [`GracefulRestart::Full`] before it announces anything;
    /// 0 does not wait.
    pub selection_deferral_time: u32,
    /// Most equal-cost paths of a route from internal peers; 1 or more.
    pub multipath_internal: u16,
    /// MED is compared between paths of different neighbour ASes too.
    pub always_compare_med: bool,
    /// The external path in use stays where only tie breaks speak for another (RFC 5004).
    pub prefer_oldest: bool,
    /// Peers are told of a learned route when the generation with it is published.
    pub advertise_installed: bool,
    /// Named sets and policies: `[[bgp.prefix-set]]`, `[[bgp.as-path-set]]`, `[[bgp.community-set]]`, `[[bgp.policy]]`.
    pub policies: Policies,
    /// `[[bgp.peer]]`, by address.
    pub peers: Vec<Peer>,
    /// `[[bgp.dynamic]]`, by prefix.
    pub dynamic: Vec<DynamicPeers>,
    /// `[[bgp.unnumbered]]`, by interface.
    pub unnumbered: Vec<UnnumberedPeer>,
    /// `[[bgp.bmp]]`, by collector.
    pub bmp: Vec<Bmp>,
    /// `[[bgp.rpki]]`, by cache.
    pub rpki: Vec<RpkiCache>,
}

/// `[[bgp.unnumbered]]`: the router at the other end of a port, known by its link-local address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnnumberedPeer {
    /// Name of the port.
    pub interface: String,
    /// What is true of the peer. Its address is `::`, and it has neither a password nor a local address.
    pub template: Peer,
}

/// Which AS a peer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerAs {
    /// This one.
    Number(u32),
    /// Any but ours.
    External,
}

impl PeerAs {
    /// The number, if it is given.
    pub const fn number(self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(number),
            Self::External => None,
        }
    }
}

/// `[[bgp.rpki]]`: a cache that says which AS may originate what (RFC 8210).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RpkiCache {
    /// Where it listens.
    pub cache: SocketAddr,
    /// Lower is preferred.
    pub preference: u8,
}

/// `[[bgp.bmp]]`: a collector that is told what peers announce (RFC 7854).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bmp {
    /// Where it listens.
    pub collector: SocketAddr,
    /// It is told routes as they come.
    pub pre_policy: bool,
    /// It is told routes as import policy leaves them.
    pub post_policy: bool,
    /// Seconds between statistics reports; 0 for none.
    pub statistics_interval: u32,
}

/// `[[bgp.dynamic]]`: peers that are known by a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DynamicPeers {
    /// Where they connect from.
    pub prefix: Prefix,
    /// Most of them at a time; 1 or more.
    pub limit: u32,
    /// What is true of each. Its address is that of the prefix, and it is passive.
    pub template: Peer,
}

/// `[[bgp.peer]]`: one session, what its `[[bgp.peer-group]]` says included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Peer {
    /// Its address, in the default VRF.
    pub address: IpAddr,
    /// Its autonomous system; the session is internal if it equals ours.
    pub asn: PeerAs,
    /// TCP port to connect to.
    pub port: u16,
    /// Address to connect from; `None` lets the kernel choose.
    pub local_address: Option<IpAddr>,
    /// Key of TCP MD5 signatures (RFC 2385).
    pub password: Option<Password>,
    /// Most hops to the peer by the TTL of what it sends (GTSM, RFC 5082).
    pub ttl_security: Option<u8>,
    /// Most hops to the peer by the TTL of what we send. Neither: an external peer is on the same link.
    pub multihop: Option<u8>,
    /// Never connects, only accepts.
    pub passive: bool,
    /// Is told what other external peers announce, too: the gateway is a transit to it.
    pub advertise_learned: bool,
    /// Hold time to offer, seconds: 0 (no keepalives) or 3 and more (RFC 4271 section 4.2).
    pub hold_time: u16,
    /// Seconds that the peer may take nothing of what we send (RFC 9687); more than the hold time.
    pub send_hold_time: u32,
    /// Seconds between attempts to connect.
    pub connect_retry: u16,
    /// Address families to negotiate; at least one.
    pub families: Vec<Family>,
    /// What is taken of what the peer announces.
    pub import: PeerPolicy,
    /// What is announced to the peer.
    pub export: PeerPolicy,
    /// Most prefixes that the peer may announce; `None` is no limit.
    pub max_prefixes: Option<u32>,
    /// Percents of `max_prefixes` from which on the log warns.
    pub max_prefixes_warn: u8,
    /// Seconds until a session that `max_prefixes` ended may come back; `None` is the usual pause.
    pub max_prefixes_restart: Option<u32>,
    /// Whose routes are kept while who restarts.
    pub graceful_restart: GracefulRestart,
    /// Seconds that the peer is asked to keep our routes while we restart.
    pub restart_time: u16,
    /// Most seconds that the peer's routes are kept while it restarts.
    pub stale_time: u32,
    /// Most seconds that they are kept after that as a last resort (RFC 9494), and for which the peer is asked to keep ours;
    /// 0 keeps nothing.
    pub long_lived_stale_time: u32,
    /// What we are to the peer (RFC 9234); external peers only.
    pub role: Option<Role>,
    /// The peer has to say its role too.
    pub strict_role: bool,
    /// BFD with the peer (RFC 5880, 5881).
    pub bfd: Option<Bfd>,
}

/// Role of a speaker towards its peer (RFC 9234 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// We give the peer transit.
    Provider,
    /// We are a route server that the peer uses.
    RsServer,
    /// We use the peer as route server.
    RsClient,
    /// We get transit from the peer.
    Customer,
    /// Both tell each other their own routes and their customers'.
    Peer,
}

/// `bfd = { … }` of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bfd {
    /// Milliseconds between two packets of ours, at least.
    pub min_tx_ms: u32,
    /// Milliseconds between two packets of the peer, at least.
    pub min_rx_ms: u32,
    /// Packets in a row that the peer misses before it takes us to be gone; 1 or more.
    pub multiplier: u8,
}

/// Graceful restart (RFC 4724) with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GracefulRestart {
    /// Not used.
    Off,
    /// The peer's routes are kept while it restarts.
    Helper,
    /// Also, the peer is asked to keep ours while we restart.
    Full,
}

/// A TCP MD5 key of 1 to 80 bytes. It is in the file and the store as it is, and never in a log.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Password(String);

impl Password {
    /// The key itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// A password has no bytes, or more than the kernel takes, or a character that no terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has 1 to 80 bytes and no control characters: use another")]
pub struct PasswordError;

impl FromStr for Password {
    type Err = PasswordError;

    fn from_str(text: &str) -> Result<Self, PasswordError> {
        if (1..=80).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PasswordError)
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// An address family of BGP (AFI and SAFI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
    /// AFI 25, SAFI 70.
    L2vpnEvpn,
}

/// Policy of a peer in one direction; none in a family lets nothing pass on an external session (RFC 8212), and
/// everything on an internal one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerPolicy {
    /// For IPv4 unicast.
    pub ipv4_unicast: Option<Filter>,
    /// For IPv6 unicast.
    pub ipv6_unicast: Option<Filter>,
    /// For EVPN; nothing for a peer that does not speak it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2vpn_evpn: Option<Filter>,
}

impl PeerPolicy {
    /// The same for every family.
    pub fn all(filter: Filter) -> Self {
        Self {
            ipv4_unicast: Some(filter.clone()),
            ipv6_unicast: Some(filter.clone()),
            l2vpn_evpn: Some(filter),
        }
    }

    /// The same for a peer of these families: without EVPN there is no policy for it.
    #[must_use]
    pub fn for_families(mut self, families: &[Family]) -> Self {
        self.l2vpn_evpn = self.l2vpn_evpn.filter(|_| families.contains(&Family::L2vpnEvpn));
        self
    }

    /// True if the file says it once for all families.
    pub fn is_one(&self) -> bool {
        let evpn = self.l2vpn_evpn.as_ref();
        self.ipv4_unicast == self.ipv6_unicast && evpn.is_none_or(|_| self.l2vpn_evpn == self.ipv4_unicast)
    }

    /// What there is, with the family that it is for.
    pub fn filters(&self) -> impl Iterator<Item = (Family, &Filter)> {
        let all = [
            (Family::Ipv4Unicast, &self.ipv4_unicast),
            (Family::Ipv6Unicast, &self.ipv6_unicast),
            (Family::L2vpnEvpn, &self.l2vpn_evpn),
        ];
        all.into_iter()
            .filter_map(|(family, filter)| Some((family, filter.as_ref()?)))
    }
}

/// What a peer's policy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// A `[[bgp.policy]]`, by name.
    Named(String),
    /// Rules of its own.
    Rules(PrefixFilter),
}

/// Rules over prefixes: the first that matches decides, else the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrefixFilter {
    /// Rules in the order of the file.
    pub rules: Vec<PrefixRule>,
    /// What happens to a prefix that no rule matches.
    pub default: Action,
}

impl PrefixFilter {
    /// Without rules.
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
    fn a_password_is_bounded_and_never_shown() {
        for wrong in ["", "tab\there", &"x".repeat(81)] {
            assert_eq!(wrong.parse::<Password>(), Err(PasswordError));
        }
        let right: Password = "s3cret".parse().expect("6 bytes");
        assert_eq!((right.reveal(), format!("{right:?}").as_str()), ("s3cret", "Password"));
    }

    #[test]
    fn first_matching_rule_decides() {
        let p = |s: &str| s.parse::<Prefix>().expect("valid");
        let rule = |prefix, ge, le, action| PrefixRule {
            prefix: p(prefix),
            ge,
            le,
            action,
        };
        let policy = PrefixFilter {
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
