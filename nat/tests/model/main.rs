//! A naive NAT of lists, obviously right, beside the engine: random packets, time, routes, policies and offloads give
//! the same fates and the same bytes. Port choice is the engine's; the model only insists that it was allowed.

mod naive;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use naive::{Connection, GRE, Model, Opens, State, tick};
use nat::{
    ConnectionView, Delta, Engine, Filtering, Mapping, Masquerade, Millis, OffloadState, Policy, PolicySpec,
    PoolOptions, PortBlocks, PortChoice,
};
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
    capacity: usize,
    routes: Routes,
    now: Millis,
    reached: Reached,
}

/// Connections made, by what makes them unusual.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    /// From a VPC through a public end into a VPC.
    hairpin: u32,
    /// Between VPCs, by static NAT.
    peer: u32,
    /// To or from an address of static NAT in the default VRF.
    fixed: u32,
    /// Opened from outside through a mapping.
    let_in: u32,
    /// On a port that another connection has, too.
    shared: u32,
    /// Masqueraded by address alone.
    plain: u32,
    /// In the place of another one, given up for want of room.
    evicted: u32,
    /// Refused for want of room.
    refused: u32,
}

impl Pair {
    /// A packet, and once more as from the fabric if it leaves a VPC for a public end.
    fn packet(&mut self, vrf: u16, h: &Headers, payload: &[u8]) {
        let fate = self.step(vrf, h, payload);
        if let Fate::Sent(_, 0, _) = fate {
            assert_ne!(vrf, 0);
            self.reached.hairpin += 1;
            assert!(!matches!(self.step(0, &fate.headers(), payload), Fate::Sent(_, 0, _)));
        }
    }

    fn step(&mut self, vrf: u16, h: &Headers, payload: &[u8]) -> Fate {
        let packet = build(h, payload);
        let flags = if h.protocol == TCP { h.flags } else { 0 };
        let known = self.model.index(vrf, h);
        let fate = send(&mut self.engine, &self.routes, vrf, &packet, self.now);
        if let Some(at) = known {
            let expected = self.model.hit(at, flags, self.now, &packet, payload);
            assert_eq!(fate, expected, "{h:?} of {:?}", self.model.live[at.0]);
            return fate;
        }
        let opens = match self.model.opens(vrf, h, &self.routes) {
            Ok(opens) => opens,
            Err(expected) => {
                assert_eq!(fate, expected, "vrf {vrf} {h:?}");
                return fate;
            }
        };
        let hash = h.source ^ h.destination;
        let (to, there) = match &opens {
            Opens::To { vrf, leaves, .. } => (*vrf, *leaves),
            Opens::Masquerade => (0, *h),
        };
        let (vrfs, back) = ([vrf, to], answer(h, 0));
        if let Err(reason) = Model::ways(&self.routes, vrfs, &[there, back], hash) {
            assert_eq!(fate, Fate::Dropped(reason), "vrf {vrf} {h:?}");
            return fate;
        }
        if !self.make_room() {
            assert_eq!(fate, Fate::Dropped(Drop::NatTableFull), "vrf {vrf} {h:?}");
            self.reached.refused += 1;
            return fate;
        }
        if let Opens::To { lease: Some(lease), .. } = opens
            && !self
                .model
                .mappings
                .iter()
                .any(|((_, protocol, ..), port)| *protocol == h.protocol && *port == lease)
        {
            // What made room was the mapping's last connection.
            assert_eq!(fate, Fate::Dropped(Drop::NatNoMapping), "vrf {vrf} {h:?}");
            return fate;
        }
        if fate == Fate::Dropped(Drop::NatPortsExhausted) && matches!(opens, Opens::Masquerade) {
            self.check_exhausted(vrf, h);
            return fate;
        }
        let (there, lease) = match opens {
            Opens::To { leaves, lease, .. } => (leaves, lease),
            Opens::Masquerade => {
                let leaves = self.check_port(vrf, h, &fate.headers());
                (leaves, Some((leaves.source, leaves.source_port)))
            }
        };
        let vpc = if vrf == 0 { to } else { vrf };
        if let (Some(lease), 1..) = (lease, vrf)
            && h.protocol != GRE
            && self
                .model
                .rule(vpc, h.source)
                .is_some_and(|r| r.options.mapping == Mapping::EndpointIndependent)
        {
            let inside = (vpc, h.protocol, h.source, h.source_port);
            self.model.mappings.retain(|(owner, _)| *owner != inside);
            self.model.mappings.push((inside, lease));
        }
        let shares = |(address, port)| self.model.is_leased(address, h.protocol, port);
        self.reached.peer += u32::from(vrf != 0 && to != 0);
        self.reached.let_in += u32::from(vrf == 0 && lease.is_some());
        self.reached.shared += u32::from(h.protocol != GRE && lease.is_some_and(shares));
        self.reached.plain += u32::from(h.protocol == GRE && lease.is_some());
        self.reached.fixed += u32::from(
            self.model.static_target(vrf, h.destination).is_some() && vrf == 0
                || to == 0 && self.model.static_source(vrf, 0, h.source).is_some(),
        );
        let key = nat::FlowKey::v4(
            VrfId(vrf),
            h.protocol,
            h.source,
            h.destination,
            h.source_port,
            h.destination_port,
        );
        let id = self.engine.id_of(self.engine.lookup(&key).expect("just made"));
        let (arrives, leaves) = ([*h, answer(&there, 0)], [there, back]);
        let hops = Model::ways(&self.routes, vrfs, &leaves, hash).expect("just resolved");
        let (state, seen) = (State::Unreplied, tick(self.now));
        self.model.live.push(Connection {
            id,
            vpc,
            arrives,
            leaves,
            vrfs,
            lease,
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
        let expected = self.model.hit(at, flags, self.now, &packet, payload);
        assert_eq!(fate, expected);
        fate
    }

    /// What a full table gives up for one more connection: one of the least valuable that the NIC does not carry; which of
    /// several is the engine's choice. False if there is none.
    fn make_room(&mut self) -> bool {
        if self.model.live.len() + self.model.zombies.len() < self.capacity {
            return true;
        }
        let worth = |c: &Connection| match c.state {
            State::Unreplied => Some(0),
            State::Replied | State::Closing => Some(1),
            State::Established => None,
        };
        let may_go = self.model.live.iter().filter(|c| !c.offloaded);
        let least = may_go.filter_map(worth).min();
        let gone = |c: &Connection| self.engine.connection(c.id).is_none();
        let gone: Vec<usize> = (0..self.model.live.len())
            .filter(|n| gone(&self.model.live[*n]))
            .collect();
        let Some(least) = least else {
            assert_eq!(gone, []);
            return false;
        };
        let [n] = gone[..] else {
            panic!("one makes room, not {}", gone.len())
        };
        let c = &self.model.live[n];
        assert_eq!((worth(c), c.offloaded), (Some(least), false), "{c:?}");
        self.model.end(n);
        self.reached.evicted += 1;
        true
    }

    /// The engine's choice of a port: its mapping's, or one of the rule's, nobody else's, and the source's own where that
    /// is certain.
    fn check_port(&self, vpc: u16, h: &Headers, sent: &Headers) -> Headers {
        let rule = self.model.rule(vpc, h.source).expect("it opens");
        let (address, port) = (sent.source, sent.source_port);
        let destination_port = if h.protocol == ICMP { port } else { h.destination_port };
        let leaves = Headers {
            source: address,
            source_port: port,
            destination_port,
            ..*h
        };
        if h.protocol == GRE {
            assert!(rule.pool.contains(&any_v4(address)), "{address:x}");
            assert_eq!(
                self.model.index(0, &answer(&leaves, 0)),
                None,
                "{leaves:?} has two owners"
            );
            return leaves;
        }
        if let Some(mapping) = self.model.mapping_of((vpc, h.protocol, h.source, h.source_port)) {
            assert_eq!((address, port), mapping);
            return leaves;
        }
        assert!(rule.pool.contains(&any_v4(address)) && (rule.ports.0..=rule.ports.1).contains(&port));
        if self.model.is_leased(address, h.protocol, port) {
            assert_eq!(
                rule.options.mapping,
                Mapping::Overloading,
                "{address:x}:{port} has two owners"
            );
            assert_eq!(
                self.model.index(0, &answer(&leaves, 0)),
                None,
                "{leaves:?} has two owners"
            );
            return leaves;
        }
        self.check_choice(rule, h, (address, port));
        if rule.options.choice != PortChoice::Free {
            return leaves;
        }
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
        leaves
    }

    /// The port is one that the subscriber may have.
    fn check_choice(&self, rule: &Masquerade, h: &Headers, (address, port): (u32, u16)) {
        match rule.options.choice {
            PortChoice::Free => {}
            PortChoice::Deterministic => {
                let mut subscribers = rule
                    .sources
                    .iter()
                    .flat_map(|net| (bits(net.network())..=bits(net.broadcast())).collect::<Vec<_>>());
                let place = subscribers.position(|address| address == h.source).expect("covered");
                let all: usize = rule.sources.iter().map(|net| 1 << (32 - net.prefix_len())).sum();
                let each = all.div_ceil(rule.pool.len());
                let ports = usize::from(rule.ports.1 - rule.ports.0 + 1) / each;
                assert_eq!(address, bits(rule.pool[place / each]));
                assert_eq!((usize::from(port - rule.ports.0)) / ports, place % each);
            }
            PortChoice::Blocks(blocks) => {
                let block_of = |port: u16| (port - rule.ports.0) / blocks.size;
                for c in self.model.live.iter().chain(&self.model.zombies) {
                    let inside = if c.vrfs[0] == 0 {
                        c.leaves[0].destination
                    } else {
                        c.arrives[0].source
                    };
                    let Some((theirs, at)) = c.lease.filter(|(_, at)| (rule.ports.0..=rule.ports.1).contains(at))
                    else {
                        continue;
                    };
                    if (c.vpc, inside) != (rule.vpc.value(), h.source) {
                        assert_ne!(
                            (theirs, block_of(at)),
                            (address, block_of(port)),
                            "a block has two owners"
                        );
                    }
                }
            }
        }
    }

    /// Every port of the rule is taken, or its reply would be another connection's.
    fn check_exhausted(&self, vpc: u16, h: &Headers) {
        let rule = self.model.rule(vpc, h.source).expect("it opens");
        if rule.options.choice != PortChoice::Free {
            return;
        }
        for address in rule.pool.iter().map(|a| bits(*a)) {
            if h.protocol == GRE {
                let outer = Headers {
                    destination: address,
                    ..answer(h, 0)
                };
                assert!(self.model.index(0, &outer).is_some(), "{address:x} is free");
                continue;
            }
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
            assert_eq!(bits(view.translated.source), c.leaves[0].source);
            if c.unrouted.is_none() {
                assert_eq!(view.next_hops.map(|n| n.0), c.hops);
            }
        }
        let stats = self.engine.stats();
        let held = self.model.live.iter().chain(&self.model.zombies);
        let leases: std::collections::HashSet<_> = held
            .filter(|c| c.arrives[0].protocol != GRE)
            .filter_map(|c| Some((c.arrives[0].protocol, c.lease?)))
            .collect();
        let in_use: u32 = stats.ports.iter().map(|p| p.tcp + p.udp + p.icmp).sum();
        assert_eq!(in_use as usize, leases.len());
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
        // A VPC of its own mind.
        vpc_timers: vec![(
            vpc(2),
            nat::Timers {
                udp: 12,
                other: 7,
                tcp_transitory: 40,
                ..timers
            },
        )],
        ..PolicySpec::default()
    };
    let shared = |rule, filtering| Masquerade {
        options: PoolOptions {
            mapping: Mapping::EndpointIndependent,
            filtering,
            ..PoolOptions::default()
        },
        ..rule
    };
    let chosen = |rule, choice| Masquerade {
        sources: vec!["10.0.0.4/30".parse().expect("a prefix")],
        options: PoolOptions {
            choice,
            ..PoolOptions::default()
        },
        ..rule
    };
    let (open, closed) = (Filtering::EndpointIndependent, Filtering::AddressAndPortDependent);
    let by_address = Filtering::AddressDependent;
    let web = forward(2, TCP, "192.0.2.7", 80, "10.0.0.6", 1000);
    let range = nat::PortForward {
        ports: (1000, 1005),
        ..forward(1, TCP, "192.0.2.7", 1000, "10.0.0.5", 2000)
    };
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
        spec(vec![], vec![web.clone(), range]),
        PolicySpec {
            statics: vec![
                fixed(1, "10.0.0.7/32", "192.0.2.9/32", None),
                fixed(1, "10.0.0.4/30", "100.64.1.4/30", Some(2)),
                fixed(2, "10.0.0.4/30", "100.64.2.4/30", Some(1)),
            ],
            ..spec(
                vec![
                    shared(masquerade(1, &["192.0.2.1", "192.0.2.2"], (1000, 1003)), open),
                    shared(masquerade(2, &["192.0.2.2"], (1004, 1007)), closed),
                ],
                vec![web.clone()],
            )
        },
        PolicySpec {
            statics: vec![fixed(2, "10.0.0.4/30", "100.64.2.4/30", Some(1))],
            ..spec(
                vec![
                    shared(masquerade(1, &["192.0.2.1"], (1000, 1011)), by_address),
                    shared(masquerade(2, &["192.0.2.1", "192.0.2.2"], (1000, 1011)), open),
                ],
                vec![web.clone()],
            )
        },
        spec(
            vec![
                chosen(
                    masquerade(1, &["192.0.2.1", "192.0.2.2"], (1000, 1015)),
                    PortChoice::Blocks(PortBlocks {
                        size: 4,
                        count: 2,
                        quarantine: 0,
                    }),
                ),
                chosen(masquerade(2, &["192.0.2.3"], (1000, 1015)), PortChoice::Deterministic),
            ],
            vec![web],
        ),
        spec(
            vec![Masquerade {
                options: PoolOptions {
                    mapping: Mapping::Overloading,
                    ..PoolOptions::default()
                },
                ..masquerade(1, &["192.0.2.1"], (1000, 1003))
            }],
            vec![],
        ),
    ]
}

fn run(seed: u64, steps: usize, capacity: u32) -> (nat::Stats, Reached) {
    let mut dice = Dice(seed);
    let specs = specs();
    let compile = |spec: &PolicySpec| Arc::new(Policy::compile(spec.clone()).expect("valid"));
    let model = Model {
        spec: specs[0].clone(),
        ..Model::default()
    };
    let mut pair = Pair {
        model,
        engine: engine(capacity, compile(&specs[0])),
        capacity: capacity as usize,
        routes: routes(),
        now: Millis(1),
        reached: Reached::default(),
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
                let waiting = pair.model.waiting();
                pair.model.revalidate(&routes, now);
                if !waiting.is_subset(&pair.model.waiting()) {
                    // A route that comes and goes within one pass ends no wait; here each one is seen.
                    pair.finish_pass(7);
                }
            }
            2 if dice.below(4) == 0 => {
                pair.finish_pass(7);
                let spec = dice.below(specs.len() as u64) as usize;
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
                pair.model.forget_mappings();
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
                let protocol = dice.of(&[TCP, TCP, UDP, UDP, ICMP, GRE]);
                let vrf = dice.of(&[0, 1, 1, 2, 2]);
                let outside = dice.of(&remotes);
                let public = dice.of(&["192.0.2.1", "192.0.2.2", "192.0.2.7", "192.0.2.9"].map(ip));
                let peer = dice.of(&["100.64.1.5", "100.64.2.6", "100.64.2.7"].map(ip));
                let inside = dice.of(&hosts);
                let near = 998 + dice.below(12) as u16;
                let far = dice.of(&[80, 1000, 1001, 1003, 1005, 1006]);
                let flags = match protocol {
                    TCP => dice.of(&[SYN, SYN, SYN, ACK, RST]),
                    ICMP => dice.of(&[8, 8, 8, 0]),
                    _ => 0,
                };
                let (source, destination) = match vrf {
                    0 => (outside, dice.of(&[public, public, public, outside ^ 1])),
                    _ => (
                        inside,
                        dice.of(&[outside, outside, outside, public, public, peer, hosts[0] + 9]),
                    ),
                };
                let (source_port, destination_port) = match protocol {
                    GRE => (0, 0),
                    ICMP => (near, near),
                    _ => (near, far),
                };
                let h = Headers {
                    protocol,
                    source,
                    destination,
                    source_port,
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
        (stats.connections, stats.zombies, stats.mappings, stats.created),
        (0, 0, 0, stats.ended.total())
    );
    (stats, pair.reached)
}

#[test]
fn the_engine_agrees_with_the_model() {
    let (mut created, mut exhausted, mut unrouted, mut policy) = (0, 0, 0, 0);
    let mut reached = Reached::default();
    for seed in 0..32 {
        let (stats, more) = run(seed, 4_000, 4_000);
        reached.hairpin += more.hairpin;
        reached.peer += more.peer;
        reached.fixed += more.fixed;
        reached.let_in += more.let_in;
        reached.shared += more.shared;
        reached.plain += more.plain;
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
    let Reached {
        hairpin,
        peer,
        fixed,
        let_in,
        shared,
        plain,
        ..
    } = reached;
    assert!(
        hairpin > 100 && peer > 100 && fixed > 100 && let_in > 30 && shared > 100 && plain > 100,
        "{reached:?}"
    );
}

/// So few that every connection may be looked at for room.
const FEW: u32 = 8;

#[test]
fn the_engine_agrees_with_the_model_while_its_table_is_full() {
    let mut reached = Reached::default();
    for seed in 0..24 {
        let (stats, more) = run(seed, 4_000, FEW);
        assert_eq!(stats.ended.evicted, u64::from(more.evicted));
        reached.evicted += more.evicted;
        reached.refused += more.refused;
        reached.let_in += more.let_in;
    }
    assert!(
        reached.evicted > 500 && reached.refused > 50 && reached.let_in > 5,
        "{reached:?}"
    );
}
