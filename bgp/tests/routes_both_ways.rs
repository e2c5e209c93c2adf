//! A session with each of BIRD, GoBGP, OpenBGPD and ExaBGP carries routes of both families both ways, with large
//! communities (RFC 8092).

mod lab;

use bgp::Speaker;
use lab::policy::changing;
use lab::routers::{LARGE, Program, installed, sessions};
use lab::watch::{Watch, is_up, prefix};
use lab::{Lab, eventually};
use net::policy::{Change, Community};

const OURS: [&str; 2] = ["203.0.113.0/24", "2001:db8:200::/48"];

fn exchange(program: Program) {
    installed(program);
    Lab::without_frr(move |lab| async move {
        let router = lab.start_router(program, None).await;
        let (sender, mut watch) = Watch::new(64);
        let mut config = sessions(program);
        config.originate = OURS.map(prefix).to_vec();
        for peer in &mut config.peers {
            peer.export = changing(vec![Change::AddCommunities(vec![Community::Large(65000, 7, 8)])]);
        }
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        for of in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:100::/48"] {
            eventually(&format!("{program:?}'s {of} is used"), async || {
                let routes = speaker.routes(Some(prefix(of))).await;
                routes.iter().any(|route| {
                    let path = &route.paths[0];
                    let marked = path.large_communities == [LARGE];
                    path.best && path.as_path == "65001" && marked == (of == "192.0.2.0/24")
                })
            })
            .await;
        }
        for of in OURS {
            eventually(&format!("{program:?} knows {of}"), async || {
                let known = router.knows(of).await;
                // As 65000:7:8, (65000, 7, 8) or [ 65000, 7 , 8 ].
                let digits = known.replace([',', ' '], ":").replace("::::", ":").replace(":::", ":");
                known.contains(of) && digits.replace("::", ":").contains("65000:7:8")
            })
            .await;
        }
        assert!(speaker.state().await.peers.iter().all(|peer| peer.flaps == 0));
        speaker.shutdown("").await;
    });
}

#[test]
fn with_bird() {
    exchange(Program::Bird);
}

#[test]
fn with_gobgp() {
    exchange(Program::GoBgp);
}

#[test]
fn with_openbgpd() {
    exchange(Program::OpenBgpd);
}

#[test]
fn with_exabgp() {
    exchange(Program::ExaBgp);
}
