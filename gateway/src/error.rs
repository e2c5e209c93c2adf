//! What can go wrong at the edge: each subsystem's error, with the place it came from.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;

/// Why the gateway did not start, or the client got no answer.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong, or its store cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] config::Error),
    /// The data plane did not start.
    #[error(transparent)]
    #[diagnostic(code(turnpike::dataplane))]
    Dataplane(#[from] dataplane::Error),
    /// The NAT policy does not compile.
    #[error("NAT policy: {0}")]
    #[diagnostic(code(turnpike::nat))]
    Nat(#[from] nat::PolicyError),
    /// A BGP policy does not compile.
    #[error("BGP policy: {0}")]
    #[diagnostic(code(turnpike::policy))]
    Policy(#[from] bgp::policy::PolicyError),
    /// The kernel mirror failed.
    #[error(transparent)]
    #[diagnostic(code(turnpike::kernel))]
    Kernel(#[from] netlink_sync::Error),
    /// The BGP speaker did not start.
    #[error(transparent)]
    #[diagnostic(code(turnpike::bgp))]
    Bgp(#[from] bgp::Error),
    /// The state directory cannot be made.
    #[error("state directory {path}: {source}")]
    #[diagnostic(
        code(turnpike::state),
        help("run turnpiked as root, or name a directory that this user may write with --state-dir")
    )]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The API socket cannot be made.
    #[error("API socket {path}: {source}")]
    #[diagnostic(
        code(turnpike::api),
        help("set api.socket to a path in a directory that this user may write")
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another gateway answers on the API socket.
    #[error("API socket {path} is in use by a running turnpiked")]
    #[diagnostic(
        code(turnpike::api),
        help("stop that one first, or give this one its own api.socket and --state-dir")
    )]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Another gateway's connections cannot be received.
    #[error("standby.listen {address}: {source}")]
    #[diagnostic(
        code(turnpike::standby),
        help("name an address of this host, and a port that no other program listens on")
    )]
    Standby {
        /// Where.
        address: std::net::SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The client cannot reach the gateway.
    #[error("no turnpiked answers on {path}: {source}")]
    #[diagnostic(
        code(turnpike::client),
        help("start turnpiked, or name its socket with --socket (api.socket in its configuration)")
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The gateway answered with an error.
    #[error("turnpiked answered {status}: {text}")]
    #[diagnostic(code(turnpike::client))]
    Answer {
        /// HTTP status.
        status: u16,
        /// Body.
        text: String,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    #[diagnostic(
        code(turnpike::file),
        help("name a file in a directory that is there, that you may write, and that has room; the file is as it was")
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A VPC's tunnel endpoints are not IPv4.
    #[error("{what} {address} is IPv6; tunnels run over IPv4")]
    #[diagnostic(code(turnpike::vxlan), help("name an IPv4 endpoint"))]
    TunnelFamily {
        /// Which setting.
        what: String,
        /// The address.
        address: std::net::IpAddr,
    },
    /// A part of the gateway ended; the rest was shut down in order.
    #[error("{part} failed: {reason}")]
    #[diagnostic(
        code(turnpike::failed),
        help("the log has what led to it; routes and taps were removed, start turnpiked again")
    )]
    Failed {
        /// Which part.
        part: String,
        /// Its last words.
        reason: String,
    },
    /// Signals cannot be received, or the runtime cannot be made.
    #[error("{what}: {source}")]
    #[diagnostic(code(turnpike::system))]
    System {
        /// What was asked of the system.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
}
