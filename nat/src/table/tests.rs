//! The table beside a map, and its growth.

use net::VrfId;

use super::*;
use crate::random::Random;

fn key(n: u32) -> FlowKey {
    FlowKey::v4(VrfId(1), 6, n, !n, n as u16, 80)
}

fn insert(table: &mut Table, n: u32, entries: &[Entry]) {
    let hash = table.expect(&key(n));
    table.insert(hash, EntryRef(n), entries);
}

/// Far beyond the load that the table is made for, so that chains are long.
#[test]
fn a_crowded_table_finds_what_a_map_finds() {
    let mut random = Random::new(5);
    let mut table = Table::new(5 * 8, Secret::new(&mut random));
    let entries: Vec<_> = (0..400).map(|n| Entry::of(key(n))).collect();
    let mut present = vec![false; entries.len()];
    for _ in 0..40_000 {
        let n = random.below(400);
        match present[n as usize] {
            true => table.remove(&key(n), EntryRef(n)),
            false => insert(&mut table, n, &entries),
        }
        present[n as usize] ^= true;
        let probe = random.below(400);
        let expected = present[probe as usize].then_some(EntryRef(probe));
        assert_eq!(table.get(&key(probe), &entries), expected);
        let keys = [key(probe), key(n), key(999)];
        let found = table.get_burst::<4>(keys.len(), |i| keys[i], &entries);
        assert_eq!(
            found,
            [expected, present[n as usize].then_some(EntryRef(n)), None, None]
        );
    }
    for n in (0..400).filter(|n| present[*n as usize]) {
        table.remove(&key(n), EntryRef(n));
    }
    assert_eq!(table.census(), (0, 0));
}

/// Growth is one bucket at a time, finds everything at each size, and ends evenly loaded.
#[test]
fn a_table_grows_bucket_by_bucket_and_loses_nothing() {
    const ENTRIES: u32 = 120_000;
    let entries: Vec<_> = (0..ENTRIES).map(|n| Entry::of(key(n))).collect();
    let mut table = Table::new(ENTRIES, Secret::new(&mut Random::new(1)));
    assert!(table.buckets.len() <= FIRST, "a table begins small");
    let (room, mut random) = (table.buckets.capacity(), Random::new(2));
    for n in 0..ENTRIES {
        let before = table.buckets.len();
        insert(&mut table, n, &entries);
        assert!(
            table.buckets.len() - before <= 1,
            "no insertion does more than split a bucket"
        );
        let probe = random.below(n + 1);
        assert_eq!(table.get(&key(probe), &entries), Some(EntryRef(probe)));
    }
    assert_eq!(table.buckets.capacity(), room, "nothing was copied elsewhere");
    for n in 0..ENTRIES {
        assert_eq!(table.get(&key(n), &entries), Some(EntryRef(n)));
    }
    let (all, spilled) = table.census();
    assert_eq!(all, ENTRIES as usize);
    assert!(spilled < all / 100, "{spilled} spill buckets at full size");
    (0..ENTRIES).for_each(|n| table.remove(&key(n), EntryRef(n)));
    assert_eq!(table.census(), (0, 0));
}
