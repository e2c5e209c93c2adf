//! Two gateways: the standby has the primary's connections, and goes on with them, ports and all, when the primary is
//! killed without a word and traffic comes to the standby. Then the other way round.

use serde_json::Value;
use turnpike_tests::config::{self, Memory};
use turnpike_tests::namespace::connect;
use turnpike_tests::traffic::{EchoClient, EchoServer};
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Namespace, Scratch, Turnpiked, eventually};

const CLIENTS: usize = 12;
const SERVER: &str = "198.51.100.10";
const PUBLIC: &str = "203.0.113.1";
/// MAC address of every gateway in VPC 1.
const ROUTER_MAC: &str = "02:54:50:00:00:01";

/// A server and a tenant's host, each on a bridge of its own with both gateways, which also have a link to each other.
struct Pair {
    server: Namespace,
    red: Namespace,
    gateways: [Namespace; 2],
    scratch: [Scratch; 2],
}

impl Pair {
    fn new() -> Self {
        let namespaces = ["server", "red", "gw1", "gw2"].map(Namespace::new);
        let [server, red, one, two] = &namespaces;
        for namespace in [server, red] {
            for scope in ["all", "default"] {
                namespace.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), 0);
            }
            namespace.ip("link add bridge type bridge");
            namespace.ip("link set bridge up");
        }
        for (i, gateway) in [one, two].into_iter().enumerate() {
            for (host, port) in [(server, "fabric"), (red, "tenants")] {
                connect((gateway, port), (host, &format!("gw{}", i + 1)));
                gateway.leave_to_dpdk(port);
                host.ip(&format!("link set gw{} master bridge", i + 1));
            }
        }
        connect((one, "pair"), (two, "pair"));
        one.ip("address add 100.64.0.1/30 dev pair");
        two.ip("address add 100.64.0.2/30 dev pair");
        server.ip(&format!("address add {SERVER}/32 dev lo"));
        server.ip("address add 198.18.0.10/24 dev bridge");
        red.ip("address add 172.31.0.11/24 dev bridge");
        red.ip("link add vxlan100 mtu 1450 type vxlan id 100 local 172.31.0.11 dstport 4789 dev bridge nolearning");
        red.run("ethtool -K vxlan100 tx off");
        red.ip("address add 10.0.0.10/24 dev vxlan100");
        red.ip("link set vxlan100 up");
        red.ip("route add default via 10.0.0.1");
        for n in [1, 2] {
            red.run(&format!(
                "bridge fdb append 00:00:00:00:00:00 dev vxlan100 dst 172.31.0.{n}"
            ));
        }
        let [server, red, one, two] = namespaces;
        Self {
            server,
            red,
            gateways: [one, two],
            scratch: [Scratch::new(), Scratch::new()],
        }
    }

    /// Has all traffic go through a gateway.
    fn route_through(&self, gateway: usize) {
        let n = gateway + 1;
        self.server
            .ip(&format!("route replace 203.0.113.0/28 via 198.18.0.{n}"));
        self.red.run(&format!(
            "bridge fdb replace {ROUTER_MAC} dev vxlan100 dst 172.31.0.{n}"
        ));
    }

    fn start(&self, gateway: usize) -> Turnpiked {
        let (n, other) = (gateway + 1, 2 - gateway);
        let mut text = config::base(&Turnpiked::socket(&self.scratch[gateway]), Memory::NoHuge);
        text += &config::port(0, "fabric", "fabric", &[&format!("198.18.0.{n}/24")], true);
        text += &config::port(1, "tenants", "tenants", &[&format!("172.31.0.{n}/24")], true);
        text += &format!(
            r#"
[vxlan]
address = "172.31.0.{n}"

[[vpc]]
id = 1
name = "red"
vni = 100
vteps = ["172.31.0.11"]
addresses = ["10.0.0.1/24"]

[[route]]
vrf = "red"
prefix = "0.0.0.0/0"
in-vrf = "default"

[[route]]
prefix = "198.51.100.0/24"
via = ["198.18.0.10"]

[nat]
pick-up = 0   # a connection that goes on was taken over

[[nat.masquerade]]
vpc = "red"
pool = ["{PUBLIC}/32"]

[standby]
peer = "100.64.0.{other}:4790"
listen = "100.64.0.{n}:4790"
primary = "100.64.0.{other}"
"#
        );
        Turnpiked::start(&self.gateways[gateway], &text, &self.scratch[gateway])
    }
}

/// Waits until a gateway's standby has everything.
fn await_standby(primary: &Turnpiked, standby: &Turnpiked, connections: usize) {
    eventually(SOON, || {
        let (sending, receiving) = (primary.try_show("standby")?, standby.try_show("standby")?);
        let (sending, receiving) = (&sending["sending"], &receiving["receiving"]);
        let told = sending["state"] == "synchronized" && count(&sending["lag"]) + count(&sending["backlog"]) == 0;
        let kept = count(&receiving["connections"]) as usize >= connections;
        ensure(told && kept && receiving["state"] == "synchronized", || {
            format!("{sending} {receiving}")
        })
    });
}

#[test]
fn a_killed_primary_loses_no_established_connection() {
    let pair = Pair::new();
    let mut primary = pair.start(0);
    let mut standby = pair.start(1);
    pair.route_through(0);
    let echo = EchoServer::start(&pair.server, &format!("{SERVER}:7"));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let connect = || EchoClient::tcp(&pair.red, echo.address()).map_err(|error| error.to_string());
            eventually(SOON, connect).patient()
        })
        .collect();
    let mut ports = Vec::new();
    for client in &mut clients {
        ports.push(client.exchange("before").expect("answered"));
    }
    assert!(ports.iter().all(|seen| seen.ip().to_string() == PUBLIC));

    for round in 0..2 {
        let (gone, next) = (round % 2, (round + 1) % 2);
        await_standby(&primary, &standby, CLIENTS);
        primary.kill();
        // The standby has noticed, and keeps what it has.
        eventually(SOON, || {
            let shown = standby.try_show("standby")?;
            ensure(shown["receiving"]["state"] == "waiting", || shown.to_string())
        });
        let taken = standby.cli(&["standby", "takeover", "--json"]).expect("taken over");
        let taken: Value = serde_json::from_str(&taken).expect("JSON");
        assert!(count(&taken["taken_over"]) as usize >= CLIENTS, "{taken}");
        assert_eq!(taken["received"], taken["taken_over"], "{taken}");
        pair.route_through(next);
        for (client, port) in clients.iter_mut().zip(&ports) {
            let seen = client
                .exchange(&format!("round {round}"))
                .unwrap_or_else(|error| panic!("a connection did not outlive takeover {round}: {error}"));
            assert_eq!(seen, *port, "takeover {round}: the same public port");
        }
        // The NIC carries them again.
        eventually(SOON, || {
            let live = count(&standby.try_show("offloads")?["live"]) as usize;
            ensure(live >= CLIENTS, || format!("{live} connections are offloaded"))
        });
        // The one that was killed comes back as the standby of the other.
        primary = standby;
        standby = pair.start(gone);
    }
    assert!(primary.terminate().success());
    assert!(standby.terminate().success());
}
