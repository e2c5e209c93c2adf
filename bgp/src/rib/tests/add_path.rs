//! Several paths of a prefix from one peer and to one peer (RFC 7911).

use std::num::NonZeroU8;

use proptest::prelude::*;

use super::*;
use crate::wire::AddPathFamily;

const NET: &str = "10.0.0.0/8";

/// A peer that may tell and be told several paths.
fn several(host: u8, send_paths: SendPaths) -> PeerInfo {
    let entry = |family| AddPathFamily {
        family,
        receive: true,
        send: send_paths != SendPaths::None,
    };
    let mut info = peer(host, true);
    info.context.add_path = Family::UNICAST.map(entry).to_vec();
    PeerInfo {
        send_paths,
        advertise_learned: true,
        ..info
    }
}

fn best(most: u8) -> SendPaths {
    SendPaths::Best(NonZeroU8::new(most).expect("not zero"))
}

fn numbered(of: &str, path_id: u32) -> Nlri {
    Nlri {
        prefix: prefix(of),
        path_id,
    }
}

/// An UPDATE of `from` with one path, whose AS path is as long as `length` says.
fn tell(from: &PeerInfo, of: &str, path_id: u32, length: u32) -> Update {
    let mut update = announce_with(from, &[of], |a| {
        for _ in 0..length {
            a.as_path = a.prepended(64500 + path_id);
        }
        a.as_path = a.prepended(from.asn);
        a.next_hop = ip(&format!("192.0.2.{}", 100 + path_id % 100)).into();
    });
    update.announced[0].prefixes = vec![numbered(of, path_id)];
    update
}

fn untell(of: &str, path_id: u32) -> Update {
    Update {
        withdrawn: vec![numbered(of, path_id)],
        ..withdraw(&[])
    }
}

/// Path identifiers and reasons of the first prefix, as they are shown.
fn shown(rib: &Rib) -> Vec<(Option<u32>, Option<String>)> {
    let paths = rib.view(None).remove(0).paths.into_iter();
    paths.map(|path| (path.path_id, path.reason)).collect()
}

/// What a peer holds after it has read all of its queue.
#[derive(Debug, Default)]
struct Held(BTreeMap<Nlri, Vec<u32>>);

impl Held {
    fn read(&mut self, queue: &OutQueue) -> &mut Self {
        self.read_some(queue, usize::MAX);
        self
    }

    fn read_some(&mut self, queue: &OutQueue, limit: usize) {
        for outgoing in take(queue, limit) {
            match outgoing {
                Outgoing::Announce(attributes, prefixes) => {
                    let ases: Vec<u32> = attributes.as_path.asns().collect();
                    self.0.extend(prefixes.into_iter().map(|nlri| (nlri, ases.clone())));
                }
                Outgoing::Withdraw(prefixes) => prefixes.iter().for_each(|nlri| drop(self.0.remove(nlri))),
                _ => {}
            }
        }
    }

    fn ids(&self) -> Vec<u32> {
        self.0.keys().map(|nlri| nlri.path_id).collect()
    }
}

#[test]
fn paths_of_one_peer_are_kept_compared_and_withdrawn_each_by_its_identifier() {
    let (mut rib, one) = (rib(), several(1, SendPaths::None));
    rib.peer_up(one.clone());
    for (path_id, length) in [(7, 1), (2, 0), (9, 0)] {
        rib.update(one.address, tell(&one, NET, path_id, length))
            .expect("no limit");
    }
    let via = |id: u32| Some(vec![ip(&format!("192.0.2.{}", 100 + id))]);
    assert_eq!(told(&mut rib), [(prefix(NET), Source::Ebgp, via(2))]);
    let lost = |step: &str| Some(step.to_owned());
    assert_eq!(
        shown(&rib),
        [
            (Some(2), None),
            (Some(7), lost("AS path length")),
            (Some(9), lost("path identifier"))
        ]
    );
    assert_eq!((rib.sizes().1, rib.counters(one.address)[0].received), (3, 3));
    // Told again under the same identifier it replaces one path alone.
    rib.update(one.address, tell(&one, NET, 2, 5)).expect("no limit");
    assert_eq!(told(&mut rib), [(prefix(NET), Source::Ebgp, via(9))]);
    assert_eq!(rib.counters(one.address)[0].received, 3);
    // An identifier that was never told withdraws nothing.
    for path_id in [0, 8] {
        rib.update(one.address, untell(NET, path_id)).expect("no limit");
    }
    assert_eq!((told(&mut rib), rib.sizes().1), (vec![], 3));
    rib.update(one.address, untell(NET, 9)).expect("no limit");
    assert_eq!(told(&mut rib), [(prefix(NET), Source::Ebgp, via(7))]);
    rib.peer_down(one.address);
    assert_eq!(told(&mut rib), [(prefix(NET), Source::Ebgp, None)]);
    assert_eq!((rib.sizes().0, rib.sizes().1), (0, 0));
}

#[test]
fn each_path_counts_against_the_limit_and_a_prefix_has_a_limit_of_its_own() {
    let mut one = several(1, SendPaths::None);
    one.max_prefixes = Some(2);
    let mut tables = rib();
    tables.peer_up(one.clone());
    for path_id in 1..=2 {
        tables
            .update(one.address, tell(&one, NET, path_id, 0))
            .expect("two are allowed");
    }
    let excess = tables.update(one.address, tell(&one, NET, 3, 0));
    assert_eq!(excess, Err(Excess::Prefixes { received: 3, limit: 2 }));

    let (mut tables, one, two) = (rib(), several(1, SendPaths::None), several(2, SendPaths::None));
    tables.peer_up(one.clone());
    tables.peer_up(two.clone());
    let most = u32::try_from(PATHS_OF_PREFIX).expect("small");
    let mut update = tell(&one, NET, 1, 0);
    update.announced[0].prefixes = (1..=most).map(|path_id| numbered(NET, path_id)).collect();
    tables.update(one.address, update).expect("as many are allowed");
    // The limit is each peer's.
    tables.update(two.address, tell(&two, NET, 1, 0)).expect("the first");
    tables.update(one.address, tell(&one, NET, 5, 0)).expect("replaces one");
    let excess = tables.update(one.address, tell(&one, NET, most + 1, 0));
    assert_eq!(excess, Err(Excess::Paths(prefix(NET))));
}

#[test]
fn a_restart_marks_and_sweeps_each_path() {
    let (mut rib, one) = (rib(), several(1, SendPaths::None));
    rib.peer_up(one.clone());
    for path_id in [1, 2] {
        rib.update(one.address, tell(&one, NET, path_id, 0)).expect("no limit");
    }
    rib.take_changes();
    rib.peer_restarts(one.address, &Family::ALL);
    let again = PeerInfo {
        preserved: Family::ALL.to_vec(),
        ..one.clone()
    };
    rib.peer_up(again.clone());
    rib.update(one.address, tell(&one, NET, 2, 0)).expect("no limit");
    let stale = |rib: &Rib| -> Vec<_> {
        let paths = rib.view(None).remove(0).paths.into_iter();
        paths.map(|path| (path.path_id, path.stale)).collect()
    };
    assert_eq!(rib.take_changes(), []);
    assert_eq!(stale(&rib), [(Some(1), true), (Some(2), false)]);
    let end = Update {
        end_of_rib: Some(Family::Ipv4Unicast),
        ..withdraw(&[])
    };
    rib.update(one.address, end).expect("no limit");
    rib.take_changes();
    assert_eq!(stale(&rib), [(Some(2), false)]);
    // The same for a refresh with a beginning and an end.
    rib.update(one.address, tell(&one, NET, 1, 0)).expect("no limit");
    rib.refresh_begins(one.address, Family::Ipv4Unicast);
    rib.update(one.address, tell(&one, NET, 1, 0)).expect("no limit");
    rib.refresh_ends(one.address, Family::Ipv4Unicast);
    rib.take_changes();
    assert_eq!(stale(&rib), [(Some(1), false)]);
    // A session whose paths have no identifiers can replace none of those.
    rib.peer_restarts(one.address, &Family::ALL);
    let mut plain = again;
    plain.context.add_path.clear();
    rib.peer_up(plain);
    assert_eq!(told(&mut rib), [(prefix(NET), Source::Ebgp, None)]);
}

#[test]
fn policies_and_dry_runs_look_at_every_path() {
    let (mut rib, one) = (rib(), several(1, SendPaths::None));
    rib.peer_up(one.clone());
    for (path_id, length) in [(1, 3), (2, 0)] {
        rib.update(one.address, tell(&one, NET, path_id, length))
            .expect("no limit");
    }
    rib.take_changes();
    let (best, _) = rib.received_route(one.address, &prefix(NET)).expect("told");
    assert_eq!(best.as_path.len(), 2);
    rib.set_policies(one.address, &Policy::Deny, &one.export);
    rib.take_changes();
    let denied = || Some("denied by import policy: everything".to_owned());
    assert_eq!(shown(&rib), [(Some(1), denied()), (Some(2), denied())]);
    rib.set_policies(one.address, &Policy::Accept, &one.export);
    assert_eq!(told(&mut rib).len(), 1);
    assert_eq!(rib.counters(one.address)[0].accepted, 2);
}

#[test]
fn peers_are_told_all_paths_or_the_best_or_one_without_identifier() {
    let mut rib = rib();
    let (one, two) = (several(1, SendPaths::None), several(2, SendPaths::None));
    let all = rib.peer_up(several(10, SendPaths::All));
    let some = rib.peer_up(several(11, best(2)));
    let plain = rib.peer_up(several(12, SendPaths::None));
    let [mut a, mut s, mut p] = <[Held; 3]>::default();
    rib.peer_up(one.clone());
    rib.peer_up(two.clone());
    for (from, path_id, length) in [(&one, 5, 2), (&one, 6, 0), (&two, 5, 1)] {
        rib.update(from.address, tell(from, NET, path_id, length))
            .expect("no limit");
    }
    rib.take_changes();
    // Ours, in order of arrival; those of the peers would not tell these apart.
    assert_eq!(a.read(&all).ids(), [1, 2, 3]);
    assert_eq!(s.read(&some).ids(), [2, 3]);
    assert_eq!(p.read(&plain).ids(), [0]);
    let counts = |rib: &Rib, host| rib.counters(ip(&format!("192.0.2.{host}")))[0].advertised;
    assert_eq!([10, 11, 12].map(|host| counts(&rib, host)), [3, 2, 1]);

    // The one that goes is withdrawn by its identifier, and another comes up where the number is limited.
    rib.update(one.address, untell(NET, 6)).expect("no limit");
    rib.take_changes();
    assert_eq!(take(&all, 100), [Outgoing::Withdraw(vec![numbered(NET, 2)])]);
    assert_eq!(s.read(&some).ids(), [1, 3]);
    assert_eq!(p.read(&plain).ids(), [0]);
    // One that stays keeps its identifier; a new one takes the lowest that is free.
    rib.update(two.address, tell(&two, NET, 9, 0)).expect("no limit");
    rib.take_changes();
    assert_eq!(a.read(&all).ids(), [1, 2, 3]);
    s.read(&some);
    p.read(&plain);
    // What has not changed is not told again.
    rib.update(two.address, tell(&two, NET, 9, 0)).expect("no limit");
    rib.take_changes();
    assert!(all.is_empty() && some.is_empty() && plain.is_empty());
    // Told again as a whole, or to one who comes later, it is the same.
    rib.refresh(ip("192.0.2.10"), Family::Ipv4Unicast);
    let mut late = Held::default();
    assert_eq!(late.read(&all).0, a.0);
    let mut later = Held::default();
    assert_eq!(later.read(&rib.peer_up(several(13, SendPaths::All))).0, a.0);
}

#[test]
fn peers_that_are_told_different_numbers_of_paths_are_in_different_groups() {
    let mut rib = rib();
    for (host, send) in [
        (1, SendPaths::None),
        (2, SendPaths::All),
        (3, best(2)),
        (4, best(3)),
        (5, best(3)),
    ] {
        rib.peer_up(several(host, send));
    }
    // Who only tells several is told the same as everybody.
    let plain = PeerInfo {
        advertise_learned: true,
        ..peer(6, true)
    };
    rib.peer_up(plain);
    let mut sizes: Vec<usize> = rib.groups().map(|(peers, _)| peers).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 2, 2]);
}

/// What happens in a scenario. Hosts 1 to 3 tell, and 3 and 4 to 6 are told.
#[derive(Debug, Clone)]
enum Event {
    /// Host, prefix, identifier, length of the AS path, the AS of this host in it.
    Announce(u8, bool, u32, u32, Option<u8>),
    Withdraw(u8, bool, u32),
    Changes,
    /// Host reads so many prefixes.
    Read(u8, usize),
    Refresh(u8),
    /// Host, which is told things, has a new session.
    Restart(u8),
    /// Host, which tells things, has a new session, in which it has told nothing.
    Silence(u8),
    /// Host gets a policy that accepts nothing, or everything again.
    Deny(u8, bool),
}

const TOLD: [u8; 4] = [3, 4, 5, 6];

fn event() -> impl Strategy<Value = Event> {
    let told = prop::sample::select(TOLD.to_vec());
    let teller = 1..4u8;
    prop_oneof![
        6 => (teller.clone(), any::<bool>(), 0..4u32, 0..3u32, proptest::option::weighted(0.2, 3..7u8))
            .prop_map(|(host, net, id, length, through)| Event::Announce(host, net, id, length, through)),
        4 => (teller, any::<bool>(), 0..4u32).prop_map(|(host, net, id)| Event::Withdraw(host, net, id)),
        4 => Just(Event::Changes),
        3 => (told.clone(), 1..4usize).prop_map(|(host, most)| Event::Read(host, most)),
        1 => told.clone().prop_map(Event::Refresh),
        1 => told.clone().prop_map(Event::Restart),
        1 => (1..3u8).prop_map(Event::Silence),
        1 => (told, any::<bool>()).prop_map(|(host, deny)| Event::Deny(host, deny)),
    ]
}

fn role_of(host: u8) -> PeerInfo {
    several(
        host,
        match host {
            3 | 4 => SendPaths::All,
            5 => best(2),
            _ => SendPaths::None,
        },
    )
}

fn net(v4: bool) -> &'static str {
    if v4 { NET } else { "2001:db8::/32" }
}

type Model = BTreeMap<(Prefix, u8, u32), Vec<u32>>;

/// The AS paths of a prefix that a host is to hold, by the model alone.
fn expected(model: &Model, of: Prefix, host: u8) -> Vec<Vec<u32>> {
    let info = role_of(host);
    let mut paths: Vec<_> = model.iter().filter(|((prefix, ..), _)| *prefix == of).collect();
    paths.sort_by_key(|((_, from, id), ases)| (ases.len(), *from, *id));
    let most = match info.send_paths {
        SendPaths::All => usize::MAX,
        SendPaths::Best(most) => most.get().into(),
        SendPaths::None => 1,
    };
    let told = paths.into_iter().take(most);
    let visible = told.filter(|((_, from, _), ases)| *from != host && !ases.contains(&info.asn));
    let mut told: Vec<Vec<u32>> = visible.map(|(_, ases)| [&[LOCAL_AS], &ases[..]].concat()).collect();
    told.sort_unstable();
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However slow a peer reads, in the end it holds exactly what a naive computation from the last state says.
    #[test]
    fn what_a_peer_holds_is_what_should_be_announced(events in proptest::collection::vec(event(), 1..60)) {
        let mut rib = rib();
        let mut queues: BTreeMap<u8, Arc<OutQueue>> = (1..7).map(|host| (host, rib.peer_up(role_of(host)))).collect();
        let mut held: BTreeMap<u8, Held> = TOLD.map(|host| (host, Held::default())).into();
        let mut denied = BTreeSet::new();
        let mut model = Model::new();
        for event in events {
            match event {
                Event::Announce(host, v4, id, length, through) => {
                    let from = role_of(host);
                    let mut update = tell(&from, net(v4), id, length);
                    let attributes = &mut update.announced[0].attributes;
                    if let Some(through) = through.filter(|through| *through != host) {
                        let mut ases: Vec<u32> = attributes.as_path.asns().collect();
                        ases.push(role_of(through).asn);
                        attributes.as_path = wire::AsPath { segments: vec![wire::AsPathSegment::AsSequence(ases)] };
                    }
                    let ases = attributes.as_path.asns().collect();
                    model.insert((prefix(net(v4)), host, id), ases);
                    rib.update(from.address, update).expect("no limit");
                }
                Event::Withdraw(host, v4, id) => {
                    model.remove(&(prefix(net(v4)), host, id));
                    rib.update(role_of(host).address, untell(net(v4), id)).expect("no limit");
                }
                Event::Changes => drop(rib.take_changes()),
                Event::Read(host, most) => held.get_mut(&host).expect("told").read_some(&queues[&host], most),
                Event::Refresh(host) => rib.refresh(role_of(host).address, Family::Ipv4Unicast),
                Event::Restart(host) if host != 3 => {
                    rib.peer_down(role_of(host).address);
                    queues.insert(host, rib.peer_up(role_of(host)));
                    held.insert(host, Held::default());
                    denied.remove(&host);
                }
                Event::Restart(_) => {}
                Event::Silence(host) => {
                    rib.peer_down(role_of(host).address);
                    rib.peer_up(role_of(host));
                    model.retain(|(_, from, _), _| *from != host);
                }
                Event::Deny(host, deny) => {
                    // As the speaker does.
                    rib.take_changes();
                    let policy = if deny { Policy::Deny } else { Policy::Accept };
                    rib.set_policies(role_of(host).address, &Policy::Accept, &policy);
                    if deny { denied.insert(host) } else { denied.remove(&host) };
                }
            }
        }
        rib.take_changes();
        for host in TOLD {
            let held = held.get_mut(&host).expect("told").read(&queues[&host]);
            for v4 in [true, false] {
                let of = prefix(net(v4));
                let mut has: Vec<_> = held.0.iter().filter(|(nlri, _)| nlri.prefix == of).map(|(_, ases)| ases.clone()).collect();
                has.sort_unstable();
                let should = if denied.contains(&host) { Vec::new() } else { expected(&model, of, host) };
                prop_assert_eq!(has, should, "host {} of {}", host, of);
            }
            prop_assert!(host == 6 || held.0.keys().all(|nlri| nlri.path_id != 0));
            prop_assert!(host != 6 || held.0.keys().all(|nlri| nlri.path_id == 0));
            let counted: u32 = rib.counters(role_of(host).address).iter().map(|counters| counters.advertised).sum();
            prop_assert_eq!(counted as usize, held.0.len());
        }
    }
}
