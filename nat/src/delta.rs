//! What one generation changed, and whether it touches a connection.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::FixedState;
use net::{NextHopId, Prefix, VrfId};

use crate::book::Book;

/// What one generation changed, as the RIB tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Prefixes whose best route appeared, changed or went.
    pub prefixes: Vec<(VrfId, Prefix)>,
    /// Next hops whose contents changed (neighbour, MAC, port, encapsulation).
    pub next_hops: Vec<NextHopId>,
    /// The NAT policy changed.
    pub policy: bool,
    /// Too much changed to list; every connection is looked up again.
    pub everything: bool,
}

impl Delta {
    /// Prefixes and next hops beyond which a list costs more than looking everything up again.
    pub const LIMIT: usize = 1 << 16;

    /// The delta of a generation that changes everything.
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// True if a prefix that changed in `vrf` holds `destination` (host order). Linear in the number of prefixes.
    pub fn touches_v4(&self, vrf: VrfId, destination: u32) -> bool {
        let destination = IpAddr::from(destination.to_be_bytes());
        self.everything || self.prefixes.iter().any(|(v, p)| *v == vrf && p.contains(destination))
    }

    /// True if the contents of `next_hop` changed. Linear in the number of next hops.
    pub fn touches_next_hop(&self, next_hop: NextHopId) -> bool {
        self.everything || self.next_hops.contains(&next_hop)
    }

    /// Adds what a later generation changed. Beyond [`Delta::LIMIT`] it becomes a change of everything.
    pub fn merge(&mut self, other: &Self) {
        self.policy |= other.policy;
        self.everything |= other.everything
            || self.prefixes.len() + other.prefixes.len() > Self::LIMIT
            || self.next_hops.len() + other.next_hops.len() > Self::LIMIT;
        if self.everything {
            self.prefixes.clear();
            self.next_hops.clear();
        } else {
            self.prefixes.extend_from_slice(&other.prefixes);
            self.next_hops.extend_from_slice(&other.next_hops);
        }
    }

    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.next_hops.is_empty() && !self.policy && !self.everything
    }
}

/// [`Delta`]s merged and arranged so that the question "does it touch this connection" costs some nanoseconds: a set of
/// (VRF, length, network), and the lengths that occur in each VRF.
#[derive(Debug, Default)]
pub(crate) struct DeltaIndex {
    /// Every prefix, while there are few: cheaper to go through than a set is to ask.
    few: Vec<Changed>,
    networks: HashSet<u64, FixedState>,
    lengths: HashMap<u32, Lengths, FixedState>,
    /// IPv6: VRF, length and network.
    networks_v6: HashSet<(u32, u8, u128), FixedState>,
    /// Lengths that occur, by VRF.
    lengths_v6: HashMap<u32, BTreeSet<u8>, FixedState>,
    next_hops: HashSet<u32, FixedState>,
    /// Some of them, and all if they are no more than [`FEW`].
    few_next_hops: Vec<u32>,
    policy: bool,
    everything: bool,
}

/// A prefix that changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed {
    vrf: u32,
    pub(crate) network: u32,
    pub(crate) mask: u32,
}

/// Prefixes or next hops that are few.
const FEW: usize = 8;

/// A bit for each prefix length, 0 to 32.
type Lengths = u64;

/// In place of a VRF: the prefix changed in one VRF or another. Beyond the 16 bits of a VRF.
const ANY_VRF: u32 = 1 << 16;

impl DeltaIndex {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds one generation's changes.
    pub(crate) fn add(&mut self, delta: &Delta) {
        self.policy |= delta.policy;
        self.everything |= delta.everything
            || (self.networks.len() + self.networks_v6.len()) / 2 + delta.prefixes.len() > Delta::LIMIT
            || self.next_hops.len() + delta.next_hops.len() > Delta::LIMIT;
        if self.everything {
            return;
        }
        for (vrf, prefix) in &delta.prefixes {
            // Connections stand in the columns by the numbers of their IPv6 addresses: any of them may be touched.
            let (network, length) = match prefix.address() {
                IpAddr::V4(address) => (u32::from(address), prefix.len()),
                IpAddr::V6(address) => {
                    self.add_v6(*vrf, prefix.len(), address.to_bits());
                    (Book::FIRST, Book::FIRST.leading_ones() as u8)
                }
            };
            if self.few.len() <= FEW {
                let (vrf, mask) = (u32::from(vrf.0), mask_of(length));
                self.few.push(Changed { vrf, network, mask });
            }
            for vrf in [u32::from(vrf.0), ANY_VRF] {
                self.networks.insert(network_id(vrf, length, network));
                *self.lengths.entry(vrf).or_default() |= 1 << length;
            }
        }
        for next_hop in delta.next_hops.iter().map(|n| n.0) {
            if self.next_hops.insert(next_hop) && self.few_next_hops.len() <= FEW {
                self.few_next_hops.push(next_hop);
            }
        }
    }

    /// Every prefix that changed, if they are few.
    pub(crate) fn few_prefixes(&self) -> Option<&[Changed]> {
        (self.few.len() <= FEW).then_some(&self.few)
    }

    /// Every next hop that changed, if they are few.
    pub(crate) fn few_next_hops(&self) -> Option<&[u32]> {
        (self.few_next_hops.len() <= FEW).then_some(&self.few_next_hops)
    }

    /// True if every connection has to be looked at whatever its route.
    pub(crate) fn touches_all(&self) -> bool {
        self.everything || self.policy
    }

    /// True if the way of `destination`, whose lookup began in `ingress` and ended in `egress`, may have changed.
    ///
    /// A lookup that ended where it began saw that VRF alone. One that was leaked may have passed through others on its
    /// way, so that a change of a covering prefix in any VRF counts.
    pub(crate) fn touches(&self, ingress: VrfId, egress: VrfId, destination: u32, next_hop: NextHopId) -> bool {
        let vrf = if ingress == egress {
            u32::from(ingress.0)
        } else {
            ANY_VRF
        };
        self.touches_next_hop(next_hop) || self.touches_prefix(vrf, destination)
    }

    /// The same for a lookup that began in some VRF or another.
    pub(crate) fn touches_anywhere(&self, destination: u32, next_hop: NextHopId) -> bool {
        self.touches_next_hop(next_hop) || self.touches_prefix(ANY_VRF, destination)
    }

    fn add_v6(&mut self, vrf: VrfId, length: u8, network: u128) {
        for vrf in [u32::from(vrf.0), ANY_VRF] {
            self.networks_v6.insert((vrf, length, network));
            self.lengths_v6.entry(vrf).or_default().insert(length);
        }
    }

    /// [`DeltaIndex::touches`] for the destination that an IPv6 packet leaves with.
    pub(crate) fn touches_v6(&self, ingress: VrfId, egress: VrfId, destination: u128, next_hop: NextHopId) -> bool {
        let vrf = match ingress == egress {
            true => u32::from(ingress.0),
            false => ANY_VRF,
        };
        let lengths = self.lengths_v6.get(&vrf);
        let holds = |length: &u8| {
            let network = destination & u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            self.networks_v6.contains(&(vrf, *length, network))
        };
        self.touches_next_hop(next_hop) || lengths.is_some_and(|lengths| lengths.iter().any(holds))
    }

    /// True if the contents of `next_hop` changed.
    pub(crate) fn touches_next_hop(&self, next_hop: NextHopId) -> bool {
        self.everything || (!self.next_hops.is_empty() && self.next_hops.contains(&next_hop.0))
    }

    fn touches_prefix(&self, vrf: u32, destination: u32) -> bool {
        if self.few.len() <= FEW {
            let holds = |c: &Changed| (vrf == ANY_VRF || vrf == c.vrf) && destination & c.mask == c.network;
            return self.few.iter().any(holds);
        }
        let Some(lengths) = self.lengths.get(&vrf) else {
            return false;
        };
        let mut left = *lengths;
        while left != 0 {
            let length = left.trailing_zeros() as u8;
            left &= left - 1;
            let network = destination & mask_of(length);
            if self.networks.contains(&network_id(vrf, length, network)) {
                return true;
            }
        }
        false
    }
}

/// Ones where a prefix of `length` bits fixes the address.
fn mask_of(length: u8) -> u32 {
    (u64::MAX << (32 - length)) as u32
}

/// 17 bits of VRF, 6 of length, 32 of network.
fn network_id(vrf: u32, length: u8, network: u32) -> u64 {
    u64::from(vrf) << 38 | u64::from(length) << 32 | u64::from(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    #[test]
    fn the_index_agrees_with_the_list() {
        let mut random = Random::new(3);
        for _ in 0..200 {
            let mut delta = Delta::default();
            for _ in 0..random.below(20) {
                let address = IpAddr::from((random.below(4) << 30 | random.below(8) << 8).to_be_bytes());
                let prefix = Prefix::containing(address, random.below(33) as u8).expect("at most 32");
                delta.prefixes.push((VrfId(random.below(3) as u16), prefix));
            }
            let mut index = DeltaIndex::default();
            index.add(&delta);
            for _ in 0..50 {
                let destination = random.below(4) << 30 | random.below(8) << 8 | random.below(2);
                let vrf = VrfId(random.below(3) as u16);
                let none = NextHopId(0);
                assert_eq!(
                    index.touches(vrf, vrf, destination, none),
                    delta.touches_v4(vrf, destination)
                );
                let other = VrfId(vrf.0 + 1);
                let any = (0..3).any(|v| delta.touches_v4(VrfId(v), destination));
                assert_eq!(index.touches(vrf, other, destination, none), any);
            }
        }
    }

    #[test]
    fn a_next_hop_touches_whoever_uses_it() {
        let mut index = DeltaIndex::default();
        index.add(&Delta {
            next_hops: vec![NextHopId(4)],
            ..Delta::default()
        });
        assert!(index.touches(VrfId(1), VrfId(1), 1, NextHopId(4)));
        assert!(!index.touches(VrfId(1), VrfId(1), 1, NextHopId(5)));
    }

    #[test]
    fn merging_too_much_becomes_everything() {
        let mut delta = Delta {
            prefixes: vec![(VrfId(1), prefix("10.0.0.0/8")); Delta::LIMIT],
            ..Delta::default()
        };
        let more = Delta {
            prefixes: vec![(VrfId(1), prefix("10.0.0.0/8"))],
            ..Delta::default()
        };
        assert!(!delta.touches_v4(VrfId(2), 0));
        delta.merge(&more);
        assert!(delta.everything && delta.prefixes.is_empty() && delta.touches_v4(VrfId(2), 0));
        assert!(!delta.is_empty() && Delta::default().is_empty());
    }
}
