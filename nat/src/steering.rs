//! Where a NIC puts a packet: the Toeplitz hash of its addresses and ports, and the table from hashes to queues.
//!
//! A masquerade may choose its public port such that the reply arrives at the queue of the worker that owns the connection.

use net::protocol;

use crate::FlowKey;

/// How the NICs of the gateway spread received packets over queues; queue and worker have the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// For each four bits of the hash's input, from the first on, and each value of theirs, what they add.
    parts: Box<[[u32; 16]; INPUT_BITS / 4]>,
    /// Queue for the low bits of the hash; as long as a power of two.
    table: Vec<u16>,
}

/// Source and destination address, source and destination port.
const INPUT_BITS: usize = 96;
/// Octets of key that so many bits need.
const KEY: usize = INPUT_BITS / 8 + 4;

impl Steering {
    /// The steering of a key and a redirection table. `None` if the key is too short for IPv4 with ports, or the table's
    /// length is no power of two.
    pub fn new(key: &[u8], table: Vec<u16>) -> Option<Self> {
        if key.len() < KEY || !table.len().is_power_of_two() {
            return None;
        }
        // For each bit of the input the 32 bits of the key that it counts.
        let mut windows = [0_u32; INPUT_BITS];
        for (bit, window) in windows.iter_mut().enumerate() {
            let five = key[bit / 8..].first_chunk::<5>()?;
            let word = five.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
            *window = (word >> (8 - bit % 8)) as u32;
        }
        let mut parts = Box::new([[0; 16]; INPUT_BITS / 4]);
        for (part, windows) in parts.iter_mut().zip(windows.chunks_exact(4)) {
            for (value, sum) in part.iter_mut().enumerate() {
                let set = windows
                    .iter()
                    .enumerate()
                    .filter(|(bit, _)| value >> (3 - bit) & 1 == 1);
                *sum = set.fold(0, |sum, (_, window)| sum ^ window);
            }
        }
        Some(Self { parts, table })
    }

    /// The hash of IPv4 addresses and ports.
    pub fn hash(&self, source: u32, destination: u32, source_port: u16, destination_port: u16) -> u32 {
        let addresses = u128::from(source) << 64 | u128::from(destination) << 32;
        let bits = addresses | u128::from(source_port) << 16 | u128::from(destination_port);
        let parts = self.parts.iter().rev().enumerate();
        parts.fold(0, |hash, (i, part)| hash ^ part[(bits >> (4 * i)) as usize & 15])
    }

    /// The queue of packets that `key` finds. `None` if a NIC hashes them by something else than addresses and ports.
    pub(crate) fn queue(&self, key: &FlowKey) -> Option<u16> {
        if !matches!(key.protocol(), protocol::TCP | protocol::UDP) {
            return None;
        }
        let ports = (key.source_port(), key.destination_port());
        let hash = self.hash(key.source(), key.destination(), ports.0, ports.1);
        self.table.get(hash as usize & (self.table.len() - 1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// The key and the results that Microsoft publishes for the verification of receive side scaling (TCP over IPv4).
    #[test]
    fn published_hashes_come_out() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
            0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
            0xbe, 0xac, 0x01, 0xfa,
        ];
        let steering = Steering::new(&key, vec![0]).expect("a whole key");
        let address = |text: &str| u32::from(text.parse::<Ipv4Addr>().expect("an address"));
        for (source, source_port, destination, destination_port, hash) in [
            ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x51cc_c178),
            ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xc626_b0ea),
            ("24.19.198.95", 12898, "12.22.207.184", 38024, 0x5c2b_394a),
            ("38.27.205.30", 48228, "209.142.163.6", 2217, 0xafc7_327f),
            ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x10e8_28a2),
        ] {
            let got = steering.hash(address(source), address(destination), source_port, destination_port);
            assert_eq!(got, hash, "{source}");
        }
    }

    #[test]
    fn what_is_no_steering_is_refused() {
        assert_eq!(Steering::new(&[1; 15], vec![0, 1]), None);
        assert_eq!(Steering::new(&[1; 40], vec![0, 1, 0]), None);
        assert_eq!(Steering::new(&[1; 40], vec![]), None);
    }
}
