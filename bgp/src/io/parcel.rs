//! What a peer's task tells the core, in parcels: a wake-up of the core costs more than a prefix, and what a parcel holds
//! bounds how long a message of another peer waits behind it.

use std::collections::VecDeque;

use super::peer::News;

/// Prefixes in a parcel; one UPDATE that has more is a parcel of its own.
pub(super) const PREFIXES: usize = 256;

/// Takes the next parcel off the front.
pub(super) fn take(backlog: &mut VecDeque<News>) -> Vec<News> {
    let mut weight = 0;
    let mut count = 0;
    for news in backlog.iter() {
        weight += self::weight(news);
        if count > 0 && weight > PREFIXES {
            break;
        }
        count += 1;
    }
    backlog.drain(..count).collect()
}

/// What the core has to do for it, in prefixes.
fn weight(news: &News) -> usize {
    match news {
        News::Update(update) => {
            let announced = update.announced.iter().map(|announcement| announcement.prefixes.len());
            1 + update.withdrawn.len() + announced.sum::<usize>()
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use net::Prefix;

    use super::*;
    use crate::wire::{Outcome, Update};

    fn withdrawal(prefixes: usize) -> News {
        let prefix: Prefix = "192.0.2.0/24".parse().expect("prefix");
        News::Update(Update {
            withdrawn: vec![prefix.into(); prefixes],
            announced: Vec::new(),
            end_of_rib: None,
            outcome: Outcome::Clean,
            faults: Vec::new(),
        })
    }

    #[test]
    fn a_parcel_is_bounded_and_order_is_kept() {
        let sizes = [PREFIXES * 3, 1, PREFIXES - 3, 1, PREFIXES / 2, PREFIXES / 2 - 2, 7];
        let mut backlog: VecDeque<_> = sizes.into_iter().map(withdrawal).collect();
        let mut parcels = Vec::new();
        while !backlog.is_empty() {
            let taken = take(&mut backlog);
            parcels.push(taken.iter().map(|news| weight(news) - 1).collect::<Vec<_>>());
        }
        let expected: [&[usize]; 4] = [
            &[PREFIXES * 3],
            &[1, PREFIXES - 3],
            &[1, PREFIXES / 2],
            &[PREFIXES / 2 - 2, 7],
        ];
        assert_eq!(parcels, expected);
    }
}
