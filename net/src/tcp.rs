//! TCP header (RFC 9293).

use crate::Drop;
use crate::bytes::{be16, be32, put16, within};
use crate::checksum::{Delta, Sum};

/// Length of a header without options.
pub const LENGTH: usize = 20;

/// A TCP segment whose header is whole, options included.
///
/// Setters keep the checksum as right, or as wrong, as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<B>(B);

impl<B: AsRef<[u8]>> Tcp<B> {
    /// Views a segment.
    ///
    /// # Errors
    /// [`Drop::TcpMalformed`] if truncated or if the data offset lies before the end of the header or beyond `bytes`.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        let length = bytes.as_ref().len();
        if length < LENGTH {
            return Err(Drop::TcpMalformed);
        }
        let tcp = Self(bytes);
        if tcp.header_length() < LENGTH || tcp.header_length() > length {
            Err(Drop::TcpMalformed)
        } else {
            Ok(tcp)
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

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        be32(self.0.as_ref(), 4)
    }

    /// Acknowledgment number.
    #[inline]
    pub fn acknowledgment(&self) -> u32 {
        be32(self.0.as_ref(), 8)
    }

    /// Length of the header with its options (the data offset).
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.0.as_ref()[12] >> 4) * 4
    }

    /// Flags ([`crate::tcp_flag`]).
    #[inline]
    pub fn flags(&self) -> u8 {
        self.0.as_ref()[13]
    }

    /// Window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        be16(self.0.as_ref(), 14)
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.0.as_ref(), 16)
    }

    /// Options.
    #[inline]
    pub fn options(&self) -> &[u8] {
        within(self.0.as_ref(), LENGTH..self.header_length())
    }

    /// Data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        within(bytes, self.header_length()..bytes.len())
    }

    /// True if the checksum is right over `pseudo_header` and the segment.
    #[inline]
    pub fn checksum_is_valid(&self, pseudo_header: Sum) -> bool {
        pseudo_header.bytes(self.0.as_ref()).is_valid()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Tcp<B> {
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
        let checksum = delta.apply(self.checksum());
        put16(self.0.as_mut(), 16, checksum);
    }

    /// Computes the checksum anew.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo_header: Sum) {
        put16(self.0.as_mut(), 16, 0);
        let checksum = pseudo_header.bytes(self.0.as_ref()).checksum();
        put16(self.0.as_mut(), 16, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_offset_lies() {
        let mut bytes = [0; 24];
        for (words, ok) in [(0, false), (4, false), (5, true), (6, true), (7, false), (15, false)] {
            bytes[12] = words << 4;
            assert_eq!(Tcp::new(bytes).is_ok(), ok, "data offset {words}");
        }
        assert_eq!(Tcp::new([0x50; 19]).err(), Some(Drop::TcpMalformed));
    }
}
