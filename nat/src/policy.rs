//! NAT policy: what an operator asks for, checked and arranged for lookup.

mod forwards;
mod maglev;
mod masquerade;
mod spec;
mod statics;

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use net::{IpNet, Prefix, VpcId, VrfId};

use forwards::Forwards;
pub(crate) use forwards::Target;
use masquerade::choose;
pub(crate) use masquerade::{Choice, MasqueradeRule};
pub use spec::{
    Filtering, ForwardTarget, Limit, Limits, Mapping, Masquerade, PolicyError, PolicySpec, PoolOptions, PortBlocks,
    PortChoice, PortForward, StaticNat, Timers,
};
use statics::Statics;

use crate::address::{Address, Span};
use crate::npt::{Npt, Prefixes};

/// A checked NAT policy. Immutable; shared by the workers of a generation.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Vec<MasqueradeRule>,
    /// Indices into `rules`, in order, by VRF.
    by_vrf: HashMap<VrfId, Vec<u32>, FixedState>,
    forwards: Forwards,
    statics: Statics,
    npt: Prefixes,
    limits: HashMap<VrfId, Limits, FixedState>,
    owns_subscribers: bool,
    /// Public addresses and whether they are in a pool.
    public: HashMap<Address, bool, FixedState>,
    /// A bit for each VRF that any rule of the family is about: IPv4, IPv6.
    translating: [Box<[u64; 1024]>; 2],
    timers: Timers,
    vpc_timers: HashMap<VrfId, Timers, FixedState>,
    pick_up: bool,
}

impl Policy {
    /// Checks a policy and arranges it for lookup.
    ///
    /// # Errors
    /// The first thing wrong with it, with its remedy.
    pub fn compile(spec: PolicySpec) -> Result<Self, PolicyError> {
        let timers = spec.timers;
        timers.check()?;
        spec.vpc_timers.iter().try_for_each(|(_, timers)| timers.check())?;
        let mut policy = Self {
            rules: Vec::with_capacity(spec.masquerade.len()),
            by_vrf: HashMap::default(),
            forwards: Forwards::default(),
            statics: Statics::default(),
            npt: Prefixes::default(),
            limits: HashMap::default(),
            owns_subscribers: false,
            public: HashMap::default(),
            translating: [Box::new([0; 1024]), Box::new([0; 1024])],
            timers,
            vpc_timers: spec
                .vpc_timers
                .iter()
                .map(|(vpc, timers)| (vpc.vrf(), *timers))
                .collect(),
            pick_up: spec.pick_up,
        };
        for rule in spec.masquerade {
            policy.add_masquerade(rule)?;
        }
        for forward in spec.port_forwards {
            policy.add_forward(&forward)?;
        }
        for rule in spec.statics {
            policy.add_static(&rule)?;
        }
        for rule in spec.npt {
            policy.add_npt(&rule)?;
        }
        for limits in spec.limits {
            let Limits { tenant, subscriber, .. } = limits;
            let all = [
                tenant.sessions,
                tenant.new_sessions,
                subscriber.sessions,
                subscriber.new_sessions,
            ];
            let twice = policy.limits.insert(limits.vpc.vrf(), limits).is_some();
            if twice || all.contains(&Some(0)) {
                return Err(PolicyError::Limits(limits.vpc));
            }
        }
        let owned = |rule: &MasqueradeRule| rule.is_by_subscriber() || rule.options.parity;
        policy.owns_subscribers = !policy.limits.is_empty() || policy.rules.iter().any(owned);
        for v4 in [true, false] {
            if policy.translating[usize::from(!v4)].iter().any(|vrfs| *vrfs != 0) {
                policy.mark(VrfId::DEFAULT, v4);
            }
        }
        Ok(policy)
    }

    /// VRF and position among the rules of that VRF of each masquerade rule, by VRF, with its index.
    pub(crate) fn rule_positions(&self) -> Vec<(VrfId, usize, usize)> {
        let of = |(vrf, indices): (&VrfId, &Vec<u32>)| {
            let vrf = *vrf;
            let indices = indices.clone().into_iter().enumerate();
            indices.map(move |(position, index)| (vrf, position, index as usize))
        };
        let mut all: Vec<_> = self.by_vrf.iter().flat_map(of).collect();
        all.sort_unstable();
        all
    }

    /// True if some pool lets in by address.
    pub(crate) fn filters_by_address(&self) -> bool {
        let mut filtering = self.rules.iter().map(|rule| rule.options.filtering);
        filtering.any(|filtering| filtering == Filtering::AddressDependent)
    }

    fn add_masquerade(&mut self, rule: Masquerade) -> Result<(), PolicyError> {
        let (vpc, (first, last)) = (rule.vpc, rule.ports);
        if rule.pool.is_empty() {
            return Err(PolicyError::EmptyPool(vpc));
        }
        if first == 0 || first > last {
            return Err(PolicyError::PortRange { vpc, first, last });
        }
        if rule.options.filtering != Filtering::AddressAndPortDependent
            && rule.options.mapping != Mapping::EndpointIndependent
        {
            return Err(PolicyError::Filtering(vpc));
        }
        let v4 = rule.pool[0].is_ipv4();
        let foreign = |net: &IpNet| Address::from(net.addr()).is_v4() != v4;
        if rule.pool.iter().any(|address| address.is_ipv4() != v4) || rule.sources.iter().any(foreign) {
            return Err(PolicyError::Families(vpc));
        }
        if !v4 && rule.options.choice == PortChoice::Deterministic {
            return Err(PolicyError::DeterministicV6(vpc));
        }
        let choice = choose(&rule)?;
        for (at, address) in rule.pool.iter().enumerate() {
            check_address(*address)?;
            if rule.pool[..at].contains(address) {
                return Err(PolicyError::DuplicateAddress { vpc, address: *address });
            }
            self.public.insert(Address::from(*address), true);
        }
        let index = self.rules.len() as u32;
        self.by_vrf.entry(vpc.vrf()).or_default().push(index);
        self.mark(vpc.vrf(), v4);
        let pool = rule.pool.into_iter().map(Address::from).collect();
        let sources = match rule.sources.is_empty() {
            true => vec![all(v4)],
            false => rule.sources.into_iter().map(Span::from).collect(),
        };
        self.rules.push(MasqueradeRule {
            sources,
            pool,
            ports: rule.ports,
            options: rule.options,
            choice,
        });
        self.check_blocks(vpc)
    }

    /// Blocks lie in ports that are one rule's alone.
    fn check_blocks(&self, vpc: VpcId) -> Result<(), PolicyError> {
        let Some((new, earlier)) = self.rules.split_last() else {
            return Ok(());
        };
        let blocks = |rule: &MasqueradeRule| matches!(rule.choice, Choice::Blocks(_));
        for other in earlier.iter().filter(|other| blocks(other) || blocks(new)) {
            let overlap = new.ports.0 <= other.ports.1 && other.ports.0 <= new.ports.1;
            let both = || new.pool.iter().find(|address| other.pool.contains(address));
            if let (true, Some(address)) = (overlap || (blocks(other) && blocks(new)), both()) {
                let address = address.ip();
                return Err(PolicyError::BlocksShared { vpc, address });
            }
        }
        Ok(())
    }

    /// Called after all other rules: what is seen in the default VRF must not be theirs.
    fn add_static(&mut self, rule: &StaticNat) -> Result<(), PolicyError> {
        for net in [rule.inside, rule.outside] {
            check_address(net.network())?;
            check_address(net.broadcast())?;
        }
        let outside = Span::from(rule.outside);
        let taken = self.public.keys().any(|address| outside.contains(*address));
        if rule.peer.is_none() && taken {
            let (vpc, prefix) = (rule.vpc, rule.outside);
            return Err(PolicyError::StaticOutside { vpc, prefix });
        }
        self.statics.add(rule)?;
        let v4 = outside.first.is_v4();
        self.mark(rule.vpc.vrf(), v4);
        if let Some(peer) = rule.peer {
            self.mark(peer.vrf(), v4);
        }
        Ok(())
    }

    /// Called after all other rules: what is seen in the default VRF must not be theirs.
    fn add_npt(&mut self, rule: &Npt) -> Result<(), PolicyError> {
        let Npt { vpc, inside, outside } = *rule;
        for net in [inside, outside] {
            check_address(net.network().into())?;
        }
        let span = Span::from(IpNet::V6(outside));
        let in_static = |net: IpNet| span.contains(Span::from(net).first) || Span::from(net).contains(span.first);
        if self.public.keys().any(|address| span.contains(*address)) || self.statics.public().any(in_static) {
            return Err(PolicyError::NptTaken { vpc, inside, outside });
        }
        self.npt.add(rule)?;
        self.mark(vpc.vrf(), false);
        Ok(())
    }

    /// Every NPTv6 rule.
    pub(crate) fn npt(&self) -> &Prefixes {
        &self.npt
    }

    fn add_forward(&mut self, forward: &PortForward) -> Result<(), PolicyError> {
        self.forwards.add(forward)?;
        self.public.entry(forward.address.into()).or_insert(false);
        self.mark(forward.vpc.vrf(), forward.address.is_ipv4());
        Ok(())
    }

    fn mark(&mut self, vrf: VrfId, v4: bool) {
        self.translating[usize::from(!v4)][usize::from(vrf.0 >> 6)] |= 1 << (vrf.0 & 63);
    }

    /// Pool addresses and the public addresses of port forwards, static NAT and NPTv6 as the fewest prefixes: what the fabric
    /// is told.
    pub fn public_prefixes(&self) -> Vec<Prefix> {
        let hosts = self.public.keys().map(|address| IpNet::from(address.ip()));
        let all: Vec<_> = hosts.chain(self.statics.public()).chain(self.npt.public()).collect();
        IpNet::aggregate(&all).into_iter().map(Prefix::from).collect()
    }

    /// True if connections are looked up before routes for IPv4 packets of `vrf`: a VPC with a rule, or the default VRF if
    /// there is any rule.
    #[inline]
    pub fn translates(&self, vrf: VrfId) -> bool {
        self.translating[0][usize::from(vrf.0 >> 6)] & 1 << (vrf.0 & 63) != 0
    }

    /// The same for IPv6.
    #[inline]
    pub fn translates_v6(&self, vrf: VrfId) -> bool {
        self.translating[1][usize::from(vrf.0 >> 6)] & 1 << (vrf.0 & 63) != 0
    }

    /// True without any rule for IPv4.
    pub fn is_empty(&self) -> bool {
        !self.translates(VrfId::DEFAULT)
    }

    /// True without any rule for IPv6.
    pub fn is_empty_v6(&self) -> bool {
        !self.translates_v6(VrfId::DEFAULT)
    }

    /// True if some rule or limit has one worker own all connections of a subscriber.
    pub(crate) fn owns_subscribers(&self) -> bool {
        self.owns_subscribers
    }

    /// True if some VPC has limits.
    pub(crate) fn has_limits(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Limits of a VPC.
    pub(crate) fn limits(&self, vrf: VrfId) -> Option<&Limits> {
        if self.limits.is_empty() {
            None
        } else {
            self.limits.get(&vrf)
        }
    }

    /// Idle times of the connections of a VPC.
    pub fn timers(&self, vrf: VrfId) -> &Timers {
        self.vpc_timers.get(&vrf).unwrap_or(&self.timers)
    }

    /// True if a TCP segment without SYN may begin a connection.
    pub(crate) fn picks_up(&self) -> bool {
        self.pick_up
    }

    /// True if fragments in `vrf` to `destination` have to learn the ports of their datagram.
    pub fn gathers(&self, vrf: VrfId, destination: Address) -> bool {
        let translates = match destination.is_v4() {
            true => self.translates(vrf),
            false => self.translates_v6(vrf),
        };
        translates && (vrf != VrfId::DEFAULT || self.is_public(destination))
    }

    /// Every masquerade rule; an index into it names a rule of this policy.
    pub(crate) fn rules(&self) -> &[MasqueradeRule] {
        &self.rules
    }

    /// The masquerade rule for `source` in `vrf`, and its index.
    pub(crate) fn masquerade(&self, vrf: VrfId, source: Address) -> Option<(usize, &MasqueradeRule)> {
        let indices = self.by_vrf.get(&vrf)?;
        indices
            .iter()
            .map(|i| (*i as usize, &self.rules[*i as usize]))
            .find(|(_, rule)| rule.covers(source))
    }

    /// True if a public address and port are forwarded.
    pub(crate) fn is_forwarded(&self, address: Address, protocol: u8, port: u16) -> bool {
        self.forwards.has(address, protocol, port)
    }

    /// Where a public address and port lead a client.
    pub(crate) fn forward(&self, address: Address, protocol: u8, port: u16, client: (Address, u16)) -> Option<Target> {
        self.forwards.target(address, protocol, port, client)
    }

    /// True if a public address and port lead some client to this end.
    pub(crate) fn leads_to(&self, address: Address, protocol: u8, port: u16, end: Target) -> bool {
        self.forwards.leads_to(address, protocol, port, end)
    }

    /// Every forwarded address, protocol, and first and last port.
    pub(crate) fn forwarded(&self) -> impl Iterator<Item = (Address, u8, (u16, u16))> + '_ {
        self.forwards.all()
    }

    /// True if a port forward leads to this end.
    pub(crate) fn is_target(&self, vrf: VrfId, address: Address, protocol: u8, port: u16) -> bool {
        self.forwards.is_target(vrf, address, protocol, port)
    }

    /// True for a pool address or the public address of a port forward or of static NAT.
    pub(crate) fn is_public(&self, address: Address) -> bool {
        self.public.contains_key(&address) || self.static_target(VrfId::DEFAULT, address).is_some()
    }

    /// Whom static NAT shows as `address` in `seen_in`: VRF and address inside.
    pub(crate) fn static_target(&self, seen_in: VrfId, address: Address) -> Option<(VrfId, Address)> {
        self.statics.target(seen_in, address)
    }

    /// What static NAT shows a source of `vrf` as in `seen_in`.
    pub(crate) fn static_source(&self, vrf: VrfId, seen_in: VrfId, source: Address) -> Option<Address> {
        self.statics.source(vrf, seen_in, source)
    }

    /// True if a packet from a VPC to this public end may lead back into a VPC: a port forward, static NAT, or a pool
    /// whose mappings outlive a connection.
    pub(crate) fn leads_back(&self, address: Address, protocol: u8, port: u16) -> bool {
        let shares =
            |rule: &MasqueradeRule| rule.options.mapping == Mapping::EndpointIndependent && rule.offers(address, port);
        self.is_forwarded(address, protocol, port)
            || self.static_target(VrfId::DEFAULT, address).is_some()
            || (self.is_pool(address) && self.rules.iter().any(shares))
    }

    /// True for a pool address.
    pub(crate) fn is_pool(&self, address: Address) -> bool {
        self.public.get(&address) == Some(&true)
    }
}

/// Every address of a family.
fn all(v4: bool) -> Span {
    match v4 {
        true => Span {
            first: Address::v4(0),
            last: Address::v4(u32::MAX),
        },
        false => Span {
            first: Address::v6(0),
            last: Address::v6(u128::MAX),
        },
    }
}

fn check_address(address: IpAddr) -> Result<(), PolicyError> {
    let unusable = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || match address {
            IpAddr::V4(address) => address.octets()[0] >= 240,
            IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
        };
    if unusable {
        Err(PolicyError::Address(address))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vpc(n: u16) -> VpcId {
        VpcId::new(n).expect("not zero")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn masquerade(pool: &[&str]) -> Masquerade {
        Masquerade {
            vpc: vpc(7),
            sources: vec![],
            pool: pool.iter().map(|a| address(a)).collect(),
            ports: (1024, 65535),
            options: PoolOptions::default(),
        }
    }

    fn forward(port: u16) -> PortForward {
        PortForward {
            vpc: vpc(8),
            address: address("192.0.2.2"),
            protocol: 6,
            ports: (port, port),
            targets: vec![ForwardTarget {
                address: address("10.0.0.1"),
                port: 80,
                weight: 1,
            }],
            affinity: false,
        }
    }

    fn spec(masquerade: Vec<Masquerade>, port_forwards: Vec<PortForward>) -> PolicySpec {
        PolicySpec {
            masquerade,
            port_forwards,
            ..PolicySpec::default()
        }
    }

    #[test]
    fn public_addresses_merge_into_prefixes() {
        let rule = masquerade(&["192.0.2.0", "192.0.2.1", "192.0.2.3"]);
        let policy = Policy::compile(spec(vec![rule], vec![forward(80)])).expect("valid");
        assert_eq!(policy.public_prefixes(), ["192.0.2.0/30".parse().expect("valid")]);
    }

    #[test]
    fn only_vrfs_with_a_rule_translate() {
        let policy = Policy::compile(spec(vec![masquerade(&["192.0.2.1"])], vec![forward(80)])).expect("valid");
        let translating: Vec<_> = (0..20).filter(|v| policy.translates(VrfId(*v))).collect();
        assert_eq!(translating, [0, 7, 8]);
        let empty = Policy::compile(PolicySpec::default()).expect("valid");
        assert!(empty.is_empty() && !empty.translates(VrfId::DEFAULT));
    }

    #[test]
    fn the_first_rule_with_the_source_applies() {
        let mut narrow = masquerade(&["192.0.2.1"]);
        narrow.sources = vec!["10.1.0.0/16".parse().expect("valid")];
        let policy = Policy::compile(spec(vec![narrow, masquerade(&["192.0.2.9"])], vec![])).expect("valid");
        let rule = |source: &str| {
            policy
                .masquerade(VrfId(7), address(source).into())
                .map(|(index, _)| index)
        };
        assert_eq!(rule("10.1.2.3"), Some(0));
        assert_eq!(rule("10.2.2.3"), Some(1));
        assert!(policy.masquerade(VrfId(8), address("10.1.2.3").into()).is_none());
    }

    #[test]
    fn mistakes_are_refused_by_name() {
        let error = |s| Policy::compile(s).expect_err("refused").to_string();
        assert!(error(spec(vec![masquerade(&[])], vec![])).contains("empty pool"));
        assert!(error(spec(vec![masquerade(&["224.0.0.1"])], vec![])).contains("224.0.0.1"));
        assert!(error(spec(vec![masquerade(&["192.0.2.1", "192.0.2.1"])], vec![])).contains("twice"));
        let inverted = Masquerade {
            ports: (9, 8),
            ..masquerade(&["192.0.2.1"])
        };
        assert!(error(spec(vec![inverted], vec![])).contains("9-8"));
        assert!(error(spec(vec![], vec![forward(80), forward(80)])).contains("forwarded twice"));
        assert!(error(spec(vec![], vec![forward(0)])).contains("port 0"));
        assert!(
            error(spec(
                vec![],
                vec![PortForward {
                    protocol: 1,
                    ..forward(80)
                }]
            ))
            .contains("protocol 1")
        );
        let timers = Timers {
            udp: 0,
            ..Timers::default()
        };
        assert!(
            error(PolicySpec {
                timers,
                ..PolicySpec::default()
            })
            .contains("`udp`")
        );
    }
}
