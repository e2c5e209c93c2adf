//! What the speaker's caller can get wrong.

use std::net::{IpAddr, SocketAddr};

use net::{Prefix, RouteDistinguisher};

/// Why the speaker did not start, or did not take a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AS 0 is reserved (RFC 7607) and 23456 stands for a 4-octet AS (RFC 6793).
    #[error("AS {asn} of {of} is reserved: use another AS number")]
    ReservedAs {
        /// The number as given.
        asn: u32,
        /// Whose it is.
        of: String,
    },
    /// A BGP identifier is not zero (RFC 6286).
    #[error("router id 0.0.0.0 is not valid: use an address of the gateway that no other router has as its id")]
    RouterId,
    /// One peer address twice.
    #[error("peer {0} is configured twice: remove one of the two")]
    DuplicatePeer(IpAddr),
    /// One range twice.
    #[error("the range {0} of dynamic peers is configured twice: remove one of the two")]
    DuplicateRange(Prefix),
    /// One interface twice.
    #[error("the interface {0} has two unnumbered peers: remove one of the two")]
    DuplicateInterface(String),
    /// The kernel wants the peer's address with the key.
    #[error("the unnumbered peer on {0} has a password, and no address to sign for: remove it, or use ttl-security")]
    UnnumberedPassword(String),
    /// A range for nobody.
    #[error("the range {0} of dynamic peers has a limit of 0: allow 1 or more, or remove it")]
    DynamicLimit(Prefix),
    /// RFC 4271 section 4.2.
    #[error("hold time {seconds} s of peer {peer} is not valid: use 0 (no keepalives) or 3 to 65535")]
    HoldTime {
        /// The peer.
        peer: IpAddr,
        /// Seconds as given.
        seconds: u16,
    },
    /// RFC 9687 section 3.
    #[error("send hold time of peer {0} is not above its hold time: use more, 480 s for instance")]
    SendHoldTime(IpAddr),
    /// A warning that cannot come in time.
    #[error("peer {0} is warned of above its limit of prefixes: warn at the limit or below")]
    MaxPrefixes(IpAddr),
    /// Nothing is zero hops away.
    #[error("peer {0} may be at most 0 hops away: use 1 for a neighbour on the link, or more")]
    Distance(IpAddr),
    /// The kernel does not take the key.
    #[error("cannot set the password of {peer} on {listen}: {source}; use a kernel with TCP MD5 signatures")]
    Password {
        /// Whose password.
        peer: Prefix,
        /// The listening address.
        listen: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Retrying without a pause would be a busy loop.
    #[error("connect retry of peer {0} is below one second: use 1 s or more")]
    ConnectRetry(IpAddr),
    /// RFC 4724 section 3.
    #[error("restart time {seconds} s of peer {peer} is too long: use 4095 or less")]
    RestartTime {
        /// The peer.
        peer: IpAddr,
        /// Seconds as given.
        seconds: u16,
    },
    /// RFC 9494 section 3.
    #[error("long-lived stale time of peer {0} is too long: use 16777215 s or less")]
    LongLivedStaleTime(IpAddr),
    /// A session that carries nothing.
    #[error("peer {0} has no address family: name at least one")]
    NoFamily(IpAddr),
    /// Roles are those of two ASes to each other.
    #[error("peer {0} is internal and has a role: roles are for external sessions, remove it (RFC 9234)")]
    RoleInside(IpAddr),
    /// A demand for something that is not offered.
    #[error("peer {0} has to say its role, and ours is not configured: set the role, or allow a peer without one")]
    StrictRole(IpAddr),
    /// An address no TCP session can be made with.
    #[error("{0} cannot be a peer: use the unicast address of the neighbour")]
    PeerAddress(IpAddr),
    /// A link-local address says nothing without the interface.
    #[error("peer {0} is a link-local address: name the interface it is on")]
    PeerInterface(IpAddr),
    /// Session addresses of two families.
    #[error("local address {local} of peer {peer} is of the other address family: use one of the peer's")]
    LocalAddress {
        /// The peer.
        peer: IpAddr,
        /// The address as given.
        local: IpAddr,
    },
    /// A prefix rule that can match nothing.
    #[error("prefix rule {rule} of peer {peer} matches nothing: keep prefix length <= ge <= le <= address length")]
    PrefixRule {
        /// The peer.
        peer: IpAddr,
        /// The rule as given.
        rule: String,
    },
    /// A dry run of a policy that is not there.
    #[error("there is no policy `{name}`; {known}")]
    UnknownPolicy {
        /// The name as given.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A wish about a peer that is not there.
    #[error("there is no BGP peer {0}: name one that `show bgp` lists")]
    UnknownPeer(IpAddr),
    /// The peer does not tell its routes again.
    #[error(
        "BGP peer {0} cannot be asked for its routes again: its session is down, or it has no route refresh (RFC 2918)"
    )]
    NoRefresh(IpAddr),
    /// A dry run on a route that is not there.
    #[error("peer {peer} has not announced {prefix}: name a prefix of its adj-rib-in")]
    NotReceived {
        /// The peer.
        peer: IpAddr,
        /// The prefix.
        prefix: Prefix,
    },
    /// The port is taken, or the address is not ours, or the right to bind is missing.
    #[error(
        "cannot listen on {address}: {source}; end the other BGP daemon, use an address of this host, or run as root"
    )]
    Listen {
        /// Address as configured.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// One VRF of EVPN twice, or the VRF of the speaker itself.
    #[error("{0} is in EVPN twice, or is the default VRF: name each VPC once")]
    EvpnVrf(String),
    /// One route distinguisher twice.
    #[error("two VRFs have the route distinguisher {0}: give each one of its own")]
    DuplicateDistinguisher(RouteDistinguisher),
    /// One cache twice.
    #[error("RPKI cache {0} is configured twice: remove one of the two")]
    DuplicateCache(SocketAddr),
    /// One collector twice.
    #[error("BMP collector {0} is configured twice: remove one of the two")]
    DuplicateCollector(SocketAddr),
    /// A collector that is told no routes.
    #[error("BMP collector {0} gets routes neither before nor after policy: choose one, or both")]
    IdleCollector(SocketAddr),
    /// The table of peers of a dump is full.
    #[error(
        "more than 65535 peers have paths, and a table dump has room for so many: dump the loc-rib, or fewer peers"
    )]
    TooManyPeers,
    /// Another BFD daemon, most likely FRR's, or no right to bind.
    #[error(
        "cannot listen for BFD on UDP port {port}: {source}; end the other BFD daemon (FRR's bfdd), take `bfd` from the \
         peers, or run as root"
    )]
    BfdListen {
        /// The port.
        port: u16,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The system has nothing left for a thread.
    #[error("cannot start the thread of BFD: {0}; look at the limits of threads and open files")]
    BfdThread(#[source] std::io::Error),
    /// RFC 5880 section 6.8.1.
    #[error("bfd of peer {0} has an interval or a multiplier of 0: use 1 or more")]
    Bfd(IpAddr),
    /// RFC 5881 is for one hop.
    #[error("peer {0} may be several hops away, and bfd reaches one: take bfd or multihop away")]
    BfdDistance(IpAddr),
    /// The speaker's own task has ended.
    #[error("the BGP speaker has stopped: start another one")]
    Stopped,
}
