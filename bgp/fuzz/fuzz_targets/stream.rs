//! A whole stream of a peer, in two pieces: the first octet says where it is cut. No panic, no endless work, and after all
//! of it the session still answers to its timers.
#![no_main]

use std::time::{Duration, Instant};

use bgp::session::{Config, ConnectionId, Direction, Event, Output, Session};
use bgp::wire::{AddPathFamily, Capabilities, GracefulRestart};
use bgp::{Family, RemoteAs, Role};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const ID: ConnectionId = ConnectionId(1);

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let (first, second) = bytes.split_at(bytes.len().min(usize::from(*cut)));
    let mut now = Instant::now();
    let mut session = Session::new(config(), 7);
    session.handle(Event::Start, now);
    session.handle(Event::Connected(ID, Direction::Outgoing), now);
    for piece in [first, second] {
        session.handle(Event::Received(ID, Bytes::copy_from_slice(piece)), now);
        drain(&mut session);
    }
    for _ in 0..20 {
        let Some(at) = session.poll_timeout() else { return };
        now = at.max(now + Duration::from_millis(1));
        session.handle(Event::Timeout, now);
        drain(&mut session);
    }
});

fn config() -> Config {
    let families = Family::ALL.to_vec();
    Config {
        local_as: 65000,
        remote_as: RemoteAs::External,
        router_id: [10, 0, 0, 1].into(),
        hold_time: 90,
        connect_retry: Duration::from_secs(10),
        passive: false,
        signed: false,
        send_hold_time: Duration::from_secs(480),
        role: Some(Role::Provider),
        strict_role: false,
        capabilities: Capabilities {
            families,
            route_refresh: true,
            enhanced_route_refresh: true,
            extended_messages: true,
            four_octet_as: true,
            ipv6_next_hop_for_ipv4: true,
            graceful_restart: Some(GracefulRestart {
                restarting: false,
                notification: true,
                restart_time: 120,
                families: Vec::new(),
            }),
            long_lived: Some(Vec::new()),
            add_path: Family::UNICAST
                .map(|family| AddPathFamily {
                    family,
                    receive: true,
                    send: true,
                })
                .to_vec(),
            roles: vec![Role::Provider.value()],
        },
        stale_time: Duration::from_secs(360),
        long_lived_time: Duration::from_secs(3600),
    }
}

/// One message in yields a bounded number of things to do.
fn drain(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.poll_output()).take(1_000_000).collect()
}
