//! What an operator asks of NAT, as written, and what can be wrong with it.

use std::net::IpAddr;

use net::{IpNet, Ipv6Net, VpcId, protocol};

use crate::entry::ConnectionState;
use crate::npt::Npt;

/// Source NAT of a VPC to a pool of public addresses, ports translated.
///
/// Applies to a packet of the VPC whose route leads into the default VRF. All addresses are of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    /// VPC whose packets are translated.
    pub vpc: VpcId,
    /// Sources that are translated; empty for any of the pool's family.
    pub sources: Vec<IpNet>,
    /// Public addresses. One subscriber keeps to one of them while that has ports.
    pub pool: Vec<IpAddr>,
    /// First and last public port (and echo identifier).
    pub ports: (u16, u16),
    /// How ports are chosen, and who may use them.
    pub options: PoolOptions,
}

/// How a pool's ports are chosen, and who may use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolOptions {
    /// Who shares a public port.
    pub mapping: Mapping,
    /// Who may send to it from outside.
    pub filtering: Filtering,
    /// A subscriber whose address has no port left gets none, rather than one on another address (RFC 4787 REQ-2).
    pub strict_pairing: bool,
    /// UDP: even ports become even ones and odd ports odd ones while there are such (RFC 4787 REQ-4, for RTP).
    pub parity: bool,
    /// Which ports a subscriber may have.
    pub choice: PortChoice,
}

/// Which ports of a pool a subscriber may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PortChoice {
    /// Any that is free.
    #[default]
    Free,
    /// Those of blocks that it holds.
    Blocks(PortBlocks),
    /// Those that follow from its place among the sources (RFC 7422): who had a port needs no log to be known.
    Deterministic,
}

/// Port blocks of subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortBlocks {
    /// Ports of a block. They are as many apart as there are workers.
    pub size: u16,
    /// Most blocks of one subscriber.
    pub count: u16,
    /// Seconds that a block rests before it gets another owner.
    pub quarantine: u32,
}

/// Which connections share a public port (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mapping {
    /// None: each connection has a port of its own.
    #[default]
    PerConnection,
    /// All of one address and port inside, whoever they are with (RFC 4787 REQ-1).
    EndpointIndependent,
    /// When no port is free, connections to different ends outside, of whomever: what tells them apart is the other end.
    Overloading,
}

/// Who may open a connection to a mapped port from outside (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filtering {
    /// Nobody: only those who were sent to answer, from the address and port that was sent to.
    #[default]
    AddressAndPortDependent,
    /// Whoever has a connection with it, from any port of the same address, for TCP and UDP. Needs
    /// [`Mapping::EndpointIndependent`].
    AddressDependent,
    /// Everybody, for TCP and UDP. Needs [`Mapping::EndpointIndependent`].
    EndpointIndependent,
}

/// One address for each of a VPC, in both directions: host `n` of `inside` is host `n` of `outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticNat {
    /// VPC of the hosts.
    pub vpc: VpcId,
    /// Their addresses.
    pub inside: IpNet,
    /// What they are seen as; as long as `inside`.
    pub outside: IpNet,
    /// The VPC that sees them so; `None` for the default VRF, where `outside` is public.
    ///
    /// Two rules, one each way, translate source and destination at once: so VPCs with equal addresses talk.
    pub peer: Option<VpcId>,
}

/// Destination NAT of public ports to hosts of a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// VPC of the targets.
    pub vpc: VpcId,
    /// Public address.
    pub address: IpAddr,
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// First and last public port.
    pub ports: (u16, u16),
    /// Hosts in the VPC; each client goes to one of them.
    pub targets: Vec<ForwardTarget>,
    /// All connections of a client's address go to one target, not each to its own.
    pub affinity: bool,
}

/// A host that public ports lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardTarget {
    /// Its address.
    pub address: IpAddr,
    /// Its port behind the first public port; the other ones follow.
    pub port: u16,
    /// Its share of new connections, in proportion to the others'; 0 for none.
    pub weight: u16,
}

/// How many connections a VPC and each of its hosts may have. `None` for no limit.
///
/// A worker counts what it owns: it allows its share of a tenant's limit (rounded up), and all of a subscriber's, whose
/// masqueraded connections one worker owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The VPC.
    pub vpc: VpcId,
    /// For the whole VPC.
    pub tenant: Limit,
    /// For each of its hosts.
    pub subscriber: Limit,
}

/// A limit of connections and of new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// At once.
    pub sessions: Option<u32>,
    /// A second; as many may come in a burst.
    pub new_sessions: Option<u32>,
}

impl Limit {
    /// True if nothing is limited.
    pub(crate) const fn is_none(&self) -> bool {
        self.sessions.is_none() && self.new_sessions.is_none()
    }
}

/// Idle times after which a connection ends, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Established TCP (RFC 5382 REQ-5: at least 2 h 4 min).
    pub tcp_established: u32,
    /// TCP that opens or closes (RFC 5382 REQ-5: at least 4 min).
    pub tcp_transitory: u32,
    /// UDP (RFC 4787 REQ-5: at least 2 min, 5 min recommended).
    pub udp: u32,
    /// ICMP echo (RFC 5508 REQ-2: at least 60 s).
    pub icmp: u32,
    /// Every other protocol, told by addresses alone.
    pub other: u32,
    /// How long a connection whose route went keeps its port and waits for another route.
    pub unrouted_grace: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            tcp_established: 7440,
            tcp_transitory: 240,
            udp: 300,
            icmp: 60,
            other: 600,
            unrouted_grace: 30,
        }
    }
}

impl Timers {
    /// That of a connection.
    pub(crate) fn idle(&self, protocol: u8, state: ConnectionState) -> u32 {
        match (protocol, state) {
            (protocol::TCP, ConnectionState::Established) => self.tcp_established,
            (protocol::TCP, _) => self.tcp_transitory,
            (protocol::UDP, _) => self.udp,
            (protocol::ICMP | protocol::ICMPV6, _) => self.icmp,
            _ => self.other,
        }
    }

    pub(super) fn check(&self) -> Result<(), PolicyError> {
        let all = [
            ("tcp_established", self.tcp_established),
            ("tcp_transitory", self.tcp_transitory),
            ("udp", self.udp),
            ("icmp", self.icmp),
            ("other", self.other),
            ("unrouted_grace", self.unrouted_grace),
        ];
        match all.into_iter().find(|(_, seconds)| *seconds == 0) {
            Some((name, _)) => Err(PolicyError::ZeroTimer(name)),
            None => Ok(()),
        }
    }
}

/// The NAT policy of a generation, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySpec {
    /// Source NAT; the first rule of a VPC that has the source applies.
    pub masquerade: Vec<Masquerade>,
    /// Destination NAT.
    pub port_forwards: Vec<PortForward>,
    /// Translation of whole prefixes. In the default VRF it goes before masquerade.
    pub statics: Vec<StaticNat>,
    /// Prefixes of IPv6 that become others (RFC 6296). Goes before every other rule for IPv6.
    pub npt: Vec<Npt>,
    /// Limits, one rule a VPC.
    pub limits: Vec<Limits>,
    /// Idle times.
    pub timers: Timers,
    /// Idle times of VPCs that have their own.
    pub vpc_timers: Vec<(VpcId, Timers)>,
    /// A TCP segment without SYN may begin a connection (after a restart without its connections).
    pub pick_up: bool,
}

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A pool without addresses cannot translate.
    #[error("masquerade of VPC {0} has an empty pool: name at least one public address")]
    EmptyPool(VpcId),
    /// A port range that is empty or holds port 0.
    #[error("masquerade of VPC {vpc} has the port range {first}-{last}: write first-last with 1 <= first <= last")]
    PortRange {
        /// VPC of the rule.
        vpc: VpcId,
        /// First port as given.
        first: u16,
        /// Last port as given.
        last: u16,
    },
    /// An address that no host can have.
    #[error("{0} cannot be a NAT address or target: use a unicast address")]
    Address(IpAddr),
    /// An address twice in one pool.
    #[error("pool of VPC {vpc} lists {address} twice: remove one")]
    DuplicateAddress {
        /// VPC of the rule.
        vpc: VpcId,
        /// The address.
        address: IpAddr,
    },
    /// Only TCP and UDP have ports to forward.
    #[error("port forward of {address}:{port} has protocol {protocol}: use 6 (TCP) or 17 (UDP)")]
    Protocol {
        /// Public address.
        address: IpAddr,
        /// Public port.
        port: u16,
        /// Protocol as given.
        protocol: u8,
    },
    /// Port 0 is not a port, and a range has no fewer than one.
    #[error("port forward of {0} has port 0 as port or target port, or ends before it begins: use 1 to 65535")]
    ZeroPort(IpAddr),
    /// A port forward that leads nowhere, or to more hosts than are kept apart.
    #[error(
        "port forward of {address} has {targets} targets: name 1 to 512, at least one of them with a weight above 0"
    )]
    Targets {
        /// Public address.
        address: IpAddr,
        /// How many.
        targets: usize,
    },
    /// A range that does not fit behind a target's port.
    #[error(
        "port forward to {address} begins at its port {port} and ends beyond 65535: begin lower, or forward fewer ports"
    )]
    TargetRange {
        /// Target.
        address: IpAddr,
        /// Its first port.
        port: u16,
    },
    /// Two forwards of one public port.
    #[error("{address}:{port} (protocol {protocol}) is forwarded twice: remove one")]
    DuplicateForward {
        /// Public address.
        address: IpAddr,
        /// Public port.
        port: u16,
        /// Protocol.
        protocol: u8,
    },
    /// Filtering that lets others in needs a port that is not one connection's own.
    #[error(
        "masquerade of VPC {0} filters by mapping alone, but its mappings are not shared: choose mapping `endpoint-independent` too"
    )]
    Filtering(VpcId),
    /// Blocks that no port fits in, or that nobody may have.
    #[error(
        "masquerade of VPC {vpc} has {count} blocks of {size} ports for each subscriber: use at least 1 of 1, and no more ports than the pool has"
    )]
    Blocks {
        /// VPC of the rule.
        vpc: VpcId,
        /// Ports of a block.
        size: u16,
        /// Blocks of a subscriber.
        count: u16,
    },
    /// The ports of a rule with blocks are its own.
    #[error(
        "masquerade of VPC {vpc} hands out blocks on {address}, where another rule has the same ports: give one of them other ports or addresses"
    )]
    BlocksShared {
        /// VPC of the rule.
        vpc: VpcId,
        /// The address.
        address: IpAddr,
    },
    /// A block is its subscriber's, and all of it.
    #[error("masquerade of VPC {0} has port blocks together with parity or overloading: choose one of them")]
    BlocksAlone(VpcId),
    /// RFC 7422 needs to know who the subscribers are, and a port for each.
    #[error(
        "masquerade of VPC {vpc} is deterministic, with {subscribers} addresses in its sources and {ports} ports in its pool: name sources, and no more of them than there are ports"
    )]
    Deterministic {
        /// VPC of the rule.
        vpc: VpcId,
        /// Addresses of its sources; 0 if it has none.
        subscribers: u64,
        /// Ports of all pool addresses.
        ports: u64,
    },
    /// Two rules of limits for one VPC, or a limit of zero, which would be no NAT at all.
    #[error("limits of VPC {0} are there twice or are 0: write one rule, with numbers from 1")]
    Limits(VpcId),
    /// A rule is for one family.
    #[error("a rule of VPC {0} mixes IPv4 and IPv6: write one rule for each")]
    Families(VpcId),
    /// RFC 7422 counts subscribers, of which IPv6 has no number.
    #[error("masquerade of VPC {0} is deterministic and IPv6: use `blocks`, or leave it out")]
    DeterministicV6(VpcId),
    /// Prefixes of static NAT pair host by host.
    #[error("static NAT of VPC {vpc} pairs {inside} with {outside}: give both the same length")]
    StaticLength {
        /// VPC of the rule.
        vpc: VpcId,
        /// Prefix inside.
        inside: IpNet,
        /// Prefix outside.
        outside: IpNet,
    },
    /// A VPC is no peer of its own.
    #[error("static NAT of VPC {0} names the same VPC as its peer: name another, or none for the default VRF")]
    StaticPeer(VpcId),
    /// Two static rules of one VPC for the same side share addresses inside.
    #[error("static NAT of VPC {vpc} translates {prefix}, which an earlier rule does: remove one")]
    StaticInside {
        /// VPC of the rule.
        vpc: VpcId,
        /// Prefix as given.
        prefix: IpNet,
    },
    /// An address of static NAT outside that something else uses.
    #[error("static NAT of VPC {vpc} is seen as {prefix}, which another rule uses: give it a prefix of its own")]
    StaticOutside {
        /// VPC of the rule.
        vpc: VpcId,
        /// Prefix as given.
        prefix: IpNet,
    },
    /// Prefixes of NPTv6 pair, and leave room for the word that is adjusted.
    #[error("NPTv6 of VPC {vpc} pairs {inside} with {outside}: give both the same length, at most /64")]
    NptLength {
        /// VPC of the rule.
        vpc: VpcId,
        /// Prefix inside.
        inside: Ipv6Net,
        /// Prefix outside.
        outside: Ipv6Net,
    },
    /// A prefix of NPTv6 that something else uses.
    #[error(
        "NPTv6 of VPC {vpc} pairs {inside} with {outside}, one of which another rule uses: give it prefixes of its own"
    )]
    NptTaken {
        /// VPC of the rule.
        vpc: VpcId,
        /// Prefix inside.
        inside: Ipv6Net,
        /// Prefix outside.
        outside: Ipv6Net,
    },
    /// An idle time of zero would end each connection at once.
    #[error("timer `{0}` is 0: use at least 1 second")]
    ZeroTimer(&'static str),
}
