//! `rte_flow` for applications: rules by the synchronous calls, and by templates and queues.
//!
//! [`Item`] and [`Action`] are also what a driver written with [`crate::pmd`] sees, so that C's arrays are read and
//! written in one place: `encode.rs` and `decode.rs`.
//!
//! DPDK 22.11 has no asynchronous update of a rule's actions (that came with 23.07): a change is a destroy and a
//! create.

mod action;
pub(crate) mod decode;
mod encode;
mod error;
mod item;
mod layer;
mod queue;
mod rule;
mod template;

pub use action::{Action, HeaderBytes, MAX_ACTIONS, TemplateAction, VxlanTunnel};
pub use error::{FlowError, FlowErrorKind};
pub use item::{Eth, Icmp, Ipv4, Ipv6, Item, MAX_ITEMS, Match, Tag, Tcp, Udp, Vlan, Vxlan};
pub use queue::{Completion, FlowQueue};
pub use rule::{DestroyError, Flow, FlowAge, FlowCount};
pub use template::{ActionsTemplate, PatternTemplate, TableAttr, TemplateTable};

use crate::error::Errno;
use crate::ffi;
use crate::port::PortId;

/// Where a rule stands and what traffic it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attr {
    /// Table of the device; packets enter at 0.
    pub group: u32,
    /// Among the rules of a group; 0 comes first.
    pub priority: u32,
    /// Sees what the port receives.
    pub ingress: bool,
    /// Sees what the port sends.
    pub egress: bool,
    /// Sees the device's switch, between all its ports.
    pub transfer: bool,
}

impl Attr {
    /// Rules of `group` for what the port receives.
    pub const fn ingress(group: u32) -> Self {
        Self {
            group,
            priority: 0,
            ingress: true,
            egress: false,
            transfer: false,
        }
    }

    /// Rules of `group` in the device's switch.
    pub const fn transfer(group: u32) -> Self {
        Self {
            group,
            priority: 0,
            ingress: false,
            egress: false,
            transfer: true,
        }
    }

    pub(crate) fn to_raw(self) -> ffi::rte_flow_attr {
        let mut raw = ffi::rte_flow_attr {
            group: self.group,
            priority: self.priority,
            ..Default::default()
        };
        raw.set_ingress(self.ingress.into());
        raw.set_egress(self.egress.into());
        raw.set_transfer(self.transfer.into());
        raw
    }

    pub(crate) fn from_raw(raw: &ffi::rte_flow_attr) -> Self {
        Self {
            group: raw.group,
            priority: raw.priority,
            ingress: raw.ingress() != 0,
            egress: raw.egress() != 0,
            transfer: raw.transfer() != 0,
        }
    }
}

/// How the flow engine is set up before the port starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FlowConfig {
    /// Queues for template rules, each for one thread.
    pub queues: u16,
    /// Operations that a queue holds until they are pulled.
    pub queue_size: u32,
    /// Counters to set aside.
    pub counters: u32,
    /// Ageing timers to set aside.
    pub aging_objects: u32,
}

/// Sets up the flow engine of a configured, stopped port that is ours.
pub(crate) fn configure(port: PortId, config: &FlowConfig) -> Result<(), FlowError> {
    let attr = ffi::rte_flow_port_attr {
        nb_counters: config.counters,
        nb_aging_objects: config.aging_objects,
        ..Default::default()
    };
    let queue = ffi::rte_flow_queue_attr {
        size: config.queue_size,
    };
    let mut queues = vec![&raw const queue; usize::from(config.queues)];
    // SAFETY: the port is ours and stopped; the arrays live through the call and have the length that DPDK is told.
    call(|error| unsafe { ffi::rte_flow_configure(port.0, &attr, config.queues, queues.as_mut_ptr(), error) })
}

/// Runs a call that returns 0 or a negative error.
pub(crate) fn call(run: impl FnOnce(*mut ffi::rte_flow_error) -> i32) -> Result<(), FlowError> {
    let mut error = ffi::rte_flow_error::default();
    let status = run(&mut error);
    if status < 0 {
        Err(FlowError::from_raw(&error, Errno::of(status)))
    } else {
        Ok(())
    }
}

/// Runs a call that returns a pointer, or null with `rte_errno` set.
pub(crate) fn call_for<T>(
    run: impl FnOnce(*mut ffi::rte_flow_error) -> *mut T,
) -> Result<std::ptr::NonNull<T>, FlowError> {
    let mut error = ffi::rte_flow_error::default();
    let made = run(&mut error);
    std::ptr::NonNull::new(made).ok_or_else(|| FlowError::from_raw(&error, Errno::last()))
}
