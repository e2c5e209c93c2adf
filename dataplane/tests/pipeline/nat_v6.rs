//! IPv6 through NAT: fragments, what does not fit or ends here, two workers, and damage in every octet.

use nat::{ForwardTarget, Masquerade, PolicySpec, PoolOptions, PortForward};
use net::{Drop, NextHop, Route, VpcId, VrfId};

use crate::frames::{Frame, Layer4, SYN, assert_frames, icmp_error, payload};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{FABRIC, FABRIC_MAC, PEER_MAC, RED, RED_MAC, TENANT_MAC, UPLINK, VLAN, address};

const TENANT: &str = "fd00::5";
const SERVER: &str = "2001:db8:f::9";
const POOL: &str = "2001:db8:cc::1";
const FORWARDED: &str = "2001:db8:cc::2";

/// Masquerade and a port forward of VPC 1.
fn start(workers: u32) -> Gateway {
    let mut gateway = Gateway::with_workers(workers);
    let vpc = VpcId::new(1).expect("not zero");
    gateway.set_spec(PolicySpec {
        masquerade: vec![Masquerade {
            vpc,
            sources: vec![],
            pool: vec![address(POOL)],
            ports: (20_000, 60_000),
            options: PoolOptions::default(),
        }],
        port_forwards: vec![PortForward {
            vpc,
            address: address(FORWARDED),
            protocol: 6,
            ports: (80, 80),
            targets: vec![ForwardTarget {
                address: address(TENANT),
                port: 8080,
                weight: 1,
            }],
            affinity: false,
        }],
        ..PolicySpec::default()
    });
    gateway.route(RED, "::/0", Some(Route::unicast(NextHop::in_vrf(VrfId::DEFAULT))));
    gateway.publish();
    gateway.settle();
    gateway
}

fn from_red(layer4: Layer4) -> Frame {
    Frame::new((TENANT_MAC, RED_MAC), TENANT, SERVER, layer4).with(|frame| frame.vlan = Some(VLAN))
}

/// The packet as the peer gets it.
fn masqueraded(sent: &Frame, port: u16) -> Frame {
    sent.hop(FABRIC_MAC, PEER_MAC).with(|f| {
        f.vlan = None;
        f.source = address(POOL);
        f.layer4 = match f.layer4 {
            Layer4::Udp(_, to) => Layer4::Udp(port, to),
            Layer4::Tcp(_, to, flags) => Layer4::Tcp(port, to, flags),
            Layer4::EchoRequest(_) => Layer4::EchoRequest(port),
            ref other => other.clone(),
        };
    })
}

/// Source port of an untagged IPv6 frame.
fn port_of(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[54], frame[55]])
}

/// The fragments of a datagram, cut at these offsets of its payload, with the header of RFC 8200 section 4.5.
fn cut(whole: &Frame, identification: u32, at: &[usize]) -> Vec<Vec<u8>> {
    let (segment, next) = (whole.packet()[40..].to_vec(), whole.packet()[6]);
    let ends = at.iter().copied().chain([segment.len()]);
    let starts = [0].into_iter().chain(at.iter().copied());
    let piece = |(start, end): (usize, usize)| {
        let field = start as u16 | u16::from(end != segment.len());
        let mut body = vec![next, 0];
        body.extend(field.to_be_bytes());
        body.extend(identification.to_be_bytes());
        body.extend(&segment[start..end]);
        let raw = |f: &mut Frame| (f.layer4, f.payload) = (Layer4::Raw(44), body);
        whole.clone().with(raw).bytes()
    };
    starts.zip(ends).map(piece).collect()
}

isolated! {
    fn fragments_follow_their_first_one_in_any_order_and_overlaps_go_nowhere() {
        let gateway = start(1);
        let probe = gateway.exchange(UPLINK, [from_red(Layer4::Udp(4000, 53)).bytes()]);
        let port = port_of(probe.only(FABRIC));
        let sent = from_red(Layer4::Udp(4000, 53)).with(|f| f.payload = payload(2500));
        for (n, order) in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]].into_iter().enumerate() {
            let (id, at) = (70_000 + n as u32, [800, 1600]);
            let (pieces, expected) = (cut(&sent, id, &at), cut(&masqueraded(&sent, port), id, &at));
            let first = order.iter().position(|piece| *piece == 0).unwrap_or(0);
            let leaves = std::iter::once(0).chain(order[..first].iter().copied()).chain(order[first + 1..].iter().copied());
            let leaves: Vec<_> = leaves.map(|piece| expected[piece].clone()).collect();
            let outcome = gateway.exchange(UPLINK, order.map(|piece| pieces[piece].clone()));
            assert_frames(&outcome.sent[FABRIC], &leaves, &format!("{order:?}"));
            assert_eq!((outcome.drops, outcome.held), (vec![], 0));
        }
        let pieces = cut(&sent, 9, &[800]);
        let overlapping = cut(&sent, 9, &[792]);
        let outcome = gateway.exchange(UPLINK, [pieces[0].clone(), overlapping[1].clone(), pieces[1].clone()]);
        assert_eq!(outcome.sent[FABRIC].len(), 1);
        assert_eq!(outcome.drops, [(Drop::NatFragment, 2)], "RFC 5722: none of it goes on");
        assert_eq!(gateway.connections(0).len(), 1);
        gateway.assert_no_leak();
    }
}

isolated! {
    fn what_is_too_big_or_ends_here_is_told_to_its_sender_before_translation() {
        let gateway = start(1);
        let sent = from_red(Layer4::Udp(4000, 53)).with(|f| f.ttl = 1);
        let error = icmp_error(&sent, "fd00::1", 3, 0, [0; 4]);
        let told = gateway.exchange(UPLINK, [sent.bytes()]);
        told.is_answered(UPLINK, &error.bytes(), &[(Drop::TtlExpired, 1)], "hop limit");

        // From the fabric to the tenant, whose network takes 1,400.
        let probe = gateway.exchange(UPLINK, [from_red(Layer4::Udp(4000, 53)).bytes()]);
        let port = port_of(probe.only(FABRIC));
        let big = Frame::new((PEER_MAC, FABRIC_MAC), SERVER, POOL, Layer4::Udp(53, port)).with(|f| f.payload = payload(1400));
        let error = icmp_error(&big, "2001:db8:2::1", 2, 0, [0, 0, 0x05, 0x78]);
        let told = gateway.exchange(FABRIC, [big.bytes()]);
        told.is_answered(FABRIC, &error.bytes(), &[(Drop::PacketTooBig, 1)], "too big");

        // What a router beyond the peer says about a translated packet reaches the tenant as about its own.
        let sent = from_red(Layer4::Udp(4000, 53)).with(|f| f.payload = payload(1300));
        let router = "2001:db8:9::1";
        let about = |quoted: &Frame, to: &str| {
            Frame::new((PEER_MAC, FABRIC_MAC), router, to, Layer4::Icmp(2, 0, [0, 0, 5, 0])).with(|f| {
                let packet = quoted.packet();
                f.payload = packet[..packet.len().min(1232)].to_vec();
            })
        };
        // Quoted as the router got it, two hops on.
        let outside = masqueraded(&sent, port).with(|f| f.ttl -= 1);
        let inside = sent.clone().with(|f| f.ttl -= 2);
        let arrived = about(&inside, TENANT).hop(RED_MAC, TENANT_MAC).with(|f| f.vlan = Some(VLAN));
        let outcome = gateway.exchange(FABRIC, [about(&outside, POOL).bytes()]);
        outcome.is_only(UPLINK, &arrived.bytes(), "packet too big");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn replies_reach_the_worker_that_owns_their_connection() {
        let gateway = start(2);
        for kind in [Layer4::Udp(4000, 53), Layer4::Tcp(4000, 80, SYN), Layer4::EchoRequest(4000)] {
            for owner in 0..2 {
                let sent = from_red(kind.clone()).with(|f| f.destination = address(["2001:db8:f::9", "2001:db8:f::a"][owner]));
                let out = gateway.exchange_on(UPLINK, owner, [sent.bytes()]);
                let frame = out.only(FABRIC);
                let port = match kind {
                    Layer4::EchoRequest(_) => u16::from_be_bytes([frame[58], frame[59]]),
                    _ => port_of(frame),
                };
                out.is_only(FABRIC, &masqueraded(&sent, port).bytes(), "there");
                assert_eq!(usize::from(port) % 2, owner, "a port of its own");
                let answer = masqueraded(&sent, port).reply();
                let expected = sent.reply().hop(RED_MAC, TENANT_MAC).bytes();
                for queue in [owner, 1 - owner] {
                    gateway.exchange_on(FABRIC, queue, [answer.bytes()]).is_only(UPLINK, &expected, "back");
                }
            }
        }
        let counters = gateway.dataplane.counters();
        assert_eq!([0, 1].map(|worker: usize| counters[worker].taken_over.get()), [3, 3]);
        gateway.assert_conservation();
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_hairpin_turns_once() {
        let gateway = start(1);
        let sent = from_red(Layer4::Tcp(4000, 80, SYN)).with(|f| f.destination = address(FORWARDED));
        let outcome = gateway.exchange(UPLINK, [sent.bytes()]);
        let port = port_of(&outcome.only(UPLINK)[4..]);
        let arrived = sent.hop(RED_MAC, TENANT_MAC).with(|f| {
            (f.source, f.destination) = (address(POOL), address(TENANT));
            f.layer4 = Layer4::Tcp(port, 8080, SYN);
        });
        outcome.is_only(UPLINK, &arrived.bytes(), "there");
        let back = gateway.exchange(UPLINK, [arrived.reply().bytes()]);
        back.is_only(UPLINK, &sent.reply().hop(RED_MAC, TENANT_MAC).bytes(), "back");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn damage_in_any_octet_is_forwarded_or_counted_and_never_harms() {
        let gateway = start(1);
        let probe = gateway.exchange(UPLINK, [from_red(Layer4::Udp(4000, 53)).bytes()]);
        let port = port_of(probe.only(FABRIC));
        let sent = from_red(Layer4::Udp(4000, 53));
        let quoted = masqueraded(&sent, port);
        let error = Frame::new((PEER_MAC, FABRIC_MAC), "2001:db8:9::1", POOL, Layer4::Icmp(1, 4, [0; 4]));
        let all = [
            (UPLINK, sent.bytes(), 18),
            (UPLINK, from_red(Layer4::Tcp(4000, 80, SYN)).bytes(), 18),
            (UPLINK, from_red(Layer4::EchoRequest(7)).bytes(), 18),
            (UPLINK, cut(&sent.clone().with(|f| f.payload = payload(100)), 5, &[64])[0].clone(), 18),
            (UPLINK, cut(&sent.clone().with(|f| f.payload = payload(100)), 6, &[64])[1].clone(), 18),
            (FABRIC, quoted.reply().bytes(), 14),
            (FABRIC, error.with(|f| f.payload = quoted.packet()).bytes(), 14),
        ];
        for (wire, frame, start) in all {
            for at in start..frame.len() {
                for value in [0, 1, 0x3a, 0x80, 0xff, frame[at] ^ 1] {
                    let mut damaged = frame.clone();
                    damaged[at] = value;
                    gateway.wires[wire].send(0, [damaged]);
                }
                gateway.settle();
            }
        }
        gateway.assert_conservation();
        let again = gateway.exchange(UPLINK, [sent.bytes()]);
        assert!(again.sent[FABRIC].contains(&masqueraded(&sent, port).bytes()), "afterwards");
    }
}
