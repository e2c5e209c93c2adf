//! `[nat]`: address translation between VPCs and the default VRF. Every rule is for one family.

use std::fmt;
use std::net::IpAddr;

use net::{IpNet, Ipv6Net, VpcId};
use serde::Serialize;

/// `[nat]`: rules and timers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Nat {
    /// Seconds after a start in which a TCP segment without SYN may begin a connection; 0 for never.
    pub pick_up: u32,
    /// Whether each connection's beginning and end is logged.
    #[serde(skip_serializing_if = "SessionLog::is_off")]
    pub log_sessions: SessionLog,
    /// `[nat.timers]`
    pub timers: Timers,
    /// `[[nat.vpc-timers]]`, by VPC.
    pub vpc_timers: Vec<VpcTimers>,
    /// `[[nat.masquerade]]`, by VPC; within one the order of the file: the first whose sources match decides.
    pub masquerades: Vec<Masquerade>,
    /// `[[nat.limit]]`, by VPC.
    pub limits: Vec<NatLimit>,
    /// `[[nat.static]]`, by VPC, by who sees it (everybody outside first), and by address inside.
    pub statics: Vec<StaticNat>,
    /// `[[nat.port-forward]]`, by address, protocol and first port.
    pub port_forwards: Vec<PortForward>,
    /// `[[nat.npt]]`, by VPC and prefix inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub npt: Vec<Npt>,
}

/// `[[nat.npt]]`: a prefix that is another one outside, without state (RFC 6296).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Npt {
    /// VPC of the hosts.
    pub vpc: VpcId,
    /// Prefix of their addresses.
    pub inside: Ipv6Net,
    /// What it is outside; as long as `inside`.
    pub outside: Ipv6Net,
}

/// What is logged of each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionLog {
    /// Nothing.
    #[default]
    Off,
    /// Its end inside, with the public address and port (RFC 6888 REQ-12).
    Sources,
    /// Its other end as well.
    Destinations,
}

impl SessionLog {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// `[nat.timers]`: seconds without a packet after which a connection is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Timers {
    /// An established TCP connection (RFC 5382: at least 2 hours 4 minutes).
    pub tcp_established: u32,
    /// A TCP connection that is opening or closing (RFC 5382: at least 4 minutes).
    pub tcp_transitory: u32,
    /// UDP (RFC 4787: at least 2 minutes, 5 recommended).
    pub udp: u32,
    /// ICMP queries (RFC 5508: at least 60 seconds).
    pub icmp: u32,
    /// Every other protocol, told by addresses alone.
    pub other: u32,
}

/// `[[nat.vpc-timers]]`: lifetimes of the connections of one VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VpcTimers {
    /// The VPC.
    pub vpc: VpcId,
    /// Its timers; what the file does not say is as in `[nat.timers]`.
    pub timers: Timers,
}

/// `[[nat.masquerade]]`: many sources of a VPC behind few public addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Masquerade {
    /// VPC whose packets are translated.
    pub vpc: VpcId,
    /// Sources that the rule is for; 0.0.0.0/0 or ::/0 is all of the VPC. Ascending, at least one.
    pub sources: Vec<IpNet>,
    /// Public addresses. Ascending, at least one.
    pub pool: Vec<IpNet>,
    /// Ports to pick from on each address.
    pub ports: PortRange,
    /// Who shares a public port.
    pub mapping: Mapping,
    /// Who may open connections to it from outside.
    pub filtering: Filtering,
    /// What a subscriber gets whose address has no port left.
    pub pairing: Pairing,
    /// Even UDP ports become even ones, odd ones odd.
    pub parity: bool,
    /// Which of the ports a subscriber may have.
    pub choice: PortChoice,
}

/// Whether a subscriber keeps to one public address (RFC 4787 REQ-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// While that has ports.
    Soft,
    /// Whatever happens.
    Strict,
}

/// Which ports of a pool a subscriber may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortChoice {
    /// Any that is free.
    Free,
    /// Those of its blocks.
    Blocks(PortBlocks),
    /// Those that follow from its address (RFC 7422).
    Deterministic,
}

/// Ports that a subscriber gets at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortBlocks {
    /// Ports of a block.
    pub size: u16,
    /// Most blocks of one subscriber.
    pub count: u16,
    /// Seconds that a block rests before it gets another owner.
    pub quarantine: u32,
}

/// Which connections share a public port (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// None: each has its own.
    PerConnection,
    /// All of one address and port inside.
    EndpointIndependent,
    /// Those to different ends outside, once no port is free.
    Overloading,
}

/// Who may open a connection to a mapped port from outside (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Nobody: only those who were sent to answer.
    AddressAndPortDependent,
    /// Whoever has a connection with it, from any port of the same address.
    AddressDependent,
    /// Everybody.
    EndpointIndependent,
}

/// `[[nat.limit]]`: how many connections a VPC and each of its hosts may have; `None` for any number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NatLimit {
    /// The VPC.
    pub vpc: VpcId,
    /// Connections of the VPC at once.
    pub sessions: Option<u32>,
    /// New ones a second.
    pub new_sessions: Option<u32>,
    /// Connections of one host at once.
    pub subscriber_sessions: Option<u32>,
    /// New ones a second.
    pub subscriber_new_sessions: Option<u32>,
}

/// `[[nat.static]]`: an address for each host of a prefix, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StaticNat {
    /// VPC of the hosts.
    pub vpc: VpcId,
    /// Their addresses.
    pub inside: IpNet,
    /// What they are seen as, host by host; as long as `inside`.
    pub outside: IpNet,
    /// VPC that sees them so; `None` for everybody outside of VPCs.
    pub peer: Option<VpcId>,
}

/// A range of TCP or UDP ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The range from `first` to `last`; `None` if it is empty or starts at port 0.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last {
            None
        } else {
            Some(Self { first, last })
        }
    }

    /// Lowest port; never 0.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Highest port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// True if `port` is in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// `80`, or `80-99`.
    pub(crate) fn brief(self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            self.to_string()
        }
    }

    /// True if some port is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        range.to_string()
    }
}

/// `[[nat.port-forward]]`: public ports that lead to hosts of a VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortForward {
    /// VPC of the targets.
    pub vpc: VpcId,
    /// Public address.
    pub address: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Public ports.
    pub ports: PortRange,
    /// Hosts in the VPC, at least one, in the order of the file.
    pub targets: Vec<ForwardTarget>,
    /// All connections of a client's address go to one target.
    pub affinity: bool,
}

/// A host that public ports lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ForwardTarget {
    /// Its address.
    pub address: IpAddr,
    /// Its port behind the first public one; the others follow.
    pub port: u16,
    /// Its share of new clients in proportion to the others'; 0 for none.
    pub weight: u16,
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
