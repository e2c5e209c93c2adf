//! A source and sink of packets in the process under test: `net_generator0` receives what it was loaded with, again and
//! again, and swallows what is sent. For benchmarks; its own cost is small and can be measured alone
//! (`examples/generator_cost.rs`).
//!
//! Everything here goes by the device's name and may come before the device is attached or while it runs. A device
//! with several receive queues deals its frames out: frame `i` always comes on queue `i` modulo the number of queues.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys::pmd::{self, Driver, DriverError, DriverInfo, DriverStats, PerQueue, Probe};
use dpdk_sys::{Burst, Error, Mbuf, Mempool};

use crate::counters::{self, Counters};

/// Prefix of the devices' names.
pub const GENERATOR: &str = "net_generator";

/// Queues of a device, each way, at most.
const MAX_QUEUES: u16 = 64;

/// Makes the driver known to DPDK; call it before `Eal::init`. A second call does nothing.
///
/// # Errors
/// [`Error::Argument`] if somebody else registered a driver of this name.
pub fn register_generator() -> Result<(), Error> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = lock(&DONE);
    if !*done {
        pmd::register(GENERATOR, |probe| Ok(GeneratorPort::attach(probe)))?;
        *done = true;
    }
    Ok(())
}

/// Loads the frames that the device hands out; none make it silent.
pub fn load(name: &str, frames: &[Vec<u8>]) {
    shared(name).load(frames);
}

/// Changes the frames while the device runs; each queue begins with its first one.
pub fn replace(name: &str, frames: &[Vec<u8>]) {
    shared(name).load(frames);
}

/// Stops handing out frames, or goes on where it stopped.
pub fn pause(name: &str, paused: bool) {
    shared(name).paused.store(paused, Relaxed);
}

/// Packets handed out and packets swallowed.
pub fn counters(name: &str) -> (u64, u64) {
    let stats = counters::total(&shared(name).counters);
    (stats.rx_packets, stats.tx_packets)
}

/// Keeps the next `count` packets that are sent, for [`samples`]; forgets those kept before.
pub fn capture(name: &str, count: usize) {
    let shared = shared(name);
    lock(&shared.samples).clear();
    shared.wanted.store(count, Relaxed);
}

/// The packets kept so far.
pub fn samples(name: &str) -> Vec<Vec<u8>> {
    lock(&shared(name).samples).clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What there is to a name: reached by the functions above and by the device.
fn shared(name: &str) -> Arc<Shared> {
    static GENERATORS: Mutex<Option<HashMap<String, Arc<Shared>>>> = Mutex::new(None);
    lock(&GENERATORS)
        .get_or_insert_default()
        .entry(name.to_owned())
        .or_insert_with(|| Arc::new(Shared::new()))
        .clone()
}

struct Shared {
    frames: Mutex<Arc<Frames>>,
    /// Changes with the frames, so that queues look only then.
    version: AtomicU64,
    paused: AtomicBool,
    counters: Box<[Counters]>,
    /// How many packets are still to be kept.
    wanted: AtomicUsize,
    samples: Mutex<Vec<Vec<u8>>>,
}

impl Shared {
    fn new() -> Self {
        Self {
            frames: Mutex::default(),
            version: AtomicU64::new(1),
            paused: AtomicBool::new(false),
            counters: counters::for_queues(MAX_QUEUES),
            wanted: AtomicUsize::new(0),
            samples: Mutex::default(),
        }
    }

    fn load(&self, frames: &[Vec<u8>]) {
        *lock(&self.frames) = Arc::new(Frames::new(frames));
        self.version.fetch_add(1, Relaxed);
    }

    #[cold]
    fn keep(&self, packets: &Burst) {
        let mut samples = lock(&self.samples);
        for packet in packets {
            let one_less = |wanted: usize| wanted.checked_sub(1);
            if self.wanted.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
                samples.push(packet.data().to_vec());
            }
        }
    }
}

/// Frames one after the other in one piece of memory, so that the processor fetches ahead.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where each begins, and where the last one ends.
    bounds: Vec<usize>,
}

impl Frames {
    fn new(frames: &[Vec<u8>]) -> Self {
        let mut this = Self {
            bytes: Vec::with_capacity(frames.iter().map(Vec::len).sum()),
            bounds: vec![0],
        };
        for frame in frames {
            this.bytes.extend_from_slice(frame);
            this.bounds.push(this.bytes.len());
        }
        this
    }

    fn count(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    #[inline(always)]
    fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.bounds[index]..self.bounds[index + 1]]
    }
}

/// A receive queue.
struct Source {
    pool: Mempool,
    frames: Arc<Frames>,
    version: u64,
    /// The next frame to hand out.
    next: usize,
    /// This queue's first frame, and the way from each to the next.
    first: usize,
    step: usize,
}

impl Source {
    /// Appends up to `max` packets; returns how many and their bytes, and how many had no buffer.
    fn generate(&mut self, shared: &Shared, out: &mut Burst, max: usize) -> (usize, usize, usize) {
        let version = shared.version.load(Relaxed);
        if version != self.version {
            self.frames = lock(&shared.frames).clone();
            self.version = version;
            self.next = self.first;
        }
        let count = self.frames.count();
        if self.first >= count {
            return (0, 0, 0);
        }
        if !self.pool.alloc_bulk(out, max) {
            return (0, 0, max);
        }
        let (mut bytes, mut too_long) = (0, 0);
        for packet in out.iter_mut() {
            let frame = self.frames.get(self.next);
            if let Some(room) = packet.append(frame.len()) {
                room.copy_from_slice(frame);
                bytes += frame.len();
            } else {
                too_long += 1;
            }
            self.next += self.step;
            if self.next >= count {
                self.next = self.first;
            }
        }
        // Frames too long for the pool's buffers leave empty packets, which nobody wants to see.
        if too_long > 0 {
            out.retain(|packet| packet.len() > 0);
        }
        (out.len(), bytes, too_long)
    }
}

/// A device.
struct GeneratorPort {
    shared: Arc<Shared>,
    mac: [u8; 6],
    rx_queues: AtomicU16,
    sources: PerQueue<Source>,
}

impl GeneratorPort {
    fn attach(probe: &Probe) -> Self {
        let digits = probe.name().trim_start_matches(|c: char| !c.is_ascii_digit());
        let number = digits.parse::<u8>().unwrap_or(0);
        Self {
            shared: shared(probe.name()),
            mac: [0x02, 0x67, 0x65, 0x6e, 0x00, number],
            rx_queues: AtomicU16::new(1),
            sources: PerQueue::new(MAX_QUEUES),
        }
    }
}

impl Driver for GeneratorPort {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            mac: self.mac,
            max_rx_queues: MAX_QUEUES,
            max_tx_queues: MAX_QUEUES,
            ..DriverInfo::default()
        }
    }

    fn configure(&self, rx_queues: u16, _tx_queues: u16) -> Result<(), DriverError> {
        self.rx_queues.store(rx_queues, Relaxed);
        Ok(())
    }

    fn rx_queue_setup(&self, queue: u16, _descriptors: u16, mempool: &Mempool) -> Result<(), DriverError> {
        let source = Source {
            pool: mempool.clone(),
            frames: Arc::default(),
            version: 0,
            next: queue.into(),
            first: queue.into(),
            step: self.rx_queues.load(Relaxed).max(1).into(),
        };
        self.sources
            .set(queue, source)
            .map(|_| ())
            .map_err(|_| DriverError::BUSY)
    }

    fn rx_burst(&self, queue: u16, out: &mut Burst, max: usize) {
        if self.shared.paused.load(Relaxed) {
            return;
        }
        let counters = &self.shared.counters[usize::from(queue)];
        self.sources.with(queue, |source| {
            let (packets, bytes, missing) = source.generate(&self.shared, out, max);
            counters.received(packets, bytes);
            if missing > 0 {
                counters.no_buffers(missing);
            }
        });
    }

    fn tx_burst(&self, queue: u16, packets: &mut Burst) {
        let bytes = packets.iter().map(Mbuf::len).sum();
        if let Some(counters) = self.shared.counters.get(usize::from(queue)) {
            counters.sent(packets.len(), bytes);
        }
        if self.shared.wanted.load(Relaxed) > 0 {
            self.shared.keep(packets);
        }
        Mbuf::free_bulk(packets);
    }

    fn stats(&self) -> DriverStats {
        counters::total(&self.shared.counters)
    }

    fn stats_reset(&self) {
        counters::reset(&self.shared.counters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_any_length_keep_their_bounds() {
        let frames = Frames::new(&[vec![1; 3], vec![], vec![2; 60]]);
        assert_eq!(frames.count(), 3);
        assert_eq!(
            [frames.get(0), frames.get(1), frames.get(2)],
            [&[1; 3][..], &[], &[2; 60]]
        );
        assert_eq!(Frames::default().count(), 0);
        assert_eq!(Frames::new(&[]).count(), 0);
    }
}
