//! What `turnpike show bfd` shows.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::engine::Discarded;
use super::packet::State;
use super::session::{Cause, Session};

/// Every session, and what was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BfdState {
    /// One entry a neighbour, by address.
    pub sessions: Vec<BfdView>,
    /// Packets that were not taken.
    pub discarded: Discarded,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdView {
    /// Address of the neighbour.
    pub neighbor: IpAddr,
    /// Our state.
    pub state: State,
    /// The neighbour's, as it last said.
    pub remote_state: State,
    /// Why we last left `up`, as the neighbour is told.
    pub diagnostic: String,
    /// Why the neighbour last left `up`, as it says.
    pub remote_diagnostic: String,
    /// Our name of the session.
    pub local_discriminator: u32,
    /// The neighbour's name of the session; 0 while it is not known.
    pub remote_discriminator: u32,
    /// Milliseconds between our packets, before jitter; `None` while the neighbour wants none.
    pub send_interval_ms: Option<u64>,
    /// Milliseconds of silence after which the neighbour is taken to be gone; `None` while it is not heard.
    pub detection_time_ms: Option<u64>,
    /// Seconds in `up`.
    pub uptime: Option<u64>,
    /// Why the session last left `up`.
    pub last_down: Option<String>,
    /// Times that it came up.
    pub ups: u64,
    /// Times that it left `up`.
    pub downs: u64,
    /// Packets taken.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
}

impl BfdView {
    pub(super) fn new(neighbor: IpAddr, session: &Session, now: Instant) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let statistics = session.statistics();
        Self {
            neighbor,
            state: session.state(),
            remote_state: session.remote_state(),
            diagnostic: session.diagnostic().to_string(),
            remote_diagnostic: session.remote_diagnostic().to_string(),
            local_discriminator: session.discriminator(),
            remote_discriminator: session.remote_discriminator(),
            send_interval_ms: session.send_interval().map(millis),
            detection_time_ms: session.detection_time().map(millis),
            uptime: session.up_since().map(|at| now.saturating_duration_since(at).as_secs()),
            last_down: session.last_down().map(|cause| cause.to_string()),
            ups: statistics.ups,
            downs: statistics.downs,
            packets_in: statistics.packets_in,
            packets_out: statistics.packets_out,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimeExpired => f.write_str("nothing heard for the detection time"),
            Self::NeighborDown(diagnostic) => write!(f, "neighbor is down ({diagnostic})"),
            Self::NeighborAdminDown => f.write_str("neighbor ended the session"),
            Self::AdminDown => f.write_str("session ended here"),
        }
    }
}
