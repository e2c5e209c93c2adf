//! How full pools are, and a warning before one runs out.
//!
//! A worker has a share of each pool and cannot lend from another's, so a pool is as full as the fullest share of it.

use std::collections::BTreeMap;

use net::VrfId;
use serde::Serialize;

/// What a pool has, that can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// TCP ports.
    Tcp,
    /// UDP ports.
    Udp,
    /// ICMP echo identifiers.
    Icmp,
    /// Port blocks, those in quarantine as well.
    Blocks,
}

/// One worker's share of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// VRF of the VPC that has the rule.
    pub vrf: VrfId,
    /// Position of the rule among those of its VPC, from 0.
    pub position: usize,
    /// What is counted.
    pub kind: PoolKind,
    /// In use, by whichever rule has these addresses.
    pub used: u32,
    /// That there are.
    pub capacity: u32,
}

/// A pool, all workers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PoolView {
    /// VRF of the VPC that has the rule.
    pub vrf: VrfId,
    /// Position of the rule among those of its VPC, from 0.
    pub position: usize,
    /// What is counted.
    pub kind: PoolKind,
    /// In use.
    pub used: u64,
    /// That there are.
    pub capacity: u64,
    /// Use of the fullest share, percent.
    pub percent: u32,
    /// It was warned of, and has not recovered.
    pub warned: bool,
}

/// Watches pools: warns once when one fills up, and says once when it has recovered.
#[derive(Debug, Default)]
pub struct PoolWatch {
    pools: BTreeMap<(VrfId, usize, PoolKind), PoolView>,
    warnings: u64,
}

impl PoolWatch {
    /// Percent at which a pool is warned of.
    pub const WARN: u32 = 80;
    /// Percent below which it has recovered.
    pub const RECOVERED: u32 = 70;

    /// What every worker has of every pool. Gives the pools that are to be warned of, and those that have recovered, as
    /// `warned` says.
    pub fn look(&mut self, shares: &[PoolUse]) -> Vec<PoolView> {
        let before = std::mem::take(&mut self.pools);
        for share in shares {
            let key = (share.vrf, share.position, share.kind);
            let pool = self.pools.entry(key).or_insert(PoolView {
                vrf: share.vrf,
                position: share.position,
                kind: share.kind,
                used: 0,
                capacity: 0,
                percent: 0,
                warned: before.get(&key).is_some_and(|pool| pool.warned),
            });
            pool.used += u64::from(share.used);
            pool.capacity += u64::from(share.capacity);
            let percent = u64::from(share.used) * 100 / u64::from(share.capacity.max(1));
            pool.percent = pool.percent.max(percent as u32);
        }
        let mut news = Vec::new();
        for pool in self.pools.values_mut() {
            let warned = match pool.warned {
                true => pool.percent >= Self::RECOVERED,
                false => pool.percent >= Self::WARN,
            };
            if warned != pool.warned {
                pool.warned = warned;
                self.warnings += u64::from(warned);
                news.push(*pool);
            }
        }
        news
    }

    /// Every pool as it was last seen.
    pub fn pools(&self) -> impl Iterator<Item = &PoolView> {
        self.pools.values()
    }

    /// Warnings since the start.
    pub const fn warnings(&self) -> u64 {
        self.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(used: u32) -> PoolUse {
        PoolUse {
            vrf: VrfId(1),
            position: 0,
            kind: PoolKind::Tcp,
            used,
            capacity: 200,
        }
    }

    #[test]
    fn a_pool_is_warned_of_once_until_it_has_recovered() {
        let mut watch = PoolWatch::default();
        let mut said = Vec::new();
        for used in [0, 159, 160, 165, 141, 160, 200, 140, 139, 159, 160] {
            said.extend(watch.look(&[share(used)]).iter().map(|pool| (used, pool.warned)));
        }
        assert_eq!(said, [(160, true), (139, false), (160, true)]);
        assert_eq!(watch.warnings(), 2);
    }

    #[test]
    fn the_fullest_share_counts_and_each_pool_for_itself() {
        let mut watch = PoolWatch::default();
        let other = PoolUse {
            kind: PoolKind::Udp,
            ..share(10)
        };
        let news = watch.look(&[share(10), share(170), other]);
        assert_eq!(news.len(), 1);
        assert_eq!(
            (news[0].kind, news[0].used, news[0].capacity, news[0].percent),
            (PoolKind::Tcp, 180, 400, 85)
        );
        assert_eq!(watch.pools().count(), 2);
        // A rule that is gone is forgotten.
        assert_eq!(watch.look(&[other]), []);
        assert_eq!(watch.pools().count(), 1);
    }
}
