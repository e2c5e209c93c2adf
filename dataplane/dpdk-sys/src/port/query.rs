//! What a port can tell, and what can be changed while it runs.

use std::ffi::CStr;

use super::{Port, config};
use crate::error::Error;
use crate::{ffi, log};

/// Counters of a port since it started or since they were reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that the device dropped because no descriptor was free.
    pub rx_missed: u64,
    /// Erroneous packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that no buffer was free for.
    pub rx_no_buffers: u64,
}

/// What a port can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Receive queues, at most.
    pub max_rx_queues: u16,
    /// Transmit queues, at most.
    pub max_tx_queues: u16,
    /// MTU, at least.
    pub min_mtu: u16,
    /// MTU, at most.
    pub max_mtu: u16,
    /// Computes a receive hash and spreads flows by it.
    pub rss: bool,
    /// Bytes of the receive hash key; 0 if the driver does not say.
    pub rss_key_length: u8,
    /// Has a flow engine (`rte_flow` operations).
    pub flow: bool,
}

impl<State> Port<State> {
    /// Its counters.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver has none.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let mut raw = ffi::rte_eth_stats::default();
        let mark = log::mark();
        // SAFETY: the port is ours; DPDK fills in the structure.
        let status = unsafe { ffi::rte_eth_stats_get(self.held.id.0, &mut raw) };
        self.done("tell its counters", status, mark)?;
        Ok(PortStats {
            rx_packets: raw.ipackets,
            rx_bytes: raw.ibytes,
            tx_packets: raw.opackets,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_buffers: raw.rx_nombuf,
        })
    }

    /// Sets its counters to zero.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver cannot.
    pub fn reset_stats(&self) -> Result<(), Error> {
        let mark = log::mark();
        // SAFETY: the port is ours.
        self.done(
            "reset its counters",
            unsafe { ffi::rte_eth_stats_reset(self.held.id.0) },
            mark,
        )
    }

    /// Every counter that the driver has, by name.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver has none.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        let id = self.held.id.0;
        let mark = log::mark();
        // SAFETY: the port is ours; without a place for them, DPDK returns how many there are.
        let count = unsafe { ffi::rte_eth_xstats_get(id, std::ptr::null_mut(), 0) };
        self.done("tell its extended counters", count, mark)?;
        let mut values = vec![ffi::rte_eth_xstat::default(); count as usize];
        let mut names = vec![ffi::rte_eth_xstat_name::default(); count as usize];
        // SAFETY: both arrays have `count` elements, and DPDK is told so.
        let filled = unsafe {
            ffi::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count as u32);
            ffi::rte_eth_xstats_get(id, values.as_mut_ptr(), count as u32)
        };
        self.done("tell its extended counters", filled, mark)?;
        let text = |raw: &ffi::rte_eth_xstat_name| {
            let bytes = raw.name.map(|c| c as u8);
            CStr::from_bytes_until_nul(&bytes)
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let named = |value: &ffi::rte_eth_xstat| Some((text(names.get(value.id as usize)?), value.value));
        Ok(values.iter().take(filled as usize).filter_map(named).collect())
    }

    /// Its MAC address.
    pub fn mac(&self) -> [u8; 6] {
        let mut address = ffi::rte_ether_addr::default();
        // SAFETY: the port is ours; DPDK fills in the address, or leaves it zero.
        unsafe { ffi::rte_eth_macaddr_get(self.held.id.0, &mut address) };
        address.addr_bytes
    }

    /// Changes its MAC address.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver cannot.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        let mark = log::mark();
        self.done("take that MAC address", config::set_mac(self.held.id, mac), mark)
    }

    /// Largest IP packet, bytes.
    pub fn mtu(&self) -> u16 {
        let mut mtu = 0;
        // SAFETY: the port is ours; DPDK fills in the number.
        unsafe { ffi::rte_eth_dev_get_mtu(self.held.id.0, &mut mtu) };
        mtu
    }

    /// Changes the MTU.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver cannot, or not while it runs.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let mark = log::mark();
        // SAFETY: the port is ours.
        self.done(
            "take that MTU",
            unsafe { ffi::rte_eth_dev_set_mtu(self.held.id.0, mtu) },
            mark,
        )
    }

    /// Receives what is addressed to others, or not.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver cannot.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        let id = self.held.id.0;
        let mark = log::mark();
        // SAFETY: the port is ours; both calls are valid in any state.
        let status = unsafe {
            if on {
                ffi::rte_eth_promiscuous_enable(id)
            } else {
                ffi::rte_eth_promiscuous_disable(id)
            }
        };
        self.done("switch promiscuous mode", status, mark)
    }

    /// True if there is a carrier.
    pub fn link_up(&self) -> bool {
        let mut link = ffi::rte_eth_link::default();
        // SAFETY: the port is ours; DPDK fills in the structure.
        let status = unsafe { ffi::rte_eth_link_get_nowait(self.held.id.0, &mut link) };
        status == 0 && link.link_status() != 0
    }

    /// Name of its driver, as in `net_af_packet`.
    pub fn driver_name(&self) -> String {
        let name = self
            .held
            .id
            .info()
            .ok()
            .map(|info| info.driver_name)
            .filter(|name| !name.is_null());
        // SAFETY: a driver's name is NUL-terminated and lives as long as the driver, which is not unloaded.
        name.map(|name| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Name of its device, as in `net_af_packet0`.
    pub fn name(&self) -> String {
        let mut bytes = [0u8; ffi::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: DPDK writes at most RTE_ETH_NAME_MAX_LEN bytes, NUL included.
        unsafe { ffi::rte_eth_dev_get_name_by_port(self.held.id.0, bytes.as_mut_ptr().cast()) };
        CStr::from_bytes_until_nul(&bytes)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        let Ok(info) = self.held.id.info() else {
            return Capabilities::default();
        };
        Capabilities {
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            min_mtu: info.min_mtu,
            max_mtu: info.max_mtu,
            rss: info.flow_type_rss_offloads & ffi::TP_ETH_RSS_FLOWS != 0,
            rss_key_length: info.hash_key_size,
            flow: self.has_flow_engine(),
        }
    }

    /// Asks the driver for its table of flow operations, as DPDK's own calls do.
    fn has_flow_engine(&self) -> bool {
        let mut table = std::ptr::null();
        // SAFETY: the port exists, so its number indexes the table of ports and its operations are there; the function
        // writes one pointer.
        unsafe {
            let port = (&raw mut ffi::rte_eth_devices)
                .cast::<ffi::rte_eth_dev>()
                .add(usize::from(self.held.id.0));
            let ask = (*port).dev_ops.as_ref().and_then(|operations| operations.flow_ops_get);
            ask.is_some_and(|ask| ask(port, &mut table) == 0) && !table.is_null()
        }
    }
}
