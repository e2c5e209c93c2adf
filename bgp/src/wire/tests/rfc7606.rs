//! Faults of each attribute, as RFC 7606 or the RFC of the attribute orders them.

use Outcome::{AttributeDiscard as Discard, Clean, TreatAsWithdraw as Withdraw};

use super::*;

/// An attribute beside whole mandatory ones, of which it takes the place of its own: what it is, its bytes, and the
/// outcome from an external and from an internal peer.
type Row = (&'static str, &'static [u8], Outcome, Outcome);

const TABLE: &[Row] = &[
    ("7.1 ORIGIN, no octet", &[0x40, 1, 0], Withdraw, Withdraw),
    ("7.1 ORIGIN, two octets", &[0x40, 1, 2, 0, 0], Withdraw, Withdraw),
    ("7.1 ORIGIN, undefined", &[0x40, 1, 1, 3], Withdraw, Withdraw),
    ("3c ORIGIN, optional", &[0xc0, 1, 1, 0], Withdraw, Withdraw),
    ("3c ORIGIN, not transitive", &[0x00, 1, 1, 0], Withdraw, Withdraw),
    (
        "7.2 AS_PATH, segment of an unknown type",
        &[0x40, 2, 6, 9, 1, 0, 0, 0xfd, 0xe9],
        Withdraw,
        Withdraw,
    ),
    (
        "7.2 AS_PATH, segment overruns",
        &[0x40, 2, 6, 2, 2, 0, 0, 0xfd, 0xe9],
        Withdraw,
        Withdraw,
    ),
    (
        "7.2 AS_PATH, segment underruns",
        &[0x40, 2, 7, 2, 1, 0, 0, 0xfd, 0xe9, 2],
        Withdraw,
        Withdraw,
    ),
    (
        "7.2 AS_PATH, segment without an AS",
        &[0x40, 2, 8, 2, 1, 0, 0, 0xfd, 0xe9, 2, 0],
        Withdraw,
        Withdraw,
    ),
    (
        "3c AS_PATH, optional",
        &[0xc0, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9],
        Withdraw,
        Withdraw,
    ),
    (
        "7607 AS_PATH, AS 0",
        &[0x40, 2, 6, 2, 1, 0, 0, 0, 0],
        Withdraw,
        Withdraw,
    ),
    (
        "9774 AS_PATH, AS_SET",
        &[0x40, 2, 12, 2, 1, 0, 0, 0xfd, 0xe9, 1, 1, 0, 0, 0xfd, 0xea],
        Withdraw,
        Withdraw,
    ),
    (
        "7.3 NEXT_HOP, three octets",
        &[0x40, 3, 3, 192, 0, 2],
        Withdraw,
        Withdraw,
    ),
    ("7.3 NEXT_HOP, no octet", &[0x40, 3, 0], Withdraw, Withdraw),
    ("3c NEXT_HOP, optional", &[0xc0, 3, 4, 192, 0, 2, 1], Withdraw, Withdraw),
    (
        "7.4 MULTI_EXIT_DISC, three octets",
        &[0x80, 4, 3, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    ("7.4 MULTI_EXIT_DISC, no octet", &[0x80, 4, 0], Withdraw, Withdraw),
    (
        "3c MULTI_EXIT_DISC, well-known",
        &[0x40, 4, 4, 0, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    (
        "7.5 LOCAL_PREF, three octets",
        &[0x40, 5, 3, 0, 0, 1],
        Discard,
        Withdraw,
    ),
    ("7.5 LOCAL_PREF, whole", &[0x40, 5, 4, 0, 0, 0, 1], Discard, Clean),
    ("3c LOCAL_PREF, optional", &[0xc0, 5, 4, 0, 0, 0, 1], Withdraw, Withdraw),
    ("7.6 ATOMIC_AGGREGATE, one octet", &[0x40, 6, 1, 0], Discard, Discard),
    ("7.6 ATOMIC_AGGREGATE, whole", &[0x40, 6, 0], Clean, Clean),
    ("3c ATOMIC_AGGREGATE, optional", &[0xc0, 6, 0], Withdraw, Withdraw),
    (
        "7.7 AGGREGATOR, six octets",
        &[0xc0, 7, 6, 0, 1, 1, 2, 3, 4],
        Discard,
        Discard,
    ),
    ("7.7 AGGREGATOR, no octet", &[0xc0, 7, 0], Discard, Discard),
    (
        "7607 AGGREGATOR, AS 0",
        &[0xc0, 7, 8, 0, 0, 0, 0, 1, 2, 3, 4],
        Discard,
        Discard,
    ),
    (
        "3c AGGREGATOR, well-known",
        &[0x40, 7, 8, 0, 0, 0, 1, 1, 2, 3, 4],
        Withdraw,
        Withdraw,
    ),
    (
        "7.8 COMMUNITIES, three octets",
        &[0xc0, 8, 3, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    ("7.8 COMMUNITIES, no octet", &[0xc0, 8, 0], Withdraw, Withdraw),
    (
        "3c COMMUNITIES, not transitive",
        &[0x80, 8, 4, 0, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    (
        "7.9 ORIGINATOR_ID, three octets",
        &[0x80, 9, 3, 0, 0, 1],
        Discard,
        Withdraw,
    ),
    ("7.9 ORIGINATOR_ID, whole", &[0x80, 9, 4, 1, 2, 3, 4], Discard, Clean),
    (
        "7.10 CLUSTER_LIST, three octets",
        &[0x80, 10, 3, 0, 0, 1],
        Discard,
        Withdraw,
    ),
    ("7.10 CLUSTER_LIST, no octet", &[0x80, 10, 0], Discard, Withdraw),
    ("7.10 CLUSTER_LIST, whole", &[0x80, 10, 4, 1, 2, 3, 4], Discard, Clean),
    (
        "7.14 EXTENDED COMMUNITIES, seven octets",
        &[0xc0, 16, 7, 0, 2, 0, 0, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    (
        "7.14 EXTENDED COMMUNITIES, no octet",
        &[0xc0, 16, 0],
        Withdraw,
        Withdraw,
    ),
    (
        "7.15 IPv6 EXTENDED COMMUNITIES, 19 octets",
        &[0xc0, 25, 19, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        Withdraw,
        Withdraw,
    ),
    (
        "6793 6 AS4_PATH, unasked for",
        &[0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9],
        Discard,
        Discard,
    ),
    (
        "6793 6 AS4_AGGREGATOR, unasked for",
        &[0xc0, 18, 8, 0, 0, 0xfd, 0xe9, 1, 2, 3, 4],
        Discard,
        Discard,
    ),
    (
        "8092 5 LARGE_COMMUNITIES, four octets",
        &[0xc0, 32, 4, 0, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    (
        "9234 5 ONLY_TO_CUSTOMER, three octets",
        &[0xc0, 35, 3, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    (
        "7607 ONLY_TO_CUSTOMER, AS 0",
        &[0xc0, 35, 4, 0, 0, 0, 0],
        Withdraw,
        Withdraw,
    ),
    ("7.13 traffic engineering, any octets", &[0x80, 24, 1, 7], Clean, Clean),
    (
        "7.16 ATTR_SET, three octets",
        &[0xc0, 128, 3, 0, 0, 1],
        Withdraw,
        Withdraw,
    ),
    ("4271 5 unknown, optional", &[0xc0, 99, 1, 7], Clean, Clean),
];

/// The UPDATE of a row, from an external or an internal peer.
fn update(attribute: &[u8], ibgp: bool) -> Update {
    let local_pref: &[u8] = if ibgp { &[0x40, 5, 4, 0, 0, 0, 100] } else { &[] };
    let whole = [ORIGIN, AS_PATH, NEXT_HOP, local_pref];
    let others = whole
        .into_iter()
        .filter(|other| !other.is_empty() && other[1] != attribute[1]);
    let mut list: Vec<&[u8]> = others.chain([attribute]).collect();
    list.sort_by_key(|attribute| attribute[1]);
    interpret(&update_with(&list.concat()), &Context { ibgp, ..context() })
}

#[test]
fn every_attribute_has_the_outcome_that_its_rfc_orders() {
    let mut wrong = Vec::new();
    for (name, attribute, external, internal) in TABLE {
        for (ibgp, expected) in [(false, *external), (true, *internal)] {
            let update = update(attribute, ibgp);
            let used = !update.announced.is_empty();
            let named = update.faults.iter().any(|fault| fault.attribute == attribute[1]);
            if update.outcome != expected || used == (expected == Withdraw) || named != (expected != Clean) {
                let found = (update.outcome, &update.faults);
                wrong.push(format!("{name}, internal {ibgp}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Section 3 d: a mandatory attribute that is not there.
#[test]
fn a_missing_mandatory_attribute_withdraws_the_routes() {
    for missing in [1, 2, 3] {
        let present = [ORIGIN, AS_PATH, NEXT_HOP].into_iter().filter(|a| a[1] != missing);
        let list: Vec<&[u8]> = present.collect();
        let update = interpret(&update_with(&list.concat()), &context());
        assert_eq!((update.outcome, update.withdrawn.len()), (Withdraw, 1), "{missing}");
    }
}

/// RFC 4271 section 5: an attribute that is not known travels on if it is transitive, and is ignored if it is not.
#[test]
fn unknown_attributes_travel_on_if_they_are_transitive() {
    for (flags, travels) in [(0xc0, 1), (0x80, 0)] {
        let update = update(&[flags, 99, 1, 7], false);
        assert_eq!(
            (update.outcome, update.announced[0].attributes.other.len()),
            (Clean, travels)
        );
    }
}

/// The code of the NOTIFICATION that these attributes end the session with.
fn reset(attributes: &[&[u8]]) -> Option<u8> {
    let error = match decode(update_with(&attributes.concat())) {
        Ok(Message::Update(update)) => update.interpret(&context()).err(),
        other => other.err(),
    };
    error.map(|notification| notification.code)
}

/// Section 3 g: of an attribute that is there twice the first counts; MP_REACH_NLRI or MP_UNREACH_NLRI twice ends the
/// session.
#[test]
fn an_attribute_that_is_there_twice_counts_once_or_ends_the_session() {
    let med = |value| [0x80, 4, 4, 0, 0, 0, value];
    let twice = [ORIGIN, AS_PATH, NEXT_HOP, &med(1), &med(2)].concat();
    let update = interpret(&update_with(&twice), &context());
    assert_eq!(update.announced[0].attributes.med, Some(1));
    let reach: &[u8] = &[
        0x80, 14, 21, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0,
    ];
    let unreach: &[u8] = &[0x80, 15, 3, 0, 2, 1];
    for twice in [reach, unreach] {
        assert_eq!(reset(&[ORIGIN, AS_PATH, NEXT_HOP, twice, twice]), Some(code::UPDATE));
    }
}

/// Sections 7.11, 7.12 and 5.3: what cannot be located or read ends the session.
#[test]
fn multiprotocol_attributes_that_cannot_be_read_end_the_session() {
    for (name, attribute) in [
        ("MP_REACH_NLRI, cut off", &[0x80, 14, 3, 0, 2, 1][..]),
        (
            "MP_REACH_NLRI, next hop of five octets",
            &[0x80, 14, 12, 0, 2, 1, 5, 1, 2, 3, 4, 5, 0, 0, 0],
        ),
        (
            "MP_REACH_NLRI, prefix of 129 bits",
            &[
                0x80, 14, 22, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 129,
            ],
        ),
        ("MP_UNREACH_NLRI, two octets", &[0x80, 15, 2, 0, 2]),
        ("MP_UNREACH_NLRI, prefix of 129 bits", &[0x80, 15, 4, 0, 2, 1, 129]),
        ("MP_UNREACH_NLRI, prefix cut off", &[0x80, 15, 5, 0, 2, 1, 64, 1]),
    ] {
        assert_eq!(
            reset(&[ORIGIN, AS_PATH, NEXT_HOP, attribute]),
            Some(code::UPDATE),
            "{name}"
        );
    }
}

/// Section 4: an attribute that is longer than what is left, or not even a header, takes the routes along.
#[test]
fn an_attribute_that_overruns_the_others_withdraws_the_routes() {
    for last in [&[0x80, 4, 9, 0][..], &[0x80]] {
        let update = interpret(&update_with(&[ORIGIN, AS_PATH, NEXT_HOP, last].concat()), &context());
        assert_eq!((update.outcome, update.withdrawn.len()), (Withdraw, 1), "{last:?}");
    }
}
