//! What keeps strangers off a session, with FRR at the other end: TCP MD5 (RFC 2385), GTSM (RFC 5082), the limits of
//! distance, and the limit of prefixes.

mod lab;

use std::time::Duration;

use bgp::{Distance, MaxPrefixes, Password, Speaker, SpeakerConfig};
use lab::watch::{Watch, change, is_up};
use lab::{FRR_V4, FRR_V6, Lab, eventually, speaker_config};

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text).expect("1 to 80 bytes"))
}

async fn established(config: SpeakerConfig) -> Speaker {
    let (sender, mut watch) = Watch::new(64);
    let speaker = Speaker::start(config, sender).await.expect("speaker starts");
    watch.wait("session", is_up).await;
    watch.wait("a route", |event| change(event, "192.0.2.0/24")).await;
    speaker
}

#[test]
fn a_password_is_shared_with_frr_whoever_connects() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(
            "router bgp 65001\n neighbor 10.99.0.1 password first\n neighbor 2001:db8:99::1 password second\n",
        );
        let _bgpd = lab.start_bgpd();
        for (address, key) in [(FRR_V4, "first"), (FRR_V6, "second")] {
            for passive in [true, false] {
                let mut config = speaker_config();
                let peer = &mut config.peers[0];
                peer.address = address.parse().expect("ip");
                peer.password = password(key);
                peer.passive = passive;
                if !passive {
                    config.listen.clear();
                }
                established(config).await.shutdown("").await;
            }
        }
    });
}

#[test]
fn a_wrong_password_is_said_to_be_likely_and_the_right_one_helps_at_once() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf("router bgp 65001\n neighbor 10.99.0.1 password right\n");
        let _bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].password = password("wrong");
        let speaker = Speaker::start(config.clone(), sender).await.expect("speaker starts");
        eventually("the error is shown", async || {
            let peer = speaker.state().await.peers.remove(0);
            peer.state != "Established" && peer.last_error.is_some_and(|error| error.contains("password"))
        })
        .await;
        config.peers[0].password = password("right");
        speaker.apply(config).await.expect("applies");
        watch.wait("session", is_up).await;
        speaker.shutdown("").await;
    });
}

#[test]
fn a_peer_without_the_password_is_not_heard() {
    Lab::run(|lab| async move {
        let _bgpd = lab.start_bgpd();
        let (sender, _watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].password = password("secret");
        config.peers[0].passive = true;
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        // FRR connects every second.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(speaker.state().await.peers[0].messages_in, 0);
        speaker.shutdown("").await;
    });
}

#[test]
fn gtsm_holds_at_both_ends_whoever_connects() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(
            "router bgp 65001\n neighbor 10.99.0.1 ttl-security hops 1\n neighbor 2001:db8:99::1 ttl-security hops 1\n",
        );
        let _bgpd = lab.start_bgpd();
        for address in [FRR_V4, FRR_V6] {
            for passive in [true, false] {
                let mut config = speaker_config();
                let peer = &mut config.peers[0];
                peer.address = address.parse().expect("ip");
                peer.distance = Distance::Security(1);
                peer.passive = passive;
                if !passive {
                    config.listen.clear();
                }
                established(config).await.shutdown("").await;
            }
        }
    });
}

#[test]
fn gtsm_takes_nothing_from_a_peer_that_does_not_send_with_the_highest_ttl() {
    Lab::run(|lab| async move {
        let _bgpd = lab.start_bgpd();
        let (sender, _watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].distance = Distance::Security(1);
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        // FRR sends with a TTL of 1 to an external neighbour. Its OPEN may come with the handshake, before it is known
        // that the limit is for this peer; nothing gets through after that.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let peer = speaker.state().await.peers.remove(0);
        assert!(peer.state != "Established" && peer.flaps == 0, "{peer:?}");
        speaker.shutdown("").await;
    });
}

#[test]
fn gtsm_of_every_peer_keeps_distant_handshakes_away() {
    Lab::run(|lab| async move {
        let (sender, _watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].distance = Distance::Security(1);
        config.peers[0].passive = true;
        let speaker = Speaker::start(config.clone(), sender).await.expect("speaker starts");
        // A connection of the neighbour with this TTL, and whether somebody answers.
        let answers = async |ttl: u32| {
            let reached = lab.connect_from_router("10.99.0.1:179", ttl);
            tokio::task::spawn_blocking(reached).await.expect("thread")
        };
        assert!(answers(255).await);
        assert!(!answers(254).await);
        // One peer that does not ask for it, and the kernel cannot know who comes.
        config.peers[0].distance = Distance::Multihop(255);
        speaker.apply(config).await.expect("applies");
        assert!(answers(254).await);
        speaker.shutdown("").await;
    });
}

#[test]
fn multihop_sessions_come_up_beside_the_usual() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf("router bgp 65001\n neighbor 10.99.0.1 ebgp-multihop 3\n");
        let _bgpd = lab.start_bgpd();
        let mut config = speaker_config();
        config.peers[0].distance = Distance::Multihop(3);
        established(config).await.shutdown("").await;
    });
}

#[test]
fn too_many_prefixes_end_the_session_for_the_pause_and_frr_is_told() {
    Lab::run(|lab| async move {
        let _bgpd = lab.start_bgpd();
        let (sender, _watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].max_prefixes = Some(MaxPrefixes {
            limit: 2,
            warn: 1,
            restart: Some(Duration::from_secs(600)),
        });
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        eventually("FRR is told", async || {
            let neighbor = lab.vtysh("show bgp neighbors 10.99.0.1 json").await;
            neighbor["10.99.0.1"]["lastNotificationReason"] == "Cease/Maximum Number of Prefixes Reached"
                || neighbor["10.99.0.1"]["lastNotificationReason"] == "Cease/Connection Rejected"
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let peer = speaker.state().await.peers.remove(0);
        assert_eq!((peer.state.as_str(), peer.flaps), ("Idle", 1));
        assert!(speaker.routes(None).await.is_empty());
        speaker.shutdown("").await;
    });
}
