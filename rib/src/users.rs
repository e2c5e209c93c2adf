//! Who has a group among its candidates: the prefixes to decide again, or to tell the kernel of, when the group changes.
//!
//! An index and never a scan: what a router that fails costs depends on its routes and not on everybody's. It is a log of
//! who came and went, eight bytes for an IPv4 prefix, so that loading a table costs nothing more than writing it down; it is
//! put in order when it is read, and when half of it is about prefixes that left.

use net::{IpNet, Ipv4Net, Prefix};

/// Prefixes that left before the log is worth putting in order.
const FEW: usize = 512;

/// The prefixes that have one group among their candidates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    v4: Vec<Packed>,
    v6: Vec<(Prefix, bool)>,
    /// Prefixes that are there, and entries that say that one left.
    present: usize,
    left: usize,
}

/// What happened to an IPv4 prefix: its address, its length, and whether it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

impl Packed {
    fn new(net: Ipv4Net, came: bool) -> Self {
        Self(u64::from(u32::from(net.addr())) << 9 | u64::from(net.prefix_len()) << 1 | u64::from(came))
    }

    const fn key(self) -> u64 {
        self.0 >> 1
    }

    const fn came(self) -> bool {
        self.0 & 1 == 1
    }

    fn prefix(self) -> Prefix {
        let address = u32::try_from(self.0 >> 9).expect("32 bits of address were packed");
        let length = (self.0 >> 1) as u8;
        Prefix::from(IpNet::V4(Ipv4Net::new_assert(address.into(), length)))
    }
}

impl Users {
    /// A candidate of `prefix` has the group, and none had it before.
    pub(crate) fn add(&mut self, prefix: Prefix) {
        self.present += 1;
        self.note(prefix, true);
    }

    /// No candidate of `prefix` has the group any more.
    pub(crate) fn remove(&mut self, prefix: Prefix) {
        self.present -= 1;
        self.left += 1;
        if self.present == 0 {
            *self = Self::default();
            return;
        }
        self.note(prefix, false);
        if self.left > FEW && self.left > self.present {
            (self.v4, self.v6) = self.ordered();
            self.left = 0;
        }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.v4.capacity() * size_of::<Packed>() + self.v6.capacity() * size_of::<(Prefix, bool)>()
    }

    fn note(&mut self, prefix: Prefix, came: bool) {
        match prefix.net() {
            IpNet::V4(net) => self.v4.push(Packed::new(net, came)),
            IpNet::V6(_) => self.v6.push((prefix, came)),
        }
    }

    /// Those who are there, in address order.
    fn ordered(&self) -> (Vec<Packed>, Vec<(Prefix, bool)>) {
        let (mut v4, mut v6) = (self.v4.clone(), self.v6.clone());
        last_of_each(&mut v4, |event| event.key());
        v4.retain(|event| event.came());
        last_of_each(&mut v6, |(prefix, _)| *prefix);
        v6.retain(|(_, came)| *came);
        (v4, v6)
    }
}

/// Sorts, and keeps of the entries with one key the one that was last.
fn last_of_each<T: Copy, K: Ord>(events: &mut Vec<T>, key: impl Fn(&T) -> K) {
    events.sort_by_key(&key);
    events.dedup_by(|later, kept| {
        let same = key(later) == key(kept);
        if same {
            *kept = *later;
        }
        same
    });
}

/// The prefixes that have one of these groups among their candidates, each once, IPv4 first, in address order.
pub(crate) fn users_of<'u>(groups: impl Iterator<Item = &'u Users>) -> Vec<Prefix> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for users in groups {
        let (more_v4, more_v6) = users.ordered();
        v4.extend(more_v4);
        v6.extend(more_v6);
    }
    last_of_each(&mut v4, |event| event.key());
    last_of_each(&mut v6, |(prefix, _)| *prefix);
    let v6 = v6.into_iter().map(|(prefix, _)| prefix);
    v4.into_iter().map(Packed::prefix).chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_listed_once_and_in_order() {
        let prefixes = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/24",
            "255.255.255.255/32",
            "::/0",
            "2001:db8::/32",
        ];
        let prefixes = prefixes.map(|text| text.parse::<Prefix>().expect("a prefix"));
        let (mut one, mut other) = (Users::default(), Users::default());
        prefixes.iter().rev().for_each(|prefix| one.add(*prefix));
        prefixes.iter().take(2).for_each(|prefix| other.add(*prefix));
        assert_eq!(users_of([&one, &other].into_iter()), prefixes);
        one.remove(prefixes[1]);
        one.remove(prefixes[4]);
        one.add(prefixes[1]);
        assert_eq!(users_of([&one].into_iter()).len(), 5);
        prefixes
            .iter()
            .filter(|prefix| **prefix != prefixes[4])
            .for_each(|prefix| one.remove(*prefix));
        assert_eq!((users_of([&one].into_iter()), one.memory()), (vec![], 0));
    }

    #[test]
    fn a_prefix_that_comes_and_goes_all_the_time_does_not_fill_memory() {
        let mut users = Users::default();
        let prefix = |n: u32| Prefix::host(std::net::IpAddr::from(n.to_be_bytes()));
        (0..100).for_each(|n| users.add(prefix(n)));
        for round in 0..100_000 {
            users.remove(prefix(round % 100));
            users.add(prefix(round % 100));
        }
        assert_eq!(users_of([&users].into_iter()), (0..100).map(prefix).collect::<Vec<_>>());
        assert!(users.memory() < 64 << 10, "{}", users.memory());
    }
}
