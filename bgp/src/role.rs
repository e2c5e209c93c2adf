//! Roles of the two ends of an external session, and the route leaks that they stop (RFC 9234).
//!
//! A route that came from a provider, a lateral peer or a route server carries the attribute Only to Customer (OTC) from
//! then on, and goes to customers alone. The procedures are those of section 5: no policy takes part in them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::Attributes;

/// What this speaker is to the peer (RFC 9234 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It gives the peer transit.
    Provider,
    /// It is a route server that the peer uses.
    RsServer,
    /// It uses the peer as route server.
    RsClient,
    /// It gets transit from the peer.
    Customer,
    /// Both tell each other their own routes and their customers'.
    Peer,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::Provider,
        Self::RsServer,
        Self::RsClient,
        Self::Customer,
        Self::Peer,
    ];

    /// Value of the capability (RFC 9234 section 4.1).
    pub const fn value(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::RsServer => 1,
            Self::RsClient => 2,
            Self::Customer => 3,
            Self::Peer => 4,
        }
    }

    /// The role of a value; `None` if it is not assigned.
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.value() == value)
    }

    /// What the peer must be (RFC 9234 section 4.2, table 2).
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RsServer => Self::RsClient,
            Self::RsClient => Self::RsServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }

    /// True if a route with these attributes has come, on its way to us, from somebody who must not have told it: from a
    /// peer of AS `peer_as` with the opposite role.
    pub(crate) fn is_leak(self, peer_as: u32, attributes: &Attributes) -> bool {
        attributes.only_to_customer().is_some_and(|asn| match self {
            Self::Provider | Self::RsServer => true,
            Self::Peer => asn != peer_as,
            Self::Customer | Self::RsClient => false,
        })
    }

    /// Marks a route that a peer of AS `peer_as` has told, if from here on it is for customers alone.
    pub(crate) fn mark_received(self, peer_as: u32, attributes: &mut Attributes) {
        if matches!(self, Self::Customer | Self::RsClient | Self::Peer) {
            attributes.mark_only_to_customer(peer_as);
        }
    }

    /// True if the peer must not be told of a route with these attributes.
    pub(crate) fn withholds(self, attributes: &Attributes) -> bool {
        matches!(self, Self::Customer | Self::RsClient | Self::Peer) && attributes.only_to_customer().is_some()
    }

    /// Marks a route that the peer is told, if from there on it is for customers alone.
    pub(crate) fn mark_sent(self, local_as: u32, attributes: &mut Attributes) {
        if matches!(self, Self::Provider | Self::RsServer | Self::Peer) {
            attributes.mark_only_to_customer(local_as);
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider",
            Self::RsServer => "rs-server",
            Self::RsClient => "rs-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NextHop;

    fn with(otc: Option<u32>) -> Attributes {
        let mut attributes = Attributes::originated(NextHop::from(std::net::IpAddr::from([192, 0, 2, 1])));
        if let Some(asn) = otc {
            attributes.mark_only_to_customer(asn);
        }
        attributes
    }

    #[test]
    fn values_and_pairs_are_those_of_the_rfc() {
        for (value, role) in (0..).zip(Role::ALL) {
            assert_eq!((role.value(), Role::from_value(value)), (value, Some(role)));
            assert_eq!(role.opposite().opposite(), role);
        }
        assert_eq!(Role::from_value(5), None);
        assert_eq!(Role::Provider.opposite(), Role::Customer);
        assert_eq!(Role::RsServer.opposite(), Role::RsClient);
        assert_eq!(Role::Peer.opposite(), Role::Peer);
    }

    /// Section 5, a row a role of ours: leak with a foreign AS, leak with the peer's AS, mark on receipt, withheld when
    /// marked, mark on sending.
    #[test]
    fn each_role_refuses_marks_and_withholds_as_section_5_says() {
        const OURS: u32 = 65_000;
        const THEIRS: u32 = 65_001;
        let rows = [
            (Role::Provider, [true, true, false, false, true]),
            (Role::RsServer, [true, true, false, false, true]),
            (Role::RsClient, [false, false, true, true, false]),
            (Role::Customer, [false, false, true, true, false]),
            (Role::Peer, [true, false, true, true, true]),
        ];
        for (role, expected) in rows {
            let (mut received, mut sent) = (with(None), with(None));
            role.mark_received(THEIRS, &mut received);
            role.mark_sent(OURS, &mut sent);
            let found = [
                role.is_leak(THEIRS, &with(Some(64_999))),
                role.is_leak(THEIRS, &with(Some(THEIRS))),
                received.only_to_customer() == Some(THEIRS),
                role.withholds(&with(Some(64_999))),
                sent.only_to_customer() == Some(OURS),
            ];
            assert_eq!(found, expected, "{role}");
            assert!(
                !role.is_leak(THEIRS, &with(None)) && !role.withholds(&with(None)),
                "{role}"
            );
            // What is marked stays as it is.
            let mut marked = with(Some(64_999));
            role.mark_received(THEIRS, &mut marked);
            role.mark_sent(OURS, &mut marked);
            assert_eq!(marked.only_to_customer(), Some(64_999), "{role}");
        }
    }
}
