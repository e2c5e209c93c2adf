//! The smallest network: a gateway between two cables whose other ends are the test itself.
//!
//! No FRR and no kernel host: whatever arrives was made byte by byte by the scenario.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::config::{self, Memory};
use crate::frame::Host;
use crate::wait::{SOON, ensure};
use crate::{Namespace, Scratch, Turnpiked, Wire, eventually};

/// The gateway's address on the left cable.
pub const LEFT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The gateway's address on the right cable.
pub const RIGHT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A host at the far end of the left cable.
pub const LEFT_HOST: Host = Host {
    mac: [2, 0, 0, 0, 0, 0x10],
    address: Ipv4Addr::new(192, 0, 2, 10),
    vlan: None,
};
/// A host at the far end of the right cable.
pub const RIGHT_HOST: Host = Host {
    mac: [2, 0, 0, 0, 0, 0x20],
    address: Ipv4Addr::new(198, 51, 100, 10),
    vlan: None,
};

/// Two cables in a namespace.
pub struct Cables {
    /// Cable of port `left`, 192.0.2.1/24.
    pub left: Wire,
    /// Cable of port `right`, 198.51.100.1/24.
    pub right: Wire,
    /// Where the gateway runs.
    pub gateway: Namespace,
    /// Files of the scenario.
    pub scratch: Scratch,
}

impl Cables {
    /// Lays the cables.
    ///
    /// # Panics
    /// If a part cannot be made.
    pub fn new() -> Self {
        let gateway = Namespace::new("gw");
        for scope in ["all", "default"] {
            gateway.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), 0);
        }
        let (left, right) = (Wire::new(&gateway, "cable-left"), Wire::new(&gateway, "cable-right"));
        Self {
            left,
            right,
            gateway,
            scratch: Scratch::new(),
        }
    }

    /// A configuration of two ports and nothing else.
    pub fn config(&self) -> String {
        let mut text = config::base(&Turnpiked::socket(&self.scratch), Memory::NoHuge);
        text += &config::port(
            0,
            "left",
            self.left.name(),
            &[&format!("{LEFT}/24"), "2001:db8:1::1/64"],
            false,
        );
        text += &config::port(
            1,
            "right",
            self.right.name(),
            &[&format!("{RIGHT}/24"), "2001:db8:2::1/64"],
            false,
        );
        text
    }

    /// Starts a gateway with [`Cables::config`] and `more` below it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self, more: &str) -> Turnpiked {
        Turnpiked::start(&self.gateway, &(self.config() + more), &self.scratch)
    }

    /// The gateway's MAC address on the left cable, learned by ARP.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn left_router(&self) -> [u8; 6] {
        let resolve = || LEFT_HOST.resolve(&self.left, LEFT, Duration::from_millis(300));
        eventually(SOON, || resolve().ok_or_else(|| format!("no ARP answer for {LEFT}")))
    }

    /// Asserts that the gateway answers a ping from the left host: it lives, punts and injects.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_alive(&self) {
        let router = self.left_router();
        eventually(SOON, || {
            let answered = LEFT_HOST.ping(&self.left, router, LEFT, 9, Duration::from_millis(500));
            ensure(answered, || format!("{LEFT} does not answer a ping"))
        });
    }
}

impl Default for Cables {
    fn default() -> Self {
        Self::new()
    }
}
