//! Packet pools.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrayvec::ArrayVec;

use crate::error::{Errno, Error, c_string};
use crate::mbuf::Mbuf;
use crate::{Burst, Eal, MAX_BURST, ffi, log};

/// Room in front of a packet when it is received or allocated, for encapsulation.
pub const HEADROOM: usize = ffi::RTE_PKTMBUF_HEADROOM as usize;

/// Buffer size that holds a full Ethernet frame: 2048 bytes of packet after [`HEADROOM`].
pub const DEFAULT_DATA_ROOM: u16 = ffi::RTE_MBUF_DEFAULT_BUF_SIZE as u16;

/// A pool of packet buffers: a cheap handle. The memory is given back when the last handle is gone, those of the
/// ports that receive into it included.
#[derive(Debug, Clone)]
pub struct Mempool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    raw: NonNull<ffi::rte_mempool>,
    /// False for a pool that a C program made: its to free.
    ours: bool,
}

// SAFETY: DPDK's pools are multi-producer and multi-consumer; per-thread caches are found by DPDK's own thread id.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// Pools made by [`Mempool::new`], to find the handle of a raw pool again.
static POOLS: Mutex<Option<HashMap<usize, Weak<Pool>>>> = Mutex::new(None);

impl Mempool {
    /// A pool of `count` buffers with `data_room` bytes each, [`HEADROOM`] included, and up to `cache` buffers kept
    /// by each registered thread (at most 512, and at most two thirds of `count`).
    ///
    /// # Errors
    /// [`Error::Mempool`] if the name is taken, the cache too large or the memory used up.
    pub fn new(_eal: &Eal, name: &str, count: u32, cache: u32, data_room: u16) -> Result<Self, Error> {
        let c_name = c_string("packet pool", name)?;
        let mark = log::mark();
        // SAFETY: EAL is initialised; DPDK copies the name and checks the numbers. -1 is SOCKET_ID_ANY.
        let raw = unsafe { ffi::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, data_room, -1) };
        let Some(raw) = NonNull::new(raw) else {
            let errno = Errno::last();
            let remedy = match errno.0 {
                libc::EEXIST => "choose another name: this one is taken",
                libc::EINVAL => "give it a count above 0 and a cache of at most 512 and two thirds of the count",
                libc::ENAMETOOLONG => "choose a name of at most 21 bytes",
                _ => "give DPDK more memory, or make the pool smaller",
            };
            return Err(Error::Mempool {
                name: name.to_owned(),
                count,
                errno,
                remedy,
                log: log::since(mark),
            });
        };
        let pool = Arc::new(Pool { raw, ours: true });
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools
            .get_or_insert_default()
            .insert(raw.as_ptr() as usize, Arc::downgrade(&pool));
        Ok(Self(pool))
    }

    /// The handle of a raw pool: the one that [`Mempool::new`] made, or a borrowed one of a C program's.
    ///
    /// # Safety
    /// `raw` is a live packet pool and outlives the handle if this crate did not make it.
    pub(crate) unsafe fn from_raw(raw: NonNull<ffi::rte_mempool>) -> Self {
        let pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pools
            .as_ref()
            .and_then(|pools| pools.get(&(raw.as_ptr() as usize))?.upgrade());
        Self(known.unwrap_or_else(|| Arc::new(Pool { raw, ours: false })))
    }

    pub(crate) fn raw(&self) -> *mut ffi::rte_mempool {
        self.0.raw.as_ptr()
    }

    /// An empty packet with [`HEADROOM`] in front; `None` when the pool is used up.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is live; what comes back is null or a fresh buffer that nobody else has.
        unsafe { NonNull::new(ffi::tp_pktmbuf_alloc(self.raw())).map(|raw| Mbuf::from_raw(raw)) }
    }

    /// Appends `count` empty packets to `out`: all of them, or none (and false) if the pool or `out` lacks room.
    #[inline]
    pub fn alloc_bulk(&self, out: &mut Burst, count: usize) -> bool {
        if out.remaining_capacity() < count {
            return false;
        }
        let length = out.len();
        // SAFETY: there is room for `count` pointers behind the first `length`; `Mbuf` is a transparent pointer; the
        // length is raised only over what DPDK has written.
        unsafe {
            let spare = out.as_mut_ptr().add(length).cast::<*mut ffi::rte_mbuf>();
            let done = ffi::tp_pktmbuf_alloc_bulk(self.raw(), spare, count as u32) == 0;
            if done {
                out.set_len(length + count);
            }
            done
        }
    }

    /// Buffers that can be allocated now. Walks every thread's cache: not for the packet path.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is live.
        unsafe { ffi::rte_mempool_avail_count(self.raw()) }
    }

    /// Buffers that somebody holds now. Walks every thread's cache: not for the packet path.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is live.
        unsafe { ffi::rte_mempool_in_use_count(self.raw()) }
    }

    /// Buffers in all.
    pub fn size(&self) -> u32 {
        // SAFETY: the pool is live and its size never changes.
        unsafe { (*self.raw()).size }
    }
}

impl PartialEq for Mempool {
    fn eq(&self, other: &Self) -> bool {
        self.0.raw == other.0.raw
    }
}

impl Eq for Mempool {}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pools) = pools.as_mut() {
            pools.remove(&(self.raw.as_ptr() as usize));
        }
        // SAFETY: the pool is live until the call below.
        let in_use = unsafe { ffi::rte_mempool_in_use_count(self.raw.as_ptr()) };
        if in_use > 0 {
            tracing::warn!(
                in_use,
                "packet pool outlived by its packets; its memory stays allocated"
            );
            return;
        }
        // SAFETY: this was the last handle and every buffer is back, so nobody can reach the pool any more. A thread
        // that counts as having given its last buffer back has left the pool but for the return from that call.
        unsafe { ffi::rte_mempool_free(self.raw.as_ptr()) };
    }
}

/// Takes `packets` back to their pools, in as few operations as there are runs of one pool.
pub(crate) fn free_bulk(packets: &mut ArrayVec<Mbuf, MAX_BURST>) {
    let count = packets.len();
    // SAFETY: the array gives up its packets before DPDK takes them, so each is freed once; `Mbuf` is a transparent
    // pointer.
    unsafe {
        packets.set_len(0);
        ffi::tp_pktmbuf_free_bulk(packets.as_mut_ptr().cast(), count as u32);
    }
}
