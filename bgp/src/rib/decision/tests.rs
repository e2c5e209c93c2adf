//! Each step decides what it should, and the order of arrival never matters.

use std::sync::Arc;

use net::policy::RouteSource;
use proptest::prelude::*;

use super::*;
use crate::policy::{Marks, Policy};
use crate::rib::{Changed, Ineligible, LocalAddresses, PeerInfo};
use crate::wire::{AsPath, AsPathSegment, Attributes, Context, NextHop, Origin};
use crate::{Family, SendPaths};

/// A path of peer 192.0.2.`host`.
fn path(host: u8, ebgp: bool, edit: impl FnOnce(&mut Attributes)) -> Path {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
    let peer = PeerInfo {
        address,
        asn: 65000 + u32::from(host),
        ebgp,
        router_id: Ipv4Addr::new(10, 0, 0, host),
        interface: None,
        context: Context {
            four_octet_as: true,
            ibgp: !ebgp,
            families: Family::ALL.to_vec(),
            ipv6_next_hop_for_ipv4: false,
            extended_messages: false,
            add_path: Vec::new(),
        },
        enhanced_refresh: false,
        long_lived: false,
        preserved: Vec::new(),
        import: Policy::Accept,
        export: Policy::Accept,
        advertise_learned: false,
        enforce_first_as: true,
        role: None,
        max_prefixes: None,
        send_paths: SendPaths::None,
        local: LocalAddresses::default(),
    };
    let mut attributes = Attributes::originated(NextHop::from(address));
    edit(&mut attributes);
    let attributes = Arc::new(attributes);
    Path {
        source: if peer.ebgp {
            RouteSource::Ebgp
        } else {
            RouteSource::Ibgp
        },
        peer: Some(Arc::new(peer)),
        received: attributes,
        changed: None,
        standing: Standing::Lost(Step::PeerAddress),
        stale: false,
    }
}

fn weigh(path: &mut Path, weight: u32) {
    path.changed = Some(Arc::new(Changed {
        attributes: Arc::clone(&path.received),
        marks: Marks {
            weight,
            ..Marks::default()
        },
        path_id: path.path_id(),
    }));
}

/// Tags a path as one with a longer way to its next hop, or not.
fn far(path: &mut Path, far: bool) {
    path.changed = Some(Arc::new(Changed {
        attributes: Arc::clone(&path.received),
        marks: Marks {
            tag: u32::from(far),
            ..path.marks()
        },
        path_id: path.path_id(),
    }));
}

fn as_path(ases: &[u32]) -> AsPath {
    AsPath {
        segments: vec![AsPathSegment::AsSequence(ases.to_vec())],
    }
}

/// The standings after a decision, by host.
fn standings(paths: Vec<Path>, multipath: u8) -> Vec<Standing> {
    let rules = Rules {
        multipath,
        ..Rules::default()
    };
    ruled(paths, rules)
}

/// The same by any rules; an odd tag is a longer way.
fn ruled(mut paths: Vec<Path>, rules: Rules) -> Vec<Standing> {
    decide(&mut paths, rules, |path| path.marks().tag % 2);
    paths.sort_by_key(address);
    paths.into_iter().map(|path| path.standing).collect()
}

#[test]
fn each_step_decides_and_names_itself() {
    // The second path is the better one in each case, and worse in all later steps.
    let cost = |path: &Path| u32::from(path.marks().tag == 1);
    let second_wins = |step, first: Path, second: Path| {
        let mut paths = [first, second];
        for _ in 0..2 {
            decide(&mut paths, Rules::default(), cost);
            paths.sort_by_key(|path| path.standing == Standing::Best);
            assert_eq!(
                [paths[0].standing, paths[1].standing],
                [Standing::Lost(step), Standing::Best],
                "{step}"
            );
            paths.reverse();
        }
    };
    let long = |attributes: &mut Attributes| attributes.as_path = as_path(&[1, 2, 3]);
    let mut weighty = path(2, false, |a| a.local_pref = Some(1));
    weigh(&mut weighty, 1);
    second_wins(Step::Weight, path(1, true, |_| ()), weighty);
    second_wins(
        Step::LocalPref,
        path(1, true, |_| ()),
        path(2, false, |a| {
            long(a);
            a.local_pref = Some(101);
        }),
    );
    second_wins(
        Step::AsPathLength,
        path(1, true, long),
        path(2, false, |a| {
            a.as_path = as_path(&[1, 2]);
            a.origin = Origin::Incomplete;
        }),
    );
    second_wins(
        Step::Origin,
        path(1, true, |a| a.origin = Origin::Egp),
        path(2, false, |a| a.med = Some(9)),
    );
    second_wins(
        Step::Med,
        path(1, true, |a| (a.as_path, a.med) = (as_path(&[7]), Some(2))),
        path(2, false, |a| (a.as_path, a.med) = (as_path(&[7]), Some(1))),
    );
    second_wins(Step::External, path(1, false, |_| ()), path(2, true, |_| ()));
    let mut distant = path(1, true, |_| ());
    far(&mut distant, true);
    second_wins(Step::IgpCost, distant, path(2, true, |_| ()));
    second_wins(
        Step::RouterId,
        path(1, false, |a| a.originator_id = Some(Ipv4Addr::new(10, 0, 0, 9))),
        path(2, false, |a| a.originator_id = Some(Ipv4Addr::new(10, 0, 0, 3))),
    );
    let same_originator = |clusters: usize| {
        move |a: &mut Attributes| {
            a.originator_id = Some(Ipv4Addr::new(10, 0, 0, 9));
            a.cluster_list = vec![Ipv4Addr::new(1, 1, 1, 1); clusters];
        }
    };
    second_wins(
        Step::ClusterList,
        path(1, false, same_originator(2)),
        path(2, false, same_originator(1)),
    );
    second_wins(
        Step::PeerAddress,
        path(2, false, same_originator(1)),
        path(1, false, same_originator(1)),
    );
}

#[test]
fn med_of_different_neighbours_is_not_compared() {
    let paths = vec![
        path(1, true, |a| (a.as_path, a.med) = (as_path(&[7]), Some(50))),
        path(2, true, |a| (a.as_path, a.med) = (as_path(&[8]), Some(1))),
    ];
    assert_eq!(standings(paths, 1), [Standing::Best, Standing::Lost(Step::RouterId)]);
}

#[test]
fn med_of_all_neighbours_is_compared_if_asked_for() {
    let mut paths = [
        path(1, true, |a| (a.as_path, a.med) = (as_path(&[7]), Some(50))),
        path(2, true, |a| (a.as_path, a.med) = (as_path(&[8]), Some(1))),
    ];
    let rules = Rules {
        always_compare_med: true,
        ..Rules::default()
    };
    decide(&mut paths, rules, |_| 0);
    assert_eq!(
        paths.map(|path| path.standing),
        [Standing::Lost(Step::Med), Standing::Best]
    );
}

#[test]
fn the_external_path_in_use_stays_if_asked_for() {
    let oldest = Rules {
        prefer_oldest: true,
        ..Rules::default()
    };
    let standings = |rules, in_use: Path, new: Path| {
        let mut paths = vec![in_use];
        decide(&mut paths, rules, |_| 0);
        paths.push(new);
        decide(&mut paths, rules, |_| 0);
        [paths[0].standing, paths[1].standing]
    };
    let external = |host| path(host, true, |_| ());
    let stays = [Standing::Best, Standing::Lost(Step::Oldest)];
    assert_eq!(standings(oldest, external(2), external(1)), stays);
    let goes = [Standing::Lost(Step::RouterId), Standing::Best];
    assert_eq!(standings(Rules::default(), external(2), external(1)), goes);
    // What is better before the tie breaks is taken, and internal paths have no such privilege.
    let better = path(1, true, |a| a.local_pref = Some(200));
    let outdone = [Standing::Lost(Step::LocalPref), Standing::Best];
    assert_eq!(standings(oldest, external(2), better), outdone);
    let internal = |host| path(host, false, |_| ());
    assert_eq!(standings(oldest, internal(2), internal(1)), goes);
}

#[test]
fn internal_paths_are_used_side_by_side_if_equally_far() {
    let internal = |host| path(host, false, |_| ());
    let mut paths = [internal(1), internal(2), internal(3)];
    let rules = Rules {
        multipath_internal: 4,
        ..Rules::default()
    };
    let cost = |path: &Path| u32::from(path.is_from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3))));
    decide(&mut paths, rules, cost);
    let far = Standing::Lost(Step::IgpCost);
    assert_eq!(
        paths.map(|path| path.standing),
        [Standing::Best, Standing::Multipath, far]
    );
}

#[test]
fn our_own_prefix_wins_and_ineligible_paths_stay_out() {
    let mut own = path(9, true, |_| ());
    own.peer = None;
    let mut looped = path(1, true, |a| a.local_pref = Some(1000));
    looped.standing = Standing::Ineligible(Ineligible::AsLoop);
    let paths = vec![path(2, true, |a| a.local_pref = Some(500)), looped, own];
    assert_eq!(
        standings(paths, 4),
        [
            Standing::Best,
            Standing::Ineligible(Ineligible::AsLoop),
            Standing::Lost(Step::Originated)
        ]
    );
}

#[test]
fn multipath_takes_equal_external_paths_up_to_its_limit() {
    let equal = |host| path(host, true, |a| a.as_path = as_path(&[u32::from(host), 100]));
    let internal = path(4, false, |a| a.as_path = as_path(&[4, 100]));
    let paths = vec![equal(3), internal, equal(2), equal(1)];
    use Standing::{Best, Lost, Multipath};
    let external = Lost(Step::External);
    assert_eq!(
        standings(paths.clone(), 1),
        [Best, Lost(Step::RouterId), Lost(Step::RouterId), external]
    );
    assert_eq!(
        standings(paths.clone(), 2),
        [Best, Multipath, Lost(Step::RouterId), external]
    );
    assert_eq!(standings(paths, 8), [Best, Multipath, Multipath, external]);
}

fn any_path() -> impl Strategy<Value = (bool, u8, u8, u8, u8, u8, Option<u8>)> {
    (
        any::<bool>(),
        0u8..2,
        0u8..2,
        1u8..3,
        0u8..2,
        0u8..3,
        proptest::option::of(0u8..3),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Few values for each attribute, so that ties, MED groups and their cycles are common.
    #[test]
    fn any_permutation_has_the_same_outcome(
        (paths, shuffled) in proptest::collection::vec(any_path(), 1..8).prop_flat_map(|specs| {
            let paths: Vec<Path> = specs
                .into_iter()
                .zip(1u8..)
                .map(|((ebgp, weight, local_pref, length, origin, neighbor, med), host)| {
                    let mut path = path(host, ebgp, |a| {
                        a.local_pref = Some(u32::from(local_pref));
                        a.as_path = as_path(&vec![u32::from(neighbor) + 1; usize::from(length)]);
                        a.origin = Origin::from_u8(origin).expect("in range");
                        a.med = med.map(u32::from);
                    });
                    weigh(&mut path, u32::from(weight));
                    far(&mut path, host % 2 == 0 && neighbor != 1);
                    path
                })
                .collect();
            (Just(paths.clone()), Just(paths).prop_shuffle())
        }),
        multipath in 0u8..4,
        multipath_internal in 0u8..4,
        always_compare_med in any::<bool>(),
    ) {
        let rules = Rules { multipath, multipath_internal, always_compare_med, prefer_oldest: false };
        let expected = ruled(paths, rules);
        prop_assert_eq!(&expected, &ruled(shuffled, rules));
        prop_assert_eq!(expected.iter().filter(|standing| **standing == Standing::Best).count(), 1);
    }
}

#[test]
fn of_several_paths_of_one_peer_the_lowest_identifier_is_left_to_decide() {
    let numbered = |path_id| path(1, true, |_| ()).with_path_id(path_id);
    let mut paths = vec![numbered(7), numbered(0), numbered(3)];
    decide(&mut paths, Rules::default(), |_| 0);
    let lost = Standing::Lost(Step::PathId);
    let standings: Vec<_> = paths.iter().map(|path| path.standing).collect();
    assert_eq!(standings, [lost, Standing::Best, lost]);
    // They may be used side by side.
    let rules = Rules {
        multipath: 2,
        ..Rules::default()
    };
    decide(&mut paths, rules, |_| 0);
    let standings: Vec<_> = paths.iter().map(|path| path.standing).collect();
    assert_eq!(standings, [lost, Standing::Best, Standing::Multipath]);
}

#[test]
fn most_paths_take_no_more_memory_than_without_identifiers() {
    assert_eq!(size_of::<Path>(), 32);
    assert!(path(1, true, |_| ()).with_path_id(0).changed.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The n-th of the ranking is what the decision process chooses among what is left without the n - 1 before it.
    #[test]
    fn ranking_is_deciding_again_and_again(
        given in proptest::collection::vec((1u8..4, any::<bool>(), 0u32..4, 0u32..3, 0usize..3), 0..12),
        compare_med in any::<bool>(),
    ) {
        let rules = Rules { always_compare_med: compare_med, ..Rules::default() };
        let mut paths: Vec<Path> = Vec::new();
        for (host, ebgp, path_id, med, length) in given {
            let made = path(host, ebgp, |a| {
                a.med = Some(med);
                a.as_path = as_path(&vec![65000 + u32::from(host); length]);
            });
            let made = made.with_path_id(path_id);
            if !paths.iter().any(|known| known.is_told(address(&made).expect("a peer's"), path_id)) {
                paths.push(made);
            }
        }
        decide(&mut paths, rules, |_| 0);
        let key = |path: &Path| (address(path), path.path_id());
        let ranked: Vec<_> = ranked(&paths, rules, |_| 0).map(key).collect();
        let mut expected = Vec::new();
        while !paths.is_empty() {
            decide(&mut paths, rules, |_| 0);
            let best = paths.iter().position(|path| path.standing == Standing::Best).expect("one is best");
            expected.push(key(&paths.remove(best)));
        }
        prop_assert_eq!(ranked, expected);
    }
}
