//! The usual packet of a gateway, parsed in one go: nearly every one is like this, and the steps that tell all the others
//! apart cost more than it does.

use super::{FragmentPart, V6, protocol};
use crate::bytes::{array, be16, be128};
use crate::{Mac, checksum};

/// A usual IPv4 packet: what forwarding and NAT want to know of it.
///
/// Whole and without options; layer 4, at offset 20, is TCP or UDP with its whole header; the TTL is above 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlainV4 {
    /// Source address in the upper half, destination address in the lower, host order.
    pub addresses: u64,
    /// Source port in the upper half, destination port in the lower.
    pub ports: u32,
    /// Length of header and payload, without the padding of the frame.
    pub total_length: u16,
    /// TCP or UDP.
    pub protocol: u8,
    /// TCP flags ([`crate::tcp_flag`]); 0 unless TCP.
    pub tcp_flags: u8,
}

impl PlainV4 {
    /// Bytes behind the link header that a usual IPv4 packet has in any case, its padding included.
    pub const HEADERS: usize = 40;
    /// Where the header of layer 4 begins behind the link header.
    pub const LAYER_4: usize = 20;

    /// Destination address, host order.
    #[inline(always)]
    pub const fn destination(&self) -> u32 {
        self.addresses as u32
    }

    /// Destination port.
    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        self.ports as u16
    }
}

/// Finds the usual packets among the frames to one station.
///
/// Usual is a frame from and to one station, with a whole packet without options or extension headers that carries TCP or
/// UDP between addresses that are forwarded and may go on (its TTL is above 1, of IPv4), all lengths and the header
/// checksum right. An IPv4 frame is long enough for a TCP header, as every one on a wire is.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    /// The first 8 bytes of its frames as a little-endian number, as far as [`Plain::MASK`] goes: the destination, and a
    /// source that is no group.
    start: u64,
}

impl Plain {
    const MASK: u64 = 0x0001_ffff_ffff_ffff;

    /// Frames to `station`.
    pub fn to(station: Mac) -> Self {
        let [a, b, c, d, e, f] = station.0;
        Self {
            start: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        }
    }

    /// Parses a frame if it is a usual one, whose IPv4 header begins at `L3`: 14, or 18 behind a VLAN tag, which the
    /// caller has read.
    ///
    /// It is what [`super::parse_link`] and [`super::parse_v4`] make of the frame. `None` says only that it is for them
    /// to look at.
    // Each field is read once, in words as wide as they come, and everything lies within two arrays whose bounds are
    // checked first.
    #[inline(always)]
    pub fn parse_v4<const L3: usize>(self, frame: &[u8]) -> Option<PlainV4> {
        let (link, head) = frame.get(..L3 + PlainV4::HEADERS)?.split_first_chunk::<L3>()?;
        let head = head.first_chunk::<{ PlainV4::HEADERS }>()?;
        let ip = head.first_chunk::<20>()?;
        if link[L3 - 2..] != [0x08, 0x00] || ip[0] != 0x45 || !self.is_for_station(link) {
            return None;
        }
        // Total length, identification, fragment, TTL, protocol.
        let middle = u64::from_le_bytes(array(ip, 2));
        let total_length = (middle as u16).swap_bytes();
        let whole = middle & 0xff3f << 32 == 0;
        let (ttl, protocol) = ((middle >> 48) as u8, (middle >> 56) as u8);
        let forwarded = FORWARDED[usize::from(ip[12])] & FORWARDED[usize::from(ip[16])];
        if !(whole && forwarded && ttl > 1 && checksum::is_valid_header(ip)) {
            return None;
        }
        let length = total_length.checked_sub(20)?;
        let tcp_flags = match protocol {
            protocol::UDP => udp(array(head, 20), length)?,
            protocol::TCP => tcp(array(head, 20), length)?,
            _ => return None,
        };
        (usize::from(total_length) <= frame.len() - L3).then_some(PlainV4 {
            addresses: u64::from_be_bytes(array(ip, 12)),
            ports: u32::from_be_bytes(array(head, 20)),
            total_length,
            protocol,
            tcp_flags,
        })
    }

    /// The same for IPv6, without extension headers.
    #[inline(always)]
    pub fn parse_v6<const L3: usize>(self, frame: &[u8]) -> Option<V6> {
        let (link, packet) = frame.split_first_chunk::<L3>()?;
        let head = packet.first_chunk::<48>()?;
        let ip = head.first_chunk::<40>()?;
        if link[L3 - 2..] != [0x86, 0xdd] || ip[0] >> 4 != 6 || !self.is_for_station(link) {
            return None;
        }
        let (source, destination) = (be128(ip, 8), be128(ip, 24));
        let payload_length = be16(ip, 4);
        let fits = usize::from(payload_length) <= packet.len() - 40;
        if !(fits && is_global(source) && is_global(destination)) {
            return None;
        }
        let tcp_flags = match ip[6] {
            protocol::UDP => udp(array(head, 40), payload_length)?,
            protocol::TCP => tcp(*packet.get(40..)?.first_chunk()?, payload_length)?,
            _ => return None,
        };
        Some(V6 {
            source,
            destination,
            protocol: ip[6],
            hop_limit: ip[7],
            payload_length,
            l4: 40,
            fragment: FragmentPart::Whole,
            identification: 0,
            extensions: false,
            hop_by_hop: false,
            source_port: be16(head, 40),
            destination_port: be16(head, 42),
            tcp_flags,
            icmp_type: 0,
            icmp_code: 0,
        })
    }

    /// True if a frame with this link header is for the station, and from one.
    #[inline(always)]
    fn is_for_station<const L3: usize>(self, link: &[u8; L3]) -> bool {
        u64::from_le_bytes(array(link, 0)) & Self::MASK == self.start
    }
}

/// The TCP flags of UDP, none, if `length` bytes that begin so are a whole datagram.
#[inline(always)]
fn udp(header: [u8; 8], length: u16) -> Option<u8> {
    let said = be16(&header, 4);
    (said >= 8 && said <= length).then_some(0)
}

/// The flags of a TCP segment of `length` bytes that begin so, if it has its whole header.
#[inline(always)]
fn tcp(header: [u8; 20], length: u16) -> Option<u8> {
    let said = u16::from(header[12] >> 4) * 4;
    (said >= 20 && said <= length).then_some(header[13])
}

/// By the first byte of an IPv4 address, whether it is [`is_forwarded`].
static FORWARDED: [bool; 256] = {
    let mut forwarded = [false; 256];
    let mut first = 0;
    while first < 256 {
        forwarded[first] = is_forwarded((first as u32) << 24);
        first += 1;
    }
    forwarded
};

/// True for unicast addresses that are neither of this network (0/8) nor of this host (127/8).
const fn is_forwarded(address: u32) -> bool {
    let first = address >> 24;
    first.wrapping_sub(1) < 223 && first != 127
}

/// True for unicast addresses that are neither link-local nor `::`, `::1` or IPv4-mapped.
#[inline(always)]
const fn is_global(address: u128) -> bool {
    let first = (address >> 112) as u16;
    first < 0xff00 && first & 0xffc0 != 0xfe80 && (first != 0 || (address > 1 && address >> 32 != 0xffff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv6::write_header;
    use crate::{Link, eth, parse_link, parse_v4, parse_v6};
    use proptest::prelude::*;

    const L3: usize = eth::LENGTH;
    const L4: usize = L3 + 20;

    const STATION: Mac = Mac([2, 0, 0, 0, 0, 2]);

    /// The link header that the general steps find, if a frame is for the station, untagged and of this EtherType.
    fn link(frame: &[u8], ether_type: u16) -> Option<Link> {
        let link = parse_link(frame).ok()?;
        let ours = link.destination == STATION && !link.source.is_multicast();
        (ours && usize::from(link.l3) == L3 && link.ether_type == ether_type).then_some(link)
    }

    /// What the general steps say of a frame that is for the station, may go on, and is usual.
    fn general(frame: &[u8]) -> Option<PlainV4> {
        link(frame, eth::ether_type::IPV4)?;
        let ip = parse_v4(&frame[L3..]).ok()?;
        let usual =
            matches!(ip.protocol, protocol::TCP | protocol::UDP) && ip.fragment == FragmentPart::Whole && !ip.options;
        let goes_on = !ip.is_martian() && !ip.is_multicast() && ip.ttl > 1 && frame.len() >= L4 + 20;
        (usual && goes_on).then_some(PlainV4 {
            addresses: u64::from(ip.source) << 32 | u64::from(ip.destination),
            ports: u32::from(ip.source_port) << 16 | u32::from(ip.destination_port),
            total_length: ip.total_length,
            protocol: ip.protocol,
            tcp_flags: ip.tcp_flags,
        })
    }

    /// The same for IPv6.
    fn general_v6(frame: &[u8]) -> Option<V6> {
        link(frame, eth::ether_type::IPV6)?;
        let ip = parse_v6(&frame[L3..]).ok()?;
        let usual = matches!(ip.protocol, protocol::TCP | protocol::UDP) && !ip.extensions;
        (usual && !ip.is_martian() && !ip.is_multicast() && !ip.is_link_local()).then_some(ip)
    }

    /// The packet of an IPv4 frame, carried by IPv6.
    fn over_v6(frame: &[u8], padding: usize) -> Vec<u8> {
        let payload = &frame[L4..frame.len() - padding];
        let mut header = [0; 40];
        let addresses = [0x2001_0db8 << 96 | 1, 0x2001_0db8 << 96 | 2];
        write_header(&mut header, 0, payload.len() as u16, frame[23], 64, addresses);
        [&frame[..12], &[0x86, 0xdd], &header, &frame[L4..]].concat()
    }

    fn frame(tcp: bool, payload: usize, padding: usize) -> Vec<u8> {
        let layer4 = if tcp { 20 } else { 8 };
        let mut frame = vec![0; L4 + layer4 + payload];
        frame[..6].copy_from_slice(&STATION.0);
        frame[6] = 4;
        frame[12] = 8;
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&((20 + layer4 + payload) as u16).to_be_bytes());
        frame[20] = 0x40;
        frame[22] = 64;
        frame[23] = if tcp { protocol::TCP } else { protocol::UDP };
        frame[26..30].copy_from_slice(&[10, 0, 0, 1]);
        frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
        frame[34..38].copy_from_slice(&[0x0f, 0xa0, 0, 80]);
        if tcp {
            frame[46..48].copy_from_slice(&[0x50, 0x12]);
        } else {
            frame[38..40].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
        }
        frame.resize(frame.len() + padding, 0);
        frame
    }

    fn tagged(frame: &[u8]) -> Vec<u8> {
        let (addresses, rest) = frame.split_at(12);
        [addresses, &[0x81, 0x00, 0x00, 0x64], rest].concat()
    }

    fn checksummed(mut frame: Vec<u8>) -> Vec<u8> {
        frame[24..26].fill(0);
        let sum = checksum::checksum(&frame[L3..L4]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn usual_packets_are_usual() {
        for (tcp, payload, padding) in [(true, 0, 6), (true, 1000, 0), (false, 0, 18), (false, 18, 0)] {
            let frame = checksummed(frame(tcp, payload, padding));
            let ip = Plain::to(STATION).parse_v4::<L3>(&frame).expect("usual");
            assert_eq!(Some(ip), general(&frame));
            assert_eq!(ip.ports, 4000 << 16 | 80);
            assert_eq!((ip.destination(), ip.destination_port()), (0xc000_0201, 80));
            assert_eq!(ip.tcp_flags, if tcp { 0x12 } else { 0 });
            let frame6 = over_v6(&frame, padding);
            let ip6 = Plain::to(STATION).parse_v6::<L3>(&frame6).expect("usual");
            assert_eq!(Some(ip6), general_v6(&frame6));
            assert_eq!((ip6.source_port, ip6.tcp_flags), (4000, ip.tcp_flags));
            assert!(Plain::to(Mac([2, 0, 0, 0, 0, 3])).parse_v4::<L3>(&frame).is_none());
            assert_eq!(Plain::to(STATION).parse_v4::<18>(&tagged(&frame)), Some(ip));
        }
    }

    proptest! {
        /// Whatever is done to a usual frame, it says the same as the general steps, or leaves it to them.
        #[test]
        fn it_says_what_the_general_steps_say(
            (tcp, payload, padding, right) in (any::<bool>(), 0..40_usize, 0..20_usize, any::<bool>()),
            changes in prop::collection::vec((0..74_usize, any::<u8>()), 0..3),
            length in prop::option::of(0..90_usize),
        ) {
            let frame = frame(tcp, payload, padding);
            let changed = |mut frame: Vec<u8>| {
                for (at, value) in &changes {
                    if let Some(byte) = frame.get_mut(*at) {
                        *byte = *value;
                    }
                }
                frame
            };
            let mut frame6 = changed(over_v6(&frame, padding));
            frame6.truncate(length.unwrap_or(usize::MAX));
            prop_assert_eq!(Plain::to(STATION).parse_v6::<L3>(&frame6), general_v6(&frame6));
            let frame = changed(frame);
            let mut frame = if right { checksummed(frame) } else { frame };
            frame.truncate(length.unwrap_or(usize::MAX));
            let usual = Plain::to(STATION).parse_v4::<L3>(&frame);
            prop_assert_eq!(usual, general(&frame));
            if frame.len() >= L3 {
                prop_assert_eq!(Plain::to(STATION).parse_v4::<18>(&tagged(&frame)), usual);
            }
        }
    }
}
