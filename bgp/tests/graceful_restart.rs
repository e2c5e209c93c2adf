//! Graceful restart (RFC 4724) with FRR: its bgpd is killed, then this speaker is.

mod lab;

use std::time::Duration;

use bgp::{Event, RestartMode, RouteView, Speaker};
use lab::watch::{Watch, change, is_up, prefix};
use lab::{Daemon, FRR_V4, GRACEFUL, Lab, eventually, speak_and_die, speaker_config};

/// Every prefix that was withdrawn, in what the watch has seen.
fn withdrawn(watch: &Watch) -> Vec<String> {
    let changes = watch.seen.iter().filter_map(|event| match event {
        Event::Routes(changes) => Some(changes),
        _ => None,
    });
    changes
        .flatten()
        .filter(|change| change.route.is_none())
        .map(|change| change.prefix.to_string())
        .collect()
}

async fn learned(watch: &mut Watch) {
    for route in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:100::/48"] {
        watch.wait(route, |event| change(event, route)).await;
    }
}

async fn kept(watch: &mut Watch) {
    let down = |event: &Event| match event {
        Event::PeerDown { kept, .. } => Some(kept.len()),
        _ => None,
    };
    assert_eq!(watch.wait("session end", down).await, 2, "both families are kept");
}

/// The one path of a prefix is used, and stale or not.
fn is_used(routes: &[RouteView], of: &str, stale: bool) -> bool {
    routes
        .iter()
        .any(|route| route.prefix == prefix(of) && route.paths[0].best && route.paths[0].stale == stale)
}

/// FRR, and a speaker that has learned its routes.
async fn started(lab: &Lab) -> (Daemon, Speaker, Watch) {
    let bgpd = lab.start_bgpd();
    let (sender, mut watch) = Watch::new(64);
    let speaker = Speaker::start(speaker_config(), sender).await.expect("speaker starts");
    learned(&mut watch).await;
    (bgpd, speaker, watch)
}

#[test]
fn frr_killed_and_back_withdraws_only_what_it_does_not_tell_again() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(GRACEFUL);
        let (mut bgpd, speaker, mut watch) = started(&lab).await;

        watch.forget();
        bgpd.kill();
        kept(&mut watch).await;
        let routes = speaker.routes(None).await;
        for route in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:100::/48"] {
            assert!(is_used(&routes, route, true), "{route}: {routes:?}");
        }
        let state = speaker.state().await;
        assert_eq!(state.peers[0].families[0].received, 2);

        // One prefix less than before.
        lab.extend_bgpd_conf(&format!(
            "{GRACEFUL} address-family ipv4 unicast\n  no network 198.51.100.0/24\n"
        ));
        let mut bgpd = lab.start_bgpd();
        watch.wait("session", is_up).await;
        let gone = watch.wait("sweep", |event| change(event, "198.51.100.0/24")).await;
        assert_eq!(gone.route, None);
        eventually("nothing is stale any more", async || {
            let routes = speaker.routes(None).await;
            is_used(&routes, "192.0.2.0/24", false) && is_used(&routes, "2001:db8:100::/48", false)
        })
        .await;
        assert_eq!(withdrawn(&watch), ["198.51.100.0/24"]);
        speaker.shutdown("").await;
        bgpd.kill();
    });
}

#[test]
fn frr_killed_for_good_loses_its_routes_when_the_restart_time_ends() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(&format!("{GRACEFUL} bgp graceful-restart restart-time 4\n"));
        let (mut bgpd, speaker, mut watch) = started(&lab).await;

        watch.forget();
        bgpd.kill();
        let killed = tokio::time::Instant::now();
        kept(&mut watch).await;
        assert_eq!(withdrawn(&watch), [""; 0]);
        for route in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:100::/48"] {
            assert_eq!(watch.wait(route, |event| change(event, route)).await.route, None);
        }
        assert!(killed.elapsed() >= Duration::from_secs(3), "{:?}", killed.elapsed());
        assert!(speaker.routes(None).await.is_empty());
        speaker.shutdown("").await;
    });
}

#[test]
fn frr_keeps_our_routes_while_this_speaker_restarts() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(GRACEFUL);
        let mut bgpd = lab.start_bgpd();
        let mut config = speaker_config();
        config.originate = vec![prefix("203.0.113.0/24")];
        config.peers[0].graceful_restart = RestartMode::Full;
        let path = "show bgp ipv4 unicast 203.0.113.0/24 json";
        let known = async || lab.vtysh(path).await["paths"][0]["valid"] == true;
        speak_and_die(config.clone(), async || {
            eventually("FRR learns the prefix", known).await;
        })
        .await;
        eventually("FRR sees the session end", async || {
            let neighbor = lab.vtysh("show bgp neighbors 10.99.0.1 json").await;
            neighbor["10.99.0.1"]["bgpState"] != "Established"
        })
        .await;
        assert!(known().await, "{}", lab.vtysh(path).await);

        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        let neighbor = lab.vtysh("show bgp neighbors 10.99.0.1 json").await;
        let restart = &neighbor["10.99.0.1"]["gracefulRestartInfo"];
        assert_eq!(restart["rBit"], true, "{restart}");
        eventually("FRR has the prefix anew", async || {
            let shown = lab.vtysh(path).await;
            shown["paths"][0]["valid"] == true && shown["paths"][0]["stale"].is_null()
        })
        .await;
        assert_eq!(speaker.state().await.peers[0].address.to_string(), FRR_V4);
        speaker.shutdown("").await;
        bgpd.kill();
    });
}
