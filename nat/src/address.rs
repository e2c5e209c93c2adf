//! Addresses of both families as one number, so that policy, ports and limits are the same for both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::IpNet;

use crate::random::mix;

/// An IPv6 address, or an IPv4 address as the IPv4-mapped IPv6 address that stands for it (RFC 4291 section 2.5.5.2).
///
/// No packet may carry a mapped address (RFC 6890 section 2.2.3; [`net::V6::is_martian`]), so the two never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(u128);

/// What stands before an IPv4 address.
const MAPPED: u128 = 0xffff << 32;

impl Address {
    /// An IPv4 address, host order.
    #[inline]
    pub const fn v4(address: u32) -> Self {
        Self(MAPPED | address as u128)
    }

    /// An IPv6 address, host order.
    #[inline]
    pub const fn v6(address: u128) -> Self {
        Self(address)
    }

    /// True for an IPv4 address.
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == MAPPED >> 32
    }

    /// The IPv4 address, host order; `None` for IPv6.
    #[inline]
    pub const fn to_v4(self) -> Option<u32> {
        if self.is_v4() { Some(self.0 as u32) } else { None }
    }

    /// The IPv6 address, or the mapped one of IPv4, host order.
    #[inline]
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// The address as such.
    pub const fn ip(self) -> IpAddr {
        match self.to_v4() {
            Some(address) => IpAddr::V4(Ipv4Addr::from_bits(address)),
            None => IpAddr::V6(Ipv6Addr::from_bits(self.0)),
        }
    }

    /// 64 bits that tell hosts apart, the same on every worker: an IPv4 address itself, an IPv6 address mixed.
    #[inline]
    pub(crate) const fn spread(self) -> u64 {
        match self.to_v4() {
            Some(address) => address as u64,
            None => mix(mix((self.0 >> 64) as u64) ^ self.0 as u64),
        }
    }

    /// The address `offset` behind this one.
    pub(crate) const fn plus(self, offset: u128) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    /// How far this address is behind `first`.
    pub(crate) const fn since(self, first: Self) -> u128 {
        self.0.wrapping_sub(first.0)
    }
}

impl From<u32> for Address {
    #[inline]
    fn from(address: u32) -> Self {
        Self::v4(address)
    }
}

impl From<u128> for Address {
    #[inline]
    fn from(address: u128) -> Self {
        Self::v6(address)
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.to_bits())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::v4(address.to_bits()),
            IpAddr::V6(address) => Self::v6(address.to_bits()),
        }
    }
}

/// A prefix as its first and last address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: Address,
    pub(crate) last: Address,
}

impl Span {
    pub(crate) fn contains(&self, address: Address) -> bool {
        self.first <= address && address <= self.last && address.is_v4() == self.first.is_v4()
    }

    /// Addresses of a prefix of IPv4.
    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.last.since(self.first)).map_or(u64::MAX, |behind| behind.saturating_add(1))
    }
}

impl From<IpNet> for Span {
    fn from(net: IpNet) -> Self {
        Self {
            first: net.network().into(),
            last: net.broadcast().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back_as_what_they_were() {
        for text in ["10.0.0.1", "255.255.255.255", "0.0.0.0", "2001:db8::1", "ff::", "::1"] {
            let ip: IpAddr = text.parse().expect("an address");
            let address = Address::from(ip);
            assert_eq!((address.ip(), address.is_v4()), (ip, ip.is_ipv4()));
        }
        assert_eq!(Address::v4(7).spread(), 7);
        assert_ne!(Address::v6(7).spread(), Address::v6(8).spread());
    }

    #[test]
    fn a_span_is_its_prefix() {
        let span = |text: &str| Span::from(text.parse::<IpNet>().expect("a prefix"));
        let net = span("2001:db8::/64");
        let at = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
        assert!(net.contains(at("2001:db8::")) && net.contains(at("2001:db8::ffff:ffff:ffff:ffff")));
        assert!(!net.contains(at("2001:db8:0:1::")) && !net.contains(at("10.0.0.1")));
        assert_eq!((span("10.0.0.0/24").size(), span("0.0.0.0/0").size()), (256, 1 << 32));
    }
}
