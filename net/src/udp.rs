//! UDP header (RFC 768).

use crate::Drop;
use crate::bytes::{be16, put16, within};
use crate::checksum::{Delta, Sum};

/// Length of the header.
pub const LENGTH: usize = 8;

/// A UDP datagram whose header is whole.
///
/// Setters keep the checksum as right, or as wrong, as it was; a datagram without one (0) stays without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<B>(B);

impl<B: AsRef<[u8]>> Udp<B> {
    /// Views a datagram.
    ///
    /// # Errors
    /// [`Drop::UdpMalformed`] if truncated or if its length is shorter than the header or longer than `bytes`.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        let udp = Self::head(bytes)?;
        let length = usize::from(udp.length());
        if length < LENGTH || length > udp.0.as_ref().len() {
            Err(Drop::UdpMalformed)
        } else {
            Ok(udp)
        }
    }

    /// Views the head of a datagram whose rest is not here (a first fragment, or quoted in an ICMP error).
    ///
    /// # Errors
    /// [`Drop::UdpMalformed`] if the header is truncated.
    #[inline]
    pub fn head(bytes: B) -> Result<Self, Drop> {
        if bytes.as_ref().len() < LENGTH {
            Err(Drop::UdpMalformed)
        } else {
            Ok(Self(bytes))
        }
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        be16(self.0.as_ref(), 0)
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        be16(self.0.as_ref(), 2)
    }

    /// Length of header and payload.
    #[inline]
    pub fn length(&self) -> u16 {
        be16(self.0.as_ref(), 4)
    }

    /// Checksum; 0 if the sender computed none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.0.as_ref(), 6)
    }

    /// What lies between header and length, or as much of it as is here.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        within(bytes, LENGTH..usize::from(self.length()).min(bytes.len()))
    }

    /// True if the checksum is right over `pseudo_header` and the datagram, or if there is none.
    #[inline]
    pub fn checksum_is_valid(&self, pseudo_header: Sum) -> bool {
        self.checksum() == 0 || pseudo_header.bytes(self.datagram()).is_valid()
    }

    #[inline]
    fn datagram(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        within(bytes, 0..usize::from(self.length()).min(bytes.len()))
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Udp<B> {
    /// Sets the source port.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        let delta = Delta::NONE.word(self.source_port(), port);
        self.rewrite(port, self.destination_port(), delta);
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        let delta = Delta::NONE.word(self.destination_port(), port);
        self.rewrite(self.source_port(), port, delta);
    }

    /// Sets both ports, with a difference computed before that also holds the addresses': the packet path of NAT.
    #[inline]
    pub fn rewrite(&mut self, source_port: u16, destination_port: u16, delta: Delta) {
        let bytes = self.0.as_mut();
        put16(bytes, 0, source_port);
        put16(bytes, 2, destination_port);
        self.apply(delta);
    }

    /// Applies a difference, as of rewritten addresses, to the checksum.
    #[inline]
    pub fn apply(&mut self, delta: Delta) {
        let checksum = delta.apply_udp(self.checksum());
        put16(self.0.as_mut(), 6, checksum);
    }

    /// Computes the checksum anew.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo_header: Sum) {
        put16(self.0.as_mut(), 6, 0);
        let checksum = pseudo_header.bytes(self.datagram()).udp_checksum();
        put16(self.0.as_mut(), 6, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_lies() {
        for (length, ok) in [(0, false), (7, false), (8, true), (12, true), (13, false)] {
            assert_eq!(
                Udp::new([0, 1, 0, 2, 0, length, 0, 0, 1, 2, 3, 4]).is_ok(),
                ok,
                "length {length}"
            );
        }
        assert_eq!(Udp::new([0; 7]).err(), Some(Drop::UdpMalformed));
        assert_eq!(
            Udp::head([0, 1, 0, 2, 0xff, 0xff, 0, 0, 9]).map(|u| u.payload().len()),
            Ok(1)
        );
    }

    #[test]
    fn no_checksum_survives_a_rewrite() {
        let mut udp = Udp::new([0, 1, 0, 2, 0, 8, 0, 0]).expect("valid");
        udp.set_source_port(4000);
        udp.set_destination_port(53);
        assert_eq!(
            (udp.source_port(), udp.destination_port(), udp.checksum()),
            (4000, 53, 0)
        );
    }
}
