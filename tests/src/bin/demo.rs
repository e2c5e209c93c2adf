//! `make demo`: a gateway at work between two BGP routers and three tenants, told step by step.
//!
//! Everything printed was read from a running program a moment before, and is asserted. Ends with status 1 and the
//! logs' tails at the first step that fails; leaves nothing behind either way.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use turnpike_tests::config::{MEMORY_MB, Memory};
use turnpike_tests::frame::Host;
use turnpike_tests::hugepages::{self, Hugepages};
use turnpike_tests::topology::{
    BLUE_PUBLIC, FABRIC, FABRIC_HOSTS_V6, FABRIC_V6, FORWARDED, GATEWAY, GREEN_VLAN, PUBLIC, RED_PUBLIC, SERVER,
    SERVER_PREFIXES, SERVER_V6, SESSIONS, TENANT, TENANT_ROUTER,
};
use turnpike_tests::traffic::{EchoClient, EchoServer, Flow, HttpServer, Seen, fetch, fetch_as, file, ping};
use turnpike_tests::turnpiked::{count, rows};
use turnpike_tests::wait::ensure;
use turnpike_tests::{Namespace, Topology, Turnpiked, Wire, eventually, janitor, within};

/// The longest that a running flow may be silent while its route changes.
const SAME_SECOND: Duration = Duration::from_secs(1);
/// Patience with what takes a moment.
const SOON: Duration = Duration::from_secs(10);
const FILE_BYTES: usize = 100_000;

fn main() -> ExitCode {
    clean_up_after_signals();
    let start = clock();
    janitor::once();
    let pages = hugepages::total();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut Story { start, step: 0 })));
    let ending = Story { start, step: 0 };
    let left = leftovers(pages);
    if left.is_empty() {
        ending.tell(&format!(
            "nothing is left behind: no namespace, process, tap or file; {pages} hugepages as before"
        ));
    } else {
        ending.tell(&format!("left behind: {}", left.join(", ")));
    }
    if outcome.is_ok() && left.is_empty() {
        ending.tell("demo: passed");
        ExitCode::SUCCESS
    } else {
        ending.tell("demo: FAILED");
        ExitCode::FAILURE
    }
}

fn run(story: &mut Story) {
    let (memory, _pages) = match Hugepages::reserve(MEMORY_MB) {
        Ok(pages) => (Memory::Hugepages, Some(pages)),
        Err(why) => {
            story.tell(&format!("ordinary memory instead of hugepages: {why}"));
            (Memory::NoHuge, None)
        }
    };

    story.step("A network of namespaces: two fabric routers (FRR), a server behind both, two tenants on one bridge");
    let mut net = Topology::new();
    story.tell(&format!(
        "both tenants' hosts are {TENANT}/24; red is VNI 100, blue is VNI 200; the server is {SERVER}"
    ));

    story.step("turnpiked starts: three af_packet ports, three VPCs, one worker");
    let gateway = net.start(memory);
    let summary = gateway.show("summary");
    for port in rows(&summary["ports"]) {
        story.tell(&format!(
            "port {} ({}), MAC {}, MTU {}, host interface {}",
            text(&port["name"]),
            text(&port["driver"]),
            text(&port["mac"]),
            port["mtu"],
            text(&port["host_interface"])
        ));
    }
    assert_eq!(rows(&summary["ports"]).len(), 3, "{summary}");
    assert_eq!(rows(&summary["vpcs"]).len(), 3, "{summary}");
    assert_eq!(
        summary["revision"], 1,
        "the first configuration is revision 1: {summary}"
    );

    sessions_and_routes(story, &net, &gateway);

    let servers = Servers::start(&net);
    tenants_reach_the_server(story, &net, &gateway, &servers);
    port_forward(story, &net, &servers);
    ipv6_is_routed(story, &net, &gateway);
    vlan_tenant(story, &net, &gateway);

    let flows = Flows::start(&net, &servers);
    offloads_carry_the_flows(story, &gateway, &flows);
    route_is_withdrawn_and_replaced(story, &net, &gateway, &flows);
    peer_is_killed_and_comes_back(story, &mut net, &gateway, &flows);
    drop(flows);

    counters(story, &net, &gateway);
    story.step("SIGTERM: the gateway takes its taps, routes and socket with it");
    let status = gateway.terminate();
    assert!(status.success(), "turnpiked ended with {status}");
    let interfaces = net.gateway.interfaces();
    assert!(
        !interfaces.iter().any(|name| name.starts_with("tp-")),
        "taps are left: {interfaces:?}"
    );
    let routes =
        net.gateway.ip("route show table all proto 212") + &net.gateway.ip("-6 route show table all proto 212");
    assert_eq!(routes, "", "routes are left in the kernel");
    assert!(!Turnpiked::socket(&net.scratch).exists(), "the socket is left");
    story.tell(&format!(
        "{status}; interfaces in its namespace: {}; no route of ours in the kernel",
        interfaces.join(", ")
    ));
}

fn sessions_and_routes(story: &mut Story, net: &Topology, gateway: &Turnpiked) {
    story.step("BGP sessions come up, over the host interfaces, with both routers and in both address families");
    gateway.await_sessions(SESSIONS);
    for i in [0, 1] {
        for us in [GATEWAY[i], turnpike_tests::topology::GATEWAY_V6[i]] {
            let state = eventually(SOON, || {
                let state = net.fabric_frr[i].session(us);
                ensure(state == "Established", || {
                    format!("fabric{} says {state} of {us}", i + 1)
                })
                .map(|()| state)
            });
            story.tell(&format!("fabric{}'s FRR says of its session with {us}: {state}", i + 1));
        }
    }

    story.step("Routes are learned, batched into generations, and mirrored to the kernel");
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0]));
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[1], FABRIC_V6[0]));
    for (prefix, peers) in SERVER_PREFIXES.into_iter().zip([FABRIC, FABRIC_V6]) {
        for peer in peers {
            let path = || {
                gateway
                    .bgp_path(prefix, peer)
                    .ok_or_else(|| format!("{peer} does not announce {prefix}"))
            };
            let path = eventually(SOON, path);
            let best = path["best"] == true;
            let verdict = if best {
                "best".to_owned()
            } else {
                format!("lost: {}", text(&path["reason"]))
            };
            story.tell(&format!(
                "{prefix} from {peer}, AS path {}: {verdict}",
                text(&path["as_path"])
            ));
            assert_eq!(best, peer == peers[0], "fabric1 has the shorter path: {path}");
        }
    }
    let routes = gateway.show("routes");
    story.tell(&format!(
        "this is generation {} of {} routes",
        gateway.generation(),
        rows(&routes).len()
    ));
    let mirrored = || net.gateway.ip(&format!("route show {}", SERVER_PREFIXES[0]));
    eventually(SOON, || {
        ensure(mirrored().contains(FABRIC[0]), || {
            format!("the kernel has `{}`", mirrored())
        })
    });
    story.tell(&format!("the gateway's kernel: {}", mirrored().trim()));
    for (i, router) in net.fabric.iter().enumerate() {
        let back = || router.ip(&format!("route show {PUBLIC}"));
        eventually(SOON, || {
            ensure(back().contains(GATEWAY[i]), || {
                format!("fabric{} has `{}`", i + 1, back())
            })
        });
        story.tell(&format!("fabric{}'s kernel: {}", i + 1, back().trim()));
    }
}

/// What listens on the server and in red.
struct Servers {
    echo: EchoServer,
    file: Vec<u8>,
    red_file: Vec<u8>,
    _http: [HttpServer; 2],
}

impl Servers {
    fn start(net: &Topology) -> Self {
        let (served, red_file) = (file(FILE_BYTES, 1), file(FILE_BYTES, 2));
        let http = [
            HttpServer::start(&net.server, &format!("{SERVER}:80"), served.clone()),
            HttpServer::start(&net.red, &format!("{TENANT}:80"), red_file.clone()),
        ];
        Self {
            echo: EchoServer::start(&net.server, &format!("{SERVER}:7")),
            file: served,
            red_file,
            _http: http,
        }
    }
}

fn tenants_reach_the_server(story: &mut Story, net: &Topology, gateway: &Turnpiked, servers: &Servers) {
    story.step("Both tenants, with the same address, reach the server at the same time: ping, HTTP, UDP");
    let url = format!("http://{SERVER}/file");
    for (tenant, name, public) in [(&net.red, "red", RED_PUBLIC), (&net.blue, "blue", BLUE_PUBLIC)] {
        // The first packets may wait for ARP on both sides.
        eventually(SOON, || ping(tenant, SERVER, 1));
        ping(tenant, SERVER, 5).unwrap_or_else(|why| panic!("{name} pings the server: {why}"));
        let fetched = fetch(tenant, &url).unwrap_or_else(|why| panic!("{name} fetches {url}: {why}"));
        assert!(
            fetched == servers.file,
            "{name}: {} bytes came, and they differ",
            fetched.len()
        );
        let mut udp = EchoClient::udp(tenant, servers.echo.address()).expect("a tenant has a default route");
        let seen = eventually(SOON, || udp.exchange(name).map_err(|error| error.to_string()));
        assert_eq!(seen.ip().to_string(), public, "{name} is seen under another address");
        let known = gateway.connections(name, "udp");
        let ours = known.iter().find(|row| translated(row) == Some(seen));
        let row = ours.unwrap_or_else(|| panic!("no connection of {name} is translated to {seen}: {known:?}"));
        story.tell(&format!(
            "{name}: 5 of 5 pings, {} bytes over HTTP equal, UDP from {TENANT}:{} is seen by the server as {seen}, as the gateway says",
            fetched.len(),
            row["original"]["source_port"]
        ));
    }
}

fn port_forward(story: &mut Story, net: &Topology, servers: &Servers) {
    story.step("A port forward leads from the server's side to red");
    let url = format!("http://{FORWARDED}:8080/file");
    let fetched = eventually(SOON, || fetch_as(&net.server, SERVER, &url));
    assert!(
        fetched == servers.red_file,
        "{} bytes came, and they differ",
        fetched.len()
    );
    story.tell(&format!(
        "{url} from the server: {} bytes of red's own file",
        fetched.len()
    ));
}

fn ipv6_is_routed(story: &mut Story, net: &Topology, gateway: &Turnpiked) {
    story.step("IPv6 is routed: between the fabric routers, and from red to the server without NAT");
    let [from, to] = FABRIC_HOSTS_V6;
    eventually(SOON, || gateway.routed_via(&format!("{to}/128"), FABRIC_V6[1]));
    eventually(SOON, || ping(&net.fabric[0], &format!("-I {from} {to}"), 1));
    ping(&net.fabric[0], &format!("-I {from} {to}"), 5).unwrap_or_else(|why| panic!("IPv6 between the routers: {why}"));
    story.tell(&format!("{from} behind fabric1 pings {to} behind fabric2: 5 of 5"));
    eventually(SOON, || ping(&net.red, SERVER_V6, 1));
    ping(&net.red, SERVER_V6, 5).unwrap_or_else(|why| panic!("IPv6 from red: {why}"));
    story.tell(&format!("red pings {SERVER_V6} through its VPC: 5 of 5"));
}

fn vlan_tenant(story: &mut Story, net: &Topology, gateway: &Turnpiked) {
    story.step("A third tenant with the same addresses is told apart by its VLAN tag (frames made by hand)");
    let wire = Wire::new(&net.tenants, "green");
    net.tenants.ip("link set green master bridge");
    let host = green_host();
    let router = TENANT_ROUTER.parse().expect("an address");
    let mac = eventually(SOON, || {
        let answer = host.resolve(&wire, router, Duration::from_millis(300));
        answer.ok_or_else(|| format!("no ARP answer for {router} in VLAN {GREEN_VLAN}"))
    });
    let server = SERVER.parse().expect("an address");
    eventually(SOON, || {
        let answered = host.ping(&wire, mac, server, 77, Duration::from_millis(500));
        ensure(answered, || format!("no echo reply from {server} in VLAN {GREEN_VLAN}"))
    });
    assert!(
        !gateway.connections("green", "icmp").is_empty(),
        "the gateway knows a connection of green"
    );
    story.tell(&format!(
        "VLAN {GREEN_VLAN}: {TENANT_ROUTER} is at {}, and {server} answers a ping",
        mac_text(mac)
    ));
}

fn green_host() -> Host {
    Host {
        mac: [2, 0, 0, 0, 0, 0x30],
        address: TENANT.parse().expect("an address"),
        vlan: Some(GREEN_VLAN),
    }
}

/// One TCP and one UDP flow of each tenant, which never pause.
struct Flows(Vec<(&'static str, Flow)>);

impl Flows {
    fn start(net: &Topology, servers: &Servers) -> Self {
        let address = servers.echo.address();
        let tcp =
            |tenant: &Namespace| Flow::start(EchoClient::tcp(tenant, address).expect("a tenant reaches the server"));
        let udp =
            |tenant: &Namespace| Flow::start(EchoClient::udp(tenant, address).expect("a tenant has a default route"));
        let flows = Self(vec![
            ("red's TCP", tcp(&net.red)),
            ("red's UDP", udp(&net.red)),
            ("blue's TCP", tcp(&net.blue)),
            ("blue's UDP", udp(&net.blue)),
        ]);
        flows.await_answers();
        flows
    }

    fn await_answers(&self) {
        for (name, flow) in &self.0 {
            eventually(SOON, || {
                ensure(flow.seen().answers > 20, || format!("{name}: {:?}", flow.seen()))
            });
        }
    }

    fn reset(&self) {
        self.0.iter().for_each(|(_, flow)| flow.reset());
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().flat_map(|(_, flow)| flow.seen().addresses).collect()
    }

    /// Asserts that every flow went on within a second and kept its translated port; says so.
    fn went_on(&self, story: &Story, before: &[SocketAddr]) {
        self.await_answers();
        let seen: Vec<(&str, Seen)> = self.0.iter().map(|(name, flow)| (*name, flow.seen())).collect();
        for (name, seen) in &seen {
            assert!(
                seen.longest_gap < SAME_SECOND,
                "{name} was silent for {:?}: {seen:?}",
                seen.longest_gap
            );
        }
        assert_eq!(
            self.addresses(),
            before,
            "flows have other translated ports than before"
        );
        let gaps = seen
            .iter()
            .map(|(name, seen)| format!("{name} {} ms", seen.longest_gap.as_millis()));
        story.tell(&format!(
            "longest silence: {}; ports as before",
            gaps.collect::<Vec<_>>().join(", ")
        ));
    }
}

fn offloads_carry_the_flows(story: &mut Story, gateway: &Turnpiked, flows: &Flows) {
    story.step("Established connections are offloaded: the emulated ASIC forwards them, the worker sees them no more");
    let before = eventually(SOON, || {
        let offloads = gateway.try_show("offloads")?;
        ensure(count(&offloads["live"]) >= 4, || {
            format!("few offloads: {}", offloads["live"])
        })
        .map(|()| offloads)
    });
    let worker = || {
        rows(&gateway.show("summary")["workers"])
            .iter()
            .map(|row| count(&row["rx"]))
            .sum::<u64>()
    };
    let worker_before = worker();
    let answers = || flows.0.iter().map(|(_, flow)| flow.seen().answers).sum::<u64>();
    let answers_before = answers();
    thread::sleep(Duration::from_millis(500));
    let (answered, by_worker) = (answers() - answers_before, worker() - worker_before);
    // Hardware counters are read at intervals.
    let hits = eventually(SOON, || {
        let hits = count(&gateway.try_show("offloads")?["hits_packets"]).saturating_sub(count(&before["hits_packets"]));
        ensure(hits >= answered, || format!("{hits} hits for {answered} answers")).map(|()| hits)
    });
    assert!(answered > 50, "the flows go on: {answered} answers");
    assert!(
        by_worker < answered / 2,
        "the worker still sees the flows: {by_worker} packets for {answered} answers"
    );
    story.tell(&format!(
        "{} connections are live in it; in half a second {answered} answers, {by_worker} packets at the worker; the ASIC counted {hits} hits",
        before["live"]
    ));
}

fn route_is_withdrawn_and_replaced(story: &mut Story, net: &Topology, gateway: &Turnpiked, flows: &Flows) {
    story.step("fabric1 withdraws the server's network: connections move to fabric2 and keep their NAT ports");
    flows.reset();
    flows.await_answers();
    let (addresses, generation) = (flows.addresses(), gateway.generation());
    let network = format!("network {}", SERVER_PREFIXES[0]);
    let configure = |line: &str| {
        net.fabric_frr[0].vtysh(&[
            "configure terminal",
            "router bgp 65001",
            "address-family ipv4 unicast",
            line,
        ])
    };
    configure(&format!("no {network}"));
    let took = replaced(gateway, FABRIC[1]);
    flows.went_on(story, &addresses);
    let moved = eventually(SOON, || {
        let moved = gateway.moved_since(generation);
        ensure(moved >= 4, || format!("{moved} connections were moved")).map(|()| moved)
    });
    story.tell(&format!(
        "generation {generation} -> {} within {} ms: {moved} connections moved; {} leads to {}",
        gateway.generation(),
        took.as_millis(),
        SERVER_PREFIXES[0],
        FABRIC[1]
    ));

    story.step("fabric1 announces it again: they move back");
    flows.reset();
    net.fabric1_announces_server(true);
    let took = replaced(gateway, FABRIC[0]);
    flows.went_on(story, &addresses);
    story.tell(&format!(
        "generation {} after {} ms",
        gateway.generation(),
        took.as_millis()
    ));
}

fn peer_is_killed_and_comes_back(story: &mut Story, net: &mut Topology, gateway: &Turnpiked, flows: &Flows) {
    story.step("fabric1's bgpd is killed with SIGKILL: its routes go, the flows go on over fabric2");
    let addresses = flows.addresses();
    flows.reset();
    net.fabric_frr[0].kill_bgpd();
    let took = replaced(gateway, FABRIC[1]);
    gateway.await_sessions(SESSIONS / 2);
    flows.went_on(story, &addresses);
    story.tell(&format!(
        "sessions left: {} of {SESSIONS}; routes replaced after {} ms",
        SESSIONS / 2,
        took.as_millis()
    ));

    story.step("fabric1's bgpd is started again: sessions and routes come back");
    flows.reset();
    net.fabric_frr[0].restart_bgpd();
    gateway.await_sessions(SESSIONS);
    let took = replaced(gateway, FABRIC[0]);
    flows.went_on(story, &addresses);
    story.tell(&format!(
        "{SESSIONS} of {SESSIONS} sessions; routes back {} ms later",
        took.as_millis()
    ));
}

/// Waits until the server's network is routed to `gateway_address`; how long that took.
fn replaced(gateway: &Turnpiked, gateway_address: &str) -> Duration {
    let outcome = within(SOON, || gateway.routed_via(SERVER_PREFIXES[0], gateway_address));
    outcome.unwrap_or_else(|why| panic!("{why}")).1
}

fn counters(story: &mut Story, net: &Topology, gateway: &Turnpiked) {
    story.step("What is dropped is counted by reason, and every packet is accounted for");
    let before = gateway.dropped("no-route");
    let refused = ping(&net.red, "192.168.99.1", 1).expect_err("there is no such network");
    assert!(
        refused.contains("Unreachable") || refused.contains("unreachable"),
        "no ICMP error came: {refused}"
    );
    let counted = || {
        ensure(gateway.dropped("no-route") > before, || {
            "no-route is not counted".to_owned()
        })
    };
    eventually(SOON, counted);
    eventually(SOON, || gateway.counters_add_up());
    for row in rows(&gateway.show("drops"))
        .iter()
        .filter(|row| count(&row["packets"]) > 0)
    {
        story.tell(&format!(
            "{:>6} {}: {}",
            row["packets"],
            text(&row["reason"]),
            text(&row["description"])
        ));
    }
    for worker in rows(&gateway.show("summary")["workers"]) {
        let field = |name: &str| count(&worker[name]);
        story.tell(&format!(
            "worker {}: {} received + {} injected + {} generated = {} sent + {} punted + {} dropped + {} held",
            worker["index"],
            field("rx"),
            field("injected"),
            field("generated"),
            field("tx"),
            field("punted"),
            field("dropped"),
            field("held")
        ));
    }
}

/// Prints the steps with the time since the start.
struct Story {
    start: Instant,
    step: u32,
}

impl Story {
    fn step(&mut self, title: &str) {
        self.step += 1;
        println!(
            "[{:5.1} s] {:2}. {title}",
            self.start.elapsed().as_secs_f64(),
            self.step
        );
    }

    fn tell(&self, line: &str) {
        println!("[{:5.1} s]     {line}", self.start.elapsed().as_secs_f64());
    }
}

/// Whatever this run made that is still there.
fn leftovers(pages_before: u64) -> Vec<String> {
    let mut left = janitor::left_by(std::process::id());
    let taps = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    left.extend(
        taps.map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("tp-")),
    );
    let pages = hugepages::total();
    if pages != pages_before {
        left.push(format!("{pages} hugepages where there were {pages_before}"));
    }
    left
}

/// SIGINT and SIGTERM end the demo at once; what it made is removed first.
fn clean_up_after_signals() {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let interrupted = runtime.is_ok_and(|runtime| runtime.block_on(signal()).is_ok());
        if interrupted {
            eprintln!("demo: interrupted, cleaning up");
            janitor::remove_all_of(std::process::id());
            std::process::exit(130);
        }
    });
}

async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the story tells real time")]
fn clock() -> Instant {
    Instant::now()
}

/// The address and port that a connection is translated to, as the far side sees its source.
fn translated(row: &serde_json::Value) -> Option<SocketAddr> {
    let address = row["translated"]["source"].as_str()?.parse().ok()?;
    Some(SocketAddr::new(
        address,
        u16::try_from(row["translated"]["source_port"].as_u64()?).ok()?,
    ))
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
