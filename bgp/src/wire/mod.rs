//! Codec facade: the only module that names `rustbgpd-wire`.
//!
//! Everything else speaks the types of this module, so a release of the library that breaks its interface, or a fault of
//! it that has to be worked around, is settled here. What the facade adds: framing that checks the length bounds of each
//! message type (RFC 4271 section 6.1), notifications with the data that the RFC asks for, attributes in one shape for
//! the decision process, and the RFC 7606 outcome of an UPDATE as one value.

mod attributes;
mod evpn;
mod notification;
mod open;
mod update;

use bytes::{Buf, Bytes, BytesMut};
use rustbgpd_wire as library;

pub use attributes::{AsPath, AsPathSegment, Attributes, LargeCommunity, NextHop, Origin, PathAttribute, origin};
pub use evpn::{
    Esi, EvpnAnnouncement, EvpnKey, EvpnMarks, EvpnRoute, EvpnUpdate, encode_evpn_announcement, encode_evpn_withdrawal,
    ingress_replication, replicated_vni, router_mac, vxlan_encapsulation,
};
pub use notification::{Cease, Notification, code, fsm, header, open_error, refresh};
pub use open::{Capabilities, GracefulRestart, LongLivedFamily, Open, RestartFamily};
pub use update::{
    Announcement, Context, EncodeError, Fault, Outcome, RawUpdate, Update, encode_announcement, encode_end_of_rib,
    encode_for_dump, encode_withdrawal,
};

use crate::Family;

/// Largest message without RFC 8654, bytes.
pub const MAX_MESSAGE: u16 = library::MAX_MESSAGE_LEN;
/// Largest message of a speaker that has announced RFC 8654, bytes.
pub const EXTENDED_MAX_MESSAGE: u16 = library::EXTENDED_MAX_MESSAGE_LEN;
const HEADER: usize = library::constants::HEADER_LEN;
const LENGTH_AT: usize = library::constants::MARKER_LEN;
const TYPE_AT: usize = LENGTH_AT + 2;

/// A message of RFC 4271 section 4, RFC 2918 or RFC 7313.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE, its sections not looked into.
    Update(RawUpdate),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH; `None` for a family that the speaker does not know.
    RouteRefresh(Option<Family>, Refresh),
}

/// What a ROUTE-REFRESH says of its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// It is wanted again (RFC 2918).
    Request,
    /// It is told again from here… (RFC 7313)
    Begin,
    /// …to here.
    End,
    /// Something that this speaker does not know.
    Unknown(u8),
}

/// Takes one whole message off the front of `buffer`; `None` while it is incomplete. `longest` is [`MAX_MESSAGE`], or
/// [`EXTENDED_MAX_MESSAGE`] if we have announced RFC 8654; an OPEN or KEEPALIVE is never longer than the former.
///
/// # Errors
/// The notification to end the connection with, if the header is wrong (RFC 4271 section 6.1).
pub fn split_message(buffer: &mut BytesMut, longest: u16) -> Result<Option<Bytes>, Notification> {
    let Some(length) = library::peek_message_length(buffer, longest).map_err(Notification::from)? else {
        return Ok(None);
    };
    let shortest = match buffer[TYPE_AT] {
        library::constants::message_type::OPEN => library::constants::MIN_OPEN_LEN,
        library::constants::message_type::UPDATE | library::constants::message_type::ROUTE_REFRESH => {
            library::constants::MIN_UPDATE_LEN
        }
        library::constants::message_type::NOTIFICATION => library::constants::MIN_NOTIFICATION_LEN,
        _ => library::constants::MIN_MESSAGE_LEN,
    };
    let keepalive = buffer[TYPE_AT] == library::constants::message_type::KEEPALIVE;
    if length < shortest || (keepalive && length > shortest) {
        return Err(Notification::new(code::HEADER, header::BAD_LENGTH).with_data(length.to_be_bytes().to_vec()));
    }
    if buffer.len() < usize::from(length) {
        return Ok(None);
    }
    Ok(Some(buffer.split_to(usize::from(length)).freeze()))
}

/// Decodes one message that [`split_message`] yielded.
///
/// # Errors
/// The notification to end the connection with.
pub fn decode(mut message: Bytes) -> Result<Message, Notification> {
    let received_length = message.get(LENGTH_AT..TYPE_AT).map(<[u8]>::to_vec).unwrap_or_default();
    // RFC 7313 section 5: a marker has nothing behind it.
    let marker = message.get(TYPE_AT) == Some(&library::constants::message_type::ROUTE_REFRESH)
        && matches!(message.get(HEADER + 2), Some(1 | 2));
    if marker && message.len() != HEADER + 4 {
        return Err(Notification::new(code::ROUTE_REFRESH, refresh::BAD_LENGTH).with_data(message));
    }
    let decoded = library::decode_message(&mut message, EXTENDED_MAX_MESSAGE).map_err(|error| {
        let notification = Notification::from(error);
        let bad_length = notification.code == code::HEADER && notification.subcode == header::BAD_LENGTH;
        if bad_length {
            notification.with_data(received_length)
        } else {
            notification
        }
    })?;
    if message.has_remaining() {
        return Err(Notification::new(code::HEADER, header::BAD_LENGTH));
    }
    Ok(match decoded {
        library::Message::Open(open) => Message::Open(Open::from_library(&open)),
        library::Message::Update(update) => Message::Update(RawUpdate::new(update)),
        library::Message::Notification(n) => Message::Notification(Notification {
            code: n.code.as_u8(),
            subcode: n.subcode,
            data: n.data,
        }),
        library::Message::RouteRefresh(refresh) => {
            let family = refresh.afi().zip(refresh.safi());
            let family = family.and_then(|(afi, safi)| family_from_library(afi, safi));
            let kind = match refresh.subtype() {
                library::RouteRefreshSubtype::Normal => Refresh::Request,
                library::RouteRefreshSubtype::BoRR => Refresh::Begin,
                library::RouteRefreshSubtype::EoRR => Refresh::End,
                _ => Refresh::Unknown(refresh.subtype_raw),
            };
            Message::RouteRefresh(family, kind)
        }
        library::Message::Keepalive => Message::Keepalive,
        // The library's enum may grow; a type that this speaker does not know is refused.
        _ => return Err(Notification::new(code::HEADER, header::BAD_TYPE)),
    })
}

/// Encodes a KEEPALIVE.
pub fn encode_keepalive() -> Bytes {
    encode_infallible(&library::Message::Keepalive)
}

/// Encodes a ROUTE-REFRESH.
pub fn encode_route_refresh(family: Family, kind: Refresh) -> Bytes {
    let (afi, safi) = family_to_library(family);
    let subtype = match kind {
        Refresh::Request => library::RouteRefreshSubtype::Normal,
        Refresh::Begin => library::RouteRefreshSubtype::BoRR,
        Refresh::End => library::RouteRefreshSubtype::EoRR,
        Refresh::Unknown(subtype) => library::RouteRefreshSubtype::Unknown(subtype),
    };
    let message = library::RouteRefreshMessage::new_with_subtype(afi, safi, subtype);
    encode_infallible(&library::Message::RouteRefresh(message))
}

/// For messages whose size and values are bounded by construction.
fn encode_infallible(message: &library::Message) -> Bytes {
    library::encode_message(message)
        .expect("a message of bounded size and checked values encodes")
        .freeze()
}

fn family_from_library(afi: library::Afi, safi: library::Safi) -> Option<Family> {
    match (afi, safi) {
        (library::Afi::Ipv4, library::Safi::Unicast) => Some(Family::Ipv4Unicast),
        (library::Afi::Ipv6, library::Safi::Unicast) => Some(Family::Ipv6Unicast),
        (library::Afi::L2Vpn, library::Safi::Evpn) => Some(Family::L2vpnEvpn),
        _ => None,
    }
}

fn family_to_library(family: Family) -> (library::Afi, library::Safi) {
    match family {
        Family::Ipv4Unicast => (library::Afi::Ipv4, library::Safi::Unicast),
        Family::Ipv6Unicast => (library::Afi::Ipv6, library::Safi::Unicast),
        Family::L2vpnEvpn => (library::Afi::L2Vpn, library::Safi::Evpn),
    }
}

#[cfg(test)]
mod tests;
