//! How a started port spreads received packets over its queues.

use super::{Port, Started};
use crate::error::{Errno, Error};
use crate::{ffi, log};

/// The receive hash of a port, and the queue of each hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveHash {
    /// Key of the Toeplitz hash over IPv4 addresses and, for TCP and UDP, ports.
    pub key: Vec<u8>,
    /// Queue for the low bits of the hash.
    pub table: Vec<u16>,
}

/// Entries of the redirection table in one of DPDK's groups.
const GROUP: usize = 64;

impl Port<Started> {
    /// Spreads hashes evenly over the first `queues` receive queues and tells how. `None` if the port computes no hash of
    /// TCP's and UDP's ports over IPv4, or has no table that can be set.
    ///
    /// # Errors
    /// [`Error::Port`] if the driver refuses.
    pub fn spread(&self, queues: u16) -> Result<Option<ReceiveHash>, Error> {
        let info = self.held.id.info()?;
        let size = usize::from(info.reta_size);
        if size == 0 || queues == 0 {
            return Ok(None);
        }
        let mut key = vec![0; usize::from(info.hash_key_size.max(40))];
        let mut conf = ffi::rte_eth_rss_conf {
            rss_key: key.as_mut_ptr(),
            rss_key_len: key.len() as u8,
            ..Default::default()
        };
        let mark = log::mark();
        // SAFETY: the port is ours and started; `key` has the length that is said and lives through the call.
        let status = unsafe { ffi::rte_eth_dev_rss_hash_conf_get(self.held.id.0, &mut conf) };
        if Errno::of(status).0 == libc::ENOTSUP || conf.rss_hf & ffi::TP_ETH_RSS_PORTS_V4 != ffi::TP_ETH_RSS_PORTS_V4 {
            return Ok(None);
        }
        self.done("tell its receive hash", status, mark)?;
        let table: Vec<u16> = (0..size).map(|at| (at % usize::from(queues)) as u16).collect();
        let mut groups: Vec<_> = table
            .chunks(GROUP)
            .map(|chunk| {
                let mut group = ffi::rte_eth_rss_reta_entry64 {
                    mask: u64::MAX,
                    ..Default::default()
                };
                group.reta[..chunk.len()].copy_from_slice(chunk);
                group
            })
            .collect();
        let mark = log::mark();
        // SAFETY: the port is ours and started; there is a group for each 64 entries of its table.
        let status = unsafe { ffi::rte_eth_dev_rss_reta_update(self.held.id.0, groups.as_mut_ptr(), info.reta_size) };
        if Errno::of(status).0 == libc::ENOTSUP {
            return Ok(None);
        }
        self.done("spread packets over its queues", status, mark)?;
        Ok(Some(ReceiveHash { key, table }))
    }
}

/// DPDK's own Toeplitz hash, in software: what a NIC computes of words in host order. `None` if the key is too short for
/// them.
pub fn software_hash(words: &[u32], key: &[u8]) -> Option<u32> {
    if key.len() < words.len() * 4 + 4 {
        return None;
    }
    let mut words = words.to_vec();
    // SAFETY: the words are as many as is said, and the key is as long as they need.
    Some(unsafe { ffi::tp_softrss(words.as_mut_ptr(), words.len() as u32, key.as_ptr()) })
}
