//! Messages as a scenario writes them, to bytes and back.
//!
//! This is a second, small codec, written from the RFCs and not from `bgp::wire`: a fault of the one is not hidden by the
//! same fault in the other. It reads whatever it can name, and leaves the rest as hexadecimal digits.

use serde::{Deserialize, Serialize};

use crate::hex::{Hex, Reader};
use crate::open::Open;
use crate::update::Update;

/// Marker, length and type (RFC 4271 section 4.1).
pub(crate) const HEADER: usize = 19;

/// A message of RFC 4271 section 4 or RFC 2918.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Message {
    Open(Open),
    Update(Update),
    Notification(Notification),
    Keepalive,
    Refresh { family: Afi, kind: u8 },
}

/// An address family, `AFI/SAFI`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Afi(pub(crate) u16, pub(crate) u8);

const FAMILIES: [(&str, Afi); 3] = [
    ("ipv4-unicast", Afi(1, 1)),
    ("ipv6-unicast", Afi(2, 1)),
    ("l2vpn-evpn", Afi(25, 70)),
];

impl TryFrom<String> for Afi {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some((_, family)) = FAMILIES.iter().find(|(name, _)| *name == text) {
            return Ok(*family);
        }
        let numbers = text.split_once('/');
        numbers
            .and_then(|(afi, safi)| Some(Self(afi.parse().ok()?, safi.parse().ok()?)))
            .ok_or_else(|| format!("`{text}` is no family: name one, or write AFI/SAFI"))
    }
}

impl From<Afi> for String {
    fn from(family: Afi) -> Self {
        let named = FAMILIES.iter().find(|(_, known)| *known == family);
        named.map_or_else(|| format!("{}/{}", family.0, family.1), |(name, _)| (*name).to_owned())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Notification {
    pub(crate) code: u8,
    pub(crate) subcode: u8,
    #[serde(default, skip_serializing_if = "Hex::is_empty")]
    pub(crate) data: Hex,
}

/// How an UPDATE of a session is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) two_octet_as: bool,
    /// Families whose prefixes have path identifiers.
    pub(crate) add_path: Vec<Afi>,
}

impl Message {
    /// The whole message, header included.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Open(open) => (1, open.encode()),
            Self::Update(update) => (2, update.encode()),
            Self::Notification(notification) => {
                let mut body = vec![notification.code, notification.subcode];
                body.extend(&notification.data.0);
                (3, body)
            }
            Self::Keepalive => (4, Vec::new()),
            Self::Refresh { family, kind } => {
                let mut body = family.0.to_be_bytes().to_vec();
                body.extend([*kind, family.1]);
                (5, body)
            }
        };
        let length = u16::try_from(HEADER + body.len()).expect("a scenario's message is short enough");
        let mut message = vec![0xff; 16];
        message.extend(length.to_be_bytes());
        message.push(kind);
        message.extend(body);
        message
    }

    /// From a whole message; `None` if the readable form would not give the same octets.
    pub(crate) fn decode(message: &[u8], reading: &Reading) -> Option<Self> {
        let mut body = Reader(message.get(HEADER..)?);
        let decoded = match message[HEADER - 1] {
            1 => Self::Open(Open::decode(&mut body)?),
            2 => Self::Update(Update::decode(&mut body, reading)?),
            3 => Self::Notification(Notification {
                code: body.u8()?,
                subcode: body.u8()?,
                data: Hex(std::mem::take(&mut body.0).to_vec()),
            }),
            4 => Self::Keepalive,
            5 => {
                let (afi, kind, safi) = (body.u16()?, body.u8()?, body.u8()?);
                Self::Refresh {
                    family: Afi(afi, safi),
                    kind,
                }
            }
            _ => return None,
        };
        (decoded.encode() == message).then_some(decoded)
    }
}

/// After an octet with their length.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a scenario's field is short enough");
    [&[length], bytes].concat()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) const fn not(flag: &bool) -> bool {
    !*flag
}
