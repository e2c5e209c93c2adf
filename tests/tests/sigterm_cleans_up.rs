//! SIGTERM and SIGINT end the gateway in order: no tap, route or socket of it is left, and its peers are told.

use nix::sys::signal::Signal;
use turnpike_tests::topology::GATEWAY;
use turnpike_tests::turnpiked::count;
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, Turnpiked, eventually};

#[test]
fn nothing_is_left_after_either_signal() {
    let net = Topology::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut gateway = net.converged();
        let notified = notifications(&net);
        assert!(
            net.gateway.interfaces().iter().any(|name| name.starts_with("tp-")),
            "taps are there while it runs"
        );
        gateway.process().signal(signal);
        let status = gateway
            .process()
            .wait(SOON)
            .unwrap_or_else(|| panic!("runs on after {signal}"));
        assert!(status.success(), "{signal}: {status}\n{}", gateway.process().log_tail());

        let interfaces = net.gateway.interfaces();
        assert!(
            !interfaces.iter().any(|name| name.starts_with("tp-")),
            "{signal}: taps are left: {interfaces:?}"
        );
        for family in ["-4", "-6"] {
            let routes = net.gateway.ip(&format!("{family} route show table all proto 212"));
            assert_eq!(routes, "", "{signal}: routes are left");
        }
        assert!(
            !Turnpiked::socket(&net.scratch).exists(),
            "{signal}: the socket is left"
        );
        // RFC 4271 section 8: an orderly end is a Cease NOTIFICATION.
        eventually(SOON, || {
            let (was, is) = (notified, notifications(&net));
            ensure(is > was, || {
                format!("{signal}: fabric1 has received {is} NOTIFICATIONs, {was} before")
            })
        });
    }
}

/// NOTIFICATIONs that fabric1 has received from the gateway.
fn notifications(net: &Topology) -> u64 {
    count(&net.fabric_frr[0].show("bgp neighbors")[GATEWAY[0]]["messageStats"]["notificationsRecv"])
}
