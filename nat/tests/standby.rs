//! The standby protocol between real engines and a receiver, over a transport that loses connections at any byte.

mod support;

use std::collections::VecDeque;
use std::sync::Arc;

use nat::snapshot::{Pooled, SavedConnection};
use nat::standby::{Change, Receiver, ReceiverState, Sender};
use nat::{ConnectionState, Delta, Engine, FlowKey, Millis, NotRestored, Policy};
use net::Generation;
use proptest::prelude::*;
use support::*;

const WORKERS: u16 = 2;
/// Changes that a ring from a worker holds.
const RING: usize = 5;
const LIMIT: u32 = 1_000;

fn rules() -> Arc<Policy> {
    policy(
        vec![masquerade(1, &["192.0.2.1"], (1024, 65535))],
        vec![forward(2, TCP, "192.0.2.7", 80, "10.0.0.9", 8080)],
    )
}

/// A connection of the transport: bytes on their way, each way.
#[derive(Default)]
struct Wire {
    there: VecDeque<u8>,
    back: VecDeque<u8>,
}

/// A gateway and its standby.
struct Pair {
    engines: Vec<Engine>,
    rings: Vec<VecDeque<Change>>,
    sender: Option<Sender>,
    receiver: Receiver,
    wire: Wire,
    streams: u64,
    now: Millis,
}

impl Pair {
    fn new(engines: Vec<Engine>) -> Self {
        Self {
            rings: engines.iter().map(|_| VecDeque::new()).collect(),
            engines,
            sender: None,
            receiver: Receiver::new(LIMIT),
            wire: Wire::default(),
            streams: 0,
            now: Millis(1),
        }
    }

    fn connect(&mut self) {
        self.cut();
        self.streams += 1;
        self.sender = Some(Sender::new(self.streams, self.engines.len() as u16, self.now));
        self.receiver.connect(self.now);
    }

    /// The connection is lost with all that is on its way. The engines learn of it late, or never.
    fn cut(&mut self) {
        self.wire = Wire::default();
        self.receiver.disconnect();
        self.sender = None;
    }

    /// A worker has time to tell what changed.
    fn work(&mut self, worker: usize) {
        let ring = &mut self.rings[worker];
        let room = RING - ring.len();
        self.engines[worker].next_changes(room, &mut |change| ring.push_back(change));
        assert!(ring.len() <= RING);
    }

    /// The sender takes from the rings, and up to `bytes` move each way.
    fn carry(&mut self, bytes: usize) {
        let Some(sender) = &mut self.sender else { return };
        if sender.begins() {
            let stream = sender.stream();
            self.engines.iter_mut().for_each(|engine| engine.begin_stream(stream));
        }
        for ring in &mut self.rings {
            while sender.room() > 0
                && let Some(change) = ring.pop_front()
            {
                sender.offer(&change);
            }
        }
        move_bytes(sender.output(self.now).to_vec(), bytes, &mut self.wire.there, |count| {
            sender.wrote(count);
        });
        let arrived: Vec<u8> = self.wire.there.drain(..bytes.min(self.wire.there.len())).collect();
        self.receiver.receive(&arrived, self.now).expect("what a sender sends");
        let receiver = &mut self.receiver;
        let output = receiver.output(self.now).to_vec();
        move_bytes(output, bytes, &mut self.wire.back, |count| receiver.wrote(count));
        let arrived: Vec<u8> = self.wire.back.drain(..bytes.min(self.wire.back.len())).collect();
        sender.receive(&arrived, self.now).expect("what a receiver sends");
    }

    /// Until nothing is left to tell.
    fn settle(&mut self) {
        if self.sender.is_none() {
            self.connect();
        }
        for _ in 0..100_000 {
            self.carry(4096);
            (0..self.engines.len()).for_each(|worker| self.work(worker));
            let progress = self.sender.as_ref().expect("connected").progress();
            let quiet = self.rings.iter().all(VecDeque::is_empty)
                && self.engines.iter().all(|engine| engine.stream_backlog() == 0);
            if quiet && progress.synchronized && progress.taken == progress.acknowledged {
                return;
            }
        }
        panic!("the standby never has everything");
    }

    fn at_the_primary(&self) -> Vec<SavedConnection> {
        let mut all = vec![];
        for engine in &self.engines {
            assert_eq!(engine.save(0, usize::MAX, &mut all), None);
        }
        all.retain(|connection| connection.state != ConnectionState::Unreplied);
        all
    }
}

fn move_bytes(output: Vec<u8>, bytes: usize, to: &mut VecDeque<u8>, wrote: impl FnOnce(usize)) {
    let count = bytes.min(output.len());
    to.extend(&output[..count]);
    wrote(count);
}

/// What a change tells of a connection, in order.
fn facts<'a>(
    connections: impl Iterator<Item = &'a SavedConnection>,
) -> Vec<([FlowKey; 2], Pooled, ConnectionState, u8)> {
    let mut facts: Vec<_> = connections.map(|c| (c.keys, c.pooled, c.state, c.fins)).collect();
    facts.sort_by_key(|(keys, ..)| *keys);
    facts
}

impl Pair {
    /// A packet of one of few connections: opens it, answers it, closes it.
    fn packet(&mut self, port: u16, what: u8, routes: &Routes) {
        let (vrf, opener) = match port % 3 {
            0 => (0, tcp(("203.0.113.8", port), ("192.0.2.7", 80), SYN)),
            1 => (1, tcp(("10.0.0.5", port), ("198.51.100.9", 80), SYN)),
            _ => (1, udp(("10.0.0.5", port), ("198.51.100.9", 53))),
        };
        let flags = [SYN, ACK, FIN | ACK, RST][usize::from(what % 4)];
        let owner = usize::from(port) % self.engines.len();
        let out = self.send(owner, vrf, &Headers { flags, ..opener }, routes);
        if let (Some(out), true) = (out, what >= 4) {
            let flags = [SYN | ACK, ACK, FIN | ACK, RST][usize::from(what % 4)];
            self.send(0, if vrf == 0 { 2 } else { 0 }, &answer(&out, flags), routes);
        }
    }

    fn send(&mut self, first: usize, vrf: u16, headers: &Headers, routes: &Routes) -> Option<Headers> {
        let packet = build(headers, b"");
        let mut fate = send(&mut self.engines[first], routes, vrf, &packet, self.now);
        if let Fate::HandedOver(owner) = fate {
            fate = send(&mut self.engines[usize::from(owner)], routes, vrf, &packet, self.now);
        }
        matches!(fate, Fate::Sent(..)).then(|| fate.headers())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Packet(u16, u8),
    Wait(u16),
    Work(u8),
    Carry(u16),
    Connect,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (3000..3030_u16, 0..8_u8).prop_map(|(port, what)| Step::Packet(port, what)),
        1 => (0..400_u16).prop_map(Step::Wait),
        4 => (0..2_u8).prop_map(Step::Work),
        6 => (0..3000_u16).prop_map(Step::Carry),
        1 => Just(Step::Connect),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever was lost between: once the two are connected for long enough, the standby has what the primary has.
    #[test]
    fn after_any_losses_the_standby_has_what_the_primary_has(steps in proptest::collection::vec(step(), 1..400)) {
        let (policy, routes) = (rules(), routes());
        let engines = (0..WORKERS).map(|n| worker(LIMIT / 2, n, WORKERS, policy.clone())).collect();
        let mut pair = Pair::new(engines);
        for step in steps {
            match step {
                Step::Packet(port, what) => pair.packet(port, what, &routes),
                Step::Wait(seconds) => {
                    pair.now.0 += u64::from(seconds) * 1000;
                    for engine in &mut pair.engines {
                        engine.expire(pair.now, 1000, &mut |_, _| {});
                    }
                }
                Step::Work(worker) => pair.work(usize::from(worker)),
                Step::Carry(bytes) => pair.carry(usize::from(bytes)),
                Step::Connect => pair.connect(),
                Step::Cut => pair.cut(),
            }
        }
        pair.settle();
        prop_assert_eq!(pair.receiver.state(), ReceiverState::Synchronized);
        let kept = facts(pair.receiver.kept().map(|(_, connection)| connection));
        prop_assert_eq!(kept, facts(pair.at_the_primary().iter()));
    }

    /// Bytes of anybody: an error or nothing, and never more kept than there is room for.
    #[test]
    fn noise_is_an_error_and_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..2000), cut in 0..2000_usize) {
        let mut receiver = Receiver::new(10);
        receiver.connect(Millis(1));
        let _ = receiver.receive(&noise, Millis(2));
        let mut sender = Sender::new(1, 1, Millis(1));
        let _ = sender.receive(&noise, Millis(2));
        // The same inside of a stream that began well.
        let mut pair = established(20);
        let (before, _) = noise.split_at(cut.min(noise.len()));
        let _ = pair.receiver.receive(before, Millis(2));
        prop_assert!(pair.receiver.kept().count() <= 20);
    }
}

/// Engines with `count` established connections, and a standby that has them all.
fn established(count: u16) -> Pair {
    let (policy, routes) = (rules(), routes());
    let engines = (0..WORKERS)
        .map(|n| worker(LIMIT / 2, n, WORKERS, policy.clone()))
        .collect();
    let mut pair = Pair::new(engines);
    for port in (3000..).filter(|port| port % 3 == 1).take(usize::from(count)) {
        pair.packet(port, 4, &routes);
        pair.packet(port, 1, &routes);
    }
    pair.settle();
    pair
}

/// The engines of another gateway, that run at a generation.
fn other_gateway(workers: u16, routes: &Routes) -> Vec<Engine> {
    let mut engines: Vec<_> = (0..workers).map(|n| worker(1000, n, workers, rules())).collect();
    for engine in &mut engines {
        engine.on_generation(Generation(routes.generation), &Delta::everything());
        while engine.is_revalidating() {
            engine.revalidate(64, routes, &mut |_, _| {});
        }
    }
    engines
}

#[test]
fn a_takeover_goes_on_with_every_connection_and_its_port_at_once() {
    let mut routes = routes();
    routes.generation = 5;
    for workers in [1, 2, 3] {
        let mut pair = established(100);
        let mut engines = other_gateway(workers, &routes);
        // A connection that the standby made itself is in nobody's way.
        let own = tcp(("10.0.0.77", 9), ("198.51.100.9", 80), SYN);
        send(&mut engines[0], &routes, 1, &build(&own, b""), Millis(5));
        let kept = pair.receiver.take();
        let kept: Vec<_> = kept.into_iter().map(|(_, saved)| saved).collect();
        assert_eq!((kept.len(), pair.receiver.connections()), (100, 0));
        let mut restored = 0;
        for engine in &mut engines {
            restored += kept
                .iter()
                .filter(|saved| engine.take_over(saved, 3, &routes).is_ok())
                .count();
            let again = engine.take_over(&kept[0], 3, &routes);
            assert!(
                matches!(again, Err(NotRestored::Taken | NotRestored::NotOurs)),
                "{again:?}"
            );
        }
        assert_eq!(restored, 100, "{workers} workers");
        for saved in &kept {
            let [original, reply] = &saved.keys;
            let text = |address: u32| std::net::Ipv4Addr::from(address).to_string();
            let (server, public) = (text(reply.source()), text(reply.destination()));
            let back = tcp((&server, reply.source_port()), (&public, reply.destination_port()), ACK);
            let owner = usize::from(reply.destination_port() % workers);
            let fate = send(&mut engines[owner], &routes, 0, &build(&back, b"x"), Millis(5));
            let inside = fate.headers();
            assert_eq!(
                (inside.destination, inside.destination_port),
                (original.source(), original.source_port())
            );
        }
    }
}

#[test]
fn a_restored_connection_asks_for_its_offload_with_its_first_packet() {
    let mut routes = routes();
    routes.generation = 5;
    let mut pair = established(1);
    let [(_, saved)] = pair.receiver.take()[..] else {
        panic!("one")
    };
    let mut engine = other_gateway(1, &routes).remove(0);
    engine.take_over(&saved, 0, &routes).expect("taken over");
    let [original, _] = &saved.keys;
    let packet = build(
        &tcp(("10.0.0.5", original.source_port()), ("198.51.100.9", 80), ACK),
        b"x",
    );
    let offloads: Vec<bool> = (0..3)
        .map(|_| match send(&mut engine, &routes, 1, &packet, Millis(5)) {
            Fate::Sent(_, _, offload) => offload,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offloads, [true, false, false]);
    let packets: Vec<_> = engine
        .connection(engine.id_of(engine.lookup(original).expect("there")))
        .into_iter()
        .collect();
    assert_eq!(
        packets[0].packets,
        [saved.packets[0] + 3, saved.packets[1]],
        "every packet is counted"
    );
}

#[test]
fn a_takeover_leaves_what_is_too_old_or_not_allowed() {
    let routes = routes();
    let mut pair = established(1);
    let [(_, saved)] = pair.receiver.take()[..] else {
        panic!("one")
    };
    let mut engine = other_gateway(1, &routes).remove(0);
    assert_eq!(engine.take_over(&saved, 7440, &routes), Err(NotRestored::TooOld));
    engine.set_policy(policy(vec![], vec![]));
    assert_eq!(engine.take_over(&saved, 0, &routes), Err(NotRestored::Policy));
    assert_eq!(engine.stats().connections, 0);
}

#[test]
fn a_stream_that_breaks_off_leaves_the_last_whole_one() {
    let mut pair = established(60);
    let before = facts(pair.receiver.kept().map(|(_, saved)| saved));
    pair.connect();
    // Hello, begin, and the first slices.
    for _ in 0..4 {
        pair.carry(4096);
        pair.work(0);
    }
    assert_eq!(pair.receiver.state(), ReceiverState::Synchronizing);
    let unfinished = pair.receiver.kept().count() - 60;
    assert!((1..60).contains(&unfinished), "{unfinished}");
    pair.cut();
    assert_eq!(pair.receiver.connections(), 60);
    let mut after = facts(pair.receiver.kept().map(|(_, saved)| saved));
    after.dedup();
    assert_eq!(after, before);
    // Each is taken over once.
    let routes = routes();
    let mut engine = other_gateway(1, &routes).remove(0);
    let kept = pair.receiver.take();
    let restored = kept
        .iter()
        .filter(|(_, saved)| engine.take_over(saved, 0, &routes).is_ok())
        .count();
    assert_eq!((kept.len(), restored), (60 + unfinished, 60));
}

#[test]
fn a_slow_standby_costs_one_mark_for_each_slot_and_nothing_else() {
    let mut pair = established(10);
    let routes = routes();
    // Nobody reads: connections come and go a thousand times.
    for round in 0..1000_u16 {
        for port in [3001, 3004, 3007] {
            pair.packet(port, 4 + (round % 4) as u8, &routes);
            pair.packet(port, 1, &routes);
        }
        pair.now.0 += 300_000;
        for engine in &mut pair.engines {
            engine.expire(pair.now, 1000, &mut |_, _| {});
        }
    }
    let backlog: usize = pair.engines.iter().map(Engine::stream_backlog).sum();
    // Slots of a worker are used in turn, so that no more of them change than were ever used.
    assert!((1..=2 * (256 + 40)).contains(&backlog), "{backlog}");
    pair.settle();
    let kept = facts(pair.receiver.kept().map(|(_, saved)| saved));
    assert_eq!(kept, facts(pair.at_the_primary().iter()));
}

#[test]
fn a_standby_that_acknowledges_nothing_is_sent_a_window_and_no_more() {
    let mut sender = Sender::new(1, 1, Millis(1));
    let mut receiver = Receiver::new(10);
    receiver.connect(Millis(1));
    let hello = receiver.output(Millis(1)).to_vec();
    sender.receive(&hello, Millis(1)).expect("a hello");
    assert!(sender.begins() && !sender.begins());
    let place = nat::standby::Place { worker: 0, slot: 7 };
    let change = Change {
        stream: 1,
        news: nat::standby::News::Gone(place),
    };
    let mut taken = 0;
    while sender.room() > 0 {
        sender.offer(&change);
        taken += 1;
        let length = sender.output(Millis(1)).len();
        sender.wrote(length);
        assert!(taken < 100_000);
    }
    assert_eq!(sender.progress().taken, taken);
    let stale = Change { stream: 9, ..change };
    sender.offer(&stale);
    assert_eq!(sender.progress().taken, taken, "of another stream");
}

#[test]
fn silence_ends_a_connection_and_keep_alives_prevent_it() {
    let mut pair = established(3);
    let start = pair.now.0;
    while pair.now.0 < start + 30_000 {
        let sender = pair.sender.as_mut().expect("connected");
        let due = sender
            .poll_timeout()
            .min(pair.receiver.poll_timeout().expect("connected"));
        pair.now = pair.now.max(due);
        sender.timeout(pair.now).expect("heard of each other");
        pair.receiver.timeout(pair.now).expect("heard of each other");
        pair.carry(4096);
    }
    let late = Millis(pair.now.0 + 10_000);
    let sender = pair.sender.as_mut().expect("connected");
    assert_eq!(sender.timeout(late), Err(nat::standby::StandbyError::Silent(10)));
    assert_eq!(pair.receiver.timeout(late), Err(nat::standby::StandbyError::Silent(10)));
    assert_eq!(pair.receiver.silent(late), 10_000);
}
