//! Packets that wait for a neighbour: a few per next hop, for a short time (RFC 4861 section 7.2.2, RFC 1122 section
//! 2.3.2.2), while the kernel is asked to resolve it.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use dpdk_sys::Mbuf;
use net::{InterfaceId, VrfId};

/// Packets kept for one next hop.
const PER_NEIGHBOR: usize = 8;
/// Next hops waited for at once.
const NEIGHBORS: usize = 256;
/// How long a packet waits, in milliseconds: three probes of the kernel, a second apart.
const PATIENCE: u64 = 3_000;
/// The kernel is asked again after this time, in milliseconds.
const ASK_AGAIN: u64 = 1_000;

/// A packet ready to leave but for the next hop's MAC.
#[derive(Debug)]
pub(crate) struct Held {
    /// Starts at its layer 2 header, addresses already translated, TTL not yet decremented.
    pub(crate) mbuf: Mbuf,
    /// Made by the gateway: no hop is behind it yet, so its TTL is not decremented.
    pub(crate) own: bool,
    /// Offset of the IP header.
    pub(crate) l3: u16,
    /// Where it came in.
    pub(crate) ingress: InterfaceId,
    /// VRF to resolve the destination in.
    pub(crate) vrf: VrfId,
    /// Final destination.
    pub(crate) destination: IpAddr,
    /// Chooses among next hops.
    pub(crate) hash: u32,
}

#[derive(Debug)]
struct Waiting {
    interface: InterfaceId,
    address: IpAddr,
    deadline: u64,
    asked: u64,
    packets: ArrayVec<Held, PER_NEIGHBOR>,
}

/// What became of a packet offered to the queue.
#[derive(Debug)]
pub(crate) enum Offer {
    /// Kept; ask the kernel to resolve the neighbour.
    Ask,
    /// Kept; it was asked a moment ago.
    Kept,
    /// No room: the packet comes back.
    Full(Held),
}

/// Packets by next hop.
#[derive(Debug, Default)]
pub(crate) struct HoldQueue {
    waiting: Vec<Waiting>,
}

impl HoldQueue {
    /// Keeps `packet` until `address` on `interface` is resolved. `now` in milliseconds.
    pub(crate) fn offer(&mut self, interface: InterfaceId, address: IpAddr, packet: Held, now: u64) -> Offer {
        if let Some(entry) = self
            .waiting
            .iter_mut()
            .find(|w| w.interface == interface && w.address == address)
        {
            if let Err(full) = entry.packets.try_push(packet) {
                return Offer::Full(full.element());
            }
            if now >= entry.asked + ASK_AGAIN {
                entry.asked = now;
                return Offer::Ask;
            }
            return Offer::Kept;
        }
        if self.waiting.len() >= NEIGHBORS {
            return Offer::Full(packet);
        }
        let mut packets = ArrayVec::new();
        packets.push(packet);
        self.waiting.push(Waiting {
            interface,
            address,
            deadline: now + PATIENCE,
            asked: now,
            packets,
        });
        Offer::Ask
    }

    /// True when nothing waits: the common case, checked before anything else is done.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Packets that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.iter().map(|w| w.packets.len()).sum()
    }

    /// Takes the packets of every next hop for whose first packet `ready` says so.
    pub(crate) fn take_ready(&mut self, mut ready: impl FnMut(&Held) -> bool) -> Vec<Held> {
        self.take_where(|w| w.packets.first().is_some_and(&mut ready))
    }

    /// Takes the packets whose time is over.
    pub(crate) fn take_expired(&mut self, now: u64) -> Vec<Held> {
        self.take_where(|w| now >= w.deadline)
    }

    fn take_where(&mut self, mut test: impl FnMut(&Waiting) -> bool) -> Vec<Held> {
        let mut taken = Vec::new();
        self.waiting.retain_mut(|w| {
            let take = test(w);
            if take {
                taken.extend(w.packets.drain(..));
            }
            !take
        });
        taken
    }
}
