//! Namespaces, `ip`, and a model that sums up events.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use net::{IfIndex, KernelEvent, LinkChange, NeighborState, NextHop, NextHopObject, Prefix, Route, RouteKind, VrfId};
use netlink_sync::{KernelNextHop, KernelRoute, Mirror, MirrorConfig, Status, Tuning};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

fn new_namespace() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the kernel tests need root: they make network namespaces"
    );
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET): is CAP_SYS_ADMIN missing?");
    ip("link set lo up");
}

/// Runs `test` in a fresh namespace, on a thread and a runtime of its own.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = thread::spawn(|| {
        new_namespace();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip` in the namespace of this thread; panics with its words if it fails.
pub(crate) fn ip(arguments: &str) -> String {
    run(Command::new("ip").args(arguments.split_whitespace()), "")
}

/// `bridge` of iproute2 in the namespace of this thread.
pub(crate) fn bridge(arguments: &str) {
    run(Command::new("bridge").args(arguments.split_whitespace()), "");
}

/// `ip -batch` with these lines.
pub(crate) fn ip_batch(lines: &str) {
    run(Command::new("ip").args(["-batch", "-"]), lines);
}

fn run(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`ip` of iproute2 is needed");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("write");
    let output = child.wait_with_output().expect("wait");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// `ip -json` as a list.
pub(crate) fn ip_json(arguments: &str) -> Vec<Value> {
    match serde_json::from_str(&ip(&format!("-json {arguments}"))) {
        Ok(Value::Array(list)) => list,
        other => panic!("ip -json {arguments}: {other:?}"),
    }
}

/// Our routes as `destination: type or next hops`, the next hops as `gateway/device/weight`.
pub(crate) fn our_routes() -> BTreeMap<String, String> {
    let hop = |v: &Value| {
        let gateway = v["gateway"].as_str().or(v["via"]["host"].as_str()).unwrap_or("-");
        format!(
            "{gateway}/{}/{}",
            v["dev"].as_str().unwrap_or("-"),
            v["weight"].as_u64().unwrap_or(1)
        )
    };
    let mut routes = BTreeMap::new();
    for family in ["-4", "-6"] {
        for route in ip_json(&format!("{family} route show proto 212")) {
            let hops = match (route["type"].as_str(), route["nexthops"].as_array()) {
                (Some(kind), _) => kind.to_owned(),
                (None, Some(hops)) => {
                    let mut hops: Vec<_> = hops.iter().map(hop).collect();
                    hops.sort();
                    hops.join(" ")
                }
                (None, None) => hop(&route),
            };
            assert_eq!(route["metric"], 20, "{route}");
            routes.insert(route["dst"].as_str().expect("dst").to_owned(), hops);
        }
    }
    routes
}

/// A second namespace, kept by a thread until dropped.
pub(crate) struct Peer {
    file: String,
    _stop: std_mpsc::Sender<()>,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let (stop, stopped) = std_mpsc::channel::<()>();
        let (told, file) = std_mpsc::channel();
        thread::spawn(move || {
            new_namespace();
            let (process, thread) = (nix::unistd::getpid(), nix::unistd::gettid());
            told.send(format!("/proc/{process}/task/{thread}/ns/net"))
                .expect("told");
            let _dropped = stopped.recv();
        });
        Self {
            file: file.recv().expect("namespace"),
            _stop: stop,
        }
    }

    /// Moves an interface there.
    pub(crate) fn take(&self, interface: &str) {
        ip(&format!("link set {interface} netns {}", self.file));
    }

    /// `ip` there.
    pub(crate) fn ip(&self, arguments: &str) {
        run(
            Command::new("nsenter")
                .arg(format!("--net={}", self.file))
                .arg("ip")
                .args(arguments.split_whitespace()),
            "",
        );
    }
}

/// Two ends of a wire in this namespace, up, `a` with 192.0.2.1/24 and 2001:db8::1/64.
pub(crate) fn veth(a: &str, b: &str) -> (IfIndex, IfIndex) {
    ip(&format!("link add {a} type veth peer name {b}"));
    for end in [a, b] {
        ip(&format!("link set {end} up"));
    }
    ip(&format!("address add 192.0.2.1/24 dev {a}"));
    ip(&format!("-6 address add 2001:db8::1/64 dev {a} nodad"));
    (index(a), index(b))
}

pub(crate) fn index(interface: &str) -> IfIndex {
    let links = ip_json(&format!("link show {interface}"));
    IfIndex(links[0]["ifindex"].as_u64().expect("ifindex").try_into().expect("u32"))
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

pub(crate) fn via(gateway: &str) -> KernelNextHop {
    KernelNextHop {
        gateway: Some(gateway.parse().expect("address")),
        interface: None,
        weight: 1,
    }
}

pub(crate) fn wish(to: &str, hops: &[KernelNextHop]) -> KernelRoute {
    KernelRoute {
        vrf: VrfId::DEFAULT,
        prefix: prefix(to),
        next_hops: Some(hops.to_vec()),
        kind: RouteKind::Unicast,
        obstacle: None,
    }
}

/// What the events add up to.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) links: BTreeMap<IfIndex, LinkChange>,
    pub(crate) addresses: BTreeSet<(IfIndex, String)>,
    pub(crate) neighbors: BTreeMap<(IfIndex, IpAddr), NeighborState>,
    /// Every neighbour event, in order.
    pub(crate) seen_neighbors: Vec<((IfIndex, IpAddr), NeighborState)>,
    pub(crate) routes: BTreeMap<(VrfId, Prefix), Route>,
    pub(crate) objects: BTreeMap<NextHopObject, Vec<NextHop>>,
    pub(crate) fdb: BTreeMap<(IfIndex, String), IpAddr>,
    /// Events of routes.
    pub(crate) route_events: usize,
    pub(crate) synced: usize,
    pub(crate) events: usize,
}

impl Model {
    fn take(&mut self, event: KernelEvent) {
        self.events += 1;
        match event {
            KernelEvent::Link(link) if link.present => drop(self.links.insert(link.index, link)),
            KernelEvent::Link(link) => drop(self.links.remove(&link.index)),
            KernelEvent::Address(a) if a.present => drop(self.addresses.insert((a.interface, a.address.to_string()))),
            KernelEvent::Address(a) => drop(self.addresses.remove(&(a.interface, a.address.to_string()))),
            KernelEvent::Neighbor(n) => {
                self.seen_neighbors.push(((n.interface, n.address), n.state));
                self.neighbors.insert((n.interface, n.address), n.state);
            }
            KernelEvent::Route(r) => {
                self.route_events += 1;
                match r.route {
                    Some(route) => drop(self.routes.insert((r.vrf, r.prefix), route)),
                    None => assert!(
                        self.routes.remove(&(r.vrf, r.prefix)).is_some(),
                        "withdrawn twice: {}",
                        r.prefix
                    ),
                }
            }
            KernelEvent::NextHopObject(change) if change.next_hops.is_empty() => {
                assert!(self.objects.remove(&change.object).is_some(), "{change:?}");
            }
            KernelEvent::NextHopObject(change) => drop(self.objects.insert(change.object, change.next_hops)),
            KernelEvent::Fdb(change) => {
                let key = (change.interface, change.mac.to_string());
                match change.vtep {
                    Some(vtep) => drop(self.fdb.insert(key, vtep)),
                    None => assert!(self.fdb.remove(&key).is_some(), "forgotten twice: {key:?}"),
                }
            }
            KernelEvent::Synced => self.synced += 1,
        }
    }

    pub(crate) fn route(&self, to: &str) -> Option<&Route> {
        self.routes.get(&(VrfId::DEFAULT, prefix(to)))
    }

    /// Gateways of the route to `to`, those of an object in its place.
    pub(crate) fn gateways(&self, to: &str) -> Vec<String> {
        let ways = self.route(to).map(|route| self.ways(route)).unwrap_or_default();
        ways.into_iter().filter(|way| way != "-").collect()
    }

    /// Gateways of a route, those of an object in its place, and `-` for a way without one.
    pub(crate) fn ways(&self, route: &Route) -> Vec<String> {
        let expand = |hop: &NextHop| match hop.object {
            Some(object) => self.objects.get(&object).cloned().unwrap_or_default(),
            None => vec![*hop],
        };
        let hops = route.next_hops.iter().flat_map(expand);
        hops.map(|hop| hop.gateway.map_or("-".to_owned(), |gateway| gateway.to_string()))
            .collect()
    }

    pub(crate) fn link(&self, name: &str) -> Option<&LinkChange> {
        self.links.values().find(|l| l.name == name)
    }
}

/// A running mirror with the sum of its events.
pub(crate) struct World {
    pub(crate) mirror: Mirror,
    pub(crate) model: Model,
    events: mpsc::Receiver<Vec<KernelEvent>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Tuning::default(), Duration::from_secs(3600)).await
    }

    pub(crate) async fn start_with(tuning: Tuning, stale_sweep: Duration) -> Self {
        let config = MirrorConfig {
            protocol: 212,
            table: 254,
            vrf_tables: vec![(VrfId(7), 100)],
            metric: 20,
            tables: vec![(254, VrfId::DEFAULT), (100, VrfId(7))],
            stale_sweep,
        };
        let (sender, events) = mpsc::channel(64);
        let mirror = Mirror::start_with(config, tuning, sender).await.expect("start");
        let mut world = Self {
            mirror,
            model: Model::default(),
            events,
        };
        world.until("the first dump", |m| m.synced == 1).await;
        world
    }

    /// Takes events until `settled`.
    pub(crate) async fn until(&mut self, what: &str, settled: impl Fn(&Model) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !settled(&self.model) {
            let Ok(batch) = timeout_at(deadline, self.events.recv()).await else {
                panic!(
                    "waited in vain for {what}: {:#?}\n{:#?}",
                    self.model,
                    self.mirror.status()
                );
            };
            batch
                .expect("the mirror stopped")
                .into_iter()
                .for_each(|e| self.model.take(e));
        }
    }

    /// Takes the events of a while.
    pub(crate) async fn take_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(batch) = timeout_at(deadline, self.events.recv()).await {
            batch
                .expect("the mirror stopped")
                .into_iter()
                .for_each(|e| self.model.take(e));
        }
    }

    /// Takes events while it waits for the mirror's own state.
    pub(crate) async fn until_status(&mut self, what: &str, settled: impl Fn(&Status) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !settled(&self.mirror.status()) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {:#?}",
                self.mirror.status()
            );
            while let Ok(batch) = self.events.try_recv() {
                batch.into_iter().for_each(|e| self.model.take(e));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing waits to be written.
    pub(crate) async fn written(&mut self) {
        self.until_status("all writes", |s| s.pending == 0).await;
    }
}
