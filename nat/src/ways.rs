//! What the ways of connections depend on, in columns: all that a revalidation pass reads of a connection that a generation
//! does not touch.
//!
//! A pass takes a block of 64 connections at once. The questions that leave most connections out, whether a destination is in
//! a prefix that changed and whether a next hop changed, are loops over one column, which compile to vector instructions;
//! what they find suspicious is looked at one by one.

use net::{NextHopId, VrfId};

use crate::delta::DeltaIndex;
use crate::entry::Entry;

/// Connections of a block.
pub(crate) const BLOCK: usize = 64;

/// What the way of one connection depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ways {
    /// VRF in which each direction's route lookup ended, original direction first.
    egress: [VrfId; 2],
    /// VRF in which it begins: that of the VPC, and between VPCs that of the one that the direction goes to.
    begins: [VrfId; 2],
}

/// A bit for each connection of a block.
type Mask = u64;

const LIVE: u8 = 1;
const UNROUTED: u8 = 2;

/// One row for each slot.
#[derive(Debug, Default)]
pub(crate) struct WayTable {
    /// Destination of each direction's packets after translation.
    destinations: [Vec<u32>; 2],
    next_hops: [Vec<u32>; 2],
    /// Generation of the routes.
    stamps: Vec<u32>,
    states: Vec<u8>,
    rest: Vec<Ways>,
}

impl WayTable {
    pub(crate) fn with_capacity(slots: usize) -> Self {
        let column = || Vec::with_capacity(slots);
        Self {
            destinations: [column(), column()],
            next_hops: [column(), column()],
            stamps: column(),
            states: Vec::with_capacity(slots),
            rest: Vec::with_capacity(slots),
        }
    }

    /// Has a row for each of so many slots, without a connection where there was none.
    pub(crate) fn grow(&mut self, slots: usize) {
        let columns = self.destinations.iter_mut().chain(&mut self.next_hops);
        columns
            .chain(std::iter::once(&mut self.stamps))
            .for_each(|column| column.resize(slots, 0));
        self.states.resize(slots, 0);
        self.rest.resize(slots, Ways::default());
    }

    /// Notes what the way of a connection depends on.
    pub(crate) fn set(&mut self, connection: u32, pair: &[Entry; 2], stamp: u32) {
        let at = connection as usize;
        for (i, entry) in pair.iter().enumerate() {
            self.destinations[i][at] = entry.rewrite.destination();
            self.next_hops[i][at] = entry.next_hop.0;
        }
        let [original, reply] = pair;
        let begins = |entry: &Entry, opposite: &Entry| match opposite.key.vrf() {
            VrfId::DEFAULT => entry.key.vrf(),
            inside => inside,
        };
        self.rest[at] = Ways {
            egress: [original.egress_vrf, reply.egress_vrf],
            begins: [begins(original, reply), begins(reply, original)],
        };
        self.states[at] = LIVE
            | if original.flags & Entry::UNROUTED != 0 {
                UNROUTED
            } else {
                0
            };
        self.stamps[at] = stamp;
    }

    /// The slot holds no live connection any more.
    pub(crate) fn clear(&mut self, connection: u32) {
        self.states[connection as usize] = 0;
    }

    /// Low 32 bits of the generation that a slot's routes are of.
    #[inline]
    pub(crate) fn stamp(&self, connection: u32) -> u32 {
        self.stamps[connection as usize]
    }

    pub(crate) fn set_stamp(&mut self, connection: u32, stamp: u32) {
        self.stamps[connection as usize] = stamp;
    }

    /// VRF of a connection's inner end, and of the one that opened it if both are in VPCs: where replies go.
    pub(crate) fn inner(&self, connection: u32) -> VrfId {
        self.rest[connection as usize].begins[1]
    }

    /// True unless `delta` says that the connection goes the way it went.
    pub(crate) fn is_touched(&self, connection: u32, delta: &DeltaIndex) -> bool {
        let at = connection as usize;
        let Ways { egress, begins } = self.rest[at];
        self.states[at] & UNROUTED != 0
            || delta.touches_all()
            || (0..2).any(|i| {
                let (destination, next_hop) = (self.destinations[i][at], NextHopId(self.next_hops[i][at]));
                delta.touches(begins[i], egress[i], destination, next_hop)
            })
    }

    /// Where a direction's lookup begins and where it ended, and its next hop; true for one that waits for a route.
    pub(crate) fn of(&self, connection: u32, direction: usize) -> (VrfId, VrfId, NextHopId, bool) {
        let at = connection as usize;
        let Ways { egress, begins } = self.rest[at];
        let next_hop = NextHopId(self.next_hops[direction][at]);
        (
            begins[direction],
            egress[direction],
            next_hop,
            self.states[at] & UNROUTED != 0,
        )
    }

    /// The live connections of a block from `first` on, `length` slots at most, whose stamp is not `stamp`, and those of
    /// them that `delta` may touch. The others of the block are of `stamp` from here on.
    pub(crate) fn scan(&mut self, first: usize, length: usize, delta: &DeltaIndex, stamp: u32) -> (Mask, Mask) {
        let end = (first + length.min(BLOCK)).min(self.states.len());
        let length = end - first;
        let states = &self.states[first..end];
        let mut behind = [0_u8; BLOCK];
        for ((flag, state), old) in behind.iter_mut().zip(states).zip(&self.stamps[first..end]) {
            *flag = u8::from(*old != stamp) & (state & LIVE);
        }
        let mut touched = [0_u8; BLOCK];
        for (flag, state) in touched.iter_mut().zip(states) {
            *flag = state & UNROUTED;
        }
        match (delta.touches_all(), delta.few_prefixes(), delta.few_next_hops()) {
            (true, ..) => touched = [1; BLOCK],
            (false, Some(prefixes), Some(next_hops)) => {
                for column in &self.destinations {
                    for changed in prefixes {
                        mark(&mut touched, &column[first..end], changed.mask, changed.network);
                    }
                }
                for column in &self.next_hops {
                    for next_hop in next_hops {
                        mark(&mut touched, &column[first..end], u32::MAX, *next_hop);
                    }
                }
            }
            _ => {
                for (i, flag) in touched[..length].iter_mut().enumerate() {
                    *flag |= u8::from(behind[i] != 0 && self.is_touched((first + i) as u32, delta));
                }
            }
        }
        let (behind, touched) = (mask_of(&behind), mask_of(&touched));
        if behind & touched == 0 {
            self.stamps[first..end].fill(stamp);
        } else {
            let stamps = self.stamps[first..end].iter_mut().enumerate();
            stamps
                .filter(|(i, _)| (behind & touched) >> i & 1 == 0)
                .for_each(|(_, old)| *old = stamp);
        }
        (behind, behind & touched)
    }
}

/// Marks the rows whose value under `mask` is `wanted`.
#[inline]
fn mark(flags: &mut [u8; BLOCK], column: &[u32], mask: u32, wanted: u32) {
    for (flag, value) in flags.iter_mut().zip(column) {
        *flag |= u8::from(value & mask == wanted);
    }
}

/// A bit for each flag that is not 0.
fn mask_of(flags: &[u8; BLOCK]) -> Mask {
    let any = flags.iter().fold(0, |any, flag| any | flag);
    if any == 0 {
        return 0;
    }
    let bits = flags.iter().enumerate();
    bits.fold(0, |mask, (i, flag)| mask | u64::from(*flag != 0) << i)
}

#[cfg(test)]
mod tests {
    use net::{Generation, Prefix};

    use super::*;
    use crate::random::Random;
    use crate::{Delta, FlowKey, Rewrite};

    fn entry(destination: u32, next_hop: u32, egress: VrfId, vrf: VrfId) -> Entry {
        let key = FlowKey::v4(vrf, 17, 1, 2, 3, 4);
        Entry {
            rewrite: Rewrite::new(&key, &FlowKey::v4(vrf, 17, 1, destination, 3, 4)),
            next_hop: NextHopId(next_hop),
            egress_vrf: egress,
            ..Entry::of(key)
        }
    }

    /// Whatever a delta holds, few or many: a block finds at least what the question for each connection finds, and
    /// what it does not find is stamped.
    #[test]
    fn a_scan_misses_no_connection_that_is_touched() {
        const SLOTS: usize = 150;
        let mut random = Random::new(4);
        for round in 0..300_u32 {
            let mut ways = WayTable::with_capacity(SLOTS);
            ways.grow(SLOTS);
            for at in 0..SLOTS as u32 {
                let mut address = || 0x0a00_0000 | random.below(1 << 12);
                let (there, back) = (address(), address());
                // To the fabric, or to another VPC.
                let to = VrfId(random.below(2) as u16 * 2);
                let pair = [
                    entry(there, random.below(60), to, VrfId(1)),
                    entry(back, random.below(60), VrfId(1), to),
                ];
                ways.set(at, &pair, random.below(2));
                if random.below(9) == 0 {
                    ways.clear(at);
                }
            }
            let mut delta = Delta {
                everything: random.below(20) == 0,
                ..Delta::default()
            };
            for _ in 0..random.below(3) * random.below(10) {
                let address = (0x0a00_0000 | random.below(1 << 12)).to_be_bytes();
                let prefix = Prefix::containing(address.into(), 24 + random.below(9) as u8).expect("at most 32");
                delta.prefixes.push((VrfId(random.below(3) as u16), prefix));
                delta.next_hops.push(NextHopId(random.below(100)));
            }
            let mut index = DeltaIndex::default();
            index.add(&delta);
            let stamp = Generation(2 + u64::from(round)).0 as u32;
            let expected: Vec<bool> = (0..SLOTS as u32)
                .map(|at| ways.states[at as usize] & LIVE != 0 && ways.is_touched(at, &index))
                .collect();
            for first in (0..SLOTS).step_by(BLOCK) {
                let (behind, touched) = ways.scan(first, SLOTS - first, &index, stamp);
                assert_eq!(touched & !behind, 0);
                for (i, expected) in expected[first..].iter().take(BLOCK).enumerate() {
                    let (found, at) = (touched >> i & 1 == 1, first + i);
                    assert!(found || !expected, "slot {at} of round {round}");
                    assert_eq!(found, ways.stamp(at as u32) != stamp);
                }
            }
        }
    }
}
