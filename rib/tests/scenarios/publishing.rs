//! Generations, their deltas and their readers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rib::Tables;

use crate::*;

#[test]
fn public_addresses_of_nat_win_over_everything() {
    let mut b = Bench::new();
    b.address(HOST, "203.0.113.1/32", true);
    let rule = nat::Masquerade {
        vpc: VpcId::new(1).expect("valid"),
        sources: vec!["0.0.0.0/0".parse().expect("a net")],
        pool: vec![Ipv4Addr::new(203, 0, 113, 1).into()],
        ports: (1024, 65535),
        options: nat::PoolOptions::default(),
    };
    let spec = nat::PolicySpec {
        masquerade: vec![rule],
        ..nat::PolicySpec::default()
    };
    let policy = Arc::new(nat::Policy::compile(spec).expect("valid"));
    b.rib.set_policy(Arc::clone(&policy), Revision(4));
    let published = b.publish();
    assert!(published.delta.policy);
    assert_eq!(b.way(VRF, "203.0.113.1"), Ok((AdjacencyKind::Nat, None)));
    assert_eq!(b.reader.enter().expect("published").revision(), Revision(4));
    let none = nat::Policy::compile(nat::PolicySpec::default()).expect("valid");
    b.rib.set_policy(Arc::new(none), Revision(5));
    b.publish();
    assert_eq!(b.way(VRF, "203.0.113.1"), Ok((AdjacencyKind::Local, None)));
}

#[test]
fn deltas_add_up_until_they_are_forgotten() {
    let mut b = Bench::new();
    let start = b.rib.generation();
    for i in 0..70u32 {
        b.announce(VRF, &format!("20.{i}.0.0/16"), Source::Static, via("10.0.0.2"));
        let published = b.publish();
        let tables = b.reader.enter().expect("published");
        let since = tables.delta_since(Generation(published.generation.0 - 1));
        assert!(Arc::ptr_eq(&since, &published.delta), "one generation is not copied");
        assert_eq!(tables.delta_since(start).everything, i >= 64);
        assert_eq!(tables.delta_since(Generation(published.generation.0)).prefixes.len(), 0);
        if i < 64 {
            assert_eq!(tables.delta_since(start).prefixes.len(), i as usize + 1);
        }
    }
}

/// What used the covering prefix is found by where it goes, and what the more specific one does not hold is left alone.
#[test]
fn a_more_specific_route_that_comes_or_goes_touches_what_it_holds() {
    let mut b = Bench::new();
    b.announce(VRF, "20.0.0.0/8", Source::Static, via("10.0.0.2"));
    b.publish();
    let touched = |delta: &nat::Delta, destination: [u8; 4]| delta.touches_v4(VRF, u32::from_be_bytes(destination));
    for come in [true, false] {
        match come {
            true => b.announce(VRF, "20.1.0.0/16", Source::Static, via("10.0.1.2")),
            false => b.withdraw(VRF, "20.1.0.0/16", Source::Static),
        }
        let delta = b.publish().delta;
        assert_eq!(
            b.way(VRF, "20.1.2.3"),
            forward(if come { "10.0.1.2" } else { "10.0.0.2" })
        );
        assert!(touched(&delta, [20, 1, 2, 3]), "its way changed: {delta:?}");
        assert!(
            !touched(&delta, [20, 2, 2, 3]),
            "it stays with the covering route: {delta:?}"
        );
        assert_eq!(delta.prefixes.len(), 1, "{delta:?}");
    }
}

#[test]
fn a_delta_too_long_to_list_says_everything() {
    let (rib, reader) = Rib::new(RibConfig {
        max_delta: 3,
        ..RibConfig::default()
    });
    let mut b = Bench { rib, reader };
    for i in 0..5 {
        b.announce(
            VRF,
            &format!("20.{i}.0.0/16"),
            Source::Static,
            Route::special(RouteKind::Blackhole),
        );
    }
    let published = b.publish();
    assert!(published.delta.everything && published.delta.prefixes.is_empty());
    assert_eq!(published.winners.len(), 5, "the kernel's mirror still has to know each");
}

#[test]
fn a_burst_is_the_same_as_its_lookups() {
    let mut b = Bench::new();
    b.announce(
        VrfId(1),
        "0.0.0.0/0",
        Source::Static,
        Route::unicast(NextHop::in_vrf(VRF)),
    );
    b.announce(VRF, "2001:db8::/32", Source::Static, via("10.0.0.2"));
    b.publish();
    let tables = b.reader.enter().expect("published");
    let queries: Vec<(VrfId, u32, u32)> = (0..150u32)
        .map(|i| {
            (
                VrfId((i % 3) as u16),
                u32::from(Ipv4Addr::new(10, 0, (i % 2) as u8, i as u8)),
                i,
            )
        })
        .collect();
    let bursts = queries.chunks(Tables::BURST);
    let found = bursts.flat_map(|burst| {
        tables.resolve_v4_burst(burst.len(), |i| (burst[i].0, burst[i].1), |i| burst[i].2)[..burst.len()].to_vec()
    });
    for (query, found) in queries.iter().zip(found) {
        let single = tables.resolve_v4(query.0, query.1, query.2);
        assert_eq!(
            single.map(|r| r.next_hop),
            if found == Lookup::NO_ROUTE || query.0 == VrfId(2) {
                Err(Drop::NoRoute)
            } else {
                Ok(found.next_hop)
            }
        );
    }
    let queries = [(VRF, 0x2001_0db8 << 96 | 1), (VRF, 1)];
    let found = tables.resolve_v6_burst(queries.len(), |i| queries[i], |_| 0);
    assert_eq!(tables.adjacency(found[0].next_hop).gateway, Some(ip("10.0.0.2")));
    assert_eq!(found[1].next_hop, Lookup::NO_ROUTE.next_hop);
}

#[test]
fn a_stalled_reader_stalls_publishing_and_loses_nothing() {
    let mut b = Bench::new();
    let reader = b.reader.clone();
    let (inside, wait_inside) = mpsc::channel();
    let (leave, wait_leave) = mpsc::channel::<()>();
    let worker = std::thread::spawn(move || {
        let guard = reader.enter().expect("published");
        inside.send(guard.generation()).expect("the test waits");
        wait_leave.recv().expect("the test tells");
        let held = guard.generation();
        drop(guard);
        (held, reader.enter().expect("published").generation())
    });
    let held = wait_inside.recv().expect("the worker is inside");
    b.announce(VRF, "20.0.0.0/8", Source::Static, via("10.0.0.2"));
    let first = b.rib.publish().expect("the other copy is free");
    b.announce(VRF, "21.0.0.0/8", Source::Static, via("10.0.0.2"));
    let next = first.generation.next();
    assert_eq!(
        b.rib.publish().expect_err("the worker holds the older copy").generation,
        next
    );
    b.announce(VRF, "22.0.0.0/8", Source::Static, via("10.0.0.2"));
    assert!(b.rib.publish().is_err());
    assert_eq!(b.rib.pending(), 2);
    assert_eq!(b.reader.generation(), first.generation);
    assert_eq!(b.way(VRF, "21.0.0.1"), Err(Drop::NoRoute));
    leave.send(()).expect("the worker waits");
    let (kept, seen) = worker.join().expect("the worker ends");
    assert_eq!((kept, seen), (held, first.generation));
    let published = b.publish();
    assert_eq!(
        (published.generation, published.changes, published.winners.len()),
        (next, 2, 2)
    );
    assert_eq!(published.delta.prefixes.len(), 2);
    let tables = b.reader.enter().expect("published");
    assert_eq!(tables.delta_since(first.generation).prefixes.len(), 2);
    drop(tables);
    assert_eq!(b.way(VRF, "21.0.0.1"), forward("10.0.0.2"));
    assert_eq!(b.way(VRF, "22.0.0.1"), forward("10.0.0.2"));
}

/// What the routes of both VRFs are in a generation, so that a reader can tell a whole one.
fn kind_in(generation: Generation) -> RouteKind {
    [RouteKind::Unreachable, RouteKind::Blackhole, RouteKind::Prohibit][generation.0 as usize % 3]
}

fn burst_is_whole(tables: &Tables) {
    let generation = tables.generation();
    for vrf in [VRF, VrfId(1)] {
        let found = tables.lookup_v4(vrf, u32::from(Ipv4Addr::new(20, 0, 0, 1)), 0);
        assert_eq!(found.kind, kind_in(generation), "{generation} in VRF {vrf}");
    }
}

/// Real threads: workers run at full rate while one of them stops inside its guard, again and again. Changes are taken all
/// the while, the others see whole generations, and what was pending comes when it leaves.
#[test]
fn a_reader_that_stalls_again_and_again_holds_up_only_the_publishing() {
    const STALLS: usize = 50;
    let (mut rib, reader) = Rib::new(RibConfig::default());
    let change = |rib: &mut Rib, generation: Generation| {
        for vrf in [VRF, VrfId(1)] {
            rib.route(RouteChange {
                vrf,
                prefix: "20.0.0.0/8".parse().expect("a prefix"),
                source: Source::Static,
                route: Some(Route::special(kind_in(generation))),
            });
        }
    };
    let publish = |rib: &mut Rib| {
        change(rib, rib.generation().next());
        while let Err(stalled) = rib.publish() {
            assert!(
                stalled
                    .holders
                    .iter()
                    .all(|holder| holder.generation < rib.generation())
            );
            std::thread::yield_now();
        }
    };
    publish(&mut rib);
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let (reader, stop) = (reader.clone(), Arc::clone(&stop));
            let bursts = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&bursts);
            let thread = std::thread::spawn(move || {
                let mut last = Generation(0);
                while !stop.load(Ordering::Relaxed) {
                    let tables = reader.enter().expect("there are tables");
                    assert!(last <= tables.generation(), "time goes one way");
                    last = tables.generation();
                    burst_is_whole(&tables);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            (thread, bursts)
        })
        .collect();
    let stuck = reader.named("stuck");
    let (enter, wait_enter) = mpsc::channel::<()>();
    let (inside, wait_inside) = mpsc::channel();
    let (leave, wait_leave) = mpsc::channel::<()>();
    let stalling = std::thread::spawn(move || {
        while wait_enter.recv().is_ok() {
            let tables = stuck.enter().expect("there are tables");
            inside.send(tables.generation()).expect("the test waits");
            wait_leave.recv().expect("the test tells");
            burst_is_whole(&tables);
        }
    });
    for _ in 0..STALLS {
        enter.send(()).expect("it runs");
        let held = wait_inside.recv().expect("it enters");
        assert_eq!(held, rib.generation());
        publish(&mut rib);
        let next = rib.generation().next();
        let before: Vec<_> = workers
            .iter()
            .map(|(_, bursts)| bursts.load(Ordering::Relaxed))
            .collect();
        for _ in 0..20 {
            change(&mut rib, next);
            let stalled = rib.publish().expect_err("the reader is inside");
            assert_eq!(stalled.generation, next);
            let stuck = stalled.holders.iter().find(|holder| holder.reader == "stuck");
            assert_eq!(stuck.expect("it is named").generation, held);
        }
        // The others go on meanwhile.
        for ((_, bursts), before) in workers.iter().zip(before) {
            while bursts.load(Ordering::Relaxed) == before {
                std::thread::yield_now();
            }
        }
        leave.send(()).expect("it waits");
        publish(&mut rib);
        assert_eq!((rib.generation(), rib.pending()), (next, 0));
    }
    stop.store(true, Ordering::Relaxed);
    drop(enter);
    stalling.join().expect("it ends");
    for (worker, _) in workers {
        worker.join().expect("each saw whole generations only");
    }
}

#[test]
fn handles_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Rib>();
    is_send::<Reader>();
    let (rib, reader) = Rib::new(RibConfig::default());
    assert!(reader.enter().is_some());
    drop(rib);
    assert!(reader.enter().is_none());
}

#[test]
fn a_filter_shows_what_is_within() {
    let mut b = Bench::new();
    b.announce(VRF, "10.0.0.0/8", Source::Static, via("10.0.0.2"));
    let within: Prefix = "10.0.0.0/16".parse().expect("a prefix");
    let views = b.rib.routes(Some(VRF), Some(within), usize::MAX);
    assert!(
        views.iter().all(|v| within.covers(&v.prefix)) && views.len() == 4,
        "{views:?}"
    );
    assert_eq!(b.rib.routes(Some(VrfId(9)), None, usize::MAX), []);
    assert_eq!(b.rib.routes(None, None, 2).len(), 2);
}
