//! Enumerations and their words, which the file and the store share.

use crate::model::{
    Action, Family, Filtering, GracefulRestart, Mapping, Memory, Pairing, Poll, Protocol, Role, SessionLog,
};

/// An enumeration that is written as one word out of a few.
pub(crate) trait Word: Copy + PartialEq + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The value of a word.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, value)| *value)
    }

    /// The word of a value.
    fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, value)| *value == self)
            .map(|(word, _)| *word)
            .expect("WORDS lists every value")
    }
}

impl Word for Poll {
    const WORDS: &'static [(&'static str, Self)] = &[("adaptive", Self::Adaptive), ("busy", Self::Busy)];
}

impl Word for Memory {
    const WORDS: &'static [(&'static str, Self)] = &[("hugepages", Self::Hugepages), ("no-huge", Self::NoHuge)];
}

impl Word for Family {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("ipv4-unicast", Self::Ipv4Unicast),
        ("ipv6-unicast", Self::Ipv6Unicast),
        ("l2vpn-evpn", Self::L2vpnEvpn),
    ];
}

impl Word for GracefulRestart {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("helper", Self::Helper), ("full", Self::Full)];
}

impl Word for Role {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("provider", Self::Provider),
        ("rs-server", Self::RsServer),
        ("rs-client", Self::RsClient),
        ("customer", Self::Customer),
        ("peer", Self::Peer),
    ];
}

impl Word for Action {
    const WORDS: &'static [(&'static str, Self)] = &[("accept", Self::Accept), ("deny", Self::Deny)];
}

impl Word for Mapping {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("per-connection", Self::PerConnection),
        ("overloading", Self::Overloading),
        ("endpoint-independent", Self::EndpointIndependent),
    ];
}

impl Word for Filtering {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("address-and-port-dependent", Self::AddressAndPortDependent),
        ("address-dependent", Self::AddressDependent),
        ("endpoint-independent", Self::EndpointIndependent),
    ];
}

impl Word for SessionLog {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("sources", Self::Sources),
        ("destinations", Self::Destinations),
    ];
}

impl Word for Pairing {
    const WORDS: &'static [(&'static str, Self)] = &[("soft", Self::Soft), ("strict", Self::Strict)];
}

impl Word for Protocol {
    const WORDS: &'static [(&'static str, Self)] = &[("tcp", Self::Tcp), ("udp", Self::Udp)];
}

/// A static route that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadEnd {
    Blackhole,
    Unreachable,
    Prohibit,
}

impl Word for DeadEnd {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("blackhole", Self::Blackhole),
        ("unreachable", Self::Unreachable),
        ("prohibit", Self::Prohibit),
    ];
}
