//! Packets that wait for a neighbour.

use std::time::Duration;

use dataplane::Event;
use net::{Drop, InterfaceId, Mac, VrfId};

use crate::frames::{Frame, Layer4, assert_frames, icmp_error, source_port};
use crate::gateway::{Gateway, now};
use crate::isolated;
use crate::network::{
    FABRIC, FABRIC_IF, FABRIC_MAC, POOL, RED, RED_IF, RED_MAC, UPLINK, address, from_host, from_host_v6, from_red, via,
};

const NEW_MAC: Mac = Mac([2, 0, 0, 0, 2, 0x77]);
const NEIGHBOR: &str = "192.0.2.77";
const NEIGHBOR_V6: &str = "2001:db8:2::77";

fn asked(gateway: &Gateway, of: &str, on: InterfaceId) -> usize {
    gateway.count_events(
        |e| matches!(e, Event::NeighborWanted { interface, address: a } if (*interface, *a) == (on, address(of))),
    )
}

fn wait_asked(gateway: &Gateway, of: &str, on: InterfaceId) {
    gateway.wait("the neighbour to be asked for", || asked(gateway, of, on) > 0);
}

fn to(mut frame: Frame, text: &str) -> Frame {
    frame.destination = address(text);
    frame
}

isolated! {
    fn a_packet_waits_until_its_neighbor_is_known() {
        let mut gateway = Gateway::start();
        for (text, frame) in [
            (NEIGHBOR, to(from_host(Layer4::Udp(1, 2)), NEIGHBOR)),
            (NEIGHBOR_V6, to(from_host_v6(Layer4::Udp(1, 2)), NEIGHBOR_V6)),
        ] {
            let frames: Vec<_> = (1..=3).map(|i| frame.clone().with(|f| f.layer4 = Layer4::Udp(i, 2))).collect();
            let outcome = gateway.exchange(UPLINK, frames.iter().map(|f| f.bytes()));
            outcome.is_silent(&[], "held");
            assert_eq!(outcome.held, 3);
            wait_asked(&gateway, text, FABRIC_IF);
            assert_eq!(asked(&gateway, text, FABRIC_IF), 1, "asked once for three packets");
            gateway.neighbor(FABRIC_IF, text, Some(NEW_MAC));
            gateway.publish();
            let outcome = gateway.observe(|| ());
            let expected: Vec<_> = frames.iter().map(|f| f.hop(FABRIC_MAC, NEW_MAC).bytes()).collect();
            assert_frames(&outcome.sent[FABRIC], &expected, "sent in order");
            assert_eq!((outcome.held, outcome.drops), (0, vec![]));
            gateway.exchange(UPLINK, [frame.bytes()]).is_only(FABRIC, &frame.hop(FABRIC_MAC, NEW_MAC).bytes(), "more");
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn the_router_of_a_route_is_waited_for() {
        let mut gateway = Gateway::start();
        gateway.route(VrfId::DEFAULT, "198.18.0.0/24", Some(via(NEIGHBOR)));
        let wanted = gateway.publish().wanted;
        assert_eq!(wanted.iter().map(|(_, a)| *a).collect::<Vec<_>>(), [address(NEIGHBOR)], "asked for beforehand");
        let sent = from_host(Layer4::Udp(1, 2));
        assert_eq!(gateway.exchange(UPLINK, [sent.bytes()]).held, 1);
        wait_asked(&gateway, NEIGHBOR, FABRIC_IF);
        gateway.neighbor(FABRIC_IF, NEIGHBOR, Some(NEW_MAC));
        gateway.publish();
        gateway.observe(|| ()).is_only(FABRIC, &sent.hop(FABRIC_MAC, NEW_MAC).bytes(), "sent");
    }
}

isolated! {
    fn a_translated_packet_waits_translated() {
        let mut gateway = Gateway::start();
        let sent = to(from_red(Layer4::Udp(4000, 2)), NEIGHBOR);
        assert_eq!(gateway.exchange(UPLINK, [sent.bytes()]).held, 1);
        wait_asked(&gateway, NEIGHBOR, FABRIC_IF);
        gateway.neighbor(FABRIC_IF, NEIGHBOR, Some(NEW_MAC));
        gateway.publish();
        let outcome = gateway.observe(|| ());
        let port = source_port(outcome.only(FABRIC));
        let outside = sent.hop(FABRIC_MAC, NEW_MAC).with(|f| {
            f.vlan = None;
            f.source = address(POOL);
            f.layer4 = Layer4::Udp(port, 2);
        });
        outcome.is_only(FABRIC, &outside.bytes(), "translated");
        // The other way: the tenant's router is not known.
        gateway.neighbor(RED_IF, "10.0.0.5", None);
        gateway.publish();
        let back = outside.reply();
        assert_eq!(gateway.exchange(FABRIC, [back.bytes()]).held, 1);
        wait_asked(&gateway, "10.0.0.5", RED_IF);
        gateway.neighbor(RED_IF, "10.0.0.5", Some(NEW_MAC));
        gateway.publish();
        gateway.observe(|| ()).is_only(UPLINK, &sent.reply().hop(RED_MAC, NEW_MAC).bytes(), "back");
    }
}

isolated! {
    fn a_neighbor_that_stays_silent_is_given_up_and_its_senders_told() {
        let gateway = Gateway::start();
        let (v4, v6) = (to(from_host(Layer4::Udp(1, 2)), NEIGHBOR), to(from_host_v6(Layer4::Udp(1, 2)), NEIGHBOR_V6));
        // The sender of a translated packet is in another VRF, and what waits is no longer what it sent.
        let translated = to(from_red(Layer4::Udp(1, 2)), NEIGHBOR);
        let start = now();
        assert_eq!(gateway.exchange(UPLINK, [v4.bytes(), v6.bytes(), translated.bytes()]).held, 3);
        let outcome = gateway.observe(|| {
            gateway.wait("the end of patience", || gateway.dataplane.counters()[0].held.get() == 0);
        });
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(2_900), "{waited:?}");
        assert_eq!((outcome.drops, outcome.generated), (vec![(Drop::NeighborUnresolved, 3)], 2));
        let expected = [
            icmp_error(&v4, "198.51.100.1", 3, 1, [0; 4]).bytes(),
            icmp_error(&v6, "2001:db8:3::1", 1, 3, [0; 4]).bytes(),
        ];
        assert_frames(&outcome.sent[UPLINK], &expected, "host unreachable");
        // What comes later waits anew, and asks anew.
        assert_eq!(gateway.exchange(UPLINK, [v4.bytes()]).held, 1);
        gateway.wait("the second question", || asked(&gateway, NEIGHBOR, FABRIC_IF) == 2);
    }
}

isolated! {
    fn few_packets_wait_for_one_neighbor_and_few_neighbors_are_waited_for() {
        let mut gateway = Gateway::start();
        let frames = (0..20).map(|i| to(from_host(Layer4::Udp(i, 2)), NEIGHBOR).bytes());
        let outcome = gateway.exchange(UPLINK, frames);
        assert_eq!((outcome.held, outcome.drops), (8, vec![(Drop::NeighborQueueFull, 12)]));
        // A scan of a subnet: each address is another neighbour.
        gateway.route(RED, "192.0.2.0/24", None);
        gateway.rib.kernel(net::KernelEvent::Address(net::AddressChange {
            interface: gateway.host(FABRIC_IF),
            address: "172.16.0.1/16".parse().expect("an address"),
            present: true,
        }));
        gateway.publish();
        let frames = (0..1_000).map(|i| to(from_host(Layer4::Udp(i, 2)), &format!("172.16.{}.{}", 1 + i / 200, 1 + i % 200)));
        let outcome = gateway.exchange(UPLINK, frames.map(|f| f.bytes()));
        assert_eq!((outcome.held, outcome.drops), (8 + 255, vec![(Drop::NeighborQueueFull, 745)]));
        // A waiting packet whose route goes is dropped for that, when the workers see it.
        gateway.route(VrfId::DEFAULT, "0.0.0.0/0", None);
        gateway.rib.kernel(net::KernelEvent::Address(net::AddressChange {
            interface: gateway.host(FABRIC_IF),
            address: "172.16.0.1/16".parse().expect("an address"),
            present: false,
        }));
        let outcome = {
            gateway.publish();
            gateway.observe(|| ())
        };
        assert_eq!(outcome.held, 8);
        let no_route = gateway.dataplane.counters()[0].dropped(Drop::NoRoute);
        assert_eq!(no_route, 255);
    }
}

isolated! {
    fn a_waiting_neighbor_is_asked_for_again() {
        let gateway = Gateway::start();
        let frame = to(from_host(Layer4::Udp(1, 2)), NEIGHBOR).bytes();
        gateway.exchange(UPLINK, [frame.clone()]);
        std::thread::sleep(Duration::from_millis(1_100));
        gateway.exchange(UPLINK, [frame.clone(), frame]);
        gateway.wait("the second question", || asked(&gateway, NEIGHBOR, FABRIC_IF) == 2);
    }
}
