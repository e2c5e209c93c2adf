//! NPTv6 (RFC 6296): prefixes of IPv6 become others of the same length, host by host and without any state. One word of each
//! address makes up for what the prefix does to checksums, so that no checksum of a packet changes.

use std::collections::BTreeMap;

use net::{Drop, IpNet, Ipv6Net, VpcId, VrfId, parse_quoted_v6};

use crate::policy::PolicyError;

/// A prefix of a VPC that is another one outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Npt {
    /// VPC of the hosts.
    pub vpc: VpcId,
    /// Prefix of their addresses.
    pub inside: Ipv6Net,
    /// What it is outside; as long as `inside`, and no longer than 64 bits.
    pub outside: Ipv6Net,
}

/// Longest prefix: behind it are at least four words, one of which is adjusted.
pub(crate) const LONGEST: u8 = 64;
/// Longest prefix whose adjustment is in the subnet's word, bits 48 to 63 (RFC 6296 section 3.4).
const SUBNET: u8 = 48;

/// One direction of a rule.
#[derive(Debug, Clone, Copy)]
struct Side {
    from: u128,
    to: u128,
    length: u8,
    /// What is added to a word, in one's complement.
    adjustment: u16,
    /// VRF of the hosts.
    vrf: VrfId,
}

impl Side {
    fn new(from: Ipv6Net, to: Ipv6Net, vrf: VrfId) -> Self {
        let (from, to, length) = (from.network().to_bits(), to.network().to_bits(), from.prefix_len());
        let adjustment = add(sum(from), !sum(to));
        Self {
            from,
            to,
            length,
            adjustment,
            vrf,
        }
    }

    fn holds(&self, address: u128) -> bool {
        (address ^ self.from) & mask(self.length) == 0
    }

    /// The address on the other side; `None` for one that has none there (RFC 6296 sections 3.4 and 3.5).
    fn map(&self, address: u128) -> Option<u128> {
        let moved = self.to | address & !mask(self.length);
        let word = |at: u32| (moved >> (112 - at * 16)) as u16;
        let at = match self.length <= SUBNET {
            true => Some(3).filter(|at| word(*at) != u16::MAX)?,
            false => (4..8).find(|at| word(*at) != u16::MAX)?,
        };
        let adjusted = match add(word(at), self.adjustment) {
            // Both are zero in one's complement, and only one of them may stand in an address.
            u16::MAX => 0,
            other => other,
        };
        let shift = 112 - at * 16;
        Some(moved & !(0xffff << shift) | u128::from(adjusted) << shift)
    }
}

/// Ones where a prefix fixes the address.
const fn mask(length: u8) -> u128 {
    match u128::MAX.checked_shl(128 - length as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

/// One's complement addition.
const fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum + carry as u16
}

/// One's complement sum of an address's words.
fn sum(address: u128) -> u16 {
    (0..8).fold(0, |sum, at| add(sum, (address >> (at * 16)) as u16))
}

/// Every NPTv6 rule, both ways.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prefixes {
    /// By VRF and first address inside. Prefixes of a VRF are disjoint.
    outward: BTreeMap<(VrfId, u128), Side>,
    /// By first address outside.
    inward: BTreeMap<u128, Side>,
}

impl Prefixes {
    pub(crate) fn add(&mut self, rule: &Npt) -> Result<(), PolicyError> {
        let Npt { vpc, inside, outside } = *rule;
        if inside.prefix_len() != outside.prefix_len() || inside.prefix_len() > LONGEST {
            return Err(PolicyError::NptLength { vpc, inside, outside });
        }
        let vrf = vpc.vrf();
        let overlap = |one: Ipv6Net, other: &Side| {
            let shorter = mask(one.prefix_len().min(other.length));
            (one.network().to_bits() ^ other.from) & shorter == 0
        };
        let taken = self
            .outward
            .iter()
            .any(|((of, _), side)| *of == vrf && overlap(inside, side));
        if taken || self.inward.values().any(|side| overlap(outside, side)) {
            return Err(PolicyError::NptTaken { vpc, inside, outside });
        }
        let key = (vrf, inside.network().to_bits());
        self.outward.insert(key, Side::new(inside, outside, vrf));
        self.inward
            .insert(outside.network().to_bits(), Side::new(outside, inside, vrf));
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outward.is_empty()
    }

    fn out(&self, vrf: VrfId, source: u128) -> Option<&Side> {
        let (_, side) = self.outward.range((vrf, 0)..=(vrf, source)).next_back()?;
        Some(side).filter(|side| side.holds(source))
    }

    fn inside(&self, destination: u128) -> Option<&Side> {
        let (_, side) = self.inward.range(..=destination).next_back()?;
        Some(side).filter(|side| side.holds(destination))
    }

    /// What is seen in the default VRF.
    pub(crate) fn public(&self) -> impl Iterator<Item = IpNet> + '_ {
        let nets = self.inward.values();
        nets.filter_map(|side| IpNet::new(std::net::Ipv6Addr::from_bits(side.from).into(), side.length).ok())
    }
}

/// A packet that a prefix is exchanged in: which of its addresses, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NptPacket {
    /// VRF of the hosts inside.
    pub vrf: VrfId,
    /// The new source of a packet that goes out, or the new destination of one that comes in.
    pub address: u128,
    outward: bool,
}

impl crate::Policy {
    /// What NPTv6 does to a packet that leaves `vrf` for the default VRF; `None` if nothing.
    ///
    /// # Errors
    /// [`Drop::NptUntranslatable`] for a source that has no address outside.
    pub fn npt_out(&self, vrf: VrfId, source: u128) -> Option<Result<NptPacket, Drop>> {
        if self.npt().is_empty() {
            return None;
        }
        let side = self.npt().out(vrf, source)?;
        Some(packet(side, source, true))
    }

    /// What NPTv6 does to a packet of the default VRF; `None` if nothing.
    ///
    /// # Errors
    /// [`Drop::NptUntranslatable`] for a destination that has no address inside.
    pub fn npt_in(&self, destination: u128) -> Option<Result<NptPacket, Drop>> {
        if self.npt().is_empty() {
            return None;
        }
        let side = self.npt().inside(destination)?;
        Some(packet(side, destination, false))
    }

    /// Exchanges the prefix of a packet that begins with its IPv6 header, and that of the packet that it quotes at `quote` if
    /// it is an ICMPv6 error (RFC 6296 section 5.3). No checksum changes.
    pub fn apply_npt(&self, npt: &NptPacket, bytes: &mut [u8], quote: Option<usize>) {
        let own = if npt.outward { 8 } else { 24 };
        if let Some(address) = bytes.get_mut(own..own + 16) {
            address.copy_from_slice(&npt.address.to_be_bytes());
        }
        let Some(quote) = quote.and_then(|at| bytes.get_mut(at..)) else {
            return;
        };
        let Ok(about) = parse_quoted_v6(quote) else { return };
        // The quoted packet went the other way.
        let (address, at) = match npt.outward {
            true => (
                self.npt()
                    .out(npt.vrf, about.destination)
                    .and_then(|side| side.map(about.destination)),
                24,
            ),
            false => (
                self.npt().inside(about.source).and_then(|side| side.map(about.source)),
                8,
            ),
        };
        if let (Some(address), Some(field)) = (address, quote.get_mut(at..at + 16)) {
            field.copy_from_slice(&address.to_be_bytes());
        }
    }
}

fn packet(side: &Side, address: u128, outward: bool) -> Result<NptPacket, Drop> {
    let address = side.map(address).ok_or(Drop::NptUntranslatable)?;
    Ok(NptPacket {
        vrf: side.vrf,
        address,
        outward,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().expect("a prefix")
    }

    fn ip(text: &str) -> u128 {
        text.parse::<std::net::Ipv6Addr>().expect("an address").to_bits()
    }

    fn sides(inside: &str, outside: &str) -> [Side; 2] {
        let vrf = VrfId(1);
        [
            Side::new(net(inside), net(outside), vrf),
            Side::new(net(outside), net(inside), vrf),
        ]
    }

    /// The prefixes that RFC 6296 explains a /48 with.
    #[test]
    fn the_example_of_the_rfc() {
        let [out, back] = sides("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(out.adjustment, 0xd54f);
        let (inside, outside) = (ip("fd01:203:405:1::1234"), ip("2001:db8:1:d550::1234"));
        assert_eq!(out.map(inside), Some(outside));
        assert_eq!(back.map(outside), Some(inside));
    }

    #[test]
    fn a_subnet_of_all_ones_has_no_address_on_the_other_side_and_none_becomes_it() {
        let [out, _] = sides("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(out.map(ip("fd01:203:405:ffff::1")), None);
        // 0x2ab0 + 0xd54f is all ones, which is zero.
        assert_eq!(out.map(ip("fd01:203:405:2ab0::1")), Some(ip("2001:db8:1:0::1")));
    }

    #[test]
    fn longer_prefixes_adjust_the_first_word_of_the_host_that_is_not_all_ones() {
        let [out, back] = sides("fd01:203:405:7::/64", "2001:db8:1:9::/64");
        for (host, at) in [
            ("1:2:3:4", 4),
            ("ffff:2:3:4", 5),
            ("ffff:ffff:3:4", 6),
            ("ffff:ffff:ffff:4", 7),
        ] {
            let inside = ip(&format!("fd01:203:405:7:{host}"));
            let outside = out.map(inside).expect("a host");
            let changed: Vec<_> = (4..8)
                .filter(|w| (inside ^ outside) >> (112 - w * 16) as u16 & 0xffff != 0)
                .collect();
            assert_eq!(changed, [at], "{host}");
            assert_eq!(back.map(outside), Some(inside));
        }
        assert_eq!(out.map(ip("fd01:203:405:7:ffff:ffff:ffff:ffff")), None);
    }

    #[test]
    fn what_does_not_pair_or_is_taken_is_refused() {
        let rule = |vpc, inside: &str, outside: &str| Npt {
            vpc: VpcId::new(vpc).expect("not zero"),
            inside: net(inside),
            outside: net(outside),
        };
        let mut prefixes = Prefixes::default();
        prefixes.add(&rule(1, "fd00:1::/48", "2001:db8:1::/48")).expect("valid");
        let mut refused = |rule| prefixes.add(&rule).expect_err("refused").to_string();
        assert!(refused(rule(1, "fd00:2::/48", "2001:db8:2::/56")).contains("same length"));
        assert!(refused(rule(1, "fd00:2::/65", "2001:db8:2::/65")).contains("/64"));
        assert!(refused(rule(1, "fd00:1:0:5::/64", "2001:db8:2::/64")).contains("another rule"));
        assert!(refused(rule(2, "fd00:1::/32", "2001:db8::/32")).contains("another rule"));
        prefixes
            .add(&rule(2, "fd00:1::/48", "2001:db8:2::/48"))
            .expect("of another VPC");
        assert_eq!(prefixes.public().count(), 2);
    }

    proptest! {
        /// Every address comes back, and no checksum over it changes.
        #[test]
        fn mapping_is_neutral_and_comes_back(one: u128, other: u128, host: u128, length in 1_u8..=64) {
            let net = |bits: u128| Ipv6Net::new(std::net::Ipv6Addr::from_bits(bits & mask(length)), length).expect("at most 64");
            let (inside, outside) = (net(one), net(other));
            let (out, back) = (Side::new(inside, outside, VrfId(1)), Side::new(outside, inside, VrfId(1)));
            let address = inside.network().to_bits() | host & !mask(length);
            if let Some(mapped) = out.map(address) {
                prop_assert!(back.holds(mapped));
                prop_assert_eq!(add(sum(mapped), 0) % 0xffff, sum(address) % 0xffff);
                // All ones and zero are one number; what was one of them may come back as the other.
                let again = back.map(mapped).expect("no word of it is all ones");
                prop_assert_eq!(sum(again) % 0xffff, sum(address) % 0xffff);
                prop_assert_eq!(again & mask(length), inside.network().to_bits());
                prop_assert_eq!(again, address);
            }
        }
    }
}
