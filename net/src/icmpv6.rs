//! ICMPv6 (RFC 4443): the message, the errors that the gateway sends, and the reply to an echo.

use crate::bytes::{be16, be32, put16, within};
use crate::checksum::{Delta, Sum};
use crate::icmp::{BuildError, NETWORK_CONTROL, TTL, write_message};
use crate::ipv6::{self, Ipv6};
use crate::{Drop, FragmentPart, V6, parse_quoted_v6, parse_v6, protocol};

/// Length of the header, with the four bytes whose meaning depends on the type.
pub const LENGTH: usize = 8;

/// An ICMPv6 error is not longer than the least MTU of IPv6, IP header included (RFC 4443 section 2.4 (c)).
pub const MAX_ERROR: usize = 1280;

/// Message types used here (IANA).
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Redirect: not an error by its number, but never answered with one.
    pub const REDIRECT: u8 = 137;
}

/// An ICMPv6 message whose header is whole.
///
/// Setters keep the checksum as right, or as wrong, as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmpv6<B>(B);

impl<B: AsRef<[u8]>> Icmpv6<B> {
    /// Views a message: everything behind the extension headers.
    ///
    /// # Errors
    /// [`Drop::IcmpMalformed`] if truncated.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        if bytes.as_ref().len() < LENGTH {
            Err(Drop::IcmpMalformed)
        } else {
            Ok(Self(bytes))
        }
    }

    /// Type ([`kind`]).
    #[inline]
    pub fn kind(&self) -> u8 {
        self.0.as_ref()[0]
    }

    /// Code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.0.as_ref()[1]
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.0.as_ref(), 2)
    }

    /// Identifier of an echo.
    #[inline]
    pub fn identifier(&self) -> u16 {
        be16(self.0.as_ref(), 4)
    }

    /// Sequence number of an echo.
    #[inline]
    pub fn sequence(&self) -> u16 {
        be16(self.0.as_ref(), 6)
    }

    /// MTU of "packet too big".
    #[inline]
    pub fn mtu(&self) -> u32 {
        be32(self.0.as_ref(), 4)
    }

    /// True for the messages that quote the packet they are about (types below 128).
    #[inline]
    pub fn is_error(&self) -> bool {
        is_error(self.kind())
    }

    /// What follows the header: data of an echo, or the packet that an error quotes.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        within(self.0.as_ref(), LENGTH..self.0.as_ref().len())
    }

    /// The packet that an error quotes; `None` for other messages.
    ///
    /// # Errors
    /// [`Drop::IcmpMalformed`] if the quote cannot be related to anything.
    #[inline]
    pub fn quoted(&self) -> Result<Option<V6>, Drop> {
        if self.is_error() {
            parse_quoted_v6(self.payload()).map(Some)
        } else {
            Ok(None)
        }
    }

    /// True if the checksum is right over `pseudo_header` and the message.
    #[inline]
    pub fn checksum_is_valid(&self, pseudo_header: Sum) -> bool {
        pseudo_header.bytes(self.0.as_ref()).is_valid()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Icmpv6<B> {
    /// Sets the identifier of an echo.
    #[inline]
    pub fn set_identifier(&mut self, identifier: u16) {
        let delta = Delta::NONE.word(self.identifier(), identifier);
        put16(self.0.as_mut(), 4, identifier);
        self.apply(delta);
    }

    /// Applies a difference, as of rewritten addresses, to the checksum.
    #[inline]
    pub fn apply(&mut self, delta: Delta) {
        let checksum = delta.apply(self.checksum());
        put16(self.0.as_mut(), 2, checksum);
    }

    /// Computes the checksum anew.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo_header: Sum) {
        put16(self.0.as_mut(), 2, 0);
        let checksum = pseudo_header.bytes(self.0.as_ref()).checksum();
        put16(self.0.as_mut(), 2, checksum);
    }
}

/// True for the types that quote the packet they are about.
#[inline]
pub const fn is_error(icmp_type: u8) -> bool {
    icmp_type < 128
}

/// An error that the gateway sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// Hop limit exceeded in transit.
    TimeExceeded,
    /// No route to the destination.
    NoRoute,
    /// Communication administratively prohibited.
    AdminProhibited,
    /// The host does not answer.
    AddressUnreachable,
    /// Nothing listens.
    PortUnreachable,
    /// Too big for the next hop, whose MTU this is.
    PacketTooBig {
        /// Largest IP packet that would go through.
        mtu: u32,
    },
}

impl Error {
    /// Type and code, and the rest of the header.
    const fn header(self) -> ([u8; 2], u32) {
        match self {
            Self::TimeExceeded => ([kind::TIME_EXCEEDED, 0], 0),
            Self::NoRoute => ([kind::UNREACHABLE, 0], 0),
            Self::AdminProhibited => ([kind::UNREACHABLE, 1], 0),
            Self::AddressUnreachable => ([kind::UNREACHABLE, 3], 0),
            Self::PortUnreachable => ([kind::UNREACHABLE, 4], 0),
            Self::PacketTooBig { mtu } => ([kind::PACKET_TOO_BIG, 0], mtu),
        }
    }
}

/// True if `error` may be sent about `original`, as it was received (RFC 4443 section 2.4 (e)): never about an ICMPv6
/// error or a redirect, about a later fragment of ICMPv6 (which may be part of one), to a multicast destination (except
/// "packet too big", which multicast needs), or to a source that is not one host. Multicasts of the link layer and
/// anycast sources are the caller's to know.
pub fn may_answer(original: &[u8], error: Error) -> bool {
    parse_v6(original).is_ok_and(|packet| {
        let answerable = match packet.fragment {
            // What an extension header in a later fragment's name leads to is unknown.
            FragmentPart::Later => matches!(packet.protocol, protocol::TCP | protocol::UDP),
            _ => {
                packet.protocol != protocol::ICMPV6
                    || !(is_error(packet.icmp_type) || packet.icmp_type == kind::REDIRECT)
            }
        };
        answerable && !packet.is_martian() && (!packet.is_multicast() || matches!(error, Error::PacketTooBig { .. }))
    })
}

/// Writes the IP packet of an error about `original` (as it was received, padding allowed) to `out`, from address
/// `source`, and returns its length. Whether it may be sent is for [`may_answer`] and a rate limit to say.
///
/// # Errors
/// [`BuildError`].
pub fn build_error(out: &mut [u8], source: u128, original: &[u8], error: Error) -> Result<usize, BuildError> {
    let packet = Ipv6::new(original).map_err(BuildError::Original)?;
    let length = ipv6::LENGTH + usize::from(packet.payload_length());
    let quote = length.min(MAX_ERROR - ipv6::LENGTH - LENGTH);
    write_error(out, [source, packet.source()], within(original, 0..quote), error)
}

fn write_error(out: &mut [u8], addresses: [u128; 2], quote: &[u8], error: Error) -> Result<usize, BuildError> {
    let needed = ipv6::LENGTH + LENGTH + quote.len();
    let Some((header, message)) = out.get_mut(..needed).and_then(|o| o.split_first_chunk_mut()) else {
        return Err(BuildError::Buffer { needed });
    };
    let payload_length = (LENGTH + quote.len()) as u16;
    ipv6::write_header(
        header,
        NETWORK_CONTROL,
        payload_length,
        protocol::ICMPV6,
        TTL,
        addresses,
    );
    let (kind_code, rest) = error.header();
    write_message(message, kind_code, rest, quote);
    let [from, to] = addresses;
    let pseudo_header = Sum::pseudo_v6(from, to, protocol::ICMPV6, u32::from(payload_length));
    Icmpv6(message).fill_checksum(pseudo_header);
    Ok(needed)
}

/// The same about a packet of which only its beginning is there, as another error quotes it.
///
/// # Errors
/// [`BuildError`].
pub fn build_error_from_quote(out: &mut [u8], source: u128, quote: &[u8], error: Error) -> Result<usize, BuildError> {
    let about = parse_quoted_v6(quote).map_err(BuildError::Original)?;
    let whole = ipv6::LENGTH + usize::from(about.payload_length);
    let quote = within(quote, 0..quote.len().min(whole).min(MAX_ERROR - ipv6::LENGTH - LENGTH));
    write_error(out, [source, about.source], quote, error)
}

/// Makes an echo request the reply to it, in place, and says so. `false`, with the packet unchanged, for everything
/// that is not an echo request to one host: packets with extension headers are among it, since the kernel of the host
/// does them better.
///
/// # Errors
/// As [`parse_v6`].
pub fn echo_reply_in_place(packet: &mut [u8]) -> Result<bool, Drop> {
    let parsed = parse_v6(packet)?;
    if parsed.protocol != protocol::ICMPV6
        || (parsed.icmp_type, parsed.icmp_code) != (kind::ECHO_REQUEST, 0)
        || parsed.extensions
        || parsed.is_martian()
        || parsed.is_multicast()
    {
        return Ok(false);
    }
    let mut ip = Ipv6::new(packet)?;
    let addresses = ip.set_source(parsed.destination).and(ip.set_destination(parsed.source));
    ip.set_hop_limit(TTL);
    let mut icmp = Icmpv6::new(ip.payload_mut())?;
    icmp.0[0] = kind::ECHO_REPLY;
    let kind = Delta::NONE.word(u16::from(kind::ECHO_REQUEST) << 8, u16::from(kind::ECHO_REPLY) << 8);
    icmp.apply(addresses.and(kind));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [u128; 2] = [0x2001_0db8 << 96 | 1, 0x2001_0db8 << 96 | 2];
    const GROUP: u128 = 0xff02 << 112 | 1;
    const TOO_BIG: Error = Error::PacketTooBig { mtu: 1280 };

    /// A packet with an 8-byte payload that is a UDP header, or an ICMPv6 message of type `icmp_type`.
    fn packet(protocol: u8, icmp_type: u8, addresses: [u128; 2]) -> [u8; 48] {
        let mut packet = [0; 48];
        if let Some(header) = packet.first_chunk_mut() {
            ipv6::write_header(header, 0, 8, protocol, 9, addresses);
        }
        packet[40] = icmp_type;
        packet[45] = 8;
        packet
    }

    #[test]
    fn errors_are_never_about_errors_redirects_groups_or_nobody() {
        assert!(may_answer(&packet(protocol::UDP, 0, HOSTS), Error::NoRoute));
        assert!(may_answer(
            &packet(protocol::ICMPV6, kind::ECHO_REQUEST, HOSTS),
            Error::NoRoute
        ));
        for never in [1, 2, 3, 4, 100, kind::REDIRECT] {
            assert!(
                !may_answer(&packet(protocol::ICMPV6, never, HOSTS), TOO_BIG),
                "type {never}"
            );
        }
        for source in [0, 1, GROUP] {
            assert!(
                !may_answer(&packet(protocol::UDP, 0, [source, HOSTS[1]]), TOO_BIG),
                "from {source:#x}"
            );
        }
        let to_group = packet(protocol::UDP, 0, [HOSTS[0], GROUP]);
        assert!(!may_answer(&to_group, Error::TimeExceeded));
        assert!(may_answer(&to_group, TOO_BIG));
    }

    #[test]
    fn later_fragments_are_answered_only_if_they_cannot_be_of_an_error() {
        let later = |next: u8| {
            let mut packet = packet(ipv6::next_header::FRAGMENT, next, HOSTS);
            packet[43] = 8;
            packet
        };
        assert!(may_answer(&later(protocol::UDP), TOO_BIG));
        assert!(!may_answer(&later(protocol::ICMPV6), TOO_BIG));
        assert!(!may_answer(&later(ipv6::next_header::DESTINATION), TOO_BIG));
    }

    #[test]
    fn types_and_codes_are_those_of_rfc_4443() {
        let original = packet(protocol::UDP, 0, HOSTS);
        for (error, kind_code, mtu) in [
            (Error::NoRoute, [1, 0], 0),
            (Error::AdminProhibited, [1, 1], 0),
            (Error::AddressUnreachable, [1, 3], 0),
            (Error::PortUnreachable, [1, 4], 0),
            (TOO_BIG, [2, 0], 1280),
            (Error::TimeExceeded, [3, 0], 0),
        ] {
            let mut out = [0xaa; MAX_ERROR];
            let length = build_error(&mut out, 1, &original, error).expect("room");
            let message = Icmpv6::new(&out[40..length]).expect("whole");
            assert_eq!(
                ([message.kind(), message.code()], message.mtu()),
                (kind_code, mtu),
                "{error:?}"
            );
            assert_eq!(message.payload(), &original[..], "{error:?}");
        }
    }
}
