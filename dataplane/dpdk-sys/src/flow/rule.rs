//! Rules by the synchronous calls.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::encode::{Actions, Items};
use super::{Action, Attr, FlowError, Item, call, call_for};
use crate::error::Errno;
use crate::ffi;
use crate::port::{Held, Port, Started};

/// A rule in the device. It stays there until it is destroyed, flushed, or its port closed; dropping the handle
/// leaves it in the device without a way to reach it but a flush.
///
/// Destroying consumes the handle, so a destroyed rule cannot be used:
/// ```compile_fail
/// use dpdk_sys::{StartedPort, flow::Flow};
/// fn twice(port: &StartedPort, flow: Flow) {
///     let _ = port.flow_destroy(flow);
///     let _ = port.flow_query_count(&flow, false);
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "without its handle a rule can only be flushed"]
pub struct Flow {
    raw: NonNull<ffi::rte_flow>,
    epoch: u32,
    /// Made by a queue, so destroyed by one.
    queued: bool,
}

// SAFETY: the handle is a number to us; DPDK's flow calls take it from any thread.
unsafe impl Send for Flow {}
// SAFETY: as above.
unsafe impl Sync for Flow {}

impl Flow {
    pub(super) fn new(raw: NonNull<ffi::rte_flow>, port: &Held, queued: bool) -> Self {
        Self {
            raw,
            epoch: port.epoch(),
            queued,
        }
    }

    /// The raw handle, if the rule is `port`'s, is still there and was made the same way.
    pub(super) fn raw_on(&self, port: &Held, queued: Option<bool>) -> Result<*mut ffi::rte_flow, FlowError> {
        if self.epoch != port.epoch() {
            return Err(FlowError::handle("rule is of another port, or went with a flush"));
        }
        if queued.is_some_and(|queued| queued != self.queued) {
            return Err(FlowError::handle(
                "rule of a queue and rule of the port cannot be exchanged",
            ));
        }
        Ok(self.raw.as_ptr())
    }
}

/// A rule that was not destroyed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct DestroyError {
    /// The rule, still in the device.
    pub flow: Flow,
    /// The driver's reason.
    pub error: FlowError,
}

/// What a rule has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowCount {
    /// Packets, if the device counts them.
    pub packets: Option<u64>,
    /// Bytes, if the device counts them.
    pub bytes: Option<u64>,
}

/// How long a rule has been idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowAge {
    /// True once it was idle for as long as its [`Action::Age`] says.
    pub aged: bool,
    /// Seconds since its last packet, if the device knows.
    pub idle_seconds: Option<u32>,
}

impl Port<Started> {
    /// Asks whether the device would take a rule.
    ///
    /// # Errors
    /// Why it would not.
    pub fn flow_validate(&self, attr: &Attr, items: &[Item], actions: &[Action]) -> Result<(), FlowError> {
        let (mut items_memory, mut actions_memory) = (Items::new(), Actions::new());
        let (attr, items, actions) = (
            attr.to_raw(),
            items_memory.encode(items)?,
            actions_memory.encode(actions)?,
        );
        let id = self.id().0;
        // SAFETY: the port is ours; the arrays end with END and live through the call.
        call(|error| unsafe { ffi::rte_flow_validate(id, &attr, items, actions, error) })
    }

    /// Puts a rule into the device.
    ///
    /// # Errors
    /// Why the device refuses it.
    pub fn flow_create(&self, attr: &Attr, items: &[Item], actions: &[Action]) -> Result<Flow, FlowError> {
        let (mut items_memory, mut actions_memory) = (Items::new(), Actions::new());
        let (attr, items, actions) = (
            attr.to_raw(),
            items_memory.encode(items)?,
            actions_memory.encode(actions)?,
        );
        let id = self.id().0;
        // SAFETY: the port is ours; the arrays end with END and live through the call, which copies what it keeps.
        let raw = call_for(|error| unsafe { ffi::rte_flow_create(id, &attr, items, actions, error) })?;
        Ok(Flow::new(raw, self.held(), false))
    }

    /// Takes a rule of [`Port::flow_create`] out of the device.
    ///
    /// # Errors
    /// Why the device keeps it, with the rule itself.
    pub fn flow_destroy(&self, flow: Flow) -> Result<(), DestroyError> {
        let destroyed = flow.raw_on(self.held(), Some(false)).and_then(|raw| {
            // SAFETY: the port is ours and the rule is one of its; the handle is consumed if this succeeds.
            call(|error| unsafe { ffi::rte_flow_destroy(self.id().0, raw, error) })
        });
        destroyed.map_err(|error| DestroyError { flow, error })
    }

    /// What a rule with [`Action::Count`] has seen.
    ///
    /// # Errors
    /// Why the device does not tell.
    pub fn flow_query_count(&self, flow: &Flow, reset: bool) -> Result<FlowCount, FlowError> {
        let mut query = ffi::rte_flow_query_count::default();
        query.set_reset(reset.into());
        let kind = ffi::rte_flow_action_type::RTE_FLOW_ACTION_TYPE_COUNT;
        self.flow_query(flow, kind, (&raw mut query).cast())?;
        Ok(FlowCount {
            packets: (query.hits_set() != 0).then_some(query.hits),
            bytes: (query.bytes_set() != 0).then_some(query.bytes),
        })
    }

    /// How long a rule with [`Action::Age`] has been idle.
    ///
    /// # Errors
    /// Why the device does not tell.
    pub fn flow_query_age(&self, flow: &Flow) -> Result<FlowAge, FlowError> {
        let mut query = ffi::rte_flow_query_age::default();
        self.flow_query(
            flow,
            ffi::rte_flow_action_type::RTE_FLOW_ACTION_TYPE_AGE,
            (&raw mut query).cast(),
        )?;
        Ok(FlowAge {
            aged: query.aged() != 0,
            idle_seconds: (query.sec_since_last_hit_valid() != 0).then_some(query.sec_since_last_hit()),
        })
    }

    fn flow_query(&self, flow: &Flow, kind: u32, data: *mut c_void) -> Result<(), FlowError> {
        let raw = flow.raw_on(self.held(), None)?;
        let conf = ffi::rte_flow_action_age::default();
        let end = ffi::rte_flow_action {
            type_: 0,
            conf: std::ptr::null(),
        };
        let actions = [
            ffi::rte_flow_action {
                type_: kind,
                conf: (&raw const conf).cast(),
            },
            end,
        ];
        // SAFETY: the port is ours, the rule is one of its, and `data` is the structure that `kind` asks for.
        call(|error| unsafe { ffi::rte_flow_query(self.id().0, raw, actions.as_ptr(), data, error) })
    }

    /// Appends to `contexts` those of rules that aged since the last call.
    ///
    /// # Errors
    /// Why the device does not tell.
    pub fn flow_aged(&self, contexts: &mut Vec<u64>) -> Result<(), FlowError> {
        let mut places = [std::ptr::null_mut::<c_void>(); 256];
        loop {
            let mut error = ffi::rte_flow_error::default();
            // SAFETY: the port is ours; DPDK writes at most as many places as there are.
            let count = unsafe {
                ffi::rte_flow_get_aged_flows(self.id().0, places.as_mut_ptr(), places.len() as u32, &mut error)
            };
            if count < 0 {
                return Err(FlowError::from_raw(&error, Errno::of(count)));
            }
            let count = (count as usize).min(places.len());
            contexts.extend(places[..count].iter().map(|context| *context as u64));
            if count < places.len() {
                return Ok(());
            }
        }
    }

    /// Takes every rule out of the device; handles of them are refused from here on.
    ///
    /// # Errors
    /// Why the device keeps them.
    pub fn flow_flush(&self) -> Result<(), FlowError> {
        // SAFETY: the port is ours.
        call(|error| unsafe { ffi::rte_flow_flush(self.id().0, error) })?;
        self.held().next_epoch();
        Ok(())
    }
}
