//! DPDK's log: printed to stderr, and the last lines kept so that an error can quote them.

use std::collections::VecDeque;
use std::ffi::c_char;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::error::Quote;
use crate::ffi;

/// Lines kept for quoting.
const KEPT: usize = 16;

/// How much DPDK logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Errors alone.
    Error,
    /// Errors and warnings.
    #[default]
    Warning,
    /// Also conditions worth a look.
    Notice,
    /// Also the course of things.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    /// DPDK's number for it.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Error => ffi::RTE_LOG_ERR,
            Self::Warning => ffi::RTE_LOG_WARNING,
            Self::Notice => ffi::RTE_LOG_NOTICE,
            Self::Info => ffi::RTE_LOG_INFO,
            Self::Debug => ffi::RTE_LOG_DEBUG,
        }
    }
}

struct Recent {
    lines: VecDeque<String>,
    /// Number of lines ever seen.
    seen: u64,
}

static RECENT: Mutex<Recent> = Mutex::new(Recent {
    lines: VecDeque::new(),
    seen: 0,
});

/// A moment in the log; what comes after it can be quoted.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

/// Directs DPDK's log here. To be called before EAL starts.
pub(crate) fn capture() {
    // SAFETY: `sink` has the signature that the shim declares and is valid for the life of the process.
    let status = unsafe { ffi::tp_log_to(Some(sink)) };
    if status != 0 {
        tracing::warn!(status, "DPDK's log cannot be captured; errors will not quote it");
    }
}

/// The present moment.
pub(crate) fn mark() -> Mark {
    Mark(RECENT.lock().unwrap_or_else(PoisonError::into_inner).seen)
}

/// What was logged since `mark`, as far as it is kept.
pub(crate) fn since(mark: Mark) -> Quote {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let new = usize::try_from(recent.seen - mark.0)
        .unwrap_or(KEPT)
        .min(recent.lines.len());
    Quote(recent.lines.iter().skip(recent.lines.len() - new).cloned().collect())
}

unsafe extern "C" fn sink(text: *const c_char, length: usize) {
    // SAFETY: stdio hands over `length` initialised bytes at `text`, for the duration of this call.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    // A closed stderr is no reason to fail.
    let _ = std::io::stderr().write_all(bytes);
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    for line in String::from_utf8_lossy(bytes)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if recent.lines.len() == KEPT {
            recent.lines.pop_front();
        }
        recent.lines.push_back(line.to_owned());
        recent.seen += 1;
    }
}
