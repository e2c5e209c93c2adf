//! IPv4 header (RFC 791).

use crate::bytes::{be16, be32, put, put16, within};
use crate::checksum::{self, Delta};
use crate::{Drop, FragmentPart};

/// Length of a header without options.
pub const LENGTH: usize = 20;

/// The checksum change of a TTL that goes down by one, whatever it was.
const TTL_DOWN: Delta = Delta::NONE.word(0x0100, 0x0000);

/// Options that make the sender choose the route: loose and strict source routing.
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// An IPv4 packet whose header is whole.
///
/// Every setter keeps the header checksum as right, or as wrong, as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4<B>(B);

impl<B: AsRef<[u8]>> Ipv4<B> {
    /// Views a packet, which may have padding behind it.
    ///
    /// # Errors
    /// [`Drop::Ipv4Malformed`] for another version and for a header or total length that is a lie.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        let packet = Self::head(bytes)?;
        let total = usize::from(packet.total_length());
        if total < packet.header_length() || total > packet.0.as_ref().len() {
            return Err(Drop::Ipv4Malformed);
        }
        Ok(packet)
    }

    /// Views the head of a packet whose rest is not here, as ICMP errors quote it: the total length is not believed.
    ///
    /// # Errors
    /// [`Drop::Ipv4Malformed`] for another version and for a header that is not whole.
    #[inline]
    pub fn head(bytes: B) -> Result<Self, Drop> {
        let slice = bytes.as_ref();
        if slice.len() < LENGTH || slice[0] >> 4 != 4 {
            return Err(Drop::Ipv4Malformed);
        }
        let length = usize::from(slice[0] & 0x0f) * 4;
        if length < LENGTH || length > slice.len() {
            return Err(Drop::Ipv4Malformed);
        }
        Ok(Self(bytes))
    }

    /// Length of the header with its options.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.0.as_ref()[0] & 0x0f) * 4
    }

    /// Length of header and payload.
    #[inline]
    pub fn total_length(&self) -> u16 {
        be16(self.0.as_ref(), 2)
    }

    /// Type of service: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.0.as_ref()[1]
    }

    /// Identification, which joins the fragments of a datagram.
    #[inline]
    pub fn identification(&self) -> u16 {
        be16(self.0.as_ref(), 4)
    }

    /// The don't-fragment flag.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.0.as_ref()[6] & 0x40 != 0
    }

    /// The more-fragments flag.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.0.as_ref()[6] & 0x20 != 0
    }

    /// Where in its datagram the payload begins, in units of 8 bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        be16(self.0.as_ref(), 6) & 0x1fff
    }

    /// Which part of a datagram it is.
    #[inline]
    pub fn fragment(&self) -> FragmentPart {
        FragmentPart::of(self.fragment_offset(), self.more_fragments())
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.0.as_ref()[8]
    }

    /// Protocol of layer 4.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.0.as_ref()[9]
    }

    /// Header checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.0.as_ref(), 10)
    }

    /// Source address, host order.
    #[inline]
    pub fn source(&self) -> u32 {
        be32(self.0.as_ref(), 12)
    }

    /// Destination address, host order.
    #[inline]
    pub fn destination(&self) -> u32 {
        be32(self.0.as_ref(), 16)
    }

    /// Header with its options.
    #[inline]
    pub fn header(&self) -> &[u8] {
        within(self.0.as_ref(), 0..self.header_length())
    }

    /// Options, unchecked; see [`check_options`].
    #[inline]
    pub fn options(&self) -> &[u8] {
        within(self.0.as_ref(), LENGTH..self.header_length())
    }

    /// What lies between header and total length, or as much of it as is here.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        within(
            bytes,
            self.header_length()..usize::from(self.total_length()).min(bytes.len()),
        )
    }

    /// True if the header checksum is right.
    #[inline]
    pub fn checksum_is_valid(&self) -> bool {
        checksum::is_valid(self.header())
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Ipv4<B> {
    /// Takes one from the time to live (RFC 1812 section 5.3.1).
    ///
    /// # Errors
    /// [`Drop::TtlExpired`], with the packet unchanged, if none would be left.
    #[inline]
    pub fn decrement_ttl(&mut self) -> Result<(), Drop> {
        let ttl = self.ttl();
        if ttl <= 1 {
            return Err(Drop::TtlExpired);
        }
        self.0.as_mut()[8] = ttl - 1;
        self.apply(TTL_DOWN);
        Ok(())
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.set_word(8, u16::from_be_bytes([ttl, self.protocol()]));
    }

    /// Sets type of service.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.set_word(0, u16::from_be_bytes([self.0.as_ref()[0], tos]));
    }

    /// Sets the total length.
    #[inline]
    pub fn set_total_length(&mut self, length: u16) {
        self.set_word(2, length);
    }

    /// Sets the identification.
    #[inline]
    pub fn set_identification(&mut self, identification: u16) {
        self.set_word(4, identification);
    }

    /// Sets offset (units of 8 bytes; its low 13 bits are taken) and more-fragments flag.
    #[inline]
    pub fn set_fragment(&mut self, offset: u16, more: bool) {
        let kept = be16(self.0.as_ref(), 6) & 0xc000;
        self.set_word(6, kept | u16::from(more) << 13 | offset & 0x1fff);
    }

    /// Sets the source address; the result is what this does to a TCP or UDP checksum.
    #[inline]
    pub fn set_source(&mut self, address: u32) -> Delta {
        self.set_address(12, address)
    }

    /// Sets the destination address; the result is what this does to a TCP or UDP checksum.
    #[inline]
    pub fn set_destination(&mut self, address: u32) -> Delta {
        self.set_address(16, address)
    }

    /// Sets both addresses, with a difference computed before: the packet path of NAT.
    #[inline]
    pub fn rewrite(&mut self, source: u32, destination: u32, delta: Delta) {
        let bytes = self.0.as_mut();
        put(bytes, 12, source.to_be_bytes());
        put(bytes, 16, destination.to_be_bytes());
        self.apply(delta);
    }

    /// Applies a difference to the header checksum.
    #[inline]
    pub fn apply(&mut self, delta: Delta) {
        let checksum = delta.apply(self.checksum());
        put16(self.0.as_mut(), 10, checksum);
    }

    /// Computes the header checksum anew.
    #[inline]
    pub fn fill_checksum(&mut self) {
        put16(self.0.as_mut(), 10, 0);
        let checksum = checksum::checksum(self.header());
        put16(self.0.as_mut(), 10, checksum);
    }

    /// What lies between header and total length, or as much of it as is here.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, total) = (self.header_length(), usize::from(self.total_length()));
        let bytes = self.0.as_mut();
        let end = total.min(bytes.len());
        bytes.get_mut(start..end).unwrap_or_default()
    }

    #[inline]
    fn set_word(&mut self, at: usize, new: u16) {
        let old = be16(self.0.as_ref(), at);
        put16(self.0.as_mut(), at, new);
        self.apply(Delta::NONE.word(old, new));
    }

    #[inline]
    fn set_address(&mut self, at: usize, new: u32) -> Delta {
        let delta = Delta::NONE.word32(be32(self.0.as_ref(), at), new);
        put(self.0.as_mut(), at, new.to_be_bytes());
        self.apply(delta);
        delta
    }
}

/// Writes a header without options for a packet that is never fragmented (identification 0 is right then, RFC 6864).
pub fn write_header(
    out: &mut [u8; LENGTH],
    tos: u8,
    total_length: u16,
    ttl: u8,
    protocol: u8,
    [source, destination]: [u32; 2],
) {
    *out = [0; LENGTH];
    out[0] = 0x45;
    out[1] = tos;
    put16(out, 2, total_length);
    out[6] = 0x40;
    out[8] = ttl;
    out[9] = protocol;
    put(out, 12, source.to_be_bytes());
    put(out, 16, destination.to_be_bytes());
    let checksum = checksum::checksum(out);
    put16(out, 10, checksum);
}

/// Checks the options of a header: each has the length it claims, and none of them routes (RFC 7126 sections 4.3, 4.4).
///
/// # Errors
/// [`Drop::Ipv4Options`].
pub fn check_options(options: &[u8]) -> Result<(), Drop> {
    let mut rest = options;
    while let [kind, after @ ..] = rest {
        rest = match kind {
            0 => return Ok(()),
            1 => after,
            kind if SOURCE_ROUTES.contains(kind) => return Err(Drop::Ipv4Options),
            _ => {
                let length = usize::from(after.first().copied().unwrap_or_default());
                if length < 2 || within(rest, 0..length).is_empty() {
                    return Err(Drop::Ipv4Options);
                }
                within(rest, length..rest.len())
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_walked_and_source_routes_refused() {
        assert_eq!(check_options(&[]), Ok(()));
        assert_eq!(check_options(&[1, 1, 1, 0]), Ok(()));
        assert_eq!(check_options(&[148, 4, 0, 0]), Ok(())); // router alert
        assert_eq!(check_options(&[0, 131, 99, 99]), Ok(())); // behind the end of the list
        assert_eq!(check_options(&[7, 3, 4, 1, 131, 3, 4, 0]), Err(Drop::Ipv4Options)); // LSRR behind record route
        assert_eq!(check_options(&[137, 3, 4, 0]), Err(Drop::Ipv4Options)); // SSRR
        assert_eq!(check_options(&[7, 5, 4, 0]), Err(Drop::Ipv4Options)); // goes beyond the header
        assert_eq!(check_options(&[7, 1, 4, 0]), Err(Drop::Ipv4Options)); // shorter than itself
        assert_eq!(check_options(&[7, 0, 0, 0]), Err(Drop::Ipv4Options)); // would never end
        assert_eq!(check_options(&[1, 1, 1, 7]), Err(Drop::Ipv4Options)); // no length byte
    }

    #[test]
    fn ttl_stops_at_one_and_leaves_the_packet_alone() {
        let mut header = [0; LENGTH];
        write_header(&mut header, 0, 20, 2, 17, [1, 2]);
        let mut packet = Ipv4::new(header).expect("valid");
        assert_eq!(packet.decrement_ttl(), Ok(()));
        assert!(packet.checksum_is_valid());
        let before = packet;
        assert_eq!(packet.decrement_ttl(), Err(Drop::TtlExpired));
        assert_eq!(packet, before);
    }

    #[test]
    fn header_length_lies() {
        let mut header = [0; 24];
        header[0] = 0x45;
        for (first, total, ok) in [
            (0x45, 20, true),
            (0x45, 24, true),
            (0x45, 19, false), // shorter than its header
            (0x45, 25, false), // longer than the bytes
            (0x46, 24, true),
            (0x46, 20, false), // options beyond the total length
            (0x47, 24, false), // header beyond the bytes
            (0x44, 24, false), // header shorter than a header
            (0x65, 24, false), // another version
        ] {
            header[0] = first;
            header[3] = total;
            assert_eq!(
                Ipv4::new(header).is_ok(),
                ok,
                "first byte {first:#x}, total length {total}"
            );
        }
    }
}
