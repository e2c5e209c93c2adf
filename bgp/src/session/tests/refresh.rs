//! Route refresh with a beginning and an end (RFC 7313), and messages above 4096 octets (RFC 8654).

use super::*;
use crate::wire::GracefulRestart;

const V4: Family = Family::Ipv4Unicast;

fn message(kind: Refresh) -> Bytes {
    wire::encode_route_refresh(V4, kind)
}

fn established(edit: impl FnOnce(&mut Capabilities)) -> Bench {
    let mut open = peer_open();
    edit(&mut open.capabilities);
    let mut config = config();
    config.capabilities.graceful_restart = Some(GracefulRestart {
        restarting: false,
        notification: true,
        restart_time: 120,
        families: Vec::new(),
    });
    let mut bench = Bench::new(config);
    bench
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing))
        .receive(OUT, open.encode())
        .receive(OUT, wire::encode_keepalive());
    assert_eq!(bench.state(), State::Established);
    bench.outputs.clear();
    bench
}

fn markers(bench: &Bench) -> Vec<Output> {
    let marker = |output: &&Output| matches!(output, Output::RefreshBegins(_) | Output::RefreshEnds(_));
    bench.outputs.iter().filter(marker).cloned().collect()
}

#[test]
fn a_refresh_of_the_peer_begins_and_ends() {
    let mut bench = established(|_| ());
    // An end without a beginning is nothing.
    bench.receive(OUT, message(Refresh::End));
    assert_eq!(markers(&bench), []);
    bench
        .receive(OUT, message(Refresh::Begin))
        .receive(OUT, message(Refresh::Unknown(9)))
        .receive(OUT, message(Refresh::End))
        .receive(OUT, message(Refresh::End));
    assert_eq!(markers(&bench), [Output::RefreshBegins(V4), Output::RefreshEnds(V4)]);
    assert_eq!(bench.session.statistics().refreshes_in, 1);
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn a_refresh_that_does_not_end_is_ended_by_the_stale_time() {
    let mut bench = established(|_| ());
    bench.receive(OUT, message(Refresh::Begin));
    let begin = bench.now;
    while markers(&bench).len() < 2 {
        bench.receive(OUT, wire::encode_keepalive());
        bench.expire();
    }
    assert_eq!(bench.now - begin, config().stale_time);
    assert_eq!(markers(&bench)[1], Output::RefreshEnds(V4));
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn beginnings_before_the_first_end_of_a_restarting_peer_or_without_the_capability_are_ignored() {
    let restarts = |capabilities: &mut Capabilities| {
        capabilities.graceful_restart = Some(GracefulRestart {
            restarting: true,
            notification: false,
            restart_time: 120,
            families: Vec::new(),
        });
    };
    let mut bench = established(restarts);
    bench.receive(OUT, message(Refresh::Begin));
    assert_eq!(markers(&bench), []);
    bench
        .receive(OUT, wire::encode_end_of_rib(V4, &context()))
        .receive(OUT, message(Refresh::Begin));
    assert_eq!(markers(&bench), [Output::RefreshBegins(V4)]);

    let mut bench = established(|capabilities| capabilities.enhanced_route_refresh = false);
    bench.receive(OUT, message(Refresh::Begin));
    assert_eq!(markers(&bench), []);
}

#[test]
fn a_marker_of_a_wrong_length_ends_the_session_with_the_error_of_its_own() {
    let mut bench = established(|_| ());
    let mut long = message(Refresh::Begin).to_vec();
    long.push(0);
    long[17] += 1;
    bench.receive(OUT, Bytes::from(long.clone()));
    assert_eq!(bench.notifications(OUT), [(code::ROUTE_REFRESH, 1)]);
    let Some(Message::Notification(notification)) = bench.sent(OUT).pop() else {
        panic!("NOTIFICATION")
    };
    assert_eq!(notification.data, long);
}

#[test]
fn we_ask_and_mark_what_we_tell_anew() {
    let mut bench = established(|_| ());
    bench
        .feed(Event::AskRefresh(V4))
        .feed(Event::RefreshBegins(V4))
        .feed(Event::RefreshEnds(V4));
    let sent = [Refresh::Request, Refresh::Begin, Refresh::End].map(|kind| Message::RouteRefresh(Some(V4), kind));
    assert_eq!(bench.sent(OUT), sent);
    let mut without = established(|capabilities| capabilities.route_refresh = false);
    without.feed(Event::AskRefresh(V4));
    assert_eq!(without.sent(OUT), []);
}

/// An UPDATE of so many octets: withdrawals of 10.0.0.0/8, of two octets each.
fn update_of(octets: u16) -> Bytes {
    let withdrawals = (octets - 23) / 2;
    let mut message = vec![0xff; 16];
    message.extend((23 + withdrawals * 2).to_be_bytes());
    message.push(2);
    message.extend((withdrawals * 2).to_be_bytes());
    message.extend((0..withdrawals).flat_map(|_| [8, 10]));
    message.extend([0, 0]);
    message.into()
}

#[test]
fn long_messages_are_taken_by_who_has_announced_it_and_sent_to_who_has() {
    for ours in [true, false] {
        let mut config = config();
        config.capabilities.extended_messages = ours;
        let mut bench = Bench::new(config);
        bench
            .feed(Event::Start)
            .feed(Event::Connected(OUT, Direction::Outgoing))
            .receive(OUT, peer_open().encode())
            .receive(OUT, wire::encode_keepalive());
        bench.outputs.clear();
        let prefixes: Vec<Nlri> = (0..20_000_u32)
            .map(|i| Prefix::host(Ipv4Addr::from(i << 8).into()).into())
            .collect();
        bench.feed(Event::Withdraw(prefixes));
        let longest = bench.outputs.iter().filter_map(|output| match output {
            Output::Send(_, bytes) => Some(bytes.len()),
            _ => None,
        });
        let longest = longest.max().expect("sent");
        assert_eq!(longest > 60_000, ours, "{longest}");
        assert!(ours || longest <= 4096, "{longest}");
        bench.outputs.clear();

        bench.receive(OUT, update_of(65_535));
        let up = bench.state() == State::Established;
        assert_eq!(up, ours, "{:?}", bench.notifications(OUT));
        assert_eq!(bench.notifications(OUT).first(), (!ours).then_some(&(code::HEADER, 2)));
    }
    // RFC 8654 section 4: never an OPEN.
    let mut bench = Bench::in_state(State::OpenSent);
    let mut header = vec![0xff; 16];
    header.extend([0x10, 0x01, 1]);
    bench.receive(OUT, header.into());
    assert_eq!(bench.notifications(OUT), [(code::HEADER, 2)]);
}
