//! `null-io`: what generator, sink and queues cost by themselves. A loop that receives and sends, as testpmd's `io`
//! mode does, on the same frames as `forward-v4-1m`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dataplane::Memory;
use dpdk_sys::{Burst, ConfiguredPort, DEFAULT_DATA_ROOM, Eal, EalConfig, Mempool, PortConfig, RxQueue, TxQueue};
use softasic::generator;

use super::gateway::{BUFFERS, DEVICE, leave_the_worker_core, worker_core};
use super::instructions;
use super::measure::{self, Measurement, Reading, ThreadTime};
use super::random::Random;
use super::routes::{DESTINATIONS, frames_into};
use super::scenario::Options;
use crate::wait::{ensure, within};

const BURST: usize = 32;
const PATIENCE: Duration = Duration::from_secs(60);
const THREAD: &str = "tp-null";

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    idle: AtomicU64,
    busy: AtomicU64,
}

/// Measures the loop.
///
/// # Errors
/// Whatever refuses, in its own words.
pub fn run(options: &Options) -> Result<Measurement, String> {
    with_loop(options.memory, DESTINATIONS, |counts| {
        let (time, _) = within(PATIENCE, || ThreadTime::find(std::process::id(), THREAD))?;
        measure::saturated(&time, options.window, || Ok(counts.reading()))
    })
    .map(|(measured, _)| measured)
}

/// Runs the loop for at least so many packets and says how many it were.
///
/// # Errors
/// Whatever refuses, in its own words.
pub fn count(packets: u64) -> Result<u64, String> {
    let enough = |counts: &Counts| {
        let sent = || counts.sent.load(Ordering::Relaxed);
        within(PATIENCE, || ensure(sent() >= packets, || format!("{} packets", sent())))
    };
    with_loop(instructions::MEMORY, instructions::SMALL, enough).map(|(_, reading)| reading.sent)
}

/// Runs the loop on another thread while `watch` looks at its counters; what those were at the end.
fn with_loop<T>(
    memory: Memory,
    destinations: usize,
    watch: impl FnOnce(&Counts) -> Result<T, String>,
) -> Result<(T, Reading), String> {
    let mut random = Random::new(4);
    let prefixes = random.prefixes_v4(1000);
    let frames = frames_into(&mut random, &prefixes, destinations);
    leave_the_worker_core()?;
    softasic::register_generator().map_err(text)?;
    generator::load(DEVICE, &frames);
    let eal = Eal::init(EalConfig::new("bench", memory)).map_err(text)?;
    let pool = Mempool::new(&eal, "packets", BUFFERS, 256, DEFAULT_DATA_ROOM).map_err(text)?;
    let id = eal.attach(DEVICE).map_err(text)?.port();
    let configured = ConfiguredPort::configure(&eal, id, &PortConfig::new(pool)).map_err(text)?;
    let (_port, rx, tx) = configured.start().map_err(text)?;
    let (Some(rx), Some(tx)) = (rx.into_iter().next(), tx.into_iter().next()) else {
        return Err("the generator has no queues".to_owned());
    };

    let counts = Counts::default();
    let watched = thread::scope(|scope| {
        let forwarding = thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn_scoped(scope, || forward(eal, rx, tx, &counts))
            .map_err(text)?;
        let watched = watch(&counts);
        counts.stop.store(true, Ordering::Relaxed);
        match forwarding.join() {
            Ok(outcome) => outcome.and(watched),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok((watched, counts.reading()))
}

fn forward(eal: Eal, mut rx: RxQueue, mut tx: TxQueue, counts: &Counts) -> Result<(), String> {
    let thread = eal.register_thread().map_err(text)?;
    thread.pin_to_core(worker_core()).map_err(text)?;
    let mut packets = Burst::new();
    // One writer: a plain load and store is an addition.
    let add = |counter: &AtomicU64, n: usize| {
        counter.store(counter.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
    };
    while !counts.stop.load(Ordering::Relaxed) {
        let received = rx.burst(&mut packets, BURST);
        add(if received > 0 { &counts.busy } else { &counts.idle }, 1);
        add(&counts.received, received);
        add(&counts.sent, tx.burst(&mut packets));
    }
    Ok(())
}

impl Counts {
    fn reading(&self) -> Reading {
        let (received, sent) = (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed));
        Reading {
            received,
            sent,
            lost: 0,
            busy: self.busy.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
