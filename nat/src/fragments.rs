//! Shallow virtual reassembly (RFC 6146 section 3.4 has the problem): fragments of a datagram are not put together, but each
//! learns the ports that the first one has, so that all go the same way.
//!
//! A fragment that comes before the first one is held for a moment. Fragments that overlap, or that are more than a datagram
//! needs, spoil the datagram: none of it goes on any more (RFC 1858 and RFC 3128 say what they are good for; RFC 5722
//! forbids them). A copy of a fragment is dropped alone. Memory is bounded: datagrams, fragments of one, and packets held;
//! beyond the bound the oldest datagram is forgotten.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use net::{Drop, VrfId};

use crate::address::Address;
use crate::time::Millis;

/// What the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    /// VRF that they came in.
    pub vrf: VrfId,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification: 16 bits of IPv4, 32 of IPv6.
    pub identification: u32,
}

/// One fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Its datagram.
    pub datagram: DatagramKey,
    /// Offset of its first octet in the datagram.
    pub offset: u16,
    /// Octets of the datagram that it carries.
    pub length: u16,
    /// There are more behind it.
    pub more: bool,
    /// Source and destination port, or the echo identifier twice. Only those of the fragment with offset 0 count.
    pub ports: (u16, u16),
}

/// What to do with a fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Gathered<T> {
    /// It goes on with these ports. After the first one take what [`Fragments::released`] has.
    Ports((u16, u16), T),
    /// It waits for the first one.
    Held,
    /// It goes no further.
    Refused(Drop, T),
}

/// Datagrams known at once.
const DATAGRAMS: usize = 1024;
/// Fragments of a datagram: 64 KiB in pieces of 1,280 octets, and some more.
const PIECES: usize = 64;
/// Packets held at once, and of one datagram.
const HELD: usize = 512;
const HELD_OF_ONE: usize = 16;
/// How long a datagram is remembered after its first sight, milliseconds.
const MEMORY: u64 = 15_000;
/// How long a fragment waits for the first one, milliseconds.
const PATIENCE: u64 = 1_000;

#[derive(Debug)]
struct Datagram<T> {
    born: u64,
    ports: Option<(u16, u16)>,
    /// First octet of each fragment and the one behind its last.
    pieces: Vec<(u16, u16)>,
    end: Option<u16>,
    spoiled: bool,
    held: Vec<T>,
}

/// The datagrams that a worker knows in pieces, and the packets that wait for the first of them.
#[derive(Debug)]
pub struct Fragments<T> {
    datagrams: HashMap<DatagramKey, Datagram<T>, RandomState>,
    /// By age. A key may be of a datagram that is gone, or of a younger one.
    order: VecDeque<(u64, DatagramKey)>,
    held: usize,
}

impl<T> Default for Fragments<T> {
    fn default() -> Self {
        Self {
            datagrams: HashMap::default(),
            order: VecDeque::new(),
            held: 0,
        }
    }
}

impl<T> Fragments<T> {
    /// Takes a fragment in; `packet` is whatever stands for it.
    pub fn gather(&mut self, fragment: &Fragment, packet: T, now: Millis) -> Gathered<T> {
        if !self.datagrams.contains_key(&fragment.datagram) {
            self.order.push_back((now.0, fragment.datagram));
        }
        let known = self.datagrams.entry(fragment.datagram).or_insert_with(|| Datagram {
            born: now.0,
            ports: None,
            pieces: Vec::new(),
            end: None,
            spoiled: false,
            held: Vec::new(),
        });
        match known.fit(fragment) {
            Fit::Copy => return Gathered::Refused(Drop::NatFragment, packet),
            Fit::Wrong => {
                known.spoiled = true;
                return Gathered::Refused(Drop::NatFragment, packet);
            }
            Fit::New => {}
        }
        if fragment.offset == 0 {
            known.ports = Some(fragment.ports);
        }
        match known.ports {
            Some(ports) => Gathered::Ports(ports, packet),
            None if self.held < HELD && known.held.len() < HELD_OF_ONE => {
                known.held.push(packet);
                self.held += 1;
                Gathered::Held
            }
            None => Gathered::Refused(Drop::NatFragment, packet),
        }
    }

    /// Packets that waited for the first fragment of a datagram, which has come.
    pub fn released(&mut self, datagram: &DatagramKey) -> Vec<T> {
        let known = self.datagrams.get_mut(datagram);
        let held = known.filter(|d| d.ports.is_some()).map(|d| std::mem::take(&mut d.held));
        let held = held.unwrap_or_default();
        self.held -= held.len();
        held
    }

    /// Forgets datagrams whose time is over, or that are too many, and gives up packets that waited too long for a first
    /// fragment.
    pub fn expire(&mut self, now: Millis, give_up: &mut impl FnMut(T)) {
        while let Some((born, key)) = self.order.front().copied() {
            let over = now.0 >= born + MEMORY || self.datagrams.len() > DATAGRAMS;
            if !over {
                break;
            }
            self.order.pop_front();
            if let Some(gone) = self.datagrams.get_mut(&key).filter(|d| d.born == born) {
                let held = std::mem::take(&mut gone.held);
                self.held -= held.len();
                held.into_iter().for_each(&mut *give_up);
                self.datagrams.remove(&key);
            }
        }
        if self.held == 0 {
            return;
        }
        let waited = self.order.iter().take_while(|(born, _)| now.0 >= born + PATIENCE);
        for (born, key) in waited {
            if let Some(late) = self.datagrams.get_mut(key).filter(|d| d.born == *born) {
                let held = std::mem::take(&mut late.held);
                self.held -= held.len();
                held.into_iter().for_each(&mut *give_up);
            }
        }
    }

    /// Packets that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    /// True if nothing is known and nothing waits: there is nothing to expire.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

enum Fit {
    New,
    Copy,
    Wrong,
}

impl<T> Datagram<T> {
    /// Puts a fragment among those that came before, if it fits there.
    fn fit(&mut self, fragment: &Fragment) -> Fit {
        let Some(behind) = fragment.offset.checked_add(fragment.length) else {
            return Fit::Wrong;
        };
        let piece = (fragment.offset, behind);
        if self.pieces.contains(&piece) && !self.spoiled {
            return Fit::Copy;
        }
        let overlaps = self
            .pieces
            .iter()
            .any(|(first, end)| *first < behind && fragment.offset < *end);
        let beyond = self.end.is_some_and(|end| behind > end || !fragment.more);
        let early_end = !fragment.more && self.pieces.iter().any(|(_, end)| *end > behind);
        let empty = fragment.length == 0;
        if self.spoiled || overlaps || beyond || early_end || empty || self.pieces.len() == PIECES {
            return Fit::Wrong;
        }
        self.pieces.push(piece);
        if !fragment.more {
            self.end = Some(behind);
        }
        Fit::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: (u16, u16) = (4000, 53);

    fn key(identification: u32) -> DatagramKey {
        DatagramKey {
            vrf: VrfId(1),
            protocol: 17,
            source: Address::v4(1),
            destination: Address::v4(2),
            identification,
        }
    }

    fn fragment(offset: u16, length: u16, more: bool) -> Fragment {
        let ports = if offset == 0 { PORTS } else { (9, 9) };
        Fragment {
            datagram: key(7),
            offset,
            length,
            more,
            ports,
        }
    }

    fn refused<T: std::fmt::Debug>(gathered: &Gathered<T>) -> bool {
        matches!(gathered, Gathered::Refused(Drop::NatFragment, _))
    }

    #[test]
    fn later_fragments_learn_the_ports_of_the_first_one() {
        let mut fragments = Fragments::default();
        for (n, part) in [
            fragment(0, 800, true),
            fragment(800, 800, true),
            fragment(1600, 5, false),
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(fragments.gather(part, n, Millis(5)), Gathered::Ports(PORTS, n));
        }
        assert_eq!(fragments.released(&key(7)), Vec::<usize>::new());
    }

    #[test]
    fn fragments_out_of_order_wait_for_the_first_one() {
        let mut fragments = Fragments::default();
        assert_eq!(
            fragments.gather(&fragment(1600, 5, false), 2, Millis(5)),
            Gathered::Held
        );
        assert_eq!(
            fragments.gather(&fragment(800, 800, true), 1, Millis(6)),
            Gathered::Held
        );
        assert_eq!((fragments.released(&key(7)), fragments.held()), (vec![], 2), "not yet");
        let first = fragments.gather(&fragment(0, 800, true), 0, Millis(7));
        assert_eq!(first, Gathered::Ports(PORTS, 0));
        assert_eq!((fragments.released(&key(7)), fragments.held()), (vec![2, 1], 0));
    }

    #[test]
    fn overlaps_spoil_the_datagram_and_copies_are_dropped_alone() {
        for bad in [
            fragment(792, 8, true),
            fragment(0, 1000, true),
            fragment(1600, 8, false),
            fragment(1000, 8, false),
            fragment(65_528, 8, true),
            fragment(2400, 0, true),
        ] {
            let mut fragments = Fragments::default();
            for good in [fragment(0, 800, true), fragment(1600, 800, false)] {
                assert!(matches!(fragments.gather(&good, (), Millis(5)), Gathered::Ports(..)));
                assert!(refused(&fragments.gather(&good, (), Millis(5))), "a copy");
            }
            assert!(refused(&fragments.gather(&bad, (), Millis(5))), "{bad:?}");
            let rest = fragments.gather(&fragment(800, 800, true), (), Millis(5));
            assert!(refused(&rest), "the datagram of {bad:?} is spoiled");
            let other = Fragment {
                datagram: key(8),
                ..fragment(0, 800, true)
            };
            assert!(matches!(fragments.gather(&other, (), Millis(5)), Gathered::Ports(..)));
        }
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let mut fragments = Fragments::default();
        let mut given_up = 0;
        for n in 0..60_000_u32 {
            let now = Millis(u64::from(n / 100));
            let part = Fragment {
                datagram: key(n & 0xffff),
                ..fragment(800, 8, true)
            };
            let _ = fragments.gather(&part, n, now);
            fragments.expire(now, &mut |_| given_up += 1);
            assert!(fragments.held() <= HELD && fragments.datagrams.len() <= DATAGRAMS);
            assert!(fragments.order.len() <= DATAGRAMS);
        }
        assert!(given_up > 0);
        let waiting = fragments.held();
        let mut late = 0;
        fragments.expire(Millis(600 + PATIENCE), &mut |_| late += 1);
        assert_eq!((late, fragments.held()), (waiting, 0));
        fragments.expire(Millis(600 + MEMORY), &mut |_| unreachable!("none waits"));
        assert!(fragments.is_empty() && fragments.datagrams.is_empty());
    }

    #[test]
    fn a_datagram_has_no_more_fragments_than_it_needs() {
        let mut fragments = Fragments::default();
        for n in 0..100 {
            let gathered = fragments.gather(&fragment(n * 8, 8, true), (), Millis(1));
            assert_eq!(refused(&gathered), usize::from(n) >= PIECES, "fragment {n}");
        }
    }
}
