//! What forwarding and NAT want to know of layer 4, the same for both IP versions.

use super::{FragmentPart, protocol};
use crate::Drop;
use crate::bytes::be16;

/// What forwarding and NAT want to know of layer 4.
#[derive(Clone, Copy, Default)]
pub(super) struct Layer4 {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) tcp_flags: u8,
    pub(super) icmp_type: u8,
    pub(super) icmp_code: u8,
}

impl Layer4 {
    #[inline(always)]
    fn ports(header: &[u8; 8], tcp_flags: u8) -> Self {
        Self {
            source_port: be16(header, 0),
            destination_port: be16(header, 2),
            tcp_flags,
            ..Self::default()
        }
    }

    /// `ICMP` says whose type numbers these are.
    #[inline]
    fn icmp<const ICMP: u8>(header: &[u8; 8]) -> Self {
        let echo = if ICMP == protocol::ICMP {
            matches!(header[0], 0 | 8)
        } else {
            matches!(header[0], 128 | 129)
        };
        let identifier = if echo { be16(header, 4) } else { 0 };
        Self {
            source_port: identifier,
            destination_port: identifier,
            icmp_type: header[0],
            icmp_code: header[1],
            ..Self::default()
        }
    }
}

#[inline(always)]
pub(super) fn layer4<const ICMP: u8>(protocol: u8, payload: &[u8], fragment: FragmentPart) -> Result<Layer4, Drop> {
    if fragment == FragmentPart::Later {
        return Ok(Layer4::default());
    }
    match protocol {
        protocol::UDP => {
            let Some(header) = payload.first_chunk::<8>() else {
                return Err(Drop::UdpMalformed);
            };
            let length = usize::from(be16(header, 4));
            // The rest of a fragmented datagram is elsewhere.
            if length < 8 || (length > payload.len() && fragment == FragmentPart::Whole) {
                return Err(Drop::UdpMalformed);
            }
            Ok(Layer4::ports(header, 0))
        }
        protocol::TCP => {
            let (Some(header), Some(ports)) = (payload.first_chunk::<20>(), payload.first_chunk::<8>()) else {
                return Err(Drop::TcpMalformed);
            };
            let length = usize::from(header[12] >> 4) * 4;
            if length < 20 || length > payload.len() {
                return Err(Drop::TcpMalformed);
            }
            Ok(Layer4::ports(ports, header[13]))
        }
        _ if protocol == ICMP => payload
            .first_chunk::<8>()
            .map(Layer4::icmp::<ICMP>)
            .ok_or(Drop::IcmpMalformed),
        _ => Ok(Layer4::default()),
    }
}

#[inline]
pub(super) fn quoted_layer4<const ICMP: u8>(
    protocol: u8,
    payload: &[u8],
    fragment: FragmentPart,
) -> Result<Layer4, Drop> {
    if fragment == FragmentPart::Later || !(matches!(protocol, protocol::TCP | protocol::UDP) || protocol == ICMP) {
        return Ok(Layer4::default());
    }
    let Some(header) = payload.first_chunk::<8>() else {
        return Err(Drop::IcmpMalformed);
    };
    Ok(match protocol {
        protocol::TCP => Layer4::ports(header, payload.get(13).copied().unwrap_or_default()),
        protocol::UDP => Layer4::ports(header, 0),
        _ => Layer4::icmp::<ICMP>(header),
    })
}
