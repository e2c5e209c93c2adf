//! Flows over several next hops: who moves when the members change.

use std::collections::BTreeMap;

use crate::*;

/// As many flows as cover every bucket many times.
const FLOWS: u32 = 20_000;

fn gateways(count: u8) -> Vec<String> {
    (0..count).map(|n| format!("10.0.{}.{}", n % 2, 100 + n / 2)).collect()
}

fn hops(gateways: &[String]) -> Route {
    Route::multipath(gateways.iter().map(|gateway| NextHop::via(ip(gateway))))
}

fn world(gateways: &[String]) -> Bench {
    let mut b = Bench::new();
    for (n, gateway) in gateways.iter().enumerate() {
        let host = if n % 2 == 0 { HOST } else { OTHER };
        b.neighbor(host, gateway, NeighborState::Reachable(mac(100 + n as u8)));
    }
    b
}

/// The gateway and next hop of each flow to 20.0.0.1.
fn flows(b: &Bench) -> Vec<(IpAddr, NextHopId)> {
    let tables = b.reader.enter().expect("published");
    let flow = |hash: u32| {
        let target = Ipv4Addr::new(20, 0, 0, 1).into();
        let found = tables
            .resolve_v4(VRF, target, hash.wrapping_mul(0x9e37_79b9))
            .expect("routed");
        let gateway = tables.adjacency(found.next_hop).gateway.expect("a router");
        (gateway, found.next_hop)
    };
    (0..FLOWS).map(flow).collect()
}

fn share(flows: &[(IpAddr, NextHopId)]) -> BTreeMap<IpAddr, usize> {
    let mut shares = BTreeMap::new();
    flows
        .iter()
        .for_each(|(gateway, _)| *shares.entry(*gateway).or_default() += 1);
    shares
}

#[test]
fn a_member_that_goes_moves_its_own_flows_only_and_one_that_comes_takes_its_share() {
    let all = gateways(64);
    let mut b = world(&all);
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&all));
    b.publish();
    let full = flows(&b);
    assert_eq!(share(&full).len(), 64);

    // BGP announces the route anew without three of them; the order of the others is another too.
    let (gone, mut left) = (all[..3].to_vec(), all[3..].to_vec());
    left.rotate_left(7);
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&left));
    b.publish();
    let fewer = flows(&b);
    for (before, after) in full.iter().zip(&fewer) {
        let stays = !gone.iter().any(|gateway| ip(gateway) == before.0);
        assert_eq!(before == after, stays, "{before:?} {after:?}");
    }

    // One of them again.
    left.push(gone[1].clone());
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&left));
    b.publish();
    let again = flows(&b);
    let moved: Vec<_> = fewer
        .iter()
        .zip(&again)
        .filter(|(before, after)| before != after)
        .collect();
    assert!(moved.iter().all(|(_, after)| after.0 == ip(&gone[1])));
    let fair = FLOWS as usize / 62;
    assert!(
        (fair / 2..=fair * 5 / 4).contains(&moved.len()),
        "{} moved, a share is {fair}",
        moved.len()
    );
}

#[test]
fn a_link_that_goes_moves_the_flows_of_its_members_only() {
    let all = gateways(6);
    let mut b = world(&all);
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&all));
    b.publish();
    let before = flows(&b);
    b.link(OTHER, false);
    let published = b.publish();
    let after = flows(&b);
    let on_host = |gateway: IpAddr| gateway.to_string().starts_with("10.0.0.");
    for (old, new) in before.iter().zip(&after) {
        assert!(on_host(new.0));
        assert!(!on_host(old.0) || old == new, "{old:?} moved to {new:?}");
    }
    // Only those have to look again: nobody else's next hop is in the delta.
    let told = &published.delta.next_hops;
    assert!(!published.delta.everything);
    for (gateway, id) in &before {
        assert_eq!(told.contains(id), !on_host(*gateway), "{gateway}");
    }
}

#[test]
fn routes_with_one_history_share_their_buckets_and_others_do_not_disturb_them() {
    let all = gateways(3);
    let mut b = world(&all);
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&all));
    b.announce(VRF, "21.0.0.0/8", Source::Ebgp, hops(&all));
    // Has the two from the start, divided evenly.
    b.announce(VRF, "30.0.0.0/8", Source::Ebgp, hops(&all[..2]));
    b.publish();
    let before = flows(&b);
    let groups = b.rib.stats().groups;
    for prefix in ["20.0.0.0/8", "21.0.0.0/8"] {
        b.announce(VRF, prefix, Source::Ebgp, hops(&all[..2]));
    }
    b.publish();
    for (old, new) in before.iter().zip(&flows(&b)) {
        assert!(old.0 == ip(&all[2]) || old == new);
    }
    assert_eq!(
        b.rib.stats().groups,
        groups,
        "one group for both, one for the third, none for three"
    );
    // Said again, it is the same route.
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&all[..2]));
    assert!(b.publish().winners.is_empty());
}

#[test]
fn many_histories_end_in_a_bounded_number_of_groups() {
    let all = gateways(16);
    let mut b = world(&all);
    for n in 0..120u8 {
        let prefix = format!("20.{n}.0.0/16");
        // Two of sixteen leave, each pair in its own order.
        let (first, second) = (usize::from(n % 16), usize::from(n / 16) + usize::from(n / 16 >= n % 16));
        b.announce(VRF, &prefix, Source::Ebgp, hops(&all));
        b.publish();
        let mut left = all.clone();
        for gone in [first, second] {
            left.retain(|gateway| *gateway != all[gone]);
            b.announce(VRF, &prefix, Source::Ebgp, hops(&left));
            b.publish();
        }
        b.announce(VRF, &prefix, Source::Ebgp, hops(&all));
        b.publish();
    }
    // Each neighbour and subnet has a group as well.
    assert!(b.rib.stats().groups < 64 + 16 + 16, "{}", b.rib.stats().groups);
}

#[test]
fn revalidation_finds_the_next_hop_of_an_unaffected_flow_where_it_was() {
    use nat::Resolver;
    let all = gateways(5);
    let mut b = world(&all);
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&all));
    b.publish();
    let before = flows(&b);
    b.announce(VRF, "20.0.0.0/8", Source::Ebgp, hops(&all[1..]));
    let published = b.publish();
    let tables = b.reader.enter().expect("published");
    let target = u32::from(Ipv4Addr::new(20, 0, 0, 1));
    assert!(published.delta.touches_v4(VRF, target), "every flow is looked up again");
    for (hash, (gateway, id)) in (0..FLOWS).zip(before) {
        let resolver: &dyn Resolver = &*tables;
        let found = resolver
            .resolve(VRF, target, hash.wrapping_mul(0x9e37_79b9))
            .expect("routed");
        assert_eq!(found.next_hop == id, gateway != ip(&all[0]), "{gateway}");
    }
}

/// A group that ten thousand routes name changes: one set of next hops is resolved, and no prefix is touched.
#[test]
fn an_object_that_changes_is_one_change_whatever_names_it() {
    let mut b = Bench::new();
    let object = NextHopObject {
        source: Source::Kernel,
        id: 7,
    };
    let told = |gateways: &[&str]| NextHopObjectChange {
        object,
        next_hops: gateways.iter().map(|gateway| NextHop::via(ip(gateway))).collect(),
    };
    for i in 0..10_000u32 {
        let prefix = format!("30.{}.{}.0/24", i / 250, i % 250);
        b.announce(VRF, &prefix, Source::Kernel, Route::unicast(NextHop::of_object(object)));
    }
    b.publish();
    assert_eq!(b.way(VRF, "30.0.0.1"), Err(Drop::NoRoute));
    assert_eq!(b.reason("30.0.0.0/24", Source::Kernel), Some(Reason::ObjectUnknown));

    b.rib.kernel(KernelEvent::NextHopObject(told(&["10.0.0.2"])));
    assert_eq!(b.publish().effort.leaves, 10_000, "they become usable");
    assert_eq!(b.way(VRF, "30.0.0.1"), forward("10.0.0.2"));

    b.rib.kernel(KernelEvent::NextHopObject(told(&["10.0.1.2"])));
    let published = b.publish();
    assert_eq!((published.changes, published.effort.resolutions), (1, 1));
    assert_eq!(published.effort.leaves, 0);
    assert!(published.effort.elections < 10, "{:?}", published.effort);
    assert_eq!(
        (published.delta.prefixes.len(), published.delta.next_hops.len()),
        (0, 1)
    );
    assert_eq!(b.way(VRF, "30.39.249.9"), forward("10.0.1.2"));

    b.rib.kernel(KernelEvent::NextHopObject(told(&["10.0.1.2"])));
    assert_eq!(b.rib.pending(), 0, "nothing new");
    b.rib.kernel(KernelEvent::NextHopObject(told(&[])));
    b.publish();
    assert_eq!(b.way(VRF, "30.0.0.1"), Err(Drop::NoRoute));
}
