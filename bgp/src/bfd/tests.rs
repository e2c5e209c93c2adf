//! BFD between two engines over a link that loses and delays, and between an engine and packets that are none.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use net::IfIndex;
use proptest::collection;
use proptest::prelude::*;

use super::engine::{Engine, Received};
use super::packet::{Control, Diagnostic, Discard, State};
use super::session::{Cause, Config, Event, Output, Session};

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn config(tx: u64, rx: u64, multiplier: u8) -> Config {
    Config {
        min_tx: millis(tx),
        min_rx: millis(rx),
        multiplier,
    }
}

/// Two engines, A and B, and the link between them, on a clock that jumps from event to event.
struct Link {
    now: Instant,
    engines: [Engine; 2],
    /// Packets on the way: when they arrive, at whom.
    flying: Vec<(Instant, usize, [u8; 24])>,
    seen: Vec<(usize, Output)>,
    sent: [Vec<(Instant, Control)>; 2],
}

#[allow(clippy::disallowed_methods, reason = "some instant to count from; nothing waits")]
fn start() -> Instant {
    Instant::now()
}

impl Link {
    fn new(seed: u64, configs: [Config; 2]) -> Self {
        let now = start();
        let mut engines = [Engine::new(seed), Engine::new(!seed)];
        engines[0].set(B, None, configs[0], now);
        engines[1].set(A, None, configs[1], now);
        Self {
            now,
            engines,
            flying: Vec::new(),
            seen: Vec::new(),
            sent: [Vec::new(), Vec::new()],
        }
    }

    fn states(&self) -> [Option<State>; 2] {
        [self.engines[0].state(B), self.engines[1].state(A)]
    }

    fn both_up(&self) -> bool {
        self.states() == [Some(State::Up); 2]
    }

    fn collect(&mut self, delay: Duration, delivers: &mut impl FnMut() -> bool) {
        for from in 0..2 {
            while let Some((_, output)) = self.engines[from].poll_output() {
                if let Output::Send(bytes) = output {
                    let control = Control::parse(&bytes).expect("we send what we take");
                    self.sent[from].push((self.now, control));
                    if delivers() {
                        self.flying.push((self.now + delay, 1 - from, bytes));
                    }
                } else {
                    self.seen.push((from, output));
                }
            }
        }
    }

    /// Goes on for `time`, or until `done`; `delivers` says which packets get through.
    fn run(&mut self, time: Duration, mut delivers: impl FnMut() -> bool, done: impl Fn(&Self) -> bool) -> bool {
        let (end, delay) = (self.now + time, millis(2));
        loop {
            self.collect(delay, &mut delivers);
            if done(self) {
                return true;
            }
            let timers = self.engines.iter().filter_map(Engine::poll_timeout);
            let next = timers.chain(self.flying.iter().map(|(at, ..)| *at)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let arrived: Vec<_> = self.flying.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, to, bytes) in arrived {
                let packet = Received {
                    from: if to == 0 { B } else { A },
                    interface: None,
                    ttl: Some(255),
                    bytes: &bytes,
                };
                // A packet of a session that has just ended is refused.
                let _ = self.engines[to].receive(packet, now);
            }
            self.engines.iter_mut().for_each(|engine| engine.timeout(now));
        }
    }

    fn downs(&self) -> Vec<Cause> {
        let downs = self.seen.iter().filter_map(|(_, output)| match output {
            Output::Down(cause) => Some(*cause),
            _ => None,
        });
        downs.collect()
    }
}

#[test]
fn two_come_up_and_agree_on_intervals_by_a_poll() {
    let mut link = Link::new(7, [config(100, 200, 3), config(50, 400, 5)]);
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
    link.run(Duration::from_secs(5), || true, |_| false);
    let views = [link.engines[0].view(link.now), link.engines[1].view(link.now)];
    let intervals = |at: usize| {
        let session = &views[at].sessions[0];
        (session.send_interval_ms, session.detection_time_ms)
    };
    // Each sends as slowly as the other has to have it, and waits for that times the other's multiplier.
    assert_eq!(intervals(0), (Some(400), Some(1000)));
    assert_eq!(intervals(1), (Some(200), Some(1200)));
    assert_eq!(link.downs(), []);
    for sent in &link.sent {
        assert!(sent.iter().any(|(_, control)| control.poll), "a change is polled");
        assert!(sent.iter().any(|(_, control)| control.is_final), "a poll is answered");
        assert!(!sent.last().expect("many").1.poll, "and then it ends");
        assert!(sent.iter().all(|(_, control)| !(control.poll && control.is_final)));
    }
}

#[test]
fn packets_leave_with_jitter_and_slowly_until_up() {
    let mut link = Link::new(3, [config(100, 100, 3), config(100, 100, 1)]);
    // Nobody hears anybody: one packet in 0.75 to 1 s each.
    link.run(Duration::from_secs(30), || false, |_| false);
    for sent in &link.sent {
        assert!((30..=41).contains(&sent.len()), "{}", sent.len());
    }
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
    link.run(Duration::from_secs(2), || true, |_| false);
    link.sent.iter_mut().for_each(Vec::clear);
    link.run(Duration::from_secs(20), || true, |_| false);
    for (sent, longest) in link.sent.iter().zip([millis(100), millis(90)]) {
        let gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(
            gaps.iter().all(|gap| (millis(75)..=longest).contains(gap)),
            "{gaps:?} up to {longest:?}"
        );
        assert!(
            gaps.iter().collect::<std::collections::HashSet<_>>().len() > 10,
            "jitter"
        );
    }
}

#[test]
fn silence_ends_a_session_after_the_detection_time_and_it_comes_back() {
    let mut link = Link::new(5, [config(100, 100, 3), config(100, 100, 3)]);
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
    link.run(Duration::from_secs(3), || true, |_| false);
    let cut = link.now;
    assert!(link.run(Duration::from_secs(10), || false, |link| link.downs().len() == 2));
    assert!(
        (millis(200)..=millis(302)).contains(&(link.now - cut)),
        "{:?}",
        link.now - cut
    );
    assert_eq!(link.downs(), [Cause::TimeExpired; 2]);
    let view = link.engines[0].view(link.now);
    assert_eq!(view.sessions[0].diagnostic, "detection time expired");
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
}

#[test]
fn one_way_loss_is_told_by_the_side_that_hears_nothing() {
    let mut link = Link::new(5, [config(100, 100, 3), config(100, 100, 3)]);
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
    // What A sends does not arrive; what B sends does.
    let mut deaf = Vec::new();
    for _ in 0..200 {
        let timers = link.engines.iter().filter_map(Engine::poll_timeout);
        link.now = timers.min().expect("both send").max(link.now);
        let now = link.now;
        link.engines.iter_mut().for_each(|engine| engine.timeout(now));
        while let Some((_, output)) = link.engines[1].poll_output() {
            match output {
                Output::Send(bytes) => {
                    let packet = Received {
                        from: B,
                        interface: None,
                        ttl: Some(255),
                        bytes: &bytes,
                    };
                    link.engines[0].receive(packet, now).expect("taken");
                }
                other => deaf.push(other),
            }
        }
        while let Some((_, output)) = link.engines[0].poll_output() {
            if !matches!(output, Output::Send(_)) {
                link.seen.push((0, output));
            }
        }
    }
    assert_eq!(deaf, [Output::Down(Cause::TimeExpired)]);
    assert_eq!(link.downs(), [Cause::NeighborDown(Diagnostic::TIME_EXPIRED)]);
}

#[test]
fn an_operator_who_ends_a_session_is_no_failure() {
    let mut link = Link::new(5, [config(100, 100, 3), config(100, 100, 3)]);
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
    link.engines[0].remove(B, link.now);
    link.run(Duration::from_secs(5), || true, |_| false);
    assert_eq!(link.downs(), [Cause::AdminDown, Cause::NeighborAdminDown]);
    assert!(link.downs().iter().all(|cause| !cause.is_failure()));
    // And begins anew under another name.
    link.engines[0].set(B, None, config(100, 100, 3), link.now);
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
}

#[test]
fn intervals_change_without_loss_of_the_session() {
    let mut link = Link::new(9, [config(50, 50, 3), config(50, 50, 3)]);
    assert!(link.run(Duration::from_secs(10), || true, Link::both_up));
    link.run(Duration::from_secs(2), || true, |_| false);
    // Slower sending waits for the neighbour to know; quicker reception as well.
    for (tx, rx) in [(2000, 50), (50, 2000), (50, 50), (2000, 2000), (10, 10)] {
        let now = link.now;
        link.engines[0].set(B, None, config(tx, rx, 3), now);
        link.run(Duration::from_secs(20), || true, |_| false);
        let session = &link.engines[0].view(link.now).sessions[0];
        assert_eq!(session.send_interval_ms, Some(tx.max(50)));
        assert_eq!(session.detection_time_ms, Some(3 * rx.max(50)));
    }
    assert_eq!(link.downs(), []);
}

#[test]
fn a_neighbour_in_demand_mode_is_left_alone_and_one_that_cannot_receive_too() {
    let now = start();
    let mut session = Session::new(config(100, 100, 3), 1, 1, now);
    let mut told = Control {
        diagnostic: Diagnostic::NONE,
        state: State::Init,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 9,
        your_discriminator: 1,
        desired_min_tx: millis(100),
        required_min_rx: millis(100),
    };
    session.handle(Event::Received(told), now);
    assert_eq!(session.state(), State::Up);
    told.state = State::Up;
    told.is_final = true;
    session.handle(Event::Received(told), now);
    assert_eq!(session.send_interval(), Some(millis(100)));
    told.demand = true;
    session.handle(Event::Received(told), now);
    assert_eq!(session.send_interval(), None);
    told.demand = false;
    told.required_min_rx = Duration::ZERO;
    session.handle(Event::Received(told), now);
    assert_eq!(session.send_interval(), None);
    // Its silence still counts.
    session.handle(Event::Timeout, now + millis(400));
    assert_eq!(session.state(), State::Down);
}

#[test]
fn what_is_not_for_a_session_is_counted() {
    let now = start();
    let mut engine = Engine::new(1);
    engine.set(B, Some(IfIndex(3)), config(100, 100, 3), now);
    let name = engine.view(now).sessions[0].local_discriminator;
    let control = |your_discriminator| Control {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 9,
        your_discriminator,
        desired_min_tx: millis(100),
        required_min_rx: millis(100),
    };
    let mut receive = |from, interface: Option<u32>, ttl, bytes: &[u8]| {
        let packet = Received {
            from,
            interface: interface.map(IfIndex),
            ttl,
            bytes,
        };
        engine.receive(packet, now)
    };
    let good = control(name).encode();
    assert_eq!(receive(B, Some(3), Some(254), &good), Err(Discard::Ttl));
    assert_eq!(receive(B, Some(3), None, &good), Err(Discard::Ttl));
    assert_eq!(receive(A, None, Some(255), &good), Err(Discard::UnknownSession));
    assert_eq!(receive(B, Some(4), Some(255), &good), Err(Discard::UnknownSession));
    assert_eq!(
        receive(B, None, Some(255), &control(name ^ 1).encode()),
        Err(Discard::UnknownSession)
    );
    assert_eq!(
        receive(A, None, Some(255), &control(0).encode()),
        Err(Discard::UnknownSession)
    );
    assert_eq!(receive(B, None, Some(255), &good[..20]), Err(Discard::Malformed));
    let mut authenticated = good;
    authenticated[1] |= 4;
    assert_eq!(
        receive(B, None, Some(255), &authenticated),
        Err(Discard::Authentication)
    );
    assert_eq!(receive(B, Some(3), Some(255), &good), Ok(()));
    let view = engine.view(now);
    let discarded = view.discarded;
    assert_eq!(
        (
            discarded.wrong_ttl,
            discarded.malformed,
            discarded.authenticated,
            discarded.unknown_session
        ),
        (2, 1, 1, 4)
    );
    assert_eq!(view.sessions[0].state, State::Init);
}

fn any_config() -> impl Strategy<Value = Config> {
    (10..2000_u64, 10..2000_u64, 1..=10_u8).prop_map(|(tx, rx, multiplier)| config(tx, rx, multiplier))
}

proptest! {
    /// Whatever was lost, and whatever the two are told meanwhile: once packets get through, both are up and stay so.
    #[test]
    fn two_always_converge_over_a_lossy_link(
        seed: u64,
        configs in (any_config(), any_config()),
        changes in collection::vec((any::<bool>(), any_config(), 0..5_000_u64, any::<bool>()), 0..6),
        losses in collection::vec(any::<bool>(), 1..200),
    ) {
        let mut link = Link::new(seed, [configs.0, configs.1]);
        let mut at = 0;
        for (second, config, pause, restart) in changes {
            link.run(millis(pause), || { at += 1; losses[at % losses.len()] }, |_| false);
            let (engine, neighbor) = if second { (1, A) } else { (0, B) };
            if restart {
                link.engines[engine].remove(neighbor, link.now);
            }
            link.engines[engine].set(neighbor, None, config, link.now);
        }
        prop_assert!(link.run(Duration::from_secs(120), || true, Link::both_up), "{:?}", link.states());
        // Not the last word of a failure before.
        link.run(Duration::from_secs(60), || true, |_| false);
        prop_assert!(link.both_up(), "{:?}", link.states());
        link.seen.clear();
        link.run(Duration::from_secs(60), || true, |_| false);
        prop_assert_eq!(link.downs(), []);
    }

    /// A third of the packets may be lost all the time.
    #[test]
    fn two_come_up_although_packets_are_lost(seed: u64, configs in (any_config(), any_config()), phase in 0..3_u32) {
        let mut link = Link::new(seed, [configs.0, configs.1]);
        let mut count = phase;
        let up = link.run(Duration::from_secs(600), || { count += 1; !count.is_multiple_of(3) }, Link::both_up);
        prop_assert!(up, "{:?}", link.states());
    }

    /// Bytes of strangers, timers at any time: no panic, and a session always has a timer or waits for a neighbour.
    #[test]
    fn random_bytes_and_timers_never_panic(
        seed: u64,
        config in any_config(),
        events in collection::vec((collection::vec(any::<u8>(), 0..40), any::<bool>(), 0..3_000_u64), 0..60),
    ) {
        let mut now = start();
        let mut engine = Engine::new(seed);
        engine.set(B, None, config, now);
        let name = engine.view(now).sessions[0].local_discriminator;
        for (mut bytes, repaired, pause) in events {
            now += millis(pause);
            if repaired && bytes.len() >= 24 {
                bytes[0] = 0x20 | bytes[0] & 0x1f;
                bytes[1] &= !5;
                bytes[3] = 24;
                bytes[8..12].copy_from_slice(&name.to_be_bytes());
            }
            let packet = Received { from: B, interface: None, ttl: Some(255), bytes: &bytes };
            let _ = engine.receive(packet, now);
            engine.timeout(now);
            while engine.poll_output().is_some() {}
            prop_assert!(engine.poll_timeout().is_none_or(|at| at > now), "a timer that is due is served");
        }
    }
}
