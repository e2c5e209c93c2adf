//! What can go wrong while the data plane starts.

use std::io;

/// Why the data plane did not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// DPDK refused; its own error says what and why.
    #[error("{context}: {source}")]
    Dpdk {
        /// What was being done.
        context: String,
        /// DPDK's error.
        source: dpdk_sys::Error,
    },
    /// The NIC's flow engine refused its set-up.
    #[error("flow rules of the offload port: {source}; set `offload = false` to forward in software")]
    Flow {
        /// The driver's reason.
        source: dpdk_sys::flow::FlowError,
    },
    /// A tap could not be made.
    #[error(
        "host interface `{name}`: {source}; it needs /dev/net/tun, CAP_NET_ADMIN and a name that no other interface has"
    )]
    HostInterface {
        /// Name of the tap.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("thread `{name}` did not start: {source}")]
    Thread {
        /// Its name.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// The connection table does not fit.
    #[error("connection table of worker {worker}: {source}; set `dataplane.connections` lower")]
    Connections {
        /// Worker.
        worker: u16,
        /// Why.
        source: nat::EngineError,
    },
    /// A port without a device.
    #[error("port `{port}`: no device: name DPDK devargs in `device`")]
    NoDevice {
        /// Its name.
        port: String,
    },
    /// The RIB was dropped before the data plane started.
    #[error("no route tables to read: start the RIB before the data plane")]
    NoTables,
    /// The configuration names no worker.
    #[error("no worker core: name at least one in `dataplane.workers`")]
    NoWorkers,
}

impl Error {
    pub(crate) fn dpdk(context: impl Into<String>) -> impl FnOnce(dpdk_sys::Error) -> Self {
        move |source| Self::Dpdk {
            context: context.into(),
            source,
        }
    }
}
