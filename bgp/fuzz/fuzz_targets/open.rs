//! The body of an OPEN: whatever it is, it is understood or answered with a NOTIFICATION. What is understood reads the same
//! once more when it is written again.
#![no_main]

use bgp::wire::{EXTENDED_MAX_MESSAGE, Message, Open, decode, split_message};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

/// Octets of a header.
const HEADER: usize = 19;
/// Several roles at once are nothing that is ever written; no family that we know neither.
const ROLES: usize = 1;

fuzz_target!(|body: &[u8]| {
    let Ok(length) = u16::try_from(HEADER + body.len()) else {
        return;
    };
    let mut message = BytesMut::from(&[0xff; 16][..]);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&[1]);
    message.extend_from_slice(body);
    let Some(open) = open(message) else { return };
    // What is long may need more octets in our form than there are.
    if body.len() <= 100
        && open.capabilities.roles.len() <= ROLES
        && !open.capabilities.families.is_empty()
        && (open.capabilities.four_octet_as || open.asn <= u32::from(u16::MAX))
    {
        assert_eq!(self::open(BytesMut::from(&open.encode()[..])), Some(open));
    }
});

fn open(mut message: BytesMut) -> Option<Open> {
    let whole = split_message(&mut message, EXTENDED_MAX_MESSAGE).ok()??;
    match decode(whole) {
        Ok(Message::Open(open)) => Some(open),
        _ => None,
    }
}
