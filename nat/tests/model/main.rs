//! A naive NAT of lists, obviously right, beside the engine: random packets, time, routes, policies and offloads give
//! the same fates and the same bytes. Port choice is the engine's; the model only insists that it was allowed.

mod naive;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use naive::{Connection, Model, State, tick};
use nat::{ConnectionView, Delta, Engine, Millis, OffloadState, Policy, PolicySpec};
use net::{Drop, Generation, Prefix, VrfId};
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
            fins: [false; 2],
            before_reset: None,
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
            stats.tcp.total() + stats.udp.total() + stats.icmp.total() + stats.other.total(),
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
        other: 40,
        unrouted_grace: 8,
    };
    let spec = |masquerade, port_forwards| PolicySpec {
        masquerade,
        port_forwards,
        timers,
        vpc_timers: vec![],
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
