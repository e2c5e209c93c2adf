//! A VPC in EVPN: a tenant's packets cross to a remote endpoint that a type 5 route of GoBGP leads to, and back; without the
//! route they do not; and another endpoint takes over.
//!
//! ```text
//!   tenant 10.0.0.10 ─ VNI 5001 ─┐
//!                                bridge ─ gateway (AS 65010, 172.31.0.1)
//!   leaf1, leaf2 (AS 65001) ─────┘
//! ```
//!
//! Both leaves have 10.1.0.7 behind a VXLAN device whose address is their router's MAC. GoBGP on leaf1 speaks for both.

use std::time::Duration;

use serde_json::Value;
use turnpike_tests::config::{self, Memory};
use turnpike_tests::namespace::connect;
use turnpike_tests::traffic::{self, HttpServer, fetch, ping};
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Namespace, Process, Scratch, Turnpiked, eventually};

const FAR: &str = "10.1.0.7";
const PREFIX: &str = "10.1.0.0/16";
/// The gateway's router MAC: made of its endpoint.
const ROUTER_MAC: &str = "02:54:ac:1f:00:01";

const VPC: &str = r#"
[vxlan]
address = "172.31.0.1"

[[vpc]]
id = 1
name = "red"
vni = 5001
vteps = ["172.31.0.21"]
addresses = ["10.0.0.1/24"]

[vpc.evpn]
import-rt = ["65000:5001"]
export-rt = ["65000:5001"]
announce = ["10.9.0.0/16"]
redistribute-connected = "all"

[bgp]
asn = 65010
router-id = "172.31.0.1"
policy = [{ name = "all", term = [{ name = "every", then = "accept" }] }]

[[bgp.peer]]
address = "172.31.0.11"
asn = 65001
families = ["l2vpn-evpn"]
hold-time = 9
connect-retry = 1
import = "accept"
export = "accept"
"#;

const GOBGPD: &str = r#"
[global.config]
  as = 65001
  router-id = "172.31.0.11"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "172.31.0.1"
    peer-as = 65010
  [neighbors.timers.config]
    hold-time = 9
    keepalive-interval = 3
    connect-retry = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "l2vpn-evpn"
"#;

struct Net {
    gateway: Namespace,
    tenant: Namespace,
    leaves: [Namespace; 2],
    _bridge: Namespace,
    scratch: Scratch,
}

/// A namespace on the bridge with an address of the underlay.
fn station(role: &str, bridge: &Namespace, address: &str) -> Namespace {
    let made = Namespace::new(role);
    for scope in ["all", "default"] {
        made.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), 0);
    }
    connect((&made, "underlay"), (bridge, role));
    bridge.ip(&format!("link set {role} master bridge"));
    made.ip(&format!("address add {address}/24 dev underlay"));
    made
}

impl Net {
    fn new() -> Self {
        let bridge = Namespace::new("bridge");
        bridge.ip("link add bridge type bridge");
        bridge.ip("link set bridge up");
        let gateway = Namespace::new("gw");
        connect((&gateway, "gw-fabric"), (&bridge, "gw"));
        gateway.leave_to_dpdk("gw-fabric");
        bridge.ip("link set gw master bridge");

        let tenant = station("tenant", &bridge, "172.31.0.21");
        vxlan(&tenant, "172.31.0.21", "remote 172.31.0.1");
        tenant.ip("address add 10.0.0.10/24 dev vxlan5001");
        tenant.ip("route add default via 10.0.0.1");

        let leaves = [1, 2].map(|number| {
            let endpoint = format!("172.31.0.1{number}");
            let leaf = station(&format!("leaf{number}"), &bridge, &endpoint);
            vxlan(&leaf, &endpoint, "nolearning");
            leaf.ip(&format!("link set vxlan5001 address 02:00:00:00:00:1{number}"));
            leaf.ip(&format!("address add {FAR}/32 dev lo"));
            // What a leaf makes of our type 5 route: the gateway's endpoint, and its router's MAC.
            leaf.ip("route add 10.0.0.0/24 via 192.0.2.1 dev vxlan5001 onlink");
            leaf.ip(&format!(
                "neighbor add 192.0.2.1 lladdr {ROUTER_MAC} dev vxlan5001 nud permanent"
            ));
            leaf.run(&format!("bridge fdb append {ROUTER_MAC} dev vxlan5001 dst 172.31.0.1"));
            leaf
        });
        Self {
            gateway,
            tenant,
            leaves,
            _bridge: bridge,
            scratch: Scratch::new(),
        }
    }

    fn start(&self) -> Turnpiked {
        let mut text = config::base(&Turnpiked::socket(&self.scratch), Memory::NoHuge);
        text += &config::port(0, "fabric", "gw-fabric", &["172.31.0.1/24"], true);
        text += VPC;
        Turnpiked::start(&self.gateway, &text, &self.scratch)
    }

    fn gobgpd(&self) -> Process {
        let file = self.scratch.write("gobgpd.toml", GOBGPD);
        let mut command = self.leaves[0].command("gobgpd");
        command.arg("-f").arg(file).args(["--api-hosts", "127.0.0.1:50051"]);
        let process = Process::spawn("gobgpd", command, self.scratch.path());
        eventually(SOON, || {
            let said = self.gobgp("global");
            ensure(said.contains("65001"), || format!("gobgpd says `{said}`"))
        });
        process
    }

    fn gobgp(&self, words: &str) -> String {
        let output = self.leaves[0].try_run(&format!("gobgp {words}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has GoBGP announce the prefix behind a leaf, or withdraw it. The first leaf is the better one.
    fn tell(&self, verb: &str, number: usize) {
        let output = self.leaves[0].try_run(&format!(
            "gobgp global rib -a evpn {verb} prefix {PREFIX} etag 0 label 5001 rd 172.31.0.1{number}:1 rt 65000:5001 \
             encap vxlan router-mac 02:00:00:00:00:1{number} nexthop 172.31.0.1{number} med {number}"
        ));
        assert!(output.status.success(), "gobgp {verb}: {output:?}");
    }
}

/// The device of VNI 5001.
fn vxlan(namespace: &Namespace, local: &str, more: &str) {
    namespace.ip(&format!(
        "link add vxlan5001 mtu 1450 type vxlan id 5001 local {local} dstport 4789 dev underlay {more}"
    ));
    namespace.run("ethtool -K vxlan5001 tx off");
    namespace.ip("link set vxlan5001 up");
}

/// The route of the VPC, if it leads to a leaf.
fn leads_to(gateway: &Turnpiked, number: usize) -> Result<(), String> {
    let routes = gateway.show("routes");
    let found = rows(&routes)
        .iter()
        .find(|route| route["prefix"] == PREFIX && route["active"] == true);
    let hops = found.map_or(&Value::Null, |route| &route["next_hops"]);
    let vxlan = &hops[0]["vxlan"];
    let vtep = format!("172.31.0.1{number}");
    let right = vxlan["vtep"] == *vtep && vxlan["vni"] == 5001 && vxlan["mac"] == *format!("02:00:00:00:00:1{number}");
    ensure(right && rows(hops).len() == 1, || format!("{PREFIX}: {found:?}"))
}

#[test]
fn packets_follow_a_type_5_route_to_its_endpoint_and_back() {
    let net = Net::new();
    let gateway = net.start();
    let _gobgpd = net.gobgpd();
    gateway.await_sessions(1);
    let contents = [traffic::file(40_000, 1), traffic::file(40_000, 2)];
    let _servers = [0, 1].map(|i| HttpServer::start(&net.leaves[i], &format!("{FAR}:80"), contents[i].clone()));
    let url = format!("http://{FAR}/file");

    // Ours are there, with what a leaf needs.
    for wanted in ["prefix:10.0.0.0/24]", "prefix:10.9.0.0/16]"] {
        eventually(SOON, || {
            let known = net.gobgp("global rib -a evpn");
            let line = known.lines().find(|line| line.contains(wanted)).unwrap_or_default();
            let parts = ["[rd:172.31.0.1:1]", "[5001]", "172.31.0.1 ", "65000:5001", ROUTER_MAC];
            ensure(parts.iter().all(|part| line.contains(part)), || known.clone())
        });
    }

    net.tell("add", 1);
    eventually(SOON, || leads_to(&gateway, 1));
    eventually(SOON, || ping(&net.tenant, FAR, 1));
    eventually(SOON, || {
        let got = fetch(&net.tenant, &url)?;
        ensure(got == contents[0], || "the content of another leaf".to_owned())
    });
    let told = gateway.explain_route("red", FAR).expect("explained");
    assert_eq!(told["verdict"], "forwarded", "{told}");
    assert!(told["steps"].to_string().contains("(EVPN, 172.31.0.11:1)"), "{told}");
    let shown = gateway.cli(&["show", "bgp", "evpn"]).expect("shown");
    for part in [
        "[5]:[0]:[10.1.0.0/16] of 172.31.0.11:1",
        "endpoint 172.31.0.11, VNI 5001, router's MAC 02:00:00:00:00:11",
        "in red: used",
        "[3]:[0]:[172.31.0.1]",
    ] {
        assert!(shown.contains(part), "`{part}` in\n{shown}");
    }
    let shown = gateway.cli(&["show", "routes"]).expect("shown");
    assert!(shown.contains("via VTEP 172.31.0.11 VNI 5001"), "{shown}");

    // Withdrawn, nothing crosses, and the gateway says that nobody has a route.
    net.tell("del", 1);
    eventually(SOON, || {
        let told = gateway.explain_route("red", FAR)?;
        ensure(told["stopped_at"] == "received", || told.to_string())
    });
    assert!(ping(&net.tenant, FAR, 1).is_err());

    // A route that no VPC wants says so where the way is asked for.
    let unwanted = format!(
        "global rib -a evpn add prefix {PREFIX} etag 0 label 5001 rd 172.31.0.11:9 rt 65000:9 encap vxlan \
         router-mac 02:00:00:00:00:11 nexthop 172.31.0.11"
    );
    net.gobgp(&unwanted);
    eventually(SOON, || {
        let told = gateway.explain_route("red", FAR)?;
        let why = told["steps"].to_string();
        let right = told["stopped_at"] == "policy" && why.contains("no VPC imports a route target of it");
        ensure(right, || why.clone())
    });
    net.gobgp(&unwanted.replace(" add ", " del "));

    // Of two the better one is used, and the other takes over.
    net.tell("add", 2);
    net.tell("add", 1);
    eventually(SOON, || leads_to(&gateway, 1));
    eventually(SOON, || {
        let got = fetch(&net.tenant, &url)?;
        ensure(got == contents[0], || "the content of another leaf".to_owned())
    });
    net.tell("del", 1);
    eventually(SOON, || leads_to(&gateway, 2));
    eventually(SOON, || ping(&net.tenant, FAR, 1));
    eventually(SOON, || {
        let got = fetch(&net.tenant, &url)?;
        ensure(got == contents[1], || "the content of another leaf".to_owned())
    });
    assert_eq!(gateway.established(), Ok(1));
    eventually(Duration::from_secs(60), || gateway.counters_add_up());
}
