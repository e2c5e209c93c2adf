//! Templates: the shapes of rules, told to the device once.

use std::ptr::NonNull;
use std::sync::Arc;

use super::encode::{Actions, Items};
use super::{Attr, FlowError, Item, TemplateAction, call, call_for};
use crate::ffi;
use crate::port::{Held, Port, Started};

macro_rules! owned_handle {
    ($name:ident, $raw:ident, $destroy:ident, $what:literal, $($doc:literal),+) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone)]
        pub struct $name(Arc<Inner<ffi::$raw>>);

        impl $name {
            pub(super) fn raw(&self) -> *mut ffi::$raw {
                self.0.raw.as_ptr()
            }
        }

        impl Release for ffi::$raw {
            fn release(port: &Held, raw: NonNull<Self>) {
                // SAFETY: the port is ours, and the last handle of the object is going.
                let done = call(|error| unsafe { ffi::$destroy(port.id().0, raw.as_ptr(), error) });
                if let Err(error) = done {
                    tracing::warn!(port = port.id().0, %error, concat!($what, " was not destroyed"));
                }
            }
        }
    };
}

/// An object of a port's flow engine, destroyed when dropped.
#[derive(Debug)]
struct Inner<T: Release> {
    raw: NonNull<T>,
    port: Arc<Held>,
    /// Templates that a table is made of: they live as long as it does.
    parts: (Vec<PatternTemplate>, Vec<ActionsTemplate>),
}

trait Release: Sized {
    fn release(port: &Held, raw: NonNull<Self>);
}

// SAFETY: the handle is a number to us; DPDK's flow calls take it from any thread.
unsafe impl<T: Release> Send for Inner<T> {}
// SAFETY: as above.
unsafe impl<T: Release> Sync for Inner<T> {}

impl<T: Release> Drop for Inner<T> {
    fn drop(&mut self) {
        T::release(&self.port, self.raw);
    }
}

owned_handle!(
    PatternTemplate,
    rte_flow_pattern_template,
    rte_flow_pattern_template_destroy,
    "pattern template",
    "The shape of a pattern: which layers, and which of their bits count."
);
owned_handle!(
    ActionsTemplate,
    rte_flow_actions_template,
    rte_flow_actions_template_destroy,
    "actions template",
    "The shape of a list of actions: which, and which of their values are the same for all rules."
);
owned_handle!(
    TemplateTable,
    rte_flow_template_table,
    rte_flow_template_table_destroy,
    "template table",
    "A table for rules of given shapes. Its rules are to be destroyed before its last handle is dropped."
);

/// Where a table stands and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TableAttr {
    /// Group, priority and direction of its rules.
    pub attr: Attr,
    /// Rules that it holds, at most.
    pub rules: u32,
}

impl PatternTemplate {
    /// Tells the device a shape. Of `items`, the masks count.
    ///
    /// # Errors
    /// Why the device refuses it.
    pub fn create(port: &Port<Started>, attr: &Attr, items: &[Item]) -> Result<Self, FlowError> {
        let mut raw_attr = ffi::rte_flow_pattern_template_attr::default();
        raw_attr.set_relaxed_matching(1);
        raw_attr.set_ingress(attr.ingress.into());
        raw_attr.set_egress(attr.egress.into());
        raw_attr.set_transfer(attr.transfer.into());
        let mut memory = Items::new();
        let items = memory.encode(items)?;
        let id = port.id().0;
        // SAFETY: the port is ours; the array ends with END and lives through the call.
        let raw = call_for(|error| unsafe { ffi::rte_flow_pattern_template_create(id, &raw_attr, items, error) })?;
        Ok(Self(Arc::new(Inner {
            raw,
            port: port.held().clone(),
            parts: Default::default(),
        })))
    }
}

impl ActionsTemplate {
    /// Tells the device a shape.
    ///
    /// # Errors
    /// Why the device refuses it.
    pub fn create(port: &Port<Started>, attr: &Attr, actions: &[TemplateAction]) -> Result<Self, FlowError> {
        let mut raw_attr = ffi::rte_flow_actions_template_attr::default();
        raw_attr.set_ingress(attr.ingress.into());
        raw_attr.set_egress(attr.egress.into());
        raw_attr.set_transfer(attr.transfer.into());
        let mut memory = Actions::new();
        let (values, masks) = memory.encode_template(actions)?;
        let id = port.id().0;
        // SAFETY: the port is ours; both arrays end with END and live through the call.
        let raw =
            call_for(|error| unsafe { ffi::rte_flow_actions_template_create(id, &raw_attr, values, masks, error) })?;
        Ok(Self(Arc::new(Inner {
            raw,
            port: port.held().clone(),
            parts: Default::default(),
        })))
    }
}

impl TemplateTable {
    /// Makes a table of these shapes; rules name them by their places in the lists.
    ///
    /// # Errors
    /// Why the device refuses it.
    pub fn create(
        port: &Port<Started>,
        attr: &TableAttr,
        patterns: &[PatternTemplate],
        actions: &[ActionsTemplate],
    ) -> Result<Self, FlowError> {
        let strange = |owner: &Arc<Held>| !Arc::ptr_eq(owner, port.held());
        if patterns.iter().any(|t| strange(&t.0.port)) || actions.iter().any(|t| strange(&t.0.port)) {
            return Err(FlowError::handle("template of another port"));
        }
        let (Ok(pattern_count), Ok(action_count)) = (u8::try_from(patterns.len()), u8::try_from(actions.len())) else {
            return Err(FlowError::handle("more than 255 templates"));
        };
        let raw_attr = ffi::rte_flow_template_table_attr {
            flow_attr: attr.attr.to_raw(),
            nb_flows: attr.rules,
        };
        let mut raw_patterns: Vec<_> = patterns.iter().map(PatternTemplate::raw).collect();
        let mut raw_actions: Vec<_> = actions.iter().map(ActionsTemplate::raw).collect();
        // SAFETY: the port and the templates are ours; the arrays have the lengths that DPDK is told.
        let raw = call_for(|error| unsafe {
            ffi::rte_flow_template_table_create(
                port.id().0,
                &raw_attr,
                raw_patterns.as_mut_ptr(),
                pattern_count,
                raw_actions.as_mut_ptr(),
                action_count,
                error,
            )
        })?;
        let parts = (patterns.to_vec(), actions.to_vec());
        Ok(Self(Arc::new(Inner {
            raw,
            port: port.held().clone(),
            parts,
        })))
    }

    pub(super) fn is_of(&self, port: &Arc<Held>) -> bool {
        Arc::ptr_eq(&self.0.port, port)
    }

    /// How many pattern and actions templates it has.
    pub fn templates(&self) -> (usize, usize) {
        (self.0.parts.0.len(), self.0.parts.1.len())
    }
}
