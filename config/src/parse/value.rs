//! One TOML value becomes one value of ours, or a fault that says what would do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use net::policy::{
    AsPathPattern, AsPathPatternError, Community, CommunityPattern, MedChange, NextHopChange, Origin, RouteSource,
    Then, Validity,
};
use net::{IpNet, Ipv6Net, Mac, Prefix, RouteDistinguisher, RouteTarget, VlanId, Vni, VpcId};
use toml::de::DeValue;

use crate::fault::Fault;
use crate::model::{
    Action, Family, Filtering, GracefulRestart, Mapping, Memory, Pairing, Password, PeerAs, Poll, PortRange, Protocol,
    Role, SendPaths, SessionLog,
};
use crate::words::{DeadEnd, Word};

/// Something that one TOML value says.
pub(super) trait FromToml: Sized {
    /// Reads the value of `key`.
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault>;
}

impl FromToml for bool {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        value
            .as_bool()
            .ok_or_else(|| wrong_type(key, value, "a boolean", "true or false"))
    }
}

impl FromToml for String {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        text(key, value, "a text in quotes").map(str::to_owned)
    }
}

/// The integer in `value`, wide enough for any TOML may hold.
fn integer(key: &str, value: &DeValue<'_>) -> Result<i128, Fault> {
    let number = value
        .as_integer()
        .ok_or_else(|| wrong_type(key, value, "a whole number", "a number, without quotes"))?;
    i128::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| invalid(key, format!("{} is out of range", number.as_str()), "a smaller number"))
}

fn text<'v>(key: &str, value: &'v DeValue<'_>, example: &'static str) -> Result<&'v str, Fault> {
    value.as_str().ok_or_else(|| wrong_type(key, value, "a text", example))
}

pub(super) fn wrong_type(key: &str, value: &DeValue<'_>, expected: &'static str, example: &'static str) -> Fault {
    let found = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Fault::WrongType {
        key: key.to_owned(),
        found,
        expected,
        example,
    }
}

fn invalid(key: &str, reason: String, example: impl Into<String>) -> Fault {
    Fault::InvalidValue {
        key: key.to_owned(),
        reason,
        example: example.into(),
    }
}

/// Types that are written as a text and know how to parse it.
macro_rules! from_text {
    ($($type:ty, $what:literal, $example:literal;)*) => {$(
        impl FromToml for $type {
            fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
                let text = text(key, value, $example)?;
                <$type>::from_str(text).map_err(|_| invalid(key, format!("`{text}` is not {}", $what), $example))
            }
        }
    )*};
}
from_text! {
    IpAddr, "an IP address", "an address such as \"192.0.2.1\" or \"2001:db8::1\"";
    Ipv4Addr, "an IPv4 address", "an address such as \"192.0.2.1\"";
    SocketAddr, "an address with a port", "\"0.0.0.0:179\" or \"[::]:179\"";
    IpNet, "an address with the length of its subnet", "\"192.0.2.1/31\" or \"2001:db8::1/64\"";
    Community, "a community", "\"65001:100\", \"65001:1:2\", \"rt:65001:100\" or a name such as \"no-export\"";
    CommunityPattern, "a community or a pattern", "\"65001:100\", \"65001:*\", \"65001:1:*\", \"rt:65001:*\" or a name";
    NextHopChange, "a next hop", "\"self\", \"unchanged\" or an address";
    RouteDistinguisher, "a route distinguisher", "an AS or an address and a number, as in \"65000:7\" or \"192.0.2.1:7\"";
    RouteTarget, "a route target", "an AS or an address and a number, as in \"65000:7\" or \"192.0.2.1:7\"";
    Mac, "a MAC address", "six hexadecimal bytes, as in \"02:00:00:00:00:01\"";
}

/// The fault does not repeat the text: it ends on screens and in logs.
impl FromToml for Password {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str = "1 to 80 bytes in quotes, without control characters";
        text(key, value, EXAMPLE)?
            .parse()
            .map_err(|_| invalid(key, "its length or a character is not possible".to_owned(), EXAMPLE))
    }
}

impl FromToml for Prefix {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str = "a prefix such as \"10.0.0.0/8\" or \"2001:db8::/32\"";
        let text = text(key, value, EXAMPLE)?;
        text.parse().map_err(|error: net::PrefixError| match error {
            net::PrefixError::HostBits { network, .. } => {
                invalid(key, format!("`{text}` has host bits set"), format!("\"{network}\""))
            }
            _ => invalid(key, format!("`{text}` is not a prefix"), EXAMPLE),
        })
    }
}

/// A prefix, or an address that stands for itself alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hosts(pub(super) IpNet);

impl FromToml for Hosts {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str = "an address or prefix, as in \"203.0.113.1\", \"203.0.113.0/28\" or \"2001:db8::/64\"";
        let text = text(key, value, EXAMPLE)?;
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(address.into())),
            Err(_) => Ok(Self(Prefix::from_toml(key, value)?.net())),
        }
    }
}

/// A prefix of IPv6.
#[derive(Debug, Clone, Copy)]
pub(super) struct SixNet(pub(super) Ipv6Net);

impl FromToml for SixNet {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str = "a prefix such as \"2001:db8:1::/48\"";
        match Prefix::from_toml(key, value)?.net() {
            IpNet::V6(net) => Ok(Self(net)),
            IpNet::V4(net) => Err(invalid(key, format!("`{net}` is IPv4"), EXAMPLE)),
        }
    }
}

/// A next hop as the file writes it: an address, or a table of these.
#[derive(Debug, Clone)]
pub(super) struct WrittenVia {
    pub(super) gateway: Option<IpAddr>,
    pub(super) interface: Option<String>,
    /// By name.
    pub(super) vrf: Option<String>,
    pub(super) weight: u16,
}

impl FromToml for WrittenVia {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str =
            "an address, or { gateway = \"fe80::1\", interface = \"fabric\", vrf = \"red\", weight = 1 }";
        let mut via = Self {
            gateway: None,
            interface: None,
            vrf: None,
            weight: 1,
        };
        let Some(table) = value.as_table() else {
            via.gateway = Some(IpAddr::from_toml(key, value)?);
            return Ok(via);
        };
        for (name, value) in table.iter() {
            let (name, value) = (name.get_ref().as_ref(), value.get_ref());
            match name {
                "gateway" => via.gateway = Some(IpAddr::from_toml(name, value)?),
                "interface" => via.interface = Some(String::from_toml(name, value)?),
                "vrf" => via.vrf = Some(String::from_toml(name, value)?),
                "weight" => via.weight = u16::from_toml(name, value)?,
                other => return Err(invalid(key, format!("a next hop has no `{other}`"), EXAMPLE)),
            }
        }
        Ok(via)
    }
}

impl FromToml for PortRange {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str = "\"1024-65535\", lowest port first, without port 0";
        let text = text(key, value, EXAMPLE)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => Self::new(first, last),
            _ => None,
        };
        range.ok_or_else(|| invalid(key, format!("`{text}` is not a range of ports"), EXAMPLE))
    }
}

/// `80` or `"80-99"`.
pub(super) struct Ports(pub(super) PortRange);

impl FromToml for Ports {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        if value.as_str().is_some() {
            return PortRange::from_toml(key, value).map(Self);
        }
        let port = u16::from_toml(key, value)?;
        let range = PortRange::new(port, port);
        let example = "a number from 1 to 65535, or a range in quotes";
        range
            .map(Self)
            .ok_or_else(|| invalid(key, format!("{port} is out of range"), example))
    }
}

/// Plain numbers, as wide as their type; `check::limits` knows the limits of each.
macro_rules! from_integer {
    ($($type:ty),*) => {$(
        impl FromToml for $type {
            fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
                let number = integer(key, value)?;
                Self::try_from(number).map_err(|_| {
                    let example = format!("a number from {} to {}", Self::MIN, Self::MAX);
                    invalid(key, format!("{number} is out of range"), example)
                })
            }
        }
    )*};
}
from_integer!(u8, u16, u32);

/// A number, or the word that stands for all others.
impl FromToml for PeerAs {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        match value.as_str() {
            None => u32::from_toml(key, value).map(Self::Number),
            Some("external") => Ok(Self::External),
            Some(text) => {
                let example = "a number, or \"external\" for any AS but ours";
                Err(invalid(key, format!("there is no AS `{text}`"), example))
            }
        }
    }
}

/// A number of paths, or a word.
impl FromToml for SendPaths {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str = "\"none\", \"all\", or a number of paths from 1 to 255";
        let written = match value.as_str() {
            Some(text) => text.to_owned(),
            None => integer(key, value)?.to_string(),
        };
        let number = value
            .as_str()
            .is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match written.parse() {
            Ok(paths) if !number => Ok(paths),
            _ => Err(invalid(key, format!("`{written}` is not possible"), EXAMPLE)),
        }
    }
}

macro_rules! from_number {
    ($($type:ty, $number:ty, $example:literal;)*) => {$(
        impl FromToml for $type {
            fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
                let number = integer(key, value)?;
                <$number>::try_from(number)
                    .ok()
                    .and_then(|number| <$type>::new(number).ok())
                    .ok_or_else(|| invalid(key, format!("{number} is out of range"), $example))
            }
        }
    )*};
}
from_number! {
    VpcId, u16, "a number from 1 to 65535";
    Vni, u32, "a number from 1 to 16777215";
    VlanId, u16, "a number from 1 to 4094";
}

macro_rules! from_word {
    ($($type:ty),*) => {$(
        impl FromToml for $type {
            fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
                let text = text(key, value, "one of its words")?;
                Self::from_word(text).ok_or_else(|| {
                    let words: Vec<_> = Self::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                    invalid(key, format!("there is no `{text}`"), words.join(" or "))
                })
            }
        }
    )*};
}
from_word!(
    Poll,
    Memory,
    Family,
    Action,
    GracefulRestart,
    Role,
    Protocol,
    DeadEnd,
    Mapping,
    Filtering,
    Pairing,
    SessionLog
);

/// Enumerations whose words are `net`'s.
macro_rules! from_net_word {
    ($($type:ty),*) => {$(
        impl FromToml for $type {
            fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
                let text = text(key, value, "one of its words")?;
                text.parse().map_err(|()| {
                    let words: Vec<_> = Self::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                    invalid(key, format!("there is no `{text}`"), words.join(" or "))
                })
            }
        }
    )*};
}
from_net_word!(Origin, RouteSource, Then, Validity);

impl FromToml for AsPathPattern {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        const EXAMPLE: &str = "a pattern such as \"_65010_\", \"^65010_\" or \"^$\"";
        let text = text(key, value, EXAMPLE)?;
        text.parse()
            .map_err(|error: AsPathPatternError| invalid(key, format!("`{text}`: {error}"), EXAMPLE))
    }
}

/// A number, or a text that begins with + or -.
impl FromToml for MedChange {
    fn from_toml(key: &str, value: &DeValue<'_>) -> Result<Self, Fault> {
        if value.as_str().is_none() {
            return u32::from_toml(key, value).map(Self::Set);
        }
        const EXAMPLE: &str = "a number, or \"+10\" or \"-10\" to add to the one that is there";
        let text = text(key, value, EXAMPLE)?;
        match text.parse() {
            Ok(change @ (Self::Add(_) | Self::Subtract(_))) => Ok(change),
            _ => Err(invalid(key, format!("`{text}` is not a change of the MED"), EXAMPLE)),
        }
    }
}
