//! What the connection table is told of the NICs' receive hash, so that it chooses ports whose replies arrive at their
//! owner.

use dpdk_sys::ReceiveHash;
use nat::Steering;

/// The steering of ports that all spread packets in the same way; `None` if they do not, or if one does not say.
pub(crate) fn steering(hashes: &[Option<ReceiveHash>]) -> Option<Steering> {
    let first = hashes.first()?.as_ref()?;
    let same = hashes.iter().all(|hash| hash.as_ref() == Some(first));
    same.then(|| Steering::new(&first.key, first.table.clone())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(seed: u8) -> ReceiveHash {
        let key = (0..52_u8)
            .map(|i| i.wrapping_mul(151).wrapping_add(seed).rotate_left(3))
            .collect();
        let table = (0..128).map(|i| i % 2).collect();
        ReceiveHash { key, table }
    }

    #[test]
    fn ports_that_differ_or_say_nothing_are_not_steered() {
        assert!(steering(&[Some(hash(1)), Some(hash(1))]).is_some());
        assert!(steering(&[Some(hash(1)), Some(hash(2))]).is_none());
        assert!(steering(&[Some(hash(1)), None]).is_none());
        assert!(steering(&[]).is_none());
    }

    /// The hash that ports are chosen by is the one that DPDK computes.
    #[test]
    fn the_hash_is_dpdks_own() {
        let mut state = 1_u64;
        let mut word = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for seed in 0..50 {
            let hash = hash(seed);
            let steering = steering(&[Some(hash.clone())]).expect("a whole key");
            for _ in 0..100 {
                let (source, destination, ports) = (word(), word(), word());
                let ours = steering.hash(source, destination, (ports >> 16) as u16, ports as u16);
                let theirs = dpdk_sys::software_hash(&[source, destination, ports], &hash.key);
                assert_eq!(Some(ours), theirs);
            }
        }
    }
}
