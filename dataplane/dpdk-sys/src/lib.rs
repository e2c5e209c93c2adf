//! Bindings to libdpdk 22.11, and the safe layer above them.
//!
//! Owns: [`Eal`], packet pools ([`Mempool`]) and packets ([`Mbuf`]), ports ([`Port`]) and their queues, flow rules
//! ([`flow`]), and the means to write a driver in Rust ([`pmd`]). The raw bindings are in [`ffi`].
//!
//! Never does: anything with a packet's content, threads of its own, decisions about cores or memory.
//!
//! Read first: `port/mod.rs` for the life of a port, `flow/mod.rs` for rules, `pmd/driver.rs` to write a driver.
//!
//! What the types promise:
//! - EAL starts once: everything is reached from an [`Eal`].
//! - A packet is freed once: an [`Mbuf`] owns its buffer, and a burst that is handed to a driver is given up.
//! - A queue belongs to one thread: [`RxQueue`] and [`TxQueue`] are `Send`, not `Sync`, and burst through `&mut self`.
//! - A port is held once, started once, and stops and closes when the last handle that needs it is gone.
//! - A rule is destroyed once: [`flow::Flow`] is consumed, and handed back if the device refuses.
//!
//! ```no_run
//! use dpdk_sys::{Burst, Eal, EalConfig, DEFAULT_DATA_ROOM, Memory, Mempool, Port, PortConfig};
//!
//! # fn main() -> Result<(), dpdk_sys::Error> {
//! let eal = Eal::init(EalConfig::new("reflector", Memory::Hugepages { megabytes: 256 }))?;
//! let pool = Mempool::new(&eal, "packets", 8191, 256, DEFAULT_DATA_ROOM)?;
//! let device = eal.attach("net_af_packet0,iface=eth1")?;
//! let (_port, mut rx, mut tx) = Port::configure(&eal, device.port(), &PortConfig::new(pool))?.start()?;
//! let _thread = eal.register_thread()?;
//! let mut burst = Burst::new();
//! loop {
//!     rx[0].burst(&mut burst, dpdk_sys::BURST);
//!     tx[0].burst(&mut burst);
//!     burst.clear();
//! }
//! # }
//! ```

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
    Capabilities, Configured, ConfiguredPort, Port, PortConfig, PortId, PortStats, ReceiveHash, Rss, Started,
    StartedPort, software_hash,
};
pub use queue::{RxQueue, TxQueue};
pub use thread::{WorkerThread, pin_to_core};

/// Packets that one burst asks for, usually.
pub const BURST: usize = 32;

/// Packets that one burst can hold.
pub const MAX_BURST: usize = 64;

/// A burst of packets, in place and without allocation.
pub type Burst = arrayvec::ArrayVec<Mbuf, MAX_BURST>;
