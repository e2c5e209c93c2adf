//! Several paths of a prefix on one session (RFC 7911), both ways and in both families, with FRR, BIRD and GoBGP: each comes
//! with the identifier of its sender, and the withdrawal of one leaves the other.

mod lab;

use bgp::mrt::{Table, TableDump};
use bgp::{PathView, Speaker};
use lab::feeders::{self, FEEDERS, Feeder, TO_ROUTER, TO_SPEAKER, path};
use lab::routers::{Program, Router, installed};
use lab::watch::{Watch, prefix};
use lab::{Lab, eventually};
use net::RouteChange;

/// The router in the middle.
enum Middle<'l> {
    Frr(&'l Lab),
    Other(Router<'l>),
}

impl Middle<'_> {
    /// What it knows of a prefix, AS paths as text.
    async fn knows(&self, of: &str) -> String {
        match self {
            Self::Frr(lab) => {
                let family = if of.contains(':') { "ipv6" } else { "ipv4" };
                let shown = lab.vtysh(&format!("show bgp {family} unicast {of} json")).await;
                shown.to_string()
            }
            Self::Other(router) => router.knows(of).await,
        }
    }
}

/// The paths that the speaker has of a prefix from the router.
async fn paths(speaker: &Speaker, of: &str) -> Vec<PathView> {
    let routes = speaker.routes(Some(prefix(of))).await;
    routes.into_iter().flat_map(|route| route.paths).collect()
}

/// Waits until both sides have exactly the paths of these feeders.
async fn settled(speaker: &Speaker, router: &Middle<'_>, feeders: &[u8]) {
    for of in TO_ROUTER {
        eventually(&format!("paths to {of} of {feeders:?}"), async || {
            let paths = paths(speaker, of).await;
            let mut ases: Vec<_> = paths.iter().map(|path| path.as_path.clone()).collect();
            ases.sort_unstable();
            let told: Vec<_> = feeders.iter().map(|feeder| path(65001, *feeder)).collect();
            let fresh = paths.iter().all(|path| !path.stale && path.path_id.is_some());
            ases == told && fresh
        })
        .await;
        let paths = paths(speaker, of).await;
        let mut ids: Vec<_> = paths.iter().map(|path| path.path_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), feeders.len(), "{paths:?}");
        assert_eq!(paths.iter().filter(|path| path.best).count(), 1, "{paths:?}");
        assert!(paths.iter().all(|path| path.best || path.reason.is_some()), "{paths:?}");
    }
    for of in TO_SPEAKER {
        eventually(&format!("the router's paths to {of} of {feeders:?}"), async || {
            let known = router.knows(of).await;
            FEEDERS
                .iter()
                .all(|feeder| known.contains(&path(65000, *feeder)) == feeders.contains(feeder))
        })
        .await;
    }
}

/// Both feeders tell, one withdraws, and tells again; then the router is asked for everything.
async fn exchange(lab: &Lab, router: &Middle<'_>) {
    let (sender, mut watch) = Watch::new(4096);
    let speaker = Speaker::start(feeders::speaker(), sender)
        .await
        .expect("speaker starts");
    let first = Feeder::start(lab, FEEDERS[0]).await;
    let _second = Feeder::start(lab, FEEDERS[1]).await;
    settled(&speaker, router, &FEEDERS).await;
    let peer = speaker.state().await.peers.remove(0);
    for family in ["ipv4-unicast", "ipv6-unicast"] {
        for direction in ["receive", "send"] {
            let name = format!("add-path {family} {direction}");
            assert!(peer.capabilities.contains(&name), "{:?}", peer.capabilities);
        }
    }
    for counters in &peer.families {
        assert_eq!((counters.accepted, counters.advertised), (2, 2), "{counters:?}");
    }
    let dump = TableDump::new(speaker.snapshot(Table::AdjRibIn).await, Default::default()).expect("few peers");
    let dumped: Vec<u8> = dump.flatten().collect();
    let lines = bgpdump(&dumped);
    for of in TO_ROUTER {
        for path in paths(&speaker, of).await {
            let id = path.path_id.expect("with add-path");
            let line = format!("|10.99.0.2|65001|{of}|{id}|{}|", path.as_path);
            assert!(lines.contains(&line), "{line}\n{lines}");
        }
    }

    first.tell(false).await;
    settled(&speaker, router, &FEEDERS[1..]).await;
    first.tell(true).await;
    settled(&speaker, router, &FEEDERS).await;

    // After a refresh there are neither more nor less.
    let before = speaker.state().await.peers[0].messages_in;
    speaker.refresh(peer.address).await.expect("asks");
    eventually("it answers", async || {
        speaker.state().await.peers[0].messages_in > before
    })
    .await;
    settled(&speaker, router, &FEEDERS).await;
    assert!(speaker.state().await.peers.iter().all(|peer| peer.flaps == 0));
    // What the gateway was told of a prefix last is a route by one of the two.
    watch.collect();
    let told: Vec<RouteChange> = TO_ROUTER
        .iter()
        .filter_map(|of| watch.seen.iter().rev().find_map(|event| lab::watch::change(event, of)))
        .collect();
    assert!(
        told.len() == 2 && told.iter().all(|change| change.route.is_some()),
        "{told:?}"
    );
    speaker.shutdown("").await;
}

/// The lines that bgpdump makes of a table, with path identifiers (RFC 8050).
fn bgpdump(table: &[u8]) -> String {
    let folder = tempfile::TempDir::new().expect("temporary directory");
    let file = folder.path().join("table.mrt");
    std::fs::write(&file, table).expect("write");
    let output = std::process::Command::new("bgpdump").arg("-m").arg(&file).output();
    let output = output.expect("this test needs bgpdump: apt-get install bgpdump");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn with_frr() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(&feeders::frr_lines());
        let _bgpd = lab.start_bgpd();
        exchange(&lab, &Middle::Frr(&lab)).await;
    });
}

#[test]
fn with_bird() {
    installed(Program::Bird);
    Lab::without_frr(|lab| async move {
        let bird = Middle::Other(lab.start_several(Program::Bird));
        exchange(&lab, &bird).await;
    });
}

#[test]
fn with_gobgp() {
    installed(Program::GoBgp);
    Lab::without_frr(|lab| async move {
        let gobgp = Middle::Other(lab.start_several(Program::GoBgp));
        exchange(&lab, &gobgp).await;
    });
}
