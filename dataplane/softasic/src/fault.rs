//! Faults on order: what a NIC does on a bad day, when a test says so.
//!
//! Ports share one e-switch, and so one set of faults: [`faults`]. They may be ordered and lifted at any time, before ports
//! exist and while packets flow. Only rules of group 1 are refused; the one that leads to them is not. The other limit
//! of a NIC, its room for rules, is the ports' argument `rules=N`.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dpdk_sys::flow::{FlowError, FlowErrorKind};

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Rules on their way in.
    Create,
    /// Rules on their way out. A refused one stays, and goes on forwarding.
    Destroy,
}

/// Which operations are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// So many from here on; then the next refusal that was ordered has its turn, if there is one.
    Next(u64),
    /// Every so-many-th, until the faults are lifted.
    Every(NonZeroU64),
}

/// Where the caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The call fails; the caller keeps the handle of a rule that it wanted out.
    Call,
    /// The operation is entered into a queue and fails there, without words. The handle is spent, as rte_flow.h says: a
    /// rule whose end fails so leaves only with a flush of its port. Synchronous calls fail as with [`Point::Call`].
    Completion,
}

/// An order to refuse operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What.
    pub operation: Operation,
    /// Which of them.
    pub which: Which,
    /// How the caller learns it.
    pub point: Point,
    /// What the call says.
    pub error: FlowError,
}

impl Refusal {
    /// Refuses the next `count` calls, with an error that says that this was ordered.
    pub fn next(operation: Operation, count: u64) -> Self {
        Self {
            operation,
            which: Which::Next(count),
            point: Point::Call,
            error: FlowError::new(FlowErrorKind::State, libc::EIO, "refused on order of a test"),
        }
    }
}

/// The faults of the e-switch.
#[derive(Debug)]
pub struct Faults {
    /// False while nothing was ordered: that is all that an operation looks at then.
    armed: AtomicBool,
    refusals: Mutex<VecDeque<Order>>,
    refused: [AtomicU64; 2],
    delay_ms: AtomicU64,
}

#[derive(Debug)]
struct Order {
    refusal: Refusal,
    /// Operations that it has seen.
    seen: u64,
}

static FAULTS: Faults = Faults::new();

/// The faults of this process's e-switch.
pub fn faults() -> &'static Faults {
    &FAULTS
}

impl Faults {
    const fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            refusals: Mutex::new(VecDeque::new()),
            refused: [AtomicU64::new(0), AtomicU64::new(0)],
            delay_ms: AtomicU64::new(0),
        }
    }

    /// Orders a refusal; those of one operation and point take turns in the order in which they came.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusals().push_back(Order { refusal, seen: 0 });
        self.armed.store(true, Relaxed);
    }

    /// Holds the completions of queues back for so long after the push, to the millisecond; zero does not. What the
    /// operations do, they do at once.
    pub fn delay_completions(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(ms, Relaxed);
    }

    /// Lifts every fault.
    pub fn clear(&self) {
        self.refusals().clear();
        self.armed.store(false, Relaxed);
        self.delay_completions(Duration::ZERO);
    }

    /// How often an operation was refused on order, since the start of the process.
    pub fn refused(&self, operation: Operation) -> u64 {
        self.refused[operation as usize].load(Relaxed)
    }

    /// How long completions are held back, in milliseconds.
    pub(crate) fn delay_ms(&self) -> u64 {
        self.delay_ms.load(Relaxed)
    }

    /// The error, if this operation of a queue is to be refused here.
    pub(crate) fn check(&self, operation: Operation, point: Point) -> Result<(), FlowError> {
        self.decide(operation, |at| at == point)
    }

    /// The error, if this synchronous call is to be refused.
    pub(crate) fn check_call(&self, operation: Operation) -> Result<(), FlowError> {
        self.decide(operation, |_| true)
    }

    fn decide(&self, operation: Operation, here: impl Fn(Point) -> bool) -> Result<(), FlowError> {
        if !self.armed.load(Relaxed) {
            return Ok(());
        }
        let mut refusals = self.refusals();
        let Some(index) = refusals
            .iter()
            .position(|order| order.refusal.operation == operation && here(order.refusal.point))
        else {
            return Ok(());
        };
        let order = &mut refusals[index];
        order.seen += 1;
        let (refuse, spent) = match order.refusal.which {
            Which::Next(count) => (order.seen <= count, order.seen >= count),
            Which::Every(nth) => (order.seen.is_multiple_of(nth.get()), false),
        };
        let error = order.refusal.error.clone();
        if spent {
            refusals.remove(index);
            self.armed.store(!refusals.is_empty(), Relaxed);
        }
        if refuse {
            self.refused[operation as usize].fetch_add(1, Relaxed);
            return Err(error);
        }
        Ok(())
    }

    fn refusals(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(faults: &Faults, operation: Operation, point: Point, count: usize) -> Vec<bool> {
        (0..count).map(|_| faults.check(operation, point).is_ok()).collect()
    }

    #[test]
    fn refusals_take_turns_and_end() {
        let faults = Faults::new();
        assert!(faults.check_call(Operation::Create).is_ok());
        faults.refuse(Refusal::next(Operation::Create, 2));
        let full = FlowError::full("no room, for once");
        faults.refuse(Refusal {
            error: full.clone(),
            ..Refusal::next(Operation::Create, 1)
        });
        assert_eq!(outcomes(&faults, Operation::Destroy, Point::Call, 1), [true]);
        assert_eq!(outcomes(&faults, Operation::Create, Point::Completion, 1), [true]);
        assert_eq!(outcomes(&faults, Operation::Create, Point::Call, 2), [false, false]);
        assert_eq!(faults.check(Operation::Create, Point::Call), Err(full));
        assert_eq!(outcomes(&faults, Operation::Create, Point::Call, 1), [true]);
        assert_eq!(faults.refused(Operation::Create), 3);
        assert_eq!(faults.refused(Operation::Destroy), 0);
    }

    #[test]
    fn every_third_until_lifted_and_calls_know_no_completions() {
        let faults = Faults::new();
        faults.refuse(Refusal {
            which: Which::Every(NonZeroU64::new(3).expect("three")),
            point: Point::Completion,
            ..Refusal::next(Operation::Destroy, 0)
        });
        assert_eq!(outcomes(&faults, Operation::Destroy, Point::Call, 3), [true; 3]);
        let seen = outcomes(&faults, Operation::Destroy, Point::Completion, 6);
        assert_eq!(seen, [true, true, false, true, true, false]);
        assert!(faults.check_call(Operation::Destroy).is_ok());
        assert!(faults.check_call(Operation::Destroy).is_ok());
        assert!(faults.check_call(Operation::Destroy).is_err());
        faults.delay_completions(Duration::from_secs(2));
        assert_eq!(faults.delay_ms(), 2000);
        faults.clear();
        assert_eq!(faults.delay_ms(), 0);
        assert_eq!(outcomes(&faults, Operation::Destroy, Point::Completion, 6), [true; 6]);
    }
}
