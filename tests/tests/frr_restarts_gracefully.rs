//! FRR speaks BGP on the gateway's host, and the gateway forwards by its routes: taken from the kernel, or pushed over FPM.
//! FRR is killed and starts again, and nothing is lost.

use turnpike_tests::topology::{FABRIC, SERVER, SERVER_PREFIXES};
use turnpike_tests::traffic::{EchoClient, EchoServer, Flow};
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Frr, Topology, Turnpiked, eventually};

/// Whether the gateway forwards to the server by routes of `source`, through whichever router.
fn forwards(gateway: &Turnpiked, source: &str) -> Result<(), String> {
    for prefix in SERVER_PREFIXES {
        let route = gateway
            .active_route(prefix)
            .ok_or_else(|| format!("no route to {prefix}"))?;
        ensure(route["source"] == source, || {
            format!("{prefix} is not from {source}: {route}")
        })?;
    }
    Ok(())
}

/// Whether it does so as FRR's preferred path says.
fn routed(gateway: &Turnpiked, source: &str) -> Result<(), String> {
    forwards(gateway, source)?;
    gateway.routed_via(SERVER_PREFIXES[0], FABRIC[0])
}

/// A TCP connection of a tenant goes on while FRR is killed, is away, starts again and converges.
fn restart_loses_nothing(net: &Topology, gateway: &Turnpiked, frr: &mut Frr, source: &str) {
    eventually(SOON, || routed(gateway, source));
    let echo = EchoServer::start(&net.server, &format!("{SERVER}:7"));
    let flow = Flow::start(EchoClient::tcp(&net.red, echo.address()).expect("connects"));
    let goes_on = |n: u64| {
        let before = flow.seen().answers;
        eventually(SOON, || {
            forwards(gateway, source).unwrap_or_else(|lost| panic!("forwarding was lost: {lost}"));
            ensure(flow.seen().answers >= before + n, || format!("{:?}", flow.seen()))
        });
    };
    goes_on(50);
    let addresses = flow.seen().addresses;
    frr.kill();
    goes_on(100);
    frr.restart();
    eventually(SOON, || {
        // bgpd may have heard one router before the other, and then goes by that one for a moment.
        forwards(gateway, source).unwrap_or_else(|lost| panic!("forwarding was lost: {lost}"));
        for peer in FABRIC {
            ensure(frr.session(peer) == "Established", || frr.session(peer))?;
        }
        // bgpd's own word: zebra shows what it kept from before as BGP's, too.
        let learned = frr.vtysh(&["show bgp ipv4 unicast 198.51.100.0/24"]);
        let both = FABRIC.iter().all(|peer| learned.contains(&format!("from {peer}")));
        ensure(both && learned.contains("best"), || learned)?;
        routed(gateway, source)
    });
    goes_on(100);
    assert_eq!(flow.seen().addresses, addresses, "one TCP connection all along");
}

#[test]
fn while_frr_owns_the_kernels_routes() {
    let net = Topology::new();
    let config = net.config_without_bgp("");
    let gateway = Turnpiked::start(&net.gateway, &config, &net.scratch);
    let mut frr = net.frr_beside_gateway("", &[]);
    restart_loses_nothing(&net, &gateway, &mut frr, "kernel");

    // A withdrawal still arrives: the other router takes over.
    net.fabric1_announces_server(false);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));
    let kernel = gateway.show("kernel");
    assert_eq!(
        count(&kernel["installed"]),
        0,
        "what FRR wrote is not written again: {kernel}"
    );
}

#[test]
fn while_frr_pushes_routes_over_fpm() {
    let net = Topology::new();
    let config = net.config_without_bgp("[fpm]\nlisten = \"127.0.0.1:2620\"\n");
    let gateway = Turnpiked::start(&net.gateway, &config, &net.scratch);
    let mut frr = net.frr_beside_gateway("fpm address 127.0.0.1 port 2620\n", &["-M", "dplane_fpm_nl"]);
    restart_loses_nothing(&net, &gateway, &mut frr, "fpm");
    let fpm = || gateway.show("kernel")["fpm"].clone();
    eventually(SOON, || {
        let fpm = fpm();
        let confirmed = count(&fpm["connections"]) == 2 && count(&fpm["routes"]) >= 2 && count(&fpm["stale"]) == 0;
        ensure(confirmed, || format!("FRR has not confirmed its routes: {fpm}"))
    });
    assert_eq!(
        (count(&fpm()["malformed"]), count(&fpm()["broken_streams"])),
        (0, 0),
        "{}",
        fpm()
    );

    net.fabric1_announces_server(false);
    eventually(SOON, || gateway.routed_via(SERVER_PREFIXES[0], FABRIC[1]));
    let route = gateway.active_route(SERVER_PREFIXES[0]).expect("routed");
    assert_eq!(route["source"], "fpm", "{route}");
}
