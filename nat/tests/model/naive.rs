//! The naive NAT: a list of connections, searched from end to end.
#![allow(unreachable_pub, reason = "a module of one test")]

use nat::{ConnectionId, Millis, PolicySpec, Resolver};
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
    pub masqueraded: bool,
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

#[derive(Default)]
pub struct Model {
    pub live: Vec<Connection>,
    pub zombies: Vec<Connection>,
    pub spec: PolicySpec,
}

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
        let holds = |c: &Connection| {
            c.masqueraded
                && (c.leaves[0].source, c.leaves[0].protocol, c.leaves[0].source_port) == (address, protocol, port)
        };
        self.live.iter().chain(&self.zombies).any(holds)
    }

    pub fn forward_of(&self, address: u32, protocol: u8, port: u16) -> Option<(u16, u32, u16)> {
        let matches = |f: &&nat::PortForward| (u32::from(f.address), f.protocol, f.port) == (address, protocol, port);
        let to = |f: &nat::PortForward| (f.vpc.value(), u32::from(f.target), f.target_port);
        self.spec.port_forwards.iter().find(matches).map(to)
    }

    pub fn rule(&self, vpc: u16, source: u32) -> Option<&nat::Masquerade> {
        let covers = |r: &&nat::Masquerade| {
            r.vpc.value() == vpc
                && (r.sources.is_empty() || r.sources.iter().any(|n| n.contains(&std::net::Ipv4Addr::from(source))))
        };
        self.spec.masquerade.iter().find(covers)
    }

    pub fn is_public(&self, address: u32) -> bool {
        self.spec.masquerade.iter().any(|r| r.pool.contains(&address.into()))
            || self.spec.port_forwards.iter().any(|f| u32::from(f.address) == address)
    }

    pub fn ways(
        routes: &Routes,
        vpc: u16,
        masqueraded: bool,
        leaves: &[Headers; 2],
        hash: u32,
    ) -> Result<[u32; 2], Drop> {
        let mut hops = [0; 2];
        for (d, hop) in hops.iter_mut().enumerate() {
            let way = routes.resolve(VrfId(vpc), leaves[d].destination, hash)?;
            let outward = masqueraded == (d == 0);
            if way.kind != RouteKind::Unicast || (way.vrf == VrfId(0)) != outward {
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
            UDP => {
                if c.state == State::Unreplied && reply {
                    c.state = State::Replied;
                } else if c.state == State::Replied && c.packets[0] + c.packets[1] >= 4 {
                    c.state = State::Established;
                }
            }
            _ => {
                if reply {
                    c.state = State::Replied;
                }
            }
        }
        let offload = before != c.state && c.state == State::Established && !c.offloaded;
        let flags = if c.arrives[0].protocol == ICMP {
            packet[20]
        } else {
            flags
        };
        Fate::Sent(build(&Headers { flags, ..c.leaves[d] }, payload), c.hops[d], offload)
    }

    /// What a packet without a connection should come to; `Ok` if a connection: (VPC, target of a forward).
    pub fn opens(&self, vrf: u16, h: &Headers, routes: &Routes) -> Result<(u16, Option<(u32, u16)>), Fate> {
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
        if vrf == 0 {
            if !self.is_public(h.destination) {
                return if way.kind == RouteKind::Nat {
                    drop(Drop::NatNoMapping)
                } else {
                    Err(Fate::Forwarded)
                };
            }
            let Some((vpc, target, port)) = self.forward_of(h.destination, h.protocol, h.destination_port) else {
                return drop(Drop::NatNoMapping);
            };
            opening?;
            let reply = Headers {
                protocol: h.protocol,
                source: target,
                destination: h.source,
                source_port: port,
                destination_port: h.source_port,
                flags: 0,
            };
            if self.index(vpc, &reply).is_some() {
                return drop(Drop::NatNoMapping);
            }
            return Ok((vpc, Some((target, port))));
        }
        if way.vrf != VrfId(0) {
            return Err(Fate::Forwarded);
        }
        if way.kind == RouteKind::Nat {
            let translates = self.spec.masquerade.iter().any(|r| r.vpc.value() == vrf)
                || self.spec.port_forwards.iter().any(|f| f.vpc.value() == vrf);
            return if translates {
                drop(Drop::NatNoMapping)
            } else {
                Err(Fate::Forwarded)
            };
        }
        if self.rule(vrf, h.source).is_none() {
            return Err(Fate::Forwarded);
        }
        opening?;
        Ok((vrf, None))
    }

    pub fn revalidate(&mut self, routes: &Routes, now: Millis) {
        let mut ended = vec![];
        for n in 0..self.live.len() {
            let c = self.live[n].clone();
            let outside = c.leaves[0];
            let allowed = if c.masqueraded {
                self.rule(c.vpc, c.arrives[0].source).is_some_and(|r| {
                    r.pool.contains(&outside.source.into()) && (r.ports.0..=r.ports.1).contains(&outside.source_port)
                }) && self
                    .forward_of(outside.source, outside.protocol, outside.source_port)
                    .is_none()
            } else {
                let to = &c.arrives[0];
                self.forward_of(to.destination, to.protocol, to.destination_port)
                    == Some((c.vpc, outside.destination, outside.destination_port))
            };
            if !allowed {
                ended.push(n);
                continue;
            }
            match Self::ways(routes, c.vpc, c.masqueraded, &c.leaves, c.flow_hash) {
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
    }

    pub fn expire(&mut self, now: Millis) {
        let timers = self.spec.timers;
        for n in (0..self.live.len()).rev() {
            let c = &self.live[n];
            let idle = match (c.arrives[0].protocol, c.state) {
                (TCP, State::Established) => timers.tcp_established,
                (TCP, _) => timers.tcp_transitory,
                (UDP, _) => timers.udp,
                _ => timers.icmp,
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
