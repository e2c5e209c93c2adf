//! Port forwards: public ports, one or a range, and the hosts that they lead to.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use net::{VrfId, protocol};

use super::maglev::{self, Maglev};
use super::{PolicyError, PortForward, check_address};
use crate::address::Address;
use crate::random::mix;

/// Where a forwarded port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) vrf: VrfId,
    pub(crate) address: Address,
    pub(crate) port: u16,
}

#[derive(Debug, Clone)]
struct Rule {
    first: u16,
    last: u16,
    /// Where the first port leads.
    targets: Vec<Target>,
    /// Chooses among several.
    choice: Option<Maglev>,
    affinity: bool,
}

/// First and last port.
type Range = (u16, u16);

/// Every port forward. Ranges of an address and protocol are disjoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Forwards {
    /// By public address and protocol, in the order of their ports.
    rules: HashMap<(Address, u8), Vec<Rule>, FixedState>,
    /// Ports of each target.
    targets: HashMap<(VrfId, Address, u8), Vec<Range>, FixedState>,
}

impl Forwards {
    pub(super) fn add(&mut self, forward: &PortForward) -> Result<(), PolicyError> {
        let (address, protocol, (first, last)) = (forward.address, forward.protocol, forward.ports);
        check_address(address)?;
        if !matches!(protocol, protocol::TCP | protocol::UDP) {
            return Err(PolicyError::Protocol {
                address,
                port: first,
                protocol,
            });
        }
        if first == 0 || first > last || forward.targets.iter().any(|target| target.port == 0) {
            return Err(PolicyError::ZeroPort(address));
        }
        let weights = forward.targets.iter().any(|target| target.weight > 0);
        if !weights || forward.targets.len() > maglev::MOST {
            return Err(PolicyError::Targets {
                address,
                targets: forward.targets.len(),
            });
        }
        let vrf = forward.vpc.vrf();
        let mut targets = Vec::with_capacity(forward.targets.len());
        for target in &forward.targets {
            check_address(target.address)?;
            if target.address.is_ipv4() != address.is_ipv4() {
                return Err(PolicyError::Families(forward.vpc));
            }
            if target.port.checked_add(last - first).is_none() {
                return Err(PolicyError::TargetRange {
                    address: target.address,
                    port: target.port,
                });
            }
            targets.push(Target {
                vrf,
                address: target.address.into(),
                port: target.port,
            });
        }
        let rules = self.rules.entry((Address::from(address), protocol)).or_default();
        let at = rules.partition_point(|rule| rule.first <= last);
        if let Some(clash) = rules[..at].last().filter(|rule| rule.last >= first) {
            return Err(PolicyError::DuplicateForward {
                address,
                port: clash.first.max(first),
                protocol,
            });
        }
        for target in &targets {
            let range = (target.port, target.port + (last - first));
            self.targets
                .entry((vrf, target.address, protocol))
                .or_default()
                .push(range);
        }
        let named = |(target, asked): (&Target, &super::ForwardTarget)| {
            (target.address.spread() << 16 | u64::from(target.port), asked.weight)
        };
        let names: Vec<_> = targets.iter().zip(&forward.targets).map(named).collect();
        let rule = Rule {
            first,
            last,
            choice: (targets.len() > 1).then(|| Maglev::new(&names)),
            targets,
            affinity: forward.affinity,
        };
        rules.insert(at, rule);
        Ok(())
    }

    fn rule(&self, address: Address, protocol: u8, port: u16) -> Option<&Rule> {
        let rules = self.rules.get(&(address, protocol))?;
        let rule = match rules.as_slice() {
            [rule] => rule,
            rules => &rules[rules.partition_point(|rule| rule.first <= port).checked_sub(1)?],
        };
        (rule.first..=rule.last).contains(&port).then_some(rule)
    }

    /// True if a public port is forwarded.
    pub(super) fn has(&self, address: Address, protocol: u8, port: u16) -> bool {
        self.rule(address, protocol, port).is_some()
    }

    /// Where a public port leads a client.
    pub(super) fn target(&self, address: Address, protocol: u8, port: u16, client: (Address, u16)) -> Option<Target> {
        let rule = self.rule(address, protocol, port)?;
        let target = match &rule.choice {
            None => rule.targets.first()?,
            Some(choice) => {
                let client_port = if rule.affinity { 0 } else { client.1 };
                let hash = mix(client.0.spread() << 24 | u64::from(client_port) << 8 | u64::from(protocol));
                rule.targets.get(choice.get(hash))?
            }
        };
        Some(Target {
            port: target.port + (port - rule.first),
            ..*target
        })
    }

    /// True if a public port leads some client to this end.
    pub(super) fn leads_to(&self, address: Address, protocol: u8, port: u16, end: Target) -> bool {
        self.rule(address, protocol, port).is_some_and(|rule| {
            let at = |target: &Target| (target.vrf, target.address, target.port + (port - rule.first));
            rule.targets
                .iter()
                .any(|target| at(target) == (end.vrf, end.address, end.port))
        })
    }

    /// True if some public port leads to this end.
    pub(super) fn is_target(&self, vrf: VrfId, address: Address, protocol: u8, port: u16) -> bool {
        let ranges = self.targets.get(&(vrf, address, protocol));
        ranges.is_some_and(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    }

    /// Public address, protocol, first and last port of each.
    pub(super) fn all(&self) -> impl Iterator<Item = (Address, u8, Range)> + '_ {
        self.rules.iter().flat_map(|((address, protocol), rules)| {
            rules.iter().map(|rule| (*address, *protocol, (rule.first, rule.last)))
        })
    }
}
