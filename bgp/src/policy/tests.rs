//! Policies do what their data says: by example, and against an interpreter of the data that compiles nothing.

use std::borrow::Cow;
use std::net::IpAddr;

use net::policy::{
    AsPathSet, Change, CommunitySet, Condition, MedChange, NextHopChange, Origin, Policies, Policy as Data,
    PrefixRange, PrefixSet, RouteSource, Term, Then, Validity,
};
use proptest::prelude::*;
use proptest::{collection, option, sample};

use super::*;
use crate::wire::{AsPath, AsPathSegment, Attributes, NextHop};

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn route(text: &str, ases: &[u32], communities: &[&str]) -> PolicyRoute<'static> {
    let mut attributes = Attributes::originated(NextHop::from("192.0.2.1".parse::<IpAddr>().expect("address")));
    if !ases.is_empty() {
        let segments = vec![AsPathSegment::AsSequence(ases.to_vec())];
        attributes.as_path = AsPath { segments };
    }
    attributes.set_communities(communities.iter().map(|text| text.parse().expect("community")));
    PolicyRoute {
        prefix: prefix(text),
        attributes: Cow::Owned(attributes),
        marks: Marks::default(),
        neighbor: None,
        source: RouteSource::Ebgp,
        local_as: 65000,
        next_hop: None,
    }
}

fn term(name: &str, conditions: Vec<Condition>, changes: Vec<Change>, then: Then) -> Term {
    Term {
        name: name.to_owned(),
        conditions,
        changes,
        then,
    }
}

/// The policy `p` of these terms, over sets of prefixes, patterns and communities that are all called `s`.
fn data(terms: Vec<Term>, prefixes: &[(&str, u8, u8)], patterns: &[&str], communities: &[&str]) -> Policies {
    Policies {
        prefix_sets: vec![PrefixSet {
            name: "s".into(),
            prefixes: prefixes
                .iter()
                .map(|(text, ge, le)| PrefixRange {
                    prefix: prefix(text),
                    ge: *ge,
                    le: *le,
                })
                .collect(),
        }],
        as_path_sets: vec![AsPathSet {
            name: "s".into(),
            patterns: patterns.iter().map(|text| text.parse().expect("pattern")).collect(),
        }],
        community_sets: vec![CommunitySet {
            name: "s".into(),
            communities: communities.iter().map(|text| text.parse().expect("pattern")).collect(),
        }],
        policies: vec![Data {
            name: "p".into(),
            terms,
            accept_by_default: false,
        }],
    }
}

fn policy(data: &Policies) -> Policy {
    let table = PolicyTable::compile(data).expect("compiles");
    Policy::Program(Arc::clone(table.get("p").expect("there")))
}

#[test]
fn no_policy_denies_on_external_sessions_only() {
    let mut any = route("10.0.0.0/8", &[], &[]);
    let verdict = Policy::Unset.evaluate(true, &mut any);
    assert_eq!((verdict.accept, verdict.decision), (false, Decision::NoPolicy));
    assert!(Policy::Unset.evaluate(false, &mut any).accept);
    assert!(Policy::Accept.evaluate(true, &mut any).accept && !Policy::Deny.evaluate(false, &mut any).accept);
    let families = Policy::PerFamily {
        ipv4: Box::new(Policy::Accept),
        ipv6: Box::new(Policy::Unset),
        evpn: Box::new(Policy::Deny),
    };
    assert!(families.evaluate(true, &mut any).accept);
    assert_eq!(families.for_evpn(), &Policy::Deny);
    assert_eq!(Policy::Accept.for_evpn(), &Policy::Accept);
    assert!(!families.evaluate(true, &mut route("2001:db8::/32", &[], &[])).accept);
}

#[test]
fn a_term_that_goes_on_leaves_its_changes_to_the_next() {
    let terms = vec![
        term(
            "mark",
            vec![Condition::PrefixSet("s".into())],
            vec![
                Change::Tag(7),
                Change::Med(MedChange::Add(5)),
                Change::AddCommunities(vec!["65000:1".parse().expect("community")]),
            ],
            Then::NextTerm,
        ),
        term("wrong", vec![Condition::Med(9)], vec![], Then::Reject),
        term(
            "marked",
            vec![
                Condition::Tag(7),
                Condition::Med(5),
                Condition::CommunityAll("s".into()),
            ],
            vec![
                Change::LocalPref(200),
                Change::Prepend { asn: None, count: 2 },
                Change::Prepend {
                    asn: Some(65009),
                    count: 1,
                },
                Change::Origin(Origin::Incomplete),
                Change::RemoveCommunities(vec!["65000:*".parse().expect("pattern")]),
                Change::Weight(3),
                Change::Blackhole,
                Change::NextHop(NextHopChange::Address("192.0.2.9".parse().expect("address"))),
            ],
            Then::Accept,
        ),
    ];
    let data = data(terms, &[("10.0.0.0/8", 16, 24)], &[], &["65000:1", "65001:*"]);
    let policy = policy(&data);
    let mut passed = route(
        "10.1.0.0/16",
        &[65001],
        &["65001:5", "no-export", "65000:1:1", "rt:65000:1"],
    );
    let verdict = policy.evaluate(true, &mut passed);
    assert_eq!((verdict.accept, verdict.decision), (true, Decision::Term(2)));
    assert_eq!(
        policy.explain(&passed.prefix, verdict.decision),
        "policy p, term marked"
    );
    let attributes = &passed.attributes;
    assert_eq!(attributes.as_path.to_aspath_string(), "65009 65000 65000 65001");
    assert_eq!((attributes.local_pref, attributes.med), (Some(200), Some(5)));
    assert_eq!(attributes.next_hop.address.to_string(), "192.0.2.9");
    let communities: Vec<String> = attributes.every_community().iter().map(ToString::to_string).collect();
    assert_eq!(communities, ["65001:5", "no-export", "rt:65000:1", "65000:1:1"]);
    assert_eq!(
        passed.marks,
        Marks {
            weight: 3,
            tag: 7,
            blackhole: true,
            validity: Validity::NotFound
        }
    );

    let mut other = route("11.0.0.0/8", &[65001], &[]);
    let verdict = policy.evaluate(true, &mut other);
    assert_eq!((verdict.accept, verdict.decision), (false, Decision::Default));
    assert_eq!(policy.explain(&other.prefix, verdict.decision), "policy p, its default");
}

#[test]
fn med_stays_within_its_bounds_and_families_keep_their_next_hops() {
    let changes = vec![
        Change::Med(MedChange::Subtract(1)),
        Change::NextHop(NextHopChange::Address("2001:db8::1".parse().expect("address"))),
    ];
    let policy = policy(&data(vec![term("t", vec![], changes, Then::Accept)], &[], &[], &[]));
    let mut changed = route("10.0.0.0/8", &[], &[]);
    assert!(policy.evaluate(true, &mut changed).accept);
    assert_eq!(changed.attributes.med, Some(0));
    assert_eq!(changed.attributes.next_hop.address.to_string(), "192.0.2.1");
}

#[test]
fn graceful_shutdown_of_an_external_peer_is_the_last_resort() {
    let mut going = route("10.0.0.0/8", &[1], &["graceful-shutdown"]);
    honour_graceful_shutdown(false, &mut going);
    assert_eq!(going.attributes.local_pref, None);
    honour_graceful_shutdown(true, &mut going);
    assert_eq!(going.attributes.local_pref, Some(0));
}

#[test]
fn names_that_lead_nowhere_do_not_compile() {
    let terms = vec![term(
        "t",
        vec![Condition::AsPathSet("nowhere".into())],
        vec![],
        Then::Accept,
    )];
    let error = PolicyTable::compile(&data(terms, &[], &[], &[])).expect_err("no such set");
    assert_eq!(
        error.to_string(),
        "policy `p`, term `t`: there is no as-path-set `nowhere`; add it, or name another"
    );
}

#[test]
fn equal_data_makes_equal_programs_and_sets_count() {
    let terms = || vec![term("t", vec![Condition::PrefixSet("s".into())], vec![], Then::Accept)];
    let of = |prefixes: &[(&str, u8, u8)]| policy(&data(terms(), prefixes, &[], &[]));
    assert_eq!(of(&[("10.0.0.0/8", 8, 8)]), of(&[("10.0.0.0/8", 8, 8)]));
    assert_ne!(of(&[("10.0.0.0/8", 8, 8)]), of(&[("10.0.0.0/8", 8, 9)]));
}

#[test]
fn a_dry_run_tells_what_each_term_did() {
    let terms = vec![
        term("peers", vec![Condition::AsPathSet("s".into())], vec![], Then::Reject),
        term(
            "ours",
            vec![Condition::PrefixSet("s".into())],
            vec![Change::LocalPref(50)],
            Then::Accept,
        ),
    ];
    let table = PolicyTable::compile(&data(terms, &[("10.0.0.0/8", 8, 32)], &["_65009_"], &[])).expect("compiles");
    let program = table.get("p").expect("there");
    let mut question = PolicyQuestion::new("p", prefix("10.1.0.0/16"));
    question.as_path = Some(vec![65001]);
    let answer = question.answer(program, 65000, None, None);
    assert!(answer.accepted);
    assert_eq!(answer.decided_by, "term ours");
    assert_eq!(answer.terms[0].failed.as_deref(), Some("as-path-set s"));
    assert_eq!(answer.terms[1].changes, ["local-pref 50"]);
    let after = answer.after.expect("passes");
    assert_eq!((answer.before.local_pref, after.local_pref), (None, Some(50)));

    question.as_path = Some(vec![65001, 65009]);
    let answer = question.answer(program, 65000, None, None);
    assert_eq!((answer.accepted, answer.after), (false, None));
    assert_eq!((answer.decided_by.as_str(), answer.terms.len()), ("term peers", 1));
    // A route of a peer, with one attribute replaced.
    let theirs = route("10.1.0.0/16", &[65009], &["65000:1"]);
    question.as_path = Some(vec![]);
    let answer = question.answer(program, 65000, Some((&theirs.attributes, RouteSource::Ibgp)), None);
    assert_eq!(
        (answer.before.communities.join(" "), answer.accepted),
        ("65000:1".to_owned(), true)
    );
}

/// What the data says, read term by term, with sets searched from one end to the other.
fn interpret(data: &Policies, route: &mut PolicyRoute<'_>) -> Verdict {
    let policy = &data.policies[0];
    for (at, term) in policy.terms.iter().enumerate() {
        if !term.conditions.iter().all(|condition| naive(data, condition, route)) {
            continue;
        }
        if term.then != Then::Reject {
            term.changes.iter().for_each(|change| program::apply(change, route));
        }
        if term.then != Then::NextTerm {
            return Verdict {
                accept: term.then == Then::Accept,
                decision: Decision::Term(u16::try_from(at).expect("few terms")),
            };
        }
    }
    Verdict {
        accept: policy.accept_by_default,
        decision: Decision::Default,
    }
}

fn naive(data: &Policies, condition: &Condition, route: &PolicyRoute<'_>) -> bool {
    let attributes = &route.attributes;
    let in_prefixes = |prefix: &Prefix| data.prefix_sets[0].prefixes.iter().any(|range| range.matches(prefix));
    let carried = attributes.every_community();
    let carries = |pattern: &net::policy::CommunityPattern| carried.iter().any(|c| pattern.matches(*c));
    match condition {
        Condition::PrefixSet(_) => in_prefixes(&route.prefix),
        Condition::NextHopSet(_) => in_prefixes(&Prefix::host(attributes.next_hop.address)),
        // The patterns that are drawn look for one AS anywhere.
        Condition::AsPathSet(_) => data.as_path_sets[0].patterns.iter().any(|pattern| {
            let wanted: u32 = pattern.as_str().trim_matches('_').parse().expect("one AS");
            attributes.as_path.contains_asn(wanted)
        }),
        Condition::CommunityAny(_) => data.community_sets[0].communities.iter().any(carries),
        Condition::CommunityAll(_) => data.community_sets[0].communities.iter().all(carries),
        Condition::Med(value) => attributes.med == Some(*value),
        Condition::LocalPref(value) => attributes.local_pref.unwrap_or(100) == *value,
        Condition::Origin(value) => attributes.origin_word() == *value,
        Condition::Tag(value) => route.marks.tag == *value,
        Condition::Neighbor(peers) => route.neighbor.is_some_and(|peer| peers.contains(&peer)),
        Condition::V4(v4) => route.prefix.is_v4() == *v4,
        Condition::Source(sources) => sources.contains(&route.source),
        Condition::Rpki(validities) => validities.contains(&route.marks.validity),
    }
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let set = || "s".to_owned();
    sample::select(vec![
        Condition::PrefixSet(set()),
        Condition::NextHopSet(set()),
        Condition::AsPathSet(set()),
        Condition::CommunityAny(set()),
        Condition::CommunityAll(set()),
        Condition::Med(1),
        Condition::LocalPref(100),
        Condition::LocalPref(1),
        Condition::Origin(Origin::Igp),
        Condition::Tag(0),
        Condition::Tag(1),
        Condition::V4(true),
        Condition::V4(false),
        Condition::Source(vec![RouteSource::Ebgp, RouteSource::Announced]),
        Condition::Rpki(vec![Validity::Valid, Validity::NotFound]),
        Condition::Rpki(vec![Validity::Invalid]),
    ])
}

fn any_change() -> impl Strategy<Value = Change> {
    let community = |text: &str| text.parse().expect("community");
    sample::select(vec![
        Change::LocalPref(1),
        Change::Med(MedChange::Set(1)),
        Change::Med(MedChange::Add(1)),
        Change::Prepend { asn: Some(2), count: 1 },
        Change::Prepend { asn: None, count: 1 },
        Change::Origin(Origin::Egp),
        Change::AddCommunities(vec![community("1:1"), community("1:1:1")]),
        Change::SetCommunities(vec![community("1:2")]),
        Change::RemoveCommunities(vec!["1:*".parse().expect("pattern")]),
        Change::Tag(1),
        Change::Weight(1),
        Change::Blackhole,
        Change::NextHop(NextHopChange::Address(IpAddr::from([10, 0, 0, 1]))),
        Change::NextHop(NextHopChange::Unchanged),
    ])
}

fn any_term() -> impl Strategy<Value = Term> {
    let then = sample::select(vec![Then::Accept, Then::Reject, Then::NextTerm, Then::NextTerm]);
    (
        collection::vec(any_condition(), 0..3),
        collection::vec(any_change(), 0..3),
        then,
    )
        .prop_map(|(conditions, changes, then)| term("t", conditions, changes, then))
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    (0..4_u8, 0..3_u8, 0..=32_u8).prop_map(|(high, low, length)| {
        Prefix::containing(IpAddr::from([10, high * 64, low, 0]), length).expect("a length of IPv4")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_compiled_policy_does_what_its_data_says(
        terms in collection::vec(any_term(), 0..6),
        ranges in collection::vec((any_prefix(), 0..=8_u8, 0..=32_u8), 0..6),
        patterns in collection::btree_set(1..4_u32, 0..3),
        communities in collection::vec(sample::select(vec!["1:1", "1:*", "*:2", "1:1:*", "rt:*:*", "no-export"]), 0..3),
        destination in any_prefix(),
        v6 in any::<bool>(),
        ases in collection::vec(1..4_u32, 0..3),
        carried in collection::btree_set(sample::select(vec!["1:1", "1:2", "1:1:1", "rt:1:1", "no-export"]), 0..4),
        numbers in (option::of(0..2_u32), option::of(0..2_u32)),
    ) {
        let patterns: Vec<String> = patterns.into_iter().map(|asn| format!("_{asn}_")).collect();
        let mut data = data(terms, &[], &patterns.iter().map(String::as_str).collect::<Vec<_>>(), &communities);
        data.prefix_sets[0].prefixes = ranges
            .into_iter()
            .map(|(prefix, more, le)| PrefixRange { prefix, ge: prefix.len().saturating_add(more).min(32), le })
            .collect();
        let carried: Vec<&str> = carried.into_iter().collect();
        let mut compiled = route("10.0.0.0/8", &ases, &carried);
        compiled.prefix = if v6 { prefix("2001:db8::/32") } else { destination };
        let attributes = compiled.attributes.to_mut();
        (attributes.med, attributes.local_pref) = numbers;
        let mut interpreted = compiled.clone();
        prop_assert_eq!(policy(&data).evaluate(true, &mut compiled), interpret(&data, &mut interpreted));
        prop_assert_eq!(compiled, interpreted);
    }
}
