//! IP prefixes whose host bits are zero.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Why a text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not `address/length`.
    #[error("`{0}` is not a prefix: write address/length, as in 10.0.0.0/8 or 2001:db8::/32")]
    Syntax(String),
    /// The address has bits set beyond the length.
    #[error("`{given}` has host bits set: write {network}")]
    HostBits {
        /// The text as given.
        given: String,
        /// The prefix that it is an address in.
        network: Prefix,
    },
    /// The length is longer than the address.
    #[error("prefix length {0} is too long for {1}")]
    Length(u8, IpAddr),
}

/// An IPv4 or IPv6 prefix; bits beyond the length are zero by construction, so equal prefixes compare equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(IpNet);

impl Prefix {
    /// 0.0.0.0/0
    pub const DEFAULT_V4: Self = Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)));
    /// ::/0
    pub const DEFAULT_V6: Self = Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)));

    /// The prefix of `length` bits that `address` lies in; host bits are cleared.
    ///
    /// # Errors
    /// [`PrefixError::Length`] if `length` exceeds 32 (IPv4) or 128 (IPv6).
    pub fn containing(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        IpNet::new(address, length)
            .map(|n| Self(n.trunc()))
            .map_err(|_| PrefixError::Length(length, address))
    }

    /// The host prefix of one address: /32 or /128.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// Lowest address of the prefix.
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// Length in bits.
    #[allow(clippy::len_without_is_empty, reason = "a prefix has a length and is never empty")]
    pub fn len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// True if `address` is in the prefix.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// True if every address of `other` is in this prefix (equal prefixes cover each other).
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// True for an IPv4 prefix.
    pub fn is_v4(&self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// The same as an `ipnet` value.
    pub fn net(&self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Prefix {
    /// Host bits are cleared.
    fn from(net: IpNet) -> Self {
        Self(net.trunc())
    }
}

impl From<Ipv4Net> for Prefix {
    /// Host bits are cleared.
    fn from(net: Ipv4Net) -> Self {
        Self(IpNet::V4(net.trunc()))
    }
}

impl From<Ipv6Net> for Prefix {
    /// Host bits are cleared.
    fn from(net: Ipv6Net) -> Self {
        Self(IpNet::V6(net.trunc()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(s: &str) -> Result<Self, PrefixError> {
        let net: IpNet = s.parse().map_err(|_| PrefixError::Syntax(s.to_owned()))?;
        let network = Self::from(net);
        if network.0 == net {
            Ok(network)
        } else {
            Err(PrefixError::HostBits {
                given: s.to_owned(),
                network,
            })
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;
    fn try_from(s: String) -> Result<Self, PrefixError> {
        s.parse()
    }
}

impl From<Prefix> for String {
    fn from(p: Prefix) -> String {
        p.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_refused_with_the_remedy() {
        let error = "10.0.0.1/8".parse::<Prefix>().expect_err("host bits");
        assert_eq!(error.to_string(), "`10.0.0.1/8` has host bits set: write 10.0.0.0/8");
    }

    #[test]
    fn covers_is_by_containment_within_a_family() {
        let p = |s: &str| s.parse::<Prefix>().expect("valid");
        assert!(p("10.0.0.0/8").covers(&p("10.1.0.0/16")));
        assert!(!p("10.1.0.0/16").covers(&p("10.0.0.0/8")));
        assert!(!Prefix::DEFAULT_V4.covers(&Prefix::DEFAULT_V6));
    }
}
