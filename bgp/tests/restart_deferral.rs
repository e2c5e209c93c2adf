//! A speaker that has been started announces nothing before the peers that restart gracefully have told their tables
//! (RFC 4724 section 4.1).

mod lab;

use std::time::Duration;

use bgp::{PeerConfig, RestartMode, Speaker, SpeakerConfig};
use lab::watch::{Watch, change, prefix};
use lab::{GRACEFUL, Lab, eventually, speaker_config};

const OURS: &str = "show bgp ipv4 unicast 203.0.113.0/24 json";

/// With a deferral that no test outlasts.
fn config() -> SpeakerConfig {
    let mut config = speaker_config();
    config.originate = vec![prefix("203.0.113.0/24")];
    config.selection_deferral = Duration::from_secs(3600);
    config.peers[0].graceful_restart = RestartMode::Full;
    config
}

#[test]
fn the_end_of_frr_s_table_opens_the_gate() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(GRACEFUL);
        let _bgpd = lab.start_bgpd();
        let (sender, _watch) = Watch::new(64);
        let speaker = Speaker::start(config(), sender).await.expect("speaker starts");
        eventually("FRR has our route", async || {
            lab.vtysh(OURS).await["paths"][0]["valid"] == true
        })
        .await;
        assert!(speaker.state().await.awaited.is_empty());
        speaker.shutdown("").await;
    });
}

#[test]
fn a_peer_that_is_missing_holds_announcements_back_and_not_routes() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(GRACEFUL);
        let _bgpd = lab.start_bgpd();
        let missing = "10.99.0.77".parse().expect("ip");
        let mut both = config();
        both.peers.push(PeerConfig {
            graceful_restart: RestartMode::Full,
            ..PeerConfig::new(missing, 65077)
        });
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(both, sender).await.expect("speaker starts");
        watch.wait("a route", |event| change(event, "2001:db8:100::/48")).await;
        eventually("FRR's table is complete", async || {
            speaker.state().await.awaited == [missing]
        })
        .await;
        assert!(lab.vtysh(OURS).await["paths"].is_null());

        speaker.apply(config()).await.expect("applies");
        eventually("FRR has our route", async || {
            lab.vtysh(OURS).await["paths"][0]["valid"] == true
        })
        .await;
        assert!(speaker.state().await.awaited.is_empty());
        speaker.shutdown("").await;
    });
}
