//! Where the tables of unicast and those of EVPN answer as one.

use std::net::IpAddr;

use super::{Core, Event};
use crate::FamilyCounters;

impl Core {
    /// Asks the owner for next hops, if they are others than the last time.
    pub(super) fn ask_next_hops(&mut self) {
        let wanted = [self.rib.wanted_next_hops(), self.evpn.wanted_next_hops()];
        if wanted.iter().all(Option::is_none) {
            return;
        }
        for (known, wanted) in self.next_hops.iter_mut().zip(wanted) {
            *known = wanted.unwrap_or_else(|| std::mem::take(known));
        }
        let [unicast, evpn] = &self.next_hops;
        self.pending.push_back(Event::NextHops(unicast | evpn));
    }

    /// Route counts of a peer, one entry a family.
    pub(super) fn counters(&self, peer: IpAddr) -> Vec<FamilyCounters> {
        let mut counters = self.rib.counters(peer);
        let evpn = self.evpn.counters(peer);
        for counters in &mut counters {
            if let Some(evpn) = evpn.as_ref().filter(|evpn| evpn.family == counters.family) {
                counters.clone_from(evpn);
            }
        }
        counters
    }
}
