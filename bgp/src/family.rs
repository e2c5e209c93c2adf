//! Address families that the speaker carries (RFC 4760).

use std::fmt;

use net::Prefix;
use serde::{Deserialize, Serialize};

/// An address family and subsequent address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
    /// AFI 25, SAFI 70 (RFC 7432).
    L2vpnEvpn,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::Ipv4Unicast, Self::Ipv6Unicast, Self::L2vpnEvpn];

    /// Those whose routes are prefixes of the default VRF.
    pub const UNICAST: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The unicast family of a prefix.
    pub fn of(prefix: &Prefix) -> Self {
        if prefix.is_v4() {
            Self::Ipv4Unicast
        } else {
            Self::Ipv6Unicast
        }
    }

    /// AFI and SAFI (RFC 4760 section 3).
    pub const fn numbers(self) -> (u16, u8) {
        match self {
            Self::Ipv4Unicast => (1, 1),
            Self::Ipv6Unicast => (2, 1),
            Self::L2vpnEvpn => (25, 70),
        }
    }

    /// Position in [`Family::ALL`], for arrays with one entry a family.
    pub const fn index(self) -> usize {
        match self {
            Self::Ipv4Unicast => 0,
            Self::Ipv6Unicast => 1,
            Self::L2vpnEvpn => 2,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
            Self::L2vpnEvpn => "l2vpn-evpn",
        })
    }
}
