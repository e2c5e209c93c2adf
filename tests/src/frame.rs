//! Frames as hosts send them, and hosts that exist only as frames.
//!
//! Well-formed ones are built and read with `etherparse`, an implementation that shares nothing with the gateway's.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{
    ArpOperation, ArpPacket, EtherType, Icmpv4Type, LinkExtSlice, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice, VlanId,
};

use crate::Wire;

const BROADCAST: [u8; 6] = [0xff; 6];

/// An IPv4 host at the far end of a [`Wire`], which speaks ARP and ICMP echo.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// VLAN that it is in.
    pub vlan: Option<u16>,
}

impl Host {
    /// Asks for the MAC address of `neighbor` by ARP.
    pub fn resolve(&self, wire: &Wire, neighbor: Ipv4Addr, timeout: Duration) -> Option<[u8; 6]> {
        wire.send(&self.arp(ArpOperation::REQUEST, BROADCAST, neighbor));
        wire.receive(timeout, |frame| {
            let (vlan, packet) = parse(frame)?;
            let NetSlice::Arp(arp) = packet.net? else { return None };
            let answer = arp.operation() == ArpOperation::REPLY
                && arp.sender_protocol_addr() == neighbor.octets()
                && arp.target_protocol_addr() == self.address.octets();
            if answer && vlan == self.vlan {
                arp.sender_hw_addr().try_into().ok()
            } else {
                None
            }
        })
    }

    /// Answers an ARP request for this host in `frame`, if it is one.
    pub fn answer_arp(&self, wire: &Wire, frame: &[u8]) {
        let Some((vlan, packet)) = parse(frame) else { return };
        let Some(NetSlice::Arp(arp)) = packet.net else { return };
        let (Ok(mac), Ok(sender)) = (
            arp.sender_hw_addr().try_into(),
            <[u8; 4]>::try_from(arp.sender_protocol_addr()),
        ) else {
            return;
        };
        if vlan == self.vlan
            && arp.operation() == ArpOperation::REQUEST
            && arp.target_protocol_addr() == self.address.octets()
        {
            wire.send(&self.arp(ArpOperation::REPLY, mac, sender.into()));
        }
    }

    /// Pings `to` through the router whose MAC address is `router`; true if the answer comes back in this host's VLAN.
    /// Answers ARP requests for itself meanwhile.
    pub fn ping(&self, wire: &Wire, router: [u8; 6], to: Ipv4Addr, id: u16, timeout: Duration) -> bool {
        wire.send(&self.icmp_echo(router, to, id, 64));
        let answered = wire.receive(timeout, |frame| {
            self.answer_arp(wire, frame);
            let (vlan, packet) = parse(frame)?;
            let NetSlice::Ipv4(ip) = packet.net? else { return None };
            let TransportSlice::Icmpv4(icmp) = packet.transport? else {
                return None;
            };
            let Icmpv4Type::EchoReply(echo) = icmp.icmp_type() else {
                return None;
            };
            let ours = ip.header().source_addr() == to && ip.header().destination_addr() == self.address;
            (ours && echo.id == id && vlan == self.vlan).then_some(())
        });
        answered.is_some()
    }

    /// An ICMP echo request with this time to live.
    ///
    /// # Panics
    /// Never: the payload is short.
    pub fn icmp_echo(&self, router: [u8; 6], to: Ipv4Addr, id: u16, time_to_live: u8) -> Vec<u8> {
        let payload = b"turnpike";
        let mut frame = Vec::new();
        let ethernet = PacketBuilder::ethernet2(self.mac, router);
        let (from, to) = (self.address.octets(), to.octets());
        match self.vlan_id() {
            Some(vlan) => ethernet
                .single_vlan(vlan)
                .ipv4(from, to, time_to_live)
                .icmpv4_echo_request(id, 1)
                .write(&mut frame, payload),
            None => ethernet
                .ipv4(from, to, time_to_live)
                .icmpv4_echo_request(id, 1)
                .write(&mut frame, payload),
        }
        .expect("a short packet fits");
        frame
    }

    /// A UDP datagram with this payload.
    ///
    /// # Panics
    /// If the payload is longer than a datagram can be.
    pub fn udp(&self, router: [u8; 6], to: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let ethernet = PacketBuilder::ethernet2(self.mac, router);
        let (from, to) = (self.address.octets(), to.octets());
        match self.vlan_id() {
            Some(vlan) => ethernet
                .single_vlan(vlan)
                .ipv4(from, to, 64)
                .udp(ports.0, ports.1)
                .write(&mut frame, payload),
            None => ethernet
                .ipv4(from, to, 64)
                .udp(ports.0, ports.1)
                .write(&mut frame, payload),
        }
        .expect("a datagram fits");
        frame
    }

    fn arp(&self, operation: ArpOperation, to: [u8; 6], neighbor: Ipv4Addr) -> Vec<u8> {
        let target = if to == BROADCAST { [0; 6] } else { to };
        let packet = ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            operation,
            &self.mac,
            &self.address.octets(),
            &target,
            &neighbor.octets(),
        )
        .expect("Ethernet and IPv4 addresses are of equal length on both sides");
        let mut frame = Vec::new();
        let ethernet = PacketBuilder::ethernet2(self.mac, to);
        match self.vlan_id() {
            Some(vlan) => ethernet.single_vlan(vlan).arp(packet).write(&mut frame),
            None => ethernet.arp(packet).write(&mut frame),
        }
        .expect("an ARP packet fits");
        frame
    }

    fn vlan_id(&self) -> Option<VlanId> {
        self.vlan
            .map(|id| VlanId::try_new(id).expect("a VLAN ID of a scenario is below 4096"))
    }
}

/// VLAN and layers of a frame; `None` if it is malformed.
pub fn parse(frame: &[u8]) -> Option<(Option<u16>, SlicedPacket<'_>)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let vlan = packet.link_exts.iter().find_map(|extension| match extension {
        LinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()),
        LinkExtSlice::Macsec(_) => None,
    });
    Some((vlan, packet))
}
