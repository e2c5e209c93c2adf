//! What readers and the writer share besides `left-right`: loom's atomics where every interleaving is tried
//! (`rib/interleavings`), the standard library's everywhere else.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

/// Tells loom of each read and each change of a copy of the tables: it ends the run if the two are not ordered. Nothing
/// without loom.
#[cfg(not(loom))]
#[derive(Clone, Default)]
pub(crate) struct Witness(());

#[cfg(not(loom))]
impl Witness {
    #[inline(always)]
    pub(crate) fn read(&self) {}
    #[inline(always)]
    pub(crate) fn changed(&mut self) {}
}

/// As without loom, but it does tell.
#[cfg(loom)]
pub(crate) struct Witness(AtomicU64);

#[cfg(loom)]
impl Witness {
    pub(crate) fn read(&self) {
        self.0.load(Ordering::Relaxed);
    }
    pub(crate) fn changed(&mut self) {
        self.0.with_mut(|changes| *changes += 1);
    }
}

#[cfg(loom)]
impl Default for Witness {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

#[cfg(loom)]
impl Clone for Witness {
    /// Another copy of the tables has another one.
    fn clone(&self) -> Self {
        self.read();
        Self::default()
    }
}
