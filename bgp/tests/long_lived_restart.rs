//! Long-lived graceful restart (RFC 9494): FRR stays away for longer than its restart time, then this speaker does, which
//! BIRD watches.

mod lab;

use std::time::Duration;

use bgp::{Event, PathView, RestartMode, Speaker};
use lab::watch::{Watch, change, prefix};
use lab::{Lab, eventually, speak_and_die, speaker_config};

const HOUR: Duration = Duration::from_secs(3600);

async fn path_to(speaker: &Speaker, of: &str) -> Option<PathView> {
    let mut routes = speaker.routes(Some(prefix(of))).await;
    routes.pop().map(|mut route| route.paths.remove(0))
}

/// FRR's configuration: restarts within a second or two, else for so long.
fn long_lived(seconds: u32) -> String {
    format!(
        "{}router bgp 65001\n bgp graceful-restart restart-time 2\n bgp long-lived-graceful-restart stale-time {seconds}\n",
        lab::GRACEFUL
    )
}

#[test]
fn frr_away_for_long_is_a_last_resort_until_it_is_back() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(&long_lived(3600));
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].long_lived_stale_time = HOUR;
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        for of in ["192.0.2.0/24", "2001:db8:100::/48"] {
            watch.wait(of, |event| change(event, of)).await;
        }
        watch.forget();
        bgpd.kill();
        for of in ["192.0.2.0/24", "2001:db8:100::/48"] {
            eventually("a last resort, and used", async || {
                path_to(&speaker, of)
                    .await
                    .is_some_and(|path| path.best && path.stale && path.communities == ["llgr-stale"])
            })
            .await;
        }

        let _bgpd = lab.start_bgpd();
        for of in ["192.0.2.0/24", "2001:db8:100::/48"] {
            eventually("fresh again", async || {
                path_to(&speaker, of)
                    .await
                    .is_some_and(|path| path.best && !path.stale && path.communities.is_empty())
            })
            .await;
        }
        watch.collect();
        let withdrawn = watch.seen.iter().any(|event| match event {
            Event::Routes(changes) => changes.iter().any(|change| change.route.is_none()),
            _ => false,
        });
        assert!(!withdrawn, "{:?}", watch.seen);
        speaker.shutdown("").await;
    });
}

#[test]
fn frr_away_for_too_long_loses_its_routes() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(&long_lived(2));
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].long_lived_stale_time = HOUR;
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        watch.wait("a route", |event| change(event, "192.0.2.0/24")).await;
        bgpd.kill();
        eventually("nothing is kept", async || speaker.routes(None).await.is_empty()).await;
        speaker.shutdown("").await;
    });
}

#[test]
fn bird_keeps_ours_as_a_last_resort_while_this_speaker_is_away() {
    Lab::without_frr(|lab| async move {
        let bird = lab.start_bird("long lived graceful restart aware;", "");
        let mut config = speaker_config();
        config.originate = vec![prefix("203.0.113.0/24")];
        let peer = &mut config.peers[0];
        peer.graceful_restart = RestartMode::Full;
        peer.restart_time = 1;
        peer.long_lived_stale_time = HOUR;
        let shown = async || bird.ask("show route 203.0.113.0/24 all").await;
        let told = async || shown().await.contains("203.0.113.0/24");
        speak_and_die(config, async || {
            eventually("BIRD has our route", told).await;
        })
        .await;
        eventually("it is a last resort", async || shown().await.contains("(65535,6)")).await;
    });
}
