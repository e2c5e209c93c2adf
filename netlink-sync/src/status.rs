//! What the mirror tells of itself.

use net::Prefix;
use serde::Serialize;

/// A route that the kernel did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Destination of the route.
    pub prefix: Prefix,
    /// The kernel's errno as text.
    pub reason: String,
}

/// What has become of our route for one prefix in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// None is wanted, and there is none.
    Absent,
    /// The kernel has it as wanted.
    Installed,
    /// It waits to be written or removed.
    Pending,
    /// The kernel refused it, with its errno as text (empty if too many were refused to remember each).
    Refused(String),
    /// Left by an earlier run, and not confirmed.
    Stale,
}

/// Counters and state of the mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Our routes that the kernel has.
    pub installed: usize,
    /// Our routes that wait to be written or removed.
    pub pending: usize,
    /// Our routes that the kernel refused and that are still wanted.
    pub refused: usize,
    /// Routes of an earlier run that nobody has confirmed yet.
    pub stale: usize,
    /// The last refusals, at most 32, newest last.
    pub refusals: Vec<Refusal>,
    /// Route writes that the kernel acknowledged, since start.
    pub written: u64,
    /// Times that the kernel dropped notifications because we were slow (ENOBUFS).
    pub overruns: u64,
    /// Times that everything was dumped again and compared.
    pub resyncs: u64,
    /// Events told.
    pub events: u64,
    /// Our routes that an audit found missing, changed or left over in the kernel, and healed.
    pub drift: u64,
}
