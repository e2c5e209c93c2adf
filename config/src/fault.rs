//! Every way in which a configuration can be wrong.

use std::net::{IpAddr, SocketAddr};

use miette::Diagnostic;
use net::{IpNet, Prefix, VlanId, Vni, VpcId};

use crate::model::{PortRange, Protocol};

/// One way in which a configuration is wrong. The text names the object; the help says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum Fault {
    /// Not TOML.
    #[error("syntax: {message}")]
    #[diagnostic(help("the file is TOML: https://toml.io"))]
    Syntax {
        /// What the parser said.
        message: String,
    },
    /// A key that does not exist.
    #[error("{object} has no key `{key}`")]
    #[diagnostic(help("{remedy}"))]
    UnknownKey {
        /// The table.
        object: String,
        /// The key.
        key: String,
        /// The nearest key that exists, or all of them.
        remedy: String,
    },
    /// A key that must be there is not.
    #[error("{object} has no `{key}`")]
    #[diagnostic(help("add `{key} = …`"))]
    MissingKey {
        /// The table.
        object: String,
        /// The key.
        key: &'static str,
    },
    /// A value of another type.
    #[error("`{key}` is {found}, not {expected}")]
    #[diagnostic(help("write {example}"))]
    WrongType {
        /// The key.
        key: String,
        /// The type of the value.
        found: &'static str,
        /// The type that it must have.
        expected: &'static str,
        /// A value that would do.
        example: &'static str,
    },
    /// A value of the right type that cannot be.
    #[error("`{key}`: {reason}")]
    #[diagnostic(help("write {example}"))]
    InvalidValue {
        /// The key.
        key: String,
        /// Why it cannot be.
        reason: String,
        /// A value that would do.
        example: String,
    },
    /// Keys that exclude each other, or none of those of which one is needed.
    #[error("{object} has {found} of {choices}")]
    #[diagnostic(help("give exactly one of {choices}"))]
    ExactlyOne {
        /// The table.
        object: String,
        /// "none" or "more than one".
        found: &'static str,
        /// The keys.
        choices: &'static str,
    },
    /// A key that means nothing beside another.
    #[error("`{key}` means nothing in {object}: {reason}")]
    #[diagnostic(help("remove `{key}`"))]
    Meaningless {
        /// The table.
        object: String,
        /// The key.
        key: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A list that must not be empty is.
    #[error("{object}: `{key}` is empty")]
    #[diagnostic(help("list at least one"))]
    Empty {
        /// The table.
        object: String,
        /// The key.
        key: &'static str,
    },
    /// A name that refers to nothing.
    #[error("no {kind} is called `{name}`")]
    #[diagnostic(help("{remedy}"))]
    Unknown {
        /// What kind of thing: port, vpc or vrf.
        kind: &'static str,
        /// The name.
        name: String,
        /// The nearest name, or what there is.
        remedy: String,
    },
    /// The number of a VPC that does not exist.
    #[error("no VPC has the id {id}")]
    #[diagnostic(help("add the VPC, or refer to another"))]
    UnknownVpcId {
        /// The number.
        id: VpcId,
    },
    /// A name with other characters, or none.
    #[error("{kind} name `{name}` is not made of a-z, 0-9 and -")]
    #[diagnostic(help("use 1 to 63 lower case letters, digits and hyphens"))]
    BadName {
        /// What kind of thing.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is taken by the underlay.
    #[error("a VPC cannot be called `default`: that is the VRF of the ports")]
    #[diagnostic(help("choose another name"))]
    ReservedName,
    /// Two of the same.
    #[error("{what} `{value}` is used twice: by {first} and by {second}")]
    #[diagnostic(help("{remedy}"))]
    Duplicate {
        /// What must be unique.
        what: &'static str,
        /// The value.
        value: String,
        /// Who has it.
        first: String,
        /// Who has it too.
        second: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Two VPCs with one VNI.
    #[error("VNI {vni} is used twice: by vpc `{first}` and by vpc `{second}`")]
    #[diagnostic(help("each VPC needs a VNI of its own"))]
    DuplicateVni {
        /// The VNI.
        vni: Vni,
        /// A VPC.
        first: String,
        /// The other.
        second: String,
    },
    /// Two VPCs with one VLAN of one port.
    #[error("VLAN {id} of port `{port}` is used twice: by vpc `{first}` and by vpc `{second}`")]
    #[diagnostic(help("each VPC needs a VLAN of its own on a port"))]
    DuplicateVlan {
        /// The port.
        port: String,
        /// The VLAN ID.
        id: VlanId,
        /// A VPC.
        first: String,
        /// The other.
        second: String,
    },
    /// A name that the kernel does not take.
    #[error("host interface `{name}` of {object} is not a name for a kernel interface: {reason}")]
    #[diagnostic(help("set `host-interface` to 1 to 15 characters, without `/`, `:` and spaces"))]
    HostInterface {
        /// Its owner.
        object: String,
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// An MTU out of range.
    #[error("MTU {mtu} of {object} is out of range: {reason}")]
    #[diagnostic(help("use {least} to 9000"))]
    Mtu {
        /// Its owner.
        object: String,
        /// The MTU.
        mtu: u16,
        /// Least that would do.
        least: u16,
        /// Why.
        reason: &'static str,
    },
    /// A MAC address that no interface may have.
    #[error("MAC address {mac} of {object} is {what}")]
    #[diagnostic(help("use a unicast address, as in 02:00:00:00:00:01"))]
    Mac {
        /// Its owner.
        object: String,
        /// The address.
        mac: net::Mac,
        /// What it is instead.
        what: &'static str,
    },
    /// An address that no host may have.
    #[error("{address} in {object} is {what}")]
    #[diagnostic(help("use a unicast host address"))]
    NotAHost {
        /// Its owner.
        object: String,
        /// The address.
        address: IpAddr,
        /// What it is instead.
        what: &'static str,
    },
    /// Two interfaces of a VRF in one subnet.
    #[error("subnets {first} of {first_object} and {second} of {second_object} overlap in VRF `{vrf}`")]
    #[diagnostic(help("give each interface of a VRF subnets of its own; in different VRFs they may overlap"))]
    OverlappingSubnets {
        /// The VRF.
        vrf: String,
        /// An address with its subnet.
        first: IpNet,
        /// Who has it.
        first_object: String,
        /// The other address.
        second: IpNet,
        /// Who has it.
        second_object: String,
    },
    /// A VPC has a VNI, and the gateway no endpoint.
    #[error("vpc `{vpc}` has a VNI, and there is no [vxlan]")]
    #[diagnostic(help("add [vxlan] with `address`, an address of a port"))]
    VxlanMissing {
        /// The VPC.
        vpc: String,
    },
    /// EVPN without a VNI.
    #[error("vpc `{vpc}` is in EVPN, and has no VNI")]
    #[diagnostic(help("give it a `vni` instead of a `vlan`, or remove its `evpn`"))]
    EvpnVni {
        /// The VPC.
        vpc: String,
    },
    /// EVPN without a speaker.
    #[error("vpc `{vpc}` is in EVPN, and there is no [bgp]")]
    #[diagnostic(help("add [bgp] with a peer whose `families` hold \"l2vpn-evpn\", or remove its `evpn`"))]
    EvpnBgp {
        /// The VPC.
        vpc: String,
    },
    /// EVPN that neither takes nor tells anything.
    #[error("evpn of vpc `{vpc}` has no route target")]
    #[diagnostic(help("add `import-rt` and `export-rt`, such as [\"65000:7\"]"))]
    EvpnTargets {
        /// The VPC.
        vpc: String,
    },
    /// Routes that nobody would import.
    #[error("evpn of vpc `{vpc}` announces routes without a route target")]
    #[diagnostic(help("add `export-rt`: others import by it"))]
    EvpnExport {
        /// The VPC.
        vpc: String,
    },
    /// Our endpoint is nobody's address.
    #[error("[vxlan] address {address} is not an address of a port")]
    #[diagnostic(help("add it to the `addresses` of a port, or use one that is there"))]
    VxlanAddress {
        /// The address.
        address: IpAddr,
    },
    /// A remote endpoint that cannot be reached from ours.
    #[error("VTEP {vtep} of vpc `{vpc}` {reason}")]
    #[diagnostic(help("list the remote endpoints, of the family of the [vxlan] address"))]
    Vtep {
        /// The VPC.
        vpc: String,
        /// The endpoint.
        vtep: IpAddr,
        /// Why.
        reason: &'static str,
    },
    /// Two routes for one prefix.
    #[error("static route {prefix} in VRF `{vrf}` is there twice")]
    #[diagnostic(help("keep one; list several next hops in its `via`"))]
    DuplicateRoute {
        /// The VRF.
        vrf: String,
        /// The prefix.
        prefix: Prefix,
    },
    /// A next hop of the other family.
    #[error("next hop {gateway} of route {prefix} is of the other address family")]
    #[diagnostic(help("use next hops of the prefix's own family"))]
    RouteFamily {
        /// The prefix.
        prefix: Prefix,
        /// The next hop.
        gateway: IpAddr,
    },
    /// Leaked routes that never end.
    #[error("leaked routes lead in a circle: {cycle}")]
    #[diagnostic(help("change one of them to `via`, or to a `kind`"))]
    RouteLoop {
        /// VRFs and prefixes on the way.
        cycle: String,
    },
    /// An autonomous system that is none.
    #[error("AS {asn} in {object} is reserved")]
    #[diagnostic(help("use 1 to 4294967294, but not 23456 (RFC 7607, RFC 6793) or 65535 (RFC 7300)"))]
    Asn {
        /// Where.
        object: String,
        /// The number.
        asn: u32,
    },
    /// A BGP identifier of 0.
    #[error("[bgp] router-id is 0.0.0.0")]
    #[diagnostic(help("use any other value that is unique in the AS, such as an address of a port (RFC 6286)"))]
    RouterIdZero,
    /// A hold time that the protocol forbids.
    #[error("hold-time {hold_time} of bgp peer {peer} is too short")]
    #[diagnostic(help("use 0 (no keepalives) or 3 to 65535 seconds (RFC 4271 section 4.2)"))]
    HoldTime {
        /// The peer.
        peer: IpAddr,
        /// Seconds.
        hold_time: u16,
    },
    /// A send hold time that would end sessions before the hold time does.
    #[error("send-hold-time {send_hold_time} of bgp peer {peer} is not above its hold-time {hold_time}")]
    #[diagnostic(help("use more than the hold time: 480, or twice the hold time if that is more (RFC 9687)"))]
    SendHoldTime {
        /// The peer.
        peer: IpAddr,
        /// Seconds.
        send_hold_time: u32,
        /// Seconds.
        hold_time: u16,
    },
    /// An address to connect from that cannot reach the peer.
    #[error("local-address {local} of bgp peer {peer} is of the other address family")]
    #[diagnostic(help("use an address of the peer's family, or leave it out"))]
    LocalAddressFamily {
        /// The peer.
        peer: IpAddr,
        /// The address.
        local: IpAddr,
    },
    /// Two ways to say how far a peer is.
    #[error("bgp peer {peer} has both ttl-security and multihop")]
    #[diagnostic(help("keep ttl-security if the peer sends with a TTL of 255, else multihop"))]
    TwoDistances {
        /// The peer.
        peer: IpAddr,
    },
    /// What only a peer with an address can have.
    #[error("{object} has a {key}, and no address")]
    #[diagnostic(help("remove it, or use a [[bgp.peer]]; ttl-security = 1 keeps strangers away as well"))]
    NeedsAddress {
        /// The peer.
        object: String,
        /// The key.
        key: &'static str,
    },
    /// A role within the AS.
    #[error("bgp peer {peer} is internal and has a role")]
    #[diagnostic(help("remove the role: roles are those of two ASes to each other (RFC 9234)"))]
    RoleInside {
        /// The peer.
        peer: IpAddr,
    },
    /// A demand for something that is not offered.
    #[error("bgp peer {peer} has to say its role (strict-role), and ours is not given")]
    #[diagnostic(help("add role = \"customer\", or what else we are to the peer; or remove strict-role"))]
    StrictRole {
        /// The peer.
        peer: IpAddr,
    },
    /// BFD reaches a neighbour on the link.
    #[error("bgp peer {peer} has bfd, and may be several hops away")]
    #[diagnostic(help("bfd is for peers on the same link (RFC 5881): take it away, or let the peer be one hop away"))]
    BfdDistance {
        /// The peer.
        peer: IpAddr,
    },
    /// A collector that is told nothing.
    #[error("bmp collector {collector} gets routes neither before nor after policy")]
    #[diagnostic(help("set pre-policy or post-policy, or both, or remove the collector"))]
    IdleCollector {
        /// The collector.
        collector: SocketAddr,
    },
    /// A group that is not there.
    #[error("there is no [[bgp.peer-group]] `{name}`")]
    #[diagnostic(help("add the group, or name one that is there"))]
    NoPeerGroup {
        /// The name.
        name: String,
    },
    /// Two groups of one name.
    #[error("[[bgp.peer-group]] `{name}` is there twice")]
    #[diagnostic(help("give each group a name of its own"))]
    PeerGroupTwice {
        /// The name.
        name: String,
    },
    /// We would be our own peer.
    #[error("bgp peer {peer} is an address of this gateway")]
    #[diagnostic(help("use the neighbour's address"))]
    PeerIsSelf {
        /// The peer.
        peer: IpAddr,
    },
    /// A policy that could not be told from a word.
    #[error("a policy cannot be called `{name}`: that is a word where policies are named")]
    #[diagnostic(help("choose another name"))]
    ReservedPolicyName {
        /// The name.
        name: String,
    },
    /// Lengths that no prefix in the rule's own has.
    #[error("policy rule {prefix} cannot have ge {ge} and le {le}")]
    #[diagnostic(help("use prefix length <= ge <= le <= {longest}"))]
    RuleLengths {
        /// The prefix.
        prefix: Prefix,
        /// Least length.
        ge: u8,
        /// Greatest length.
        le: u8,
        /// Length of an address of the family.
        longest: u8,
    },
    /// Two VPCs would pick the same address and port.
    #[error(
        "masquerade pools {first} of vpc `{first_vpc}` and {second} of vpc `{second_vpc}` share addresses and ports"
    )]
    #[diagnostic(help("use other addresses, or `ports` that do not overlap"))]
    PoolOverlap {
        /// A pool.
        first: IpNet,
        /// Its VPC.
        first_vpc: String,
        /// The other.
        second: IpNet,
        /// Its VPC.
        second_vpc: String,
    },
    /// A pool holds an address that the host answers to.
    #[error("masquerade pool {pool} of vpc `{vpc}` holds {address}, an address of {object}")]
    #[diagnostic(help("use public addresses that no interface has"))]
    PoolHoldsInterface {
        /// The pool.
        pool: IpNet,
        /// Its VPC.
        vpc: String,
        /// The address.
        address: IpAddr,
        /// Who has it.
        object: String,
    },
    /// A rule that never gets a packet.
    #[error("masquerade sources {sources} of vpc `{vpc}` are all taken by an earlier rule")]
    #[diagnostic(help("put the narrower rule first, or remove this one"))]
    MasqueradeShadowed {
        /// The VPC.
        vpc: String,
        /// The sources.
        sources: IpNet,
    },
    /// A pool with port blocks that another rule has ports of.
    #[error("masquerade pool {pool} of vpc `{vpc}` has port blocks or meets some, and another rule uses it")]
    #[diagnostic(help("give blocks addresses that no other rule with blocks has, and ports that no other rule has"))]
    SharedBlocks {
        /// The pool.
        pool: IpNet,
        /// Its VPC.
        vpc: String,
    },
    /// Prefixes of static NAT that do not pair host by host.
    #[error("static NAT of vpc `{vpc}` pairs {inside} with {outside}")]
    #[diagnostic(help("give both prefixes the same length"))]
    StaticLength {
        /// The VPC.
        vpc: String,
        /// The prefix inside.
        inside: IpNet,
        /// The prefix outside.
        outside: IpNet,
    },
    /// A VPC that static NAT shows to itself.
    #[error("static NAT of vpc `{vpc}` has the same VPC as its peer")]
    #[diagnostic(help("name another VPC, or leave `peer` out for everybody outside of VPCs"))]
    StaticPeer {
        /// The VPC.
        vpc: String,
    },
    /// Static NAT of addresses that something else has.
    #[error("static NAT of vpc `{vpc}` uses {prefix}, which is also {other}")]
    #[diagnostic(help("give each rule a prefix of its own"))]
    StaticOverlap {
        /// The VPC.
        vpc: String,
        /// The prefix.
        prefix: IpNet,
        /// Who else has it.
        other: String,
    },
    /// NPTv6 of a prefix that something else has.
    #[error("NPTv6 of vpc `{vpc}` uses {prefix}, which is also {other}")]
    #[diagnostic(help("give each rule a prefix of its own"))]
    NptOverlap {
        /// The VPC.
        vpc: String,
        /// The prefix.
        prefix: IpNet,
        /// Who else has it.
        other: String,
    },
    /// A forwarded port that masquerading may pick for another.
    #[error("port forward {address} {protocol} {port} lies in the ports {ports} of the masquerade pool {pool}")]
    #[diagnostic(help("use a port or an address outside the pool, or narrow the pool's `ports`"))]
    PortForwardInPool {
        /// The public address.
        address: IpAddr,
        /// The protocol.
        protocol: Protocol,
        /// The public port, or the range.
        port: String,
        /// The pool.
        pool: IpNet,
        /// Its ports.
        ports: PortRange,
    },
    /// A forwarded address that the host answers to.
    #[error("port forward {address} {protocol} {port} uses an address of {object}")]
    #[diagnostic(help("use a public address that no interface has"))]
    PortForwardIsInterface {
        /// The public address.
        address: IpAddr,
        /// The protocol.
        protocol: Protocol,
        /// The public port, or the range.
        port: String,
        /// Who has it.
        object: String,
    },
}
