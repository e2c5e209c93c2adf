//! Drivers written in Rust: a virtual device's operations as a trait, and DPDK's calls adapted to it.
//!
//! [`register`] a driver before [`crate::Eal::init`]; then `Eal::attach("net_name0,key=value")` makes a device of it, as of
//! any other driver, and applications use it through the same ports, queues and flow calls.

mod driver;
mod flow_ops;
mod ops;
mod per_queue;
mod probe;

pub use driver::{Completions, Driver, DriverError, DriverInfo, DriverStats, FlowDriver, TemplateHandles};
pub use per_queue::PerQueue;
pub use probe::{Probe, register};

use crate::port::{Port, Wrapped};

/// A port that a driver wraps: held by the driver, so that applications cannot have it.
///
/// [`Port::take`] it by the name of its device, [`Port::start`] it when the driver starts, keep the queues in
/// [`PerQueue`]s, and drop the queues when the driver stops: that stops the port.
pub type LowerPort = Port<Wrapped>;
