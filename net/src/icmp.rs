//! ICMP for IPv4 (RFC 792): the message, the errors that the gateway sends, and the reply to an echo.

use crate::bytes::{be16, put16, within};
use crate::checksum::{self, Delta, Sum};
use crate::ipv4::{self, Ipv4};
use crate::{Drop, FragmentPart, V4, parse_quoted_v4, parse_v4, protocol};

/// Length of the header, with the four bytes whose meaning depends on the type.
pub const LENGTH: usize = 8;

/// An ICMP error is not longer than this, IP header included (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR: usize = 576;

/// CS6, network control: the precedence of errors (RFC 1812 section 4.3.2.5).
pub(crate) const NETWORK_CONTROL: u8 = 0xc0;

/// Time to live of packets that the gateway itself sends.
pub(crate) const TTL: u8 = 64;

/// Message types used here (IANA).
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// An ICMP message whose header is whole.
///
/// Setters keep the checksum as right, or as wrong, as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp<B>(B);

impl<B: AsRef<[u8]>> Icmp<B> {
    /// Views a message: the whole payload of its IP packet.
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

    /// Next-hop MTU of "fragmentation needed" (RFC 1191); 0 from routers older than that.
    #[inline]
    pub fn mtu(&self) -> u16 {
        be16(self.0.as_ref(), 6)
    }

    /// True for the messages that quote the packet they are about.
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
    pub fn quoted(&self) -> Result<Option<V4>, Drop> {
        if self.is_error() {
            parse_quoted_v4(self.payload()).map(Some)
        } else {
            Ok(None)
        }
    }

    /// True if the checksum is right.
    #[inline]
    pub fn checksum_is_valid(&self) -> bool {
        checksum::is_valid(self.0.as_ref())
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Icmp<B> {
    /// Sets the identifier of an echo.
    #[inline]
    pub fn set_identifier(&mut self, identifier: u16) {
        let delta = Delta::NONE.word(self.identifier(), identifier);
        self.rewrite(identifier, delta);
    }

    /// Sets the identifier with a difference computed before: the packet path of NAT. Addresses have no part in it,
    /// since this checksum knows no pseudo-header.
    #[inline]
    pub fn rewrite(&mut self, identifier: u16, delta: Delta) {
        put16(self.0.as_mut(), 4, identifier);
        self.apply(delta);
    }

    /// Changes the packet that an error quotes, and keeps the checksum.
    #[inline]
    pub fn rewrite_quote(&mut self, change: impl FnOnce(&mut [u8])) {
        let before = Sum::ZERO.bytes(self.payload());
        let bytes = self.0.as_mut();
        if let Some(quote) = bytes.get_mut(LENGTH..) {
            change(quote);
        }
        let after = Sum::ZERO.bytes(self.payload());
        self.apply(Delta::between(before, after));
    }

    /// Applies a difference to the checksum.
    #[inline]
    pub fn apply(&mut self, delta: Delta) {
        let checksum = delta.apply(self.checksum());
        put16(self.0.as_mut(), 2, checksum);
    }

    /// Computes the checksum anew.
    #[inline]
    pub fn fill_checksum(&mut self) {
        put16(self.0.as_mut(), 2, 0);
        let checksum = checksum::checksum(self.0.as_ref());
        put16(self.0.as_mut(), 2, checksum);
    }
}

/// True for the types that quote the packet they are about: unreachable, source quench, redirect, time exceeded,
/// parameter problem.
#[inline]
pub const fn is_error(icmp_type: u8) -> bool {
    matches!(
        icmp_type,
        kind::UNREACHABLE | 4 | kind::REDIRECT | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM
    )
}

/// An error that the gateway sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// Time to live exceeded in transit.
    TimeExceeded,
    /// No route to the network.
    NetUnreachable,
    /// The host does not answer.
    HostUnreachable,
    /// Nothing listens.
    PortUnreachable,
    /// Communication administratively prohibited.
    AdminProhibited,
    /// Too big for the next hop, whose MTU this is, and not to be fragmented.
    FragmentationNeeded {
        /// Largest IP packet that would go through.
        mtu: u16,
    },
}

impl Error {
    /// Type, code and the last two bytes of the header.
    const fn header(self) -> (u8, u8, u16) {
        match self {
            Self::TimeExceeded => (kind::TIME_EXCEEDED, 0, 0),
            Self::NetUnreachable => (kind::UNREACHABLE, 0, 0),
            Self::HostUnreachable => (kind::UNREACHABLE, 1, 0),
            Self::PortUnreachable => (kind::UNREACHABLE, 3, 0),
            Self::AdminProhibited => (kind::UNREACHABLE, 13, 0),
            Self::FragmentationNeeded { mtu } => (kind::UNREACHABLE, 4, mtu),
        }
    }
}

/// Why an ICMP or ICMPv6 error was not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The packet to quote has no valid IP header.
    #[error("packet to quote in an ICMP error is malformed ({0}): drop it without an error message")]
    Original(Drop),
    /// The message does not fit.
    #[error("buffer is too short for an ICMP error about this packet: give at least {needed} bytes")]
    Buffer {
        /// Length of the message.
        needed: usize,
    },
}

/// True if an error may be sent about `original`, as it was received (RFC 1812 section 4.3.2.7): never about an ICMP
/// error (or a type unknown here), to a multicast or broadcast destination, about a later fragment, or to a source that
/// is not one host. Broadcasts of the link layer and of a subnet are the caller's to know.
pub fn may_answer(original: &[u8]) -> bool {
    parse_v4(original).is_ok_and(|packet| {
        let query = matches!(packet.icmp_type, 0 | 8..=10 | 13..=18 | 42 | 43);
        packet.fragment != FragmentPart::Later
            && !packet.is_martian()
            && !packet.is_multicast()
            && (packet.protocol != protocol::ICMP || query)
    })
}

/// Writes the IP packet of an error about `original` (as it was received, padding allowed) to `out`, from address
/// `source`, and returns its length. Whether it may be sent is for [`may_answer`] and a rate limit to say.
///
/// # Errors
/// [`BuildError`].
pub fn build_error(out: &mut [u8], source: u32, original: &[u8], error: Error) -> Result<usize, BuildError> {
    let packet = Ipv4::new(original).map_err(BuildError::Original)?;
    let quote = within(original, 0..usize::from(packet.total_length()));
    write_error(out, [source, packet.source()], quote, error)
}

/// The same about a packet of which only the beginning is known: what another error quotes of it.
///
/// # Errors
/// [`BuildError`].
pub fn build_error_from_quote(out: &mut [u8], source: u32, quote: &[u8], error: Error) -> Result<usize, BuildError> {
    let about = crate::parse_quoted_v4(quote).map_err(BuildError::Original)?;
    write_error(out, [source, about.source], quote, error)
}

fn write_error(out: &mut [u8], addresses: [u32; 2], quote: &[u8], error: Error) -> Result<usize, BuildError> {
    let quote = within(quote, 0..quote.len().min(MAX_ERROR - ipv4::LENGTH - LENGTH));
    let needed = ipv4::LENGTH + LENGTH + quote.len();
    let Some((header, message)) = out.get_mut(..needed).and_then(|o| o.split_first_chunk_mut()) else {
        return Err(BuildError::Buffer { needed });
    };
    ipv4::write_header(header, NETWORK_CONTROL, needed as u16, TTL, protocol::ICMP, addresses);
    let (kind, code, low) = error.header();
    write_message(message, [kind, code], u32::from(low), quote);
    Icmp(message).fill_checksum();
    Ok(needed)
}

/// Writes type, code and the rest of the header with a zero checksum, and behind them the quote.
pub(crate) fn write_message(out: &mut [u8], kind_code: [u8; 2], rest: u32, quote: &[u8]) {
    let [a, b, c, d] = rest.to_be_bytes();
    let header = [kind_code[0], kind_code[1], 0, 0, a, b, c, d];
    for (to, from) in out.iter_mut().zip(header.iter().chain(quote)) {
        *to = *from;
    }
}

/// Makes an echo request the reply to it, in place, and says so. `false`, with the packet unchanged, for everything
/// that is not an echo request to one host: fragments and packets with options are among it, since the kernel of the
/// host does them better.
///
/// # Errors
/// As [`parse_v4`].
pub fn echo_reply_in_place(packet: &mut [u8]) -> Result<bool, Drop> {
    let parsed = parse_v4(packet)?;
    if parsed.protocol != protocol::ICMP
        || (parsed.icmp_type, parsed.icmp_code) != (kind::ECHO_REQUEST, 0)
        || parsed.fragment != FragmentPart::Whole
        || parsed.options
        || parsed.is_martian()
        || parsed.is_multicast()
    {
        return Ok(false);
    }
    let mut ip = Ipv4::new(packet)?;
    // Swapped addresses sum to the same.
    ip.rewrite(parsed.destination, parsed.source, Delta::NONE);
    ip.set_ttl(TTL);
    let mut icmp = Icmp::new(ip.payload_mut())?;
    icmp.0[0] = kind::ECHO_REPLY;
    icmp.apply(Delta::NONE.word(u16::from(kind::ECHO_REQUEST) << 8, u16::from(kind::ECHO_REPLY) << 8));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with an 8-byte payload that is a UDP header, or an ICMP message of type `icmp_type`.
    fn packet(protocol: u8, icmp_type: u8, addresses: [u32; 2], flags_offset: u16) -> [u8; 28] {
        let mut packet = [0; 28];
        if let Some(header) = packet.first_chunk_mut() {
            ipv4::write_header(header, 0, 28, 9, protocol, addresses);
        }
        put16(&mut packet, 6, flags_offset);
        packet[20] = icmp_type;
        packet[25] = 8;
        Ipv4::new(&mut packet[..]).expect("valid").fill_checksum();
        packet
    }

    const HOSTS: [u32; 2] = [0x0a00_0001, 0xc000_0201];

    #[test]
    fn errors_are_never_about_errors_groups_later_fragments_or_nobody() {
        assert!(may_answer(&packet(protocol::UDP, 0, HOSTS, 0)));
        assert!(may_answer(&packet(protocol::UDP, 0, HOSTS, 0x2000)));
        assert!(!may_answer(&packet(protocol::UDP, 0, HOSTS, 0x2001)));
        for query in [kind::ECHO_REQUEST, kind::ECHO_REPLY, 13] {
            assert!(may_answer(&packet(protocol::ICMP, query, HOSTS, 0)), "type {query}");
        }
        for error in [3, 4, 5, 11, 12, 99] {
            assert!(!may_answer(&packet(protocol::ICMP, error, HOSTS, 0)), "type {error}");
        }
        for source in [0, 0x7f00_0001, 0xe000_0001, 0xf000_0001, u32::MAX] {
            assert!(
                !may_answer(&packet(protocol::UDP, 0, [source, HOSTS[1]], 0)),
                "from {source:#x}"
            );
        }
        for destination in [0xe000_0001, u32::MAX] {
            assert!(
                !may_answer(&packet(protocol::UDP, 0, [HOSTS[0], destination], 0)),
                "to {destination:#x}"
            );
        }
        assert!(!may_answer(&[]));
    }

    #[test]
    fn only_a_whole_echo_request_is_replied_to() {
        let mut request = packet(protocol::ICMP, kind::ECHO_REQUEST, HOSTS, 0);
        assert_eq!(echo_reply_in_place(&mut request), Ok(true));
        let reply = parse_v4(&request).expect("valid");
        assert_eq!(
            ([reply.destination, reply.source], reply.icmp_type, reply.ttl),
            (HOSTS, kind::ECHO_REPLY, TTL)
        );
        assert_eq!(echo_reply_in_place(&mut request), Ok(false));
        for mut other in [
            packet(protocol::ICMP, kind::ECHO_REQUEST, HOSTS, 0x2000),
            packet(protocol::ICMP, kind::ECHO_REQUEST, [HOSTS[0], 0xe000_0001], 0),
            packet(protocol::UDP, kind::ECHO_REQUEST, HOSTS, 0),
        ] {
            assert_eq!(echo_reply_in_place(&mut other), Ok(false));
        }
        assert_eq!(echo_reply_in_place(&mut []), Err(Drop::Ipv4Malformed));
    }

    #[test]
    fn types_and_codes_are_those_of_rfc_792_and_1812() {
        let original = packet(protocol::UDP, 0, HOSTS, 0);
        for (error, kind_code, mtu) in [
            (Error::TimeExceeded, [11, 0], 0),
            (Error::NetUnreachable, [3, 0], 0),
            (Error::HostUnreachable, [3, 1], 0),
            (Error::PortUnreachable, [3, 3], 0),
            (Error::FragmentationNeeded { mtu: 1400 }, [3, 4], 1400),
            (Error::AdminProhibited, [3, 13], 0),
        ] {
            let mut out = [0xaa; MAX_ERROR];
            let length = build_error(&mut out, 1, &original, error).expect("room");
            let message = Icmp::new(&out[20..length]).expect("whole");
            assert_eq!(
                ([message.kind(), message.code()], message.mtu()),
                (kind_code, mtu),
                "{error:?}"
            );
            assert_eq!(
                (message.identifier(), message.payload()),
                (0, &original[..]),
                "{error:?}"
            );
        }
    }
}
