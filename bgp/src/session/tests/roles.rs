//! Roles in the OPEN exchange (RFC 9234 section 4).

use super::*;
use crate::Role;

/// State after the OPEN of a peer that says `theirs`, and the notifications sent.
fn opened(ours: Option<Role>, strict: bool, theirs: &[u8]) -> (State, Vec<(u8, u8)>) {
    let mut config = config();
    config.role = ours;
    config.strict_role = strict;
    config.capabilities.roles = ours.map(Role::value).into_iter().collect();
    let mut bench = Bench::new(config);
    bench
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing));
    let mut open = peer_open();
    open.capabilities.roles = theirs.to_vec();
    bench.receive(OUT, open.encode());
    (bench.state(), bench.notifications(OUT))
}

#[test]
fn roles_that_do_not_correspond_end_the_session_with_role_mismatch() {
    let agreed = (State::OpenConfirm, vec![]);
    let mismatch = (State::Idle, vec![(code::OPEN, 11)]);
    for ours in [
        Role::Provider,
        Role::RsServer,
        Role::RsClient,
        Role::Customer,
        Role::Peer,
    ] {
        // 5 and 255 are not assigned.
        for theirs in [0, 1, 2, 3, 4, 5, 255] {
            let expected = if ours.opposite().value() == theirs {
                &agreed
            } else {
                &mismatch
            };
            assert_eq!(&opened(Some(ours), false, &[theirs]), expected, "{ours} and {theirs}");
        }
        // A peer that contradicts itself.
        let both = [ours.opposite().value(), 5];
        assert_eq!(opened(Some(ours), false, &both), mismatch, "{ours} and {both:?}");
    }
    // Without a role of ours, whatever the peer says.
    assert_eq!(opened(None, false, &[4]), agreed);
}

#[test]
fn a_peer_without_a_role_is_refused_on_a_strict_session_only() {
    assert_eq!(opened(Some(Role::Customer), false, &[]), (State::OpenConfirm, vec![]));
    assert_eq!(
        opened(Some(Role::Customer), true, &[]),
        (State::Idle, vec![(code::OPEN, 11)])
    );
    assert_eq!(opened(Some(Role::Customer), true, &[0]), (State::OpenConfirm, vec![]));
}

#[test]
fn the_role_is_in_our_open() {
    let mut config = config();
    config.role = Some(Role::RsServer);
    config.capabilities.roles = vec![Role::RsServer.value()];
    let mut bench = Bench::new(config);
    bench
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing));
    let Message::Open(open) = bench.sent(OUT).remove(0) else {
        panic!("OPEN is first")
    };
    assert_eq!(open.capabilities.roles, [1]);
}
