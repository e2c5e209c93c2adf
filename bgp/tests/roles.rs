//! Roles and route leaks (RFC 9234), with FRR and BIRD at the other end.

mod lab;

use bgp::{PathView, Role, Speaker, SpeakerConfig};
use lab::watch::{Watch, is_up, prefix};
use lab::{Lab, eventually, speaker_config};

fn config(role: Option<Role>) -> SpeakerConfig {
    let mut config = speaker_config();
    config.originate = vec![prefix("203.0.113.0/24")];
    config.peers[0].role = role;
    config
}

async fn path_to(speaker: &Speaker, of: &str) -> Option<PathView> {
    let mut routes = speaker.routes(Some(prefix(of))).await;
    routes.pop().map(|mut route| route.paths.remove(0))
}

async fn last_error(speaker: &Speaker) -> String {
    let peer = speaker.state().await.peers.remove(0);
    assert_ne!(peer.state, "Established");
    peer.last_error.unwrap_or_default()
}

fn frr(lab: &Lab, role: &str) -> lab::Daemon {
    lab.extend_bgpd_conf(&format!("router bgp 65001\n neighbor 10.99.0.1 local-role {role}\n"));
    lab.start_bgpd()
}

#[test]
fn frr_as_provider_marks_its_routes_and_as_customer_gets_ours_marked() {
    Lab::run(|lab| async move {
        for (theirs, ours) in [("provider", Role::Customer), ("customer", Role::Provider)] {
            let mut bgpd = frr(&lab, theirs);
            let (sender, mut watch) = Watch::new(64);
            let speaker = Speaker::start(config(Some(ours)), sender)
                .await
                .expect("speaker starts");
            watch.wait("session", is_up).await;
            let peer = speaker.state().await.peers.remove(0);
            assert_eq!((peer.role, peer.remote_role), (Some(ours), Some(ours.opposite())));

            let (towards_us, towards_frr) = match ours {
                Role::Customer => (Some(65001), None),
                _ => (None, Some(65000)),
            };
            eventually("FRR's route is used", async || {
                path_to(&speaker, "192.0.2.0/24")
                    .await
                    .is_some_and(|path| path.best && path.only_to_customer == towards_us)
            })
            .await;
            eventually("ours is known to FRR", async || {
                let shown = lab.vtysh("show bgp ipv4 unicast 203.0.113.0/24 json").await;
                shown["paths"][0]["valid"] == true && shown["paths"][0]["otc"].as_u64() == towards_frr
            })
            .await;
            speaker.shutdown("").await;
            bgpd.kill();
        }
    });
}

#[test]
fn frr_with_a_role_that_does_not_correspond_gets_no_session() {
    Lab::run(|lab| async move {
        let _bgpd = frr(&lab, "provider");
        let (sender, _watch) = Watch::new(64);
        let speaker = Speaker::start(config(Some(Role::Provider)), sender)
            .await
            .expect("speaker starts");
        eventually("the mismatch is shown", async || {
            last_error(&speaker).await.contains("2/11")
        })
        .await;
        speaker.shutdown("").await;
    });
}

#[test]
fn a_strict_session_needs_the_role_of_both() {
    Lab::run(|lab| async move {
        // FRR is strict, and we say nothing.
        let mut bgpd = frr(&lab, "provider strict-mode");
        let (sender, _watch) = Watch::new(64);
        let speaker = Speaker::start(config(None), sender).await.expect("speaker starts");
        eventually("FRR refuses", async || {
            last_error(&speaker).await.contains("peer sent 2/11")
        })
        .await;
        speaker.shutdown("").await;
        bgpd.kill();

        // We are strict, and FRR says nothing.
        lab.extend_bgpd_conf("");
        let _bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut strict = config(Some(Role::Customer));
        strict.peers[0].strict_role = true;
        let speaker = Speaker::start(strict.clone(), sender).await.expect("speaker starts");
        eventually("we refuse", async || last_error(&speaker).await.contains("sent 2/11")).await;
        // Not strict, it is taken for our provider.
        strict.peers[0].strict_role = false;
        speaker.apply(strict).await.expect("applies");
        watch.wait("session", is_up).await;
        eventually("its routes are marked here", async || {
            path_to(&speaker, "192.0.2.0/24")
                .await
                .is_some_and(|path| path.best && path.only_to_customer == Some(65001))
        })
        .await;
        speaker.shutdown("").await;
    });
}

#[test]
fn bird_as_peer_and_this_speaker_mark_what_they_tell_each_other() {
    Lab::without_frr(|lab| async move {
        let bird = lab.start_bird("local role peer;", "");
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config(Some(Role::Peer)), sender)
            .await
            .expect("speaker starts");
        watch.wait("session", is_up).await;
        assert_eq!(speaker.state().await.peers[0].remote_role, Some(Role::Peer));
        for of in ["192.0.2.0/24", "2001:db8:100::/48"] {
            eventually("BIRD's route is used", async || {
                path_to(&speaker, of)
                    .await
                    .is_some_and(|path| path.best && path.only_to_customer == Some(65001))
            })
            .await;
        }
        eventually("BIRD has ours, marked", async || {
            bird.ask("show route 203.0.113.0/24 all").await.contains("otc: 65000")
        })
        .await;
        speaker.shutdown("").await;
    });
}

#[test]
fn a_route_that_bird_leaks_is_refused_with_the_reason() {
    Lab::without_frr(|lab| async move {
        // Without a role BIRD enforces nothing, and sends a mark that only a provider's route has.
        let _bird = lab.start_bird("", "if net = 192.0.2.0/24 then bgp_otc = 64999;");
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config(Some(Role::Provider)), sender)
            .await
            .expect("speaker starts");
        watch.wait("session", is_up).await;
        eventually("the leak is known and not used", async || {
            path_to(&speaker, "192.0.2.0/24").await.is_some_and(|path| {
                !path.best
                    && path.only_to_customer == Some(64_999)
                    && path.reason.is_some_and(|reason| reason.starts_with("route leak"))
            })
        })
        .await;
        eventually("the other route is used", async || {
            path_to(&speaker, "198.51.100.0/24").await.is_some_and(|path| path.best)
        })
        .await;
        speaker.shutdown("").await;
    });
}
