//! skeleton
use std::sync::Arc;
use net::{Generation, VrfId};
use crate::*;

/// Size and place of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Connections that may exist at once.
    pub capacity: u32,
    /// Number of the worker that owns the engine, from 0.
    pub worker: u16,
    /// Number of workers; public ports are divided among them.
    pub workers: u16,
    /// Seeds port choice and the table's hash. Take it from a random source; a constant makes runs repeatable.
    pub seed: u64,
}

/// Why an engine cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Slots are numbered with 31 bits.
    #[error("connection table of {0} entries: use 1 to {max}", max = Engine::MAX_CAPACITY)]
    Capacity(u32),
    /// A worker outside of the workers.
    #[error("worker {worker} of {workers}: use 0 to workers - 1, and 1 to 1024 workers")]
    Worker {
        /// Number of the worker.
        worker: u16,
        /// Number of workers.
        workers: u16,
    },
}

/// Connections and NAT of one worker.
pub struct Engine {}
#[allow(unused_variables, missing_docs)]
impl Engine {
    /// Largest capacity.
    pub const MAX_CAPACITY: u32 = 1 << 28;
    /// Most keys that [`Engine::lookup_burst`] takes.
    pub const BURST: usize = 64;
    pub fn new(config: EngineConfig, policy: Arc<Policy>) -> Result<Self, EngineError> { unimplemented!() }
    pub fn set_policy(&mut self, policy: Arc<Policy>) { unimplemented!() }
    pub fn policy(&self) -> &Arc<Policy> { unimplemented!() }
    pub fn lookup_burst(&self, keys: &[FlowKey], out: &mut [Option<EntryRef>]) { unimplemented!() }
    pub fn lookup(&self, key: &FlowKey) -> Option<EntryRef> { unimplemented!() }
    pub fn entry(&self, at: EntryRef) -> &Entry { unimplemented!() }
    pub fn hit(&mut self, at: EntryRef, tcp_flags: u8, length: u16, now: Millis) -> Hit { unimplemented!() }
    pub fn miss(&mut self, packet: &NewPacket, resolution: Resolution, resolver: &impl Resolver, now: Millis) -> Verdict { unimplemented!() }
    pub fn icmp_error(&mut self, vrf: VrfId, packet: &mut [u8], resolver: &impl Resolver, now: Millis) -> IcmpVerdict { unimplemented!() }
    pub fn revalidate_one(&mut self, at: EntryRef, resolver: &impl Resolver) -> Outcome { unimplemented!() }
    pub fn on_generation(&mut self, generation: Generation, delta: &Delta) { unimplemented!() }
    pub fn revalidate(&mut self, budget: usize, resolver: &impl Resolver, on_change: &mut impl FnMut(ConnectionId, Outcome)) -> Option<RevalidationSummary> { unimplemented!() }
    pub fn is_revalidating(&self) -> bool { unimplemented!() }
    pub fn expire(&mut self, now: Millis, budget: usize, on_end: &mut impl FnMut(ConnectionId, EndReason)) { unimplemented!() }
    pub fn set_offload(&mut self, id: ConnectionId, state: OffloadState) -> bool { unimplemented!() }
    pub fn offload_state(&self, id: ConnectionId) -> Option<OffloadState> { unimplemented!() }
    pub fn touch(&mut self, id: ConnectionId, packets: [u64; 2], bytes: [u64; 2], now: Millis) { unimplemented!() }
    pub fn release(&mut self, id: ConnectionId) { unimplemented!() }
    pub fn id_of(&self, at: EntryRef) -> ConnectionId { unimplemented!() }
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionView> { unimplemented!() }
    pub fn directions(&self, id: ConnectionId) -> Option<[Direction; 2]> { unimplemented!() }
    pub fn snapshot(&self, from: u32, limit: usize, out: &mut Vec<ConnectionView>) -> Option<u32> { unimplemented!() }
    pub fn stats(&self) -> Stats { unimplemented!() }
}
