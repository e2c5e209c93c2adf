//! What a collector reads, taken apart by hand, with the UPDATEs read by the codec.

use std::net::Ipv4Addr;

use bytes::{Buf, Bytes};
use net::Prefix;

use super::feed::Feed;
use super::message::Stage;
use super::*;
use crate::wire::{self, Attributes, Context, Message, Notification, Update};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn context() -> Context {
    Context {
        four_octet_as: true,
        ibgp: false,
        families: Family::UNICAST.to_vec(),
        ipv6_next_hop_for_ipv4: true,
        extended_messages: false,
    }
}

fn watched() -> Arc<Watched> {
    Arc::new(Watched {
        identity: Identity {
            address: PEER,
            asn: 65001,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
        },
        opened: Opened {
            local: "192.0.2.2:50000".parse().expect("address"),
            remote_port: 179,
            sent: Bytes::from_static(b"sent"),
            received: Bytes::from_static(b"received"),
        },
        context: context(),
        since: Stamp::from(Duration::new(7, 9_000)),
    })
}

fn attributes(med: u32) -> Arc<Attributes> {
    let mut attributes = Attributes::originated(PEER.into());
    attributes.as_path = attributes.prepended(65001);
    attributes.med = Some(med);
    Arc::new(attributes)
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn learned(of: &str, attributes: Option<&Arc<Attributes>>, accepted: bool) -> Learned {
    Learned {
        peer: PEER,
        prefix: prefix(of),
        received: attributes.cloned(),
        accepted: attributes.filter(|_| accepted).cloned(),
    }
}

fn routes(routes: Vec<Learned>) -> Item {
    Item::Routes(Arc::new(routes), Stamp::default())
}

/// Kind, flags and what follows the per-peer header.
fn open(mut message: Bytes) -> (u8, u8, Bytes) {
    let whole = message.len();
    assert_eq!(message.get_u8(), 3, "version");
    assert_eq!(message.get_u32() as usize, whole, "length");
    let kind = message.get_u8();
    if matches!(kind, 4 | 5) {
        return (kind, 0, message);
    }
    let header = message.split_to(42);
    assert_eq!(header[0], 0, "a global peer");
    assert_eq!(header[10..26], [&[0; 12][..], &[192, 0, 2, 1]].concat());
    assert_eq!(header[26..34], [0, 0, 0xfd, 0xe9, 10, 0, 0, 1]);
    (kind, header[1], message)
}

/// What route monitoring says: after policy or not, and the UPDATE.
fn updates(feed: &mut Feed) -> Vec<(bool, Update)> {
    let mut updates = Vec::new();
    for message in feed.take(100) {
        if let (0, flags, update) = open(message) {
            let Ok(Message::Update(update)) = wire::decode(update) else {
                panic!("not an UPDATE");
            };
            updates.push((flags & 0x40 != 0, update.interpret(&context()).expect("valid")));
        }
    }
    updates
}

#[test]
fn peers_come_and_go_with_their_opens_and_notifications() {
    let mut feed = Feed::new(&[Stage::PrePolicy]);
    feed.put(Item::PeerUp(watched())).expect("room");
    let (kind, flags, body) = open(feed.take(1).remove(0));
    assert_eq!((kind, flags), (3, 0));
    let local = [&[0; 12][..], &[192, 0, 2, 2], &[0xc3, 0x50], &[0, 179]].concat();
    assert_eq!(body, [&local[..], b"sentreceived"].concat());

    let notification = Notification::new(6, 2).encode();
    for (ended, reason, rest) in [
        (Ended::Local(notification.clone()), 1, notification.clone()),
        (Ended::Remote(notification.clone()), 3, notification),
        (Ended::Closed, 4, Bytes::new()),
        (Ended::Deconfigured, 5, Bytes::new()),
    ] {
        feed.put(Item::PeerUp(watched())).expect("room");
        feed.put(Item::PeerDown(PEER, ended, Stamp::default())).expect("room");
        let (kind, _, body) = open(feed.take(1).remove(1));
        assert_eq!((kind, body[0], body.slice(1..)), (2, reason, rest));
    }
    // Nothing is said of a peer that the collector does not know.
    feed.put(Item::PeerDown(PEER, Ended::Closed, Stamp::default()))
        .expect("room");
    let stray = routes(vec![learned("10.0.0.0/8", Some(&attributes(1)), true)]);
    feed.put(stray).expect("room");
    feed.put(Item::EndOfRib(PEER, Family::Ipv4Unicast)).expect("room");
    assert!(feed.is_empty());
}

#[test]
fn routes_are_told_before_and_after_policy_and_then_end_of_rib() {
    let mut feed = Feed::new(&[Stage::PrePolicy, Stage::PostPolicy]);
    feed.put(Item::PeerUp(watched())).expect("room");
    let (one, two) = (attributes(1), attributes(2));
    feed.put(routes(vec![
        learned("10.0.0.0/8", Some(&one), true),
        learned("10.1.0.0/16", Some(&one), false),
        learned("2001:db8::/32", Some(&two), true),
    ]))
    .expect("room");
    feed.put(Item::Synchronized).expect("room");
    let told = updates(&mut feed);
    assert!(feed.is_empty());
    let announced = |after: bool| {
        let mut prefixes: Vec<Prefix> = told
            .iter()
            .filter(|(of, _)| *of == after)
            .flat_map(|(_, update)| &update.announced)
            .flat_map(|announcement| announcement.prefixes.clone())
            .collect();
        prefixes.sort_unstable();
        prefixes
    };
    let both = [prefix("10.0.0.0/8"), prefix("2001:db8::/32")];
    assert_eq!(announced(true), both);
    assert_eq!(announced(false), [both[0], prefix("10.1.0.0/16"), both[1]]);
    let ends: Vec<_> = told
        .iter()
        .filter_map(|(after, update)| Some((*after, update.end_of_rib?)))
        .collect();
    assert_eq!(ends.len(), 4, "one for each family, before and after policy");
    let (routes, marks) = told.split_at(told.len() - 4);
    assert!(routes.iter().all(|(_, update)| update.end_of_rib.is_none()));
    assert!(marks.iter().all(|(_, update)| update.end_of_rib.is_some()));
}

#[test]
fn of_each_prefix_only_the_newest_state_waits() {
    let mut feed = Feed::new(&[Stage::PrePolicy]);
    feed.put(Item::PeerUp(watched())).expect("room");
    for med in 0..1000 {
        let item = routes(vec![learned("10.0.0.0/8", Some(&attributes(med)), true)]);
        feed.put(item).expect("room");
    }
    feed.put(routes(vec![learned("10.1.0.0/16", None, false)]))
        .expect("room");
    assert_eq!(feed.waiting(), 2);
    let told = updates(&mut feed);
    let announced: Vec<_> = told.iter().flat_map(|(_, update)| &update.announced).collect();
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].attributes.med, Some(999));
    let withdrawn: Vec<_> = told.iter().flat_map(|(_, update)| &update.withdrawn).collect();
    assert_eq!(withdrawn, [&prefix("10.1.0.0/16")]);
    // A session that ends takes what waits along.
    feed.put(routes(vec![learned("10.0.0.0/8", Some(&attributes(1)), true)]))
        .expect("room");
    feed.put(Item::PeerDown(PEER, Ended::Closed, Stamp::default()))
        .expect("room");
    assert!(updates(&mut feed).is_empty() && feed.is_empty());
}

#[test]
fn peers_that_flap_while_nobody_reads_end_the_patience() {
    let mut feed = Feed::new(&[Stage::PrePolicy]);
    let ended = (0..100_000).find(|_| feed.put(Item::PeerUp(watched())).is_err());
    assert!(ended.is_some_and(|count| count > 10_000), "{ended:?}");
}
