//! Why a rule was refused.

use std::borrow::Cow;
use std::ffi::CStr;

use crate::error::Errno;
use crate::ffi;
use crate::ffi::rte_flow_error_type as raw;

/// What part of a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowErrorKind {
    /// The driver does not say.
    Unspecified,
    /// The handle of a rule, template or table; also one that belongs elsewhere or is gone.
    Handle,
    /// Group, priority or direction.
    Attr,
    /// Number of items, or one of them.
    Item,
    /// Number of actions, or one of them.
    Action,
    /// The state of the device.
    State,
    /// No room: table or queue is full.
    Full,
    /// The device has no such function.
    Unsupported,
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("flow rule refused ({kind:?}): {message}: {errno}")]
pub struct FlowError {
    /// What was refused.
    pub kind: FlowErrorKind,
    /// The driver's reason.
    pub errno: Errno,
    /// The driver's words.
    pub message: Cow<'static, str>,
}

impl FlowError {
    /// A refusal: what drivers return.
    pub fn new(kind: FlowErrorKind, errno: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            errno: Errno(errno),
            message: message.into(),
        }
    }

    /// Table or queue is full: the caller may try again later.
    pub fn full(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FlowErrorKind::Full, libc::ENOSPC, message)
    }

    /// The device cannot do this.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FlowErrorKind::Unsupported, libc::ENOTSUP, message)
    }

    /// A handle that is not known here.
    pub fn handle(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FlowErrorKind::Handle, libc::EINVAL, message)
    }

    /// From what a call of DPDK left behind.
    pub(crate) fn from_raw(error: &ffi::rte_flow_error, errno: Errno) -> Self {
        let kind = match (errno.0, error.type_) {
            (libc::ENOSPC | libc::ENOMEM | libc::EAGAIN, _) => FlowErrorKind::Full,
            (libc::ENOTSUP | libc::ENOSYS, raw::RTE_FLOW_ERROR_TYPE_UNSPECIFIED) => FlowErrorKind::Unsupported,
            (_, raw::RTE_FLOW_ERROR_TYPE_HANDLE) => FlowErrorKind::Handle,
            (_, raw::RTE_FLOW_ERROR_TYPE_ATTR_GROUP..=raw::RTE_FLOW_ERROR_TYPE_ATTR) => FlowErrorKind::Attr,
            (_, raw::RTE_FLOW_ERROR_TYPE_ITEM_NUM..=raw::RTE_FLOW_ERROR_TYPE_ITEM) => FlowErrorKind::Item,
            (_, raw::RTE_FLOW_ERROR_TYPE_ACTION_NUM..=raw::RTE_FLOW_ERROR_TYPE_ACTION) => FlowErrorKind::Action,
            (_, raw::RTE_FLOW_ERROR_TYPE_STATE) => FlowErrorKind::State,
            _ => FlowErrorKind::Unspecified,
        };
        let message = if error.message.is_null() {
            Cow::Borrowed("the driver gives no reason")
        } else {
            // SAFETY: a driver's message is NUL-terminated and valid until its next error on this thread.
            Cow::Owned(unsafe { CStr::from_ptr(error.message) }.to_string_lossy().into_owned())
        };
        Self { kind, errno, message }
    }

    /// The number that DPDK has for the kind.
    pub(crate) const fn raw_kind(&self) -> raw::Type {
        match self.kind {
            FlowErrorKind::Unspecified | FlowErrorKind::Full | FlowErrorKind::Unsupported => {
                raw::RTE_FLOW_ERROR_TYPE_UNSPECIFIED
            }
            FlowErrorKind::Handle => raw::RTE_FLOW_ERROR_TYPE_HANDLE,
            FlowErrorKind::Attr => raw::RTE_FLOW_ERROR_TYPE_ATTR,
            FlowErrorKind::Item => raw::RTE_FLOW_ERROR_TYPE_ITEM,
            FlowErrorKind::Action => raw::RTE_FLOW_ERROR_TYPE_ACTION,
            FlowErrorKind::State => raw::RTE_FLOW_ERROR_TYPE_STATE,
        }
    }
}
