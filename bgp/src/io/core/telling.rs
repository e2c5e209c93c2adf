//! What leaves the core: events for the owner, and what peers have to be told.

use std::sync::PoisonError;

use net::RouteChange;

use super::{Core, Event};
use crate::rib::Delivery;

/// Most prefixes of one batch of changes.
const BATCH: usize = 4096;

impl Core {
    /// Turns what has changed in the RIB into events and wakes the peers that have to be told.
    pub(super) fn flush(&mut self) {
        if self.collectors.are_listening() {
            self.collectors.routes(self.rib.take_learned());
        } else {
            self.rib.watch(false);
        }
        let mut changes = self.rib.take_changes();
        changes.extend(self.evpn.take_changes());
        for batch in batches(changes) {
            self.routes.0 += 1;
            self.pending.push_back(Event::Routes(batch));
        }
        let held = self.rib.take_held();
        if !held.is_empty() {
            self.deliveries.push_back((self.routes.0, held));
        }
        self.ask_next_hops();
        if !self.held.is_empty() && !self.rib.awaits_next_hops() && !self.evpn.awaits_next_hops() {
            self.pending.extend(self.held.drain(..));
        }
        self.deliver();
    }

    /// Gives peers what they may be told, and wakes those that have to be.
    pub(super) fn deliver(&mut self) {
        let all = !self.config.advertise_installed;
        while let Some((_, deliveries)) = self
            .deliveries
            .pop_front_if(|(after, _)| all || *after <= self.routes.1)
        {
            deliveries.into_iter().for_each(Delivery::deliver);
        }
        for handle in self.peers.values().filter(|handle| handle.up) {
            if !handle
                .shared
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .1
                .is_empty()
            {
                handle.shared.wake.notify_one();
            }
        }
    }
}

/// Cuts changes into batches of bounded size; the changes of one prefix stay together.
fn batches(changes: Vec<RouteChange>) -> Vec<Vec<RouteChange>> {
    let mut batches: Vec<Vec<RouteChange>> = Vec::new();
    for change in changes {
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH || batch.last().is_some_and(|last| last.prefix == change.prefix) => {
                batch.push(change);
            }
            _ => batches.push(vec![change]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use net::{Prefix, Source, VrfId};

    use super::*;

    #[test]
    fn batches_are_bounded_and_keep_a_prefix_together() {
        let prefix = |i: u32| Prefix::host(IpAddr::V4(Ipv4Addr::from(i)));
        let change = |i, source| RouteChange {
            vrf: VrfId::DEFAULT,
            prefix: prefix(i),
            source,
            route: None,
        };
        let count = u32::try_from(BATCH).expect("small");
        let mut changes: Vec<_> = (0..count).map(|i| change(i, Source::Ebgp)).collect();
        changes.push(change(count - 1, Source::Ibgp));
        changes.push(change(count, Source::Ebgp));
        let batches = batches(changes);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [BATCH + 1, 1]);
    }
}
