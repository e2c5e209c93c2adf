//! The network around a gateway in most scenarios and in the demo.
//!
//! ```text
//!                       server 198.51.100.10, 2001:db8:100::10 (AS 65100)
//!                      /                                      \
//!        fabric1 (AS 65001, preferred)               fabric2 (AS 65002, longer path)
//!          192.0.2.0/31 |                                     | 192.0.2.2/31
//!                    port f1                               port f2
//!                         \______ gateway (AS 65010) ______/
//!                                     port tenants, 172.31.0.1
//!                                            |  bridge
//!              red 10.0.0.10 in VNI 100 -----+----- blue 10.0.0.10 in VNI 200      (green: VLAN 30)
//! ```
//!
//! Each name is a network namespace; red and blue are hosts with a VXLAN device over the tenants' underlay. The tenants
//! use the same addresses. Public addresses of the NAT are in 203.0.113.0/28, which the gateway announces.

use crate::config::{self, Memory};
use crate::frr::Setup;
use crate::namespace::connect;
use crate::wait::{SOON, ensure};
use crate::{Frr, Namespace, Scratch, Turnpiked, eventually};

/// The server's IPv4 address, behind both fabric routers.
pub const SERVER: &str = "198.51.100.10";
/// The server's IPv6 address.
pub const SERVER_V6: &str = "2001:db8:100::10";
/// The server's networks, announced by both fabric routers.
pub const SERVER_PREFIXES: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];
/// Address of the hosts in each tenant network.
pub const TENANT: &str = "10.0.0.10";
/// The gateway's address in each tenant network.
pub const TENANT_ROUTER: &str = "10.0.0.1";
/// The IPv6 address of red's host.
pub const RED_V6: &str = "2001:db8:10::10";
/// Public prefix of the NAT, announced by the gateway.
pub const PUBLIC: &str = "203.0.113.0/28";
/// Public address of red's masquerade.
pub const RED_PUBLIC: &str = "203.0.113.1";
/// Public address of blue's masquerade.
pub const BLUE_PUBLIC: &str = "203.0.113.2";
/// Public address whose port 8080 leads to port 80 of red's host.
pub const FORWARDED: &str = "203.0.113.3";
/// VLAN of the third tenant.
pub const GREEN_VLAN: u16 = 30;
/// Addresses of the fabric routers in their IPv4 sessions with the gateway: fabric1's, fabric2's.
pub const FABRIC: [&str; 2] = ["192.0.2.0", "192.0.2.2"];
/// The gateway's addresses in those sessions.
pub const GATEWAY: [&str; 2] = ["192.0.2.1", "192.0.2.3"];
/// Addresses of the fabric routers in their IPv6 sessions.
pub const FABRIC_V6: [&str; 2] = ["2001:db8:0:1::1", "2001:db8:0:2::1"];
/// The gateway's addresses in those sessions.
pub const GATEWAY_V6: [&str; 2] = ["2001:db8:0:1::2", "2001:db8:0:2::2"];
/// An IPv6 address of each fabric router, reachable from the other through the gateway alone.
pub const FABRIC_HOSTS_V6: [&str; 2] = ["2001:db8:a1::1", "2001:db8:a2::1"];
/// Sessions of the gateway: IPv4 and IPv6 with each fabric router.
pub const SESSIONS: usize = 4;

/// Everything around the gateway, FRR included. The gateway itself is started with [`Topology::start`].
#[derive(Debug)]
pub struct Topology {
    /// FRR of fabric1 and fabric2.
    pub fabric_frr: [Frr; 2],
    _server_frr: Frr,
    /// Where the gateway runs.
    pub gateway: Namespace,
    /// The fabric routers.
    pub fabric: [Namespace; 2],
    /// The host behind them.
    pub server: Namespace,
    /// The bridge that joins the tenants' hosts and the gateway.
    pub tenants: Namespace,
    /// A host in VNI 100.
    pub red: Namespace,
    /// A host in VNI 200.
    pub blue: Namespace,
    /// Files of the scenario.
    pub scratch: Scratch,
}

impl Topology {
    /// Builds the network and starts FRR in it.
    ///
    /// # Panics
    /// If a part cannot be made.
    pub fn new() -> Self {
        let gateway = namespace("gw");
        let fabric = [namespace("fabric1"), namespace("fabric2")];
        let server = namespace("server");
        let tenants = namespace("tenants");
        wire_fabric(&gateway, &fabric, &server);
        wire_tenants(&gateway, &tenants);
        let red = tenant("red", &tenants, 100, "172.31.0.11");
        let blue = tenant("blue", &tenants, 200, "172.31.0.12");
        red.ip(&format!("address add {RED_V6}/64 dev vxlan100 nodad"));
        red.ip("-6 route add default via 2001:db8:10::1");
        let scratch = Scratch::new();
        let fabric_frr = [0, 1].map(|i| Frr::start(&fabric[i], &fabric_bgp(i), &scratch));
        let server_frr = Frr::start(&server, &server_bgp(), &scratch);
        Self {
            fabric_frr,
            _server_frr: server_frr,
            gateway,
            fabric,
            server,
            tenants,
            red,
            blue,
            scratch,
        }
    }

    /// Starts the gateway with [`Topology::config`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self, memory: Memory) -> Turnpiked {
        Turnpiked::start(&self.gateway, &self.config(memory), &self.scratch)
    }

    /// Starts the gateway in ordinary memory and waits until every session is established and the server is routed to
    /// through fabric1 in both families.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn converged(&self) -> Turnpiked {
        self.converged_with(&self.config(Memory::NoHuge))
    }

    /// The same with another configuration of the same network.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn converged_with(&self, config: &str) -> Turnpiked {
        let gateway = Turnpiked::start(&self.gateway, config, &self.scratch);
        gateway.await_sessions(SESSIONS);
        for (prefix, router) in SERVER_PREFIXES.into_iter().zip([FABRIC[0], FABRIC_V6[0]]) {
            eventually(SOON, || gateway.routed_via(prefix, router));
        }
        for prefix in [PUBLIC, "2001:db8:10::/64"] {
            let learned = || {
                self.server
                    .ip(&format!("{} route show {prefix}", family(prefix)))
                    .contains("proto bgp")
            };
            eventually(SOON, || {
                ensure(learned(), || format!("the server has no route to {prefix}"))
            });
        }
        gateway
    }

    /// Has fabric1 announce the server's IPv4 network, or withdraw it.
    ///
    /// # Panics
    /// If FRR does not take the command.
    pub fn fabric1_announces_server(&self, announce: bool) {
        let line = format!("{}network {}", if announce { "" } else { "no " }, SERVER_PREFIXES[0]);
        let context = ["configure terminal", "router bgp 65001", "address-family ipv4 unicast"];
        self.fabric_frr[0].vtysh(&[context[0], context[1], context[2], &line]);
    }

    /// The gateway's configuration without its BGP, which is then FRR's on the same host, and with `more` instead.
    pub fn config_without_bgp(&self, more: &str) -> String {
        let text = self.config(Memory::NoHuge);
        let (before, _) = text
            .split_once("\n[bgp]")
            .expect("the configuration has BGP, at its end");
        format!("{before}\n{more}")
    }

    /// Starts FRR beside the gateway, in its namespace. bgpd speaks to the fabric in place of the gateway, over the host
    /// interfaces; it and zebra restart gracefully.
    ///
    /// # Panics
    /// If it does not start.
    pub fn frr_beside_gateway(&self, zebra: &str, zebra_arguments: &[&str]) -> Frr {
        let mut arguments = vec!["-K", "60"];
        arguments.extend(zebra_arguments);
        let setup = Setup {
            zebra,
            zebra_arguments: &arguments,
            daemons: &[("bgpd", &gateway_bgp(), &[])],
        };
        Frr::start_with(&self.gateway, setup, &self.scratch)
    }

    /// The gateway's configuration, with these lines for each of some sessions, by the address of the router; they take the place
    /// of lines with the same key.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn config_of_peers(&self, peers: &[(&str, &str)]) -> String {
        let mut text = self.config(Memory::NoHuge);
        for (address, lines) in peers {
            let line = format!("address = \"{address}\"\n");
            let (before, session) = text.split_once(&line).unwrap_or_else(|| panic!("{address} is no peer"));
            let (session, rest) = session.split_once("\n\n").unwrap_or((session, ""));
            let key = |line: &str| line.split(" =").next().map(str::to_owned);
            let said: Vec<_> = lines.lines().map(key).collect();
            let kept = session.lines().filter(|line| !said.contains(&key(line)));
            let kept: Vec<&str> = kept.collect();
            text = format!("{before}{line}{lines}{}\n\n{rest}", kept.join("\n"));
        }
        text
    }

    /// The gateway's configuration.
    pub fn config(&self, memory: Memory) -> String {
        let mut text = config::base(&Turnpiked::socket(&self.scratch), memory);
        for i in [0, 1] {
            let addresses = [format!("{}/31", GATEWAY[i]), format!("{}/64", GATEWAY_V6[i])];
            let addresses = addresses.each_ref().map(String::as_str);
            text += &config::port(
                i as u32,
                &format!("f{}", i + 1),
                &format!("gw-f{}", i + 1),
                &addresses,
                true,
            );
        }
        text += &config::port(2, "tenants", "gw-tenants", &["172.31.0.1/24"], true);
        text += TENANTS;
        text += "\n[bgp]\nasn = 65010\nrouter-id = \"192.0.2.1\"\n";
        text += &format!("announce = [\"{PUBLIC}\", \"2001:db8:10::/64\"]\n");
        for i in [0, 1] {
            for (address, family) in [(FABRIC[i], "ipv4-unicast"), (FABRIC_V6[i], "ipv6-unicast")] {
                text += &format!(
                    "\n[[bgp.peer]]\naddress = \"{address}\"\nasn = {}\nfamilies = [\"{family}\"]\n\
                     hold-time = 9\nconnect-retry = 1\nimport = \"accept\"\nexport = \"accept\"\n",
                    65001 + i
                );
            }
        }
        text
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

fn family(prefix: &str) -> &'static str {
    if prefix.contains(':') { "-6" } else { "-4" }
}

const TENANTS: &str = r#"
[vxlan]
address = "172.31.0.1"

[[vpc]]
id = 1
name = "red"
vni = 100
vteps = ["172.31.0.11"]
addresses = ["10.0.0.1/24", "2001:db8:10::1/64"]

[[vpc]]
id = 2
name = "blue"
vni = 200
vteps = ["172.31.0.12"]
addresses = ["10.0.0.1/24"]

[[vpc]]
id = 3
name = "green"
vlan = { port = "tenants", id = 30 }
addresses = ["10.0.0.1/24"]

[[route]]
vrf = "red"
prefix = "0.0.0.0/0"
in-vrf = "default"

[[route]]
vrf = "red"
prefix = "::/0"
in-vrf = "default"

[[route]]
prefix = "2001:db8:10::/64"
in-vrf = "red"

[[route]]
vrf = "blue"
prefix = "0.0.0.0/0"
in-vrf = "default"

[[route]]
vrf = "green"
prefix = "0.0.0.0/0"
in-vrf = "default"

[[nat.masquerade]]
vpc = "red"
pool = ["203.0.113.1/32"]

[[nat.masquerade]]
vpc = "blue"
pool = ["203.0.113.2/32"]

[[nat.masquerade]]
vpc = "green"
pool = ["203.0.113.4/32"]

[[nat.port-forward]]
vpc = "red"
address = "203.0.113.3"
protocol = "tcp"
port = 8080
target = "10.0.0.10"
target-port = 80
"#;

/// A namespace that takes packets on any path (a reply may come by the other fabric router) and forwards none.
fn namespace(role: &str) -> Namespace {
    let namespace = Namespace::new(role);
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), 0);
    }
    namespace.sysctl("ipv4/ip_forward", 0);
    namespace
}

fn wire_fabric(gateway: &Namespace, fabric: &[Namespace; 2], server: &Namespace) {
    server.ip(&format!("address add {SERVER}/32 dev lo"));
    server.ip(&format!("address add {SERVER_V6}/128 dev lo nodad"));
    for (i, router) in fabric.iter().enumerate() {
        let number = i + 1;
        let port = format!("gw-f{number}");
        connect((gateway, &port), (router, "gw"));
        gateway.leave_to_dpdk(&port);
        router.ip(&format!("address add {}/31 dev gw", FABRIC[i]));
        router.ip(&format!("address add {}/64 dev gw nodad", FABRIC_V6[i]));

        let uplink = format!("f{number}");
        connect((server, &uplink), (router, "server"));
        server.ip(&format!("address add 198.18.{number}.2/30 dev {uplink}"));
        server.ip(&format!("address add 2001:db8:1:{number}::2/64 dev {uplink} nodad"));
        router.ip(&format!("address add 198.18.{number}.1/30 dev server"));
        router.ip(&format!("address add 2001:db8:1:{number}::1/64 dev server nodad"));

        router.sysctl("ipv4/ip_forward", 1);
        router.sysctl("ipv6/conf/all/forwarding", 1);
        router.ip(&format!("route add {} via 198.18.{number}.2", SERVER_PREFIXES[0]));
        router.ip(&format!(
            "-6 route add {} via 2001:db8:1:{number}::2",
            SERVER_PREFIXES[1]
        ));
        router.ip(&format!("address add {}/128 dev lo nodad", FABRIC_HOSTS_V6[i]));
        router.ip(&format!(
            "-6 route add {}/128 via {}",
            FABRIC_HOSTS_V6[1 - i],
            GATEWAY_V6[i]
        ));
    }
}

fn wire_tenants(gateway: &Namespace, tenants: &Namespace) {
    tenants.ip("link add bridge type bridge");
    tenants.ip("link set bridge up");
    connect((gateway, "gw-tenants"), (tenants, "gw"));
    gateway.leave_to_dpdk("gw-tenants");
    tenants.ip("link set gw master bridge");
}

fn tenant(name: &str, tenants: &Namespace, vni: u32, underlay: &str) -> Namespace {
    let host = namespace(name);
    connect((&host, "underlay"), (tenants, name));
    tenants.ip(&format!("link set {name} master bridge"));
    host.ip(&format!("address add {underlay}/24 dev underlay"));
    let device = format!("vxlan{vni}");
    host.ip(&format!(
        "link add {device} mtu 1450 type vxlan id {vni} local {underlay} remote 172.31.0.1 dstport 4789 dev underlay"
    ));
    host.run(&format!("ethtool -K {device} tx off"));
    host.ip(&format!("address add {TENANT}/24 dev {device}"));
    host.ip(&format!("link set {device} up"));
    host.ip(&format!("route add default via {TENANT_ROUTER}"));
    host
}

/// bgpd of a fabric router: originates the server's networks; fabric2 lengthens every path, so fabric1 is preferred.
///
/// bgpd gathers the news of a peer that just came up for some time, and in 8.4 a network that goes in that time is never
/// withdrawn from the other peers of the update group. `coalesce-time 0` leaves it no such time.
fn fabric_bgp(i: usize) -> String {
    let (asn, number) = (65001 + i, i + 1);
    let lengthen = if i == 0 {
        ""
    } else {
        " set as-path prepend 65002 65002\n"
    };
    let v4 = [GATEWAY[i], &format!("198.18.{number}.2")].map(str::to_owned);
    let v6 = [GATEWAY_V6[i], &format!("2001:db8:1:{number}::2")].map(str::to_owned);
    let mut text = format!("route-map OUT permit 10\n{lengthen}");
    text += &format!("router bgp {asn}\n bgp router-id 192.0.2.{}\n", 101 + i);
    text += " no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n timers bgp 3 9\n coalesce-time 0\n";
    for [gateway, server] in [&v4, &v6] {
        text += &format!(" neighbor {gateway} remote-as 65010\n neighbor {gateway} timers connect 1\n");
        text += &format!(" neighbor {server} remote-as 65100\n neighbor {server} timers connect 1\n");
    }
    for (family, neighbors, networks) in [
        ("ipv4", &v4, vec![SERVER_PREFIXES[0].to_owned()]),
        (
            "ipv6",
            &v6,
            vec![SERVER_PREFIXES[1].to_owned(), format!("{}/128", FABRIC_HOSTS_V6[i])],
        ),
    ] {
        text += &format!(" address-family {family} unicast\n");
        for network in networks {
            text += &format!("  network {network}\n");
        }
        for neighbor in neighbors {
            text += &format!("  neighbor {neighbor} activate\n  neighbor {neighbor} route-map OUT out\n");
        }
        text += " exit-address-family\n";
    }
    text
}

/// bgpd on the gateway's host: speaks to the fabric in its place, and says that forwarding outlives it.
fn gateway_bgp() -> String {
    let mut text = "router bgp 65010\n bgp router-id 192.0.2.1\n no bgp ebgp-requires-policy\n".to_owned();
    text += " no bgp network import-check\n no bgp default ipv4-unicast\n timers bgp 3 9\n bgp graceful-restart\n";
    text += " bgp graceful-restart preserve-fw-state\n";
    for (family, peers, network) in [("ipv4", FABRIC, PUBLIC), ("ipv6", FABRIC_V6, "2001:db8:10::/64")] {
        for (i, peer) in peers.iter().enumerate() {
            text += &format!(
                " neighbor {peer} remote-as {}\n neighbor {peer} timers connect 1\n",
                65001 + i
            );
        }
        text += &format!(" address-family {family} unicast\n  network {network}\n");
        for peer in peers {
            text += &format!("  neighbor {peer} activate\n");
        }
        text += " exit-address-family\n";
    }
    text
}

/// bgpd of the server: learns the way back to the gateway's public addresses, and announces nothing.
fn server_bgp() -> String {
    let mut text = "route-map NOTHING deny 10\nrouter bgp 65100\n bgp router-id 198.51.100.10\n".to_owned();
    text += " no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n timers bgp 3 9\n";
    for (family, prefix) in [("ipv4", "198.18."), ("ipv6", "2001:db8:1:")] {
        let routers = [1, 2].map(|number| match family {
            "ipv4" => format!("{prefix}{number}.1"),
            _ => format!("{prefix}{number}::1"),
        });
        for (i, router) in routers.iter().enumerate() {
            text += &format!(
                " neighbor {router} remote-as {}\n neighbor {router} timers connect 1\n",
                65001 + i
            );
        }
        text += &format!(" address-family {family} unicast\n");
        for router in routers {
            text += &format!("  neighbor {router} activate\n  neighbor {router} route-map NOTHING out\n");
        }
        text += " exit-address-family\n";
    }
    text
}
