//! Routes told again without a reset (RFC 2918, 7313), asked for by each side, with FRR, BIRD, GoBGP and OpenBGPD.

mod lab;

use bgp::{Speaker, SpeakerConfig};
use lab::routers::{Program, installed, sessions};
use lab::watch::{Watch, change, is_up, prefix};
use lab::{FRR_V4, Lab, eventually, speaker_config};

fn config() -> SpeakerConfig {
    let mut config = speaker_config();
    config.originate = vec![prefix("203.0.113.0/24")];
    config
}

/// Refreshes of the peer that came to their end, refreshes that it asked for, and sessions lost.
async fn refreshes(speaker: &Speaker) -> (u64, u64, u64) {
    let peer = speaker.state().await.peers.remove(0);
    (peer.refreshes_in, peer.refreshes_out, peer.flaps)
}

async fn is_used(speaker: &Speaker, of: &str) -> bool {
    let routes = speaker.routes(Some(prefix(of))).await;
    routes.iter().any(|route| route.paths[0].best && !route.paths[0].stale)
}

/// Asks for everything again, which comes to its end, and every route is used.
async fn told_again(speaker: &Speaker) {
    speaker.refresh(FRR_V4.parse().expect("ip")).await.expect("asks");
    eventually("both families came again", async || {
        refreshes(speaker).await == (2, 0, 0)
    })
    .await;
    for of in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:100::/48"] {
        assert!(is_used(speaker, of).await, "{of}");
    }
}

#[test]
fn frr_tells_and_is_told_again_between_markers() {
    Lab::run(|lab| async move {
        let _bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config(), sender).await.expect("speaker starts");
        watch.wait("a route", |event| change(event, "2001:db8:100::/48")).await;
        let ours = async || {
            let shown = lab.vtysh("show bgp ipv4 unicast 203.0.113.0/24 json").await;
            shown["paths"][0]["valid"] == true
        };
        eventually("FRR has our route", ours).await;

        told_again(&speaker).await;

        lab.vtysh("clear bgp ipv4 unicast 10.99.0.1 soft in").await;
        eventually("FRR has heard the request, both markers and the route", async || {
            let neighbor = lab.vtysh("show bgp neighbors 10.99.0.1 json").await;
            neighbor["10.99.0.1"]["messageStats"]["routeRefreshRecv"].as_u64() >= Some(4)
        })
        .await;
        assert_eq!(refreshes(&speaker).await, (2, 1, 0));
        assert!(ours().await);
        speaker.shutdown("").await;
    });
}

#[test]
fn bird_tells_and_is_told_again_between_markers() {
    Lab::without_frr(|lab| async move {
        let bird = lab.start_bird("", "");
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config(), sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        watch.wait("a route", |event| change(event, "2001:db8:100::/48")).await;
        let ours = async || {
            bird.ask("show route 203.0.113.0/24 protocol turnpike")
                .await
                .contains("203.0.113.0/24")
        };
        eventually("BIRD has our route", ours).await;

        told_again(&speaker).await;

        bird.ask("reload in turnpike").await;
        eventually("BIRD has asked", async || refreshes(&speaker).await == (2, 2, 0)).await;
        // Without the route between the markers BIRD would have dropped ours at the end; it has read the end when it has
        // what comes after.
        let mut more = config();
        more.originate.push(prefix("203.0.114.0/24"));
        speaker.apply(more).await.expect("applies");
        eventually("BIRD has read further", async || {
            bird.ask("show route 203.0.114.0/24 protocol turnpike")
                .await
                .contains("203.0.114.0/24")
        })
        .await;
        assert!(ours().await);
        speaker.shutdown("").await;
    });
}

/// Each asks the other, but for GoBGP, which keeps what it was told; the routes stay.
fn asked_by_both(program: Program) {
    installed(program);
    Lab::without_frr(move |lab| async move {
        let router = lab.start_router(program, None).await;
        let (sender, mut watch) = Watch::new(64);
        let mut config = sessions(program);
        config.originate = vec![prefix("203.0.113.0/24")];
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        watch.wait("a route", |event| change(event, "2001:db8:100::/48")).await;
        let ours = async || router.knows("203.0.113.0/24").await.contains("203.0.113.0/24");
        eventually("it has our route", ours).await;

        let before = speaker.state().await.peers[0].messages_in;
        speaker.refresh(FRR_V4.parse().expect("ip")).await.expect("asks");
        eventually("it tells its routes again", async || {
            speaker.state().await.peers[0].messages_in > before
        })
        .await;
        if program != Program::GoBgp {
            router.ask_refresh().await;
            eventually("it has asked", async || refreshes(&speaker).await.1 >= 1).await;
        }
        for of in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:100::/48"] {
            eventually("its routes are fresh", async || is_used(&speaker, of).await).await;
        }
        assert!(ours().await);
        assert_eq!(refreshes(&speaker).await.2, 0);
        speaker.shutdown("").await;
    });
}

#[test]
fn gobgp_is_asked() {
    asked_by_both(Program::GoBgp);
}

#[test]
fn openbgpd_asks_and_is_asked() {
    asked_by_both(Program::OpenBgpd);
}
