//! Messages above 4096 octets (RFC 8654), with BIRD at the other end: attributes that fit into nothing shorter.

mod lab;

use std::fmt::Write;

use bgp::Speaker;
use lab::policy::loading;
use lab::watch::{Watch, is_up, prefix};
use lab::{Lab, eventually, speaker_config};

/// 4 octets each.
const COMMUNITIES: u16 = 1100;
/// 4 octets each.
const ASES: usize = 1100;

#[test]
fn a_path_of_4_kilobytes_comes_from_bird_and_as_many_communities_go_to_it() {
    Lab::without_frr(|lab| async move {
        let mut export = "if net = 192.0.2.0/24 then {".to_owned();
        for _ in 0..ASES {
            write!(export, " bgp_path.prepend(65001);").expect("writes to memory");
        }
        export += " }";
        let bird = lab.start_bird("enable extended messages yes;", &export);
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        config.originate = vec![prefix("203.0.113.0/24")];
        config.peers[0].export = loading(COMMUNITIES);
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        assert!(
            speaker.state().await.peers[0]
                .capabilities
                .contains(&"extended-messages".to_owned())
        );
        eventually("the long path is used", async || {
            let routes = speaker.routes(Some(prefix("192.0.2.0/24"))).await;
            routes
                .iter()
                .any(|route| route.paths[0].best && route.paths[0].as_path.split(' ').count() > ASES)
        })
        .await;
        eventually("BIRD has the communities", async || {
            let shown = bird.ask("show route 203.0.113.0/24 all").await;
            shown.contains("(65000,1099)")
        })
        .await;
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        speaker.shutdown("").await;
    });
}
