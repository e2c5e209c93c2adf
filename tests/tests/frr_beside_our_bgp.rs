//! The gateway speaks BGP to the fabric, and FRR on the same host runs other protocols: routes pass between the two through
//! the kernel. Then FRR speaks BGP as well, to the gateway, over the loopback interface.

use turnpike_tests::config::Memory;
use turnpike_tests::frr::Setup;
use turnpike_tests::topology::{FABRIC, PUBLIC, SERVER_PREFIXES, SESSIONS};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Frr, Topology, Turnpiked, eventually};

#[test]
fn other_protocols_of_frr_meet_our_routes_in_the_kernel() {
    let net = Topology::new();
    let config = net.config(Memory::NoHuge);
    let gateway = Turnpiked::start(&net.gateway, &config, &net.scratch);
    gateway.await_sessions(SESSIONS);
    let statics = format!(
        "ip route 192.168.50.0/24 {}\nip route 192.168.51.0/24 blackhole\n",
        FABRIC[1]
    );
    let setup = Setup {
        daemons: &[
            ("staticd", &statics, &[]),
            (
                "ospfd",
                "router ospf\n ospf router-id 192.0.2.1\n redistribute kernel\n",
                &[],
            ),
        ],
        ..Setup::default()
    };
    let frr = Frr::start_with(&net.gateway, setup, &net.scratch);

    // FRR's routes forward in the gateway.
    eventually(SOON, || gateway.routed_via("192.168.50.0/24", FABRIC[1]));
    let route = gateway.active_route("192.168.50.0/24").expect("routed");
    assert_eq!(route["source"], "kernel", "{route}");
    eventually(SOON, || {
        let route = gateway.active_route("192.168.51.0/24").ok_or("no blackhole")?;
        ensure(route["kind"] == "blackhole", || route.to_string())
    });

    // Ours are FRR's to redistribute, and go with their withdrawal.
    let redistributed = || frr.vtysh(&["show ip ospf database external"]).contains("198.51.100.0");
    eventually(SOON, || {
        ensure(redistributed(), || "OSPF does not have the server's network".to_owned())
    });
    for fabric in &net.fabric_frr {
        let asn = if std::ptr::eq(fabric, &net.fabric_frr[0]) {
            65001
        } else {
            65002
        };
        fabric.vtysh(&[
            "configure terminal",
            &format!("router bgp {asn}"),
            "address-family ipv4 unicast",
            &format!("no network {}", SERVER_PREFIXES[0]),
        ]);
    }
    // OSPF itself keeps what it withdrew for a minute (MaxAge): zebra is asked.
    let route = || frr.vtysh(&["show ip route 198.51.100.0/24"]);
    eventually(SOON, || ensure(!route().contains("\"kernel\""), route));

    // FRR withdraws, and so does the gateway.
    frr.vtysh(&[
        "configure terminal",
        &format!("no ip route 192.168.50.0/24 {}", FABRIC[1]),
    ]);
    eventually(SOON, || {
        let route = gateway.active_route("192.168.50.0/24");
        ensure(route.is_none(), || format!("still there: {route:?}"))
    });
}

#[test]
fn both_speak_bgp_to_each_other_over_loopback() {
    let net = Topology::new();
    for address in ["10.255.0.1", "10.255.0.2"] {
        net.gateway.ip(&format!("address add {address}/32 dev lo"));
    }
    let peer = "\n[[bgp.peer]]\naddress = \"10.255.0.2\"\npassive = true\nasn = 65010\nfamilies = [\"ipv4-unicast\"]\n\
                hold-time = 9\nconnect-retry = 1\n";
    let gateway = Turnpiked::start(&net.gateway, &(net.config(Memory::NoHuge) + peer), &net.scratch);
    let bgp = format!(
        "route-map THROUGH permit 10\n set ip next-hop {0}\nroute-map FROM permit 10\n set ip next-hop {0}\n\
         router bgp 65010\n bgp router-id 192.0.2.99\n no bgp network import-check\n timers bgp 3 9\n\
         neighbor 10.255.0.1 remote-as 65010\n neighbor 10.255.0.1 update-source 10.255.0.2\n \
         neighbor 10.255.0.1 timers connect 1\n \
         address-family ipv4 unicast\n  network 192.168.60.0/24\n  neighbor 10.255.0.1 route-map THROUGH out\n  \
         neighbor 10.255.0.1 route-map FROM in\n\
         exit-address-family\n",
        FABRIC[0]
    );
    let setup = Setup {
        daemons: &[("bgpd", &bgp, &["-p", "1790", "-l", "10.255.0.2"])],
        ..Setup::default()
    };
    let frr = Frr::start_with(&net.gateway, setup, &net.scratch);
    gateway.await_sessions(SESSIONS + 1);

    eventually(SOON, || gateway.routed_via("192.168.60.0/24", FABRIC[0]));
    let route = gateway.active_route("192.168.60.0/24").expect("routed");
    assert_eq!(route["source"], "ibgp", "{route}");
    // FRR takes the gateway's own announcements from the session: the route map gives them a next hop that is not FRR's host.
    let taken = || frr.vtysh(&[&format!("show bgp ipv4 unicast {PUBLIC} json")]);
    eventually(SOON, || {
        let shown = taken();
        ensure(shown.contains("\"bestpath\"") && shown.contains("10.255.0.1"), || shown)
    });
    // FRR sees ours in the kernel, from where any protocol of its may redistribute them.
    let seen = || frr.vtysh(&["show ip route 198.51.100.0/24"]);
    eventually(SOON, || ensure(seen().contains("\"kernel\""), seen));
}
