//! Static NAT: from addresses to addresses, found by the prefix that they are in.

use net::{IpNet, VrfId};
use std::collections::BTreeMap;

use super::{PolicyError, StaticNat};
use crate::address::{Address, Span};

/// A prefix and what it becomes.
#[derive(Debug, Clone, Copy)]
struct Pair {
    last: Address,
    becomes: Address,
    /// VRF of the hosts inside.
    vrf: VrfId,
}

/// Every static rule, both ways. Prefixes of one map and VRF are disjoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Statics {
    /// By VRF of the hosts, VRF in which they are seen, and first address inside.
    sources: BTreeMap<(VrfId, VrfId, Address), Pair>,
    /// By VRF in which they are seen and first address outside.
    targets: BTreeMap<(VrfId, Address), Pair>,
}

impl Statics {
    pub(super) fn add(&mut self, rule: &StaticNat) -> Result<(), PolicyError> {
        let StaticNat {
            vpc,
            inside,
            outside,
            peer,
        } = *rule;
        if Address::from(inside.addr()).is_v4() != Address::from(outside.addr()).is_v4() {
            return Err(PolicyError::Families(vpc));
        }
        if inside.prefix_len() != outside.prefix_len() {
            return Err(PolicyError::StaticLength { vpc, inside, outside });
        }
        if peer == Some(vpc) {
            return Err(PolicyError::StaticPeer(vpc));
        }
        let vrf = vpc.vrf();
        let seen_in = peer.map_or(VrfId::DEFAULT, |peer| peer.vrf());
        let [from, to] = [inside, outside].map(Span::from);
        let (from, from_last, to, to_last) = (from.first, from.last, to.first, to.last);
        let source = self.sources.range(..=(vrf, seen_in, from_last)).next_back();
        if source.is_some_and(|((v, s, _), pair)| (*v, *s) == (vrf, seen_in) && pair.last >= from) {
            return Err(PolicyError::StaticInside { vpc, prefix: inside });
        }
        let target = self.targets.range(..=(seen_in, to_last)).next_back();
        if target.is_some_and(|((s, _), pair)| *s == seen_in && pair.last >= to) {
            return Err(PolicyError::StaticOutside { vpc, prefix: outside });
        }
        let pair = |last, becomes| Pair { last, becomes, vrf };
        self.sources.insert((vrf, seen_in, from), pair(from_last, to));
        self.targets.insert((seen_in, to), pair(to_last, from));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// What `source` of `vrf` is seen as in `seen_in`.
    #[inline]
    pub(super) fn source(&self, vrf: VrfId, seen_in: VrfId, source: Address) -> Option<Address> {
        if self.is_empty() {
            return None;
        }
        let ((v, s, first), pair) = self.sources.range(..=(vrf, seen_in, source)).next_back()?;
        ((*v, *s) == (vrf, seen_in) && source <= pair.last).then(|| pair.becomes.plus(source.since(*first)))
    }

    /// Whom `address` means in `seen_in`.
    #[inline]
    pub(super) fn target(&self, seen_in: VrfId, address: Address) -> Option<(VrfId, Address)> {
        if self.is_empty() {
            return None;
        }
        let ((s, first), pair) = self.targets.range(..=(seen_in, address)).next_back()?;
        (*s == seen_in && address <= pair.last).then(|| (pair.vrf, pair.becomes.plus(address.since(*first))))
    }

    /// What is seen in the default VRF.
    pub(super) fn public(&self) -> impl Iterator<Item = IpNet> + '_ {
        let public = self
            .targets
            .iter()
            .filter(|((seen_in, _), _)| *seen_in == VrfId::DEFAULT);
        public.filter_map(|((_, first), pair)| {
            let host = pair.last.since(*first).count_ones() as u8;
            let length = if first.is_v4() { 32 } else { 128 } - host;
            IpNet::new(first.ip(), length).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use net::VpcId;

    use super::*;

    fn rule(vpc: u16, inside: &str, outside: &str, peer: Option<u16>) -> StaticNat {
        let id = |n| VpcId::new(n).expect("not zero");
        StaticNat {
            vpc: id(vpc),
            inside: inside.parse().expect("a prefix"),
            outside: outside.parse().expect("a prefix"),
            peer: peer.map(id),
        }
    }

    fn ip(text: &str) -> Address {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn each_host_has_its_own_address_and_comes_back_from_it() {
        let mut statics = Statics::default();
        statics
            .add(&rule(1, "10.0.0.0/30", "192.0.2.4/30", None))
            .expect("valid");
        statics
            .add(&rule(1, "10.0.0.0/30", "100.64.0.0/30", Some(2)))
            .expect("valid");
        statics
            .add(&rule(2, "10.0.0.0/30", "100.64.0.0/30", Some(1)))
            .expect("valid");
        let (v1, v2, out) = (VrfId(1), VrfId(2), VrfId::DEFAULT);
        for host in 0..4 {
            assert_eq!(
                statics.source(v1, out, ip("10.0.0.0").plus(host)),
                Some(ip("192.0.2.4").plus(host))
            );
            assert_eq!(
                statics.target(out, ip("192.0.2.4").plus(host)),
                Some((v1, ip("10.0.0.0").plus(host)))
            );
            assert_eq!(
                statics.target(v2, ip("100.64.0.0").plus(host)),
                Some((v1, ip("10.0.0.0").plus(host)))
            );
            assert_eq!(
                statics.target(v1, ip("100.64.0.0").plus(host)),
                Some((v2, ip("10.0.0.0").plus(host)))
            );
        }
        for beside in ["9.255.255.255", "10.0.0.4"] {
            assert_eq!(statics.source(v1, out, ip(beside)), None);
        }
        for beside in ["192.0.2.3", "192.0.2.8"] {
            assert_eq!(statics.target(out, ip(beside)), None);
        }
        assert_eq!(statics.source(v2, out, ip("10.0.0.0")), None);
        assert_eq!(statics.target(out, ip("100.64.0.0")), None);
        assert_eq!(
            statics.public().collect::<Vec<_>>(),
            ["192.0.2.4/30".parse().expect("a prefix")]
        );
    }

    #[test]
    fn what_overlaps_or_does_not_pair_is_refused() {
        let mut statics = Statics::default();
        statics
            .add(&rule(1, "10.0.0.0/24", "192.0.2.0/24", None))
            .expect("valid");
        let mut refused = |rule: StaticNat| statics.add(&rule).expect_err("refused").to_string();
        assert!(refused(rule(1, "10.1.0.0/25", "192.0.3.0/24", None)).contains("same length"));
        assert!(refused(rule(1, "10.1.0.0/24", "192.0.3.0/24", Some(1))).contains("peer"));
        for inside in ["10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/16"] {
            let outside = format!("198.18.0.0/{}", inside.rsplit('/').next().expect("a length"));
            assert!(
                refused(rule(1, inside, &outside, None)).contains("earlier rule"),
                "{inside}"
            );
        }
        for outside in ["192.0.2.0/24", "192.0.2.128/25", "192.0.0.0/16"] {
            let inside = format!("10.9.0.0/{}", outside.rsplit('/').next().expect("a length"));
            assert!(
                refused(rule(2, &inside, outside, None)).contains("another rule"),
                "{outside}"
            );
        }
        statics
            .add(&rule(2, "10.0.0.0/24", "192.0.2.0/24", Some(1)))
            .expect("another side");
    }
}
