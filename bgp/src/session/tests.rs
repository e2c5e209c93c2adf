//! The state machine over in-memory events and an injected clock.

mod refresh;
mod restart;
mod roles;
mod timers;

use std::net::Ipv4Addr;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::Family;
use crate::wire::{Capabilities, Message, NextHop, decode, fsm, split_message};

const OUT: ConnectionId = ConnectionId(1);
const IN: ConnectionId = ConnectionId(2);
const PEER_AS: u32 = 65001;
const SEND_HOLD: Duration = Duration::from_secs(480);

fn config() -> Config {
    Config {
        local_as: 65000,
        remote_as: PEER_AS.into(),
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        hold_time: 90,
        connect_retry: Duration::from_secs(10),
        passive: false,
        capabilities: Capabilities {
            families: Family::UNICAST.to_vec(),
            route_refresh: true,
            enhanced_route_refresh: true,
            extended_messages: true,
            four_octet_as: true,
            ipv6_next_hop_for_ipv4: true,
            graceful_restart: None,
            long_lived: None,
            roles: Vec::new(),
        },
        role: None,
        strict_role: false,
        stale_time: Duration::from_secs(360),
        long_lived_time: Duration::ZERO,
        signed: false,
        send_hold_time: SEND_HOLD,
    }
}

fn peer_open() -> Open {
    Open {
        asn: PEER_AS,
        hold_time: 30,
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: config().capabilities,
    }
}

/// A session with a clock; collects what the session asks for.
struct Bench {
    session: Session,
    now: Instant,
    outputs: Vec<Output>,
    /// The peer takes nothing of what is sent.
    stuck: bool,
}

impl Bench {
    fn new(config: Config) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "the test's clock begins at the real one and is moved by hand"
        )]
        let now = Instant::now();
        Self {
            session: Session::new(config, 7),
            now,
            outputs: Vec::new(),
            stuck: false,
        }
    }

    fn feed(&mut self, event: Event) -> &mut Self {
        self.session.handle(event, self.now);
        let outputs: Vec<_> = std::iter::from_fn(|| self.session.poll_output()).collect();
        for output in &outputs {
            if let Output::Send(id, _) = output
                && !self.stuck
            {
                self.session.handle(Event::Sent(*id, 0), self.now);
            }
        }
        self.outputs.extend(outputs);
        self
    }

    fn receive(&mut self, id: ConnectionId, bytes: Bytes) -> &mut Self {
        self.feed(Event::Received(id, bytes))
    }

    /// Moves the clock to the next timer and lets it expire.
    fn expire(&mut self) -> Duration {
        let at = self.session.poll_timeout().expect("a timer runs");
        let waited = at - self.now;
        self.now = at;
        self.feed(Event::Timeout);
        waited
    }

    /// In a state, outgoing connection [`OUT`] where the state has one.
    fn in_state(state: State) -> Self {
        let mut bench = Self::new(Config {
            passive: state == State::Active,
            ..config()
        });
        if state == State::Idle {
            return bench;
        }
        bench.feed(Event::Start);
        if state >= State::OpenSent {
            bench.feed(Event::Connected(OUT, Direction::Outgoing));
        }
        if state >= State::OpenConfirm {
            bench.receive(OUT, peer_open().encode());
        }
        if state == State::Established {
            bench.receive(OUT, wire::encode_keepalive());
        }
        assert_eq!(bench.session.state(), state);
        bench.outputs.clear();
        bench
    }

    fn state(&self) -> State {
        self.session.state()
    }

    /// Code and subcode of the notifications sent on a connection.
    fn notifications(&self, id: ConnectionId) -> Vec<(u8, u8)> {
        self.sent(id)
            .into_iter()
            .filter_map(|message| match message {
                Message::Notification(notification) => Some((notification.code, notification.subcode)),
                _ => None,
            })
            .collect()
    }

    fn sent(&self, id: ConnectionId) -> Vec<Message> {
        let mut stream = BytesMut::new();
        for output in &self.outputs {
            if let Output::Send(to, bytes) = output
                && *to == id
            {
                stream.extend_from_slice(bytes);
            }
        }
        let next = || split_message(&mut stream, wire::EXTENDED_MAX_MESSAGE).expect("we write valid headers");
        std::iter::from_fn(next)
            .map(|bytes| decode(bytes).expect("we write valid messages"))
            .collect()
    }

    fn closed(&self, id: ConnectionId) -> bool {
        self.outputs.contains(&Output::Close(id))
    }
}

/// The events of the table below.
fn happening(name: &str) -> Event {
    let message = |bytes| Event::Received(OUT, bytes);
    match name {
        "start" => Event::Start,
        "stop" => Event::Stop(Notification::shutdown("")),
        "reset" => Event::Reset(Cease::MaxPrefixes, None),
        "connected" => Event::Connected(OUT, Direction::Outgoing),
        "accepted" => Event::Connected(IN, Direction::Incoming),
        "connect failed" => Event::ConnectFailed("refused".into()),
        "closed" => Event::Closed(OUT, "closed".into()),
        "open" => message(peer_open().encode()),
        "keepalive" => message(wire::encode_keepalive()),
        "update" => message(wire::encode_end_of_rib(Family::Ipv4Unicast, &context())),
        "refresh" => message(wire::encode_route_refresh(Family::Ipv4Unicast, Refresh::Request)),
        "notification" => message(Notification::cease(Cease::AdministrativeShutdown).encode()),
        "garbage" => message(Bytes::from_static(&[0; 19])),
        other => panic!("no event {other}"),
    }
}

fn context() -> wire::Context {
    wire::Context {
        four_octet_as: true,
        ibgp: false,
        families: Family::UNICAST.to_vec(),
        ipv6_next_hop_for_ipv4: true,
        extended_messages: false,
    }
}

#[test]
fn every_state_with_every_event() {
    use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    const NAMES: [&str; 13] = [
        "start",
        "stop",
        "reset",
        "connected",
        "accepted",
        "connect failed",
        "closed",
        "open",
        "keepalive",
        "update",
        "refresh",
        "notification",
        "garbage",
    ];
    // Next state a column as in NAMES; RFC 4271 section 8.2.2. Active is that of a passive session.
    let table = [
        (
            Idle,
            [
                Connect, Idle, Idle, Idle, Idle, Idle, Idle, Idle, Idle, Idle, Idle, Idle, Idle,
            ],
        ),
        (
            Connect,
            [
                Connect, Idle, Connect, OpenSent, OpenSent, Idle, Connect, Connect, Connect, Connect, Connect, Connect,
                Connect,
            ],
        ),
        (
            Active,
            [
                Active, Idle, Active, Active, OpenSent, Active, Active, Active, Active, Active, Active, Active, Active,
            ],
        ),
        (
            OpenSent,
            [
                OpenSent,
                Idle,
                Idle,
                OpenSent,
                OpenSent,
                OpenSent,
                Active,
                OpenConfirm,
                Idle,
                Idle,
                Idle,
                Idle,
                Idle,
            ],
        ),
        (
            OpenConfirm,
            [
                OpenConfirm,
                Idle,
                Idle,
                OpenConfirm,
                OpenConfirm,
                OpenConfirm,
                Idle,
                Idle,
                Established,
                Idle,
                Idle,
                Idle,
                Idle,
            ],
        ),
        (
            Established,
            [
                Established,
                Idle,
                Idle,
                Established,
                Established,
                Established,
                Idle,
                Idle,
                Established,
                Established,
                Established,
                Idle,
                Idle,
            ],
        ),
    ];
    for (state, row) in table {
        for (name, next) in NAMES.into_iter().zip(row) {
            let mut bench = Bench::in_state(state);
            bench.feed(happening(name));
            assert_eq!(bench.state(), next, "{state} with {name}");
            if name != "stop" && state != Idle && !(state == Active || next >= OpenSent) {
                assert!(
                    bench.session.poll_timeout().is_some(),
                    "{state} with {name} would never come back"
                );
            }
        }
    }
}

#[test]
fn unexpected_messages_are_answered_with_the_state_in_the_subcode() {
    for (state, name, subcode) in [
        (State::OpenSent, "keepalive", fsm::OPEN_SENT),
        (State::OpenConfirm, "update", fsm::OPEN_CONFIRM),
        (State::Established, "open", fsm::ESTABLISHED),
    ] {
        let mut bench = Bench::in_state(state);
        bench.feed(happening(name));
        assert_eq!(bench.notifications(OUT), [(code::FSM, subcode)], "{state}");
        assert!(bench.closed(OUT));
    }
}

#[test]
fn a_refused_open_names_what_is_wrong() {
    let answer = |bytes: Bytes| {
        let mut bench = Bench::in_state(State::OpenSent);
        bench.receive(OUT, bytes);
        assert!(bench.closed(OUT) && bench.state() == State::Idle);
        bench.notifications(OUT)
    };
    let with = |edit: fn(&mut Open)| {
        let mut open = peer_open();
        edit(&mut open);
        answer(open.encode())
    };
    let patched = |at: usize, value: u8| {
        let mut bytes = peer_open().encode().to_vec();
        bytes[at] = value;
        answer(bytes.into())
    };
    assert_eq!(patched(19, 3), [(2, 1)], "version 3");
    assert_eq!(with(|open| open.asn = 65002), [(2, 2)]);
    assert_eq!(with(|open| open.router_id = Ipv4Addr::UNSPECIFIED), [(2, 3)]);
    assert_eq!(patched(29, 1), [(2, 4)], "optional parameter 1");
    assert_eq!(with(|open| open.hold_time = 2), [(2, 6)]);
    assert_eq!(patched(28, 5), [(2, 0)], "length of the optional parameters");
    assert_eq!(patched(0, 0), [(1, 1)], "marker");
    assert_eq!(patched(16, 0xff), [(1, 2)], "length");
    assert_eq!(patched(18, 77), [(1, 3)], "type");

    // No family in common: the data says which we want.
    let mut v6_only = Bench::new(config());
    v6_only.session.config.capabilities.families = vec![Family::Ipv6Unicast];
    v6_only
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing));
    let mut open = peer_open();
    open.capabilities.families = Vec::new();
    v6_only.receive(OUT, open.encode());
    let Some(Message::Notification(notification)) = v6_only.sent(OUT).pop() else {
        panic!("no notification")
    };
    assert_eq!(
        (notification.code, notification.subcode, notification.data.as_ref()),
        (2, 7, &[1, 4, 0, 2, 0, 1][..])
    );
}

#[test]
fn an_internal_peer_with_our_identifier_is_refused_and_an_external_one_is_not() {
    let mut open = peer_open();
    open.router_id = config().router_id;
    let mut external = Bench::in_state(State::OpenSent);
    external.receive(OUT, open.encode());
    assert_eq!(external.state(), State::OpenConfirm);

    let mut internal = Bench::new(Config {
        remote_as: 65000.into(),
        ..config()
    });
    internal
        .feed(Event::Start)
        .feed(Event::Connected(OUT, Direction::Outgoing));
    open.asn = 65000;
    internal.receive(OUT, open.encode());
    assert_eq!(internal.notifications(OUT), [(2, 3)]);
}

/// Two connections, the second OPEN arriving on `second`: the one that is left.
fn survivor(local_id: u8, second: ConnectionId) -> ConnectionId {
    let mut bench = Bench::new(Config {
        router_id: Ipv4Addr::new(10, 0, 0, local_id),
        ..config()
    });
    bench.feed(Event::Start);
    bench
        .feed(Event::Connected(IN, Direction::Incoming))
        .feed(Event::Connected(OUT, Direction::Outgoing));
    let first = if second == OUT { IN } else { OUT };
    bench
        .receive(first, peer_open().encode())
        .receive(second, peer_open().encode());
    let (kept, lost) = if bench.closed(IN) { (OUT, IN) } else { (IN, OUT) };
    assert!(bench.closed(lost) && !bench.closed(kept));
    assert_eq!(bench.notifications(lost), [(code::CEASE, 7)]);
    bench.receive(kept, wire::encode_keepalive());
    assert_eq!(bench.state(), State::Established);
    kept
}

#[test]
fn the_higher_identifier_keeps_the_connection_it_opened() {
    // The peer's identifier is 10.0.0.2.
    for second in [IN, OUT] {
        assert_eq!(survivor(9, second), OUT, "ours is higher");
        assert_eq!(survivor(1, second), IN, "theirs is higher");
        // RFC 6286: equal identifiers, so the higher AS number decides; theirs is 65001.
        assert_eq!(survivor(2, second), IN);
    }
}

#[test]
fn a_connection_beside_an_established_session_is_refused() {
    let mut bench = Bench::in_state(State::Established);
    bench.feed(Event::Connected(IN, Direction::Incoming));
    assert_eq!(bench.notifications(IN), [(code::CEASE, 7)]);
    assert!(bench.closed(IN) && !bench.closed(OUT));
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn establishing_one_connection_ends_the_attempt_for_another() {
    let mut bench = Bench::in_state(State::Connect);
    bench.feed(Event::Connected(IN, Direction::Incoming));
    bench
        .receive(IN, peer_open().encode())
        .receive(IN, wire::encode_keepalive());
    assert_eq!(bench.state(), State::Established);
    assert!(bench.outputs.contains(&Output::AbortConnect));
    // The driver could not stop it in time.
    bench.feed(Event::Connected(OUT, Direction::Outgoing));
    assert!(bench.closed(OUT) && bench.state() == State::Established);
}

/// Carries bytes between two sessions, one connection opened by each, until nothing moves.
fn converse(left: &mut Bench, right: &mut Bench) {
    loop {
        let from_left: Vec<_> = left.outputs.drain(..).collect();
        let from_right: Vec<_> = right.outputs.drain(..).collect();
        if from_left.is_empty() && from_right.is_empty() {
            return;
        }
        // What is outgoing for one is incoming for the other.
        let other = |id| if id == OUT { IN } else { OUT };
        for (outputs, to) in [(from_left, &mut *right), (from_right, &mut *left)] {
            for output in outputs {
                match output {
                    Output::Send(id, bytes) => drop(to.receive(other(id), bytes)),
                    Output::Close(id) => drop(to.feed(Event::Closed(other(id), "closed".into()))),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn two_speakers_that_connect_at_once_end_with_one_session() {
    let mut left = Bench::new(config());
    let mut right = Bench::new(Config {
        local_as: PEER_AS,
        remote_as: 65000.into(),
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        ..config()
    });
    for bench in [&mut left, &mut right] {
        bench.feed(Event::Start);
        bench
            .feed(Event::Connected(OUT, Direction::Outgoing))
            .feed(Event::Connected(IN, Direction::Incoming));
    }
    converse(&mut left, &mut right);
    for bench in [&left, &right] {
        assert_eq!(
            (bench.state(), bench.session.connections.len()),
            (State::Established, 1)
        );
        assert_eq!(bench.session.statistics().flaps, 0);
    }
    assert_eq!(left.session.connections[0].direction, Direction::Incoming);
    assert_eq!(right.session.connections[0].direction, Direction::Outgoing);
}

#[test]
fn updates_and_refreshes_come_out_and_go_in() {
    let mut bench = Bench::in_state(State::Established);
    let prefixes: Vec<Prefix> = vec!["192.0.2.0/24".parse().expect("prefix")];
    let mut attributes = Attributes::originated(NextHop::from(std::net::IpAddr::from([10, 0, 0, 2])));
    attributes.as_path = attributes.prepended(PEER_AS);
    bench.feed(Event::Announce(Arc::new(attributes.clone()), prefixes.clone()));
    bench
        .feed(Event::Withdraw(prefixes.clone()))
        .feed(Event::EndOfRib(Family::Ipv6Unicast));
    assert_eq!(bench.sent(OUT).len(), 3);

    // The same bytes, as if the peer had sent them.
    let echo: Vec<_> = bench.outputs.drain(..).collect();
    for output in echo {
        if let Output::Send(_, bytes) = output {
            bench.receive(OUT, bytes);
        }
    }
    bench.receive(OUT, wire::encode_route_refresh(Family::Ipv6Unicast, Refresh::Request));
    let updates: Vec<_> = bench
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Update(update) => Some(update),
            _ => None,
        })
        .collect();
    assert_eq!(
        updates[0].announced,
        [wire::Announcement {
            attributes,
            prefixes: prefixes.clone()
        }]
    );
    assert_eq!(updates[1].withdrawn, prefixes);
    assert_eq!(updates[2].end_of_rib, Some(Family::Ipv6Unicast));
    assert_eq!(bench.outputs.last(), Some(&Output::Refresh(Family::Ipv6Unicast)));
}

#[test]
fn a_stopped_session_says_why_and_stays_idle() {
    let mut bench = Bench::in_state(State::Established);
    bench.feed(Event::Stop(Notification::shutdown("maintenance")));
    assert_eq!(bench.notifications(OUT), [(code::CEASE, 2)]);
    assert_eq!((bench.state(), bench.session.poll_timeout()), (State::Idle, None));
    assert!(
        bench
            .session
            .statistics()
            .last_error
            .as_ref()
            .is_some_and(|text| text.contains("maintenance"))
    );
    bench.feed(Event::Connected(IN, Direction::Incoming));
    assert!(bench.closed(IN));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_mutated_update_ends_at_most_its_session_and_is_answered_by_its_kind(
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        ipv6 in any::<bool>(),
    ) {
        let (next_hop, prefix) = if ipv6 {
            ("2001:db8::2", "2001:db8:1::/48")
        } else {
            ("192.0.2.2", "192.0.2.0/24")
        };
        let mut attributes = Attributes::originated(NextHop::from(next_hop.parse::<std::net::IpAddr>().expect("ip")));
        attributes.as_path = attributes.prepended(PEER_AS);
        attributes.med = Some(7);
        let prefixes = [prefix.parse().expect("prefix")];
        let message = wire::encode_announcement(&attributes, &prefixes, &context()).expect("encodes");
        let mut bytes = message[0].to_vec();
        // The header stays whole, so that it is the body that is looked at.
        for (at, value) in mutations {
            let at = 19 + at.index(bytes.len() - 19);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(23 + cut.index(bytes.len() - 23));
            let length = u16::try_from(bytes.len()).expect("short");
            bytes[16..18].copy_from_slice(&length.to_be_bytes());
        }
        let mut broken = Bench::in_state(State::Established);
        broken.receive(OUT, bytes.into());
        match broken.state() {
            State::Established => {
                prop_assert!(broken.notifications(OUT).is_empty());
                // Whatever the message was, the next one is read from its beginning.
                broken.receive(OUT, message[0].clone());
                prop_assert_eq!(broken.session.statistics().messages_in, 4);
            }
            _ => prop_assert_eq!(broken.notifications(OUT)[0].0, code::UPDATE),
        }
    }

    #[test]
    fn random_bytes_in_any_state_end_at_most_the_session(
        state in 0usize..6,
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..6),
        kind in 0u8..7,
        framed in any::<bool>(),
    ) {
        let states = [
            State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm, State::Established,
        ];
        let mut bench = Bench::in_state(states[state]);
        for chunk in chunks {
            let mut bytes = Vec::new();
            if framed {
                bytes.extend([0xff; 16]);
                bytes.extend(u16::try_from(19 + chunk.len()).expect("short").to_be_bytes());
                bytes.push(kind);
            }
            bytes.extend(chunk);
            bench.receive(OUT, bytes.into());
        }
        // Every notification sent is decodable, and the session can still be stopped and started.
        bench.sent(OUT);
        bench.feed(Event::Stop(Notification::shutdown(""))).feed(Event::Start);
        prop_assert!(matches!(bench.state(), State::Connect | State::Active));
    }
}

/// What the fuzzer starts from is taken without a panic, and leaves a session that its timers can move.
#[test]
fn the_streams_of_the_fuzzer_s_corpus_are_survived() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/stream");
    let seeds: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is part of the crate")
        .map(|entry| entry.expect("readable").path())
        .collect();
    assert!(seeds.len() >= 6, "{seeds:?}");
    for seed in seeds {
        let bytes = std::fs::read(&seed).expect("readable");
        // The first octet says where the fuzzer cuts the rest.
        for cut in [usize::from(bytes[0]), 1, 19, 20] {
            let mut bench = Bench::in_state(State::OpenSent);
            let (first, second) = bytes[1..].split_at(cut.min(bytes.len() - 1));
            bench
                .receive(OUT, Bytes::copy_from_slice(first))
                .receive(OUT, Bytes::copy_from_slice(second));
            for _ in 0..20 {
                bench.expire();
            }
        }
    }
}
