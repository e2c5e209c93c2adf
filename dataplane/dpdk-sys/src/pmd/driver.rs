//! What a driver does.

use std::num::NonZeroU64;

use crate::error::Errno;
use crate::flow::{
    Action, Attr, Completion, FlowAge, FlowConfig, FlowCount, FlowError, Item, TableAttr, TemplateAction,
};
use crate::mempool::Mempool;
use crate::port::PortId;
use crate::{Burst, ffi};

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverInfo {
    /// Its MAC address when it is attached.
    pub mac: [u8; 6],
    /// Receive queues, at most.
    pub max_rx_queues: u16,
    /// Transmit queues, at most.
    pub max_tx_queues: u16,
    /// Largest MTU.
    pub max_mtu: u16,
    /// True if packets carry a flow hash and are spread by it.
    pub rss: bool,
}

impl Default for DriverInfo {
    /// A local address, 16 queues each way, MTU up to 9600.
    fn default() -> Self {
        Self {
            mac: [2, 0, 0, 0, 0, 1],
            max_rx_queues: 16,
            max_tx_queues: 16,
            max_mtu: 9600,
            rss: false,
        }
    }
}

/// Why a driver refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DriverError(pub Errno);

impl DriverError {
    /// The device cannot do this.
    pub const UNSUPPORTED: Self = Self(Errno(libc::ENOTSUP));
    /// A value that makes no sense.
    pub const INVALID: Self = Self(Errno(libc::EINVAL));
    /// The device is in use.
    pub const BUSY: Self = Self(Errno(libc::EBUSY));
    /// What it needs does not exist.
    pub const MISSING: Self = Self(Errno(libc::ENODEV));
}

/// Counters of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriverStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that could not be received in time.
    pub rx_missed: u64,
    /// Erroneous packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that no buffer was free for.
    pub rx_no_buffers: u64,
}

/// A device. DPDK calls [`Driver::rx_burst`] and [`Driver::tx_burst`] of one queue from one thread at a time, of
/// different queues from several; everything else from threads of the control plane. Keep what belongs to a queue in
/// [`super::PerQueue`]. When the port is closed the value is dropped.
pub trait Driver: Send + Sync + 'static {
    /// What the device is.
    fn info(&self) -> DriverInfo;

    /// The device has become this port.
    fn attached(&self, port: PortId) {
        let _ = port;
    }

    /// The port is to have this many queues; [`Driver::set_mtu`] follows.
    ///
    /// # Errors
    /// Why it cannot.
    fn configure(&self, rx_queues: u16, tx_queues: u16) -> Result<(), DriverError> {
        let _ = (rx_queues, tx_queues);
        Ok(())
    }

    /// The application chose the key of the flow hash; comes before [`Driver::configure`], and only if it chose one.
    fn set_rss_key(&self, key: &[u8]) {
        let _ = key;
    }

    /// Packets of this receive queue are to come from `mempool`.
    ///
    /// # Errors
    /// Why they cannot.
    fn rx_queue_setup(&self, queue: u16, descriptors: u16, mempool: &Mempool) -> Result<(), DriverError> {
        let _ = (queue, descriptors, mempool);
        Ok(())
    }

    /// This transmit queue is to be used.
    ///
    /// # Errors
    /// Why it cannot.
    fn tx_queue_setup(&self, queue: u16, descriptors: u16) -> Result<(), DriverError> {
        let _ = (queue, descriptors);
        Ok(())
    }

    /// Bursts are about to come.
    ///
    /// # Errors
    /// Why the device cannot start.
    fn start(&self) -> Result<(), DriverError> {
        Ok(())
    }

    /// Bursts have ended.
    fn stop(&self) {}

    /// Appends up to `max` received packets to `out`, which is empty and has room for them.
    fn rx_burst(&self, queue: u16, out: &mut Burst, max: usize);

    /// Takes from `packets` what it sends, or drops; what is left goes back to the caller.
    fn tx_burst(&self, queue: u16, packets: &mut Burst);

    /// The device's counters.
    fn stats(&self) -> DriverStats;

    /// Sets the counters to zero.
    fn stats_reset(&self);

    /// Changes the MTU.
    ///
    /// # Errors
    /// Why it cannot.
    fn set_mtu(&self, mtu: u16) -> Result<(), DriverError> {
        let _ = mtu;
        Ok(())
    }

    /// Changes the address.
    ///
    /// # Errors
    /// Why it cannot.
    fn set_mac(&self, mac: [u8; 6]) -> Result<(), DriverError> {
        let _ = mac;
        Ok(())
    }

    /// Receives what is addressed to others, or not.
    ///
    /// # Errors
    /// Why it cannot.
    fn set_promiscuous(&self, on: bool) -> Result<(), DriverError> {
        let _ = on;
        Ok(())
    }

    /// True if there is a carrier.
    fn link_up(&self) -> bool {
        true
    }

    /// The flow engine, if the device has one.
    fn flow(&self) -> Option<&dyn FlowDriver> {
        None
    }
}

/// The templates of a new table, in the order in which rules name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateHandles<'a> {
    /// Handles of pattern templates.
    pub patterns: &'a [NonZeroU64],
    /// Handles of actions templates.
    pub actions: &'a [NonZeroU64],
}

/// A flow engine. Handles are the driver's own numbers. Calls come from any thread; those of one queue from one at a
/// time. Everything after `flush` is optional: without it the device has no such function.
///
/// Items of [`FlowDriver::async_create`] carry what the application gave: by DPDK's rule their masks do not count and
/// those of the pattern template do, and so do the values of a template's fixed actions.
#[expect(unused_variables, reason = "optional functions")]
pub trait FlowDriver: Send + Sync {
    /// Would the device take this rule?
    ///
    /// # Errors
    /// Why not.
    fn validate(&self, attr: &Attr, items: &[Item], actions: &[Action]) -> Result<(), FlowError>;

    /// Takes a rule.
    ///
    /// # Errors
    /// Why not.
    fn create(&self, attr: &Attr, items: &[Item], actions: &[Action]) -> Result<NonZeroU64, FlowError>;

    /// Removes a rule of [`FlowDriver::create`].
    ///
    /// # Errors
    /// Why not.
    fn destroy(&self, flow: NonZeroU64) -> Result<(), FlowError>;

    /// Removes every rule.
    ///
    /// # Errors
    /// Why not.
    fn flush(&self) -> Result<(), FlowError>;

    /// What a rule has seen; sets it to zero if `reset`.
    ///
    /// # Errors
    /// Why the device does not tell.
    fn query_count(&self, flow: NonZeroU64, reset: bool) -> Result<FlowCount, FlowError> {
        Err(FlowError::unsupported("rules are not counted"))
    }

    /// How long a rule has been idle.
    ///
    /// # Errors
    /// Why the device does not tell.
    fn query_age(&self, flow: NonZeroU64) -> Result<FlowAge, FlowError> {
        Err(FlowError::unsupported("rules do not age"))
    }

    /// Appends contexts of rules that aged, at most `max`, and forgets them; without `max` it returns how many there
    /// are and leaves them.
    ///
    /// # Errors
    /// Why the device does not tell.
    fn aged(&self, max: Option<usize>, contexts: &mut Vec<u64>) -> Result<usize, FlowError> {
        Err(FlowError::unsupported("rules do not age"))
    }

    /// Sets up queues, before the port starts.
    ///
    /// # Errors
    /// Why not.
    fn configure(&self, config: &FlowConfig) -> Result<(), FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Takes the shape of a pattern: of `items`, the masks count.
    ///
    /// # Errors
    /// Why not.
    fn pattern_template_create(&self, attr: &Attr, items: &[Item]) -> Result<NonZeroU64, FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Forgets a pattern template.
    ///
    /// # Errors
    /// Why not.
    fn pattern_template_destroy(&self, template: NonZeroU64) -> Result<(), FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Takes the shape of a list of actions.
    ///
    /// # Errors
    /// Why not.
    fn actions_template_create(&self, attr: &Attr, actions: &[TemplateAction]) -> Result<NonZeroU64, FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Forgets an actions template.
    ///
    /// # Errors
    /// Why not.
    fn actions_template_destroy(&self, template: NonZeroU64) -> Result<(), FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Makes a table for rules of these templates.
    ///
    /// # Errors
    /// Why not.
    fn table_create(&self, attr: &TableAttr, templates: TemplateHandles<'_>) -> Result<NonZeroU64, FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Removes a table.
    ///
    /// # Errors
    /// Why not.
    fn table_destroy(&self, table: NonZeroU64) -> Result<(), FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Enters a rule into `queue`, by the `pattern`-th and `action`-th template of `table`. Unless `postpone`, it is
    /// pushed at once.
    ///
    /// # Errors
    /// Why not; [`FlowError::full`] when the queue is.
    #[expect(clippy::too_many_arguments, reason = "as many as DPDK's call has")]
    fn async_create(
        &self,
        queue: u32,
        postpone: bool,
        table: NonZeroU64,
        items: &[Item],
        pattern: u8,
        actions: &[Action],
        action: u8,
        user_data: u64,
    ) -> Result<NonZeroU64, FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Enters the end of a rule of [`FlowDriver::async_create`].
    ///
    /// # Errors
    /// Why not; [`FlowError::full`] when the queue is.
    fn async_destroy(&self, queue: u32, postpone: bool, flow: NonZeroU64, user_data: u64) -> Result<(), FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Carries out what was entered.
    ///
    /// # Errors
    /// Why not.
    fn push(&self, queue: u32) -> Result<(), FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }

    /// Reports operations that are finished, as far as `out` has room.
    ///
    /// # Errors
    /// Why not.
    fn pull(&self, queue: u32, out: &mut Completions<'_>) -> Result<(), FlowError> {
        Err(FlowError::unsupported("no template rules"))
    }
}

/// Where a driver puts finished operations.
#[derive(Debug)]
pub struct Completions<'a> {
    results: &'a mut [std::mem::MaybeUninit<ffi::rte_flow_op_result>],
    filled: usize,
}

impl<'a> Completions<'a> {
    pub(super) fn new(results: &'a mut [std::mem::MaybeUninit<ffi::rte_flow_op_result>]) -> Self {
        Self { results, filled: 0 }
    }

    /// How many more fit.
    pub fn remaining(&self) -> usize {
        self.results.len() - self.filled
    }

    /// How many were put in.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Puts one in; false if there is no room.
    pub fn push(&mut self, completion: Completion) -> bool {
        use ffi::rte_flow_op_status::{RTE_FLOW_OP_ERROR, RTE_FLOW_OP_SUCCESS};
        let Some(place) = self.results.get_mut(self.filled) else {
            return false;
        };
        place.write(ffi::rte_flow_op_result {
            status: if completion.ok {
                RTE_FLOW_OP_SUCCESS
            } else {
                RTE_FLOW_OP_ERROR
            },
            user_data: completion.user_data as *mut std::ffi::c_void,
        });
        self.filled += 1;
        true
    }
}
