//! What policies do to the tables, and what another policy changes.

use net::policy::{Change, Condition, MedChange, NextHopChange, Policies, Term, Then};

use super::*;
use crate::policy::PolicyTable;

/// A policy of one term.
pub(super) fn program(conditions: Vec<Condition>, changes: Vec<Change>, then: Then) -> Policy {
    let data = Policies {
        policies: vec![net::policy::Policy {
            name: "p".to_owned(),
            terms: vec![Term {
                name: "t".to_owned(),
                conditions,
                changes,
                then,
            }],
            accept_by_default: true,
        }],
        ..Policies::default()
    };
    let table = PolicyTable::compile(&data).expect("compiles");
    Policy::Program(Arc::clone(table.get("p").expect("there")))
}

#[test]
fn another_import_policy_looks_again_at_what_was_received() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    let set = |med| program(vec![], vec![Change::Med(MedChange::Set(med))], Then::Accept);
    rib.update(one.address, announce_with(&one, &["10.0.0.0/8"], |a| a.med = Some(1)))
        .expect("within limits");
    let metric = |rib: &mut Rib| {
        let changes = rib.take_changes();
        assert!(changes.len() <= 1);
        changes
            .into_iter()
            .next()
            .map(|change| change.route.map(|route| route.metric))
    };
    assert_eq!(metric(&mut rib), Some(Some(1)));
    rib.set_policies(one.address, &set(7), &one.export);
    assert_eq!(metric(&mut rib), Some(Some(7)));
    // What policy has changed is not the ground for the next one.
    let add = program(vec![], vec![Change::Med(MedChange::Add(1))], Then::Accept);
    rib.set_policies(one.address, &add, &one.export);
    assert_eq!(metric(&mut rib), Some(Some(2)));
    assert_eq!(
        rib.received_route(one.address, &prefix("10.0.0.0/8"))
            .expect("kept")
            .0
            .med,
        Some(1)
    );
    let deny = program(vec![Condition::Med(1)], vec![], Then::Reject);
    rib.set_policies(one.address, &deny, &one.export);
    assert_eq!(metric(&mut rib), Some(None));
    assert_eq!(
        reason(&rib, "10.0.0.0/8").as_deref(),
        Some("denied by import policy: policy p, term t")
    );
    assert_eq!(
        (
            rib.counters(one.address)[0].received,
            rib.counters(one.address)[0].accepted
        ),
        (1, 0)
    );
    rib.set_policies(one.address, &Policy::Accept, &one.export);
    assert_eq!(metric(&mut rib), Some(Some(1)));
}

#[test]
fn another_export_policy_tells_the_peer_only_what_differs() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.set_originated(&[prefix("203.0.113.0/24"), prefix("2001:db8:beef::/48")]);
    rib.take_changes();
    let queue = rib.peer_up(one.clone());
    take(&queue, 100);
    let set = |then| program(vec![Condition::V4(true)], vec![Change::Med(MedChange::Set(5))], then);
    rib.set_policies(one.address, &one.import, &set(Then::Accept));
    let [Outgoing::Announce(attributes, prefixes)] = &take(&queue, 100)[..] else {
        panic!("one announcement")
    };
    assert_eq!(
        (attributes.med, &prefixes[..]),
        (Some(5), &[prefix("203.0.113.0/24")][..])
    );
    rib.set_policies(one.address, &one.import, &set(Then::Accept));
    assert!(queue.is_empty());
    rib.set_policies(one.address, &one.import, &set(Then::Reject));
    assert_eq!(take(&queue, 100), [Outgoing::Withdraw(vec![prefix("203.0.113.0/24")])]);
}

#[test]
fn export_policy_may_change_all_that_the_peer_sees() {
    let mut rib = rib();
    let source = peer(1, true);
    let changes = vec![
        Change::Med(MedChange::Set(9)),
        Change::Prepend { asn: None, count: 2 },
        Change::NextHop(NextHopChange::Unchanged),
        Change::AddCommunities(vec![Community::GRACEFUL_SHUTDOWN]),
    ];
    let told = PeerInfo {
        advertise_learned: true,
        export: program(vec![Condition::Source(vec![RouteSource::Ebgp])], changes, Then::Accept),
        ..peer(3, true)
    };
    rib.peer_up(source.clone());
    let queue = rib.peer_up(told);
    take(&queue, 100);
    let update = announce_with(&source, &["10.0.0.0/8"], |a| a.med = Some(5));
    rib.update(source.address, update).expect("within limits");
    rib.take_changes();
    let [Outgoing::Announce(attributes, _)] = &take(&queue, 100)[..] else {
        panic!("one announcement")
    };
    assert_eq!(attributes.as_path.to_aspath_string(), "65000 65000 65000 65001");
    assert_eq!((attributes.med, attributes.next_hop.address), (Some(9), source.address));
    assert!(attributes.has_community(Community::GRACEFUL_SHUTDOWN));
}

#[test]
fn weight_decides_first_and_blackholes_are_made_by_policy_alone() {
    let mut rib = rib();
    let blackhole = |a: &mut Attributes| a.set_communities([Community::BLACKHOLE]);
    let (plain, weighty) = (
        peer(1, true),
        PeerInfo {
            import: program(vec![], vec![Change::Weight(1), Change::Blackhole], Then::Accept),
            ..peer(2, true)
        },
    );
    rib.peer_up(plain.clone());
    rib.peer_up(weighty.clone());
    rib.update(plain.address, announce_with(&plain, &["10.0.0.0/8"], blackhole))
        .expect("within limits");
    let kind = |rib: &mut Rib| {
        rib.take_changes()
            .pop()
            .and_then(|change| change.route)
            .map(|route| route.kind)
    };
    assert_eq!(kind(&mut rib), Some(net::RouteKind::Unicast));
    let longer = announce_with(&weighty, &["10.0.0.0/8"], |a| a.as_path = a.prepended(weighty.asn));
    rib.update(weighty.address, longer).expect("within limits");
    assert_eq!(kind(&mut rib), Some(net::RouteKind::Blackhole));
    let route = rib.view(None).remove(0);
    assert_eq!(route.paths[1].reason.as_deref(), Some("weight"));
    assert!(route.paths[0].blackhole && !route.paths[1].blackhole);
}

#[test]
fn graceful_shutdown_paths_lose_whatever_policy_prefers() {
    let mut rib = rib();
    let (going, other) = (
        PeerInfo {
            import: program(vec![], vec![Change::LocalPref(500)], Then::Accept),
            ..peer(1, true)
        },
        peer(2, true),
    );
    rib.peer_up(going.clone());
    rib.peer_up(other.clone());
    let shutdown = |a: &mut Attributes| a.set_communities([Community::GRACEFUL_SHUTDOWN]);
    rib.update(going.address, announce_with(&going, &["10.0.0.0/8"], shutdown))
        .expect("within limits");
    rib.update(other.address, announce(&other, &["10.0.0.0/8"]))
        .expect("within limits");
    assert_eq!(
        told(&mut rib),
        [(prefix("10.0.0.0/8"), Source::Ebgp, Some(vec![other.address]))]
    );
}

#[test]
fn a_policy_that_changes_while_the_peer_restarts_leaves_its_paths_stale() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    rib.update(one.address, announce(&one, &["10.0.0.0/8"]))
        .expect("within limits");
    rib.take_changes();
    rib.peer_restarts(one.address, &Family::ALL);
    let set = program(vec![], vec![Change::Med(MedChange::Set(7))], Then::Accept);
    rib.set_policies(one.address, &set, &set);
    assert_eq!(rib.take_changes()[0].route.as_ref().map(|route| route.metric), Some(7));
    assert!(rib.view(None)[0].paths[0].stale);
    rib.stale_expired(one.address, &Family::ALL);
    assert_eq!(rib.take_changes()[0].route, None);
}

#[test]
fn offered_routes_are_announced_as_a_policy_for_their_source_says() {
    let mut rib = rib();
    let queue = rib.peer_up(peer(1, true));
    queue.take(100);
    let net = |n: u8| prefix(&format!("10.{n}.0.0/16"));
    let offers = [
        (net(1), Some(RouteSource::Static)),
        (net(2), Some(RouteSource::Kernel)),
        (net(3), Some(RouteSource::Connected)),
    ];
    rib.offer(offers);
    assert_eq!(told(&mut rib), []);
    assert!(queue.is_empty(), "nothing without a policy");

    let condition = vec![Condition::Source(vec![RouteSource::Static])];
    let set = program(condition, vec![Change::Med(MedChange::Set(9))], Then::Accept);
    let policies = |set: &Policy| {
        BTreeMap::from([
            (RouteSource::Static, set.clone()),
            (RouteSource::Kernel, Policy::Accept),
        ])
    };
    rib.set_redistribution(&policies(&set));
    assert_eq!(told(&mut rib), [], "the gateway knows its own routes");
    let mut announced: Vec<_> = take(&queue, 100)
        .into_iter()
        .map(|outgoing| match outgoing {
            Outgoing::Announce(a, prefixes) => (prefixes, a.med, a.origin_word()),
            other => panic!("{other:?}"),
        })
        .collect();
    announced.sort_by_key(|(prefixes, ..)| prefixes.clone());
    let incomplete = net::policy::Origin::Incomplete;
    assert_eq!(
        announced,
        [(vec![net(1)], Some(9), incomplete), (vec![net(2)], None, incomplete)]
    );

    // Announced outright it comes first; what a peer tells comes after.
    rib.set_originated(&[net(1)]);
    let one = peer(2, true);
    rib.peer_up(one.clone());
    rib.update(one.address, announce(&one, &["10.1.0.0/16"]))
        .expect("within limits");
    rib.take_changes();
    let route = rib.view(Some(&net(1))).remove(0);
    let sources: Vec<_> = route
        .paths
        .iter()
        .map(|path| (path.source.as_str(), path.best))
        .collect();
    assert_eq!(sources, [("announced", true), ("static", false), ("ebgp", false)]);

    assert_eq!(take(&queue, 100).len(), 1, "its origin is another");
    rib.set_originated(&[]);
    rib.offer([(net(1), None), (net(2), None)]);
    assert_eq!(told(&mut rib), [(net(1), Source::Ebgp, Some(vec![one.address]))]);
    assert_eq!(take(&queue, 100), [Outgoing::Withdraw(vec![net(1), net(2)])]);
    assert_eq!(rib.offered(), [(net(3), Some(RouteSource::Connected))]);
}
