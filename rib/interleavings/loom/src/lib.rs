//! loom as `left-right` sees it, with one difference: its fences are sequentially consistent.
//!
//! `left-right` publishes with `fence(SeqCst)`, but under loom asks for `fence(Acquire)`, since loom once had no other
//! (its `src/sync.rs`). With the weaker one the model allows what the program forbids: a reader and the writer that
//! both miss what the other has just written. loom has the stronger fence since; so here every fence is that one.
#![forbid(unsafe_code)]

pub use loom_model::{model, thread};

/// As loom's.
pub mod sync {
    pub use loom_model::sync::{Arc, Mutex, MutexGuard};

    /// As loom's, but for the fence.
    pub mod atomic {
        pub use loom_model::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

        /// A sequentially consistent fence, whatever is asked for.
        pub fn fence(_: Ordering) {
            loom_model::sync::atomic::fence(Ordering::SeqCst);
        }
    }
}
