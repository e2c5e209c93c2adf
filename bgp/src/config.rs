//! What a speaker is told to be. Plain data: two configurations compare equal when nothing has to change.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use net::policy::RouteSource;
use net::{IfIndex, Prefix, VrfId};

use crate::bfd;
use crate::bmp::BmpConfig;
use crate::policy::{Policy, PolicyTable};
use crate::rib::Rules;
use crate::rpki::CacheConfig;
use crate::{Error, EvpnVrf, Family, Role};

/// TCP port of BGP (RFC 4271 section 3).
pub const DEFAULT_PORT: u16 = 179;
/// The field of the capability has 12 bits (RFC 4724 section 3).
const RESTART_TIME_MAX: u16 = 4095;
/// The field of the capability has 24 bits (RFC 9494 section 3).
const LONG_LIVED_TIME_MAX: u32 = 0x00ff_ffff;
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
    /// After a start: longest wait for the tables of the peers with [`RestartMode::Full`] before anything is announced
    /// (RFC 4724 section 4.1); zero announces at once.
    pub selection_deferral: Duration,
    /// What to announce of the owner's routes of other sources ([`crate::Feedback::Offers`]): a policy for each source.
    pub redistribute: BTreeMap<RouteSource, Policy>,
    /// The VRFs that take part in EVPN.
    pub evpn: Vec<EvpnVrf>,
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
    /// Neighbours without configured addresses.
    pub unnumbered: Vec<UnnumberedPeer>,
    /// Who is told what peers announce, over BMP.
    pub bmp: Vec<BmpConfig>,
    /// Who says which AS may originate what.
    pub rpki: Vec<CacheConfig>,
    /// What collectors know the speaker by.
    pub name: String,
}

/// The router at the other end of an interface, whose link-local address its router advertisements tell (RFC 4861): it is
/// a peer from then on. This speaker advertises itself there, as no default router, so that the other learns ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnumberedPeer {
    /// Kernel interface; it need not be there yet.
    pub interface: String,
    /// What is true of the peer, but for the address.
    pub template: PeerConfig,
}

impl UnnumberedPeer {
    /// The peer at `address`, on the interface with this index.
    pub fn peer(&self, address: Ipv6Addr, index: IfIndex) -> PeerConfig {
        PeerConfig {
            address: IpAddr::V6(address),
            interface: Some(index),
            ..self.template.clone()
        }
    }
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

/// Which AS a peer may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAs {
    /// This one.
    Number(u32),
    /// Any but our own.
    External,
}

impl RemoteAs {
    /// True if a peer of `asn` is the one meant, seen from a speaker of `local_as`.
    pub const fn admits(self, asn: u32, local_as: u32) -> bool {
        match self {
            Self::Number(number) => number == asn,
            Self::External => asn != local_as && asn != 0,
        }
    }

    /// True for a peer within the AS of a speaker of `local_as`.
    pub const fn is_internal(self, local_as: u32) -> bool {
        matches!(self, Self::Number(number) if number == local_as)
    }

    /// The AS if it is known from the start.
    pub const fn number(self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(number),
            Self::External => None,
        }
    }
}

impl From<u32> for RemoteAs {
    fn from(number: u32) -> Self {
        Self::Number(number)
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

impl Distance {
    /// Lowest TTL that a segment of the peer may have.
    pub(crate) const fn lowest_ttl(self) -> u8 {
        match self {
            // One hop away, nothing has lowered it.
            Self::Security(hops) => u8::MAX - hops.saturating_sub(1),
            Self::Usual | Self::Multihop(_) => 0,
        }
    }
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
    pub remote_as: RemoteAs,
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
    /// Longest time that they are kept after that as a last resort, and that the peer is asked to keep ours (RFC 9494);
    /// zero, or no graceful restart, keeps nothing.
    pub long_lived_stale_time: Duration,
    /// What this speaker is to the peer, so that route leaks stop here (RFC 9234); external peers only.
    pub role: Option<Role>,
    /// The peer has to say its role too. Off: one that says nothing is taken for the opposite.
    pub strict_role: bool,
    /// BFD with the peer: when it says that the peer is not reached any more, the session ends.
    pub bfd: Option<bfd::session::Config>,
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
            selection_deferral: Duration::from_secs(60),
            redistribute: BTreeMap::new(),
            evpn: Vec::new(),
            rules: Rules::default(),
            track_next_hops: false,
            advertise_installed: false,
            policies: PolicyTable::default(),
            peers: Vec::new(),
            dynamic: Vec::new(),
            unnumbered: Vec::new(),
            bmp: Vec::new(),
            rpki: Vec::new(),
            name: String::new(),
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
            peer.check(self.asn)?;
        }
        let mut distinguishers = HashSet::new();
        let mut vrfs = HashSet::new();
        for vrf in &self.evpn {
            if vrf.vrf == self.vrf || !vrfs.insert(vrf.vrf) {
                return Err(Error::EvpnVrf(vrf.name.clone()));
            }
            if !distinguishers.insert(vrf.rd) {
                return Err(Error::DuplicateDistinguisher(vrf.rd));
            }
        }
        let mut caches = HashSet::new();
        if let Some(twice) = self.rpki.iter().find(|cache| !caches.insert(cache.cache)) {
            return Err(Error::DuplicateCache(twice.cache));
        }
        let mut collectors = HashSet::new();
        for bmp in &self.bmp {
            if !collectors.insert(bmp.collector) {
                return Err(Error::DuplicateCollector(bmp.collector));
            }
            if !bmp.pre_policy && !bmp.post_policy {
                return Err(Error::IdleCollector(bmp.collector));
            }
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
            dynamic.peer(range.net().network()).check(self.asn)?;
        }
        let mut interfaces = HashSet::new();
        for unnumbered in &self.unnumbered {
            let interface = || unnumbered.interface.clone();
            if !interfaces.insert(&unnumbered.interface) {
                return Err(Error::DuplicateInterface(interface()));
            }
            if unnumbered.template.password.is_some() {
                return Err(Error::UnnumberedPassword(interface()));
            }
            let somewhere = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            unnumbered.peer(somewhere, IfIndex(0)).check(self.asn)?;
        }
        Ok(())
    }
}

impl PeerConfig {
    /// A peer with the defaults: both unicast families, hold time 90 s, retries at most 10 s apart, no policy (which on
    /// an external session accepts and announces nothing, RFC 8212).
    pub fn new(address: IpAddr, remote_as: impl Into<RemoteAs>) -> Self {
        Self {
            address,
            remote_as: remote_as.into(),
            port: DEFAULT_PORT,
            local_address: None,
            password: None,
            distance: Distance::default(),
            interface: None,
            passive: false,
            hold_time: 90,
            send_hold_time: Duration::from_secs(480),
            connect_retry: Duration::from_secs(10),
            families: Family::UNICAST.to_vec(),
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
            long_lived_stale_time: Duration::ZERO,
            role: None,
            strict_role: false,
            bfd: None,
            description: String::new(),
        }
    }

    /// True if the session need not restart to become what `other` says: policies and BFD may differ.
    pub(crate) fn same_session(&self, other: &Self) -> bool {
        let without_policy = |config: &Self| Self {
            import: Policy::Unset,
            export: Policy::Unset,
            bfd: None,
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

    fn check(&self, local_as: u32) -> Result<(), Error> {
        let peer = self.address;
        if self.role.is_some() && self.remote_as.is_internal(local_as) {
            return Err(Error::RoleInside(peer));
        }
        if self.strict_role && self.role.is_none() {
            return Err(Error::StrictRole(peer));
        }
        if let RemoteAs::Number(number) = self.remote_as {
            check_as(number, || format!("peer {peer}"))?;
        }
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
        if let Some(bfd) = &self.bfd {
            if bfd.min_tx.is_zero() || bfd.min_rx.is_zero() || bfd.multiplier == 0 {
                return Err(Error::Bfd(peer));
            }
            if matches!(self.distance, Distance::Multihop(hops) | Distance::Security(hops) if hops > 1) {
                return Err(Error::BfdDistance(peer));
            }
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
        if self.long_lived_stale_time.as_secs() > u64::from(LONG_LIVED_TIME_MAX) {
            return Err(Error::LongLivedStaleTime(peer));
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
        assert!(matches!(
            with_peer(|p| p.remote_as = 0.into()),
            Err(Error::ReservedAs { .. })
        ));
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
            with_peer(|p| p.long_lived_stale_time = seconds(1 << 24)),
            Err(Error::LongLivedStaleTime(_))
        ));
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
        let silent = bfd::session::Config {
            multiplier: 0,
            ..bfd::session::Config::default()
        };
        assert!(matches!(with_peer(|p| p.bfd = Some(silent)), Err(Error::Bfd(_))));
        assert!(matches!(
            with_peer(|p| {
                p.bfd = Some(bfd::session::Config::default());
                p.distance = Distance::Multihop(2);
            }),
            Err(Error::BfdDistance(_))
        ));
        assert!(matches!(
            with_peer(|p| (p.remote_as, p.role) = (65000.into(), Some(Role::Peer))),
            Err(Error::RoleInside(_))
        ));
        assert!(matches!(with_peer(|p| p.strict_role = true), Err(Error::StrictRole(_))));
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
                .and_then(|dynamic| dynamic.peer(address).remote_as.number())
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
