//! Walks through the table in slices, while it changes.

use std::collections::BTreeMap;

use net::policy::Validity;
use proptest::prelude::*;

use super::*;
use crate::mrt;
use crate::rpki::Vrp;

fn numbered(number: u32) -> Prefix {
    Prefix::containing(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (number << 8))), 24).expect("prefix")
}

fn update(from: &PeerInfo, announced: impl Iterator<Item = u32>, withdrawn: impl Iterator<Item = u32>) -> Update {
    let mut update = announce(from, &[]);
    update.announced[0].prefixes = announced.map(|number| numbered(number).into()).collect();
    update.withdrawn = withdrawn.map(|number| numbered(number).into()).collect();
    update
}

/// The prefixes with these numbers may come from the AS.
fn vrps(numbers: impl Iterator<Item = u32>, asn: u32) -> Option<Arc<VrpSet>> {
    let vrp = |number| Vrp {
        prefix: numbered(number),
        max_length: 24,
        asn,
    };
    Some(Arc::new(numbers.map(vrp).collect()))
}

/// A table of so many slices and some, from one peer.
fn table(slices: usize) -> (Rib, PeerInfo, u32) {
    let (mut rib, one) = (rib(), peer(1, true));
    rib.peer_up(one.clone());
    let count = (slices * SLICE) as u32 + 100;
    rib.update(one.address, update(&one, 0..count, 0..0)).expect("no limit");
    rib.take_changes();
    (rib, one, count)
}

#[test]
fn what_is_there_all_the_time_is_in_one_slice_whatever_comes_and_goes() {
    let (mut rib, one, count) = table(3);
    let mut seen: BTreeMap<Prefix, usize> = BTreeMap::new();
    let (mut place, mut slices) = (Some(Place::default()), 0);
    while let Some(from) = place {
        let slice = rib.prefixes(from);
        assert!(slice.items.len() <= SLICE);
        slice
            .items
            .iter()
            .for_each(|prefix| *seen.entry(*prefix).or_default() += 1);
        (place, slices) = (slice.next, slices + 1);
        // Every third goes, and some of those come back, others are new.
        let moved = slices * 999..slices * 999 + 600;
        let gone = moved.clone().filter(|number| number % 3 == 0);
        rib.update(one.address, update(&one, 0..0, gone)).expect("no limit");
        rib.take_changes();
        let back = moved
            .filter(|number| number % 6 == 0)
            .chain(count + slices..count + slices + 1);
        rib.update(one.address, update(&one, back, 0..0)).expect("no limit");
        rib.take_changes();
    }
    assert!(slices >= 4, "{slices}");
    for number in (0..count).filter(|number| number % 3 != 0) {
        assert_eq!(seen.get(&numbered(number)), Some(&1), "{number}");
    }
}

#[test]
fn a_snapshot_in_slices_is_the_whole_table_and_of_a_prefix_that_moved_the_later() {
    let (mut rib, one, count) = table(2);
    let (first, next) = rib.snapshot(mrt::Table::AdjRibIn, Place::default());
    let mut slices = first.slices.clone();
    assert!(slices[0].len() <= SLICE);
    // A new prefix gets the position of the one that has gone, and that one a position at the end.
    rib.update(one.address, update(&one, 0..0, 0..1)).expect("no limit");
    rib.take_changes();
    let mut again = update(&one, 0..1, 0..0);
    again.announced[0].prefixes.insert(0, numbered(count).into());
    again.announced[0].attributes.med = Some(7);
    rib.update(one.address, again).expect("no limit");
    rib.take_changes();
    let mut place = next;
    while let Some(from) = place {
        let (slice, next) = rib.snapshot(mrt::Table::AdjRibIn, from);
        slices.extend(slice.slices);
        place = next;
    }
    let all: Vec<_> = slices.iter().flatten().collect();
    assert_eq!(all.iter().filter(|entry| entry.prefix == numbered(0)).count(), 2);
    let whole = mrt::Snapshot { slices, ..first };
    let dump = mrt::TableDump::new(whole, std::time::Duration::ZERO).expect("one peer");
    let records: Vec<_> = dump.collect();
    // The table of peers, and each prefix once.
    assert_eq!(records.len(), 1 + count as usize);
    let paths = |record: &[u8]| u16::from_be_bytes([record[12 + 8], record[12 + 9]]);
    assert!(records[1..].iter().all(|record| paths(record) == 1));
    // MULTI_EXIT_DISC of the later one.
    assert!(records[1].windows(7).any(|octets| octets == [0x80, 4, 4, 0, 0, 0, 7]));
}

#[test]
fn a_change_of_the_rpki_looks_at_a_bounded_part_of_the_table_at_a_time() {
    let (mut rib, one, count) = table(3);
    let validity = |rib: &Rib, number: u32| {
        let entry = rib.table.get(&numbered(number)).expect("prefix");
        entry.paths[0].marks().validity
    };
    rib.set_vrps(vrps(0..count, one.asn));
    let mut turns = 0;
    while rib.is_revalidating() {
        rib.revalidate();
        assert!(rib.dirty.len() <= SLICE);
        rib.take_changes();
        turns += 1;
        if turns == 2 {
            // What comes meanwhile is validated by what holds now, and a second change begins anew.
            rib.update(one.address, update(&one, count..count + 1, 0..1))
                .expect("no limit");
            rib.take_changes();
            assert_eq!(validity(&rib, count), Validity::NotFound);
            rib.set_vrps(vrps(0..count / 2, one.asn + 1));
        }
    }
    assert_eq!(turns, 2 + 4);
    for number in 1..=count {
        let expected = if number < count / 2 {
            Validity::Invalid
        } else {
            Validity::NotFound
        };
        assert_eq!(validity(&rib, number), expected, "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A collector is told slices and changes, in the order in which they are made.
    #[test]
    fn a_collector_that_comes_while_routes_change_ends_with_the_adj_rib_in(
        rounds in prop::collection::vec((0_u32..4500, 0_u32..4500, any::<bool>()), 1..12),
    ) {
        let (mut rib, one, _) = table(2);
        rib.watch(true);
        let mut known: BTreeMap<Nlri, Arc<Attributes>> = BTreeMap::new();
        let mut hear = |learned: Vec<Learned>| {
            for Learned { nlri, received, .. } in learned {
                match received {
                    Some(attributes) => known.insert(nlri, attributes),
                    None => known.remove(&nlri),
                };
            }
        };
        let mut place = Some(Place::default());
        for (announced, withdrawn, walks) in rounds {
            rib.update(one.address, update(&one, announced..announced + 300, withdrawn..withdrawn + 300)).expect("no limit");
            hear(rib.take_learned());
            rib.take_changes();
            if walks && let Some(from) = place {
                let slice = rib.every_learned(from);
                prop_assert!(slice.items.len() <= SLICE);
                hear(slice.items);
                place = slice.next;
            }
        }
        while let Some(from) = place {
            let slice = rib.every_learned(from);
            hear(slice.items);
            place = slice.next;
        }
        let expected: BTreeMap<_, _> = rib
            .paths_from(one.address)
            .map(|(nlri, path)| (nlri, Arc::clone(&path.received)))
            .collect();
        prop_assert_eq!(known, expected);
    }
}
