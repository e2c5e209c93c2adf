//! Maglev hashing (Eisenbud and others, NSDI 2016): which of several targets a client goes to. Every worker and every
//! gateway comes to the same answer, and when a target comes or goes few clients of the others move.

use crate::random::mix;

/// Sizes of tables: primes, each a hundred times the targets that it is for, so that shares are right to a percent.
const SIZES: [u32; 7] = [251, 1009, 4001, 8009, 16_001, 32_003, 65_537];

/// Most targets of a table.
pub(super) const MOST: usize = 512;

/// A table of targets, by hash.
#[derive(Debug, Clone)]
pub(super) struct Maglev(Box<[u16]>);

impl Maglev {
    /// A table of targets, each with a number that is its own and a weight; one weight at least is above zero.
    pub(super) fn new(targets: &[(u64, u16)]) -> Self {
        let wanted = targets.len() as u32 * 100;
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(65_537);
        let heaviest = targets
            .iter()
            .map(|(_, weight)| u32::from(*weight))
            .max()
            .unwrap_or(1)
            .max(1);
        // Each target asks for the places of a walk of its own through the table.
        let mut walks: Vec<(u32, u32)> = targets
            .iter()
            .map(|(name, _)| {
                let (offset, skip) = (mix(*name), mix(*name ^ 0x5bd1_e995_0000_0001));
                (
                    (offset % u64::from(size)) as u32,
                    (skip % u64::from(size - 1)) as u32 + 1,
                )
            })
            .collect();
        let mut credits = vec![0u32; targets.len()];
        let mut table = vec![None; size as usize];
        let mut left = size;
        while left > 0 {
            for (target, (_, weight)) in targets.iter().enumerate() {
                credits[target] += u32::from(*weight);
                if credits[target] < heaviest || left == 0 {
                    continue;
                }
                credits[target] -= heaviest;
                let (place, skip) = &mut walks[target];
                while table[*place as usize].is_some() {
                    *place = (*place + *skip) % size;
                }
                table[*place as usize] = Some(target as u16);
                left -= 1;
            }
        }
        Self(table.into_iter().map(|target| target.unwrap_or(0)).collect())
    }

    /// The target of a hash.
    pub(super) fn get(&self, hash: u64) -> usize {
        usize::from(self.0[(hash % self.0.len() as u64) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(targets: &[(u64, u16)]) -> Vec<f64> {
        let table = Maglev::new(targets);
        let mut counts = vec![0u32; targets.len()];
        table.0.iter().for_each(|target| counts[usize::from(*target)] += 1);
        counts
            .iter()
            .map(|count| f64::from(*count) / table.0.len() as f64)
            .collect()
    }

    #[test]
    fn shares_follow_weights() {
        for weights in [
            vec![1, 1, 1],
            vec![1, 2, 5],
            vec![0, 3, 1],
            vec![100, 1, 50, 7],
            vec![1; 100],
        ] {
            let targets: Vec<_> = weights.iter().enumerate().map(|(n, w)| (n as u64 + 7, *w)).collect();
            let all: u16 = weights.iter().sum();
            for (share, weight) in shares(&targets).into_iter().zip(&weights) {
                let wanted = f64::from(*weight) / f64::from(all);
                assert!((share - wanted).abs() < 0.005, "{share} of {weights:?}, not {wanted}");
            }
        }
    }

    #[test]
    fn few_clients_of_others_move_when_a_target_goes() {
        let all: Vec<(u64, u16)> = (0..10).map(|n| (n * 31 + 5, 1)).collect();
        let (before, after) = (Maglev::new(&all), Maglev::new(&all[..9]));
        let (mut moved, mut others) = (0, 0);
        for client in 0..100_000u64 {
            let hash = mix(client);
            if before.get(hash) != 9 {
                others += 1;
                moved += u32::from(before.get(hash) != after.get(hash));
            }
        }
        assert!(moved * 20 < others, "{moved} of {others} clients moved for no reason");
    }
}
