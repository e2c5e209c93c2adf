//! BFD (RFC 5880, 5881) with FRR's bfdd, over IPv4 and IPv6: what fails ends the BGP session long before its hold timer,
//! and what is no failure does not.

mod lab;

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use bgp::bfd::packet::State;
use bgp::bfd::session::Config;
use bgp::{Event, RemoteAs, Speaker, SpeakerConfig, UnnumberedPeer};
use lab::watch::Watch;
use lab::{Daemon, FRR_V4, FRR_V6, Lab, UNNUMBERED, eventually, speaker_config};
use serde_json::Value;

/// The hold time is 180 s: only BFD can end a session while a test waits.
const BGPD: &str = "
router bgp 65001
 neighbor 10.99.0.1 timers 60 180
 neighbor 2001:db8:99::1 timers 60 180
 neighbor 10.99.0.1 bfd profile lab
 neighbor 2001:db8:99::1 bfd profile lab
";
/// Long enough for a busy machine.
const BFDD: &str = "
bfd
 profile lab
  detect-multiplier 10
  receive-interval 300
  transmit-interval 300
";
/// Hard, so that FRR keeps nothing of us either (RFC 8538).
const BFD_DOWN: &str = "sent 6/9 hard reset: 6/10 BFD Down";
const BFD: Config = Config {
    min_tx: Duration::from_millis(300),
    min_rx: Duration::from_millis(300),
    multiplier: 10,
};

/// One session over IPv4, one over IPv6, both with BFD.
fn config() -> SpeakerConfig {
    let mut config = speaker_config();
    config.peers[0].hold_time = 180;
    config.peers[0].bfd = Some(BFD);
    let mut v6 = config.peers[0].clone();
    v6.address = FRR_V6.parse().expect("ip");
    config.peers.push(v6);
    config
}

/// Waits until both sessions are up, and stay so: FRR begins BFD anew when BGP has connected and it knows the interface.
async fn both_up(lab: &Lab, speaker: &Speaker) {
    eventually("FRR's BFD is up and bound to its interface", async || {
        let known = lab.bfdd(&["show bfd peers json"]).await;
        known.as_array().is_some_and(|peers| {
            let settled = |peer: &Value| peer["status"] == "up" && peer["interface"] == "fabric";
            peers.len() == 2 && peers.iter().all(settled)
        })
    })
    .await;
    eventually("sessions and BFD are up", async || {
        let peers = speaker.state().await.peers;
        peers
            .iter()
            .all(|peer| peer.state == "Established" && peer.bfd == Some(State::Up))
    })
    .await;
}

async fn start(lab: &Lab) -> (Daemon, Daemon, Speaker, Watch) {
    lab.extend_bgpd_conf(BGPD);
    let bfdd = lab.start_bfdd(BFDD);
    let bgpd = lab.start_bgpd();
    let (sender, watch) = Watch::new(64);
    let speaker = Speaker::start(config(), sender).await.expect("speaker starts");
    both_up(lab, &speaker).await;
    (bgpd, bfdd, speaker, watch)
}

/// Waits until the session with `peer` is down, and says why.
async fn down(watch: &mut Watch, peer: &str) -> String {
    let address: std::net::IpAddr = peer.parse().expect("ip");
    let ended = |event: &Event| match event {
        Event::PeerDown { peer, reason, kept } if *peer == address => Some((reason.clone(), kept.len())),
        _ => None,
    };
    let (reason, kept) = watch.wait("session end", ended).await;
    assert_eq!(kept, 0, "nothing is kept of a neighbour that is not reached");
    reason
}

#[test]
fn frr_frozen_ends_the_session_by_bfd_and_frr_is_told_why() {
    Lab::run(|lab| async move {
        let (bgpd, bfdd, speaker, mut watch) = start(&lab).await;
        for view in speaker.bfd().await.sessions {
            assert_eq!(view.remote_state, State::Up, "{view:?}");
        }
        eventually("intervals of both sides are in use", async || {
            let sessions = speaker.bfd().await.sessions;
            let agreed = (Some(300), Some(3000));
            sessions
                .iter()
                .all(|view| (view.send_interval_ms, view.detection_time_ms) == agreed)
        })
        .await;
        let downs = async || -> u64 { speaker.bfd().await.sessions.iter().map(|view| view.downs).sum() };
        let before = downs().await;
        watch.forget();
        bfdd.freeze(true);
        bgpd.freeze(true);
        for peer in [FRR_V4, FRR_V6] {
            assert_eq!(down(&mut watch, peer).await, BFD_DOWN);
        }
        let sessions = speaker.bfd().await.sessions;
        assert!(
            sessions.iter().all(|view| view.diagnostic == "detection time expired"),
            "{sessions:?}"
        );
        assert_eq!(downs().await, before + 2);
        assert!(speaker.routes(None).await.is_empty());
        bfdd.freeze(false);
        bgpd.freeze(false);
        both_up(&lab, &speaker).await;
        eventually("FRR has read the notification", async || {
            let neighbor = lab.vtysh("show bgp neighbors 10.99.0.1 json").await;
            neighbor["10.99.0.1"]["lastErrorCodeSubcode"] == "060A"
                || neighbor["10.99.0.1"]["lastResetDueTo"] == "BFD down received"
        })
        .await;
        speaker.shutdown("").await;
    });
}

#[test]
fn a_link_taken_down_ends_the_session_by_bfd_and_it_comes_back() {
    Lab::run(|lab| async move {
        let (_bgpd, _bfdd, speaker, mut watch) = start(&lab).await;
        watch.forget();
        lab.router_ip("link set fabric down");
        for peer in [FRR_V4, FRR_V6] {
            assert_eq!(down(&mut watch, peer).await, BFD_DOWN);
        }
        lab.router_ip("link set fabric up");
        // The kernel forgets IPv6 addresses of a link that is down.
        lab.router_ip("address replace 2001:db8:99::2/64 dev fabric nodad");
        both_up(&lab, &speaker).await;
        speaker.shutdown("").await;
    });
}

#[test]
fn bfdd_killed_and_started_again_is_found_again() {
    Lab::run(|lab| async move {
        let (_bgpd, mut bfdd, speaker, mut watch) = start(&lab).await;
        watch.forget();
        bfdd.kill();
        for peer in [FRR_V4, FRR_V6] {
            // FRR's bgpd may see it first.
            down(&mut watch, peer).await;
        }
        let _bfdd = lab.start_bfdd(BFDD);
        both_up(&lab, &speaker).await;
        speaker.shutdown("").await;
    });
}

#[test]
fn a_neighbour_that_ends_bfd_on_purpose_keeps_its_session() {
    Lab::run(|lab| async move {
        let (_bgpd, _bfdd, speaker, _watch) = start(&lab).await;
        let flaps = async || -> u64 { speaker.state().await.peers.iter().map(|peer| peer.flaps).sum() };
        let before = flaps().await;
        lab.bfdd(&["configure terminal", "bfd", "profile lab", "shutdown"])
            .await;
        eventually("BFD is down", async || {
            let sessions = speaker.bfd().await.sessions;
            sessions
                .iter()
                .all(|view| view.remote_state == State::AdminDown && view.downs > 0)
        })
        .await;
        // Longer than the detection time.
        tokio::time::sleep(Duration::from_secs(4)).await;
        for peer in speaker.state().await.peers {
            assert_eq!((peer.state.as_str(), peer.bfd), ("Established", Some(State::Down)));
        }
        assert_eq!(flaps().await, before);
        lab.bfdd(&["configure terminal", "bfd", "profile lab", "no shutdown"])
            .await;
        both_up(&lab, &speaker).await;
        speaker.shutdown("").await;
    });
}

#[test]
fn bfd_that_never_comes_up_ends_nothing_and_comes_and_goes_without_a_reset() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf("");
        let _bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = config();
        let speaker = Speaker::start(config.clone(), sender).await.expect("speaker starts");
        eventually("sessions without BFD", async || {
            let peers = speaker.state().await.peers;
            peers
                .iter()
                .all(|peer| peer.state == "Established" && peer.bfd == Some(State::Down))
        })
        .await;
        watch.forget();
        // Who is not on the link is not heard.
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let stranger = UdpSocket::bind(local).expect("bind");
            let port = bgp::bfd::PORT;
            let to = (stranger.local_addr().expect("bound").ip(), port);
            stranger.send_to(&[0; 24], to).expect("sent");
        }
        eventually("strangers are counted", async || {
            speaker.bfd().await.discarded.wrong_ttl == 2
        })
        .await;

        config.peers.iter_mut().for_each(|peer| peer.bfd = None);
        speaker.apply(config.clone()).await.expect("applies");
        assert!(speaker.bfd().await.sessions.is_empty());
        config.peers.iter_mut().for_each(|peer| peer.bfd = Some(BFD));
        speaker.apply(config).await.expect("applies");
        let peers = speaker.state().await.peers;
        assert!(
            peers
                .iter()
                .all(|peer| peer.state == "Established" && peer.flaps == 0 && peer.bfd == Some(State::Down)),
            "{peers:?}"
        );
        speaker.shutdown("").await;
    });
}

#[test]
fn an_unnumbered_peer_has_bfd_over_link_local_addresses() {
    Lab::run(|lab| async move {
        lab.unnumber();
        let slow = " neighbor fabric timers 60 180\n neighbor fabric bfd profile lab\n";
        lab.extend_bgpd_conf(&format!("{UNNUMBERED}{slow}"));
        let bfdd = lab.start_bfdd(BFDD);
        let bgpd = lab.start_bgpd();
        let mut template = config().peers.remove(0);
        template.remote_as = RemoteAs::External;
        let unnumbered = UnnumberedPeer {
            interface: "fabric".into(),
            template,
        };
        let config = SpeakerConfig {
            peers: Vec::new(),
            unnumbered: vec![unnumbered],
            ..config()
        };
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        // FRR begins BFD anew when BGP has told it of the session.
        let up = async || {
            let known = lab.bfdd(&["show bfd peers json"]).await;
            let settled = |peer: &Value| peer["status"] == "up" && peer["interface"] == "fabric";
            let peers = speaker.state().await.peers;
            known
                .as_array()
                .is_some_and(|known| known.len() == 1 && known.iter().all(settled))
                && peers.len() == 1
                && peers[0].state == "Established"
                && peers[0].bfd == Some(State::Up)
        };
        eventually("session and BFD are up", up).await;
        let peer = speaker.state().await.peers[0].address;
        assert!(matches!(peer, IpAddr::V6(v6) if v6.is_unicast_link_local()), "{peer}");

        watch.forget();
        bfdd.freeze(true);
        bgpd.freeze(true);
        assert_eq!(down(&mut watch, &peer.to_string()).await, BFD_DOWN);
        bfdd.freeze(false);
        bgpd.freeze(false);
        eventually("session and BFD are up again", up).await;
        speaker.shutdown("").await;
    });
}

#[test]
fn another_bfd_daemon_is_named_as_the_reason() {
    Lab::run(|_lab| async move {
        let _taken = UdpSocket::bind("0.0.0.0:3784").expect("free");
        let (sender, _watch) = Watch::new(1);
        let refused = Speaker::start(config(), sender).await.expect_err("the port is taken");
        assert!(matches!(refused, bgp::Error::BfdListen { .. }), "{refused}");
    });
}
