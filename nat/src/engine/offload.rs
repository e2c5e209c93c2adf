//! The part of a connection that the offload engine keeps here: how far its offload has come, and what the NIC counted.

use super::Engine;
use super::addresses::is_by_address;
use crate::connections::Slot;
use crate::entry::{ConnectionId, ConnectionState, Direction, Entry, EntryRef};
use crate::time::Millis;
use crate::verdict::OffloadState;

impl Engine {
    /// The id of a direction's connection.
    pub fn id_of(&self, at: EntryRef) -> ConnectionId {
        self.connections.id(at.connection())
    }

    /// Notes how far the offload of a connection has come. False if the connection has ended: destroy what the NIC has
    /// of it, then [`Engine::release`] it.
    pub fn set_offload(&mut self, id: ConnectionId, state: OffloadState) -> bool {
        match self.connections.find(id) {
            Some((connection, Slot::Live)) => {
                self.connections.cold[connection as usize].offload = state;
                true
            }
            _ => false,
        }
    }

    /// How far the offload of a connection has come; `None` once id and port are free again.
    pub fn offload_state(&self, id: ConnectionId) -> Option<OffloadState> {
        self.connections
            .find(id)
            .map(|(connection, _)| self.connections.cold[connection as usize].offload)
    }

    /// True if a connection is worth offloading, and the NIC was not asked for it or has given it up: for one whose way was
    /// not complete when [`crate::Hit::offload`] said so, and is another one.
    pub fn is_worth_offloading(&self, id: ConnectionId) -> bool {
        let Some((connection, Slot::Live)) = self.connections.find(id) else {
            return false;
        };
        let original = &self.connections.pair(connection)[0];
        let asked = self.connections.cold[connection as usize].offload;
        // What was restored and has no packet yet asks with its first one.
        original.flags == 0
            && original.state == ConnectionState::Established
            && matches!(asked, OffloadState::None | OffloadState::Dead)
            && !is_by_address(original.key.protocol())
    }

    /// The NIC carried packets and bytes of the original and of the reply direction since it was last asked.
    pub fn touch(&mut self, id: ConnectionId, packets: [u64; 2], bytes: [u64; 2], now: Millis) {
        let tick = self.clock.tick(now);
        let Some((connection, Slot::Live)) = self.connections.find(id) else {
            return;
        };
        for (entry, (packets, bytes)) in self
            .connections
            .pair_mut(connection)
            .iter_mut()
            .zip(packets.into_iter().zip(bytes))
        {
            entry.packets += packets;
            entry.bytes += bytes;
            if packets != 0 && entry.flags & Entry::UNROUTED == 0 {
                entry.last_seen = tick.0;
            }
        }
    }

    /// The NIC has confirmed that it holds nothing of the connection. One that ended gives back its port here; a live
    /// one goes on in software.
    pub fn release(&mut self, id: ConnectionId) {
        match self.connections.find(id) {
            Some((connection, Slot::Zombie)) => {
                self.counters.zombies -= 1;
                self.free(connection);
            }
            Some((connection, _)) => self.connections.cold[connection as usize].offload = OffloadState::Dead,
            None => {}
        }
    }

    /// Both directions of a connection, original first; also of one that ended and was not released.
    pub fn directions(&self, id: ConnectionId) -> Option<[Direction; 2]> {
        let (connection, _) = self.connections.find(id)?;
        let direction = |entry: &Entry| Direction {
            key: entry.key,
            rewrite: entry.rewrite,
            next_hop: entry.next_hop,
            egress_vrf: entry.egress_vrf,
        };
        let [original, reply] = self.connections.pair(connection);
        Some([direction(original), direction(reply)])
    }
}
