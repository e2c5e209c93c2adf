//! Publishing and entering under loom: the real [`rib::Rib`], its readers and `left-right`, in every interleaving of their
//! atomic operations that loom's memory model allows, up to [`PREEMPTIONS`] preemptions.
//!
//! A generation is made such that a reader can tell a whole one: two VRFs have a route each, and both are of the kind
//! that the number of the generation says. loom ends the run also where a reader looks at a copy of the tables that the
//! writer changes and nothing orders the two (`rib/src/sync.rs`).
//!
//! `cargo test` in this folder; `.cargo/config.toml` has the flag.
#![forbid(unsafe_code)]
#![cfg(all(test, loom))]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use loom::model::Builder;
use loom::thread;
use net::{Generation, Route, RouteChange, RouteKind, Source, VrfId};
use rib::{Published, Reader, Rib, RibConfig, Tables};

/// Bound of the search: how often threads are interrupted where they need not wait. A second reader makes many times as
/// many interleavings, so it gets one less.
const PREEMPTIONS: usize = 3;
/// The two VRFs that change together.
const VRFS: [VrfId; 2] = [VrfId::DEFAULT, VrfId(1)];
/// An address in the prefix that changes.
const ADDRESS: u32 = 0x1400_0001;

fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

/// What both routes are in a generation.
fn kind(generation: Generation) -> RouteKind {
    match generation.0 % 3 {
        0 => RouteKind::Unreachable,
        1 => RouteKind::Blackhole,
        _ => RouteKind::Prohibit,
    }
}

/// The changes that make the next generation.
fn change(rib: &mut Rib) {
    let next = rib.generation().next();
    for vrf in VRFS {
        rib.route(RouteChange {
            vrf,
            prefix: "20.0.0.0/8".parse().expect("a prefix"),
            source: Source::Static,
            route: Some(Route::special(kind(next))),
        });
    }
}

/// Publishes what is pending, again and again while a reader is in the way; `waited` if one was, and was named.
fn publish(rib: &mut Rib, waited: &AtomicBool) -> Published {
    loop {
        match rib.publish() {
            Ok(published) => return published,
            Err(stalled) => {
                waited.fetch_or(!stalled.holders.is_empty(), Relaxed);
                assert_eq!(stalled.generation, rib.generation().next());
                assert!(
                    stalled
                        .holders
                        .iter()
                        .all(|holder| holder.generation < rib.generation())
                );
                thread::yield_now();
            }
        }
    }
}

/// That the generation is whole; returns its number.
fn whole(tables: &Tables) -> Generation {
    let generation = tables.generation();
    for vrf in VRFS {
        assert_eq!(tables.lookup_v4(vrf, ADDRESS, 0).kind, kind(generation), "{generation}");
    }
    generation
}

/// A burst that stalls inside, and looks again.
fn burst(reader: &Reader) -> Generation {
    let known = reader.generation();
    let tables = reader.enter().expect("the RIB is there");
    let generation = whole(&tables);
    assert!(known <= generation, "published {known}, and {generation} was entered");
    thread::yield_now();
    assert_eq!(whole(&tables), generation, "it changed under the reader");
    generation
}

/// A RIB whose two copies have been told of each other.
fn start() -> (Rib, Reader) {
    let (mut rib, reader) = Rib::new(RibConfig::default());
    change(&mut rib);
    rib.publish().expect("nobody is inside");
    (rib, reader.named("stalled"))
}

#[test]
fn a_stalled_reader_sees_one_whole_generation_and_the_writer_goes_on_afterwards() {
    static WAITED: AtomicBool = AtomicBool::new(false);
    model(PREEMPTIONS, || {
        let (mut rib, reader) = start();
        let first = rib.generation();
        let worker = thread::spawn(move || {
            let first = burst(&reader);
            let second = burst(&reader);
            assert!(first <= second, "time goes one way");
            second
        });
        for _ in 0..2 {
            change(&mut rib);
            publish(&mut rib, &WAITED);
        }
        let seen = worker.join().expect("the worker ends");
        assert!(first <= seen && seen <= rib.generation());
        change(&mut rib);
        let last = rib.publish().expect("nobody is inside");
        assert_eq!(burst(&rib.reader()), last.generation);
    });
    assert!(WAITED.load(Relaxed), "in some interleaving the writer met the reader");
}

#[test]
fn a_writer_that_is_stalled_takes_changes_and_loses_none() {
    static STALLED: AtomicBool = AtomicBool::new(false);
    model(PREEMPTIONS, || {
        let (mut rib, reader) = start();
        let worker = thread::spawn(move || burst(&reader));
        let mut published = rib.generation();
        for _ in 0..3 {
            change(&mut rib);
            match rib.publish() {
                Ok(done) => published = done.generation,
                // The next try has the changes of this one.
                Err(stalled) => {
                    STALLED.store(true, Relaxed);
                    assert_eq!(stalled.generation, published.next());
                }
            }
            assert_eq!(rib.generation(), published);
        }
        worker.join().expect("the worker ends");
        if rib.pending() > 0 {
            published = rib.publish().expect("nobody is inside").generation;
        }
        assert_eq!(burst(&rib.reader()), published);
        assert_eq!(rib.pending(), 0);
    });
    assert!(STALLED.load(Relaxed), "in some interleaving it was stalled");
}

#[test]
fn two_readers_stall_one_writer() {
    static WAITED: AtomicBool = AtomicBool::new(false);
    model(PREEMPTIONS - 1, || {
        let (mut rib, reader) = start();
        let workers = ["first", "second"].map(|name| {
            let reader = reader.named(name);
            thread::spawn(move || burst(&reader))
        });
        for _ in 0..2 {
            change(&mut rib);
            publish(&mut rib, &WAITED);
        }
        for worker in workers {
            let seen = worker.join().expect("the worker ends");
            assert!(seen <= rib.generation());
        }
    });
    assert!(WAITED.load(Relaxed), "in some interleaving the writer met a reader");
}

#[test]
fn readers_outlive_the_rib() {
    model(PREEMPTIONS, || {
        let (rib, reader) = start();
        let worker = thread::spawn(move || reader.enter().map(|tables| whole(&tables)));
        let last = rib.generation();
        drop(rib);
        let seen = worker.join().expect("the worker ends");
        assert!(seen.is_none_or(|seen| seen == last));
    });
}
