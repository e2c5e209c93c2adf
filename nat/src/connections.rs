//! The slots of the connections: two hot entries and one cold record each, and the queue of free ones.

use net::{Drop, NextHopId, VrfId, protocol};
use prefetch_index::prefetch_index;

use crate::engine::TcpMemory;
use crate::entry::{ConnectionId, ConnectionState, Entry, EntryRef};
use crate::eviction::Worth;
use crate::verdict::OffloadState;
use crate::ways::WayTable;
use crate::{FlowKey, Rewrite};

/// Slots that are made at once.
const CHUNK: usize = 64;

/// No connection, no pool.
pub(crate) const NONE: u32 = u32::MAX;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Slot {
    #[default]
    Free,
    Live,
    /// Ended, and waits for the NIC.
    Zombie,
}

/// What packets of an established connection don't need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cold {
    /// Links of the timer wheel, or of the free queue.
    pub(crate) next: u32,
    pub(crate) previous: u32,
    /// Second at which the timer wheel looks at it.
    pub(crate) second: u32,
    /// Links of the eviction queue, towards its older and its newer end.
    pub(crate) older: u32,
    pub(crate) newer: u32,
    /// Tick at which it joined that queue, or was last found to be in use.
    pub(crate) queued: u32,
    pub(crate) worth: Worth,
    pub(crate) tcp: TcpMemory,
    /// How often the slot was used; part of the id.
    pub(crate) epoch: u32,
    pub(crate) flow_hash: u32,
    /// Number of the pool address whose port it has; [`NONE`] for a port forward.
    pub(crate) pool: u32,
    /// Policy that it was last found to agree with.
    pub(crate) policy: u32,
    /// Tick at which its route went.
    pub(crate) unrouted_since: u32,
    pub(crate) port: u16,
    pub(crate) slot: Slot,
    pub(crate) offload: OffloadState,
    /// Its port is that of a mapping, which other connections may use as well.
    pub(crate) shared: bool,
    /// It counts against the limits of its VPC.
    pub(crate) counted: bool,
    /// Why packets are refused while it has no route.
    pub(crate) unrouted: Option<Drop>,
}

/// Every slot of a worker.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) entries: Vec<Entry>,
    pub(crate) cold: Vec<Cold>,
    pub(crate) ways: WayTable,
    capacity: u32,
    /// Slots that were ever used; a few more may have been made.
    touched: u32,
    /// Slots in use, zombies as well.
    used: u32,
    free_first: u32,
    free_last: u32,
}

impl Entry {
    /// An entry without a way and a rewrite.
    pub(crate) fn of(key: FlowKey) -> Self {
        Self {
            key,
            rewrite: Rewrite::NONE,
            packets: 0,
            bytes: 0,
            next_hop: NextHopId(0),
            sequence: 0,
            last_seen: 0,
            egress_vrf: VrfId::DEFAULT,
            state: ConnectionState::Unreplied,
            flags: 0,
        }
    }
}

impl Connections {
    /// Room for `capacity` connections. Memory is touched when a slot is first used.
    pub(crate) fn new(capacity: u32) -> Self {
        let slots = (capacity + EntryRef::QUARANTINE) as usize;
        Self {
            entries: Vec::with_capacity(slots * 2),
            cold: Vec::with_capacity(slots),
            ways: WayTable::with_capacity(slots),
            capacity,
            touched: 0,
            used: 0,
            free_first: NONE,
            free_last: NONE,
        }
    }

    /// Slots that were ever used.
    pub(crate) fn slots(&self) -> u32 {
        self.touched
    }

    /// Slots in use, zombies as well.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used == self.capacity
    }

    /// Takes a slot. The table must not be full.
    ///
    /// Free slots are used in the order in which they were freed, and [`EntryRef::QUARANTINE`] of them are held back,
    /// so that an [`EntryRef`] of the burst that freed a slot never meets the slot's next owner.
    pub(crate) fn take(&mut self) -> u32 {
        debug_assert!(!self.is_full(), "checked by the caller");
        let free = self.touched - self.used;
        self.used += 1;
        if free > EntryRef::QUARANTINE {
            let slot = self.free_first;
            self.free_first = self.cold[slot as usize].next;
            if self.free_first == NONE {
                self.free_last = NONE;
            } else {
                // The next one to be taken, which nobody has looked at for long.
                let next = self.free_first as usize;
                prefetch_index(&self.cold, next);
                prefetch_index(&self.entries, next * 2);
                prefetch_index(&self.entries, next * 2 + 1);
            }
            return slot;
        }
        let slot = self.touched;
        self.touched += 1;
        if slot as usize == self.cold.len() {
            self.grow();
        }
        slot
    }

    /// Makes some more slots.
    #[inline(never)]
    fn grow(&mut self) {
        let most = (self.capacity + EntryRef::QUARANTINE) as usize;
        let slots = most.min(self.cold.len() + CHUNK);
        self.cold.resize(slots, Cold::default());
        self.ways.grow(slots);
        self.entries.resize(slots * 2, Entry::of(FlowKey::default()));
    }

    /// Gives a slot back; its id names nothing from here on.
    pub(crate) fn give_back(&mut self, connection: u32) {
        let cold = &mut self.cold[connection as usize];
        *cold = Cold {
            epoch: cold.epoch.wrapping_add(1),
            next: NONE,
            ..Cold::default()
        };
        self.ways.clear(connection);
        self.pair_mut(connection)
            .iter_mut()
            .for_each(|entry| entry.flags = Entry::DEAD);
        match self.free_last {
            NONE => self.free_first = connection,
            last => self.cold[last as usize].next = connection,
        }
        self.free_last = connection;
        self.used -= 1;
    }

    /// Both directions, original first.
    pub(crate) fn pair(&self, connection: u32) -> &[Entry; 2] {
        let first = EntryRef::original(connection).0 as usize;
        self.entries[first..].first_chunk().expect("entries come in pairs")
    }

    /// Both directions, original first.
    pub(crate) fn pair_mut(&mut self, connection: u32) -> &mut [Entry; 2] {
        let first = EntryRef::original(connection).0 as usize;
        self.entries[first..].first_chunk_mut().expect("entries come in pairs")
    }

    /// Notes what the way of a connection, as its entries have it, depends on.
    pub(crate) fn note_ways(&mut self, connection: u32, stamp: u32) {
        let first = EntryRef::original(connection).0 as usize;
        let pair = self.entries[first..].first_chunk().expect("entries come in pairs");
        self.ways.set(connection, pair, stamp);
    }

    pub(crate) fn id(&self, connection: u32) -> ConnectionId {
        ConnectionId {
            index: connection,
            epoch: self.cold[connection as usize].epoch,
        }
    }

    /// The slot that an id still names: a connection or a zombie.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<(u32, Slot)> {
        let cold = self.cold.get(id.index as usize)?;
        (cold.epoch == id.epoch && cold.slot != Slot::Free).then_some((id.index, cold.slot))
    }

    /// VRF of the inner end: that of the VPC.
    pub(crate) fn inner_vrf(&self, connection: u32) -> VrfId {
        self.ways.inner(connection)
    }

    /// The later of both directions' last packets.
    pub(crate) fn last_seen(&self, connection: u32) -> u32 {
        let [original, reply] = self.pair(connection);
        original.last_seen.max(reply.last_seen)
    }
}

/// The protocol's usual name; `other` for one that has none here.
pub(crate) const fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMP => "icmp",
        protocol::ICMPV6 => "icmpv6",
        4 => "ipip",
        47 => "gre",
        50 => "esp",
        132 => "sctp",
        _ => "other",
    }
}
