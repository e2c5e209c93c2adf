//! RFC 5382: TCP.

use nat::{Filtering, IcmpVerdict, PoolOptions};
use net::{Drop, VrfId};

use super::*;

#[test]
fn rfc5382_req_1_endpoint_independent_mapping() {
    let mut engine = nat(open());
    let ports = [(SERVER, 80), (SERVER, 81), (OTHER, 80)]
        .map(|to| shown(&mut engine, &tcp(("10.0.0.5", 5000), to, SYN)).source_port);
    assert_eq!(ports, [ports[0]; 3]);
}

#[test]
fn rfc5382_req_2_handshakes_from_inside_also_simultaneous_ones() {
    for simultaneous in [false, true] {
        let mut engine = nat(PoolOptions::default());
        let h = tcp(("10.0.0.5", 5000), (SERVER, 80), SYN);
        let shown = shown(&mut engine, &h);
        let replies: &[u8] = if simultaneous { &[SYN, SYN | ACK] } else { &[SYN | ACK] };
        for flags in replies {
            let got = back(&mut engine, &answer(&shown, *flags), NOW).headers();
            assert_eq!((got.destination, got.flags), (ip("10.0.0.5"), *flags));
        }
        for flags in [SYN | ACK, ACK, FIN | ACK] {
            assert!(matches!(out(&mut engine, &Headers { flags, ..h }, NOW), Fate::Sent(..)));
        }
        for flags in [ACK, FIN | ACK] {
            assert!(matches!(back(&mut engine, &answer(&shown, flags), NOW), Fate::Sent(..)));
        }
    }
}

#[test]
fn rfc5382_req_3_filtering_by_choice() {
    let choices = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    for filtering in choices {
        let mut engine = nat(PoolOptions { filtering, ..open() });
        let shown = shown(&mut engine, &tcp(("10.0.0.5", 5000), (SERVER, 80), SYN));
        let stranger = tcp((OTHER, 99), ("192.0.2.1", shown.source_port), SYN);
        let let_in = matches!(back(&mut engine, &stranger, NOW), Fate::Sent(..));
        assert_eq!(let_in, filtering == Filtering::EndpointIndependent);
        let known = tcp((SERVER, 99), ("192.0.2.1", shown.source_port), SYN);
        let let_in = matches!(back(&mut engine, &known, NOW), Fate::Sent(..));
        assert_eq!(let_in, filtering != Filtering::AddressAndPortDependent);
    }
}

#[test]
fn rfc5382_req_4_unsolicited_syns_get_no_answer() {
    let mut engine = nat(PoolOptions::default());
    let syn = tcp((SERVER, 80), ("192.0.2.1", 5000), SYN);
    assert_eq!(back(&mut engine, &syn, NOW), Fate::Dropped(Drop::NatNoMapping));
    // The host's own SYN within the six seconds: the peer's next one passes.
    let h = tcp(("10.0.0.5", 5000), (SERVER, 80), SYN);
    let shown = out(&mut engine, &h, seconds(5)).headers();
    assert_eq!(shown.source_port, 5000);
    assert!(matches!(back(&mut engine, &syn, seconds(6)), Fate::Sent(..)));
}

#[test]
fn rfc5382_req_5_idle_times() {
    let timers = nat::Timers::default();
    assert!(timers.tcp_established >= 2 * 3600 + 4 * 60 && timers.tcp_transitory >= 4 * 60);
    let mut engine = nat(PoolOptions::default());
    let (idle, half_open) = (
        tcp(("10.0.0.5", 5000), (SERVER, 80), SYN),
        tcp(("10.0.0.5", 5001), (SERVER, 80), SYN),
    );
    let shown = shown(&mut engine, &idle);
    back(&mut engine, &answer(&shown, SYN | ACK), NOW);
    out(&mut engine, &Headers { flags: ACK, ..idle }, NOW);
    out(&mut engine, &half_open, NOW);
    engine.expire(seconds(239), 100, &mut |_, _| {});
    assert_eq!(engine.stats().connections, 2);
    engine.expire(seconds(7439), 100, &mut |_, _| {});
    assert_eq!((engine.stats().connections, engine.stats().tcp.established), (1, 1));
    engine.expire(seconds(7442), 100, &mut |_, _| {});
    assert_eq!(engine.stats().connections, 0);
}

#[test]
fn rfc5382_req_6_payloads_are_left_alone() {
    let mut engine = nat(PoolOptions::default());
    let h = tcp(("10.0.0.5", 5000), (SERVER, 21), SYN);
    let text = b"PORT 10,0,0,5,19,137\r\n";
    let Fate::Sent(packet, ..) = deliver(&mut engine, &routes(), 1, &build(&h, text), NOW) else {
        panic!("not sent");
    };
    assert_eq!(&packet[40..], text);
}

#[test]
fn rfc5382_req_7_no_port_overloading() {
    let mut engine = engine(1000, pool(&["192.0.2.1"], (1024, 1033), PoolOptions::default()));
    let mut ports: Vec<_> = (0..10)
        .map(|n| shown(&mut engine, &tcp(("10.0.0.5", 5000 + n), (SERVER, 80 + n), SYN)).source_port)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (1024..1034).collect::<Vec<_>>());
    let more = out(&mut engine, &tcp(("10.0.0.5", 1), (OTHER, 80), SYN), NOW);
    assert_eq!(more, Fate::Dropped(Drop::NatPortsExhausted));
}

#[test]
fn rfc5382_req_8_hairpinning() {
    let mut engine = nat(open());
    let ends = ["10.0.0.5", "10.0.0.6"].map(|host| shown(&mut engine, &tcp((host, 5000), (SERVER, 80), SYN)));
    let h = tcp(("10.0.0.5", 5000), ("192.0.2.1", ends[1].source_port), SYN);
    let arrived = out(&mut engine, &h, NOW).headers();
    assert_eq!(
        (arrived.source, arrived.source_port),
        (ends[0].source, ends[0].source_port)
    );
    assert_eq!(
        out(&mut engine, &answer(&arrived, SYN | ACK), NOW).headers(),
        answer(&h, SYN | ACK)
    );
}

#[test]
fn rfc5382_req_9_and_10_errors_are_translated_and_end_nothing() {
    let mut engine = nat(PoolOptions::default());
    let h = tcp(("10.0.0.5", 5000), (SERVER, 80), SYN);
    let shown = shown(&mut engine, &h);
    let (about, sent) = (build(&shown, b"data"), build(&h, b"data"));
    for code in [3, 11] {
        let mut error = icmp_error(ip(OTHER), shown.source, code, &about, 28);
        let verdict = engine.icmp_error(VrfId(0), &mut error, 0, &routes(), NOW);
        assert!(matches!(verdict, IcmpVerdict::Translated(_)));
        // The host finds the packet that it sent, up to the checksum, which is beyond the quote.
        assert_eq!(error[28..56], sent[..28]);
    }
    assert!(matches!(
        back(&mut engine, &answer(&shown, SYN | ACK), NOW),
        Fate::Sent(..)
    ));
}
