//! Bindings to libdpdk 22.11, and the safe layer above them.
#![warn(clippy::undocumented_unsafe_blocks)]

mod eal;
mod error;
pub mod ffi;
pub mod flow;
mod log;
mod mbuf;
mod mempool;
pub mod pmd;
mod port;
mod queue;
mod thread;

pub use eal::{Eal, EalConfig, Memory, PortHandle};
pub use error::{Errno, Error, Quote};
pub use log::LogLevel;
pub use mbuf::Mbuf;
pub use mempool::{DEFAULT_DATA_ROOM, HEADROOM, Mempool};
pub use port::{
    Capabilities, Configured, ConfiguredPort, Port, PortConfig, PortId, PortStats, Rss, Started, StartedPort,
};
pub use queue::{RxQueue, TxQueue};
pub use thread::{WorkerThread, pin_to_core};

/// Packets that one burst asks for, usually.
pub const BURST: usize = 32;

/// Packets that one burst can hold.
pub const MAX_BURST: usize = 64;

/// A burst of packets, in place and without allocation.
pub type Burst = arrayvec::ArrayVec<Mbuf, MAX_BURST>;
