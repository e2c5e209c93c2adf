//! The parse step of the packet path: one pass over a packet, every length checked, what forwarding and NAT ask for
//! in one small value.
//!
//! The walk of a packet: [`parse_link`] on the frame, then [`parse_v4`] or [`parse_v6`] on what follows
//! [`Link::l3`]; a [`Plain`] takes both steps at once for the usual packet. The header views ([`crate::ipv4::Ipv4`] and its siblings) read and rewrite what was found here.

mod layer4;
mod link;
mod plain;
mod v4;
mod v6;

pub use link::{Link, parse_link};
pub use plain::{Plain, PlainV4};
pub use v4::{V4, parse_quoted_v4, parse_v4};
pub use v6::{V6, parse_quoted_v6, parse_v6};

/// Bits of the TCP flags byte (RFC 9293 section 3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number means something.
    pub const ACK: u8 = 0x10;
}

/// IP protocol numbers (IANA), the same for IPv4 and IPv6.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FragmentPart {
    /// All of it.
    Whole,
    /// Its beginning, with the layer 4 header.
    First,
    /// A part without layer 4 header.
    Later,
}

impl FragmentPart {
    /// From the offset (in any unit) and the more-fragments flag.
    #[inline]
    pub(crate) const fn of(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}
