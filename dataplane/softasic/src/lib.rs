//! The emulated ASIC: a DPDK driver that wraps another port and forwards by `rte_flow` rules itself.
//!
//! Owns: the driver `net_softasic` with the e-switch that all its ports share, and the driver `net_generator`
//! ([`generator`]), the source and sink of benchmarks.
//!
//! Never does: anything that the gateway could not ask of a NIC. The gateway uses these ports through DPDK's calls
//! alone; there is no other way in, and what a packet looks like on the wire is what the gateway's own path makes.
//!
//! [`faults`] has the ASIC refuse rules, keep them, or answer late, for tests of those who drive it.
//!
//! Read first: `flow/shape.rs` for what a rule may say, `classify.rs` for what a packet must be to match, `port.rs`
//! for the walk of a burst. `switch.rs` holds the state that ports share.
#![forbid(unsafe_code)]

mod classify;
mod counters;
mod fault;
mod flow;
mod forward;
pub mod generator;
mod port;
mod rule;
mod switch;
mod table;

use std::sync::{Arc, Mutex, PoisonError};

use dpdk_sys::Error;
use dpdk_sys::pmd;

use port::AsicPort;
use switch::Switch;

pub use fault::{Faults, Operation, Point, Refusal, Which, faults};
pub use generator::{GENERATOR, register_generator};

/// Prefix of the devices' names: `net_softasic0,wire=net_af_packet0`.
pub const DRIVER: &str = "net_softasic";

/// Makes the driver known to DPDK; call it before `Eal::init`. A second call does nothing.
///
/// Arguments of a device: `wire=NAME`, the device to wrap, attached before; `rules=N`, how many rules the e-switch of
/// all ports holds (1,000,000 unless one of them says otherwise). Faults, as from [`faults`]: `refuse-create=N` and
/// `refuse-destroy=N`, so many calls refused; `delay-completions=MS`, so many milliseconds from push to pull.
///
/// # Errors
/// [`Error::Argument`] if somebody else registered a driver of this name.
pub fn register() -> Result<(), Error> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !*done {
        let switch = Arc::new(Switch::new());
        pmd::register(DRIVER, move |probe| AsicPort::attach(probe, &switch))?;
        *done = true;
    }
    Ok(())
}
