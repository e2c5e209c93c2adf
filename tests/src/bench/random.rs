//! Pseudo-random numbers that are the same on every machine, and prefixes with the mix of lengths of the Internet's
//! tables.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Prefix;

/// Share of each prefix length in a hundred, IPv4.
const MIX_V4: &[(u8, u64)] = &[
    (24, 60),
    (22, 11),
    (23, 10),
    (20, 5),
    (21, 5),
    (19, 3),
    (16, 2),
    (18, 2),
    (17, 1),
    (12, 1),
];
/// Share of each prefix length in a hundred, IPv6.
const MIX_V6: &[(u8, u64)] = &[
    (48, 47),
    (32, 13),
    (44, 11),
    (40, 10),
    (36, 6),
    (29, 4),
    (46, 3),
    (47, 3),
    (33, 2),
    (56, 1),
];

/// First octets that are no server's: tenants, the fabric's own network, loopback, the NAT pool.
const OURS: [u8; 4] = [10, 100, 127, 198];

/// xorshift64*, from a fixed seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x7075_726e_7069_6b65)
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A unicast IPv4 address of the Internet.
    pub fn public_v4(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from((self.bits() >> 32) as u32);
            let first = address.octets()[0];
            if (1..224).contains(&first) && !OURS.contains(&first) {
                return address;
            }
        }
    }

    /// Distinct IPv4 prefixes.
    pub fn prefixes_v4(&mut self, count: usize) -> Vec<Prefix> {
        self.distinct(count, |random| (IpAddr::V4(random.public_v4()), random.length(MIX_V4)))
    }

    /// Distinct IPv6 prefixes within 4,096 allocations of /29, as operators' blocks are.
    pub fn prefixes_v6(&mut self, count: usize) -> Vec<Prefix> {
        self.distinct(count, |random| {
            let block = 0x2400_0000 | (random.bits() as u32 & 0xfff) << 3;
            let below = u128::from(random.bits()) << 32 & (u128::MAX >> 29);
            let address = Ipv6Addr::from(u128::from(block) << 96 | below);
            (IpAddr::V6(address), random.length(MIX_V6))
        })
    }

    /// A random address in one of `prefixes`, each of them as likely.
    pub fn address_in(&mut self, prefixes: &[Prefix]) -> IpAddr {
        let prefix = prefixes[self.below(prefixes.len())];
        let length = u32::from(prefix.len());
        let host = u128::from(self.bits()) << 64 | u128::from(self.bits());
        match prefix.address() {
            IpAddr::V4(address) => {
                let host = ((host >> 96) as u32).checked_shr(length).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(address) | host))
            }
            IpAddr::V6(address) => {
                let host = host.checked_shr(length).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(address) | host))
            }
        }
    }

    fn length(&mut self, mix: &[(u8, u64)]) -> u8 {
        let mut at = self.bits() % mix.iter().map(|(_, share)| share).sum::<u64>();
        for (length, share) in mix {
            if at < *share {
                return *length;
            }
            at -= share;
        }
        mix[0].0
    }

    fn distinct(&mut self, count: usize, mut make: impl FnMut(&mut Self) -> (IpAddr, u8)) -> Vec<Prefix> {
        let mut seen = HashSet::with_capacity(count);
        let mut prefixes = Vec::with_capacity(count);
        while prefixes.len() < count {
            let (address, length) = make(self);
            let prefix = Prefix::containing(address, length).expect("the mixes hold lengths of their family");
            if seen.insert(prefix) {
                prefixes.push(prefix);
            }
        }
        prefixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_in_their_prefixes() {
        let mut random = Random::new(1);
        for prefixes in [random.prefixes_v4(500), random.prefixes_v6(500)] {
            assert_eq!(prefixes.iter().collect::<HashSet<_>>().len(), 500);
            for prefix in prefixes {
                let address = random.address_in(&[prefix]);
                assert!(prefix.contains(address), "{address} in {prefix}");
            }
        }
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..1000).collect();
        Random::new(2).shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
