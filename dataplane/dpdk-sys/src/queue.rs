//! Receive and transmit queues: each belongs to one thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::port::{PortId, Running};
use crate::{Burst, ffi};

/// A receive queue of a started port.
///
/// It can be sent to a thread, not shared between threads:
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<dpdk_sys::RxQueue>();
/// ```
#[derive(Debug)]
pub struct RxQueue {
    queue: Queue,
}

/// A transmit queue of a started port.
///
/// It can be sent to a thread, not shared between threads:
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<dpdk_sys::TxQueue>();
/// ```
/// nor duplicated:
/// ```compile_fail
/// fn duplicated<T: Clone>() {}
/// duplicated::<dpdk_sys::TxQueue>();
/// ```
#[derive(Debug)]
pub struct TxQueue {
    queue: Queue,
}

#[derive(Debug)]
struct Queue {
    port: PortId,
    index: u16,
    /// The port cannot stop while this lives.
    _running: Arc<Running>,
    _one_thread: PhantomData<Cell<()>>,
}

impl Queue {
    /// DPDK's table of the port's fast-path functions.
    #[inline(always)]
    fn operations(&self) -> &'static ffi::rte_eth_fp_ops {
        // SAFETY: the port exists, so its number indexes the table; DPDK writes the entry only when the port starts
        // and stops, and it can do neither while `_running` lives.
        unsafe {
            &*(&raw const ffi::rte_eth_fp_ops)
                .cast::<ffi::rte_eth_fp_ops>()
                .add(usize::from(self.port.0))
        }
    }
}

impl RxQueue {
    pub(crate) fn new(running: Arc<Running>, index: u16) -> Self {
        Self {
            queue: Queue {
                port: running.id(),
                index,
                _running: running,
                _one_thread: PhantomData,
            },
        }
    }

    /// Appends up to `max` received packets to `out`, as far as it has room, and returns how many.
    ///
    /// Callbacks that other DPDK libraries hang on a queue are not run.
    #[inline(always)]
    pub fn burst(&mut self, out: &mut Burst, max: usize) -> usize {
        let operations = self.queue.operations();
        let wanted = max.min(out.remaining_capacity());
        let length = out.len();
        // SAFETY: the started port has a receive function and this queue; `out` has room for `wanted` pointers behind
        // its first `length`, and its length is raised only over packets that the driver has written and given up.
        // `Mbuf` is a transparent pointer.
        unsafe {
            let receive = operations.rx_pkt_burst.unwrap_unchecked();
            let queue = *operations.rxq.data.add(usize::from(self.queue.index));
            let spare = out.as_mut_ptr().add(length).cast::<*mut ffi::rte_mbuf>();
            let received = usize::from(receive(queue, spare, wanted as u16));
            out.set_len(length + received);
            received
        }
    }

    /// Its number on the port.
    pub fn index(&self) -> u16 {
        self.queue.index
    }

    /// The port that it belongs to.
    pub fn port(&self) -> PortId {
        self.queue.port
    }
}

impl TxQueue {
    pub(crate) fn new(running: Arc<Running>, index: u16) -> Self {
        Self {
            queue: Queue {
                port: running.id(),
                index,
                _running: running,
                _one_thread: PhantomData,
            },
        }
    }

    /// Hands `packets` to the driver and returns how many it took, from the front; the others stay in `packets`.
    #[inline(always)]
    pub fn burst(&mut self, packets: &mut Burst) -> usize {
        let operations = self.queue.operations();
        let count = packets.len();
        // SAFETY: the started port has a transmit function and this queue; `packets` gives up all its packets before
        // the driver sees them and takes back only those that the driver did not take, moved to the front.
        unsafe {
            packets.set_len(0);
            let transmit = operations.tx_pkt_burst.unwrap_unchecked();
            let queue = *operations.txq.data.add(usize::from(self.queue.index));
            let pointers = packets.as_mut_ptr().cast::<*mut ffi::rte_mbuf>();
            let sent = usize::from(transmit(queue, pointers, count as u16));
            if sent < count {
                std::ptr::copy(pointers.add(sent), pointers, count - sent);
                packets.set_len(count - sent);
            }
            sent
        }
    }

    /// Its number on the port.
    pub fn index(&self) -> u16 {
        self.queue.index
    }

    /// The port that it belongs to.
    pub fn port(&self) -> PortId {
        self.queue.port
    }
}
