//! What the tests share: route tables, packets with right checksums, and a driver that treats the engine as the worker
//! does.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod v6;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nat::{
    Engine, EngineConfig, ForwardTarget, Masquerade, Millis, NewPacket, Outcome, Policy, PolicySpec, PortForward,
    Resolution, Resolver, Segment, StaticNat, Verdict,
};
use net::{Drop, FragmentPart, Generation, NextHopId, RouteKind, VpcId, VrfId, parse_v4, protocol};

pub const TCP: u8 = protocol::TCP;
pub const UDP: u8 = protocol::UDP;
pub const ICMP: u8 = protocol::ICMP;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// An address from text.
pub fn ip(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().expect("an address").into()
}

/// An IPv4 address, host order, as any address.
pub fn any_v4(address: u32) -> IpAddr {
    IpAddr::V4(address.into())
}

/// The bits of an IPv4 address.
pub fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => panic!("{address} is not IPv4"),
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Hop(u32),
    /// One of two next hops, by the flow's hash.
    Either(u32, u32),
    Vrf(u16),
    Nat,
    Fail(Drop),
}

/// Route tables as a list.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    pub generation: u64,
    pub routes: Vec<(u16, u32, u8, To)>,
    pub routes_v6: Vec<(u16, u128, u8, To)>,
}

impl Routes {
    pub fn add(&mut self, vrf: u16, prefix: &str, to: To) {
        let (address, length) = prefix.split_once('/').expect("address/length");
        let length = length.parse().expect("a length");
        match address.parse::<Ipv6Addr>() {
            Ok(address) => self.set_v6(vrf, address.into(), length, Some(to)),
            Err(_) => self.set(vrf, ip(address), length, Some(to)),
        }
    }

    pub fn remove(&mut self, vrf: u16, prefix: &str) {
        let (address, length) = prefix.split_once('/').expect("address/length");
        let length = length.parse().expect("a length");
        match address.parse::<Ipv6Addr>() {
            Ok(address) => self.set_v6(vrf, address.into(), length, None),
            Err(_) => self.set(vrf, ip(address), length, None),
        }
    }

    pub fn set(&mut self, vrf: u16, address: u32, length: u8, to: Option<To>) {
        self.routes
            .retain(|(v, a, l, _)| (*v, *a, *l) != (vrf, address, length));
        self.routes.extend(to.map(|to| (vrf, address, length, to)));
    }

    pub fn set_v6(&mut self, vrf: u16, address: u128, length: u8, to: Option<To>) {
        self.routes_v6
            .retain(|(v, a, l, _)| (*v, *a, *l) != (vrf, address, length));
        self.routes_v6.extend(to.map(|to| (vrf, address, length, to)));
    }
}

/// What a route says, once its VRF is the last one.
fn resolution(to: To, vrf: VrfId, flow_hash: u32) -> Result<Resolution, Drop> {
    let (next_hop, kind) = match to {
        To::Fail(reason) => return Err(reason),
        To::Vrf(_) => unreachable!("followed by the caller"),
        To::Nat => (0, RouteKind::Nat),
        To::Either(even, odd) => (if flow_hash & 1 == 0 { even } else { odd }, RouteKind::Unicast),
        To::Hop(hop) => (hop, RouteKind::Unicast),
    };
    Ok(Resolution {
        next_hop: NextHopId(next_hop),
        vrf,
        kind,
    })
}

impl Resolver for Routes {
    fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    fn resolve(&self, vrf: VrfId, destination: u32, flow_hash: u32) -> Result<Resolution, Drop> {
        let covers = |address: u32, length: u8| u64::from(destination ^ address) >> (32 - length) == 0;
        let matching = self.routes.iter().filter(|(v, a, l, _)| *v == vrf.0 && covers(*a, *l));
        match matching.max_by_key(|(_, _, length, _)| *length).map(|(.., to)| *to) {
            None => Err(Drop::NoRoute),
            Some(To::Vrf(next)) => self.resolve(VrfId(next), destination, flow_hash),
            Some(to) => resolution(to, vrf, flow_hash),
        }
    }

    fn resolve_v6(&self, vrf: VrfId, destination: u128, flow_hash: u32) -> Result<Resolution, Drop> {
        let covers = |address: u128, length: u8| {
            (destination ^ address)
                .checked_shr(128 - u32::from(length))
                .unwrap_or(0)
                == 0
        };
        let matching = self
            .routes_v6
            .iter()
            .filter(|(v, a, l, _)| *v == vrf.0 && covers(*a, *l));
        match matching.max_by_key(|(_, _, length, _)| *length).map(|(.., to)| *to) {
            None => Err(Drop::NoRoute),
            Some(To::Vrf(next)) => self.resolve_v6(VrfId(next), destination, flow_hash),
            Some(to) => resolution(to, vrf, flow_hash),
        }
    }
}

/// Two VPCs with the same addresses, their leaks to the fabric, and the public prefixes.
pub fn routes() -> Routes {
    let mut routes = Routes {
        generation: 1,
        ..Routes::default()
    };
    for vpc in [1, 2] {
        routes.add(vpc, "10.0.0.0/24", To::Hop(u32::from(vpc)));
        routes.add(vpc, "0.0.0.0/0", To::Vrf(0));
    }
    routes.add(0, "0.0.0.0/0", To::Hop(100));
    routes.add(0, "192.0.2.0/24", To::Nat);
    routes
}

pub fn vpc(n: u16) -> VpcId {
    VpcId::new(n).expect("not zero")
}

pub fn masquerade(of: u16, pool: &[&str], ports: (u16, u16)) -> Masquerade {
    let pool = pool.iter().map(|a| a.parse().expect("an address")).collect();
    Masquerade {
        vpc: vpc(of),
        sources: vec![],
        pool,
        ports,
        options: nat::PoolOptions::default(),
    }
}

pub fn forward(of: u16, protocol: u8, address: &str, port: u16, target: &str, target_port: u16) -> PortForward {
    let address = address.parse().expect("an address");
    PortForward {
        vpc: vpc(of),
        address,
        protocol,
        ports: (port, port),
        targets: vec![ForwardTarget {
            address: target.parse().expect("an address"),
            port: target_port,
            weight: 1,
        }],
        affinity: false,
    }
}

/// Static NAT; `peer` is the VPC that sees it, the default VRF if none.
pub fn fixed(of: u16, inside: &str, outside: &str, peer: Option<u16>) -> StaticNat {
    StaticNat {
        vpc: vpc(of),
        inside: inside.parse().expect("a prefix"),
        outside: outside.parse().expect("a prefix"),
        peer: peer.map(vpc),
    }
}

pub fn policy(masquerade: Vec<Masquerade>, port_forwards: Vec<PortForward>) -> Arc<Policy> {
    Arc::new(
        Policy::compile(PolicySpec {
            masquerade,
            port_forwards,
            ..PolicySpec::default()
        })
        .expect("valid"),
    )
}

pub fn engine(capacity: u32, policy: Arc<Policy>) -> Engine {
    worker(capacity, 0, 1, policy)
}

pub fn worker(capacity: u32, worker: u16, workers: u16, policy: Arc<Policy>) -> Engine {
    let mut engine = Engine::new(
        EngineConfig {
            capacity,
            worker,
            workers,
            seed: 42,
        },
        policy,
    )
    .expect("valid");
    engine.expire(Millis(1), 0, &mut |_, _| {});
    engine
}

/// RFC 1071, 16 bits at a time.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A packet's addresses, ports and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    pub protocol: u8,
    pub source: u32,
    pub destination: u32,
    pub source_port: u16,
    pub destination_port: u16,
    pub flags: u8,
}

/// The packet with these headers and all checksums computed in full. ICMP: `flags` is the type, the identifier is
/// `source_port`.
pub fn build(h: &Headers, payload: &[u8]) -> Vec<u8> {
    let mut l4 = match h.protocol {
        TCP => {
            let mut tcp = vec![0; 20];
            tcp[12] = 5 << 4;
            tcp[13] = h.flags;
            tcp
        }
        UDP => {
            let mut udp = vec![0; 8];
            udp[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
            udp
        }
        ICMP => {
            let mut icmp = vec![0; 8];
            icmp[0] = h.flags;
            icmp[4..6].copy_from_slice(&h.source_port.to_be_bytes());
            icmp
        }
        _ => vec![0; 8],
    };
    if h.protocol != ICMP {
        l4[..2].copy_from_slice(&h.source_port.to_be_bytes());
        l4[2..4].copy_from_slice(&h.destination_port.to_be_bytes());
    }
    l4.extend_from_slice(payload);
    fill_layer4(h, &mut l4);
    ip_packet(h.protocol, h.source, h.destination, &l4)
}

/// A TCP packet without options with this sequence number, checksum included.
pub fn with_sequence(h: &Headers, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut l4 = build(h, payload).split_off(20);
    l4[4..8].copy_from_slice(&sequence.to_be_bytes());
    l4[16..18].fill(0);
    fill_layer4(h, &mut l4);
    ip_packet(h.protocol, h.source, h.destination, &l4)
}

fn fill_layer4(h: &Headers, l4: &mut [u8]) {
    let mut pseudo = [h.source.to_be_bytes(), h.destination.to_be_bytes()].concat();
    pseudo.extend_from_slice(&[0, h.protocol]);
    pseudo.extend_from_slice(&(l4.len() as u16).to_be_bytes());
    match h.protocol {
        TCP => {
            let sum = checksum(&[&pseudo, l4]);
            l4[16..18].copy_from_slice(&sum.to_be_bytes());
        }
        UDP => {
            let sum = checksum(&[&pseudo, l4]);
            l4[6..8].copy_from_slice(&if sum == 0 { 0xffffu16 } else { sum }.to_be_bytes());
        }
        ICMP => {
            let sum = checksum(&[l4]);
            l4[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {}
    }
}

/// An IPv4 header in front of layer 4.
pub fn ip_packet(protocol: u8, source: u32, destination: u32, l4: &[u8]) -> Vec<u8> {
    let mut packet = vec![0u8; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(20 + l4.len() as u16).to_be_bytes());
    packet[4..6].copy_from_slice(&[0x12, 0x34]);
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&source.to_be_bytes());
    packet[16..20].copy_from_slice(&destination.to_be_bytes());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(l4);
    packet
}

/// An ICMP error that quotes the first `quote` octets of `about`.
pub fn icmp_error(source: u32, destination: u32, icmp_type: u8, about: &[u8], quote: usize) -> Vec<u8> {
    let mut icmp = vec![icmp_type, 1, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(&about[..quote.min(about.len())]);
    let sum = checksum(&[&icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(ICMP, source, destination, &icmp)
}

pub fn tcp(from: (&str, u16), to: (&str, u16), flags: u8) -> Headers {
    headers(TCP, from, to, flags)
}

pub fn udp(from: (&str, u16), to: (&str, u16)) -> Headers {
    headers(UDP, from, to, 0)
}

/// An echo request (8) or reply (0).
pub fn echo(from: &str, to: &str, id: u16, icmp_type: u8) -> Headers {
    headers(ICMP, (from, id), (to, id), icmp_type)
}

fn headers(protocol: u8, from: (&str, u16), to: (&str, u16), flags: u8) -> Headers {
    let (source, destination) = (ip(from.0), ip(to.0));
    Headers {
        protocol,
        source,
        destination,
        source_port: from.1,
        destination_port: to.1,
        flags,
    }
}

/// The opposite packet.
pub fn answer(h: &Headers, flags: u8) -> Headers {
    Headers {
        protocol: h.protocol,
        source: h.destination,
        destination: h.source,
        source_port: h.destination_port,
        destination_port: h.source_port,
        flags,
    }
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Translated, sent to a next hop. True if the connection became worth offloading.
    Sent(Vec<u8>, u32, bool),
    /// Not a matter of NAT.
    Forwarded,
    HandedOver(u16),
    Dropped(Drop),
}

impl Fate {
    /// Headers of the packet that was sent.
    pub fn headers(&self) -> Headers {
        let Self::Sent(packet, ..) = self else {
            panic!("not sent: {self:?}")
        };
        let parsed = parse_v4(packet).expect("valid");
        let flags = if parsed.protocol == ICMP {
            parsed.icmp_type
        } else {
            parsed.tcp_flags
        };
        Headers {
            protocol: parsed.protocol,
            source: parsed.source,
            destination: parsed.destination,
            source_port: parsed.source_port,
            destination_port: parsed.destination_port,
            flags,
        }
    }
}

/// As [`send`]; a packet of a VPC to a public end comes back as from the fabric.
pub fn deliver(engine: &mut Engine, routes: &Routes, vrf: u16, packet: &[u8], now: Millis) -> Fate {
    match send(engine, routes, vrf, packet, now) {
        Fate::Sent(packet, 0, _) => send(engine, routes, 0, &packet, now),
        fate => fate,
    }
}

/// Takes a packet through the engine as a worker does.
pub fn send(engine: &mut Engine, routes: &Routes, vrf: u16, packet: &[u8], now: Millis) -> Fate {
    let parsed = match parse_v4(packet) {
        Ok(parsed) => parsed,
        Err(reason) => return Fate::Dropped(reason),
    };
    let new = NewPacket {
        vrf: VrfId(vrf),
        protocol: parsed.protocol,
        source: parsed.source.into(),
        destination: parsed.destination.into(),
        source_port: parsed.source_port,
        destination_port: parsed.destination_port,
        tcp_flags: parsed.tcp_flags,
        icmp_type: parsed.icmp_type,
        fragment_later: parsed.fragment == FragmentPart::Later,
        length: parsed.total_length,
        flow_hash: parsed.source ^ parsed.destination,
    };
    let found = if new.fragment_later {
        None
    } else {
        engine.lookup(&new.key())
    };
    let at = match found {
        Some(at) => at,
        None => {
            let resolution = match routes.resolve(new.vrf, parsed.destination, new.flow_hash) {
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
    let segment = Segment::of(packet, usize::from(parsed.l4), parsed.tcp_flags);
    let hit = engine.hit(at, segment, parsed.total_length, now);
    if let Some(reason) = hit.refused {
        return Fate::Dropped(reason);
    }
    let mut packet = packet.to_vec();
    let entry = engine.entry(at);
    entry
        .rewrite()
        .apply(&mut packet, usize::from(parsed.l4), parsed.protocol);
    Fate::Sent(packet, entry.next_hop().0, hit.offload)
}
