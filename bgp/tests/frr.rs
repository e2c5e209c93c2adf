//! The speaker against FRR's bgpd, over real TCP between two network namespaces.
//!
//! Needs root, iproute2 and FRR (`/usr/lib/frr`); fails with a clear message where one is missing.

mod lab;

use std::time::Duration;

use bgp::{Action, Event, Family, Policy, PrefixList, PrefixRule, Speaker};
use lab::watch::{Watch, change, is_up, prefix};
use lab::{FRR_V4, FRR_V6, Lab, eventually, speaker_config};
use net::{RouteChange, Source};

#[test]
fn routes_go_both_ways_in_both_families() {
    Lab::run(|lab| async move {
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        config.originate = vec![prefix("203.0.113.0/24"), prefix("2001:db8:beef::/48")];
        let speaker = Speaker::start(config.clone(), sender).await.expect("speaker starts");

        watch.wait("session", is_up).await;
        let v4 = watch.wait("192.0.2.0/24", |event| change(event, "192.0.2.0/24")).await;
        assert_eq!(v4.source, Source::Ebgp);
        assert_eq!(
            v4.route.expect("announced").next_hops[0].gateway,
            Some(FRR_V4.parse().expect("ip"))
        );
        let v6 = watch
            .wait("2001:db8:100::/48", |event| change(event, "2001:db8:100::/48"))
            .await;
        assert_eq!(
            v6.route.expect("announced").next_hops[0].gateway,
            Some(FRR_V6.parse().expect("ip"))
        );
        watch
            .wait("end of RIB", |event| {
                matches!(
                    event,
                    Event::EndOfRib {
                        family: Family::Ipv6Unicast,
                        ..
                    }
                )
                .then_some(())
            })
            .await;

        eventually("FRR has both prefixes with our next hops", async || {
            let v4 = lab.vtysh("show bgp ipv4 unicast 203.0.113.0/24 json").await;
            let v6 = lab.vtysh("show bgp ipv6 unicast 2001:db8:beef::/48 json").await;
            v4["paths"][0]["nexthops"][0]["ip"] == "10.99.0.1"
                && v4["paths"][0]["aspath"]["string"] == "65000"
                && v4["paths"][0]["valid"] == true
                && v6["paths"][0]["nexthops"][0]["ip"] == "2001:db8:99::1"
        })
        .await;

        let state = speaker.state().await;
        let peer = &state.peers[0];
        assert_eq!((peer.state.as_str(), peer.flaps, peer.hold_time), ("Established", 0, 9));
        // FRR sends our own prefixes back: received, and not accepted for the loop in the AS path.
        let counts: Vec<_> = peer
            .families
            .iter()
            .map(|family| (family.accepted, family.advertised))
            .collect();
        assert_eq!(counts, [(2, 1), (1, 1)]);
        assert!(
            peer.capabilities.iter().any(|name| name == "four-octet-as"),
            "{:?}",
            peer.capabilities
        );

        // Withdrawn and added without a reset.
        config.originate = vec![prefix("203.0.113.128/25"), prefix("2001:db8:beef::/48")];
        speaker.apply(config.clone()).await.expect("applies");
        eventually("FRR lost the withdrawn prefix and has the other", async || {
            let gone = lab.vtysh("show bgp ipv4 unicast 203.0.113.0/24 json").await;
            let new = lab.vtysh("show bgp ipv4 unicast 203.0.113.128/25 json").await;
            gone["paths"].is_null() && new["paths"][0]["nexthops"][0]["ip"] == "10.99.0.1"
        })
        .await;
        assert_eq!(speaker.state().await.peers[0].flaps, 0);

        watch.forget();
        lab.configure(
            "router bgp 65001",
            "address-family ipv4 unicast",
            "no network 192.0.2.0/24",
        )
        .await;
        let gone = watch.wait("withdrawal", |event| change(event, "192.0.2.0/24")).await;
        assert_eq!((gone.source, gone.route), (Source::Ebgp, None));
        assert!(
            !speaker
                .routes(None)
                .await
                .iter()
                .any(|route| route.prefix == prefix("192.0.2.0/24"))
        );

        // Another import policy is applied to what was received; the session goes on.
        let rule = PrefixRule {
            action: Action::Accept,
            prefix: prefix("::/0"),
            ge: None,
            le: Some(128),
        };
        config.peers[0].import = Policy::PrefixList(PrefixList { rules: vec![rule] });
        watch.forget();
        speaker.apply(config).await.expect("applies");
        let gone = watch
            .wait("withdrawal by policy", |event| change(event, "198.51.100.0/24"))
            .await;
        assert_eq!(gone.route, None);
        let denied = speaker.routes(Some(prefix("198.51.100.0/24"))).await;
        assert_eq!(
            denied[0].paths[0].reason.as_deref(),
            Some("denied by import policy: no rule matches")
        );
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        speaker.shutdown("").await;
        bgpd.kill();
    });
}

#[test]
fn a_killed_bgpd_takes_its_routes_along_and_comes_back() {
    Lab::run(|lab| async move {
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(speaker_config(), sender).await.expect("speaker starts");
        watch.wait("route", |event| change(event, "198.51.100.0/24")).await;

        watch.forget();
        bgpd.kill();
        let gone = watch.wait("withdrawal", |event| change(event, "198.51.100.0/24")).await;
        assert_eq!(gone.route, None);
        watch
            .wait("session end", |event| {
                matches!(event, Event::PeerDown { .. }).then_some(())
            })
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;

        watch.forget();
        let mut bgpd = lab.start_bgpd();
        let back = watch
            .wait("route again", |event| change(event, "198.51.100.0/24"))
            .await;
        assert!(back.route.is_some());
        assert_eq!(speaker.state().await.peers[0].flaps, 1);
        speaker.shutdown("").await;
        bgpd.kill();
    });
}

#[test]
fn a_session_over_ipv6_carries_both_families() {
    Lab::run(|lab| async move {
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        config.peers[0].address = FRR_V6.parse().expect("ip");
        config.originate = vec![prefix("203.0.113.0/24"), prefix("2001:db8:beef::/48")];
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        let v4 = watch.wait("192.0.2.0/24", |event| change(event, "192.0.2.0/24")).await;
        let v6 = watch
            .wait("2001:db8:100::/48", |event| change(event, "2001:db8:100::/48"))
            .await;
        let gateway = |change: RouteChange| change.route.expect("announced").next_hops[0].gateway;
        assert_eq!(gateway(v4), Some(FRR_V4.parse().expect("ip")));
        assert_eq!(gateway(v6), Some(FRR_V6.parse().expect("ip")));
        eventually("FRR has both prefixes with our next hops", async || {
            let v4 = lab.vtysh("show bgp ipv4 unicast 203.0.113.0/24 json").await;
            let v6 = lab.vtysh("show bgp ipv6 unicast 2001:db8:beef::/48 json").await;
            v4["paths"][0]["nexthops"][0]["ip"] == "10.99.0.1"
                && v6["paths"][0]["nexthops"][0]["ip"] == "2001:db8:99::1"
        })
        .await;
        speaker.shutdown("").await;
        bgpd.kill();
    });
}

#[test]
fn frr_sees_the_administrative_shutdown() {
    Lab::run(|lab| async move {
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        // FRR connects: the speaker's listener is what is used.
        config.peers[0].passive = true;
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        speaker.shutdown("rack 4 moves").await;
        eventually("FRR names the reason", async || {
            let neighbor = lab.vtysh("show bgp neighbors 10.99.0.1 json").await;
            neighbor["10.99.0.1"]["lastNotificationReason"] == "Cease/Administrative Shutdown"
                && neighbor["10.99.0.1"]["lastShutdownDescription"] == "rack 4 moves"
        })
        .await;
        bgpd.kill();
    });
}

#[test]
fn the_shutdown_communication_of_frr_is_shown() {
    Lab::run(|lab| async move {
        let mut bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(speaker_config(), sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        let line = "neighbor 10.99.0.1 shutdown message rack 5 moves";
        lab.configure("router bgp 65001", "", line).await;
        eventually("the text and the bytes are shown", async || {
            let peer = speaker.state().await.peers.remove(0);
            // A hard reset around the shutdown; its text is of 12 bytes. It stays when we have failed to connect since.
            let told = peer.last_notification.is_some_and(|told| {
                !told.sent
                    && (told.code, told.subcode) == (6, 9)
                    && told.data == "06020c7261636b2035206d6f766573"
                    && told.meaning.contains("Administrative Shutdown: \"rack 5 moves\"")
            });
            let counts = peer.messages_received;
            let counted = [counts.open, counts.update, counts.keepalive, counts.notification];
            told && counted.iter().all(|count| *count > 0)
        })
        .await;
        speaker.shutdown("").await;
        bgpd.kill();
    });
}
