//! EVPN's tables: import by route target, competition of route distinguishers, mobility, origination, restarts.

use net::{Mac, NextHop, Route, RouteDistinguisher, Vni, VxlanNextHop};
use proptest::prelude::*;

use super::*;
use crate::Family;
use crate::policy::Policy;
use crate::rib::{LocalAddresses, OutQueue, Outgoing};
use crate::wire::{self, Context, Esi, EvpnAnnouncement};

const LOCAL_AS: u32 = 65000;
const BLUE: VrfId = VrfId(1);
const RED: VrfId = VrfId(2);
const VNI: u32 = 5001;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn target(text: &str) -> RouteTarget {
    text.parse().expect("route target")
}

fn mac(host: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, host])
}

fn vrf(id: VrfId, vni: u32, targets: &[&str]) -> EvpnVrf {
    let targets: Vec<RouteTarget> = targets.iter().map(|text| target(text)).collect();
    EvpnVrf {
        vrf: id,
        name: format!("vpc-{}", id.0),
        rd: RouteDistinguisher::automatic(Ipv4Addr::new(192, 0, 2, 250), id.0),
        import: targets.clone(),
        export: targets,
        vni: Vni::new(vni).expect("VNI"),
        vtep: ip("192.0.2.250"),
        router_mac: mac(250),
        multicast: false,
        announce: Vec::new(),
        redistribute: BTreeMap::new(),
    }
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
            families: Family::ALL.to_vec(),
            ipv6_next_hop_for_ipv4: false,
            extended_messages: false,
        },
        enhanced_refresh: false,
        long_lived: false,
        preserved: vec![Family::L2vpnEvpn],
        import: Policy::Accept,
        export: Policy::Accept,
        advertise_learned: false,
        enforce_first_as: true,
        role: None,
        max_prefixes: None,
        local: LocalAddresses::default(),
    }
}

/// Tables with one VRF that imports and exports 65000:1, and an established peer for each of `hosts`.
fn tables(hosts: &[u8], ebgp: bool) -> (Evpn, Vec<Arc<OutQueue>>) {
    let mut evpn = Evpn::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 250));
    evpn.set_vrfs(&[vrf(BLUE, VNI, &["65000:1"])]);
    let queues = hosts.iter().map(|host| up(&mut evpn, &peer(*host, ebgp))).collect();
    (evpn, queues)
}

fn up(evpn: &mut Evpn, info: &PeerInfo) -> Arc<OutQueue> {
    let queue: Arc<OutQueue> = Arc::default();
    evpn.peer_up(&Arc::new(info.clone()), &queue);
    queue
}

/// What leaf `host` says: its own endpoint, MAC address and AS.
fn attributes(host: u8, targets: &[&str]) -> Attributes {
    let mut attributes = Attributes::originated(wire::NextHop::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host))));
    attributes.as_path = attributes.prepended(65000 + u32::from(host));
    let targets = targets.iter().map(|text| target(text).community());
    attributes.set_communities(targets.chain([wire::vxlan_encapsulation(), wire::router_mac(mac(host))]));
    attributes
}

fn type_5(host: u8, destination: &str) -> EvpnRoute {
    EvpnRoute {
        label: VNI,
        ..EvpnRoute::new(EvpnKey::Prefix {
            rd: RouteDistinguisher::automatic(Ipv4Addr::new(192, 0, 2, host), 1),
            tag: 0,
            prefix: prefix(destination),
        })
    }
}

fn type_2(host: u8, address: Option<&str>) -> EvpnRoute {
    EvpnRoute {
        label: 100,
        routed_label: Some(VNI),
        ..EvpnRoute::new(EvpnKey::Host {
            rd: RouteDistinguisher::automatic(Ipv4Addr::new(192, 0, 2, host), 1),
            tag: 0,
            mac: mac(99),
            ip: address.map(ip),
        })
    }
}

fn say(evpn: &mut Evpn, from: u8, attributes: Attributes, routes: &[EvpnRoute]) {
    let announced = vec![EvpnAnnouncement {
        attributes,
        routes: routes.to_vec(),
    }];
    let update = EvpnUpdate {
        announced,
        withdrawn: Vec::new(),
    };
    evpn.update(IpAddr::V4(Ipv4Addr::new(192, 0, 2, from)), update);
}

fn withdraw(evpn: &mut Evpn, from: u8, route: &EvpnRoute) {
    let update = EvpnUpdate {
        announced: Vec::new(),
        withdrawn: vec![route.key],
    };
    evpn.update(IpAddr::V4(Ipv4Addr::new(192, 0, 2, from)), update);
}

/// The change of a route through the endpoints of `hosts`.
fn routed(id: VrfId, destination: &str, source: Source, hosts: &[u8]) -> RouteChange {
    let hop = |host: &u8| NextHop {
        gateway: None,
        vxlan: Some(VxlanNextHop {
            vni: Vni::new(VNI).expect("VNI"),
            vtep: IpAddr::V4(Ipv4Addr::new(192, 0, 2, *host)),
            mac: mac(*host),
        }),
        ..NextHop::via(ip("0.0.0.0"))
    };
    RouteChange {
        vrf: id,
        prefix: prefix(destination),
        source,
        route: Some(Route::multipath(hosts.iter().map(hop))),
    }
}

fn gone(id: VrfId, destination: &str, source: Source) -> RouteChange {
    RouteChange {
        route: None,
        ..routed(id, destination, source, &[1])
    }
}

/// Why the path of `from` to a route is not used, or in no VRF, or not a route of the VRF.
fn reason(evpn: &Evpn, key: &EvpnKey, from: u8) -> Option<String> {
    let state = evpn.view();
    let text = (key.rd(), key.to_string());
    let route = state
        .routes
        .iter()
        .find(|route| (route.rd, route.route.clone()) == text)?;
    let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, from));
    let path = route.paths.iter().find(|path| path.peer == Some(peer))?;
    let vrf = path.imports.iter().find_map(|import| import.reason.clone());
    path.reason.clone().or(path.not_imported.clone()).or(vrf)
}

#[test]
fn prefixes_and_hosts_become_routes_of_the_vrfs_that_import_a_target() {
    let (mut evpn, _queues) = tables(&[1], true);
    let red = EvpnVrf {
        import: vec![target("65000:1"), target("192.0.2.9:2")],
        ..vrf(RED, VNI + 1, &["65000:2"])
    };
    evpn.set_vrfs(&[vrf(BLUE, VNI, &["65000:1"]), red]);
    let routes = [
        type_5(1, "10.1.0.0/16"),
        type_2(1, Some("10.1.0.7")),
        type_5(1, "2001:db8:1::/48"),
    ];
    say(&mut evpn, 1, attributes(1, &["65000:9", "65000:1"]), &routes);
    let expected = [
        routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[1]),
        routed(BLUE, "10.1.0.7/32", Source::Ebgp, &[1]),
        routed(BLUE, "2001:db8:1::/48", Source::Ebgp, &[1]),
    ];
    assert_eq!(evpn.take_changes(), expected);
    assert_eq!(evpn.take_changes(), []);
    // The other VRF has the target and another VNI.
    let key = routes[0].key;
    assert_eq!(
        reason(&evpn, &key, 1).as_deref(),
        Some("is for VNI 5001, and the VPC's is 5002")
    );
    withdraw(&mut evpn, 1, &routes[0]);
    assert_eq!(evpn.take_changes(), [gone(BLUE, "10.1.0.0/16", Source::Ebgp)]);
    assert_eq!(evpn.received(ip("192.0.2.1")), 2);
    evpn.peer_down(ip("192.0.2.1"));
    let both = [
        gone(BLUE, "10.1.0.7/32", Source::Ebgp),
        gone(BLUE, "2001:db8:1::/48", Source::Ebgp),
    ];
    assert_eq!(evpn.take_changes(), both);
    assert_eq!(evpn.view().routes, []);
}

#[test]
fn what_is_not_imported_says_why() {
    let (mut evpn, _queues) = tables(&[1], true);
    let with = |edit: fn(&mut Attributes)| {
        let mut made = attributes(1, &["65000:1"]);
        edit(&mut made);
        made
    };
    let plain = || with(|_| ());
    let five = type_5(1, "10.1.0.0/16");
    let two = type_2(1, Some("10.1.0.7"));
    let rd = five.key.rd();
    let multicast = EvpnRoute::new(EvpnKey::Multicast {
        rd,
        tag: 0,
        originator: ip("192.0.2.1"),
    });
    let only = |text: &'static str| target(text).community();
    for (what, route, attributes) in [
        ("no VPC imports a route target of it", five, attributes(1, &["65000:3"])),
        (
            "has no router's MAC",
            five,
            with(|a| a.set_communities(["rt:65000:1".parse().expect("rt")])),
        ),
        (
            "router's MAC 01:00:5e:00:00:01 is not the address of one host",
            two,
            with(|a| {
                let group = wire::router_mac(Mac([1, 0, 0x5e, 0, 0, 1]));
                a.set_communities(["rt:65000:1".parse().expect("rt"), group]);
            }),
        ),
        ("is not encapsulated in VXLAN", five, {
            let mut made = plain();
            // Encapsulation MPLS (10) alone.
            let mpls = net::policy::Community::Extended(0x030c_0000_0000_000a);
            made.set_communities([only("65000:1"), mpls, wire::router_mac(mac(1))]);
            made
        }),
        (
            "is for VNI 7, and the VPC's is 5001",
            EvpnRoute { label: 7, ..five },
            plain(),
        ),
        (
            "leads to a gateway or segment of another route (overlay index)",
            EvpnRoute {
                gateway: Some(ip("10.9.9.9")),
                ..five
            },
            plain(),
        ),
        (
            "has no second label: the host is bridged, not routed",
            EvpnRoute {
                routed_label: None,
                ..two
            },
            plain(),
        ),
        ("tells a MAC address and no IP address", type_2(1, None), plain()),
        ("leads to no prefix", multicast, plain()),
        (
            "endpoint 2001:db8::1 is of the other address family than ours",
            five,
            with(|a| {
                a.next_hop = wire::NextHop::from(ip("2001:db8::1"));
            }),
        ),
        (
            "next hop is an own address",
            five,
            with(|a| a.next_hop = wire::NextHop::from(ip("192.0.2.250"))),
        ),
        (
            "own AS in the AS path",
            five,
            with(|a| {
                a.as_path = a.prepended(LOCAL_AS);
                a.as_path = a.prepended(65001);
            }),
        ),
    ] {
        say(&mut evpn, 1, attributes, &[route]);
        assert_eq!(evpn.take_changes(), [], "{what}");
        assert_eq!(reason(&evpn, &route.key, 1).as_deref(), Some(what));
        withdraw(&mut evpn, 1, &route);
    }
    // Without any encapsulation named, VXLAN is what there is.
    say(
        &mut evpn,
        1,
        with(|a| a.set_communities(["rt:65000:1".parse().expect("rt"), wire::router_mac(mac(1))])),
        &[five],
    );
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[1])]);
    assert_eq!(reason(&evpn, &five.key, 1), None);
}

#[test]
fn an_external_peer_without_policy_and_a_denied_route_are_kept_out() {
    let (mut evpn, _queues) = tables(&[], true);
    let silent = PeerInfo {
        import: Policy::Unset,
        export: Policy::Unset,
        ..peer(1, true)
    };
    evpn.set_vrfs(&[EvpnVrf {
        announce: vec![prefix("10.9.0.0/16")],
        ..vrf(BLUE, VNI, &["65000:1"])
    }]);
    let queue = up(&mut evpn, &silent);
    let route = type_5(1, "10.1.0.0/16");
    say(&mut evpn, 1, attributes(1, &["65000:1"]), &[route]);
    assert_eq!(evpn.take_changes(), []);
    let why = reason(&evpn, &route.key, 1).expect("a reason");
    assert!(why.contains("RFC 8212"), "{why}");
    assert!(told(&queue).is_empty());
    // Other policies take effect on what was received, without a reset.
    evpn.set_policies(silent.address, &Policy::Accept, &Policy::Accept);
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[1])]);
    assert_eq!(told(&queue), ["+[5]:[0]:[10.9.0.0/16] 192.0.2.250 65000"]);
    evpn.set_policies(silent.address, &Policy::Accept, &Policy::Deny);
    evpn.take_changes();
    assert_eq!(told(&queue), ["-[5]:[0]:[10.9.0.0/16]"]);
}

#[test]
fn route_distinguishers_compete_and_the_next_takes_over() {
    let (mut evpn, _queues) = tables(&[1, 2], true);
    let longer = |host| {
        let mut made = attributes(host, &["65000:1"]);
        made.as_path = made.prepended(65000 + u32::from(host));
        made
    };
    say(&mut evpn, 1, longer(1), &[type_5(1, "10.1.0.0/16")]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[1])]);
    say(&mut evpn, 2, attributes(2, &["65000:1"]), &[type_5(2, "10.1.0.0/16")]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[2])]);
    assert_eq!(
        reason(&evpn, &type_5(1, "10.1.0.0/16").key, 1).as_deref(),
        Some("AS path length")
    );
    // Each is the best of its own distinguisher.
    assert!(evpn.view().routes.iter().all(|route| route.paths[0].best));
    withdraw(&mut evpn, 2, &type_5(2, "10.1.0.0/16"));
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[1])]);
    // Equal ones are used side by side if that is wanted.
    evpn.set_rules(Rules {
        multipath: 4,
        ..Rules::default()
    });
    say(&mut evpn, 2, longer(2), &[type_5(2, "10.1.0.0/16")]);
    assert_eq!(
        evpn.take_changes(),
        [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[1, 2])]
    );
}

#[test]
fn an_endpoint_that_is_not_reachable_is_no_next_hop() {
    let (mut evpn, _queues) = tables(&[1, 2], true);
    evpn.track_next_hops(true);
    for host in [1, 2] {
        say(
            &mut evpn,
            host,
            attributes(host, &["65000:1"]),
            &[type_5(host, "10.1.0.0/16")],
        );
    }
    assert_eq!(evpn.take_changes(), []);
    assert_eq!(evpn.wanted_next_hops(), Some([ip("192.0.2.1"), ip("192.0.2.2")].into()));
    assert!(evpn.awaits_next_hops());
    evpn.next_hops_are(&[(ip("192.0.2.1"), Some(20)), (ip("192.0.2.2"), Some(10))]);
    // The nearer one.
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[2])]);
    evpn.next_hops_are(&[(ip("192.0.2.2"), None)]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[1])]);
    let key = type_5(2, "10.1.0.0/16").key;
    assert_eq!(reason(&evpn, &key, 2).as_deref(), Some("next hop is unreachable"));
    evpn.next_hops_are(&[(ip("192.0.2.2"), Some(10))]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ebgp, &[2])]);
}

/// Attributes of leaf `host` for a host that has moved `moves` times.
fn moved(host: u8, sticky: bool, moves: u32) -> Attributes {
    let mut made = attributes(host, &["65000:1"]);
    let raw = 0x0600 << 48 | u64::from(sticky) << 40 | u64::from(moves);
    let all = made.every_community();
    made.set_communities(all.into_iter().chain([net::policy::Community::Extended(raw)]));
    made
}

#[test]
fn a_host_is_where_it_moved_last_unless_it_must_not_move() {
    let host = "10.1.0.7/32";
    let (mut evpn, _queues) = tables(&[1, 2, 3], true);
    say(
        &mut evpn,
        1,
        attributes(1, &["65000:1"]),
        &[type_2(1, Some("10.1.0.7"))],
    );
    assert_eq!(evpn.take_changes(), [routed(BLUE, host, Source::Ebgp, &[1])]);
    let far = |sticky, moves| {
        let mut made = moved(2, sticky, moves);
        made.as_path = made.prepended(65002);
        made
    };
    // Its last move counts more than the length of an AS path.
    say(&mut evpn, 2, far(false, 1), &[type_2(2, Some("10.1.0.7"))]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, host, Source::Ebgp, &[2])]);
    let key = type_2(1, Some("10.1.0.7")).key;
    assert!(reason(&evpn, &key, 1).is_some_and(|why| why.starts_with("MAC mobility")));
    say(&mut evpn, 3, moved(3, true, 0), &[type_2(3, Some("10.1.0.7"))]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, host, Source::Ebgp, &[3])]);
    withdraw(&mut evpn, 3, &type_2(3, Some("10.1.0.7")));
    assert_eq!(evpn.take_changes(), [routed(BLUE, host, Source::Ebgp, &[2])]);
    // Equally many moves: the lowest endpoint, whatever else speaks for the other.
    say(&mut evpn, 1, far_from(1), &[type_2(1, Some("10.1.0.7"))]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, host, Source::Ebgp, &[1])]);
}

fn far_from(host: u8) -> Attributes {
    let mut made = moved(host, false, 1);
    for _ in 0..5 {
        made.as_path = made.prepended(65000 + u32::from(host));
    }
    made
}

#[test]
fn a_host_on_a_segment_with_two_uplinks_has_two_ways() {
    let (mut evpn, _queues) = tables(&[1, 2], true);
    evpn.set_rules(Rules {
        multipath: 2,
        ..Rules::default()
    });
    for host in [1, 2] {
        let route = EvpnRoute {
            esi: Esi([1; 10]),
            ..type_2(host, Some("10.1.0.7"))
        };
        say(&mut evpn, host, attributes(host, &["65000:1"]), &[route]);
    }
    assert_eq!(
        evpn.take_changes(),
        [routed(BLUE, "10.1.0.7/32", Source::Ebgp, &[1, 2])]
    );
}

/// What a peer is told next: `+route endpoint as-path` and `-route`.
fn told(queue: &OutQueue) -> Vec<String> {
    let mut words = Vec::new();
    for outgoing in queue.take(1000) {
        match outgoing {
            Outgoing::AnnounceEvpn(attributes, routes) => words.extend(routes.iter().map(|route| {
                let (hop, path) = (attributes.next_hop.address, attributes.as_path.to_aspath_string());
                format!("+{} {hop} {path}", route.key).trim_end().to_owned()
            })),
            Outgoing::WithdrawEvpn(keys) => words.extend(keys.iter().map(|key| format!("-{key}"))),
            _ => {}
        }
    }
    words
}

#[test]
fn own_routes_are_announced_with_endpoint_mac_and_targets() {
    let (mut evpn, queues) = tables(&[1], true);
    let internal = up(&mut evpn, &peer(2, false));
    let ours = EvpnVrf {
        announce: vec![prefix("10.9.0.0/16")],
        multicast: true,
        redistribute: [(RouteSource::Connected, Policy::Accept)].into(),
        ..vrf(BLUE, VNI, &["65000:1", "65000:2"])
    };
    evpn.set_vrfs(std::slice::from_ref(&ours));
    evpn.offer([
        (BLUE, prefix("10.1.0.0/24"), Some(RouteSource::Connected)),
        (BLUE, prefix("0.0.0.0/0"), Some(RouteSource::Static)),
        (RED, prefix("10.2.0.0/24"), Some(RouteSource::Connected)),
    ]);
    assert_eq!(evpn.take_changes(), [], "own routes are no routes of the VRF");
    let queue = &queues[0];
    let outgoing = queue.take(1000);
    let announced: Vec<_> = outgoing
        .iter()
        .filter_map(|outgoing| match outgoing {
            Outgoing::AnnounceEvpn(attributes, routes) => Some((attributes, routes)),
            _ => None,
        })
        .collect();
    let of = |destination: &str| {
        announced.iter().find_map(|(attributes, routes)| {
            let route = routes
                .iter()
                .find(|route| route.key.destination() == Some(prefix(destination)))?;
            Some(((***attributes).clone(), *route))
        })
    };
    let (attributes, route) = of("10.1.0.0/24").expect("told");
    assert_eq!((route.key.rd(), route.label, route.gateway), (ours.rd, VNI, None));
    assert_eq!(
        (attributes.next_hop.address, attributes.neighbor_as()),
        (ours.vtep, Some(LOCAL_AS))
    );
    assert_eq!(vrf::targets(&own_path(&attributes)), ours.export);
    let marks = EvpnMarks {
        router_mac: Some(ours.router_mac),
        ..EvpnMarks::default()
    };
    assert_eq!(EvpnMarks::of(&attributes), marks);
    assert!(of("10.9.0.0/16").is_some());
    assert!(of("0.0.0.0/0").is_none() && of("10.2.0.0/24").is_none());
    let multicast = announced
        .iter()
        .find(|(_, routes)| routes[0].key.route_type() == 3)
        .expect("type 3");
    assert_eq!(wire::replicated_vni(multicast.0), Some(VNI));
    let expected = [
        "+[3]:[0]:[192.0.2.250] 192.0.2.250",
        "+[5]:[0]:[10.1.0.0/24] 192.0.2.250",
        "+[5]:[0]:[10.9.0.0/16] 192.0.2.250",
    ];
    let mut words = told(&internal);
    words.sort();
    assert_eq!(words, expected);

    evpn.offer([(BLUE, prefix("10.1.0.0/24"), None)]);
    evpn.set_vrfs(&[EvpnVrf {
        multicast: false,
        ..ours
    }]);
    evpn.take_changes();
    assert_eq!(told(queue), ["-[3]:[0]:[192.0.2.250]", "-[5]:[0]:[10.1.0.0/24]"]);
}

fn own_path(attributes: &Attributes) -> Path {
    Path {
        peer: None,
        source: RouteSource::Announced,
        received: Arc::new(attributes.clone()),
        changed: None,
        standing: Standing::Best,
        stale: false,
    }
}

#[test]
fn what_one_peer_tells_goes_to_another_only_through_a_transit_and_with_its_endpoint() {
    let (mut evpn, queues) = tables(&[1, 2], true);
    let transit = PeerInfo {
        advertise_learned: true,
        ..peer(3, true)
    };
    let through = up(&mut evpn, &transit);
    let back = up(
        &mut evpn,
        &PeerInfo {
            advertise_learned: true,
            ..peer(4, true)
        },
    );
    let mut seen = attributes(1, &["65000:7"]);
    let segments = seen.as_path.segments.clone();
    seen.as_path = wire::AsPath {
        segments: segments
            .into_iter()
            .chain([wire::AsPathSegment::AsSequence(vec![65004])])
            .collect(),
    };
    say(&mut evpn, 1, seen, &[type_5(1, "10.1.0.0/16")]);
    evpn.take_changes();
    assert!(told(&queues[0]).is_empty() && told(&queues[1]).is_empty());
    let words = told(&through);
    assert_eq!(words.len(), 1);
    assert!(
        words[0].starts_with("+[5]:[0]:[10.1.0.0/16] 192.0.2.1 65000 65001"),
        "{words:?}"
    );
    // Its AS is in the path.
    assert!(told(&back).is_empty());
    evpn.refresh(transit.address);
    assert_eq!(told(&through), words);
    withdraw(&mut evpn, 1, &type_5(1, "10.1.0.0/16"));
    evpn.take_changes();
    assert_eq!(told(&through), ["-[5]:[0]:[10.1.0.0/16]"]);
}

#[test]
fn a_restarting_peer_keeps_its_routes_until_it_has_told_them_again() {
    let (mut evpn, _queues) = tables(&[1], true);
    let address = ip("192.0.2.1");
    let (kept, lost) = (type_5(1, "10.1.0.0/16"), type_5(1, "10.2.0.0/16"));
    say(&mut evpn, 1, attributes(1, &["65000:1"]), &[kept, lost]);
    assert_eq!(evpn.take_changes().len(), 2);
    evpn.peer_restarts(address);
    assert_eq!(evpn.take_changes(), []);
    assert!(evpn.view().routes.iter().all(|route| route.paths[0].stale));
    up(&mut evpn, &peer(1, true));
    say(&mut evpn, 1, attributes(1, &["65000:1"]), &[kept]);
    assert_eq!(evpn.take_changes(), []);
    evpn.sweep(address);
    assert_eq!(evpn.take_changes(), [gone(BLUE, "10.2.0.0/16", Source::Ebgp)]);
    // Away for long, what is kept is a last resort; swept, it and the peer are gone.
    evpn.peer_restarts(address);
    evpn.long_lived(address);
    assert_eq!(evpn.take_changes(), []);
    assert!(evpn.is_known(address));
    evpn.sweep(address);
    assert_eq!(evpn.take_changes(), [gone(BLUE, "10.1.0.0/16", Source::Ebgp)]);
    assert!(!evpn.is_known(address));
    // A refresh with its two markers (RFC 7313).
    up(&mut evpn, &peer(1, true));
    say(&mut evpn, 1, attributes(1, &["65000:1"]), &[kept, lost]);
    evpn.take_changes();
    evpn.refresh_begins(address);
    say(&mut evpn, 1, attributes(1, &["65000:1"]), &[lost]);
    evpn.refresh_ends(address);
    assert_eq!(evpn.take_changes(), [gone(BLUE, "10.1.0.0/16", Source::Ebgp)]);
}

#[test]
fn other_targets_and_vrfs_take_effect_on_what_is_there() {
    let (mut evpn, _queues) = tables(&[1], false);
    say(&mut evpn, 1, attributes(1, &["65000:1"]), &[type_5(1, "10.1.0.0/16")]);
    say(&mut evpn, 1, attributes(1, &["65000:2"]), &[type_5(1, "10.2.0.0/16")]);
    assert_eq!(evpn.take_changes(), [routed(BLUE, "10.1.0.0/16", Source::Ibgp, &[1])]);
    evpn.set_vrfs(&[vrf(BLUE, VNI, &["65000:2"])]);
    let swapped = [
        gone(BLUE, "10.1.0.0/16", Source::Ibgp),
        routed(BLUE, "10.2.0.0/16", Source::Ibgp, &[1]),
    ];
    assert_eq!(evpn.take_changes(), swapped);
    evpn.set_vrfs(&[vrf(BLUE, VNI, &["65000:2"])]);
    assert_eq!(evpn.take_changes(), []);
    evpn.set_vrfs(&[]);
    assert_eq!(evpn.take_changes(), [gone(BLUE, "10.2.0.0/16", Source::Ibgp)]);
}

/// One announcement of the property test: leaf, MED, moves, whether it must not move, type 5 or 2.
type Drawn = (u8, u32, u32, bool, bool);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    proptest::collection::vec((1u8..6, 0u32..2, 0u32..3, any::<bool>(), any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order in which the same was said last, and however often it was decided between, the VRF ends the same, and
    /// what was yielded adds up to it.
    #[test]
    fn the_order_of_announcements_does_not_matter(said in drawn(), seed in any::<u64>()) {
        let mut last: BTreeMap<(u8, bool), Drawn> = BTreeMap::new();
        for one in &said {
            last.insert((one.0, one.4), *one);
        }
        let run = |list: &[Drawn], often: bool| {
            let (mut evpn, _queues) = tables(&[1, 2, 3, 4, 5], true);
            evpn.set_rules(Rules { multipath: 3, always_compare_med: true, ..Rules::default() });
            let mut installed: BTreeMap<(Prefix, Source), Route> = BTreeMap::new();
            let mut take = |evpn: &mut Evpn| for change in evpn.take_changes() {
                match change.route {
                    Some(route) => installed.insert((change.prefix, change.source), route),
                    None => installed.remove(&(change.prefix, change.source)),
                };
            };
            for (host, med, moves, sticky, five) in list {
                let mut made = if *five { attributes(*host, &["65000:1"]) } else { moved(*host, *sticky, *moves) };
                made.med = Some(*med);
                let route = if *five { type_5(*host, "10.1.0.7/32") } else { type_2(*host, Some("10.1.0.7")) };
                say(&mut evpn, *host, made, &[route]);
                if often {
                    take(&mut evpn);
                }
            }
            take(&mut evpn);
            installed
        };
        let mut shuffled: Vec<Drawn> = last.into_values().collect();
        let length = shuffled.len();
        shuffled.rotate_left((seed % length as u64) as usize);
        if seed & (1 << 63) != 0 {
            shuffled.reverse();
        }
        prop_assert_eq!(run(&said, true), run(&shuffled, false));
    }
}
