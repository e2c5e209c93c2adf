//! OPEN and its capabilities (RFC 4271 section 4.2, 5492), as a scenario writes them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::hex::{Hex, Reader};
use crate::message::{Afi, not, sized};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Open {
    #[serde(default = "four", skip_serializing_if = "is_four")]
    pub(crate) version: u8,
    /// The field of the message: AS_TRANS (23456) if the AS has more than two octets.
    pub(crate) asn: u16,
    pub(crate) hold_time: u16,
    pub(crate) router_id: Ipv4Addr,
    #[serde(default)]
    pub(crate) capabilities: Vec<Capability>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Capability {
    Multiprotocol(Afi),
    RouteRefresh,
    ExtendedNextHop(Vec<(Afi, u16)>),
    ExtendedMessages,
    Role(u8),
    GracefulRestart {
        #[serde(default, skip_serializing_if = "not")]
        restarting: bool,
        #[serde(default, skip_serializing_if = "not")]
        notification: bool,
        time: u16,
        /// Families, and whether their forwarding went on.
        families: Vec<(Afi, bool)>,
    },
    FourOctetAs(u32),
    /// Families, and what the sender wants: 1 to receive, 2 to send, 3 both (RFC 7911).
    AddPath(Vec<(Afi, u8)>),
    EnhancedRouteRefresh,
    /// Families, whether their forwarding went on, and how many seconds they are to be kept.
    LongLived(Vec<(Afi, bool, u32)>),
    Other {
        code: u8,
        data: Hex,
    },
}

impl Open {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.version];
        body.extend(self.asn.to_be_bytes());
        body.extend(self.hold_time.to_be_bytes());
        body.extend(self.router_id.octets());
        let capabilities: Vec<u8> = self.capabilities.iter().flat_map(Capability::encode).collect();
        if capabilities.is_empty() {
            body.push(0);
        } else {
            // One optional parameter of type 2 (RFC 5492 section 4).
            let mut parameter = vec![2];
            parameter.extend(sized(&capabilities));
            body.extend(sized(&parameter));
        }
        body
    }

    pub(crate) fn decode(body: &mut Reader<'_>) -> Option<Self> {
        let (version, asn, hold_time, router_id) = (body.u8()?, body.u16()?, body.u16()?, body.v4()?);
        let mut parameters = Reader(body.sized()?);
        let mut capabilities = Vec::new();
        while !parameters.0.is_empty() {
            if parameters.u8()? != 2 {
                return None;
            }
            let mut list = Reader(parameters.sized()?);
            while !list.0.is_empty() {
                let code = list.u8()?;
                capabilities.push(Capability::decode(code, list.sized()?)?);
            }
        }
        Some(Self {
            version,
            asn,
            hold_time,
            router_id,
            capabilities,
        })
    }
}

impl Capability {
    fn encode(&self) -> Vec<u8> {
        let (code, data) = match self {
            Self::Multiprotocol(Afi(afi, safi)) => (1, [&afi.to_be_bytes()[..], &[0, *safi]].concat()),
            Self::RouteRefresh => (2, Vec::new()),
            Self::ExtendedNextHop(list) => {
                let entry = |(Afi(afi, safi), next_hop): &(Afi, u16)| {
                    [
                        afi.to_be_bytes(),
                        u16::from(*safi).to_be_bytes(),
                        next_hop.to_be_bytes(),
                    ]
                    .concat()
                };
                (5, list.iter().flat_map(entry).collect())
            }
            Self::ExtendedMessages => (6, Vec::new()),
            Self::Role(role) => (9, vec![*role]),
            Self::GracefulRestart {
                restarting,
                notification,
                time,
                families,
            } => {
                let flags = u16::from(*restarting) << 15 | u16::from(*notification) << 14;
                let entry = |(Afi(afi, safi), forwarding): &(Afi, bool)| {
                    [&afi.to_be_bytes()[..], &[*safi, u8::from(*forwarding) << 7]].concat()
                };
                let mut data = (flags | time).to_be_bytes().to_vec();
                data.extend(families.iter().flat_map(entry));
                (64, data)
            }
            Self::FourOctetAs(asn) => (65, asn.to_be_bytes().to_vec()),
            Self::AddPath(list) => {
                let entry = |(Afi(afi, safi), mode): &(Afi, u8)| [&afi.to_be_bytes()[..], &[*safi, *mode]].concat();
                (69, list.iter().flat_map(entry).collect())
            }
            Self::EnhancedRouteRefresh => (70, Vec::new()),
            Self::LongLived(list) => {
                let entry = |(Afi(afi, safi), forwarding, time): &(Afi, bool, u32)| {
                    let flags = u8::from(*forwarding) << 7;
                    [&afi.to_be_bytes()[..], &[*safi, flags], &time.to_be_bytes()[1..]].concat()
                };
                (71, list.iter().flat_map(entry).collect())
            }
            Self::Other { code, data } => (*code, data.0.clone()),
        };
        [vec![code], sized(&data)].concat()
    }

    fn decode(code: u8, data: &[u8]) -> Option<Self> {
        let mut rest = Reader(data);
        let capability = match code {
            1 => {
                let (afi, _, safi) = (rest.u16()?, rest.u8()?, rest.u8()?);
                Self::Multiprotocol(Afi(afi, safi))
            }
            2 => Self::RouteRefresh,
            5 => Self::ExtendedNextHop(rest.all(|entry| {
                let (afi, safi) = (entry.u16()?, u8::try_from(entry.u16()?).ok()?);
                Some((Afi(afi, safi), entry.u16()?))
            })?),
            6 => Self::ExtendedMessages,
            9 => Self::Role(rest.u8()?),
            64 => {
                let first = rest.u16()?;
                Self::GracefulRestart {
                    restarting: first & 0x8000 != 0,
                    notification: first & 0x4000 != 0,
                    time: first & 0x0fff,
                    families: rest.all(|entry| Some((Afi(entry.u16()?, entry.u8()?), entry.u8()? & 0x80 != 0)))?,
                }
            }
            65 => Self::FourOctetAs(rest.u32()?),
            69 => Self::AddPath(rest.all(|entry| Some((Afi(entry.u16()?, entry.u8()?), entry.u8()?)))?),
            70 => Self::EnhancedRouteRefresh,
            71 => Self::LongLived(rest.all(|entry| {
                let family = Afi(entry.u16()?, entry.u8()?);
                let word = entry.u32()?;
                Some((family, word & 0x8000_0000 != 0, word & 0x00ff_ffff))
            })?),
            _ => Self::Other {
                code,
                data: Hex(std::mem::take(&mut rest.0).to_vec()),
            },
        };
        rest.0.is_empty().then_some(capability)
    }
}

const fn four() -> u8 {
    4
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_four(version: &u8) -> bool {
    *version == 4
}
