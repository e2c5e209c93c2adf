//! Requirements of RFC 5382, 7857, 4787 and 5508 on the states and lifetimes of connections, each by its number.

mod support;

use nat::{ConnectionState, ConnectionView, Engine, IcmpVerdict, Millis};
use net::{Drop, VrfId};
use support::*;

const SERVER: (&str, u16) = ("198.51.100.9", 80);
const CLIENT: (&str, u16) = ("10.0.0.5", 4000);
const MINUTE: u64 = 60_000;
const START: Millis = Millis(1);

/// One connection of a host behind a pool address that keeps its port.
struct Scene {
    engine: Engine,
    routes: Routes,
    now: Millis,
}

impl Scene {
    fn new() -> Self {
        Self {
            engine: engine(100, policy(vec![masquerade(1, &["192.0.2.1"], (1024, 65535))], vec![])),
            routes: routes(),
            now: START,
        }
    }

    /// After the handshake, the client's sequence number 1000 and the server's 5000.
    fn established() -> Self {
        let mut scene = Self::new();
        scene.out(SYN, 1000);
        scene.back(SYN | ACK, 5000);
        scene.out(ACK, 1001);
        assert_eq!(scene.state(), Some(ConnectionState::Established));
        scene
    }

    fn out(&mut self, flags: u8, sequence: u32) -> Fate {
        let packet = with_sequence(&tcp(CLIENT, SERVER, flags), sequence, b"");
        send(&mut self.engine, &self.routes, 1, &packet, self.now)
    }

    fn back(&mut self, flags: u8, sequence: u32) -> Fate {
        let packet = with_sequence(&tcp(SERVER, ("192.0.2.1", CLIENT.1), flags), sequence, b"");
        send(&mut self.engine, &self.routes, 0, &packet, self.now)
    }

    fn state(&self) -> Option<ConnectionState> {
        let mut views: Vec<ConnectionView> = vec![];
        assert_eq!(self.engine.snapshot(0, usize::MAX, &mut views), None);
        views.first().map(|view| view.state)
    }

    /// Lets time pass and says whether the connection is still there.
    fn after(&mut self, milliseconds: u64) -> bool {
        self.now.0 += milliseconds;
        self.engine.expire(self.now, usize::MAX, &mut |_, _| {});
        self.state().is_some()
    }

    /// Minutes of silence that it outlives.
    fn outlives(mut self, minutes: u64) -> bool {
        let there = self.after(minutes * MINUTE - 1000);
        assert!(!there || !self.after(2000), "it outlives more than {minutes} minutes");
        there
    }
}

#[test]
fn rfc5382_req2_both_ends_may_open_at_once() {
    let mut scene = Scene::new();
    assert!(matches!(scene.out(SYN, 1000), Fate::Sent(..)));
    assert!(
        matches!(scene.back(SYN, 5000), Fate::Sent(..)),
        "the other end's own SYN"
    );
    assert!(matches!(scene.out(SYN | ACK, 1000), Fate::Sent(..)));
    assert!(matches!(scene.back(SYN | ACK, 5000), Fate::Sent(..)));
    assert!(matches!(scene.out(ACK, 1001), Fate::Sent(..)));
    assert_eq!(scene.state(), Some(ConnectionState::Established));
}

#[test]
fn rfc5382_req4_an_unsolicited_syn_gets_no_answer() {
    let mut scene = Scene::new();
    assert_eq!(scene.back(SYN, 5000), Fate::Dropped(Drop::NatNoMapping));
    assert_eq!(scene.state(), None);
}

#[test]
fn rfc5382_req5_an_established_connection_outlives_two_hours_four_minutes_and_others_four_minutes() {
    assert!(Scene::established().outlives(124));
    let mut opening = Scene::new();
    opening.out(SYN, 1000);
    assert!(opening.outlives(4));
    let mut half_open = Scene::new();
    half_open.out(SYN, 1000);
    half_open.back(SYN | ACK, 5000);
    assert!(half_open.outlives(4));
}

#[test]
fn rfc7857_2_1_one_fin_keeps_the_established_timer_and_both_have_the_transitory_one() {
    let mut half_closed = Scene::established();
    half_closed.out(FIN | ACK, 1001);
    half_closed.back(ACK, 5001);
    assert_eq!(half_closed.state(), Some(ConnectionState::Established));
    assert!(half_closed.outlives(124));
    let mut closed = Scene::established();
    closed.back(FIN | ACK, 5001);
    closed.out(FIN | ACK, 1001);
    closed.back(ACK, 5002);
    assert_eq!(
        closed.state(),
        Some(ConnectionState::Closing),
        "the last ACK reopens nothing"
    );
    assert!(closed.outlives(4));
}

#[test]
fn rfc7857_2_2_after_a_reset_four_minutes_unless_somebody_goes_on() {
    let mut reset = Scene::established();
    assert!(matches!(reset.back(RST, 5001), Fate::Sent(..)));
    assert_eq!(reset.state(), Some(ConnectionState::Closing));
    assert!(reset.outlives(4));
    for goes_on in [Scene::out as fn(&mut Scene, u8, u32) -> Fate, Scene::back] {
        let mut survives = Scene::established();
        survives.back(RST, 5001);
        survives.back(RST, 5001);
        goes_on(&mut survives, ACK, 5001);
        assert_eq!(survives.state(), Some(ConnectionState::Established));
        assert!(survives.outlives(124));
    }
}

#[test]
fn rfc7857_2_2_a_reset_or_fin_far_from_the_window_changes_nothing() {
    let far = 5001 + (1 << 25);
    let mut scene = Scene::established();
    assert!(
        matches!(scene.back(RST, far), Fate::Sent(..)),
        "the end that it is for decides"
    );
    assert_eq!(scene.state(), Some(ConnectionState::Established));
    scene.back(FIN | ACK, far);
    scene.out(FIN | ACK, 1001 + (1 << 25));
    assert_eq!(scene.state(), Some(ConnectionState::Established));
    // The window moves on with the data, across the end of the sequence space as well.
    let mut at: u32 = 5001;
    for _ in 0..600 {
        at = at.wrapping_add(1 << 23);
        scene.back(ACK, at);
    }
    scene.back(RST, 5001);
    assert_eq!(scene.state(), Some(ConnectionState::Established));
    scene.back(RST, at.wrapping_add(1));
    assert_eq!(scene.state(), Some(ConnectionState::Closing));
}

#[test]
fn rfc9293_3_6_1_a_closed_tuple_can_be_opened_again() {
    let mut scene = Scene::established();
    scene.out(FIN | ACK, 1001);
    scene.back(FIN | ACK, 5001);
    scene.out(SYN, 900_000_000);
    assert_eq!(scene.state(), Some(ConnectionState::Unreplied));
    scene.back(SYN | ACK, 70);
    scene.out(ACK, 900_000_001);
    assert_eq!(scene.state(), Some(ConnectionState::Established));
}

#[test]
fn rfc5382_req10_an_icmp_error_ends_no_connection() {
    let mut scene = Scene::established();
    let outside = with_sequence(&tcp(("192.0.2.1", CLIENT.1), SERVER, ACK), 1001, b"");
    let mut error = icmp_error(ip("203.0.113.1"), ip("192.0.2.1"), 3, &outside, 28);
    let verdict = scene
        .engine
        .icmp_error(VrfId(0), &mut error, 0, &scene.routes, scene.now);
    assert!(matches!(verdict, IcmpVerdict::Translated(_)));
    assert_eq!(scene.state(), Some(ConnectionState::Established));
}

/// RFC 6888 leaves lifetimes to the operator; each VPC may have its own.
#[test]
fn timers_are_those_of_the_vpc() {
    let short = nat::Timers {
        tcp_established: 50,
        ..nat::Timers::default()
    };
    let spec = nat::PolicySpec {
        masquerade: vec![
            masquerade(1, &["192.0.2.1"], (1024, 65535)),
            masquerade(2, &["192.0.2.2"], (1024, 65535)),
        ],
        vpc_timers: vec![(vpc(2), short)],
        ..nat::PolicySpec::default()
    };
    let policy = std::sync::Arc::new(nat::Policy::compile(spec).expect("valid"));
    let (mut engine, routes) = (engine(100, policy), routes());
    for (vpc, public) in [(1, "192.0.2.1"), (2, "192.0.2.2")] {
        for (vrf, headers) in [
            (vpc, tcp(CLIENT, SERVER, SYN)),
            (0, tcp(SERVER, (public, CLIENT.1), SYN | ACK)),
            (vpc, tcp(CLIENT, SERVER, ACK)),
        ] {
            let fate = send(&mut engine, &routes, vrf, &build(&headers, b""), START);
            assert!(matches!(fate, Fate::Sent(..)), "{fate:?}");
        }
    }
    engine.expire(Millis(52_000), usize::MAX, &mut |_, _| {});
    let mut views: Vec<ConnectionView> = vec![];
    engine.snapshot(0, 9, &mut views);
    let left: Vec<_> = views.iter().filter_map(|view| view.vpc).collect();
    assert_eq!(left, [vpc(1)]);
}

#[test]
fn after_a_start_connections_are_taken_up_in_their_midst_for_a_while() {
    let mut scene = Scene::new();
    scene.engine.pick_up_for(120);
    assert!(scene.engine.stats().connections == 0 && matches!(scene.out(ACK, 77), Fate::Sent(..)));
    scene.back(ACK, 99);
    scene.out(ACK, 78);
    assert_eq!(scene.state(), Some(ConnectionState::Established));
    for (flags, port) in [(FIN | ACK, 1), (RST, 2)] {
        let closing = build(&tcp((CLIENT.0, port), SERVER, flags), b"");
        let fate = send(&mut scene.engine, &scene.routes, 1, &closing, scene.now);
        assert_eq!(fate, Fate::Dropped(Drop::NatStateInvalid), "not worth taking up");
    }
    scene.now.0 += 120_000;
    let late = build(&tcp((CLIENT.0, 3), SERVER, ACK), b"");
    let fate = send(&mut scene.engine, &scene.routes, 1, &late, scene.now);
    assert_eq!(fate, Fate::Dropped(Drop::NatStateInvalid));
}

/// Silence that a single packet and its answer outlive, as sent and answered at the start.
fn exchange(request: &Headers, reply_flags: u8) -> Scene {
    let mut scene = Scene::new();
    let fate = send(&mut scene.engine, &scene.routes, 1, &build(request, b""), scene.now);
    let reply = build(&answer(&fate.headers(), reply_flags), b"");
    assert!(matches!(
        send(&mut scene.engine, &scene.routes, 0, &reply, scene.now),
        Fate::Sent(..)
    ));
    scene
}

#[test]
fn rfc4787_req5_a_udp_mapping_lives_five_minutes() {
    assert!(exchange(&udp(CLIENT, SERVER), 0).outlives(5));
}

#[test]
fn rfc4787_req6_each_outbound_packet_refreshes_a_udp_mapping() {
    let mut scene = exchange(&udp(CLIENT, SERVER), 0);
    for _ in 0..5 {
        assert!(scene.after(4 * MINUTE));
        let packet = build(&udp(CLIENT, SERVER), b"");
        send(&mut scene.engine, &scene.routes, 1, &packet, scene.now);
    }
    assert!(scene.outlives(5));
}

#[test]
fn rfc5508_req2_an_icmp_query_lives_sixty_seconds() {
    assert!(exchange(&echo(CLIENT.0, SERVER.0, 7, 8), 0).outlives(1));
}

#[test]
fn rfc5508_req6_an_icmp_error_refreshes_no_mapping() {
    let mut scene = exchange(&udp(CLIENT, SERVER), 0);
    assert!(scene.after(4 * MINUTE));
    let outside = build(&udp(("192.0.2.1", CLIENT.1), SERVER), b"");
    let mut error = icmp_error(ip("203.0.113.1"), ip("192.0.2.1"), 3, &outside, 28);
    let verdict = scene
        .engine
        .icmp_error(VrfId(0), &mut error, 0, &scene.routes, scene.now);
    assert!(matches!(verdict, IcmpVerdict::Translated(_)));
    assert!(!scene.after(MINUTE + 2000));
}
