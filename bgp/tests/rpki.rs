//! RPKI over RTR (RFC 8210) with StayRTR, and with caches that behave badly; origin validation (RFC 6811) in policy.

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use bgp::rpki::CacheConfig;
use bgp::{Policy, PolicyTable, Speaker, SpeakerConfig};
use lab::watch::Watch;
use lab::{Daemon, Lab, eventually, speaker_config};
use net::policy::{Condition, Policies, Policy as Data, Term, Then, Validity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// StayRTR, which serves what is in a file.
struct StayRtr {
    folder: TempDir,
    daemon: Option<(Daemon, Pid)>,
    port: u16,
}

impl StayRtr {
    /// A cache that wants to be asked each second, and forgotten after a few.
    fn start(port: u16, vrps: &[(&str, u8, u32)]) -> Self {
        let folder = TempDir::new().expect("temporary directory");
        let mut cache = Self {
            folder,
            daemon: None,
            port,
        };
        cache.write(vrps);
        cache.restart(1);
        cache
    }

    fn write(&self, vrps: &[(&str, u8, u32)]) {
        let roas: Vec<String> = vrps
            .iter()
            .map(|(prefix, length, asn)| {
                format!("{{\"prefix\":\"{prefix}\",\"maxLength\":{length},\"asn\":\"AS{asn}\",\"ta\":\"test\"}}")
            })
            .collect();
        let text = format!("{{\"roas\":[{}]}}", roas.join(","));
        fs::write(self.folder.path().join("vrps.json"), text).expect("write");
    }

    fn restart(&mut self, version: u8) {
        self.daemon = None;
        let child = Command::new("stayrtr")
            .args(["-bind", &format!("127.0.0.1:{}", self.port), "-metrics.addr", ""])
            .arg("-cache")
            .arg(self.folder.path().join("vrps.json"))
            .args(["-checktime=false", "-refresh", "1", "-protocol", &version.to_string()])
            .args(["-rtr.refresh", "1", "-rtr.retry", "1", "-rtr.expire", "8"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs stayrtr: apt-get install stayrtr");
        let id = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        self.daemon = Some((Daemon::of(child), id));
    }

    /// Serves something else.
    fn serve(&self, vrps: &[(&str, u8, u32)]) {
        self.write(vrps);
        let (_, id) = self.daemon.as_ref().expect("runs");
        kill(*id, Signal::SIGHUP).expect("runs");
    }

    fn stop(&mut self) {
        self.daemon = None;
    }
}

fn cache(port: u16, preference: u8) -> CacheConfig {
    CacheConfig {
        cache: SocketAddr::from(([127, 0, 0, 1], port)),
        preference,
    }
}

/// Takes what is not invalid.
fn config(caches: &[CacheConfig]) -> SpeakerConfig {
    let mut config = speaker_config();
    config.rpki = caches.to_vec();
    let policy = Data {
        name: "origins".to_owned(),
        terms: vec![Term {
            name: "invalid".to_owned(),
            conditions: vec![Condition::Rpki(vec![Validity::Invalid])],
            changes: Vec::new(),
            then: Then::Reject,
        }],
        accept_by_default: true,
    };
    let data = Policies {
        policies: vec![policy],
        ..Policies::default()
    };
    config.policies = PolicyTable::compile(&data).expect("compiles");
    config.peers[0].import = Policy::Program(std::sync::Arc::clone(config.policies.get("origins").expect("is there")));
    config
}

/// What is said of a prefix, and whether it is used.
async fn route(speaker: &Speaker, prefix: &str) -> (String, bool) {
    let prefix = prefix.parse().expect("prefix");
    let routes = speaker.routes(Some(prefix)).await;
    let path = routes.first().and_then(|route| route.paths.first());
    path.map_or_else(Default::default, |path| (path.rpki.clone(), path.best))
}

async fn becomes(speaker: &Speaker, prefix: &str, validity: &str, used: bool) {
    let what = format!("{prefix} is {validity}");
    eventually(&what, async || {
        route(speaker, prefix).await == (validity.to_owned(), used)
    })
    .await;
}

const ONE: &str = "192.0.2.0/24";
const TWO: &str = "198.51.100.0/24";
const SIX: &str = "2001:db8:100::/48";

#[test]
fn routes_follow_what_caches_say_and_caches_come_and_go() {
    Lab::run(|lab| async move {
        let _bgpd = lab.start_bgpd();
        let mut preferred = StayRtr::start(
            8282,
            &[(ONE, 24, 65001), (SIX, 48, 65001), ("198.51.0.0/16", 20, 65001)],
        );
        let (sender, _watch) = Watch::new(1024);
        let speaker = Speaker::start(config(&[cache(8283, 200), cache(8282, 1)]), sender)
            .await
            .expect("speaker starts");
        becomes(&speaker, ONE, "valid", true).await;
        becomes(&speaker, SIX, "valid", true).await;
        becomes(&speaker, TWO, "invalid", false).await;

        // The cache says something else: routes are looked at again, without a reset.
        preferred.serve(&[(ONE, 24, 64999), (TWO, 24, 65001)]);
        becomes(&speaker, ONE, "invalid", false).await;
        becomes(&speaker, TWO, "valid", true).await;
        becomes(&speaker, SIX, "not-found", true).await;

        // A less preferred one is heard only while the other has nothing to say any more.
        let second = StayRtr::start(8283, &[(ONE, 24, 65001)]);
        eventually("both hold something", async || {
            speaker.rpki().await.caches.iter().all(|cache| cache.vrps > 0)
        })
        .await;
        assert_eq!(route(&speaker, ONE).await, ("invalid".to_owned(), false));
        preferred.stop();
        becomes(&speaker, ONE, "valid", true).await;
        becomes(&speaker, TWO, "not-found", true).await;
        let state = speaker.rpki().await;
        assert!(!state.caches[0].in_use && state.caches[1].in_use, "{state:?}");
        assert!(
            state.caches[0].last_error.is_some() && state.caches[0].vrps == 0,
            "{state:?}"
        );

        // It comes back, and speaks version 0 alone.
        preferred.restart(0);
        becomes(&speaker, ONE, "invalid", false).await;
        let state = speaker.rpki().await;
        assert!(state.caches[0].in_use && state.caches[0].serial.is_some(), "{state:?}");
        drop(second);

        let peer = speaker.state().await.peers.remove(0);
        assert_eq!((peer.state.as_str(), peer.flaps), ("Established", 0));
        speaker.shutdown("").await;
    });
}

/// PDUs of version 1 (RFC 8210 section 5).
fn pdu(kind: u8, field: u16, body: &[u8]) -> Vec<u8> {
    let length = 8 + u32::try_from(body.len()).expect("short");
    [&[1, kind], &field.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
}

const SESSION: u16 = 77;

/// An IPv4 prefix that is announced (1) or withdrawn (0).
fn vrp(announced: u8, prefix: [u8; 4], asn: u32) -> Vec<u8> {
    let body = [&[announced, 24, 24, 0][..], &prefix, &asn.to_be_bytes()].concat();
    pdu(4, 0, &body)
}

fn end_of_data(serial: u32) -> Vec<u8> {
    let intervals = [3600_u32, 1, 7200].map(u32::to_be_bytes).concat();
    pdu(7, SESSION, &[&serial.to_be_bytes()[..], &intervals].concat())
}

/// The next query: its kind and serial.
fn query(stream: &mut TcpStream) -> Option<(u8, Option<u32>)> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; usize::from(header[7]) - 8];
    stream.read_exact(&mut body).ok()?;
    let serial = body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    Some((header[1], serial))
}

#[test]
fn serials_wrap_and_what_makes_no_sense_ends_the_connection_alone() {
    const RESET: (u8, Option<u32>) = (2, None);
    Lab::run(|lab| async move {
        let _bgpd = lab.start_bgpd();
        let listener = TcpListener::bind("127.0.0.1:8284").expect("free");
        let script = std::thread::spawn(move || {
            let accept = || listener.accept().expect("it connects").0;
            let send = |stream: &mut TcpStream, pdus: &[Vec<u8>]| stream.write_all(&pdus.concat()).expect("it reads");
            // Garbage, a length that lies, half an answer, a VRP that cannot be: each time it comes again.
            accept()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .expect("it reads");
            send(&mut accept(), &[pdu(3, SESSION, &[0; 4])]);
            let mut stream = accept();
            assert_eq!(query(&mut stream), Some(RESET));
            send(&mut stream, &[pdu(3, SESSION, &[]), vrp(1, [192, 0, 2, 0], 65001)]);
            drop(stream);
            let mut stream = accept();
            assert_eq!(query(&mut stream), Some(RESET));
            let mut longer = vrp(1, [192, 0, 2, 0], 65001);
            longer[9] = 33;
            send(&mut stream, &[pdu(3, SESSION, &[]), longer]);
            drop(stream);
            // The last serial, then a change with the first.
            let mut stream = accept();
            assert_eq!(query(&mut stream), Some(RESET));
            send(
                &mut stream,
                &[
                    pdu(3, SESSION, &[]),
                    vrp(1, [192, 0, 2, 0], 64999),
                    end_of_data(u32::MAX),
                ],
            );
            send(&mut stream, &[pdu(0, SESSION, &0_u32.to_be_bytes())]);
            assert_eq!(query(&mut stream), Some((1, Some(u32::MAX))));
            send(
                &mut stream,
                &[
                    pdu(3, SESSION, &[]),
                    vrp(0, [192, 0, 2, 0], 64999),
                    vrp(1, [192, 0, 2, 0], 65001),
                    end_of_data(0),
                ],
            );
            // It takes up where it was; a withdrawal of what is not there makes it ask for everything.
            drop(stream);
            let mut stream = accept();
            assert_eq!(query(&mut stream), Some((1, Some(0))));
            send(
                &mut stream,
                &[pdu(3, SESSION, &[]), vrp(0, [198, 51, 100, 0], 1), end_of_data(1)],
            );
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("it closes");
            assert_eq!(
                rest[..4],
                [1, 10, 0, 6],
                "an error report: withdrawal of an unknown record"
            );
            let mut stream = accept();
            assert_eq!(query(&mut stream), Some(RESET));
            send(
                &mut stream,
                &[pdu(3, SESSION, &[]), vrp(1, [192, 0, 2, 0], 65001), end_of_data(2)],
            );
            // It may go when the test does.
            while query(&mut stream).is_some() {}
        });
        let (sender, _watch) = Watch::new(1024);
        let speaker = Speaker::start(config(&[cache(8284, 1)]), sender)
            .await
            .expect("speaker starts");
        eventually("the last answer is taken", async || {
            let cache = speaker.rpki().await.caches.remove(0);
            cache.serial == Some(2) && cache.session == Some(SESSION) && cache.connects == 7
        })
        .await;
        becomes(&speaker, ONE, "valid", true).await;
        becomes(&speaker, TWO, "not-found", true).await;
        let peer = speaker.state().await.peers.remove(0);
        assert_eq!((peer.state.as_str(), peer.flaps), ("Established", 0));
        speaker.shutdown("").await;
        script.join().expect("the script was followed");
    });
}
