//! What the offload thread knows of one connection.

use dpdk_sys::flow::Flow;

use super::{ConnectionOffload, NotOffloaded};

/// Where a connection is on its way into or out of the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of it is in the NIC; its rules are entered when there is room in the queue.
    Waiting,
    /// Rules were entered and are not yet confirmed.
    Installing,
    /// Both rules are confirmed.
    Live,
    /// Rules are being taken out.
    Removing,
}

/// A connection that has, had or will have rules.
pub(super) struct Record {
    pub(super) worker: usize,
    pub(super) offload: ConnectionOffload,
    pub(super) phase: Phase,
    /// Rules that are in the NIC or on their way there. While removing: those whose end is to be entered again.
    pub(super) flows: [Option<Flow>; 2],
    /// Completions awaited.
    pub(super) awaited: u8,
    /// Why a rule was refused.
    pub(super) refused: Option<NotOffloaded>,
    /// How often in a row the NIC refused to enter the end of its rules.
    pub(super) attempts: u32,
    /// The end of a rule failed after it was entered: without its handle, only a flush takes it out.
    pub(super) lost: bool,
    /// The worker wants it out.
    pub(super) unwanted: bool,
    /// What to install once it is out.
    pub(super) next: Option<ConnectionOffload>,
    pub(super) packets: [u64; 2],
    pub(super) bytes: [u64; 2],
}

impl Record {
    pub(super) fn new(worker: usize, offload: ConnectionOffload) -> Self {
        Self {
            worker,
            offload,
            phase: Phase::Waiting,
            flows: [None, None],
            awaited: 0,
            refused: None,
            attempts: 0,
            lost: false,
            unwanted: false,
            next: None,
            packets: [0; 2],
            bytes: [0; 2],
        }
    }

    /// True if the NIC was told to remove it and has refused: it may forward by it still.
    pub(super) fn is_stuck(&self) -> bool {
        self.phase == Phase::Removing && (self.attempts > 0 || self.lost)
    }

    /// Notes what a rule has forwarded by now, and returns what is new.
    pub(super) fn count(&mut self, side: usize, packets: u64, bytes: u64) -> (u64, u64) {
        let new = (
            packets.saturating_sub(self.packets[side]),
            bytes.saturating_sub(self.bytes[side]),
        );
        self.packets[side] = self.packets[side].max(packets);
        self.bytes[side] = self.bytes[side].max(bytes);
        new
    }
}
