//! Malformed and hostile frames: each class ends under its reason, none is answered, none does harm.

use net::{Drop, Mac};

use crate::frames::{Frame, Layer4, SYN, ethernet};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    BLUE_MAC, FABRIC, FABRIC_MAC, HOST_MAC, PEER_MAC, TENANT_MAC, UPLINK, UPLINK_MAC, VLAN, from_blue, from_host,
    from_host_v6, from_red, tunnel_in,
};

const LINK: (Mac, Mac) = (HOST_MAC, UPLINK_MAC);

/// A gateway to which frames are sent that must all be dropped.
struct Target(Gateway);

impl Target {
    fn new() -> Self {
        Self(Gateway::start())
    }

    fn drops(&self, wire: usize, frame: Vec<u8>, reason: Drop, what: &str) {
        self.0.exchange(wire, [frame]).is_silent(&[(reason, 1)], what);
    }

    fn forwards(&self, sent: Vec<u8>, expected: Vec<u8>, what: &str) {
        self.0.exchange(UPLINK, [sent]).is_only(FABRIC, &expected, what);
    }

    /// The gateway goes on, and has lost nothing.
    fn end(self) {
        let sent = from_host(Layer4::Udp(1, 2));
        self.forwards(sent.bytes(), sent.hop(FABRIC_MAC, PEER_MAC).bytes(), "afterwards");
        self.0.assert_no_leak();
    }
}

/// An IPv4 packet whose header is as given but for its checksum, which is right.
fn with_checksum(mut frame: Vec<u8>, l3: usize, length: usize) -> Vec<u8> {
    frame[l3 + 10..l3 + 12].fill(0);
    let words = frame[l3..l3 + length]
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[l3 + 10..l3 + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

/// A good frame with some bytes of its IPv4 header changed, and the checksum right again.
fn changed(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = from_host(Layer4::Udp(1, 2)).bytes();
    change(&mut frame[14..]);
    with_checksum(frame, 14, 20)
}

isolated! {
    fn frames_cut_at_every_length() {
        let target = Target::new();
        let cut = |wire: usize, whole: Vec<u8>, headers: usize, reason: Drop, what: &str| {
            for length in 0..whole.len() {
                let expected = if length < headers { Drop::FrameTruncated } else { reason };
                target.drops(wire, whole[..length].to_vec(), expected, &format!("{what} cut to {length} bytes"));
            }
        };
        for kind in [Layer4::Udp(1, 2), Layer4::Tcp(1, 2, SYN), Layer4::EchoRequest(7)] {
            cut(UPLINK, from_host(kind.clone()).bytes(), 14, Drop::Ipv4Malformed, "IPv4");
            cut(UPLINK, from_host_v6(kind.clone()).bytes(), 14, Drop::Ipv6Malformed, "IPv6");
            cut(UPLINK, from_red(kind).bytes(), 18, Drop::Ipv4Malformed, "VLAN");
        }
        let inner = from_blue(Layer4::Udp(1, 2)).bytes();
        cut(FABRIC, tunnel_in().around(&inner), 14, Drop::Ipv4Malformed, "VXLAN");
        // The same inner frames in whole tunnels.
        for length in 0..inner.len() {
            let reason = if length < 14 { Drop::FrameTruncated } else { Drop::Ipv4Malformed };
            target.drops(FABRIC, tunnel_in().around(&inner[..length]), reason, &format!("inner frame of {length} bytes"));
        }
        target.end();
    }
}

isolated! {
    fn layer_4_cut_at_every_length() {
        let target = Target::new();
        for (protocol, v6_protocol, header, reason) in [
            (17, 17, 8, Drop::UdpMalformed),
            (6, 6, 20, Drop::TcpMalformed),
            (1, 58, 8, Drop::IcmpMalformed),
        ] {
            for length in 0..header {
                let cut = |f: &mut Frame| f.payload = vec![8; length];
                let what = format!("protocol {protocol}, {length} bytes");
                target.drops(UPLINK, from_host(Layer4::Raw(protocol)).with(cut).bytes(), reason, &what);
                target.drops(UPLINK, from_host_v6(Layer4::Raw(v6_protocol)).with(cut).bytes(), reason, &what);
                // A first fragment must have the header too (RFC 1858); a later one has none.
                let first = from_host(Layer4::Raw(protocol)).with(cut).with(|f| f.fragment = (0, true));
                target.drops(UPLINK, first.bytes(), reason, &what);
                let later = from_host(Layer4::Raw(protocol)).with(cut).with(|f| f.fragment = (100, false));
                target.forwards(later.bytes(), later.hop(FABRIC_MAC, PEER_MAC).bytes(), &what);
            }
        }
        // A datagram longer, or shorter, than it can be; a TCP header likewise.
        for length in [0, 7, 27, 0xffff] {
            let mut frame = from_host(Layer4::Udp(1, 2)).bytes();
            frame[38..40].copy_from_slice(&(length as u16).to_be_bytes());
            target.drops(UPLINK, frame, Drop::UdpMalformed, &format!("UDP length {length}"));
        }
        for offset in [0, 4, 10, 15] {
            let mut frame = from_host(Layer4::Tcp(1, 2, SYN)).bytes();
            frame[46] = offset << 4;
            target.drops(UPLINK, frame, Drop::TcpMalformed, &format!("data offset {offset}"));
        }
        target.end();
    }
}

isolated! {
    fn ipv4_headers_that_lie() {
        let target = Target::new();
        let drops = |frame, reason, what: &str| target.drops(UPLINK, frame, reason, what);
        for first in [0x05, 0x35, 0x55, 0x65, 0xf5, 0x40, 0x44] {
            drops(changed(|ip| ip[0] = first), Drop::Ipv4Malformed, &format!("first byte {first:#x}"));
        }
        // A header longer than the packet, or with a checksum of the short one.
        let mut long = from_host(Layer4::Udp(1, 2)).with(|f| f.payload.clear()).bytes();
        long[14] = 0x4f;
        drops(with_checksum(long, 14, 20), Drop::Ipv4Malformed, "header beyond the packet");
        for total in [0, 19, 47, 1500, 0xffff_u16] {
            let frame = changed(|ip| ip[2..4].copy_from_slice(&total.to_be_bytes()));
            drops(frame, Drop::Ipv4Malformed, &format!("total length {total}"));
        }
        for bit in 0..16 {
            let mut frame = from_host(Layer4::Udp(1, 2)).bytes();
            frame[24 + bit / 8] ^= 1 << (bit % 8);
            drops(frame, Drop::Ipv4Checksum, &format!("checksum bit {bit}"));
        }
        let beyond = from_host(Layer4::Raw(17)).with(|f| f.fragment = (0x1fff, false));
        drops(beyond.bytes(), Drop::Ipv4Malformed, "ping of death");
        target.end();
    }
}

isolated! {
    fn ipv4_options() {
        let target = Target::new();
        let with_options = |options: &[u8], ttl: u8| {
            let frame = from_host(Layer4::Udp(1, 2)).with(|f| f.ttl = ttl);
            let mut bytes = frame.bytes();
            bytes.splice(34..34, options.iter().copied());
            bytes[14] = 0x45 + (options.len() / 4) as u8;
            let total = (bytes.len() - 14) as u16;
            bytes[16..18].copy_from_slice(&total.to_be_bytes());
            with_checksum(bytes, 14, 20 + options.len())
        };
        for good in [&[1, 1, 1, 0][..], &[0x94, 4, 0, 0], &[7, 7, 4, 0, 0, 0, 0, 0], &[0; 40], &[68, 8, 5, 0, 0, 0, 0, 0]] {
            let mut expected = with_options(good, 63);
            expected[..12].copy_from_slice(&[PEER_MAC.0, FABRIC_MAC.0].concat());
            target.forwards(with_options(good, 64), expected, &format!("options {good:?}"));
        }
        for bad in [
            &[131, 7, 4, 198, 18, 0, 9, 0][..],
            &[137, 7, 4, 198, 18, 0, 9, 0],
            &[1, 1, 1, 131],
            &[7, 0, 0, 0],
            &[7, 1, 0, 0],
            &[7, 5, 0, 0],
            &[1, 1, 1, 7],
            &[0x94, 255, 0, 0],
        ] {
            target.drops(UPLINK, with_options(bad, 64), Drop::Ipv4Options, &format!("options {bad:?}"));
        }
        // Options that the header has no room for.
        let mut cut = with_options(&[0x94, 4, 0, 0], 64);
        cut.truncate(14 + 22);
        target.drops(UPLINK, cut, Drop::Ipv4Malformed, "cut options");
        target.end();
    }
}

isolated! {
    fn ipv6_headers_that_lie() {
        let target = Target::new();
        let good = from_host_v6(Layer4::Udp(1, 2)).bytes();
        for version in [0, 4, 5, 7, 15] {
            let mut frame = good.clone();
            frame[14] = version << 4;
            target.drops(UPLINK, frame, Drop::Ipv6Malformed, &format!("version {version}"));
        }
        for length in [27, 1500, 0xffff_u16] {
            let mut frame = good.clone();
            frame[18..20].copy_from_slice(&length.to_be_bytes());
            target.drops(UPLINK, frame, Drop::Ipv6Malformed, &format!("payload length {length}"));
        }
        let mut empty = good.clone();
        empty[18..20].fill(0);
        target.drops(UPLINK, empty, Drop::UdpMalformed, "a jumbogram's length");
        // IPv6 behind IPv4's EtherType, and the other way round.
        let mut frame = good;
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        target.0.exchange(UPLINK, [frame]).is_silent(&[(Drop::Ipv4Malformed, 1)], "IPv6 as IPv4");
        let mut frame = from_host(Layer4::Udp(1, 2)).bytes();
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        target.0.exchange(UPLINK, [frame]).is_silent(&[(Drop::Ipv6Malformed, 1)], "IPv4 as IPv6");
        target.end();
    }
}

/// A UDP packet behind these extension headers; each is its own number and bytes, the first of which (what comes next)
/// is filled in.
fn chained(headers: &[(u8, &[u8])]) -> Frame {
    let datagram = from_host_v6(Layer4::Udp(1, 2)).packet()[40..].to_vec();
    let next = headers.iter().skip(1).map(|(number, _)| *number).chain([17]);
    let mut payload = Vec::new();
    for ((_, header), next) in headers.iter().zip(next) {
        let at = payload.len();
        payload.extend_from_slice(header);
        payload[at] = next;
    }
    payload.extend(datagram);
    from_host_v6(Layer4::Raw(headers.first().map_or(17, |(number, _)| *number))).with(|f| f.payload = payload)
}

isolated! {
    fn ipv6_extension_chains() {
        const HOP: (u8, &[u8]) = (0, &[0, 0, 1, 4, 0, 0, 0, 0]);
        const OPTIONS: (u8, &[u8]) = (60, &[0, 0, 1, 4, 0, 0, 0, 0]);
        const ROUTING: (u8, &[u8]) = (43, &[0, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        const FRAGMENT: (u8, &[u8]) = (44, &[0, 0, 0, 1, 0, 0, 0, 1]);
        let target = Target::new();
        for chain in [&[HOP][..], &[OPTIONS], &[FRAGMENT], &[HOP, OPTIONS, ROUTING], &[HOP, OPTIONS, FRAGMENT, OPTIONS]] {
            let sent = chained(chain);
            let numbers: Vec<u8> = chain.iter().map(|(number, _)| *number).collect();
            target.forwards(sent.bytes(), sent.hop(FABRIC_MAC, PEER_MAC).bytes(), &format!("chain {numbers:?}"));
        }
        for chain in [&[OPTIONS, HOP][..], &[HOP, HOP], &[OPTIONS; 60], &[FRAGMENT, FRAGMENT]] {
            let numbers: Vec<u8> = chain.iter().map(|(number, _)| *number).collect();
            target.drops(UPLINK, chained(chain).bytes(), Drop::Ipv6ExtensionChain, &format!("chain {numbers:?}"));
        }
        // Cut within the chain, the payload length saying so.
        let whole = chained(&[HOP, OPTIONS]);
        for length in 0..16 {
            let cut = whole.clone().with(|f| f.payload.truncate(length));
            target.drops(UPLINK, cut.bytes(), Drop::Ipv6ExtensionChain, &format!("chain cut to {length} bytes"));
        }
        // A length that leads beyond the packet.
        for length in [6, 20, 255] {
            let beyond = whole.clone().with(|f| f.payload[1] = length);
            target.drops(UPLINK, beyond.bytes(), Drop::Ipv6ExtensionChain, &format!("length {length}"));
        }
        target.end();
    }
}

isolated! {
    fn link_layers_that_are_not_ours() {
        let target = Target::new();
        let drops = |frame, reason, what: &str| target.drops(UPLINK, frame, reason, what);
        let plain = from_host(Layer4::Udp(1, 2));
        for vlan in [1, 99, 101, 4094, 4095] {
            drops(plain.clone().with(|f| f.vlan = Some(vlan)).bytes(), Drop::VlanUnknown, &format!("VLAN {vlan}"));
        }
        // The VLAN exists, on the other port.
        let red = from_red(Layer4::Udp(1, 2)).bytes();
        target.drops(FABRIC, red.clone(), Drop::VlanUnknown, "VLAN of another port");
        for outer in [[0x81, 0x00, 0, VLAN as u8], [0x88, 0xa8, 0, 1], [0x81, 0x00, 0, 0]] {
            let mut stacked = red.clone();
            stacked.splice(12..12, outer);
            drops(stacked, Drop::VlanStack, &format!("tags {outer:?}"));
        }
        for first in [0x01, 0x03, 0x33, 0xff] {
            let group = Mac([first, 0, 0, 0, 0, 1]);
            drops(plain.clone().with(|f| f.source_mac = group).bytes(), Drop::SourceMacInvalid, "a group's MAC");
        }
        for mac in [FABRIC_MAC, BLUE_MAC, TENANT_MAC, Mac::default()] {
            drops(plain.clone().with(|f| f.destination_mac = mac).bytes(), Drop::NotForUs, "not our MAC");
        }
        drops(plain.clone().with(|f| f.vlan = Some(VLAN)).bytes(), Drop::NotForUs, "the port's MAC in the VLAN");
        for ether_type in [0x0000_u16, 0x002e, 0x0600, 0x8847, 0x88cc, 0x9100, 0xffff] {
            let mut frame = plain.bytes();
            frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
            drops(frame, Drop::EtherTypeUnknown, &format!("EtherType {ether_type:#06x}"));
        }
        let mut nothing = ethernet(HOST_MAC, UPLINK_MAC, None, true);
        drops(nothing.clone(), Drop::Ipv4Malformed, "nothing behind the header");
        nothing[12..14].copy_from_slice(&[0x81, 0x00]);
        drops(nothing, Drop::FrameTruncated, "no tag behind its EtherType");
        target.end();
    }
}

isolated! {
    fn martians() {
        let target = Target::new();
        let drops = |from: &str, to: &str| {
            let frame = Frame::new(LINK, from, to, Layer4::Udp(1, 2));
            target.drops(UPLINK, frame.bytes(), Drop::Martian, &format!("{from} to {to}"));
        };
        for bad in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"] {
            drops(bad, "198.18.0.9");
        }
        for bad in ["0.0.0.0", "127.0.0.1", "240.0.0.1", "255.255.255.254"] {
            drops("198.51.100.2", bad);
        }
        for bad in ["::", "::1", "ff02::1", "ff0e::1"] {
            drops(bad, "2001:db8:f::9");
        }
        for bad in ["::", "::1"] {
            drops("2001:db8:3::2", bad);
        }
        target.end();
    }
}
