//! The log of sessions: each connection once when it is made, and once when it has ended.

mod support;

use std::net::IpAddr;

use nat::{EndReason, Engine, Millis, SessionEvent, Tuple};
use net::VrfId;
use support::*;

const NOW: Millis = Millis(1000);

fn logging(capacity: u32) -> Engine {
    let rules = policy(
        vec![masquerade(1, &["192.0.2.1"], (1024, 65535))],
        vec![forward(2, TCP, "192.0.2.7", 80, "10.0.0.9", 8080)],
    );
    let mut engine = engine(capacity, rules);
    engine.log_sessions();
    engine
}

fn events(engine: &mut Engine) -> Vec<SessionEvent> {
    std::iter::from_fn(|| engine.next_session_event()).collect()
}

fn tuple(source: (&str, u16), destination: (&str, u16)) -> Tuple {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    Tuple {
        source: address(source.0),
        source_port: source.1,
        destination: address(destination.0),
        destination_port: destination.1,
    }
}

#[test]
fn a_session_is_told_when_it_is_made_and_when_it_has_ended() {
    let (mut engine, routes) = (logging(100), routes());
    let request = udp(("10.0.0.5", 3000), ("198.51.100.9", 53));
    let out = send(&mut engine, &routes, 1, &build(&request, b"12345"), NOW).headers();
    send(&mut engine, &routes, 1, &build(&request, b"12345"), NOW);
    send(&mut engine, &routes, 0, &build(&answer(&out, 0), b""), NOW);
    let [made] = events(&mut engine)[..] else {
        panic!("one event")
    };
    let expected = SessionEvent {
        vrf: VrfId(1),
        protocol: UDP,
        original: tuple(("10.0.0.5", 3000), ("198.51.100.9", 53)),
        translated: tuple(("192.0.2.1", out.source_port), ("198.51.100.9", 53)),
        from_inside: true,
        ended: None,
    };
    assert_eq!(made, expected);
    engine.expire(Millis(NOW.0 + 400_000), 100, &mut |_, _| {});
    let [gone] = events(&mut engine)[..] else {
        panic!("one event")
    };
    let ended = gone.ended.expect("its end");
    assert_eq!(SessionEvent { ended: None, ..gone }, expected);
    assert_eq!(
        (ended.reason, ended.packets, ended.bytes),
        (EndReason::Idle, [2, 1], [66, 28])
    );
}

#[test]
fn a_session_from_outside_says_so() {
    let (mut engine, routes) = (logging(100), routes());
    let syn = tcp(("203.0.113.8", 4000), ("192.0.2.7", 80), SYN);
    send(&mut engine, &routes, 0, &build(&syn, b""), NOW);
    let [made] = events(&mut engine)[..] else {
        panic!("one event")
    };
    assert_eq!((made.vrf, made.from_inside), (VrfId(2), false));
    assert_eq!(made.original, tuple(("203.0.113.8", 4000), ("192.0.2.7", 80)));
    assert_eq!(made.translated, tuple(("203.0.113.8", 4000), ("10.0.0.9", 8080)));
}

#[test]
fn what_nobody_fetches_is_lost_and_counted_and_what_is_restored_is_not_told_again() {
    let (mut engine, routes) = (logging(10_000), routes());
    for port in 0..5000 {
        let request = udp(("10.0.0.5", port), ("198.51.100.9", 53));
        send(&mut engine, &routes, 1, &build(&request, b""), NOW);
    }
    let told = events(&mut engine).len();
    assert_eq!((told, engine.stats().session_events_lost), (4096, 904));
    let mut saved = vec![];
    engine.save(0, usize::MAX, &mut saved);
    let mut next = logging(10_000);
    let restored = saved.iter().filter(|saved| next.restore(saved, 0).is_ok()).count();
    assert_eq!((restored, events(&mut next)), (5000, vec![]));
    // Their ends are.
    next.expire(Millis(10_000_000), usize::MAX, &mut |_, _| {});
    assert_eq!((events(&mut next).len(), next.stats().session_events_lost), (4096, 904));
    let mut quiet = support::engine(10, policy(vec![masquerade(1, &["192.0.2.1"], (1024, 65535))], vec![]));
    let request = udp(("10.0.0.5", 1), ("198.51.100.9", 53));
    send(&mut quiet, &routes, 1, &build(&request, b""), NOW);
    assert_eq!(quiet.next_session_event(), None);
}
