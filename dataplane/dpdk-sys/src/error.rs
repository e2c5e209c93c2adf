//! What can go wrong between us and DPDK, each with its remedy.

use std::ffi::{CStr, CString};
use std::fmt;

use crate::ffi;
use crate::port::PortId;

/// An error number as DPDK reports it: the system's, or one of DPDK's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// From a return value of DPDK, in which errors are negative.
    pub(crate) const fn of(returned: i32) -> Self {
        Self(returned.wrapping_abs())
    }

    /// The calling thread's `rte_errno`.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local of the calling thread.
        Self(unsafe { ffi::tp_errno() })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror returns a NUL-terminated string for every number, valid until this thread's next call.
        let text = unsafe { CStr::from_ptr(ffi::rte_strerror(self.0)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

/// Lines that DPDK logged while it failed; empty when it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quote(pub(crate) Vec<String>);

impl Quote {
    /// The lines, oldest first.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, " (DPDK says: {})", self.0.join("; "))
        }
    }
}

/// Why DPDK did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EAL exists once a process.
    #[error("DPDK is already initialised in this process: initialise it once and share the handle")]
    AlreadyInitialised,
    /// Fewer free hugepages than the configuration asks for.
    #[error(
        "{wanted} MB of hugepages are wanted and {free} MB are free: run `sysctl vm.nr_hugepages={pages}`, \
         ask for less, or configure memory without hugepages"
    )]
    Hugepages {
        /// Megabytes asked for.
        wanted: u32,
        /// Megabytes free now.
        free: u32,
        /// Number of pages, of the default size, that would satisfy the configuration.
        pages: u32,
    },
    /// The process may not do what DPDK needs.
    #[error(
        "no permission for {what}: run as root, or with the capabilities CAP_NET_ADMIN, CAP_NET_RAW and CAP_IPC_LOCK"
    )]
    Permission {
        /// What was refused.
        what: String,
    },
    /// A text that DPDK's C strings cannot carry.
    #[error("{what} `{value}` cannot be given to DPDK: {why}")]
    Argument {
        /// What it was meant for.
        what: &'static str,
        /// The text.
        value: String,
        /// Why not.
        why: &'static str,
    },
    /// EAL refused to start.
    #[error("DPDK did not start with `{arguments}`: {errno}{log}")]
    Init {
        /// Arguments it was given.
        arguments: String,
        /// DPDK's reason.
        errno: Errno,
        /// What it logged.
        log: Quote,
    },
    /// The calling thread could not become a DPDK thread.
    #[error("this thread cannot be registered with DPDK: {errno}; at most 127 threads can be registered at once{log}")]
    Register {
        /// DPDK's reason.
        errno: Errno,
        /// What it logged.
        log: Quote,
    },
    /// The core does not exist or is not ours to use.
    #[error("thread cannot be pinned to core {core}: {errno}; allowed are the cores in `taskset -cp $$`")]
    Pin {
        /// Core asked for.
        core: u32,
        /// The system's reason.
        errno: Errno,
    },
    /// No driver of that name.
    #[error("`{devargs}`: no DPDK driver has that name; drivers are loaded from {drivers}{log}")]
    DriverUnknown {
        /// Device asked for.
        devargs: String,
        /// Folder that drivers are loaded from.
        drivers: &'static str,
        /// What DPDK logged.
        log: Quote,
    },
    /// The device behind the driver does not exist.
    #[error("`{devargs}`: there is no {what}: create it first, or correct the name{log}")]
    DeviceMissing {
        /// Device asked for.
        devargs: String,
        /// What is missing.
        what: String,
        /// What DPDK logged.
        log: Quote,
    },
    /// The device is attached already, here or in another process.
    #[error("`{devargs}`: device is already in use: use another name, or detach it first{log}")]
    DeviceInUse {
        /// Device asked for.
        devargs: String,
        /// What DPDK logged.
        log: Quote,
    },
    /// The driver refused the device.
    #[error("`{devargs}`: device cannot be attached: {errno}; check the arguments after the driver's name{log}")]
    Attach {
        /// Device asked for.
        devargs: String,
        /// DPDK's reason.
        errno: Errno,
        /// What it logged.
        log: Quote,
    },
    /// The device did not go away.
    #[error("device `{device}` cannot be detached: {errno}{log}")]
    Detach {
        /// Its name.
        device: String,
        /// DPDK's reason.
        errno: Errno,
        /// What it logged.
        log: Quote,
    },
    /// A packet pool could not be made.
    #[error("packet pool `{name}` of {count} buffers cannot be made: {errno}; {remedy}{log}")]
    Mempool {
        /// Its name.
        name: String,
        /// Buffers asked for.
        count: u32,
        /// DPDK's reason.
        errno: Errno,
        /// What to do.
        remedy: &'static str,
        /// What DPDK logged.
        log: Quote,
    },
    /// No port has that number or name.
    #[error("there is no DPDK port `{0}`: attach its device first")]
    NoSuchPort(String),
    /// Somebody else configured the port and still holds it.
    #[error("DPDK port {0} is already in use by this process: drop its handles first")]
    PortInUse(PortId),
    /// The configuration asks for more than the port has.
    #[error("DPDK port {port}: {what} {wanted} is out of range: use {minimum} to {maximum}")]
    Capability {
        /// The port.
        port: PortId,
        /// What was asked for.
        what: &'static str,
        /// How much.
        wanted: u64,
        /// Least that the port takes.
        minimum: u64,
        /// Most that the port takes.
        maximum: u64,
    },
    /// The driver refused an operation on the port.
    #[error("DPDK port {port}: cannot {operation}: {errno}{log}")]
    Port {
        /// The port.
        port: PortId,
        /// What was tried.
        operation: &'static str,
        /// The driver's reason.
        errno: Errno,
        /// What it logged.
        log: Quote,
    },
}

/// A C string of a configured text.
pub(crate) fn c_string(what: &'static str, value: &str) -> Result<CString, Error> {
    CString::new(value).map_err(|_| Error::Argument {
        what,
        value: value.to_owned(),
        why: "it contains a NUL byte",
    })
}
