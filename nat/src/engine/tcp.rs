//! TCP by its SYN, FIN and RST: the state machine of RFC 7857 section 2.1 (that of RFC 6146 section 3.5.2).
//!
//! ```text
//! Unreplied ──reply──> Replied ──ACK of the opener──> Established ──FIN of both, or RST──> Closing
//!     ^                                                    ^                                  │ │
//!     └────────────────────── SYN of the opener ───────────┼──────────────────────────────────┘ │
//!                                                          └─── anything else after a RST ──────┘
//! ```
//! A segment that would end a connection must be near the sequence numbers last seen of its direction: a loose check,
//! which needs one number a direction. What it lets through by chance costs nothing while the ends go on talking.

use net::tcp_flag;

use crate::entry::ConnectionState;

/// What a packet tells of TCP; all zero for other protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// Flags ([`net::tcp_flag`]).
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
}

impl Segment {
    /// Reads the sequence number of an IP packet whose layer 4 header at `l4` was checked. Of other protocols it is some
    /// other number, which nobody looks at.
    #[inline(always)]
    pub fn of(packet: &[u8], l4: usize, flags: u8) -> Self {
        let header = packet.get(l4..).and_then(|layer4| layer4.first_chunk::<8>());
        Self {
            flags,
            sequence: header.map_or(0, |h| u32::from_be_bytes([h[4], h[5], h[6], h[7]])),
        }
    }
}

/// What a TCP connection remembers beside its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TcpMemory {
    /// FINs seen: 1 of the original direction, 2 of the reply.
    fins: u8,
    /// The state before a RST, while no other segment came after it.
    before_reset: Option<ConnectionState>,
}

impl TcpMemory {
    /// FINs seen: 1 of the original direction, 2 of the reply.
    pub(crate) const fn fins(self) -> u8 {
        self.fins
    }

    pub(crate) const fn set_fins(&mut self, fins: u8) {
        self.fins = fins & 3;
    }
}

/// Farther from the last sequence number seen than any segment that its sender has sent since then: a window in flight and
/// as much again. A sender that guesses has to guess one of 128.
const LOOSE: u32 = 1 << 24;

/// True if `sequence` is near the one last seen of the same direction.
pub(super) const fn is_near(sequence: u32, last: u32) -> bool {
    sequence.wrapping_sub(last).wrapping_add(LOOSE) < 2 * LOOSE
}

/// The state after a segment. `near` says whether its sequence number is to be believed.
pub(super) fn follow(
    state: ConnectionState,
    memory: &mut TcpMemory,
    flags: u8,
    reply: bool,
    near: bool,
) -> ConnectionState {
    use ConnectionState::{Closing, Established, Replied, Unreplied};
    const BOTH: u8 = 3;
    let has = |flag| flags & flag != 0;
    let opens = has(tcp_flag::SYN) && !has(tcp_flag::ACK | tcp_flag::FIN | tcp_flag::RST);
    if opens && !reply && state == Closing {
        // The opener uses the tuple for its next connection (RFC 9293 section 3.6.1 lets it).
        *memory = TcpMemory::default();
        return Unreplied;
    }
    if has(tcp_flag::RST) {
        if near && state != Closing {
            memory.before_reset = Some(state);
        }
        return if near { Closing } else { state };
    }
    let before = memory.before_reset.take();
    if has(tcp_flag::FIN) && near {
        memory.fins |= if reply { 2 } else { 1 };
    }
    if memory.fins == BOTH {
        return Closing;
    }
    match before.unwrap_or(state) {
        Unreplied if reply => Replied,
        Replied if !reply && has(tcp_flag::ACK) && !has(tcp_flag::SYN) => Established,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_a_window_around_the_last_number() {
        for last in [0, 5, LOOSE, u32::MAX - 3] {
            for distance in [0, 1, LOOSE - 1] {
                assert!(is_near(last.wrapping_add(distance), last));
                assert!(is_near(last.wrapping_sub(distance), last));
            }
            for distance in [LOOSE + 1, 1 << 31] {
                assert!(!is_near(last.wrapping_add(distance), last));
                assert!(!is_near(last.wrapping_sub(distance), last));
            }
        }
    }
}
