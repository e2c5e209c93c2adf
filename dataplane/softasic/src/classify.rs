//! Which frames may match a rule, and what they are looked up by.
//!
//! Everything that a NIC would leave to software is left to software: see [`candidate`].

use net::parse::{FragmentPart, Link, parse_link, parse_v4, protocol, tcp_flag};
use net::udp::Udp;
use net::vxlan::Vxlan;
use net::{V4, eth, ipv4, udp, vxlan};

use crate::rule::{FiveTuple, Framing, Key};
use crate::table::Table;

/// A frame that a rule may match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) key: Key,
    pub(crate) hash: u64,
    /// Offset of the IPv4 header that the rule is about.
    pub(crate) l3: u16,
    /// Length of that packet, without padding.
    pub(crate) length: u16,
    pub(crate) protocol: u8,
}

/// What to look a frame up by; `None` if it is for software whatever the rules: untagged and not to `mac`, not IPv4, broken, with
/// a bad header checksum, IPv4 options or a source route, a fragment, TTL 1 or less, a TCP segment with SYN, FIN or
/// RST, a protocol other than TCP and UDP, more than one tag or a priority tag.
// Through memory the results cost as much again as parsing.
#[inline(always)]
pub(crate) fn candidate(table: &Table, frame: &[u8], mac: [u8; 6]) -> Option<Candidate> {
    let (link, ip) = outer(frame, mac)?;
    if ip.protocol == protocol::UDP
        && link.vlan.is_none()
        && table.is_tunnel_port(ip.destination_port)
        && let Some(inner) = tunnelled(frame, &link, &ip)
    {
        return Some(inner);
    }
    plain(&link, &ip)
}

/// The same without a look inside tunnels.
pub(crate) fn candidate_outside(frame: &[u8], mac: [u8; 6]) -> Option<Candidate> {
    let (link, ip) = outer(frame, mac)?;
    plain(&link, &ip)
}

#[inline(always)]
fn outer(frame: &[u8], mac: [u8; 6]) -> Option<(Link, V4)> {
    let link = parse_link(frame).ok()?;
    // A tagged frame is to a tenant network's address, which is part of what it is looked up by.
    if (link.vlan.is_none() && link.destination.0 != mac) || link.source.is_multicast() {
        return None;
    }
    let ip = packet(frame, &link)?;
    Some((link, ip))
}

/// The IPv4 packet of a frame, if it is whole and without options.
#[inline(always)]
fn packet(frame: &[u8], link: &Link) -> Option<V4> {
    let bytes = frame.get(usize::from(link.l3)..)?;
    // A tag without a VLAN would be lost by rules that know nothing of it.
    let priority_tag = link.vlan.is_none() && usize::from(link.l3) != eth::LENGTH;
    if link.ether_type != eth::ether_type::IPV4 || priority_tag {
        return None;
    }
    let ip = parse_v4(bytes).ok()?;
    let reserved_flag = bytes[6] & 0x80 != 0;
    (!ip.options && ip.fragment == FragmentPart::Whole && !reserved_flag).then_some(ip)
}

#[inline(always)]
fn plain(link: &Link, ip: &V4) -> Option<Candidate> {
    let framing = match link.vlan {
        None => Framing::Untagged,
        Some(id) => Framing::Vlan {
            id: id.value(),
            mac: link.destination.0,
        },
    };
    finish(framing, ip, link.l3)
}

/// The frame inside a VXLAN packet.
fn tunnelled(frame: &[u8], link: &Link, ip: &V4) -> Option<Candidate> {
    let datagram = usize::from(link.l3) + ipv4::LENGTH;
    let header = datagram + udp::LENGTH;
    // The inner frame ends with its datagram, whatever the outer frame goes on with.
    let end = datagram + usize::from(Udp::new(frame.get(datagram..)?).ok()?.length());
    let vxlan = Vxlan::new(frame.get(header..end)?).ok()?;
    let start = header + vxlan::LENGTH;
    let inner_frame = frame.get(start..end)?;
    let inner_link = parse_link(inner_frame).ok()?;
    if inner_link.vlan.is_some() || inner_link.source.is_multicast() {
        return None;
    }
    let framing = Framing::Vxlan {
        destination: ip.destination,
        port: ip.destination_port,
        vni: vxlan.vni()?.value(),
        mac: inner_link.destination.0,
    };
    let inner = packet(inner_frame, &inner_link)?;
    finish(framing, &inner, start as u16 + inner_link.l3)
}

#[inline(always)]
fn finish(framing: Framing, ip: &V4, l3: u16) -> Option<Candidate> {
    let connection_changes = ip.tcp_flags & (tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST) != 0;
    if ip.ttl <= 1 || connection_changes || !matches!(ip.protocol, protocol::TCP | protocol::UDP) {
        return None;
    }
    let flow = FiveTuple {
        source: ip.source,
        destination: ip.destination,
        protocol: ip.protocol,
        source_port: ip.source_port,
        destination_port: ip.destination_port,
    };
    let key = Key::new(framing, flow);
    Some(Candidate {
        key,
        hash: key.hash_value(),
        l3,
        length: ip.total_length,
        protocol: ip.protocol,
    })
}
