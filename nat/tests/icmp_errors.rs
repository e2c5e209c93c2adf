//! ICMP errors about translated packets (RFC 5508 section 4): the result equals the error as it would have been made
//! without NAT, byte for byte, quoted packet and checksums included.

mod support;

use nat::{IcmpVerdict, Millis};
use net::{Drop, NextHopId, VrfId};
use proptest::prelude::*;
use support::*;

const NOW: Millis = Millis(1000);

fn first_packet(protocol: u8, from: (&str, u16), to: (&str, u16)) -> Headers {
    match protocol {
        TCP => tcp(from, to, SYN),
        UDP => udp(from, to),
        _ => echo(from.0, to.0, from.1, 8),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn about_masqueraded_packets(which in 0usize..3, quote in 28usize..80, from_host: bool, payload in proptest::collection::vec(any::<u8>(), 0..40)) {
        // Half a TCP checksum cannot be updated.
        prop_assume!(quote != 37);
        let protocol = [TCP, UDP, ICMP][which];
        let rules = vec![masquerade(1, &["192.0.2.1"], (5000, 5999))];
        let (mut engine, routes) = (engine(10, policy(rules, vec![])), routes());
        let inside = build(&first_packet(protocol, ("10.0.0.5", 77), ("198.51.100.9", 53)), &payload);
        let Fate::Sent(outside, ..) = send(&mut engine, &routes, 1, &inside, NOW) else { panic!("sent") };
        let router = if from_host { ip("198.51.100.9") } else { ip("203.0.113.1") };
        let mut error = icmp_error(router, ip("192.0.2.1"), 3, &outside, quote);
        let verdict = engine.icmp_error(VrfId(0), &mut error, 0, &routes, NOW);
        prop_assert!(matches!(verdict, IcmpVerdict::Translated(way) if way.next_hop == NextHopId(1)), "{verdict:?}");
        prop_assert_eq!(error, icmp_error(router, ip("10.0.0.5"), 3, &inside, quote));

        // The host refuses an answer; the error leaves with the public address, whoever inside made it.
        let reply = answer(&Fate::Sent(outside, 0, false).headers(), 0);
        let reply = build(&reply, &payload);
        let Fate::Sent(reply_inside, ..) = send(&mut engine, &routes, 0, &reply, NOW) else { panic!("sent") };
        let router = if from_host { ip("10.0.0.5") } else { ip("10.0.0.1") };
        let mut error = icmp_error(router, ip("198.51.100.9"), 11, &reply_inside, quote);
        let verdict = engine.icmp_error(VrfId(1), &mut error, 0, &routes, NOW);
        prop_assert!(matches!(verdict, IcmpVerdict::Translated(way) if way.next_hop == NextHopId(100)), "{verdict:?}");
        prop_assert_eq!(error, icmp_error(ip("192.0.2.1"), ip("198.51.100.9"), 11, &reply, quote));
    }

    #[test]
    fn about_forwarded_ports(which in 0usize..2, quote in 28usize..80) {
        // Half a checksum cannot be updated.
        prop_assume!(quote != 37);
        let protocol = [TCP, UDP][which];
        let forwards = vec![forward(2, protocol, "192.0.2.7", 8080, "10.0.0.9", 80)];
        let (mut engine, routes) = (engine(10, policy(vec![], forwards)), routes());
        let outside = build(&first_packet(protocol, ("198.51.100.9", 5555), ("192.0.2.7", 8080)), b"data");
        let Fate::Sent(inside, ..) = send(&mut engine, &routes, 0, &outside, NOW) else { panic!("sent") };
        let mut error = icmp_error(ip("10.0.0.9"), ip("198.51.100.9"), 3, &inside, quote);
        let verdict = engine.icmp_error(VrfId(2), &mut error, 0, &routes, NOW);
        prop_assert!(matches!(verdict, IcmpVerdict::Translated(_)), "{verdict:?}");
        prop_assert_eq!(error, icmp_error(ip("192.0.2.7"), ip("198.51.100.9"), 3, &outside, quote));
    }

    /// Nothing that a sender can write makes the engine panic or touch what is not its own.
    #[test]
    fn garbage_is_never_translated(mut packet in proptest::collection::vec(any::<u8>(), 0..100), valid_header: bool) {
        let rules = vec![masquerade(1, &["192.0.2.1"], (5000, 5999))];
        let (mut engine, routes) = (engine(10, policy(rules, vec![])), routes());
        if valid_header {
            packet = icmp_error(1, ip("192.0.2.1"), 3, &packet, packet.len());
        }
        let before = packet.clone();
        let verdict = engine.icmp_error(VrfId(0), &mut packet, 0, &routes, NOW);
        prop_assert!(!matches!(verdict, IcmpVerdict::Translated(_)));
        prop_assert_eq!(before, packet);
    }
}

#[test]
fn what_is_about_no_connection_is_told_apart() {
    let rules = vec![masquerade(1, &["192.0.2.1"], (5000, 5999))];
    let (mut engine, routes) = (engine(10, policy(rules, vec![])), routes());
    let mut verdict = |vrf, error: &mut Vec<u8>| engine.icmp_error(VrfId(vrf), error, 0, &routes, NOW);
    let strange = build(&udp(("192.0.2.1", 5000), ("198.51.100.9", 53)), b"");
    let to_nat = &mut icmp_error(ip("203.0.113.1"), ip("192.0.2.1"), 3, &strange, 28);
    assert_eq!(verdict(0, to_nat), IcmpVerdict::Drop(Drop::NatNoMapping));
    let transit = build(&udp(("203.0.113.9", 5000), ("198.51.100.9", 53)), b"");
    let in_transit = &mut icmp_error(ip("203.0.113.1"), ip("203.0.113.9"), 3, &transit, 28);
    assert_eq!(verdict(0, in_transit), IcmpVerdict::NotOurs);
    let echo = &mut build(&echo("203.0.113.1", "192.0.2.1", 1, 8), b"");
    assert_eq!(verdict(0, echo), IcmpVerdict::NotOurs, "not an error");
    let local = build(&udp(("10.0.0.7", 1), ("10.0.0.5", 2)), b"");
    let within = &mut icmp_error(ip("10.0.0.5"), ip("10.0.0.7"), 3, &local, 28);
    assert_eq!(verdict(1, within), IcmpVerdict::NotOurs);
    let outward = build(&udp(("198.51.100.9", 1), ("10.0.0.5", 2)), b"");
    let leaving = &mut icmp_error(ip("10.0.0.5"), ip("198.51.100.9"), 3, &outward, 28);
    assert_eq!(
        verdict(1, leaving),
        IcmpVerdict::Drop(Drop::NatNoMapping),
        "would show a private address"
    );
    let cut = &mut icmp_error(ip("203.0.113.1"), ip("192.0.2.1"), 3, &strange, 24);
    assert_eq!(verdict(0, cut), IcmpVerdict::Drop(Drop::IcmpMalformed));
}

#[test]
fn an_error_with_a_wrong_checksum_is_dropped() {
    let rules = vec![masquerade(1, &["192.0.2.1"], (5000, 5999))];
    let (mut engine, routes) = (engine(10, policy(rules, vec![])), routes());
    let inside = build(&udp(("10.0.0.5", 77), ("198.51.100.9", 53)), b"");
    let Fate::Sent(outside, ..) = send(&mut engine, &routes, 1, &inside, NOW) else {
        panic!("sent")
    };
    let mut error = icmp_error(ip("203.0.113.1"), ip("192.0.2.1"), 3, &outside, 28);
    error[23] ^= 1;
    let verdict = engine.icmp_error(VrfId(0), &mut error, 0, &routes, NOW);
    assert_eq!(verdict, IcmpVerdict::Drop(Drop::IcmpMalformed));
}

#[test]
fn another_worker_s_error_is_handed_over() {
    let policy = policy(vec![masquerade(1, &["192.0.2.1"], (5000, 5999))], vec![]);
    let routes = routes();
    let mut workers: Vec<_> = (0..2).map(|w| worker(10, w, 2, policy.clone())).collect();
    let inside = build(&udp(("10.0.0.5", 77), ("198.51.100.9", 53)), b"");
    let Fate::Sent(outside, ..) = send(&mut workers[1], &routes, 1, &inside, NOW) else {
        panic!("sent")
    };
    let mut error = icmp_error(ip("203.0.113.1"), ip("192.0.2.1"), 3, &outside, 28);
    assert_eq!(
        workers[0].icmp_error(VrfId(0), &mut error, 0, &routes, NOW),
        IcmpVerdict::HandOver(1)
    );
    let verdict = workers[1].icmp_error(VrfId(0), &mut error, 0, &routes, NOW);
    assert!(matches!(verdict, IcmpVerdict::Translated(_)));
}

/// An error made inside a VPC does not name the public port: it goes around until a worker knows the connection, and no
/// further than around.
#[test]
fn an_error_from_inside_finds_its_owner_from_any_worker() {
    const WORKERS: u16 = 3;
    let policy = policy(vec![masquerade(1, &["192.0.2.1"], (5000, 5999))], vec![]);
    let routes = routes();
    let mut workers: Vec<_> = (0..WORKERS).map(|w| worker(10, w, WORKERS, policy.clone())).collect();
    let inside = build(&udp(("10.0.0.5", 77), ("198.51.100.9", 53)), b"");
    let Fate::Sent(outside, ..) = send(&mut workers[1], &routes, 1, &inside, NOW) else {
        panic!("sent")
    };
    let reply = build(&answer(&Fate::Sent(outside, 0, false).headers(), 0), b"");
    let Fate::Sent(refused, ..) = send(&mut workers[1], &routes, 0, &reply, NOW) else {
        panic!("sent")
    };
    let strange = build(&udp(("198.51.100.9", 1), ("10.0.0.5", 2)), b"");
    for first in 0..WORKERS {
        for (quoted, known) in [(&refused, true), (&strange, false)] {
            let mut error = icmp_error(ip("10.0.0.5"), ip("198.51.100.9"), 3, quoted, 28);
            let (mut at, mut asked) = (first, 0);
            let verdict = loop {
                match workers[usize::from(at)].icmp_error(VrfId(1), &mut error, asked, &routes, NOW) {
                    IcmpVerdict::HandOver(next) => (at, asked) = (next, asked + 1),
                    verdict => break verdict,
                }
            };
            if known {
                assert!(matches!(verdict, IcmpVerdict::Translated(_)), "{verdict:?}");
                assert_eq!(error, icmp_error(ip("192.0.2.1"), ip("198.51.100.9"), 3, &reply, 28));
            } else {
                assert_eq!((verdict, asked), (IcmpVerdict::Drop(Drop::NatNoMapping), WORKERS - 1));
            }
        }
    }
}
