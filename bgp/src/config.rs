//! What a speaker is told to be. Plain data: two configurations compare equal when nothing has to change.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use net::policy::RouteSource;
use net::{IfIndex, Prefix, VrfId};

use crate::policy::{Policy, PolicyTable};
use crate::rib::Rules;
use crate::{Error, Family};

/// TCP port of BGP (RFC 4271 section 3).
pub const DEFAULT_PORT: u16 = 179;
/// The field of the capability has 12 bits (RFC 4724 section 3).
const RESTART_TIME_MAX: u16 = 4095;
/// Stands for a 4-octet AS in 2-octet fields (RFC 6793 section 9).
const AS_TRANS: u32 = 23456;

/// The speaker as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Own AS number.
    pub asn: u32,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// VRF that learned routes belong to.
    pub vrf: VrfId,
    /// Addresses to accept connections on; empty means that the speaker only connects. `[::]:179` takes IPv4 too.
    pub listen: Vec<SocketAddr>,
    /// Prefixes to announce as ours.
    pub originate: Vec<Prefix>,
    /// What to announce of the owner's routes of other sources ([`crate::Feedback::Offers`]): a policy for each source.
    pub redistribute: BTreeMap<RouteSource, Policy>,
    /// What is chosen of the decision process.
    pub rules: Rules,
    /// The owner is asked which next hops are reachable ([`crate::Event::NextHops`]) and how far they are; else all are
    /// taken to be reachable and equally far.
    pub track_next_hops: bool,
    /// Peers are told of a route when the owner has said that it forwards by it ([`crate::Feedback::Carried`]).
    pub advertise_installed: bool,
    /// Every named policy, for dry runs; peers hold those they use.
    pub policies: PolicyTable,
    /// Whom to speak with.
    pub peers: Vec<PeerConfig>,
    /// Who else may connect.
    pub dynamic: Vec<DynamicPeers>,
}

/// Peers that are known by a range of addresses alone: each is there from the moment that it connects until its session
/// has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicPeers {
    /// The addresses; of several ranges that hold one, the longest counts.
    pub range: Prefix,
    /// Most of them at a time.
    pub limit: u32,
    /// What is true of each, but for the address.
    pub template: PeerConfig,
}

impl DynamicPeers {
    /// The peer at `address`.
    pub fn peer(&self, address: IpAddr) -> PeerConfig {
        PeerConfig {
            address,
            passive: true,
            ..self.template.clone()
        }
    }
}

/// The key of TCP MD5 signatures (RFC 2385): 1 to 80 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Longest that Linux takes, bytes.
    pub const LONGEST: usize = 80;

    /// Checks the length; `None` if it is empty or too long.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (1..=Self::LONGEST).contains(&text.len()).then_some(Self(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not shown: configurations end in logs.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// How far away a peer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// On the same link if it is external; anywhere if it is internal.
    #[default]
    Usual,
    /// At most this many hops, by the TTL of what we send. Not 0.
    Multihop(u8),
    /// At most this many hops, by the TTL of what we receive (GTSM, RFC 5082): the peer has to send with 255. Not 0.
    Security(u8),
}

/// How many prefixes a peer may announce, and what happens when it announces more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// More end the session (Cease, Maximum Number of Prefixes Reached).
    pub limit: u32,
    /// As many are worth a warning in the log; at most the limit.
    pub warn: u32,
    /// Pause before the session may come back; `None` is the usual one, which grows with each failure.
    pub restart: Option<Duration>,
}

/// What graceful restart (RFC 4724, 8538) is used for with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartMode {
    /// Nothing: a session that ends takes its routes along at once.
    Off,
    /// The peer's routes are kept while it restarts.
    #[default]
    Helper,
    /// That, and the peer is asked to keep ours while this speaker restarts.
    Full,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its address; also the only address it may connect from.
    pub address: IpAddr,
    /// Its AS number; equal to our own for an internal peer.
    pub remote_as: u32,
    /// TCP port to connect to.
    pub port: u16,
    /// Address to connect from; `None` lets the kernel choose.
    pub local_address: Option<IpAddr>,
    /// Key of the signatures of every segment to and from the peer.
    pub password: Option<Password>,
    /// How far away it may be.
    pub distance: Distance,
    /// Kernel interface that the peer is on: gives its link-local addresses their meaning.
    pub interface: Option<IfIndex>,
    /// Never connect, only accept.
    pub passive: bool,
    /// Hold time to propose, seconds: 0 (no keepalives) or 3 and more.
    pub hold_time: u16,
    /// Longest time that the peer may take nothing of what is to be sent (RFC 9687); above the hold time.
    pub send_hold_time: Duration,
    /// Longest pause between two connection attempts; pauses grow from one second to this.
    pub connect_retry: Duration,
    /// Families to offer.
    pub families: Vec<Family>,
    /// What to take from the peer.
    pub import: Policy,
    /// What to tell the peer.
    pub export: Policy,
    /// Announce routes learned from other external peers as well. Off: the gateway is not a transit.
    pub advertise_learned: bool,
    /// Refuse routes of an external peer whose AS path does not begin with its AS.
    pub enforce_first_as: bool,
    /// IPv4 next hop to announce; `None` takes an address of the session's interface.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// IPv6 next hop to announce; `None` takes an address of the session's interface.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// Most prefixes to take from the peer.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Whose routes are kept over a restart.
    pub graceful_restart: RestartMode,
    /// Restart time to announce, seconds: how long the peer is asked to keep our routes; at most 4095.
    pub restart_time: u16,
    /// Longest time that routes of the peer are kept: until it is back, and again until it has told them anew.
    pub stale_time: Duration,
    /// Free text for people.
    pub description: String,
}

impl SpeakerConfig {
    /// A speaker without peers, listeners and prefixes, in the default VRF.
    pub fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            vrf: VrfId::DEFAULT,
            listen: Vec::new(),
            originate: Vec::new(),
            redistribute: BTreeMap::new(),
            rules: Rules::default(),
            track_next_hops: false,
            advertise_installed: false,
            policies: PolicyTable::default(),
            peers: Vec::new(),
            dynamic: Vec::new(),
        }
    }

    /// The range that a peer at `address`, which is not configured by itself, belongs to.
    pub fn dynamic_at(&self, address: IpAddr) -> Option<&DynamicPeers> {
        let host = Prefix::host(address);
        self.dynamic
            .iter()
            .filter(|dynamic| dynamic.range.covers(&host))
            .max_by_key(|dynamic| dynamic.range.len())
    }

    /// Refuses what cannot work, naming the object and the remedy.
    ///
    /// # Errors
    /// The first problem found.
    pub fn check(&self) -> Result<(), Error> {
        check_as(self.asn, || "this speaker".to_owned())?;
        if self.router_id.is_unspecified() {
            return Err(Error::RouterId);
        }
        let mut seen = HashSet::new();
        for peer in &self.peers {
            if !seen.insert(peer.address) {
                return Err(Error::DuplicatePeer(peer.address));
            }
            peer.check_address()?;
            peer.check()?;
        }
        let mut ranges = HashSet::new();
        for dynamic in &self.dynamic {
            let range = dynamic.range;
            if !ranges.insert(range) {
                return Err(Error::DuplicateRange(range));
            }
            if dynamic.limit == 0 {
                return Err(Error::DynamicLimit(range));
            }
            dynamic.peer(range.net().network()).check()?;
        }
        Ok(())
    }
}

impl PeerConfig {
    /// A peer with the defaults: both unicast families, hold time 90 s, retries at most 10 s apart, no policy (which on
    /// an external session accepts and announces nothing, RFC 8212).
    pub fn new(address: IpAddr, remote_as: u32) -> Self {
        Self {
            address,
            remote_as,
            port: DEFAULT_PORT,
            local_address: None,
            password: None,
            distance: Distance::default(),
            interface: None,
            passive: false,
            hold_time: 90,
            send_hold_time: Duration::from_secs(480),
            connect_retry: Duration::from_secs(10),
            families: Family::ALL.to_vec(),
            import: Policy::Unset,
            export: Policy::Unset,
            advertise_learned: false,
            enforce_first_as: true,
            next_hop_v4: None,
            next_hop_v6: None,
            max_prefixes: None,
            graceful_restart: RestartMode::default(),
            restart_time: 120,
            stale_time: Duration::from_secs(360),
            description: String::new(),
        }
    }

    /// True if the session need not restart to become what `other` says: policies may differ.
    pub(crate) fn same_session(&self, other: &Self) -> bool {
        let without_policy = |config: &Self| Self {
            import: Policy::Unset,
            export: Policy::Unset,
            ..config.clone()
        };
        without_policy(self) == without_policy(other)
    }

    fn check_address(&self) -> Result<(), Error> {
        let peer = self.address;
        if peer.is_unspecified() || peer.is_multicast() || matches!(peer, IpAddr::V4(v4) if v4.is_broadcast()) {
            return Err(Error::PeerAddress(peer));
        }
        if matches!(peer, IpAddr::V6(v6) if v6.is_unicast_link_local()) && self.interface.is_none() {
            return Err(Error::PeerInterface(peer));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let peer = self.address;
        check_as(self.remote_as, || format!("peer {peer}"))?;
        if matches!(self.hold_time, 1 | 2) {
            return Err(Error::HoldTime {
                peer,
                seconds: self.hold_time,
            });
        }
        if self.send_hold_time <= Duration::from_secs(u64::from(self.hold_time)) {
            return Err(Error::SendHoldTime(peer));
        }
        if self.max_prefixes.is_some_and(|max| max.warn > max.limit) {
            return Err(Error::MaxPrefixes(peer));
        }
        if matches!(self.distance, Distance::Multihop(0) | Distance::Security(0)) {
            return Err(Error::Distance(peer));
        }
        if self.connect_retry < Duration::from_secs(1) {
            return Err(Error::ConnectRetry(peer));
        }
        if self.restart_time > RESTART_TIME_MAX {
            return Err(Error::RestartTime {
                peer,
                seconds: self.restart_time,
            });
        }
        if self.families.is_empty() {
            return Err(Error::NoFamily(peer));
        }
        if let Some(local) = self.local_address
            && local.is_ipv4() != peer.is_ipv4()
        {
            return Err(Error::LocalAddress { peer, local });
        }
        for policy in [&self.import, &self.export] {
            if let Some(rule) = policy.empty_rule() {
                return Err(Error::PrefixRule {
                    peer,
                    rule: rule.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn check_as(asn: u32, of: impl FnOnce() -> String) -> Result<(), Error> {
    if asn == 0 || asn == AS_TRANS || asn == u32::MAX || asn == u32::from(u16::MAX) {
        Err(Error::ReservedAs { asn, of: of() })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, PrefixList, PrefixRule};

    fn with_peer(edit: impl FnOnce(&mut PeerConfig)) -> Result<(), Error> {
        let mut config = SpeakerConfig::new(65000, Ipv4Addr::new(192, 0, 2, 1));
        let mut peer = PeerConfig::new("192.0.2.2".parse().expect("address"), 65001);
        edit(&mut peer);
        config.peers.push(peer);
        config.check()
    }

    #[test]
    fn defaults_are_valid() {
        assert!(with_peer(|_| ()).is_ok());
    }

    #[test]
    fn each_mistake_is_refused_by_name() {
        assert!(matches!(with_peer(|p| p.remote_as = 0), Err(Error::ReservedAs { .. })));
        assert!(matches!(
            with_peer(|p| p.hold_time = 2),
            Err(Error::HoldTime { seconds: 2, .. })
        ));
        assert!(matches!(
            with_peer(|p| p.restart_time = 4096),
            Err(Error::RestartTime { seconds: 4096, .. })
        ));
        let seconds = Duration::from_secs;
        assert!(matches!(
            with_peer(|p| p.send_hold_time = seconds(90)),
            Err(Error::SendHoldTime(_))
        ));
        let max = MaxPrefixes {
            limit: 10,
            warn: 11,
            restart: None,
        };
        assert!(matches!(
            with_peer(|p| p.max_prefixes = Some(max)),
            Err(Error::MaxPrefixes(_))
        ));
        for distance in [Distance::Multihop(0), Distance::Security(0)] {
            assert!(matches!(with_peer(|p| p.distance = distance), Err(Error::Distance(_))));
        }
        assert!(matches!(with_peer(|p| p.families.clear()), Err(Error::NoFamily(_))));
        assert!(matches!(
            with_peer(|p| p.connect_retry = Duration::ZERO),
            Err(Error::ConnectRetry(_))
        ));
        assert!(matches!(
            with_peer(|p| p.address = "224.0.0.5".parse().expect("ip")),
            Err(Error::PeerAddress(_))
        ));
        assert!(matches!(
            with_peer(|p| p.address = "fe80::1".parse().expect("ip")),
            Err(Error::PeerInterface(_))
        ));
        assert!(matches!(
            with_peer(|p| p.local_address = Some("2001:db8::1".parse().expect("ip"))),
            Err(Error::LocalAddress { .. })
        ));
        let rule = PrefixRule {
            action: Action::Accept,
            prefix: "10.0.0.0/8".parse().expect("prefix"),
            ge: Some(25),
            le: Some(24),
        };
        let list = Policy::PrefixList(PrefixList { rules: vec![rule] });
        assert!(matches!(with_peer(|p| p.import = list), Err(Error::PrefixRule { .. })));
    }

    #[test]
    fn a_password_has_1_to_80_bytes_and_is_never_shown() {
        assert_eq!(Password::new(""), None);
        assert_eq!(Password::new("x".repeat(81)), None);
        let password = Password::new("x".repeat(80)).expect("80 bytes");
        assert_eq!(format!("{password:?}"), "Password");
    }

    #[test]
    fn the_longest_range_counts_and_each_is_checked() {
        let dynamic = |range: &str, limit, asn| DynamicPeers {
            range: range.parse().expect("prefix"),
            limit,
            template: PeerConfig::new(Ipv4Addr::UNSPECIFIED.into(), asn),
        };
        let with = |dynamic: &[DynamicPeers]| SpeakerConfig {
            dynamic: dynamic.to_vec(),
            ..SpeakerConfig::new(65000, Ipv4Addr::new(192, 0, 2, 1))
        };
        let config = with(&[dynamic("0.0.0.0/0", 1, 65001), dynamic("10.0.0.0/8", 1, 65002)]);
        assert!(config.check().is_ok());
        let at = |address: &str| {
            let address = address.parse().expect("ip");
            config
                .dynamic_at(address)
                .map(|dynamic| dynamic.peer(address).remote_as)
        };
        assert_eq!(
            [at("10.1.2.3"), at("192.0.2.9"), at("2001:db8::1")],
            [Some(65002), Some(65001), None]
        );
        let twice = with(&[dynamic("10.0.0.0/8", 1, 65001), dynamic("10.0.0.0/8", 2, 65001)]);
        assert!(matches!(twice.check(), Err(Error::DuplicateRange(_))));
        let none = with(&[dynamic("10.0.0.0/8", 0, 65001)]);
        assert!(matches!(none.check(), Err(Error::DynamicLimit(_))));
        let reserved = with(&[dynamic("10.0.0.0/8", 1, 0)]);
        assert!(matches!(reserved.check(), Err(Error::ReservedAs { .. })));
    }

    #[test]
    fn one_address_twice_is_refused() {
        let mut config = SpeakerConfig::new(65000, Ipv4Addr::new(192, 0, 2, 1));
        let peer = PeerConfig::new("192.0.2.2".parse().expect("address"), 65001);
        config.peers = vec![peer.clone(), peer];
        assert!(matches!(config.check(), Err(Error::DuplicatePeer(_))));
    }
}
