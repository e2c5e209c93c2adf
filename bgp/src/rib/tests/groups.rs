//! Update groups: the work of one, the words of each, and nobody waits for a slow peer.

use net::policy::{Change, Condition, MedChange, Policies, Term, Then};
use proptest::prelude::*;

use super::*;
use crate::policy::PolicyTable;

/// A receiver of everything.
fn receiver(host: u8) -> PeerInfo {
    PeerInfo {
        advertise_learned: true,
        ..peer(host, true)
    }
}

/// Everything that waits, as bytes.
fn bytes(queue: &OutQueue, context: &Context) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let taken = queue.take(3);
        if taken.is_empty() {
            return all;
        }
        for outgoing in taken {
            match outgoing {
                Outgoing::Batch(batch) => all.extend(&batch.encoded().0),
                Outgoing::Announce(attributes, prefixes) => {
                    let messages = wire::encode_announcement(&attributes, &prefixes, context).expect("encodes");
                    messages.iter().for_each(|message| all.extend(message));
                }
                Outgoing::Withdraw(prefixes) => wire::encode_withdrawal(&prefixes, context)
                    .iter()
                    .for_each(|message| all.extend(message)),
                Outgoing::EndOfRib(family) => all.extend(wire::encode_end_of_rib(family, context)),
                _ => {}
            }
        }
    }
}

#[test]
fn fifty_peers_of_one_policy_are_computed_and_encoded_as_one() {
    let work = |receivers: u8| {
        let mut rib = rib();
        let source = peer(1, true);
        rib.peer_up(source.clone());
        let queues: Vec<_> = (0..receivers).map(|n| rib.peer_up(receiver(10 + n))).collect();
        queues.iter().for_each(|queue| drop(queue.take(100)));
        for round in 0..20 {
            let nets: Vec<String> = (0..30).map(|n| format!("10.{round}.{n}.0/24")).collect();
            let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
            rib.update(source.address, announce_with(&source, &nets, |a| a.med = Some(round)))
                .expect("within limits");
            rib.take_changes();
        }
        let told: Vec<Vec<Outgoing>> = queues.iter().map(|queue| queue.take(usize::MAX)).collect();
        for others in &told[1..] {
            assert_eq!(others.len(), 20);
            for (one, other) in told[0].iter().zip(others) {
                let (Outgoing::Batch(one), Outgoing::Batch(other)) = (one, other) else {
                    panic!("{one:?} {other:?}")
                };
                assert!(Arc::ptr_eq(one, other), "one batch for all");
            }
        }
        let groups: Vec<_> = rib
            .groups()
            .filter(|(peers, _)| *peers == usize::from(receivers))
            .collect();
        assert_eq!(groups.len(), 1);
        groups[0].1
    };
    let (one, fifty) = (work(2), work(50));
    assert_eq!(one, fifty);
    // One announcement for the 30 prefixes of each UPDATE.
    assert_eq!((fifty.exports, fifty.batches), (20, 20));
}

#[test]
fn nobody_waits_for_a_slow_peer_which_gets_the_last_state() {
    let mut rib = rib();
    let source = peer(1, true);
    rib.peer_up(source.clone());
    let (quick, slow) = (rib.peer_up(receiver(10)), rib.peer_up(receiver(11)));
    quick.take(100);
    slow.take(100);
    let mut rounds = 0;
    let mut flap = |rib: &mut Rib, up: bool| {
        rounds += 1;
        let update = if up {
            announce_with(&source, &["10.0.0.0/8"], |a| {
                a.as_path = a.prepended(source.asn).clone()
            })
        } else {
            withdraw(&["10.0.0.0/8"])
        };
        rib.update(source.address, update).expect("within limits");
        rib.take_changes();
        assert_eq!(take(&quick, 100).len(), 1, "the quick peer is told at once");
    };
    for round in 0..2000 {
        flap(&mut rib, round % 2 == 0);
    }
    flap(&mut rib, true);
    let waiting = take(&slow, usize::MAX);
    assert!(waiting.len() < 300, "{} changes wait", waiting.len());
    assert!(matches!(waiting.last(), Some(Outgoing::Announce(_, prefixes)) if prefixes.len() == 1));
    assert!(slow.is_empty());
    // It has caught up, and shares again.
    flap(&mut rib, false);
    assert!(matches!(slow.take(100)[..], [Outgoing::Batch(_)]));
    assert_eq!(rounds, 2002);
}

#[test]
fn what_tells_peers_apart_keeps_them_in_groups_of_their_own() {
    let mut rib = rib();
    let named = |host: u8, conditions| {
        let data = Policies {
            policies: vec![net::policy::Policy {
                name: "p".to_owned(),
                terms: vec![Term {
                    name: "t".to_owned(),
                    conditions,
                    changes: vec![],
                    then: Then::Accept,
                }],
                accept_by_default: false,
            }],
            ..Policies::default()
        };
        let table = PolicyTable::compile(&data).expect("compiles");
        PeerInfo {
            export: Policy::Program(Arc::clone(table.get("p").expect("there"))),
            ..receiver(host)
        }
    };
    for info in [
        receiver(1),
        receiver(2),
        peer(3, false),
        peer(4, true),
        named(5, vec![]),
        named(6, vec![]),
        // These may be told different things.
        named(7, vec![Condition::Neighbor(vec![ip("192.0.2.7")])]),
        named(8, vec![Condition::Neighbor(vec![ip("192.0.2.7")])]),
    ] {
        rib.peer_up(info);
    }
    let mut sizes: Vec<usize> = rib.groups().map(|(peers, _)| peers).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 1, 1, 2, 2]);
    rib.peer_down(ip("192.0.2.1"));
    rib.peer_down(ip("192.0.2.3"));
    assert_eq!(rib.groups().count(), 5);
}

/// What happens in a scenario; hosts are 1 to 4.
#[derive(Debug, Clone)]
enum Step {
    /// Host, prefixes as bits, other hosts whose AS is in the path as bits, MED.
    Announce(u8, u8, u8, u8),
    /// Host, prefixes as bits.
    Withdraw(u8, u8),
    Changes,
    /// Host takes what waits.
    Drain(u8),
    Refresh(u8),
    Restart(u8),
    /// Host gets the other policy, or its own again.
    Policy(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let host = 1..5u8;
    prop_oneof![
        4 => (host.clone(), any::<u8>(), 0..32u8, 0..3u8).prop_map(|(h, p, a, m)| Step::Announce(h, p, a, m)),
        2 => (host.clone(), any::<u8>()).prop_map(|(h, p)| Step::Withdraw(h, p)),
        4 => Just(Step::Changes),
        2 => host.clone().prop_map(Step::Drain),
        1 => host.clone().prop_map(Step::Refresh),
        1 => host.clone().prop_map(Step::Restart),
        1 => (host, any::<bool>()).prop_map(|(h, p)| Step::Policy(h, p)),
    ]
}

fn some_prefixes(bits: u8) -> Vec<&'static str> {
    const ALL: [&str; 8] = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.2.0.0/16",
        "10.3.0.0/16",
        "2001:db8:1::/48",
        "2001:db8:2::/48",
        "192.0.2.0/24",
        "198.51.100.0/24",
    ];
    let wanted = |n: &usize| bits & 1 << n != 0;
    (0..8).filter(wanted).map(|n| ALL[n]).collect()
}

/// Changes the MED of one prefix, so the prefix matters.
fn program() -> Policy {
    let data = Policies {
        policies: vec![net::policy::Policy {
            name: "p".to_owned(),
            terms: vec![Term {
                name: "t".to_owned(),
                conditions: vec![Condition::PrefixSet("s".to_owned())],
                changes: vec![Change::Med(MedChange::Set(7))],
                then: Then::Accept,
            }],
            accept_by_default: true,
        }],
        prefix_sets: vec![net::policy::PrefixSet {
            name: "s".to_owned(),
            prefixes: vec![net::policy::PrefixRange {
                prefix: prefix("10.0.0.0/8"),
                ge: 8,
                le: 8,
            }],
        }],
        ..Policies::default()
    };
    let table = PolicyTable::compile(&data).expect("compiles");
    Policy::Program(Arc::clone(table.get("p").expect("there")))
}

/// Runs a scenario; `grouped` hosts are told the same, the others nothing. Returns the bytes each of those was told.
fn run(steps: &[Step], grouped: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let policy = |host: u8, other: bool| match (grouped.contains(&host), other) {
        (false, _) => Policy::Deny,
        (true, false) => Policy::Accept,
        (true, true) => program(),
    };
    let info = |host: u8| PeerInfo {
        export: policy(host, false),
        ..receiver(host)
    };
    let mut rib = rib();
    let mut queues: BTreeMap<u8, Arc<OutQueue>> = (1..5).map(|host| (host, rib.peer_up(info(host)))).collect();
    let mut told: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let drain = |host: u8, queue: &OutQueue, told: &mut BTreeMap<u8, Vec<u8>>| {
        let bytes = bytes(queue, &info(host).context);
        told.entry(host).or_default().extend(bytes);
    };
    for step in steps.iter().chain([&Step::Changes]) {
        if matches!(step, Step::Restart(_) | Step::Policy(..)) {
            // As the speaker does; without, the batches of those alone would be cut at other places.
            rib.take_changes();
        }
        match step {
            Step::Announce(host, prefixes, ases, med) => {
                let from = info(*host);
                let update = announce_with(&from, &some_prefixes(*prefixes), |a| {
                    for other in (1..5).filter(|n| ases & 1 << n != 0) {
                        a.as_path = a.prepended(LOCAL_AS + other);
                    }
                    a.as_path = a.prepended(from.asn);
                    a.med = Some(u32::from(*med));
                });
                rib.update(from.address, update).expect("within limits");
            }
            Step::Withdraw(host, prefixes) => {
                let update = withdraw(&some_prefixes(*prefixes));
                rib.update(info(*host).address, update).expect("within limits");
            }
            Step::Changes => drop(rib.take_changes()),
            Step::Drain(host) => drain(*host, &queues[host], &mut told),
            Step::Refresh(host) => {
                // The families of a queue that is not empty may come in another order.
                drain(*host, &queues[host], &mut told);
                rib.refresh(info(*host).address, Family::Ipv4Unicast);
            }
            Step::Restart(host) => {
                rib.peer_down(info(*host).address);
                queues.insert(*host, rib.peer_up(info(*host)));
            }
            Step::Policy(host, other) => {
                rib.set_policies(info(*host).address, &Policy::Accept, &policy(*host, *other));
            }
        }
    }
    queues.iter().for_each(|(host, queue)| drain(*host, queue, &mut told));
    told.retain(|host, _| grouped.contains(host));
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Peers that announce to each other, with each other's ASes in the paths, some of them slow.
    #[test]
    fn a_peer_is_told_in_the_same_bytes_as_if_it_were_alone(steps in proptest::collection::vec(step(), 1..40)) {
        let together = run(&steps, &[1, 2, 3, 4]);
        for host in 1..5 {
            let alone = run(&steps, &[host]);
            prop_assert_eq!(&alone[&host], &together[&host], "peer {}", host);
        }
    }
}
