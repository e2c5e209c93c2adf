//! Counters of one worker: written by that worker alone, read by anybody.
//!
//! Conservation: `received + injected + generated + taken_over = transmitted + punted + handed_over + drops + held`.

use std::sync::atomic::{AtomicU64, Ordering};

use net::Drop;
use serde::Serialize;

/// A counter with one writer: an addition is a plain load and store, never a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this, else additions are lost.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the value (gauges: generation, packets held).
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything one worker counts.
#[derive(Debug)]
#[repr(align(64))]
pub struct Counters {
    /// Packets taken from ports.
    pub received: Counter,
    /// Packets that ports accepted.
    pub transmitted: Counter,
    /// Packets handed to the host interfaces' thread.
    pub punted: Counter,
    /// Packets that came from the host.
    pub injected: Counter,
    /// ICMP errors that the worker made.
    pub generated: Counter,
    /// Packets given to the worker that owns their connection.
    pub handed_over: Counter,
    /// Packets taken from other workers.
    pub taken_over: Counter,
    /// Packets of a VPC that turned back at a public end of the gateway.
    pub hairpinned: Counter,
    /// Gauge: packets waiting for a neighbour.
    pub held: Counter,
    /// Gauge: generation that the worker saw at its last burst.
    pub generation: Counter,
    /// Iterations of the worker's loop that found work.
    pub busy_polls: Counter,
    /// Iterations that found none.
    pub idle_polls: Counter,
    /// ICMP errors not sent because of the rate limit (RFC 1812 section 4.3.2.8).
    pub icmp_limited: Counter,
    drops: [Counter; Drop::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            transmitted: Counter::default(),
            punted: Counter::default(),
            injected: Counter::default(),
            generated: Counter::default(),
            handed_over: Counter::default(),
            taken_over: Counter::default(),
            hairpinned: Counter::default(),
            held: Counter::default(),
            generation: Counter::default(),
            busy_polls: Counter::default(),
            idle_polls: Counter::default(),
            icmp_limited: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl Counters {
    /// Counts one dropped packet.
    #[inline]
    pub fn count_drop(&self, reason: Drop) {
        self.drops[reason as usize].add(1);
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize].get()
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }

    /// A copy to show.
    pub fn view(&self) -> CountersView {
        CountersView {
            rx: self.received.get(),
            tx: self.transmitted.get(),
            punted: self.punted.get(),
            injected: self.injected.get(),
            generated: self.generated.get(),
            handed_over: self.handed_over.get(),
            taken_over: self.taken_over.get(),
            hairpinned: self.hairpinned.get(),
            held: self.held.get(),
            dropped: self.dropped_total(),
            generation: self.generation.get(),
            busy_polls: self.busy_polls.get(),
            idle_polls: self.idle_polls.get(),
            icmp_limited: self.icmp_limited.get(),
        }
    }
}

/// Copy of a worker's counters, as shown by `turnpike show summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are those of `Counters`, documented there")]
pub struct CountersView {
    pub rx: u64,
    pub tx: u64,
    pub punted: u64,
    pub injected: u64,
    pub generated: u64,
    pub handed_over: u64,
    pub taken_over: u64,
    /// Packets of a VPC that turned back at a public end of the gateway.
    pub hairpinned: u64,
    pub held: u64,
    pub dropped: u64,
    pub generation: u64,
    pub busy_polls: u64,
    pub idle_polls: u64,
    pub icmp_limited: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_by_reason_and_in_total() {
        let counters = Counters::default();
        counters.count_drop(Drop::NoRoute);
        counters.count_drop(Drop::NoRoute);
        counters.count_drop(Drop::TtlExpired);
        assert_eq!(counters.dropped(Drop::NoRoute), 2);
        assert_eq!(counters.view().dropped, 3);
    }
}
