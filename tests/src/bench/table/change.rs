//! Changes in a full table while a worker reads it: when they are seen, how many a second, and what the worker loses.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use net::{Prefix, VrfId};
use rib::{Pace, Reader, Rib, Tables};

use super::lookup::destinations;
use super::world::{PEERS, announced, loaded, publish, thread_time};
use super::{Figures, Sizes, figures};
use crate::bench::random::Random;
use crate::bench::report::median;

/// Changes a second under which the worker's loss is measured.
const PACE: f64 = 20_000.0;
/// Default of `rib.publish-interval-ms`.
const INTERVAL: Duration = Duration::from_millis(5);
/// Pairs of windows, without and with changes.
const PAIRS: usize = 5;
/// Changes of the latency's sample.
const SINGLE: usize = 2_000;
/// Between two of them.
const PAUSE: Duration = Duration::from_micros(200);
/// Bursts between two looks at whether to stop.
const BURSTS: usize = 256;

/// Every row of changes.
///
/// # Errors
/// If the reading thread does not work.
pub fn run(sizes: &Sizes) -> Result<Figures, String> {
    let mut random = Random::new(4);
    let prefixes = random.prefixes_v4(sizes.v4);
    let keys: Arc<[IpAddr]> = destinations(&mut random, &prefixes).into();
    let (rib, reader) = loaded(&prefixes);
    let mut source = Source { rib, prefixes, made: 0 };

    let mut delays = visible(&mut source, &reader, &keys)?;
    delays.sort_unstable();
    let percentile = |percent: usize| delays[(delays.len() - 1) * percent / 100] as f64 / 1000.0;

    // The same work on tables that the worker does not read says what sharing the machine costs.
    let (elsewhere, _unread) = loaded(&source.prefixes);
    let mut elsewhere = Source {
        rib: elsewhere,
        prefixes: source.prefixes.clone(),
        made: 0,
    };
    let (mut losses, mut shared) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        for (of, losses) in [(&mut source, &mut losses), (&mut elsewhere, &mut shared)] {
            let worker = Worker::start(&reader, &keys);
            thread::sleep(sizes.window / 4);
            let alone = worker.stop()?;
            let worker = Worker::start(&reader, &keys);
            of.paced(sizes.window / 4);
            losses.push(100.0 * (1.0 - worker.stop()? / alone));
        }
    }
    drop(elsewhere);

    let worker = Worker::start(&reader, &keys);
    let sustained = source.flat_out(sizes.window);
    worker.stop()?;
    figures([
        ("routes-visible-p50-us", percentile(50)),
        ("routes-visible-p99-us", percentile(99)),
        ("routes-sustained-per-s", sustained),
        ("routes-reader-loss-percent", median(&losses)),
        ("routes-reader-loss-elsewhere-percent", median(&shared)),
    ])
}

/// Changes of one prefix after the other.
struct Source {
    rib: Rib,
    prefixes: Vec<Prefix>,
    made: usize,
}

impl Source {
    fn change(&mut self) {
        let prefix = self.prefixes[self.made % self.prefixes.len()];
        // A router other than the one it is with, also on the next time round.
        let peer = (self.made + 1 + self.made / self.prefixes.len()) % usize::from(PEERS);
        self.made += 1;
        self.rib.route(announced(prefix, peer as u8));
    }

    /// Evenly: what is due is one batch, published as the gateway's manager does it.
    fn paced(&mut self, window: Duration) {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL);
        let mut made = 0.0;
        while start.elapsed() < window {
            let due = start.elapsed().as_secs_f64() * PACE;
            while made < due {
                self.change();
                made += 1.0;
            }
            if self.rib.pending() > 0 && pace.wait(Instant::now()).is_none() {
                publish(&mut self.rib);
                pace.published(Instant::now());
            }
            thread::sleep(PAUSE);
        }
    }

    /// As fast as it goes, each change a generation of its own unless the worker is still in the one before.
    fn flat_out(&mut self, window: Duration) -> f64 {
        let (start, began) = (Instant::now(), self.made);
        while start.elapsed() < window {
            self.change();
            // What cannot be published yet is published with the next one.
            let _stalled = self.rib.publish().is_err();
        }
        publish(&mut self.rib);
        (self.made - began) as f64 / start.elapsed().as_secs_f64()
    }
}

/// Nanoseconds from each single change to the burst in which the worker sees it.
fn visible(source: &mut Source, reader: &Reader, keys: &Arc<[IpAddr]>) -> Result<Vec<u64>, String> {
    let worker = Worker::start(reader, keys);
    let mut delays = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let began = worker.epoch.elapsed();
        source.change();
        let generation = publish(&mut source.rib).generation;
        while worker.seen.load(Ordering::Acquire) < generation.0 {
            if worker.thread.is_finished() {
                worker.stop()?;
                return Err("the reading thread ended".to_owned());
            }
            thread::sleep(PAUSE);
        }
        delays.push(worker.seen_at.load(Ordering::Acquire) - began.as_nanos() as u64);
    }
    worker.stop()?;
    Ok(delays)
}

/// A thread that looks up bursts all the time.
struct Worker {
    thread: JoinHandle<f64>,
    stop: Arc<AtomicBool>,
    epoch: Instant,
    /// The newest generation that it has seen, and when, in nanoseconds since `epoch`.
    seen: Arc<AtomicU64>,
    seen_at: Arc<AtomicU64>,
}

impl Worker {
    fn start(reader: &Reader, keys: &Arc<[IpAddr]>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (seen, seen_at) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let epoch = Instant::now();
        let thread = {
            let (reader, keys) = (reader.clone(), Arc::clone(keys));
            let (stop, seen, seen_at) = (Arc::clone(&stop), Arc::clone(&seen), Arc::clone(&seen_at));
            thread::spawn(move || {
                read(&reader, &keys, &stop, |generation| {
                    seen_at.store(epoch.elapsed().as_nanos() as u64, Ordering::Release);
                    seen.store(generation, Ordering::Release);
                })
            })
        };
        Self {
            thread,
            stop,
            epoch,
            seen,
            seen_at,
        }
    }

    /// Ends it; returns its lookups a second of its own processor time.
    fn stop(self) -> Result<f64, String> {
        self.stop.store(true, Ordering::Release);
        self.thread
            .join()
            .map_err(|_panic| "the reading thread panicked".to_owned())
    }
}

/// Looks up until told to stop; tells of each generation. Returns lookups a second of processor time.
fn read(reader: &Reader, keys: &[IpAddr], stop: &AtomicBool, saw: impl Fn(u64)) -> f64 {
    let keys: Vec<u32> = keys
        .iter()
        .filter_map(|key| match key {
            IpAddr::V4(key) => Some(u32::from(*key)),
            IpAddr::V6(_) => None,
        })
        .collect();
    let (start, mut lookups, mut last) = (thread_time(), 0u64, 0);
    let mut bursts = keys.chunks(Tables::BURST).cycle();
    // One round in any case: a thread that was not let run in time still has a rate.
    let mut running = true;
    while running {
        running = !stop.load(Ordering::Acquire);
        for burst in bursts.by_ref().take(BURSTS) {
            let Some(tables) = reader.enter() else { return 0.0 };
            let found = tables.resolve_v4_burst(burst.len(), |i| (VrfId::DEFAULT, burst[i]), |_| 7);
            lookups += found.len() as u64;
            black_box(found);
            let generation = tables.generation().0;
            drop(tables);
            if generation != last {
                last = generation;
                saw(generation);
            }
        }
    }
    lookups as f64 / (thread_time() - start).as_secs_f64()
}
