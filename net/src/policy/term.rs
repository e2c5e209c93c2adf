//! Conditions and changes of a term. Each has a key, the one of the file, and a value in text: the store keeps them so,
//! and reasons are printed so.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{Community, CommunityPattern};

/// Implements the words of an enumeration, both ways.
macro_rules! words {
    ($type:ident: $($word:literal = $value:ident),*) => {
        impl $type {
            /// Every value with its word.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$value)),*];

            /// The word of the value.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$value => $word),* }
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $type {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or(())
            }
        }
    };
}

/// ORIGIN of a route (RFC 4271 section 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// From inside the originating AS.
    Igp,
    /// Learned by EGP.
    Egp,
    /// Any other way.
    Incomplete,
}
words!(Origin: "igp" = Igp, "egp" = Egp, "incomplete" = Incomplete);

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteSource {
    /// An external peer.
    Ebgp,
    /// An internal peer.
    Ibgp,
    /// A prefix of `announce`.
    Announced,
    /// A subnet of the gateway's.
    Connected,
    /// A static route.
    Static,
    /// A route of the kernel.
    Kernel,
}
words!(RouteSource: "ebgp" = Ebgp, "ibgp" = Ibgp, "announced" = Announced, "connected" = Connected, "static" = Static,
    "kernel" = Kernel);

/// What the RPKI says of a route's origin (RFC 6811 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Validity {
    /// Its AS may originate it.
    Valid,
    /// Others may, its AS may not, or not so long a prefix.
    Invalid,
    /// Nobody has said who may.
    #[default]
    NotFound,
}
words!(Validity: "valid" = Valid, "invalid" = Invalid, "not-found" = NotFound);

/// What follows a term that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// The route passes.
    Accept,
    /// The route does not.
    Reject,
    /// The terms after this one go on, with the changes made here.
    NextTerm,
}
words!(Then: "accept" = Accept, "reject" = Reject, "next-term" = NextTerm);

impl Serialize for Then {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// Kinds of sets that conditions name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// `prefix-set`
    Prefix,
    /// `as-path-set`
    AsPath,
    /// `community-set`
    Community,
}
words!(SetKind: "prefix-set" = Prefix, "as-path-set" = AsPath, "community-set" = Community);

/// Something that must hold for a term to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The prefix is in the set.
    PrefixSet(String),
    /// The AS path is in the set.
    AsPathSet(String),
    /// The route carries a community of the set.
    CommunityAny(String),
    /// The route carries communities for every member of the set.
    CommunityAll(String),
    /// The next hop, as a host's prefix, is in the set.
    NextHopSet(String),
    /// MULTI_EXIT_DISC is there and is this.
    Med(u32),
    /// LOCAL_PREF is this; 100 if the route has none.
    LocalPref(u32),
    /// ORIGIN is this.
    Origin(Origin),
    /// The tag is this; 0 if none was set.
    Tag(u32),
    /// The route comes from, or goes to, one of these peers.
    Neighbor(Vec<IpAddr>),
    /// The prefix is IPv4, or else IPv6.
    V4(bool),
    /// The route comes from one of these.
    Source(Vec<RouteSource>),
    /// The RPKI says one of these of its origin.
    Rpki(Vec<Validity>),
}

const V4: &str = "ipv4-unicast";
const V6: &str = "ipv6-unicast";

impl Condition {
    /// The set that it names.
    pub fn set(&self) -> Option<(SetKind, &str)> {
        match self {
            Self::PrefixSet(name) | Self::NextHopSet(name) => Some((SetKind::Prefix, name)),
            Self::AsPathSet(name) => Some((SetKind::AsPath, name)),
            Self::CommunityAny(name) | Self::CommunityAll(name) => Some((SetKind::Community, name)),
            _ => None,
        }
    }

    /// Its key in the file.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::PrefixSet(_) => "prefix-set",
            Self::AsPathSet(_) => "as-path-set",
            Self::CommunityAny(_) => "community-any",
            Self::CommunityAll(_) => "community-all",
            Self::NextHopSet(_) => "next-hop-set",
            Self::Med(_) => "med",
            Self::LocalPref(_) => "local-pref",
            Self::Origin(_) => "origin",
            Self::Tag(_) => "tag",
            Self::Neighbor(_) => "neighbor",
            Self::V4(_) => "family",
            Self::Source(_) => "source",
            Self::Rpki(_) => "rpki",
        }
    }

    /// Its value as text; several are separated by spaces.
    pub fn value(&self) -> String {
        match self {
            Self::PrefixSet(name)
            | Self::AsPathSet(name)
            | Self::CommunityAny(name)
            | Self::CommunityAll(name)
            | Self::NextHopSet(name) => name.clone(),
            Self::Med(number) | Self::LocalPref(number) | Self::Tag(number) => number.to_string(),
            Self::Origin(origin) => origin.to_string(),
            Self::Neighbor(addresses) => join(addresses),
            Self::V4(v4) => if *v4 { V4 } else { V6 }.to_owned(),
            Self::Source(sources) => join(sources),
            Self::Rpki(validities) => join(validities),
        }
    }

    /// From key and value, as [`Condition::key`] and [`Condition::value`] say them.
    pub fn parse(key: &str, value: &str) -> Option<Self> {
        let name = || value.to_owned();
        Some(match key {
            "prefix-set" => Self::PrefixSet(name()),
            "as-path-set" => Self::AsPathSet(name()),
            "community-any" => Self::CommunityAny(name()),
            "community-all" => Self::CommunityAll(name()),
            "next-hop-set" => Self::NextHopSet(name()),
            "med" => Self::Med(value.parse().ok()?),
            "local-pref" => Self::LocalPref(value.parse().ok()?),
            "origin" => Self::Origin(value.parse().ok()?),
            "tag" => Self::Tag(value.parse().ok()?),
            "neighbor" => Self::Neighbor(split(value)?),
            "family" if value == V4 || value == V6 => Self::V4(value == V4),
            "source" => Self::Source(split(value)?),
            "rpki" => Self::Rpki(split(value)?),
            _ => return None,
        })
    }
}

/// How MULTI_EXIT_DISC changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MedChange {
    /// To this.
    Set(u32),
    /// Up by this, at most to the greatest; none counts as 0.
    Add(u32),
    /// Down by this, at most to 0; none counts as 0.
    Subtract(u32),
}

impl Display for MedChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(value) => write!(f, "{value}"),
            Self::Add(value) => write!(f, "+{value}"),
            Self::Subtract(value) => write!(f, "-{value}"),
        }
    }
}

impl FromStr for MedChange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (change, digits): (fn(u32) -> Self, _) = match text.as_bytes().first() {
            Some(b'+') => (Self::Add, &text[1..]),
            Some(b'-') => (Self::Subtract, &text[1..]),
            _ => (Self::Set, text),
        };
        let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(change).ok_or(())
    }
}

/// What becomes of the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHopChange {
    /// Our own address on the session; what happens on export anyway.
    Own,
    /// Passed on as it came.
    Unchanged,
    /// This address.
    Address(IpAddr),
}

impl Display for NextHopChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("self"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for NextHopChange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "self" => Ok(Self::Own),
            "unchanged" => Ok(Self::Unchanged),
            _ => text.parse().map(Self::Address).map_err(drop),
        }
    }
}

/// Something that a term does to a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// LOCAL_PREF.
    LocalPref(u32),
    /// MULTI_EXIT_DISC.
    Med(MedChange),
    /// Puts an AS, or else our own, in front of the AS path so many times.
    Prepend {
        /// The AS.
        asn: Option<u32>,
        /// How often.
        count: u8,
    },
    /// ORIGIN.
    Origin(Origin),
    /// The next hop.
    NextHop(NextHopChange),
    /// Takes away the communities that fit one of these.
    RemoveCommunities(Vec<CommunityPattern>),
    /// Adds communities.
    AddCommunities(Vec<Community>),
    /// Replaces the communities of all kinds.
    SetCommunities(Vec<Community>),
    /// A number that later policies of this gateway can match on.
    Tag(u32),
    /// Preference inside this gateway; the first step of the decision process.
    Weight(u32),
    /// Traffic to the prefix is discarded here.
    Blackhole,
}

impl Change {
    /// Its key in the file.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::LocalPref(_) => "local-pref",
            Self::Med(_) => "med",
            Self::Prepend { .. } => "prepend",
            Self::Origin(_) => "origin",
            Self::NextHop(_) => "next-hop",
            Self::RemoveCommunities(_) => "remove-communities",
            Self::AddCommunities(_) => "add-communities",
            Self::SetCommunities(_) => "communities",
            Self::Tag(_) => "tag",
            Self::Weight(_) => "weight",
            Self::Blackhole => "blackhole",
        }
    }

    /// Its value as text; several are separated by spaces.
    pub fn value(&self) -> String {
        match self {
            Self::LocalPref(number) | Self::Tag(number) | Self::Weight(number) => number.to_string(),
            Self::Med(change) => change.to_string(),
            Self::Prepend { asn: None, count } => count.to_string(),
            Self::Prepend { asn: Some(asn), count } => format!("{count} {asn}"),
            Self::Origin(origin) => origin.to_string(),
            Self::NextHop(change) => change.to_string(),
            Self::RemoveCommunities(patterns) => join(patterns),
            Self::AddCommunities(communities) | Self::SetCommunities(communities) => join(communities),
            Self::Blackhole => "true".to_owned(),
        }
    }

    /// From key and value, as [`Change::key`] and [`Change::value`] say them.
    pub fn parse(key: &str, value: &str) -> Option<Self> {
        Some(match key {
            "local-pref" => Self::LocalPref(value.parse().ok()?),
            "med" => Self::Med(value.parse().ok()?),
            "prepend" => {
                let (count, asn) = match value.split_once(' ') {
                    Some((count, asn)) => (count, Some(asn.parse().ok()?)),
                    None => (value, None),
                };
                Self::Prepend {
                    asn,
                    count: count.parse().ok()?,
                }
            }
            "origin" => Self::Origin(value.parse().ok()?),
            "next-hop" => Self::NextHop(value.parse().ok()?),
            "remove-communities" => Self::RemoveCommunities(split(value)?),
            "add-communities" => Self::AddCommunities(split(value)?),
            "communities" => Self::SetCommunities(split(value)?),
            "tag" => Self::Tag(value.parse().ok()?),
            "weight" => Self::Weight(value.parse().ok()?),
            "blackhole" if value == "true" => Self::Blackhole,
            _ => return None,
        })
    }
}

fn join<T: ToString>(list: &[T]) -> String {
    list.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn split<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split_whitespace().map(|item| item.parse().ok()).collect()
}

/// As key and value.
macro_rules! serialize_as_pair {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map([(self.key(), self.value())])
            }
        }
    )*};
}
serialize_as_pair!(Condition, Change);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_and_change_comes_back_from_its_text() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        for condition in [
            Condition::PrefixSet("a".into()),
            Condition::AsPathSet("b".into()),
            Condition::CommunityAny("c".into()),
            Condition::CommunityAll("c".into()),
            Condition::NextHopSet("a".into()),
            Condition::Med(1),
            Condition::LocalPref(2),
            Condition::Origin(Origin::Egp),
            Condition::Tag(3),
            Condition::Neighbor(vec![ip("192.0.2.1"), ip("2001:db8::1")]),
            Condition::V4(true),
            Condition::V4(false),
            Condition::Source(RouteSource::WORDS.iter().map(|(_, source)| *source).collect()),
        ] {
            assert_eq!(Condition::parse(condition.key(), &condition.value()), Some(condition));
        }
        let communities = vec![Community::NO_EXPORT, Community::Large(1, 2, 3)];
        for change in [
            Change::LocalPref(1),
            Change::Med(MedChange::Set(1)),
            Change::Med(MedChange::Add(2)),
            Change::Med(MedChange::Subtract(3)),
            Change::Prepend { asn: None, count: 3 },
            Change::Prepend {
                asn: Some(65001),
                count: 1,
            },
            Change::Origin(Origin::Incomplete),
            Change::NextHop(NextHopChange::Own),
            Change::NextHop(NextHopChange::Unchanged),
            Change::NextHop(NextHopChange::Address(ip("192.0.2.1"))),
            Change::RemoveCommunities(vec!["65001:*".parse().expect("pattern")]),
            Change::AddCommunities(communities.clone()),
            Change::SetCommunities(communities),
            Change::SetCommunities(Vec::new()),
            Change::Tag(1),
            Change::Weight(1),
            Change::Blackhole,
        ] {
            assert_eq!(Change::parse(change.key(), &change.value()), Some(change));
        }
        assert_eq!(Condition::parse("family", "ipv5"), None);
        assert_eq!(Change::parse("med", "+-1"), None);
    }
}
