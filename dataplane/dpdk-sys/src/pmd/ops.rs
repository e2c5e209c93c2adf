//! DPDK's device operations, adapted to [`Driver`].

use std::ptr::{self, NonNull};

use super::driver::{Driver, DriverError};
use super::flow_ops;
use crate::error::Errno;
use crate::mempool::Mempool;
use crate::{Burst, MAX_BURST, ffi};

/// A port's memory: what `dev_private` and the queues point at.
struct Device<D> {
    driver: D,
    mac: ffi::rte_ether_addr,
    rx: QueuesOf<D>,
    tx: QueuesOf<D>,
}

type QueuesOf<D> = Vec<Option<Box<QueueOf<D>>>>;

/// What DPDK hands to the burst functions.
struct QueueOf<D> {
    driver: *const D,
    port: u16,
    index: u16,
}

/// Makes a port of `driver`.
///
/// # Safety
/// `device` is a live virtual device without a port.
pub(super) unsafe fn attach<D: Driver>(driver: D, device: *mut ffi::rte_vdev_device) -> Result<(), DriverError> {
    let info = driver.info();
    let mac = ffi::rte_ether_addr { addr_bytes: info.mac };
    // SAFETY: DPDK copies the name and returns a fresh port, which is ours until it is told to the world below.
    unsafe {
        let port = ffi::rte_eth_dev_allocate((*device).device.name);
        if port.is_null() {
            return Err(DriverError(Errno(libc::ENOMEM)));
        }
        let memory = Box::into_raw(Box::new(Device {
            driver,
            mac,
            rx: Vec::new(),
            tx: Vec::new(),
        }));
        (*port).device = &raw mut (*device).device;
        (*port).dev_ops = &Operations::<D>::TABLE;
        (*port).rx_pkt_burst = Some(rx_burst::<D>);
        (*port).tx_pkt_burst = Some(tx_burst::<D>);
        // Not DPDK's memory: `close` takes both pointers back before DPDK would free them.
        (*port).process_private = memory.cast();
        (*(*port).data).mac_addrs = &raw mut (*memory).mac;
        (*(*port).data).numa_node = (*device).device.numa_node;
        (*(*port).data).dev_flags |= ffi::TP_ETH_DEV_FLOW_OPS_THREAD_SAFE;
        (*(*port).data).dev_link = link((*memory).driver.link_up());
        (*memory).driver.attached(crate::port::PortId((*(*port).data).port_id));
        ffi::rte_eth_dev_probing_finish(port);
    }
    Ok(())
}

fn link(up: bool) -> ffi::rte_eth_link {
    let mut link = ffi::rte_eth_link {
        link_speed: ffi::RTE_ETH_SPEED_NUM_10G,
        ..Default::default()
    };
    link.set_link_duplex(1);
    link.set_link_autoneg(0);
    link.set_link_status(up.into());
    link
}

/// The number that DPDK wants for an outcome.
fn status(outcome: Result<(), DriverError>) -> i32 {
    outcome.map_or_else(|error| -error.0.0.abs().max(1), |()| 0)
}

/// The driver of a port.
///
/// # Safety
/// `port` is a port made by [`attach`] with the same `D` and not closed.
pub(super) unsafe fn driver<'a, D>(port: *mut ffi::rte_eth_dev) -> &'a D {
    // SAFETY: `attach` stored this pointer; the driver is only ever borrowed shared.
    unsafe { &(*(*port).process_private.cast::<Device<D>>()).driver }
}

/// The lists of a port's receive and transmit queues.
///
/// # Safety
/// As [`driver`]; the port is stopped, and DPDK runs one such operation of a port at a time.
unsafe fn queues<'a, D>(port: *mut ffi::rte_eth_dev) -> (&'a mut QueuesOf<D>, &'a mut QueuesOf<D>) {
    // SAFETY: the caller's promise: nobody else borrows the lists. Bursts have pointers to what is in the boxes.
    unsafe {
        let memory = (*port).process_private.cast::<Device<D>>();
        (&mut (*memory).rx, &mut (*memory).tx)
    }
}

struct Operations<D>(std::marker::PhantomData<D>);

impl<D: Driver> Operations<D> {
    const TABLE: ffi::eth_dev_ops = {
        // SAFETY: every field is an optional function, for which zero is none.
        let mut table: ffi::eth_dev_ops = unsafe { std::mem::zeroed() };
        table.dev_configure = Some(configure::<D>);
        table.dev_start = Some(start::<D>);
        table.dev_stop = Some(stop::<D>);
        table.dev_close = Some(close::<D>);
        table.link_update = Some(link_update::<D>);
        table.promiscuous_enable = Some(promiscuous_enable::<D>);
        table.promiscuous_disable = Some(promiscuous_disable::<D>);
        table.mac_addr_set = Some(mac_addr_set::<D>);
        table.mtu_set = Some(mtu_set::<D>);
        table.stats_get = Some(stats_get::<D>);
        table.stats_reset = Some(stats_reset::<D>);
        table.dev_infos_get = Some(infos_get::<D>);
        table.rx_queue_setup = Some(rx_queue_setup::<D>);
        table.tx_queue_setup = Some(tx_queue_setup::<D>);
        table.rx_queue_release = Some(rx_queue_release::<D>);
        table.tx_queue_release = Some(tx_queue_release::<D>);
        table.flow_ops_get = Some(flow_ops_get::<D>);
        table
    };
}

// SAFETY of the operations below: DPDK calls them with a port of the table that they are in, which `attach` made for
// the same `D`, and with valid arguments; each states only what goes beyond that.

unsafe extern "C" fn configure<D: Driver>(port: *mut ffi::rte_eth_dev) -> i32 {
    // SAFETY: see above.
    unsafe {
        let (rx, tx) = ((*(*port).data).nb_rx_queues, (*(*port).data).nb_tx_queues);
        let conf = &(*(*port).data).dev_conf;
        let rss = &conf.rx_adv_conf.rss_conf;
        let wanted = conf.rxmode.mq_mode & ffi::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS != 0;
        if wanted && !rss.rss_key.is_null() {
            driver::<D>(port).set_rss_key(std::slice::from_raw_parts(rss.rss_key, rss.rss_key_len.into()));
        }
        // DPDK takes the MTU of a configuration over without a word to the driver.
        let mtu = (*(*port).data).mtu;
        let driver = driver::<D>(port);
        status(driver.configure(rx, tx).and_then(|()| driver.set_mtu(mtu)))
    }
}

unsafe extern "C" fn start<D: Driver>(port: *mut ffi::rte_eth_dev) -> i32 {
    // SAFETY: see above.
    unsafe {
        let outcome = driver::<D>(port).start();
        if outcome.is_ok() {
            (*(*port).data).dev_link = link(driver::<D>(port).link_up());
        }
        status(outcome)
    }
}

unsafe extern "C" fn stop<D: Driver>(port: *mut ffi::rte_eth_dev) -> i32 {
    // SAFETY: see above.
    unsafe {
        driver::<D>(port).stop();
        (*(*port).data).dev_link = link(false);
    }
    0
}

unsafe extern "C" fn close<D: Driver>(port: *mut ffi::rte_eth_dev) -> i32 {
    // SAFETY: see above; the port has no burst running and is released after this, and the pointers that DPDK would
    // free with its own allocator are taken back first.
    unsafe {
        let memory = std::mem::replace(&mut (*port).process_private, ptr::null_mut());
        (*(*port).data).mac_addrs = ptr::null_mut();
        if !memory.is_null() {
            drop(Box::from_raw(memory.cast::<Device<D>>()));
        }
    }
    0
}

unsafe extern "C" fn link_update<D: Driver>(port: *mut ffi::rte_eth_dev, _wait: i32) -> i32 {
    // SAFETY: see above.
    unsafe {
        let started = (*(*port).data).dev_started() != 0;
        (*(*port).data).dev_link = link(started && driver::<D>(port).link_up());
    }
    0
}

unsafe extern "C" fn promiscuous_enable<D: Driver>(port: *mut ffi::rte_eth_dev) -> i32 {
    // SAFETY: see above.
    status(unsafe { driver::<D>(port) }.set_promiscuous(true))
}

unsafe extern "C" fn promiscuous_disable<D: Driver>(port: *mut ffi::rte_eth_dev) -> i32 {
    // SAFETY: see above.
    status(unsafe { driver::<D>(port) }.set_promiscuous(false))
}

unsafe extern "C" fn mac_addr_set<D: Driver>(port: *mut ffi::rte_eth_dev, mac: *mut ffi::rte_ether_addr) -> i32 {
    // SAFETY: see above; DPDK itself then stores the address where `mac_addrs` points.
    status(unsafe { driver::<D>(port).set_mac((*mac).addr_bytes) })
}

unsafe extern "C" fn mtu_set<D: Driver>(port: *mut ffi::rte_eth_dev, mtu: u16) -> i32 {
    // SAFETY: see above.
    status(unsafe { driver::<D>(port) }.set_mtu(mtu))
}

unsafe extern "C" fn stats_get<D: Driver>(port: *mut ffi::rte_eth_dev, out: *mut ffi::rte_eth_stats) -> i32 {
    // SAFETY: see above.
    unsafe {
        let stats = driver::<D>(port).stats();
        (*out).ipackets = stats.rx_packets;
        (*out).ibytes = stats.rx_bytes;
        (*out).opackets = stats.tx_packets;
        (*out).obytes = stats.tx_bytes;
        (*out).imissed = stats.rx_missed;
        (*out).ierrors = stats.rx_errors;
        (*out).oerrors = stats.tx_errors;
        (*out).rx_nombuf = stats.rx_no_buffers;
        // DPDK overwrites rx_nombuf with this.
        (*(*port).data).rx_mbuf_alloc_failed = stats.rx_no_buffers;
    }
    0
}

unsafe extern "C" fn stats_reset<D: Driver>(port: *mut ffi::rte_eth_dev) -> i32 {
    // SAFETY: see above.
    unsafe { driver::<D>(port) }.stats_reset();
    0
}

unsafe extern "C" fn infos_get<D: Driver>(port: *mut ffi::rte_eth_dev, out: *mut ffi::rte_eth_dev_info) -> i32 {
    // SAFETY: see above.
    unsafe {
        let info = driver::<D>(port).info();
        (*out).max_mac_addrs = 1;
        (*out).max_rx_pktlen = u32::from(info.max_mtu) + ffi::RTE_ETHER_HDR_LEN + ffi::RTE_ETHER_CRC_LEN;
        (*out).min_mtu = ffi::RTE_ETHER_MIN_MTU as u16;
        (*out).max_mtu = info.max_mtu;
        (*out).max_rx_queues = info.max_rx_queues;
        (*out).max_tx_queues = info.max_tx_queues;
        if info.rss {
            (*out).flow_type_rss_offloads = ffi::TP_ETH_RSS_FLOWS;
            (*out).rx_offload_capa |= ffi::TP_ETH_RX_OFFLOAD_RSS_HASH;
            (*out).hash_key_size = 40;
        }
    }
    0
}

unsafe extern "C" fn rx_queue_setup<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    index: u16,
    descriptors: u16,
    _socket: u32,
    _conf: *const ffi::rte_eth_rxconf,
    pool: *mut ffi::rte_mempool,
) -> i32 {
    let Some(pool) = NonNull::new(pool) else {
        return -libc::EINVAL;
    };
    // SAFETY: see above; the pool lives until the port is closed.
    unsafe {
        let outcome = driver::<D>(port).rx_queue_setup(index, descriptors, &Mempool::from_raw(pool));
        if outcome.is_ok() {
            let queue = new_queue::<D>(port, index, queues(port).0);
            *(*(*port).data).rx_queues.add(usize::from(index)) = queue.cast();
        }
        status(outcome)
    }
}

unsafe extern "C" fn tx_queue_setup<D: Driver>(
    port: *mut ffi::rte_eth_dev,
    index: u16,
    descriptors: u16,
    _socket: u32,
    _conf: *const ffi::rte_eth_txconf,
) -> i32 {
    // SAFETY: see above.
    unsafe {
        let outcome = driver::<D>(port).tx_queue_setup(index, descriptors);
        if outcome.is_ok() {
            let queue = new_queue::<D>(port, index, queues(port).1);
            *(*(*port).data).tx_queues.add(usize::from(index)) = queue.cast();
        }
        status(outcome)
    }
}

/// # Safety
/// As [`driver`].
unsafe fn new_queue<D>(port: *mut ffi::rte_eth_dev, index: u16, queues: &mut QueuesOf<D>) -> *mut QueueOf<D> {
    // SAFETY: the caller's promise.
    let (driver, port) = unsafe { (&raw const *driver::<D>(port), (*(*port).data).port_id) };
    if queues.len() <= usize::from(index) {
        queues.resize_with(usize::from(index) + 1, || None);
    }
    &raw mut **queues[usize::from(index)].insert(Box::new(QueueOf { driver, port, index }))
}

unsafe extern "C" fn rx_queue_release<D: Driver>(port: *mut ffi::rte_eth_dev, index: u16) {
    // SAFETY: see above; no burst runs on the queue any more.
    unsafe {
        if let Some(queue) = queues::<D>(port).0.get_mut(usize::from(index)) {
            *queue = None;
        }
    }
}

unsafe extern "C" fn tx_queue_release<D: Driver>(port: *mut ffi::rte_eth_dev, index: u16) {
    // SAFETY: see above; no burst runs on the queue any more.
    unsafe {
        if let Some(queue) = queues::<D>(port).1.get_mut(usize::from(index)) {
            *queue = None;
        }
    }
}

unsafe extern "C" fn flow_ops_get<D: Driver>(port: *mut ffi::rte_eth_dev, table: *mut *const ffi::rte_flow_ops) -> i32 {
    // SAFETY: see above.
    unsafe {
        if driver::<D>(port).flow().is_none() {
            return -libc::ENOTSUP;
        }
        *table = flow_ops::table::<D>();
    }
    0
}

unsafe extern "C" fn rx_burst<D: Driver>(
    queue: *mut std::ffi::c_void,
    packets: *mut *mut ffi::rte_mbuf,
    wanted: u16,
) -> u16 {
    let mut burst = Burst::new();
    let wanted = usize::from(wanted).min(MAX_BURST);
    // SAFETY: DPDK hands over a queue of `new_queue` and room for `wanted` pointers. `Mbuf` is a transparent pointer;
    // the burst gives up those that are copied out, and drops what a driver put in beyond `wanted`.
    unsafe {
        let queue = &*queue.cast::<QueueOf<D>>();
        (*queue.driver).rx_burst(queue.index, &mut burst, wanted);
        burst.truncate(wanted);
        for packet in &mut burst {
            packet.set_port(crate::port::PortId(queue.port));
        }
        let received = burst.len();
        ptr::copy_nonoverlapping(burst.as_ptr().cast::<*mut ffi::rte_mbuf>(), packets, received);
        burst.set_len(0);
        received as u16
    }
}

unsafe extern "C" fn tx_burst<D: Driver>(
    queue: *mut std::ffi::c_void,
    packets: *mut *mut ffi::rte_mbuf,
    count: u16,
) -> u16 {
    let count = usize::from(count);
    let mut sent = 0;
    // SAFETY: DPDK hands over a queue of `new_queue` and `count` packets to take over; those that the driver leaves
    // go back to the end of the same array, which is where DPDK's contract has the caller look for them.
    unsafe {
        let queue = &*queue.cast::<QueueOf<D>>();
        while sent < count {
            let chunk = (count - sent).min(MAX_BURST);
            let mut burst = Burst::new();
            let place = burst.as_mut_ptr().cast::<*mut ffi::rte_mbuf>();
            ptr::copy_nonoverlapping(packets.add(sent), place, chunk);
            burst.set_len(chunk);
            (*queue.driver).tx_burst(queue.index, &mut burst);
            let left = burst.len().min(chunk);
            sent += chunk - left;
            if left > 0 {
                ptr::copy_nonoverlapping(burst.as_ptr().cast::<*mut ffi::rte_mbuf>(), packets.add(sent), left);
                burst.drain(left..);
                burst.set_len(0);
                break;
            }
        }
    }
    sent as u16
}
