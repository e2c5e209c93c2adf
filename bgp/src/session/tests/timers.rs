//! Hold, keepalive, send hold and connect retry timers, and the pauses between attempts.

use super::*;

#[test]
fn keepalives_go_out_and_a_silent_peer_is_dropped() {
    let mut bench = Bench::in_state(State::Established);
    let begin = bench.now;
    // The smaller of the two hold times is 30 s, so the interval is at most 10 s.
    while bench.state() == State::Established {
        assert!(bench.expire() <= Duration::from_secs(10));
    }
    assert_eq!(bench.now - begin, Duration::from_secs(30));
    let keepalives = bench
        .sent(OUT)
        .iter()
        .filter(|message| **message == Message::Keepalive)
        .count();
    assert!((2..=4).contains(&keepalives), "{keepalives}");
    assert_eq!(bench.notifications(OUT), [(code::HOLD_TIMER, 0)]);
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::Down(..))));
    assert_eq!(bench.session.statistics().flaps, 1);
}

#[test]
fn a_keepalive_of_the_peer_restarts_the_hold_timer() {
    let mut bench = Bench::in_state(State::Established);
    for _ in 0..10 {
        bench.now += Duration::from_secs(29);
        bench.feed(Event::Timeout).receive(OUT, wire::encode_keepalive());
    }
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn while_nothing_is_read_the_hold_timer_stands_still_and_keepalives_go_out() {
    let mut bench = Bench::in_state(State::Established);
    bench.feed(Event::Pause);
    let begin = bench.now;
    while bench.now - begin < Duration::from_secs(300) {
        bench.expire();
    }
    assert_eq!(bench.state(), State::Established);
    assert!(bench.sent(OUT).len() >= 30);
    bench.feed(Event::Resume);
    let resumed = bench.now;
    while bench.state() == State::Established {
        bench.expire();
    }
    assert_eq!(
        bench.now - resumed,
        Duration::from_secs(30),
        "the peer gets its whole hold time again"
    );
}

#[test]
fn hold_time_zero_means_no_timers() {
    let mut bench = Bench::in_state(State::OpenSent);
    bench
        .receive(
            OUT,
            Open {
                hold_time: 0,
                ..peer_open()
            }
            .encode(),
        )
        .receive(OUT, wire::encode_keepalive());
    assert_eq!(
        (bench.state(), bench.session.poll_timeout()),
        (State::Established, None)
    );
}

#[test]
fn a_peer_that_never_sends_its_open_is_dropped() {
    let mut bench = Bench::in_state(State::OpenSent);
    assert_eq!(bench.expire(), connection::OPEN_HOLD);
    assert_eq!(
        (bench.notifications(OUT), bench.state()),
        (vec![(code::HOLD_TIMER, 0)], State::Idle)
    );
}

#[test]
fn attempts_pause_longer_each_time_and_start_over_after_success() {
    let mut bench = Bench::in_state(State::Connect);
    for full in [1, 2, 4, 8, 10, 10] {
        bench.feed(Event::ConnectFailed("refused".into()));
        assert_eq!(bench.state(), State::Idle);
        let pause = bench.expire();
        assert!(
            pause <= Duration::from_secs(full) && pause >= Duration::from_secs(full) * 3 / 4,
            "{pause:?}"
        );
        assert_eq!(bench.state(), State::Connect);
    }
    bench.feed(Event::Connected(OUT, Direction::Outgoing));
    bench
        .receive(OUT, peer_open().encode())
        .receive(OUT, wire::encode_keepalive());
    bench.feed(Event::Closed(OUT, "reset by peer".into()));
    assert!(bench.expire() <= Duration::from_secs(1));
}

#[test]
fn a_session_that_we_have_to_end_again_and_again_pauses_longer() {
    let mut bench = Bench::in_state(State::Established);
    for full in [1, 2, 4] {
        bench.feed(Event::Reset(Cease::MaxPrefixes, None));
        assert!(bench.expire() >= Duration::from_secs(full) * 3 / 4);
        bench.feed(Event::Connected(OUT, Direction::Outgoing));
        bench
            .receive(OUT, peer_open().encode())
            .receive(OUT, wire::encode_keepalive());
        assert_eq!(bench.state(), State::Established);
    }
    assert_eq!(bench.notifications(OUT), [(code::CEASE, 1); 3]);
}

#[test]
fn an_attempt_without_an_answer_is_made_anew() {
    let mut bench = Bench::in_state(State::Connect);
    assert_eq!(bench.expire(), CONNECT_TIMEOUT);
    assert_eq!(bench.outputs[..2], [Output::AbortConnect, Output::Connect]);
}

#[test]
fn silence_is_an_error_that_is_shown() {
    for signed in [false, true] {
        let mut bench = Bench::new(Config { signed, ..config() });
        bench.feed(Event::Start).expire();
        let error = bench.session.statistics().last_error.clone().unwrap_or_default();
        assert!(error.contains("no answer in 10 s"), "{error}");
        assert_eq!(error.contains("password"), signed, "{error}");
    }
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_though_it_speaks() {
    let mut bench = Bench::in_state(State::Established);
    bench.stuck = true;
    let begin = bench.now;
    while bench.state() == State::Established {
        bench.receive(OUT, wire::encode_keepalive()).expire();
    }
    assert_eq!(bench.notifications(OUT), [(code::SEND_HOLD_TIMER, 0)]);
    // The first keepalive is what was not taken.
    let waited = bench.now - begin;
    assert!(
        waited >= SEND_HOLD && waited <= SEND_HOLD + Duration::from_secs(10),
        "{waited:?}"
    );
}

#[test]
fn a_peer_that_takes_a_little_at_a_time_is_kept() {
    let mut bench = Bench::in_state(State::Established);
    bench.stuck = true;
    let begin = bench.now;
    while bench.now - begin < SEND_HOLD * 3 {
        bench.receive(OUT, wire::encode_keepalive()).expire();
        bench.feed(Event::Sent(OUT, 1));
    }
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn a_reset_with_a_pause_keeps_the_peer_out_for_as_long() {
    for passive in [false, true] {
        let mut bench = Bench::new(Config { passive, ..config() });
        bench
            .feed(Event::Start)
            .feed(Event::Connected(IN, Direction::Incoming))
            .receive(IN, peer_open().encode())
            .receive(IN, wire::encode_keepalive());
        assert_eq!(bench.state(), State::Established);
        let pause = Duration::from_secs(900);
        bench.feed(Event::Reset(Cease::MaxPrefixes, Some(pause)));
        assert_eq!(bench.state(), State::Idle);
        bench.now += pause / 2;
        let knock = ConnectionId(9);
        bench
            .feed(Event::Timeout)
            .feed(Event::Connected(knock, Direction::Incoming));
        assert_eq!(bench.notifications(knock), [(code::CEASE, 5)]);
        assert_eq!(bench.expire(), pause / 2);
        assert_eq!(bench.state(), if passive { State::Active } else { State::Connect });
    }
}

/// A machine that slept: every timer is late by a day at once.
#[test]
fn a_clock_that_jumps_by_a_day_ends_the_session_once_and_it_comes_back() {
    for state in [State::Connect, State::OpenSent, State::OpenConfirm, State::Established] {
        let mut bench = Bench::in_state(state);
        bench.now += Duration::from_secs(86_400);
        bench.feed(Event::Timeout);
        let expired = if state >= State::OpenSent {
            vec![(code::HOLD_TIMER, 0)]
        } else {
            vec![]
        };
        assert_eq!(bench.notifications(OUT), expired, "{state}");
        assert!(bench.sent(OUT).len() <= 1, "no keepalive for each one missed");
        // Nothing is due now, so that the driver does not spin.
        assert!(bench.session.poll_timeout().is_some_and(|at| at > bench.now), "{state}");
        if state >= State::OpenSent {
            bench.expire();
        }
        assert_eq!(bench.state(), State::Connect, "{state}");
    }
}
