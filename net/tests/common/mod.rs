//! Random valid packets, built by etherparse.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use etherparse::{
    IpFragOffset, IpHeaders, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header,
    Ipv6RawExtHeader, Ipv6RoutingExtensions, PacketBuilder, TcpHeader, ip_number,
};
use proptest::prelude::*;

/// What a packet was built from.
#[derive(Debug, Clone)]
pub struct Plan {
    pub v6: bool,
    pub vlan: Option<u16>,
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub ttl: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    pub no_operations: usize,
    pub extensions: [bool; 4],
    pub kind: Kind,
    pub ports: [u16; 2],
    pub tcp_flags: u8,
    pub payload: Vec<u8>,
    pub padding: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    EchoRequest,
    EchoReply,
}

pub fn plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![
        Just(Kind::Tcp),
        Just(Kind::Udp),
        Just(Kind::EchoRequest),
        Just(Kind::EchoReply)
    ];
    (
        (
            any::<bool>(),
            proptest::option::of(1_u16..4095),
            any::<[u8; 16]>(),
            any::<[u8; 16]>(),
            any::<u8>(),
        ),
        (any::<u16>(), any::<bool>(), 0_usize..4, any::<[bool; 4]>(), kind),
        (
            any::<[u16; 2]>(),
            0_u8..0x40,
            proptest::collection::vec(any::<u8>(), 0..80),
            0_usize..20,
        ),
    )
        .prop_map(
            |(
                (v6, vlan, source, destination, ttl),
                (identification, dont_fragment, no_operations, extensions, kind),
                (ports, tcp_flags, payload, padding),
            )| Plan {
                v6,
                vlan,
                source,
                destination,
                ttl,
                identification,
                dont_fragment,
                no_operations,
                extensions,
                kind,
                ports,
                tcp_flags,
                payload,
                padding,
            },
        )
}

impl Plan {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = if self.v6 { self.ipv6() } else { self.ipv4() };
        let step = match self.vlan {
            Some(id) => link.single_vlan(id.try_into().expect("twelve bits")).ip(ip),
            None => link.ip(ip),
        };
        let [source_port, destination_port] = self.ports;
        let mut frame = Vec::new();
        match (self.kind, self.v6) {
            (Kind::Udp, _) => step.udp(source_port, destination_port).write(&mut frame, &self.payload),
            (Kind::Tcp, _) => step.tcp_header(self.tcp()).write(&mut frame, &self.payload),
            (Kind::EchoRequest, false) => step
                .icmpv4_echo_request(source_port, 1)
                .write(&mut frame, &self.payload),
            (Kind::EchoReply, false) => step.icmpv4_echo_reply(source_port, 1).write(&mut frame, &self.payload),
            (Kind::EchoRequest, true) => step
                .icmpv6_echo_request(source_port, 1)
                .write(&mut frame, &self.payload),
            (Kind::EchoReply, true) => step.icmpv6_echo_reply(source_port, 1).write(&mut frame, &self.payload),
        }
        .expect("a packet that can be");
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// The frame from layer 3 on.
    pub fn packet(&self) -> Vec<u8> {
        self.frame().split_off(if self.vlan.is_some() { 18 } else { 14 })
    }

    fn tcp(&self) -> TcpHeader {
        let mut header = TcpHeader::new(self.ports[0], self.ports[1], 7, 100);
        let set = |bit: u8| self.tcp_flags & bit != 0;
        header.fin = set(0x01);
        header.syn = set(0x02);
        header.rst = set(0x04);
        header.psh = set(0x08);
        header.ack = set(0x10);
        header.urg = set(0x20);
        header
            .set_options_raw(&[1; 40][..self.no_operations * 4])
            .expect("at most forty bytes");
        header
    }

    fn ipv4(&self) -> IpHeaders {
        let four = |from: [u8; 16]| [from[0], from[1], from[2], from[3]];
        let header = Ipv4Header {
            identification: self.identification,
            dont_fragment: self.dont_fragment,
            time_to_live: self.ttl,
            source: four(self.source),
            destination: four(self.destination),
            options: Ipv4Options::try_from(&[1; 40][..self.no_operations * 4]).expect("at most forty bytes"),
            ..Ipv4Header::default()
        };
        IpHeaders::Ipv4(header, Ipv4Extensions::default())
    }

    fn ipv6(&self) -> IpHeaders {
        let header = Ipv6Header {
            hop_limit: self.ttl,
            source: self.source,
            destination: self.destination,
            ..Ipv6Header::default()
        };
        // Padding options; as a routing header, type 1 with nothing left.
        let raw = |payload: &[u8]| Ipv6RawExtHeader::new_raw(ip_number::UDP, payload).expect("a valid length");
        let [hop_by_hop, destination, routing, fragment] = self.extensions;
        let extensions = Ipv6Extensions {
            hop_by_hop_options: hop_by_hop.then(|| raw(&[1, 4, 0, 0, 0, 0])),
            destination_options: destination.then(|| raw(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            routing: routing.then(|| Ipv6RoutingExtensions {
                routing: raw(&[1, 0, 0, 0, 0, 0]),
                final_destination_options: None,
            }),
            fragment: fragment.then(|| {
                Ipv6FragmentHeader::new(
                    ip_number::UDP,
                    IpFragOffset::ZERO,
                    false,
                    u32::from(self.identification),
                )
            }),
            auth: None,
        };
        IpHeaders::Ipv6(header, extensions)
    }
}
