//! Forwarding databases of bridges and VXLAN devices: all of it is mirrored in, and told of is where a VXLAN device says
//! that a MAC address is. Sans-IO.

use std::collections::{BTreeMap, BTreeSet};

use net::{FdbChange, IfIndex, KernelEvent, Mac};

use crate::heard::ObservedFdb;

/// Every entry.
#[derive(Debug, Default)]
pub(crate) struct Fdb {
    all: BTreeSet<ObservedFdb>,
    /// What was told.
    told: BTreeMap<(IfIndex, Mac), std::net::IpAddr>,
}

impl Fdb {
    /// An entry came, changed or went.
    pub(crate) fn set(&mut self, entry: ObservedFdb, present: bool, events: &mut Vec<KernelEvent>) {
        // Only what goes to everybody (the address of zeros) has several endpoints.
        let others: Vec<_> = self.same(entry).filter(|_| !entry.mac.is_zero()).collect();
        for other in others.into_iter().chain([entry]) {
            self.all.remove(&other);
        }
        if present {
            self.all.insert(entry);
        }
        self.tell((entry.interface, entry.mac), events);
    }

    /// Exactly these are there.
    pub(crate) fn set_all(&mut self, entries: Vec<ObservedFdb>, events: &mut Vec<KernelEvent>) {
        let old = std::mem::replace(&mut self.all, entries.into_iter().collect());
        let keys: BTreeSet<_> = old.iter().chain(&self.all).map(|e| (e.interface, e.mac)).collect();
        keys.into_iter().for_each(|key| self.tell(key, events));
    }

    /// An interface is gone, and its entries with it.
    pub(crate) fn forget(&mut self, interface: IfIndex, events: &mut Vec<KernelEvent>) {
        let of_it: BTreeSet<_> = self
            .all
            .iter()
            .filter(|e| e.interface == interface)
            .map(|e| e.mac)
            .collect();
        self.all.retain(|e| e.interface != interface);
        of_it.into_iter().for_each(|mac| self.tell((interface, mac), events));
    }

    /// Every entry, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ObservedFdb> {
        self.all.iter()
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Entries that differ from `entry` in their endpoint alone.
    fn same(&self, entry: ObservedFdb) -> impl Iterator<Item = ObservedFdb> + '_ {
        let first = ObservedFdb {
            vlan: None,
            bridge: false,
            vtep: None,
            ..entry
        };
        let of_mac = self
            .all
            .range(first..)
            .take_while(move |e| (e.interface, e.mac) == (entry.interface, entry.mac));
        of_mac
            .filter(move |e| (e.vlan, e.bridge) == (entry.vlan, entry.bridge))
            .copied()
    }

    fn tell(&mut self, key: (IfIndex, Mac), events: &mut Vec<KernelEvent>) {
        let (interface, mac) = key;
        if mac.is_multicast() || mac.is_zero() {
            return;
        }
        let first = ObservedFdb {
            interface,
            mac,
            vlan: None,
            bridge: false,
            vtep: None,
        };
        let of_mac = self.all.range(first..).take_while(|e| (e.interface, e.mac) == key);
        let vtep = of_mac.filter(|e| !e.bridge).find_map(|e| e.vtep);
        if self.told.get(&key).copied() == vtep {
            return;
        }
        match vtep {
            Some(vtep) => self.told.insert(key, vtep),
            None => self.told.remove(&key),
        };
        events.push(KernelEvent::Fdb(FdbChange { interface, mac, vtep }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mac: u8, vtep: Option<u8>, bridge: bool) -> ObservedFdb {
        ObservedFdb {
            interface: IfIndex(4),
            mac: Mac([if mac == 0 { 0 } else { 2 }, 0, 0, 0, 0, mac]),
            vlan: None,
            bridge,
            vtep: vtep.map(|last| [198, 51, 100, last].into()),
        }
    }

    /// Last octets of the endpoints that are told.
    fn told(events: &mut Vec<KernelEvent>) -> Vec<(u8, Option<u8>)> {
        let last = |ip: std::net::IpAddr| ip.to_string().rsplit('.').next().and_then(|octet| octet.parse().ok());
        let one = |event: KernelEvent| match event {
            KernelEvent::Fdb(change) => (change.mac.0[5], change.vtep.and_then(last)),
            other => panic!("{other:?}"),
        };
        events.drain(..).map(one).collect()
    }

    #[test]
    fn endpoints_are_told_and_nothing_else() {
        let (mut fdb, mut events) = (Fdb::default(), Vec::new());
        fdb.set(entry(1, Some(7), false), true, &mut events);
        fdb.set(entry(1, None, true), true, &mut events);
        fdb.set(entry(0, Some(7), false), true, &mut events);
        fdb.set(entry(0, Some(8), false), true, &mut events);
        assert_eq!((told(&mut events), fdb.len()), (vec![(1, Some(7))], 4));
        fdb.set(entry(1, Some(8), false), true, &mut events);
        assert_eq!(
            (told(&mut events), fdb.len()),
            (vec![(1, Some(8))], 4),
            "in place of the old one"
        );
        fdb.set(entry(0, Some(7), false), false, &mut events);
        fdb.set(entry(1, Some(8), false), false, &mut events);
        assert_eq!((told(&mut events), fdb.len()), (vec![(1, None)], 2));
        fdb.set_all(vec![entry(2, Some(9), false), entry(3, None, false)], &mut events);
        assert_eq!(told(&mut events), [(2, Some(9))]);
        fdb.forget(IfIndex(4), &mut events);
        assert_eq!((told(&mut events), fdb.len()), (vec![(2, None)], 0));
    }
}
