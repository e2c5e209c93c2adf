//! What can go wrong between the gateway and the kernel.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the mirror could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be opened or set up.
    #[error("cannot set up a netlink socket ({step}): {source}; the mirror needs CAP_NET_ADMIN, run it as root")]
    Socket {
        /// What was being done.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("the kernel refused to {what}: {source}")]
    Refused {
        /// What was asked, with its object.
        what: String,
        /// The kernel's errno.
        source: io::Error,
    },
    /// A request was neither answered nor refused.
    #[error("the kernel did not answer within {seconds} s when asked to {what}; is the network namespace still there?")]
    Timeout {
        /// What was asked, with its object.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A dump was interrupted by changes each time it was tried.
    #[error("the kernel's {what} changed during each of {tries} dumps; retry when it is quieter")]
    DumpInterrupted {
        /// What was dumped.
        what: &'static str,
        /// How often.
        tries: u32,
    },
    /// There is no such interface.
    #[error("no interface is named `{0}` in this network namespace; create it first")]
    NoInterface(String),
    /// An interface name that cannot be one.
    #[error("`{0}` cannot be an interface name: use 1 to 15 characters without `/` and blanks")]
    InterfaceName(String),
    /// A sysctl could not be written.
    #[error("cannot write `{value}` to {}: {source}; is /proc/sys writable and does the interface exist?", file.display())]
    Sysctl {
        /// File below `/proc/sys`.
        file: PathBuf,
        /// What should have been written.
        value: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The FPM server's address could not be listened on.
    #[error("cannot listen for FRR's FPM on {address}: {source}; is the address the host's, and its port free?")]
    Fpm {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The mirror has been shut down.
    #[error("the kernel mirror has been shut down")]
    Stopped,
}
