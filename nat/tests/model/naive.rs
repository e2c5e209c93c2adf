//! The naive NAT: a list of connections, searched from end to end.
#![allow(unreachable_pub, reason = "a module of one test")]

use std::collections::HashSet;

use nat::{ConnectionId, Filtering, Mapping, Millis, PolicySpec, Resolver};
use net::{Drop, RouteKind, VrfId};

use crate::support::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Unreplied,
    Replied,
    Established,
    Closing,
}

#[derive(Debug, Clone)]
pub struct Connection {
    pub id: ConnectionId,
    pub vpc: u16,
    /// Headers of each direction as they arrive and as they leave; flags are not used.
    pub arrives: [Headers; 2],
    pub leaves: [Headers; 2],
    pub vrfs: [u16; 2],
    /// Public address and port that it holds.
    pub lease: Option<(u32, u16)>,
    pub flow_hash: u32,
    pub state: State,
    pub fins: [bool; 2],
    pub before_reset: Option<State>,
    pub packets: [u64; 2],
    pub seen: u64,
    pub unrouted: Option<(u64, Drop)>,
    pub hops: [u32; 2],
    pub offloaded: bool,
}

/// An address and port of a VPC, with the protocol.
pub type Inside = (u16, u8, u32, u16);

/// What a packet without a connection opens.
pub enum Opens {
    /// A connection to another end, with the packet as it leaves and the port that it shares.
    To {
        vrf: u16,
        leaves: Headers,
        lease: Option<(u32, u16)>,
    },
    /// One that leaves for the fabric under a public port.
    Masquerade,
}

#[derive(Default)]
pub struct Model {
    /// Endpoint-independent mappings in force.
    pub mappings: Vec<(Inside, (u32, u16))>,
    pub live: Vec<Connection>,
    pub zombies: Vec<Connection>,
    pub spec: PolicySpec,
}

/// A protocol without ports.
pub const GRE: u8 = 47;

fn same(a: &Headers, b: &Headers) -> bool {
    (a.protocol, a.source, a.destination, a.source_port, a.destination_port)
        == (b.protocol, b.source, b.destination, b.source_port, b.destination_port)
}

/// Tenths of a second since the engine's first time, which is 1.
pub fn tick(now: Millis) -> u64 {
    (now.0 - 1) / 100
}

impl Model {
    pub fn index(&self, vrf: u16, h: &Headers) -> Option<(usize, usize)> {
        let direction = |c: &Connection| (0..2).find(|d| c.vrfs[*d] == vrf && same(&c.arrives[*d], h));
        self.live
            .iter()
            .enumerate()
            .find_map(|(n, c)| direction(c).map(|d| (n, d)))
    }

    pub fn is_leased(&self, address: u32, protocol: u8, port: u16) -> bool {
        let holds = |c: &Connection| c.arrives[0].protocol == protocol && c.lease == Some((address, port));
        self.live.iter().chain(&self.zombies).any(holds)
    }

    /// The port that an end inside has for all of its connections, if the rule still offers it.
    pub fn mapping_of(&self, inside: Inside) -> Option<(u32, u16)> {
        let (_, lease) = *self.mappings.iter().find(|(owner, _)| *owner == inside)?;
        let rule = self.rule(inside.0, inside.2)?;
        let offered = rule.options.mapping == Mapping::EndpointIndependent
            && rule.pool.contains(&any_v4(lease.0))
            && (rule.ports.0..=rule.ports.1).contains(&lease.1)
            && Self::determines(rule, inside.2, lease.0, lease.1)
            && self.forward_of(lease.0, inside.1, lease.1).is_none();
        offered.then_some(lease)
    }

    /// False if the rule determines ports and means another subscriber's.
    fn determines(rule: &nat::Masquerade, source: u32, address: u32, port: u16) -> bool {
        if rule.options.choice != nat::PortChoice::Deterministic {
            return true;
        }
        // One prefix, one public address: as the specs have it.
        let net = &rule.sources[0];
        let each = (rule.ports.1 - rule.ports.0 + 1) >> (32 - net.prefix_len());
        let place = source - bits(net.network());
        rule.pool == [any_v4(address)] && u32::from((port - rule.ports.0) / each) == place
    }

    /// What static NAT makes of an address in one of its prefixes.
    fn moved(from: net::IpNet, to: net::IpNet, address: u32) -> Option<u32> {
        let inside = from.contains(&any_v4(address));
        inside.then(|| bits(to.network()) + (address - bits(from.network())))
    }

    fn side(rule: &nat::StaticNat) -> u16 {
        rule.peer.map_or(0, |peer| peer.value())
    }

    pub fn static_target(&self, seen_in: u16, address: u32) -> Option<(u16, u32)> {
        let to = |r: &nat::StaticNat| Some((r.vpc.value(), Self::moved(r.outside, r.inside, address)?));
        let mut rules = self.spec.statics.iter().filter(|r| Self::side(r) == seen_in);
        rules.find_map(to)
    }

    pub fn static_source(&self, vpc: u16, seen_in: u16, address: u32) -> Option<u32> {
        let about = |r: &&nat::StaticNat| r.vpc.value() == vpc && Self::side(r) == seen_in;
        let mut rules = self.spec.statics.iter().filter(about);
        rules.find_map(|r| Self::moved(r.inside, r.outside, address))
    }

    fn translates(&self, vpc: u16) -> bool {
        self.spec.masquerade.iter().any(|r| r.vpc.value() == vpc)
            || self.spec.port_forwards.iter().any(|f| f.vpc.value() == vpc)
            || self
                .spec
                .statics
                .iter()
                .any(|r| r.vpc.value() == vpc || Self::side(r) == vpc)
    }

    /// A packet from a VPC to this end may find another VPC behind it.
    fn leads_back(&self, address: u32, protocol: u8, port: u16) -> bool {
        let shares = |r: &nat::Masquerade| {
            r.options.mapping == Mapping::EndpointIndependent
                && r.pool.contains(&any_v4(address))
                && (r.ports.0..=r.ports.1).contains(&port)
        };
        self.forward_of(address, protocol, port).is_some()
            || self.static_target(0, address).is_some()
            || self.spec.masquerade.iter().any(shares)
    }

    pub fn forward_of(&self, address: u32, protocol: u8, port: u16) -> Option<(u16, u32, u16)> {
        let matches = |f: &&nat::PortForward| {
            (bits(f.address), f.protocol) == (address, protocol) && (f.ports.0..=f.ports.1).contains(&port)
        };
        // The specs have one target each.
        let to = |f: &nat::PortForward| {
            let target = f.targets[0];
            (f.vpc.value(), bits(target.address), target.port + (port - f.ports.0))
        };
        self.spec.port_forwards.iter().find(matches).map(to)
    }

    pub fn rule(&self, vpc: u16, source: u32) -> Option<&nat::Masquerade> {
        let covers = |r: &&nat::Masquerade| {
            r.vpc.value() == vpc && (r.sources.is_empty() || r.sources.iter().any(|n| n.contains(&any_v4(source))))
        };
        self.spec.masquerade.iter().find(covers)
    }

    /// Some connection of the public port is with the address.
    fn has_met(&self, protocol: u8, lease: (u32, u16), remote: u32) -> bool {
        let with = |c: &Connection| c.arrives[usize::from(c.vrfs[0] != 0)].source;
        let ours = |c: &&Connection| c.arrives[0].protocol == protocol && c.lease == Some(lease);
        self.live.iter().filter(ours).any(|c| with(c) == remote)
    }

    pub fn is_public(&self, address: u32) -> bool {
        self.spec.masquerade.iter().any(|r| r.pool.contains(&any_v4(address)))
            || self.spec.port_forwards.iter().any(|f| bits(f.address) == address)
            || self.static_target(0, address).is_some()
    }

    /// Next hops of both directions, which arrive in `vrfs`; 0 leads back from the fabric's side.
    pub fn ways(routes: &Routes, vrfs: [u16; 2], leaves: &[Headers; 2], hash: u32) -> Result<[u32; 2], Drop> {
        let mut hops = [0; 2];
        for (d, hop) in hops.iter_mut().enumerate() {
            let (from, to) = (vrfs[d], vrfs[1 - d]);
            let way = routes.resolve(VrfId(if to == 0 { from } else { to }), leaves[d].destination, hash)?;
            let fits = match to {
                0 => way.vrf == VrfId(0) && matches!(way.kind, RouteKind::Unicast | RouteKind::Nat),
                _ => way.vrf != VrfId(0) && way.kind == RouteKind::Unicast,
            };
            if !fits {
                return Err(Drop::NoRoute);
            }
            *hop = way.next_hop.0;
        }
        Ok(hops)
    }

    /// A packet of a connection.
    pub fn hit(&mut self, (n, d): (usize, usize), flags: u8, now: Millis, packet: &[u8], payload: &[u8]) -> Fate {
        let c = &mut self.live[n];
        if let Some((_, reason)) = c.unrouted {
            return Fate::Dropped(reason);
        }
        c.packets[d] += 1;
        c.seen = tick(now);
        let before = c.state;
        let reply = d == 1;
        match c.arrives[0].protocol {
            TCP => {
                let opens = !reply && flags & (SYN | ACK | FIN | RST) == SYN;
                if c.state == State::Closing && opens {
                    (c.state, c.fins, c.before_reset) = (State::Unreplied, [false; 2], None);
                } else if flags & RST != 0 {
                    if c.state != State::Closing {
                        c.before_reset = Some(c.state);
                    }
                    c.state = State::Closing;
                } else {
                    if let Some(before) = c.before_reset.take() {
                        c.state = before;
                    }
                    c.fins[d] |= flags & FIN != 0;
                    if c.fins == [true; 2] {
                        c.state = State::Closing;
                    } else if c.state == State::Unreplied && reply {
                        c.state = State::Replied;
                    } else if c.state == State::Replied && !reply && flags & (SYN | ACK) == ACK {
                        c.state = State::Established;
                    }
                }
            }
            ICMP => {
                if reply {
                    c.state = State::Replied;
                }
            }
            _ => {
                if c.state == State::Unreplied && reply {
                    c.state = State::Replied;
                } else if c.state == State::Replied && c.packets[0] + c.packets[1] >= 4 {
                    c.state = State::Established;
                }
            }
        }
        let carried = !c.offloaded && c.arrives[0].protocol != GRE;
        let offload = before != c.state && c.state == State::Established && carried;
        let flags = if c.arrives[0].protocol == ICMP {
            packet[20]
        } else {
            flags
        };
        Fate::Sent(build(&Headers { flags, ..c.leaves[d] }, payload), c.hops[d], offload)
    }

    /// What a packet without a connection should come to, or the connection that it opens.
    pub fn opens(&self, vrf: u16, h: &Headers, routes: &Routes) -> Result<Opens, Fate> {
        let drop = |reason| Err(Fate::Dropped(reason));
        let way = match routes.resolve(VrfId(vrf), h.destination, h.source ^ h.destination) {
            Ok(way) => way,
            Err(reason) => return drop(reason),
        };
        let opening = match h.protocol {
            TCP if h.flags & (SYN | ACK | FIN | RST) != SYN => Err(Fate::Dropped(Drop::NatStateInvalid)),
            ICMP if h.flags != 8 => Err(Fate::Dropped(Drop::NatNoMapping)),
            _ => Ok(()),
        };
        // Another connection may have the answer's tuple.
        let to = |vrf, leaves: Headers, lease| match self.index(vrf, &answer(&leaves, 0)) {
            Some(_) => drop(Drop::NatNoMapping),
            None => Ok(Opens::To { vrf, leaves, lease }),
        };
        if vrf == 0 {
            if !self.is_public(h.destination) {
                return if way.kind == RouteKind::Nat {
                    drop(Drop::NatNoMapping)
                } else {
                    Err(Fate::Forwarded)
                };
            }
            let (vpc, destination, destination_port, lease) =
                if let Some((vpc, target, port)) = self.forward_of(h.destination, h.protocol, h.destination_port) {
                    (vpc, target, port, None)
                } else if let Some((vpc, target)) = self.static_target(0, h.destination) {
                    (vpc, target, h.destination_port, None)
                } else {
                    let lease = (h.destination, h.destination_port);
                    let open = |(inside, port): &&(Inside, (u32, u16))| {
                        inside.1 == h.protocol
                            && *port == lease
                            && self.mapping_of(*inside) == Some(lease)
                            && self
                                .rule(inside.0, inside.2)
                                .is_some_and(|r| match r.options.filtering {
                                    Filtering::EndpointIndependent => true,
                                    Filtering::AddressDependent => self.has_met(h.protocol, lease, h.source),
                                    Filtering::AddressAndPortDependent => false,
                                })
                    };
                    match self.mappings.iter().find(open) {
                        Some(((vpc, protocol, address, port), _)) if *protocol != ICMP => {
                            (*vpc, *address, *port, Some(lease))
                        }
                        _ => return drop(Drop::NatNoMapping),
                    }
                };
            opening?;
            return to(
                vpc,
                Headers {
                    destination,
                    destination_port,
                    ..*h
                },
                lease,
            );
        }
        if let Some((peer, destination)) = self.static_target(vrf, h.destination) {
            opening?;
            let source = self.static_source(vrf, peer, h.source).unwrap_or(h.source);
            return to(
                peer,
                Headers {
                    source,
                    destination,
                    ..*h
                },
                None,
            );
        }
        if way.vrf != VrfId(0) || !self.translates(vrf) {
            return Err(Fate::Forwarded);
        }
        let back = way.kind == RouteKind::Nat;
        if back && !(self.is_public(h.destination) && self.leads_back(h.destination, h.protocol, h.destination_port)) {
            return drop(Drop::NatNoMapping);
        }
        if let Some(source) = self.static_source(vrf, 0, h.source) {
            opening?;
            return to(0, Headers { source, ..*h }, None);
        }
        if self.rule(vrf, h.source).is_none() {
            return if back {
                drop(Drop::NatNoMapping)
            } else {
                Err(Fate::Forwarded)
            };
        }
        opening?;
        Ok(Opens::Masquerade)
    }

    /// True if the policy in force would make the connection.
    fn allows(&self, c: &Connection) -> bool {
        let [from, to] = [&c.arrives[0], &c.leaves[0]];
        if let Some((address, port)) = c.lease {
            let inside = if c.vrfs[0] == 0 { to.destination } else { from.source };
            return self.static_source(c.vpc, 0, inside).is_none()
                && self.forward_of(address, from.protocol, port).is_none()
                && self.rule(c.vpc, inside).is_some_and(|r| {
                    let port_fits =
                        (r.ports.0..=r.ports.1).contains(&port) && Self::determines(r, inside, address, port);
                    r.pool.contains(&any_v4(address))
                        && (port_fits || from.protocol == GRE)
                        && (c.vrfs[0] != 0 || r.options.filtering != Filtering::AddressAndPortDependent)
                });
        }
        if c.vrfs[0] == 0 {
            return match self.forward_of(from.destination, from.protocol, from.destination_port) {
                Some(end) => end == (c.vpc, to.destination, to.destination_port),
                None => {
                    self.static_target(0, from.destination) == Some((c.vpc, to.destination))
                        && from.destination_port == to.destination_port
                }
            };
        }
        let source = self.static_source(c.vrfs[0], c.vrfs[1], from.source);
        match c.vrfs[1] {
            0 => source == Some(to.source),
            peer => {
                source.unwrap_or(from.source) == to.source
                    && self.static_target(c.vrfs[0], from.destination) == Some((peer, to.destination))
            }
        }
    }

    /// Connections without a route.
    pub fn waiting(&self) -> HashSet<ConnectionId> {
        let unrouted = self.live.iter().filter(|c| c.unrouted.is_some());
        unrouted.map(|c| c.id).collect()
    }

    pub fn revalidate(&mut self, routes: &Routes, now: Millis) {
        let mut ended = vec![];
        for n in 0..self.live.len() {
            let c = self.live[n].clone();
            if !self.allows(&c) {
                ended.push(n);
                continue;
            }
            match Self::ways(routes, c.vrfs, &c.leaves, c.flow_hash) {
                Ok(hops) => (self.live[n].hops, self.live[n].unrouted) = (hops, None),
                Err(reason) => {
                    let since = c.unrouted.map_or(tick(now), |(since, _)| since);
                    self.live[n].unrouted = Some((since, reason));
                }
            }
        }
        ended.into_iter().rev().for_each(|n| self.end(n));
    }

    pub fn end(&mut self, n: usize) {
        let c = self.live.remove(n);
        if c.offloaded {
            self.zombies.push(c);
        }
        self.forget_mappings();
    }

    /// A mapping lasts as long as a connection holds its port.
    pub fn forget_mappings(&mut self) {
        let held: Vec<_> = self
            .live
            .iter()
            .chain(&self.zombies)
            .map(|c| (c.arrives[0].protocol, c.lease))
            .collect();
        self.mappings
            .retain(|((_, protocol, ..), lease)| held.contains(&(*protocol, Some(*lease))));
    }

    pub fn expire(&mut self, now: Millis) {
        for n in (0..self.live.len()).rev() {
            let c = &self.live[n];
            let own = self.spec.vpc_timers.iter().find(|(vpc, _)| vpc.value() == c.vpc);
            let timers = own.map_or(self.spec.timers, |(_, timers)| *timers);
            let idle = match (c.arrives[0].protocol, c.state) {
                (TCP, State::Established) => timers.tcp_established,
                (TCP, _) => timers.tcp_transitory,
                (UDP, _) => timers.udp,
                (ICMP, _) => timers.icmp,
                _ => timers.other,
            };
            let mut deadline = c.seen + u64::from(idle) * 10;
            if let Some((since, _)) = c.unrouted {
                deadline = deadline.min(since + u64::from(timers.unrouted_grace) * 10);
            }
            if tick(now) / 10 >= deadline.div_ceil(10) {
                self.end(n);
            }
        }
    }
}
