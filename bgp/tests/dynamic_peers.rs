//! Peers that are known by a range of addresses alone, with FRR as one of them.

mod lab;

use bgp::{DynamicPeers, Event, Password, PeerConfig, Policy, Speaker, SpeakerConfig};
use lab::watch::{Watch, change, is_up, prefix};
use lab::{FRR_V4, GRACEFUL, Lab, eventually, speaker_config};

/// The lab's speaker with FRR's subnet as a range, and no peer of its own.
fn config(limit: u32) -> SpeakerConfig {
    let mut template = PeerConfig::new("10.99.0.0".parse().expect("ip"), 65001);
    template.import = Policy::Accept;
    let dynamic = DynamicPeers {
        range: prefix("10.99.0.0/24"),
        limit,
        template,
    };
    SpeakerConfig {
        peers: Vec::new(),
        dynamic: vec![dynamic],
        ..speaker_config()
    }
}

#[test]
fn frr_is_a_peer_as_long_as_it_is_connected() {
    Lab::run(|lab| async move {
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config(1), sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        watch.wait("route", |event| change(event, "192.0.2.0/24")).await;
        let peer = speaker.state().await.peers.remove(0);
        assert_eq!(
            (peer.address.to_string().as_str(), peer.dynamic),
            (FRR_V4, Some(prefix("10.99.0.0/24")))
        );

        // The same again changes nothing, though the peer is in no list.
        speaker.apply(config(1)).await.expect("applies");
        assert_eq!(speaker.state().await.peers[0].flaps, 0);

        bgpd.kill();
        eventually("the peer is forgotten with its routes", async || {
            speaker.state().await.peers.is_empty() && speaker.routes(None).await.is_empty()
        })
        .await;
        watch.forget();
        let mut bgpd = lab.start_bgpd();
        watch.wait("session", is_up).await;

        let mut without = config(1);
        without.dynamic.clear();
        speaker.apply(without).await.expect("applies");
        eventually("a range that is gone takes its peers along", async || {
            speaker.state().await.peers.is_empty()
        })
        .await;
        speaker.shutdown("").await;
        bgpd.kill();
    });
}

#[test]
fn a_full_range_refuses_and_counts() {
    Lab::run(|lab| async move {
        let (sender, _watch) = Watch::new(64);
        let speaker = Speaker::start(config(1), sender).await.expect("speaker starts");
        // Somebody of this side's own, who says nothing, takes the only place.
        let silent = tokio::net::TcpStream::connect("10.99.0.1:179").await.expect("connects");
        eventually("the silent peer is there", async || {
            speaker.state().await.peers.len() == 1
        })
        .await;
        let _bgpd = lab.start_bgpd();
        eventually("FRR is refused", async || {
            let state = speaker.state().await;
            state.dynamic_refused >= 2 && state.peers.len() == 1
        })
        .await;
        drop(silent);
        eventually("FRR has the place", async || {
            let state = speaker.state().await;
            state
                .peers
                .iter()
                .any(|peer| peer.address.to_string() == FRR_V4 && peer.state == "Established")
        })
        .await;
        speaker.shutdown("").await;
    });
}

#[test]
fn a_dynamic_peer_that_restarts_gracefully_is_not_forgotten() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(&format!("{GRACEFUL} bgp graceful-restart restart-time 4\n"));
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config(1), sender).await.expect("speaker starts");
        watch.wait("route", |event| change(event, "192.0.2.0/24")).await;
        bgpd.kill();
        watch
            .wait("session end", |event| {
                matches!(event, Event::PeerDown { kept, .. } if !kept.is_empty()).then_some(())
            })
            .await;
        assert_eq!(speaker.state().await.peers.len(), 1);
        assert!(speaker.routes(None).await.iter().all(|route| route.paths[0].stale));
        eventually("the restart time ends", async || {
            speaker.state().await.peers.is_empty() && speaker.routes(None).await.is_empty()
        })
        .await;
        speaker.shutdown("").await;
    });
}

#[test]
fn a_range_has_a_password_for_all() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf("router bgp 65001\n neighbor 10.99.0.1 password for-all\n");
        let _bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = config(4);
        config.dynamic[0].template.password = Password::new("for-all");
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        speaker.shutdown("").await;
    });
}
