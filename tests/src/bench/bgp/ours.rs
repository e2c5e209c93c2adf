//! The speaker under test: this program again, as a process of its own that is a [`bgp::Speaker`] and a reader of its events.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bgp::policy::Policy;
use bgp::{Event, PeerConfig, Speaker, SpeakerConfig};

use super::{FEEDS, HOLD_TIME, LOCAL, LOCAL_AS, LOCAL_V6, PROBE, RECEIVERS, address, asn};

/// Speaks until it is killed.
///
/// # Errors
/// If the speaker cannot be started.
pub fn speak(receivers: u16) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        // As many events may wait as in `turnpiked`.
        let (events, mut reader) = tokio::sync::mpsc::channel(4096);
        let speaker = Speaker::start(config(receivers), events).await;
        let _speaker = speaker.map_err(|error| error.to_string())?;
        let mut routes = 0_usize;
        while let Some(event) = reader.recv().await {
            if let Event::Routes(changes) = event {
                routes += changes.len();
            }
        }
        Err(format!("the speaker ended after {routes} changes"))
    })
}

fn config(receivers: u16) -> SpeakerConfig {
    let peer = |peer: u16| PeerConfig {
        passive: true,
        hold_time: HOLD_TIME,
        send_hold_time: Duration::from_secs(u64::from(HOLD_TIME) + 600),
        import: Policy::Accept,
        export: if peer < RECEIVERS { Policy::Deny } else { Policy::Accept },
        advertise_learned: true,
        next_hop_v4: Some(LOCAL),
        next_hop_v6: Some(LOCAL_V6),
        ..PeerConfig::new(IpAddr::V4(address(peer)), u32::from(asn(peer)))
    };
    let peers = FEEDS.into_iter().chain([PROBE]).chain(RECEIVERS..RECEIVERS + receivers);
    SpeakerConfig {
        listen: vec![SocketAddr::from((LOCAL, 179))],
        peers: peers.map(peer).collect(),
        ..SpeakerConfig::new(u32::from(LOCAL_AS), LOCAL)
    }
}
