//! Sessions whose segments are signed (TCP MD5, RFC 2385) with BIRD, GoBGP, OpenBGPD and ExaBGP; FRR is in `protection.rs`.

mod lab;

use bgp::{Password, Speaker};
use lab::routers::{Program, installed};
use lab::watch::{Watch, change, is_up};
use lab::{Lab, eventually, speaker_config};

/// First with another password, where the router is patient, then with its own.
fn signed(program: Program) {
    installed(program);
    Lab::without_frr(move |lab| async move {
        let _router = lab.start_router(program, Some("secret")).await;
        let (sender, mut watch) = Watch::new(64);
        let mut config = speaker_config();
        // ExaBGP waits for longer each time that it gets no answer: it begins with the right one.
        let first = if program == Program::ExaBgp { "secret" } else { "wrong" };
        config.peers[0].password = Password::new(first);
        let speaker = Speaker::start(config.clone(), sender).await.expect("speaker starts");
        if first == "wrong" {
            eventually("the password is asked about", async || {
                let peer = speaker.state().await.peers.remove(0);
                peer.messages_in == 0 && peer.last_error.is_some_and(|error| error.contains("password"))
            })
            .await;
            config.peers[0].password = Password::new("secret");
            speaker.apply(config).await.expect("applies");
        }
        watch.wait("session", is_up).await;
        watch.wait("a route", |event| change(event, "192.0.2.0/24")).await;
        speaker.shutdown("").await;
    });
}

#[test]
fn with_bird() {
    signed(Program::Bird);
}

#[test]
fn with_gobgp() {
    signed(Program::GoBgp);
}

#[test]
fn with_openbgpd() {
    signed(Program::OpenBgpd);
}

#[test]
fn with_exabgp() {
    signed(Program::ExaBgp);
}
