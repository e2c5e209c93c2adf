//! More packets than the workers can take, and generations in the middle of them.

use std::collections::HashMap;

use net::{Mac, VrfId};
use softasic::generator;

use crate::frames::{Frame, Layer4};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{FABRIC_IF, FABRIC_MAC, PEER_MAC, RED, from_blue, from_host, from_red, tunnel_in, via};

const FABRIC: &str = "net_generator0";
const UPLINK: &str = "net_generator1";
const OTHER_ROUTER: &str = "192.0.2.3";
const OTHER_MAC: Mac = Mac([2, 0, 0, 0, 2, 3]);
const FLOWS: u16 = 200;

/// The port that a flow was given, by the server port that tells flows apart; demands that it never changes.
fn follow_ports(known: &mut HashMap<u16, u16>, sent: &[u8]) {
    if sent[26..30] != [203, 0, 113, 1] {
        return;
    }
    let port = |at: usize| u16::from_be_bytes([sent[at], sent[at + 1]]);
    let (public, server) = (port(34), port(36));
    assert_eq!(
        *known.entry(server).or_insert(public),
        public,
        "the public port of the flow to {server}"
    );
}

isolated! {
    fn a_generation_holds_for_every_packet_once_the_workers_have_seen_it() {
        softasic::register_generator().expect("registered");
        for device in [FABRIC, UPLINK] {
            generator::pause(device, true);
        }
        let mut gateway = Gateway::between_devices(2, [FABRIC.to_owned(), UPLINK.to_owned()]);
        gateway.neighbor(FABRIC_IF, OTHER_ROUTER, Some(OTHER_MAC));
        gateway.publish();
        let tenants = (0..FLOWS).map(|i| from_red(Layer4::Udp(4000, 1000 + i)).bytes());
        let hosts = (0..FLOWS).map(|i| from_host(Layer4::Udp(4000, 1000 + i)).bytes());
        generator::load(UPLINK, &tenants.chain(hosts).collect::<Vec<_>>());
        let others = (0..FLOWS).map(|i| tunnel_in().around(&from_blue(Layer4::Udp(4000, 5000 + i)).bytes()));
        let strays = (0..20).map(|i| {
            Frame::new((PEER_MAC, FABRIC_MAC), "198.18.0.9", "203.0.113.1", Layer4::Udp(9, 20_000 + i)).bytes()
        });
        generator::load(FABRIC, &others.chain(strays).collect::<Vec<_>>());
        for device in [FABRIC, UPLINK] {
            generator::pause(device, false);
        }
        let mut ports = HashMap::new();
        for round in 0..60 {
            let (router, mac) = [("192.0.2.2", PEER_MAC), (OTHER_ROUTER, OTHER_MAC)][round % 2];
            gateway.route(VrfId::DEFAULT, "0.0.0.0/0", Some(via(router)));
            // Something else moves as well, so that no two deltas are alike.
            let inside = format!("10.1.{round}.0/24");
            gateway.route(RED, &inside, (round % 3 == 0).then(|| via("10.0.0.5")));
            gateway.publish();
            generator::capture(FABRIC, 600);
            gateway.wait("packets", || generator::samples(FABRIC).len() == 600);
            for sent in generator::samples(FABRIC) {
                assert_eq!(sent[..6], mac.0, "round {round}: a packet by the routes of a generation that is gone");
                assert_eq!(sent[30..34], [198, 18, 0, 9]);
                follow_ports(&mut ports, &sent);
            }
        }
        for device in [FABRIC, UPLINK] {
            generator::pause(device, true);
        }
        gateway.settle();
        gateway.assert_conservation();
        gateway.assert_no_leak();
        assert_eq!(ports.len(), 2 * usize::from(FLOWS), "every flow of both tenants was seen");
        let connections: usize = (0..2).map(|worker| gateway.connections(worker).len()).sum();
        assert_eq!(connections, 2 * usize::from(FLOWS));
        let took = |name| generator::counters(name);
        let (received, transmitted): (u64, u64) = gateway
            .dataplane
            .counters()
            .iter()
            .map(|c| (c.received.get(), c.transmitted.get()))
            .fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
        assert_eq!(received, took(FABRIC).0 + took(UPLINK).0, "what the ports handed out");
        assert_eq!(transmitted, took(FABRIC).1 + took(UPLINK).1, "what the ports took");
    }
}
