//! ARP for IPv4 over Ethernet (RFC 826).

use crate::bytes::{array, be16, be32, put};
use crate::{Drop, Mac};

/// Length of a packet.
pub const LENGTH: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Operation codes.
pub mod operation {
    /// Who has the target address?
    pub const REQUEST: u16 = 1;
    /// The sender has the sender address.
    pub const REPLY: u16 = 2;
}

/// An ARP packet of IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp<B>(B);

impl<B: AsRef<[u8]>> Arp<B> {
    /// Views a packet.
    ///
    /// # Errors
    /// [`Drop::FrameTruncated`]; [`Drop::EtherTypeUnknown`] for ARP of other protocols than IPv4 over Ethernet.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        let Some(packet) = bytes.as_ref().first_chunk::<LENGTH>() else {
            return Err(Drop::FrameTruncated);
        };
        if packet[..6] != ETHERNET_IPV4 {
            Err(Drop::EtherTypeUnknown)
        } else {
            Ok(Self(bytes))
        }
    }

    /// Operation ([`operation`]).
    #[inline]
    pub fn operation(&self) -> u16 {
        be16(self.0.as_ref(), 6)
    }

    /// MAC of the sender.
    #[inline]
    pub fn sender_mac(&self) -> Mac {
        Mac(array(self.0.as_ref(), 8))
    }

    /// IPv4 address of the sender, host order.
    #[inline]
    pub fn sender(&self) -> u32 {
        be32(self.0.as_ref(), 14)
    }

    /// MAC of the target; zero in a request.
    #[inline]
    pub fn target_mac(&self) -> Mac {
        Mac(array(self.0.as_ref(), 18))
    }

    /// IPv4 address of the target, host order.
    #[inline]
    pub fn target(&self) -> u32 {
        be32(self.0.as_ref(), 24)
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Arp<B> {
    /// Makes a request the reply that says `mac` has the target address.
    #[inline]
    pub fn reply_in_place(&mut self, mac: Mac) {
        let (sender_mac, sender, target) = (self.sender_mac(), self.sender(), self.target());
        let bytes = self.0.as_mut();
        put(bytes, 6, operation::REPLY.to_be_bytes());
        put(bytes, 8, mac.0);
        put(bytes, 14, target.to_be_bytes());
        put(bytes, 18, sender_mac.0);
        put(bytes, 24, sender.to_be_bytes());
    }
}

/// Writes the request of `sender` for the MAC of `target`.
#[inline]
pub fn write_request(out: &mut [u8; LENGTH], sender_mac: Mac, sender: u32, target: u32) {
    *out = [0; LENGTH];
    put(out, 0, ETHERNET_IPV4);
    put(out, 6, operation::REQUEST.to_be_bytes());
    put(out, 8, sender_mac.0);
    put(out, 14, sender.to_be_bytes());
    put(out, 24, target.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_its_reply() {
        let (asker, owner) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let mut bytes = [0; LENGTH];
        write_request(&mut bytes, asker, 0x0a00_0001, 0x0a00_0002);
        let mut arp = Arp::new(bytes).expect("valid");
        assert_eq!(
            (arp.operation(), arp.target_mac()),
            (operation::REQUEST, Mac::default())
        );
        arp.reply_in_place(owner);
        assert_eq!(
            (arp.operation(), arp.sender_mac(), arp.target_mac()),
            (operation::REPLY, owner, asker)
        );
        assert_eq!((arp.sender(), arp.target()), (0x0a00_0002, 0x0a00_0001));
    }

    #[test]
    fn other_hardware_and_short_packets_are_refused() {
        let mut bytes = [0; LENGTH];
        write_request(&mut bytes, Mac::default(), 1, 2);
        assert_eq!(Arp::new(&bytes[..27]).err(), Some(Drop::FrameTruncated));
        bytes[1] = 6;
        assert_eq!(Arp::new(bytes).err(), Some(Drop::EtherTypeUnknown));
    }
}
