//! The gateway speaks BGP to the fabric, and FRR on the same host OSPF to a router of the fabric, over the gateway's port:
//! what OSPF learns forwards in the gateway, and what the gateway routes by is redistributed into OSPF.

use turnpike_tests::config::Memory;
use turnpike_tests::frr::Setup;
use turnpike_tests::topology::{FABRIC, GATEWAY, SESSIONS};
use turnpike_tests::traffic::ping;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Frr, Topology, Turnpiked, eventually};

/// A network of the OSPF router that nobody else announces.
const BEHIND_OSPF: &str = "192.168.70.1";
/// A network that only the gateway has a route to.
const BEHIND_GATEWAY: &str = "192.168.77.0/24";

/// OSPF on `interface`, quick to find its neighbour and to lose it.
fn ospf(interface: &str, id: &str, more: &str) -> String {
    format!(
        "interface {interface}\n ip ospf area 0\n ip ospf network point-to-point\n ip ospf hello-interval 1\n \
         ip ospf dead-interval 4\n{more}router ospf\n ospf router-id {id}\n"
    )
}

#[test]
fn ospf_of_frr_beside_our_bgp() {
    let mut net = Topology::new();
    let config = net.config(Memory::NoHuge)
        + &format!(
            "\n[[route]]\nprefix = \"{BEHIND_GATEWAY}\"\nvia = [\"{}\"]\n",
            FABRIC[0]
        );
    let gateway = Turnpiked::start(&net.gateway, &config, &net.scratch);
    gateway.await_sessions(SESSIONS);

    net.fabric[1].ip(&format!("address add {BEHIND_OSPF}/32 dev lo"));
    let router = ospf("gw", "10.0.0.2", "interface lo\n ip ospf area 0\n");
    net.fabric_frr[1].add("ospfd", &router, &[]);
    let ours = ospf(
        "tp-f2",
        "10.0.0.1",
        "interface tp-f1\n ip ospf area 0\n ip ospf passive\n",
    ) + " redistribute kernel\n";
    let setup = Setup {
        daemons: &[("ospfd", &ours, &[])],
        ..Setup::default()
    };
    let frr = Frr::start_with(&net.gateway, setup, &net.scratch);
    let neighbors = || frr.vtysh(&["show ip ospf neighbor"]);
    eventually(SOON, || ensure(neighbors().contains("Full"), neighbors));

    // What OSPF learns forwards in the gateway: its own process, another port, another router.
    let learned = format!("{BEHIND_OSPF}/32");
    eventually(SOON, || gateway.routed_via(&learned, FABRIC[1]));
    let route = gateway.active_route(&learned).expect("routed");
    assert_eq!(route["source"], "kernel", "{route}");
    net.fabric[0].ip(&format!("route add {learned} via {}", GATEWAY[0]));
    eventually(SOON, || ping(&net.fabric[0], BEHIND_OSPF, 1));

    // What the gateway routes by is the router's too, by OSPF.
    let passed_on = || net.fabric[1].ip(&format!("route show {BEHIND_GATEWAY}"));
    eventually(SOON, || {
        let shown = passed_on();
        ensure(shown.contains("proto ospf") && shown.contains(GATEWAY[1]), || shown)
    });
    // BGP goes on, and its routes are not the kernel's.
    gateway.await_sessions(SESSIONS);

    // The router's OSPF dies without a word: within its dead interval the route is gone everywhere.
    net.fabric_frr[1].signal("ospfd", nix::sys::signal::Signal::SIGKILL);
    eventually(SOON, || {
        let route = gateway.active_route(&learned);
        ensure(route.is_none(), || format!("still there: {route:?}"))
    });
    assert!(!net.gateway.ip("route show").contains(BEHIND_OSPF));
}
