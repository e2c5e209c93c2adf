//! What two speakers have agreed on, as far as UPDATEs look different for it.

use rustbgpd_wire as library;

use super::AddPathFamily;
use super::update::{MP_OVERHEAD, UPDATE_OVERHEAD};
use crate::Family;

/// What the session knows that decoding and encoding need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// AS numbers are 4 octets wide.
    pub four_octet_as: bool,
    /// The session is internal.
    pub ibgp: bool,
    /// Negotiated families; routes of others are ignored (RFC 4760 section 7).
    pub families: Vec<Family>,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub ipv6_next_hop_for_ipv4: bool,
    /// The peer takes messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Families whose prefixes have path identifiers, in which direction (RFC 7911).
    pub add_path: Vec<AddPathFamily>,
}

impl Context {
    /// Octets for attributes and NLRI of one family in MP_REACH_NLRI or MP_UNREACH_NLRI.
    pub(super) fn room(&self) -> usize {
        usize::from(self.longest()) - UPDATE_OVERHEAD - MP_OVERHEAD
    }

    /// Prefixes of a family that the peer tells have path identifiers.
    pub fn receives_path_ids(&self, family: Family) -> bool {
        self.add_path
            .iter()
            .any(|entry| entry.family == family && entry.receive)
    }

    /// Prefixes of a family that the peer is told have path identifiers.
    pub fn sends_path_ids(&self, family: Family) -> bool {
        self.add_path.iter().any(|entry| entry.family == family && entry.send)
    }

    /// As far as UPDATEs to the peer are concerned.
    #[must_use]
    pub fn as_sent(&self) -> Self {
        let sent = |entry: &AddPathFamily| AddPathFamily {
            receive: false,
            ..*entry
        };
        Self {
            add_path: self.add_path.iter().filter(|entry| entry.send).map(sent).collect(),
            ..self.clone()
        }
    }

    /// As UPDATEs of the peer are written: for whoever passes on what came.
    #[must_use]
    pub fn as_received(&self) -> Self {
        let turned = |entry: &AddPathFamily| AddPathFamily {
            send: entry.receive,
            ..*entry
        };
        Self {
            add_path: self.add_path.iter().map(turned).collect(),
            ..self.clone()
        }
    }

    /// What [`Context::receives_path_ids`] says, as the library takes it.
    pub(super) fn library_families(&self) -> Vec<(library::Afi, library::Safi)> {
        let received = self.add_path.iter().filter(|entry| entry.receive);
        received.map(|entry| super::family_to_library(entry.family)).collect()
    }

    /// Longest UPDATE that may be sent, octets.
    pub(super) const fn longest(&self) -> u16 {
        if self.extended_messages {
            super::EXTENDED_MAX_MESSAGE
        } else {
            super::MAX_MESSAGE
        }
    }
}
