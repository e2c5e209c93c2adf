//! A reader of the events that does not read slows the peers down, and ends nothing.

mod lab;

use std::cell::Cell;
use std::fmt::Write;
use std::time::Duration;

use bgp::Speaker;
use lab::watch::{Watch, change};
use lab::{Lab, eventually, speaker_config};

/// Each in an UPDATE of its own. Four parcels of 57 such wait for the core; two parcels' worth may be taken before the one
/// event that fits is in the way.
const ROUTES: u32 = 2000;

fn route(number: u32) -> String {
    format!("10.{}.{}.0/24", number / 200, number % 200)
}

#[test]
fn a_full_event_channel_slows_the_peer_down_and_ends_nothing() {
    Lab::without_frr(|lab| async move {
        let mut routes = String::new();
        for number in 0..ROUTES {
            // A community of its own, so that no two share an UPDATE.
            let community = format!("bgp_community.add((65001,{number}));");
            writeln!(routes, "route {} blackhole {{ {community} }};", route(number)).expect("writes to memory");
        }
        let bird = lab.start_bird_with_routes(&routes);
        // Nobody reads for longer than the hold time of 9 s.
        let (sender, mut watch) = Watch::new(1);
        let speaker = Speaker::start(speaker_config(), sender).await.expect("speaker starts");
        let read = async || speaker.state().await.peers[0].messages_in;
        let before = Cell::new(0);
        eventually("nothing more is read", async || {
            let now = read().await;
            tokio::time::sleep(Duration::from_secs(4)).await;
            before.replace(now) > 100 && read().await == now
        })
        .await;
        let stalled = read().await;
        assert!(stalled < u64::from(ROUTES), "{stalled} messages were read");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(read().await, stalled, "not even keepalives are read");
        let state = speaker.state().await;
        assert_eq!(
            (state.peers[0].state.as_str(), state.peers[0].flaps),
            ("Established", 0)
        );
        let protocol = bird.ask("show protocols turnpike").await;
        assert!(
            protocol.contains("Established"),
            "our keepalives still go out: {protocol}"
        );

        for of in (0..ROUTES).map(route) {
            watch.wait(&of, |event| change(event, &of)).await;
        }
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        speaker.shutdown("").await;
    });
}
