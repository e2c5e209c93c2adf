//! Host interfaces: what the kernel gets, and what it sends.

use std::net::Ipv4Addr;

use dataplane::Event;
use net::{Drop, Mac};

use crate::frames::{Frame, Layer4, SYN, arp, assert_frames, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    BLUE_IF, BLUE_MAC, FABRIC, FABRIC_MAC, HOST_MAC, OTHER_VTEP, OTHER_VTEP_MAC, OUR_VTEP, PEER_MAC, RED_MAC,
    TENANT_MAC, UPLINK, UPLINK_MAC, VLAN, VTEP, VTEP_MAC, from_blue, from_host, from_red, tunnel_in, tunnel_out,
};
use crate::process::ip;
use crate::tap::Tap;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TENANT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const BROADCAST: Mac = Mac([0xff; 6]);

/// The two tunnels that a flooded frame leaves by.
fn flooded(outer_port: u16, inner: &[u8]) -> Vec<Vec<u8>> {
    [(VTEP, VTEP_MAC), (OTHER_VTEP, OTHER_VTEP_MAC)]
        .map(|(destination, destination_mac)| {
            let mut tunnel = tunnel_out(outer_port);
            (tunnel.destination, tunnel.destination_mac) = (destination, destination_mac);
            tunnel.around(inner)
        })
        .to_vec()
}

fn learned(gateway: &Gateway) -> usize {
    gateway.count_events(|event| matches!(event, Event::FdbLearned { .. }))
}

isolated! {
    fn what_is_for_the_host_reaches_its_tap_whole_and_untagged() {
        let gateway = Gateway::start();
        let taps = ["fabric", "uplink", "red", "blue"].map(Tap::open);
        let (host, host_v6) = ((HOST_MAC, UPLINK_MAC), "2001:db8:3::2");
        let bgp = Layer4::Tcp(4000, 179, SYN);
        let to_us = [
            Frame::new(host, "198.51.100.2", "198.51.100.1", bgp.clone()),
            Frame::new(host, "198.51.100.2", "192.0.2.1", bgp.clone()),
            Frame::new(host, "198.51.100.2", "198.51.100.1", Layer4::EchoRequest(7)).with(|f| f.ttl = 1),
            Frame::new(host, host_v6, "2001:db8:3::1", bgp.clone()),
            Frame::new(host, host_v6, "2001:db8:2::1", Layer4::EchoRequest(7)).with(|f| f.ttl = 1),
            Frame::new(host, "fe80::2", "fe80::1", bgp),
            Frame::new(host, "fe80::2", "ff02::1:ff00:1", Layer4::Icmp(135, 0, [0; 4])),
            Frame::new(host, "198.51.100.2", "224.0.0.5", Layer4::Raw(89)),
            Frame::new((HOST_MAC, BROADCAST), "0.0.0.0", "255.255.255.255", Layer4::Udp(68, 67)),
            Frame::new(host, "198.51.100.2", "255.255.255.255", Layer4::Udp(67, 68)),
            Frame::new((HOST_MAC, Mac([0x33, 0x33, 0, 0, 0, 1])), "::", "ff02::1", Layer4::Icmp(135, 0, [0; 4])),
        ];
        for frame in to_us {
            let what = format!("{} to {}", frame.source, frame.destination);
            let outcome = gateway.exchange(UPLINK, [frame.bytes()]);
            outcome.is_silent(&[], &what);
            assert_eq!(outcome.punted, 1, "{what}");
            assert_frames(&[taps[1].receive()], &[frame.bytes()], &what);
        }
        // A priority tag is a tag of no VLAN, and is taken off as well.
        let untagged = arp(false, (HOST_MAC, Ipv4Addr::new(198, 51, 100, 2)), (Mac::default(), OUR_VTEP), None);
        let mut tagged = untagged.clone();
        tagged.splice(12..12, [0x81, 0x00, 0xe0, 0x00]);
        gateway.exchange(UPLINK, [tagged]);
        assert_frames(&[taps[1].receive()], &[untagged], "priority tag");
        // Tenants: the tag, and the tunnel, are gone.
        let sent = from_red(Layer4::Udp(1, 2)).with(|f| f.destination = GATEWAY.into());
        gateway.exchange(UPLINK, [sent.bytes()]);
        assert_frames(&[taps[2].receive()], &[sent.with(|f| f.vlan = None).bytes()], "red");
        let sent = from_blue(Layer4::Udp(1, 2)).with(|f| f.destination = GATEWAY.into());
        gateway.exchange(FABRIC, [tunnel_in().around(&sent.bytes())]);
        assert_frames(&[taps[3].receive()], &[sent.bytes()], "blue");
        assert!(taps.iter().all(Tap::is_quiet), "nothing at any other tap");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn the_kernel_answers_arp_on_every_kind_of_interface() {
        let gateway = Gateway::start();
        for tap in ["uplink 198.51.100.1", "red 10.0.0.1", "blue 10.0.0.1"] {
            let (name, address) = tap.split_once(' ').expect("two words");
            ip(&format!("address add {address}/24 dev {name}"));
        }
        // What the kernel sends by itself when it gets an address has left by now.
        let carried = |wire: usize, frame: Vec<u8>, wanted: &dyn Fn(&[u8]) -> bool| {
            gateway.wires[wire].send(0, [frame]);
            let mut found = None;
            gateway.wait("the kernel's answer", || {
                found = gateway.wires[wire].take().into_iter().map(|(_, f)| f).find(|f| wanted(f));
                found.is_some()
            });
            found.expect("found")
        };
        let from = (HOST_MAC, Ipv4Addr::new(198, 51, 100, 2));
        let us = Ipv4Addr::new(198, 51, 100, 1);
        let expected = arp(true, (UPLINK_MAC, us), from, None);
        carried(UPLINK, arp(false, from, (Mac::default(), us), None), &|f| f == expected);
        // Both tenants have the same address, and so have we in both VPCs.
        let from = (TENANT_MAC, TENANT);
        let expected = arp(true, (RED_MAC, GATEWAY), from, Some(VLAN));
        carried(UPLINK, arp(false, from, (Mac::default(), GATEWAY), Some(VLAN)), &|f| f == expected);
        let question = arp(false, from, (Mac::default(), GATEWAY), None);
        let answer = arp(true, (BLUE_MAC, GATEWAY), from, None);
        let wanted = |f: &[u8]| f.len() >= 50 && f[50..] == answer;
        let out = carried(FABRIC, tunnel_in().around(&question), &wanted);
        let expected = tunnel_out(source_port(&out)).around(&answer);
        assert_frames(&[out], &[expected], "to the learned endpoint alone");
        for name in ["red", "blue"] {
            let known = ip(&format!("neighbor show dev {name}"));
            assert!(known.contains("10.0.0.5") && known.contains("02:00:00:00:01:05"), "{name}: {known}");
        }
        let learned = gateway.event("the endpoint of the tenant", |event| match event {
            Event::FdbLearned { interface, mac, vtep } => Some((*interface, *mac, *vtep)),
            _ => None,
        });
        assert_eq!(learned, (BLUE_IF, TENANT_MAC, VTEP.into()));
        gateway.settle();
        gateway.assert_conservation();
    }
}

isolated! {
    fn the_kernels_frames_leave_by_their_interface() {
        let gateway = Gateway::start();
        let injected = |tap: &str, frame: &[u8], count: u64| {
            let tap = Tap::open(tap);
            let before = gateway.dataplane.counters()[0].injected.get();
            gateway.observe(|| {
                tap.send(frame);
                gateway.wait("the worker to take it", || {
                    gateway.dataplane.counters()[0].injected.get() == before + count
                });
            })
        };
        // Frames that are the kernel's own business: nothing in them is looked at or changed.
        let us = Ipv4Addr::new(192, 0, 2, 1);
        let frame = arp(false, (FABRIC_MAC, us), (Mac::default(), Ipv4Addr::new(192, 0, 2, 2)), None);
        injected("fabric", &frame, 1).is_only(FABRIC, &frame, "port");
        let frame = from_host(Layer4::Udp(1, 2)).reply().with(|f| f.ttl = 1).bytes();
        injected("uplink", &frame, 1).is_only(UPLINK, &frame, "port");
        let frame = from_red(Layer4::Udp(1, 2)).reply().with(|f| f.vlan = None);
        let expected = frame.clone().with(|f| f.vlan = Some(VLAN));
        injected("red", &frame.bytes(), 1).is_only(UPLINK, &expected.bytes(), "VLAN");
        // Into the tunnel: to every endpoint while nobody knows better.
        let frame = arp(false, (BLUE_MAC, GATEWAY), (Mac::default(), TENANT), None);
        let outcome = injected("blue", &frame, 2);
        let port = source_port(&outcome.sent[FABRIC][0]);
        assert_frames(&outcome.sent[FABRIC], &flooded(port, &frame), "broadcast");
        let unicast = from_blue(Layer4::Udp(1, 2)).reply().bytes();
        let outcome = injected("blue", &unicast, 2);
        assert_frames(&outcome.sent[FABRIC], &flooded(port, &unicast), "unknown MAC");
        // The tenant asks: from now on its frames go to its endpoint, and broadcasts to every one.
        let question = arp(false, (TENANT_MAC, TENANT), (Mac::default(), GATEWAY), None);
        gateway.exchange(FABRIC, [tunnel_in().around(&question)]);
        injected("blue", &unicast, 1).is_only(FABRIC, &tunnel_out(port).around(&unicast), "known MAC");
        let outcome = injected("blue", &frame, 2);
        assert_frames(&outcome.sent[FABRIC], &flooded(port, &frame), "broadcast");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn only_configured_endpoints_are_learned_from() {
        let gateway = Gateway::start();
        let question = arp(false, (TENANT_MAC, TENANT), (Mac::default(), GATEWAY), None);
        let mut stranger = tunnel_in();
        (stranger.source, stranger.source_mac) = (Ipv4Addr::new(192, 0, 2, 2), PEER_MAC);
        gateway.exchange(FABRIC, [stranger.around(&question)]);
        assert_eq!(learned(&gateway), 0);
        // Nor are groups, nor what is not in a tunnel.
        let group = (Mac([1, 0, 0x5e, 0, 0, 1]), TENANT);
        gateway.exchange(FABRIC, [tunnel_in().around(&arp(false, group, (Mac::default(), GATEWAY), None))]);
        gateway.exchange(UPLINK, [arp(false, (TENANT_MAC, TENANT), (Mac::default(), GATEWAY), Some(VLAN))]);
        assert_eq!(learned(&gateway), 0);
        // Once for each place, not for each frame.
        gateway.exchange(FABRIC, (0..10).map(|_| tunnel_in().around(&question)));
        assert_eq!(learned(&gateway), 1);
        let mut moved = tunnel_in();
        (moved.source, moved.source_mac) = (OTHER_VTEP, OTHER_VTEP_MAC);
        gateway.exchange(FABRIC, [moved.around(&question)]);
        assert_eq!(learned(&gateway), 2);
    }
}

isolated! {
    fn a_tunnel_without_a_way_asks_for_its_neighbor() {
        let mut gateway = Gateway::start();
        gateway.neighbor(crate::network::FABRIC_IF, "192.0.2.9", None);
        gateway.neighbor(crate::network::FABRIC_IF, "192.0.2.10", None);
        gateway.publish();
        let frame = arp(false, (BLUE_MAC, GATEWAY), (Mac::default(), TENANT), None);
        let tap = Tap::open("blue");
        let outcome = gateway.observe(|| {
            tap.send(&frame);
            gateway.wait("the worker to take it", || gateway.dataplane.counters()[0].injected.get() == 2);
        });
        outcome.is_silent(&[(Drop::NeighborUnresolved, 2)], "no neighbour");
        let wanted = gateway.event("the question", |event| match event {
            Event::NeighborWanted { interface, address } => Some((*interface, *address)),
            _ => None,
        });
        assert_eq!(wanted, (crate::network::FABRIC_IF, VTEP.into()));
    }
}

isolated! {
    fn an_interface_that_is_down_takes_nothing() {
        let mut gateway = Gateway::start();
        let sent = from_host(Layer4::Udp(1, 2));
        gateway.link(crate::network::UPLINK_IF, false);
        gateway.publish();
        gateway.exchange(UPLINK, [sent.bytes()]).is_silent(&[(Drop::InterfaceDown, 1)], "down");
        gateway.link(crate::network::UPLINK_IF, true);
        gateway.publish();
        gateway.exchange(UPLINK, [sent.bytes()]).is_only(FABRIC, &sent.hop(FABRIC_MAC, PEER_MAC).bytes(), "up");
    }
}

isolated! {
    fn a_flood_for_the_host_is_bounded_and_the_kernel_heard() {
        let gateway = Gateway::start();
        let tap = Tap::open("fabric");
        let frame = arp(false, (FABRIC_MAC, OUR_VTEP), (Mac::default(), VTEP), None);
        let flood = arp(false, (HOST_MAC, Ipv4Addr::new(198, 51, 100, 2)), (Mac::default(), OUR_VTEP), None);
        let outcome = gateway.observe(|| {
            gateway.wires[UPLINK].send(0, (0..50_000).map(|_| flood.clone()));
            for _ in 0..10 {
                tap.send(&frame);
            }
            gateway.wait("the kernel's frames", || gateway.dataplane.counters()[0].injected.get() == 10);
        });
        assert_eq!(outcome.sent[FABRIC].len(), 10);
        let dropped: u64 = outcome.drops.iter().map(|(_, count)| count).sum();
        assert_eq!(outcome.punted + dropped, 50_000);
        assert!(outcome.drops.iter().all(|(reason, _)| *reason == Drop::PuntQueueFull), "{:?}", outcome.drops);
        gateway.assert_no_leak();
    }
}

isolated! {
    fn taps_go_with_the_data_plane() {
        let gateway = Gateway::start();
        // In the middle of work: packets held, punted, on their way.
        let held = from_host(Layer4::Udp(1, 2)).with(|f| f.destination = "192.0.2.77".parse().expect("an address"));
        let punted = arp(false, (HOST_MAC, Ipv4Addr::new(198, 51, 100, 2)), (Mac::default(), OUR_VTEP), None);
        gateway.exchange(UPLINK, [held.bytes()]);
        gateway.wires[UPLINK].send(0, (0..5_000).map(|_| punted.clone()));
        let names = || ip("-brief link show");
        assert!(["fabric", "uplink", "red", "blue"].iter().all(|name| names().contains(name)));
        drop(gateway);
        assert!(["fabric", "uplink", "red", "blue"].iter().all(|name| !names().contains(name)), "{}", names());
    }
}
