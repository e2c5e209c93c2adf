//! The FPM server against FRR's own zebra and staticd, and against streams that no FRR would send.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use net::{NextHop, NextHopObject, Prefix, Route, Source};
use netlink_sync::{FpmConfig, FpmEvent, FpmServer, FpmStatus};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::agree::static_line;
use crate::world::{in_namespace, ip, ip_json, prefix, veth};

const PATIENCE: Duration = Duration::from_secs(180);
/// `rtm_protocol` of zebra's static routes.
const STATIC: u8 = 196;
const KEEP: Duration = Duration::from_secs(3600);

/// The server with the sum of what it tells.
struct Fpm {
    server: FpmServer,
    /// With the next hops of objects in their place.
    routes: BTreeMap<Prefix, Route>,
    told: BTreeMap<Prefix, Route>,
    objects: BTreeMap<NextHopObject, Vec<NextHop>>,
    /// Withdrawals seen.
    withdrawn: usize,
    events: mpsc::Receiver<Vec<FpmEvent>>,
}

impl Fpm {
    async fn start(keep_stale: Duration) -> Self {
        let (sender, events) = mpsc::channel(64);
        let config = FpmConfig {
            listen: "127.0.0.1:2620".parse().expect("address"),
            table: 254,
            keep_stale,
        };
        let server = FpmServer::start(config, sender).await.expect("listens");
        Self {
            server,
            routes: BTreeMap::new(),
            told: BTreeMap::new(),
            objects: BTreeMap::new(),
            withdrawn: 0,
            events,
        }
    }

    async fn until(&mut self, what: &str, settled: impl Fn(&BTreeMap<Prefix, Route>, &FpmStatus) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Ok(batch) = self.events.try_recv() {
                batch.into_iter().for_each(|event| self.take(event));
                let told = self.told.iter();
                self.routes = told.map(|(prefix, route)| (*prefix, self.expanded(route))).collect();
            }
            let status = self.server.status();
            if settled(&self.routes, &status) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {:?} {status:?}",
                self.routes
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn take(&mut self, event: FpmEvent) {
        match event {
            FpmEvent::Route(change) => {
                assert_eq!(change.source, Source::Fpm);
                match change.route {
                    Some(route) => drop(self.told.insert(change.prefix, route)),
                    None => {
                        self.told.remove(&change.prefix);
                        self.withdrawn += 1;
                    }
                }
            }
            FpmEvent::NextHopObject(change) if change.next_hops.is_empty() => drop(self.objects.remove(&change.object)),
            FpmEvent::NextHopObject(change) => drop(self.objects.insert(change.object, change.next_hops)),
        }
    }

    fn expanded(&self, route: &Route) -> Route {
        let expand = |hop: &NextHop| match hop.object {
            Some(object) => self.objects.get(&object).cloned().unwrap_or_default(),
            None => vec![*hop],
        };
        Route {
            next_hops: route.next_hops.iter().flat_map(expand).collect(),
            ..route.clone()
        }
    }

    /// Takes events until what was pushed is what zebra wrote to the kernel, as `ip` shows it.
    async fn agrees(&mut self) {
        let kernel = || -> BTreeSet<String> {
            let of = |family| {
                let list = ip_json(&format!("{family} route show proto {STATIC}"));
                list.into_iter()
                    .filter_map(move |route| static_line(&route, family == "-4"))
            };
            ["-4", "-6"].into_iter().flat_map(of).collect()
        };
        self.until("the kernel's digest", |routes, _| {
            let line = |(prefix, route): (&Prefix, &Route)| {
                let mut ways: Vec<_> = route
                    .next_hops
                    .iter()
                    .map(|hop| hop.gateway.map_or("-".to_owned(), |gateway| gateway.to_string()))
                    .collect();
                ways.sort();
                match route.kind {
                    net::RouteKind::Unicast => format!("{prefix} {}", ways.join(" ")),
                    _ => format!("{prefix} blackhole"),
                }
            };
            routes.iter().map(line).collect::<BTreeSet<_>>() == kernel()
        })
        .await;
    }

    fn gateways(&self, to: &str) -> Vec<String> {
        let route = self.routes.get(&prefix(to));
        let hops = route.into_iter().flat_map(|r| &r.next_hops);
        hops.filter_map(|n| n.gateway).map(|g| g.to_string()).collect()
    }
}

/// zebra and staticd in this thread's namespace, killed when dropped.
struct Frr {
    folder: PathBuf,
    zebra: Child,
    staticd: Child,
}

impl Frr {
    fn start(name: &str, routes: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("turnpike-{name}-{}", std::process::id()));
        let _left_over = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("zebra.conf"), "fpm address 127.0.0.1 port 2620\n").expect("configuration");
        fs::write(folder.join("staticd.conf"), routes).expect("configuration");
        let chown = Command::new("chown")
            .arg("-R")
            .arg("frr:frr")
            .arg(&folder)
            .status()
            .expect("chown");
        assert!(chown.success(), "FRR is needed");
        let zebra = daemon(&folder, "zebra", &["-M", "dplane_fpm_nl"]);
        await_file(&folder.join("zserv.api"));
        let staticd = daemon(&folder, "staticd", &[]);
        Self { folder, zebra, staticd }
    }

    /// SIGKILL to both; their routes in the kernel stay.
    fn kill(&mut self) {
        for child in [&mut self.zebra, &mut self.staticd] {
            let _ended_already = child.kill();
            child.wait().expect("killed");
        }
        let _gone = fs::remove_file(self.folder.join("zserv.api"));
    }

    fn start_again(&mut self) {
        self.zebra = daemon(&self.folder, "zebra", &["-M", "dplane_fpm_nl"]);
        await_file(&self.folder.join("zserv.api"));
        self.staticd = daemon(&self.folder, "staticd", &[]);
    }

    fn vtysh(&self, lines: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut shell = Command::new("vtysh");
            shell
                .arg("--vty_socket")
                .arg(&self.folder)
                .args(["-c", "configure terminal"]);
            for line in lines {
                shell.args(["-c", line]);
            }
            let output = shell.output().expect("vtysh");
            if output.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "{output:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        self.kill();
        let _gone_already = fs::remove_dir_all(&self.folder);
    }
}

fn daemon(folder: &Path, name: &str, more: &[&str]) -> Child {
    Command::new(format!("/usr/lib/frr/{name}"))
        .args(["-u", "frr", "-g", "frr"])
        .arg("--vty_socket")
        .arg(folder)
        .arg("-z")
        .arg(folder.join("zserv.api"))
        .arg("-i")
        .arg(folder.join(format!("{name}.pid")))
        .arg("-f")
        .arg(folder.join(format!("{name}.conf")))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("FRR is installed")
}

fn await_file(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn zebras_routes_and_next_hop_groups_come_change_and_go() {
    in_namespace(|| async {
        veth("va", "vb");
        let mut fpm = Fpm::start(KEEP).await;
        let frr = Frr::start(
            "fpm-basic",
            "ip route 10.1.0.0/16 192.0.2.2\nip route 10.2.0.0/16 192.0.2.2\nip route 10.2.0.0/16 192.0.2.3\n\
             ip route 10.3.0.0/16 blackhole\nipv6 route 2001:db8:1::/48 2001:db8::2\n",
        );
        fpm.until("all routes", |r, s| r.len() == 4 && s.unresolved == 0).await;
        assert_eq!(fpm.gateways("10.1.0.0/16"), ["192.0.2.2"]);
        assert_eq!(fpm.gateways("10.2.0.0/16").len(), 2);
        assert_eq!(fpm.gateways("2001:db8:1::/48"), ["2001:db8::2"]);
        assert_eq!(fpm.routes[&prefix("10.3.0.0/16")].kind, net::RouteKind::Blackhole);
        frr.vtysh(&[
            "no ip route 10.2.0.0/16 192.0.2.2",
            "ip route 10.1.0.0/16 192.0.2.4",
            "no ip route 10.3.0.0/16 blackhole",
        ]);
        fpm.until("the changes", |r, _| {
            let hops = |to| r.get(&prefix(to)).map_or(0, |r| r.next_hops.len());
            hops("10.1.0.0/16") == 2 && hops("10.2.0.0/16") == 1 && r.len() == 3
        })
        .await;
        assert_eq!(fpm.withdrawn, 1, "a change is no withdrawal");
        fpm.agrees().await;
        let status = fpm.server.status();
        assert_eq!(
            (status.malformed, status.broken_streams, status.connections),
            (0, 0, 1),
            "{status:?}"
        );
    });
}

#[test]
fn a_kill_of_frr_during_a_push_loses_nothing_and_the_next_connection_resynchronises() {
    in_namespace(|| async {
        veth("va", "vb");
        let mut fpm = Fpm::start(KEEP).await;
        let to = |n: u32| format!("10.{}.{}.0/24", n / 250, n % 250);
        let lines: String = (0..60)
            .map(|n| format!("ip route {} 192.0.2.{}\n", to(n), 2 + n % 5))
            .collect();
        let mut frr = Frr::start("fpm-kill", &lines);
        fpm.until("the push to be under way", |r, _| !r.is_empty()).await;
        frr.kill();
        fpm.until("the end of the connection", |_, s| {
            s.peer.is_none() && s.connections == 1
        })
        .await;
        let (had, status) = (fpm.routes.len(), fpm.server.status());
        assert_eq!((status.stale, fpm.withdrawn), (had, 0), "{status:?}");
        frr.start_again();
        fpm.until("everything, confirmed", |r, s| {
            r.len() == 60 && s.stale == 0 && s.connections == 2
        })
        .await;
        assert_eq!(fpm.withdrawn, 0);
        assert_eq!(fpm.gateways(&to(7)), ["192.0.2.4"]);
        fpm.agrees().await;
    });
}

#[test]
fn what_frr_does_not_confirm_in_time_goes() {
    in_namespace(|| async {
        veth("va", "vb");
        let mut fpm = Fpm::start(Duration::from_millis(300)).await;
        let mut frr = Frr::start("fpm-stale", "ip route 10.1.0.0/16 192.0.2.2\n");
        fpm.until("the route", |r, _| r.len() == 1).await;
        frr.kill();
        fpm.until("its end", |r, s| r.is_empty() && s.routes == 0).await;
    });
}

#[test]
fn a_malformed_stream_ends_its_connection_and_nothing_else() {
    in_namespace(|| async {
        veth("va", "vb");
        ip("address add 127.0.0.2/8 dev lo");
        let mut fpm = Fpm::start(KEEP).await;
        let frr = Frr::start("fpm-bad", "ip route 10.1.0.0/16 192.0.2.2\n");
        fpm.until("the route", |r, _| r.len() == 1).await;
        let bad: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[1, 2, 0, 8, 0, 0, 0, 0],
            &[1, 1, 0, 1],
            &[
                1, 1, 0, 24, 99, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ];
        for (n, bytes) in bad.into_iter().enumerate() {
            let mut intruder = TcpStream::connect("127.0.0.1:2620").await.expect("connects");
            intruder.write_all(bytes).await.expect("written");
            fpm.until("the end of the broken stream", |_, s| s.broken_streams == n as u64 + 1)
                .await;
        }
        // zebra lost its place to the intruders; it comes back and confirms what it had said.
        fpm.until("zebra", |r, s| r.len() == 1 && s.peer.is_some() && s.stale == 0)
            .await;
        assert_eq!(fpm.withdrawn, 0);
        fpm.agrees().await;
        drop(frr);
    });
}
