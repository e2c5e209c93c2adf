//! RFC 4787: unicast UDP.

use nat::{Filtering, IcmpVerdict, Mapping, PoolOptions};
use net::{Drop, VrfId};

use super::*;

#[test]
fn rfc4787_req_1_endpoint_independent_mapping() {
    let mut engine = nat(open());
    let ends = [(SERVER, 53), (SERVER, 54), (OTHER, 53)];
    let shown = ends.map(|to| {
        let h = shown(&mut engine, &udp(("10.0.0.5", 5000), to));
        (h.source, h.source_port)
    });
    assert_eq!(shown, [shown[0]; 3]);
}

#[test]
fn rfc4787_req_2_paired_pooling() {
    let options = PoolOptions {
        strict_pairing: true,
        ..open()
    };
    let mut engine = engine(
        1000,
        pool(&["192.0.2.1", "192.0.2.2", "192.0.2.3"], (1024, 2047), options),
    );
    let first = shown(&mut engine, &udp(("10.0.0.5", 5000), (SERVER, 53))).source;
    for port in 5001..5200 {
        assert_eq!(shown(&mut engine, &udp(("10.0.0.5", port), (SERVER, 53))).source, first);
    }
}

#[test]
fn rfc4787_req_3_no_port_overloading() {
    for options in [open(), PoolOptions::default()] {
        let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 1123), options));
        let mut ports: Vec<_> = (0..100)
            .map(|n| {
                shown(
                    &mut engine,
                    &udp((["10.0.0.5", "10.0.0.6"][n % 2], 5000 + n as u16), (SERVER, 53)),
                )
                .source_port
            })
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
        let more = out(&mut engine, &udp(("10.0.0.7", 1), (OTHER, 53)), NOW);
        assert_eq!(more, Fate::Dropped(Drop::NatPortsExhausted));
    }
}

#[test]
fn rfc4787_req_4_port_parity() {
    let options = PoolOptions { parity: true, ..open() };
    let mut engine = engine(1000, pool(&["192.0.2.1"], (2000, 2999), options));
    for port in 5000..5100 {
        assert_eq!(
            shown(&mut engine, &udp(("10.0.0.5", port), (SERVER, 53))).source_port % 2,
            port % 2
        );
    }
}

#[test]
fn rfc4787_req_5_mapping_timer_of_at_least_two_minutes() {
    let default = nat::Timers::default();
    assert_eq!(default.udp, 300, "recommended");
    let mut engine = nat(open());
    let h = udp(("10.0.0.5", 5000), (SERVER, 53));
    shown(&mut engine, &h);
    engine.expire(seconds(299), 100, &mut |_, _| {});
    assert_eq!(engine.stats().mappings, 1);
    engine.expire(seconds(301), 100, &mut |_, _| {});
    assert_eq!(engine.stats().mappings, 0);
}

#[test]
fn rfc4787_req_6_outbound_packets_refresh_the_mapping() {
    let mut engine = nat(open());
    let h = udp(("10.0.0.5", 5000), (SERVER, 53));
    for n in 0..5 {
        assert!(matches!(out(&mut engine, &h, seconds(n * 250)), Fate::Sent(..)));
        engine.expire(seconds(n * 250 + 249), 100, &mut |_, _| {});
        assert_eq!(engine.stats().mappings, 1);
    }
}

#[test]
fn rfc4787_req_8_filtering_by_choice() {
    let known = |stranger: &Headers| Headers {
        source: ip(SERVER),
        ..*stranger
    };
    let choices = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    for filtering in choices {
        let mut engine = nat(PoolOptions { filtering, ..open() });
        let shown = shown(&mut engine, &udp(("10.0.0.5", 5000), (SERVER, 53)));
        let stranger = udp((OTHER, 99), ("192.0.2.1", shown.source_port));
        let fate = back(&mut engine, &stranger, NOW);
        match filtering {
            Filtering::EndpointIndependent => assert_eq!(fate.headers().destination, ip("10.0.0.5")),
            Filtering::AddressDependent | Filtering::AddressAndPortDependent => {
                assert_eq!(fate, Fate::Dropped(Drop::NatNoMapping));
            }
        }
        // From another port of who was sent to.
        let let_in = matches!(back(&mut engine, &known(&stranger), NOW), Fate::Sent(..));
        assert_eq!(let_in, filtering != Filtering::AddressAndPortDependent);
        assert!(matches!(back(&mut engine, &answer(&shown, 0), NOW), Fate::Sent(..)));
    }
}

#[test]
fn rfc4787_req_9_hairpinning_with_the_external_source() {
    let mut engine = nat(open());
    let ends = ["10.0.0.5", "10.0.0.6"].map(|host| shown(&mut engine, &udp((host, 5000), (SERVER, 53))));
    let h = udp(("10.0.0.5", 5000), ("192.0.2.1", ends[1].source_port));
    let arrived = out(&mut engine, &h, NOW).headers();
    assert_eq!(arrived.destination, ip("10.0.0.6"));
    assert_eq!(
        (arrived.source, arrived.source_port),
        (ends[0].source, ends[0].source_port)
    );
}

#[test]
fn rfc4787_req_10_payloads_are_left_alone() {
    let mut engine = nat(open());
    // What an ALG would rewrite: the host's own address in a SIP message.
    let h = udp(("10.0.0.5", 5060), (SERVER, 5060));
    let text = b"REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5:5060\r\n";
    let Fate::Sent(packet, ..) = deliver(&mut engine, &routes(), 1, &build(&h, text), NOW) else {
        panic!("not sent");
    };
    assert_eq!(&packet[28..], text);
}

#[test]
fn rfc4787_req_11_behaviour_does_not_change() {
    // With the own port taken, and with the pool nearly full: the same mapping and the same filtering.
    let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 1027), open()));
    for host in ["10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.8"] {
        let ends = [(SERVER, 53), (OTHER, 53)].map(|to| shown(&mut engine, &udp((host, 1024), to)).source_port);
        assert_eq!(ends[0], ends[1]);
        let stranger = udp((OTHER, 99), ("192.0.2.1", ends[0]));
        assert_eq!(back(&mut engine, &stranger, NOW).headers().destination, ip(host));
    }
}

#[test]
fn rfc4787_req_12_icmp_ends_no_mapping() {
    let mut engine = nat(PoolOptions {
        mapping: Mapping::EndpointIndependent,
        ..PoolOptions::default()
    });
    let h = udp(("10.0.0.5", 5000), (SERVER, 53));
    let shown = shown(&mut engine, &h);
    let about = build(&shown, b"data");
    // From a router that is not the server, too.
    for (from, kind) in [(OTHER, 3), (SERVER, 3), (OTHER, 11), (OTHER, 12)] {
        let mut error = icmp_error(ip(from), shown.source, kind, &about, about.len());
        let verdict = engine.icmp_error(VrfId(0), &mut error, 0, &routes(), NOW);
        assert!(matches!(verdict, IcmpVerdict::Translated(_)), "{verdict:?}");
        assert_eq!(error[16..20], ip("10.0.0.5").to_be_bytes());
    }
    assert_eq!(
        back(&mut engine, &answer(&shown, 0), NOW).headers().destination,
        ip("10.0.0.5")
    );
}
