//! Queues: rules made and destroyed by one thread, without waiting for the device.

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use super::encode::{Actions, Items};
use super::{Action, DestroyError, Flow, FlowError, Item, TemplateTable, call, call_for};
use crate::error::Errno;
use crate::ffi;
use crate::port::Held;

/// An operation that the device has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Completion {
    /// What the operation was given.
    pub user_data: u64,
    /// False if it failed. A rule whose creation failed is not in the device and its handle is dead: drop it. A rule
    /// whose end failed may be in the device still, where only a flush reaches it: [`FlowQueue::destroy`] spent its handle.
    pub ok: bool,
}

/// A queue of the flow engine: it belongs to one thread.
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<dpdk_sys::flow::FlowQueue>();
/// ```
///
/// Operations are handed over by [`FlowQueue::push`] and have happened when [`FlowQueue::pull`] returns their
/// completion, not before.
#[derive(Debug)]
pub struct FlowQueue {
    port: Arc<Held>,
    index: u16,
    _one_thread: PhantomData<Cell<()>>,
}

impl FlowQueue {
    pub(crate) fn new(port: Arc<Held>, index: u16) -> Self {
        Self {
            port,
            index,
            _one_thread: PhantomData,
        }
    }

    /// Its number on the port.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Enters a rule by templates `pattern` and `action` of `table`.
    ///
    /// # Errors
    /// [`super::FlowErrorKind::Full`] when the queue or the table is; pull and try again.
    pub fn create(
        &mut self,
        table: &TemplateTable,
        items: &[Item],
        pattern: u8,
        actions: &[Action],
        action: u8,
        user_data: u64,
    ) -> Result<Flow, FlowError> {
        let (patterns, action_templates) = table.templates();
        if !table.is_of(&self.port) || usize::from(pattern) >= patterns || usize::from(action) >= action_templates {
            return Err(FlowError::handle("table of another port, or it has no such template"));
        }
        let (mut items_memory, mut actions_memory) = (Items::new(), Actions::new());
        let (items, actions) = (items_memory.encode(items)?, actions_memory.encode(actions)?);
        let raw = call_for(|error| {
            // SAFETY: port, queue, table and template indices are valid; the arrays end with END and live through the
            // call, which copies what it keeps.
            unsafe {
                ffi::rte_flow_async_create(
                    self.port.id().0,
                    self.index.into(),
                    &postponed(),
                    table.raw(),
                    items,
                    pattern,
                    actions,
                    action,
                    user_data as *mut c_void,
                    error,
                )
            }
        })?;
        Ok(Flow::new(raw, &self.port, true))
    }

    /// Enters the end of a rule of [`FlowQueue::create`]; it forwards until the completion says otherwise.
    ///
    /// # Errors
    /// With the rule itself; [`super::FlowErrorKind::Full`] when the queue is: pull and try again.
    pub fn destroy(&mut self, flow: Flow, user_data: u64) -> Result<(), DestroyError> {
        let entered = flow.raw_on(&self.port, Some(true)).and_then(|raw| {
            // SAFETY: port and queue are valid and the rule is the port's; the handle is consumed if this succeeds.
            call(|error| unsafe {
                let user_data = user_data as *mut c_void;
                ffi::rte_flow_async_destroy(self.port.id().0, self.index.into(), &postponed(), raw, user_data, error)
            })
        });
        entered.map_err(|error| DestroyError { flow, error })
    }

    /// Hands what was entered to the device.
    ///
    /// # Errors
    /// Why the device refuses.
    pub fn push(&mut self) -> Result<(), FlowError> {
        // SAFETY: port and queue are valid.
        call(|error| unsafe { ffi::rte_flow_push(self.port.id().0, self.index.into(), error) })
    }

    /// Appends finished operations to `out`, at most 64, and returns how many.
    ///
    /// # Errors
    /// Why the device does not tell.
    pub fn pull(&mut self, out: &mut Vec<Completion>) -> Result<usize, FlowError> {
        let mut results = [ffi::rte_flow_op_result::default(); 64];
        let mut error = ffi::rte_flow_error::default();
        // SAFETY: port and queue are valid; DPDK writes at most as many results as there are.
        let count = unsafe {
            let (results, length) = (results.as_mut_ptr(), results.len() as u16);
            ffi::rte_flow_pull(self.port.id().0, self.index.into(), results, length, &mut error)
        };
        if count < 0 {
            return Err(FlowError::from_raw(&error, Errno::of(count)));
        }
        let finished = &results[..(count as usize).min(results.len())];
        out.extend(finished.iter().map(|result| Completion {
            user_data: result.user_data as u64,
            ok: result.status == ffi::rte_flow_op_status::RTE_FLOW_OP_SUCCESS,
        }));
        Ok(finished.len())
    }
}

fn postponed() -> ffi::rte_flow_op_attr {
    let mut attr = ffi::rte_flow_op_attr::default();
    attr.set_postpone(1);
    attr
}
