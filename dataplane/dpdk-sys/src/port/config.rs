//! What a port is asked to be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Held, PortId, failed};
use crate::error::Error;
use crate::flow::{self, FlowConfig};
use crate::mempool::Mempool;
use crate::{ffi, log};

/// How the NIC spreads flows over receive queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rss {
    /// Key of the Toeplitz hash, of the length that [`super::Capabilities::rss_key_length`] says; `None` is the
    /// driver's own.
    pub key: Option<Vec<u8>>,
}

/// What a port is configured as.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of a receive queue; adjusted to what the driver takes.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue; adjusted to what the driver takes.
    pub tx_descriptors: u16,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Where received packets go.
    pub mempool: Mempool,
    /// Address to take; `None` keeps the device's.
    pub mac: Option<[u8; 6]>,
    /// Receive what is addressed to others.
    pub promiscuous: bool,
    /// Spread flows over queues; without effect on a driver that cannot ([`super::Capabilities::rss`]).
    pub rss: Option<Rss>,
    /// Set up the flow engine's queues.
    pub flow: Option<FlowConfig>,
}

impl PortConfig {
    /// One queue each way, 1024 descriptors, MTU 1500, everything else off.
    pub fn new(mempool: Mempool) -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            mempool,
            mac: None,
            promiscuous: false,
            rss: None,
            flow: None,
        }
    }
}

/// Configures a port that is ours and stopped.
pub(super) fn apply(held: &Arc<Held>, config: &PortConfig) -> Result<(), Error> {
    let id = held.id;
    let info = id.info()?;
    let within = |what, wanted: u64, minimum: u64, maximum: u64| {
        let error = Error::Capability {
            port: id,
            what,
            wanted,
            minimum,
            maximum,
        };
        if (minimum..=maximum).contains(&wanted) {
            Ok(())
        } else {
            Err(error)
        }
    };
    within(
        "number of receive queues",
        config.rx_queues.into(),
        1,
        info.max_rx_queues.into(),
    )?;
    within(
        "number of transmit queues",
        config.tx_queues.into(),
        1,
        info.max_tx_queues.into(),
    )?;
    within("MTU", config.mtu.into(), info.min_mtu.into(), info.max_mtu.into())?;

    let mut key = config.rss.as_ref().and_then(|rss| rss.key.clone());
    if let (Some(key), true) = (&key, info.hash_key_size > 0) {
        within(
            "length of the receive hash key",
            key.len() as u64,
            info.hash_key_size.into(),
            info.hash_key_size.into(),
        )?;
    }

    let mut conf = ffi::rte_eth_conf::default();
    conf.rxmode.mtu = config.mtu.into();
    let hash_functions = info.flow_type_rss_offloads & ffi::TP_ETH_RSS_FLOWS;
    if config.rss.is_some() && hash_functions != 0 {
        conf.rxmode.mq_mode = ffi::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = hash_functions;
        if let Some(key) = &mut key {
            conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
            conf.rx_adv_conf.rss_conf.rss_key_len = key.len() as u8;
        }
        conf.rxmode.offloads |= info.rx_offload_capa & ffi::TP_ETH_RX_OFFLOAD_RSS_HASH;
    }

    let mark = log::mark();
    let done = |operation, status: i32| {
        if status < 0 {
            Err(failed(id, operation, status, mark))
        } else {
            Ok(())
        }
    };
    let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
    // SAFETY: the port is ours and stopped; DPDK copies the configuration, and `key` lives through the call.
    unsafe {
        done(
            "be configured",
            ffi::rte_eth_dev_configure(id.0, config.rx_queues, config.tx_queues, &conf),
        )?;
        let adjusted = ffi::rte_eth_dev_adjust_nb_rx_tx_desc(id.0, &mut rx_descriptors, &mut tx_descriptors);
        done("take that number of descriptors", adjusted)?;
    }
    held.keep(&config.mempool);
    set_up_queues(id, config, rx_descriptors, tx_descriptors, &done)?;

    let mut mtu = 0;
    // SAFETY: the port is ours and stopped.
    unsafe {
        if ffi::rte_eth_dev_get_mtu(id.0, &mut mtu) == 0 && mtu != config.mtu {
            done("take that MTU", ffi::rte_eth_dev_set_mtu(id.0, config.mtu))?;
        }
    }
    if let Some(mac) = config.mac {
        done("take that MAC address", set_mac(id, mac))?;
    }
    // SAFETY: the port is ours; both calls are valid in any state.
    let status = unsafe {
        if config.promiscuous {
            ffi::rte_eth_promiscuous_enable(id.0)
        } else {
            match ffi::rte_eth_promiscuous_disable(id.0) {
                // A driver without the switch receives everything.
                status if status == -libc::ENOTSUP => 0,
                status => status,
            }
        }
    };
    done("become promiscuous", status)?;
    if let Some(flow) = &config.flow {
        flow::configure(id, flow).map_err(|error| Error::Port {
            port: id,
            operation: "set up its flow engine",
            errno: error.errno,
            log: crate::Quote(vec![error.message.into_owned()]),
        })?;
    }
    held.configured.store(true, Ordering::Relaxed);
    Ok(())
}

fn set_up_queues(
    id: PortId,
    config: &PortConfig,
    rx_descriptors: u16,
    tx_descriptors: u16,
    done: &dyn Fn(&'static str, i32) -> Result<(), Error>,
) -> Result<(), Error> {
    // SAFETY: the port is ours and stopped, the indices are below the numbers just configured, null asks for the
    // driver's defaults, and `Held` keeps the pool until the port is closed.
    unsafe {
        let socket = ffi::rte_eth_dev_socket_id(id.0).cast_unsigned();
        for queue in 0..config.rx_queues {
            let pool = config.mempool.raw();
            let null = std::ptr::null();
            let status = ffi::rte_eth_rx_queue_setup(id.0, queue, rx_descriptors, socket, null, pool);
            done("set up a receive queue", status)?;
        }
        for queue in 0..config.tx_queues {
            let status = ffi::rte_eth_tx_queue_setup(id.0, queue, tx_descriptors, socket, std::ptr::null());
            done("set up a transmit queue", status)?;
        }
    }
    Ok(())
}

pub(super) fn set_mac(id: PortId, mac: [u8; 6]) -> i32 {
    let mut address = ffi::rte_ether_addr { addr_bytes: mac };
    // SAFETY: the port is ours; DPDK copies the address.
    unsafe { ffi::rte_eth_dev_default_mac_addr_set(id.0, &mut address) }
}
