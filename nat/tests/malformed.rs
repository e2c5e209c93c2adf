//! Every header malformed in every field: nothing panics, what lies about itself is dropped, and what is dropped makes no
//! connection and takes no port.

mod support;

use nat::{Engine, Millis};
use net::VrfId;
use support::*;

const NOW: Millis = Millis(1000);
const SERVER: (&str, u16) = ("198.51.100.9", 80);

fn nat() -> Engine {
    let rules = policy(
        vec![masquerade(1, &["192.0.2.1"], (1024, 65535))],
        vec![forward(2, TCP, "192.0.2.7", 80, "10.0.0.9", 8080)],
    );
    engine(100_000, rules)
}

fn packets() -> Vec<(u16, Vec<u8>)> {
    vec![
        (1, build(&tcp(("10.0.0.5", 3000), SERVER, SYN), b"12345")),
        (1, build(&udp(("10.0.0.5", 3000), SERVER), b"12345")),
        (1, build(&echo("10.0.0.5", SERVER.0, 7, 8), b"12345")),
        (0, build(&tcp(("203.0.113.8", 4000), ("192.0.2.7", 80), SYN), b"12345")),
    ]
}

/// Sets the checksum of the IP header right, so that what is behind that check is reached.
fn seal(packet: &mut [u8]) {
    if packet.len() >= 20 {
        packet[10..12].fill(0);
        let sum = checksum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[test]
fn every_value_of_every_octet_of_every_header_is_dropped_or_makes_one_connection() {
    for (vrf, good) in packets() {
        for sealed in [false, true] {
            let mut engine = nat();
            for at in 0..good.len().min(40) {
                for value in 0..=255 {
                    let mut bad = good.clone();
                    bad[at] = value;
                    if sealed {
                        seal(&mut bad);
                    }
                    let before = engine.stats();
                    let fate = send(&mut engine, &routes(), vrf, &bad, NOW);
                    let after = engine.stats();
                    let made = after.created - before.created;
                    match fate {
                        Fate::Sent(..) => assert!(made <= 1, "octet {at} is {value}"),
                        _ => assert_eq!((made, after.ports), (0, before.ports), "octet {at} is {value}"),
                    }
                }
            }
        }
    }
}

#[test]
fn every_length_but_the_whole_is_dropped() {
    for (vrf, good) in packets() {
        let mut engine = nat();
        for length in 0..good.len() {
            let fate = send(&mut engine, &routes(), vrf, &good[..length], NOW);
            assert!(matches!(fate, Fate::Dropped(_)), "{length} octets: {fate:?}");
        }
        assert_eq!(engine.stats().created, 0);
    }
}

#[test]
fn every_field_that_lies_about_lengths_is_dropped() {
    let total = |packet: &[u8], difference: i32| {
        let length = i32::from(u16::from_be_bytes([packet[2], packet[3]])) + difference;
        (length as u16).to_be_bytes()
    };
    for (vrf, good) in packets() {
        let mut engine = nat();
        let mut lies: Vec<(&str, Vec<u8>)> = Vec::new();
        let mut lie = |what, at: usize, value: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + value.len()].copy_from_slice(value);
            seal(&mut bad);
            lies.push((what, bad));
        };
        for version in [0, 5, 6, 15] {
            lie("version", 0, &[version << 4 | 5]);
        }
        for words in [0, 4, 15] {
            lie("header length", 0, &[4 << 4 | words]);
        }
        lie("total length of nothing", 2, &[0, 0]);
        lie("total length of less than the header", 2, &[0, 19]);
        lie("total length of the header alone", 2, &[0, 20]);
        lie("total length of more than there is", 2, &total(&good, 1));
        match good[9] {
            TCP => {
                for words in [0, 4, 15] {
                    lie("data offset", 32, &[words << 4]);
                }
            }
            UDP => {
                for length in [0_u16, 7, 14, 2000] {
                    lie("UDP length", 24, &length.to_be_bytes());
                }
            }
            _ => {}
        }
        for (what, bad) in lies {
            let fate = send(&mut engine, &routes(), vrf, &bad, NOW);
            assert!(matches!(fate, Fate::Dropped(_)), "{what}: {fate:?}");
        }
        let stats = engine.stats();
        assert_eq!((stats.created, stats.connections), (0, 0));
    }
}

#[test]
fn every_octet_that_an_icmp_error_quotes_may_be_anything() {
    let mut engine = nat();
    let sent = udp(("10.0.0.5", 3000), SERVER);
    let out = send(&mut engine, &routes(), 1, &build(&sent, b"12345"), NOW).headers();
    let about = build(&out, b"12345");
    let good = icmp_error(ip(SERVER.0), out.source, 3, &about, about.len());
    for at in 20..good.len() {
        for value in 0..=255 {
            let mut bad = good.clone();
            bad[at] = value;
            bad[22..24].fill(0);
            let sum = checksum(&[&bad[20..]]);
            bad[22..24].copy_from_slice(&sum.to_be_bytes());
            engine.icmp_error(VrfId::DEFAULT, &mut bad, 0, &routes(), NOW);
        }
    }
    let stats = engine.stats();
    assert_eq!(
        (stats.connections, stats.created),
        (1, 1),
        "an error makes and ends nothing"
    );
}
