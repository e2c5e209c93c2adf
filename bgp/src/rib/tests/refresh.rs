//! A family told anew, by a peer and to a peer (RFC 7313).

use super::*;

const V4: Family = Family::Ipv4Unicast;

#[test]
fn what_a_peer_does_not_tell_again_goes_at_the_end() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    rib.update(
        one.address,
        announce(&one, &["10.1.0.0/16", "10.2.0.0/16", "2001:db8:1::/48"]),
    )
    .expect("no limit");
    rib.take_changes();
    rib.refresh_begins(one.address, V4);
    rib.update(one.address, announce(&one, &["10.1.0.0/16"]))
        .expect("no limit");
    assert_eq!(rib.take_changes(), [], "nothing is withdrawn meanwhile");
    rib.refresh_ends(one.address, V4);
    assert_eq!(told(&mut rib), [(prefix("10.2.0.0/16"), Source::Ebgp, None)]);
    // The other family was not concerned, and an end without a beginning is nothing.
    rib.refresh_ends(one.address, Family::Ipv6Unicast);
    assert_eq!(rib.take_changes(), []);
    assert_eq!(rib.counters(one.address)[1].received, 1);
}

#[test]
fn a_peer_that_restarts_in_the_middle_of_it_keeps_its_routes() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    rib.update(one.address, announce(&one, &["10.1.0.0/16"]))
        .expect("no limit");
    rib.take_changes();
    rib.refresh_begins(one.address, V4);
    rib.peer_restarts(one.address, &Family::ALL);
    assert_eq!(rib.take_changes(), []);
    rib.stale_expired(one.address, &Family::ALL);
    assert_eq!(rib.take_changes().len(), 1);
}

/// What the queue holds, one word for items of one kind.
fn words(queue: &OutQueue) -> Vec<&'static str> {
    let items = take(queue, 100).into_iter();
    let words = items.map(|item| match item {
        Outgoing::Announce(..) => "announce",
        Outgoing::Withdraw(_) => "withdraw",
        Outgoing::Batch(_) => "batch",
        Outgoing::EndOfRib(V4) => "end of IPv4",
        Outgoing::EndOfRib(_) => "end of IPv6",
        Outgoing::RefreshBegins(_) => "begin",
        Outgoing::RefreshEnds(_) => "end",
        Outgoing::AnnounceEvpn(..) | Outgoing::WithdrawEvpn(_) => "EVPN",
    });
    let mut words: Vec<_> = words.collect();
    words.dedup();
    words
}

#[test]
fn a_peer_that_asks_is_told_between_the_markers_if_it_knows_them() {
    for enhanced in [true, false] {
        let mut rib = rib();
        let one = PeerInfo {
            enhanced_refresh: enhanced,
            ..peer(1, true)
        };
        let queue = rib.peer_up(one.clone());
        rib.set_originated(&[prefix("10.0.0.0/8")]);
        rib.take_changes();
        // Asked before the first table is out: its end comes first, and nothing is marked.
        rib.refresh(one.address, V4);
        assert_eq!(words(&queue), ["announce", "end of IPv4", "end of IPv6"]);
        rib.refresh(one.address, V4);
        let expected: &[_] = if enhanced {
            &["begin", "announce", "end"]
        } else {
            &["announce"]
        };
        assert_eq!(words(&queue), expected);
        assert!(queue.is_empty());
    }
}
