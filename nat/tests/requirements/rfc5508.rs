//! RFC 5508: ICMP.

use nat::{IcmpVerdict, PoolOptions};
use net::{Drop, VrfId};

use super::*;

fn error_to(engine: &mut nat::Engine, vrf: u16, error: &mut [u8]) -> IcmpVerdict {
    engine.icmp_error(VrfId(vrf), error, 0, &routes(), NOW)
}

#[test]
fn rfc5508_req_1_queries_from_inside_pass_with_their_answers() {
    for options in [open(), PoolOptions::default()] {
        let mut engine = nat(options);
        let h = echo("10.0.0.5", SERVER, 77, 8);
        let sent = shown(&mut engine, &h);
        let got = back(&mut engine, &answer(&sent, 0), NOW).headers();
        assert_eq!(got, answer(&h, 0));
        let unasked = echo(OTHER, "192.0.2.1", sent.source_port, 0);
        assert_eq!(back(&mut engine, &unasked, NOW), Fate::Dropped(Drop::NatNoMapping));
    }
}

#[test]
fn rfc5508_req_2_query_timer_of_at_least_a_minute() {
    assert!(nat::Timers::default().icmp >= 60);
    let mut engine = nat(PoolOptions::default());
    shown(&mut engine, &echo("10.0.0.5", SERVER, 77, 8));
    engine.expire(seconds(59), 100, &mut |_, _| {});
    assert_eq!(engine.stats().connections, 1);
    engine.expire(seconds(62), 100, &mut |_, _| {});
    assert_eq!(engine.stats().connections, 0);
}

#[test]
fn rfc5508_req_3_errors_with_wrong_checksums_are_dropped() {
    let mut engine = nat(PoolOptions::default());
    let sent = shown(&mut engine, &udp(("10.0.0.5", 5000), (SERVER, 53)));
    let about = build(&sent, b"data");
    let mut error = icmp_error(ip(OTHER), sent.source, 3, &about, about.len());
    error[22] ^= 1;
    assert_eq!(
        error_to(&mut engine, 0, &mut error),
        IcmpVerdict::Drop(Drop::IcmpMalformed)
    );
}

#[test]
fn rfc5508_req_4_errors_from_outside() {
    let mut engine = nat(PoolOptions::default());
    let h = udp(("10.0.0.5", 5000), (SERVER, 53));
    let sent = shown(&mut engine, &h);
    let (about, original) = (build(&sent, b"data"), build(&h, b"data"));
    let mut error = icmp_error(ip(OTHER), sent.source, 3, &about, about.len());
    assert!(matches!(
        error_to(&mut engine, 0, &mut error),
        IcmpVerdict::Translated(_)
    ));
    assert_eq!(
        error,
        icmp_error(ip(OTHER), ip("10.0.0.5"), 3, &original, original.len())
    );
    // About nothing that was sent.
    let stray = build(&udp(("192.0.2.1", 9), (SERVER, 53)), b"data");
    let mut error = icmp_error(ip(OTHER), ip("192.0.2.1"), 3, &stray, stray.len());
    assert_eq!(
        error_to(&mut engine, 0, &mut error),
        IcmpVerdict::Drop(Drop::NatNoMapping)
    );
}

#[test]
fn rfc5508_req_5_errors_from_inside() {
    let mut engine = nat(PoolOptions::default());
    let h = udp(("10.0.0.5", 5000), (SERVER, 53));
    let sent = shown(&mut engine, &h);
    let reply = answer(&sent, 0);
    let arrived = back(&mut engine, &reply, NOW).headers();
    let (about, original) = (build(&arrived, b"data"), build(&reply, b"data"));
    // From the host itself and from a router before it: the NAT's address stands for both.
    for from in ["10.0.0.5", "10.0.0.77"] {
        let mut error = icmp_error(ip(from), ip(SERVER), 3, &about, about.len());
        assert!(matches!(
            error_to(&mut engine, 1, &mut error),
            IcmpVerdict::Translated(_)
        ));
        assert_eq!(error, icmp_error(sent.source, ip(SERVER), 3, &original, original.len()));
    }
}

#[test]
fn rfc5508_req_6_errors_refresh_and_end_nothing() {
    let mut engine = nat(PoolOptions::default());
    let h = echo("10.0.0.5", SERVER, 77, 8);
    let sent = shown(&mut engine, &h);
    let about = build(&sent, b"data");
    let mut error = icmp_error(ip(OTHER), sent.source, 11, &about, about.len());
    let verdict = engine.icmp_error(VrfId(0), &mut error, 0, &routes(), seconds(50));
    assert!(matches!(verdict, IcmpVerdict::Translated(_)));
    assert_eq!(engine.stats().connections, 1);
    engine.expire(seconds(62), 100, &mut |_, _| {});
    assert_eq!(engine.stats().connections, 0, "not refreshed");
}

#[test]
fn rfc5508_req_7_hairpinned_queries_and_errors() {
    let spec = nat::PolicySpec {
        statics: vec![fixed(1, "10.0.0.4/30", "192.0.2.4/30", None)],
        ..nat::PolicySpec::default()
    };
    let mut engine = engine(100, Arc::new(Policy::compile(spec).expect("valid")));
    let h = echo("10.0.0.5", "192.0.2.6", 77, 8);
    let arrived = out(&mut engine, &h, NOW).headers();
    assert_eq!((arrived.source, arrived.destination), (ip("192.0.2.5"), ip("10.0.0.6")));
    assert_eq!(out(&mut engine, &answer(&arrived, 0), NOW).headers(), answer(&h, 0));

    let h = udp(("10.0.0.5", 5000), ("192.0.2.6", 53));
    let arrived = build(&out(&mut engine, &h, NOW).headers(), b"data");
    let sent = build(&h, b"data");
    let mut error = icmp_error(ip("10.0.0.6"), ip("192.0.2.5"), 3, &arrived, arrived.len());
    for vrf in [1, 0] {
        assert!(matches!(
            error_to(&mut engine, vrf, &mut error),
            IcmpVerdict::Translated(_)
        ));
    }
    assert_eq!(error, icmp_error(ip("192.0.2.6"), ip("10.0.0.5"), 3, &sent, sent.len()));
}

#[test]
fn rfc5508_req_11_other_icmp_is_dropped_by_its_name() {
    let mut engine = nat(PoolOptions::default());
    for kind in [13, 15, 17] {
        let h = echo("10.0.0.5", SERVER, 77, kind);
        assert_eq!(out(&mut engine, &h, NOW), Fate::Dropped(Drop::NatUnsupported));
    }
}
