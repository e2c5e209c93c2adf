//! Validated ROA payloads, and what they say of a route's origin (RFC 6811).

use net::policy::Validity;
use net::{IpNet, Ipv4Net, Ipv6Net, Prefix};
use prefix_trie::PrefixMap;

use crate::wire::{AsPathSegment, Attributes};

/// An AS may originate the prefix, and what is in it, down to a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrp {
    /// The prefix.
    pub prefix: Prefix,
    /// Longest length of what may be originated.
    pub max_length: u8,
    /// The AS; 0 authorizes nobody.
    pub asn: u32,
}

type Authorized = Vec<(u8, u32)>;

/// A set of VRPs, looked up along a prefix's own bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VrpSet {
    v4: PrefixMap<Ipv4Net, Authorized>,
    v6: PrefixMap<Ipv6Net, Authorized>,
    count: usize,
}

impl VrpSet {
    /// VRPs in it.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// True if it has none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What the set says of `prefix` originated by `origin`; `None` if it is not one AS (RFC 6811 section 2).
    pub fn validate(&self, prefix: &Prefix, origin: Option<u32>) -> Validity {
        let length = prefix.len();
        let judge = |authorized: &Authorized, so_far: Validity| {
            let fits = |(longest, asn): &(u8, u32)| *asn != 0 && Some(*asn) == origin && length <= *longest;
            if so_far == Validity::Valid || authorized.iter().any(fits) {
                Validity::Valid
            } else if authorized.is_empty() {
                so_far
            } else {
                Validity::Invalid
            }
        };
        let fold = |so_far, authorized: &Authorized| judge(authorized, so_far);
        match prefix.net() {
            IpNet::V4(net) => self
                .v4
                .cover(&net)
                .map(|(_, found)| found)
                .fold(Validity::NotFound, fold),
            IpNet::V6(net) => self
                .v6
                .cover(&net)
                .map(|(_, found)| found)
                .fold(Validity::NotFound, fold),
        }
    }
}

impl FromIterator<Vrp> for VrpSet {
    fn from_iter<T: IntoIterator<Item = Vrp>>(vrps: T) -> Self {
        let mut set = Self::default();
        for vrp in vrps {
            let authorized = match vrp.prefix.net() {
                IpNet::V4(net) => set.v4.entry(net).or_default(),
                IpNet::V6(net) => set.v6.entry(net).or_default(),
            };
            authorized.push((vrp.max_length, vrp.asn));
            set.count += 1;
        }
        set
    }
}

/// The AS that originated a route: the last of the path, ours if the path is empty; `None` if the path ends in a set.
pub fn origin(attributes: &Attributes, local_as: u32) -> Option<u32> {
    match attributes.as_path.segments.last() {
        None => Some(local_as),
        Some(AsPathSegment::AsSequence(sequence)) => sequence.last().copied(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection;
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("prefix")
    }

    fn vrp(of: &str, max_length: u8, asn: u32) -> Vrp {
        Vrp {
            prefix: prefix(of),
            max_length,
            asn,
        }
    }

    #[test]
    fn routes_are_valid_invalid_or_not_found() {
        let set: VrpSet = [
            vrp("10.0.0.0/16", 20, 65001),
            vrp("10.0.0.0/8", 8, 65002),
            vrp("192.0.2.0/24", 24, 0),
            vrp("2001:db8::/32", 48, 65001),
        ]
        .into_iter()
        .collect();
        assert_eq!(set.len(), 4);
        for (of, origin, wanted) in [
            ("10.0.0.0/16", Some(65001), Validity::Valid),
            ("10.0.16.0/20", Some(65001), Validity::Valid),
            ("10.0.0.0/21", Some(65001), Validity::Invalid),
            ("10.0.0.0/16", Some(65003), Validity::Invalid),
            ("10.0.0.0/8", Some(65002), Validity::Valid),
            ("10.1.0.0/16", Some(65002), Validity::Invalid),
            ("10.0.0.0/16", None, Validity::Invalid),
            ("192.0.2.0/24", Some(0), Validity::Invalid),
            ("0.0.0.0/0", Some(65001), Validity::NotFound),
            ("11.0.0.0/8", Some(65001), Validity::NotFound),
            ("2001:db8:1::/48", Some(65001), Validity::Valid),
            ("2001:db8:1::/49", Some(65001), Validity::Invalid),
            ("2001:db9::/32", None, Validity::NotFound),
        ] {
            assert_eq!(set.validate(&prefix(of), origin), wanted, "{of} of {origin:?}");
        }
    }

    proptest! {
        /// Against the definition, read word by word.
        #[test]
        fn the_trie_agrees_with_the_definition(
            vrps in collection::vec((0..64_u32, 1..=8_u8, 0..=8_u8, 0..4_u32), 0..20),
            route in (0..64_u32, 1..=10_u8, proptest::option::of(0..4_u32)),
        ) {
            let cut = |bits: u32, length| {
                Prefix::containing(std::net::Ipv4Addr::from(bits << 26).into(), length).expect("length")
            };
            let vrps: Vec<Vrp> = vrps
                .into_iter()
                .map(|(bits, length, more, asn)| Vrp { prefix: cut(bits, length), max_length: length + more, asn })
                .collect();
            let (prefix, origin) = (cut(route.0, route.1), route.2);
            let covering: Vec<&Vrp> = vrps.iter().filter(|vrp| vrp.prefix.covers(&prefix)).collect();
            let matched = covering.iter().any(|vrp| {
                vrp.asn != 0 && origin == Some(vrp.asn) && prefix.len() <= vrp.max_length
            });
            let wanted = match (covering.is_empty(), matched) {
                (true, _) => Validity::NotFound,
                (false, true) => Validity::Valid,
                (false, false) => Validity::Invalid,
            };
            let set: VrpSet = vrps.into_iter().collect();
            prop_assert_eq!(set.validate(&prefix, origin), wanted);
        }
    }
}
