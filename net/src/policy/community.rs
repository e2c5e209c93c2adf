//! Communities of all three kinds, and patterns over them, in one notation.
//!
//! | kind | text |
//! |---|---|
//! | standard (RFC 1997) | `65001:100`, or a well-known name such as `no-export` |
//! | large (RFC 8092) | `65001:1:2` |
//! | extended (RFC 4360) | `rt:65001:100` and `soo:…` with an AS, or an IPv4 address, before the second colon; `rt:65001L:100` is the form of a four-octet AS with a number that fits in two |
//! | link bandwidth | `bandwidth:65001:125000000`, bytes a second |
//! | any other extended | `ext:` and its eight octets, hexadecimal |
//!
//! In a pattern any number, also the one of an `rt` and the like, may be `*`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A community.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 4360, as its eight octets.
    Extended(u64),
    /// RFC 8092.
    Large(u32, u32, u32),
}

/// Communities with a meaning of their own, and their names.
const WELL_KNOWN: [(&str, Community); 7] = [
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("blackhole", Community::BLACKHOLE),
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("llgr-stale", Community::LLGR_STALE),
    ("no-llgr", Community::NO_LLGR),
];

impl Community {
    /// Stays inside the AS, or the confederation (RFC 1997).
    pub const NO_EXPORT: Self = Self::Standard(0xffff_ff01);
    /// Is told to nobody (RFC 1997).
    pub const NO_ADVERTISE: Self = Self::Standard(0xffff_ff02);
    /// Stays inside the member AS of a confederation; without one, as NO_EXPORT (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self::Standard(0xffff_ff03);
    /// Asks the receiver to discard traffic (RFC 7999).
    pub const BLACKHOLE: Self = Self::Standard(0xffff_029a);
    /// The path is about to go: prefer any other (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self::Standard(0xffff_0000);
    /// The router that the path leads through has been away for long: prefer any other (RFC 9494).
    pub const LLGR_STALE: Self = Self::Standard(0xffff_0006);
    /// The path is not kept when the router that told it is away for long (RFC 9494).
    pub const NO_LLGR: Self = Self::Standard(0xffff_0007);

    /// False for an extended community that does not leave the AS (RFC 4360 section 2).
    pub const fn is_transitive(self) -> bool {
        const NON_TRANSITIVE: u64 = 0x40 << 56;
        !matches!(self, Self::Extended(raw) if raw & NON_TRANSITIVE != 0)
    }

    /// The link bandwidth that an extended community tells, bytes a second (draft-ietf-idr-link-bandwidth); transitive
    /// or not.
    pub fn link_bandwidth(self) -> Option<f32> {
        match self {
            Self::Extended(raw) if raw >> 48 == 0x4004 || raw >> 48 == 0x0004 => {
                let bandwidth = f32::from_bits((raw & 0xffff_ffff) as u32);
                (bandwidth.is_finite() && bandwidth >= 0.0).then_some(bandwidth)
            }
            _ => None,
        }
    }
}

/// Who administers the number of an extended community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Administrator {
    As2(u16),
    As4(u32),
    Address(Ipv4Addr),
}

/// Type octets of the administrators (RFC 4360 section 3.1, RFC 5668).
const TWO_OCTET_AS: u64 = 0x00;
const ADDRESS: u64 = 0x01;
const FOUR_OCTET_AS: u64 = 0x02;

/// An extended community as `kind:administrator:number`.
fn parts(raw: u64) -> Option<(&'static str, Administrator, u32)> {
    let kind = match (raw >> 48) & 0xff {
        2 => "rt",
        3 => "soo",
        _ => return None,
    };
    let long = (raw >> 16) as u32;
    let (administrator, number) = match raw >> 56 {
        TWO_OCTET_AS => (Administrator::As2((raw >> 32) as u16), raw as u32),
        ADDRESS => (Administrator::Address(long.into()), u32::from(raw as u16)),
        FOUR_OCTET_AS => (Administrator::As4(long), u32::from(raw as u16)),
        _ => return None,
    };
    Some((kind, administrator, number))
}

fn assemble(subtype: u64, administrator: Administrator, number: u32) -> Option<u64> {
    let short = || u16::try_from(number).ok().map(u64::from);
    Some(match administrator {
        Administrator::As2(asn) => TWO_OCTET_AS << 56 | subtype << 48 | u64::from(asn) << 32 | u64::from(number),
        Administrator::Address(address) => {
            ADDRESS << 56 | subtype << 48 | u64::from(u32::from(address)) << 16 | short()?
        }
        Administrator::As4(asn) => FOUR_OCTET_AS << 56 | subtype << 48 | u64::from(asn) << 16 | short()?,
    })
}

fn administrator(text: &str) -> Option<Administrator> {
    if text.contains('.') {
        return text.parse().ok().map(Administrator::Address);
    }
    if let Some(long) = text.strip_suffix('L') {
        return number(long).map(Administrator::As4);
    }
    let asn = number(text)?;
    Some(u16::try_from(asn).map_or(Administrator::As4(asn), Administrator::As2))
}

/// Decimal digits only: `u32::from_str` takes a sign too.
fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

impl fmt::Display for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As2(asn) => write!(f, "{asn}"),
            Self::As4(asn) if *asn <= u32::from(u16::MAX) => write!(f, "{asn}L"),
            Self::As4(asn) => write!(f, "{asn}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = WELL_KNOWN.iter().find(|(_, known)| known == self) {
            return f.write_str(name);
        }
        match *self {
            Self::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            Self::Large(global, one, two) => write!(f, "{global}:{one}:{two}"),
            Self::Extended(raw) => {
                if let Some((kind, administrator, number)) = parts(raw) {
                    return write!(f, "{kind}:{administrator}:{number}");
                }
                match self.link_bandwidth() {
                    Some(bytes) if raw >> 56 == 0x40 && bytes.fract() == 0.0 && bytes < 1e15 => {
                        write!(f, "bandwidth:{}:{bytes:.0}", (raw >> 32) as u16)
                    }
                    _ => write!(f, "ext:{raw:016x}"),
                }
            }
        }
    }
}

/// Text that is no community, or no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a community")]
pub struct CommunityError(String);

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        parse(text).ok_or_else(|| CommunityError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Community> {
    if let Some((_, known)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
        return Some(*known);
    }
    let fields: Vec<&str> = text.split(':').collect();
    match fields[..] {
        ["ext", raw] if raw.len() == 16 && raw.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u64::from_str_radix(raw, 16).ok().map(Community::Extended)
        }
        ["rt", admin, local] => Some(Community::Extended(assemble(2, administrator(admin)?, number(local)?)?)),
        ["soo", admin, local] => Some(Community::Extended(assemble(3, administrator(admin)?, number(local)?)?)),
        ["bandwidth", asn, bytes] if !bytes.is_empty() && bytes.bytes().all(|byte| byte.is_ascii_digit()) => {
            let (asn, bytes): (u16, f32) = (asn.parse().ok()?, bytes.parse().ok()?);
            let raw = 0x4004 << 48 | u64::from(asn) << 32 | u64::from(bytes.to_bits());
            bytes.is_finite().then_some(Community::Extended(raw))
        }
        [high, low] => {
            let part = |text| number(text).and_then(|value| u16::try_from(value).ok()).map(u32::from);
            Some(Community::Standard(part(high)? << 16 | part(low)?))
        }
        [global, one, two] => Some(Community::Large(number(global)?, number(one)?, number(two)?)),
        _ => None,
    }
}

/// What a community may look like: the community itself, or its fields with some left open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommunityPattern(Shape);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Shape {
    Exact(Community),
    Standard([Option<u16>; 2]),
    Large([Option<u32>; 3]),
    /// Kind, administrator as text, number.
    Extended(String, Option<String>, Option<u32>),
}

impl CommunityPattern {
    /// True if the community fits.
    pub fn matches(&self, community: Community) -> bool {
        match (&self.0, community) {
            (Shape::Exact(wanted), _) => *wanted == community,
            (Shape::Standard([high, low]), Community::Standard(value)) => {
                high.is_none_or(|high| high == (value >> 16) as u16) && low.is_none_or(|low| low == value as u16)
            }
            (Shape::Large(wanted), Community::Large(global, one, two)) => wanted
                .iter()
                .zip([global, one, two])
                .all(|(wanted, field)| wanted.is_none_or(|wanted| wanted == field)),
            (Shape::Extended(kind, admin, local), Community::Extended(raw)) => match (kind.as_str(), parts(raw)) {
                ("bandwidth", _) => {
                    let asn = ((raw >> 32) as u16).to_string();
                    community.link_bandwidth().is_some() && admin.as_ref().is_none_or(|admin| *admin == asn)
                }
                (_, Some((found, administrator, number))) => {
                    kind == found
                        && admin.as_ref().is_none_or(|admin| *admin == administrator.to_string())
                        && local.is_none_or(|local| local == number)
                }
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<Community> for CommunityPattern {
    fn from(community: Community) -> Self {
        Self(Shape::Exact(community))
    }
}

impl FromStr for CommunityPattern {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        pattern(text).map(Self).ok_or_else(|| CommunityError(text.to_owned()))
    }
}

fn pattern(text: &str) -> Option<Shape> {
    if let Some(exact) = parse(text) {
        return Some(Shape::Exact(exact));
    }
    let open = |text: &str| {
        if text == "*" {
            Some(None)
        } else {
            number(text).map(Some)
        }
    };
    let fields: Vec<&str> = text.split(':').collect();
    match fields[..] {
        [kind @ ("rt" | "soo"), admin, local] => {
            let admin = if admin == "*" {
                None
            } else {
                Some(administrator(admin)?.to_string())
            };
            Some(Shape::Extended(kind.to_owned(), admin, open(local)?))
        }
        ["bandwidth", admin, "*"] => {
            let admin = if admin == "*" {
                None
            } else {
                Some(admin.parse::<u16>().ok()?.to_string())
            };
            Some(Shape::Extended("bandwidth".to_owned(), admin, None))
        }
        [high, low] => {
            let short = |text| match open(text)? {
                None => Some(None),
                Some(value) => u16::try_from(value).ok().map(Some),
            };
            Some(Shape::Standard([short(high)?, short(low)?]))
        }
        [global, one, two] => Some(Shape::Large([open(global)?, open(one)?, open(two)?])),
        _ => None,
    }
}

impl fmt::Display for CommunityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn open<T: fmt::Display>(field: &Option<T>) -> String {
            field.as_ref().map_or_else(|| "*".to_owned(), T::to_string)
        }
        match &self.0 {
            Shape::Exact(community) => community.fmt(f),
            Shape::Standard(fields) => write!(f, "{}:{}", open(&fields[0]), open(&fields[1])),
            Shape::Large(fields) => write!(f, "{}:{}:{}", open(&fields[0]), open(&fields[1]), open(&fields[2])),
            Shape::Extended(kind, admin, local) => write!(f, "{kind}:{}:{}", open(admin), open(local)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn community(text: &str) -> Community {
        text.parse().expect("a community")
    }

    #[test]
    fn each_kind_has_its_notation() {
        for (text, value) in [
            ("65001:100", Community::Standard(65001 << 16 | 100)),
            ("no-export", Community::Standard(0xffff_ff01)),
            ("graceful-shutdown", Community::Standard(0xffff_0000)),
            ("65001:1:2", Community::Large(65001, 1, 2)),
            ("rt:65001:100", Community::Extended(0x0002_fde9_0000_0064)),
            ("rt:4200000000:100", Community::Extended(0x0202_fa56_ea00_0064)),
            ("rt:65001L:100", Community::Extended(0x0202_0000_fde9_0064)),
            ("soo:192.0.2.1:7", Community::Extended(0x0103_c000_0201_0007)),
            ("bandwidth:65001:125000000", Community::Extended(0x4004_fde9_4cee_6b28)),
            ("ext:8000000000000001", Community::Extended(0x8000_0000_0000_0001)),
        ] {
            assert_eq!(community(text), value, "{text}");
            assert_eq!(value.to_string(), text);
        }
        assert_eq!(community("65535:65281"), Community::NO_EXPORT);
        for wrong in [
            "",
            "1",
            "65536:1",
            "1:65536",
            "+1:1",
            "1:2:3:4",
            "rt:1",
            "rt:192.0.2.1:65536",
            "ext:1",
            "no-such",
            "1:*",
            "bandwidth:1:",
        ] {
            assert!(wrong.parse::<Community>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_star_leaves_a_field_open() {
        let fits = |pattern: &str, text: &str| {
            let parsed: CommunityPattern = pattern.parse().expect("a pattern");
            assert_eq!(parsed.to_string(), pattern);
            parsed.matches(community(text))
        };
        assert!(fits("65001:*", "65001:9") && !fits("65001:*", "65002:9") && !fits("65001:*", "65001:9:9"));
        assert!(fits("*:9", "65001:9") && fits("*:*", "no-export"));
        assert!(fits("65001:*:3", "65001:7:3") && !fits("65001:*:3", "65001:7:4"));
        assert!(fits("rt:*:*", "rt:192.0.2.1:5") && !fits("rt:*:*", "soo:192.0.2.1:5"));
        assert!(fits("rt:65001:*", "rt:65001:5") && !fits("rt:65001:*", "rt:65002:5"));
        assert!(fits("bandwidth:*:*", "bandwidth:65001:1") && !fits("bandwidth:2:*", "bandwidth:65001:1"));
        assert!(fits("no-export", "no-export") && !fits("no-export", "no-advertise"));
        assert!("*".parse::<CommunityPattern>().is_err() && "rt:x:*".parse::<CommunityPattern>().is_err());
    }

    #[test]
    fn bandwidth_is_a_float() {
        assert_eq!(community("bandwidth:65001:125000000").link_bandwidth(), Some(125e6));
        assert_eq!(Community::Extended(0x4004_fde9_ffff_ffff).link_bandwidth(), None);
        assert_eq!(community("rt:1:1").link_bandwidth(), None);
    }

    proptest! {
        #[test]
        fn text_and_value_are_one(raw in any::<u64>(), low in 0u64..4, long in any::<[u32; 3]>()) {
            let typed = raw & !(0xfffe_fffc << 32 << 16) | low << 48;
            for value in [
                Community::Standard(raw as u32),
                Community::Extended(raw),
                Community::Extended(typed),
                Community::Extended(0x4004 << 48 | raw >> 16),
                Community::Large(long[0], long[1], long[2]),
            ] {
                prop_assert_eq!(value.to_string().parse(), Ok(value));
                prop_assert!(CommunityPattern::from(value).matches(value));
                prop_assert_eq!(value.to_string().parse(), Ok(CommunityPattern::from(value)));
            }
        }
    }
}
