//! The public handle and the tasks behind it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use net::{IfIndex, KernelEvent, VrfId};
use tokio::sync::mpsc;

use crate::{Error, KernelRoute, Status};

/// What the mirror is told at start.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// `rtm_protocol` of our routes; the mark by which they are told from everybody else's.
    pub protocol: u8,
    /// Kernel table that our routes are written to; 254 is main.
    pub table: u32,
    /// Priority of our routes; lower wins.
    pub metric: u32,
    /// Kernel tables that are mirrored in, each into a VRF.
    pub tables: Vec<(u32, VrfId)>,
    /// Routes left by an earlier run that nobody confirmed in this time after the start are removed.
    pub stale_sweep: Duration,
}

/// Sizes and intervals that only tests and large systems change.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Receive buffer of the notification socket, bytes.
    pub receive_buffer: usize,
    /// How often our routes are compared with the kernel's.
    pub audit_interval: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { receive_buffer: 16 << 20, audit_interval: Duration::from_secs(30) }
    }
}

/// Handle of a running mirror; clones are cheap and share it. Dropping the last one stops the tasks and leaves our
/// routes in the kernel; [`Mirror::shutdown`] removes them.
#[derive(Clone)]
pub struct Mirror {}

#[allow(unused_variables, clippy::unimplemented, clippy::missing_errors_doc)]
impl Mirror {
    /// Opens the sockets, subscribes, dumps, and tells all that is present followed by [`KernelEvent::Synced`] and then
    /// live events in order, batched by wakeup.
    pub async fn start(config: MirrorConfig, events: mpsc::Sender<Vec<KernelEvent>>) -> Result<Self, Error> {
        unimplemented!()
    }
    /// As [`Mirror::start`], with sizes and intervals of one's own.
    pub async fn start_with(
        config: MirrorConfig,
        tuning: Tuning,
        events: mpsc::Sender<Vec<KernelEvent>>,
    ) -> Result<Self, Error> {
        unimplemented!()
    }
    /// Wants these routes in the kernel. Never blocks; the newest wish for a prefix wins.
    pub fn submit(&self, changes: Vec<KernelRoute>) {
        unimplemented!()
    }
    /// Asks the kernel to resolve a neighbour. Never blocks; at most one request a second for each.
    pub fn request_neighbor(&self, interface: IfIndex, address: IpAddr) {
        unimplemented!()
    }
    /// Sets an interface up or down, and its MTU.
    pub async fn set_link(&self, name: &str, up: bool, mtu: Option<u32>) -> Result<IfIndex, Error> {
        unimplemented!()
    }
    /// Gives an interface exactly these addresses besides its link-local ones.
    pub async fn set_addresses(
        &self,
        interface: IfIndex,
        addresses: &[IpNet],
        connected_route: bool,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    /// Everything wanted has been submitted: what an earlier run left and nobody confirmed is removed now.
    pub fn end_of_start(&self) {
        unimplemented!()
    }
    /// Removes all our routes and stops.
    pub async fn shutdown(self) {
        unimplemented!()
    }
    /// Counters and state.
    pub fn status(&self) -> Status {
        unimplemented!()
    }
}
