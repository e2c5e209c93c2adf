//! Threads that DPDK knows, and the cores that they run on.

use std::marker::PhantomData;

use crate::error::{Errno, Error};
use crate::ffi;
use crate::log;

/// The calling thread is registered with DPDK while this lives. It cannot be sent to another thread.
#[derive(Debug)]
pub struct WorkerThread {
    /// False for EAL's own main thread, which stays registered.
    ours: bool,
    _this_thread: PhantomData<*const ()>,
}

impl WorkerThread {
    pub(crate) fn register() -> Result<Self, Error> {
        // SAFETY: reads a thread-local of the calling thread.
        if unsafe { ffi::tp_lcore_id() } != ffi::LCORE_ID_ANY {
            return Ok(Self {
                ours: false,
                _this_thread: PhantomData,
            });
        }
        let mark = log::mark();
        // SAFETY: EAL is initialised (`Eal::register_thread` is the only caller) and this thread is not registered.
        if unsafe { ffi::rte_thread_register() } != 0 {
            return Err(Error::Register {
                errno: Errno::last(),
                log: log::since(mark),
            });
        }
        Ok(Self {
            ours: true,
            _this_thread: PhantomData,
        })
    }

    /// DPDK's number for this thread.
    pub fn lcore(&self) -> u32 {
        // SAFETY: reads a thread-local of the calling thread.
        unsafe { ffi::tp_lcore_id() }
    }

    /// Binds this thread to one core.
    ///
    /// # Errors
    /// [`Error::Pin`] if the core does not exist or the process may not use it.
    pub fn pin_to_core(&self, core: u32) -> Result<(), Error> {
        pin_to_core(core)
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        if self.ours {
            // SAFETY: this thread was registered by `register`, and the guard cannot have left it.
            unsafe { ffi::rte_thread_unregister() };
        }
    }
}

/// Binds the calling thread to one core.
///
/// # Errors
/// [`Error::Pin`] if the core does not exist or the process may not use it.
pub fn pin_to_core(core: u32) -> Result<(), Error> {
    if core as usize >= libc::CPU_SETSIZE as usize {
        return Err(Error::Pin {
            core,
            errno: Errno(libc::EINVAL),
        });
    }
    // SAFETY: a CPU set is a bit field for which zero is a value; `core` is within it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core as usize, &mut set);
        set
    };
    if set_affinity(&set) {
        Ok(())
    } else {
        Err(Error::Pin {
            core,
            errno: os_errno(),
        })
    }
}

fn os_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Cores of the calling thread.
pub(crate) fn affinity() -> Option<libc::cpu_set_t> {
    // SAFETY: zero is a value of a CPU set, and the kernel is told its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0).then_some(set)
    }
}

/// Gives the calling thread these cores; false if the kernel refuses.
pub(crate) fn set_affinity(set: &libc::cpu_set_t) -> bool {
    // SAFETY: the kernel reads as many bytes as the set has.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) == 0 }
}

/// Lowest core of a set.
pub(crate) fn first_core(set: &libc::cpu_set_t) -> Option<u32> {
    // SAFETY: the index is below the set's size.
    (0..libc::CPU_SETSIZE as usize)
        .find(|core| unsafe { libc::CPU_ISSET(*core, set) })
        .map(|core| core as u32)
}
