//! Which flows of a group go to which of its members.
//!
//! A flow's hash picks a bucket and the bucket names a member. A change of members is a change of the buckets that were,
//! never a new division: buckets of members that went are given to those that stay, a member that comes takes its share
//! and no more, and every other bucket, so every other flow, keeps its member.
//!
//! Weights are met within rounding: a new division gives each member the bucket count above or below its exact share, at
//! least one. Over changes, which may only add to those that stay, what members have beyond their shares is in all less
//! than a 256th of the flows for each member.

use std::cmp::Reverse;

/// Buckets of groups with at most [`FEW`] members; their shares are met within 0.4 %.
const BUCKETS: usize = 256;
/// Buckets of larger groups: at least 16 a member.
const MANY_BUCKETS: usize = 1024;
const FEW: usize = 16;

/// Buckets and the weights that they were divided by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Division<'a, T> {
    /// A power of two of them; empty if nothing was divided yet.
    pub(crate) buckets: &'a [T],
    pub(crate) weights: &'a [(T, u32)],
}

/// Divides the flows among `members` (each once, with its weight), leaving as many as possible where `old` has them.
///
/// A power of two of buckets; none without members. They are never fewer than `old` has, unless one member is left.
pub(crate) fn divide<T: Copy + PartialEq>(old: Division<'_, T>, members: &[(T, u32)]) -> Vec<T> {
    match members {
        [] => return Vec::new(),
        [(only, _)] => return vec![*only],
        _ => {}
    }
    let survives = |bucket: &T| members.iter().any(|(m, _)| m == bucket);
    if old.buckets.len() < 2 || !old.buckets.iter().any(survives) {
        let shares = shares(members);
        let runs = members.iter().zip(shares);
        return runs.flat_map(|((m, _), n)| std::iter::repeat_n(*m, n)).collect();
    }
    let size = size(members).max(old.buckets.len());
    // More buckets than before say the same before anything moves: a hash's low bits pick the old bucket.
    let expanded = old.buckets.iter().cycle().take(size);
    let owners: Vec<Option<usize>> = expanded.map(|b| members.iter().position(|(m, _)| m == b)).collect();
    let weights: Vec<u32> = members.iter().map(|(_, weight)| *weight).collect();
    let changed = members.iter().map(|member| !old.weights.contains(member)).collect();
    Ledger::new(owners, weights, changed)
        .settled()
        .into_iter()
        .map(|owner| members[owner].0)
        .collect()
}

/// Buckets that differ between two divisions of the same flows: for each, who had it.
pub(crate) fn losers<T: Copy + PartialEq>(old: &[T], new: &[T]) -> Vec<T> {
    let size = old.len().max(new.len());
    let mut losers = Vec::new();
    if old.is_empty() {
        return losers;
    }
    for (index, had) in old.iter().cycle().take(size).enumerate() {
        let has = new.get(index % new.len().max(1));
        if has != Some(had) && !losers.contains(had) {
            losers.push(*had);
        }
    }
    losers
}

/// Who holds which bucket, and who should hold more or less.
struct Ledger {
    owners: Vec<Option<usize>>,
    /// By member.
    weights: Vec<u32>,
    /// Members that came, or whose weight is another: only they may take from, or give to, one that stays as it was.
    changed: Vec<bool>,
    held: Vec<usize>,
    total: i64,
}

impl Ledger {
    fn new(owners: Vec<Option<usize>>, weights: Vec<u32>, changed: Vec<bool>) -> Self {
        let mut held = vec![0; weights.len()];
        owners.iter().flatten().for_each(|owner| held[*owner] += 1);
        let total = weights.iter().map(|weight| i64::from(*weight)).sum();
        Self {
            owners,
            weights,
            changed,
            held,
            total,
        }
    }

    /// Exact share less what is held, in parts of a bucket: `total` parts are one.
    fn lack(&self, member: usize) -> i64 {
        i64::from(self.weights[member]) * self.owners.len() as i64 - self.held[member] as i64 * self.total
    }

    fn settled(mut self) -> Vec<usize> {
        for index in 0..self.owners.len() {
            if self.owners[index].is_none() {
                let neediest = self
                    .members()
                    .max_by_key(|m| (self.held[*m] == 0, self.lack(*m), Reverse(*m)));
                self.give(index, neediest);
            }
        }
        while let Some((donor, receiver)) = self.transfer() {
            let index = self.owners.iter().rposition(|owner| *owner == Some(donor));
            self.held[donor] -= 1;
            self.give(index.unwrap_or_default(), Some(receiver));
        }
        self.owners.into_iter().map(Option::unwrap_or_default).collect()
    }

    fn members(&self) -> std::ops::Range<usize> {
        0..self.weights.len()
    }

    fn give(&mut self, index: usize, receiver: Option<usize>) {
        self.owners[index] = receiver;
        if let Some(receiver) = receiver {
            self.held[receiver] += 1;
        }
    }

    /// Who should give a bucket to whom, if anybody.
    fn transfer(&self) -> Option<(usize, usize)> {
        let lacks = |m: &usize| self.held[*m] == 0 || self.lack(*m) >= self.total;
        let mut receivers: Vec<usize> = self.members().filter(lacks).collect();
        receivers.sort_by_key(|m| Reverse((self.held[*m] == 0, self.lack(*m))));
        receivers.into_iter().find_map(|receiver| {
            let must = self.held[receiver] == 0;
            let may = |donor: &usize| {
                let moved = self.changed[receiver] || self.changed[*donor];
                *donor != receiver && self.held[*donor] > 1 && moved && (must || self.lack(*donor) < 0)
            };
            let donor = self.members().filter(may).min_by_key(|donor| self.lack(*donor))?;
            Some((donor, receiver))
        })
    }
}

/// Buckets of a new division.
fn size<T>(members: &[(T, u32)]) -> usize {
    let equal = members.windows(2).all(|w| w[0].1 == w[1].1);
    match members.len() {
        count if equal && count.is_power_of_two() => count,
        count if count <= FEW => BUCKETS,
        _ => MANY_BUCKETS,
    }
}

/// Buckets of each member of a new division: at least one each, else in proportion (largest remainders).
fn shares<T>(members: &[(T, u32)]) -> Vec<usize> {
    let buckets = size(members);
    let total: u64 = members.iter().map(|(_, w)| u64::from(*w)).sum::<u64>().max(1);
    let exact = |weight: u32| u64::from(weight) * buckets as u64;
    let mut shares: Vec<usize> = members
        .iter()
        .map(|(_, w)| ((exact(*w) / total) as usize).max(1))
        .collect();
    // Largest remainder last to give and first to get; a share of one is never given up.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|m| Reverse(exact(members[*m].1) % total));
    let mut sum: usize = shares.iter().sum();
    for member in order.iter().cycle() {
        if sum == buckets {
            break;
        }
        if sum < buckets {
            shares[*member] += 1;
            sum += 1;
        } else {
            let largest = (0..shares.len()).max_by_key(|m| shares[*m]).unwrap_or(*member);
            shares[largest] -= 1;
            sum -= 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Members = Vec<(u16, u32)>;

    const NONE: Division<'_, u16> = Division {
        buckets: &[],
        weights: &[],
    };

    fn held(buckets: &[u16], member: u16) -> usize {
        buckets.iter().filter(|b| **b == member).count()
    }

    #[test]
    fn a_new_division_follows_the_weights() {
        assert_eq!(divide(NONE, &[]), Vec::<u16>::new());
        assert_eq!(divide(NONE, &[(9, 5)]), [9]);
        assert_eq!(divide(NONE, &[(1, 2), (2, 2)]), [1, 2]);
        let three = divide(NONE, &[(1, 1), (2, 1), (3, 1)]);
        assert_eq!([1, 2, 3].map(|m| held(&three, m)), [86, 85, 85]);
        let weighted = divide(NONE, &[(1, 3), (2, 1)]);
        assert_eq!([1, 2].map(|m| held(&weighted, m)), [192, 64]);
        let skewed = divide(NONE, &[(1, u32::MAX), (2, 1), (3, 1)]);
        assert_eq!([1, 2, 3].map(|m| held(&skewed, m)), [254, 1, 1]);
        let many: Members = (0..63).map(|m| (m, 1)).collect();
        let buckets = divide(NONE, &many);
        assert!((0..63).all(|m| (16..=17).contains(&held(&buckets, m))));
    }

    #[test]
    fn losers_are_those_of_whom_a_bucket_was_taken() {
        assert_eq!(losers(&[1, 2], &[1, 2, 1, 3]), [2]);
        assert_eq!(losers(&[1, 2, 1, 3], &[1]), [2, 3]);
        assert_eq!(losers(&[1], &[]), [1]);
        assert!(losers(&[], &[1]).is_empty() && losers(&[1, 2], &[1, 2, 1, 2]).is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Come(u16, u32),
        Go(usize),
        Weigh(usize, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let weight = || prop_oneof![6 => Just(1u32), 3 => 1..8u32, 1 => 1..70_000u32];
        let step = prop_oneof![
            5 => (0..80u16, weight()).prop_map(|(m, w)| Step::Come(m, w)),
            4 => any::<usize>().prop_map(Step::Go),
            1 => (any::<usize>(), weight()).prop_map(|(m, w)| Step::Weigh(m, w)),
        ];
        prop::collection::vec(step, 1..120)
    }

    /// Buckets beyond what the weights give, over all members that have more than the one everybody has.
    fn excess(buckets: &[u16], members: &Members) -> f64 {
        let total: f64 = members.iter().map(|(_, w)| f64::from(*w)).sum();
        let exact = |weight: u32| f64::from(weight) * buckets.len() as f64 / total;
        let over = members
            .iter()
            .map(|(m, w)| held(buckets, *m) as f64 - exact(*w).max(1.0));
        over.filter(|over| *over > 0.0).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn only_flows_of_members_that_went_move_and_weights_are_met(steps in steps()) {
            let mut members: Members = Vec::new();
            let mut buckets: Vec<u16> = Vec::new();
            for step in steps {
                let before = members.clone();
                match step {
                    Step::Come(m, w) if members.len() < 64 && members.iter().all(|(known, _)| *known != m) => members.push((m, w)),
                    Step::Go(n) if !members.is_empty() => drop(members.remove(n % members.len())),
                    Step::Weigh(n, w) if !members.is_empty() => {
                        let n = n % members.len();
                        members[n].1 = w;
                    }
                    _ => continue,
                }
                members.sort_unstable();
                let after = divide(Division { buckets: &buckets, weights: &before }, &members);
                prop_assert!(after.is_empty() || after.len().is_power_of_two() && after.len() <= MANY_BUCKETS);
                for (m, _) in &members {
                    prop_assert!(held(&after, *m) >= 1, "{m} has no flows");
                }
                let size = after.len().max(buckets.len());
                let moved: Vec<(u16, u16)> = if after.is_empty() || buckets.is_empty() {
                    Vec::new()
                } else {
                    (0..size).map(|i| (buckets[i % buckets.len()], after[i % after.len()])).filter(|(a, b)| a != b).collect()
                };
                let came: Vec<u16> = members.iter().map(|(m, _)| *m).filter(|m| before.iter().all(|(b, _)| b != m)).collect();
                let went: Vec<u16> = before.iter().map(|(m, _)| *m).filter(|m| members.iter().all(|(a, _)| a != m)).collect();
                let reweighed = members.iter().any(|(m, w)| before.iter().any(|(b, old)| b == m && old != w));
                if !reweighed {
                    for (from, to) in &moved {
                        prop_assert!(went.contains(from) || came.contains(to), "a flow moved from {from} to {to}");
                    }
                }
                if let ([new], false) = (&came[..], buckets.len() < 2) {
                    let total: f64 = members.iter().map(|(_, w)| f64::from(*w)).sum();
                    let weight = members.iter().find(|(m, _)| m == new).map_or(0, |(_, w)| *w);
                    let share = (f64::from(weight) * size as f64 / total).max(1.0);
                    prop_assert!(moved.len() as f64 <= share, "{} moved to one whose share is {share}", moved.len());
                }
                let bound = (members.len() * after.len()) as f64 / BUCKETS as f64;
                let excess = excess(&after, &members);
                prop_assert!(excess <= bound, "{excess} over, bound {bound}, in {members:?}");
                buckets = after;
            }
        }
    }
}
