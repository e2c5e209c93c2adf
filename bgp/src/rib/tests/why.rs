//! What is said of a route: the step that decided and its values, what policy did, and why a peer is not told.

use net::policy::{Change, MedChange, Then};

use super::policies::program;
use super::*;
use crate::Role;
use crate::view::{RouteWhy, ToldWhy};

const NET: &str = "198.51.100.0/24";

fn why(rib: &mut Rib) -> RouteWhy {
    rib.take_changes();
    rib.why(&prefix(NET)).expect("there is a path")
}

/// Step, value and the winner's value of the path of a peer.
fn decided(why: &RouteWhy, of: &PeerInfo) -> Option<[String; 3]> {
    let path = why.paths.iter().find(|path| path.path.peer == Some(of.address));
    let decided = path.expect("it has told one").decided.clone()?;
    Some([decided.step, decided.value, decided.winner])
}

fn words(words: [&str; 3]) -> Option<[String; 3]> {
    Some(words.map(str::to_owned))
}

fn told<'a>(why: &'a RouteWhy, peer: &PeerInfo) -> &'a ToldWhy {
    let found = why.told.iter().find(|told| told.peer == peer.address);
    found.expect("it has a session")
}

#[test]
fn each_step_has_both_values() {
    let (mut rib, one, two) = (rib(), peer(1, true), peer(2, true));
    let inside = peer(3, false);
    for peer in [&one, &two, &inside] {
        rib.peer_up(peer.clone());
    }
    let tell = |rib: &mut Rib, from: &PeerInfo, edit: &dyn Fn(&mut Attributes)| {
        rib.update(from.address, announce_with(from, &[NET], edit))
            .expect("within limits");
        why(rib)
    };
    tell(&mut rib, &one, &|_| ());
    let shown = tell(&mut rib, &two, &|_| ());
    assert_eq!(decided(&shown, &one), None, "it is the best");
    assert_eq!(decided(&shown, &two), words(["router id", "10.0.0.2", "10.0.0.1"]));
    let shown = tell(&mut rib, &two, &|a| a.as_path = a.prepended(65002));
    assert_eq!(decided(&shown, &two), words(["AS path length", "2", "1"]));
    let shown = tell(&mut rib, &two, &|a| a.origin = wire::Origin::Incomplete);
    assert_eq!(decided(&shown, &two), words(["origin", "incomplete", "igp"]));
    let shown = tell(&mut rib, &inside, &|a| a.as_path = a.prepended(65009));
    let step = "internal, beside an external path";
    assert_eq!(decided(&shown, &inside), words([step, "internal", "external"]));
    let shown = tell(&mut rib, &inside, &|a| a.local_pref = Some(50));
    assert_eq!(decided(&shown, &inside), words(["local preference", "50", "100"]));
    rib.set_originated(&[prefix(NET)]);
    let shown = why(&mut rib);
    assert_eq!(
        decided(&shown, &one),
        words(["prefix is originated here", "learned", "announced"])
    );
    assert_eq!(rib.why(&prefix("10.0.0.0/8")), None);
}

#[test]
fn a_med_is_compared_with_the_least_of_its_neighbour_as() {
    let (mut rib, other, one) = (rib(), peer(1, true), peer(2, true));
    let mut again = peer(3, true);
    again.asn = one.asn;
    for peer in [&other, &one, &again] {
        rib.peer_up(peer.clone());
    }
    for (peer, med) in [(&other, 900), (&one, 10), (&again, 20)] {
        rib.update(peer.address, announce_with(peer, &[NET], |a| a.med = Some(med)))
            .expect("within limits");
    }
    let shown = why(&mut rib);
    assert_eq!(decided(&shown, &other), None, "no MED of another AS counts");
    assert_eq!(decided(&shown, &again), words(["MED", "20", "10"]));
    let of_again = shown.paths.iter().find(|path| path.path.peer == Some(again.address));
    let of_again = of_again.and_then(|path| path.decided.clone()).expect("lost");
    assert_eq!(of_again.winner_peer, Some(one.address));
}

#[test]
fn what_policy_did_is_asked_anew() {
    let (mut rib, mut one) = (rib(), peer(1, true));
    one.import = program(vec![], vec![Change::Med(MedChange::Add(5))], Then::Accept);
    rib.peer_up(one.clone());
    let shutting_down = |a: &mut Attributes| {
        a.med = Some(1);
        a.set_communities([Community::GRACEFUL_SHUTDOWN]);
    };
    rib.update(one.address, announce_with(&one, &[NET], shutting_down))
        .expect("within limits");
    let policy = why(&mut rib).paths[0].policy.clone().expect("it was asked");
    assert_eq!(policy.decided_by, "policy p, term t");
    let changes: Vec<_> = policy
        .changes
        .into_iter()
        .map(|c| [c.what, c.before, c.after])
        .collect();
    assert_eq!(
        changes,
        [["MED", "1", "6"], ["local preference", "none", "0"]].map(|change| change.map(str::to_owned))
    );
    rib.set_policies(one.address, &Policy::Unset, &one.export);
    let shown = why(&mut rib);
    let policy = shown.paths[0].policy.clone().expect("it was asked");
    assert!(!policy.accepted && policy.decided_by.contains("RFC 8212"), "{policy:?}");
    assert_eq!(told(&shown, &one).reason.as_deref(), Some("no path is used"));
    // What is kept out before is not asked of policy.
    rib.update(
        one.address,
        announce_with(&one, &[NET], |a| a.as_path = a.prepended(LOCAL_AS)),
    )
    .expect("within limits");
    assert_eq!(why(&mut rib).paths[0].policy, None);
}

#[test]
fn who_is_not_told_has_a_reason() {
    let (mut rib, one) = (rib(), peer(1, true));
    let with = |host: u8, edit: &dyn Fn(&mut PeerInfo)| {
        let mut info = peer(host, true);
        info.advertise_learned = true;
        edit(&mut info);
        info
    };
    let deny = program(vec![], vec![], Then::Reject);
    let others = [
        (with(2, &|_| ()), None),
        (
            with(3, &|info| info.advertise_learned = false),
            Some("routes of peers are not passed on to it (advertise-learned)"),
        ),
        (
            with(4, &|info| info.export = deny.clone()),
            Some("export policy: policy p, term t"),
        ),
        (
            with(5, &|info| info.export = Policy::Unset),
            Some("export policy: no policy on an external session (RFC 8212)"),
        ),
        (
            with(6, &|info| info.context.families = vec![Family::Ipv6Unicast]),
            Some("the session does not carry the family"),
        ),
        (with(7, &|info| info.asn = 65077), Some("its AS is in the AS path")),
        (
            with(8, &|info| info.local.v4 = None),
            Some("there is no address of ours that the peer could use as next hop"),
        ),
        (with(9, &|info| info.role = Some(Role::Customer)), None),
    ];
    rib.peer_up(one.clone());
    for (info, _) in &others {
        rib.peer_up(info.clone());
    }
    let by_65077 = |a: &mut Attributes| {
        a.as_path.segments = vec![wire::AsPathSegment::AsSequence(vec![one.asn, 65077])];
    };
    rib.update(one.address, announce_with(&one, &[NET], by_65077))
        .expect("within limits");
    let shown = why(&mut rib);
    assert_eq!(told(&shown, &one).reason.as_deref(), Some("the best path came from it"));
    for (info, reason) in &others {
        let told = told(&shown, info);
        assert_eq!(told.reason.as_deref(), *reason, "{info:?}");
        assert_eq!(
            (told.told, told.waits),
            (reason.is_none(), reason.is_none()),
            "{info:?}"
        );
    }
    let first = told(&shown, &others[0].0);
    assert_eq!(first.as_path.as_deref(), Some("65000 65001 65077"));
    assert_eq!(first.next_hop, Some(ip("192.0.2.254")));

    let marked = |a: &mut Attributes| {
        a.mark_only_to_customer(65099);
        a.set_communities([Community::NO_EXPORT]);
    };
    rib.update(one.address, announce_with(&one, &[NET], marked))
        .expect("within limits");
    let shown = why(&mut rib);
    for (info, _) in [&others[0], &others[7]] {
        let reason = told(&shown, info).reason.clone();
        assert_eq!(reason.as_deref(), Some("a well-known community keeps it"));
    }
    rib.update(
        one.address,
        announce_with(&one, &[NET], |a| a.mark_only_to_customer(65099)),
    )
    .expect("within limits");
    let shown = why(&mut rib);
    let reason = told(&shown, &others[7].0).reason.clone();
    assert_eq!(reason.as_deref(), Some("it is for customers alone (RFC 9234)"));
}
