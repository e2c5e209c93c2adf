//! What a connection is found by: one direction's addresses and ports in a VRF, packed into two words.

use std::fmt;
use std::net::Ipv4Addr;

use net::VrfId;

/// One direction of a flow: VRF, protocol, addresses and ports, packed into 16 bytes.
///
/// For ICMP echo the identifier stands in both ports. IPv6 addresses stand here by the short numbers that the engine gives
/// them, and such a key means nothing elsewhere ([`crate::Engine::find`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FlowKey {
    /// Source in the upper half, destination in the lower.
    addresses: u64,
    /// VRF, family, protocol, source port, destination port from the top: 16, 8, 8, 16 and 16 bits.
    rest: u64,
}

/// The bit of an IPv6 flow.
const V6: u64 = 1 << 40;

impl FlowKey {
    /// A key of host-order addresses and ports.
    #[inline]
    pub const fn v4(
        vrf: VrfId,
        protocol: u8,
        source: u32,
        destination: u32,
        source_port: u16,
        destination_port: u16,
    ) -> Self {
        Self {
            addresses: (source as u64) << 32 | destination as u64,
            rest: (vrf.0 as u64) << 48 | (protocol as u64) << 32 | (source_port as u64) << 16 | destination_port as u64,
        }
    }

    /// A key of IPv6 addresses by their numbers.
    #[inline]
    pub(crate) const fn v6(vrf: VrfId, protocol: u8, source: u32, destination: u32, ports: (u16, u16)) -> Self {
        let key = Self::v4(vrf, protocol, source, destination, ports.0, ports.1);
        Self {
            rest: key.rest | V6,
            ..key
        }
    }

    /// True for an IPv6 flow, whose addresses are numbers.
    #[inline]
    pub const fn is_v6(&self) -> bool {
        self.rest & V6 != 0
    }

    /// The key as bytes, for storage.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.addresses) << 64 | u128::from(self.rest)).to_be_bytes()
    }

    /// The key of such bytes.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self {
            addresses: (both >> 64) as u64,
            rest: both as u64 & 0xffff_00ff_ffff_ffff,
        }
    }

    /// The same of both addresses, source in the upper half, and both ports, source in the upper half.
    #[inline]
    pub const fn of_words(vrf: VrfId, protocol: u8, addresses: u64, ports: u32) -> Self {
        Self {
            addresses,
            rest: (vrf.0 as u64) << 48 | (protocol as u64) << 32 | ports as u64,
        }
    }

    /// VRF that the packet is looked up in.
    #[inline]
    pub const fn vrf(&self) -> VrfId {
        VrfId((self.rest >> 48) as u16)
    }

    /// IP protocol number.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    /// Source address, host order; the number of an IPv6 address.
    #[inline]
    pub const fn source(&self) -> u32 {
        (self.addresses >> 32) as u32
    }

    /// Destination address, host order; the number of an IPv6 address.
    #[inline]
    pub const fn destination(&self) -> u32 {
        self.addresses as u32
    }

    /// Source port, or the echo identifier.
    #[inline]
    pub const fn source_port(&self) -> u16 {
        (self.rest >> 16) as u16
    }

    /// Destination port, or the echo identifier.
    #[inline]
    pub const fn destination_port(&self) -> u16 {
        self.rest as u16
    }

    /// The key of the opposite direction in the same VRF, without any translation.
    #[inline]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            addresses: self.addresses.rotate_left(32),
            rest: self.rest & 0xffff_ffff_0000_0000
                | (self.destination_port() as u64) << 16
                | self.source_port() as u64,
        }
    }

    /// 64 well mixed bits of the key and a secret. One folded multiplication: both halves depend on every input bit.
    #[inline]
    pub(crate) const fn hash(&self, secret: &Secret) -> u64 {
        let product = (self.addresses ^ secret.0) as u128 * (self.rest ^ secret.1) as u128;
        let folded = product as u64 ^ (product >> 64) as u64;
        let product = folded as u128 * 0x9e37_79b9_7f4a_7c15;
        product as u64 ^ (product >> 64) as u64
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "vrf {} protocol {} {}:{} > {}:{}",
            self.vrf(),
            self.protocol(),
            Ipv4Addr::from(self.source()),
            self.source_port(),
            Ipv4Addr::from(self.destination()),
            self.destination_port()
        )
    }
}

/// What makes the table's hash unpredictable to a sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret(u64, u64);

impl Secret {
    /// A secret out of a generator.
    pub(crate) fn new(random: &mut crate::random::Random) -> Self {
        Self(random.next_u64() | 1, random.next_u64() | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const KEY: FlowKey = FlowKey::v4(VrfId(0xfedc), 17, 0x0a00_0001, 0xc0a8_0102, 0x1234, 0xabcd);

    #[test]
    fn every_field_comes_back() {
        assert_eq!(KEY.vrf(), VrfId(0xfedc));
        assert_eq!(KEY.protocol(), 17);
        assert_eq!((KEY.source(), KEY.destination()), (0x0a00_0001, 0xc0a8_0102));
        assert_eq!((KEY.source_port(), KEY.destination_port()), (0x1234, 0xabcd));
        let words = FlowKey::of_words(VrfId(0xfedc), 17, 0x0a00_0001_c0a8_0102, 0x1234_abcd);
        assert_eq!(words, KEY);
    }

    #[test]
    fn reversing_swaps_ends_and_nothing_else() {
        assert_eq!(
            KEY.reversed(),
            FlowKey::v4(VrfId(0xfedc), 17, 0xc0a8_0102, 0x0a00_0001, 0xabcd, 0x1234)
        );
        assert_eq!(KEY.reversed().reversed(), KEY);
    }

    #[test]
    fn sequential_keys_spread_over_high_and_low_bits() {
        let secret = Secret::new(&mut Random::new(7));
        let (mut high, mut low) = ([0u32; 64], [0u32; 64]);
        for i in 0..64_000u32 {
            let key = FlowKey::v4(
                VrfId(1),
                6,
                0x0a00_0000 + i / 64,
                0x0808_0808,
                1024 + (i % 64) as u16,
                443,
            );
            let hash = key.hash(&secret);
            high[(hash >> 58) as usize] += 1;
            low[(hash & 63) as usize] += 1;
        }
        for count in high.iter().chain(&low) {
            assert!((800..1200).contains(count), "1000 expected, {count} found");
        }
    }
}
