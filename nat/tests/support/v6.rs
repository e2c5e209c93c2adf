//! The world of IPv4 once more in IPv6: each address as the last 32 bits of one under 2001:db8::/96.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use nat::{Address, Engine, Flow, Millis, NewPacket, Outcome, Policy, PolicySpec, Resolver, Segment, Verdict};
use net::{FragmentPart, IpNet, VrfId, ipv6, parse_v6, protocol};

use super::{Fate, Headers, ICMP, Routes, checksum};

pub const ICMPV6: u8 = protocol::ICMPV6;

/// The IPv6 address that stands for one of IPv4.
pub fn six(address: u32) -> u128 {
    0x2001_0db8 << 96 | u128::from(address)
}

/// The one of IPv4 that it stands for.
pub fn four(address: u128) -> u32 {
    assert_eq!(address, six(address as u32), "{address:x}");
    address as u32
}

fn six_ip(address: IpAddr) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(six(super::bits(address))))
}

fn six_net(net: IpNet) -> IpNet {
    IpNet::new(six_ip(net.addr()), net.prefix_len() + 96).expect("at most 128")
}

/// The same rules for IPv6.
pub fn six_spec(mut spec: PolicySpec) -> PolicySpec {
    for rule in &mut spec.masquerade {
        rule.pool.iter_mut().for_each(|address| *address = six_ip(*address));
        rule.sources.iter_mut().for_each(|net| *net = six_net(*net));
    }
    for forward in &mut spec.port_forwards {
        forward.address = six_ip(forward.address);
        for target in &mut forward.targets {
            target.address = six_ip(target.address);
        }
    }
    for rule in &mut spec.statics {
        (rule.inside, rule.outside) = (six_net(rule.inside), six_net(rule.outside));
    }
    spec
}

/// A policy of these rules, for IPv6.
pub fn six_policy(spec: PolicySpec) -> Arc<Policy> {
    Arc::new(Policy::compile(six_spec(spec)).expect("valid"))
}

/// The routes, and the same ones for IPv6.
pub fn with_six(mut routes: Routes) -> Routes {
    let six = |(vrf, address, length, to): &(u16, u32, u8, super::To)| (*vrf, six(*address), length + 96, *to);
    routes.routes_v6 = routes.routes.iter().map(six).collect();
    routes
}

fn protocol_v6(of: u8) -> u8 {
    if of == ICMP { ICMPV6 } else { of }
}

fn icmp_type(of: u8) -> u8 {
    match of {
        8 => 128,
        0 => 129,
        other => other,
    }
}

/// The IPv6 packet with the same headers, checksum in full.
pub fn build_v6(h: &Headers, payload: &[u8]) -> Vec<u8> {
    let mut l4 = super::build(h, payload).split_off(20);
    if h.protocol == ICMP {
        l4[0] = icmp_type(h.flags);
    }
    let at = match h.protocol {
        super::TCP => Some(16),
        super::UDP => Some(6),
        ICMP => Some(2),
        _ => None,
    };
    let (source, destination) = (six(h.source), six(h.destination));
    if let Some(at) = at {
        l4[at..at + 2].fill(0);
        let sum = checksum(&[&pseudo(source, destination, protocol_v6(h.protocol), l4.len()), &l4]);
        let sum = if sum == 0 && h.protocol == super::UDP {
            0xffff
        } else {
            sum
        };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    packet_v6(protocol_v6(h.protocol), source, destination, &l4)
}

/// RFC 8200 section 8.1.
pub fn pseudo(source: u128, destination: u128, protocol: u8, length: usize) -> Vec<u8> {
    let mut pseudo = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    pseudo.extend_from_slice(&(length as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, protocol]);
    pseudo
}

/// An IPv6 header in front of what it carries.
pub fn packet_v6(next_header: u8, source: u128, destination: u128, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 40];
    ipv6::write_header(
        &mut header,
        0,
        payload.len() as u16,
        next_header,
        64,
        [source, destination],
    );
    [&header, payload].concat()
}

/// An ICMPv6 error that quotes the first `quote` octets of `about`.
pub fn icmpv6_error(source: u128, destination: u128, kind: u8, about: &[u8], quote: usize) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, 0, 0, 5, 0];
    icmp.extend_from_slice(&about[..quote.min(about.len())]);
    let sum = checksum(&[&pseudo(source, destination, ICMPV6, icmp.len()), &icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    packet_v6(ICMPV6, source, destination, &icmp)
}

/// The headers of an IPv6 packet as those of the IPv4 packet that it stands for.
pub fn headers_v6(packet: &[u8]) -> Headers {
    let parsed = parse_v6(packet).expect("valid");
    let icmp = parsed.protocol == ICMPV6;
    let flags = match parsed.icmp_type {
        128 if icmp => 8,
        129 if icmp => 0,
        other if icmp => other,
        _ => parsed.tcp_flags,
    };
    Headers {
        protocol: if icmp { ICMP } else { parsed.protocol },
        source: four(parsed.source),
        destination: four(parsed.destination),
        source_port: parsed.source_port,
        destination_port: parsed.destination_port,
        flags,
    }
}

/// [`super::send`] for IPv6.
pub fn send_v6(engine: &mut Engine, routes: &Routes, vrf: u16, packet: &[u8], now: Millis) -> Fate {
    let parsed = match parse_v6(packet) {
        Ok(parsed) => parsed,
        Err(reason) => return Fate::Dropped(reason),
    };
    let length = parsed.payload_length.saturating_add(40);
    let new = NewPacket {
        vrf: VrfId(vrf),
        protocol: parsed.protocol,
        source: Address::v6(parsed.source),
        destination: Address::v6(parsed.destination),
        source_port: parsed.source_port,
        destination_port: parsed.destination_port,
        tcp_flags: parsed.tcp_flags,
        icmp_type: parsed.icmp_type,
        fragment_later: parsed.fragment == FragmentPart::Later,
        length,
        flow_hash: (parsed.source ^ parsed.destination) as u32,
    };
    let found = if new.fragment_later {
        None
    } else {
        engine.find(&new.flow())
    };
    let at = match found {
        Some(at) => at,
        None => {
            let resolution = match routes.resolve_v6(new.vrf, parsed.destination, new.flow_hash) {
                Ok(resolution) => resolution,
                Err(reason) => return Fate::Dropped(reason),
            };
            match engine.miss(&new, resolution, routes, now) {
                Verdict::Connection(at) => at,
                Verdict::Forward => return Fate::Forwarded,
                Verdict::HandOver(worker) => return Fate::HandedOver(worker),
                Verdict::Drop(reason) => return Fate::Dropped(reason),
            }
        }
    };
    if !engine.is_current(at, routes.generation())
        && let Outcome::Ended(reason) = engine.revalidate_one(at, routes)
    {
        return Fate::Dropped(reason);
    }
    let l4 = usize::from(parsed.l4);
    let hit = engine.hit(at, Segment::of(packet, l4, parsed.tcp_flags), length, now);
    if let Some(reason) = hit.refused {
        return Fate::Dropped(reason);
    }
    let mut packet = packet.to_vec();
    engine.rewrite_v6(at).apply(&mut packet, l4, parsed.protocol);
    Fate::Sent(packet, engine.entry(at).next_hop().0, hit.offload)
}

/// What finds the IPv6 packet that stands for these headers.
pub fn flow_v6(vrf: u16, h: &Headers) -> Flow {
    Flow {
        vrf: VrfId(vrf),
        protocol: protocol_v6(h.protocol),
        source: six(h.source).into(),
        destination: six(h.destination).into(),
        source_port: h.source_port,
        destination_port: h.destination_port,
    }
}
