//! Frames of benchmarks: 64 bytes, built by an implementation that shares nothing with the gateway's.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{PacketBuilder, PacketBuilderStep, UdpHeader, VlanId};

/// Bytes of every frame, without checksum.
pub const FRAME: usize = 64;

/// What stands before the network header.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// The sender's MAC.
    pub from: [u8; 6],
    /// The gateway's MAC on the port.
    pub to: [u8; 6],
    /// VLAN, if the frame is tagged.
    pub vlan: Option<u16>,
}

/// Flags of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// The first of a connection.
    Syn,
    /// The answer to it.
    SynAck,
    /// Any later one.
    Ack,
}

/// A UDP datagram.
///
/// # Panics
/// If the addresses are of two families, or IPv6 and tagged.
pub fn udp(link: &Link, from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(link.from, link.to);
    match (from.0, to.0, link.vlan) {
        (IpAddr::V4(source), IpAddr::V4(destination), None) => filled(
            ethernet
                .ipv4(source.octets(), destination.octets(), 64)
                .udp(from.1, to.1),
        ),
        (IpAddr::V4(source), IpAddr::V4(destination), Some(vlan)) => filled(
            ethernet
                .single_vlan(vlan_id(vlan))
                .ipv4(source.octets(), destination.octets(), 64)
                .udp(from.1, to.1),
        ),
        (IpAddr::V6(source), IpAddr::V6(destination), None) => filled(
            ethernet
                .ipv6(source.octets(), destination.octets(), 64)
                .udp(from.1, to.1),
        ),
        _ => panic!("no scenario sends from {} to {} so", from.0, to.0),
    }
}

/// A TCP segment without data, padded to [`FRAME`].
///
/// # Panics
/// Never: the segment is short.
pub fn tcp(link: &Link, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), segment: Segment) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME);
    let ethernet = PacketBuilder::ethernet2(link.from, link.to);
    let (source, destination) = (from.0.octets(), to.0.octets());
    let step = match link.vlan {
        Some(vlan) => ethernet
            .single_vlan(vlan_id(vlan))
            .ipv4(source, destination, 64)
            .tcp(from.1, to.1, 1, 8192),
        None => ethernet.ipv4(source, destination, 64).tcp(from.1, to.1, 1, 8192),
    };
    let step = match segment {
        Segment::Syn => step.syn(),
        Segment::SynAck => step.syn().ack(2),
        Segment::Ack => step.ack(2),
    };
    step.write(&mut frame, &[]).expect("a short segment fits");
    frame.resize(FRAME, 0);
    frame
}

/// The datagram with as much payload as fills the frame.
fn filled(step: PacketBuilderStep<UdpHeader>) -> Vec<u8> {
    const PAYLOAD: [u8; FRAME] = [0x55; FRAME];
    let mut frame = Vec::with_capacity(FRAME);
    let headers = step.size(0);
    step.write(&mut frame, &PAYLOAD[..FRAME - headers])
        .expect("a short datagram fits");
    frame
}

fn vlan_id(vlan: u16) -> VlanId {
    VlanId::try_new(vlan).expect("a VLAN ID of a scenario is below 4096")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::parse;

    const LINK: Link = Link {
        from: [2, 0, 0, 0, 0, 1],
        to: [2, 0, 0, 0, 0, 2],
        vlan: None,
    };

    #[test]
    fn every_frame_has_64_bytes_and_its_tag() {
        let v4 = |n| (IpAddr::from([10, 0, 0, n]), 1000);
        let v6 = (IpAddr::from([1, 0, 0, 0, 0, 0, 0, 1]), 1000);
        let tagged = Link { vlan: Some(7), ..LINK };
        let host = (Ipv4Addr::new(10, 0, 0, 1), 1000);
        for (frame, vlan) in [
            (udp(&LINK, v4(1), v4(2)), None),
            (udp(&tagged, v4(1), v4(2)), Some(7)),
            (udp(&LINK, v6, v6), None),
            (tcp(&tagged, host, host, Segment::Syn), Some(7)),
            (tcp(&LINK, host, host, Segment::SynAck), None),
        ] {
            assert_eq!(frame.len(), FRAME);
            assert_eq!(parse(&frame).map(|(tag, _)| tag), Some(vlan));
        }
    }
}
