//! Paths of a peer that is away for long (RFC 9494 section 4).

use net::policy::Community;

use super::*;

const V4: Family = Family::Ipv4Unicast;

/// A peer that has told two prefixes, one of them not to be kept for long, and is gone.
fn away(rib: &mut Rib) -> PeerInfo {
    let one = peer(1, true);
    rib.peer_up(one.clone());
    rib.update(one.address, announce(&one, &["10.1.0.0/16"]))
        .expect("no limit");
    let not_long = announce_with(&one, &["10.2.0.0/16"], |a| a.set_communities([Community::NO_LLGR]));
    rib.update(one.address, not_long).expect("no limit");
    rib.take_changes();
    rib.peer_restarts(one.address, &Family::ALL);
    assert_eq!(rib.take_changes(), []);
    one
}

#[test]
fn they_are_marked_and_used_while_there_is_nothing_better_and_those_that_refuse_go() {
    let mut rib = rib();
    let one = away(&mut rib);
    rib.long_lived(one.address, &[V4]);
    assert_eq!(told(&mut rib), [(prefix("10.2.0.0/16"), Source::Ebgp, None)]);
    let path = rib.view(None).remove(0).paths.remove(0);
    assert!(path.best && path.stale, "{path:?}");
    assert_eq!(path.communities, ["llgr-stale"]);
    assert!(rib.is_known(one.address));

    // A longer path of another peer is better.
    let two = peer(2, true);
    rib.peer_up(two.clone());
    let longer = announce_with(&two, &["10.1.0.0/16"], |a| a.as_path = a.prepended(two.asn));
    rib.update(two.address, longer).expect("no limit");
    let better = (prefix("10.1.0.0/16"), Source::Ebgp, Some(vec![two.address]));
    assert_eq!(told(&mut rib), [better]);
    let paths = rib.view(None).remove(0).paths;
    assert_eq!(paths[1].reason.as_deref(), Some("long-lived stale"));

    rib.stale_expired(one.address, &[V4]);
    assert!(!rib.is_known(one.address));
    assert_eq!(told(&mut rib), []);
}

#[test]
fn a_peer_that_is_back_replaces_them_by_fresh_ones() {
    let mut rib = rib();
    let one = away(&mut rib);
    rib.long_lived(one.address, &[V4]);
    rib.take_changes();
    rib.peer_up(PeerInfo {
        preserved: vec![V4],
        ..one.clone()
    });
    assert_eq!(rib.take_changes(), []);
    rib.update(one.address, announce(&one, &["10.1.0.0/16"]))
        .expect("no limit");
    rib.take_changes();
    let path = rib.view(None).remove(0).paths.remove(0);
    assert!(path.best && !path.stale && path.communities.is_empty(), "{path:?}");
}

#[test]
fn only_peers_that_know_what_it_means_are_told() {
    let mut rib = rib();
    let one = away(&mut rib);
    let queues = [true, false].map(|long_lived| {
        rib.peer_up(PeerInfo {
            long_lived,
            advertise_learned: true,
            ..peer(if long_lived { 3 } else { 4 }, true)
        })
    });
    let communities = |queue: &OutQueue| -> Vec<Vec<Community>> {
        let told = take(queue, 100).into_iter().filter_map(|item| match item {
            Outgoing::Announce(attributes, _) => Some(attributes.every_community()),
            Outgoing::Withdraw(_) => Some(vec![Community::NO_ADVERTISE]),
            _ => None,
        });
        told.collect()
    };
    for queue in &queues {
        communities(queue);
    }
    rib.long_lived(one.address, &[V4]);
    rib.take_changes();
    // 10.2.0.0/16 is withdrawn from both; 10.1.0.0/16 stays with the one that is told why.
    let [knows, does_not] = queues.each_ref().map(|queue| communities(queue));
    let withdrawn = vec![Community::NO_ADVERTISE];
    assert_eq!(knows, [withdrawn.clone(), vec![Community::LLGR_STALE]]);
    assert_eq!(does_not, [withdrawn]);
}
