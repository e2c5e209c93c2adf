//! Ethernet II header.

use crate::bytes::{array, be16, put, put16};
use crate::{Drop, Mac};

/// Length of the header, without VLAN tag.
pub const LENGTH: usize = 14;

/// EtherTypes that the gateway knows (IANA, IEEE 802.1Q).
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Customer VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// Service VLAN tag (802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;

    /// True if a VLAN tag follows.
    #[inline]
    pub const fn is_vlan(ether_type: u16) -> bool {
        matches!(ether_type, VLAN | SERVICE_VLAN)
    }
}

/// A frame that begins with a whole Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eth<B>(B);

impl<B: AsRef<[u8]>> Eth<B> {
    /// Views a frame.
    ///
    /// # Errors
    /// [`Drop::FrameTruncated`] if shorter than the header.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        if bytes.as_ref().len() < LENGTH {
            Err(Drop::FrameTruncated)
        } else {
            Ok(Self(bytes))
        }
    }

    /// Destination MAC.
    #[inline]
    pub fn destination(&self) -> Mac {
        Mac(array(self.0.as_ref(), 0))
    }

    /// Source MAC.
    #[inline]
    pub fn source(&self) -> Mac {
        Mac(array(self.0.as_ref(), 6))
    }

    /// EtherType of the payload, or that of a VLAN tag.
    #[inline]
    pub fn ether_type(&self) -> u16 {
        be16(self.0.as_ref(), 12)
    }

    /// Everything behind the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[LENGTH..]
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Eth<B> {
    /// Sets the destination MAC.
    #[inline]
    pub fn set_destination(&mut self, mac: Mac) {
        put(self.0.as_mut(), 0, mac.0);
    }

    /// Sets the source MAC.
    #[inline]
    pub fn set_source(&mut self, mac: Mac) {
        put(self.0.as_mut(), 6, mac.0);
    }

    /// Sets the EtherType.
    #[inline]
    pub fn set_ether_type(&mut self, ether_type: u16) {
        put16(self.0.as_mut(), 12, ether_type);
    }

    /// Everything behind the header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.0.as_mut()[LENGTH..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirteen_bytes_are_no_header_and_setters_read_back() {
        assert_eq!(Eth::new([0; 13]).err(), Some(Drop::FrameTruncated));
        let mut eth = Eth::new([0; 15]).expect("long enough");
        eth.set_destination(Mac([1, 2, 3, 4, 5, 6]));
        eth.set_source(Mac([7, 8, 9, 10, 11, 12]));
        eth.set_ether_type(ether_type::IPV6);
        eth.payload_mut()[0] = 0xaa;
        assert_eq!(eth.destination(), Mac([1, 2, 3, 4, 5, 6]));
        assert_eq!(eth.source(), Mac([7, 8, 9, 10, 11, 12]));
        assert_eq!((eth.ether_type(), eth.payload()), (ether_type::IPV6, &[0xaa][..]));
    }
}
