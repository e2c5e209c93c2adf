//! A worker: one thread on one core that receives, forwards and sends, and everything it does between two bursts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dpdk_sys::RxQueue;
use nat::{Engine, Millis};
use net::{Generation, PortId};
use rib::{Reader, Tables};
use rtrb::Consumer;

use crate::Event;
use crate::host::Inject;
use crate::pipeline::{HandedOver, Pipeline, Sorted};

/// What a worker does while there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PollMode {
    /// Poll without pause: lowest latency, a core at 100 %.
    Busy,
    /// Poll without pause under load; sleep in growing steps when idle, at most half a millisecond.
    #[default]
    Adaptive,
}

/// Something for a worker to do with its connections, between two bursts.
pub(crate) type Command = Box<dyn FnOnce(&mut Engine, &Tables) + Send>;

/// What feeds a worker beside its ports.
pub(crate) struct Inlets {
    pub(crate) injects: Option<Consumer<Inject>>,
    pub(crate) handovers: Vec<Consumer<HandedOver>>,
    pub(crate) commands: Consumer<Command>,
}

/// A worker, ready to run on its own thread.
pub(crate) struct Worker {
    pub(crate) pipeline: Pipeline,
    pub(crate) queues: Vec<(PortId, RxQueue)>,
    pub(crate) inlets: Inlets,
    pub(crate) reader: Reader,
    pub(crate) poll: PollMode,
    /// When the process's `Millis` began.
    pub(crate) epoch: Instant,
}

/// Packets of one receive burst: what a round costs whatever comes is divided by so many.
const RX_BURST: usize = 64;
/// Rounds in a row with packets between two looks at the clock, which would cost each of them more than a packet does:
/// some 50 microseconds, where the engines count in milliseconds.
const CLOCK: u32 = 8;
/// Slots of the connection table that a background pass looks at after each round with packets: some microseconds. The
/// sooner a pass ends the less it costs, since packets find out for themselves meanwhile.
const REVALIDATE: usize = 2048;
/// The same in a round without packets.
const REVALIDATE_IDLE: usize = 16_384;
/// Connections that a standby is told of in one millisecond.
const CHANGES: usize = 256;
/// Timers looked at in one millisecond.
const EXPIRE: usize = 512;
/// Idle polls before the first sleep.
const PATIENCE: u32 = 256;
/// Longest sleep of an idle worker.
const LONGEST_SLEEP: Duration = Duration::from_micros(500);

/// A background pass over the connections that is under way.
struct Pass {
    generation: Generation,
    began: Instant,
}

impl Worker {
    /// Runs until `stop`.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let mut received = ArrayVec::new();
        let mut sorted = Sorted::new();
        let mut seen = Generation::default();
        let mut tick = Millis(u64::MAX);
        let mut pass: Option<Pass> = None;
        let mut idle = 0_u32;
        let mut now = self.look_at_the_clock();
        let mut rounds = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            rounds = rounds.wrapping_add(1);
            if idle > 0 || rounds.is_multiple_of(CLOCK) {
                now = self.look_at_the_clock();
            }
            let Some(guard) = self.reader.enter() else { break };
            let tables = &*guard;
            if tables.generation() != seen {
                self.pipeline.on_generation(tables, seen);
                self.pipeline.tend_held(tables);
                seen = tables.generation();
                pass = Some(Pass {
                    generation: seen,
                    began: now,
                });
            }
            let mut work = 0;
            for (port, queue) in &mut self.queues {
                let n = queue.burst(&mut received, RX_BURST);
                if n > 0 {
                    work += n;
                    self.pipeline.receive(tables, *port, &mut received, &mut sorted);
                }
            }
            for ring in &mut self.inlets.handovers {
                while let Ok(packet) = ring.pop() {
                    work += 1;
                    self.pipeline.take_over(tables, packet);
                }
            }
            if let Some(ring) = &mut self.inlets.injects {
                for _ in 0..RX_BURST {
                    let Ok(frame) = ring.pop() else { break };
                    work += 1;
                    self.pipeline.inject(tables, frame);
                }
            }
            self.pipeline.flush();
            if let Some(current) = &pass {
                let budget = if work > 0 { REVALIDATE } else { REVALIDATE_IDLE };
                work += 1;
                if let Some(summary) = self.pipeline.revalidate(tables, budget) {
                    let event = Event::Revalidated {
                        worker: self.pipeline.index,
                        generation: current.generation,
                        summary,
                        duration: clock().duration_since(current.began),
                    };
                    self.pipeline.report(event);
                    pass = None;
                }
            }
            if self.pipeline.now != tick {
                tick = self.pipeline.now;
                self.pipeline.take_replies();
                self.pipeline.expire(EXPIRE);
                self.pipeline.report_blocks();
                self.pipeline.report_sessions();
                self.pipeline.tend_held(tables);
                self.pipeline.tend_fragments(tables);
                self.pipeline.flush();
                while let Ok(command) = self.inlets.commands.pop() {
                    command(&mut self.pipeline.engine, tables);
                }
                self.pipeline.report_changes(CHANGES);
            }
            drop(guard);
            idle = self.rest(work > 0, idle);
        }
    }

    fn look_at_the_clock(&mut self) -> Instant {
        let now = clock();
        self.pipeline.now = Millis(now.duration_since(self.epoch).as_millis() as u64);
        now
    }

    /// Counts the poll and sleeps if it is time to. Returns the idle polls in a row.
    fn rest(&self, worked: bool, idle: u32) -> u32 {
        let counters: &Arc<_> = &self.pipeline.counters;
        if worked {
            counters.busy_polls.add(1);
            return 0;
        }
        counters.idle_polls.add(1);
        let idle = idle.saturating_add(1);
        if self.poll == PollMode::Adaptive && idle > PATIENCE {
            let step = Duration::from_micros(u64::from((idle - PATIENCE).min(50)) * 10);
            std::thread::sleep(step.min(LONGEST_SLEEP));
        } else {
            std::hint::spin_loop();
        }
        idle
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the worker's loop is the edge that gives time to the engines"
)]
fn clock() -> Instant {
    Instant::now()
}
