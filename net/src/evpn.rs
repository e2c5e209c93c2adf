//! Names of EVPN's and VPNs' routes: route distinguishers (RFC 4364 section 4.2) and route targets (RFC 4360 section 4).
//!
//! Both are an administrator and a number: `65000:7` (an AS of two octets and a number of four), `4200000000:7` (an AS of
//! four octets and a number of two) or `192.0.2.1:7` (an address and a number of two).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::policy::Community;

/// The text is neither a route distinguisher nor a route target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an administrator and a number: write an AS and a number (65000:7) or an address and a number (192.0.2.1:7); \
     a number beside an address or an AS above 65535 ends at 65535"
)]
pub struct AdministratorError(String);

/// Tells equal prefixes of different VRFs apart: type, administrator and number, as its eight octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteDistinguisher([u8; 8]);

impl RouteDistinguisher {
    /// From its octets; those of a type that is not known are kept as they are.
    pub const fn from_octets(octets: [u8; 8]) -> Self {
        Self(octets)
    }

    /// Its octets.
    pub const fn octets(self) -> [u8; 8] {
        self.0
    }

    /// The one that is made for VRF `number` of the router `router_id` (RFC 7432 section 7.9: type 1).
    pub const fn automatic(router_id: Ipv4Addr, number: u16) -> Self {
        let ([a, b, c, d], [high, low]) = (router_id.octets(), number.to_be_bytes());
        Self([0, 1, a, b, c, d, high, low])
    }
}

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, _, a, b, c, d, e, g] = self.0;
        let last = u16::from_be_bytes([e, g]);
        match u16::from_be_bytes([self.0[0], self.0[1]]) {
            0 => write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
            1 => write!(f, "{}:{last}", Ipv4Addr::new(a, b, c, d)),
            2 => write!(f, "{}:{last}", u32::from_be_bytes([a, b, c, d])),
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl FromStr for RouteDistinguisher {
    type Err = AdministratorError;

    fn from_str(text: &str) -> Result<Self, AdministratorError> {
        let error = || AdministratorError(text.to_owned());
        if let Some(raw) = text.strip_prefix("0x") {
            let raw = u64::from_str_radix(raw, 16).ok().filter(|_| raw.len() == 16);
            // What has a form of its own is written in it.
            let raw = raw.filter(|raw| raw >> 48 > 2).ok_or_else(error)?;
            return Ok(Self(raw.to_be_bytes()));
        }
        let target: RouteTarget = text.parse()?;
        let [kind, _, rest @ ..] = target.0.to_be_bytes();
        let [a, b, c, d, e, g] = rest;
        Ok(Self([0, kind, a, b, c, d, e, g]))
    }
}

/// Says which VRFs a route is for: an extended community of sub-type 2, as its eight octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteTarget(u64);

impl RouteTarget {
    /// The community.
    pub const fn community(self) -> Community {
        Community::Extended(self.0)
    }

    /// The target that a community is, if it is one.
    pub fn of(community: Community) -> Option<Self> {
        match community {
            // Transitive, of the three administrators (RFC 4360 section 4).
            Community::Extended(raw) if raw >> 56 <= 2 && (raw >> 48) & 0xff == 2 => Some(Self(raw)),
            _ => None,
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.community().to_string();
        f.write_str(text.strip_prefix("rt:").unwrap_or(&text))
    }
}

impl FromStr for RouteTarget {
    type Err = AdministratorError;

    fn from_str(text: &str) -> Result<Self, AdministratorError> {
        let error = || AdministratorError(text.to_owned());
        let community: Community = format!("rt:{text}").parse().map_err(|_| error())?;
        Self::of(community).ok_or_else(error)
    }
}

macro_rules! as_text {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl TryFrom<String> for $type {
            type Error = AdministratorError;
            fn try_from(text: String) -> Result<Self, AdministratorError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    )*};
}
as_text!(RouteDistinguisher, RouteTarget);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_its_octets_and_back() {
        for (text, octets) in [
            ("65000:70000", [0, 0, 0xfd, 0xe8, 0, 1, 0x11, 0x70]),
            ("192.0.2.1:7", [0, 1, 192, 0, 2, 1, 0, 7]),
            ("4200000000:7", [0, 2, 0xfa, 0x56, 0xea, 0, 0, 7]),
            ("0x0003000000000001", [0, 3, 0, 0, 0, 0, 0, 1]),
        ] {
            let distinguisher: RouteDistinguisher = text.parse().expect(text);
            assert_eq!(
                (distinguisher.octets(), distinguisher.to_string()),
                (octets, text.to_owned())
            );
        }
        for (text, raw) in [
            ("65000:70000", 0x0002_fde8_0001_1170),
            ("192.0.2.1:7", 0x0102_c000_0201_0007),
            ("4200000000:7", 0x0202_fa56_ea00_0007),
        ] {
            let target: RouteTarget = text.parse().expect(text);
            assert_eq!(
                (target.community(), target.to_string()),
                (Community::Extended(raw), text.to_owned())
            );
        }
        assert_eq!(
            RouteDistinguisher::automatic(Ipv4Addr::new(192, 0, 2, 1), 7).to_string(),
            "192.0.2.1:7"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in [
            "",
            "7",
            "65000",
            "65000:",
            ":7",
            "65000:4294967296",
            "4200000000:65536",
            "192.0.2.1:65536",
            "a:b",
            "1:2:3",
            "rt:65000:7",
            "0x0001000000000001",
            "0x1",
        ] {
            assert!(bad.parse::<RouteDistinguisher>().is_err(), "{bad}");
            assert!(bad.parse::<RouteTarget>().is_err(), "{bad}");
        }
        // Site of origin, and a target that is not transitive.
        for raw in [0x0003_fde8_0000_0007, 0x4002_fde8_0000_0007] {
            assert_eq!(RouteTarget::of(Community::Extended(raw)), None);
        }
    }
}
