//! One direction of a flow with its whole addresses, of either family.

use net::VrfId;

use crate::address::Address;
use crate::key::FlowKey;

/// One direction of a flow: what a connection is found by, before its addresses are made short.
///
/// Both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flow {
    /// VRF that its packets are looked up in.
    pub vrf: VrfId,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, or the echo identifier.
    pub source_port: u16,
    /// Destination port, or the echo identifier.
    pub destination_port: u16,
}

impl Flow {
    /// True for IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.source.is_v4() && self.destination.is_v4()
    }

    /// The opposite direction in the same VRF, without any translation.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }

    /// The key of an IPv4 flow.
    #[inline]
    pub const fn key_v4(&self) -> Option<FlowKey> {
        let (Some(source), Some(destination)) = (self.source.to_v4(), self.destination.to_v4()) else {
            return None;
        };
        let ports = (self.source_port, self.destination_port);
        let key = FlowKey::v4(self.vrf, self.protocol, source, destination, ports.0, ports.1);
        Some(key)
    }
}
