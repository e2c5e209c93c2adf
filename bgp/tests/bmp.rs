//! BMP (RFC 7854) to a collector of another make, pmacct's pmbmpd, and to one that never reads.

mod lab;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bgp::{Action, BmpConfig, PeerConfig, Policy, PrefixList, PrefixRule, Speaker, SpeakerConfig};
use lab::watch::Watch;
use lab::{Daemon, Lab, eventually, speaker_config};
use net::Prefix;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const COLLECTOR: &str = "127.0.0.1:1790";

/// pmbmpd, which writes down each message as a line of JSON.
struct Collector {
    folder: TempDir,
    daemon: Daemon,
}

impl Collector {
    fn start() -> Self {
        let folder = TempDir::new().expect("temporary directory");
        let address: SocketAddr = COLLECTOR.parse().expect("address");
        let text = format!(
            "bmp_daemon_ip: {}\nbmp_daemon_port: {}\nbmp_daemon_msglog_file: {}\nbmp_daemon_max_peers: 4\n",
            address.ip(),
            address.port(),
            folder.path().join("messages.json").display()
        );
        let conf = folder.path().join("pmbmpd.conf");
        fs::write(&conf, text).expect("write");
        let child = Command::new("pmbmpd")
            .arg("-f")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs pmbmpd: apt-get install pmacct");
        let daemon = Daemon::of(child);
        Self { folder, daemon }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("messages.json")
    }

    /// Every message that it has understood.
    fn messages(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Messages of a kind.
    fn of(&self, kind: &str) -> Vec<Value> {
        let mut messages = self.messages();
        messages.retain(|message| message["bmp_msg_type"] == kind);
        messages
    }

    /// The last word on a prefix, before (0) or after (1) policy: "update", "withdraw", or nothing.
    fn route(&self, prefix: &str, after: u64) -> Option<String> {
        let routes = self.of("route_monitor");
        let last = routes
            .iter()
            .rfind(|route| route["ip_prefix"] == prefix && route["is_post"] == after)?;
        last["log_type"].as_str().map(str::to_owned)
    }
}

fn exporter() -> BmpConfig {
    BmpConfig {
        statistics: Some(Duration::from_secs(1)),
        ..BmpConfig::new(COLLECTOR.parse().expect("address"))
    }
}

#[test]
fn a_collector_is_told_what_peers_announce_before_and_after_policy() {
    Lab::run(|lab| async move {
        let mut bgpd = lab.start_bgpd();
        let mut config = speaker_config();
        config.name = "gateway".to_owned();
        config.bmp = vec![exporter()];
        let all = |family: &str, length| PrefixRule {
            action: Action::Accept,
            prefix: family.parse().expect("prefix"),
            ge: Some(0),
            le: Some(length),
        };
        let denied = PrefixRule {
            action: Action::Deny,
            ..all("198.51.100.0/24", 32)
        };
        let denied = PrefixRule {
            ge: None,
            le: None,
            ..denied
        };
        config.peers[0].import = Policy::PrefixList(PrefixList {
            rules: vec![denied, all("0.0.0.0/0", 32), all("::/0", 128)],
        });
        let (sender, _watch) = Watch::new(1024);
        // The collector comes later than the routes.
        let speaker = Speaker::start(config.clone(), sender).await.expect("speaker starts");
        eventually("routes", async || speaker.routes(None).await.len() == 3).await;
        let mut collector = Collector::start();
        let v6 = "2001:db8:100::/48";
        eventually("the collector knows the routes", async || {
            let known = |prefix| (collector.route(prefix, 0), collector.route(prefix, 1));
            let update = || Some("update".to_owned());
            known("192.0.2.0/24") == (update(), update())
                && known(v6) == (update(), update())
                && known("198.51.100.0/24").0 == update()
        })
        .await;
        // What policy denies is not there after it, or is said to be gone.
        assert_ne!(collector.route("198.51.100.0/24", 1).as_deref(), Some("update"));
        let routes = collector.of("route_monitor");
        let route = routes.iter().find(|route| route["ip_prefix"] == v6).expect("is there");
        assert_eq!(
            (&route["as_path"], &route["bgp_nexthop"], &route["peer_ip"]),
            (&"65001".into(), &"2001:db8:99::2".into(), &"10.99.0.2".into())
        );
        let init = collector.of("init");
        assert_eq!(init[0]["bmp_init_info_sysname"], "gateway");
        let up = collector.of("peer_up");
        assert_eq!(up.len(), 1, "{up:?}");
        assert_eq!(
            (&up[0]["peer_asn"], &up[0]["bgp_id"], &up[0]["local_ip"]),
            (&65001.into(), &"10.99.0.2".into(), &"10.99.0.1".into())
        );
        assert!(up[0]["local_port"] == 179 || up[0]["remote_port"] == 179, "{up:?}");
        eventually("statistics", async || {
            let statistics = collector.of("stats");
            statistics
                .iter()
                .any(|count| count["counter_type"] == 7 && count["counter_value"] == 3)
        })
        .await;

        lab.configure(
            "router bgp 65001",
            "address-family ipv4 unicast",
            "no network 192.0.2.0/24",
        )
        .await;
        eventually("a withdrawal", async || {
            let gone = Some("withdraw".to_owned());
            (collector.route("192.0.2.0/24", 0), collector.route("192.0.2.0/24", 1)) == (gone.clone(), gone)
        })
        .await;
        // Another policy: what it lets in now is told, without a reset.
        config.peers[0].import = Policy::Accept;
        speaker.apply(config).await.expect("applies");
        eventually("the route after the new policy", async || {
            collector.route("198.51.100.0/24", 1).as_deref() == Some("update")
        })
        .await;
        assert_eq!(collector.of("peer_down").len(), 0);

        bgpd.kill();
        eventually("the peer is down", async || !collector.of("peer_down").is_empty()).await;
        let _bgpd = lab.start_bgpd();
        eventually("the peer is up", async || collector.of("peer_up").len() == 2).await;

        collector.daemon.kill();
        let collector = Collector::start();
        eventually("a new collector is told everything", async || {
            collector.of("peer_up").len() == 1 && collector.route(v6, 1).as_deref() == Some("update")
        })
        .await;
        let view = speaker.bmp().await.remove(0);
        assert!(view.connected && view.connects >= 2 && view.cut_off == 0, "{view:?}");
        speaker.shutdown("").await;
        eventually("the end", async || {
            let end = collector.of("term");
            end.iter()
                .any(|end| end["bmp_term_info_reason"] == "Session administratively closed")
        })
        .await;
        assert_eq!(collector.of("unknown"), [Value::Null; 0]);
    });
}

#[test]
fn a_collector_that_never_reads_is_cut_off_again_and_again_and_slows_nobody() {
    const ROUTES: u32 = 100_000;
    const PORT: u16 = 1179;
    Lab::run(|_lab| async move {
        // The kernel accepts for it, and its buffer is small.
        let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        deaf.set_recv_buffer_size(4096).expect("buffer");
        let address: SocketAddr = COLLECTOR.parse().expect("address");
        deaf.bind(&address.into()).expect("bind");
        deaf.listen(64).expect("listen");

        let (here, there): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let mut teller = SpeakerConfig::new(65001, Ipv4Addr::new(10, 0, 0, 2));
        let mut peer = PeerConfig::new(here, 65000);
        peer.port = PORT;
        peer.local_address = Some(there);
        // One of loopback is not taken.
        peer.next_hop_v4 = Some(Ipv4Addr::new(192, 0, 2, 2));
        peer.export = Policy::Accept;
        teller.peers.push(peer);
        let host = |i: u32| Prefix::host(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i)));
        teller.originate = (0..ROUTES).map(host).collect();
        let mut config = SpeakerConfig::new(65000, Ipv4Addr::new(10, 0, 0, 1));
        config.listen = vec![SocketAddr::new(here, PORT)];
        let mut peer = PeerConfig::new(there, 65001);
        peer.passive = true;
        peer.import = Policy::Accept;
        config.peers.push(peer);
        config.bmp = vec![BmpConfig {
            patience: Duration::from_secs(2),
            ..exporter()
        }];

        let (sender, mut events) = tokio::sync::mpsc::channel(64);
        let reader = tokio::spawn(async move { while events.recv().await.is_some() {} });
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        let (sender, _watch) = Watch::new(64);
        let teller = Speaker::start(teller, sender).await.expect("speaker starts");
        eventually("every route", async || {
            let peer = speaker.state().await.peers.remove(0);
            peer.families.first().is_some_and(|family| family.accepted == ROUTES)
        })
        .await;
        eventually("the collector is cut off, and once more", async || {
            speaker.bmp().await[0].cut_off >= 2
        })
        .await;
        let view = speaker.bmp().await.remove(0);
        assert!(view.waiting <= ROUTES as usize, "{view:?}");
        let peer = speaker.state().await.peers.remove(0);
        assert_eq!((peer.state.as_str(), peer.flaps), ("Established", 0), "{peer:?}");
        teller.shutdown("").await;
        speaker.shutdown("").await;
        reader.await.expect("ends with the speaker");
    });
}
