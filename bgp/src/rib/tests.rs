//! The tables as one: what peers say against what the gateway and the other peers are told.

use net::policy::Community;
use net::{IfIndex, NextHop};

use super::*;
use crate::policy::Policy;
use crate::wire::{Announcement, Context, Outcome};

mod groups;
mod long_lived;
mod policies;
mod refresh;
mod roles;
mod why;

const LOCAL_AS: u32 = 65000;

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn peer(host: u8, ebgp: bool) -> PeerInfo {
    PeerInfo {
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)),
        asn: if ebgp { 65000 + u32::from(host) } else { LOCAL_AS },
        ebgp,
        router_id: Ipv4Addr::new(10, 0, 0, host),
        interface: None,
        context: Context {
            four_octet_as: true,
            ibgp: !ebgp,
            families: Family::UNICAST.to_vec(),
            ipv6_next_hop_for_ipv4: false,
            extended_messages: false,
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
        local: LocalAddresses {
            session: Some(ip("192.0.2.253")),
            v4: Some(Ipv4Addr::new(192, 0, 2, 254)),
            v6: Some("2001:db8::254".parse().expect("ip")),
            link_local: None,
        },
    }
}

fn rib() -> Rib {
    Rib::new(LOCAL_AS, Ipv4Addr::new(10, 0, 0, 254), VrfId::DEFAULT)
}

/// An UPDATE of `from` that announces `prefixes` with itself as next hop and first AS.
fn announce(from: &PeerInfo, prefixes: &[&str]) -> Update {
    announce_with(from, prefixes, |_| ())
}

fn announce_with(from: &PeerInfo, prefixes: &[&str], edit: impl FnOnce(&mut Attributes)) -> Update {
    let mut attributes = Attributes::originated(wire::NextHop::from(from.address));
    if from.ebgp {
        attributes.as_path = attributes.prepended(from.asn);
    }
    edit(&mut attributes);
    let announcement = Announcement {
        attributes,
        prefixes: prefixes.iter().map(|text| prefix(text)).collect(),
    };
    Update {
        withdrawn: Vec::new(),
        announced: vec![announcement],
        ..withdraw(&[])
    }
}

fn withdraw(prefixes: &[&str]) -> Update {
    Update {
        withdrawn: prefixes.iter().map(|text| prefix(text)).collect(),
        announced: Vec::new(),
        evpn: Default::default(),
        end_of_rib: None,
        outcome: Outcome::Clean,
        faults: Vec::new(),
    }
}

/// What a peer is told next, batches taken apart.
fn take(queue: &OutQueue, limit: usize) -> Vec<Outgoing> {
    let flat = |outgoing| match outgoing {
        Outgoing::Batch(batch) => batch.updates().to_vec(),
        other => vec![other],
    };
    let taken = queue.take(limit);
    taken.into_iter().flat_map(flat).collect()
}

/// Source and gateways of each change, in order.
fn told(rib: &mut Rib) -> Vec<(Prefix, Source, Option<Vec<IpAddr>>)> {
    let gateways = |route: Route| route.next_hops.iter().filter_map(|next_hop| next_hop.gateway).collect();
    rib.take_changes()
        .into_iter()
        .map(|c| (c.prefix, c.source, c.route.map(gateways)))
        .collect()
}

fn reason(rib: &Rib, of: &str) -> Option<String> {
    let route = rib
        .view(None)
        .into_iter()
        .find(|route| route.prefix == prefix(of))
        .expect("prefix is known");
    route.paths[0].reason.clone()
}

#[test]
fn announce_replace_and_withdraw() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    let net = prefix("198.51.100.0/24");
    rib.update(one.address, announce(&one, &["198.51.100.0/24"]))
        .expect("within limits");
    assert_eq!(told(&mut rib), [(net, Source::Ebgp, Some(vec![one.address]))]);
    // The same again changes nothing; another next hop does.
    rib.update(one.address, announce(&one, &["198.51.100.0/24"]))
        .expect("within limits");
    assert_eq!(told(&mut rib), []);
    let moved = announce_with(&one, &["198.51.100.0/24"], |a| a.next_hop = ip("192.0.2.77").into());
    rib.update(one.address, moved).expect("within limits");
    assert_eq!(told(&mut rib), [(net, Source::Ebgp, Some(vec![ip("192.0.2.77")]))]);
    assert_eq!(rib.counters(one.address)[0].received, 1);
    rib.update(one.address, withdraw(&["198.51.100.0/24"]))
        .expect("within limits");
    assert_eq!(told(&mut rib), [(net, Source::Ebgp, None)]);
    assert_eq!(
        (rib.sizes().0, rib.sizes().1, rib.counters(one.address)[0].received),
        (0, 0, 0)
    );
}

#[test]
fn several_updates_of_a_prefix_are_one_change() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    for _ in 0..10 {
        rib.update(one.address, announce(&one, &["10.0.0.0/8"]))
            .expect("within limits");
        rib.update(one.address, withdraw(&["10.0.0.0/8"]))
            .expect("within limits");
    }
    assert_eq!(told(&mut rib), []);
}

#[test]
fn a_best_path_of_another_class_withdraws_the_old_source_in_the_same_batch() {
    let (mut rib, external, internal) = (rib(), peer(1, true), peer(2, false));
    rib.peer_up(external.clone());
    rib.peer_up(internal.clone());
    let net = prefix("10.0.0.0/8");
    rib.update(external.address, announce(&external, &["10.0.0.0/8"]))
        .expect("within limits");
    rib.update(
        internal.address,
        announce_with(&internal, &["10.0.0.0/8"], |a| a.as_path = a.prepended(7)),
    )
    .expect("ok");
    assert_eq!(told(&mut rib), [(net, Source::Ebgp, Some(vec![external.address]))]);
    rib.peer_down(external.address);
    assert_eq!(
        told(&mut rib),
        [
            (net, Source::Ebgp, None),
            (net, Source::Ibgp, Some(vec![internal.address]))
        ]
    );
}

#[test]
fn multipath_next_hops_follow_their_peers() {
    let (mut rib, one, two) = (rib(), peer(1, true), peer(2, true));
    rib.set_rules(Rules {
        multipath: 2,
        ..Rules::default()
    });
    for peer in [&one, &two] {
        rib.peer_up(peer.clone());
        rib.update(peer.address, announce(peer, &["10.0.0.0/8"]))
            .expect("within limits");
    }
    let net = prefix("10.0.0.0/8");
    assert_eq!(
        told(&mut rib),
        [(net, Source::Ebgp, Some(vec![one.address, two.address]))]
    );
    rib.peer_down(one.address);
    assert_eq!(told(&mut rib), [(net, Source::Ebgp, Some(vec![two.address]))]);
}

#[test]
fn ineligible_paths_are_kept_with_their_reason_and_not_told() {
    let (mut rib, one) = (rib(), peer(1, true));
    let denied = PeerInfo {
        import: Policy::Unset,
        ..peer(2, true)
    };
    rib.peer_up(one.clone());
    rib.peer_up(denied.clone());
    let link_local = |a: &mut Attributes| a.next_hop = ip("fe80::1").into();
    for (of, update) in [
        (
            "10.1.0.0/16",
            announce_with(&one, &["10.1.0.0/16"], |a| {
                a.as_path = a.prepended(LOCAL_AS);
                a.as_path = a.prepended(one.asn);
            }),
        ),
        (
            "10.2.0.0/16",
            announce_with(&one, &["10.2.0.0/16"], |a| a.as_path = a.prepended(9)),
        ),
        (
            "10.3.0.0/16",
            announce_with(&one, &["10.3.0.0/16"], |a| a.next_hop = ip("192.0.2.253").into()),
        ),
        ("2001:db8:1::/48", announce_with(&one, &["2001:db8:1::/48"], link_local)),
    ] {
        rib.update(one.address, update).expect("within limits");
        assert!(reason(&rib, of).is_some(), "{of}");
    }
    rib.update(denied.address, announce(&denied, &["10.4.0.0/16"]))
        .expect("within limits");
    assert_eq!(told(&mut rib), []);
    assert_eq!(reason(&rib, "10.1.0.0/16").as_deref(), Some("own AS in the AS path"));
    assert_eq!(
        reason(&rib, "10.2.0.0/16").as_deref(),
        Some("AS path does not begin with the peer's AS")
    );
    assert_eq!(
        reason(&rib, "10.3.0.0/16").as_deref(),
        Some("next hop is an own address")
    );
    assert!(reason(&rib, "2001:db8:1::/48").is_some_and(|text| text.contains("link-local")));
    assert_eq!(
        reason(&rib, "10.4.0.0/16").as_deref(),
        Some("no import policy on an external session (RFC 8212)")
    );
    let counters = rib.counters(one.address)[0];
    assert_eq!((counters.received, counters.accepted), (3, 0));
}

#[test]
fn a_link_local_next_hop_leaves_by_the_peers_interface() {
    let (mut rib, one) = (
        rib(),
        PeerInfo {
            interface: Some(IfIndex(4)),
            ..peer(1, true)
        },
    );
    rib.peer_up(one.clone());
    let update = announce_with(&one, &["2001:db8:1::/48"], |a| a.next_hop = ip("fe80::1").into());
    rib.update(one.address, update).expect("within limits");
    let route = rib.take_changes().remove(0).route.expect("announced");
    assert_eq!(route.next_hops[0], NextHop::via(ip("fe80::1")).through(IfIndex(4)));
}

#[test]
fn originated_prefixes_go_to_peers_with_ourselves_as_next_hop_and_as() {
    let mut rib = rib();
    rib.set_originated(&[prefix("203.0.113.0/24"), prefix("2001:db8:beef::/48")]);
    let (external, internal, silent) = (
        peer(1, true),
        peer(2, false),
        PeerInfo {
            export: Policy::Unset,
            ..peer(3, true)
        },
    );
    assert_eq!(told(&mut rib), [], "our own prefixes are no routes for the gateway");
    let queues = [external, internal, silent].map(|info| rib.peer_up(info));
    let announced = |queue: &OutQueue| -> Vec<(IpAddr, String, Option<u32>, Vec<Prefix>)> {
        let mut list: Vec<_> = take(queue, 100)
            .into_iter()
            .filter_map(|outgoing| match outgoing {
                Outgoing::Announce(a, prefixes) => {
                    Some((a.next_hop.address, a.as_path.to_aspath_string(), a.local_pref, prefixes))
                }
                _ => None,
            })
            .collect();
        list.sort();
        list
    };
    let (v4, v6) = (vec![prefix("203.0.113.0/24")], vec![prefix("2001:db8:beef::/48")]);
    let ours = (ip("192.0.2.254"), ip("2001:db8::254"));
    assert_eq!(
        announced(&queues[0]),
        [
            (ours.0, "65000".into(), None, v4.clone()),
            (ours.1, "65000".into(), None, v6.clone())
        ]
    );
    assert_eq!(
        announced(&queues[1]),
        [
            (ours.0, String::new(), Some(100), v4),
            (ours.1, String::new(), Some(100), v6)
        ]
    );
    assert_eq!(
        announced(&queues[2]),
        [],
        "an external session without policy announces nothing"
    );

    rib.set_originated(&[prefix("2001:db8:beef::/48")]);
    rib.take_changes();
    assert_eq!(
        take(&queues[0], 100),
        [Outgoing::Withdraw(vec![prefix("203.0.113.0/24")])]
    );
    rib.refresh(ip("192.0.2.1"), Family::Ipv6Unicast);
    assert_eq!(announced(&queues[0]).len(), 1);
}

#[test]
fn the_first_full_table_ends_with_a_marker_for_each_family() {
    let mut rib = rib();
    rib.set_originated(&[prefix("203.0.113.0/24"), prefix("203.0.114.0/24")]);
    rib.take_changes();
    let queue = rib.peer_up(peer(1, true));
    assert!(matches!(take(&queue, 1)[..], [Outgoing::Announce(..)]));
    let last = take(&queue, 1);
    assert_eq!(
        last[1..],
        [
            Outgoing::EndOfRib(Family::Ipv4Unicast),
            Outgoing::EndOfRib(Family::Ipv6Unicast)
        ]
    );
    assert!(queue.is_empty());
}

#[test]
fn learned_routes_pass_only_where_asked_and_never_back() {
    let mut rib = rib();
    let (source, closed, open) = (
        PeerInfo {
            advertise_learned: true,
            ..peer(1, true)
        },
        peer(2, true),
        PeerInfo {
            advertise_learned: true,
            ..peer(3, true)
        },
    );
    let queues = [&source, &closed, &open].map(|info| rib.peer_up(info.clone()));
    queues.iter().for_each(|queue| drop(take(queue, 100)));
    let no_export = |a: &mut Attributes| a.other.push(wire::PathAttribute::Communities(vec![0xffff_ff01]));
    rib.update(
        source.address,
        announce_with(&source, &["10.0.0.0/8"], |a| a.med = Some(5)),
    )
    .expect("within limits");
    rib.update(source.address, announce_with(&source, &["11.0.0.0/8"], no_export))
        .expect("within limits");
    rib.take_changes();
    assert!(queues[0].is_empty() && queues[1].is_empty());
    let [Outgoing::Announce(attributes, prefixes)] = &take(&queues[2], 100)[..] else {
        panic!("one announcement")
    };
    assert_eq!(prefixes[..], [prefix("10.0.0.0/8")]);
    assert_eq!(
        (attributes.as_path.to_aspath_string().as_str(), attributes.med),
        ("65000 65001", None)
    );
    rib.peer_down(source.address);
    rib.take_changes();
    assert_eq!(take(&queues[2], 100), [Outgoing::Withdraw(vec![prefix("10.0.0.0/8")])]);
}

#[test]
fn too_many_prefixes_are_reported() {
    let (mut rib, one) = (
        rib(),
        PeerInfo {
            max_prefixes: Some(2),
            ..peer(1, true)
        },
    );
    rib.peer_up(one.clone());
    assert_eq!(
        rib.update(one.address, announce(&one, &["10.0.0.0/8", "2001:db8::/32"])),
        Ok(())
    );
    let excess = rib.update(one.address, announce(&one, &["12.0.0.0/8"]));
    assert_eq!(excess, Err(TooManyPrefixes { received: 3, limit: 2 }));
}

#[test]
fn routes_share_their_attributes() {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    for net in ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"] {
        rib.update(one.address, announce(&one, &[net])).expect("within limits");
    }
    assert_eq!((rib.sizes().1, rib.sizes().2), (3, 1));
    rib.peer_down(one.address);
    rib.take_changes();
    assert_eq!(rib.sizes(), (0, 0, 0));
}

#[test]
fn a_restart_withdraws_nothing_and_what_is_not_told_again_goes_at_the_end_of_the_table() {
    let mut rib = rib();
    let one = peer(1, true);
    let back = PeerInfo {
        preserved: Family::ALL.to_vec(),
        ..one.clone()
    };
    rib.peer_up(one.clone());
    let told = ["10.1.0.0/16", "10.2.0.0/16", "2001:db8:1::/48"];
    rib.update(one.address, announce(&one, &told)).expect("no limit");
    assert_eq!(rib.take_changes().len(), 3);

    rib.peer_restarts(one.address, &Family::ALL);
    assert_eq!(rib.take_changes(), []);
    assert!(
        rib.view(None)
            .iter()
            .all(|route| route.paths[0].stale && route.paths[0].best)
    );
    assert_eq!(rib.counters(one.address)[0].received, 2);
    // Nothing is taken from a peer that is away.
    rib.update(one.address, announce(&one, &["10.9.0.0/16"]))
        .expect("no limit");
    assert_eq!(rib.take_changes(), []);

    rib.peer_up(back);
    rib.update(one.address, announce(&one, &["10.1.0.0/16"]))
        .expect("no limit");
    assert_eq!(rib.take_changes(), []);
    let end_of_rib = Update {
        end_of_rib: Some(Family::Ipv4Unicast),
        ..withdraw(&[])
    };
    rib.update(one.address, end_of_rib).expect("no limit");
    let gone = rib.take_changes();
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].prefix, &gone[0].route), (prefix("10.2.0.0/16"), &None));
    // IPv6 did not end in time.
    rib.stale_expired(one.address, &Family::ALL);
    assert_eq!(rib.take_changes()[0].prefix, prefix("2001:db8:1::/48"));
    let counters = rib.counters(one.address);
    assert_eq!((counters[0].received, counters[1].received), (1, 0));
}

#[test]
fn a_peer_that_preserved_nothing_or_does_not_come_back_loses_its_routes() {
    let one = peer(1, true);
    let restarted = || {
        let mut rib = rib();
        rib.peer_up(one.clone());
        rib.update(one.address, announce(&one, &["10.1.0.0/16", "2001:db8:1::/48"]))
            .expect("no limit");
        rib.take_changes();
        rib.peer_restarts(one.address, &[Family::Ipv4Unicast]);
        let gone = rib.take_changes();
        assert_eq!(gone.len(), 1, "IPv6 is not kept");
        assert_eq!(gone[0].prefix, prefix("2001:db8:1::/48"));
        rib
    };
    let mut forgotten = restarted();
    forgotten.stale_expired(one.address, &Family::ALL);
    assert_eq!(forgotten.take_changes().len(), 1);
    assert_eq!(forgotten.sizes(), (0, 0, 0));

    let mut empty_handed = restarted();
    empty_handed.peer_up(one.clone());
    assert_eq!(empty_handed.take_changes().len(), 1);

    let mut twice = restarted();
    twice.peer_restarts(one.address, &Family::ALL);
    assert_eq!(twice.take_changes().len(), 1, "no path survives two restarts");
}

#[test]
fn link_bandwidth_weighs_the_paths_if_all_tell_it() {
    let mut rib = rib();
    rib.set_rules(Rules {
        multipath: 4,
        ..Rules::default()
    });
    let peers = [1, 2].map(|host| peer(host, true));
    let bandwidth =
        |text: &'static str| move |a: &mut Attributes| a.set_communities([text.parse().expect("community")]);
    let mut weights = |host: usize, community: &'static str| -> Vec<u16> {
        if rib.counters(peers[host].address).is_empty() {
            rib.peer_up(peers[host].clone());
        }
        let update = announce_with(&peers[host], &["10.0.0.0/8"], bandwidth(community));
        rib.update(peers[host].address, update).expect("within limits");
        let route = rib
            .take_changes()
            .pop()
            .and_then(|change| change.route)
            .expect("changed");
        route.next_hops.iter().map(|next_hop| next_hop.weight).collect()
    };
    assert_eq!(weights(0, "bandwidth:65001:1000"), [1]);
    assert_eq!(weights(1, "bandwidth:65002:3000"), [21, 64]);
    assert_eq!(weights(1, "1:1"), [1, 1]);
}

#[test]
fn paths_wait_for_their_next_hop_and_go_the_shorter_way() {
    let mut rib = rib();
    rib.track_next_hops(true);
    let (one, two) = (peer(1, false), peer(2, false));
    let net = prefix("10.0.0.0/8");
    for peer in [&one, &two] {
        rib.peer_up(peer.clone());
        rib.update(peer.address, announce(peer, &["10.0.0.0/8"]))
            .expect("within limits");
    }
    assert_eq!(told(&mut rib), []);
    assert_eq!(rib.wanted_next_hops(), Some([one.address, two.address].into()));
    assert_eq!(rib.wanted_next_hops(), None);
    assert_eq!(
        reason(&rib, "10.0.0.0/8").as_deref(),
        Some("next hop is being looked up")
    );
    assert!(rib.awaits_next_hops());

    rib.next_hops_are(&[(one.address, Some(20)), (two.address, None), (ip("10.9.9.9"), Some(0))]);
    assert!(!rib.awaits_next_hops());
    assert_eq!(told(&mut rib), [(net, Source::Ibgp, Some(vec![one.address]))]);
    let why = |rib: &Rib, at: usize| rib.view(None)[0].paths[at].reason.clone();
    assert_eq!(why(&rib, 1).as_deref(), Some("next hop is unreachable"));
    assert_eq!(rib.counters(two.address)[0].accepted, 0);

    rib.next_hops_are(&[(two.address, Some(10))]);
    assert_eq!(told(&mut rib), [(net, Source::Ibgp, Some(vec![two.address]))]);
    assert_eq!(why(&rib, 1).as_deref(), Some("metric to the next hop"));
    assert_eq!(rib.counters(two.address)[0].accepted, 1);
    rib.next_hops_are(&[(two.address, None), (one.address, None)]);
    assert_eq!(told(&mut rib), [(net, Source::Ibgp, None)]);

    rib.peer_down(two.address);
    rib.take_changes();
    assert_eq!(rib.wanted_next_hops(), Some([one.address].into()));
}

#[test]
fn a_next_hop_on_the_peers_link_needs_no_lookup() {
    let mut rib = rib();
    rib.track_next_hops(true);
    let one = PeerInfo {
        interface: Some(IfIndex(4)),
        ..peer(1, true)
    };
    rib.peer_up(one.clone());
    let update = announce_with(&one, &["2001:db8:1::/48"], |a| a.next_hop = ip("fe80::1").into());
    rib.update(one.address, update).expect("within limits");
    assert_eq!(told(&mut rib).len(), 1);
    assert_eq!(rib.wanted_next_hops(), None);
}
