//! EVPN on the wire: round trips, the oracle, and what becomes of NLRI that is broken or not known.

use net::{Mac, RouteDistinguisher};
use netgauze_bgp_pkt::nlri::{L2EvpnAddress, L2EvpnIpPrefixRoute, L2EvpnRoute};

use super::*;
use crate::wire::evpn::{from_library, unreach};

fn rd() -> impl Strategy<Value = RouteDistinguisher> {
    // The oracle knows the three types with a meaning.
    (0u8..3, any::<[u8; 6]>())
        .prop_map(|(kind, [a, b, c, d, e, f])| RouteDistinguisher::from_octets([0, kind, a, b, c, d, e, f]))
}

fn host() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()))
    ]
}

fn esi() -> impl Strategy<Value = Esi> {
    prop_oneof![Just(Esi::default()), any::<[u8; 10]>().prop_map(Esi)]
}

/// Labels of which the last bit is the bottom of stack: without it the oracle reads more labels.
fn label() -> impl Strategy<Value = u32> {
    (0u32..1 << 23).prop_map(|bits| bits << 1 | 1)
}

fn key() -> impl Strategy<Value = EvpnKey> {
    prop_oneof![
        (rd(), esi(), any::<u32>()).prop_map(|(rd, esi, tag)| EvpnKey::Discovery { rd, esi, tag }),
        (rd(), any::<u32>(), any::<[u8; 6]>(), proptest::option::of(host())).prop_map(|(rd, tag, mac, ip)| {
            let mac = Mac(mac);
            EvpnKey::Host { rd, tag, mac, ip }
        }),
        (rd(), any::<u32>(), host()).prop_map(|(rd, tag, originator)| EvpnKey::Multicast { rd, tag, originator }),
        (rd(), any::<[u8; 10]>(), host()).prop_map(|(rd, mut esi, originator)| {
            // A router is on a segment that there is.
            esi[0] |= 1;
            let esi = Esi(esi);
            EvpnKey::Segment { rd, esi, originator }
        }),
        (rd(), any::<u32>(), prop_oneof![prefix_v4(), prefix_v6()]).prop_map(|(rd, tag, prefix)| EvpnKey::Prefix {
            rd,
            tag,
            prefix
        }),
    ]
}

fn route() -> impl Strategy<Value = EvpnRoute> {
    (key(), esi(), any::<u64>(), label(), proptest::option::of(label())).prop_map(|(key, esi, bits, label, second)| {
        let mut route = EvpnRoute::new(key);
        match key {
            EvpnKey::Discovery { .. } => route.label = label,
            EvpnKey::Host { .. } => (route.esi, route.label, route.routed_label) = (esi, label, second),
            EvpnKey::Prefix { prefix, .. } => {
                route.label = label;
                // One of the two at most (RFC 9136 section 3.2).
                if bits & 1 == 1 {
                    route.esi = esi;
                } else if bits & 2 == 2 {
                    let high = (bits >> 32) as u32 | 1;
                    route.gateway = Some(if prefix.is_v4() {
                        IpAddr::V4(high.into())
                    } else {
                        IpAddr::V6(u128::from(high).into())
                    });
                }
            }
            EvpnKey::Multicast { .. } | EvpnKey::Segment { .. } => {}
        }
        route
    })
}

fn marked(next_hop: IpAddr) -> impl Strategy<Value = Attributes> {
    (attributes(next_hop, None), any::<[u8; 5]>()).prop_map(|(mut attributes, mac)| {
        let [a, b, c, d, e] = mac;
        let router = Mac([2, a, b, c, d, e]);
        let target: net::RouteTarget = "65000:7".parse().expect("target");
        let standard: Vec<_> = attributes.every_community();
        let ours = [target.community(), vxlan_encapsulation(), router_mac(router)];
        attributes.set_communities(standard.into_iter().chain(ours));
        attributes
    })
}

fn endpoint() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        Just("192.0.2.1".parse().expect("ip")),
        Just("2001:db8::1".parse().expect("ip"))
    ]
}

/// The key and labels that the oracle reads of a route; nothing of what it has no accessor for.
fn oracle_route(address: &L2EvpnAddress) -> (EvpnKey, Vec<u32>) {
    let distinguisher = |rd: netgauze_bgp_pkt::nlri::RouteDistinguisher| {
        let octets: u64 = rd.into();
        RouteDistinguisher::from_octets(octets.to_be_bytes())
    };
    let number = |label: &netgauze_bgp_pkt::nlri::MplsLabel| {
        let [a, b, c] = *label.value();
        u32::from_be_bytes([0, a, b, c])
    };
    match address.route() {
        L2EvpnRoute::EthernetAutoDiscovery(r) => {
            let (rd, esi, tag) = (distinguisher(r.rd()), Esi(*r.segment_id().value()), r.tag().value());
            (EvpnKey::Discovery { rd, esi, tag }, vec![number(r.mpls_label())])
        }
        L2EvpnRoute::MacIpAdvertisement(r) => {
            let (rd, tag, mac) = (distinguisher(r.rd()), r.tag().value(), Mac(*r.mac().value()));
            let labels = std::iter::once(r.mpls_label1()).chain(r.mpls_label2()).map(number);
            (
                EvpnKey::Host {
                    rd,
                    tag,
                    mac,
                    ip: r.ip(),
                },
                labels.collect(),
            )
        }
        L2EvpnRoute::InclusiveMulticastEthernetTagRoute(r) => {
            let (rd, tag, originator) = (distinguisher(r.rd()), r.tag().value(), r.ip());
            (EvpnKey::Multicast { rd, tag, originator }, Vec::new())
        }
        L2EvpnRoute::EthernetSegmentRoute(r) => {
            let (rd, esi, originator) = (distinguisher(r.rd()), Esi(*r.segment_id().value()), r.ip());
            (EvpnKey::Segment { rd, esi, originator }, Vec::new())
        }
        L2EvpnRoute::IpPrefixRoute(L2EvpnIpPrefixRoute::V4(r)) => {
            let (rd, tag, prefix) = (distinguisher(r.rd()), r.tag().value(), r.prefix().into());
            (EvpnKey::Prefix { rd, tag, prefix }, vec![number(r.label())])
        }
        L2EvpnRoute::IpPrefixRoute(L2EvpnIpPrefixRoute::V6(r)) => {
            let (rd, tag, prefix) = (distinguisher(r.rd()), r.tag().value(), r.prefix().into());
            (EvpnKey::Prefix { rd, tag, prefix }, vec![number(r.label())])
        }
        L2EvpnRoute::Unknown { code, .. } => panic!("type {code}"),
    }
}

fn labels(route: &EvpnRoute) -> Vec<u32> {
    match route.key {
        EvpnKey::Discovery { .. } | EvpnKey::Prefix { .. } => vec![route.label],
        EvpnKey::Host { .. } => std::iter::once(route.label).chain(route.routed_label).collect(),
        EvpnKey::Multicast { .. } | EvpnKey::Segment { .. } => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn evpn_routes_round_trip_and_the_oracle_agrees(
        (attributes, routes) in endpoint().prop_flat_map(|hop| (marked(hop), proptest::collection::vec(route(), 1..150))),
    ) {
        let messages = encode_evpn_announcement(&attributes, &routes, &context()).expect("encodes");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for message in &messages {
            prop_assert!(message.len() <= usize::from(MAX_MESSAGE));
            let update = interpret(message, &context());
            prop_assert_eq!((update.outcome, update.end_of_rib), (Outcome::Clean, None));
            prop_assert!(update.announced.is_empty() && update.withdrawn.is_empty() && update.evpn.withdrawn.is_empty());
            prop_assert_eq!(update.evpn.announced.len(), 1);
            for announcement in update.evpn.announced {
                prop_assert_eq!(&announcement.attributes, &attributes);
                ours.extend(announcement.routes);
            }
            for attribute in oracle(message).path_attributes() {
                if let PathAttributeValue::MpReach(MpReach::L2Evpn { next_hop, nlri }) = attribute.value() {
                    prop_assert_eq!(*next_hop, attributes.next_hop.address);
                    theirs.extend(nlri.iter().map(oracle_route));
                }
            }
        }
        prop_assert_eq!(&ours, &routes);
        let expected: Vec<_> = routes.iter().map(|route| (route.key, labels(route))).collect();
        prop_assert_eq!(theirs, expected);
    }

    #[test]
    fn evpn_withdrawals_round_trip_and_mean_nothing_else(keys in proptest::collection::vec(key(), 1..150)) {
        let mut ours = Vec::new();
        for message in encode_evpn_withdrawal(&keys, &context()) {
            let update = interpret(&message, &context());
            prop_assert_eq!((update.outcome, update.end_of_rib), (Outcome::Clean, None));
            prop_assert!(update.withdrawn.is_empty() && update.evpn.announced.is_empty());
            ours.extend(update.evpn.withdrawn);
        }
        prop_assert_eq!(ours, keys);
    }

    #[test]
    fn evpn_bytes_never_panic_and_what_is_read_is_written_again(
        kind in 0u8..8, payload in proptest::collection::vec(any::<u8>(), 0..64), reach in any::<bool>(),
    ) {
        let mut nlri = vec![kind, u8::try_from(payload.len()).expect("short")];
        nlri.extend(payload);
        let Message::Update(update) = decode(update_of(&nlri, reach)).expect("delimited") else {
            panic!("UPDATE")
        };
        // Refusing is as good as understanding.
        let Ok(update) = update.interpret(&context()) else { return Ok(()) };
        for route in update.evpn.announced.into_iter().flat_map(|announcement| announcement.routes) {
            let again = encode_evpn_withdrawal(&[route.key], &context());
            prop_assert_eq!(interpret(&again[0], &context()).evpn.withdrawn, vec![route.key]);
        }
    }
}

/// An UPDATE with these octets as NLRI of EVPN, announced or withdrawn.
fn update_of(nlri: &[u8], reach: bool) -> Bytes {
    let mut value = vec![0, 25, 70];
    if reach {
        value.extend([4, 192, 0, 2, 1, 0]);
    }
    value.extend(nlri);
    let kind = if reach { 14 } else { 15 };
    let length = u16::try_from(value.len()).expect("short").to_be_bytes();
    let mut list = vec![0x90, kind, length[0], length[1]];
    list.extend(value);
    if reach {
        list.extend([ORIGIN, AS_PATH].concat());
    }
    let mut message = vec![0xff; 16];
    message.extend(u16::try_from(HEADER + 4 + list.len()).expect("short").to_be_bytes());
    message.extend([2, 0, 0]);
    message.extend(u16::try_from(list.len()).expect("short").to_be_bytes());
    message.extend(list);
    message.into()
}

fn type_5() -> Vec<u8> {
    let rd = [0, 1, 192, 0, 2, 1, 0, 7];
    let mut nlri = vec![5, 34];
    nlri.extend(rd);
    nlri.extend([0; 10 + 4]);
    nlri.extend([16, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0x13, 0x89]);
    nlri
}

fn verdict(nlri: &[u8], reach: bool) -> Result<(Outcome, usize, usize), u8> {
    let Message::Update(update) = decode(update_of(nlri, reach)).expect("delimited") else {
        panic!("UPDATE")
    };
    let update = update.interpret(&context()).map_err(|notification| notification.code)?;
    let announced = update
        .evpn
        .announced
        .iter()
        .map(|announcement| announcement.routes.len())
        .sum();
    Ok((update.outcome, announced, update.evpn.withdrawn.len()))
}

/// RFC 7606 sections 5.3 and 5.4, RFC 9136 section 3.2, RFC 7432 section 8.1.1.
#[test]
fn broken_evpn_routes_have_the_outcome_that_their_rfc_orders() {
    let good = type_5();
    assert_eq!(verdict(&good, true), Ok((Outcome::Clean, 1, 0)));
    assert_eq!(verdict(&good, false), Ok((Outcome::Clean, 0, 1)));
    // Types that are not known are skipped, with those around them read; nothing but such is nothing at all.
    for unknown in [0, 6, 7, 11, 255] {
        let odd: &[u8] = if unknown == 6 { &[] } else { &[unknown, 3, 1, 2, 3] };
        let both = [&good, odd, &good].concat();
        assert_eq!(verdict(&both, true), Ok((Outcome::Clean, 2, 0)), "type {unknown}");
        assert_eq!(verdict(odd, true), Ok((Outcome::Clean, 0, 0)), "type {unknown}");
    }
    // A segment and a gateway at once: treated as withdrawn.
    let mut two = good.clone();
    (two[10], two[29]) = (1, 1);
    assert_eq!(verdict(&two, true), Ok((Outcome::TreatAsWithdraw, 0, 1)));
    // Neither of them, no router's MAC and no label.
    let mut none = good.clone();
    (none[34], none[35]) = (0, 0);
    assert_eq!(verdict(&none, true), Ok((Outcome::TreatAsWithdraw, 0, 1)));
    // Lengths that are none of the type's, or beyond the attribute: the session ends.
    for broken in [&[5, 33][..], &[5, 0], &[1, 24], &[3, 200, 1], &[2]] {
        assert_eq!(verdict(broken, true), Err(code::UPDATE), "{broken:?}");
    }
    let mut long_prefix = good.clone();
    long_prefix[24] = 33;
    assert_eq!(verdict(&long_prefix, true), Err(code::UPDATE));
}

#[test]
fn a_withdrawal_of_an_unknown_type_is_no_end_of_rib() {
    let update = interpret(&update_of(&[9, 0], false), &context());
    assert_eq!((update.outcome, update.end_of_rib), (Outcome::Clean, None));
    let update = interpret(&update_of(&[], false), &context());
    assert_eq!(update.end_of_rib, Some(Family::L2vpnEvpn));
    assert_eq!(
        interpret(&unreach(&[], &context()), &context()).end_of_rib,
        Some(Family::L2vpnEvpn)
    );
}

#[test]
fn evpn_is_ignored_unless_it_was_negotiated() {
    let unicast = Context {
        families: Family::UNICAST.to_vec(),
        ..context()
    };
    for reach in [true, false] {
        let update = interpret(&update_of(&type_5(), reach), &unicast);
        assert_eq!((update.evpn, update.end_of_rib), (EvpnUpdate::default(), None));
    }
}

#[test]
fn communities_of_evpn_are_read_and_written() {
    let mut attributes = Attributes::originated(NextHop::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    assert_eq!(EvpnMarks::of(&attributes), EvpnMarks::default());
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    let moved = library::ExtendedCommunity::mac_mobility(true, 7).as_u64();
    let mobility = net::policy::Community::Extended(moved);
    attributes.set_communities([vxlan_encapsulation(), router_mac(mac), mobility]);
    let marks = EvpnMarks {
        router_mac: Some(mac),
        mobility: Some((true, 7)),
        other_encapsulation: false,
    };
    assert_eq!(EvpnMarks::of(&attributes), marks);
    let mpls = library::ExtendedCommunity::bgp_encapsulation(10).as_u64();
    attributes.set_communities([net::policy::Community::Extended(mpls)]);
    assert!(EvpnMarks::of(&attributes).other_encapsulation);
    let vni = net::Vni::new(5001).expect("VNI");
    attributes
        .other
        .push(ingress_replication(vni, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    assert_eq!(replicated_vni(&attributes), Some(5001));
    let library::EvpnRoute::Smet(_) = smet() else {
        panic!("type 6")
    };
    assert_eq!(from_library(&smet()), None);
}

fn smet() -> library::EvpnRoute {
    library::EvpnRoute::Smet(library::evpn::EvpnSmet {
        rd: library::RouteDistinguisher::new([0; 8]),
        ethernet_tag: library::EthernetTagId(0),
        source_ip: None,
        group_ip: None,
        originator_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        flags: 0,
    })
}
