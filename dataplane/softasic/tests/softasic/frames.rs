//! Frames, built by an independent library.

use etherparse::PacketBuilder;

pub const CLIENT: [u8; 4] = [10, 0, 0, 2];
pub const SERVER: [u8; 4] = [192, 0, 2, 80];
pub const PUBLIC: [u8; 4] = [198, 51, 100, 7];
pub const VTEP: [u8; 4] = [172, 16, 0, 1];
pub const REMOTE: [u8; 4] = [172, 16, 0, 9];
pub const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xee];
pub const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0xdd];
/// The gateway's address in a tenant's network.
pub const TENANT: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
pub const PAYLOAD: &[u8] = b"sixteen bytes!!!";

/// Layer 4 of a test packet.
#[derive(Clone, Copy)]
pub enum L4 {
    Udp(u16, u16),
    /// Ports and flags as in the header.
    Tcp(u16, u16, u8),
}

/// A packet's addresses.
#[derive(Clone, Copy)]
pub struct Ends {
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub ttl: u8,
    pub l4: L4,
}

/// An Ethernet frame, tagged if there is a VLAN.
pub fn frame(src: [u8; 6], dst: [u8; 6], vlan: Option<u16>, ends: Ends, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(src, dst);
    let ip = match vlan {
        Some(id) => link
            .single_vlan(etherparse::VlanId::try_new(id).expect("VLAN"))
            .ipv4(ends.src, ends.dst, ends.ttl),
        None => link.ipv4(ends.src, ends.dst, ends.ttl),
    };
    let mut out = Vec::new();
    match ends.l4 {
        L4::Udp(src, dst) => ip.udp(src, dst).write(&mut out, payload),
        L4::Tcp(src, dst, flags) => {
            let mut tcp = etherparse::TcpHeader::new(src, dst, 1000, 2000);
            tcp.fin = flags & 0x01 != 0;
            tcp.syn = flags & 0x02 != 0;
            tcp.rst = flags & 0x04 != 0;
            tcp.psh = flags & 0x08 != 0;
            tcp.ack = flags & 0x10 != 0;
            ip.tcp_header(tcp).write(&mut out, payload)
        }
    }
    .expect("written");
    out
}

/// `inner` inside VXLAN, as the gateway sends it.
#[allow(clippy::too_many_arguments, reason = "the fields of four headers")]
pub fn vxlan(
    src: [u8; 6],
    dst: [u8; 6],
    vlan: Option<u16>,
    ips: ([u8; 4], [u8; 4]),
    (ttl, tos): (u8, u8),
    ports: (u16, u16),
    vni: u32,
    inner: &[u8],
) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    let mut ip = etherparse::Ipv4Header::new((payload.len() + 8) as u16, ttl, etherparse::IpNumber::UDP, ips.0, ips.1)
        .expect("header");
    ip.dscp = etherparse::IpDscp::try_new(tos >> 2).expect("DSCP");
    ip.ecn = etherparse::IpEcn::try_new(tos & 3).expect("ECN");
    ip.dont_fragment = true;
    ip.identification = 0;
    let link = PacketBuilder::ethernet2(src, dst);
    let builder = match vlan {
        Some(id) => link
            .single_vlan(etherparse::VlanId::try_new(id).expect("VLAN"))
            .ip(etherparse::IpHeaders::Ipv4(ip, Default::default())),
        None => link.ip(etherparse::IpHeaders::Ipv4(ip, Default::default())),
    };
    let mut out = Vec::new();
    builder
        .udp(ports.0, ports.1)
        .write(&mut out, &payload)
        .expect("written");
    let udp = if vlan.is_some() { 38 } else { 34 };
    out[udp + 6..udp + 8].fill(0);
    out
}
