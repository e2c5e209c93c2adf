//! Who has a group among its candidates: the prefixes to decide again, or to tell the kernel of, when the group changes.
//!
//! An index and never a scan: what a router that fails costs depends on its routes and not on everybody's. An entry is nine
//! bytes for an IPv4 prefix and some eighteen for one of IPv6, before what a hash table leaves free.

use hashbrown::HashSet;
use net::{IpNet, Ipv4Net, Prefix};

type Set<T> = HashSet<T, foldhash::fast::RandomState>;

/// Room that is given back when three quarters of it are not used any more.
const SMALL: usize = 1024;

/// The prefixes that have one group among their candidates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    v4: Set<Packed>,
    v6: Set<Prefix>,
}

/// An IPv4 prefix: its address, then its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Packed(u64);

impl Packed {
    fn new(net: Ipv4Net) -> Self {
        Self(u64::from(u32::from(net.addr())) << 8 | u64::from(net.prefix_len()))
    }

    fn prefix(self) -> Prefix {
        let address = u32::try_from(self.0 >> 8).expect("32 bits of address were packed");
        Prefix::from(IpNet::V4(Ipv4Net::new_assert(address.into(), self.0 as u8)))
    }
}

impl Users {
    /// A candidate of `prefix` has the group.
    pub(crate) fn add(&mut self, prefix: Prefix) {
        match prefix.net() {
            IpNet::V4(net) => self.v4.insert(Packed::new(net)),
            IpNet::V6(_) => self.v6.insert(prefix),
        };
    }

    /// No candidate of `prefix` has the group any more.
    pub(crate) fn remove(&mut self, prefix: Prefix) {
        match prefix.net() {
            IpNet::V4(net) => take(&mut self.v4, &Packed::new(net)),
            IpNet::V6(_) => take(&mut self.v6, &prefix),
        }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.v4.allocation_size() + self.v6.allocation_size()
    }
}

fn take<T: Eq + std::hash::Hash>(set: &mut Set<T>, one: &T) {
    set.remove(one);
    if set.capacity() > SMALL && set.len() < set.capacity() / 4 {
        set.shrink_to_fit();
    }
}

/// The prefixes that have one of these groups among their candidates, each once, IPv4 first, in address order.
pub(crate) fn users_of<'u>(groups: impl Iterator<Item = &'u Users>) -> Vec<Prefix> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for users in groups {
        v4.extend(users.v4.iter().copied());
        v6.extend(users.v6.iter().copied());
    }
    v4.sort_unstable();
    v4.dedup();
    v6.sort_unstable();
    v6.dedup();
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
        one.add(prefixes[1]);
        one.remove(prefixes[1]);
        one.remove(prefixes[4]);
        assert_eq!(users_of([&one].into_iter()).len(), 4);
    }
}
