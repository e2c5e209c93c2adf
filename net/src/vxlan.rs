//! VXLAN (RFC 7348): the header, and the outer headers of an encapsulation over IPv4.
//!
//! The outer headers of a next hop are written once ([`write_outer_v4`]), copied in front of each inner frame, and
//! finished there ([`finish_outer`]): three fields and an incremental checksum a packet.

use crate::bytes::{be16, put, put16, within};
use crate::checksum::incremental16;
use crate::eth::{self, ether_type};
use crate::{Drop, Mac, Vni, ipv4, protocol, udp};

/// Length of the VXLAN header.
pub const LENGTH: usize = 8;

/// Destination port of VXLAN (IANA).
pub const PORT: u16 = 4789;

/// Length of the outer headers over IPv4 without a VLAN tag.
pub const OUTER_V4: usize = eth::LENGTH + ipv4::LENGTH + udp::LENGTH + LENGTH;

/// The I flag: the VNI is valid.
const VALID_VNI: u8 = 0x08;

const UDP: usize = eth::LENGTH + ipv4::LENGTH;

/// A VXLAN header and the Ethernet frame behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan<B>(B);

impl<B: AsRef<[u8]>> Vxlan<B> {
    /// Views the payload of a UDP datagram to [`PORT`]. Reserved bits are ignored, as the RFC says.
    ///
    /// # Errors
    /// [`Drop::VxlanMalformed`] if truncated or without the I flag.
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        match bytes.as_ref() {
            [flags, _, _, _, _, _, _, _, ..] if flags & VALID_VNI != 0 => Ok(Self(bytes)),
            _ => Err(Drop::VxlanMalformed),
        }
    }

    /// Network identifier; `None` for the reserved 0.
    #[inline]
    pub fn vni(&self) -> Option<Vni> {
        let bytes = self.0.as_ref();
        Vni::new(u32::from_be_bytes([0, bytes[4], bytes[5], bytes[6]])).ok()
    }

    /// The inner frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        within(self.0.as_ref(), LENGTH..self.0.as_ref().len())
    }
}

/// What the outer headers of a tunnel say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OuterV4 {
    /// MAC of the next router towards the remote endpoint.
    pub destination_mac: Mac,
    /// MAC of the interface the packets leave by.
    pub source_mac: Mac,
    /// Address of the local tunnel endpoint, host order.
    pub source: u32,
    /// Address of the remote tunnel endpoint, host order.
    pub destination: u32,
    /// Network identifier.
    pub vni: Vni,
    /// Time to live of the outer packets.
    pub ttl: u8,
    /// Type of service of the outer packets.
    pub tos: u8,
}

/// Writes Ethernet, IPv4 (never fragmented), UDP (without checksum) and VXLAN headers around an empty inner frame.
pub fn write_outer_v4(out: &mut [u8; OUTER_V4], outer: &OuterV4) {
    *out = [0; OUTER_V4];
    put(out, 0, outer.destination_mac.0);
    put(out, 6, outer.source_mac.0);
    put16(out, 12, ether_type::IPV4);
    if let Some(ip) = out[eth::LENGTH..].first_chunk_mut() {
        let length = (OUTER_V4 - eth::LENGTH) as u16;
        ipv4::write_header(
            ip,
            outer.tos,
            length,
            outer.ttl,
            protocol::UDP,
            [outer.source, outer.destination],
        );
    }
    put16(out, UDP + 2, PORT);
    put16(out, UDP + 4, (udp::LENGTH + LENGTH) as u16);
    out[UDP + udp::LENGTH] = VALID_VNI;
    put(out, UDP + udp::LENGTH + 4, (outer.vni.value() << 8).to_be_bytes());
}

/// Finishes outer headers, written by [`write_outer_v4`] and copied in front of an inner frame of `inner_length`
/// bytes: total length, IPv4 checksum, UDP length and source port ([`entropy_port`]).
///
/// # Errors
/// [`Drop::HeadroomExhausted`] if `frame` is shorter than the outer headers; [`Drop::PacketTooBig`] if the outer packet
/// would be longer than IPv4 can say.
#[inline]
pub fn finish_outer(frame: &mut [u8], inner_length: usize, source_port: u16) -> Result<(), Drop> {
    let Some(outer) = frame.first_chunk_mut::<OUTER_V4>() else {
        return Err(Drop::HeadroomExhausted);
    };
    let Ok(inner) = u16::try_from(inner_length) else {
        return Err(Drop::PacketTooBig);
    };
    let Some(total) = inner.checked_add((OUTER_V4 - eth::LENGTH) as u16) else {
        return Err(Drop::PacketTooBig);
    };
    let checksum = incremental16(be16(outer, eth::LENGTH + 10), be16(outer, eth::LENGTH + 2), total);
    put16(outer, eth::LENGTH + 2, total);
    put16(outer, eth::LENGTH + 10, checksum);
    put16(outer, UDP, source_port);
    put16(outer, UDP + 4, total - ipv4::LENGTH as u16);
    Ok(())
}

/// Source port in the dynamic range from the hash of the inner flow, so that the fabric spreads flows (RFC 7348
/// section 5).
#[inline]
pub const fn entropy_port(hash: u32) -> u16 {
    0xc000 | (hash ^ hash >> 16) as u16 & 0x3fff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::udp::Udp;
    use crate::{ipv4::Ipv4, parse_link, parse_v4};

    #[test]
    fn without_the_flag_or_a_byte_short_it_is_malformed() {
        let header = [0x08, 0, 0, 0, 0, 0, 7, 0];
        assert_eq!(Vxlan::new(header).map(|v| v.vni().map(Vni::value)), Ok(Some(7)));
        assert_eq!(Vxlan::new(&header[..7]).err(), Some(Drop::VxlanMalformed));
        assert_eq!(
            Vxlan::new([0xf7, 0, 0, 0, 0, 0, 7, 0]).err(),
            Some(Drop::VxlanMalformed)
        );
        assert_eq!(Vxlan::new([0xff, 1, 2, 3, 0, 0, 0, 9]).map(|v| v.vni()), Ok(None));
    }

    #[test]
    fn lengths_beyond_the_field_are_refused() {
        let mut frame = [0; OUTER_V4];
        assert_eq!(finish_outer(&mut frame, 65535 - 36, 1), Ok(()));
        assert_eq!(finish_outer(&mut frame, 65535 - 35, 1), Err(Drop::PacketTooBig));
        assert_eq!(finish_outer(&mut frame, 1 << 16, 1), Err(Drop::PacketTooBig));
        assert_eq!(finish_outer(&mut frame[1..], 1, 1), Err(Drop::HeadroomExhausted));
    }

    proptest! {
        #[test]
        fn outer_headers_parse_back(
            source in 0x0100_0000_u32..0x7f00_0000, destination in 0x0100_0000_u32..0x7f00_0000,
            vni in 1..=Vni::MAX, ttl: u8, tos: u8, lengths in proptest::array::uniform2(0_usize..1600), hash: u32,
        ) {
            let vni = Vni::new(vni).expect("in range");
            let (destination_mac, source_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
            let mut template = [0; OUTER_V4];
            let outer = OuterV4 { destination_mac, source_mac, source, destination, vni, ttl, tos };
            write_outer_v4(&mut template, &outer);
            let mut frame = template.to_vec();
            // Finishing is from whatever the headers said before.
            for inner in lengths {
                frame.resize(OUTER_V4 + inner, 0xaa);
                finish_outer(&mut frame, inner, entropy_port(hash)).expect("fits");
                let link = parse_link(&frame).expect("link");
                prop_assert_eq!((link.destination, link.source, link.l3), (destination_mac, source_mac, 14));
                let packet = parse_v4(&frame[14..]).expect("ip");
                prop_assert_eq!((packet.source, packet.destination, packet.ttl), (source, destination, ttl));
                prop_assert_eq!((packet.destination_port, packet.dont_fragment), (PORT, true));
                prop_assert!(packet.source_port >= 0xc000);
                let ip = Ipv4::new(&frame[14..]).expect("ip");
                let udp = Udp::new(ip.payload()).expect("udp");
                let vxlan = Vxlan::new(udp.payload()).expect("vxlan");
                prop_assert_eq!((vxlan.vni(), vxlan.payload().len(), ip.tos()), (Some(vni), inner, tos));
            }
        }
    }
}
