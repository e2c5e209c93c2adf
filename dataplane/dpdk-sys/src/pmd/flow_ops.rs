//! DPDK's flow operations, adapted to [`FlowDriver`].

use std::ffi::{CString, c_void};
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::ptr;
use std::slice;

use super::driver::{Completions, Driver, FlowDriver, TemplateHandles};
use super::ops::driver;
use crate::ffi;
use crate::flow::decode::{self, Actions, Items, TemplateActions};
use crate::flow::{Attr, FlowConfig, FlowError, TableAttr};

/// DPDK's table for the flow engine of `D`.
pub(super) fn table<D: Driver>() -> *const ffi::rte_flow_ops {
    &Operations::<D>::TABLE
}

struct Operations<D>(std::marker::PhantomData<D>);

impl<D: Driver> Operations<D> {
    const TABLE: ffi::rte_flow_ops = {
        // SAFETY: every field is an optional function, for which zero is none.
        let mut table: ffi::rte_flow_ops = unsafe { std::mem::zeroed() };
        table.validate = Some(validate::<D>);
        table.create = Some(create::<D>);
        table.destroy = Some(destroy::<D>);
        table.flush = Some(flush::<D>);
        table.query = Some(query::<D>);
        table.get_aged_flows = Some(get_aged_flows::<D>);
        table.info_get = Some(info_get::<D>);
        table.configure = Some(configure::<D>);
        table.pattern_template_create = Some(pattern_template_create::<D>);
        table.pattern_template_destroy = Some(pattern_template_destroy::<D>);
        table.actions_template_create = Some(actions_template_create::<D>);
        table.actions_template_destroy = Some(actions_template_destroy::<D>);
        table.template_table_create = Some(table_create::<D>);
        table.template_table_destroy = Some(table_destroy::<D>);
        table.async_create = Some(async_create::<D>);
        table.async_destroy = Some(async_destroy::<D>);
        table.push = Some(push::<D>);
        table.pull = Some(pull::<D>);
        table
    };
}

thread_local! {
    /// The last refusal's words: DPDK's callers read them by a pointer until the thread's next refusal.
    static MESSAGE: std::cell::RefCell<CString> = std::cell::RefCell::new(CString::default());
}

/// Tells DPDK of a refusal; returns the negative number for it.
fn refuse(error: *mut ffi::rte_flow_error, why: FlowError) -> i32 {
    let message = CString::new(why.message.as_bytes()).unwrap_or_default();
    let errno = why.errno.0.abs().max(1);
    MESSAGE.with_borrow_mut(|kept| {
        *kept = message;
        // SAFETY: DPDK copies the values; the message stays until this thread's next refusal.
        unsafe { ffi::rte_flow_error_set(error, errno, why.raw_kind(), ptr::null(), kept.as_ptr()) }
    })
}

/// Runs a function of the flow engine that returns nothing.
///
/// # Safety
/// `port` is of a driver `D`.
unsafe fn run<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    error: *mut ffi::rte_flow_error,
    f: impl FnOnce(&dyn FlowDriver) -> Result<(), FlowError>,
) -> i32 {
    // SAFETY: the caller's promise.
    let flow = unsafe { driver::<D>(port) }.flow();
    flow.ok_or_else(|| FlowError::unsupported("no flow engine"))
        .and_then(f)
        .map_or_else(|why| refuse(error, why), |()| 0)
}

/// Runs a function of the flow engine that returns a handle.
///
/// # Safety
/// `port` is of a driver `D`.
unsafe fn make<D: Driver, T>(
    port: *mut ffi::rte_eth_dev,
    error: *mut ffi::rte_flow_error,
    f: impl FnOnce(&dyn FlowDriver) -> Result<NonZeroU64, FlowError>,
) -> *mut T {
    let mut made = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe {
        run::<D>(port, error, |flow| {
            made = f(flow)?.get() as *mut T;
            Ok(())
        });
    }
    made
}

/// A handle that the driver gave out.
fn handle<T>(raw: *const T) -> Result<NonZeroU64, FlowError> {
    NonZeroU64::new(raw as u64).ok_or_else(|| FlowError::handle("no handle"))
}

/// # Safety
/// Both are arrays that END ends, or null; `attr` is valid or null.
unsafe fn rule(
    attr: *const ffi::rte_flow_attr,
    pattern: *const ffi::rte_flow_item,
    list: *const ffi::rte_flow_action,
    f: impl FnOnce(&Attr, &Items, &Actions) -> Result<NonZeroU64, FlowError>,
) -> Result<NonZeroU64, FlowError> {
    let (mut items, mut actions) = (Items::new(), Actions::new());
    // SAFETY: the caller's promise.
    unsafe {
        let attr = attr.as_ref().map(Attr::from_raw).unwrap_or_default();
        decode::items(pattern, &mut items)?;
        decode::actions(list, &mut actions)?;
        f(&attr, &items, &actions)
    }
}

// SAFETY of the operations below: DPDK calls them with a port of a driver `D`, whose table they are in, and with
// arguments as rte_flow.h says: arrays end with END or have the length given, handles are those of this driver.

unsafe extern "C" fn validate<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    attr: *const ffi::rte_flow_attr,
    items: *const ffi::rte_flow_item,
    actions: *const ffi::rte_flow_action,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above.
    unsafe {
        run::<D>(port, error, |flow| {
            let checked = |attr: &Attr, items: &Items, actions: &Actions| {
                flow.validate(attr, items, actions).map(|()| NonZeroU64::MIN)
            };
            rule(attr, items, actions, checked).map(|_| ())
        })
    }
}

unsafe extern "C" fn create<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    attr: *const ffi::rte_flow_attr,
    items: *const ffi::rte_flow_item,
    actions: *const ffi::rte_flow_action,
    error: *mut ffi::rte_flow_error,
) -> *mut ffi::rte_flow {
    // SAFETY: see above.
    unsafe {
        make::<D, _>(port, error, |flow| {
            rule(attr, items, actions, |attr, items, actions| {
                flow.create(attr, items, actions)
            })
        })
    }
}

unsafe extern "C" fn destroy<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    raw: *mut ffi::rte_flow,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above.
    unsafe { run::<D>(port, error, |flow| flow.destroy(handle(raw)?)) }
}

unsafe extern "C" fn flush<D: Driver>(port: *mut ffi::rte_eth_dev, error: *mut ffi::rte_flow_error) -> i32 {
    // SAFETY: see above.
    unsafe { run::<D>(port, error, |flow| flow.flush()) }
}

unsafe extern "C" fn query<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    raw: *mut ffi::rte_flow,
    action: *const ffi::rte_flow_action,
    data: *mut c_void,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above; `data` is the query structure of the action's type.
    unsafe {
        run::<D>(port, error, |flow| match (*action).type_ {
            ffi::rte_flow_action_type::RTE_FLOW_ACTION_TYPE_COUNT => {
                let out = &mut *data.cast::<ffi::rte_flow_query_count>();
                let count = flow.query_count(handle(raw)?, out.reset() != 0)?;
                out.set_hits_set(count.packets.is_some().into());
                out.set_bytes_set(count.bytes.is_some().into());
                out.hits = count.packets.unwrap_or(0);
                out.bytes = count.bytes.unwrap_or(0);
                Ok(())
            }
            ffi::rte_flow_action_type::RTE_FLOW_ACTION_TYPE_AGE => {
                let out = &mut *data.cast::<ffi::rte_flow_query_age>();
                let age = flow.query_age(handle(raw)?)?;
                out.set_aged(age.aged.into());
                out.set_sec_since_last_hit_valid(age.idle_seconds.is_some().into());
                out.set_sec_since_last_hit(age.idle_seconds.unwrap_or(0).min(0x00ff_ffff));
                Ok(())
            }
            other => Err(FlowError::unsupported(format!("action type {other} cannot be queried"))),
        })
    }
}

unsafe extern "C" fn get_aged_flows<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    contexts: *mut *mut c_void,
    places: u32,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    let max = (places > 0 && !contexts.is_null()).then_some(places as usize);
    let mut count = 0;
    // SAFETY: see above; `contexts` has `places` places.
    let status = unsafe {
        run::<D>(port, error, |flow| {
            let mut aged = Vec::new();
            count = flow.aged(max, &mut aged)?;
            if let Some(max) = max {
                count = aged.len().min(max);
                for (index, context) in aged.iter().take(max).enumerate() {
                    *contexts.add(index) = *context as *mut c_void;
                }
            }
            Ok(())
        })
    };
    if status < 0 { status } else { count as i32 }
}

unsafe extern "C" fn info_get<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    info: *mut ffi::rte_flow_port_info,
    queue: *mut ffi::rte_flow_queue_info,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above; DPDK has zeroed both structures. No limits of the framework's own.
    unsafe {
        run::<D>(port, error, |_| {
            if let Some(info) = info.as_mut() {
                info.max_nb_queues = u32::from(u16::MAX);
                info.max_nb_counters = u32::MAX;
                info.max_nb_aging_objects = u32::MAX;
            }
            if let Some(queue) = queue.as_mut() {
                queue.max_size = u32::MAX;
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn configure<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    attr: *const ffi::rte_flow_port_attr,
    queues: u16,
    queue_attr: *mut *const ffi::rte_flow_queue_attr,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above; there are `queues` queue attributes.
    unsafe {
        run::<D>(port, error, |flow| {
            let sizes = (0..usize::from(queues))
                .filter_map(|i| (*queue_attr.add(i)).as_ref())
                .map(|attr| attr.size);
            flow.configure(&FlowConfig {
                queues,
                queue_size: sizes.max().unwrap_or(0),
                counters: (*attr).nb_counters,
                aging_objects: (*attr).nb_aging_objects,
            })
        })
    }
}

unsafe extern "C" fn pattern_template_create<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    attr: *const ffi::rte_flow_pattern_template_attr,
    pattern: *const ffi::rte_flow_item,
    error: *mut ffi::rte_flow_error,
) -> *mut ffi::rte_flow_pattern_template {
    // SAFETY: see above.
    unsafe {
        make::<D, _>(port, error, |flow| {
            let (ingress, egress) = ((*attr).ingress() != 0, (*attr).egress() != 0);
            let attr = Attr {
                ingress,
                egress,
                transfer: (*attr).transfer() != 0,
                ..Attr::default()
            };
            let mut items = Items::new();
            decode::items(pattern, &mut items)?;
            flow.pattern_template_create(&attr, &items)
        })
    }
}

unsafe extern "C" fn pattern_template_destroy<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    raw: *mut ffi::rte_flow_pattern_template,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above.
    unsafe { run::<D>(port, error, |flow| flow.pattern_template_destroy(handle(raw)?)) }
}

unsafe extern "C" fn actions_template_create<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    attr: *const ffi::rte_flow_actions_template_attr,
    values: *const ffi::rte_flow_action,
    masks: *const ffi::rte_flow_action,
    error: *mut ffi::rte_flow_error,
) -> *mut ffi::rte_flow_actions_template {
    // SAFETY: see above.
    unsafe {
        make::<D, _>(port, error, |flow| {
            let (ingress, egress) = ((*attr).ingress() != 0, (*attr).egress() != 0);
            let attr = Attr {
                ingress,
                egress,
                transfer: (*attr).transfer() != 0,
                ..Attr::default()
            };
            let mut actions = TemplateActions::new();
            decode::template_actions(values, masks, &mut actions)?;
            flow.actions_template_create(&attr, &actions)
        })
    }
}

unsafe extern "C" fn actions_template_destroy<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    raw: *mut ffi::rte_flow_actions_template,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above.
    unsafe { run::<D>(port, error, |flow| flow.actions_template_destroy(handle(raw)?)) }
}

unsafe extern "C" fn table_create<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    attr: *const ffi::rte_flow_template_table_attr,
    patterns: *mut *mut ffi::rte_flow_pattern_template,
    pattern_count: u8,
    actions: *mut *mut ffi::rte_flow_actions_template,
    action_count: u8,
    error: *mut ffi::rte_flow_error,
) -> *mut ffi::rte_flow_template_table {
    // SAFETY: see above; the arrays have the lengths given.
    unsafe {
        make::<D, _>(port, error, |flow| {
            let patterns = slice::from_raw_parts(patterns, pattern_count.into());
            let patterns = patterns.iter().map(|raw| handle(*raw)).collect::<Result<Vec<_>, _>>()?;
            let actions = slice::from_raw_parts(actions, action_count.into());
            let actions = actions.iter().map(|raw| handle(*raw)).collect::<Result<Vec<_>, _>>()?;
            let attr = TableAttr {
                attr: Attr::from_raw(&(*attr).flow_attr),
                rules: (*attr).nb_flows,
            };
            flow.table_create(
                &attr,
                TemplateHandles {
                    patterns: &patterns,
                    actions: &actions,
                },
            )
        })
    }
}

unsafe extern "C" fn table_destroy<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    raw: *mut ffi::rte_flow_template_table,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above.
    unsafe { run::<D>(port, error, |flow| flow.table_destroy(handle(raw)?)) }
}

/// # Safety
/// `attr` is valid or null.
unsafe fn postpone(attr: *const ffi::rte_flow_op_attr) -> bool {
    // SAFETY: the caller's promise.
    unsafe { attr.as_ref() }.is_some_and(|attr| attr.postpone() != 0)
}

unsafe extern "C" fn async_create<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    queue: u32,
    attr: *const ffi::rte_flow_op_attr,
    table: *mut ffi::rte_flow_template_table,
    pattern: *const ffi::rte_flow_item,
    pattern_index: u8,
    list: *const ffi::rte_flow_action,
    actions_index: u8,
    user_data: *mut c_void,
    error: *mut ffi::rte_flow_error,
) -> *mut ffi::rte_flow {
    // SAFETY: see above.
    unsafe {
        make::<D, _>(port, error, |flow| {
            let (table, postpone) = (handle(table)?, postpone(attr));
            rule(ptr::null(), pattern, list, |_, items, actions| {
                let user_data = user_data as u64;
                flow.async_create(
                    queue,
                    postpone,
                    table,
                    items,
                    pattern_index,
                    actions,
                    actions_index,
                    user_data,
                )
            })
        })
    }
}

unsafe extern "C" fn async_destroy<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    queue: u32,
    attr: *const ffi::rte_flow_op_attr,
    raw: *mut ffi::rte_flow,
    user_data: *mut c_void,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above.
    unsafe {
        run::<D>(port, error, |flow| {
            flow.async_destroy(queue, postpone(attr), handle(raw)?, user_data as u64)
        })
    }
}

unsafe extern "C" fn push<D: Driver>(port: *mut ffi::rte_eth_dev, queue: u32, error: *mut ffi::rte_flow_error) -> i32 {
    // SAFETY: see above.
    unsafe { run::<D>(port, error, |flow| flow.push(queue)) }
}

unsafe extern "C" fn pull<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    queue: u32,
    results: *mut ffi::rte_flow_op_result,
    places: u16,
    error: *mut ffi::rte_flow_error,
) -> i32 {
    // SAFETY: see above; `results` has `places` places, which need not be initialised.
    unsafe {
        let results = slice::from_raw_parts_mut(results.cast::<MaybeUninit<_>>(), places.into());
        let mut out = Completions::new(results);
        let status = run::<D>(port, error, |flow| flow.pull(queue, &mut out));
        if status < 0 { status } else { out.filled() as i32 }
    }
}
