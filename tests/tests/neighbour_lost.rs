//! A router that stops answering while its link stays up, and nobody sends to it through the kernel: the kernel is asked to
//! probe it, and the gateway learns that it is gone.

use std::time::Duration;

use turnpike_tests::topology::FABRIC;
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, Turnpiked, eventually};

const SOON: Duration = Duration::from_secs(120);

#[test]
fn a_silent_router_is_found_out() {
    let net = Topology::new();
    let config = net.config_without_bgp(&format!(
        "[[route]]\nprefix = \"10.88.0.0/16\"\nvia = [{{ gateway = \"{}\" }}]\n",
        FABRIC[0]
    ));
    let gateway = Turnpiked::start(&net.gateway, &config, &net.scratch);
    for (setting, value) in [
        ("base_reachable_time_ms", 1000),
        ("delay_first_probe_time", 1),
        ("retrans_time_ms", 200),
    ] {
        net.gateway.sysctl(&format!("ipv4/neigh/tp-f1/{setting}"), value);
    }
    net.gateway.ip("neighbor flush dev tp-f1"); // what is there already has its timer
    let state = || {
        let neighbors = gateway.show("neighbors");
        let router = rows(&neighbors).iter().find(|row| row["address"] == FABRIC[0]).cloned();
        router.map_or_else(String::new, |row| row["state"].as_str().unwrap_or_default().to_owned())
    };
    let is = |wanted: &str| ensure(state() == wanted, || format!("{} is `{}`", FABRIC[0], state()));
    eventually(SOON, || is("reachable"));
    net.fabric[0].ip("link set gw arp off");
    // `failed`, or not even in the kernel's table any more.
    eventually(SOON, || {
        let told = gateway.explain_route("default", "10.88.0.1")?;
        let stopped = told["stopped_at"] == "neighbour" || told["verdict"] != "forwarded";
        ensure(stopped && state() != "reachable" && state() != "stale", || {
            format!("{} {told:#}", state())
        })
    });
    net.fabric[0].ip("link set gw arp on");
    eventually(SOON, || {
        let told = gateway.explain_route("default", "10.88.0.1")?;
        ensure(told["verdict"] == "forwarded", || format!("{told:#}"))
    });
}
