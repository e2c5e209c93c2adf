//! IPv6 header and the chain of its extension headers (RFC 8200).

use crate::Drop;
use crate::bytes::{be16, be32};
use crate::parse::FragmentPart;

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
/// fragment header, a routing header of type 0 (RFC 5095) and more than [`MAX_EXTENSIONS`] headers;
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
        if chain.protocol == next_header::ROUTING && start[2] == 0 {
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
