//! What a peer's task tells the core, in parcels: a wake-up of the core costs more than a prefix, and what a parcel holds
//! bounds how long a message of another peer waits behind it.

use std::collections::VecDeque;

use super::peer::News;

/// Work in a parcel, in prefixes; one UPDATE that makes more is a parcel of its own.
pub(super) const WORK: usize = 512;
/// What an UPDATE costs whatever its prefixes: its attributes are as much work as some of those.
const UPDATE: usize = 8;

/// Takes the next parcel off the front.
pub(super) fn take(backlog: &mut VecDeque<News>) -> Vec<News> {
    let (mut work, mut count) = (0, 0);
    for news in backlog.iter() {
        work += self::work(news);
        if count > 0 && work > WORK {
            break;
        }
        count += 1;
    }
    backlog.drain(..count).collect()
}

/// What the core has to do for it, in prefixes.
fn work(news: &News) -> usize {
    match news {
        News::Update(update) => {
            let announced = update.announced.iter().map(|announcement| announcement.prefixes.len());
            let evpn = update
                .evpn
                .announced
                .iter()
                .map(|announcement| announcement.routes.len());
            UPDATE + update.withdrawn.len() + update.evpn.withdrawn.len() + announced.chain(evpn).sum::<usize>()
        }
        _ => UPDATE,
    }
}

#[cfg(test)]
mod tests {
    use net::Prefix;

    use super::*;
    use crate::wire::{EvpnUpdate, Outcome, Update};

    fn withdrawal(prefixes: usize) -> News {
        let prefix: Prefix = "192.0.2.0/24".parse().expect("prefix");
        News::Update(Update {
            withdrawn: vec![prefix.into(); prefixes],
            announced: Vec::new(),
            evpn: EvpnUpdate::default(),
            end_of_rib: None,
            outcome: Outcome::Clean,
            faults: Vec::new(),
        })
    }

    #[test]
    fn a_parcel_is_bounded_and_order_is_kept() {
        let half = WORK / 2;
        let sizes = [WORK * 3, 1, WORK - 1 - 2 * UPDATE, 1, half, half - 2 * UPDATE, 7];
        let mut backlog: VecDeque<_> = sizes.into_iter().map(withdrawal).collect();
        let mut parcels = Vec::new();
        while !backlog.is_empty() {
            let taken = take(&mut backlog);
            parcels.push(taken.iter().map(|news| work(news) - UPDATE).collect::<Vec<_>>());
        }
        let expected: [&[usize]; 4] = [
            &[WORK * 3],
            &[1, WORK - 1 - 2 * UPDATE],
            &[1, half],
            &[half - 2 * UPDATE, 7],
        ];
        assert_eq!(parcels, expected);
    }
}
