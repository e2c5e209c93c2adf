//! A packet: one buffer of a pool, owned.

use std::ptr::NonNull;
use std::slice;

use crate::mempool::{self, Mempool};
use crate::port::PortId;
use crate::{Burst, ffi};

/// A packet buffer that is ours alone. Dropping it gives it back to its pool, so it is freed once.
///
/// Everything here reads and writes the buffer's own fields: no call crosses into C except to free.
#[repr(transparent)]
pub struct Mbuf(NonNull<ffi::rte_mbuf>);

// SAFETY: an `Mbuf` is the only owner of its buffer, and pools take buffers back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: through a shared reference the buffer can only be read.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes a buffer over.
    ///
    /// # Safety
    /// `raw` is an allocated buffer, with reference count 1, that nobody else uses or frees.
    #[inline(always)]
    pub unsafe fn from_raw(raw: NonNull<ffi::rte_mbuf>) -> Self {
        Self(raw)
    }

    /// Gives the buffer up without freeing it.
    #[inline(always)]
    pub fn into_raw(self) -> NonNull<ffi::rte_mbuf> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    /// A packet with these bytes; `None` if the pool is used up or its buffers are too small.
    pub fn from_bytes(pool: &Mempool, bytes: &[u8]) -> Option<Self> {
        let mut packet = pool.alloc()?;
        packet.append(bytes.len())?.copy_from_slice(bytes);
        Some(packet)
    }

    #[inline(always)]
    fn raw(&self) -> &ffi::rte_mbuf {
        // SAFETY: we own an allocated buffer, whose fields are initialised.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn raw_mut(&mut self) -> &mut ffi::rte_mbuf {
        // SAFETY: as in `raw`; `&mut self` makes the access exclusive.
        unsafe { self.0.as_mut() }
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let raw = self.raw();
        // SAFETY: the data offset is within the buffer.
        unsafe { raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off)) }
    }

    /// Bytes of the packet; of its first buffer if it spans several ([`Mbuf::is_contiguous`]).
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        // SAFETY: data_len bytes from the data offset are inside the buffer, which is ours; pools are zeroed or
        // written memory, so the bytes are initialised.
        unsafe { slice::from_raw_parts(self.start(), usize::from(self.raw().data_len)) }
    }

    /// The same, to write.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.start(), usize::from(self.raw().data_len)) }
    }

    /// Length of the packet, over all its buffers.
    #[allow(
        clippy::len_without_is_empty,
        reason = "an empty packet is no state that anybody asks for"
    )]
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    /// Free bytes in front of the packet.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        usize::from(self.raw().data_off)
    }

    /// Free bytes behind the packet; 0 if it spans several buffers.
    #[inline(always)]
    pub fn tailroom(&self) -> usize {
        let raw = self.raw();
        if raw.nb_segs != 1 {
            return 0;
        }
        usize::from(raw.buf_len).saturating_sub(usize::from(raw.data_off) + usize::from(raw.data_len))
    }

    /// True if the packet lies in one buffer, so that [`Mbuf::data`] is all of it.
    #[inline(always)]
    pub fn is_contiguous(&self) -> bool {
        self.raw().nb_segs == 1
    }

    /// Grows the packet at the front and returns the new bytes, whose content is arbitrary; `None` without headroom.
    #[inline(always)]
    pub fn prepend(&mut self, count: usize) -> Option<&mut [u8]> {
        if count > self.headroom() {
            return None;
        }
        let raw = self.raw_mut();
        raw.data_len = raw.data_len.checked_add(count as u16)?;
        raw.data_off -= count as u16;
        raw.pkt_len += count as u32;
        Some(&mut self.data_mut()[..count])
    }

    /// Grows the packet at the end and returns the new bytes, whose content is arbitrary; `None` without tailroom.
    #[inline(always)]
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        if count > self.tailroom() {
            return None;
        }
        let raw = self.raw_mut();
        let old = usize::from(raw.data_len);
        raw.data_len += count as u16;
        raw.pkt_len += count as u32;
        Some(&mut self.data_mut()[old..])
    }

    /// Cuts `count` bytes off the front; false, and nothing done, if its first buffer has fewer.
    #[inline(always)]
    pub fn trim_front(&mut self, count: usize) -> bool {
        let raw = self.raw_mut();
        if count > usize::from(raw.data_len) {
            return false;
        }
        raw.data_len -= count as u16;
        raw.data_off += count as u16;
        raw.pkt_len -= count as u32;
        true
    }

    /// Cuts the packet to `length` bytes; false, and nothing done, if it is shorter or spans several buffers.
    #[inline(always)]
    pub fn truncate(&mut self, length: usize) -> bool {
        let raw = self.raw_mut();
        if raw.nb_segs != 1 || length > usize::from(raw.data_len) {
            return false;
        }
        raw.data_len = length as u16;
        raw.pkt_len = length as u32;
        true
    }

    /// Port that it was received on; meaningless for an allocated packet.
    #[inline(always)]
    pub fn port(&self) -> PortId {
        PortId(self.raw().port)
    }

    /// Says which port it was received on: for drivers and tests.
    #[inline(always)]
    pub fn set_port(&mut self, port: PortId) {
        self.raw_mut().port = port.0;
    }

    /// Hash over the flow, if the NIC computed one.
    #[inline(always)]
    pub fn rss_hash(&self) -> Option<u32> {
        let raw = self.raw();
        // SAFETY: every variant of the union is plain integers.
        let hash = unsafe { raw.__bindgen_anon_2.hash.rss };
        (raw.ol_flags & u64::from(ffi::RTE_MBUF_F_RX_RSS_HASH) != 0).then_some(hash)
    }

    /// Gives the packet a flow hash: for drivers and tests.
    #[inline(always)]
    pub fn set_rss_hash(&mut self, hash: u32) {
        let raw = self.raw_mut();
        raw.__bindgen_anon_2.hash.rss = hash;
        raw.ol_flags |= u64::from(ffi::RTE_MBUF_F_RX_RSS_HASH);
    }

    /// A number that goes with the packet through rings and drivers; 0 in a fresh packet of [`Mempool::alloc`].
    ///
    /// It lies in DPDK's field for transmit offload lengths, which drivers read only if offload flags ask them to,
    /// and nothing in this crate sets those.
    #[inline(always)]
    pub fn user(&self) -> u64 {
        // SAFETY: every variant of the union is plain integers.
        unsafe { self.raw().__bindgen_anon_3.tx_offload }
    }

    /// Sets [`Mbuf::user`].
    #[inline(always)]
    pub fn set_user(&mut self, value: u64) {
        self.raw_mut().__bindgen_anon_3.tx_offload = value;
    }

    /// Asks the cache for the start of the packet, to be read. Touches the buffer's header.
    #[inline(always)]
    pub fn prefetch(&self) {
        prefetch(self.start());
    }

    /// Asks the cache for the buffer's header, which every other method reads.
    #[inline(always)]
    pub fn prefetch_header(&self) {
        prefetch(self.0.as_ptr().cast());
    }

    /// Asks the cache for the start of the packet, to be written.
    #[inline(always)]
    pub fn prefetch_write(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch has no effect but on the cache, whatever the address.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(self.start().cast());
        }
    }

    /// Frees many packets at once, cheaper than one by one.
    #[inline]
    pub fn free_bulk(packets: &mut Burst) {
        mempool::free_bulk(packets);
    }
}

#[inline(always)]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on the cache, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we are the only owner, and this is the last use.
        unsafe { ffi::tp_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl std::fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("port", &self.port())
            .finish_non_exhaustive()
    }
}
