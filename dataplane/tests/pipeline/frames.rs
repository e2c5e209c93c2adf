//! Frames as values: a test makes one, says what the gateway shall have changed in it, and compares bytes. Lengths and
//! checksums are etherparse's, so that equal bytes mean that each was recomputed rightly.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header,
    Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader, UdpHeader,
    VlanId,
};
use net::Mac;

/// TTL of what hosts send.
pub const TTL: u8 = 64;

/// TCP flags.
pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

/// Layer 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer4 {
    /// Source and destination port.
    Udp(u16, u16),
    /// Source and destination port, flags.
    Tcp(u16, u16, u8),
    /// Identifier of an ICMP echo.
    EchoRequest(u16),
    EchoReply(u16),
    /// ICMP or ICMPv6: type, code and the second four bytes.
    Icmp(u8, u8, [u8; 4]),
    /// The payload is all there is.
    Raw(u8),
}

/// An Ethernet frame with an IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub source_mac: Mac,
    pub destination_mac: Mac,
    pub vlan: Option<u16>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    /// Offset in units of eight bytes, and whether more follow.
    pub fragment: (u16, bool),
    pub layer4: Layer4,
    pub payload: Vec<u8>,
}

/// Bytes that no header looks like.
pub fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + 3) as u8).collect()
}

impl Frame {
    /// From one host to the MAC of the gateway's interface.
    pub fn new(macs: (Mac, Mac), source: &str, destination: &str, layer4: Layer4) -> Self {
        Self {
            source_mac: macs.0,
            destination_mac: macs.1,
            vlan: None,
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            ttl: TTL,
            tos: 0,
            identification: 0x1234,
            dont_fragment: false,
            fragment: (0, false),
            layer4,
            payload: payload(18),
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// As it looks after one router.
    pub fn hop(&self, source_mac: Mac, destination_mac: Mac) -> Self {
        Self {
            source_mac,
            destination_mac,
            ttl: self.ttl - 1,
            ..self.clone()
        }
    }

    /// The answer of the host that got it, to the MAC that it came from.
    pub fn reply(&self) -> Self {
        let layer4 = match self.layer4 {
            Layer4::Udp(source, destination) => Layer4::Udp(destination, source),
            Layer4::Tcp(source, destination, SYN) => Layer4::Tcp(destination, source, SYN | ACK),
            Layer4::Tcp(source, destination, _) => Layer4::Tcp(destination, source, ACK),
            Layer4::EchoRequest(identifier) => Layer4::EchoReply(identifier),
            ref other => other.clone(),
        };
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            source: self.destination,
            destination: self.source,
            ttl: TTL,
            layer4,
            ..self.clone()
        }
    }

    /// The bytes of the frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = ethernet(self.source_mac, self.destination_mac, self.vlan, self.is_v4());
        out.extend(self.packet());
        out
    }

    fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The bytes of the IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut out = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(
                    segment.len() as u16,
                    self.ttl,
                    IpNumber(self.protocol()),
                    source.octets(),
                    destination.octets(),
                )
                .expect("a packet fits");
                header.dscp = (self.tos >> 2).try_into().expect("6 bits");
                header.ecn = (self.tos & 3).try_into().expect("2 bits");
                header.identification = self.identification;
                header.dont_fragment = self.dont_fragment;
                header.fragment_offset = IpFragOffset::try_new(self.fragment.0).expect("13 bits");
                header.more_fragments = self.fragment.1;
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut out).expect("written");
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: segment.len() as u16,
                    next_header: IpNumber(self.protocol()),
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                header.write(&mut out).expect("written");
            }
            _ => panic!("two families in one packet"),
        }
        out.extend(segment);
        out
    }

    fn protocol(&self) -> u8 {
        match self.layer4 {
            Layer4::Udp(..) => 17,
            Layer4::Tcp(..) => 6,
            Layer4::EchoRequest(_) | Layer4::EchoReply(_) | Layer4::Icmp(..) => {
                if self.is_v4() {
                    1
                } else {
                    58
                }
            }
            Layer4::Raw(protocol) => protocol,
        }
    }

    /// Layer 4 header and payload.
    fn segment(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let payload = &self.payload[..];
        match self.layer4 {
            Layer4::Udp(from, to) => {
                let mut header = UdpHeader::without_ipv4_checksum(from, to, payload.len()).expect("a datagram fits");
                header.checksum = match (self.source, self.destination) {
                    (IpAddr::V4(s), IpAddr::V4(d)) => header.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload),
                    (IpAddr::V6(s), IpAddr::V6(d)) => header.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload),
                    _ => panic!("two families in one packet"),
                }
                .expect("a datagram fits");
                header.write(&mut out).expect("written");
            }
            Layer4::Tcp(from, to, flags) => {
                let mut header = TcpHeader::new(from, to, 0x0102_0304, 4096);
                header.syn = flags & SYN != 0;
                header.ack = flags & ACK != 0;
                header.fin = flags & 1 != 0;
                header.rst = flags & 4 != 0;
                header.checksum = match (self.source, self.destination) {
                    (IpAddr::V4(s), IpAddr::V4(d)) => header.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload),
                    (IpAddr::V6(s), IpAddr::V6(d)) => header.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload),
                    _ => panic!("two families in one packet"),
                }
                .expect("a segment fits");
                header.write(&mut out).expect("written");
            }
            Layer4::EchoRequest(id) | Layer4::EchoReply(id) => {
                let request = matches!(self.layer4, Layer4::EchoRequest(_));
                let echo = IcmpEchoHeader { id, seq: 9 };
                let kind = if request {
                    (Icmpv4Type::EchoRequest(echo), Icmpv6Type::EchoRequest(echo))
                } else {
                    (Icmpv4Type::EchoReply(echo), Icmpv6Type::EchoReply(echo))
                };
                self.icmp(&mut out, kind);
            }
            Layer4::Icmp(kind, code, rest) => {
                let (type_u8, code_u8, bytes5to8) = (kind, code, rest);
                let unknown = (
                    Icmpv4Type::Unknown {
                        type_u8,
                        code_u8,
                        bytes5to8,
                    },
                    Icmpv6Type::Unknown {
                        type_u8,
                        code_u8,
                        bytes5to8,
                    },
                );
                self.icmp(&mut out, unknown);
            }
            Layer4::Raw(_) => {}
        }
        out.extend(payload);
        out
    }

    fn icmp(&self, out: &mut Vec<u8>, (v4, v6): (Icmpv4Type, Icmpv6Type)) {
        match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Icmpv6Header::with_checksum(v6, source.octets(), destination.octets(), &self.payload)
                    .expect("a message fits")
                    .write(out)
                    .expect("written");
            }
            _ => Icmpv4Header::with_checksum(v4, &self.payload)
                .write(out)
                .expect("written"),
        }
    }
}

/// An Ethernet header, with a tag if need be.
pub fn ethernet(source: Mac, destination: Mac, vlan: Option<u16>, v4: bool) -> Vec<u8> {
    let mut out = [destination.0, source.0].concat();
    if let Some(vlan) = vlan {
        out.extend([0x81, 0x00]);
        out.extend(vlan.to_be_bytes());
    }
    out.extend(if v4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    out
}

/// The ICMP error that the gateway's interface sends about a packet: TTL 64, precedence "network
/// control", and as much of the packet as may be quoted.
pub fn icmp_error(about: &Frame, source: &str, kind: u8, code: u8, rest: [u8; 4]) -> Frame {
    let quote = about.packet();
    let most = if about.source.is_ipv4() { 576 - 28 } else { 1280 - 48 };
    Frame {
        source_mac: about.destination_mac,
        destination_mac: about.source_mac,
        vlan: about.vlan,
        source: source.parse().expect("an address"),
        destination: about.source,
        ttl: TTL,
        tos: 0xc0,
        identification: 0,
        dont_fragment: true,
        fragment: (0, false),
        layer4: Layer4::Icmp(kind, code, rest),
        payload: quote[..quote.len().min(most)].to_vec(),
    }
}

/// The headers that VXLAN puts around a frame: all of RFC 7348 section 5, with the UDP source port given.
#[derive(Debug, Clone)]
pub struct Outer {
    pub source_mac: Mac,
    pub destination_mac: Mac,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub source_port: u16,
    pub vni: u32,
    /// Most senders leave it out, and so do we (RFC 7348 section 5: "SHOULD be transmitted as zero").
    pub checksum: bool,
}

impl Outer {
    /// The outer frame around `inner`.
    pub fn around(&self, inner: &[u8]) -> Vec<u8> {
        let mut payload = vec![0x08, 0, 0, 0];
        payload.extend((self.vni << 8).to_be_bytes());
        payload.extend(inner);
        let frame = Frame {
            source_mac: self.source_mac,
            destination_mac: self.destination_mac,
            vlan: None,
            source: self.source.into(),
            destination: self.destination.into(),
            ttl: TTL,
            tos: 0,
            identification: 0,
            dont_fragment: true,
            fragment: (0, false),
            layer4: Layer4::Udp(self.source_port, 4789),
            payload,
        };
        let mut bytes = frame.bytes();
        if !self.checksum {
            bytes[40..42].fill(0);
        }
        bytes
    }
}

/// An ARP request for `wanted`, or the reply to it.
pub fn arp(reply: bool, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), vlan: Option<u16>) -> Vec<u8> {
    let (operation, ethernet_to) = if reply {
        (ArpOperation::REPLY, to.0)
    } else {
        (ArpOperation::REQUEST, Mac([0xff; 6]))
    };
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &from.0.0,
        &from.1.octets(),
        &to.0.0,
        &to.1.octets(),
    )
    .expect("addresses of equal length");
    let ethernet = PacketBuilder::ethernet2(from.0.0, ethernet_to.0);
    let mut out = Vec::new();
    match vlan {
        Some(vlan) => ethernet
            .single_vlan(VlanId::try_new(vlan).expect("12 bits"))
            .arp(packet)
            .write(&mut out),
        None => ethernet.arp(packet).write(&mut out),
    }
    .expect("written");
    out
}

/// Source port, or identifier of an echo, of an untagged IPv4 frame without options.
pub fn source_port(frame: &[u8]) -> u16 {
    let at = if frame[23] == 1 { 38 } else { 34 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Two frames as text, side by side enough to see where they part.
pub fn assert_frames(got: &[Vec<u8>], expected: &[Vec<u8>], what: &str) {
    let text = |frames: &[Vec<u8>]| -> Vec<String> {
        frames
            .iter()
            .map(|f| f.iter().map(|b| format!("{b:02x}")).collect())
            .collect()
    };
    assert_eq!(text(got), text(expected), "{what}");
}
