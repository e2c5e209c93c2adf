//! Whether an address can be reached, and how far it is: what a routing protocol asks of its next hops.

use std::net::IpAddr;

use net::{RouteKind, Source, VrfId};

use crate::rib::Rib;
use crate::routes::Owner;

impl Rib {
    /// Metric of the route that leads to `address` in `vrf`, as decided by the last publish; `None` if no unicast route
    /// does. On a connected subnet it is the subnet's; that of a route of BGP says nothing about distance and counts as 0.
    pub fn metric_to(&self, vrf: VrfId, address: IpAddr) -> Option<u32> {
        let (_, entry) = self.fib_entry(vrf, address)?;
        if self.groups.get(entry.leaf).key.kind != RouteKind::Unicast {
            return None;
        }
        let Some(winner) = entry.winner else { return Some(0) };
        if matches!(winner.owner, Owner::Route(Source::Ebgp | Source::Ibgp)) {
            return Some(0);
        }
        let candidate = entry.candidates.iter().find(|known| known.owner == winner.owner);
        Some(candidate.map_or(0, |candidate| candidate.metric))
    }
}
