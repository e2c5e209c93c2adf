//! Tests of the table: a story for each rule, and a property against a naive model.

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol};
use proptest::prelude::*;

use super::*;
use crate::frame;
use crate::object::tests::{group, single};

const KEEP: Duration = Duration::from_secs(120);

#[allow(clippy::disallowed_methods, reason = "any instant will do as the origin")]
fn origin() -> Instant {
    Instant::now()
}

fn table() -> (Table, Instant) {
    let (mut table, now) = (Table::new(254, KEEP), origin());
    table.connected(now);
    (table, now)
}

fn raw(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(16 + body.len()).expect("short").to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// As zebra sends it.
fn route(n: u8, object: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 16;
    message.header.table = 254;
    message.header.protocol = RouteProtocol::Bgp;
    message.header.kind = RouteType::Unicast;
    let destination = RouteAddress::Inet([10, n, 0, 0].into());
    message.attributes = vec![RouteAttribute::Destination(destination), RouteAttribute::Priority(20)];
    message.attributes.extend(object.map(RouteAttribute::NhId));
    message
}

fn add(n: u8, object: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::push(&mut bytes, RouteNetlinkMessage::NewRoute(route(n, Some(object))), 0, 0);
    bytes
}

fn delete(n: u8) -> Vec<u8> {
    let (mut bytes, mut message) = (Vec::new(), route(n, None));
    message.header.kind = RouteType::Unspec;
    frame::push(&mut bytes, RouteNetlinkMessage::DelRoute(message), 0, 0);
    bytes
}

fn prefix(n: u8) -> Prefix {
    format!("10.{n}.0.0/16").parse().expect("prefix")
}

/// What listens: the sum of what was told, and how many of the events were routes.
#[derive(Default)]
struct Listener {
    routes: HashMap<Prefix, Route>,
    objects: HashMap<NextHopObject, Vec<NextHop>>,
}

/// A prefix, and of its route the last octets of the gateways with their weights.
type Seen = Vec<(Prefix, Vec<(u8, u16)>)>;

impl Listener {
    /// Takes what is told; returns the numbers of routes and of objects among it.
    fn take(&mut self, table: &mut Table) -> (usize, usize) {
        let (mut routes, mut objects) = (0, 0);
        for event in table.flush() {
            match event {
                FpmEvent::Route(change) => {
                    routes += 1;
                    let known = |hop: &NextHop| hop.object.is_none_or(|object| self.objects.contains_key(&object));
                    match change.route {
                        Some(route) => {
                            assert!(
                                route.next_hops.iter().all(known),
                                "its object was told before: {route:?}"
                            );
                            self.routes.insert(change.prefix, route);
                        }
                        None => assert!(self.routes.remove(&change.prefix).is_some(), "withdrawn twice"),
                    }
                }
                FpmEvent::NextHopObject(change) => {
                    objects += 1;
                    match change.next_hops.is_empty() {
                        true => drop(self.objects.remove(&change.object)),
                        false => drop(self.objects.insert(change.object, change.next_hops)),
                    }
                }
            }
        }
        (routes, objects)
    }

    /// Where everything goes.
    fn seen(&self) -> Seen {
        let last = |a: std::net::IpAddr| match a {
            std::net::IpAddr::V4(a) => a.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        let ways = |route: &Route| {
            let expand = |hop: &NextHop| match hop.object {
                Some(object) => self.objects[&object].clone(),
                None => vec![*hop],
            };
            let hops = route.next_hops.iter().flat_map(expand);
            hops.map(|hop| (hop.gateway.map_or(0, last), hop.weight)).collect()
        };
        let mut seen: Seen = self
            .routes
            .iter()
            .map(|(prefix, route)| (*prefix, ways(route)))
            .collect();
        seen.sort();
        seen
    }
}

#[test]
fn routes_are_told_once_their_objects_are_known_and_objects_change_alone() {
    let (mut table, _) = table();
    let mut listener = Listener::default();
    table.frame(&add(1, 15)).expect("frame");
    assert_eq!(listener.take(&mut table), (0, 0), "its object is not known yet");
    for body in [
        single(14, [192, 0, 2, 4], 3),
        group(15, &[(14, 1), (16, 3)]),
        single(16, [192, 0, 2, 6], 3),
    ] {
        table.frame(&raw(NEW_OBJECT, &body)).expect("frame");
    }
    table.frame(&add(2, 14)).expect("frame");
    assert_eq!(listener.take(&mut table), (2, 3));
    assert_eq!(
        listener.seen(),
        [(prefix(1), vec![(4, 1), (6, 3)]), (prefix(2), vec![(4, 1)])]
    );
    // A member changes: it and its group are told, no route is.
    table
        .frame(&raw(NEW_OBJECT, &single(14, [192, 0, 2, 9], 3)))
        .expect("frame");
    assert_eq!(listener.take(&mut table), (0, 2));
    assert_eq!(
        listener.seen(),
        [(prefix(1), vec![(9, 1), (6, 3)]), (prefix(2), vec![(9, 1)])]
    );
    table.frame(&raw(DELETE_OBJECT, &single(16, [0; 4], 0))).expect("frame");
    assert_eq!(
        listener.take(&mut table),
        (0, 2),
        "the member is gone, and the group is smaller"
    );
    assert_eq!(listener.seen(), [(prefix(1), vec![(9, 1)]), (prefix(2), vec![(9, 1)])]);
}

#[test]
fn a_group_that_ten_thousand_routes_name_is_one_event() {
    let (mut table, _) = table();
    let mut listener = Listener::default();
    for (id, last) in [(1, 1), (2, 2)] {
        table
            .frame(&raw(NEW_OBJECT, &single(id, [192, 0, 2, last], 3)))
            .expect("frame");
    }
    table.frame(&raw(NEW_OBJECT, &group(9, &[(1, 1)]))).expect("frame");
    for n in 0..10_000_u32 {
        let mut message = route(0, Some(9));
        let destination = RouteAddress::Inet((0x0a00_0000 | n << 8).into());
        message.attributes[0] = RouteAttribute::Destination(destination);
        message.header.destination_prefix_length = 24;
        let mut bytes = Vec::new();
        frame::push(&mut bytes, RouteNetlinkMessage::NewRoute(message), 0, 0);
        table.frame(&bytes).expect("frame");
    }
    assert_eq!(listener.take(&mut table).0, 10_000);
    table
        .frame(&raw(NEW_OBJECT, &group(9, &[(1, 1), (2, 1)])))
        .expect("frame");
    assert_eq!(listener.take(&mut table), (0, 1));
    assert!(listener.seen().iter().all(|(_, ways)| *ways == [(1, 1), (2, 1)]));
}

#[test]
fn an_update_by_delete_and_add_in_one_frame_is_one_change() {
    let (mut table, _) = table();
    let mut listener = Listener::default();
    for (id, last) in [(1, 1), (2, 2)] {
        table
            .frame(&raw(NEW_OBJECT, &single(id, [192, 0, 2, last], 3)))
            .expect("frame");
    }
    table.frame(&add(1, 1)).expect("frame");
    assert_eq!(listener.take(&mut table), (1, 2));
    table.frame(&[delete(1), add(1, 2)].concat()).expect("frame");
    assert_eq!(listener.take(&mut table), (1, 0));
    assert_eq!(listener.seen(), [(prefix(1), vec![(2, 1)])]);
    table.frame(&delete(1)).expect("frame");
    assert_eq!(listener.take(&mut table), (1, 0));
    assert_eq!(listener.seen(), []);
}

#[test]
fn routes_of_an_ended_connection_stay_until_their_time_and_are_confirmed_by_the_next() {
    let (mut table, start) = table();
    let mut listener = Listener::default();
    table
        .frame(&raw(NEW_OBJECT, &single(1, [192, 0, 2, 1], 3)))
        .expect("frame");
    table
        .frame(&raw(NEW_OBJECT, &single(2, [192, 0, 2, 2], 3)))
        .expect("frame");
    (1..=3).for_each(|n| table.frame(&add(n, 1)).expect("frame"));
    assert_eq!(listener.take(&mut table), (3, 2));
    table.disconnected(start);
    assert_eq!(listener.take(&mut table), (0, 1), "what no route names goes");
    let all = [1, 2, 3].map(|n| (prefix(n), vec![(1, 1)]));
    assert_eq!(listener.seen(), all, "nothing is lost");
    let mut status = FpmStatus::default();
    table.report(&mut status);
    assert_eq!((status.routes, status.stale, status.objects), (3, 3, 0));

    // The next connection numbers its objects anew.
    let again = start + Duration::from_secs(10);
    table.connected(again);
    table
        .frame(&raw(NEW_OBJECT, &single(1, [192, 0, 2, 2], 3)))
        .expect("frame");
    assert_eq!(listener.take(&mut table), (0, 1));
    assert_eq!(
        listener.seen(),
        all,
        "an old route does not follow a new object of its number"
    );
    table
        .frame(&raw(NEW_OBJECT, &single(7, [192, 0, 2, 1], 3)))
        .expect("frame");
    table.frame(&add(1, 7)).expect("frame");
    table.frame(&add(2, 1)).expect("frame");
    listener.take(&mut table);
    let moved = [
        (prefix(1), vec![(1, 1)]),
        (prefix(2), vec![(2, 1)]),
        (prefix(3), vec![(1, 1)]),
    ];
    assert_eq!(listener.seen(), moved, "the first goes as it went");
    assert_eq!(table.poll_timeout(), Some(again + KEEP));
    table.handle_timeout(again + KEEP);
    assert_eq!(
        listener.take(&mut table),
        (1, 1),
        "nobody confirmed it, and its object goes along"
    );
    assert_eq!((listener.seen().len(), listener.objects.len()), (2, 2));
    assert_eq!(table.poll_timeout(), None);
}

#[test]
fn connected_routes_and_other_tables_are_not_told_and_nonsense_is_counted() {
    let (mut table, _) = table();
    let mut message = route(1, Some(1));
    message.header.protocol = RouteProtocol::Kernel;
    let mut bytes = Vec::new();
    frame::push(&mut bytes, RouteNetlinkMessage::NewRoute(message.clone()), 0, 0);
    message.header.protocol = RouteProtocol::Bgp;
    message.header.table = 7;
    frame::push(&mut bytes, RouteNetlinkMessage::NewRoute(message), 0, 0);
    bytes.extend(raw(RTM_NEWROUTE, &[2, 200]));
    bytes.extend(raw(NEW_OBJECT, &[0; 3]));
    bytes.extend(raw(4711, &[1, 2, 3]));
    table.frame(&bytes).expect("well framed");
    assert_eq!((table.flush(), table.malformed, table.messages), (vec![], 2, 5));
    assert_eq!(table.frame(&bytes[..20]), Err(StreamError::Truncated));
}

#[test]
fn groups_in_a_circle_end() {
    let (mut table, _) = table();
    for body in [group(1, &[(2, 1), (2, 1)]), group(2, &[(1, 1), (1, 1)])] {
        table.frame(&raw(NEW_OBJECT, &body)).expect("frame");
    }
    table.frame(&add(1, 1)).expect("frame");
    assert_eq!(table.flush(), []);
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, u32),
    Delete(u8),
    Single(u32, u8),
    Group(u32, Vec<(u32, u8)>),
    Forget(u32),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, 1..6_u32).prop_map(|(n, id)| Step::Add(n, id)),
        (0..4_u8).prop_map(Step::Delete),
        (1..4_u32, 1..5_u8).prop_map(|(id, last)| Step::Single(id, last)),
        (4..6_u32, proptest::collection::vec((1..4_u32, 1..9_u8), 1..3)).prop_map(|(id, m)| Step::Group(id, m)),
        (1..6_u32).prop_map(Step::Forget),
        Just(Step::Flush),
    ]
}

proptest! {
    /// In whatever order routes and objects come and go, the sum of what was told is what a lookup at the end gives.
    #[test]
    fn what_is_told_adds_up_to_what_is_there(steps in proptest::collection::vec(step(), 0..60)) {
        let (mut table, _) = table();
        let mut listener = Listener::default();
        let (mut routes, mut objects) = (HashMap::new(), HashMap::new());
        for step in steps.into_iter().chain([Step::Flush]) {
            match step {
                Step::Add(n, id) => {
                    table.frame(&add(n, id)).expect("frame");
                    routes.insert(prefix(n), id);
                }
                Step::Delete(n) => {
                    table.frame(&delete(n)).expect("frame");
                    routes.remove(&prefix(n));
                }
                Step::Single(id, last) => {
                    table.frame(&raw(NEW_OBJECT, &single(id, [192, 0, 2, last], 3))).expect("frame");
                    objects.insert(id, vec![(0, u16::from(last))]);
                }
                Step::Group(id, members) => {
                    table.frame(&raw(NEW_OBJECT, &group(id, &members))).expect("frame");
                    objects.insert(id, members.into_iter().map(|(m, w)| (m, u16::from(w))).collect());
                }
                Step::Forget(id) => {
                    table.frame(&raw(DELETE_OBJECT, &single(id, [0; 4], 0))).expect("frame");
                    objects.remove(&id);
                }
                Step::Flush => drop(listener.take(&mut table)),
            }
        }
        // Objects 1 to 3 are single, as (0, last octet); 4 and 5 are groups of them.
        let one = |id: &u32, weight: u16| match objects.get(id).map(Vec::as_slice) {
            Some([(0, last)]) => Some((u8::try_from(*last).expect("octet"), weight)),
            _ => None,
        };
        let mut expected = BTreeMap::new();
        for (prefix, id) in &routes {
            let hops: Vec<_> = match objects.get(id) {
                Some(members) if *id > 3 => members.iter().filter_map(|(m, w)| one(m, *w)).collect(),
                _ => one(id, 1).into_iter().collect(),
            };
            if !hops.is_empty() {
                expected.insert(*prefix, hops);
            }
        }
        prop_assert_eq!(listener.seen(), Vec::from_iter(expected));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut table, _) = table();
        let _ = table.frame(&bytes);
        let _ = table.frame(&raw(RTM_NEWROUTE, &bytes));
        let _ = table.frame(&raw(RTM_DELROUTE, &bytes));
        let _ = table.frame(&raw(NEW_OBJECT, &bytes));
        table.flush();
    }
}
