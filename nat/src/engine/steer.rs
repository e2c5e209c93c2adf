//! The public port of a masquerade, such that the reply arrives at this worker.

use super::Engine;
use crate::key::FlowKey;
use crate::ports::{Lease, Want};
use crate::steering::Steering;
use crate::verdict::NewPacket;

/// Ports tried for each worker that a reply may arrive at: the chance that none of them does is e^-24.
const TRIES: usize = 24;

impl Engine {
    /// Has public ports chosen such that replies arrive at this worker's queue; `None` when the NICs don't say how they
    /// spread packets, or do so differently. A worker alone has all replies anyway.
    pub fn steer(&mut self, steering: Option<Steering>) {
        self.steering = steering.filter(|_| self.slice.workers() > 1);
    }

    /// A free port for a packet's connection: as [`crate::ports::Ports::allocate`], and whose replies arrive here, if there
    /// is such a port among those tried, all of which are as good as the first: on the same address, in the same block. Else
    /// its replies are handed over.
    #[inline]
    pub(super) fn allocate(&mut self, want: Want, packet: &NewPacket) -> Option<Lease> {
        let now = self.clock.latest();
        let masquerade = &self.policy.rules()[want.rule];
        let first = self.ports.allocate(masquerade, want, now, &mut self.random)?;
        if self.steering.is_none() || self.arrives_here(packet, &first) {
            return Some(first);
        }
        Some(self.steered(want, packet, first))
    }

    /// A port instead of one whose replies arrive elsewhere; that one, if there is none.
    #[inline(never)]
    fn steered(&mut self, want: Want, packet: &NewPacket, first: Lease) -> Lease {
        let (protocol, now) = (packet.protocol, self.clock.latest());
        let mut set_aside = std::mem::take(&mut self.set_aside);
        let mut found = None;
        for _ in 1..TRIES * usize::from(self.slice.workers()) {
            let masquerade = &self.policy.rules()[want.rule];
            match self.ports.another(masquerade, want, &first, &mut self.random) {
                Some(lease) if self.arrives_here(packet, &lease) => found = Some(lease),
                Some(lease) => set_aside.push(lease),
                None => break,
            }
            if found.is_some() {
                break;
            }
        }
        if found.is_some() {
            set_aside.push(first);
        }
        for lease in set_aside.drain(..) {
            self.ports.release(lease.pool, protocol, lease.port, now);
        }
        self.set_aside = set_aside;
        found.unwrap_or(first)
    }

    /// True if replies to a port arrive at this worker, or go anywhere whatever the port; of IPv6 it is not asked.
    fn arrives_here(&self, packet: &NewPacket, lease: &Lease) -> bool {
        let (Some(remote), Some(address)) = (packet.destination.to_v4(), lease.address.to_v4()) else {
            return true;
        };
        let ports = (packet.destination_port, lease.port);
        let reply = FlowKey::v4(packet.vrf, packet.protocol, remote, address, ports.0, ports.1);
        let queue = self.steering.as_ref().and_then(|steering| steering.queue(&reply));
        queue.is_none_or(|queue| queue == self.slice.worker())
    }
}
