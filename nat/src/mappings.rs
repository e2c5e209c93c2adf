//! Public ports that connections share: endpoint-independent mappings (RFC 4787 REQ-1), where an address and port inside
//! has one for all of its connections, and overloaded ports.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use net::VrfId;

use crate::address::Address;
use crate::ports::Lease;

/// An end inside a VPC that a mapping belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Inside {
    pub(crate) vrf: VrfId,
    pub(crate) protocol: u8,
    pub(crate) address: Address,
    pub(crate) port: u16,
}

/// A public port: number of its address in [`crate::ports::Ports`], protocol, port.
pub(crate) type Outside = (u32, u8, u16);

/// A port that connections share.
#[derive(Debug, Clone, Copy)]
struct Shared {
    /// Whose it is; `None` for a port that is overloaded.
    inside: Option<Inside>,
    users: u32,
    /// Users that ended and that the NIC may not have forgotten.
    zombies: u32,
}

/// The mappings of one worker.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    by_inside: HashMap<Inside, Lease>,
    by_outside: HashMap<Outside, Shared>,
    /// Connections of each mapping with each address outside; `None` while no pool filters by address.
    contacts: Option<HashMap<(Outside, u32), u32>>,
}

impl Mappings {
    /// The port of an end inside.
    pub(crate) fn lease_of(&self, inside: &Inside) -> Option<Lease> {
        self.by_inside.get(inside).copied()
    }

    /// Whose port it is.
    pub(crate) fn inside_of(&self, pool: u32, protocol: u8, port: u16) -> Option<Inside> {
        self.by_outside.get(&(pool, protocol, port))?.inside
    }

    /// A new mapping, without users yet. It takes the place of one whose port the policy no longer offers, and which
    /// stays until its connections have ended.
    pub(crate) fn insert(&mut self, inside: Inside, lease: Lease) {
        self.by_inside.insert(inside, lease);
        let outside = (lease.pool, inside.protocol, lease.port);
        self.share(outside, Some(inside));
    }

    /// A port that others may use as well, to other ends outside; without users yet.
    pub(crate) fn insert_overloaded(&mut self, lease: Lease, protocol: u8) {
        self.share((lease.pool, protocol, lease.port), None);
    }

    fn share(&mut self, outside: Outside, inside: Option<Inside>) {
        let shared = Shared {
            inside,
            users: 0,
            zombies: 0,
        };
        let before = self.by_outside.insert(outside, shared);
        debug_assert!(before.is_none(), "a port has one owner");
    }

    /// True if the port may be given to one more: it is overloaded, and the NIC has no rule of an ended connection that
    /// might be about the same ends.
    pub(crate) fn may_overload(&self, pool: u32, protocol: u8, port: u16) -> bool {
        let shared = self.by_outside.get(&(pool, protocol, port));
        shared.is_some_and(|shared| shared.inside.is_none() && shared.zombies == 0)
    }

    /// A user of the port ended, and the NIC is not known to have forgotten it.
    pub(crate) fn mourn(&mut self, pool: u32, protocol: u8, port: u16) {
        if let Some(shared) = self.by_outside.get_mut(&(pool, protocol, port)) {
            shared.zombies += 1;
        }
    }

    /// Begins or ends to keep who a mapping has connections with; those that there are have to be told then
    /// ([`Mappings::meet`]), which is true if it begins.
    pub(crate) fn keep_contacts(&mut self, keep: bool) -> bool {
        let begins = keep && self.contacts.is_none();
        if begins || !keep {
            self.contacts = keep.then(HashMap::new);
        }
        begins
    }

    /// A connection with an address outside uses the port.
    pub(crate) fn meet(&mut self, outside: Outside, remote: u32) {
        if let Some(contacts) = &mut self.contacts {
            *contacts.entry((outside, remote)).or_insert(0) += 1;
        }
    }

    /// A connection with an address outside has ended.
    pub(crate) fn part(&mut self, outside: Outside, remote: u32) {
        let Some(contacts) = &mut self.contacts else { return };
        if let Entry::Occupied(mut count) = contacts.entry((outside, remote)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// True if the port has a connection with the address.
    pub(crate) fn has_met(&self, outside: Outside, remote: u32) -> bool {
        let contacts = self.contacts.as_ref();
        contacts.is_some_and(|contacts| contacts.contains_key(&(outside, remote)))
    }

    #[cfg(test)]
    pub(crate) fn contacts(&self) -> usize {
        self.contacts.as_ref().map_or(0, HashMap::len)
    }

    /// One more connection uses the port.
    pub(crate) fn enter(&mut self, lease: Lease, protocol: u8) {
        if let Some(shared) = self.by_outside.get_mut(&(lease.pool, protocol, lease.port)) {
            shared.users += 1;
        }
    }

    /// One connection less uses the port. True if none does any more: the mapping is gone, and its port can be given
    /// back.
    pub(crate) fn leave(&mut self, pool: u32, protocol: u8, port: u16, zombie: bool) -> bool {
        let outside = (pool, protocol, port);
        let Some(shared) = self.by_outside.get_mut(&outside) else {
            return false;
        };
        shared.users = shared.users.saturating_sub(1);
        shared.zombies = shared.zombies.saturating_sub(u32::from(zombie));
        if shared.users > 0 {
            return false;
        }
        let inside = shared.inside;
        self.by_outside.remove(&outside);
        let own = |lease: &Lease| (lease.pool, lease.port) == (pool, port);
        if let Some(inside) = inside
            && self.by_inside.get(&inside).is_some_and(own)
        {
            self.by_inside.remove(&inside);
        }
        true
    }

    /// Takes a mapping back if no connection uses it; true if so.
    pub(crate) fn leave_unused(&mut self, pool: u32, protocol: u8, port: u16) -> bool {
        let unused = |shared: &Shared| shared.users == 0;
        self.by_outside.get(&(pool, protocol, port)).is_some_and(unused) && self.leave(pool, protocol, port, false)
    }

    /// Mappings that exist.
    pub(crate) fn len(&self) -> usize {
        self.by_outside.len()
    }

    /// True if both sides tell the same, in tests: each end inside leads to a port that leads back.
    #[cfg(test)]
    pub(crate) fn is_sound(&self) -> bool {
        self.by_inside
            .iter()
            .all(|(inside, lease)| self.inside_of(lease.pool, inside.protocol, lease.port).as_ref() == Some(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: Inside = Inside {
        vrf: VrfId(1),
        protocol: 17,
        address: Address::v4(0x0a00_0001),
        port: 5000,
    };

    fn lease(port: u16) -> Lease {
        Lease {
            pool: 3,
            address: Address::v4(0xc000_0201),
            port,
            shared: true,
        }
    }

    #[test]
    fn a_mapping_goes_with_its_last_user() {
        let mut mappings = Mappings::default();
        mappings.insert(INSIDE, lease(1024));
        mappings.enter(lease(1024), 17);
        mappings.enter(lease(1024), 17);
        assert!(!mappings.leave(3, 17, 1024, false));
        assert_eq!(mappings.lease_of(&INSIDE), Some(lease(1024)));
        assert_eq!(mappings.inside_of(3, 17, 1024), Some(INSIDE));
        assert_eq!(mappings.inside_of(3, 6, 1024), None);
        assert!(mappings.leave(3, 17, 1024, false));
        assert_eq!((mappings.lease_of(&INSIDE), mappings.len()), (None, 0));
    }

    #[test]
    fn a_replaced_mapping_leaves_its_successor_alone() {
        let mut mappings = Mappings::default();
        mappings.insert(INSIDE, lease(1024));
        mappings.enter(lease(1024), 17);
        mappings.insert(INSIDE, lease(1025));
        mappings.enter(lease(1025), 17);
        assert!(mappings.leave(3, 17, 1024, false));
        assert_eq!(mappings.lease_of(&INSIDE), Some(lease(1025)));
        assert!(mappings.is_sound());
        assert!(mappings.leave(3, 17, 1025, false));
        assert_eq!(mappings.len(), 0);
    }
}
