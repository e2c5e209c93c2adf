//! A cable whose other end is the test itself.
//!
//! A tap, because it shows and takes frames byte for byte, VLAN tags included (a packet socket strips them), and takes
//! what a bridge or a kernel host would never send. The gateway takes the tap's interface with its af_packet driver.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::Namespace;

/// One cable.
pub struct Wire {
    name: String,
    tap: SyncDevice,
}

impl Wire {
    /// Makes the interface `name` inside the namespace, up and without an address.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn new(namespace: &Namespace, name: &str) -> Self {
        let build = || {
            DeviceBuilder::new()
                .name(name)
                .layer(Layer::L2)
                .enable(false)
                .build_sync()
        };
        let tap = namespace
            .enter(build)
            .unwrap_or_else(|error| panic!("cannot make the tap {name} in {}: {error}", namespace.name()));
        namespace.leave_to_dpdk(name);
        namespace.ip(&format!("link set {name} up"));
        Self {
            name: name.to_owned(),
            tap,
        }
    }

    /// Name of its interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a frame on the cable; shorter than an Ethernet header is refused by the kernel.
    ///
    /// # Panics
    /// If it is refused.
    pub fn send(&self, frame: &[u8]) {
        let sent = self
            .tap
            .send(frame)
            .unwrap_or_else(|error| panic!("{} refuses a frame: {error}", self.name));
        assert_eq!(sent, frame.len(), "{} took a part of a frame", self.name);
    }

    /// Takes frames off the cable until `wanted` answers something for one; `None` after `timeout`.
    pub fn receive<T>(&self, timeout: Duration, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        let start = Instant::now();
        let mut buffer = [0; 16 * 1024];
        loop {
            let left = timeout.checked_sub(start.elapsed())?;
            let mut ready = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if poll(&mut ready, patience).unwrap_or(0) == 0 {
                return None;
            }
            if let Ok(length) = self.tap.recv(&mut buffer)
                && let Some(found) = wanted(&buffer[..length])
            {
                return Some(found);
            }
        }
    }
}
