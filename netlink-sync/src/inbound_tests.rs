//! Tests of the inbound state: a scripted story for each rule, and a property against a naive model.

use proptest::prelude::*;

use super::*;
use crate::KernelNextHop;

const OURS: u8 = 212;

fn inbound() -> Inbound {
    Inbound::new(OURS, [(254, VrfId::DEFAULT), (100, VrfId(7))])
}

fn hop(gateway: &str, interface: u32) -> ObservedNextHop {
    let gateway = Some(gateway.parse().expect("address"));
    ObservedNextHop {
        hop: KernelNextHop {
            gateway,
            interface: Some(IfIndex(interface)),
            weight: 1,
        },
        dead: false,
    }
}

fn route(prefix: &str, metric: u32, hops: &[ObservedNextHop]) -> ObservedRoute {
    ObservedRoute {
        table: 254,
        protocol: 4,
        prefix: prefix.parse().expect("prefix"),
        metric,
        kind: RouteKind::Unicast,
        next_hops: hops.to_vec(),
        object: None,
    }
}

/// Prefix, and of its route the metric and the number of next hops.
type Told = (String, Option<(u32, usize)>);

fn told(events: &[KernelEvent]) -> Vec<Told> {
    let one = |e: &KernelEvent| match e {
        KernelEvent::Route(r) => Some((
            r.prefix.to_string(),
            r.route.as_ref().map(|r| (r.metric, r.next_hops.len())),
        )),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

fn hear(inbound: &mut Inbound, verb: Verb, route: ObservedRoute) -> (Doubt, Vec<Told>) {
    let mut events = Vec::new();
    let doubt = inbound.hear(Heard::Route(verb, route), &mut events);
    (doubt, told(&events))
}

#[test]
fn the_lowest_metric_is_told_and_the_next_one_on_its_removal() {
    let mut inbound = inbound();
    let (high, low) = (
        route("10.0.0.0/8", 200, &[hop("192.0.2.1", 2)]),
        route("10.0.0.0/8", 100, &[hop("192.0.2.2", 2)]),
    );
    let prefix = || "10.0.0.0/8".to_owned();
    assert_eq!(
        hear(&mut inbound, Verb::Add, high.clone()).1,
        [(prefix(), Some((200, 1)))]
    );
    assert_eq!(
        hear(&mut inbound, Verb::Add, low.clone()).1,
        [(prefix(), Some((100, 1)))]
    );
    assert_eq!(hear(&mut inbound, Verb::Delete, low).1, [(prefix(), Some((200, 1)))]);
    assert_eq!(hear(&mut inbound, Verb::Delete, high).1, [(prefix(), None)]);
}

#[test]
fn own_kernel_and_foreign_table_routes_are_not_told() {
    let mut inbound = inbound();
    for (protocol, table) in [(OURS, 254), (2, 254), (4, 99)] {
        let route = ObservedRoute {
            protocol,
            table,
            ..route("10.0.0.0/8", 0, &[hop("192.0.2.1", 2)])
        };
        assert_eq!(hear(&mut inbound, Verb::Add, route).1, []);
    }
}

#[test]
fn an_ipv6_multipath_route_grows_and_shrinks_by_siblings() {
    let mut inbound = inbound();
    let (a, b) = (hop("fe80::1", 2), hop("fe80::2", 3));
    hear(&mut inbound, Verb::Add, route("2001:db8::/32", 1024, &[a]));
    let (doubt, events) = hear(&mut inbound, Verb::Append, route("2001:db8::/32", 1024, &[a, b]));
    assert_eq!(
        (doubt, events.as_slice()),
        (Doubt::None, &[("2001:db8::/32".to_owned(), Some((1024, 2)))][..])
    );
    let (doubt, events) = hear(&mut inbound, Verb::Delete, route("2001:db8::/32", 1024, &[a]));
    assert_eq!(
        (doubt, events.as_slice()),
        (Doubt::None, &[("2001:db8::/32".to_owned(), Some((1024, 1)))][..])
    );
}

#[test]
fn what_cannot_be_matched_raises_doubt() {
    let mut inbound = inbound();
    hear(&mut inbound, Verb::Add, route("10.0.0.0/8", 0, &[hop("192.0.2.1", 2)]));
    let (doubt, events) = hear(
        &mut inbound,
        Verb::Delete,
        route("10.0.0.0/8", 0, &[hop("192.0.2.9", 2)]),
    );
    assert_eq!((doubt, events.len()), (Doubt::Routes, 0));
    let (doubt, _) = hear(
        &mut inbound,
        Verb::Delete,
        route("172.16.0.0/12", 0, &[hop("192.0.2.9", 2)]),
    );
    assert_eq!(doubt, Doubt::None, "deleting the unknown is no news");
}

#[test]
fn a_route_whose_next_hops_are_all_dead_is_withdrawn() {
    let mut inbound = inbound();
    let dead = |n: ObservedNextHop| ObservedNextHop { dead: true, ..n };
    let (a, b) = (hop("192.0.2.1", 2), hop("192.0.2.2", 3));
    hear(&mut inbound, Verb::Add, route("10.0.0.0/8", 0, &[a, b]));
    let mut events = Vec::new();
    inbound.resync_routes(Vec::new(), vec![route("10.0.0.0/8", 0, &[dead(a), b])], &mut events);
    inbound.resync_routes(
        Vec::new(),
        vec![route("10.0.0.0/8", 0, &[dead(a), dead(b)])],
        &mut events,
    );
    assert_eq!(
        told(&events),
        [("10.0.0.0/8".to_owned(), Some((0, 1))), ("10.0.0.0/8".to_owned(), None)]
    );
}

#[test]
fn link_down_and_address_removal_raise_doubt_and_a_removed_link_takes_its_own_along() {
    let mut inbound = inbound();
    let up = LinkChange {
        index: IfIndex(2),
        name: "a".into(),
        mac: None,
        mtu: 1500,
        up: true,
        vni: None,
        present: true,
    };
    let address = AddressChange {
        interface: IfIndex(2),
        address: "192.0.2.1/24".parse().expect("net"),
        present: true,
    };
    let mut events = Vec::new();
    assert_eq!(inbound.hear(Heard::Link(up.clone()), &mut events), Doubt::None);
    assert_eq!(
        inbound.hear(
            Heard::Address(ObservedAddress {
                change: address.clone(),
                connected_route: true
            }),
            &mut events
        ),
        Doubt::None
    );
    let observed = |present| {
        let change = AddressChange {
            present,
            ..address.clone()
        };
        Heard::Address(ObservedAddress {
            change,
            connected_route: true,
        })
    };
    assert_eq!(inbound.hear(observed(false), &mut events), Doubt::Routes);
    assert_eq!(inbound.hear(observed(false), &mut events), Doubt::None, "no news");
    assert_eq!(inbound.hear(observed(true), &mut events), Doubt::None);
    let down = LinkChange {
        up: false,
        ..up.clone()
    };
    assert_eq!(inbound.hear(Heard::Link(down), &mut events), Doubt::Routes);
    events.clear();
    inbound.hear(
        Heard::Link(LinkChange {
            up: false,
            present: false,
            ..up
        }),
        &mut events,
    );
    let gone = AddressChange {
        present: false,
        ..address
    };
    assert_eq!(events.first(), Some(&KernelEvent::Address(gone)));
    assert!(matches!(events.last(), Some(KernelEvent::Link(l)) if !l.present));
}

#[derive(Debug, Clone)]
enum Step {
    Hear(Verb, ObservedRoute),
    Dump,
}

fn any_route() -> impl Strategy<Value = ObservedRoute> {
    (0_u8..3, 0_u32..3, 1_u8..4, any::<bool>()).prop_map(|(net, metric, gateway, table)| ObservedRoute {
        table: if table { 254 } else { 100 },
        ..route(
            &format!("10.{net}.0.0/16"),
            metric,
            &[hop(&format!("192.0.2.{gateway}"), 2)],
        )
    })
}

proptest! {
    /// A naive kernel (one route a key, as `ip route add/replace/del` leave it) is changed step by step; some steps are
    /// lost as by an overrun. After a dump, the sum of all events is exactly what the kernel's best routes are.
    #[test]
    fn the_sum_of_events_is_the_kernels_state(
        steps in proptest::collection::vec(prop_oneof![
            4 => (prop_oneof![Just(Verb::Replace), Just(Verb::Delete)], any_route()).prop_map(|(v, r)| Step::Hear(v, r)),
            1 => Just(Step::Dump),
        ], 1..60),
        lost in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let mut kernel: BTreeMap<(u32, Prefix, u32), ObservedRoute> = BTreeMap::new();
        let mut inbound = inbound();
        let mut events = Vec::new();
        for (step, lost) in steps.into_iter().zip(lost) {
            match step {
                Step::Hear(verb, route) => {
                    let key = (route.table, route.prefix, route.metric);
                    let heard = match verb {
                        Verb::Delete => kernel.remove(&key),
                        _ => {
                            kernel.insert(key, route.clone());
                            Some(route)
                        }
                    };
                    if let Some(route) = heard.filter(|_| !lost) {
                        inbound.hear(Heard::Route(verb, route), &mut events);
                    }
                }
                Step::Dump => inbound.resync_routes(Vec::new(), kernel.values().cloned().collect(), &mut events),
            }
        }
        inbound.resync_routes(Vec::new(), kernel.values().cloned().collect(), &mut events);
        let settled = events.len();
        inbound.resync_routes(Vec::new(), kernel.values().cloned().collect(), &mut events);
        prop_assert_eq!(events.len(), settled, "a second dump of the same state tells nothing");

        let mut sum: HashMap<(VrfId, Prefix), Route> = HashMap::new();
        for event in events {
            let KernelEvent::Route(change) = event else { panic!("only routes") };
            let key = (change.vrf, change.prefix);
            let before = match change.route.clone() {
                Some(route) => sum.insert(key, route),
                None => sum.remove(&key),
            };
            prop_assert_ne!(before, change.route, "an event that changes nothing");
        }
        let mut best: HashMap<(VrfId, Prefix), Route> = HashMap::new();
        for ((table, prefix, _), route) in kernel.into_iter().rev() {
            let vrf = if table == 254 { VrfId::DEFAULT } else { VrfId(7) };
            best.insert((vrf, prefix), usable(&route, &Objects::default(), kernel_object).expect("alive"));
        }
        prop_assert_eq!(sum, best);
    }
}
