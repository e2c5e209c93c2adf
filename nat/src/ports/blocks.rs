//! Port blocks: a subscriber gets ports by the block, so that a log has a line for each block and not for each connection
//! (RFC 6888 REQ-14, RFC 7857 section 9 on logs).
//!
//! A block is a run of slots of this worker: ports that are `workers` apart. It is handed out only when none of its
//! ports is in use, whoever has it from an older policy, and rests for a quarantine before it gets another owner.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use net::VrfId;

use super::set::ANY;
use super::{Lease, Ports, Want, protocol_index};
use crate::address::Address;
use crate::policy::{Choice, MasqueradeRule, Policy, PortBlocks};
use crate::random::{Random, mix};
use crate::time::Tick;

/// A host of a VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Subscriber {
    pub(crate) vrf: VrfId,
    pub(crate) address: Address,
}

/// A block was given to a subscriber or taken back (RFC 8158 section 5.6.2, `natEvent` 14 and 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEvent {
    /// VRF of the subscriber.
    pub vrf: VrfId,
    /// Address of the subscriber.
    pub subscriber: IpAddr,
    /// Public address.
    pub address: IpAddr,
    /// First and last port (`portRangeStart`, `portRangeEnd`).
    pub ports: (u16, u16),
    /// From one port to the next (`portRangeStepSize`).
    pub step: u16,
    /// Given, not taken back.
    pub assigned: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    holder: Option<Subscriber>,
    in_use: u32,
    /// Tick from which it may have another owner.
    rests_until: u32,
}

/// The blocks of one address.
#[derive(Debug, Clone)]
struct Table {
    address: Address,
    choice: PortBlocks,
    first: u16,
    blocks: Vec<Block>,
}

impl Table {
    fn slots(&self, block: usize) -> (u16, u16) {
        let first = usize::from(self.first) + block * usize::from(self.choice.size);
        (first as u16, (first + usize::from(self.choice.size) - 1) as u16)
    }

    fn block_of(&self, slot: u16) -> Option<usize> {
        let block = usize::from(slot.checked_sub(self.first)? / self.choice.size);
        (block < self.blocks.len()).then_some(block)
    }
}

/// Most events kept for a caller who does not fetch them.
const EVENTS: usize = 4096;

/// Every block of one worker.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// By number of the address.
    tables: HashMap<u32, Table>,
    /// Number of the address and position of each block of a subscriber.
    held: HashMap<Subscriber, Vec<(u32, usize)>>,
    events: VecDeque<BlockEvent>,
    lost: u64,
    step: u16,
}

impl Blocks {
    fn tell(&mut self, number: u32, block: usize, subscriber: Subscriber, assigned: bool, port: impl Fn(u16) -> u16) {
        let table = &self.tables[&number];
        let (first, last) = table.slots(block);
        if self.events.len() == EVENTS {
            self.lost += 1;
            return;
        }
        self.events.push_back(BlockEvent {
            vrf: subscriber.vrf,
            subscriber: subscriber.address.ip(),
            address: table.address.ip(),
            ports: (port(first), port(last)),
            step: self.step,
            assigned,
        });
    }

    /// A port was given back; with its last one a block is free after its quarantine.
    fn leave(&mut self, number: u32, slot: u16, now: Tick) -> Option<(usize, Subscriber)> {
        let table = self.tables.get_mut(&number)?;
        let at = table.block_of(slot)?;
        let rests = table.choice.quarantine;
        let block = &mut table.blocks[at];
        let holder = block.holder?;
        block.in_use = block.in_use.saturating_sub(1);
        if block.in_use > 0 {
            return None;
        }
        block.holder = None;
        block.rests_until = now.after(rests).0;
        self.forget(holder, |held| held != (number, at));
        Some((at, holder))
    }

    fn forget(&mut self, holder: Subscriber, keep: impl Fn((u32, usize)) -> bool) {
        if let Some(held) = self.held.get_mut(&holder) {
            held.retain(|block| keep(*block));
            if held.is_empty() {
                self.held.remove(&holder);
            }
        }
    }

    pub(super) fn in_use(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }
}

impl Ports {
    /// Follows a policy: tables appear, and go with their rules. One whose blocks change begins anew; ports that are in
    /// use stay taken, and what they lie in is not handed out until they are free.
    pub(super) fn follow_blocks(&mut self, policy: &Policy) {
        let mut wanted = HashMap::new();
        for (rule, pool) in policy.rules().iter().zip(&self.pools) {
            let (Choice::Blocks(choice), Some((first, last))) = (rule.choice, self.slice.slots_of(rule.ports)) else {
                continue;
            };
            let count = (usize::from(last - first) + 1) / usize::from(choice.size);
            for (number, address) in pool.numbers.iter().zip(&rule.pool) {
                let blocks = vec![Block::default(); count];
                wanted.insert(
                    *number,
                    Table {
                        address: *address,
                        choice,
                        first,
                        blocks,
                    },
                );
            }
        }
        self.blocks.step = self.slice.workers;
        let numbers: Vec<u32> = self.blocks.tables.keys().copied().collect();
        for number in numbers {
            let old = &self.blocks.tables[&number];
            let same = |new: &Table| {
                (new.address, new.first, new.choice.size, new.blocks.len())
                    == (old.address, old.first, old.choice.size, old.blocks.len())
            };
            if wanted.get(&number).is_some_and(same) {
                let choice = wanted.remove(&number).map(|new| new.choice);
                if let (Some(table), Some(choice)) = (self.blocks.tables.get_mut(&number), choice) {
                    table.choice = choice;
                }
                continue;
            }
            let held: Vec<_> = old
                .blocks
                .iter()
                .enumerate()
                .filter_map(|(at, b)| Some((at, b.holder?)))
                .collect();
            let slice = self.slice;
            for (at, holder) in held {
                self.blocks.tell(number, at, holder, false, |slot| slice.port(slot));
                self.blocks.forget(holder, |(of, _)| of != number);
            }
            self.blocks.tables.remove(&number);
        }
        self.blocks.tables.extend(wanted);
    }

    /// A port of a block that the subscriber has, or of a new one while it may have more.
    pub(super) fn allocate_in_blocks(
        &mut self,
        masquerade: &MasqueradeRule,
        want: Want,
        now: Tick,
        random: &mut Random,
    ) -> Option<Lease> {
        let Choice::Blocks(choice) = masquerade.choice else {
            return None;
        };
        let pool = &self.pools.get(want.rule)?.numbers;
        let held: Vec<_> = match self.blocks.held.get(&want.subscriber) {
            Some(held) => held
                .iter()
                .copied()
                .filter(|(number, _)| pool.contains(number))
                .collect(),
            None => Vec::new(),
        };
        let first = (mix(want.subscriber.address.spread()) % pool.len() as u64) as usize;
        let addresses: Vec<u32> = match held.first() {
            // One subscriber, one address (RFC 4787 REQ-2).
            Some((number, _)) => vec![*number],
            None if masquerade.options.strict_pairing => vec![pool[first]],
            None => pool[first..].iter().chain(&pool[..first]).copied().collect(),
        };
        for (number, block) in &held {
            if let Some(lease) = self.allocate_from(*number, *block, want, random) {
                return Some(lease);
            }
        }
        if held.len() >= usize::from(choice.count) {
            return None;
        }
        for number in addresses {
            if let Some(block) = self.free_block(number, now, random) {
                return self.assign(number, block, want, random);
            }
        }
        None
    }

    fn free_block(&self, number: u32, now: Tick, random: &mut Random) -> Option<usize> {
        let table = self.blocks.tables.get(&number)?;
        let sets = &self.addresses[number as usize].as_ref()?.sets;
        let count = table.blocks.len();
        let start = random.below(count as u32) as usize;
        (start..count).chain(0..start).find(|at| {
            let block = &table.blocks[*at];
            let slots = table.slots(*at);
            block.holder.is_none() && block.rests_until <= now.0 && sets.iter().all(|set| set.is_unused(slots))
        })
    }

    fn assign(&mut self, number: u32, at: usize, want: Want, random: &mut Random) -> Option<Lease> {
        let table = self.blocks.tables.get_mut(&number)?;
        table.blocks[at].holder = Some(want.subscriber);
        self.blocks.held.entry(want.subscriber).or_default().push((number, at));
        let Some(lease) = self.allocate_from(number, at, want, random) else {
            // Every port of it is a port forward's.
            self.blocks.tables.get_mut(&number)?.blocks[at].holder = None;
            self.blocks.forget(want.subscriber, |held| held != (number, at));
            return None;
        };
        let slice = self.slice;
        self.blocks
            .tell(number, at, want.subscriber, true, |slot| slice.port(slot));
        Some(lease)
    }

    fn allocate_from(&mut self, number: u32, at: usize, want: Want, random: &mut Random) -> Option<Lease> {
        let table = self.blocks.tables.get_mut(&number)?;
        let slots = table.slots(at);
        let ports = self.addresses[number as usize].as_mut()?;
        let set = &mut ports.sets[protocol_index(want.protocol)];
        let slot = set.allocate(slots, self.slice.slot(want.port), ANY, random)?;
        table.blocks[at].in_use += 1;
        Some(Lease {
            pool: number,
            address: ports.address,
            port: self.slice.port(slot),
            shared: false,
        })
    }

    /// First and last slot of the block that a slot is in.
    pub(super) fn block_around(&self, number: u32, slot: u16) -> Option<(u16, u16)> {
        let table = self.blocks.tables.get(&number)?;
        Some(table.slots(table.block_of(slot)?))
    }

    /// One more port of a block that somebody has was given to its holder.
    pub(super) fn join_block(&mut self, number: u32, slot: u16) {
        if let Some(table) = self.blocks.tables.get_mut(&number)
            && let Some(at) = table.block_of(slot)
        {
            table.blocks[at].in_use += 1;
        }
    }

    /// Lets a subscriber in that had the free port of this slot before: its block becomes the subscriber's, if it is not
    /// that already. False if the block is somebody else's.
    pub(super) fn enter_block(&mut self, number: u32, slot: u16, subscriber: Subscriber) -> bool {
        let Some(table) = self.blocks.tables.get_mut(&number) else {
            return true;
        };
        let Some(at) = table.block_of(slot) else {
            return true;
        };
        let slots = table.slots(at);
        let block = &mut table.blocks[at];
        if let Some(holder) = block.holder {
            block.in_use += u32::from(holder == subscriber);
            return holder == subscriber;
        }
        let ports = self.addresses[number as usize].as_ref();
        if !ports.is_some_and(|ports| ports.sets.iter().all(|set| set.is_unused(slots))) {
            return false;
        }
        (block.holder, block.in_use) = (Some(subscriber), 1);
        self.blocks.held.entry(subscriber).or_default().push((number, at));
        let slice = self.slice;
        self.blocks.tell(number, at, subscriber, true, |slot| slice.port(slot));
        true
    }

    /// Position in the pool of the address that a subscriber has blocks on.
    pub(super) fn address_of_blocks(&self, pool: &[u32], subscriber: Subscriber) -> Option<usize> {
        let held = self.blocks.held.get(&subscriber)?;
        held.iter()
            .find_map(|(number, _)| pool.iter().position(|of_pool| of_pool == number))
    }

    /// A port of an address was given back.
    pub(super) fn leave_block(&mut self, number: u32, slot: u16, now: Tick) {
        if self.blocks.tables.is_empty() {
            return;
        }
        if let Some((at, holder)) = self.blocks.leave(number, slot, now) {
            let slice = self.slice;
            self.blocks.tell(number, at, holder, false, |slot| slice.port(slot));
        }
    }

    /// Blocks that subscribers have.
    pub(crate) fn blocks_in_use(&self) -> usize {
        self.blocks.in_use()
    }

    /// Blocks of some addresses that nobody can be given, and all of them.
    pub(super) fn block_use(&self, numbers: &[u32], now: Tick) -> (u32, u32) {
        let blocks = numbers.iter().filter_map(|number| self.blocks.tables.get(number));
        let blocks = blocks.flat_map(|table| &table.blocks);
        let taken = |block: &&Block| block.holder.is_some() || block.rests_until > now.0;
        (blocks.clone().filter(taken).count() as u32, blocks.count() as u32)
    }

    /// What became of a block, in order; `None` once everything was told.
    pub(crate) fn next_block_event(&mut self) -> Option<BlockEvent> {
        self.blocks.events.pop_front()
    }

    /// Events that were lost for want of room.
    pub(crate) fn block_events_lost(&self) -> u64 {
        self.blocks.lost
    }
}
