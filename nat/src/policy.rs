//! NAT policy: what an operator asks for, checked and arranged for lookup.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use foldhash::fast::FixedState;
use net::{Ipv4Net, Prefix, VpcId, VrfId, protocol};

/// Source NAT of a VPC to a pool of public addresses, ports translated.
///
/// Applies to a packet of the VPC whose route leads into the default VRF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    /// VPC whose packets are translated.
    pub vpc: VpcId,
    /// Sources that are translated; empty for any.
    pub sources: Vec<Ipv4Net>,
    /// Public addresses. One subscriber keeps to one of them while that has ports.
    pub pool: Vec<Ipv4Addr>,
    /// First and last public port (and echo identifier).
    pub ports: (u16, u16),
}

/// Destination NAT of one public address and port to a host of a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// VPC of the target.
    pub vpc: VpcId,
    /// Public address.
    pub address: Ipv4Addr,
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// Public port.
    pub port: u16,
    /// Host in the VPC.
    pub target: Ipv4Addr,
    /// Its port.
    pub target_port: u16,
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
    fn check(&self) -> Result<(), PolicyError> {
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
    Address(Ipv4Addr),
    /// An address twice in one pool.
    #[error("pool of VPC {vpc} lists {address} twice: remove one")]
    DuplicateAddress {
        /// VPC of the rule.
        vpc: VpcId,
        /// The address.
        address: Ipv4Addr,
    },
    /// Only TCP and UDP have ports to forward.
    #[error("port forward of {address}:{port} has protocol {protocol}: use 6 (TCP) or 17 (UDP)")]
    Protocol {
        /// Public address.
        address: Ipv4Addr,
        /// Public port.
        port: u16,
        /// Protocol as given.
        protocol: u8,
    },
    /// Port 0 is not a port.
    #[error("port forward of {0} has port 0 as port or target port: use 1 to 65535")]
    ZeroPort(Ipv4Addr),
    /// Two forwards of one public port.
    #[error("{address}:{port} (protocol {protocol}) is forwarded twice: remove one")]
    DuplicateForward {
        /// Public address.
        address: Ipv4Addr,
        /// Public port.
        port: u16,
        /// Protocol.
        protocol: u8,
    },
    /// An idle time of zero would end each connection at once.
    #[error("timer `{0}` is 0: use at least 1 second")]
    ZeroTimer(&'static str),
}

/// A masquerade rule as the engine uses it.
#[derive(Debug, Clone)]
pub(crate) struct MasqueradeRule {
    pub(crate) sources: Vec<Ipv4Net>,
    pub(crate) pool: Vec<u32>,
    pub(crate) ports: (u16, u16),
}

impl MasqueradeRule {
    fn covers(&self, source: u32) -> bool {
        let source = Ipv4Addr::from(source);
        self.sources.is_empty() || self.sources.iter().any(|net| net.contains(&source))
    }
}

/// Where a forwarded port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) vrf: VrfId,
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// A checked NAT policy. Immutable; shared by the workers of a generation.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Vec<MasqueradeRule>,
    /// Indices into `rules`, in order, by VRF.
    by_vrf: HashMap<VrfId, Vec<u32>, FixedState>,
    forwards: HashMap<(u32, u8, u16), Target, FixedState>,
    /// Public ends by (VRF, target, protocol, target port); several forwards may share a target.
    targets: HashMap<(VrfId, u32, u8, u16), u32, FixedState>,
    /// Public addresses and whether they are in a pool.
    public: BTreeMap<u32, bool>,
    /// A bit for each VRF that any rule is about.
    translating: Box<[u64; 1024]>,
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
            forwards: HashMap::default(),
            targets: HashMap::default(),
            public: BTreeMap::new(),
            translating: Box::new([0; 1024]),
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
        if !policy.is_empty() {
            policy.mark(VrfId::DEFAULT);
        }
        Ok(policy)
    }

    fn add_masquerade(&mut self, rule: Masquerade) -> Result<(), PolicyError> {
        let (vpc, (first, last)) = (rule.vpc, rule.ports);
        if rule.pool.is_empty() {
            return Err(PolicyError::EmptyPool(vpc));
        }
        if first == 0 || first > last {
            return Err(PolicyError::PortRange { vpc, first, last });
        }
        for (at, address) in rule.pool.iter().enumerate() {
            check_address(*address)?;
            if rule.pool[..at].contains(address) {
                return Err(PolicyError::DuplicateAddress { vpc, address: *address });
            }
            self.public.insert(u32::from(*address), true);
        }
        let index = self.rules.len() as u32;
        self.by_vrf.entry(vpc.vrf()).or_default().push(index);
        self.mark(vpc.vrf());
        let pool = rule.pool.into_iter().map(u32::from).collect();
        self.rules.push(MasqueradeRule {
            sources: rule.sources,
            pool,
            ports: rule.ports,
        });
        Ok(())
    }

    fn add_forward(&mut self, forward: &PortForward) -> Result<(), PolicyError> {
        let PortForward {
            vpc,
            address,
            protocol,
            port,
            target,
            target_port,
        } = *forward;
        check_address(address)?;
        check_address(target)?;
        if !matches!(protocol, protocol::TCP | protocol::UDP) {
            return Err(PolicyError::Protocol {
                address,
                port,
                protocol,
            });
        }
        if port == 0 || target_port == 0 {
            return Err(PolicyError::ZeroPort(address));
        }
        let to = Target {
            vrf: vpc.vrf(),
            address: u32::from(target),
            port: target_port,
        };
        if self.forwards.insert((u32::from(address), protocol, port), to).is_some() {
            return Err(PolicyError::DuplicateForward {
                address,
                port,
                protocol,
            });
        }
        *self.targets.entry((to.vrf, to.address, protocol, to.port)).or_default() += 1;
        self.public.entry(u32::from(address)).or_insert(false);
        self.mark(to.vrf);
        Ok(())
    }

    fn mark(&mut self, vrf: VrfId) {
        self.translating[usize::from(vrf.0 >> 6)] |= 1 << (vrf.0 & 63);
    }

    /// Pool addresses and the public addresses of port forwards as the fewest prefixes: what the fabric is told.
    pub fn public_prefixes(&self) -> Vec<Prefix> {
        let hosts: Vec<_> = self.public.keys().map(|a| Ipv4Net::from(Ipv4Addr::from(*a))).collect();
        Ipv4Net::aggregate(&hosts).into_iter().map(Prefix::from).collect()
    }

    /// True if connections are looked up before routes for packets of `vrf`: a VPC with a rule, or the default VRF if
    /// there is any rule.
    #[inline]
    pub fn translates(&self, vrf: VrfId) -> bool {
        self.translating[usize::from(vrf.0 >> 6)] & 1 << (vrf.0 & 63) != 0
    }

    /// True without any rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.forwards.is_empty()
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
    pub fn gathers(&self, vrf: VrfId, destination: u32) -> bool {
        self.translates(vrf) && (vrf != VrfId::DEFAULT || self.is_public(destination))
    }

    /// Every masquerade rule; an index into it names a rule of this policy.
    pub(crate) fn rules(&self) -> &[MasqueradeRule] {
        &self.rules
    }

    /// The masquerade rule for `source` in `vrf`, and its index.
    pub(crate) fn masquerade(&self, vrf: VrfId, source: u32) -> Option<(usize, &MasqueradeRule)> {
        let indices = self.by_vrf.get(&vrf)?;
        indices
            .iter()
            .map(|i| (*i as usize, &self.rules[*i as usize]))
            .find(|(_, rule)| rule.covers(source))
    }

    /// Where a public address and port lead.
    pub(crate) fn forward(&self, address: u32, protocol: u8, port: u16) -> Option<Target> {
        self.forwards.get(&(address, protocol, port)).copied()
    }

    /// Every forwarded (address, protocol, port).
    pub(crate) fn forwarded(&self) -> impl Iterator<Item = (u32, u8, u16)> + '_ {
        self.forwards.keys().copied()
    }

    /// True if a port forward leads to this end.
    pub(crate) fn is_target(&self, vrf: VrfId, address: u32, protocol: u8, port: u16) -> bool {
        !self.targets.is_empty() && self.targets.contains_key(&(vrf, address, protocol, port))
    }

    /// True for a pool address or the public address of a port forward.
    pub(crate) fn is_public(&self, address: u32) -> bool {
        self.public.contains_key(&address)
    }

    /// True for a pool address.
    pub(crate) fn is_pool(&self, address: u32) -> bool {
        self.public.get(&address) == Some(&true)
    }
}

fn check_address(address: Ipv4Addr) -> Result<(), PolicyError> {
    let unusable =
        address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.octets()[0] >= 240;
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

    fn address(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    fn masquerade(pool: &[&str]) -> Masquerade {
        Masquerade {
            vpc: vpc(7),
            sources: vec![],
            pool: pool.iter().map(|a| address(a)).collect(),
            ports: (1024, 65535),
        }
    }

    fn forward(port: u16) -> PortForward {
        PortForward {
            vpc: vpc(8),
            address: address("192.0.2.2"),
            protocol: 6,
            port,
            target: address("10.0.0.1"),
            target_port: 80,
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
