//! How much of each pool a worker has given out.

use super::Ports;
use crate::policy::{Choice, Policy};
use crate::pools::{PoolKind, PoolUse};
use crate::time::Tick;

impl Ports {
    /// This worker's share of the pool of each rule. Addresses that have several rules with different ranges count in
    /// each of them.
    pub(crate) fn pool_use(&self, policy: &Policy, now: Tick) -> Vec<PoolUse> {
        let mut all = Vec::new();
        for (vrf, position, index) in policy.rule_positions() {
            let (rule, pool) = (&policy.rules()[index], &self.pools[index]);
            let numbers = &pool.numbers;
            let Some((first, last)) = pool.slots else {
                continue;
            };
            let capacity = numbers.len() as u32 * (u32::from(last - first) + 1);
            let sets = numbers.iter().filter_map(|n| self.addresses[*n as usize].as_ref());
            for (protocol, kind) in [PoolKind::Tcp, PoolKind::Udp, PoolKind::Icmp].into_iter().enumerate() {
                let used: u32 = sets.clone().map(|ports| ports.sets[protocol].in_use).sum();
                all.push(PoolUse {
                    vrf,
                    position,
                    kind,
                    used: used.min(capacity),
                    capacity,
                });
            }
            if let Choice::Blocks(_) = rule.choice {
                let (used, capacity) = self.block_use(numbers, now);
                all.push(PoolUse {
                    vrf,
                    position,
                    kind: PoolKind::Blocks,
                    used,
                    capacity,
                });
            }
        }
        all
    }
}
