//! IPv6 header and the chain of its extension headers (RFC 8200).

use crate::bytes::{be16, be32, be128, put, put16, within};
use crate::checksum::Delta;
use crate::{Drop, FragmentPart};

/// Length of the header, without extension headers.
pub const LENGTH: usize = 40;

/// An IPv6 packet whose fixed header is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6<B>(B);

impl<B: AsRef<[u8]>> Ipv6<B> {
    /// Views a packet, which may have padding behind it.
    ///
    /// # Errors
    /// [`Drop::Ipv6Malformed`] for another version and for a payload length that is a lie.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        let packet = Self::head(bytes)?;
        if LENGTH + usize::from(packet.payload_length()) > packet.0.as_ref().len() {
            return Err(Drop::Ipv6Malformed);
        }
        Ok(packet)
    }

    /// Views the head of a packet whose rest is not here, as ICMPv6 errors quote it: the payload length is not
    /// believed.
    ///
    /// # Errors
    /// [`Drop::Ipv6Malformed`] for another version and for a truncated header.
    #[inline]
    pub fn head(bytes: B) -> Result<Self, Drop> {
        let slice = bytes.as_ref();
        if slice.len() < LENGTH || slice[0] >> 4 != 6 {
            Err(Drop::Ipv6Malformed)
        } else {
            Ok(Self(bytes))
        }
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (be16(self.0.as_ref(), 0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        be32(self.0.as_ref(), 0) & 0x000f_ffff
    }

    /// Length of everything behind the header.
    #[inline]
    pub fn payload_length(&self) -> u16 {
        be16(self.0.as_ref(), 4)
    }

    /// What follows the header: layer 4 or the first extension header.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.0.as_ref()[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.0.as_ref()[7]
    }

    /// Source address, host order.
    #[inline]
    pub fn source(&self) -> u128 {
        be128(self.0.as_ref(), 8)
    }

    /// Destination address, host order.
    #[inline]
    pub fn destination(&self) -> u128 {
        be128(self.0.as_ref(), 24)
    }

    /// Everything behind the header, extension headers included, or as much of it as is here.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        within(
            bytes,
            LENGTH..bytes.len().min(LENGTH + usize::from(self.payload_length())),
        )
    }

    /// Walks the extension headers.
    ///
    /// # Errors
    /// As [`walk`].
    #[inline]
    pub fn chain(&self) -> Result<Chain<'_>, Drop> {
        walk(self.next_header(), self.payload())
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Ipv6<B> {
    /// Takes one from the hop limit.
    ///
    /// # Errors
    /// [`Drop::TtlExpired`], with the packet unchanged, if none would be left.
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> Result<(), Drop> {
        let hop_limit = self.hop_limit();
        if hop_limit <= 1 {
            return Err(Drop::TtlExpired);
        }
        self.set_hop_limit(hop_limit - 1);
        Ok(())
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.0.as_mut()[7] = hop_limit;
    }

    /// Sets the payload length.
    #[inline]
    pub fn set_payload_length(&mut self, length: u16) {
        put16(self.0.as_mut(), 4, length);
    }

    /// Sets the source address; the result is what this does to the checksum of layer 4.
    #[inline]
    pub fn set_source(&mut self, address: u128) -> Delta {
        self.set_address(8, address)
    }

    /// Sets the destination address; the result is what this does to the checksum of layer 4.
    #[inline]
    pub fn set_destination(&mut self, address: u128) -> Delta {
        self.set_address(24, address)
    }

    /// Everything behind the header, extension headers included, or as much of it as is here.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = LENGTH + usize::from(self.payload_length());
        let bytes = self.0.as_mut();
        let end = end.min(bytes.len());
        bytes.get_mut(LENGTH..end).unwrap_or_default()
    }

    #[inline]
    fn set_address(&mut self, at: usize, new: u128) -> Delta {
        let delta = Delta::NONE.word128(be128(self.0.as_ref(), at), new);
        put(self.0.as_mut(), at, new.to_be_bytes());
        delta
    }
}

/// Writes a header with an empty flow label.
pub fn write_header(
    out: &mut [u8; LENGTH],
    traffic_class: u8,
    payload_length: u16,
    next_header: u8,
    hop_limit: u8,
    [source, destination]: [u128; 2],
) {
    put16(out, 0, 0x6000 | u16::from(traffic_class) << 4);
    put16(out, 2, 0);
    put16(out, 4, payload_length);
    out[6] = next_header;
    out[7] = hop_limit;
    put(out, 8, source.to_be_bytes());
    put(out, 24, destination.to_be_bytes());
}

/// Next header values that are not layer 4 protocols.
pub mod next_header {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload: the walk ends there.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// Nothing follows.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
    /// Mobility.
    pub const MOBILITY: u8 = 135;
    /// Host identity protocol.
    pub const HOST_IDENTITY: u8 = 139;
    /// Shim6.
    pub const SHIM6: u8 = 140;
}

/// More extension headers than this are refused: nobody sends them, and each costs a dependent load.
pub const MAX_EXTENSIONS: usize = 8;

/// Where the walk over extension headers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain<'a> {
    /// What the last header says comes next: layer 4, ESP, nothing ([`next_header::NONE`]) or an unknown protocol.
    pub protocol: u8,
    /// What lies behind the chain.
    pub payload: &'a [u8],
    /// Bytes of extension headers.
    pub length: u16,
    /// From the fragment header; [`FragmentPart::Whole`] without one.
    pub fragment: FragmentPart,
    /// From the fragment header; 0 without one.
    pub identification: u32,
}

impl<'a> Chain<'a> {
    /// No extension headers.
    #[inline]
    pub(crate) const fn none(protocol: u8, payload: &'a [u8]) -> Self {
        Self {
            protocol,
            payload,
            length: 0,
            fragment: FragmentPart::Whole,
            identification: 0,
        }
    }
}

/// Walks the extension headers at the start of `payload`, of which the first is a `next_header`.
///
/// # Errors
/// [`Drop::Ipv6ExtensionChain`] for a truncated header, hop-by-hop options in another place than the first, a second
/// fragment header, a routing header of type 0 (RFC 5095), an authentication header without room for its own fields, and more than [`MAX_EXTENSIONS`] headers;
/// [`Drop::Ipv6Malformed`] for a fragment that ends beyond the longest datagram.
pub fn walk(next_header: u8, payload: &[u8]) -> Result<Chain<'_>, Drop> {
    let mut chain = Chain::none(next_header, payload);
    let mut fragmented = false;
    for position in 0..=MAX_EXTENSIONS {
        let unit = match chain.protocol {
            next_header::HOP_BY_HOP if position > 0 => return Err(Drop::Ipv6ExtensionChain),
            next_header::FRAGMENT if fragmented => return Err(Drop::Ipv6ExtensionChain),
            next_header::FRAGMENT => 0,
            next_header::AUTHENTICATION => 4,
            next_header::HOP_BY_HOP
            | next_header::ROUTING
            | next_header::DESTINATION
            | next_header::MOBILITY
            | next_header::HOST_IDENTITY
            | next_header::SHIM6 => 8,
            _ => return Ok(chain),
        };
        let Some(start) = chain.payload.first_chunk::<8>() else {
            return Err(Drop::Ipv6ExtensionChain);
        };
        // The length field counts units behind the first 8 bytes; a fragment header has none.
        let length = 8 + usize::from(start[1]) * unit;
        let Some((header, rest)) = chain.payload.split_at_checked(length) else {
            return Err(Drop::Ipv6ExtensionChain);
        };
        let obsolete = chain.protocol == next_header::ROUTING && start[2] == 0;
        // The fixed part of an authentication header alone is 12 bytes.
        let short = chain.protocol == next_header::AUTHENTICATION && length < 12;
        if obsolete || short {
            return Err(Drop::Ipv6ExtensionChain);
        }
        if chain.protocol == next_header::FRAGMENT {
            fragmented = true;
            let offset = be16(start, 2) & 0xfff8;
            chain.fragment = FragmentPart::of(offset, start[3] & 1 != 0);
            chain.identification = be32(start, 4);
            if usize::from(offset) + rest.len() > usize::from(u16::MAX) {
                return Err(Drop::Ipv6Malformed);
            }
        }
        chain = Chain {
            protocol: header[0],
            payload: rest,
            length: chain.length + length as u16,
            ..chain
        };
        if chain.fragment == FragmentPart::Later {
            return Ok(chain);
        }
    }
    Err(Drop::Ipv6ExtensionChain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = 6;

    /// One extension header of 8 bytes.
    fn plain(next: u8) -> Vec<u8> {
        vec![next, 0, 1, 4, 0, 0, 0, 0]
    }

    fn chained(headers: &[Vec<u8>]) -> Vec<u8> {
        headers.concat()
    }

    #[test]
    fn hop_by_hop_only_first() {
        let bytes = chained(&[plain(next_header::DESTINATION), plain(TCP)]);
        let chain = walk(next_header::HOP_BY_HOP, &bytes).expect("in order");
        assert_eq!((chain.protocol, chain.length, chain.payload.len()), (TCP, 16, 0));
        let bytes = chained(&[plain(next_header::HOP_BY_HOP), plain(TCP)]);
        assert_eq!(walk(next_header::DESTINATION, &bytes), Err(Drop::Ipv6ExtensionChain));
    }

    #[test]
    fn eight_headers_pass_and_nine_do_not() {
        let headers = |count: usize| {
            let mut all = vec![plain(next_header::DESTINATION); count];
            all[count - 1][0] = TCP;
            all.concat()
        };
        assert_eq!(walk(next_header::DESTINATION, &headers(8)).map(|c| c.length), Ok(64));
        assert_eq!(
            walk(next_header::DESTINATION, &headers(9)),
            Err(Drop::Ipv6ExtensionChain)
        );
    }

    #[test]
    fn routing_type_0_is_refused_and_segment_routing_is_not() {
        let routing = |kind| vec![TCP, 0, kind, 0, 0, 0, 0, 0];
        assert_eq!(walk(next_header::ROUTING, &routing(0)), Err(Drop::Ipv6ExtensionChain));
        assert_eq!(walk(next_header::ROUTING, &routing(4)).map(|c| c.protocol), Ok(TCP));
    }

    #[test]
    fn authentication_header_counts_in_words_of_four() {
        let mut bytes = vec![0; 24];
        bytes[0] = TCP;
        bytes[1] = 4; // six words
        assert_eq!(
            walk(next_header::AUTHENTICATION, &bytes).map(|c| (c.protocol, c.length)),
            Ok((TCP, 24))
        );
        assert_eq!(
            walk(next_header::AUTHENTICATION, &bytes[..23]),
            Err(Drop::Ipv6ExtensionChain)
        );
    }

    #[test]
    fn walk_ends_at_esp_at_nothing_and_at_strangers() {
        for last in [next_header::ESP, next_header::NONE, 253] {
            assert_eq!(walk(last, &[1, 2, 3]), Ok(Chain::none(last, &[1, 2, 3])));
        }
    }

    #[test]
    fn truncated_headers_and_length_lies_are_refused() {
        for length in 0..8 {
            assert_eq!(
                walk(next_header::DESTINATION, &plain(TCP)[..length]),
                Err(Drop::Ipv6ExtensionChain)
            );
        }
        let mut lie = plain(TCP);
        lie[1] = 1;
        assert_eq!(walk(next_header::DESTINATION, &lie), Err(Drop::Ipv6ExtensionChain));
    }

    #[test]
    fn fragments_are_told_apart_and_only_one_header_is_taken() {
        let fragment = |next, offset_more: u16| {
            let [high, low] = offset_more.to_be_bytes();
            vec![next, 0xff, high, low, 0, 0, 0, 7] // the second byte is reserved, not a length
        };
        let part = |offset_more| {
            let bytes = fragment(TCP, offset_more);
            walk(next_header::FRAGMENT, &bytes).map(|c| (c.fragment, c.identification, c.length))
        };
        assert_eq!(part(0), Ok((FragmentPart::Whole, 7, 8)));
        assert_eq!(part(1), Ok((FragmentPart::First, 7, 8)));
        assert_eq!(part(8), Ok((FragmentPart::Later, 7, 8)));
        let twice = chained(&[fragment(next_header::FRAGMENT, 1), fragment(TCP, 1)]);
        assert_eq!(walk(next_header::FRAGMENT, &twice), Err(Drop::Ipv6ExtensionChain));
        // Behind a later fragment's header there is no header to walk.
        let later = fragment(next_header::DESTINATION, 8);
        assert_eq!(
            walk(next_header::FRAGMENT, &later).map(|c| c.protocol),
            Ok(next_header::DESTINATION)
        );
        let too_far = chained(&[fragment(TCP, 0xfff8), vec![0; 8]]);
        assert_eq!(walk(next_header::FRAGMENT, &too_far), Err(Drop::Ipv6Malformed));
    }

    #[test]
    fn payload_length_lies_and_setters() {
        let mut bytes = [0; 44];
        write_header(bytes.first_chunk_mut().expect("forty"), 0xb8, 4, TCP, 2, [1, 2]);
        let mut packet = Ipv6::new(bytes).expect("valid");
        assert_eq!(
            (packet.traffic_class(), packet.flow_label(), packet.payload().len()),
            (0xb8, 0, 4)
        );
        assert_eq!(packet.decrement_hop_limit(), Ok(()));
        assert_eq!(packet.decrement_hop_limit(), Err(Drop::TtlExpired));
        assert_eq!((packet.hop_limit(), packet.source(), packet.destination()), (1, 1, 2));
        bytes[5] = 5;
        assert_eq!(Ipv6::new(bytes).err(), Some(Drop::Ipv6Malformed));
        assert_eq!(Ipv6::head(bytes).map(|p| p.payload().len()), Ok(4));
    }
}
