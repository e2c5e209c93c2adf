//! Counters of a port, a set for each queue so that queues do not share cache lines.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dpdk_sys::pmd::DriverStats;

/// Counters of one queue number: receive and transmit side.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_errors: AtomicU64,
    rx_no_buffers: AtomicU64,
}

impl Counters {
    pub(crate) fn received(&self, packets: usize, bytes: usize) {
        self.rx_packets.fetch_add(packets as u64, Relaxed);
        self.rx_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent(&self, packets: usize, bytes: usize) {
        self.tx_packets.fetch_add(packets as u64, Relaxed);
        self.tx_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn not_sent(&self, packets: usize) {
        self.tx_errors.fetch_add(packets as u64, Relaxed);
    }

    pub(crate) fn no_buffers(&self, packets: usize) {
        self.rx_no_buffers.fetch_add(packets as u64, Relaxed);
    }

    fn all(&self) -> [&AtomicU64; 6] {
        [
            &self.rx_packets,
            &self.rx_bytes,
            &self.tx_packets,
            &self.tx_bytes,
            &self.tx_errors,
            &self.rx_no_buffers,
        ]
    }
}

/// One set for each of `queues` queues.
pub(crate) fn for_queues(queues: u16) -> Box<[Counters]> {
    (0..queues).map(|_| Counters::default()).collect()
}

/// The sum over all queues.
pub(crate) fn total(counters: &[Counters]) -> DriverStats {
    let mut sum = [0; 6];
    for queue in counters {
        for (sum, counter) in sum.iter_mut().zip(queue.all()) {
            *sum += counter.load(Relaxed);
        }
    }
    let [rx_packets, rx_bytes, tx_packets, tx_bytes, tx_errors, rx_no_buffers] = sum;
    DriverStats {
        rx_packets,
        rx_bytes,
        tx_packets,
        tx_bytes,
        tx_errors,
        rx_no_buffers,
        ..DriverStats::default()
    }
}

/// Sets all of them to zero.
pub(crate) fn reset(counters: &[Counters]) {
    for counter in counters.iter().flat_map(Counters::all) {
        counter.store(0, Relaxed);
    }
}
