//! Public ports: which of them are taken, on each pool address and for each protocol.
//!
//! A port belongs to worker `port % workers`; a worker hands out its own ones, and any worker knows the owner of a
//! reply by its port. A set survives every policy edit while one of its ports is in use: edits change what may be taken
//! from it, never what is taken.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use net::protocol;

use crate::policy::Policy;
use crate::random::{Random, mix};
use crate::view::PortUse;

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
    pub(crate) const fn client_owner(self, client: u32, port: u16, protocol: u8) -> u16 {
        let flow = (client as u64) << 32 | (port as u64) << 16 | protocol as u64;
        (mix(flow) % self.workers as u64) as u16
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

    /// First and last slot whose port is in the inclusive range.
    fn slots_of(self, (first, last): (u16, u16)) -> Option<(u16, u16)> {
        let from = first.saturating_sub(self.worker).div_ceil(self.workers);
        let to = last.checked_sub(self.worker)? / self.workers;
        (from <= to).then_some((from, to))
    }
}

/// One bit a port, and above it one bit for each word that has no free port: the next free port is found in some twenty
/// steps, however full the set.
#[derive(Debug, Clone)]
struct PortSet {
    used: Box<[u64]>,
    /// Ports that a port forward has; may be used as well, by a connection older than the forward.
    blocked: Box<[u64]>,
    full: [u64; 16],
    in_use: u32,
}

impl PortSet {
    fn new(slice: Slice) -> Self {
        let words = slice.slots().div_ceil(64);
        Self {
            used: vec![0; words].into(),
            blocked: vec![0; words].into(),
            full: [0; 16],
            in_use: 0,
        }
    }

    fn is_free(&self, slot: u16) -> bool {
        let word = usize::from(slot / 64);
        (self.used[word] | self.blocked[word]) >> (slot % 64) & 1 == 0
    }

    fn update_full(&mut self, word: usize) {
        let bit = 1 << (word % 64);
        if self.used[word] | self.blocked[word] == u64::MAX {
            self.full[word / 64] |= bit;
        } else {
            self.full[word / 64] &= !bit;
        }
    }

    fn take(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        debug_assert!(self.used[word] >> (slot % 64) & 1 == 0, "a port has one owner");
        self.used[word] |= 1 << (slot % 64);
        self.in_use += 1;
        self.update_full(word);
    }

    fn put_back(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        debug_assert!(self.used[word] >> (slot % 64) & 1 == 1, "a port is given back once");
        self.used[word] &= !(1 << (slot % 64));
        self.in_use -= 1;
        self.update_full(word);
    }

    fn unblock_all(&mut self) {
        for word in 0..self.blocked.len() {
            self.blocked[word] = 0;
            self.update_full(word);
        }
    }

    fn block(&mut self, slot: u16) {
        let word = usize::from(slot / 64);
        self.blocked[word] |= 1 << (slot % 64);
        self.update_full(word);
    }

    /// The first free slot in the inclusive range.
    fn first_free(&self, from: u16, to: u16) -> Option<u16> {
        let (first, last) = (usize::from(from / 64), usize::from(to / 64));
        let free = |word: usize| !(self.used[word] | self.blocked[word]);
        let slot = |word: usize, bits: u64| {
            let slot = (word * 64) as u32 + bits.trailing_zeros();
            (bits != 0 && slot <= u32::from(to)).then_some(slot as u16)
        };
        let bits = free(first) & u64::MAX << (from % 64);
        if bits != 0 || first == last {
            return slot(first, bits);
        }
        let word = self.next_word(first + 1)?;
        if word > last { None } else { slot(word, free(word)) }
    }

    /// The first word from `word` on that has a free slot.
    fn next_word(&self, word: usize) -> Option<usize> {
        let mut group = word / 64;
        let mut bits = !*self.full.get(group)? & u64::MAX << (word % 64);
        while bits == 0 {
            group += 1;
            bits = !*self.full.get(group)?;
        }
        let word = group * 64 + bits.trailing_zeros() as usize;
        (word < self.used.len()).then_some(word)
    }

    fn allocate(&mut self, (from, to): (u16, u16), preferred: Option<u16>, random: &mut Random) -> Option<u16> {
        let slot = match preferred.filter(|slot| (from..=to).contains(slot) && self.is_free(*slot)) {
            Some(slot) => slot,
            None => {
                let start = from + random.below(u32::from(to - from) + 1) as u16;
                self.first_free(start, to).or_else(|| self.first_free(from, start))?
            }
        };
        self.take(slot);
        Some(slot)
    }
}

/// The port sets of one public address.
#[derive(Debug, Clone)]
struct AddressPorts {
    address: u32,
    /// TCP, UDP, ICMP.
    sets: [PortSet; 3],
}

/// A public port in use: given back with [`Ports::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Number of the address in [`Ports`].
    pub(crate) pool: u32,
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// Every public port of one worker.
#[derive(Debug)]
pub(crate) struct Ports {
    slice: Slice,
    addresses: Vec<Option<AddressPorts>>,
    numbers: HashMap<u32, u32>,
    /// For each masquerade rule of the policy, the numbers of its pool's addresses.
    pools: Vec<Vec<u32>>,
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
            .map(|rule| rule.pool.iter().map(|a| self.number(*a)).collect())
            .collect();
        for ports in self.addresses.iter_mut().flatten() {
            ports.sets.iter_mut().for_each(PortSet::unblock_all);
        }
        for (address, protocol, port) in policy.forwarded() {
            let number = self.numbers.get(&address).map(|n| *n as usize);
            if let (Some(number), Some(slot)) = (number, self.slice.slot(port))
                && let Some(ports) = &mut self.addresses[number]
            {
                ports.sets[protocol_index(protocol)].block(slot);
            }
        }
    }

    fn number(&mut self, address: u32) -> u32 {
        if let Some(number) = self.numbers.get(&address) {
            return *number;
        }
        let set = PortSet::new(self.slice);
        let ports = Some(AddressPorts {
            address,
            sets: [set.clone(), set.clone(), set],
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

    /// A free port for `source`: on the address that this subscriber is paired with while that has one, and the
    /// source's own port if it is free there.
    pub(crate) fn allocate(
        &mut self,
        rule: usize,
        range: (u16, u16),
        protocol: u8,
        source: u32,
        source_port: u16,
        random: &mut Random,
    ) -> Option<Lease> {
        let slots = self.slice.slots_of(range)?;
        let pool = self.pools.get(rule)?;
        let first = (mix(u64::from(source)) % pool.len() as u64) as usize;
        let mut preferred = self.slice.slot(source_port);
        for number in pool[first..].iter().chain(&pool[..first]) {
            let ports = self.addresses[*number as usize]
                .as_mut()
                .expect("follow() made the sets of every pool");
            let set = &mut ports.sets[protocol_index(protocol)];
            if let Some(slot) = set.allocate(slots, preferred.take(), random) {
                return Some(Lease {
                    pool: *number,
                    address: ports.address,
                    port: self.slice.port(slot),
                });
            }
        }
        None
    }

    /// Number of a pool address.
    pub(crate) fn number_of(&self, address: u32) -> Option<u32> {
        self.numbers.get(&address).copied()
    }

    /// A certain port of a pool address, if it is this worker's and free.
    pub(crate) fn claim(&mut self, address: u32, protocol: u8, port: u16) -> Option<Lease> {
        let pool = self.number_of(address)?;
        let slot = self.slice.slot(port)?;
        let set = &mut self.addresses[pool as usize].as_mut()?.sets[protocol_index(protocol)];
        if !set.is_free(slot) {
            return None;
        }
        set.take(slot);
        Some(Lease { pool, address, port })
    }

    /// Number and value of each address of a rule's pool, the one that this subscriber is paired with first.
    pub(crate) fn addresses(&self, rule: usize, source: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let pool = self.pools.get(rule).map_or(&[][..], Vec::as_slice);
        let first = (mix(u64::from(source)) % pool.len().max(1) as u64) as usize;
        let of = |number: &u32| Some((*number, self.addresses[*number as usize].as_ref()?.address));
        pool[first..].iter().chain(&pool[..first]).filter_map(of)
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, pool: u32, protocol: u8, port: u16) {
        let slot = self.slice.slot(port).expect("a worker leases its own ports alone");
        let ports = self.addresses[pool as usize]
            .as_mut()
            .expect("a set with a port in use is kept");
        ports.sets[protocol_index(protocol)].put_back(slot);
    }

    /// Ports in use of each address, by address.
    pub(crate) fn in_use(&self) -> Vec<PortUse> {
        let port_use = |ports: &AddressPorts| {
            let [tcp, udp, icmp] = [0, 1, 2].map(|i| ports.sets[i].in_use);
            PortUse {
                address: Ipv4Addr::from(ports.address),
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_port_belongs_to_one_worker_and_comes_back_from_its_slot() {
        for workers in [1, 2, 3, 7, 64] {
            for port in 0..=u16::MAX {
                let owners = (0..workers).filter(|w| Slice::new(*w, workers).slot(port).is_some());
                assert_eq!(owners.count(), 1);
                let slice = Slice::new(Slice::new(0, workers).owner(port), workers);
                let slot = slice.slot(port).expect("its owner");
                assert!(usize::from(slot) < slice.slots() && slice.port(slot) == port);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_range_is_given_out_to_the_last_port_and_no_port_twice(
            first in 1u16..4000, length in 0u16..700, workers in 1u16..5, worker in 0u16..5, seed: u64,
        ) {
            let slice = Slice::new(worker % workers, workers);
            let range = (first, first + length);
            let expected: Vec<u16> = (range.0..=range.1).filter(|p| slice.slot(*p).is_some()).collect();
            let mut set = PortSet::new(slice);
            let mut random = Random::new(seed);
            let mut got = Vec::new();
            if let Some(slots) = slice.slots_of(range) {
                while let Some(slot) = set.allocate(slots, slice.slot(first + 3), &mut random) {
                    got.push(slice.port(slot));
                }
            }
            if expected.contains(&(first + 3)) {
                prop_assert_eq!(got.first(), Some(&(first + 3)));
            }
            got.sort_unstable();
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(set.in_use as usize, expected.len());
            for port in got {
                set.put_back(slice.slot(port).expect("ours"));
            }
            prop_assert!(set.in_use == 0 && set.used.iter().all(|w| *w == 0) && set.full == [0; 16]);
        }
    }

    #[test]
    fn a_blocked_port_is_not_given_out_and_survives_its_use() {
        let slice = Slice::new(0, 1);
        let mut set = PortSet::new(slice);
        let mut random = Random::new(0);
        assert_eq!(set.allocate((80, 80), None, &mut random), Some(80));
        set.block(80);
        set.put_back(80);
        assert_eq!(set.allocate((80, 80), Some(80), &mut random), None);
        set.unblock_all();
        assert_eq!(set.allocate((80, 80), Some(80), &mut random), Some(80));
    }
}
