//! Graceful restart, of the peer and of this speaker.

use super::*;
use crate::wire::{GracefulRestart, LongLivedFamily, RestartFamily};

const RESTART_TIME: Duration = Duration::from_secs(120);

fn capability(notification: bool) -> GracefulRestart {
    let entry = |family| RestartFamily {
        family,
        forwarding: true,
    };
    GracefulRestart {
        restarting: false,
        notification,
        restart_time: 120,
        families: Family::UNICAST.map(entry).to_vec(),
    }
}

/// Ours as a helper: no family.
fn helper() -> Config {
    let mut config = config();
    config.capabilities.graceful_restart = Some(GracefulRestart {
        families: Vec::new(),
        ..capability(true)
    });
    config
}

fn open_with(restart: Option<GracefulRestart>) -> Open {
    let mut open = peer_open();
    open.capabilities.graceful_restart = restart;
    open
}

/// Established over [`OUT`] with a peer that offers `theirs`.
fn established(config: Config, theirs: Option<GracefulRestart>) -> Bench {
    let mut bench = Bench::new(config);
    bench
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing))
        .receive(OUT, open_with(theirs).encode())
        .receive(OUT, wire::encode_keepalive());
    assert_eq!(bench.state(), State::Established);
    bench.outputs.clear();
    bench
}

fn kept(bench: &Bench) -> Option<&Vec<Family>> {
    bench.outputs.iter().find_map(|output| match output {
        Output::Down(_, kept) => Some(kept),
        _ => None,
    })
}

fn is_void(bench: &Bench) -> bool {
    bench
        .outputs
        .iter()
        .any(|output| matches!(output, Output::StaleExpired(_)))
}

/// Lets timers expire, refusing every connection, until what was kept is void.
fn until_stale_expires(bench: &mut Bench) -> Duration {
    let begin = bench.now;
    while !is_void(bench) {
        bench.expire();
    }
    bench.now - begin
}

#[test]
fn a_lost_connection_keeps_the_routes_for_the_restart_time() {
    let mut bench = established(helper(), Some(capability(false)));
    bench.feed(Event::Closed(OUT, "reset by peer".into()));
    assert_eq!(kept(&bench), Some(&Family::UNICAST.to_vec()));
    assert_eq!(until_stale_expires(&mut bench), RESTART_TIME);
}

#[test]
fn our_bound_is_shorter_than_what_the_peer_asks_for() {
    let stale_time = Duration::from_secs(7);
    let mut bench = established(Config { stale_time, ..helper() }, Some(capability(false)));
    bench.feed(Event::Closed(OUT, "reset by peer".into()));
    assert_eq!(until_stale_expires(&mut bench), stale_time);
}

#[test]
fn nothing_is_kept_unless_both_sides_ask_for_it() {
    let no_families = GracefulRestart {
        families: Vec::new(),
        ..capability(true)
    };
    let no_time = GracefulRestart {
        restart_time: 0,
        ..capability(true)
    };
    for (config, theirs) in [
        (config(), Some(capability(true))),
        (helper(), None),
        (helper(), Some(no_families)),
        (helper(), Some(no_time)),
    ] {
        let mut bench = established(config, theirs);
        bench.feed(Event::Closed(OUT, "reset by peer".into()));
        assert_eq!(kept(&bench), Some(&Vec::new()));
        assert_eq!(bench.session.restart.deadline(), None);
    }
}

#[test]
fn a_family_that_is_not_negotiated_is_not_kept() {
    let mut config = helper();
    config.capabilities.families = vec![Family::Ipv6Unicast];
    let mut bench = established(config, Some(capability(false)));
    bench.feed(Event::Closed(OUT, "reset by peer".into()));
    assert_eq!(kept(&bench), Some(&vec![Family::Ipv6Unicast]));
}

#[test]
fn a_notification_keeps_routes_only_with_the_n_bit_of_both_and_no_hard_reset() {
    let plain = Notification::cease(Cease::AdministrativeShutdown);
    let hard = plain.clone().into_hard_reset();
    for (notification, n_bit, survives) in [
        (&plain, false, false),
        (&plain, true, true),
        (&hard, true, false),
        (&hard, false, false),
    ] {
        let mut bench = established(helper(), Some(capability(n_bit)));
        bench.receive(OUT, notification.encode());
        assert_eq!(
            kept(&bench).map(|kept| !kept.is_empty()),
            Some(survives),
            "{notification}, N {n_bit}"
        );
    }
}

#[test]
fn a_silent_peer_keeps_its_routes_with_the_n_bit() {
    for n_bit in [false, true] {
        let mut bench = established(helper(), Some(capability(n_bit)));
        while bench.state() == State::Established {
            bench.expire();
        }
        assert_eq!(bench.notifications(OUT), [(code::HOLD_TIMER, 0)]);
        assert_eq!(kept(&bench).map(|kept| !kept.is_empty()), Some(n_bit));
    }
}

#[test]
fn what_we_end_for_good_is_a_hard_reset_and_keeps_nothing() {
    for event in [
        Event::Stop(Notification::shutdown("rack 4 moves")),
        Event::Reset(Cease::MaxPrefixes, None),
    ] {
        let mut bench = established(helper(), Some(capability(true)));
        bench.feed(event);
        assert_eq!(bench.notifications(OUT), [(code::CEASE, 9)]);
        assert_eq!(kept(&bench), Some(&Vec::new()));
    }
    let mut bench = established(helper(), Some(capability(true)));
    bench.feed(Event::Stop(Notification::shutdown("rack 4 moves")));
    let error = bench.session.statistics().last_error.clone().unwrap_or_default();
    assert!(
        error.contains("hard reset") && error.contains("rack 4 moves"),
        "{error}"
    );
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn a_peer_that_is_back_gets_the_stale_time_to_tell_its_routes() {
    let mut bench = established(helper(), Some(capability(false)));
    bench.feed(Event::Closed(OUT, "reset by peer".into()));
    bench.now += Duration::from_secs(60);
    bench.feed(Event::Timeout).outputs.clear();
    bench
        .feed(Event::Connected(IN, Direction::Incoming))
        .receive(IN, open_with(Some(capability(false))).encode())
        .receive(IN, wire::encode_keepalive());
    assert_eq!(bench.state(), State::Established);
    let back = bench.now;
    while !is_void(&bench) {
        bench.receive(IN, wire::encode_keepalive()).expire();
    }
    assert_eq!(bench.now - back, bench.session.config.stale_time);
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn a_peer_that_connects_again_has_restarted() {
    let mut bench = established(helper(), Some(capability(false)));
    bench.now += Duration::from_secs(20);
    bench.feed(Event::Connected(IN, Direction::Incoming));
    assert!(bench.closed(OUT) && !bench.closed(IN));
    assert_eq!(bench.notifications(OUT), []);
    assert_eq!(kept(&bench), Some(&Family::UNICAST.to_vec()));
    bench
        .receive(IN, open_with(Some(capability(false))).encode())
        .receive(IN, wire::encode_keepalive());
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn the_loser_of_a_collision_is_no_restart() {
    let mut bench = established(helper(), Some(capability(false)));
    bench.feed(Event::Connected(IN, Direction::Incoming));
    assert!(bench.closed(IN) && !bench.closed(OUT));
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn the_first_open_says_that_we_restarted_and_the_next_that_we_went_on() {
    let mut config = config();
    let mut ours = capability(true);
    ours.restarting = true;
    ours.families.iter_mut().for_each(|entry| entry.forwarding = false);
    config.capabilities.graceful_restart = Some(ours.clone());
    let offered = |bench: &Bench, id| match bench.sent(id).first() {
        Some(Message::Open(open)) => open.capabilities.graceful_restart.clone(),
        other => panic!("{other:?}"),
    };
    let mut bench = Bench::new(config);
    bench
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing));
    assert_eq!(offered(&bench, OUT), Some(ours));
    bench
        .receive(OUT, peer_open().encode())
        .receive(OUT, wire::encode_keepalive())
        .feed(Event::Closed(OUT, "reset by peer".into()))
        .feed(Event::Connected(IN, Direction::Incoming));
    assert_eq!(offered(&bench, IN), Some(capability(true)));
}

/// Established with a helper that keeps for long, and a peer that asks for this many seconds in IPv4; then lost.
fn lost_for_long(restarts: bool, ours: Duration, theirs: u32) -> Bench {
    let mut config = helper();
    config.long_lived_time = ours;
    config.capabilities.long_lived = Some(Vec::new());
    let mut open = open_with(Some(GracefulRestart {
        families: if restarts {
            capability(false).families
        } else {
            Vec::new()
        },
        ..capability(false)
    }));
    open.capabilities.long_lived = Some(vec![LongLivedFamily {
        family: Family::Ipv4Unicast,
        forwarding: true,
        stale_time: theirs,
    }]);
    let mut bench = Bench::new(config);
    bench
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing))
        .receive(OUT, open.encode())
        .receive(OUT, wire::encode_keepalive())
        .feed(Event::Closed(OUT, "reset by peer".into()));
    bench
}

/// What happens to kept families, with the time since the loss.
fn fates(bench: &mut Bench) -> Vec<(Duration, Output)> {
    let begin = bench.now;
    let mut fates = Vec::new();
    while bench.session.restart.deadline().is_some() {
        bench.outputs.clear();
        bench.expire();
        let outputs = bench.outputs.drain(..);
        let fate = outputs.filter(|output| matches!(output, Output::LongLived(_) | Output::StaleExpired(_)));
        fates.extend(fate.map(|output| (bench.now - begin, output)));
    }
    fates
}

#[test]
fn after_the_restart_time_routes_are_a_last_resort_for_the_shorter_of_both_long_times() {
    let (v4, v6) = (vec![Family::Ipv4Unicast], vec![Family::Ipv6Unicast]);
    for (ours, theirs, time) in [(3600, 7200, 3600), (7200, 3600, 3600)] {
        let mut bench = lost_for_long(true, Duration::from_secs(ours), theirs);
        assert_eq!(kept(&bench), Some(&Family::UNICAST.to_vec()));
        let expected = [
            (RESTART_TIME, Output::LongLived(v4.clone())),
            (RESTART_TIME, Output::StaleExpired(v6.clone())),
            (
                RESTART_TIME + Duration::from_secs(time),
                Output::StaleExpired(v4.clone()),
            ),
        ];
        assert_eq!(fates(&mut bench), expected);
    }
    // A family that does not restart gracefully is a last resort at once.
    let mut bench = lost_for_long(false, Duration::from_secs(60), 60);
    assert_eq!(kept(&bench), Some(&v4));
    let expected = [
        (Duration::ZERO, Output::LongLived(v4.clone())),
        (Duration::from_secs(60), Output::StaleExpired(v4)),
    ];
    assert_eq!(fates(&mut bench), expected);
}

#[test]
fn a_peer_that_is_back_after_long_gets_the_stale_time_as_well() {
    let mut bench = lost_for_long(true, Duration::from_secs(3600), 3600);
    while !bench
        .outputs
        .iter()
        .any(|output| matches!(output, Output::LongLived(_)))
    {
        bench.expire();
    }
    let mut open = open_with(Some(capability(false)));
    open.capabilities.long_lived = Some(Vec::new());
    bench
        .feed(Event::Connected(IN, Direction::Incoming))
        .receive(IN, open.encode())
        .receive(IN, wire::encode_keepalive());
    assert_eq!(bench.state(), State::Established);
    bench.outputs.clear();
    let back = bench.now;
    while !is_void(&bench) {
        bench.receive(IN, wire::encode_keepalive()).expire();
    }
    assert_eq!(bench.now - back, bench.session.config.stale_time);
}

#[test]
fn a_long_lived_capability_alone_is_nothing() {
    let mut open = open_with(None);
    open.capabilities.long_lived = Some(Vec::new());
    assert_eq!(
        decode(open.encode()),
        Ok(Message::Open(open_with(None))),
        "RFC 9494 section 4.1"
    );
}
