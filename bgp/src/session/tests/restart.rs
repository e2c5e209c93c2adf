//! Graceful restart, of the peer and of this speaker.

use super::*;
use crate::wire::{GracefulRestart, RestartFamily};

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
        families: Family::ALL.map(entry).to_vec(),
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

/// Lets timers expire, refusing every connection, until what was kept is void.
fn until_stale_expires(bench: &mut Bench) -> Duration {
    let begin = bench.now;
    while !bench.outputs.contains(&Output::StaleExpired) {
        bench.expire();
    }
    bench.now - begin
}

#[test]
fn a_lost_connection_keeps_the_routes_for_the_restart_time() {
    let mut bench = established(helper(), Some(capability(false)));
    bench.feed(Event::Closed(OUT, "reset by peer".into()));
    assert_eq!(kept(&bench), Some(&Family::ALL.to_vec()));
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
    while !bench.outputs.contains(&Output::StaleExpired) {
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
    assert_eq!(kept(&bench), Some(&Family::ALL.to_vec()));
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
