//! Round trips, the differential oracle, and the RFC 7606 outcomes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Prefix;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{AsPath as OracleAsPath, MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;

use super::*;

mod evpn;
mod rfc7606;

fn context() -> Context {
    Context {
        four_octet_as: true,
        ibgp: false,
        families: Family::ALL.to_vec(),
        ipv6_next_hop_for_ipv4: true,
        extended_messages: false,
    }
}

fn interpret(bytes: &Bytes, context: &Context) -> Update {
    match decode(bytes.clone()).expect("decodes") {
        Message::Update(update) => update.interpret(context).expect("interprets"),
        other => panic!("not an UPDATE: {other:?}"),
    }
}

/// Unicast only: the oracle refuses networks that begin with a multicast or broadcast address.
fn prefix_v4() -> impl Strategy<Value = Prefix> {
    (0u32..0xe000_0000, 0u8..=32)
        .prop_map(|(bits, length)| Prefix::containing(IpAddr::V4(bits.into()), length).expect("length"))
}

fn prefix_v6() -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0u8..=128).prop_map(|(bits, length)| {
        let address = Ipv6Addr::from((bits >> 3) | (1 << 125));
        Prefix::containing(IpAddr::V6(address), length).expect("length")
    })
}

fn as_number() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..23456, 65536u32..u32::MAX]
}

fn attributes(next_hop: IpAddr, link_local: Option<Ipv6Addr>) -> impl Strategy<Value = Attributes> {
    let path = proptest::collection::vec(as_number(), 0..20);
    let communities = proptest::collection::vec(any::<u32>(), 0..8);
    (0u8..3, path, any::<Option<u32>>(), communities).prop_map(move |(origin, path, med, communities)| {
        let segments = if path.is_empty() {
            Vec::new()
        } else {
            vec![AsPathSegment::AsSequence(path)]
        };
        let mut attributes = Attributes::originated(NextHop {
            address: next_hop,
            link_local,
        });
        attributes.origin = Origin::from_u8(origin).expect("in range");
        attributes.as_path = AsPath { segments };
        attributes.med = med;
        if !communities.is_empty() {
            attributes.other.push(PathAttribute::Communities(communities));
        }
        attributes
    })
}

fn attributes_v4() -> impl Strategy<Value = Attributes> {
    attributes(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), None)
}

fn attributes_v6() -> impl Strategy<Value = Attributes> {
    let global = "2001:db8::1".parse().expect("address");
    prop_oneof![
        attributes(global, None),
        attributes(global, Some("fe80::1".parse().expect("address"))),
        attributes("fe80::1".parse().expect("address"), None),
    ]
}

fn family_case() -> impl Strategy<Value = (Attributes, Vec<Prefix>)> {
    prop_oneof![
        (attributes_v4(), proptest::collection::vec(prefix_v4(), 1..1500)),
        (attributes_v6(), proptest::collection::vec(prefix_v6(), 1..600)),
        // RFC 8950: IPv4 routes with an IPv6 next hop.
        (
            attributes("2001:db8::1".parse().expect("address"), None),
            proptest::collection::vec(prefix_v4(), 1..1500)
        ),
    ]
}

fn oracle(message: &Bytes) -> BgpUpdateMessage {
    let mut strict = BgpParsingContext::new(true, HashMap::new(), HashMap::new(), true, true, true, true);
    let parsed = BgpMessage::parse(&mut SliceReader::new(message), &mut strict);
    match parsed.expect("the oracle decodes what we encode") {
        BgpMessage::Update(update) => update,
        other => panic!("not an UPDATE: {other:?}"),
    }
}

/// What the oracle reads in a message: announced prefixes and their next hop, withdrawn prefixes.
fn oracle_routes(update: &BgpUpdateMessage) -> (Vec<Prefix>, Option<IpAddr>, Vec<Prefix>) {
    let v4 = |list: &[netgauze_bgp_pkt::nlri::Ipv4UnicastAddress]| -> Vec<Prefix> {
        list.iter().map(|entry| entry.network().address().into()).collect()
    };
    let v6 = |list: &[netgauze_bgp_pkt::nlri::Ipv6UnicastAddress]| -> Vec<Prefix> {
        list.iter().map(|entry| entry.network().address().into()).collect()
    };
    let (mut announced, mut next_hop, mut withdrawn) = (v4(update.nlri()), None, v4(update.withdraw_routes()));
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::NextHop(hop) => next_hop = Some(IpAddr::V4(hop.next_hop())),
            PathAttributeValue::MpReach(MpReach::Ipv4Unicast {
                next_hop: hop, nlri, ..
            }) => {
                announced.extend(v4(nlri));
                next_hop = Some(*hop);
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast {
                next_hop_global, nlri, ..
            }) => {
                announced.extend(v6(nlri));
                next_hop = Some(IpAddr::V6(*next_hop_global));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => withdrawn.extend(v6(nlri)),
            _ => {}
        }
    }
    (announced, next_hop, withdrawn)
}

fn oracle_attributes(update: &BgpUpdateMessage) -> (Option<u8>, Vec<u32>, Option<u32>, Vec<u32>) {
    let (mut origin, mut path, mut med, mut communities) = (None, Vec::new(), None, Vec::new());
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::Origin(value) => origin = Some(*value as u8),
            PathAttributeValue::AsPath(OracleAsPath::As4PathSegments(segments)) => {
                path = segments
                    .iter()
                    .flat_map(|segment| segment.as_numbers().to_vec())
                    .collect();
            }
            PathAttributeValue::MultiExitDiscriminator(value) => med = Some(value.metric()),
            PathAttributeValue::Communities(list) => {
                communities = list.communities().iter().map(|community| community.value()).collect();
            }
            _ => {}
        }
    }
    (origin, path, med, communities)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn announcements_round_trip_and_the_oracle_agrees((attributes, prefixes) in family_case()) {
        let messages = encode_announcement(&attributes, &prefixes, &context()).expect("encodes");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for message in &messages {
            prop_assert!(message.len() <= usize::from(MAX_MESSAGE));
            let update = interpret(message, &context());
            prop_assert_eq!(update.outcome, Outcome::Clean);
            prop_assert!(update.withdrawn.is_empty() && update.end_of_rib.is_none());
            for announcement in update.announced {
                prop_assert_eq!(&announcement.attributes, &attributes);
                ours.extend(announcement.prefixes);
            }
            let read = oracle(message);
            let (announced, next_hop, withdrawn) = oracle_routes(&read);
            prop_assert_eq!(next_hop, Some(attributes.next_hop.address));
            prop_assert!(withdrawn.is_empty());
            theirs.extend(announced);
            let (origin, path, med, communities) = oracle_attributes(&read);
            prop_assert_eq!(origin, Some(attributes.origin as u8));
            prop_assert_eq!(path, attributes.as_path.asns().collect::<Vec<_>>());
            prop_assert_eq!(med, attributes.med);
            prop_assert_eq!(communities, attributes.communities());
        }
        prop_assert_eq!(&ours, &prefixes);
        prop_assert_eq!(&theirs, &prefixes);
    }

    #[test]
    fn withdrawals_round_trip_and_the_oracle_agrees(
        prefixes in prop_oneof![
            proptest::collection::vec(prefix_v4(), 1..1500),
            proptest::collection::vec(prefix_v6(), 1..600),
        ],
    ) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for message in encode_withdrawal(&prefixes, &context()) {
            let update = interpret(&message, &context());
            prop_assert!(update.announced.is_empty() && update.outcome == Outcome::Clean);
            ours.extend(update.withdrawn);
            theirs.extend(oracle_routes(&oracle(&message)).2);
        }
        prop_assert_eq!(&ours, &prefixes);
        prop_assert_eq!(&theirs, &prefixes);
    }

    #[test]
    fn opens_round_trip(asn in as_number(), hold_time in any::<u16>(), id in any::<u32>(), flags in any::<[bool; 6]>()) {
        let mut open = Open {
            asn,
            hold_time,
            router_id: id.into(),
            capabilities: Capabilities {
                families: Family::ALL.into_iter().zip(flags).filter(|(_, on)| *on).map(|(family, _)| family).collect(),
                route_refresh: flags[2],
                enhanced_route_refresh: flags[0],
                extended_messages: flags[1],
                four_octet_as: flags[3] || asn > u32::from(u16::MAX),
                ipv6_next_hop_for_ipv4: flags[4],
                graceful_restart: flags[5].then(|| GracefulRestart {
                    restarting: flags[0],
                    notification: flags[1],
                    restart_time: hold_time & 0xfff,
                    families: Family::ALL
                        .map(|family| RestartFamily { family, forwarding: flags[2] })
                        .to_vec(),
                }),
                long_lived: (flags[5] && flags[3]).then(|| {
                    let entry = |family| LongLivedFamily { family, forwarding: flags[4], stale_time: id & 0x00ff_ffff };
                    Family::ALL.map(entry).to_vec()
                }),
                // Those that are assigned, and some that are not.
                roles: if flags[1] { vec![(hold_time & 7) as u8] } else { Vec::new() },
            },
        };
        let written = open.encode();
        if open.capabilities.families.is_empty() {
            // RFC 4760 section 8: what a speaker without the capability speaks.
            open.capabilities.families.push(Family::Ipv4Unicast);
        }
        prop_assert_eq!(decode(written), Ok(Message::Open(open)));
    }

    #[test]
    fn bytes_behind_a_valid_header_never_panic(kind in 0u8..8, body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut buffer = BytesMut::from(&[0xff; 16][..]);
        buffer.extend_from_slice(&u16::try_from(HEADER + body.len()).expect("short").to_be_bytes());
        buffer.extend_from_slice(&[kind]);
        buffer.extend_from_slice(&body);
        if let Ok(Some(message)) = split_message(&mut buffer, MAX_MESSAGE)
            && let Ok(Message::Update(update)) = decode(message)
        {
            for ibgp in [false, true] {
                // Refusing is as good as understanding; only a panic fails the test.
                let _ = update.interpret(&Context { ibgp, ..context() });
            }
        }
    }
}

/// An UPDATE with these attribute bytes and the prefix 10.0.0.0/8 in the body.
fn update_with(attributes: &[u8]) -> Bytes {
    let mut message = vec![0xff; 16];
    let length = u16::try_from(HEADER + 4 + attributes.len() + 2).expect("short");
    message.extend(length.to_be_bytes());
    message.extend([2, 0, 0]);
    message.extend(u16::try_from(attributes.len()).expect("short").to_be_bytes());
    message.extend(attributes);
    message.extend([8, 10]);
    message.into()
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];

#[test]
fn each_outcome_of_rfc_7606() {
    let outcome = |parts: &[&[u8]]| {
        let update = interpret(&update_with(&parts.concat()), &context());
        (update.outcome, update.announced.len(), update.withdrawn.len())
    };
    assert_eq!(outcome(&[ORIGIN, AS_PATH, NEXT_HOP]), (Outcome::Clean, 1, 0));
    // Section 7.7: AGGREGATOR of a wrong length is discarded.
    assert_eq!(
        outcome(&[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 7, 1, 0]]),
        (Outcome::AttributeDiscard, 1, 0)
    );
    // Section 7.5: LOCAL_PREF from an external peer is discarded, whatever its length.
    assert_eq!(
        outcome(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 5, 1, 0]]),
        (Outcome::AttributeDiscard, 1, 0)
    );
    // Sections 7.1, 7.2, 7.3 and 3 d: undefined ORIGIN, AS_PATH overrun, NEXT_HOP of 3 octets, ORIGIN missing.
    assert_eq!(
        outcome(&[&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP]),
        (Outcome::TreatAsWithdraw, 0, 1)
    );
    assert_eq!(
        outcome(&[ORIGIN, &[0x40, 2, 4, 2, 9, 0, 1], NEXT_HOP]),
        (Outcome::TreatAsWithdraw, 0, 1)
    );
    assert_eq!(
        outcome(&[ORIGIN, AS_PATH, &[0x40, 3, 3, 192, 0, 2]]),
        (Outcome::TreatAsWithdraw, 0, 1)
    );
    assert_eq!(outcome(&[AS_PATH, NEXT_HOP]), (Outcome::TreatAsWithdraw, 0, 1));
    assert_eq!(outcome(&[ORIGIN, AS_PATH]), (Outcome::TreatAsWithdraw, 0, 1));
    // Session reset: MP_REACH_NLRI that cannot be read (section 7.11).
    let broken = update_with(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 14, 3, 0, 2, 1]].concat());
    let Message::Update(update) = decode(broken).expect("sections are delimited") else {
        panic!("UPDATE")
    };
    assert_eq!(update.interpret(&context()).expect_err("reset").code, code::UPDATE);
}

#[test]
fn end_of_rib_markers_round_trip() {
    for family in Family::ALL {
        let update = interpret(&encode_end_of_rib(family, &context()), &context());
        assert_eq!(update.end_of_rib, Some(family));
        assert!(update.announced.is_empty() && update.withdrawn.is_empty() && update.outcome == Outcome::Clean);
    }
}

#[test]
fn a_link_local_next_hop_is_found_wherever_it_is() {
    // `::` with a link-local address behind it, as some routers send.
    let mut reach = vec![0x80, 14, 4 + 32 + 1 + 5, 0, 2, 1, 32];
    reach.extend(Ipv6Addr::UNSPECIFIED.octets());
    reach.extend("fe80::7".parse::<Ipv6Addr>().expect("address").octets());
    reach.extend([0, 32, 0x20, 0x01, 0x0d, 0xb8]);
    let update = interpret(&update_with(&[ORIGIN, AS_PATH, NEXT_HOP, &reach].concat()), &context());
    let v6 = update
        .announced
        .iter()
        .find(|a| !a.prefixes[0].is_v4())
        .expect("IPv6 announcement");
    assert_eq!(
        v6.attributes.next_hop,
        NextHop::from("fe80::7".parse::<IpAddr>().expect("address"))
    );
}

#[test]
fn routes_of_families_that_were_not_negotiated_are_ignored() {
    let v4_only = Context {
        families: vec![Family::Ipv4Unicast],
        ..context()
    };
    let mut attributes = Attributes::originated(NextHop::from("2001:db8::1".parse::<IpAddr>().expect("address")));
    attributes.as_path = attributes.prepended(65001);
    let prefix: Prefix = "2001:db8:1::/48".parse().expect("prefix");
    let messages = encode_announcement(&attributes, &[prefix], &context()).expect("encodes");
    assert!(interpret(&messages[0], &v4_only).announced.is_empty());
    assert!(
        interpret(&encode_withdrawal(&[prefix], &context())[0], &v4_only)
            .withdrawn
            .is_empty()
    );
    assert_eq!(
        interpret(&encode_end_of_rib(Family::Ipv6Unicast, &context()), &v4_only).end_of_rib,
        None
    );
}

#[test]
fn header_errors_name_their_subcode() {
    let header = |marker: u8, length: u16, kind: u8| {
        let mut buffer = BytesMut::from(&[marker; 16][..]);
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(&[kind]);
        split_message(&mut buffer, MAX_MESSAGE)
            .map_err(|notification| (notification.code, notification.subcode, notification.data))
    };
    assert_eq!(header(0xfe, 19, 4), Err((1, 1, Bytes::new())));
    for (length, kind) in [(18, 4), (4097, 2), (28, 1), (22, 2), (20, 3), (20, 4)] {
        assert_eq!(
            header(0xff, length, kind),
            Err((1, 2, Bytes::copy_from_slice(&length.to_be_bytes())))
        );
    }
    assert_eq!(header(0xff, 19, 9), Err((1, 3, Bytes::from_static(&[9]))));
    assert_eq!(header(0xff, 30, 1), Ok(None));
}

#[test]
fn attributes_above_4096_octets_travel_in_extended_messages() {
    let mut attributes = Attributes::originated(NextHop::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    attributes.as_path = AsPath {
        segments: vec![AsPathSegment::AsSequence(vec![65_001; 255]); 8],
    };
    let prefix: Prefix = "10.0.0.0/8".parse().expect("prefix");
    let extended = Context {
        extended_messages: true,
        ..context()
    };
    let messages = encode_announcement(&attributes, &[prefix], &extended).expect("fits");
    assert!(messages[0].len() > usize::from(MAX_MESSAGE));
    let update = interpret(&messages[0], &extended);
    assert_eq!(
        (update.outcome, &update.announced[0].attributes),
        (Outcome::Clean, &attributes)
    );
}

#[test]
fn attributes_that_leave_no_room_are_an_error() {
    let mut attributes = Attributes::originated(NextHop::from(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    attributes.other.push(PathAttribute::Communities(vec![1; 1100]));
    let prefix = "10.0.0.0/8".parse().expect("prefix");
    assert!(matches!(
        encode_announcement(&attributes, &[prefix], &context()),
        Err(EncodeError::TooLong(_))
    ));
}
