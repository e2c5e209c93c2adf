//! Public ports: which of them are taken, on each pool address and for each protocol.
//!
//! A port belongs to worker `port % workers`; a worker hands out its own ones, and any worker knows the owner of a
//! reply by its port. A set survives every policy edit while one of its ports is in use: edits change what may be taken
//! from it, never what is taken.

mod blocks;
mod set;
mod usage;

use std::collections::HashMap;

use net::{VrfId, protocol};

use crate::address::Address;
use crate::policy::{Choice, MasqueradeRule, Policy};
use crate::random::{Random, mix};
use crate::time::Tick;
use crate::view::PortUse;
pub use blocks::BlockEvent;
use blocks::Blocks;
pub(crate) use blocks::Subscriber;
use set::{ANY, EVEN, ODD, PortSet};

/// The share of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    worker: u16,
    workers: u16,
}

impl Slice {
    pub(crate) const fn new(worker: u16, workers: u16) -> Self {
        Self { worker, workers }
    }

    /// Number of this worker.
    pub(crate) const fn worker(self) -> u16 {
        self.worker
    }

    /// Number of workers.
    pub(crate) const fn workers(self) -> u16 {
        self.workers
    }

    /// Worker that `port` of any pool address belongs to.
    pub(crate) const fn owner(self, port: u16) -> u16 {
        port % self.workers
    }

    /// Worker that owns the connections of a client through any port forward: the same from both directions.
    pub(crate) const fn client_owner(self, client: Address, port: u16, protocol: u8) -> u16 {
        (mix(end_bits((client, port), protocol)) % self.workers as u64) as u16
    }

    /// Worker that owns the connections between two ends of static NAT, as each sees the other: the same from both.
    pub(crate) const fn pair_owner(self, ends: [(Address, u16); 2], protocol: u8) -> u16 {
        let [one, other] = [end_bits(ends[0], protocol), end_bits(ends[1], protocol)];
        (mix(mix(one) ^ mix(other)) % self.workers as u64) as u16
    }

    /// Worker that owns the connections of a subscriber, of those whose ports have the parity if one is asked for.
    pub(crate) const fn subscriber_owner(self, vrf: VrfId, address: Address, parity: Option<u16>) -> u16 {
        let hash = mix((vrf.0 as u64) << 32 ^ address.spread());
        match parity {
            Some(parity) if self.workers.is_multiple_of(2) => {
                (hash % (self.workers / 2) as u64) as u16 * 2 + parity % 2
            }
            _ => (hash % self.workers as u64) as u16,
        }
    }

    /// Ports of one worker, in slots.
    const fn slots(self) -> usize {
        (1usize << 16).div_ceil(self.workers as usize)
    }

    fn slot(self, port: u16) -> Option<u16> {
        (self.owner(port) == self.worker).then_some(port / self.workers)
    }

    const fn port(self, slot: u16) -> u16 {
        slot * self.workers + self.worker
    }

    /// The slots, of each 64 in a row, whose ports have the parity of `port`; `None` if this worker has none.
    fn of_parity(self, port: u16) -> Option<u64> {
        if self.workers.is_multiple_of(2) {
            return (self.worker % 2 == port % 2).then_some(ANY);
        }
        // With an odd number of workers, ports of neighbouring slots differ in parity.
        Some(if self.worker % 2 == port % 2 { EVEN } else { ODD })
    }

    /// First and last slot whose port is in the inclusive range.
    fn slots_of(self, (first, last): (u16, u16)) -> Option<(u16, u16)> {
        let from = first.saturating_sub(self.worker).div_ceil(self.workers);
        let to = last.checked_sub(self.worker)? / self.workers;
        (from <= to).then_some((from, to))
    }
}

/// An address, port and protocol as one number.
const fn end_bits((address, port): (Address, u16), protocol: u8) -> u64 {
    address.spread() << 32 | (port as u64) << 16 | protocol as u64
}

/// The port sets of one public address.
#[derive(Debug, Clone)]
struct AddressPorts {
    address: Address,
    /// TCP, UDP, ICMP.
    sets: [PortSet; 3],
    /// Rules whose pools it is in, and where in them.
    uses: Vec<(u32, u32)>,
    /// For each protocol, whether one of those pools has it marked as spent.
    marked: [bool; 3],
}

/// The pool of a masquerade rule.
#[derive(Debug, Default)]
struct Pool {
    /// Numbers of its addresses.
    numbers: Vec<u32>,
    /// First and last slot of the rule's ports, if this worker has any of them.
    slots: Option<(u16, u16)>,
    /// For each protocol a bit for each address of the pool: it was found to have none of the rule's ports left, and got none
    /// back since.
    spent: [Vec<u64>; 3],
}

impl Pool {
    fn is_spent(&self, at: usize, protocol: u8) -> bool {
        self.spent[protocol_index(protocol)][at / 64] >> (at % 64) & 1 == 1
    }

    fn set_spent(&mut self, at: usize, protocol: u8, spent: bool) {
        let (word, bit) = (&mut self.spent[protocol_index(protocol)][at / 64], 1 << (at % 64));
        *word = if spent { *word | bit } else { *word & !bit };
    }
}

/// A public port in use: given back with [`Ports::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Number of the address in [`Ports`].
    pub(crate) pool: u32,
    pub(crate) address: Address,
    pub(crate) port: u16,
    /// It is the port of a mapping, which connections share.
    pub(crate) shared: bool,
}

/// Every public port of one worker.
#[derive(Debug)]
pub(crate) struct Ports {
    slice: Slice,
    addresses: Vec<Option<AddressPorts>>,
    numbers: HashMap<Address, u32>,
    /// That of each masquerade rule of the policy.
    pools: Vec<Pool>,
    blocks: Blocks,
}

/// Who wants a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    /// Index of the masquerade rule.
    pub(crate) rule: usize,
    pub(crate) subscriber: Subscriber,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// Position of a protocol in [`AddressPorts::sets`] and in statistics.
pub(crate) const fn protocol_index(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => 0,
        protocol::UDP => 1,
        _ => 2,
    }
}

impl Ports {
    pub(crate) fn new(slice: Slice) -> Self {
        Self {
            slice,
            addresses: Vec::new(),
            numbers: HashMap::new(),
            pools: Vec::new(),
            blocks: Blocks::default(),
        }
    }

    /// Follows a policy: sets appear with their addresses, and go when their address left and no port is in use.
    pub(crate) fn follow(&mut self, policy: &Policy) {
        for slot in &mut self.addresses {
            let unused = |ports: &AddressPorts| ports.sets.iter().all(|set| set.in_use == 0);
            if let Some(gone) = slot.take_if(|ports| !policy.is_pool(ports.address) && unused(ports)) {
                self.numbers.remove(&gone.address);
            }
        }
        self.pools = policy
            .rules()
            .iter()
            .map(|rule| Pool {
                numbers: rule.pool.iter().map(|a| self.number(*a)).collect(),
                slots: self.slice.slots_of(rule.ports),
                spent: [0; 3].map(|_| vec![0; rule.pool.len().div_ceil(64)]),
            })
            .collect();
        for ports in self.addresses.iter_mut().flatten() {
            ports.uses.clear();
            ports.marked = [false; 3];
        }
        for (rule, pool) in self.pools.iter().enumerate() {
            for (at, number) in pool.numbers.iter().enumerate() {
                if let Some(ports) = &mut self.addresses[*number as usize] {
                    ports.uses.push((rule as u32, at as u32));
                }
            }
        }
        self.follow_blocks(policy);
        for ports in self.addresses.iter_mut().flatten() {
            ports.sets.iter_mut().for_each(PortSet::unblock_all);
        }
        for (address, protocol, range) in policy.forwarded() {
            let number = self.numbers.get(&address).map(|n| *n as usize);
            if let (Some(number), Some((first, last))) = (number, self.slice.slots_of(range))
                && let Some(ports) = &mut self.addresses[number]
            {
                let set = &mut ports.sets[protocol_index(protocol)];
                (first..=last).for_each(|slot| set.block(slot));
            }
        }
    }

    /// Remembers that an address of a pool has none of the rule's ports left.
    #[cold]
    fn mark_spent(&mut self, rule: usize, at: usize, protocol: u8) {
        let number = self.pools[rule].numbers[at];
        self.pools[rule].set_spent(at, protocol, true);
        if let Some(ports) = &mut self.addresses[number as usize] {
            ports.marked[protocol_index(protocol)] = true;
        }
    }

    /// An address that was marked as spent got a port back.
    #[cold]
    fn unmark(&mut self, number: u32, protocol: u8) {
        if let Some(ports) = &mut self.addresses[number as usize] {
            ports.marked[protocol_index(protocol)] = false;
            for (rule, at) in &ports.uses {
                self.pools[*rule as usize].set_spent(*at as usize, protocol, false);
            }
        }
    }

    fn number(&mut self, address: Address) -> u32 {
        if let Some(number) = self.numbers.get(&address) {
            return *number;
        }
        let set = PortSet::new(self.slice);
        let ports = Some(AddressPorts {
            address,
            sets: [set.clone(), set.clone(), set],
            uses: Vec::new(),
            marked: [false; 3],
        });
        let number = match self.addresses.iter().position(Option::is_none) {
            Some(vacant) => {
                self.addresses[vacant] = ports;
                vacant
            }
            None => {
                self.addresses.push(ports);
                self.addresses.len() - 1
            }
        } as u32;
        self.numbers.insert(address, number);
        number
    }

    /// Number of a pool address.
    pub(crate) fn number_of(&self, address: Address) -> Option<u32> {
        self.numbers.get(&address).copied()
    }

    /// A free port for a subscriber, as its rule has it chosen: the source's own port if it is free there.
    #[inline]
    pub(crate) fn allocate(
        &mut self,
        masquerade: &MasqueradeRule,
        want: Want,
        now: Tick,
        random: &mut Random,
    ) -> Option<Lease> {
        let source = want.subscriber.address;
        match masquerade.choice {
            Choice::Blocks(_) => self.allocate_in_blocks(masquerade, want, now, random),
            Choice::Deterministic { .. } => {
                let (at, range) = masquerade.deterministic(source)?;
                let number = *self.pools.get(want.rule)?.numbers.get(at)?;
                self.allocate_on(number, self.slice.slots_of(range)?, masquerade, want, random)
            }
            Choice::Free => {
                let pool = self.pools.get(want.rule)?;
                let (slots, length) = (pool.slots?, pool.numbers.len());
                let first = (mix(source.spread()) % length as u64) as usize;
                let paired = self.allocate_at(first, slots, masquerade, want, random);
                if paired.is_some() || masquerade.options.strict_pairing {
                    return paired;
                }
                (first + 1..length)
                    .chain(0..first)
                    .find_map(|at| self.allocate_at(at, slots, masquerade, want, random))
            }
        }
    }

    /// A free port on the address at a place of the rule's pool.
    #[inline]
    fn allocate_at(
        &mut self,
        at: usize,
        slots: (u16, u16),
        masquerade: &MasqueradeRule,
        want: Want,
        random: &mut Random,
    ) -> Option<Lease> {
        let pool = &self.pools[want.rule];
        if pool.is_spent(at, want.protocol) {
            return None;
        }
        let lease = self.allocate_on(pool.numbers[at], slots, masquerade, want, random);
        if lease.is_none() {
            self.mark_spent(want.rule, at, want.protocol);
        }
        lease
    }

    /// Some port that the subscriber might have, taken or not.
    pub(crate) fn guess(&self, masquerade: &MasqueradeRule, want: Want, random: &mut Random) -> Option<Lease> {
        let pool = &self.pools.get(want.rule)?.numbers;
        let (at, range) = match masquerade.deterministic(want.subscriber.address) {
            Some(determined) => determined,
            None => {
                let first = (mix(want.subscriber.address.spread()) % pool.len() as u64) as usize;
                (first, masquerade.ports)
            }
        };
        let (from, to) = self.slice.slots_of(range)?;
        let slot = from + random.below(u32::from(to - from) + 1) as u16;
        let number = *pool.get(at)?;
        Some(Lease {
            pool: number,
            address: self.addresses[number as usize].as_ref()?.address,
            port: self.slice.port(slot),
            shared: false,
        })
    }

    /// A free port on one address.
    #[inline]
    fn allocate_on(
        &mut self,
        number: u32,
        slots: (u16, u16),
        masquerade: &MasqueradeRule,
        want: Want,
        random: &mut Random,
    ) -> Option<Lease> {
        let slice = self.slice;
        let parity = (masquerade.options.parity && want.protocol == protocol::UDP).then(|| slice.of_parity(want.port));
        let ports = self.addresses[number as usize]
            .as_mut()
            .expect("follow() made the sets of every pool");
        let set = &mut ports.sets[protocol_index(want.protocol)];
        let own = slice.slot(want.port);
        let even_or_odd = parity.flatten().and_then(|only| set.allocate(slots, own, only, random));
        let slot = even_or_odd.or_else(|| set.allocate(slots, own, ANY, random))?;
        Some(Lease {
            pool: number,
            address: ports.address,
            port: slice.port(slot),
            shared: false,
        })
    }

    /// A free port that is as good for a subscriber as one that it has just been given: on the same address, in the same
    /// block, of the same parity where that matters.
    pub(crate) fn another(
        &mut self,
        masquerade: &MasqueradeRule,
        want: Want,
        first: &Lease,
        random: &mut Random,
    ) -> Option<Lease> {
        let slice = self.slice;
        let own = slice.slot(first.port)?;
        let slots = match masquerade.choice {
            Choice::Blocks(_) => self.block_around(first.pool, own)?,
            Choice::Deterministic { .. } => slice.slots_of(masquerade.deterministic(want.subscriber.address)?.1)?,
            Choice::Free => slice.slots_of(masquerade.ports)?,
        };
        let paired = masquerade.options.parity && want.protocol == protocol::UDP;
        let only = if paired { slice.of_parity(first.port)? } else { ANY };
        let set = &mut self.addresses[first.pool as usize].as_mut()?.sets[protocol_index(want.protocol)];
        let slot = set.allocate(slots, None, only, random)?;
        self.join_block(first.pool, slot);
        Some(Lease {
            port: slice.port(slot),
            ..*first
        })
    }

    /// A certain port of a pool address for a subscriber that had it before, if it is this worker's and free, and if the
    /// block that it is in is free or the subscriber's.
    pub(crate) fn claim(&mut self, number: u32, protocol: u8, port: u16, subscriber: Subscriber) -> Option<Lease> {
        let slot = self.slice.slot(port)?;
        let ports = self.addresses.get(number as usize)?.as_ref()?;
        let address = ports.address;
        if !ports.sets[protocol_index(protocol)].is_free(slot) || !self.enter_block(number, slot, subscriber) {
            return None;
        }
        self.addresses[number as usize].as_mut()?.sets[protocol_index(protocol)].take(slot);
        Some(Lease {
            pool: number,
            address,
            port,
            shared: false,
        })
    }

    /// Number and value of each pool address that a subscriber may be seen as by address alone, the one that it is paired
    /// with first.
    pub(crate) fn addresses(
        &self,
        masquerade: &MasqueradeRule,
        rule: usize,
        subscriber: Subscriber,
    ) -> impl Iterator<Item = (u32, Address)> + '_ {
        let pool = self.pools.get(rule).map_or(&[][..], |pool| &pool.numbers);
        let paired = (mix(subscriber.address.spread()) % pool.len().max(1) as u64) as usize;
        let (first, tries) = match masquerade.choice {
            Choice::Deterministic { .. } => match masquerade.deterministic(subscriber.address) {
                Some((at, _)) => (at, 1),
                None => (0, 0),
            },
            Choice::Blocks(_) | Choice::Free => match self.address_of_blocks(pool, subscriber) {
                Some(at) => (at, 1),
                None if masquerade.options.strict_pairing => (paired, 1),
                None => (paired, pool.len()),
            },
        };
        (first..first + tries).filter_map(move |at| {
            let number = *pool.get(at % pool.len())?;
            Some((number, self.addresses.get(number as usize)?.as_ref()?.address))
        })
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, pool: u32, protocol: u8, port: u16, now: Tick) {
        let slot = self.slice.slot(port).expect("a worker leases its own ports alone");
        let ports = self.addresses[pool as usize]
            .as_mut()
            .expect("a set with a port in use is kept");
        ports.sets[protocol_index(protocol)].put_back(slot);
        if ports.marked[protocol_index(protocol)] {
            self.unmark(pool, protocol);
        }
        self.leave_block(pool, slot, now);
    }

    /// Ports in use of each address, by address.
    pub(crate) fn in_use(&self) -> Vec<PortUse> {
        let port_use = |ports: &AddressPorts| {
            let [tcp, udp, icmp] = [0, 1, 2].map(|i| ports.sets[i].in_use);
            PortUse {
                address: ports.address.ip(),
                tcp,
                udp,
                icmp,
            }
        };
        let mut all: Vec<_> = self.addresses.iter().flatten().map(port_use).collect();
        all.sort_unstable_by_key(|p| p.address);
        all
    }
}

#[cfg(test)]
mod tests;
