//! What the offload thread counts and shows.

use serde::Serialize;

use crate::counters::Counter;

/// Counters of the offload thread, its only writer.
#[derive(Debug, Default)]
pub struct OffloadCounters {
    /// Gauge: connections in the NIC.
    pub live: Counter,
    /// Connections installed since the start; one that is replaced counts again.
    pub installed: Counter,
    /// Connections whose rules were taken out.
    pub removed: Counter,
    /// Connections that the NIC refused.
    pub refused: Counter,
    /// Packets that the NIC forwarded by our rules.
    pub packets: Counter,
    /// Bytes that the NIC forwarded by our rules.
    pub bytes: Counter,
}

impl OffloadCounters {
    /// A copy to show.
    pub fn view(&self) -> OffloadCountersView {
        OffloadCountersView {
            live: self.live.get(),
            installed_total: self.installed.get(),
            destroyed_total: self.removed.get(),
            refused: self.refused.get(),
            hits_packets: self.packets.get(),
            hits_bytes: self.bytes.get(),
        }
    }
}

/// Copy of the offload counters, as shown by `turnpike show offloads`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are those of `OffloadCounters`, documented there")]
pub struct OffloadCountersView {
    pub live: u64,
    pub installed_total: u64,
    pub destroyed_total: u64,
    pub refused: u64,
    pub hits_packets: u64,
    pub hits_bytes: u64,
}

/// One direction of a connection in the NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OffloadedRule {
    /// Worker that owns the connection.
    pub worker: u16,
    /// What the rule matches and what it makes of it.
    pub rule: String,
    /// Packets that it forwarded.
    pub packets: u64,
    /// Bytes that it forwarded.
    pub bytes: u64,
}
