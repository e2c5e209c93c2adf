//! UPDATE and its attributes (RFC 4271 section 4.3, 4760), as a scenario writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Prefix;
use serde::{Deserialize, Serialize};

use crate::hex::{Hex, Reader};
use crate::message::{Afi, Reading, not, sized};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Update {
    /// AS numbers have two octets.
    #[serde(default, skip_serializing_if = "not")]
    pub(crate) two_octet_as: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) withdrawn: Vec<Nlri>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attributes: Vec<Attribute>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nlri: Vec<Nlri>,
}

/// A prefix, after its path identifier and a space if it has one (RFC 7911).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Nlri {
    id: Option<u32>,
    prefix: Prefix,
}

impl TryFrom<String> for Nlri {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (id, prefix) = match text.split_once(' ') {
            Some((id, prefix)) => (
                Some(id.parse().map_err(|_| format!("`{id}` is no path identifier"))?),
                prefix,
            ),
            None => (None, text.as_str()),
        };
        let prefix = prefix.parse().map_err(|_| format!("`{prefix}` is no prefix"))?;
        Ok(Self { id, prefix })
    }
}

impl From<Nlri> for String {
    fn from(nlri: Nlri) -> Self {
        match nlri.id {
            Some(id) => format!("{id} {}", nlri.prefix),
            None => nlri.prefix.to_string(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Attribute {
    /// 0 IGP, 1 EGP, 2 incomplete.
    Origin(u8),
    AsPath(Vec<Segment>),
    NextHop(Ipv4Addr),
    Med(u32),
    LocalPref(u32),
    AtomicAggregate,
    Aggregator {
        asn: u32,
        address: Ipv4Addr,
    },
    /// High and low half.
    Communities(Vec<(u16, u16)>),
    OriginatorId(Ipv4Addr),
    ClusterList(Vec<Ipv4Addr>),
    MpReach {
        family: Afi,
        next_hop: Vec<IpAddr>,
        nlri: Vec<Nlri>,
    },
    MpUnreach {
        family: Afi,
        nlri: Vec<Nlri>,
    },
    ExtendedCommunities(Vec<Hex>),
    As4Path(Vec<Segment>),
    LargeCommunities(Vec<(u32, u32, u32)>),
    OnlyToCustomer(u32),
    /// Octet for octet; `length` may lie.
    Other {
        flags: u8,
        code: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<u8>,
        data: Hex,
    },
}

/// AS_SEQUENCE as a list of numbers, AS_SET as `{"set": [...]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Segment {
    Sequence(Vec<u32>),
    Set { set: Vec<u32> },
}

impl Update {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let withdrawn: Vec<u8> = self.withdrawn.iter().flat_map(Nlri::encode).collect();
        let two = self.two_octet_as;
        let attributes: Vec<u8> = self
            .attributes
            .iter()
            .flat_map(|attribute| attribute.encode(two))
            .collect();
        let sized = |bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).expect("a scenario's message is short enough");
            [&length.to_be_bytes()[..], bytes].concat()
        };
        let mut body = sized(&withdrawn);
        body.extend(sized(&attributes));
        body.extend(self.nlri.iter().flat_map(Nlri::encode));
        body
    }

    pub(crate) fn decode(body: &mut Reader<'_>, reading: &Reading) -> Option<Self> {
        let length = body.u16()?;
        let mut withdrawn = Reader(body.take(length.into())?);
        let length = body.u16()?;
        let mut list = Reader(body.take(length.into())?);
        let mut attributes = Vec::new();
        while !list.0.is_empty() {
            attributes.push(Attribute::decode(&mut list, reading)?);
        }
        let v4 = Afi(1, 1);
        Some(Self {
            two_octet_as: reading.two_octet_as,
            withdrawn: withdrawn.all(|rest| Nlri::decode(rest, v4, reading))?,
            attributes,
            nlri: body.all(|rest| Nlri::decode(rest, v4, reading))?,
        })
    }
}

impl Nlri {
    fn encode(&self) -> Vec<u8> {
        let octets = match self.prefix.net().network() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let length = self.prefix.len();
        let id = self.id.map(u32::to_be_bytes);
        let mut bytes: Vec<u8> = id.into_iter().flatten().collect();
        bytes.push(length);
        bytes.extend(&octets[..usize::from(length).div_ceil(8)]);
        bytes
    }

    fn decode(rest: &mut Reader<'_>, family: Afi, reading: &Reading) -> Option<Self> {
        let id = if reading.add_path.contains(&family) {
            Some(rest.u32()?)
        } else {
            None
        };
        let length = rest.u8()?;
        let octets = rest.take(usize::from(length).div_ceil(8))?;
        let address: IpAddr = if family.0 == 1 {
            let mut whole = [0; 4];
            whole.get_mut(..octets.len())?.copy_from_slice(octets);
            Ipv4Addr::from(whole).into()
        } else {
            let mut whole = [0; 16];
            whole.get_mut(..octets.len())?.copy_from_slice(octets);
            Ipv6Addr::from(whole).into()
        };
        let prefix = format!("{address}/{length}").parse().ok()?;
        Some(Self { id, prefix })
    }
}

/// Flags of attributes (RFC 4271 section 4.3).
const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED: u8 = 0x10;

impl Attribute {
    fn encode(&self, two_octet_as: bool) -> Vec<u8> {
        let number = |asn: &u32| {
            if two_octet_as {
                u16::try_from(*asn).expect("an AS of two octets").to_be_bytes().to_vec()
            } else {
                asn.to_be_bytes().to_vec()
            }
        };
        let path = |segments: &[Segment], number: &dyn Fn(&u32) -> Vec<u8>| {
            let segment = |segment: &Segment| {
                let (kind, list) = match segment {
                    Segment::Set { set } => (1, set),
                    Segment::Sequence(list) => (2, list),
                };
                let count = u8::try_from(list.len()).expect("at most 255 in a segment");
                [vec![kind, count], list.iter().flat_map(number).collect()].concat()
            };
            segments.iter().flat_map(segment).collect::<Vec<u8>>()
        };
        let v4s = |list: &[Ipv4Addr]| list.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>();
        let (flags, code, data) = match self {
            Self::Origin(value) => (TRANSITIVE, 1, vec![*value]),
            Self::AsPath(segments) => (TRANSITIVE, 2, path(segments, &number)),
            Self::NextHop(address) => (TRANSITIVE, 3, address.octets().to_vec()),
            Self::Med(value) => (OPTIONAL, 4, value.to_be_bytes().to_vec()),
            Self::LocalPref(value) => (TRANSITIVE, 5, value.to_be_bytes().to_vec()),
            Self::AtomicAggregate => (TRANSITIVE, 6, Vec::new()),
            Self::Aggregator { asn, address } => (
                OPTIONAL | TRANSITIVE,
                7,
                [number(asn), address.octets().to_vec()].concat(),
            ),
            Self::Communities(list) => {
                let halves = |(high, low): &(u16, u16)| [high.to_be_bytes(), low.to_be_bytes()].concat();
                (OPTIONAL | TRANSITIVE, 8, list.iter().flat_map(halves).collect())
            }
            Self::OriginatorId(id) => (OPTIONAL, 9, id.octets().to_vec()),
            Self::ClusterList(list) => (OPTIONAL, 10, v4s(list)),
            Self::MpReach { family, next_hop, nlri } => {
                let addresses: Vec<u8> = next_hop
                    .iter()
                    .flat_map(|address| match address {
                        IpAddr::V4(v4) => v4.octets().to_vec(),
                        IpAddr::V6(v6) => v6.octets().to_vec(),
                    })
                    .collect();
                let mut data = family.0.to_be_bytes().to_vec();
                data.push(family.1);
                data.extend(sized(&addresses));
                data.push(0);
                data.extend(nlri.iter().flat_map(Nlri::encode));
                (OPTIONAL, 14, data)
            }
            Self::MpUnreach { family, nlri } => {
                let mut data = family.0.to_be_bytes().to_vec();
                data.push(family.1);
                data.extend(nlri.iter().flat_map(Nlri::encode));
                (OPTIONAL, 15, data)
            }
            Self::ExtendedCommunities(list) => {
                let octets = list.iter().flat_map(|value| value.0.clone());
                (OPTIONAL | TRANSITIVE, 16, octets.collect())
            }
            Self::As4Path(segments) => {
                let four = |asn: &u32| asn.to_be_bytes().to_vec();
                (OPTIONAL | TRANSITIVE, 17, path(segments, &four))
            }
            Self::LargeCommunities(list) => {
                let parts = |(a, b, c): &(u32, u32, u32)| [a.to_be_bytes(), b.to_be_bytes(), c.to_be_bytes()].concat();
                (OPTIONAL | TRANSITIVE, 32, list.iter().flat_map(parts).collect())
            }
            Self::OnlyToCustomer(asn) => (OPTIONAL | TRANSITIVE, 35, asn.to_be_bytes().to_vec()),
            Self::Other {
                flags,
                code,
                length,
                data,
            } => {
                let mut bytes = vec![*flags, *code];
                let whole = u16::try_from(data.0.len()).expect("a scenario's attribute is short enough");
                if flags & EXTENDED == 0 {
                    let short = u8::try_from(whole).expect("longer ones have the flag 0x10");
                    bytes.push(length.unwrap_or(short));
                } else {
                    bytes.extend(length.map_or(whole, u16::from).to_be_bytes());
                }
                bytes.extend(&data.0);
                return bytes;
            }
        };
        match u8::try_from(data.len()) {
            Ok(length) => [vec![flags, code, length], data].concat(),
            Err(_) => {
                let length = u16::try_from(data.len()).expect("a scenario's attribute is short enough");
                [&[flags | EXTENDED, code], &length.to_be_bytes()[..], &data].concat()
            }
        }
    }

    /// Takes one off the front. One whose flags or contents are out of the ordinary is left as octets.
    fn decode(list: &mut Reader<'_>, reading: &Reading) -> Option<Self> {
        let before = list.0;
        let (flags, code) = (list.u8()?, list.u8()?);
        let length = if flags & EXTENDED == 0 {
            list.u8()?.into()
        } else {
            list.u16()?
        };
        let data = list.take(length.into())?;
        let whole = &before[..before.len() - list.0.len()];
        let known = Self::named(code, data, reading).filter(|known| known.encode(reading.two_octet_as) == whole);
        Some(known.unwrap_or_else(|| Self::Other {
            flags,
            code,
            length: None,
            data: Hex(data.to_vec()),
        }))
    }

    fn named(code: u8, data: &[u8], reading: &Reading) -> Option<Self> {
        let mut rest = Reader(data);
        let two = reading.two_octet_as;
        let number = |rest: &mut Reader<'_>| {
            if two { rest.u16().map(u32::from) } else { rest.u32() }
        };
        Some(match code {
            1 => Self::Origin(rest.u8()?),
            2 => Self::AsPath(rest.all(|rest| segment(rest, number))?),
            3 => Self::NextHop(rest.v4()?),
            4 => Self::Med(rest.u32()?),
            5 => Self::LocalPref(rest.u32()?),
            6 => Self::AtomicAggregate,
            7 => Self::Aggregator {
                asn: number(&mut rest)?,
                address: rest.v4()?,
            },
            8 => Self::Communities(rest.all(|rest| Some((rest.u16()?, rest.u16()?)))?),
            9 => Self::OriginatorId(rest.v4()?),
            10 => Self::ClusterList(rest.all(Reader::v4)?),
            14 => {
                let family = Afi(rest.u16()?, rest.u8()?);
                let mut addresses = Reader(rest.sized()?);
                rest.u8()?;
                let next_hop = match addresses.0.len() {
                    4 => addresses.all(|rest| rest.v4().map(IpAddr::V4))?,
                    _ => addresses.all(|rest| rest.v6().map(IpAddr::V6))?,
                };
                let nlri = rest.all(|rest| Nlri::decode(rest, family, reading))?;
                Self::MpReach { family, next_hop, nlri }
            }
            15 => {
                let family = Afi(rest.u16()?, rest.u8()?);
                let nlri = rest.all(|rest| Nlri::decode(rest, family, reading))?;
                Self::MpUnreach { family, nlri }
            }
            16 => Self::ExtendedCommunities(rest.all(|rest| Some(Hex(rest.take(8)?.to_vec())))?),
            17 => Self::As4Path(rest.all(|rest| segment(rest, |rest| rest.u32()))?),
            32 => Self::LargeCommunities(rest.all(|rest| Some((rest.u32()?, rest.u32()?, rest.u32()?)))?),
            35 => Self::OnlyToCustomer(rest.u32()?),
            _ => return None,
        })
    }
}

fn segment(rest: &mut Reader<'_>, number: impl Fn(&mut Reader<'_>) -> Option<u32>) -> Option<Segment> {
    let (kind, count) = (rest.u8()?, rest.u8()?);
    let list: Vec<u32> = (0..count).map(|_| number(rest)).collect::<Option<_>>()?;
    match kind {
        1 => Some(Segment::Set { set: list }),
        2 => Some(Segment::Sequence(list)),
        _ => None,
    }
}
