//! A peer known by its interface alone: FRR's `neighbor IFACE interface remote-as external`, on a link without any address
//! but link-local ones. IPv4 routes go both ways with IPv6 next hops (RFC 8950).

mod lab;

use bgp::{PeerConfig, Policy, RemoteAs, Speaker, SpeakerConfig, UnnumberedPeer};
use lab::watch::{Watch, change, is_up, prefix};
use lab::{Lab, UNNUMBERED, eventually, speaker_config};

fn config(passive: bool) -> SpeakerConfig {
    let mut template = PeerConfig::new("::".parse().expect("ip"), RemoteAs::External);
    template.import = Policy::Accept;
    template.export = Policy::Accept;
    template.passive = passive;
    let unnumbered = UnnumberedPeer {
        interface: "fabric".into(),
        template,
    };
    SpeakerConfig {
        peers: Vec::new(),
        originate: vec![prefix("203.0.113.0/24"), prefix("2001:db8:200::/48")],
        unnumbered: vec![unnumbered],
        ..speaker_config()
    }
}

#[test]
fn frr_and_this_speaker_find_each_other_and_routes_of_both_families_go_both_ways() {
    Lab::run(|lab| async move {
        lab.unnumber();
        lab.extend_bgpd_conf(UNNUMBERED);
        let _bgpd = lab.start_bgpd();
        for passive in [false, true] {
            let (sender, mut watch) = Watch::new(64);
            let speaker = Speaker::start(config(passive), sender).await.expect("speaker starts");
            watch.wait("session", is_up).await;
            let peer = speaker.state().await.peers.remove(0);
            assert_eq!(
                (peer.remote_as, peer.unnumbered.as_deref()),
                (Some(65001), Some("fabric"))
            );
            for of in ["192.0.2.0/24", "2001:db8:100::/48"] {
                let told = watch.wait(of, |event| change(event, of)).await;
                let next_hop = told.route.expect("announced").next_hops[0];
                assert_eq!(next_hop.gateway, Some(peer.address), "{of}");
                assert!(next_hop.interface.is_some(), "{of}");
            }
            for (family, of) in [("ipv4", "203.0.113.0/24"), ("ipv6", "2001:db8:200::/48")] {
                eventually("FRR has ours, through the link-local address", async || {
                    let shown = lab.vtysh(&format!("show bgp {family} unicast {of} json")).await;
                    let hops = &shown["paths"][0]["nexthops"];
                    shown["paths"][0]["valid"] == true
                        && hops.as_array().is_some_and(|hops| {
                            hops.iter().any(|hop| {
                                hop["accessible"] == true
                                    && hop["ip"].as_str().is_some_and(|address| address.starts_with("fe80:"))
                            })
                        })
                })
                .await;
            }
            speaker.shutdown("").await;
        }
    });
}

#[test]
fn an_unnumbered_peer_goes_with_its_configuration() {
    Lab::run(|lab| async move {
        lab.unnumber();
        lab.extend_bgpd_conf(UNNUMBERED);
        let _bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(config(false), sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        // The same again changes nothing, though the peer is in no list.
        speaker.apply(config(false)).await.expect("applies");
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        let mut without = config(false);
        without.unnumbered.clear();
        speaker.apply(without).await.expect("applies");
        assert!(speaker.state().await.peers.is_empty());
        watch.forget();
        speaker.apply(config(false)).await.expect("applies");
        watch.wait("session", is_up).await;
        speaker.shutdown("").await;
    });
}
