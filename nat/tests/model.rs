//! A naive NAT of lists, obviously right, beside the engine: random packets, time, routes, policies and offloads give
//! the same fates and the same bytes. Port choice is the engine's; the model only insists that it was allowed.

mod support;

use std::sync::Arc;

use nat::{ConnectionId, ConnectionView, Delta, Engine, Millis, OffloadState, Policy, PolicySpec, Resolver};
use net::{Drop, Generation, Prefix, RouteKind, VrfId};
use support::*;

/// Deterministic choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unreplied,
    Replied,
    Established,
    Closing,
}

#[derive(Debug, Clone)]
struct Connection {
    id: ConnectionId,
    vpc: u16,
    /// Headers of each direction as they arrive and as they leave; flags are not used.
    arrives: [Headers; 2],
    leaves: [Headers; 2],
    vrfs: [u16; 2],
    masqueraded: bool,
    flow_hash: u32,
    state: State,
    packets: [u64; 2],
    seen: u64,
    unrouted: Option<(u64, Drop)>,
    hops: [u32; 2],
    offloaded: bool,
}

#[derive(Default)]
struct Model {
    live: Vec<Connection>,
    zombies: Vec<Connection>,
    spec: PolicySpec,
}

fn same(a: &Headers, b: &Headers) -> bool {
    (a.protocol, a.source, a.destination, a.source_port, a.destination_port)
        == (b.protocol, b.source, b.destination, b.source_port, b.destination_port)
}

/// Tenths of a second since the engine's first time, which is 1.
fn tick(now: Millis) -> u64 {
    (now.0 - 1) / 100
}

impl Model {
    fn index(&self, vrf: u16, h: &Headers) -> Option<(usize, usize)> {
        let direction = |c: &Connection| (0..2).find(|d| c.vrfs[*d] == vrf && same(&c.arrives[*d], h));
        self.live
            .iter()
            .enumerate()
            .find_map(|(n, c)| direction(c).map(|d| (n, d)))
    }

    fn is_leased(&self, address: u32, protocol: u8, port: u16) -> bool {
        let holds = |c: &Connection| {
            c.masqueraded
                && (c.leaves[0].source, c.leaves[0].protocol, c.leaves[0].source_port) == (address, protocol, port)
        };
        self.live.iter().chain(&self.zombies).any(holds)
    }

    fn forward_of(&self, address: u32, protocol: u8, port: u16) -> Option<(u16, u32, u16)> {
        let matches = |f: &&nat::PortForward| (u32::from(f.address), f.protocol, f.port) == (address, protocol, port);
        let to = |f: &nat::PortForward| (f.vpc.value(), u32::from(f.target), f.target_port);
        self.spec.port_forwards.iter().find(matches).map(to)
    }

    fn rule(&self, vpc: u16, source: u32) -> Option<&nat::Masquerade> {
        let covers = |r: &&nat::Masquerade| {
            r.vpc.value() == vpc
                && (r.sources.is_empty() || r.sources.iter().any(|n| n.contains(&std::net::Ipv4Addr::from(source))))
        };
        self.spec.masquerade.iter().find(covers)
    }

    fn is_public(&self, address: u32) -> bool {
        self.spec.masquerade.iter().any(|r| r.pool.contains(&address.into()))
            || self.spec.port_forwards.iter().any(|f| u32::from(f.address) == address)
    }

    fn ways(routes: &Routes, vpc: u16, masqueraded: bool, leaves: &[Headers; 2], hash: u32) -> Result<[u32; 2], Drop> {
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
    fn hit(&mut self, (n, d): (usize, usize), flags: u8, now: Millis, packet: &[u8], payload: &[u8]) -> Fate {
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
                if flags & (FIN | RST) != 0 {
                    c.state = State::Closing;
                } else if c.state == State::Closing {
                    if !reply && flags & (SYN | ACK) == SYN {
                        c.state = State::Unreplied;
                    }
                } else if c.state == State::Unreplied && reply {
                    c.state = State::Replied;
                } else if c.state == State::Replied && !reply && flags & (SYN | ACK) == ACK {
                    c.state = State::Established;
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
    fn opens(&self, vrf: u16, h: &Headers, routes: &Routes) -> Result<(u16, Option<(u32, u16)>), Fate> {
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

    fn revalidate(&mut self, routes: &Routes, now: Millis) {
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

    fn end(&mut self, n: usize) {
        let c = self.live.remove(n);
        if c.offloaded {
            self.zombies.push(c);
        }
    }

    fn expire(&mut self, now: Millis) {
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

/// Both, side by side.
struct Pair {
    model: Model,
    engine: Engine,
    routes: Routes,
    now: Millis,
}

impl Pair {
    fn packet(&mut self, vrf: u16, h: &Headers, payload: &[u8]) {
        let packet = build(h, payload);
        let known = self.model.index(vrf, h);
        let fate = send(&mut self.engine, &self.routes, vrf, &packet, self.now);
        if let Some(at) = known {
            let expected = self.model.hit(
                at,
                if h.protocol == TCP { h.flags } else { 0 },
                self.now,
                &packet,
                payload,
            );
            assert_eq!(fate, expected, "{h:?} of {:?}", self.model.live[at.0]);
            return;
        }
        let (vpc, target) = match self.model.opens(vrf, h, &self.routes) {
            Ok(opens) => opens,
            Err(expected) => return assert_eq!(fate, expected, "vrf {vrf} {h:?}"),
        };
        let hash = h.source ^ h.destination;
        let leaves = match target {
            Some((destination, destination_port)) => Headers {
                destination,
                destination_port,
                ..*h
            },
            None => *h,
        };
        let back = answer(h, 0);
        if let Err(reason) = Model::ways(&self.routes, vpc, target.is_none(), &[leaves, back], hash) {
            return assert_eq!(fate, Fate::Dropped(reason), "vrf {vrf} {h:?}");
        }
        if fate == Fate::Dropped(Drop::NatPortsExhausted) {
            return self.check_exhausted(vpc, h);
        }
        let sent = fate.headers();
        let leaves = if target.is_some() {
            leaves
        } else {
            self.check_port(vpc, h, &sent)
        };
        let outer = if target.is_some() {
            answer(&leaves, 0)
        } else {
            answer(&sent, 0)
        };
        let vrfs = if target.is_some() { [0, vpc] } else { [vpc, 0] };
        let key = nat::FlowKey::v4(
            VrfId(vrf),
            h.protocol,
            h.source,
            h.destination,
            h.source_port,
            h.destination_port,
        );
        let id = self.engine.id_of(self.engine.lookup(&key).expect("just made"));
        let (arrives, leaves) = ([*h, outer], [leaves, back]);
        let hops = Model::ways(&self.routes, vpc, target.is_none(), &leaves, hash).expect("just resolved");
        let masqueraded = target.is_none();
        let (state, seen) = (State::Unreplied, tick(self.now));
        self.model.live.push(Connection {
            id,
            vpc,
            arrives,
            leaves,
            vrfs,
            masqueraded,
            flow_hash: hash,
            state,
            packets: [0; 2],
            seen,
            unrouted: None,
            hops,
            offloaded: false,
        });
        let at = (self.model.live.len() - 1, 0);
        let expected = self.model.hit(
            at,
            if h.protocol == TCP { h.flags } else { 0 },
            self.now,
            &packet,
            payload,
        );
        assert_eq!(fate, expected);
    }

    /// The engine's choice of a port: one of the rule's, nobody else's, and the source's own where that is certain.
    fn check_port(&self, vpc: u16, h: &Headers, sent: &Headers) -> Headers {
        let rule = self.model.rule(vpc, h.source).expect("it opens");
        let (address, port) = (sent.source, sent.source_port);
        assert!(rule.pool.contains(&address.into()) && (rule.ports.0..=rule.ports.1).contains(&port));
        assert!(
            !self.model.is_leased(address, h.protocol, port),
            "{address:x}:{port} has two owners"
        );
        assert_eq!(self.model.forward_of(address, h.protocol, port), None);
        let own = h.source_port;
        let free =
            |a: u32| !self.model.is_leased(a, h.protocol, own) && self.model.forward_of(a, h.protocol, own).is_none();
        if (rule.ports.0..=rule.ports.1).contains(&own) && free(address) && rule.pool.len() == 1 {
            let outer = Headers {
                destination: address,
                destination_port: own,
                ..answer(h, 0)
            };
            assert!(
                port == own || self.model.index(0, &outer).is_some(),
                "{own} was free and {port} was taken"
            );
        }
        let destination_port = if h.protocol == ICMP { port } else { h.destination_port };
        Headers {
            source: address,
            source_port: port,
            destination_port,
            ..*h
        }
    }

    /// Every port of the rule is taken, or its reply would be another connection's.
    fn check_exhausted(&self, vpc: u16, h: &Headers) {
        let rule = self.model.rule(vpc, h.source).expect("it opens");
        for address in rule.pool.iter().map(|a| u32::from(*a)) {
            for port in rule.ports.0..=rule.ports.1 {
                let taken = self.model.is_leased(address, h.protocol, port)
                    || self.model.forward_of(address, h.protocol, port).is_some();
                let outer = Headers {
                    destination: address,
                    destination_port: port,
                    ..answer(h, 0)
                };
                assert!(
                    taken || self.model.index(0, &outer).is_some(),
                    "{address:x}:{port} is free"
                );
            }
        }
    }

    fn compare(&self) {
        let mut views: Vec<ConnectionView> = vec![];
        assert_eq!(self.engine.snapshot(0, usize::MAX, &mut views), None);
        assert_eq!(views.len(), self.model.live.len() + self.model.zombies.len());
        for c in &self.model.live {
            let view = self.engine.connection(c.id).expect("lives");
            let state = match c.state {
                State::Unreplied => nat::ConnectionState::Unreplied,
                State::Replied => nat::ConnectionState::Replied,
                State::Established => nat::ConnectionState::Established,
                State::Closing => nat::ConnectionState::Closing,
            };
            assert_eq!(
                (view.state, view.packets, view.unrouted),
                (state, c.packets, c.unrouted.is_some()),
                "{c:?}"
            );
            assert_eq!(u32::from(view.translated.source), c.leaves[0].source);
            if c.unrouted.is_none() {
                assert_eq!(view.next_hops.map(|n| n.0), c.hops);
            }
        }
        let stats = self.engine.stats();
        let leases = self
            .model
            .live
            .iter()
            .chain(&self.model.zombies)
            .filter(|c| c.masqueraded)
            .count();
        assert_eq!(
            stats
                .ports
                .iter()
                .map(|p| (p.tcp + p.udp + p.icmp) as usize)
                .sum::<usize>(),
            leases
        );
        assert_eq!(
            (stats.connections as usize, stats.zombies as usize),
            (self.model.live.len(), self.model.zombies.len())
        );
        assert_eq!(
            stats.unrouted as usize,
            self.model.live.iter().filter(|c| c.unrouted.is_some()).count()
        );
        assert_eq!(
            stats.tcp.total() + stats.udp.total() + stats.icmp.total(),
            self.model.live.len() as u64
        );
    }

    fn finish_pass(&mut self, budget: usize) {
        while self.engine.is_revalidating() {
            self.engine.revalidate(budget, &self.routes, &mut |_, _| {});
        }
    }
}

fn specs() -> Vec<PolicySpec> {
    let timers = nat::Timers {
        tcp_established: 200,
        tcp_transitory: 20,
        udp: 30,
        icmp: 10,
        unrouted_grace: 8,
    };
    let spec = |masquerade, port_forwards| PolicySpec {
        masquerade,
        port_forwards,
        timers,
        pick_up: false,
    };
    let web = forward(2, TCP, "192.0.2.7", 80, "10.0.0.6", 1000);
    let dns = forward(1, UDP, "192.0.2.1", 1003, "10.0.0.7", 1001);
    let mut narrow = masquerade(1, &["192.0.2.2"], (1000, 1007));
    narrow.sources = vec!["10.0.0.6/31".parse().expect("a prefix")];
    vec![
        spec(
            vec![
                masquerade(1, &["192.0.2.1"], (1000, 1004)),
                masquerade(2, &["192.0.2.1"], (1000, 1007)),
            ],
            vec![web.clone()],
        ),
        spec(
            vec![
                masquerade(1, &["192.0.2.1", "192.0.2.2"], (1002, 1011)),
                masquerade(2, &["192.0.2.2"], (1000, 1019)),
            ],
            vec![web.clone(), dns.clone()],
        ),
        spec(vec![narrow, masquerade(1, &["192.0.2.1"], (1000, 1015))], vec![dns]),
        spec(vec![masquerade(2, &["192.0.2.3"], (1000, 1003))], vec![]),
        spec(vec![], vec![web]),
    ]
}

fn run(seed: u64, steps: usize) -> nat::Stats {
    let mut dice = Dice(seed);
    let specs = specs();
    let compile = |spec: &PolicySpec| Arc::new(Policy::compile(spec.clone()).expect("valid"));
    let model = Model {
        spec: specs[0].clone(),
        ..Model::default()
    };
    let mut pair = Pair {
        model,
        engine: engine(4000, compile(&specs[0])),
        routes: routes(),
        now: Millis(1),
    };
    let remotes = ["198.51.100.1", "198.51.100.2", "203.0.113.3"].map(ip);
    let hosts = ["10.0.0.5", "10.0.0.6", "10.0.0.7"].map(ip);
    for _ in 0..steps {
        match dice.below(40) {
            0 => {
                pair.finish_pass(7);
                pair.now.0 += dice.of(&[50, 900, 4_000, 12_000, 250_000]);
                pair.model.expire(pair.now);
                pair.engine.expire(pair.now, usize::MAX, &mut |_, _| {});
            }
            1 => {
                // Routes come, go and lead elsewhere; passes are left unfinished.
                let (vrf, address, length) = dice.of(&[
                    (0, remotes[0], 32),
                    (0, remotes[1], 24),
                    (0, 0, 0),
                    (1, hosts[0], 32),
                    (2, 0, 0),
                    (1, remotes[2], 32),
                ]);
                let to = dice.of(&[
                    None,
                    Some(To::Hop(7)),
                    Some(To::Either(8, 9)),
                    Some(To::Fail(Drop::Blackhole)),
                    Some(To::Vrf(0)),
                ]);
                let length = length as u8;
                let address = if length == 24 { address & !255 } else { address };
                // A route of the default VRF never leads back into it, and a VPC's own stay its own or lead there.
                let to = match (vrf, to) {
                    (0, Some(To::Vrf(_))) => Some(To::Hop(9)),
                    (0, to) => to,
                    (_, Some(To::Hop(_) | To::Either(..))) if address != hosts[0] => Some(To::Vrf(0)),
                    (_, to) => to,
                };
                pair.routes.set(vrf, address, length, to);
                pair.routes.generation += 1;
                let prefix = Prefix::containing(address.to_be_bytes().into(), length).expect("at most 32");
                let delta = Delta {
                    prefixes: vec![(VrfId(vrf), prefix)],
                    ..Delta::default()
                };
                pair.engine.on_generation(Generation(pair.routes.generation), &delta);
                let (routes, now) = (pair.routes.clone(), pair.now);
                pair.model.revalidate(&routes, now);
            }
            2 if dice.below(4) == 0 => {
                pair.finish_pass(7);
                let spec = dice.of(&[0usize, 1, 2, 3, 4]);
                pair.model.spec = specs[spec].clone();
                pair.engine.set_policy(compile(&specs[spec]));
                pair.routes.generation += 1;
                let delta = Delta {
                    policy: true,
                    ..Delta::default()
                };
                pair.engine.on_generation(Generation(pair.routes.generation), &delta);
                let (routes, now) = (pair.routes.clone(), pair.now);
                pair.model.revalidate(&routes, now);
                pair.finish_pass(5);
                pair.compare();
            }
            3 if !pair.model.live.is_empty() => {
                let n = dice.below(pair.model.live.len() as u64) as usize;
                let c = &mut pair.model.live[n];
                c.offloaded = dice.below(3) > 0;
                let state = if c.offloaded {
                    OffloadState::Live
                } else {
                    OffloadState::None
                };
                assert!(pair.engine.set_offload(c.id, state));
            }
            4 if !pair.model.zombies.is_empty() => {
                let n = dice.below(pair.model.zombies.len() as u64) as usize;
                pair.engine.release(pair.model.zombies.remove(n).id);
            }
            5 => {
                pair.engine.revalidate(5, &pair.routes, &mut |_, _| {});
            }
            6..30 if !pair.model.live.is_empty() => {
                // A packet of a connection, in either direction.
                let n = dice.below(pair.model.live.len() as u64) as usize;
                let (c, d) = (&pair.model.live[n], dice.below(2) as usize);
                let flags = match c.arrives[d].protocol {
                    TCP => dice.of(&[ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST]),
                    ICMP => dice.of(&[0, 8]),
                    _ => 0,
                };
                let (h, vrf) = (Headers { flags, ..c.arrives[d] }, c.vrfs[d]);
                pair.packet(vrf, &h, b"data");
            }
            _ => {
                let protocol = dice.of(&[TCP, TCP, UDP, UDP, ICMP]);
                let vrf = dice.of(&[0, 1, 1, 2, 2]);
                let outside = dice.of(&remotes);
                let public = dice.of(&["192.0.2.1", "192.0.2.2", "192.0.2.7"].map(ip));
                let inside = dice.of(&hosts);
                let near = 998 + dice.below(12) as u16;
                let far = dice.of(&[80, 1000, 1001, 1003]);
                let flags = match protocol {
                    TCP => dice.of(&[SYN, SYN, SYN, ACK, RST]),
                    ICMP => dice.of(&[8, 8, 8, 0]),
                    _ => 0,
                };
                let (source, destination) = match vrf {
                    0 => (outside, dice.of(&[public, public, public, outside ^ 1])),
                    _ => (inside, dice.of(&[outside, outside, outside, public, hosts[0] + 9])),
                };
                let destination_port = if protocol == ICMP { near } else { far };
                let h = Headers {
                    protocol,
                    source,
                    destination,
                    source_port: near,
                    destination_port,
                    flags,
                };
                pair.packet(vrf, &h, b"first");
            }
        }
    }
    pair.finish_pass(100);
    pair.compare();
    pair.now.0 += 100_000_000;
    pair.model.expire(pair.now);
    pair.engine.expire(pair.now, usize::MAX, &mut |_, _| {});
    pair.model.zombies.drain(..).for_each(|c| pair.engine.release(c.id));
    pair.compare();
    let stats = pair.engine.stats();
    assert_eq!(
        (stats.connections, stats.zombies, stats.created),
        (0, 0, stats.ended.total())
    );
    stats
}

#[test]
fn the_engine_agrees_with_the_model() {
    let (mut created, mut exhausted, mut unrouted, mut policy) = (0, 0, 0, 0);
    for seed in 0..24 {
        let stats = run(seed, 4_000);
        created += stats.created;
        exhausted += stats.ports_exhausted;
        unrouted += stats.ended.unrouted;
        policy += stats.ended.policy;
    }
    // The sequences are worth something only if they reach these.
    assert!(
        created > 2000 && exhausted > 50 && unrouted > 50 && policy > 50,
        "{created} {exhausted} {unrouted} {policy}"
    );
}
