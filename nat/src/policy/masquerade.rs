//! Masquerade rules, checked and with what follows from the size of their pools.

use super::{Filtering, Mapping, Masquerade, PolicyError, PoolOptions, PortBlocks, PortChoice};
use crate::address::{Address, Span};

/// A masquerade rule as the engine uses it.
#[derive(Debug, Clone)]
pub(crate) struct MasqueradeRule {
    /// Sources that it translates; those of its family.
    pub(crate) sources: Vec<Span>,
    pub(crate) pool: Vec<Address>,
    pub(crate) ports: (u16, u16),
    pub(crate) options: PoolOptions,
    pub(crate) choice: Choice,
}

/// [`PortChoice`], with what follows from the size of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Free,
    Blocks(PortBlocks),
    Deterministic {
        /// Subscribers that share an address.
        per_address: u64,
        /// Ports of each.
        ports: u16,
    },
}

impl MasqueradeRule {
    /// True if the rule gives out this address and port.
    pub(crate) fn offers(&self, address: Address, port: u16) -> bool {
        (self.ports.0..=self.ports.1).contains(&port) && self.pool.contains(&address)
    }

    /// True if it gives them to this source, so that who has a determined port is always who should have it.
    pub(crate) fn offers_to(&self, source: Address, address: Address, port: u16) -> bool {
        let (first, last) = self.deterministic(source).map_or(self.ports, |(_, own)| own);
        self.pairs(source, address) && (first..=last).contains(&port)
    }

    /// True if this source may be seen as this address.
    pub(crate) fn pairs(&self, source: Address, address: Address) -> bool {
        match self.choice {
            Choice::Deterministic { .. } => self
                .deterministic(source)
                .is_some_and(|(at, _)| self.pool.get(at) == Some(&address)),
            Choice::Free | Choice::Blocks(_) => self.pool.contains(&address),
        }
    }

    /// True if one worker owns all connections of a subscriber.
    pub(crate) fn is_by_subscriber(&self) -> bool {
        self.options.mapping == Mapping::EndpointIndependent || matches!(self.choice, Choice::Blocks(_))
    }

    /// Position in the pool, and first and last port, of a subscriber whose ports are determined (RFC 7422).
    pub(crate) fn deterministic(&self, source: Address) -> Option<(usize, (u16, u16))> {
        let Choice::Deterministic { per_address, ports } = self.choice else {
            return None;
        };
        let mut place = 0;
        for net in &self.sources {
            if net.contains(source) {
                place += source.since(net.first) as u64;
                let first = u64::from(self.ports.0) + place % per_address * u64::from(ports);
                let first = u16::try_from(first).ok()?;
                return Some(((place / per_address) as usize, (first, first + (ports - 1))));
            }
            place += net.size();
        }
        None
    }

    /// True if anybody may open connections to its ports.
    pub(crate) fn lets_in(&self) -> bool {
        self.options.filtering != Filtering::AddressAndPortDependent
    }

    pub(super) fn covers(&self, source: Address) -> bool {
        self.sources.iter().any(|net| net.contains(source))
    }
}

/// How the ports of a rule are chosen, if that can be.
pub(super) fn choose(rule: &Masquerade) -> Result<Choice, PolicyError> {
    let (vpc, (first, last)) = (rule.vpc, rule.ports);
    let each = u64::from(last - first) + 1;
    match rule.options.choice {
        PortChoice::Free => Ok(Choice::Free),
        PortChoice::Blocks(blocks) => {
            let PortBlocks { size, count, .. } = blocks;
            if size == 0 || count == 0 || u64::from(size) > each {
                return Err(PolicyError::Blocks { vpc, size, count });
            }
            if rule.options.parity || rule.options.mapping == Mapping::Overloading {
                return Err(PolicyError::BlocksAlone(vpc));
            }
            Ok(Choice::Blocks(blocks))
        }
        PortChoice::Deterministic => {
            let ours = rule.sources.iter().map(|net| Span::from(*net));
            let subscribers = ours.fold(0_u64, |sum, net| sum.saturating_add(net.size()));
            let pool = rule.pool.len() as u64;
            let per_address = subscribers.div_ceil(pool).max(1);
            match u16::try_from(each / per_address) {
                Ok(ports) if ports > 0 && subscribers > 0 => Ok(Choice::Deterministic { per_address, ports }),
                Err(_) if subscribers > 0 => Ok(Choice::Deterministic {
                    per_address,
                    ports: u16::MAX,
                }),
                _ => Err(PolicyError::Deterministic {
                    vpc,
                    subscribers,
                    ports: each * pool,
                }),
            }
        }
    }
}
